"""Small encoders with vectors of their own, and studies to tell them apart by."""

from pathlib import Path

from pydicom import dcmread

from dicom_node.operate.take_in import embed_waiting
from dicom_node.parts import Parts
from encoder import checkpoint
from encoder.config import EncoderConfig, Extent
from encoder.model import initial_weights
from training import phantoms

_SMALL = EncoderConfig(
    width=48,
    depth=1,
    heads=2,
    still=Extent(1, 32, 32),
    volume=Extent(4, 32, 32),
    cine=Extent(4, 32, 32),
)


def small_encoder(folder: Path, seed: int) -> Path:
    """Write an untrained encoder that embeds in milliseconds; each seed gives other vectors."""
    description = checkpoint.Description(
        format=checkpoint.FORMAT, name=f"small-{seed}", trained=False, seed=seed, config=_SMALL
    )
    tensors = initial_weights(_SMALL, seed)
    checkpoint.save(folder, checkpoint.Checkpoint(description, tensors))
    return folder


def image_of(folder: Path, number: int) -> Path:
    """Write a CT image of a patient of its own; the same number gives the same file."""
    (path,) = phantoms.ct_series(
        folder / f"image-{number}",
        new_uid=phantoms.uid_source(1000 + number),
        slices=1,
        size=64,
        seed=number,
        patient_id=f"PATIENT {number}",
    )
    return path


def study_of(path: Path) -> str:
    """Return the Study Instance UID of a file."""
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def take_in(parts: Parts, *paths: Path) -> None:
    """Take files in and embed them, where no node runs."""
    for path in paths:
        with path.open("rb") as file:
            parts.intake.take_file(file, source="test", report=False)
    assert embed_waiting(parts, _unheard, settled=_unheard, waiting=_unheard)


def _unheard(*_: object) -> None:
    """Hear of progress, and say nothing."""
