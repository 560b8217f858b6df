"""From an item of a manifest to its clips, through the reader that the node itself uses.

Owns: which reader takes which file, how many may be unreadable. Does not own: any of the readers
(`encoder`).
"""

from collections.abc import Iterator, Sequence

from encoder.clip import Clip
from encoder.config import Extent
from encoder.errors import UnreadableImage
from encoder.plain import FILM_SUFFIXES, PICTURE_SUFFIXES, read_film, read_picture
from encoder.series import assemble
from encoder.volume import read_clip
from training.errors import TooManyUnreadable
from training.manifest import Item

MAX_UNREADABLE = 0.05  # of all items: more is a fault of the manifest, not of some files
_EXAMPLES = 3


def why_unreadable(item: Item, error: UnreadableImage | OSError) -> str:
    """Say in a line "path: reason" why an item gives no clip."""
    reason = error.reason if isinstance(error, UnreadableImage) else str(error.strerror)
    return f"{item.path}: {reason}"


def stop_if_too_many(unreadable: Sequence[str], total: int) -> None:
    """Raise TooManyUnreadable where more than `MAX_UNREADABLE` of the items cannot be read."""
    if len(unreadable) > MAX_UNREADABLE * total:
        raise TooManyUnreadable(len(unreadable), total, unreadable[:_EXAMPLES])


def read_item(item: Item, extent: Extent | None = None) -> Iterator[Clip]:
    """Yield the clips of one item; a DICOM series may hold several.

    With an `extent` the planes of volumes are shrunk to it while they are read.
    Raises UnreadableImage where a file is damaged or holds no image, OSError where it is gone.
    """
    suffix = item.files[0].suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        yield read_picture(item.files[0])
    elif suffix in FILM_SUFFIXES:
        yield read_film(item.files[0], frame_time_ms=item.frame_time_ms)
    else:
        assembly = assemble(item.files)
        if not assembly.groups:
            left_out = (*assembly.unreadable, *assembly.skipped)
            reason = left_out[0].reason if left_out else "no image in it"
            raise UnreadableImage(item.path, reason)
        for group in assembly.groups:
            yield read_clip(group, extent)


def read_largest(item: Item, extent: Extent | None = None) -> Clip:
    """Read the clip of an item that has the most frames: what one row of a manifest stands for.

    Raises as `read_item` does.
    """
    return max(read_item(item, extent), key=lambda clip: clip.array.shape[1])
