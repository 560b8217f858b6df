"""The pending responses to a C-FIND, put on the association as they are written.

What ends a query is left to pynetdicom. For each pending response its own way takes half a
millisecond, most of it for a command set that is the same in all of them, and two PDUs.
"""

from collections.abc import Generator, Iterable
from io import BytesIO
from typing import cast

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.dimse_messages import C_FIND_RSP
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.answer.element import encoded
from dicom_node.answer.response import CANCELLED, Elements
from dicom_node.listener import is_cancelled

_PDV_HEADER_BYTES = 5  # length and context, PS3.8 9.3.5.1
_LAST_OF_DATA_SET = b"\x02"  # the message control header, PS3.8 E.2


def send_pending(
    event: evt.Event, answers: Iterable[tuple[int, Elements]]
) -> Generator[tuple[int, None], None, int]:
    """Send answers with their statuses, yield what ends them if the peer cancels; return how many.

    Each is one P-DATA with two values, its command and its data set, where the peer takes as much.
    """
    responses = _Responses(event)
    count = 0
    for status, answer in answers:
        if is_cancelled(event):
            yield CANCELLED, None
            break
        responses.send(status, answer)
        count += 1
    return count


class _Responses:
    """The pending responses to one request; their command sets differ in the status alone."""

    def __init__(self, event: evt.Event) -> None:
        self._association = event.assoc
        self._request = cast(C_FIND, event.request)
        self._context_id = event.context.context_id
        self._is_implicit_vr = UID(event.context.transfer_syntax).is_implicit_VR
        self._commands: dict[int, bytes] = {}

    def send(self, status: int, answer: Elements) -> None:
        """Put one response on the association; more than the peer takes in a PDU, in pieces."""
        body = encoded(answer, is_implicit_vr=self._is_implicit_vr)
        if status not in self._commands:
            self._commands[status] = self._command(status)
        values = (self._commands[status], _LAST_OF_DATA_SET + body)
        length = sum(_PDV_HEADER_BYTES + len(value) for value in values)
        limit = self._association.dimse.maximum_pdu_size
        if limit and length > limit:
            self._association.dimse.send_msg(self._response(status, body), self._context_id)
            return
        primitive = P_DATA()
        primitive.presentation_data_value_list.extend((self._context_id, v) for v in values)
        self._association.dul.send_pdu(primitive)

    def _command(self, status: int) -> bytes:
        """Return the presentation data value of the command set, as pynetdicom writes it."""
        message = C_FIND_RSP()
        message.primitive_to_message(self._response(status, b"\0"))
        first = next(message.encode_msg(self._context_id, 0))
        return first.presentation_data_value_list[0][1]

    def _response(self, status: int, body: bytes) -> C_FIND:
        response = C_FIND()
        response.MessageIDBeingRespondedTo = self._request.MessageID
        response.AffectedSOPClassUID = self._request.AffectedSOPClassUID
        response.Status = status
        response.Identifier = BytesIO(body)
        return response
