"""One instance as a small picture for people: cut as the encoder sees it, windowed to be read.

Owns: which frame stands for an instance, whether text may be burnt into it. Does not own: decoding
and cutting (`volume`, `pixels`), windows (`voi`), the layout and the words around it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps
from pydicom import Dataset, dcmread, uid

from encoder.clip import Clip, Unit
from encoder.config import Extent
from encoder.errors import UnreadableImage
from encoder.headers import quiet
from encoder.normalise import WINDOWS, normalise
from encoder.origin import Grid
from encoder.parts import Place
from encoder.region import frame_at, holds, one_frame
from encoder.rendered import middle_image
from encoder.series import LeftOut, assemble
from encoder.slices import SLICED, Group
from encoder.slide import SLIDE_CLASS
from encoder.voi import Function, Window, declared
from encoder.volume import read_clip
from encoder.waveform import ECG_CLASSES

sitk: Any = SimpleITK  # typed, but with most of its calls left untyped

_DARK, _SPECKLE_PX = 0.06, 1  # of the range; gaps between speckles that are closed
_LINE = (255, 190, 90)
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
    "VOILUTFunction", "SharedFunctionalGroupsSequence",
]  # fmt: skip


def thumbnail(
    path: Path, side_px: int, *, of_another: bool, at: Place | None = None
) -> NDArray[np.uint8]:
    """Return the middle frame of an instance as (side_px, side_px, 3), its aspect in mm kept.

    Or the frame nearest to that of a place, with a line around it. What the encoder leaves out is
    shown whole. Of another patient nothing is shown into which a name may be burnt: what is
    declared so, or neither cut to its tissue, nor declared clean, nor of a class that burns nothing
    in. Raises UnreadableImage for that and as `read_clip` does; OSError where the file cannot be
    opened.
    """
    assembly = assemble([path])
    if not assembly.groups:
        left_out = (*assembly.unreadable, *assembly.skipped)[0]
        if of_another:
            raise UnreadableImage(left_out.sop_instance_uid, left_out.reason)
        return _whole(path, side_px, left_out)
    group = _group(assembly.groups, at)
    clip = read_clip(group, Extent(1, side_px, side_px))
    with quiet():
        header = dcmread(path, stop_before_pixels=True, specific_tags=_KEYWORDS)
        if of_another and _may_name_someone(header, clip):
            raise UnreadableImage(group.frames[0].sop_instance_uid, BURNED_IN)
        frame = _windowed(_shown(clip, at), header, group)
    small = normalise(frame, Extent(1, side_px, side_px))
    shown = small.array[:, 0]
    if of_another and header.get("SOPClassUID") in _ULTRASOUND:
        shown = _largest_part(shown)
    pixels = np.moveaxis((shown * 255).round().astype(np.uint8), 0, -1)
    return pixels if at is None else _framed(pixels, small, at)


def _group(groups: Sequence[Group], at: Place | None) -> Group:
    """Choose the group that holds the frame of a place, else the one in the middle."""
    holding = (group for group in groups if at is not None and holds(group, at.frame))
    return next(holding, groups[len(groups) // 2])


def _shown(clip: Clip, at: Place | None) -> Clip:
    """Return the frame of a clip that is nearest to a place, else the middle one."""
    if at is None:
        return frame_at(clip, clip.array.shape[1] // 2)
    return one_frame(clip, number=at.frame)


def _framed(pixels: NDArray[np.uint8], small: Clip, at: Place) -> NDArray[np.uint8]:
    """Draw a line around a place in a picture (side, side, 3)."""
    if small.origin is None:
        return pixels
    side_px = len(pixels)
    grid = Grid((side_px, side_px), (small.spacing[1], small.spacing[2]))
    box = small.origin.shown(at.box, 0, grid)
    picture = Image.fromarray(pixels)
    corners = (box.left, box.top, box.right - 1, box.bottom - 1)
    ImageDraw.Draw(picture).rectangle(corners, outline=_LINE)
    return np.array(picture)


def _whole(path: Path, side_px: int, left_out: LeftOut) -> NDArray[np.uint8]:
    """Show what the encoder does not look at, such as a secondary capture, as it is."""
    try:
        image = middle_image(path)
    except UnreadableImage as error:
        raise UnreadableImage(left_out.sop_instance_uid, left_out.reason) from error
    return np.asarray(ImageOps.pad(image.convert("RGB"), (side_px, side_px)))


def _may_name_someone(header: Dataset, clip: Clip) -> bool:
    """Say so unless what a file says of itself, or its class, speaks against it.

    What an ultrasound system writes into its regions is not known of: only a file that declares
    text is left out for it.
    """
    sop_class, declared = header.get("SOPClassUID"), header.get("BurnedInAnnotation")
    if declared == "YES":
        return True
    is_cut = sop_class in _ULTRASOUND and clip.array.shape[-2:] != (header.Rows, header.Columns)
    if declared == "NO" or is_cut:  # to the tissue; the strip with the name lies outside
        return False
    grey = clip.unit is not Unit.COLOUR
    return not (sop_class in _WITHOUT_WORDS or (sop_class in _DETECTED and grey))


def _largest_part(shown: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blacken what lies apart from the largest bright part of an ultrasound: letters, scales."""
    bright = sitk.GetImageFromArray((shown.max(axis=0) > _DARK).astype(np.uint8))
    joined = sitk.BinaryMorphologicalClosing(bright, [_SPECKLE_PX] * 2)
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(joined), sortByObjectSize=True)
    largest: NDArray[np.float32] = shown * (sitk.GetArrayFromImage(parts) == 1)
    return largest


def _windowed(clip: Clip, header: Dataset, group: Group) -> Clip:
    """Show a CT in one window, that of its scanner if it names one; the encoder sees three."""
    if clip.unit is not Unit.HOUNSFIELD:
        return clip
    low, high = WINDOWS[Unit.HOUNSFIELD][1]
    soft_tissue = Window((low + high) / 2, high - low, Function.LINEAR_EXACT)
    window = declared(header, group.frames[0].index) or soft_tissue
    grey = window.apply(clip.array) * 255
    return replace(clip, array=grey, unit=Unit.COLOUR)
