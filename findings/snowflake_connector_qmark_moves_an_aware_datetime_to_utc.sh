#!/usr/bin/env bash
# Guess: an aware datetime that is bound to a statement is the same moment under both paramstyles, and its
# offset reaches Snowflake.
# What happens: pyformat writes the local time and the offset. qmark sends the UTC time as a TIMESTAMP_NTZ,
# without an offset. A TIMESTAMP_NTZ column gets another hour after a change of paramstyle. A TIMESTAMP_LTZ
# or TIMESTAMP_TZ column takes such a value for a time of the session's time zone, so it is another moment.
# Seen with snowflake-connector-python 4.8.1 (a server on loopback stands in and keeps what it gets),
# for 2024-01-01 00:00 +02:00:
#   pyformat                      '2024-01-01 00:00:00+02:00'
#   qmark                         TIMESTAMP_NTZ 2023-12-31 22:00:00
#   qmark, ("TIMESTAMP_TZ", ...)  TIMESTAMP_TZ 2023-12-31 22:00:00 UTC, offset 120 minutes
# What to do: bind ("TIMESTAMP_TZ", value) under qmark, or naive datetimes in UTC with both.
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
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import snowflake.connector

session = {"token": "t", "masterToken": "m", "sessionId": 1, "parameters": [], "sessionInfo": {}}
result = {"queryId": "q", "rowtype": [], "rowset": [], "total": 0, "returned": 0, "parameters": []}
requests = []


class StandIn(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        data = None
        if "login-request" in self.path:
            data = session
        elif "query-request" in self.path:
            requests.append(json.loads(body))
            data = result
        answer = json.dumps({"success": True, "code": None, "message": None, "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_): ...


def sent(paramstyle, marker, value):
    """Returns the statement, and the type and the value that are bound to it."""
    connection = snowflake.connector.connect(
        account="a",
        user="u",
        password="p",
        host="127.0.0.1",
        port=server.server_port,
        protocol="http",
        paramstyle=paramstyle,
    )
    connection.cursor().execute(f"insert into events values ({marker})", (value,))
    request = requests[-1]
    connection.close()
    return request["sqlText"], (request.get("bindings") or {}).get("1")


server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
threading.Thread(target=server.serve_forever, daemon=True).start()
moment = datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2)))
nanoseconds = str(int(moment.timestamp()) * 10**9)

statement, _ = sent("pyformat", "%s", moment)
print("pyformat:", statement)
assert "'2024-01-01 00:00:00+02:00'" in statement, f"CHANGED: {statement}"

_, bound = sent("qmark", "?", moment)
print("qmark:", bound)
assert bound == {"type": "TIMESTAMP_NTZ", "value": nanoseconds}, f"CHANGED: {bound}"

# 1440 stands for UTC, and each minute of the offset adds one.
_, bound = sent("qmark", "?", ("TIMESTAMP_TZ", moment))
print("qmark with a type:", bound)
assert bound == {"type": "TIMESTAMP_TZ", "value": f"{nanoseconds} 1560"}, f"CHANGED: {bound}"
PYTHON
timeout 120 venv/bin/python experiment.py
