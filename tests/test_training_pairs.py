from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bindings import (
    CONFIG,
    generated_items,
    generated_pairs,
    generated_vectors,
    known_as_it_is,
)
from imagesets import write_images
from pydicom import dcmread
from towers import CONFIG as TOWER
from towers import VOCABULARY

from encoder.wordpiece import Tokeniser
from training import phantoms
from training.baselines import SimilisEncoder, untrained
from training.captions import Caption, wordings
from training.errors import BadVectorsFile
from training.facts import LONGEST, facts_of
from training.manifest import read_items
from training.pairs import embedded, gather, known_of, neighbours, not_of
from training.reports import Report

PAIRS = generated_pairs()
KNOWS = Tokeniser(VOCABULARY, tokens=TOWER.tokens).knows


def test_images_of_which_the_same_is_known_are_one_group_with_one_set_of_captions() -> None:
    assert len(PAIRS.groups) == 10
    assert sorted(row for group in PAIRS.groups for row in group.rows) == list(range(60))
    for group in PAIRS.groups:
        assert len(group.captions) == CONFIG.captions
        assert {PAIRS.paths[row].split("-")[0] for row in group.rows} == {
            f"generated/{group.modality}"
        }


def test_a_caption_is_true_of_every_image_that_could_have_been_said_so() -> None:
    rows = {group.modality: group.rows[0] for group in PAIRS.groups}
    said = [
        Caption("x-ray", (("image", "x-ray"),)),
        Caption("glaucoma", (("finding", "glaucoma"),)),
        Caption("left eye", (("side", "left"),)),
        Caption("right x-ray", (("image", "x-ray"), ("side", "right"))),
    ]
    pairs = replace(PAIRS, captions=tuple(said))
    images = np.array([rows["CR"], rows["ECG"]])
    truth = pairs.truth(images, np.arange(4))
    # Of no image is the side known; yet where the rest is false, so is the whole.
    assert truth.tolist() == [[1, -1, 0, 0], [-1, -1, 0, -1]]


def test_what_a_group_says_is_true_of_it() -> None:
    for group in PAIRS.groups:
        assert (PAIRS.truth(group.rows, group.captions) == 1).all()


def test_rare_modalities_are_drawn_as_often_as_common_ones() -> None:
    items = generated_items(20)
    kept = tuple(item for item in items if item.modality != "ECG" or item.path.endswith("-0.png"))
    pairs = gather(kept, generated_vectors(kept), known_as_it_is(kept), CONFIG)
    images, captions = pairs.drawn(np.random.default_rng(1), 3000)
    assert len(images) == len(captions) == 3000
    shares = np.bincount(pairs.modality_of[images]) / 3000
    np.testing.assert_allclose(shares, 0.2, atol=0.03)
    own = [pairs.truth(images[n : n + 1], captions[n : n + 1]).item() for n in range(50)]
    assert own == [1.0] * 50


@pytest.mark.parametrize(("evenness", "share"), [(0.0, 1 / 2), (1.0, 1 / 5)])
def test_evenness_says_how_often_a_small_group_is_drawn(evenness: float, share: float) -> None:
    items = [i for i in generated_items(12) if i.modality == "CR"]
    few = [i for i in items if i.label != "normal"][:3]
    kept = (*(i for i in items if i.label == "normal"), *few)
    config = replace(CONFIG, evenness=evenness)
    pairs = gather(kept, generated_vectors(kept), known_as_it_is(kept), config)
    images, _ = pairs.drawn(np.random.default_rng(1), 3000)
    rare = np.mean(["viral" in pairs.paths[row] for row in images])
    assert rare == pytest.approx(share, abs=0.03)


def test_the_fingerprint_changes_with_images_and_words() -> None:
    assert generated_pairs().fingerprint == PAIRS.fingerprint
    moved = replace(PAIRS, vectors=PAIRS.vectors + 1e-4)
    said = replace(PAIRS, captions=(Caption("other", ()), *PAIRS.captions[1:]))
    assert len({PAIRS.fingerprint, moved.fingerprint, said.fingerprint}) == 3


def test_images_are_embedded_once_and_again_when_they_change(tmp_path: Path) -> None:
    items = read_items(write_images(tmp_path))[:3]
    encoder, calls = SimilisEncoder(untrained(), "images", device="cpu"), list[int]()
    first = embedded(items, encoder, tmp_path / "out", lambda: calls.append(1))
    again = embedded(items, encoder, tmp_path / "out", lambda: calls.append(2))
    assert calls == [1, 1, 1]
    assert again.items == first.items == items
    np.testing.assert_array_equal(again.vectors, first.vectors)
    items[0].files[0].write_bytes(items[2].files[0].read_bytes())
    changed = embedded(items, encoder, tmp_path / "out", lambda: calls.append(3))
    assert calls.count(3) == 3
    assert not np.array_equal(changed.vectors, first.vectors)


def test_what_could_not_be_read_is_still_told_when_vectors_are_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = list(read_items(write_images(tmp_path))[:22])
    items[1].files[0].write_bytes(b"no picture")
    encoder = SimilisEncoder(untrained(), "images", device="cpu")
    first = embedded(items, encoder, tmp_path / "out", lambda: None)
    again = embedded(items, encoder, tmp_path / "out", lambda: None)
    assert len(first.items) == len(again.items) == 21
    assert again.unreadable == first.unreadable
    assert again.unreadable[0].startswith(f"{items[1].path}: ")
    monkeypatch.setattr("training.pairs.RULES", -1)
    calls = list[int]()
    embedded(items, encoder, tmp_path / "out", lambda: calls.append(1))
    assert len(calls) == 22, "vectors of other rules of reading are not taken"


def test_captions_are_no_more_than_the_most_and_groups_without_any_are_left_out() -> None:
    fewer = generated_pairs(replace(CONFIG, most_captions=40))
    assert len(fewer.paths) == 60
    assert [len(group.captions) for group in fewer.groups] == [4] * 10
    few = generated_pairs(replace(CONFIG, most_captions=7))
    assert len(few.groups) == len(set(few.group_of)) == 7
    assert (len(few.captions), len(few.paths), len(few.vectors)) == (7, 42, 42)
    for row, path in enumerate(few.paths):
        kept = PAIRS.paths.index(path)
        assert torch.equal(few.vectors[row], PAIRS.vectors[kept])
        group, of_all = few.groups[few.group_of[row]], PAIRS.groups[PAIRS.group_of[kept]]
        assert (group.known, few.patients[row]) == (of_all.known, PAIRS.patients[kept])
    other = generated_pairs(replace(CONFIG, most_captions=7, seed=5))
    assert other.paths != few.paths, "the seed draws"
    images, captions = few.drawn(np.random.default_rng(1), 50)
    assert images.max() < 42 and captions.max() < 7


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    items = read_items(write_images(tmp_path))[:2]
    encoder = SimilisEncoder(untrained(), "images", device="cpu")
    embedded(items, encoder, tmp_path / "out", lambda: None)
    (left,) = (tmp_path / "out").glob("*.npz")
    left.write_bytes(left.read_bytes()[:100])
    with pytest.raises(BadVectorsFile):
        embedded(items, encoder, tmp_path / "out", lambda: None)


def test_a_report_is_said_of_the_images_of_its_study_and_else_left_for_the_language(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "ct"
    folder.mkdir()
    paths = phantoms.ct_series(folder, new_uid=phantoms.uid_source(1), slices=2, size=16, seed=1)
    uid = str(dcmread(paths[0]).StudyInstanceUID)
    items = read_items(folder)
    its, other = Report(uid, ("Clear lungs", "No effusion")), Report("1.2.3", ("One", "Two"))
    addendum = Report(uid, ("No effusion", "Small nodule"))
    found = known_of(items, [its, other, addendum], KNOWS)
    (said,) = found.wordings.values()
    assert said["comment"] == ("Clear lungs", "No effusion", "Small nodule")
    assert found.others == (other,)
    assert list(neighbours(found.others)) == [("One", "Two")]


def test_words_in_another_script_are_left_out_wherever_they_stand_and_the_rest_is_said() -> None:
    first, second, third = generated_items()[:3]
    items = (
        replace(first, caption="Small nodule. | Без патологии"),
        replace(second, label="肺炎", body_part="ΘΩΡΑΚΑΣ"),
        replace(third, caption="???", label="x" * (LONGEST + 1)),
    )
    found = known_of(items, [Report("", ("Grüne Lunge",))], KNOWS)
    assert found.unread == {"Без патологии", "肺炎", "ΘΩΡΑΚΑΣ", "???", "x" * (LONGEST + 1)}
    said = [found.wordings[item.path] for item in items]
    assert said[0]["comment"] == ("Small nodule",)
    assert said[0]["finding"] == wordings(facts_of(first))["finding"]
    assert not {"finding", "part"} & said[1].keys()
    assert not {"finding", "comment"} & said[2].keys()
    pairs = gather(items, generated_vectors(items), found.wordings, CONFIG)
    assert all(KNOWS(caption.text) for caption in pairs.captions)


def test_reports_of_studies_that_are_held_out_are_left_out(tmp_path: Path) -> None:
    folders = [tmp_path / "ct", tmp_path / "other"]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        phantoms.ct_series(folder, new_uid=phantoms.uid_source(seed), slices=2, size=16, seed=seed)
    mine, theirs = (read_items(folder) for folder in folders)
    uids = [str(dcmread(items[0].files[0]).StudyInstanceUID) for items in (mine, theirs)]
    reports = [Report(uid, ("Said",)) for uid in (*uids, "", uids[1])]
    picture = replace(generated_items()[0], files=(tmp_path / "no study.png",))
    assert not_of((*theirs, picture), reports) == (reports[0], reports[2])


def test_what_people_write_is_not_false_of_an_image_of_which_they_wrote_something_else() -> None:
    first, second = generated_items()[0], generated_items()[6]
    one = facts_of(replace(first, caption="No effusion"))
    other = replace(facts_of(replace(second, caption="Heart not large")), study="chest", side="L")
    known = {first.path: wordings(replace(one, study="thorax")), second.path: wordings(other)}
    pairs = gather((first, second), generated_vectors((first, second)), known, CONFIG)
    said = tuple(
        Caption(text, slots)
        for text, slots in {
            "No effusion": (("comment", "No effusion"),),
            "thorax": (("study", "thorax"),),
            "x-ray: No effusion": (("comment", "No effusion"), ("image", "x-ray")),
            "CT: No effusion": (("comment", "No effusion"), ("image", "CT")),
            "right": (("side", "right"),),
        }.items()
    )
    truth = replace(pairs, captions=said).truth(np.array([0, 1]), np.arange(5))
    assert truth.tolist() == [[1, 1, 1, -1, 0], [0, 0, 0, -1, -1]]


def test_vectors_are_kept_in_the_order_of_the_items() -> None:
    assert torch.equal(PAIRS.vectors, torch.from_numpy(generated_vectors(generated_items())))
