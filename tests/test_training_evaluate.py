from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluations import write_manifest

from training.baselines import Pixels
from training.errors import NothingToScore, TooManyUnreadable
from training.evaluate import COLUMNS, Embedded, as_json, embed_items, evaluate, in_common, table
from training.manifest import Item, read_items


def made(folder: Path, *, per_class: int = 6) -> tuple[Item, ...]:
    return read_items(write_manifest(folder, per_class=per_class))


def embedded(items: tuple[Item, ...]) -> Embedded:
    return embed_items(items, Pixels(), lambda: None)


def test_every_item_gets_its_row_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    items = made(tmp_path)
    steps: list[int] = []

    forward = embed_items(items, Pixels(), lambda: steps.append(1))
    backward = embedded(items[::-1])

    assert forward.items == items
    assert len(steps) == len(items)
    assert np.abs(forward.vectors) == pytest.approx(np.abs(backward.vectors[::-1]), abs=1e-3)


def test_an_item_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    items = made(tmp_path, per_class=7)
    (tmp_path / "stripes-1.png").write_bytes(b"no picture")

    found = embedded(items)

    assert [item.path for item in items if item not in found.items] == ["stripes-1.png"]
    (line,) = found.unreadable
    assert line.startswith("stripes-1.png: no JPEG or PNG")
    assert len(found.vectors) == len(items) - 1


def test_more_than_one_in_twenty_unreadable_stops(tmp_path: Path) -> None:
    items = made(tmp_path)
    (tmp_path / "stripes-1.png").unlink()

    with pytest.raises(TooManyUnreadable, match=r"1 of 18 items .* stripes-1\.png: No such file"):
        embedded(items)


def test_classes_that_differ_are_found_and_stand_beside_chance(tmp_path: Path) -> None:
    said = as_json(evaluate("pixels", embedded(made(tmp_path, per_class=9))))

    source = said["sources"]["made"]
    assert (source["queries"], source["gallery"], source["resampled_units"]) == (9, 18, 9)
    at_one = source["metrics"]["P@1"]
    assert at_one["value"] == 1.0
    assert at_one["interval"] == [1.0, 1.0]
    assert 0.25 < at_one["chance"] < 0.35
    assert at_one["majority"] == pytest.approx(1 / 3)
    assert said["macro"] == source["metrics"]


def test_a_source_that_gives_no_score_is_named_beside_the_others(tmp_path: Path) -> None:
    found = embedded(made(tmp_path))
    others = tuple(replace(item, source="trained on") for item in found.items if item.label)
    train_only = tuple(item for item in others if item.split == "train")
    rows = [found.items.index(replace(item, source="made")) for item in train_only]
    both = Embedded(
        (*found.items, *train_only), np.concatenate([found.vectors, found.vectors[rows]]), "x", ()
    )

    said = as_json(evaluate("pixels", both))

    assert list(said["sources"]) == ["made"]
    assert said["not_scorable"] == {"trained on": "no labelled item of the eval split"}


def test_one_class_says_that_there_is_nothing_to_score(tmp_path: Path) -> None:
    items = tuple(item for item in made(tmp_path, per_class=9) if item.label == "stripes")

    with pytest.raises(NothingToScore, match="made: the gallery has one class only"):
        evaluate("pixels", embedded(items))


def test_the_table_has_chance_and_majority_above_every_encoder(tmp_path: Path) -> None:
    found = evaluate("pixels", embedded(made(tmp_path)))

    rows = table([found, replace(found, encoder="again")])

    assert {len(row) for row in rows} == {len(COLUMNS)}
    per_source = ["(chance)", "(majority)", "pixels", "again"]
    assert [row[:2] for row in rows] == [
        (name, encoder) for name in ("made", "macro") for encoder in per_source
    ]


def test_all_encoders_are_asked_about_the_items_that_all_could_read(tmp_path: Path) -> None:
    whole = embedded(made(tmp_path))
    gap = replace(whole, items=whole.items[1:], vectors=whole.vectors[1:])

    first, second = in_common([whole, gap])

    assert first.items == second.items == whole.items[1:]
    assert (first.vectors == second.vectors).all()
