"""Finding: how long a similarity C-FIND of 20 cases takes over 100,000 clips, beside Orthanc.

    make bench-find [CLIPS=100000]

The clips are unit vectors of the shipped length in clusters, one a study, with real rows in SQLite
and a real graph; the node's query listener runs in a process of its own. "Persistent" replays the
bytes of a C-FIND on one association over a bare socket with TCP_NODELAY and reads up to the final
response; `findscu` is a whole command, its start and association included. Orthanc is asked for
the 20 studies of a patient among as many studies, which it takes minutes to be given. Times are
printed, never asserted.
"""

import multiprocessing
import os
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from peers import Orthanc, free_port, listening, run, stopped_at_the_end, wait_for
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from sqlalchemy import insert

from dicom_node.answer.find import FindService
from dicom_node.answer.retrieve import RetrieveService
from dicom_node.answer.scp import query_listener
from dicom_node.config import Answer, Config
from dicom_node.contexts import STUDY_ROOT_FIND
from dicom_node.generation import Answering
from dicom_node.parts import Parts, open_parts
from dicom_node.receive.worker import Model
from index.attributes import IMAGE_ATTRIBUTES, SERIES_ATTRIBUTES, STUDY_ATTRIBUTES
from index.config import IndexConfig
from index.hnsw import HnswIndex
from index.models import Clip, Embedding, Instance, Series, Study
from index.search import Search
from index.states import State

DIM, CLUSTERS, K = 128, 500, 20
MODEL = "0" * 16
QUERIES, COMMANDS, WARM_UP = 300, 20, 5
_ROWS = 5_000
KEYS = ("PatientID", "PatientName", "StudyDate", "StudyDescription", "ModalitiesInStudy")


def vectors(count: int) -> np.ndarray:
    """Return unit vectors (count, DIM) around cluster centres."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, DIM), dtype=np.float32)
    noise = rng.standard_normal((count, DIM), dtype=np.float32)
    found = centres[rng.integers(CLUSTERS, size=count)] + 0.7 * noise
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def fill(parts: Parts, count: int) -> None:
    """Write the rows of so many studies in bulk, each of one series, instance and clip."""
    timed = {"burst_started_at": 0.0, "last_received_at": 0.0, "quiet_at": None}
    made = vectors(count).astype("<f4")
    for start in range(1, count + 1, _ROWS):
        keys = range(start, min(start + _ROWS, count + 1))
        tables: dict[type, list[dict[str, object]]] = {
            Study: [
                {a.column: "" for a in STUDY_ATTRIBUTES}
                | {"id": n, "state": State.INDEXED, "study_instance_uid": f"1.9.{n}"}
                | {"patient_id": f"P{n // K}", "patient_name": f"Doe^{n}", "study_date": "20240101"}
                | {"guest": False}
                | timed
                for n in keys
            ],
            Series: [
                {a.column: "" for a in SERIES_ATTRIBUTES}
                | {"id": n, "study_id": n, "series_instance_uid": f"1.9.{n}.1", "modality": "CT"}
                | {"state": State.INDEXED, "revision": 1, "reason": ""}
                | timed
                for n in keys
            ],
            Instance: [
                {a.column: "" for a in IMAGE_ATTRIBUTES}
                | {"id": n, "series_id": n, "sop_instance_uid": f"1.9.{n}.1.1"}
                | {"sop_class_uid": CTImageStorage, "transfer_syntax_uid": ExplicitVRLittleEndian}
                | {"sha256": f"{n:064}", "size_bytes": 1, "relative_path": f"{n}.dcm"}
                | {"received_at": 0.0, "current": True}
                for n in keys
            ],
            Clip: [
                {"id": n, "series_id": n, "position": 0, "kind": "still", "frames": 1}
                | {"sources": [f"1.9.{n}.1.1"]}
                for n in keys
            ],
            Embedding: [
                {"id": n, "clip_id": n, "model_id": MODEL, "revision": 1, "decoder": ""}
                | {"vector": made[n - 1].tobytes()}
                for n in keys
            ],
        }
        with parts.catalogue.writing() as connection:
            for table, rows in tables.items():
                connection.execute(insert(table), rows)


def serve(folder: Path, count: int, port: int, stop: "multiprocessing.synchronize.Event") -> None:
    """Fill a node's data folder and answer its query port until told to stop."""
    config = Config.model_validate({"data": folder, "dicom": {"query_port": port}})
    parts = open_parts(config)
    started = time.perf_counter()
    fill(parts, count)
    rows_s = time.perf_counter() - started
    index = HnswIndex.open(
        parts.folder.vectors,
        parts.catalogue,
        model_id=MODEL,
        dim=DIM,
        config=replace(IndexConfig(), build_threads=2),
    )
    built_s = time.perf_counter() - started - rows_s
    print(f"{count} studies: rows {rows_s:.0f} s, graph {built_s:.0f} s", flush=True)
    model = Model(MODEL, "bench", "bench", trained=False, dim=DIM, device="", reason="")
    answering = Answering(model, index, Search(parts.catalogue, index))
    find = FindService(
        catalogue=parts.catalogue,
        current=lambda: answering,
        answer=Answer(k=K),
        retrieve_ae_title="SIMILIS_QR",
    )
    retrieve = RetrieveService(parts.catalogue, parts.store, parts.folder.reports, {}, {})
    listener = query_listener(config, find, retrieve, parts.intake)
    stop.wait()
    listener.stop()


def identifier(**matching: str) -> Dataset:
    """Return the question: study level, the usual columns of a viewer, and what must match."""
    asked = Dataset()
    asked.QueryRetrieveLevel = "STUDY"
    for keyword, value in (dict.fromkeys(("StudyInstanceUID", *KEYS), "") | matching).items():
        setattr(asked, keyword, value)
    return asked


def recorded(port: int, called: str, asked: Dataset) -> tuple[bytes, bytes]:
    """Return the bytes of an association request and of one C-FIND, as pynetdicom writes them."""
    sent: list[bytes] = []
    ae = AE("BENCH")
    ae.add_requested_context(STUDY_ROOT_FIND, ExplicitVRLittleEndian)
    handlers = [(evt.EVT_DATA_SENT, lambda event: sent.append(event.data))]
    association = ae.associate("127.0.0.1", port, ae_title=called, evt_handlers=handlers)
    first = len(sent)
    list(association.send_c_find(asked, STUDY_ROOT_FIND))
    question = b"".join(sent[first:])
    association.release()
    return b"".join(sent[:first]), question


class Wire:
    """One association over a bare socket."""

    def __init__(self, port: int, request: bytes) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(request)
        kind, _ = self._pdu()
        if kind != 2:
            raise SystemExit(f"the association was not accepted: PDU type {kind}")

    def ask(self, question: bytes) -> int:
        """Send a C-FIND and read up to its final response; return how many were pending."""
        self._socket.sendall(question)
        pending = 0
        while True:
            for status in statuses(self._pdu()[1]):
                if status not in (0xFF00, 0xFF01):
                    if status:
                        raise SystemExit(f"status {status:04X}")
                    return pending
                pending += 1

    def _pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxL", self._file.read(6))
        return kind, self._file.read(length)

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


def statuses(body: bytes) -> Iterator[int]:
    """Yield the statuses in the command sets of a P-DATA PDU (PS3.8 9.3.5)."""
    stream = BytesIO(body)
    while header := stream.read(6):
        length, _, control = struct.unpack(">LBB", header)
        value = stream.read(length - 2)
        if control & 1:
            at = value.index(b"\x00\x00\x00\x09\x02\x00\x00\x00") + 8
            yield struct.unpack_from("<H", value, at)[0]


def milliseconds(work: Callable[[int], object], count: int) -> np.ndarray:
    """Time so many calls after some to warm up."""
    taken = []
    for number in range(-WARM_UP, count):
        began = time.perf_counter()
        work(number)
        taken.append(1000 * (time.perf_counter() - began))
    return np.array(taken[WARM_UP:])


def report(name: str, taken: np.ndarray, cpu_ms: float | None = None) -> None:
    """Print one line."""
    p50, p99 = np.percentile(taken, (50, 99))
    cpu = "" if cpu_ms is None else f", {cpu_ms:.1f} ms CPU of the server each"
    print(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(taken)} times{cpu}", flush=True)


def cpu_ms(process_id: int) -> float:
    """Return how long a process has computed: unlike wall time, the same on a busy machine."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(port: int, pid: int, called: str, name: str, questions: list[Dataset]) -> None:
    """Time C-FINDs of K answers on one association to a process."""
    request, _ = recorded(port, called, questions[0])
    asked = [recorded(port, called, question)[1] for question in questions]
    wire = Wire(port, request)

    def ask(number: int) -> None:
        pending = wire.ask(asked[number % len(asked)])
        if pending != K:
            raise SystemExit(f"{name} gave {pending} answers, not {K}")

    before = cpu_ms(pid)
    taken = milliseconds(ask, QUERIES)
    each = (cpu_ms(pid) - before) / (QUERIES + WARM_UP)
    report(f"{name}, persistent association", taken, each)
    wire.close()


def with_findscu(port: int, called: str, name: str, keys: dict[str, str]) -> None:
    """Time whole findscu commands."""
    named = {"QueryRetrieveLevel": "STUDY", **dict.fromkeys(KEYS, ""), **keys}
    asked = [part for key, value in named.items() for part in ("-k", f"{key}={value}")]
    command = ("-S", "-aec", called, "127.0.0.1", port, *asked)
    report(f"{name}, findscu", milliseconds(lambda number: run("findscu", *command), COMMANDS))


@contextmanager
def node(folder: Path, count: int) -> Iterator[tuple[int, int]]:
    """Run the query listener in another process; yield its port and process id."""
    context = multiprocessing.get_context("spawn")
    stop, port = context.Event(), free_port()
    process = context.Process(target=serve, args=(folder, count, port, stop))
    process.start()
    try:
        wait_for("the node", lambda: listening(port) or not process.is_alive(), 3600)
        yield port, process.pid or 0
    finally:
        stop.set()
        process.join()


def fill_orthanc(orthanc: Orthanc, count: int) -> None:
    """Give Orthanc so many studies of one tiny instance each."""
    for number in range(count):
        instance = Dataset()
        instance.file_meta = FileMetaDataset()
        instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        instance.SOPClassUID = CTImageStorage
        instance.Modality = "CT"
        instance.StudyDate, instance.StudyDescription = "20240101", ""
        instance.PatientID, instance.PatientName = f"P{number // K}", f"Doe^{number}"
        instance.StudyInstanceUID = f"1.9.{number}"
        instance.SeriesInstanceUID = f"1.9.{number}.1"
        instance.SOPInstanceUID = f"1.9.{number}.1.1"
        file = BytesIO()
        instance.save_as(file, enforce_file_format=True)
        orthanc.post("/instances", file.getvalue())


def main() -> None:
    """Run everything and print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    examples = np.random.default_rng(1).integers(1, count + 1, 50)
    with tempfile.TemporaryDirectory(prefix="similis-bench-") as name:
        scratch = Path(name)
        with node(scratch / "data", count) as (port, pid):
            questions = [identifier(StudyInstanceUID=f"1.9.{n}") for n in examples]
            measure(port, pid, "SIMILIS_FIND", "similar cases", questions)
            example = {"StudyInstanceUID": f"1.9.{examples[0]}"}
            with_findscu(port, "SIMILIS_FIND", "similar cases", example)
            questions = [identifier(PatientID=f"P{n // K}") for n in examples if K < n < count - K]
            measure(port, pid, "SIMILIS_QR", "studies of a patient", questions)
        with stopped_at_the_end(
            Orthanc(scratch / "orthanc", {}, DicomAlwaysAllowFind=True)
        ) as orthanc:
            fill_orthanc(orthanc, count)
            questions = [identifier(PatientID=f"P{n}") for n in range(50)]
            measure(orthanc.port, orthanc.process.pid, "ORTHANC", "Orthanc", questions)
            with_findscu(orthanc.port, "ORTHANC", "Orthanc", {"PatientID": "P7"})
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
