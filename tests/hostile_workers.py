"""Embedding processes that a hostile file took over, for the tests of their parent.

A module of its own, since another process has to import what it runs.
"""

import json
import os
import struct
import time
from dataclasses import asdict
from multiprocessing.connection import Connection

from dicom_node.config import Encoding
from dicom_node.receive.worker import Model

MODEL = Model("0" * 16, "hostile", "hostile", trained=False, dim=4, device="cpu", reason="")
FOREVER_S = 60.0


def stalling(connection: Connection, encoding: Encoding) -> None:
    """Announce an answer of 1000 bytes and send none of them."""
    _greet(connection)
    connection.recv_bytes()
    os.write(connection.fileno(), struct.pack("!i", 1000))
    time.sleep(FOREVER_S)


def deaf(connection: Connection, encoding: Encoding) -> None:
    """Read no question."""
    _greet(connection)
    time.sleep(FOREVER_S)


def parrot(connection: Connection, encoding: Encoding) -> None:
    """Answer with the name of the first file, and no vectors."""
    _greet(connection)
    while True:
        connection.send_bytes(json.loads(connection.recv_bytes())["embed"][0].encode())
        connection.send_bytes(b"")


def _greet(connection: Connection) -> None:
    connection.send_bytes(json.dumps(asdict(MODEL)).encode())
