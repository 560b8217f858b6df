"""A stub PACS for demonstrations: pushes files, asks questions, and keeps the reports it gets."""

import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from dicom_node.answer import private
from dicom_node.config import Destination, Dicom
from dicom_node.contexts import STUDY_ROOT_FIND
from dicom_node.errors import SendFailed
from dicom_node.listener import Listener, prepare_connection, prepare_dicom
from dicom_node.receive.header import read_file, with_meta
from dicom_node.receive.store import part10

AE_TITLE = "STUB_PACS"
_CONTEXTS_PER_ASSOCIATION = 128  # PS3.8 9.3.2.2: odd numbers up to 255
_T = TypeVar("_T")
_REPORT_BYTES = 64 << 20
_PENDING = (0xFF00, 0xFF01)


@dataclass(frozen=True, slots=True)
class Match:
    """One answer to a similarity query, as a client reads it."""

    rank: int
    score: float
    modality: str
    body_part: str
    description: str
    study_instance_uid: str


class StubPacs:
    """Listens for reports on a free loopback port and keeps them in `folder`."""

    def __init__(self, folder: Path) -> None:
        prepare_dicom()
        self.folder = folder
        self._arrived = threading.Condition()
        self._reports: dict[str, Path] = {}
        self._count = 0
        self._listener = Listener(
            Dicom(port=0),
            ae_titles=(AE_TITLE,),
            port=0,
            services=(),
            handlers=[(evt.EVT_C_STORE, self._keep)],
            maximum_bytes=_REPORT_BYTES,
        )
        self.destination = Destination(
            ae_title=AE_TITLE, host="127.0.0.1", port=self._listener.port
        )

    def stop(self) -> None:
        """Close the listener."""
        self._listener.stop()

    def report_on(self, study_instance_uid: str, timeout_s: float) -> Path | None:
        """Wait for the report on a study; None when none came in time."""
        with self._arrived:
            self._arrived.wait_for(lambda: study_instance_uid in self._reports, timeout_s)
            return self._reports.get(study_instance_uid)

    def _keep(self, event: evt.Event) -> int:
        report = event.dataset
        with self._arrived:
            self._count += 1
            path = self.folder / f"report-{self._count:03d}.dcm"
            path.write_bytes(event.encoded_dataset())
            if report.Modality == "SR":  # else a contact sheet, which goes out beside it
                self._reports[str(report.StudyInstanceUID)] = path
            self._arrived.notify_all()
        return 0x0000


def push(
    paths: Sequence[Path], destination: Destination, advance: Callable[[], None]
) -> Iterator[tuple[Path, str]]:
    """C-STORE data sets as they are, without decoding; yield each that was refused, and why."""
    contexts: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in paths:
        meta, _, header = read_file(path)
        contexts[header.sop_class_uid, str(meta.TransferSyntaxUID)].append(path)
    for part in _parts(list(contexts), _CONTEXTS_PER_ASSOCIATION):
        association = _associate(destination, [build_context(*kind) for kind in part])
        for path in (path for kind in part for path in contexts[kind]):
            status = _store(association, path)
            if status.get("Status") != 0x0000:
                yield path, str(status.get("ErrorComment", "no answer"))
            advance()
        association.release()


def _parts(values: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _store(association: Association, path: Path) -> Dataset:
    """Send one file under the UIDs of its data set, whatever its file meta says."""
    meta, dataset, header = read_file(path)
    with tempfile.NamedTemporaryFile(suffix=".dcm") as copy:
        copy.writelines(part10(dataset, with_meta(header, meta)))
        copy.flush()
        return association.send_c_store(copy.name)


def find_similar(study_instance_uid: str, destination: Destination, *, k: int) -> list[Match]:
    """Ask by C-FIND, with the private key, for the studies like this one; in rank order."""
    private.register()
    block = private.Block(0x10)
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    for keyword in ("StudyInstanceUID", "StudyDescription", "Modality", "BodyPartExamined"):
        setattr(identifier, keyword, "")
    block.reserve(identifier)
    block.put(identifier, private.QUERY_STUDY, study_instance_uid)
    block.put(identifier, private.MAXIMUM_RESULTS, k)
    association = _associate(destination, [build_context(STUDY_ROOT_FIND)])
    answers = [
        answer
        for status, answer in association.send_c_find(identifier, STUDY_ROOT_FIND)
        if status and status.Status in _PENDING and answer is not None
    ]
    association.release()
    return [_match(answer, block) for answer in answers]


def _match(answer: Dataset, block: private.Block) -> Match:
    return Match(
        rank=int(block.text(answer, private.RANK)),
        score=float(block.text(answer, private.SCORE)),
        modality=str(answer.Modality),
        body_part=str(answer.BodyPartExamined),
        description=str(answer.StudyDescription),
        study_instance_uid=str(answer.StudyInstanceUID),
    )


def _associate(destination: Destination, contexts: list[PresentationContext]) -> Association:
    association = AE(AE_TITLE).associate(
        destination.host,
        destination.port,
        contexts=contexts,
        ae_title=destination.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, prepare_connection)],
    )
    if not association.is_established:
        raise SendFailed(destination.ae_title, "no association")
    return association
