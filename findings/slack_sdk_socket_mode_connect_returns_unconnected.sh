#!/usr/bin/env bash
# Guess: connect() of slack_sdk's Socket Mode client raises where it cannot connect, or returns connected.
# What happens: where Slack gives an address and nothing takes a connection there, it returns without an error, and logs that
# a new session has been established. is_connected() is False. The client tries again every 5 s in a thread of its own.
# Seen with slack_sdk 3.47.0, an address on loopback where nothing listens:
#   connect() returned, is_connected() False, log: "A new session has been established"
# What to do: ask is_connected() after connect(), and before you say that clicks are taken.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check slack_sdk==3.47.0
cd "$folder"

cat >experiment.py <<'PYTHON'
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from slack_sdk import WebClient
from slack_sdk.socket_mode import SocketModeClient


class StandIn(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # Port 9 of loopback: nothing listens.
        answer = json.dumps({"ok": True, "url": "ws://127.0.0.1:9/link"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_): ...


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
threading.Thread(target=server.serve_forever, daemon=True).start()
logger, handler = logging.getLogger("socket"), Lines()
logger.setLevel(logging.INFO)
logger.addHandler(handler)
web = WebClient(base_url=f"http://127.0.0.1:{server.server_port}/api/")
client = SocketModeClient(app_token="xapp-1", web_client=web, logger=logger, auto_reconnect_enabled=False)
client.connect()
said = [line for line in handler.lines if line.startswith("A new session has been established")]
print(f"connect() returned, is_connected() {client.is_connected()}, log: {said[0][:34] if said else 'nothing of a session'!r}")
assert not client.is_connected(), "CHANGED: it is connected"
assert said, "CHANGED: it does not log that a session has been established"
client.close()
PYTHON
timeout 120 venv/bin/python experiment.py 2>error.log || { tail -20 error.log >&2; exit 1; }
