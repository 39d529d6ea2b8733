"""A server on this machine for one file, which can fail in the ways that servers do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What is served, and how.

    Attributes:
        content: The file.
        url: Its address.
        ranges: Whether a part of it may be asked for.
        cuts: For each coming response, after how many bytes the connection ends (None: never).
        stall_after: Bytes after which a response waits until ``resume`` is set (None: never).
        status: Answered in place of the file, if set.
        requests: The Range header of each request so far, or None.
    """

    content: bytes
    url: str = ""
    ranges: bool = True
    cuts: list[int | None] = field(default_factory=list)
    stall_after: int | None = None
    status: int | None = None
    requests: list[str | None] = field(default_factory=list)
    sent: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def serve(content: bytes) -> Iterator[FileServer]:
    state = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.requests.append(wanted)
            self.close_connection = True
            if state.status is not None:
                self.send_error(state.status)
                return
            start = 0
            if wanted is not None and state.ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(state.content) and start:
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if start:
                size = len(state.content)
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.end_headers()
            self._send(body, state.cuts.pop(0) if state.cuts else None)

        def _send(self, body: bytes, cut: int | None) -> None:
            with contextlib.suppress(ConnectionError):
                if state.stall_after is not None:
                    self.wfile.write(body[: state.stall_after])
                    self.wfile.flush()
                    state.sent.set()
                    state.resume.wait(30)
                    body = body[state.stall_after :]
                self.wfile.write(body if cut is None else body[:cut])

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}/model.pt"
        try:
            yield state
        finally:
            state.resume.set()
            server.shutdown()
