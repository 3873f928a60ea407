"""Slack's Web API on loopback, as far as alerts use it: with its status codes, errors, rate limit, and faults to order.

https://docs.slack.dev/reference/methods
"""

import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

TOKEN, APP_TOKEN = "xoxb-stand-in", "xapp-stand-in"
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
        skip: How many requests are answered before.
        run_id: Only for a message that is kept with this run.
    """

    status: int = 200
    error: str = ""
    retry_after_seconds: int = 0
    hang_seconds: float = 0
    drop_answer: bool = False
    method: str = "chat.postMessage"
    times: int = -1
    skip: int = 0
    run_id: str = ""


@dataclass
class SlackStandIn:
    """A workspace with one channel, unless others are added; what was posted, and every request."""

    port: int = 0
    channels: set[str] = field(default_factory=lambda: {CHANNEL})
    token: str = TOKEN
    joined: bool = True
    has_history: bool = False
    scopes: str = "chat:write,channels:read"
    archived: bool = False
    # Ids of messages that were deleted after they had replies: their threads go on, and nobody sees them.
    tombstones: set[str] = field(default_factory=set[str])
    # A message that is deleted once it was updated.
    vanishing: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    # Messages that may be posted before 429, and how fast they come back by `clock`; None is no limit.
    burst: int | None = None
    # Where Socket Mode listens, empty where it is switched off.
    socket_url: str = ""
    clock: Callable[[], float] = time.time
    released: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _posted: int = 0
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

    def delete(self, ts: str, *, tombstone: bool = False) -> None:
        """Delete a message, as a person does; with a tombstone where it has replies."""
        with self.lock:
            self.messages[:] = [message for message in self.messages if message["ts"] != ts]
            if tombstone:
                self.tombstones.add(ts)

    def fault_for(self, method: str, body: dict[str, Any]) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times != 0 and fault.method in ("", method) and fault.run_id in str(body.get("metadata")):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
            return None

    def answer(self, method: str, body: dict[str, Any], token: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        with self.lock:
            if not token:
                return 200, {"ok": False, "error": "not_authed"}, {}
            if method == "apps.connections.open":
                return self._apps_connections_open(token)
            if token != self.token:
                return 200, {"ok": False, "error": "invalid_auth"}, {}
            do = getattr(self, "_" + method.replace(".", "_").lower(), None)
            if do is None:
                return 200, {"ok": False, "error": "unknown_method"}, {}
            return do(body)

    def _apps_connections_open(self, token: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Return a new address each time: https://docs.slack.dev/reference/methods/apps.connections.open."""
        if token != APP_TOKEN:
            return 200, {"ok": False, "error": "invalid_auth"}, {}
        if not self.socket_url:
            return 200, {"ok": False, "error": "internal_error"}, {}
        return 200, {"ok": True, "url": f"{self.socket_url}/?ticket={len(self.requests)}"}, {}

    def _chat_postephemeral(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if body["channel"] not in self.channels:
            return 200, {"ok": False, "error": "channel_not_found"}, {}
        return 200, {"ok": True, "message_ts": "1.1"}, {}

    def _auth_test(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        return 200, {"ok": True, "team": "stand-in", "user": "run_elt"}, {"x-oauth-scopes": self.scopes}

    def _conversations_info(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        if "channels:read" not in self.scopes:
            return 200, {"ok": False, "error": "missing_scope", "needed": "channels:read"}, {}
        if body["channel"] not in self.channels:
            return 200, {"ok": False, "error": "channel_not_found"}, {}
        channel = {"id": body["channel"], "name": "alerts", "is_member": self.joined, "is_archived": self.archived}
        return 200, {"ok": True, "channel": channel}, {}

    def _conversations_join(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        self.joined = True
        return 200, {"ok": True, "channel": {"id": body["channel"]}}, {}

    def _chat_postmessage(  # noqa: PLR0911 - one line an error
        self, body: dict[str, Any]
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        if body["channel"] not in self.channels:
            return 200, {"ok": False, "error": "channel_not_found"}, {}
        if self.archived and body["channel"] == CHANNEL:
            return 200, {"ok": False, "error": "is_archived"}, {}
        if not self.joined:
            return 200, {"ok": False, "error": "not_in_channel"}, {}
        if not body.get("text"):
            return 200, {"ok": False, "error": "no_text"}, {}
        if len(json.dumps(body.get("blocks") or [], ensure_ascii=False)) > 13_200:
            return 200, {"ok": False, "error": "msg_blocks_too_long"}, {}
        if not self._is_allowed():
            return 429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "1"}
        ts = f"{1_700_000_000 + self._posted}.000100"
        self._posted += 1
        # A reply to a message that is not there becomes a message of the channel, and the answer lacks its thread:
        # https://github.com/slack-go/slack/issues/1571
        thread = body.get("thread_ts")
        if thread and thread not in self.tombstones and not self._message(body["channel"], thread):
            body = {name: value for name, value in body.items() if name != "thread_ts"}
        self.messages.append({**body, "ts": ts})
        message = {name: body[name] for name in ("text", "thread_ts") if body.get(name)}
        return 200, {"ok": True, "channel": body["channel"], "ts": ts, "message": {**message, "ts": ts}}, {}

    def _chat_update(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Its errors: https://docs.slack.dev/reference/methods/chat.update#errors."""
        if body["channel"] not in self.channels:
            return 200, {"ok": False, "error": "channel_not_found"}, {}
        if self.archived and body["channel"] == CHANNEL:
            return 200, {"ok": False, "error": "is_inactive"}, {}
        message = self._message(body["channel"], body["ts"])
        if message is None:
            return 200, {"ok": False, "error": "message_not_found"}, {}
        message.update({"text": body["text"], "blocks": body["blocks"]})
        if body["ts"] == self.vanishing:
            self.messages.remove(message)
        return 200, {"ok": True, "channel": body["channel"], "ts": body["ts"]}, {}

    def _message(self, channel: str, ts: str) -> dict[str, Any] | None:
        return next((m for m in self.messages if m["ts"] == ts and m["channel"] == channel), None)

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
        fault = self.slack.fault_for(method, body)
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
def slack_stand_in(port: int = 0) -> Generator[SlackStandIn]:
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
