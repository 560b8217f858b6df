"""The annexes: created objects, private attributes, codes, template, character sets, lists."""

from collections.abc import Iterator

from pydicom.charset import python_encoding
from pydicom.dataset import Dataset

from dicom_node.answer import codes, private
from dicom_node.answer.report import TITLES
from dicom_node.config import Neighbours
from dicom_node.operate.conformance.entities import DOCUMENTS, STORAGE_CLASSES, named
from dicom_node.operate.conformance.markdown import Section, code, prose, section, table
from dicom_node.operate.conformance.sample import documents, report
from dicom_node.receive.header import IDENTITY
from dicom_node.text import FREE_TEXT_VRS, PLAIN_SETS, UTF_8
from encoder.codecs import DECODERS

# What an element is in a request, and in a response.
_USES: dict[private.PrivateElement, tuple[str, str]] = {
    private.RANK: ("", "rank of the case, from 1"),
    private.SCORE: ("the least score of a case", "score of the case"),
    private.QUERY_STUDY: ("the example's study", "the study compared with"),
    private.QUERY_SERIES: ("the example's series", "as asked"),
    private.QUERY_INSTANCE: ("the example's image", "as asked"),
    private.QUERY_TEXT: ("a sentence that the cases are to be", ""),
    private.METRIC: ("", "how the score is made"),
    private.ENCODER: ("", "which encoder or text space made the vectors"),
    private.SNAPSHOT: ("", "model and number of vectors searched"),
    private.BEST_SERIES: ("", "the series of the case that matches best"),
    private.BEST_INSTANCE: ("", "the image of the case that matches best"),
    private.MAXIMUM_RESULTS: ("how many cases at most", ""),
    private.SCOPE: ("which cases, see the query by example", "as asked, or the default"),
    private.SCORE_TEXT: ("", "score as text"),
    private.REASON: ("", "reserved"),
    private.EFFORT: ("how hard to look, see the query by example", "as asked, or the default"),
    private.AGE_RANGE: ("ages of the cases at their study", ""),
}


def annexes() -> tuple[Section, ...]:
    """Return the annexes in order."""
    return (
        _created(),
        _received(),
        _private_attributes(),
        _coding_scheme(),
        _template(),
        _character_sets(),
        _storage_classes(),
        _transfer_syntaxes(),
    )


def _created() -> Section:
    return section(
        "Created SOP instances",
        prose(
            f"""
            {", ".join(named(uid)[0] for uid in DOCUMENTS[:3])} hold the same content:
            one of them is sent. Patient and study are those of the example as its images have them.
            Attributes at the top level; those of type 3 are written where the example has a value,
            those of type 2 empty else. Private attributes and digital signatures are not written.

            Secondary Capture and PDF show images of other patients, cut as the encoder sees them.
            Left out are those whose Burned In Annotation is YES, and those without NO that are
            screens, photographs, or ultrasound that cannot be cut to its regions. Text that a
            system writes inside a region and does not declare remains.
            """
        ),
        table(("attribute", "tag", "VR", "report", "Secondary Capture", "PDF"), _attributes()),
    )


def _attributes() -> Iterator[tuple[str, ...]]:
    created = documents()
    elements = {element.tag: element for document in created for element in document}
    for tag in sorted(elements):
        element = elements[tag]
        marks = ("yes" if tag in document else "" for document in created)
        yield element.name, str(tag).replace(", ", ","), element.VR, *marks


def _received() -> Section:
    return section(
        "Usage of attributes from received instances",
        prose(
            f"""
            {", ".join(IDENTITY.values())} must be there. The
            catalogue keeps the attributes of the query table; a value that is missing or against
            its VR does not hinder storage. No value is coerced or modified. Patient ID with its
            issuer tells patients apart.
            """
        ),
    )


def _private_attributes() -> Section:
    return section(
        "Private attributes",
        prose(
            f"""
            Group {private.GROUP:04X}, private creator `{private.CREATOR}` (LO); only in identifiers
            of C-FIND, in the block that the requestor has reserved. Values that come as UN are
            converted.
            """
        ),
        table(
            ("attribute", "tag", "VR", "VM", "in a request", "in a response"),
            (
                (each.name, f"({private.GROUP:04X},xx{each.element:02X})", each.vr, 1, *_USES[each])
                for each in private.ELEMENTS
            ),
        ),
        "No private SOP classes and no private transfer syntaxes are defined.",
    )


def _coding_scheme() -> Section:
    declared = codes.coding_scheme_identification()
    return section(
        "Coding scheme",
        prose(
            f"""
            {code(codes.SCHEME)}, version {codes.SCHEME_VERSION},
            "{declared.CodingSchemeName}", declared in every report. A code value is never given a
            second meaning.
            """
        ),
        table(
            ("code value", "code meaning"),
            [(each.value, each.meaning) for each in codes.PRIVATE_CODES],
        ),
    )


def _template() -> Section:
    root = report()
    template = root.ContentTemplateSequence[0]
    titles = " or ".join(f"{each.meaning} ({each.value})" for each in TITLES.values())
    return section(
        "Structured Report template",
        prose(
            f"""
            Extends TID {template.TemplateIdentifier} of {template.MappingResource} by the codes of
            {code(codes.SCHEME)}. The measurement group repeats, one for each case in order of rank.
            The title is {titles}, as configured. What is said of a case stands under
            a subject of its own, a pseudonym.
            {codes.SIMILARITY_CATEGORY.meaning} is written by a trained encoder only, here the
            lowest;
            {codes.MOST_SIMILAR_IMAGE.meaning}, and real UIDs of a case, only for destinations with
            `neighbours = "{Neighbours.LINKED}"`. Modalities and the procedure reported, here of
            a CT, are those of the studies.
            """
        ),
        table(("content item", "relationship", "value type", "value"), _items(root, 0)),
    )


def _items(item: Dataset, depth: int) -> Iterator[tuple[str, ...]]:
    yield (
        f"{'>' * depth} {_coded(item.ConceptNameCodeSequence[0])}",
        item.get("RelationshipType", ""),
        item.ValueType,
        _value(item),
    )
    for child in item.get("ContentSequence", ()):
        yield from _items(child, depth + 1)


def _value(item: Dataset) -> str:
    if item.ValueType == "CODE":
        return _coded(item.ConceptCodeSequence[0])
    if item.ValueType == "NUM":
        units = item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
        return f"in {_coded(units)}"
    return ""


def _coded(item: Dataset) -> str:
    return f'({item.CodeValue}, {item.CodingSchemeDesignator}, "{item.CodeMeaning}")'


def _character_sets() -> Section:
    return section(
        "Character sets",
        prose(
            f"""
            Values of {", ".join(sorted(FREE_TEXT_VRS))} are read in the Specific Character Set of
            their data set; an unknown term counts as {UTF_8}. C-FIND keys are compared as decoded
            text. A response is written without a character set where ASCII will do, in that of the
            request if it has no code extensions and can hold the values, else in {UTF_8}. Created
            objects are written in {UTF_8}.
            """
        ),
        table(
            ("defined term", "read", "written in responses"),
            (
                (term, "yes", "yes" if term in {*PLAIN_SETS, UTF_8} else "")
                for term in sorted(filter(None, python_encoding))
            ),
        ),
    )


def _storage_classes() -> Section:
    return section(
        "Storage SOP classes",
        "Those known by name. Others are accepted as well, see association acceptance.",
        table(("SOP class", "SOP class UID"), map(named, STORAGE_CLASSES)),
    )


def _transfer_syntaxes() -> Section:
    return section(
        "Transfer syntaxes that are decoded",
        "Objects in other transfer syntaxes are kept, and can be queried and retrieved; no vectors "
        "are made of them.",
        table(("transfer syntax", "transfer syntax UID"), map(named, DECODERS)),
    )
