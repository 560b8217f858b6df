"""Images and sentences that belong together.

Owns: the vectors of images, which are made once and kept; groups of images of which the same is
known; captions, and of which images they are true; what a batch draws. Does not own: the words
(`captions`, `facts`), the encoder, losses (`contrast`).
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from torch import Tensor

from encoder.headers import READ_ERRORS, quiet, raise_if_missing
from encoder.normalise import RULES
from encoder.plain import FILM_SUFFIXES, PICTURE_SUFFIXES
from training import vectors_file
from training.baselines import Matrix, Method
from training.bind_config import BindConfig
from training.captions import Caption, Wordings, draw, is_true, wordings
from training.data import FORMAT, fingerprint
from training.evaluate import embed_items
from training.facts import facts_of, readable
from training.manifest import Item
from training.reports import Report

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Embedded:
    """Items that could be read, their vectors (N, C), and lines "path: reason" of the others."""

    items: tuple[Item, ...]
    vectors: Matrix
    unreadable: tuple[str, ...]


def embedded(
    items: Sequence[Item], method: Method, folder: Path, advance: Callable[[], None]
) -> Embedded:
    """Embed items, or take what an earlier call left in `folder` for these files and encoder.

    What is left also says what could not be read, and belongs to the rules that it was read by.

    Raises as `evaluate.embed_items`, and BadVectorsFile where what was left is damaged.
    """
    path = folder / f"vectors-{method.model_id}-{fingerprint(items, FORMAT, RULES)}.npz"
    left_out = path.with_suffix(".left-out.txt")
    if path.exists() and left_out.exists():
        kept = vectors_file.load(path)
        row = {name: number for number, name in enumerate(kept.ids)}
        readable = tuple(item for item in items if item.path in row)
        return Embedded(readable, kept.vectors[[row[item.path] for item in readable]],
                        tuple(left_out.read_text(encoding="utf-8").splitlines()))  # fmt: skip
    done = embed_items(items, method, advance)
    folder.mkdir(parents=True, exist_ok=True)
    left_out.write_text("\n".join(done.unreadable), encoding="utf-8")
    vectors_file.save(path, [item.path for item in done.items], done.vectors, done.model_id)
    return Embedded(done.items, done.vectors, done.unreadable)


@dataclass(frozen=True, slots=True)
class Group:
    """Images of one modality of which the same is known: their rows, and captions by number."""

    modality: str
    known: Wordings
    rows: Rows
    captions: Rows


@dataclass(frozen=True)
class Pairs:
    """Images as vectors (N, C), in groups, and every caption once."""

    paths: tuple[str, ...]
    patients: tuple[str, ...]
    vectors: Tensor
    groups: tuple[Group, ...]
    captions: tuple[Caption, ...]
    evenness: float

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """Every modality, in order of its name."""
        return tuple(sorted({group.modality for group in self.groups}))

    @cached_property
    def group_of(self) -> Rows:
        """Number of the group of every image (N,)."""
        numbers = np.empty(len(self.paths), dtype=np.intp)
        for number, group in enumerate(self.groups):
            numbers[group.rows] = number
        return numbers

    @cached_property
    def modality_of(self) -> Rows:
        """Number of the modality of every image (N,)."""
        of_group = [self.modalities.index(group.modality) for group in self.groups]
        return np.array(of_group, dtype=np.intp)[self.group_of]

    @cached_property
    def fingerprint(self) -> str:
        """Name all that can be drawn."""
        digest = hashlib.sha256(self.vectors.numpy().tobytes())
        for caption in self.captions:
            digest.update(caption.text.encode() + b"\n")
        digest.update(self.group_of.tobytes() + "".join(self.modalities).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def _chances(self) -> NDArray[np.float64]:
        """Give modalities the same chance, and in each a group its size to the `evenness`."""
        sizes = np.array([float(len(group.rows)) ** self.evenness for group in self.groups])
        of_group = np.array([group.modality for group in self.groups])
        for modality in self.modalities:
            sizes[of_group == modality] /= sizes[of_group == modality].sum()
        return sizes / len(self.modalities)

    def drawn(self, stream: np.random.Generator, count: int) -> tuple[Rows, Rows]:
        """Draw images, evenly over modalities, and a caption of each: numbers (count,) of both."""
        chosen = stream.choice(len(self.groups), size=count, p=self._chances)
        images = [stream.choice(self.groups[number].rows) for number in chosen]
        said = [stream.choice(self.groups[number].captions) for number in chosen]
        return np.array(images, dtype=np.intp), np.array(said, dtype=np.intp)

    def truth(self, images: Rows, captions: Rows) -> Tensor:
        """Say of which images captions are true: 1, else -1, 0 where it is not known, (B, S)."""
        groups, place = np.unique(self.group_of[images], return_inverse=True)
        judged = [
            [_SIGNS[is_true(self.captions[c], self.groups[g].known)] for c in captions]
            for g in groups
        ]
        return torch.tensor(judged, dtype=torch.float32)[torch.from_numpy(place)]


_SIGNS: Mapping[bool | None, float] = {True: 1.0, False: -1.0, None: 0.0}


def gather(items: Sequence[Item], vectors: Matrix, known: Mapping[str, Wordings],
           config: BindConfig) -> Pairs:  # fmt: skip
    """Group images by what is known of them and draw captions of each group, by the seed.

    No more than `config.most_captions` in all: groups get fewer each, and at last some get none
    and are left out with their images, drawn by the seed.
    """
    rows: dict[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], list[int]] = {}
    for row, item in enumerate(items):
        said = tuple(sorted(known[item.path].items()))
        rows.setdefault((item.modality, said), []).append(row)
    every = sorted(rows.items())
    if len(every) > config.most_captions:
        every = sorted(random.Random(config.seed).sample(every, config.most_captions))
        kept = sorted(row for _, members in every for row in members)
        place = {row: number for number, row in enumerate(kept)}
        every = [(said, [place[row] for row in members]) for said, members in every]
        items, vectors = [items[row] for row in kept], vectors[kept]
    count = max(1, min(config.captions, config.most_captions // max(1, len(every))))
    numbers: dict[Caption, int] = {}
    groups: list[Group] = []
    for (modality, facts), members in every:
        stream = random.Random(f"{config.seed} {modality} {facts}")
        mine = draw(dict(facts), stream, count=count)
        its = np.array([numbers.setdefault(each, len(numbers)) for each in mine], dtype=np.intp)
        groups.append(Group(modality, dict(facts), np.array(members, dtype=np.intp), its))
    return Pairs(
        paths=tuple(item.path for item in items),
        patients=tuple(item.patient_id for item in items),
        vectors=torch.from_numpy(vectors),
        groups=tuple(groups),
        captions=tuple(numbers),
        evenness=config.evenness,
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of items by path, reports of other studies, texts that could not be read."""

    wordings: Mapping[str, Wordings]
    others: tuple[Report, ...]
    unread: frozenset[str]


def known_of(
    items: Sequence[Item], reports: Sequence[Report], knows: Callable[[str], bool]
) -> Known:
    """Gather what is known of each item, reports of its study as comments, as far as it is read.

    Raises OSError where a file is gone.
    """
    of_study: dict[str, dict[str, None]] = {}  # sentences of all reports of a study, each once
    for one in reports:
        if uid := one.study_instance_uid:
            of_study.setdefault(uid, {}).update(dict.fromkeys(one.sentences))
    known: dict[str, Wordings] = {}
    met: set[str] = set()
    unread: set[str] = set()
    for item in items:
        header = _header(item)
        facts = facts_of(item, header)
        uid = _study(header)
        if (reported := of_study.get(uid)) is not None:
            facts = replace(facts, comments=(*facts.comments, *reported))
            met.add(uid)
        facts, its = readable(facts, knows)
        unread |= its
        known[item.path] = wordings(facts)
    others = tuple(one for one in reports if one.study_instance_uid not in met)
    return Known(known, others, frozenset(unread))


def not_of(items: Sequence[Item], reports: Sequence[Report]) -> tuple[Report, ...]:
    """Leave out the reports of the studies of some items, as those of the eval split.

    A report that does not say its study stays. Raises OSError where a file is gone.
    """
    theirs = {_study(_header(item)) for item in items} - {""}
    return tuple(one for one in reports if one.study_instance_uid not in theirs)


def neighbours(reports: Sequence[Report]) -> Iterator[tuple[str, str]]:
    """Pair each sentence of a report with the next: they speak of one case."""
    for report in reports:
        yield from zip(report.sentences, report.sentences[1:], strict=False)


def _study(header: Dataset | None) -> str:
    return "" if header is None else str(header.get("StudyInstanceUID") or "")


def _header(item: Item) -> Dataset | None:
    """Read the header of an item's first file; None for a picture, a film or a damaged file."""
    path = item.files[0]
    if path.suffix.lower() in PICTURE_SUFFIXES | FILM_SUFFIXES:
        return None
    with quiet():
        try:
            return dcmread(path, stop_before_pixels=True)
        except READ_ERRORS as error:
            raise_if_missing(error)
            return None
