"""The identifier of a C-FIND, C-MOVE or C-GET, read as what it asks (PS3.4 C.4.1.1.3).

Values are decoded as the requestor's character set says, never validated here and never quoted in
a message: they may name a patient.
"""

from functools import cached_property
from io import BytesIO
from typing import cast

from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_FIND

from dicom_node.answer import private
from dicom_node.errors import BadIdentity, QueryRefused
from dicom_node.receive.header import PARSE_ERRORS, check_uid
from dicom_node.text import decode, encodings
from index.attributes import ATTRIBUTES, Level
from index.criteria import Key

# What a query at a level may ask of, and is told.
LEVELS = {
    Level.STUDY: (Level.PATIENT, Level.STUDY),
    Level.SERIES: (Level.PATIENT, Level.STUDY, Level.SERIES),
    Level.IMAGE: (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE),
}
# PS3.4 C.6.2.1: the unique key of each level, from the top.
UNIQUE_KEYS = {
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}
_MAXIMUM_BYTES = 1 << 20  # the listener takes instances, too, and those may be large
_UNDEFINED_LENGTH = 0xFFFFFFFF  # PS3.5 7.1.1
_DELIMITERS = 0xFFFE  # the group of items and ends of sequences, PS3.5 7.5
MODALITIES_IN_STUDY = "ModalitiesInStudy"
_BY_KEYWORD = {attribute.keyword: attribute for attribute in ATTRIBUTES}


class Identifier:
    """The data set of a request, its elements read one by one as they are asked for.

    Keys that are `universal` are read as if they had no value.
    """

    def __init__(self, dataset: Dataset, *, universal: frozenset[BaseTag] = frozenset()) -> None:
        self._dataset = dataset
        self._universal = universal
        raw = self._raw(Tag("SpecificCharacterSet"))
        self.character_set = raw.decode("ascii", "replace").strip(" \0")
        self._names = encodings(self.character_set.encode())
        self.block = private.Block.find(dataset)

    @classmethod
    def read(cls, event: evt.Event) -> "Identifier":
        """Return the identifier of a request; raise `QueryRefused` when it is no data set."""
        try:
            size = cast(BytesIO, cast(C_FIND, event.request).Identifier).getbuffer().nbytes
            if size > _MAXIMUM_BYTES:
                raise QueryRefused("the identifier is larger than 1 MiB")
            dataset = event.identifier
        except PARSE_ERRORS as error:
            raise QueryRefused("the identifier cannot be read") from error
        tags = dataset.keys()  # of elements that stay raw
        if any(tag.group == _DELIMITERS for tag in tags):
            raise QueryRefused("the identifier has a delimiter outside a sequence")
        if any(_end(dataset.get_item(tag)) > size for tag in tags):
            raise QueryRefused("the identifier is cut off")
        return cls(dataset)

    @cached_property
    def level(self) -> Level:
        """The level of the query; raises `QueryRefused` unless Study Root has it."""
        level = self.text("QueryRetrieveLevel")
        if level not in LEVELS:
            raise QueryRefused("the level is STUDY, SERIES or IMAGE", keyword="QueryRetrieveLevel")
        return Level(level)

    @cached_property
    def requested(self) -> dict[str, BaseTag]:
        """The standard keys, by keyword; "" stands for all that have none."""
        tags = [tag for tag in self._dataset.keys() if not tag.is_private]  # noqa: SIM118, as raw
        return {keyword_for_tag(tag): tag for tag in tags}

    @cached_property
    def valued(self) -> frozenset[str]:
        """The keywords of the keys that are not universal."""
        return frozenset(keyword for keyword in self.requested if set(self.values(keyword)) - {"*"})

    def private_keys(self) -> dict[int, tuple[str, str | None]]:
        """Return VR and value of the private keys as they are answered unknown, by tag.

        A block keeps the name of its creator, whatever is in it is empty.
        """
        tags = sorted(tag for tag in self._dataset.keys() if tag.is_private)  # noqa: SIM118, as raw
        return {
            int(tag): ("LO", str(self._dataset[tag].value))
            if tag.is_private_creator
            else (str(getattr(self._dataset.get_item(tag), "VR", None) or "UN"), None)
            for tag in tags
        }

    def text(self, keyword: str) -> str:
        """Return the value of a standard key as text, empty when it is absent or a sequence."""
        tag = Tag(keyword)
        return decode(self._raw(tag), dictionary_VR(tag), self._names)

    def values(self, keyword: str) -> tuple[str, ...]:
        """Return the values of a standard key that are not empty."""
        if not keyword:
            return ()
        parts = (part.strip() for part in self.text(keyword).split("\\"))
        return tuple(part for part in parts if part)

    def private(self, element: private.PrivateElement) -> str:
        """Return the value of a private key as text, empty when it is absent."""
        return self.block.text(self._dataset, element) if self.block else ""

    def keys(self, level: Level) -> list[Key]:
        """Return the matching keys of the attributes of one level.

        ModalitiesInStudy asks of a study that it has a series of one of them.
        """
        found = [
            Key(_BY_KEYWORD[keyword], self.values(keyword))
            for keyword in self.requested
            if keyword in _BY_KEYWORD and _BY_KEYWORD[keyword].level is level
        ]
        if level is Level.STUDY and MODALITIES_IN_STUDY in self.requested:
            found.append(Key(_BY_KEYWORD["Modality"], self.values(MODALITIES_IN_STUDY)))
        return found

    def uids(self, keyword: str) -> tuple[str, ...]:
        """Return the UIDs of a unique key; raise `QueryRefused` for none or for no UIDs."""
        uids = self.values(keyword)
        if not uids:
            raise QueryRefused(f"{keyword} is missing", keyword=keyword)
        for uid in uids:
            try:
                check_uid(uid, keyword)
            except BadIdentity as error:
                raise QueryRefused(error.reason, keyword=keyword) from error
        return uids

    def take(self, keyword: str) -> tuple[str, "Identifier"]:
        """Return the text of a standard key, and the identifier that has that key universal."""
        rest = Identifier(self._dataset, universal=frozenset({Tag(keyword)}))
        return self.text(keyword), rest

    def check_parents(self) -> None:
        """Raise `QueryRefused` unless the levels above are named (PS3.4 C.4.1.2.1)."""
        for level, keyword in UNIQUE_KEYS.items():
            if level is self.level:
                return
            self.uids(keyword)

    def _raw(self, tag: BaseTag) -> bytes:
        element = None if tag in self._universal else self._dataset.get_item(tag)
        value = element.value if element is not None else None
        return value if isinstance(value, bytes) else b""


def _end(element: DataElement | RawDataElement | None) -> int:
    """Return where an element says that it ends; pydicom takes less for it without a word."""
    if isinstance(element, RawDataElement) and element.length != _UNDEFINED_LENGTH:
        return element.value_tell + element.length
    return 0
