"""The child's side of a worker: files in, clips and vectors out, whatever the files hold.

Runs in a process of its own; see `worker`, and `serving` for what becomes of what is raised here.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dicom_node.config import Encoding
from dicom_node.listener import prepare_dicom
from dicom_node.receive.child import REPLY_BYTES
from dicom_node.receive.clips import Fault
from dicom_node.receive.serving import answer_requests, limit_memory, say
from dicom_node.receive.worker import Model
from encoder import checkpoint
from encoder.clip import Clip
from encoder.embedder import Embedder
from encoder.errors import EncoderError, UnreadableImage
from encoder.origin import Box
from encoder.parts import MAX_PARTS, Place
from encoder.region import Region, holds, read_region
from encoder.rendered import rendered
from encoder.series import assemble
from encoder.sheet import Sheet, draw_sheet
from encoder.slices import Group
from encoder.stored_frames import stored_frames
from encoder.thumbnail import thumbnail
from encoder.voi import Function, Look, Window
from encoder.volume import read_clip


def serve(connection: Connection, encoding: Encoding) -> None:
    """Say hello, then answer one request after the other until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    limit_memory(encoding.memory_mb)
    _silence_codecs()
    prepare_dicom()
    threads = encoding.threads or max(1, (os.cpu_count() or 1) // encoding.workers)
    try:
        embedder = _embedder(encoding, threads)
    except EncoderError as error:
        say(connection, {"error": str(error)})
        return
    say(connection, asdict(_describe(embedder)))
    answer_requests(connection, lambda request, _: _answer(embedder, request, threads))


def _silence_codecs() -> None:
    """Send what native code prints nowhere: GDCM complains of every 12-bit JPEG frame.

    Python keeps its stderr, for the traceback of a fault of this process itself.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def _embedder(encoding: Encoding, threads: int) -> Embedder:
    folder = Path(encoding.checkpoint) if encoding.checkpoint else None
    return Embedder(checkpoint.load(folder), device=encoding.device, threads=threads)


def _describe(embedder: Embedder) -> Model:
    return Model(
        model_id=embedder.model_id,
        name=embedder.name,
        version=embedder.version,
        trained=embedder.trained,
        dim=embedder.dim,
        device=f"{embedder.choice.device} {embedder.choice.dtype}",
        reason=embedder.choice.reason,
    )


def _answer(
    embedder: Embedder, request: dict[str, Any], threads: int
) -> tuple[dict[str, Any], bytes]:
    if "show" in request:
        series = [[Path(path) for path in paths] for paths in request["show"]]
        return _show(draw_sheet(series, embedder.config))
    if "thumbnail" in request:
        return _thumbnail(request)
    if "frames" in request:
        return _frames(Path(request["frames"]), request["numbers"], request["decoded"])
    if "render" in request:
        return _render(Path(request["render"]), request["numbers"], request["look"])
    region = request["region"] and _region(**request["region"])
    return _embed(embedder, [Path(path) for path in request["embed"]], region, threads)


def _show(sheet: Sheet) -> tuple[dict[str, Any], bytes]:
    reply = {
        "clips": [asdict(clip) for clip in sheet.clips],
        "left_out": [asdict(each) for each in sheet.left_out],
        "more": sheet.more,
    }
    return reply, sheet.png


def _thumbnail(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    path, part = Path(request["thumbnail"]), request["part"]
    place = part and Place(part["sop_instance_uid"], part["frame"], _box(*part["box"]))
    side_px, of_another = request["side_px"], request["of_another"]
    try:
        return {"reason": ""}, thumbnail(path, side_px, of_another=of_another, at=place).tobytes()
    except UnreadableImage as error:
        return {"reason": error.reason}, b""


def _region(frame: int | None, box: list[int] | None) -> Region:
    return Region(frame, None if box is None else _box(*box))


def _box(x: int, y: int, width: int, height: int) -> Box:
    return Box(y, y + height, x, x + width)


def _render(path: Path, numbers: list[int], look: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    size, window = look["viewport"], look["window"]
    wanted = Look(
        format=look["format"],
        viewport=size and (size[0], size[1]),
        window=window and Window(window["center"], window["width"], Function(window["function"])),
    )
    return _in_parts(lambda: rendered(path, numbers, wanted))


def _frames(path: Path, numbers: list[int], decoded: bool) -> tuple[dict[str, Any], bytes]:
    return _in_parts(lambda: stored_frames(path, numbers, decoded=decoded))


def _in_parts(made: Callable[[], list[bytes]]) -> tuple[dict[str, Any], bytes]:
    try:
        frames = made()
    except UnreadableImage as error:
        return {"reason": error.reason, "lengths": []}, b""
    lengths = [len(frame) for frame in frames]
    if sum(lengths) > REPLY_BYTES:
        return {"reason": f"more than {REPLY_BYTES >> 20} MiB, ask for fewer", "lengths": []}, b""
    return {"reason": "", "lengths": lengths}, b"".join(frames)


def _embed(
    embedder: Embedder, paths: list[Path], region: Region | None, threads: int
) -> tuple[dict[str, Any], bytes]:
    """Run steps 6 to 10 of the route; whatever goes wrong is an answer, not an end.

    A region is one part: all its tokens together.
    """
    clips: list[dict[str, Any]] = []
    assembly = assemble(paths)
    unreadable = [Fault(u.sop_instance_uid, u.reason) for u in assembly.unreadable]

    def read(group: Group) -> Clip:
        if region is None:
            return read_clip(group, embedder.config.extent(group.kind), threads=threads)
        return read_region(group, region, threads=threads)

    groups = assembly.groups
    if region is not None and region.frame is not None and len(groups) > 1:
        groups = tuple(group for group in groups if holds(group, region.frame)) or groups[:1]
    vectors, parts = embedder.embed_with_parts(
        _clips(groups, read, clips, unreadable), most=MAX_PARTS if region is None else 1
    )
    for about, of_clip in zip(clips, parts, strict=True):
        about["places"] = [place and asdict(place) for place in of_clip.places]
    reply = {
        "clips": clips,
        "skipped": [asdict(Fault(s.sop_instance_uid, s.reason)) for s in assembly.skipped],
        "unreadable": [asdict(fault) for fault in unreadable],
    }
    return reply, b"".join(each.tobytes() for each in (vectors, *(one.vectors for one in parts)))


def _clips(
    groups: Iterable[Group],
    read: Callable[[Group], Clip],
    described: list[dict[str, Any]],
    unreadable: list[Fault],
) -> Iterator[Clip]:
    """Read one clip after the other, so that one at a time is in memory at full size."""
    for group in groups:
        try:
            clip = read(group)
        except UnreadableImage as error:
            unreadable.append(Fault(error.sop_instance_uid, error.reason))
            continue
        frames = clip.array.shape[1]
        about = {"kind": clip.kind, "frames": frames, "sources": clip.sources}
        described.append({**about, "decoder": clip.decoder})
        yield clip


def _say(connection: Connection, message: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())
