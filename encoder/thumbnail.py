"""One instance as a small picture for people: cut as the encoder sees it, windowed to be read.

Owns: which frame stands for an instance, whether text may be burnt into it, the window. Does not
own: decoding and cutting (`volume`, `pixels`), the layout and the words around it.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, uid

from encoder.clip import Clip, Kind, Unit
from encoder.config import Extent
from encoder.errors import UnreadableImage
from encoder.headers import floats, macro, quiet
from encoder.normalise import WINDOWS, normalise
from encoder.series import assemble
from encoder.slices import SLICED, Group
from encoder.slide import SLIDE_CLASS
from encoder.volume import read_clip
from encoder.waveform import ECG_CLASSES

BURNED_IN = "text may be burned in"

_ULTRASOUND = frozenset(
    {
        uid.UltrasoundImageStorage,
        uid.UltrasoundMultiFrameImageStorage,
        "1.2.840.10008.5.1.4.1.1.6",  # the two retired classes
        "1.2.840.10008.5.1.4.1.1.3",
    }
)
# Grey values straight from a detector: names stand in the header or an overlay, not in the pixels.
# DX, MG and the like must declare what is burnt in (PS3.3 C.8.11.3), and are believed.
_DETECTED = (SLICED - {uid.EnhancedUSVolumeStorage}) | {
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalMammographyXRayImageStorageForPresentation,
    uid.BreastProjectionXRayImageStorageForPresentation,
    uid.DigitalIntraOralXRayImageStorageForPresentation,
    uid.NuclearMedicineImageStorage,
    uid.XRayAngiographicImageStorage,
    uid.XRayRadiofluoroscopicImageStorage,
}
# Drawn by the encoder itself, or tissue fields of which the label is no part.
_WITHOUT_WORDS = frozenset({*ECG_CLASSES, SLIDE_CLASS})

_KEYWORDS = [
    "SOPClassUID", "BurnedInAnnotation", "Rows", "Columns", "WindowCenter", "WindowWidth",
    "SharedFunctionalGroupsSequence",
]  # fmt: skip


def thumbnail(path: Path, side_px: int, *, of_another: bool) -> NDArray[np.uint8]:
    """Return the middle frame of an instance as (side_px, side_px, 3), its aspect in mm kept.

    Of another patient nothing is shown into which a name may be burnt: what is neither cut to its
    tissue, nor declared clean, nor of a class that burns nothing in. Raises UnreadableImage for
    that and as `read_clip` does; OSError where the file cannot be opened.
    """
    assembly = assemble([path])
    if not assembly.groups:
        left_out = (*assembly.unreadable, *assembly.skipped)[0]
        raise UnreadableImage(left_out.sop_instance_uid, left_out.reason)
    group = assembly.groups[len(assembly.groups) // 2]
    clip = read_clip(group, Extent(1, side_px, side_px))
    with quiet():
        header = dcmread(path, stop_before_pixels=True, specific_tags=_KEYWORDS)
        if of_another and _may_name_someone(header, clip):
            raise UnreadableImage(group.frames[0].sop_instance_uid, BURNED_IN)
        middle = _windowed(_middle(clip), header, group)
    shown = normalise(middle, Extent(1, side_px, side_px)).array[:, 0]
    return np.moveaxis((shown * 255).round().astype(np.uint8), 0, -1)


def _may_name_someone(header: Dataset, clip: Clip) -> bool:
    sop_class, declared = header.get("SOPClassUID"), header.get("BurnedInAnnotation")
    if sop_class in _ULTRASOUND and clip.array.shape[-2:] != (header.Rows, header.Columns):
        return False  # cut to the tissue; the strip with the name lies outside
    if declared in ("YES", "NO"):
        return bool(declared == "YES")
    grey = clip.unit is not Unit.COLOUR
    return not (sop_class in _WITHOUT_WORDS or (sop_class in _DETECTED and grey))


def _middle(clip: Clip) -> Clip:
    at = clip.array.shape[1] // 2
    return replace(
        clip,
        array=clip.array[:, at : at + 1],
        spacing=(0.0, *clip.spacing[1:]),
        kind=Kind.STILL,
        valid=None if clip.valid is None else clip.valid[at : at + 1],
    )


def _windowed(clip: Clip, header: Dataset, group: Group) -> Clip:
    """Show a CT in one window, that of its scanner if it names one; the encoder sees three."""
    if clip.unit is not Unit.HOUNSFIELD:
        return clip
    lut = macro(header, "FrameVOILUTSequence", group.frames[0].index)
    centers, widths = (np.atleast_1d(lut.get(f"Window{x}") or 0) for x in ("Center", "Width"))
    window = floats([centers[0], widths[0]], 2)
    low, high = WINDOWS[Unit.HOUNSFIELD][1]
    if window is not None and window[1] > 1:
        low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
    grey = ((clip.array - low) / (high - low)).clip(0, 1) * 255
    return replace(clip, array=grey.astype(np.float32), unit=Unit.COLOUR)
