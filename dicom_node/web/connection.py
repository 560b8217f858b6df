"""A connection that no peer holds for ever: the head of a request and the answer have a time limit.

uvicorn itself limits neither; it closes a connection only between requests, on which nothing
comes. The body of a request is limited by `gate`, which can answer that it came too late.
"""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from dicom_node.web.pace import Pace


class Connection(H11Protocol):
    """HTTP/1.1 on one socket; `timeout_s` is the silence that ends it."""

    timeout_s: ClassVar[float]

    _head: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None
    _pace: Pace
    _owed_bytes: int
    _since: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head; every byte that is written and not taken counts as a wait."""
        super().connection_made(transport)
        self._pace = Pace(self.timeout_s)
        transport.set_write_buffer_limits(high=1)  # with 0 TLS takes an empty buffer for a full one
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Wait for no head any more where it is whole now."""
        super().data_received(data)
        if self._is_answering():
            self._cancel_head()

    def on_response_complete(self) -> None:
        """Wait for the next head, unless it is here already."""
        self._pace = Pace(self.timeout_s)
        self._await_head()
        super().on_response_complete()
        if self._is_answering():
            self._cancel_head()

    def pause_writing(self) -> None:
        """Watch whether the peer reads what waits for it."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Note how long it took."""
        super().resume_writing()
        if self._reader is not None:
            self._reader.cancel()
            self._note()

    def _watch(self) -> None:
        self._owed_bytes = self.transport.get_write_buffer_size()
        self._since = self.loop.time()
        left_s = min(self.timeout_s, self._pace.left_s())
        self._reader = self.loop.call_later(left_s, self._look)

    def _look(self) -> None:
        """Drop a peer that has read nothing, or too little on the whole."""
        if self._note() and self._pace.left_s() > 0:
            self._watch()
        else:
            self.transport.abort()

    def _note(self) -> int:
        read_bytes = self._owed_bytes - self.transport.get_write_buffer_size()
        self._pace.note(read_bytes, waited_s=self.loop.time() - self._since)
        return read_bytes

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        super().connection_lost(exc)
        self._cancel_head()
        if self._reader is not None:
            self._reader.cancel()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._cancel_head()
        # What is still to be read of the last answer is sent before it closes.
        self._head = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _cancel_head(self) -> None:
        if self._head is not None:
            self._head.cancel()


def connections(timeout_s: float) -> type[Connection]:
    """Return the class of connections with this limit, as uvicorn wants one."""
    return type("Connection", (Connection,), {"timeout_s": timeout_s})
