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
STORAGE_COMMITMENT = UID("1.2.840.10008.1.20.1")
STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
STUDY_ROOT_MOVE = UID("1.2.840.10008.5.1.4.1.2.2.2")
STUDY_ROOT_GET = UID("1.2.840.10008.5.1.4.1.2.2.3")
# Of these a node cannot decompress what it keeps.
VIDEO_STORAGE = (
    UID("1.2.840.10008.5.1.4.1.1.77.1.1.1"),
    UID("1.2.840.10008.5.1.4.1.1.77.1.2.1"),
    UID("1.2.840.10008.5.1.4.1.1.77.1.4.1"),
)


class Role(StrEnum):
    """Which of the two listeners offers a service."""

    STORAGE = "storage"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Service:
    """A SOP class offered as SCP, and the transfer syntaxes it is taken in, preferred first.

    `as_scu`: a peer that opens the association may be SCP of it (role selection, PS3.7 D.3.3.4).
    """

    role: Role
    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]
    as_scu: bool = False


# What is not compressed, preferred first. Deflated is not among it: an identifier never needs it
# and inflating is a risk.
PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

SERVICES = (
    Service(Role.STORAGE, VERIFICATION, PLAIN),
    Service(Role.STORAGE, STORAGE_COMMITMENT, PLAIN, as_scu=True),
    Service(Role.QUERY, VERIFICATION, PLAIN),
    Service(Role.QUERY, STUDY_ROOT_FIND, PLAIN),
    Service(Role.QUERY, STUDY_ROOT_MOVE, PLAIN),
    Service(Role.QUERY, STUDY_ROOT_GET, PLAIN),
)
# Storage has no row: it is unrestricted, every SOP class in any transfer syntax
# (`listener.prepare_dicom`).


def services(role: Role) -> tuple[Service, ...]:
    """Return the rows of one listener."""
    return tuple(service for service in SERVICES if service.role is role)
