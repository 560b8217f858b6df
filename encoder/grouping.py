"""Puts the slices of a series together: which belong to one volume or one loop, in which order.

Owns: splitting by sameness, plane, moment and gaps; what to do with repeats.
Does not own: reading headers (`slices`), the vectors behind it (`geometry`).
"""

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from encoder.clip import Kind
from encoder.geometry import Geometry, breaks, orthonormal, regular
from encoder.slices import MARKS, Group, Slice

PLANE_TOLERANCE = 1e-3  # direction cosines and mm: more than rounding, less than another scan
SAME_POSITION_MM = 0.01  # table jitter is some µm; no scanner cuts thinner
SAME_POSITION_PX = 0.1  # but light does: tomograms of the retina are a few µm apart
SIDE_BY_SIDE_MM = 1.0  # within the plane; a repeat stands where the first one stood


@dataclass(frozen=True, slots=True)
class Grouping:
    """The clips of a series, and the slices that a newer one at the same place replaces."""

    groups: tuple[Group, ...]
    replaced: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A slice with the number of its place along the normal, equal for repeats."""

    cut: Slice
    place: int


_Stack = list[_Placed]


def group_slices(slices: Iterable[Slice]) -> Grouping:
    """Split slices into volumes, loops and stills so that nothing is mixed or interleaved."""
    groups: list[Group] = []
    replaced: list[Slice] = []
    for alike in _alike(slices):
        for parallel in _parallel(alike):
            for stack, mark in _split(_placed(parallel)):
                for part in _side_by_side(stack):
                    repeats = _by(part, _moment_of(mark))
                    newest = [each[-1].cut for each in repeats]
                    replaced.extend(placed.cut for each in repeats for placed in each[:-1])
                    groups.extend(_volumes(newest) if mark is None else [_loop(newest, mark)])
    return Grouping(tuple(groups), tuple(replaced))


def _alike(slices: Iterable[Slice]) -> Iterator[list[Slice]]:
    """Gather what is equal, by age; a frame of reference that no two slices share says nothing.

    Some de-identifiers give each instance a new one (LIDC-IDRI has such series).
    """
    ordered = sorted(slices, key=lambda cut: (str(cut.sameness), cut.age))
    for _, equal in groupby(ordered, key=lambda cut: str(cut.sameness)):
        parts: dict[str, list[Slice]] = {}
        for cut in equal:
            parts.setdefault(cut.frame_of_reference_uid, []).append(cut)
        if len(parts) > 2 and all(len(part) == 1 for part in parts.values()):
            yield [cut for part in parts.values() for cut in part]
        else:
            yield from parts.values()


def _parallel(slices: Iterable[Slice]) -> list[list[Slice]]:
    """Put each slice with the first one whose plane is the same within tolerance."""
    ordered = list(slices)
    clusters: list[list[Slice]] = []
    planes = np.empty((len(ordered), 8))  # of the first of each cluster
    for cut in ordered:
        apart = np.abs(planes[: len(clusters)] - cut.plane).max(axis=1)
        if (near := np.flatnonzero(apart < PLANE_TOLERANCE)).size:
            clusters[near[0]].append(cut)
        else:
            planes[len(clusters)] = cut.plane
            clusters.append([cut])
    return clusters


def _geometry(slices: Sequence[Slice]) -> Geometry:
    row, column = orthonormal(np.array([cut.plane[:6] for cut in slices]))
    return Geometry(row, column, tuple(cut.position_mm for cut in slices))


def _placed(parallel: Sequence[Slice]) -> _Stack:
    """Sort by place along the normal, and by age where it is the same."""
    along_mm = _geometry(parallel).places_mm()[:, 0]
    same_mm = min(SAME_POSITION_MM, SAME_POSITION_PX * min(parallel[0].plane[6:]))
    stack: _Stack = []
    place, start_mm = -1, -np.inf
    for number in np.argsort(along_mm, kind="stable"):
        if along_mm[number] - start_mm >= same_mm:
            place, start_mm = place + 1, along_mm[number]
        stack.append(_Placed(parallel[number], place))
    return sorted(stack, key=lambda placed: (placed.place, placed.cut.age))


def _by(stack: _Stack, key: Callable[[_Placed], Hashable]) -> list[_Stack]:
    """Gather what has one key; neither the order of the keys nor that of the slices changes."""
    parts: dict[Hashable, _Stack] = {}
    for placed in stack:
        parts.setdefault(key(placed), []).append(placed)
    return list(parts.values())


def _split(stack: _Stack, first: int = 0) -> Iterator[tuple[_Stack, int | None]]:
    """Split where positions repeat, by the first of `MARKS` that differs between the repeats.

    Yields volumes, and loops with the number of the mark that is their time. More moments than
    places are a loop at each place, otherwise a volume at each moment: the fewer clips.
    """
    places = _by(stack, lambda placed: placed.place)
    if len(places) < len(stack):
        for mark in range(first, len(MARKS)):
            moments = max(len({p.cut.marks[mark] for p in place}) for place in places)
            if moments > 1 and MARKS[mark].time and moments > len(places):
                yield from ((place, mark) for place in places)
                return
            parts = _parts(stack, mark, moments) if moments > 1 else []
            if len(parts) > 1:
                for part in parts:
                    yield from _split(part, mark + 1)
                return
    yield stack, None


def _parts(stack: _Stack, mark: int, moments: int) -> list[_Stack]:
    """Split by the value of a mark, or by its rank where every slice has values of its own."""
    parts = _by(stack, lambda placed: placed.cut.marks[mark])
    if MARKS[mark].repeats:
        whole = [part for part in parts if len(part) > 1]
        single = [placed for part in parts if len(part) == 1 for placed in part]
        if single:  # the lone slices were taken again: they replace, or complete, the rest
            most = max(whole, key=len, default=[])
            others = [part for part in whole if part is not most]
            parts = [sorted((*most, *single), key=_order), *others]
    elif MARKS[mark].time and len(parts) > moments:  # the heart does not beat evenly
        ranked: list[_Stack] = [[] for _ in range(moments)]
        for place in _by(stack, lambda placed: placed.place):
            for rank, placed in enumerate(sorted(place, key=lambda p: _moment(p.cut, mark))):
                ranked[min(rank, moments - 1)].append(placed)
        parts = ranked
    return parts


def _side_by_side(stack: _Stack) -> list[_Stack]:
    """Separate slices that share a place along the normal, but lie beside each other there."""
    stacks: list[_Stack] = []
    for place in _by(stack, lambda placed: placed.place):
        beside: list[_Stack] = []
        for placed in sorted(place, key=lambda p: (p.cut.position_mm, p.cut.age)):
            if beside and _apart_mm(beside[-1][0], placed) < SIDE_BY_SIDE_MM:
                beside[-1].append(placed)
            else:
                beside.append([placed])
        stacks.extend([] for _ in range(len(beside) - len(stacks)))
        for column, repeats in zip(stacks, beside, strict=False):
            column.extend(sorted(repeats, key=_order))
    return stacks


def _apart_mm(one: _Placed, other: _Placed) -> float:
    return math.dist(one.cut.position_mm, other.cut.position_mm)


def _moment_of(mark: int | None) -> Callable[[_Placed], Hashable]:
    """Name what only repeats share: the place in a volume, the moment in a loop."""
    return lambda placed: placed.place if mark is None else placed.cut.marks[mark]


def _order(placed: _Placed) -> tuple[object, ...]:
    return (placed.place, placed.cut.age)


def _moment(cut: Slice, mark: int) -> float:
    value = cut.marks[mark]
    return value[0] if isinstance(value, tuple) and value else -np.inf


def _loop(slices: Sequence[Slice], mark: int) -> Group:
    """Order slices at one place by time; the step is measured, else the declared one."""
    ordered = sorted(slices, key=lambda cut: _moment(cut, mark))
    if len(ordered) == 1:
        return _group(Kind.STILL, ordered, 0.0)
    for clock, scale_s in enumerate(mark.scale_s for mark in MARKS):
        moments = np.array([_moment(cut, clock) for cut in ordered])
        if scale_s and np.isfinite(moments).all() and np.median(np.diff(moments)) > 0:
            return _group(Kind.CINE, ordered, float(np.median(np.diff(moments))) * scale_s)
    return _group(Kind.CINE, ordered, ordered[0].step_s)


def _volumes(slices: Sequence[Slice]) -> Iterator[Group]:
    """Cut a stack with one slice at a place, in order along T, where its geometry breaks."""
    places_mm = _geometry(slices).places_mm()
    for start, stop in pairwise([0, *breaks(places_mm), len(slices)]):
        part = slices[start:stop]
        if len(part) == 1:
            yield _group(Kind.STILL, part, 0.0)
        else:
            yield _group(Kind.VOLUME, part, regular(places_mm[start:stop, 0]).step_mm)


def _group(kind: Kind, slices: Sequence[Slice], step: float) -> Group:
    spacing_mm = slices[0].plane[6:]
    frames = tuple(cut.frame for cut in slices)
    return Group(kind, frames, (step, spacing_mm[0], spacing_mm[1]), _geometry(slices))
