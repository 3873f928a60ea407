"""Slack's Web API on loopback, as far as alerts use it: with its status codes, errors, rate limit, and faults to order.

https://docs.slack.dev/reference/methods
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

TOKEN = "xoxb-stand-in"
CHANNEL = "C0STANDIN"


@dataclass
class Fault:
    """What to do instead of answering.

    Attributes:
        status: HTTP status.
        error: Slack's error, with `ok: false`.
        retry_after_seconds: For status 429.
        hang_seconds: Hold the connection so long, then drop it; with `drop_answer`, after taking the request.
        drop_answer: Take the request in earnest, then close without an answer.
        method: Only for this method; every one if empty.
        times: How often; negative for until it is taken away.
    """

    status: int = 200
    error: str = ""
    retry_after_seconds: int = 0
    hang_seconds: float = 0
    drop_answer: bool = False
    method: str = "chat.postMessage"
    times: int = -1


@dataclass
class SlackStandIn:
    """A workspace with one channel; what was posted, and every request."""

    port: int = 0
    token: str = TOKEN
    joined: bool = True
    has_history: bool = False
    scopes: str = "chat:write,channels:read"
    archived: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    # Messages that may be posted before 429, and how fast they come back by `clock`; None is no limit.
    burst: int | None = None
    clock: Callable[[], float] = time.time
    released: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _allowance: float = 0
    _counted_at: float | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/"

    def calls(self, method: str) -> list[dict[str, Any]]:
        with self.lock:
            return [body for name, body in self.requests if name == method]

    def first_messages(self) -> list[dict[str, Any]]:
        with self.lock:
            return [message for message in self.messages if not message.get("thread_ts")]

    def run_ids(self) -> list[str]:
        """The runs that messages are about, in the order in which they were posted."""
        with self.lock:
            return [m["metadata"]["event_payload"]["run_id"] for m in self.messages if m.get("metadata")]

    def everything(self) -> str:
        with self.lock:
            return json.dumps(self.requests, ensure_ascii=False)

    def fault_for(self, method: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times != 0 and fault.method in ("", method):
                    fault.times -= 1
                    return fault
            return None

    def answer(self, method: str, body: dict[str, Any], token: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        with self.lock:
            if not token:
                return 200, {"ok": False, "error": "not_authed"}, {}
            if token != self.token:
                return 200, {"ok": False, "error": "invalid_auth"}, {}
            do = getattr(self, "_" + method.replace(".", "_").lower(), None)
            if do is None:
                return 200, {"ok": False, "error": "unknown_method"}, {}
            return do(body)

    def _auth_test(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        return 200, {"ok": True, "team": "stand-in", "user": "run_elt"}, {"x-oauth-scopes": self.scopes}

    def _conversations_info(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if "channels:read" not in self.scopes:
            return 200, {"ok": False, "error": "missing_scope", "needed": "channels:read"}, {}
        if body["channel"] != CHANNEL:
            return 200, {"ok": False, "error": "channel_not_found"}, {}
        channel = {"id": CHANNEL, "name": "alerts", "is_member": self.joined, "is_archived": self.archived}
        return 200, {"ok": True, "channel": channel}, {}

    def _conversations_join(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        self.joined = True
        return 200, {"ok": True, "channel": {"id": CHANNEL}}, {}

    def _chat_postmessage(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if body["channel"] != CHANNEL:
            return 200, {"ok": False, "error": "channel_not_found"}, {}
        if not self.joined:
            return 200, {"ok": False, "error": "not_in_channel"}, {}
        if not body.get("text"):
            return 200, {"ok": False, "error": "no_text"}, {}
        if len(json.dumps(body.get("blocks") or [], ensure_ascii=False)) > 13_200:
            return 200, {"ok": False, "error": "msg_blocks_too_long"}, {}
        if not self._is_allowed():
            return 429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "1"}
        ts = f"{1_700_000_000 + len(self.messages)}.000100"
        self.messages.append({**body, "ts": ts})
        return 200, {"ok": True, "channel": CHANNEL, "ts": ts}, {}

    def _chat_update(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        for message in self.messages:
            if message["ts"] == body["ts"] and body["channel"] == CHANNEL:
                message.update({"text": body["text"], "blocks": body["blocks"]})
                return 200, {"ok": True, "channel": CHANNEL, "ts": body["ts"]}, {}
        return 200, {"ok": False, "error": "message_not_found"}, {}

    def _conversations_history(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if not self.has_history:
            return 200, {"ok": False, "error": "missing_scope", "needed": "channels:history"}, {}
        return 200, {"ok": True, "messages": self.messages[::-1]}, {}

    _conversations_replies = _conversations_history

    def _is_allowed(self) -> bool:
        """One message a second and channel, with short bursts: https://docs.slack.dev/apis/web-api/rate-limits."""
        if self.burst is None:
            return True
        now = self.clock()
        earned = self.burst if self._counted_at is None else now - self._counted_at
        self._allowance, self._counted_at = min(self.burst, self._allowance + earned), now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


class _Handler(BaseHTTPRequestHandler):
    slack: SlackStandIn

    def log_message(self, *arguments: Any) -> None:
        """Keep the tests' output quiet."""

    def do_POST(self) -> None:
        method = self.path.rsplit("/", 1)[-1].split("?")[0]
        body = self._body()
        with self.slack.lock:
            self.slack.requests.append((method, body))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        fault = self.slack.fault_for(method)
        if fault is None:
            self._send(*self.slack.answer(method, body, token))
        elif fault.hang_seconds:
            if fault.drop_answer:
                self.slack.answer(method, body, token)
            self.slack.held.set()
            self.slack.released.wait(fault.hang_seconds)
            self.close_connection = True
        elif fault.drop_answer:
            self.slack.answer(method, body, token)
            self.close_connection = True
        else:
            content = {"ok": False, "error": fault.error} if fault.error else None
            wait = {"Retry-After": str(fault.retry_after_seconds)} if fault.retry_after_seconds else {}
            self._send(fault.status, content, wait)

    def _body(self) -> dict[str, Any]:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if "json" in self.headers.get("Content-Type", ""):
            return json.loads(raw or "{}")
        query = self.path.partition("?")[2]
        return {name: values[-1] for name, values in parse_qs(raw or query).items()}

    def _send(self, status: int, content: dict[str, Any] | None, headers: dict[str, str]) -> None:
        data = b"<html>upstream error</html>" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def slack_stand_in(port: int = 0) -> Iterator[SlackStandIn]:
    """Serve on loopback while the block lasts; then nobody listens on the port, as when Slack is down."""
    slack = SlackStandIn()
    handler = type("Handler", (_Handler,), {"slack": slack})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    slack.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield slack
    finally:
        slack.released.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
