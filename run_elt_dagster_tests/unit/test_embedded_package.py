import subprocess
import sys

from run_elt_dagster.embedded import Endpoint


def test_importing_the_package_does_not_import_what_it_needs_to_run() -> None:
    heavy = "{'duckdb', 'fakesnow', 'pyarrow', 'sqlglot', 'snowflake.connector', 'dagster'}"
    code = f"import sys, run_elt_dagster.embedded; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_connection_stays_on_this_machine() -> None:
    arguments = Endpoint("127.0.0.1", 1, "http", "embedded", "EMBEDDED", "secret", "RUN_ELT").connection_args()
    assert arguments["no_proxy"] == "127.0.0.1"
    assert arguments["session_parameters"] == {"CLIENT_TELEMETRY_ENABLED": False}
    assert arguments["platform_detection_timeout_seconds"] == 0.0
    assert "network_timeout" not in arguments
