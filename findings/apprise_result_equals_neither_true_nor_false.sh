#!/usr/bin/env bash
# Guess: notify() of Apprise 2 returns a result that compares like the True or False of Apprise 1,
# since it is true where the message was sent and false where it was not.
# What happens: it equals neither. `notify(...) == False` and `is False` never hold, so code that looks for
# a failure in that way takes every failure for a success, and says nothing.
# Seen with apprise 2.3.0, a receiver on loopback that answers 500, then 200:
#   answer 500   bool(result) False   result == False: False   result is False: False
#   answer 200   bool(result) True    result == True: False
# What to do: `if not result`, or look at result.status.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apprise==2.3.0
cd "$folder"

cat >experiment.py <<'PYTHON'
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import apprise

status = 500


class StandIn(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_): ...


server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
threading.Thread(target=server.serve_forever, daemon=True).start()
receivers = apprise.Apprise()
assert receivers.add(f"json://127.0.0.1:{server.server_port}")

for status, sent in ((500, False), (200, True)):
    result = receivers.notify(body="orders failed")
    print(f"answer {status}: bool(result) {bool(result)}, result == {sent}: {result == sent}, result is {sent}: {result is sent}")
    assert bool(result) is sent, f"CHANGED: the result of an answer {status} is {bool(result)}"
    assert result != sent, f"CHANGED: the result of an answer {status} equals {sent}"
PYTHON
timeout 120 venv/bin/python experiment.py 2>error.log || { tail -20 error.log >&2; exit 1; }
