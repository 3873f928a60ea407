#!/usr/bin/env bash
# Guess: "with connect() as connection" commits where the block ends without an error, as the connections of
# sqlite3 and psycopg2 do. A BEGIN inside the block is committed.
# What happens: where the session has AUTOCOMMIT, which is Snowflake's default, the end of the block sends
# no COMMIT and no ROLLBACK, and closes the session. Snowflake rolls back a transaction that a session
# leaves open (page Transactions). No error tells that the rows are gone. With autocommit=False it commits.
# Seen with snowflake-connector-python 4.8.1 (a server on loopback stands in, and answers the sign-in
# with the session's AUTOCOMMIT):
#   AUTOCOMMIT is true:   BEGIN, INSERT, the session is closed
#   AUTOCOMMIT is false:  BEGIN, INSERT, COMMIT, the session is closed
# What to do: write the COMMIT of each BEGIN, and the ROLLBACK in "except".
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

result = {"queryId": "q", "rowtype": [], "rowset": [], "total": 0, "returned": 0, "parameters": []}
autocommit = True
requests = []


class StandIn(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        data = None
        if "login-request" in self.path:
            parameters = [{"name": "AUTOCOMMIT", "value": autocommit}]
            data = {"token": "t", "masterToken": "m", "sessionId": 1, "parameters": parameters, "sessionInfo": {}}
        elif "query-request" in self.path:
            requests.append(json.loads(body)["sqlText"].split()[0])
            data = result
        elif "delete=true" in self.path:
            requests.append("the session is closed")
        answer = json.dumps({"success": True, "code": None, "message": None, "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_): ...


server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = {}
for autocommit in (True, False):
    requests.clear()
    with snowflake.connector.connect(
        account="a", user="u", password="p", host="127.0.0.1", port=server.server_port, protocol="http"
    ) as connection:
        connection.cursor().execute("BEGIN")
        connection.cursor().execute("INSERT INTO orders VALUES (1)")
    seen[autocommit] = list(requests)
    print(f"AUTOCOMMIT is {autocommit}:", ", ".join(requests))
closed = "the session is closed"
expected = {True: ["BEGIN", "INSERT", closed], False: ["BEGIN", "INSERT", "COMMIT", closed]}
assert seen == expected, f"CHANGED: {seen}"
PYTHON
timeout 120 venv/bin/python -W ignore experiment.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
