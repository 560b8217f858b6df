"""The Accept header (RFC 9110 12.5.1, PS3.18 8.7.5): what may be answered, best first."""

import re
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Header

_RANGE = re.compile(r'(?:[^,"]|"[^"]*")+')
_PARAMETER = re.compile(r';\s*([\w-]+)\s*=\s*(?:"([^"]*)"|([^;\s]*))')
ANYTHING = "*/*"


@dataclass(frozen=True, slots=True)
class Range:
    """One media range; of `multipart/related` it is the type of the parts that counts.

    `refused` are the ranges of the same header that are not acceptable (`q=0`).
    """

    media_type: str
    is_multipart: bool
    transfer_syntax: str  # empty where none is asked for, `*` for any
    refused: tuple["Range", ...] = ()

    def takes(self, media_type: str, transfer_syntax: str = "") -> bool:
        """Tell whether this type is asked for, be it by a wildcard.

        Not so where a range that says it as closely, or more so, refuses it: of the same form, one
        object or several parts, unless this range leaves the form open.
        """
        return self._covers(media_type) and not any(
            each._covers(media_type)
            and (each.is_multipart == self.is_multipart or self._leaves_form_open())
            and each.transfer_syntax in ("", "*", transfer_syntax)
            and each._closeness() >= self._closeness()
            for each in self.refused
        )

    def _covers(self, media_type: str) -> bool:
        half = media_type.partition("/")[0] + "/*"
        return self.media_type in (ANYTHING, media_type, half)

    def _leaves_form_open(self) -> bool:
        return self.media_type.endswith("/*") and not self.is_multipart

    def _closeness(self) -> tuple[bool, bool, bool]:
        whole = not self.media_type.endswith("/*")
        return whole, self.media_type != ANYTHING, self.transfer_syntax not in ("", "*")


def ranges(header: str) -> tuple[Range, ...]:
    """Return what a client takes, in the order that it prefers; nothing where it refuses all."""
    read = [_read(text.strip()) for text in _RANGE.findall(header) or [ANYTHING]]
    refused = tuple(each for quality, each in read if not quality > 0)
    taken = sorted((pair for pair in read if pair[0] > 0), key=lambda pair: -pair[0])
    return tuple(replace(each, refused=refused) for _, each in taken)


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


def _accepted(
    accept: Annotated[
        str, Header(description="a transfer-syntax is the one it is kept in, or *")
    ] = ANYTHING,
) -> tuple[Range, ...]:
    return ranges(accept)


Accepted = Annotated[tuple[Range, ...], Depends(_accepted)]
