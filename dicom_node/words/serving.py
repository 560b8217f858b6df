"""The child's side of the text process: sentences and image vectors in, vectors out."""

import signal
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dicom_node.receive.serving import answer_requests, limit_memory, say
from dicom_node.words.space import row_of
from encoder import space_checkpoint
from encoder.errors import BadText, EncoderError
from encoder.text_space import TextSpace


def serve(connection: Connection, folder: Path, *, memory_mb: int) -> None:
    """Say hello, then answer one request after the other until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    limit_memory(memory_mb)
    torch.set_num_threads(1)  # a sentence is short, and the cores are for images
    try:
        space = TextSpace(space_checkpoint.load(folder), device="cpu")
    except EncoderError as error:
        say(connection, {"error": str(error)})
        return
    say(connection, {**asdict(row_of(space)), "floor": space.floor, "near": space.near})
    answer_requests(connection, lambda request, sent: _answer(space, request, sent))


def _answer(
    space: TextSpace, request: dict[str, Any], vectors: bytes
) -> tuple[dict[str, Any], bytes]:
    if "alike" in request:
        return {}, space.alike(np.array(request["alike"])).tobytes()
    if "images" in request:
        rows = np.frombuffer(vectors, np.float32).reshape(len(request["images"]), -1)
        return {}, space.images(rows, request["images"]).tobytes()
    try:
        if "understanding" in request:
            return asdict(space.understanding(request["understanding"])), b""
        return {}, space.texts(request["texts"]).tobytes()
    except BadText as error:
        return {"refused": {"reason": error.reason, "advice": error.advice}}, b""
