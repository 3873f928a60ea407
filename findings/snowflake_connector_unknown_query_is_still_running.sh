#!/usr/bin/env bash
# Guess: the status of a query that the server does not know is an error, and above all is not running.
# What happens: the status is NO_DATA. is_still_running() of it is true and is_an_error() is false, and
# get_query_status_throw_if_error() raises nothing. The usual loop, wait while the query is still running,
# waits for ever: for an id of another account, or one that is too old for the server to know.
# Seen with snowflake-connector-python 4.8.1 (a server on loopback answers with an empty list of queries):
#   status NO_DATA, still running True, an error False
# What to do: end the wait after some answers of NO_DATA, as the connector's own
# get_results_from_sfqid() does after 24.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check snowflake-connector-python==4.8.1
cd "$folder"

cat >experiment.py <<'PYTHON'
import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import snowflake.connector

session = {"token": "t", "masterToken": "m", "sessionId": 1, "parameters": [], "sessionInfo": {}}
asked = []


class StandIn(BaseHTTPRequestHandler):
    def answer(self, data):
        body = json.dumps({"success": True, "code": None, "message": None, "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(session if "login-request" in self.path else None)

    def do_GET(self):
        asked.append(self.path)
        self.answer({"queries": []})

    def log_message(self, *_): ...


server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
threading.Thread(target=server.serve_forever, daemon=True).start()
connection = snowflake.connector.connect(
    account="a", user="u", password="p", host="127.0.0.1", port=server.server_port, protocol="http"
)
status = connection.get_query_status_throw_if_error(str(uuid.uuid4()))
seen = status.name, connection.is_still_running(status), connection.is_an_error(status)
connection.close()
print(f"status {seen[0]}, still running {seen[1]}, an error {seen[2]}")
assert any("/monitoring/queries/" in path for path in asked)
assert seen == ("NO_DATA", True, False), f"CHANGED: {seen}"
PYTHON
timeout 120 venv/bin/python experiment.py
