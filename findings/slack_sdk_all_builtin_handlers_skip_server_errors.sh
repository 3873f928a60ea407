#!/usr/bin/env bash
# Guess: WebClient with all_builtin_retry_handlers() tries again whatever is worth it, above all a
# 503, the answer of a server that did not take the message.
# What happens: the list lacks ServerErrorRetryHandler, though that is built in too. A 503 is sent
# once. A connection that closes after the message was sent and before an answer is tried again,
# even with the default handlers: there the message may arrive twice.
# Seen with slack_sdk 3.47.0 (requests that a server on loopback got):
#   503, all_builtin_retry_handlers()          1
#   503, ServerErrorRetryHandler added         2
#   closed without an answer, default client   2
# What to do: add ServerErrorRetryHandler by name. Pass retry_handlers=[] where a message must
# never be doubled, and try again in your own code.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check slack_sdk==3.47.0
cd "$folder"

cat >experiment.py <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from slack_sdk import WebClient
from slack_sdk.http_retry import all_builtin_retry_handlers
from slack_sdk.http_retry.builtin_handlers import ServerErrorRetryHandler

requests = []
mode = ""


class StandIn(BaseHTTPRequestHandler):
    def do_POST(self):
        requests.append(self.rfile.read(int(self.headers["Content-Length"])))
        if mode == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
        self.close_connection = True

    def log_message(self, *_): ...


def requests_of(retry_handlers):
    requests.clear()
    url = f"http://127.0.0.1:{server.server_port}/api/"
    client = WebClient(token="t", base_url=url, timeout=20, retry_handlers=retry_handlers)
    try:
        client.chat_postMessage(channel="C1", text="orders failed")
    except Exception:
        return len(requests)
    raise AssertionError("the client took the answer for a success")


server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
threading.Thread(target=server.serve_forever, daemon=True).start()
cases = [
    ("503", "all_builtin_retry_handlers()", all_builtin_retry_handlers(), 1),
    ("503", "ServerErrorRetryHandler added", [*all_builtin_retry_handlers(), ServerErrorRetryHandler()], 2),
    ("closed", "default client", None, 2),
    ("closed", "retry_handlers=[]", [], 1),
]
for mode, name, retry_handlers, expected in cases:
    count = requests_of(retry_handlers)
    print(f"{mode}, {name}: {count}")
    assert count == expected, f"CHANGED: {mode}, {name} made {count} requests, expected {expected}"
PYTHON
timeout 120 venv/bin/python experiment.py 2>error.log || { tail -20 error.log >&2; exit 1; }
