"""Generated images and words of five modalities, and settings that bind them in a second.

Nothing here was ever an image: the vectors are drawn around a centre for each finding, and the
records say "generated" where a source stands. Retina and ECG are among them because no images of
either are at hand.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from towers import small_tower

from encoder.clip import Kind
from training.bind_config import BindConfig
from training.captions import Wordings, wordings
from training.facts import facts_of
from training.manifest import Item, Split
from training.pairs import Pairs, gather
from training.text_space import Materials

WIDTH = 16
ENCODER = "0123456789abcdef"
# Modality, kind, body part, findings: the retina as photographs and as OCT, the heart as an ECG.
KINDS = (
    ("CR", Kind.STILL, "CHEST", ("normal", "viral pneumonia")),
    ("US", Kind.CINE, "BREAST", ("benign", "malignant")),
    ("OP", Kind.STILL, "RETINA", ("glaucoma", "diabetic retinopathy")),
    ("OPT", Kind.VOLUME, "RETINA", ("drusen", "macular edema")),
    ("ECG", Kind.STILL, "HEART", ("sinus rhythm", "atrial fibrillation")),
)
CONFIG = BindConfig(
    dim=8, bf16=False, captions=12, terms=20, rank=2, alpha=2.0, adapt_steps=2, adapt_batch=8,
    bind_steps=25, bind_batch=20, unify_steps=25, unify_batch=20, bind_lr=1e-2, unify_lr=1e-2,
)  # fmt: skip


def generated_items(of_each: int = 6) -> tuple[Item, ...]:
    """Return rows of a manifest whose files do not exist and are named as pictures."""
    return tuple(
        Item(
            path=f"generated/{modality}-{label}-{number}.png",
            files=(Path(f"generated-{modality}-{number}.png"),),
            split=Split.TRAIN,
            kind=kind,
            modality=modality,
            body_part=part,
            label=label,
            patient_id=f"{modality}{number}",
            source="generated",
        )
        for modality, kind, part, labels in KINDS
        for label in labels
        for number in range(of_each)
    )


def generated_vectors(items: tuple[Item, ...], noise: float = 0.3) -> np.ndarray:
    """Draw a unit row around the centre of each item's label."""
    draws = np.random.default_rng(0)
    centres = {label: draws.normal(size=WIDTH) for label in sorted({i.label for i in items})}
    rows = np.stack([centres[i.label] + noise * draws.normal(size=WIDTH) for i in items])
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float32)


def generated_pairs(config: BindConfig = CONFIG, of_each: int = 6) -> Pairs:
    """Gather the generated items."""
    items = generated_items(of_each)
    return gather(items, generated_vectors(items), known_as_it_is(items), config)


def known_as_it_is(items: Sequence[Item]) -> dict[str, Wordings]:
    """Say what the rows of a manifest do, whatever can be read."""
    return {item.path: wordings(facts_of(item)) for item in items}


def generated_materials(config: BindConfig = CONFIG) -> Materials:
    """Return what a binding of the generated items is made of, with a drawn tower."""
    return Materials(generated_pairs(config), (), small_tower(), ENCODER)


def small_bind_config(**changes: object) -> BindConfig:
    """Return the settings of these tests with some changed."""
    return replace(CONFIG, **changes)


class Watch:
    """Stops after as many steps as it is told and remembers what was logged."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.asked = stop_at, 0
        self.logged: list[dict[str, float]] = []

    def log(self, step: int, values: dict[str, float]) -> None:
        self.logged.append(values)

    def stopping(self) -> bool:
        self.asked += 1
        return self.asked == self.stop_at
