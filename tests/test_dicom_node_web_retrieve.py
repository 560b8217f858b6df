"""WADO-RS: objects byte for byte, headers, frames and pictures."""

import re
from io import BytesIO

import httpx
import numpy as np
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from webs import REAL, Library

from dicom_node.receive.header import split_file

pytestmark = pytest.mark.peer
RELATED = 'multipart/related; type="application/dicom"'
OCTETS = 'multipart/related; type="application/octet-stream"'


def parts(response: httpx.Response) -> list[tuple[str, bytes]]:
    """Return type and content of each part, by a parser that is not ours."""
    assert response.status_code == 200, response.text
    boundary = re.search(r"boundary=(\w+)", response.headers["content-type"])
    assert boundary is not None
    pieces = response.content.split(b"--" + boundary[1].encode())
    assert (pieces[0], pieces[-1]) == (b"", b"--\r\n")
    heads = [piece.removeprefix(b"\r\n").partition(b"\r\n\r\n") for piece in pieces[1:-1]]
    return [
        (head.decode().removeprefix("Content-Type: "), body.removesuffix(b"\r\n"))
        for head, _, body in heads
    ]


def data_set(file: bytes) -> bytes:
    return split_file(BytesIO(file))[1]


@pytest.mark.parametrize("name", REAL)
def test_an_instance_comes_back_byte_for_byte(library: Library, name: str) -> None:
    sent = library.files[name].read_bytes()

    ((kind, file),) = parts(library.get(library.path_of(name)))
    alone = library.get(library.path_of(name), headers={"Accept": "application/dicom"})

    syntax = dcmread(BytesIO(sent), stop_before_pixels=True).file_meta.TransferSyntaxUID
    assert kind == f"application/dicom; transfer-syntax={syntax}"
    assert data_set(file) == data_set(sent)
    assert alone.headers["content-type"] == "application/dicom"
    assert alone.content == file


def test_a_series_comes_whole_and_a_study_with_its_report(library: Library) -> None:
    series = library.path_of("query").partition("/instances")[0]
    sent = {data_set(p.read_bytes()) for p in library.files["query"].parent.iterdir()}

    assert {data_set(file) for _, file in parts(library.get(series))} == sent
    assert sent <= {data_set(f) for _, f in parts(library.get(f"/studies/{library.uids['query']}"))}


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (RELATED, 200),
        (f"{RELATED}; transfer-syntax=*", 200),
        (f"{RELATED}; transfer-syntax=1.2.840.10008.1.2.5", 200),
        (f"{RELATED}; transfer-syntax=1.2.840.10008.1.2.1", 406),
        (f"image/png, {RELATED}; transfer-syntax=*;q=0.1", 200),
        ("*/*", 200),
        ("image/png", 406),
        ("nonsense", 406),
        (',;"', 406),
        (",", 200),
        (f"{RELATED};q=0", 406),
        (f"{RELATED};q=0.0, */*", 406),
        (f"*/*;q=0, {RELATED}", 200),
        ("application/*;q=0, */*", 406),
        ("image/png;q=0, */*", 200),
        (f"{RELATED}; transfer-syntax=1.2.840.10008.1.2.5;q=0, */*", 406),
        (f"{RELATED}; transfer-syntax=1.2.840.10008.1.2.1;q=0, */*", 200),
        (f"application/dicom;q=0, {RELATED}", 200),
        (f"application/dicom, {RELATED};q=0", 200),
        ("application/dicom;q=0, application/dicom", 406),
        ("*/*;q=0, multipart/related", 200),
        (f"{RELATED};q=much", 200),
        (f"{RELATED};q=nan", 406),
    ],
)
def test_objects_go_out_only_as_they_are_kept(library: Library, accept: str, status: int) -> None:
    response = library.get(library.path_of("emri_small_RLE.dcm"), headers={"Accept": accept})

    assert response.status_code == status


@pytest.mark.parametrize("level", [1, 2, 3])
def test_what_is_not_kept_is_not_found(library: Library, level: int) -> None:
    names = ["studies", library.uids["query"], "series", "1.2.3", "instances", "1.2.3"]
    names[1] = "1.2.3" if level == 1 else names[1]
    path = "/" + "/".join(names[: 2 * level])

    for response in (library.get(path), library.get(f"{path}/metadata")):
        assert (response.status_code, list(response.json())) == (404, ["error"])


@pytest.mark.parametrize("name", REAL)
def test_metadata_is_the_header_without_its_pixels(library: Library, name: str) -> None:
    sent = dcmread(library.files[name])

    response = library.get(f"{library.path_of(name)}/metadata")

    assert response.headers["content-type"] == "application/dicom+json"
    (found,) = [Dataset.from_json(entry) for entry in response.json()]
    assert "PixelData" not in found
    assert found.AvailableTransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    for keyword in ("PatientName", "StudyDate", "Rows", "Manufacturer"):
        assert str(found.get(keyword) or "") == str(sent.get(keyword) or ""), keyword
    for sequence in ("ContentSequence", "FractionGroupSequence"):
        assert len(found.get(sequence, ())) == len(sent.get(sequence, ()))


def test_metadata_of_a_study_names_every_instance(library: Library) -> None:
    study = f"/studies/{library.uids['twin']}"

    told = library.get(f"{study}/metadata").json()

    kept = library.get(f"{study}/instances").json()
    uid = "00080018"
    assert {entry[uid]["Value"][0] for entry in kept} <= {e[uid]["Value"][0] for e in told}


@pytest.mark.parametrize("name", ["emri_small_RLE.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm"])
@pytest.mark.parametrize("accept", [f"{OCTETS}; transfer-syntax=*", "*/*"])
def test_compressed_frames_come_as_they_are_kept(library: Library, name: str, accept: str) -> None:
    sent = dcmread(library.files[name])

    path = f"{library.path_of(name)}/frames/1"
    ((kind, frame),) = parts(library.get(path, headers={"Accept": accept}))

    number = int(sent.get("NumberOfFrames", 1))
    assert frame == next(generate_frames(sent.PixelData, number_of_frames=number))
    assert f"transfer-syntax={sent.file_meta.TransferSyntaxUID}" in kind
    assert kind.startswith("image/" if accept == "*/*" else "application/octet-stream")


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_bigendian.dcm", "emri_small_RLE.dcm"])
def test_uncompressed_frames_are_the_stored_values_in_little_endian(
    library: Library, name: str
) -> None:
    path = f"{library.path_of(name)}/frames/1"
    ((kind, frame),) = parts(library.get(path, headers={"Accept": OCTETS}))

    expected = pixel_array(library.files[name], index=0)
    assert kind == "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
    assert np.array_equal(
        np.frombuffer(frame, expected.dtype.newbyteorder("<")).reshape(expected.shape), expected
    )


def test_frames_of_a_loop_come_in_the_order_asked_for(library: Library) -> None:
    name = "examples_ybr_color.dcm"
    frames = list(generate_frames(dcmread(library.files[name]).PixelData, number_of_frames=30))

    answered = parts(library.get(f"{library.path_of(name)}/frames/3,1,30"))

    assert [frame for _, frame in answered] == [frames[2], frames[0], frames[29]]


@pytest.mark.parametrize(
    ("name", "frames", "status"),
    [
        ("CT_small.dcm", "2", 422),
        ("CT_small.dcm", "0", 400),
        ("CT_small.dcm", "1,,1", 400),
        ("CT_small.dcm", "-1", 400),
        ("CT_small.dcm", "99999999999999999999", 400),
        ("CT_small.dcm", ",".join(["1"] * 1001), 400),
        ("rtplan.dcm", "1", 422),
        ("examples_ybr_color.dcm", "31", 422),
    ],
)
def test_frames_that_are_not_there_are_refused(
    library: Library, name: str, frames: str, status: int
) -> None:
    response = library.get(f"{library.path_of(name)}/frames/{frames}")

    assert (response.status_code, list(response.json())) == (status, ["error"])


@pytest.mark.parametrize("of", ["instance", "series", "study"])
@pytest.mark.parametrize(("accept", "format_"), [("image/png", "PNG"), ("*/*", "JPEG")])
def test_thumbnails_are_small_pictures(
    library: Library, of: str, accept: str, format_: str
) -> None:
    whole = library.path_of("CT_small.dcm")
    cut = {"instance": whole, "series": whole.partition("/instances")[0],
           "study": whole.partition("/series")[0]}  # fmt: skip

    response = library.get(f"{cut[of]}/thumbnail", headers={"Accept": accept})

    picture = Image.open(BytesIO(response.content))
    assert (picture.format, picture.size) == (format_, (128, 128))
    assert response.headers["content-type"] == f"image/{format_.lower()}"
    assert len(np.unique(np.asarray(picture))) > 20, "it shows something"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("image/jpeg;q=0, */*", "image/png"),
        ("image/png;q=0, image/*", "image/jpeg"),
        ("image/jpeg;q=0.1, image/png;q=0.2", "image/png"),
        ("image/jpeg;q=0, image/png;q=0, */*", "image/gif"),
        ("video/mp4", ""),
        ("image/*;q=0, image/png", "image/png"),
        ("*/*;q=0", ""),
    ],
)
def test_a_picture_is_of_no_kind_that_is_refused(library: Library, accept: str, kind: str) -> None:
    path = f"{library.path_of('CT_small.dcm')}/thumbnail"

    response = library.get(path, headers={"Accept": accept})

    assert response.status_code == (200 if kind else 406)
    assert not kind or response.headers["content-type"] == kind


def test_frames_are_not_given_in_a_form_that_is_refused(library: Library) -> None:
    path = f"{library.path_of('JPEG2000.dcm')}/frames/1"

    ((kind, _),) = parts(library.get(path, headers={"Accept": "image/jp2;q=0, */*"}))
    nothing = library.get(path, headers={"Accept": f"image/jp2;q=0, {OCTETS};q=0, */*"})

    assert kind == "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
    assert nothing.status_code == 406


def test_dicomweb_client_retrieves_objects_metadata_frames_and_pictures(library: Library) -> None:
    client = DICOMwebClient(url=library.url)
    sent = dcmread(library.files["CT_small.dcm"])
    uids = (sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID)

    instance = client.retrieve_instance(*uids)
    (of_series,) = client.retrieve_series(*uids[:2])
    metadata = Dataset.from_json(client.retrieve_instance_metadata(*uids))
    (frame,) = client.retrieve_instance_frames(*uids, [1])
    picture = client.retrieve_instance_rendered(*uids, media_types=("image/png",))

    assert np.array_equal(instance.pixel_array, sent.pixel_array)
    assert of_series.SOPInstanceUID == sent.SOPInstanceUID
    assert metadata.PatientName == sent.PatientName
    assert np.array_equal(np.frombuffer(frame, "<i2").reshape(128, 128), sent.pixel_array)
    assert Image.open(BytesIO(picture)).size == (128, 128)
