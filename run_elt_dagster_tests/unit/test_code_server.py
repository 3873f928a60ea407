"""What looks after the code server of a deployment: the probe of its locations, its ping, and the guard that ends it."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
def webserver() -> Iterator[tuple[str, dict[str, Any]]]:
    """Answer GraphQL with what a test puts into the dictionary, by the first word of the query."""
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Keep the tests' output quiet."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = json.dumps(
                {"data": answers["mutation" if body["query"].startswith("mutation") else "query"]}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", answers
    server.shutdown()
    server.server_close()
    thread.join(5)


def located(*arguments: str) -> tuple[int, str]:
    run = subprocess.run(
        [sys.executable, "-I", DEPLOY / "location.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.stderr == ""
    return run.returncode, run.stdout


def workspace(*entries: tuple[str, str]) -> dict[str, Any]:
    chain = [{"error": {"message": "a.sql:1: the cause"}}]
    found = [
        {
            "name": name,
            "loadStatus": "LOADING" if kind == "LOADING" else "LOADED",
            "locationOrLoadError": None
            if kind == "LOADING"
            else {"__typename": kind, "message": "Error occurred during the loading", "errorChain": chain},
        }
        for name, kind in entries
    ]
    return {"workspaceOrError": {"locationEntries": found}}


def test_probe_says_whether_every_location_is_loaded_and_the_cause_if_not(
    webserver: tuple[str, dict[str, Any]],
) -> None:
    url, answers = webserver
    answers["query"] = workspace(("ours", "RepositoryLocation"), ("theirs", "RepositoryLocation"))
    assert located(url) == (0, "every code location is loaded\n")
    answers["query"] = workspace(("ours", "PythonError"), ("theirs", "LOADING"))
    assert located(f"{url}/") == (1, "ours is not loaded: a.sql:1: the cause\ntheirs is not loaded: LOADING\n")
    answers["query"] = workspace()
    assert located(url) == (1, "no code location: no reason was given\n")


def test_reload_says_what_came_of_it_not_what_was_before(webserver: tuple[str, dict[str, Any]]) -> None:
    url, answers = webserver
    answers["query"] = workspace(("ours", "PythonError"))
    (entry,) = workspace(("ours", "RepositoryLocation"))["workspaceOrError"]["locationEntries"]
    answers["mutation"] = {"reloadRepositoryLocation": {"__typename": "WorkspaceLocationEntry", **entry}}
    answers["query"]["assetNodes"] = [{"assetKey": {"path": ["a", "x"]}, "tags": [], "metadataEntries": []}]
    assert located(url, "--reload") == (0, "every code location is loaded\n")
    broken = [{"label": "run_elt/broken", "text": "a/y.sql:2: the cause"}, {"label": "rows"}]
    answers["query"]["assetNodes"].append(
        {"assetKey": {"path": ["a", "y"]}, "tags": [{"key": "run_elt/broken"}], "metadataEntries": broken}
    )
    assert located(url, "--reload") == (1, "a.y is broken: a/y.sql:2: the cause\n")
    answers["mutation"] = {"reloadRepositoryLocation": {"__typename": "ReloadNotSupported"}}
    assert located(url, "--reload") == (1, "ours is not loaded: ReloadNotSupported\n")


def test_probe_fails_where_nobody_or_another_answers(webserver: tuple[str, dict[str, Any]]) -> None:
    url, answers = webserver
    code, said = located("http://127.0.0.1:9")
    assert (code, "gave no answer" in said) == (1, True)
    answers["query"] = None
    code, said = located(url)
    assert (code, "gave no answer" in said) == (1, True)


def test_ping_of_the_code_server_fails_where_nobody_answers() -> None:
    ping = [sys.executable, DEPLOY / "ping_code_server.py", "9"]
    run = subprocess.run(ping, capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stderr) == (3, "")


@contextmanager
def code_server_without_its_process() -> Generator[int]:
    """Yield the port of a server that answers each call as `dagster code-server start` does without its process: UNKNOWN."""

    def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
        raise ConnectionError

    call = grpc.method_handlers_generic_handler("api.DagsterApi", {"Ping": grpc.unary_unary_rpc_method_handler(fail)})
    server = grpc.server(ThreadPoolExecutor(1), handlers=[call])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def guard_of_a_server_that_lives_for_four_pings(directory: Path, port: int) -> tuple[int, str, list[str]]:
    """Return the guard's exit code, its words, and what each ping said; the server itself ends with 7."""
    said = directory / "said"
    said.touch()
    # The guard takes the interpreter beside the server's command.
    scripts = {
        "python": f'#!/bin/sh\n[ "$1" = -c ] && exec "{sys.executable}" "$@"\n"{sys.executable}" "$@"\n'
        f'code=$?\necho $code >> "{said}"\nexit $code\n',
        "server": f'#!/bin/sh\nwhile [ $(wc -l < "{said}") -lt 4 ]; do sleep 0.1; done\nexit 7\n',
    }
    for name, text in scripts.items():
        (directory / name).write_text(text, encoding="utf-8")
        (directory / name).chmod(0o755)
    run = subprocess.run(
        [DEPLOY / "code_server.sh", str(port), directory / "server"],
        env={**os.environ, "RUN_ELT_PING_SECONDS": "0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return run.returncode, run.stderr, said.read_text(encoding="utf-8").split()


def test_code_server_ends_where_its_process_was_gone_before_the_first_ping(tmp_path: Path) -> None:
    with code_server_without_its_process() as port:
        code, words, said = guard_of_a_server_that_lives_for_four_pings(tmp_path, port)
    assert (code, said) == (1, ["1"] * 3)
    assert "The process that has the code does not answer." in words


def test_code_server_that_nobody_hears_yet_is_left_alone(tmp_path: Path) -> None:
    code, words, said = guard_of_a_server_that_lives_for_four_pings(tmp_path, 9)
    assert (code, words, said[:4]) == (7, "", ["3"] * 4)


def server_in(directory: Path, script: str) -> Path:
    """Return a script in the place of the server's command, with an interpreter beside it."""
    (directory / "python").symlink_to(sys.executable)
    server = directory / "server"
    server.write_text(script, encoding="utf-8")
    server.chmod(0o755)
    return server


def test_end_of_the_code_server_is_passed_on_with_its_exit_code(tmp_path: Path) -> None:
    server = server_in(tmp_path, "#!/bin/sh\nexit $1\n")
    for code in (0, 3):
        command = [DEPLOY / "code_server.sh", "9", server, str(code)]
        run = subprocess.run(command, env={**os.environ, "RUN_ELT_PING_SECONDS": "0.1"}, check=False, timeout=60)
        assert run.returncode == code


def test_code_server_does_not_ignore_an_interruption_since_dagster_would_ignore_a_stop_too(tmp_path: Path) -> None:
    server = server_in(tmp_path, f"#!{sys.executable}\nimport signal\nprint(signal.getsignal(signal.SIGINT))\n")
    env = {**os.environ, "RUN_ELT_PING_SECONDS": "0.1"}
    run = subprocess.run([DEPLOY / "code_server.sh", "9", server], env=env, capture_output=True, check=True, timeout=60)
    assert b"default_int_handler" in run.stdout


def test_stop_of_the_code_server_is_passed_on_at_once_and_waited_for(tmp_path: Path) -> None:
    server = server_in(tmp_path, "#!/bin/sh\ntrap 'exit 7' TERM\necho up\nwhile :; do sleep 0.1; done\n")
    quiet = {**os.environ, "RUN_ELT_PING_SECONDS": "300"}
    with subprocess.Popen([DEPLOY / "code_server.sh", "9", server], env=quiet, stdout=subprocess.PIPE) as guard:
        assert guard.stdout is not None
        assert guard.stdout.readline() == b"up\n"
        guard.terminate()
        assert guard.wait(60) == 7
        # Its own wait goes on without it; nobody reads what it says.
        guard.stdout.close()
