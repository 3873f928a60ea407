"""The way to a server of a test's own: it can be cut, and mended, while connections are open."""

import contextlib
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, Literal

# What becomes of what is sent: it gets through; it, or the answer to it, is held until the wire is mended; it is turned away.
Mode = Literal["mended", "requests held", "answers held", "503"]
_503 = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Wire(ThreadingTCPServer):
    """Passes HTTP on from a port of its own to another one on this machine."""

    allow_reuse_address = True
    daemon_threads = True
    # Connections that are held must not hold up the end of a test.
    block_on_close = False

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = ("127.0.0.1", port)
        self.mode: Mode = "mended"
        self.held = 0
        # How many requests have come in.
        self.requests = 0
        self.changed = threading.Condition()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def set(self, mode: Mode) -> None:
        with self.changed:
            self.mode = mode
            self.changed.notify_all()

    def let_through(self, held: Mode) -> None:
        """Return when what is held in this mode may pass."""
        with self.changed:
            if self.mode == held:
                self.held += 1
                self.changed.notify_all()
            self.changed.wait_for(lambda: self.mode != held)

    def wait_until_held(self, count: int = 1, seconds: float = 60) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.held >= count, seconds)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet: connections are given up here."""


class _Handler(StreamRequestHandler):
    server: Wire

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as there:
            threading.Thread(target=self._answers, args=(there,), daemon=True).start()
            while request := self._request():
                self.server.requests += 1
                if self.server.mode == "503":
                    self.connection.sendall(_503)
                    continue
                self.server.let_through("requests held")
                there.sendall(request)

    def _request(self) -> bytes:
        lines: list[bytes] = []
        while (line := self.rfile.readline()) != b"\r\n":
            if not line:
                return b""
            lines.append(line)
        length = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length")), 0)
        return b"".join([*lines, b"\r\n", self.rfile.read(length)])

    def _answers(self, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while answer := there.recv(1 << 20):
                self.server.let_through("answers held")
                self.connection.sendall(answer)
            self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire_to(port: int) -> Generator[Wire]:
    wire = Wire(port)
    thread = threading.Thread(target=wire.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        wire.set("mended")
        wire.shutdown()
        wire.server_close()
        thread.join()
