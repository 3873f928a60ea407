#!/usr/bin/env bash
# Guess: with the default paramstyle (pyformat) "%%" in a statement is one percent sign, as in every text that
# is formatted with "%", whatever the parameters are.
# What happens: without parameters the statement is sent as it is. An empty tuple, list or dict counts as
# none. A statement with optional filters sends two percent signs on the day when it has no filter, and a
# table gets "100%%" for "100%".
# Seen with snowflake-connector-python 4.8.1 (a server on loopback stands in and keeps the text):
#   ("select '100%%', %s", (1,))   select '100%', 1
#   ("select '100%%'", ())         select '100%%'
#   ("select '100%%'", None)       select '100%%'
# What to do: bind texts with a percent sign as parameters, or write "%%" only where there is at least one.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check snowflake-connector-python==4.8.1
cd "$folder"

cat >experiment.py <<'PYTHON'
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import snowflake.connector

session = {"token": "t", "masterToken": "m", "sessionId": 1, "parameters": [], "sessionInfo": {}}
result = {"queryId": "q", "rowtype": [], "rowset": [], "total": 0, "returned": 0, "parameters": []}
statements = []


class StandIn(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        data = None
        if "login-request" in self.path:
            data = session
        elif "query-request" in self.path:
            statements.append(json.loads(body)["sqlText"])
            data = result
        answer = json.dumps({"success": True, "code": None, "message": None, "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_): ...


server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
threading.Thread(target=server.serve_forever, daemon=True).start()
connection = snowflake.connector.connect(
    account="a", user="u", password="p", host="127.0.0.1", port=server.server_port, protocol="http"
)
expected = [
    ("select '100%%', %s", (1,), "select '100%', 1"),
    ("select '100%%'", (), "select '100%%'"),
    ("select '100%%'", {}, "select '100%%'"),
    ("select '100%%'", None, "select '100%%'"),
]
for statement, parameters, sent in expected:
    connection.cursor().execute(statement, parameters)
    print(f"{statement!r}, {parameters!r} -> {statements[-1]}")
    assert statements[-1] == sent, f"CHANGED: expected {sent}"
connection.close()
PYTHON
timeout 120 venv/bin/python experiment.py
