"""Classes told by words alone: each label is an ensemble of prompts in a text space.

Owns: the vector of a label, which facts a prompt may say, zero-shot scores beside those of a few
shots. Does not own: the prompts (`captions`), the score (`classification`).
Source: prompt ensembles in the space of the embeddings, arXiv:2103.00020 section 3.1.4.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from encoder.text_space import TextSpace
from training.baselines import Matrix
from training.captions import prompts
from training.classification import Accuracy, Choice, accuracy, choices, macro, row
from training.evaluate import Embedded, placed
from training.facts import Facts, readable
from training.few_shot import HEADS, learnt
from training.findings import Findings, Row
from training.manifest import Item
from training.scores import unit_rows
from training.tasks import Names, NotScorable, nothing_of

FEW_SHOT_HEAD = "logistic regression"
METRIC = "balanced accuracy"
RULE = (
    "balanced accuracy of the eval items of each source, told into the classes of its train items; "
    "zero-shot: the label with the nearest mean of its prompts, which say modality, kind and body "
    "part where all items of the source share them (the captions that the space was bound with may "
    f"have said these labels); shots: {FEW_SHOT_HEAD} on the encoder's vectors of so many train "
    "items a class; 95 % over patients"
)


def label_vectors(space: TextSpace, labels: Sequence[str], facts: Facts) -> Matrix:
    """Return a unit row for each label (K, D): the mean of all prompts that say it.

    Raises BadText where a label cannot be read.
    """
    facts, _ = readable(facts, space.knows)
    means = [space.texts(prompts(label, facts)).mean(axis=0) for label in labels]
    return unit_rows(np.stack(means))


def zero_shot(name: str, embedded: Embedded, space: TextSpace, *, seed: int = 0) -> Findings:
    """Score the space, and beside it shots on the vectors of the encoder that it was bound to.

    Raises NothingToScore where no source has classes to tell apart.
    """
    scored, left_out = choices(embedded.items)
    read = {one.name: all(map(space.knows, one.classes)) for one in scored}
    foreign = "a label cannot be read: only English is understood"
    left_out += [NotScorable(one, foreign) for one, known in read.items() if not known]
    scored = [one for one in scored if read[one.name]]
    if not scored:
        raise nothing_of(left_out)
    images = placed(embedded, space).vectors
    labels = np.array([item.label for item in embedded.items])
    rows: list[Row] = []
    found: dict[str, list[dict[str, Accuracy]]] = {}
    for choice in scored:
        told = _told(choice, embedded.items, images, space)
        right = (told == choice.labels)[None]
        methods = {f"{space.name}, zero-shot": accuracy(choice, right, seed=seed)}
        if choice.learnt.size:
            few = learnt(choice, embedded.vectors, labels, HEADS[FEW_SHOT_HEAD], seed=seed)
            methods |= {f"{name}, {count}": each for count, each in few.items()}
        for method, one in methods.items():
            rows.append(row(choice, method, {METRIC: one}))
            found.setdefault(method, []).append({METRIC: one})
    return Findings(
        task="zero-shot",
        rule=RULE,
        rows=(*rows, *macro(found)),
        model_ids={name: embedded.model_id, space.name: space.space_id},
        unreadable=embedded.unreadable,
        not_scorable=tuple(left_out),
    )


def shared_facts(items: Sequence[Item]) -> Facts:
    """Return the commonest kind, and modality and body part where all items have the same.

    A body part that only some have could give a class away by the words of its prompts.
    """
    (kind, _), *_ = Counter(item.kind for item in items).most_common()
    modalities = {item.modality for item in items}
    body_parts = {item.body_part for item in items}
    return Facts(
        kind=kind,
        modality=modalities.pop() if len(modalities) == 1 else "",
        body_part=body_parts.pop() if len(body_parts) == 1 else "",
    )


def _told(choice: Choice, items: Sequence[Item], images: Matrix, space: TextSpace) -> Names:
    """Name the label nearest to each tested image (T,)."""
    of_source = [items[row] for row in (*choice.tested, *choice.learnt)]
    words = label_vectors(space, choice.classes, shared_facts(of_source))
    nearest = (images[choice.tested] @ words.T).argmax(axis=1)
    told: Names = np.array(choice.classes)[nearest]
    return told
