"""Content items of a Structured Report, one function per value type (PS3.3 C.17.3).

Built from highdicom's value types, which refuse an item that would not be valid. Its document and
template classes are not used: they read the wall clock, take ten times as long, and refuse query
images of SOP classes that they do not know.
"""

from highdicom import sr
from highdicom.sr import ContentItem
from highdicom.sr import RelationshipTypeValues as Relation
from pydicom.dataset import Dataset

from dicom_node.answer.codes import CodedConcept

__all__ = [
    "Relation",
    "code",
    "coded",
    "container",
    "image",
    "number",
    "root",
    "text",
    "uid_reference",
]


def container(name: CodedConcept, *children: Dataset) -> ContentItem:
    """Return a CONTAINER that its parent contains."""
    item = sr.ContainerContentItem(
        name=coded(name), is_content_continuous=False, relationship_type=Relation.CONTAINS
    )
    return _with(item, children)


def root(title: CodedConcept, template: str, *children: Dataset) -> ContentItem:
    """Return the root CONTAINER, which has no relation, with its template (PS3.3 C.18.8)."""
    item = sr.ContainerContentItem(
        name=coded(title), is_content_continuous=False, template_id=template
    )
    return _with(item, children)


def code(relation: Relation, name: CodedConcept, value: CodedConcept) -> ContentItem:
    """Return a CODE."""
    return sr.CodeContentItem(name=coded(name), value=coded(value), relationship_type=relation)


def text(relation: Relation, name: CodedConcept, value: str) -> ContentItem:
    """Return a TEXT."""
    return sr.TextContentItem(name=coded(name), value=value, relationship_type=relation)


def uid_reference(relation: Relation, name: CodedConcept, value: str) -> ContentItem:
    """Return a UIDREF, which names a UID but references no instance."""
    return sr.UIDRefContentItem(name=coded(name), value=value, relationship_type=relation)


def number(
    relation: Relation, name: CodedConcept, value: str, unit: CodedConcept, *children: Dataset
) -> ContentItem:
    """Return a NUM; `value` is a decimal string (DS) and kept as written."""
    item = sr.NumContentItem(
        name=coded(name), value=0, unit=coded(unit), relationship_type=relation
    )
    item.MeasuredValueSequence[0].NumericValue = value  # highdicom would write 1 as 1.0
    return _with(item, children)


def image(
    relation: Relation,
    name: CodedConcept,
    *children: Dataset,
    sop_class_uid: str,
    sop_instance_uid: str,
    frame: int | None = None,
) -> ContentItem:
    """Return an IMAGE, of one `frame` or of all; the document's evidence must have the instance."""
    item = sr.ImageContentItem(
        name=coded(name),
        referenced_sop_class_uid=sop_class_uid,
        referenced_sop_instance_uid=sop_instance_uid,
        referenced_frame_numbers=None if frame is None else [frame],
        relationship_type=relation,
    )
    return _with(item, children)


def reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Return a reference to an instance (PS3.3 Table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def coded(concept: CodedConcept) -> sr.CodedConcept:
    """Return the item of a code sequence (PS3.3 Table 8.8-1)."""
    return sr.CodedConcept(concept.value, concept.scheme, concept.meaning)


def _with(item: ContentItem, children: tuple[Dataset, ...]) -> ContentItem:
    if children:
        # Assigned as a plain sequence: highdicom's own looks at every child again.
        item.add_new("ContentSequence", "SQ", list(children))
    return item
