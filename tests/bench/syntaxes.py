"""One slice of a CT in every transfer syntax that something at hand can write.

HTJ2K is left out: neither DCMTK nor pydicom encodes it.
"""

import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from peers import ENVIRONMENT, tool
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate

Transcode = Callable[[Path, Path], None]


def dcmtk(*command: str) -> Transcode:
    """Transcode one file by a command of DCMTK."""

    def transcode(source: Path, target: Path) -> None:
        subprocess.run(
            [tool(command[0]), *command[1:], source, target], check=True, env=ENVIRONMENT
        )

    return transcode


def pydicom_encoder(syntax: str, **options: Any) -> Transcode:
    """Transcode one file by an encoder of pydicom, or only rewrite it."""

    def transcode(source: Path, target: Path) -> None:
        dataset = dcmread(source)
        if uid.UID(syntax).is_compressed and syntax != uid.DeflatedExplicitVRLittleEndian:
            dataset.compress(syntax, **options)
        dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
        dataset.save_as(target, implicit_vr=syntax == uid.ImplicitVRLittleEndian)

    return transcode


def coloured(transcode: Transcode) -> Transcode:
    """Turn the slice into RGB of 8 bits first."""

    def from_colour(source: Path, target: Path) -> None:
        dataset = dcmread(source)
        grey = (dataset.pixel_array >> 4).astype(np.uint8)
        dataset.PixelData = np.stack([grey, grey // 2, 255 - grey], axis=-1).tobytes()
        dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
        dataset.PhotometricInterpretation = "RGB"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.save_as(source.with_suffix(".rgb"))
        transcode(source.with_suffix(".rgb"), target)

    return from_colour


SYNTAXES: dict[str, Transcode] = {
    "explicit little endian": pydicom_encoder(uid.ExplicitVRLittleEndian),
    "implicit little endian": pydicom_encoder(uid.ImplicitVRLittleEndian),
    "explicit big endian": dcmtk("dcmconv", "+te"),
    "deflated": pydicom_encoder(uid.DeflatedExplicitVRLittleEndian),
    "RLE": dcmtk("dcmcrle"),
    "JPEG baseline, RGB 8 bit": coloured(dcmtk("dcmcjpeg", "+eb")),
    "JPEG extended, 12 bit": dcmtk("dcmcjpeg", "+ee"),
    "JPEG lossless": dcmtk("dcmcjpeg", "+el"),
    "JPEG lossless SV1": dcmtk("dcmcjpeg", "+e1"),
    "JPEG-LS lossless": dcmtk("dcmcjpls", "+el"),
    "JPEG-LS near-lossless": dcmtk("dcmcjpls", "+en"),
    "JPEG 2000 lossless": pydicom_encoder(uid.JPEG2000Lossless),
    "JPEG 2000, ratio 10": pydicom_encoder(uid.JPEG2000, j2k_cr=[10]),
    "JPEG 2000 lossless, RGB 8 bit": coloured(pydicom_encoder(uid.JPEG2000Lossless)),
}
VIDEOS = {"MPEG-2": ("mpeg2video", uid.MPEG2MPML), "H.264": ("libx264", uid.MPEG4HP41)}


def write_video(source: Path, target: Path, name: str, *, frames: int) -> None:
    """Write a moving slice as one video object, `name` being one of `VIDEOS`."""
    codec, syntax = VIDEOS[name]
    dataset = dcmread(source)
    grey = (dataset.pixel_array >> 4).astype(np.uint8)
    stream = io.BytesIO()
    with av.open(stream, "w", format="mpegts") as container:
        video = container.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = grey.shape[1], grey.shape[0], "yuv420p"
        for number in range(frames):
            frame = np.repeat(np.roll(grey, number, axis=1)[..., None], 3, axis=-1)
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = (
        uid.VideoEndoscopicImageStorage
    )
    dataset.NumberOfFrames, dataset.FrameTime = frames, 40
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "YBR_PARTIAL_420"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(target)
