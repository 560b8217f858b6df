from dataclasses import replace

import numpy as np
from bindings import CONFIG, generated_items, known_as_it_is

from training.learned_words import PATIENTS, learned_words
from training.manifest import Item
from training.pairs import gather


def words_of(items: list[Item]) -> dict[str, tuple[str, ...]]:
    config = replace(CONFIG, captions=200)
    vectors = np.ones((len(items), 2), np.float32)
    return learned_words(gather(items, vectors, known_as_it_is(items), config))


def chests(count: int, **changes: str) -> list[Item]:
    found = [item for item in generated_items(count) if item.label == "normal"]
    return [replace(item, **changes) for item in found]


def test_words_of_captions_are_learned_by_their_modality() -> None:
    every = words_of(list(generated_items()))

    assert {"chest", "ray", "viral", "pneumonia", "no abnormality"} <= set(every["CR"])
    assert "glaucoma" in every["OP"]
    assert "glaucoma" not in every["CR"]
    assert "abnormality" not in every["CR"]
    assert every["CR"] == tuple(sorted(every["CR"]))


def test_what_is_said_of_few_patients_is_neither_learned_nor_written_down() -> None:
    named = chests(PATIENTS - 1, caption="Mr Quackenbush coughs")
    others = [replace(item, patient_id="", path=f"{item.path}.again") for item in named]
    one = [replace(item, patient_id="one") for item in chests(9, caption="seen by Zebulon")]

    assert words_of(named)["CR"] == ()
    assert "quackenbush" in words_of([*named, *others])["CR"], "images of nobody count each"
    assert "zebulon" not in words_of([*one, *chests(3)])["CR"]
    assert "chest" in words_of([*one, *chests(3)])["CR"]
