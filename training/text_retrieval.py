"""Sentences that look for images and images that look for sentences, in one text space.

Owns: which sentences are asked, which answers are right, scores with chance and interval. Does not
own: the grammar (`captions`), the metrics (`scores`).

A sentence asks where a label's prompt or a doctor's comment says it of an eval image. It is right
for every image of which the grammar can say it, word for word: one that names no modality is right
for several, and an image has several right sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoder.text_space import TextSpace
from training.baselines import Matrix
from training.captions import every_caption, prompts
from training.errors import NothingToScore
from training.evaluate import Embedded, placed
from training.facts import Facts, facts_of, readable
from training.findings import Figure, Findings, Row
from training.manifest import Split
from training.resampling import Array, Units, interval, resampled_means, times_drawn, units_of
from training.scores import DEPTH, METRICS, chance_of, metrics_of
from training.tasks import NotScorable, Rows, names

RULE = (
    "eval items only; sentences: all prompts of their labels, and doctors' comments; right is "
    "every image of which the caption grammar can say the sentence, word for word, and every such "
    "sentence of an image; A: in the gallery of modality A, A among all: sentences of A in the "
    "gallery of all; modality@10: share of the first 10 with the modality of a right image; 95 % "
    "over patients, for sentences over those of the gallery"
)
SHOWN = ("R@1", "R@5", "R@10", "P@10")
MODALITY = "modality@10"
_PLACES = [METRICS.index(name) for name in SHOWN]
_CUTS = (1, 5, 10)

Right = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Asked:
    """Images (N, D) with their modalities (N,) and patients, sentences (S, D), and `right` (S, N).

    `like` (S, N): the image has the modality of a right one. `unread` counts labels and comments
    that cannot be asked with.
    """

    images: Matrix
    modalities: NDArray[np.str_]
    units: Units
    texts: Matrix
    right: Right
    like: Right
    unread: int = 0

    def of(self, sentences: Rows, images: Rows) -> "Asked":
        """Keep some sentences and some images."""
        cut = np.ix_(sentences, images)
        return Asked(
            self.images[images],
            self.modalities[images],
            self.units[images],
            self.texts[sentences],
            self.right[cut],
            self.like[cut],
        )


def text_retrieval(name: str, embedded: Embedded, space: TextSpace, *, seed: int = 0) -> Findings:
    """Score both ways in every modality, and among all of them where there are several.

    Raises NothingToScore where no eval item has a label or a comment that can be read.
    """
    every = asked(embedded, space)
    present = sorted(set(every.modalities))
    everyone = np.arange(len(every.images))
    rows: list[Row] = []
    for modality in present:
        mine = np.flatnonzero(every.modalities == modality)
        sentences = np.flatnonzero(every.right[:, mine].any(axis=1))
        if sentences.size:
            rows += _both_ways(modality, space.name, every.of(sentences, mine), seed)
        if sentences.size and len(present) > 1:
            among = every.of(sentences, everyone)
            rows.append(_to_images(f"{modality} among all", space.name, among, seed))
    if len(present) > 1:
        rows += _both_ways("all", space.name, every, seed)
    return Findings(
        task="text-retrieval",
        rule=RULE,
        rows=tuple(rows),
        model_ids={name: embedded.model_id, space.name: space.space_id},
        unreadable=embedded.unreadable,
        not_scorable=_unasked(every.unread),
    )


def _unasked(count: int) -> tuple[NotScorable, ...]:
    """Say how many labels and comments were left out, if any."""
    reason = f"{count} cannot be read: only English is understood"
    return (NotScorable("labels and comments", reason),) if count else ()


def asked(embedded: Embedded, space: TextSpace) -> Asked:
    """Bring eval images and the sentences about them into the space.

    Raises NothingToScore as above.
    """
    kept = [n for n, item in enumerate(embedded.items) if item.split is Split.EVAL]
    items = [embedded.items[row] for row in kept]
    read = [readable(facts_of(item), space.knows) for item in items]
    facts = [its for its, _ in read]
    sentences = sorted({sentence for each in set(facts) for sentence in questions(each)})
    if not sentences:
        raise NothingToScore("no eval item has a label or a comment that can be read")
    right = _right(sentences, facts)
    modalities = names(items, "modality")
    return Asked(
        images=placed(embedded, space).vectors[kept],
        modalities=modalities,
        units=units_of(names(items, "patient_id")),
        texts=space.texts(sentences),
        right=right,
        like=_like(right, modalities),
        unread=len(frozenset().union(*(unread for _, unread in read))),
    )


def questions(facts: Facts) -> tuple[str, ...]:
    """Return the sentences that ask for such an image: what its label and its doctors say."""
    return (*(prompts(facts.label, facts) if facts.label else ()), *facts.comments)


def _right(sentences: Sequence[str], facts: Sequence[Facts]) -> Right:
    """Say which sentences (S,) can be said of which images, (S, N)."""
    said = {each: every_caption(each) for each in set(facts)}
    columns = {each: np.array([one in said[each] for one in sentences]) for each in said}
    return np.stack([columns[each] for each in facts], axis=1)


def _like(right: Right, modalities: NDArray[np.str_]) -> Right:
    """Say of which images the modality is that of a right one, (S, N)."""
    _, number = np.unique(modalities, return_inverse=True)
    member = number[:, None] == np.arange(number.max() + 1)
    like: Right = ((right @ member) > 0)[:, number]
    return like


def _both_ways(name: str, method: str, every: Asked, seed: int) -> list[Row]:
    return [_to_images(name, method, every, seed), _to_texts(name, method, every, seed)]


def _to_texts(name: str, method: str, every: Asked, seed: int) -> Row:
    """Ask with every image that has a right sentence; patients are drawn anew."""
    kept = every.right.any(axis=0)
    cosines, right = (every.images @ every.texts.T)[kept], every.right.T[kept]
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :DEPTH]
    relevant = right.sum(axis=1)
    values = metrics_of(_filled(np.take_along_axis(right, order, axis=1)), relevant)[:, _PLACES]
    sizes = np.full(len(right), len(every.texts))
    chance = chance_of(relevant, sizes).mean(axis=0)[_PLACES]
    units = every.units[kept]
    drawn = None
    if len(np.unique(units)) > 1:
        drawn = resampled_means(values, units, np.random.default_rng(seed))
    figures = _figures(SHOWN, values.mean(axis=0), drawn, chance)
    return Row(f"{name}: image to text", method, len(right), len(np.unique(units)), figures)


def _to_images(name: str, method: str, every: Asked, seed: int) -> Row:
    """Ask with every sentence; patients of the gallery are drawn anew."""
    cosines = every.texts @ every.images.T
    order = np.argsort(-cosines, axis=1, kind="stable")
    right = np.take_along_axis(every.right, order, axis=1)
    like = np.take_along_axis(every.like, order, axis=1)
    relevant, sizes = right.sum(axis=1), np.full(len(right), right.shape[1])
    values = metrics_of(_filled(right[:, :DEPTH]), relevant)[:, _PLACES].mean(axis=0)
    shown = min(DEPTH, right.shape[1])
    values = np.append(values, like[:, :shown].mean())
    chance = chance_of(relevant, sizes).mean(axis=0)[_PLACES]
    chance = np.append(chance, like.mean())
    drawn = None
    if len(np.unique(every.units)) > 1:
        drawn = _redrawn(order, right, like, every.units, seed)
    figures = _figures((*SHOWN, MODALITY), values, drawn, chance)
    if every.like.all():
        del figures[MODALITY]  # there is no other modality
    return Row(f"{name}: text to image", method, len(right), len(np.unique(every.units)), figures)


def _redrawn(order: Rows, right: Right, like: Right, units: Units, seed: int) -> Array:
    """Draw the patients of the gallery anew: means over the sentences (RESAMPLES, M).

    A sentence without a right image in a draw does not count in it, nor does a draw without any.
    """
    drawn, column = times_drawn(units, np.random.default_rng(seed))
    per_sentence = []
    for ranking, hits, alike in zip(order, right, like, strict=True):
        times = drawn[:, column[ranking]]
        places = np.cumsum(times, axis=1)
        found = [hits_within(cut, times, places, hits) for cut in _CUTS]
        shown = np.minimum(places[:, -1], DEPTH)
        values = np.column_stack(
            [
                *(each > 0 for each in found),
                found[-1] / DEPTH,
                hits_within(DEPTH, times, places, alike) / shown,
            ]
        )
        values[times @ hits == 0] = np.nan
        per_sentence.append(values)
    stacked = np.stack(per_sentence)
    counted = (~np.isnan(stacked)).sum(axis=0)
    means: Array = np.nansum(stacked, axis=0)[counted[:, 0] > 0] / counted[counted[:, 0] > 0]
    return means


def hits_within(cut: int, times: Array, places: Array, hits: Right) -> Array:
    """Count the hits (R,) among the first `cut` of a ranking in which items stand `times`."""
    within: Array = (times - (places - cut).clip(0, times)) @ hits
    return within


def _figures(
    shown: Sequence[str], values: Array, drawn: Array | None, chance: Array
) -> dict[str, Figure]:
    bounds = [None] * len(shown) if drawn is None else interval(drawn)
    parts = zip(shown, values, bounds, chance, strict=True)
    return {name: Figure(float(value), bound, float(by)) for name, value, bound, by in parts}


def _filled(hits: Right) -> Right:
    """Fill the hits of a short gallery up to DEPTH with misses."""
    return np.pad(hits, ((0, 0), (0, DEPTH - hits.shape[1])))
