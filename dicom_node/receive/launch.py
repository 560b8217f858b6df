"""How a process beside the node is started: one that embeds, one that reads sentences.

It is forked from a server that has only imported: never from the node, since threads do not survive
a fork, and at little cost, since torch is imported already. Where there is no such server, it is a
new interpreter.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

import structlog

from dicom_node.errors import WorkerUnavailable

log = structlog.get_logger()

_CHILD = "dicom_node.receive.embedding"
# The address of a Unix socket has 108 bytes, of which multiprocessing needs 32 below the folder.
_LONGEST_FOLDER_BYTES = 75

_Settings = TypeVar("_Settings")
_Target = Callable[[Connection, _Settings], None]
_Task = tuple[str, _Target[_Settings], _Settings]  # with the name of the process


def launch(
    target: _Target[_Settings], settings: _Settings, *, name: str
) -> tuple[BaseProcess, Connection]:
    """Start a process that runs `target` with `settings`; return it with our end of its pipe.

    `ps` shows its `name`, of at most 15 characters. Raises `WorkerUnavailable`.
    """
    reason = ""
    for context in _contexts():
        try:
            return _launched_by(context, (name, target, settings))
        except (OSError, EOFError) as error:
            reason = f"{type(error).__name__}: {error}"
            log.warning("worker_not_started", method=context.get_start_method(), reason=reason)
    raise WorkerUnavailable(reason)


def _contexts() -> Iterator[ForkServerContext | SpawnContext]:
    """Yield what starts processes: a server to fork from, where it can listen, and none at all.

    The server may be killed, and its socket lies among the temporary files, which some clean up.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([_CHILD])
    if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_FOLDER_BYTES:
        yield server
    yield multiprocessing.get_context("spawn")


def _launched_by(
    context: ForkServerContext | SpawnContext, task: _Task[_Settings]
) -> tuple[BaseProcess, Connection]:
    parent, child = context.Pipe()
    process = context.Process(target=_run, args=(child, task), name=task[0], daemon=True)
    try:
        # Without a limit: a new server answers only when it has imported torch.
        process.start()
    except BaseException:
        parent.close()
        raise
    finally:
        child.close()
    return process, parent


def _run(connection: Connection, task: _Task[_Settings]) -> None:
    """Become the process."""
    name, target, settings = task
    with suppress(OSError):  # no Linux
        Path("/proc/self/comm").write_text(name)
    target(connection, settings)
