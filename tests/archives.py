"""An archive that commits to what it is sent, or does not: on the same association, on one of its
own, too late, never, or by saying that it lacks what it was sent."""

import threading
from collections.abc import Callable, Sequence
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

WELL_KNOWN = "1.2.840.10008.1.20.1.1"
Event = tuple[int, Dataset]


class Archive:
    """Keeps what it is sent; `lacks` says for each question how many objects it denies."""

    def __init__(self, *, answers: str = "same", lacks: Sequence[int] = (0,)) -> None:
        self.node_port = 0
        self.kept: list[Dataset] = []
        self.asked: list[Dataset] = []
        self.told: list[int | None] = []  # what the node said to each answer
        self._answers = answers
        self._lacks = list(lacks)
        self._ae = AE("ARCHIVE")
        self._ae.add_supported_context(StorageCommitmentPushModel)
        handlers = [(evt.EVT_C_STORE, self._keep), (evt.EVT_N_ACTION, self._ask)]
        server = self._ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = int(server.server_address[1])
        self._threads: list[threading.Thread] = []

    def destination(self, **values: object) -> dict[str, object]:
        """Return the configuration of a node that reports to this archive."""
        address = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": self.port}
        return {"archive": {**address, "contact_sheet": False, **values}}

    def uids(self) -> list[str]:
        """Return the SOP Instance UIDs of everything that came, in order."""
        return [str(each.SOPInstanceUID) for each in self.kept]

    def stop(self) -> None:
        """Close the listener."""
        for thread in self._threads:
            thread.join()
        self._ae.shutdown()

    def answer_later(self, asked: Dataset) -> int | None:
        """Give an answer on an association of the archive's own; return the node's status."""
        ae = AE("ARCHIVE")
        association = ae.associate(
            "127.0.0.1",
            self.node_port,
            contexts=[build_context(StorageCommitmentPushModel)],
            ae_title="SIMILIS",
            ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
        )
        assert association.is_established
        assert association.accepted_contexts[0].as_scp
        told = self._tell(association.send_n_event_report, asked)
        association.release()
        return told

    def _keep(self, event: evt.Event) -> int:
        self.kept.append(dcmread(BytesIO(event.encoded_dataset())))
        return 0x0000

    def _ask(self, event: evt.Event) -> tuple[int, None]:
        asked = event.action_information
        self.asked.append(dcmread(BytesIO(_encoded(asked)), force=True))
        association = event.assoc

        def answer() -> None:
            # The response to the question must be out first: the node waits for that one.
            threading.Event().wait(0.3)
            if self._answers == "same":
                self._tell(association.send_n_event_report, asked)
            elif self._answers == "later":
                self.answer_later(asked)

        if self._answers == "abort":
            association.abort()
        thread = threading.Thread(target=answer)
        self._threads.append(thread)
        thread.start()
        return 0x0000, None

    def _tell(
        self, send: Callable[..., tuple[Dataset, Dataset | None]], asked: Dataset
    ) -> int | None:
        lacking = self._lacks.pop(0) if len(self._lacks) > 1 else self._lacks[0]
        items = list(asked.ReferencedSOPSequence)
        answer = Dataset()
        answer.TransactionUID = asked.TransactionUID
        answer.ReferencedSOPSequence = items[lacking:]
        for item in items[:lacking]:
            item.FailureReason = 0x0112
        if lacking:
            answer.FailedSOPSequence = items[:lacking]
        status, _ = send(answer, 2 if lacking else 1, StorageCommitmentPushModel, WELL_KNOWN)
        self.told.append(status.get("Status"))
        return self.told[-1]


def _encoded(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, implicit_vr=True, little_endian=True)
    return buffer.getvalue()
