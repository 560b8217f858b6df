"""A node with two studies to retrieve, peers that take them, and what goes over the wire."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import peers
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import build_context
from scripted import Pacs, association, dataset_of, identifier

from dicom_node.contexts import PLAIN, STUDY_ROOT_MOVE
from dicom_node.node import Node
from training import phantoms

SLICES = 3
# Peers, and the transfer syntaxes that they take; nobody listens as GONE.
STORESCP = {"ANYTHING": "+xa", "PLAIN": "+x=", "IMPLICIT": "+xi"}


@dataclass(frozen=True, slots=True)
class Archive:
    """A node that keeps a plain and a JPEG 2000 study, and the folders of those it may send to."""

    node: Node
    plain: list[Path]
    packed: list[Path]
    received: dict[str, Path]
    pacs: Pacs

    def arrived(self, title: str) -> dict[str, str]:
        """Return digests by SOP Instance UID of what a peer has got, and forget it."""
        paths = sorted(self.received[title].iterdir())
        found = digests(paths)
        for path in paths:
            path.unlink()
        return found


@contextlib.contextmanager
def filled_archive(folder: Path) -> Iterator[Archive]:
    """Lend a node that has embedded and reported both studies, with its peers."""
    plain, packed = (
        phantoms.ct_series(folder / name, new_uid=phantoms.uid_source(n), slices=SLICES, size=64)
        for n, name in ((801, "plain"), (802, "packed"))
    )
    for path in packed:
        dataset = dcmread(path)
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        dataset.PatientID = "PACKED"
        dataset.save_as(path)
    pacs = Pacs()
    scps = {
        title: peers.Storescp(folder / title, title, option) for title, option in STORESCP.items()
    }
    ports = {title: scp.port for title, scp in scps.items()} | {"GONE": peers.free_port()}
    known = {
        title.lower(): {"ae_title": title, "host": "127.0.0.1", "port": port}
        for title, port in ports.items()
    }
    pacs_alone = {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port}}
    node = Node(peers.quick_config(folder / "data", peers=known, destinations=pacs_alone))
    try:
        node.start()
        peers.dcmsend(node.port, plain[0].parent, packed[0].parent)
        peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 2))
        folders = {title: scp.folder for title, scp in scps.items()}
        yield Archive(node, plain, packed, folders, pacs)
    finally:
        for started in (node, pacs, *scps.values()):
            started.stop()


def digests(paths: list[Path]) -> dict[str, str]:
    """Return digests of data sets by SOP Instance UID."""
    return {
        dcmread(path).SOPInstanceUID: hashlib.sha256(dataset_of(path)).hexdigest() for path in paths
    }


def of(paths: list[Path], level: str = "SERIES") -> Dataset:
    """Return the identifier that names the study, series or first image of these files."""
    first = dcmread(paths[0])
    keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    depth = ("STUDY", "SERIES", "IMAGE").index(level) + 1
    return identifier(level, **{key: first[key].value for key in keys[:depth]})


def assert_decompressed(got: Dataset, kept: Dataset) -> None:
    """Check that an object holds what the compressed one did, as far as it is not its coding."""
    assert got.file_meta.TransferSyntaxUID in PLAIN
    assert np.array_equal(got.pixel_array, kept.pixel_array)
    for each in (got, kept):
        del each.PixelData
    assert got == kept


Said = list[tuple[Dataset, Dataset | None]]


def move(node: Node, asked: Dataset, to: str, *, called: str = "SIMILIS_QR") -> Said:
    """Ask for a C-MOVE and return what is answered."""
    contexts = [build_context(STUDY_ROOT_MOVE, ExplicitVRLittleEndian)]
    with association(node.query_port, contexts, called=called) as opened:
        return list(opened.send_c_move(asked, to, STUDY_ROOT_MOVE))


def counts(said: Said) -> tuple[int, int, int, int]:
    """Return the final status, and how many sub-operations completed, failed, were warned of."""
    final = said[-1][0]
    return (
        final.Status,
        final.NumberOfCompletedSuboperations,
        final.NumberOfFailedSuboperations,
        final.NumberOfWarningSuboperations,
    )
