#!/usr/bin/env bash
# Guess: with the default paramstyle (pyformat) a number reaches Snowflake as a number, whatever
# Python type it has.
# What happens: int and float are written bare, but a Decimal is written as a quoted text, so
# "create table ... as select %s as amount" makes a text column. A float that is not a number is
# written as the bare word nan, the name of a column. Quotes depend on the Python type alone.
# Seen with snowflake-connector-python 4.8.1 (a server on loopback stands in and keeps the text):
#   Decimal("1.50") -> select '1.50' as amount
#   1.5             -> select 1.5 as amount
#   float("nan")    -> select nan as amount
# What to do: write the type into the statement, select %s::number(12, 2), and bind None or a
# text 'NaN'::float for a number that is none.
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
from decimal import Decimal
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
    (Decimal("1.50"), "select '1.50' as amount"),
    (1.5, "select 1.5 as amount"),
    (2, "select 2 as amount"),
    (float("nan"), "select nan as amount"),
]
for value, statement in expected:
    connection.cursor().execute("select %s as amount", (value,))
    print(repr(value), "->", statements[-1])
    assert statements[-1] == statement, f"CHANGED: expected {statement}"
connection.close()
PYTHON
timeout 120 venv/bin/python experiment.py
