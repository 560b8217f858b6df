"""WADO-RS `rendered`: the image itself as a picture, one frame or several, sized and windowed."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.pixels import pixel_array
from test_dicom_node_web_retrieve import parts
from webs import Library, bundled, stow, url_of

from dicom_node.node import Node

pytestmark = pytest.mark.peer
LOOP = "examples_ybr_color.dcm"  # 30 frames of 320 by 240, with ultrasound regions
PNG = {"Accept": "image/png"}


def opened(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content))


def test_an_image_is_rendered_whole_and_in_its_own_size(library: Library) -> None:
    path = f"{library.path_of('SC_rgb_jpeg_dcmtk.dcm')}/rendered"

    default, png = library.get(path), library.get(path, headers=PNG)

    assert (default.headers["content-type"], png.headers["content-type"]) == (
        "image/jpeg", "image/png"
    )  # fmt: skip
    expected = pixel_array(library.files["SC_rgb_jpeg_dcmtk.dcm"])
    assert np.array_equal(np.asarray(opened(png.content)), expected)
    assert opened(default.content).size == expected.shape[1::-1]


@pytest.mark.parametrize("accept", ["*/*", 'multipart/related; type="image/jpeg"'])
def test_of_a_loop_every_frame_is_a_part(library: Library, accept: str) -> None:
    response = library.get(f"{library.path_of(LOOP)}/rendered", headers={"Accept": accept})

    assert response.headers["content-type"].startswith('multipart/related; type="image/jpeg"')
    answered = parts(response)
    assert len(answered) == 30
    assert {opened(body).size for _, body in answered} == {(320, 240)}
    assert answered[1][0].endswith(f"{library.path_of(LOOP)}/frames/2/rendered")


def test_several_frames_are_no_single_picture(library: Library) -> None:
    for path in ("rendered", "frames/1,2/rendered"):
        refused = library.get(f"{library.path_of(LOOP)}/{path}", headers=PNG)
        assert refused.status_code == 406
        assert "multipart/related" in refused.json()["error"]


def test_a_frame_is_rendered_by_its_number(library: Library) -> None:
    path = f"{library.path_of(LOOP)}/frames"
    expected = [pixel_array(library.files[LOOP], index=index) for index in (29, 0)]

    last = library.get(f"{path}/30/rendered", headers=PNG)
    both = library.get(
        f"{path}/30,1/rendered", headers={"Accept": 'multipart/related; type="image/png"'}
    )

    assert np.array_equal(np.asarray(opened(last.content)), expected[0])
    for (_, body), frame in zip(parts(both), expected, strict=True):
        assert np.array_equal(np.asarray(opened(body)), frame)
    assert library.get(f"{path}/31/rendered").status_code == 404
    assert library.get(f"{path}/0/rendered").status_code == 400


def test_a_window_and_a_viewport_are_as_asked(library: Library) -> None:
    path = f"{library.path_of('CT_small.dcm')}/rendered"
    sent = dcmread(library.files["CT_small.dcm"])
    values = sent.pixel_array * float(sent.RescaleSlope) + float(sent.RescaleIntercept)

    asked = {"window": "50,400,linear-exact"}
    shown = np.asarray(opened(library.get(path, params=asked, headers=PNG).content))
    small = library.get(path, params={"viewport": "300,64"})

    assert np.abs(shown - ((values - 50) / 400 + 0.5).clip(0, 1) * 255).max() <= 0.51
    assert opened(small.content).size == (64, 64)
    assert library.get(path, params={"accept": "image/gif"}).headers["content-type"] == "image/gif"


@pytest.mark.parametrize(
    "query",
    [
        "window=40,400", "window=40,0,linear", "window=40,0.5,linear", "window=nan,400,linear",
        "window=40,400,cubic", "window=40,-1,sigmoid", "viewport=wide", "viewport=0,0",
        "viewport=9999,9999", "viewport=100", "viewport=100,100,0,0,50,50", "quality=50",
        "annotation=patient",
    ],
)  # fmt: skip
def test_a_bad_parameter_is_named(library: Library, query: str) -> None:
    response = library.get(f"{library.path_of('CT_small.dcm')}/rendered?{query}")

    assert response.status_code == 400
    assert response.json()["error"].startswith(f"{query.partition('=')[0]}: ")


def test_colour_has_no_window(library: Library) -> None:
    path = f"{library.path_of(LOOP)}/frames/1/rendered"
    refused = library.get(path, params={"window": "50,400,linear"})

    assert refused.status_code == 400
    assert refused.json()["error"] == "window: the image is in colour and has none"


def test_what_has_no_pixels_has_no_picture(library: Library) -> None:
    path = library.path_of("rtplan.dcm")
    assert "no pixels" in library.get(f"{path}/rendered").json()["error"]
    assert "a treatment plan" in library.get(f"{path}/thumbnail").json()["error"]
    for kind in ("rendered", "thumbnail"):
        assert library.get(f"{path}/{kind}").status_code == 422


def test_a_secondary_capture_is_rendered_and_has_a_thumbnail(
    start_node: Callable[..., Node], tmp_path: Path
) -> None:
    """One that the encoder leaves out, as the node's own contact sheets are."""
    capture, file = dcmread(bundled("SC_rgb_small_odd.dcm")), tmp_path / "capture.dcm"
    capture.ConversionType = "SYN"
    capture.save_as(file)
    url = url_of(start_node(http={"port": 0}))
    stow(url, file)
    series = f"{url}/studies/{capture.StudyInstanceUID}/series/{capture.SeriesInstanceUID}"
    instance = f"{series}/instances/{capture.SOPInstanceUID}"

    whole = httpx.get(f"{instance}/rendered", headers=PNG, timeout=60)
    small = httpx.get(f"{instance}/thumbnail", headers=PNG, timeout=60)

    assert np.array_equal(np.asarray(opened(whole.content)), pixel_array(file))
    assert opened(small.content).size == (128, 128)
    assert np.asarray(opened(small.content)).std() > 10


def test_dicomweb_client_retrieves_rendered_frames(library: Library) -> None:
    sent = dcmread(library.files[LOOP], stop_before_pixels=True)
    uids = (sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID)

    picture = DICOMwebClient(url=library.url).retrieve_instance_frames_rendered(
        *uids, [2], media_types=("image/png",)
    )

    assert np.array_equal(np.asarray(opened(picture)), pixel_array(library.files[LOOP], index=1))
