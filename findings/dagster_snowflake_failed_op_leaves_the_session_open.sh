#!/usr/bin/env bash
# Guess: "with snowflake.get_connection() as connection" closes the session when the block raises, and the
# transaction in it ends.
# What happens: the resource closes the connection behind its yield, without a "finally". A block that
# raises sends no ROLLBACK and closes no session. The connector registers each open connection to be
# closed at the end of the process, so garbage collection does not close it either. A process that goes on
# (a code server with sensors, a run with the in-process executor) keeps one more session for each error,
# and the locks of its transaction.
# Seen with dagster-snowflake 0.29.27, dagster 1.13.27, snowflake-connector-python 4.8.1 (a server on
# loopback stands in):
#   the op succeeds:                 BEGIN, UPDATE, COMMIT, COMMIT, the session is closed
#   the op fails:                    BEGIN, UPDATE
#   the op fails, inside closing():  BEGIN, UPDATE, the session is closed
# What to do: with snowflake.get_connection() as connection, contextlib.closing(connection): ...
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster-snowflake==0.29.27 dagster==1.13.27 snowflake-connector-python==4.8.1
cd "$folder"

cat >experiment.py <<'PYTHON'
import contextlib
import gc
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
from dagster_snowflake import SnowflakeResource

parameters = [{"name": "AUTOCOMMIT", "value": True}]
session = {"token": "t", "masterToken": "m", "sessionId": 1, "parameters": parameters, "sessionInfo": {}}
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
snowflake = SnowflakeResource(
    account="a",
    user="u",
    password="p",
    additional_snowflake_connection_args={"host": "127.0.0.1", "port": server.server_port, "protocol": "http"},
)


def requests_of(fails: bool, closes: bool = False) -> list[str]:
    @dg.asset
    def orders(snowflake: SnowflakeResource) -> None:
        with snowflake.get_connection() as connection:
            with contextlib.closing(connection) if closes else contextlib.nullcontext():
                connection.cursor().execute("BEGIN")
                connection.cursor().execute("UPDATE orders SET state = 'sent'")
                if fails:
                    raise ValueError("the second statement failed")
                connection.cursor().execute("COMMIT")

    requests.clear()
    result = dg.materialize([orders], resources={"snowflake": snowflake}, raise_on_error=False)
    assert result.success is not fails
    del result
    gc.collect()
    return list(requests)


good, failed, closed = requests_of(False), requests_of(True), requests_of(True, closes=True)
print("the op succeeds:", ", ".join(good))
print("the op fails:", ", ".join(failed))
print("the op fails, inside closing():", ", ".join(closed))
assert good[:3] == ["BEGIN", "UPDATE", "COMMIT"] and good[-1] == "the session is closed", f"CHANGED: {good}"
assert failed == ["BEGIN", "UPDATE"], f"CHANGED: {failed}"
assert closed == ["BEGIN", "UPDATE", "the session is closed"], f"CHANGED: {closed}"
PYTHON
timeout 120 venv/bin/python -W ignore experiment.py 2>run.log || { grep CHANGED run.log >&2 || tail -n 5 run.log >&2; exit 1; }
