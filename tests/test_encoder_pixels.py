from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from encoder.clip import Clip, Kind, Unit
from encoder.config import Extent
from encoder.errors import UnreadableImage
from encoder.normalise import normalise
from encoder.pixels import RUN_FRAMES, parts, read
from encoder.series import Frame, Group, assemble
from encoder.volume import read_clip
from training.phantoms import ct_series, ct_volume_hu, still, uid_source


def bundled(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), f"{name} is not in this pydicom-data"
    return Path(path)


def read_one(path: Path) -> Clip:
    (group,) = assemble([path]).groups
    return read(group)


def read_still(path: Path) -> Clip:
    """Read the picture of a file that a series would leave out, as the secondary captures are."""
    uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
    return read(Group(Kind.STILL, (Frame(path, uid, None),), (0.0, 1.0, 1.0)))


def edited(source: Path, target: Path, change: Callable[[Dataset], None]) -> Path:
    dataset = dcmread(source)
    change(dataset)
    dataset.save_as(target)
    return target


def test_a_ct_series_reads_back_as_the_hounsfield_values_that_were_drawn(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, new_uid=uid_source(1), slices=5, size=16, seed=3)
    (group,) = assemble(paths).groups
    clip = read(group)
    assert (clip.unit, clip.kind, clip.valid) == (Unit.HOUNSFIELD, Kind.VOLUME, None)
    np.testing.assert_array_equal(clip.array[0], ct_volume_hu(5, 16, seed=3))
    assert clip.sources == tuple(path.stem for path in paths)


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, new_uid=uid_source(1), slices=3, size=16)
    before = read(assemble(paths).groups[0]).array
    edited(paths[1], paths[1], lambda ds: setattr(ds, "RescaleSlope", 2))
    after = read(assemble(paths).groups[0]).array
    np.testing.assert_array_equal(after[:, [0, 2]], before[:, [0, 2]])
    np.testing.assert_array_equal(after[:, 1], before[:, 1] * 2 + 1024)


def test_an_enhanced_ct_is_rescaled_through_its_functional_groups() -> None:
    clip = read_one(bundled("eCT_Supplemental.dcm"))
    assert (clip.array.min(), clip.array.max()) == (-1024, 172)
    assert len(clip.sources) == 1


def test_values_of_an_unspecified_rescale_type_are_not_called_hounsfield() -> None:
    assert read_one(bundled("eCT_Supplemental.dcm")).unit is Unit.STORED


def test_a_modality_lut_is_applied() -> None:
    path = bundled("mlut_18.dcm")
    dataset = dcmread(path)
    item = dataset.ModalityLUTSequence[0]
    table, first = np.array(item.LUTData), item.LUTDescriptor[1]
    entries = np.clip(dataset.pixel_array.astype(int) - first, 0, len(table) - 1)
    np.testing.assert_array_equal(read_still(path).array[0, 0], table[entries])


def test_monochrome1_is_inverted_over_the_stored_range() -> None:
    path = bundled("RG3_UNCR.dcm")
    stored = dcmread(path).pixel_array.astype(np.float32)
    np.testing.assert_array_equal(read_one(path).array[0, 0], 1023 - stored)


def test_signed_monochrome1_is_inverted_too(tmp_path: Path) -> None:
    source = bundled("MR_small.dcm")
    path = edited(
        source,
        tmp_path / "1.dcm",
        lambda ds: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"),
    )
    stored = dcmread(source).pixel_array.astype(np.float32)
    np.testing.assert_array_equal(read_one(path).array[0, 0], -1 - stored)


def test_hounsfield_values_are_never_inverted(tmp_path: Path) -> None:
    source = bundled("CT_small.dcm")
    path = edited(
        source,
        tmp_path / "1.dcm",
        lambda ds: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"),
    )
    np.testing.assert_array_equal(read_one(path).array, read_one(source).array)


@pytest.mark.parametrize(
    ("little", "big"),
    [
        ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm"),
        ("MR_small.dcm", "MR_small_bigendian.dcm"),
        ("emri_small.dcm", "emri_small_big_endian.dcm"),
    ],
)
def test_big_endian_files_read_as_their_little_endian_twins(little: str, big: str) -> None:
    np.testing.assert_array_equal(read_one(bundled(big)).array, read_one(bundled(little)).array)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("SC_rgb_rle_16bit.dcm", "SC_rgb_16bit.dcm"),
        ("color-pl.dcm", "color-px.dcm"),
    ],
)
def test_lossless_compression_and_planes_change_nothing(name: str, reference: str) -> None:
    ours, theirs = read_still(bundled(name)), read_still(bundled(reference))
    np.testing.assert_array_equal(ours.array, theirs.array)


def test_big_endian_colours_read_as_their_little_endian_twins() -> None:
    little, big = bundled("SC_rgb_16bit.dcm"), bundled("SC_rgb_expb_16bit.dcm")
    np.testing.assert_array_equal(read_still(big).array, read_still(little).array)


def test_a_16_bit_palette_is_expanded_to_8_bit_colours() -> None:
    path = bundled("examples_palette.dcm")
    dataset = dcmread(path)
    red = np.frombuffer(dataset.RedPaletteColorLookupTableData, dtype="<u2") >> 8
    clip = read_one(path)
    assert clip.unit is Unit.COLOUR
    assert clip.array.shape == (3, 1, 350, 800)
    np.testing.assert_array_equal(clip.array[0, 0], red[dataset.pixel_array])


def test_a_palette_index_beyond_the_table_takes_its_last_colour(tmp_path: Path) -> None:
    def shorten(dataset: Dataset) -> None:
        for colour in ("Red", "Green", "Blue"):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [16, 0, 16])
            data = getattr(dataset, f"{colour}PaletteColorLookupTableData")
            setattr(dataset, f"{colour}PaletteColorLookupTableData", data[:30] + b"\xff\xff")

    path = edited(bundled("examples_palette.dcm"), tmp_path / "1.dcm", shorten)
    assert read_one(path).array.max() == 255


def test_ybr_comes_out_as_rgb_once() -> None:
    ybr = read_still(bundled("SC_ybr_full_422_uncompressed.dcm")).array
    reference = read_still(bundled("SC_rgb_dcmtk_+eb+cy+s2.dcm")).array
    assert np.abs(ybr - reference).max() <= 3


def test_ct_padding_is_masked_though_its_sign_was_written_wrong() -> None:
    clip = read_one(bundled("693_UNCR.dcm"))
    assert clip.valid is not None
    assert clip.array[0][~clip.valid].max() == -3024
    assert clip.array[0][clip.valid].min() > -3024


def test_a_range_of_padding_values_is_masked(tmp_path: Path) -> None:
    def pad(dataset: Dataset) -> None:
        dataset.add_new("PixelPaddingValue", "US", 0)
        dataset.add_new("PixelPaddingRangeLimit", "US", 100)

    (path,) = ct_series(tmp_path, new_uid=uid_source(1), slices=1, size=32)
    clip = read_one(edited(path, path, pad))
    assert clip.valid is not None
    np.testing.assert_array_equal(clip.valid, clip.array[0] > -1024 + 100)


def test_padding_that_occurs_nowhere_gives_no_mask() -> None:
    assert read_one(bundled("CT_small.dcm")).valid is None


def test_a_clip_names_the_decoders_of_its_pixels(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, new_uid=uid_source(1), slices=4, size=64)
    edited(paths[0], paths[0], lambda dataset: dataset.compress(uid.JPEG2000Lossless))
    (group,) = assemble(paths).groups
    extent = Extent(frames=4, height=8, width=8)
    for clip in (read(group), read_clip(group, extent), normalise(read(group), extent)):
        assert clip.decoder == "pydicom simpleitk"
    assert read_one(bundled("color3d_jpeg_baseline.dcm")).decoder == "pillow"


@pytest.mark.parametrize(
    "name",
    [
        "MR_truncated.dcm",
        "JPEG2000-embedded-sequence-delimiter.dcm",
    ],
)
def test_a_damaged_or_unsupported_file_is_unreadable_with_its_uid_and_one_line(name: str) -> None:
    path = bundled(name)
    with pytest.raises(UnreadableImage) as caught:
        read_still(path)
    assert caught.value.sop_instance_uid == dcmread(path, stop_before_pixels=True).SOPInstanceUID
    assert caught.value.reason
    assert "\n" not in str(caught.value)


def test_a_syntax_without_decoder_is_named(tmp_path: Path) -> None:
    path = still(tmp_path, new_uid=uid_source(1), size=(16, 16))
    (group,) = assemble([path]).groups

    def relabel(dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = uid.UID("1.2.840.10008.1.2.4.94")  # JPIP
        dataset.PixelData = encapsulate([b"never looked at"])
        dataset["PixelData"].is_undefined_length = True

    edited(path, path, relabel)
    with pytest.raises(UnreadableImage, match=r"1\.2\.4\.94 is not supported"):
        read(group)


def test_what_would_not_fit_is_refused_before_decoding(tmp_path: Path) -> None:
    path = still(tmp_path, new_uid=uid_source(1), size=(16, 16))
    (group,) = assemble([path]).groups
    edited(path, path, lambda ds: (setattr(ds, "Rows", 65535), setattr(ds, "Columns", 65535)))
    with pytest.raises(UnreadableImage, match=r"16\.0 GiB decoded, the limit is 4\.0 GiB"):
        read(group)


def test_the_limit_counts_all_slices_of_a_volume(tmp_path: Path) -> None:
    (group,) = assemble(ct_series(tmp_path, new_uid=uid_source(1), slices=4, size=16)).groups
    read(group, max_bytes=4 * 16 * 16 * 4)
    with pytest.raises(UnreadableImage, match="limit"):
        read(group, max_bytes=4 * 16 * 16 * 4 - 1)


def test_a_volume_is_limited_by_what_is_decoded_at_a_time(tmp_path: Path) -> None:
    """1,100 slices of 1024 x 1024 are 4.3 GiB, of which 32 MiB are decoded and then shrunk."""
    path = still(tmp_path, new_uid=uid_source(1), size=(1024, 1024))
    group = Group(Kind.VOLUME, (Frame(path, path.stem, 0),) * 1100, (1.0, 1.0, 1.0))
    part = next(parts(group))
    assert len(part.pictures) == RUN_FRAMES


def test_frames_of_different_size_are_refused(tmp_path: Path) -> None:
    new_uid = uid_source(1)
    paths = [still(tmp_path, new_uid=new_uid, size=(16, width)) for width in (16, 32)]
    frames = tuple(Frame(path, path.stem, None) for path in paths)
    with pytest.raises(UnreadableImage, match="differ in size"):
        read(Group(Kind.VOLUME, frames, (1.0, 1.0, 1.0)))


def test_a_missing_file_is_no_fault_of_the_image(tmp_path: Path) -> None:
    group = Group(Kind.STILL, (Frame(tmp_path / "gone.dcm", "1.2.3", None),), (0.0, 1.0, 1.0))
    with pytest.raises(FileNotFoundError):
        read(group)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(
        [
            "MR_small_RLE.dcm",
            "MR_small_jp2klossless.dcm",
            "SC_rgb_jpeg.dcm",
            "SC_rgb_jpeg_gdcm.dcm",
            "JPGExtended.dcm",
            "CT_small.dcm",
        ]
    ),
    places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=6),
    values=st.binary(min_size=6, max_size=6),
)
def test_damage_anywhere_gives_a_clip_or_a_named_error(
    tmp_path: Path, name: str, places: list[float], values: bytes
) -> None:
    damaged = bytearray(bundled(name).read_bytes())
    for place, value in zip(places, values, strict=False):
        damaged[132 + int(place * (len(damaged) - 132))] = value
    path = tmp_path / "damaged.dcm"
    path.write_bytes(damaged)
    assembly = assemble([path])
    assert sum(map(len, (assembly.groups, assembly.skipped, assembly.unreadable))) == 1
    for group in assembly.groups:
        try:
            clip = read(group, max_bytes=2**26)
        except UnreadableImage as error:
            assert error.reason
        else:
            assert np.isfinite(clip.array).all()


def test_a_damaged_rle_frame_is_an_error_that_can_be_caught(tmp_path: Path) -> None:
    damaged = bytearray(bundled("MR_small_RLE.dcm").read_bytes())
    damaged[-6000:-200] = b"\x80" * 5800  # "no operation": too few pixels come out
    path = tmp_path / "damaged.dcm"
    path.write_bytes(damaged)
    with pytest.raises(UnreadableImage):
        read_one(path)
