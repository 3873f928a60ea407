import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import run_elt_dagster
from run_elt_dagster.embedded import Endpoint
from run_elt_dagster.embedded.proxy import without_proxy_for


def test_importing_the_package_does_not_import_what_it_needs_to_run() -> None:
    heavy = "{'duckdb', 'fakesnow', 'pyarrow', 'sqlglot', 'snowflake.connector', 'dagster'}"
    code = f"import sys, run_elt_dagster.embedded; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_password_is_not_shown() -> None:
    assert "secret" not in repr(Endpoint("127.0.0.1", 1, "http", "embedded", "EMBEDDED", "secret", "RUN_ELT"))


def test_connection_stays_on_this_machine() -> None:
    arguments = Endpoint("127.0.0.1", 1, "http", "embedded", "EMBEDDED", "secret", "RUN_ELT").connection_args()
    assert arguments["session_parameters"] == {"CLIENT_TELEMETRY_ENABLED": False}
    assert arguments["platform_detection_timeout_seconds"] == 0.0
    assert "network_timeout" not in arguments


def test_loopback_stays_off_the_proxy_and_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org")
    with without_proxy_for("127.0.0.1"):
        assert os.environ["no_proxy"] == "example.org,127.0.0.1"
    assert os.environ["no_proxy"] == "example.org"


def test_environment_is_left_alone_where_there_is_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    with without_proxy_for("127.0.0.1"):
        assert dict(os.environ) == before


def test_wheel_holds_the_sql_files_and_what_is_known_of_functions() -> None:
    package = Path(run_elt_dagster.__file__).parent
    project = tomllib.loads((package.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["run_elt_dagster"]
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    assert packed >= {*package.rglob("*.sql"), *package.rglob("*.tsv")}
