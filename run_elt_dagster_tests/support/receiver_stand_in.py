"""Receivers of alerts on loopback, as Apprise reaches them: a web hook and a mail server, with faults to order."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


@dataclass
class ReceiverStandIn:
    """What a receiver took, and what it is to do instead of answering well.

    Attributes:
        taken: The messages: those of which the answer was lost, too.
        status: HTTP status of an answer; a mail server refuses the message for any but 200.
        drops_answer: Take the message, then close without an answer.
        holds: Take the message, and answer when this is set.
        requests: How many there were.
    """

    port: int = 0
    taken: list[Any] = field(default_factory=list[Any])
    status: int = 200
    drops_answer: bool = False
    holds: threading.Event | None = None
    requests: int = 0

    @property
    def hook(self) -> str:
        """The address of a web hook with secrets in it."""
        return f"json://hook-user:hook-password@127.0.0.1:{self.port}/hook-path?rto=60&:token=hook-token"

    @property
    def mailbox(self) -> str:
        """The address of a mailbox."""
        return f"mailto://127.0.0.1:{self.port}?to=oncall@example.com&from=elt@example.com&format=text&mode=insecure"

    def texts(self) -> list[str]:
        """Return the messages as title and text."""
        return [f"{each['title']}\n{each['message']}" for each in self.taken]


@contextmanager
def web_hook() -> Generator[ReceiverStandIn]:
    """Serve a web hook."""
    stand_in = ReceiverStandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            stand_in.requests += 1
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if stand_in.status == 200:
                stand_in.taken.append(body)
            if stand_in.holds is not None:
                stand_in.holds.wait(60)
            if stand_in.drops_answer:
                self.close_connection = True
                return
            self.send_response(stand_in.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        if stand_in.holds is not None:
            stand_in.holds.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def mail_server() -> Generator[ReceiverStandIn]:
    """Serve a mailbox; each message taken is an `EmailMessage`."""
    stand_in = ReceiverStandIn()

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - of aiosmtpd
            stand_in.requests += 1
            if stand_in.status != 200:
                return f"{stand_in.status} mailbox unavailable"
            message = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(message, EmailMessage)
            stand_in.taken.append(message)
            if stand_in.drops_answer:
                server.transport.abort()
            return "250 taken"

    # Its own attempt to connect to itself needs a port that is known.
    controller = Controller(Handler(), hostname="127.0.0.1", port=_free_port())
    controller.start()
    stand_in.port = controller.port
    try:
        yield stand_in
    finally:
        controller.stop()


def _free_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return server.server_port
