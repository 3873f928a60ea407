#!/usr/bin/env bash
# Guess: ?retry=1 in an address of Apprise tries again what the receiver did not take, and ?optional=yes
# keeps a receiver that is down from stopping the others.
# What happens: retry also sends again what the receiver took where its answer is lost: it arrives twice. And
# optional makes a success of a message that nobody took, though there is no other receiver.
# Seen with apprise 2.3.0 (messages that a receiver on loopback took, and what notify() said):
#   answer lost                  took 1, false
#   answer lost, ?retry=1        took 2, true
#   answer 500, ?optional=yes    took 0, true
# What to do: no retry where a message must not come twice without your knowing; count attempts in your own code.
# Refuse addresses with optional where a failure has to be known.
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

taken = []
mode = ""


class StandIn(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if mode == "500":
            self.send_response(500)
        else:
            taken.append(body)
            if len(taken) == 1:
                self.close_connection = True
                return
            self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_): ...


server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
threading.Thread(target=server.serve_forever, daemon=True).start()

for mode, query, expected in (("lost", "", (1, False)), ("lost", "?retry=1", (2, True)), ("500", "?optional=yes", (0, True))):
    taken.clear()
    receivers = apprise.Apprise()
    assert receivers.add(f"json://127.0.0.1:{server.server_port}/{query}")
    found = (bool(receivers.notify(body="orders failed")), len(taken))[::-1]
    print(f"{mode} {query}: took {found[0]}, {found[1]}")
    assert found == expected, f"CHANGED: {mode} {query} gives {found}, expected {expected}"
PYTHON
timeout 120 venv/bin/python experiment.py 2>error.log || { tail -20 error.log >&2; exit 1; }
