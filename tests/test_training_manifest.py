from pathlib import Path

import pytest
from PIL import Image

from encoder.clip import Kind
from training.errors import BadManifest
from training.manifest import Split, items_below, read_items
from training.phantoms import cine, ct_series, still, uid_source

HEAD = "path,split,kind,modality,body_part,label,patient_id,source"
ROW = "a.jpg,eval,still,US,BREAST,benign,p1,busi"


def folder_with(tmp_path: Path, text: str) -> Path:
    Image.new("L", (8, 8)).save(tmp_path / "a.jpg")
    (tmp_path / "empty").mkdir()
    path = tmp_path / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_row_becomes_an_item_with_its_file(tmp_path: Path) -> None:
    (item,) = read_items(folder_with(tmp_path, f"{HEAD},frame_time_ms\n{ROW},40\n"))

    assert (item.path, item.split, item.kind) == ("a.jpg", Split.EVAL, Kind.STILL)
    assert (item.modality, item.body_part, item.label) == ("US", "BREAST", "benign")
    assert (item.patient_id, item.source, item.frame_time_ms) == ("p1", "busi", 40.0)
    assert item.files == ((tmp_path / "a.jpg").resolve(),)


def test_a_folder_with_a_manifest_is_read_by_it(tmp_path: Path) -> None:
    folder_with(tmp_path, f"{HEAD}\n{ROW}\n")

    assert [item.label for item in read_items(tmp_path)] == ["benign"]


def test_a_byte_order_mark_and_spaces_are_no_part_of_it(tmp_path: Path) -> None:
    (item,) = read_items(folder_with(tmp_path, f"\ufeff{HEAD}\n{ROW.replace(',', ' , ')}\n"))

    assert (item.path, item.source) == ("a.jpg", "busi")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "columns are missing: path, split"),
        (f"{HEAD}\n", 0, "names no image"),
        (f"{HEAD.replace(',label', '')}\n", 1, "columns are missing: label"),
        (f"{HEAD},colour\n{ROW},red\n", 1, "columns are unknown: colour"),
        (f"{HEAD},label\n{ROW},x\n", 1, "a column is there twice"),
        (f"{HEAD}\n{ROW.replace('eval', 'test')}\n", 2, "'test' is not a valid Split"),
        (f"{HEAD}\n{ROW.replace('still', 'film')}\n", 2, "'film' is not a valid Kind"),
        (f"{HEAD}\n{ROW.replace('US', '')}\n", 2, "the modality is empty"),
        (f"{HEAD}\n{ROW},more\n", 2, "not as many fields"),
        (f"{HEAD}\n{ROW.rpartition(',')[0]}\n", 2, "not as many fields"),
        (f"{HEAD}\n{ROW}\n{ROW.replace('a.jpg', 'b.jpg')}\n", 3, "b.jpg is missing or empty"),
        (f"{HEAD}\n{ROW.replace('a.jpg', 'empty')}\n", 2, "empty is missing or empty"),
        (f"{HEAD}\n{ROW.replace('a.jpg', '../a.jpg')}\n", 2, "leads out of"),
        (f"{HEAD}\n{ROW.replace('a.jpg', '/etc/hosts')}\n", 2, "leads out of"),
        (f"{HEAD}\n{ROW.replace('a.jpg', '')}\n", 2, "leads out of"),
        (f"{HEAD}\n{ROW.replace('a.jpg', 'a.jpg' + chr(0))}\n", 2, "leads out of"),
        (f"{HEAD}\n{ROW}\n{ROW}\n", 3, "a.jpg is on line 2 too"),
        (f"{HEAD},frame_time_ms\n{ROW},fast\n", 2, "could not convert"),
        (f"{HEAD},frame_time_ms\n{ROW},nan\n", 2, "nan is no frame_time_ms"),
        (f"{HEAD},frame_time_ms\n{ROW},-1\n", 2, "-1.0 is no frame_time_ms"),
        (f'{HEAD}\n"{ROW}\n', 0, "no CSV in UTF-8"),
    ],
)
def test_bad_input_is_refused_by_line_and_reason(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    path = folder_with(tmp_path, text)

    with pytest.raises(BadManifest) as refused:
        read_items(path)

    assert refused.value.row == line
    assert reason in str(refused.value)
    assert str(path) in str(refused.value)


def test_what_is_no_text_is_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(BadManifest, match="no CSV in UTF-8"):
        read_items(path)


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadManifest, match=r"gone\.csv: there is no such file"):
        read_items(tmp_path / "gone.csv")


def test_a_link_may_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    Image.new("L", (8, 8)).save(outside)
    inside = tmp_path / "inside"
    inside.mkdir()
    path = folder_with(inside, f"{HEAD}\n{ROW.replace('a.jpg', 'link.jpg')}\n")
    (inside / "link.jpg").symlink_to(outside)

    with pytest.raises(BadManifest, match="leads out of"):
        read_items(path)


def mixed_folder(folder: Path) -> Path:
    """A picture, a CT series, an ultrasound loop, a radiograph, a damaged file and a note."""
    new_uid = uid_source(1)
    ct_series(folder / "ct", new_uid=new_uid, slices=3, size=16, patient_id="CT")
    cine(folder / "us", new_uid=new_uid, frames=3, size=(16, 16), patient_id="US")
    still(folder / "dx", new_uid=new_uid, size=(16, 16), patient_id="DX")
    Image.new("RGB", (8, 8)).save(folder / "skin.PNG")
    (folder / "notes.txt").write_text("no image")
    (folder / "torn.dcm").write_bytes(bytes(128) + b"DICM\x02\x00\x00\x00UL\x04")
    return folder


def test_a_folder_is_taken_as_it_lies(tmp_path: Path) -> None:
    items = read_items(mixed_folder(tmp_path / "mixed"))

    found = {(item.modality, item.kind, item.patient_id, len(item.files)) for item in items}
    assert found == {
        ("OT", Kind.STILL, "", 1),
        ("CT", Kind.VOLUME, "CT", 3),
        ("US", Kind.CINE, "US", 1),
        ("DX", Kind.STILL, "DX", 1),
    }
    assert {item.source for item in items} == {"mixed"}
    assert {item.split for item in items} == {Split.TRAIN}
    assert [item.path for item in items if item.modality == "OT"] == ["skin.PNG", "torn.dcm"]


def test_paths_are_taken_under_the_names_they_were_given(tmp_path: Path) -> None:
    folder = mixed_folder(tmp_path / "mixed")

    items = items_below([folder / "skin.PNG", folder / "us", folder / "skin.PNG"])

    assert [item.path for item in items] == [
        str(folder / "skin.PNG"),
        str(next((folder / "us").iterdir())),
    ]


def test_paths_without_an_image_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")

    with pytest.raises(BadManifest, match="names no image"):
        items_below([tmp_path])
    with pytest.raises(BadManifest, match="no such file"):
        items_below([tmp_path / "gone"])
