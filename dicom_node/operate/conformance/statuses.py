"""The statuses that the node answers with and how it takes those of others."""

from collections.abc import Iterable

from dicom_node.answer import commitment, response, scp, send
from dicom_node.answer.find import NOT_INDEXED_YET
from dicom_node.answer.retrieve import CANNOT_COUNT
from dicom_node.errors import BadIdentity, NotUnderstood, OutOfResources, QueryRefused
from dicom_node.listener import PROCESSING_FAILURE, UNABLE_TO_PROCESS
from dicom_node.operate.conformance.entities import ENTITIES, SHIPPED
from dicom_node.operate.conformance.markdown import Section, code, section, table
from dicom_node.receive import commitment as scp_of_commitment
from dicom_node.receive.scp import SUCCESS

_FAULT = "a fault of the node, told in its log"
_NO_CATALOGUE = "the catalogue cannot be read now"
_BAD_IDENTIFIER = "the identifier cannot be answered; Error Comment says why"

_STORE = (
    (SUCCESS, "success", "object and row are on disk"),
    (
        OutOfResources.status,
        "failure",
        f"less than {SHIPPED.storage.minimum_free_mb} MiB are free, or the catalogue cannot keep "
        "the object; it may be sent again",
    ),
    (
        BadIdentity.status,
        "failure",
        "a UID is missing, is none, or is not the one that the command announced",
    ),
    (NotUnderstood.status, "failure", "the header cannot be read"),
    (PROCESSING_FAILURE, "failure", _FAULT),
    (scp.SOP_CLASS_NOT_SUPPORTED, "failure", "sent to the query port"),
)
_FIND = (
    (
        SUCCESS,
        "success",
        "there are no more matches; Error Comment: how words were read, or that cases may be "
        "missing since their vectors for words are still being made",
    ),
    (response.PENDING, "pending", "a match"),
    (
        response.PENDING_WITHOUT_SOME_KEYS,
        "pending",
        "a match; a key of the request is not kept, or not matched though it has a value",
    ),
    (response.CANCELLED, "cancel", "after a C-CANCEL"),
    (scp.OUT_OF_RESOURCES, "failure", f"{_NO_CATALOGUE}, or words cannot be"),
    (QueryRefused.status, "failure", _BAD_IDENTIFIER),
    (
        NOT_INDEXED_YET,
        "failure",
        f"{code(ENTITIES[1].ae_title)} only: the example is being indexed; ask again",
    ),
    (UNABLE_TO_PROCESS, "failure", _FAULT),
)
# Counting sub-operations and refusing destinations is the DICOM library's.
_RETRIEVE = (
    (SUCCESS, "success", "every sub-operation succeeded, or there was none"),
    (response.PENDING, "pending", "a sub-operation has ended"),
    (0xB000, "warning", "some sub-operations failed or had warnings"),
    (response.CANCELLED, "cancel", "after a C-CANCEL"),
    (CANNOT_COUNT, "failure", _NO_CATALOGUE),
    (0xA702, "failure", "every sub-operation failed"),
    (0xA801, "failure", "C-MOVE only: the destination is not configured or takes no association"),
    (QueryRefused.status, "failure", _BAD_IDENTIFIER),
    (UNABLE_TO_PROCESS, "failure", _FAULT),
)
_ACTION = (
    (commitment.SUCCESS, "success", "the request is on disk; an answer will be sent"),
    (scp_of_commitment.NO_SUCH_INSTANCE, "failure", "not the well-known SOP instance"),
    (scp_of_commitment.NO_SUCH_ACTION, "failure", f"not action type {commitment.REQUEST}"),
    (commitment.INVALID_ARGUMENT, "failure", "no transaction UID, or a reference without UIDs"),
    (PROCESSING_FAILURE, "failure", _FAULT),
)
_REASONS = (
    (scp_of_commitment.NO_SUCH_INSTANCE, "failure reason", "the instance is not kept here"),
    (scp_of_commitment.CLASS_CONFLICT, "failure reason", "it is kept under another SOP class"),
    (PROCESSING_FAILURE, "failure reason", "its file is damaged"),
)
_EVENT = (
    (commitment.SUCCESS, "success", "the answer is taken in"),
    (commitment.INVALID_ARGUMENT, "failure", "nobody asked under this transaction UID"),
    (PROCESSING_FAILURE, "failure", _FAULT),
)


def status_codes() -> Section:
    """Return the statuses of every service."""
    taken = ", ".join(f"{status:04X}" for status in sorted(send.STORED))
    return section(
        "Status codes",
        section("C-STORE as SCP", _table(_STORE)),
        section(
            "C-STORE as SCU",
            f"{taken} mean that the object is stored; after any other status the report is sent "
            "again as a whole.",
        ),
        section("C-FIND as SCP", _table(_FIND)),
        section("C-MOVE and C-GET as SCP", _table(_RETRIEVE)),
        section("N-ACTION as SCP", _table(_ACTION)),
        section(
            "N-EVENT-REPORT as SCP",
            f"Event type {commitment.ALL_KEPT}: everything is kept; {commitment.SOME_LACKING}: "
            "something is not, for one of these reasons:",
            _table(_REASONS),
        ),
        section("N-EVENT-REPORT as SCU", _table(_EVENT)),
    )


def _table(statuses: Iterable[tuple[int, str, str]]) -> str:
    rows = ((f"{status:04X}", kind, meaning) for status, kind, meaning in statuses)
    return table(("status", "kind", "when"), rows)
