"""From the parameters of a URL to the identifier that a C-FIND would carry.

So that both are read, matched and answered by the same code: `answer.identifier` and below.
"""

from collections.abc import Iterable, Mapping
from unicodedata import category

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_node.answer import private
from dicom_node.answer.identifier import Identifier
from dicom_node.errors import QueryRefused
from dicom_node.text import UTF_8
from dicom_node.web.failures import named
from index.attributes import Level

_SEPARATOR = {"UI": ","}  # PS3.18 8.3.4.1: a list of UIDs; other values hold commas of their own


def identifier_of(
    level: Level, keys: Mapping[str, str], own: Mapping[private.PrivateElement, object]
) -> Identifier:
    """Return a query at `level` for `keys`, by keyword, and for private keys of our `own`."""
    dataset = Dataset()
    fixed = {"SpecificCharacterSet": UTF_8, "QueryRetrieveLevel": level.value}
    for keyword, text in {**keys, **fixed}.items():
        tag = Tag(keyword)
        vr = dictionary_VR(tag)
        value = text.replace(_SEPARATOR.get(vr, "\\"), "\\").encode()
        dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    if own:
        block = private.Block(0x10)
        block.reserve(dataset)
        for element, given in own.items():
            block.put(dataset, element, given)
    return Identifier(dataset)


def keyword_of(name: str) -> str:
    """Return the keyword of an attribute given as one, or as a tag `ggggeeee`; `QueryRefused`."""
    tag = tag_for_keyword(name)
    if tag is None and len(name) == 8 and set(name) <= set("0123456789abcdefABCDEF"):
        tag = int(name, 16)
    keyword = keyword_for_tag(tag) if tag is not None else ""
    if not keyword or Tag(keyword).group in (0x0000, 0x0002):
        raise QueryRefused(f"{named(name)}: neither a parameter of this resource nor an attribute")
    return keyword


def keywords_of(fields: Iterable[str]) -> list[str]:
    """Return the keywords that `includefield` names, separated by commas or given repeatedly."""
    names = [name.strip() for field in fields for name in field.split(",")]
    return [keyword_of(name) for name in names if name]


def check_text(text: str) -> str:
    """Return a value of a query; raise `QueryRefused` for control characters, which match none."""
    if any(category(character) == "Cc" for character in text):
        raise QueryRefused("a value holds control characters")
    return text
