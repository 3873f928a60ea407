#!/usr/bin/env bash
# Guess: network_timeout bounds how long the connector waits for a server that does not answer, and
# leaves a long statement alone as long as the server says that it is in progress.
# What happens: the other way round. It is a timer of each statement: when it ends, the connector
# asks the server to abort the statement, however well the server answers. It does not end a
# wait: an answer that comes long after network_timeout is taken as if nothing were.
# Seen with snowflake-connector-python 4.8.1, network_timeout=3, a server on loopback stands in:
#   in progress all the time  abort asked after 3 s, then the server's error 604
#   one answer after 9 s      abort asked after 3 s, no error, the statement took 9 s
# What to do: set network_timeout longer than the longest statement, bound the wait for a silent
# server with socket_timeout, and a statement with STATEMENT_TIMEOUT_IN_SECONDS.
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
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import snowflake.connector

session = {"token": "t", "masterToken": "m", "sessionId": 1, "parameters": [], "sessionInfo": {}}
result = {"queryId": "q", "rowtype": [], "rowset": [], "total": 0, "returned": 0, "parameters": []}
in_progress = {"queryId": "q", "getResultUrl": "/queries/q/result"}
aborted = []
mode = ""


def answer_to(path):
    """Give success, code and data, as Snowflake answers."""
    if "login-request" in path:
        return True, None, session
    if "abort-request" in path:
        aborted.append(time.monotonic())
        return True, None, None
    if not path.startswith("/queries/"):
        return True, None, None
    if mode == "late":
        time.sleep(9)
        return True, None, result
    if aborted:
        return False, "000604", {"queryId": "q", "sqlState": "57014"}
    time.sleep(0.5)
    return True, "333333", in_progress


class StandIn(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        success, code, data = answer_to(self.path)
        answer = json.dumps({"success": success, "code": code, "message": "stand-in", "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, *_): ...


def run(connection):
    """Give the error of a statement, and the seconds until the abort and until its end."""
    aborted.clear()
    start = time.monotonic()
    error = None
    try:
        connection.cursor().execute("create table orders_by_day as select 1 as id")
    except snowflake.connector.Error as raised:
        error = raised
    took = time.monotonic() - start
    abort = aborted[0] - start if aborted else None
    print(f"{mode}: abort asked after {abort and round(abort)} s, took {round(took)} s, {error!r}")
    return error, abort, took


server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
connection = snowflake.connector.connect(
    account="a", user="u", password="p", host="127.0.0.1", port=server.server_port, protocol="http",
    network_timeout=3,
)
mode = "in progress"
error, abort, _ = run(connection)
assert abort and 2.5 < abort < 8, "CHANGED: no abort is asked for a statement in progress"
assert error is not None and error.errno == 604, "CHANGED: the statement ends with another error"
mode = "late"
error, abort, took = run(connection)
assert abort and 2.5 < abort < 8, "CHANGED: no abort is asked for a late answer"
assert error is None and took >= 9, "CHANGED: network_timeout ends the wait for an answer"
connection.close()
PYTHON
timeout 120 venv/bin/python experiment.py
