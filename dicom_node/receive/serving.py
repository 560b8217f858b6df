"""The child's side of a pipe: requests in, replies and raw bytes out, until the parent closes it.

Owns the loop and its guard; `child` is the parent's side. Does not own what is answered
(`embedding`, `words.serving`). Nothing that is raised here reaches the parent but as a sentence
without values of what was asked, since values may name a patient.
"""

import json
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from dicom_node.log import fault_of
from dicom_node.receive.child import DATA

Answer = Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]


def say(connection: Connection, message: dict[str, Any]) -> None:
    """Send what is no answer: what the process is, or why it cannot serve."""
    connection.send_bytes(json.dumps(message).encode())


def limit_memory(memory_mb: int) -> None:
    """Let this process have no more memory than that; 0: no limit."""
    if memory_mb:
        limit = memory_mb << 20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def answer_requests(connection: Connection, answer: Answer) -> None:
    """Answer one request, with the bytes that follow it if it says so, after the other."""
    while True:
        try:
            request = json.loads(connection.recv_bytes())
            sent = connection.recv_bytes() if request.pop(DATA, False) else b""
        except (EOFError, OSError):
            return
        try:
            reply, data = answer(request, sent)
        except Exception as error:  # the worker's guard
            reply, data = {"error": fault_of(error)}, b""
        say(connection, reply)
        if "error" not in reply:
            connection.send_bytes(data)
