"""Images read once and kept small, so that training computes and does not decode.

Owns: the cache of pre-resized arrays, what it is named by, unreadable items. Does not own: what is
cut out of them (`views`), readers (`reading`).
Each array is what the encoder would see, only larger: `normalise` has been applied. A cache is
found by names, sizes and times of files, and known by its pixels: copied files are read anew, but
a run that began with them goes on.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder.clip import Clip, Kind
from encoder.config import Extent
from encoder.errors import UnreadableImage
from encoder.normalise import RULES, normalise
from training.errors import ModalityExcluded, TrainingError
from training.manifest import Item
from training.reading import read_largest, stop_if_too_many, why_unreadable

FORMAT = 3
MAX_FRAMES = 320
EXCLUDED = frozenset({"MR"})  # the modality that shows what the encoder makes of the unseen
_PIXELS, _INDEX = "pixels.bin", "index.json"
_THREADS = 2  # decoders and SimpleITK let go of the interpreter


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one item lies in the cache: (T, H, W, C) at `offset` bytes, C = 1 where all are equal.

    `depth_px` is the distance between neighbours along T of a volume, in pixels of H and W.
    """

    path: str
    kind: Kind
    modality: str
    source: str
    shape: tuple[int, int, int, int]
    offset: int
    depth_px: float


class Images:
    """The cached arrays, mapped and not loaded; safe to read from several threads.

    The same `fingerprint` means the same pixels of the same items.
    """

    def __init__(
        self, folder: Path, fingerprint: str, entries: Sequence[Entry], unreadable: Sequence[str]
    ) -> None:
        self.folder, self.fingerprint = folder, fingerprint
        self.entries = tuple(entries)
        self.unreadable = tuple(unreadable)
        self._bytes = np.memmap(folder / _PIXELS, dtype=np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self.entries)

    def array(self, row: int) -> NDArray[np.uint8]:
        """Return (T, H, W, C) of one entry, a view into the file."""
        entry = self.entries[row]
        stop = entry.offset + int(np.prod(entry.shape))
        return self._bytes[entry.offset : stop].reshape(entry.shape)


def chosen(
    items: Sequence[Item], *, allow: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[Item, ...]:
    """Leave out modalities and sources named in `exclude`.

    Raises ModalityExcluded where MRI is left and not allowed: it is the unseen modality; and
    TrainingError where nothing is left.
    """
    kept = tuple(i for i in items if i.modality not in exclude and i.source not in exclude)
    for modality in sorted(EXCLUDED.difference(allow)):
        if count := sum(item.modality == modality for item in kept):
            raise ModalityExcluded(modality, count)
    if not kept:
        raise TrainingError("no item is left to train on: check --exclude and the manifest's split")
    return kept


def prepare(
    items: Sequence[Item], cache: Path, *, side: int, advance: Callable[[], None] = lambda: None
) -> Images:
    """Return the cached images of these items, reading them only if that was not done before.

    Raises TooManyUnreadable as `reading.stop_if_too_many` does; fewer are skipped and counted.
    """
    folder = cache / fingerprint(items, FORMAT, RULES, side, MAX_FRAMES)
    if not (folder / _INDEX).exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(items, folder, side, advance)
    index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    entries = [
        Entry(**{**e, "kind": Kind(e["kind"]), "shape": tuple(e["shape"])})
        for e in index["entries"]
    ]
    return Images(folder, index["fingerprint"], entries, index["unreadable"])


def fingerprint(items: Sequence[Item], *rules: object) -> str:
    """Name what is made of files by some rules: 16 hex digits that change with either."""
    digest = hashlib.sha256(" ".join(map(str, rules)).encode())
    for item in items:
        for file in item.files:
            stat = file.stat()
            digest.update(f"{item.path} {file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _write(items: Sequence[Item], folder: Path, side: int, advance: Callable[[], None]) -> None:
    entries: list[Entry] = []
    unreadable: list[str] = []
    offset, digest = 0, hashlib.sha256()
    with (folder / _PIXELS).open("wb") as file:
        for item, (clip, reason) in zip(items, _read_all(items, side), strict=True):
            advance()
            if clip is None:
                unreadable.append(reason)
                continue
            pixels = _quantised(clip)
            entries.append(_entry(item, clip, pixels, offset))
            digest.update(json.dumps(asdict(entries[-1])).encode())
            content = pixels.tobytes()
            digest.update(content)
            offset += file.write(content)
    stop_if_too_many(unreadable, len(items))
    index = {
        "fingerprint": digest.hexdigest()[:16],
        "entries": [asdict(entry) for entry in entries],
        "unreadable": unreadable,
    }
    beside = folder / f"{_INDEX}.writing"
    beside.write_text(json.dumps(index), encoding="utf-8")
    beside.rename(folder / _INDEX)  # last: a cache without an index does not exist


def _read_all(items: Sequence[Item], side: int) -> Iterator[tuple[Clip | None, str]]:
    def read(item: Item) -> tuple[Clip | None, str]:
        try:
            clip = read_largest(item, Extent(1, side, side))
            frames = min(clip.array.shape[1], MAX_FRAMES)
            return normalise(clip, Extent(frames, side, side)), ""
        except (UnreadableImage, OSError) as error:
            return None, why_unreadable(item, error)

    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(items), 64):  # a few at a time: a map would hold every clip
            yield from pool.map(read, items[start : start + 64])


def _quantised(clip: Clip) -> NDArray[np.uint8]:
    """Turn 0..1 (3, T, H, W) into bytes (T, H, W, C), C = 1 where the three agree."""
    grey = bool((clip.array[1:] == clip.array[:1]).all())
    array = np.moveaxis(clip.array[:1] if grey else clip.array, 0, -1)
    return np.ascontiguousarray((array * 255 + 0.5).astype(np.uint8))


def _entry(item: Item, clip: Clip, pixels: NDArray[np.uint8], offset: int) -> Entry:
    t, h, w, c = pixels.shape
    step_mm, row_mm, _ = clip.spacing
    return Entry(
        path=item.path,
        kind=clip.kind,
        modality=item.modality,
        source=item.source,
        shape=(t, h, w, c),
        offset=offset,
        depth_px=step_mm / row_mm if clip.kind is Kind.VOLUME and row_mm else 1.0,
    )
