"""`similis show`: the picture, what it says of it, and what it does where there is none."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont
from pydicom import dcmread
from pydicom.data import get_testdata_file
from test_dicom_node_cli import similis

from encoder import sheet as sheet_module
from encoder.config import PRESETS
from encoder.series import assemble
from encoder.sheet import FRAMES_A_ROW, MAX_CLIPS, MAX_FRAMES, draw_sheet
from training.phantoms import cine, ct_series, slide, still, uid_source

TINY = PRESETS["tiny"]


def bundled(name: str) -> Path:
    return Path(get_testdata_file(name, download=False) or "")


def picture(png: bytes) -> Image.Image:
    with BytesIO(png) as file:
        image = Image.open(file)
        image.load()
    return image


def shown(*arguments: object, out: Path, **options: Any) -> Any:
    said = similis("show", *arguments, "--out", out, "--json", **options)
    return json.loads(said.stdout)


def test_the_sheet_holds_the_pixels_that_the_network_gets(tmp_path: Path) -> None:
    """A still whose size is the extent goes through unchanged: it must be found on the sheet."""
    path = still(tmp_path, new_uid=uid_source(1), size=(128, 128))
    sheet = draw_sheet([[path]], TINY)
    image = np.asarray(picture(sheet.png))
    stored = dcmread(path).pixel_array
    low, high = np.percentile(stored, (0.5, 99.5))
    expected = ((stored - low) / (high - low)).clip(0, 1) * 255
    found = [
        np.abs(image[top : top + 128, left : left + 128, 0] - expected).max()
        for top in range(8, image.shape[0] - 128)
        for left in (8,)
    ]
    assert min(found) <= 1


def test_each_kind_is_described_as_it_is_seen(tmp_path: Path) -> None:
    series = [
        ct_series(tmp_path, new_uid=uid_source(1), slices=5, size=32),
        [cine(tmp_path, new_uid=uid_source(2), frames=20, size=(32, 48))],
        slide(tmp_path, new_uid=uid_source(3), size=(512, 512), spacing_um=0.5, levels=1),
        [bundled("waveform_ecg.dcm")],
    ]
    sheet = draw_sheet(series, TINY)
    clips = {(clip.modality, clip.kind, clip.unit, clip.frames, clip.seen) for clip in sheet.clips}
    assert clips == {
        ("CT", "volume", "hu", 5, (32, 128, 128)),
        ("US", "cine", "stored", 20, (16, 128, 128)),
        ("SM", "still", "colour", 1, (1, 128, 128)),
        ("ECG", "still", "colour", 1, (1, 128, 128)),
    }
    assert "um a pixel" in next(clip.spacing for clip in sheet.clips if clip.modality == "SM")
    assert [each.reason for each in sheet.left_out] == [
        "the label of a slide, or a picture that shows it"
    ]


def test_a_long_clip_takes_two_rows_of_frames(tmp_path: Path) -> None:
    one = draw_sheet([[still(tmp_path, new_uid=uid_source(1), size=(64, 64))]], TINY)
    many = draw_sheet([ct_series(tmp_path, new_uid=uid_source(1), slices=40, size=32)], TINY)
    assert MAX_FRAMES == 2 * FRAMES_A_ROW
    assert picture(many.png).size[0] == picture(one.png).size[0]
    # The caption of a single tile is wrapped.
    assert 136 / 2 < picture(many.png).size[1] - picture(one.png).size[1] < 136 * 1.1


def test_more_clips_than_a_sheet_holds_are_counted(tmp_path: Path) -> None:
    path = still(tmp_path, new_uid=uid_source(1), size=(16, 16))
    sheet = draw_sheet([[path]] * (MAX_CLIPS + 3), TINY)
    assert (len(sheet.clips), sheet.more) == (MAX_CLIPS, 3)


def test_no_name_of_a_patient_reaches_the_sheet_or_the_table(tmp_path: Path) -> None:
    path = still(tmp_path, new_uid=uid_source(1), size=(64, 64))
    before = draw_sheet([[path]], TINY)
    dataset = dcmread(path)
    dataset.PatientName = dataset.SeriesDescription = dataset.StudyDescription = "Doe^Jane"
    dataset.save_as(path)
    assert draw_sheet([[path]], TINY) == before


def test_files_are_shown_without_a_node_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ct_series(source, new_uid=uid_source(1), slices=3, size=32)
    (source / "notes.txt").write_text("no DICOM")
    truncated = bundled("MR_truncated.dcm")
    out = tmp_path / "sheet.png"

    said = shown(source, truncated, out=out, data=tmp_path / "data")

    assert [clip["kind"] for clip in said["clips"]] == ["volume"]
    left_out = {each["what"]: each["reason"] for each in said["left_out"]}
    assert "not a DICOM file" in left_out[str(source / "notes.txt")]
    assert "less than expected" in left_out[str(dcmread(truncated).SOPInstanceUID)]
    assert picture(out.read_bytes()).format == "PNG"
    assert not (tmp_path / "data").exists(), "nothing is kept"


def test_a_kept_study_is_shown_by_its_uid(tmp_path: Path) -> None:
    paths = ct_series(tmp_path / "in", new_uid=uid_source(1), slices=3, size=32)
    similis("import", tmp_path / "in", data=tmp_path / "data")
    uid = dcmread(paths[0]).StudyInstanceUID
    said = similis("show", uid, "--out", tmp_path / "x.png", data=tmp_path / "data")
    assert "volume" in said.stdout
    assert f"Wrote {tmp_path / 'x.png'}" in said.stdout
    expected = draw_sheet([[f.path for f in assemble(paths).groups[0].frames]], TINY)
    assert (tmp_path / "x.png").read_bytes() == expected.png


def test_a_study_that_is_not_known_is_a_failure(tmp_path: Path) -> None:
    similis("import", still(tmp_path / "in", new_uid=uid_source(1)), data=tmp_path / "data")
    said = similis("show", "1.2.3", "--out", tmp_path / "x.png", data=tmp_path / "data", expect=1)
    assert said.stderr == (
        "similis: study 1.2.3 is not known here; `similis import` takes studies in\n"
    )
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("name", ["reportsi.dcm", "MR_truncated.dcm", "README.txt"])
def test_where_nothing_can_be_shown_it_fails_with_the_reason(tmp_path: Path, name: str) -> None:
    path = bundled(name) if name.endswith(".dcm") else tmp_path / name
    if not path.exists():
        path.write_text("no DICOM")
    said = similis("show", path, "--out", tmp_path / "x.png", expect=1)
    assert said.stderr.startswith("similis: nothing to show: ")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["1.2.3"], "--out"),
        (["no-such-file", "--out", "x.png"], "neither a file"),
        (["1.2.3", "--out", "x.jpg"], "--out"),
        (["1.2.3", "--out", "/no/such/folder/x.png"], "--out"),
    ],
)
def test_bad_usage_is_exit_code_2(arguments: list[str], complaint: str) -> None:
    assert complaint in similis("show", *arguments, expect=2).stderr


def test_an_output_that_cannot_be_written_is_one_line() -> None:
    said = similis("show", bundled("CT_small.dcm"), "--out", "/proc/x.png", expect=1)
    assert said.stderr.splitlines()[-1].startswith("similis: /proc/x.png: ")
    assert "Traceback" not in said.stderr


def test_a_caption_is_wrapped_and_never_cut(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, new_uid=uid_source(1), slices=1, size=32)
    (clip,) = draw_sheet([[path]], TINY).clips
    tile = Image.new("RGB", (clip.seen[2], clip.seen[1]))

    lines = sheet_module._block(clip, (tile,)).caption

    assert "(R lung, G soft, B bone)" in " ".join(lines)
    assert not any("…" in line for line in lines)
    font = ImageFont.load_default(sheet_module._FONT_PX)
    assert max(map(font.getlength, lines)) <= tile.width
