"""The application entities of the node, and what each of them proposes and accepts.

Owns how the tables of the product are read for the statement; holds no fact of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts

from dicom_node.answer import pdf, secondary_capture
from dicom_node.answer.sr_class import SopClass
from dicom_node.config import Config
from dicom_node.contexts import PLAIN, STORAGE_COMMITMENT, Role, services
from dicom_node.operate.conformance.markdown import table

SHIPPED = Config()
"""The configuration without any file: the statement tells defaults."""

DOCUMENTS = (*SopClass, secondary_capture.KIND.sop_class_uid, pdf.KIND.sop_class_uid)
"""The SOP classes of what the node creates."""

STORAGE_CLASSES = tuple(
    sorted((str(context.abstract_syntax) for context in AllStoragePresentationContexts), key=UID)
)
"""The storage SOP classes of PS3.4 Table B.5-1 that are known by name."""


@dataclass(frozen=True, slots=True)
class Entity:
    """An AE that may be called: its title, port, and the listener that answers."""

    ae_title: str
    port: int
    role: Role
    purpose: str


ENTITIES = (
    Entity(
        SHIPPED.dicom.ae_title,
        SHIPPED.dicom.port,
        Role.STORAGE,
        "takes studies in, gives storage commitment for them; sends reports",
    ),
    Entity(
        SHIPPED.dicom.find_ae_title,
        SHIPPED.dicom.query_port,
        Role.QUERY,
        "answers which studies look like an example; retrieval",
    ),
    Entity(
        SHIPPED.dicom.text_ae_title,
        SHIPPED.dicom.query_port,
        Role.QUERY,
        "answers which studies are what a sentence says; retrieval",
    ),
    Entity(
        SHIPPED.dicom.qr_ae_title,
        SHIPPED.dicom.query_port,
        Role.QUERY,
        "ordinary query and retrieval",
    ),
)

_COLUMNS = ("SOP class", "SOP class UID", "Transfer syntax", "Transfer syntax UID", "Role")


def accepted_contexts(role: Role) -> str:
    """Return the table of presentation contexts that a listener accepts, storage aside."""
    return table(
        _COLUMNS,
        (
            (*named(service.sop_class_uid), *named(syntax), _roles("SCP", both=service.as_scu))
            for service in services(role)
            for syntax in service.transfer_syntaxes
        ),
    )


def proposed_contexts() -> str:
    """Return the table of presentation contexts that the node proposes, retrieval aside."""
    return table(_COLUMNS, _proposed())


def _proposed() -> Iterator[tuple[str, ...]]:
    for sop_class in (*DOCUMENTS, STORAGE_COMMITMENT):
        role = _roles("SCU", both=sop_class == STORAGE_COMMITMENT)
        for syntax in PLAIN:
            yield (*named(sop_class), *named(syntax), role)


def _roles(role: str, *, both: bool) -> str:
    other = {"SCU": "SCP", "SCP": "SCU"}[role]
    return f"{role}, {other} by role selection" if both else role


def named(uid: str) -> tuple[str, str]:
    """Return the name of a UID, and the UID."""
    return UID(uid).name, str(uid)
