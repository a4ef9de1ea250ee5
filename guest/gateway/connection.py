"""A connection of HTTP/1.1 with bounds: how long the head of a request may be, and how long it may take to come."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 30.0
"""For the head of a request, and for what is left of a body that was answered before it had come."""
KEEP_ALIVE_S = 75
"""For the next request on the same connection; longer than clients keep theirs, which lose a request that comes too late."""
MAX_HEAD_BYTES = 64 << 10

_END = b"\r\n\r\n"
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)
_TOO_LARGE = b"the head of this request is too large\n"
_REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_TOO_LARGE), _TOO_LARGE)
)


class Connection(HttpToolsProtocol):
    """uvicorn's, which takes heads of any length, waits for ever for them, and loses the body behind an upgrade.

    It also reads no more from a client that has sent its next request before it had an answer, and so does not see it go.
    Here that request waits for its turn before it is parsed, as far as there is room for it, and reading goes on.

    What a client would like to upgrade to (HTTP/2, as Java's do, or a WebSocket) is not spoken here, and a server may
    ignore the wish (RFC 9110, §7.8): the parser does not get to see it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head = bytearray()  # of the next request, as long as it is not whole
        self._is_between = True  # the parser has seen nothing of the next request
        self._num_head_bytes = (
            0  # of one whose beginning came behind another request, and so was not held back
        )
        self._is_in_head = False
        self._deadline: asyncio.TimerHandle | None = None
        self._answered: Any = None  # the request whose turn it is

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected."""
        super().connection_made(transport)
        self._give_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """And is gone."""
        self._take_time()
        super().connection_lost(exc)
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True  # uvicorn tells the last request alone that was parsed
            self._answered.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if not self._is_answering:
            self._give_time()
        if self._is_between:
            self._hold(data)
            return
        super().data_received(data)
        if self._is_in_head:
            self._num_head_bytes += len(data)
            if self._num_head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """The parser has seen the first byte of a request."""
        super().on_message_begin()
        self._is_between, self._is_in_head, self._num_head_bytes = False, True, 0

    def on_headers_complete(self) -> None:
        """And its whole head."""
        self._is_in_head = False
        self._take_time()
        super().on_headers_complete()
        if len(self.pipeline) == 1:  # its head had begun behind the request that is answered now
            self.flow.resume_reading()

    def on_message_complete(self) -> None:
        """And its whole body."""
        self._is_between = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request is answered; the next one may be here already, or its beginning."""
        super().on_response_complete()
        if self._is_answering or self.transport.is_closing():
            return
        if self._is_in_head or self._head:
            self._give_time()
        self._show_head(0)

    def _unsupported_upgrade_warning(self) -> None:
        """Nobody needs to hear of those that try CONNECT."""

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _hold(self, data: bytes) -> None:
        """Keep what comes before a request is parsed: its head until that is whole, all of it until its turn."""
        self._unset_keepalive_if_required()
        self._head += data
        if not self._is_answering:
            self._show_head(len(self._head) - len(data))
        elif len(self._head) > MAX_HEAD_BYTES:
            self.flow.pause_reading()

    def _show_head(self, start: int) -> None:
        """Show a head to the parser if it is whole; in the first so many bytes it does not end."""
        end = self._head.find(_END, max(0, start - len(_END)))
        if (len(self._head) if end < 0 else end) > MAX_HEAD_BYTES:
            self._refuse_head()
        elif end >= 0:
            head, self._head = bytes(self._head), bytearray()
            super().data_received(_UPGRADE.sub(b"", head[:end]) + head[end:])

    def _refuse_head(self) -> None:
        self._head.clear()
        self.transport.write(_REFUSAL)
        self.transport.close()

    def _give_time(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _take_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
