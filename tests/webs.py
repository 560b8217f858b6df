"""A node that answers over HTTP, with real files and studies whose likeness is known."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import peers
from pydicom import dcmread
from pydicom.data import get_testdata_file

from dicom_node.node import Node
from dicom_node.receive.header import read_file_header
from training import phantoms

# Name, seed of the pixels, patient, date: the twin has the pixels of the query.
CT_STUDIES = (
    ("query", 1, "PATIENT 1", "20250101"),
    ("prior", 1, "PATIENT 1", "20240101"),
    ("twin", 1, "PATIENT 2", "20240601"),
    ("other", 7, "PATIENT 3", "20230301"),
)
# Plain, big endian, run lengths, JPEG 2000, a loop in JPEG, colour in JPEG, and two without pixels.
REAL = (
    "CT_small.dcm", "MR_small_bigendian.dcm", "emri_small_RLE.dcm", "JPEG2000.dcm",
    "examples_ybr_color.dcm", "SC_rgb_jpeg_dcmtk.dcm", "rtplan.dcm", "test-SR.dcm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Library:
    """A node, its URL, the Study Instance UIDs of the CT studies and the files pushed, by name."""

    node: Node
    url: str
    uids: dict[str, str]
    files: dict[str, Path]

    def path_of(self, name: str) -> str:
        """Return the path of the instance in a pushed file."""
        header = read_file_header(self.files[name])
        series = f"/studies/{header.study_instance_uid}/series/{header.series_instance_uid}"
        return f"{series}/instances/{header.sop_instance_uid}"

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask for a path."""
        return httpx.get(self.url + path, timeout=60, **options)


def url_of(node: Node) -> str:
    """Return where a node answers over HTTP."""
    assert node.http_port is not None
    return f"http://127.0.0.1:{node.http_port}"


@contextmanager
def filled_library(folder: Path) -> Iterator[Library]:
    """Start a node and fill it, wait until it rests, stop it in the end."""
    node = Node(peers.quick_config(folder / "data", http={"port": 0, "maximum_upload_mb": 2}))
    with peers.stopped_at_the_end(node):
        node.start()
        uids = {row[0]: ct_study(folder / "push", *row) for row in CT_STUDIES}
        files = {path.name: path for path in map(bundled, REAL)}
        files |= {name: sorted((folder / "push" / name).iterdir())[0] for name in uids}
        pushed = [*sorted((folder / "push").rglob("*.dcm")), *map(bundled, REAL)]
        for path in pushed:  # DCMTK would re-encode some
            stow(url_of(node), path)
        studies = len({read_file_header(path).study_instance_uid for path in files.values()})
        peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, studies))
        yield Library(node, url_of(node), uids, files)


def post(library: Library, body: bytes, headers: dict[str, str], **params: str) -> httpx.Response:
    """Ask for cases like what is posted."""
    url = f"{library.url}/similar"
    return httpx.post(url, content=body, headers=headers, params=params, timeout=60)


def multipart(files: Sequence[Path]) -> bytes:
    """Return files as one body, with the boundary `b`."""
    parts = (b"--b\r\nContent-Type: application/dicom\r\n\r\n" + f.read_bytes() for f in files)
    return b"\r\n".join([*parts, b"--b--\r\n"])


def stow(url: str, path: Path) -> None:
    """Store a file byte for byte."""
    headers = {"Content-Type": "application/dicom"}
    stored = httpx.post(f"{url}/studies", content=path.read_bytes(), headers=headers)
    assert stored.status_code == 200, (path.name, stored.text)


def bundled(name: str) -> Path:
    """Return a file of pydicom's."""
    path = get_testdata_file(name, download=False)
    assert path is not None, f"{name} is not bundled"
    return Path(path)


def ct_study(folder: Path, name: str, seed: int, patient_id: str, study_date: str) -> str:
    """Write a CT study of two slices; return its Study Instance UID."""
    new_uid = phantoms.uid_source(sum(name.encode()))
    for path in phantoms.ct_series(
        folder / name, new_uid=new_uid, slices=2, size=64, seed=seed, patient_id=patient_id
    ):
        dataset = dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.PatientName = f"Yamada^{name}=山田^{name}"
        dataset.StudyDate, dataset.AccessionNumber = study_date, f"A,{name}"
        dataset.save_as(path)
    return str(dataset.StudyInstanceUID)
