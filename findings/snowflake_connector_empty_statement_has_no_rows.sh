#!/usr/bin/env bash
# Guess: a statement that is empty, for example a template whose condition is false, makes execute() raise.
# What happens: nothing is sent. execute() logs a warning, returns None, and raises nothing. The cursor then
# has no rows, and still names the query id and the columns of the statement before. A check that selects
# bad records and expects none has passed, and the record of it names a query that it never ran.
# Seen with snowflake-connector-python 4.8.1 (a server on loopback stands in and counts the statements):
#   execute("SELECT ..."):  2 rows of query q1
#   execute(" \n"):         0 rows of query q1, 1 statement sent in all
# What to do: refuse an empty statement, or write cursor.execute(...).fetchall(), which fails on None.
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
column = {"name": "ID", "type": "text", "length": 10, "precision": None, "scale": None, "nullable": True}
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
            rows = {"rowtype": [column], "rowset": [["7"], ["8"]], "total": 2, "returned": 2}
            data = {"queryId": f"q{len(statements)}", "parameters": [], "queryResultFormat": "json", **rows}
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
cursor = connection.cursor()
seen = []
for statement in ("SELECT id FROM orders WHERE total < 0", " \n"):
    try:
        returned = cursor.execute(statement)
    except Exception as error:
        raise SystemExit(f"CHANGED: execute({statement!r}) raises {error!r}") from error
    rows, columns = cursor.fetchall(), [column.name for column in cursor.description]
    seen.append((returned is cursor, len(rows), cursor.sfqid, columns, len(statements)))
    print(f"execute({statement!r}): {len(rows)} rows of query {cursor.sfqid}, columns {columns}, {len(statements)} sent")
connection.close()
expected = [(True, 2, "q1", ["ID"], 1), (False, 0, "q1", ["ID"], 1)]
assert seen == expected, f"CHANGED: {seen}"
PYTHON
timeout 120 venv/bin/python -W ignore experiment.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
