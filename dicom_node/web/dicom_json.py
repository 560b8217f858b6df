"""The DICOM JSON model (PS3.18 Annex F): data sets as answers."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi.responses import Response, StreamingResponse
from pydicom.dataset import Dataset

from dicom_node.text import UTF_8

MEDIA_TYPE = "application/dicom+json"
_CHARACTER_SET = "00080005"
_MAXIMUM_INLINE_BYTES = 1024  # of a binary value in base 64
_LEFT_OUT = "left out"


class DicomJson(Response):
    """Data sets as `application/dicom+json`."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        """Write what `as_json` made."""
        return _encoded(content)


DATA_SETS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "an array of data sets in the DICOM JSON model",
        "content": {MEDIA_TYPE: {"schema": {"type": "array", "items": {"type": "object"}}}},
    }
}


def as_json(dataset: Dataset) -> dict[str, Any]:
    """Return a data set in the JSON model, of which the character set is always UTF-8.

    Long binary values, and elements whose value is none of their VR, are left out. A number that
    JSON has not (NaN, infinite) is an empty value (PS3.18 F.2.5).
    """
    written: dict[str, Any] = dataset.to_json_dict(
        bulk_data_threshold=_MAXIMUM_INLINE_BYTES,
        bulk_data_element_handler=lambda element: _LEFT_OUT,
        suppress_invalid_tags=True,
    )
    if _CHARACTER_SET in written:
        written[_CHARACTER_SET] = {"vr": "CS", "Value": [UTF_8]}
    return _as_told(written)


def _as_told(written: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for tag, element in sorted(written.items()):
        if element.get("BulkDataURI") == _LEFT_OUT:
            continue
        if "Value" in element:
            element = _of_values(element["vr"], element["Value"])
        kept[tag] = element
    return kept


def _of_values(vr: str, values: list[Any]) -> dict[str, Any]:
    if vr == "SQ":
        return {"vr": vr, "Value": [_as_told(item) for item in values]}
    told = [None if isinstance(v, float) and not math.isfinite(v) else v for v in values]
    return {"vr": vr, "Value": told} if told != [None] else {"vr": vr}


def _encoded(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def streamed(
    datasets: Iterable[Mapping[str, Any]], *, headers: Mapping[str, str] | None = None
) -> StreamingResponse:
    """Answer with an array that is written as it is made."""

    def array() -> Iterator[bytes]:
        separator = b"["
        for dataset in datasets:
            yield separator + _encoded(dataset)
            separator = b","
        yield b"[]" if separator == b"[" else b"]"

    return StreamingResponse(array(), media_type=MEDIA_TYPE, headers=headers)
