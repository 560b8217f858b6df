"""What the node offers on an association: one table, from which AE set-up and documents derive."""

from dataclasses import dataclass
from enum import StrEnum

from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

# PS3.6 Table A-1.
VERIFICATION = UID("1.2.840.10008.1.1")
STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
STUDY_ROOT_MOVE = UID("1.2.840.10008.5.1.4.1.2.2.2")
STUDY_ROOT_GET = UID("1.2.840.10008.5.1.4.1.2.2.3")


class Role(StrEnum):
    """Which of the two listeners offers a service."""

    STORAGE = "storage"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Service:
    """A SOP class offered as SCP, and the transfer syntaxes it is taken in, preferred first."""

    role: Role
    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]


# Deflated is not offered for queries: an identifier never needs it and inflating is a risk.
_PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

SERVICES = (
    Service(Role.STORAGE, VERIFICATION, _PLAIN),
    Service(Role.QUERY, VERIFICATION, _PLAIN),
    Service(Role.QUERY, STUDY_ROOT_FIND, _PLAIN),
    Service(Role.QUERY, STUDY_ROOT_MOVE, _PLAIN),
    Service(Role.QUERY, STUDY_ROOT_GET, _PLAIN),
)
# Storage has no row: it is unrestricted, every SOP class in any transfer syntax
# (`listener.prepare_dicom`).


def services(role: Role) -> tuple[Service, ...]:
    """Return the rows of one listener."""
    return tuple(service for service in SERVICES if service.role is role)
