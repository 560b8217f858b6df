"""The Accept header (RFC 9110 12.5.1, PS3.18 8.7.5): what may be answered, best first."""

import re
from dataclasses import dataclass

_RANGE = re.compile(r'(?:[^,"]|"[^"]*")+')
_PARAMETER = re.compile(r';\s*([\w-]+)\s*=\s*(?:"([^"]*)"|([^;\s]*))')
ANYTHING = "*/*"


@dataclass(frozen=True, slots=True)
class Range:
    """One media range; of `multipart/related` it is the type of the parts that counts."""

    media_type: str
    is_multipart: bool
    transfer_syntax: str  # empty where none is asked for, `*` for any

    def takes(self, media_type: str) -> bool:
        """Tell whether this type is asked for, be it by a wildcard."""
        whole, half = self.media_type, media_type.partition("/")[0] + "/*"
        return whole in (ANYTHING, media_type, half)


def ranges(header: str) -> tuple[Range, ...]:
    """Return what a client takes, in the order that it prefers."""
    read = [_read(text.strip()) for text in _RANGE.findall(header) or [ANYTHING]]
    return tuple(each for _, each in sorted(read, key=lambda pair: -pair[0]))


def _read(text: str) -> tuple[float, Range]:
    media_type = text.partition(";")[0].strip().lower()
    values = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(text)}
    try:
        quality = float(values.get("q", "1"))
    except ValueError:
        quality = 1.0
    is_multipart = media_type == "multipart/related"
    if is_multipart:
        media_type = values.get("type", ANYTHING).lower()
    return quality, Range(media_type, is_multipart, values.get("transfer-syntax", ""))
