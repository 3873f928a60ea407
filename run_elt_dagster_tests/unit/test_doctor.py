import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from snowflake.connector.errors import DatabaseError, OperationalError

from run_elt_dagster.doctor.account import refusal_finding, sources_sql
from run_elt_dagster.doctor.finding import Finding, failed, ok, summary, within
from run_elt_dagster.doctor.installation import read_tables, version_findings
from run_elt_dagster.doctor.sign_in import sign_in_remedy
from run_elt_dagster.embedded import NotInstalledError
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import InventoryTable, TargetInventory
from run_elt_dagster.settings import Settings
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS

REQUIREMENTS = {
    "run_elt_dagster": (
        "dagster>=1.13.20,<1.14",
        "dagster-slack>=0.29.20,<0.30",
        "snowflake-connector-python>=4.7.5,<5",
        "fakesnow>=0.12; extra == 'embedded'",
    ),
    "dagster": ("dagster-shared==1.13.27", "alembic>=1"),
    "dagster-slack": ("dagster==1.13.27", "slack_sdk"),
}
INSTALLED = {
    "dagster": "1.13.27",
    "dagster-shared": "1.13.27",
    "dagster-slack": "0.29.27",
    "dagster-snowflake": "0.29.27",
    "snowflake-connector-python": "4.8.1",
}
ACCOUNT = {
    "SNOWFLAKE_ACCOUNT": "org-acc",
    "SNOWFLAKE_USER": "svc",
    "SNOWFLAKE_ROLE": "elt",
    "SNOWFLAKE_WAREHOUSE": "wh",
    "SNOWFLAKE_DATABASE": "prod",
    "SNOWFLAKE_PASSWORD": "hunter2",
}


def versions(python: str = "3.11.9", **changes: str | None) -> list[Finding]:
    installed: dict[str, str | None] = {**INSTALLED, **{k.replace("_", "-"): v for k, v in changes.items()}}
    found = version_findings(
        python,
        ">=3.11,<3.14",
        requirements=lambda name: REQUIREMENTS.get(name, ()),
        installed=installed.get,
    )
    return list(found)


def test_versions_that_agree_are_named_on_one_line() -> None:
    (finding,) = versions()
    assert finding == ok(
        "versions",
        "Python 3.11.9, dagster 1.13.27, dagster-snowflake 0.29.27, dagster-slack 0.29.27, "
        "snowflake-connector-python 4.8.1",
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"python": "3.14.0"}, "run_elt_dagster requires Python >=3.11,<3.14, got 3.14.0."),
        (
            {"snowflake_connector_python": "4.7.4"},
            "run_elt_dagster requires snowflake-connector-python <5,>=4.7.5, got 4.7.4.",
        ),
        ({"snowflake_connector_python": None}, "got none."),
        ({"dagster": "1.13.28"}, "dagster-slack requires dagster ==1.13.27, got 1.13.28."),
        ({"dagster_shared": "1.13.26"}, "dagster requires dagster-shared ==1.13.27, got 1.13.26."),
    ],
)
def test_version_that_does_not_fit_fails_and_says_who_asks_for_which(changes: dict[str, Any], problem: str) -> None:
    (finding,) = versions(**changes)
    assert finding.status == "FAIL"
    assert finding.detail.endswith(problem)
    assert finding.remedy


def test_finding_is_one_line_without_secrets_and_its_next_step() -> None:
    finding = failed("connect", "refused hunter2\n  at https://svc:pw@host", "Correct SNOWFLAKE_PASSWORD=hunter2.")
    lines = str(finding.without(["hunter2"])).splitlines()
    assert lines == [
        "FAIL  connect           refused [redacted] at https://svc:[redacted]@host",
        "                        -> Correct SNOWFLAKE_PASSWORD=[redacted]",
    ]
    assert summary([finding, ok("a", "b")]) == "1 ok, 1 failed, 0 skipped"


def test_look_that_hangs_is_a_finding_and_what_it_found_before_is_kept() -> None:
    let_go = threading.Event()

    def look() -> Iterator[Finding]:
        yield ok("first", "fine")
        let_go.wait(PATIENCE_SECONDS)

    first, second = within(0.1, "slack", look)
    let_go.set()
    assert first.name == "first"
    assert (second.name, second.status) == ("slack", "FAIL")
    assert "got none in time" in second.detail


def test_look_that_breaks_off_is_a_finding() -> None:
    def look() -> Iterator[Finding]:
        yield ok("first", "fine")
        raise KeyError("gone")

    assert [finding.status for finding in within(PATIENCE_SECONDS, "slack", look)] == ["ok", "FAIL"]


def test_sources_are_asked_for_in_one_query_that_reads_no_row() -> None:
    relations = [Relation("D", "RAW", "a b"), Relation("E", "RAW", "C")]
    assert sources_sql(relations) == (
        'SELECT 1 FROM "D"."RAW"."a b" WHERE FALSE UNION ALL SELECT 1 FROM "E"."RAW"."C" WHERE FALSE'
    )


@pytest.mark.parametrize(
    ("existing", "method", "detail", "remedy"),
    [
        (InventoryTable(kind="VIEW"), "clone", "got a view at D.A.MAU.", "Drop or rename it, then materialize again."),
        (
            InventoryTable(owner="ELT", policies=("masking policy P",)),
            "clone",
            "The new object would lack them and expose data.",
            "Use publish: overwrite to keep the object.",
        ),
        (
            InventoryTable(owner="ELT", streams=("D.A.S",)),
            "swap",
            "got streams that read it: D.A.S. They would go stale.",
            "Use publish: overwrite to keep the object.",
        ),
        (
            InventoryTable(owner="OTHER"),
            "clone",
            "got a table that role OTHER owns, not ELT. It would change hands.",
            "Use publish: overwrite to keep the object, or grant its ownership to ELT.",
        ),
        (
            InventoryTable(owner="ELT", unknown=("policies: refused",)),
            "clone",
            "Policies or streams could be lost.",
            (
                "Use publish: overwrite to keep the object, or set RUN_ELT_CHECK_POLICIES=false where the account has "
                "no policies."
            ),
        ),
    ],
    ids=["view", "policies", "streams", "owner", "unknown"],
)
def test_what_publishing_would_refuse_is_said_apart_from_its_remedy(
    existing: InventoryTable, method: str, detail: str, remedy: str
) -> None:
    table = AnalyticsTable.model_validate({"schema": "a", "table": "mau", "sql": "select 1 as n", "publish": method})
    inventory = TargetInventory("ELT", datetime.now(UTC), {("A", "MAU"): existing})
    finding = refusal_finding(table, Relation("D", "A", "MAU"), inventory)
    assert finding is not None
    assert finding.detail.endswith(detail)
    assert finding.remedy == remedy


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (DatabaseError("Incorrect username or password was specified.", errno=250001), "SNOWFLAKE_PASSWORD"),
        (DatabaseError("JWT token is invalid. [0ce9eb56]", errno=250001), "RSA_PUBLIC_KEY_FP"),
        (DatabaseError("Your user account has been temporarily locked", errno=250001), "MINS_TO_UNLOCK"),
        (DatabaseError("Role 'ELT' specified in the connect string does not exist", errno=250001), "SNOWFLAKE_ROLE"),
        (DatabaseError("Incoming request with IP 1.2.3.4 is not allowed to access Snowflake.", errno=250001), "policy"),
        (OperationalError("Could not connect to Snowflake backend", errno=250001), "SNOWFLAKE_ACCOUNT"),
        (FileNotFoundError(2, "No such file", "key.p8"), "SNOWFLAKE_PRIVATE_KEY_PATH"),
        (TypeError("Password was not given but private key is encrypted"), "SNOWFLAKE_PRIVATE_KEY_PASSWORD"),
    ],
    ids=["password", "key", "locked", "role", "network policy", "unreachable", "no key file", "encrypted key"],
)
def test_failed_sign_in_says_what_to_correct(error: Exception, remedy: str) -> None:
    assert remedy in sign_in_remedy(Settings.from_environment(ACCOUNT), error)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (TimeoutError(), "Wait"),
        (NotInstalledError(["pyarrow"]), "pip install -c constraints.txt -e '.[embedded]'"),
        (NotADirectoryError(), "RUN_ELT_EMBEDDED_DIR"),
    ],
)
def test_embedded_snowflake_that_does_not_start_says_what_to_do(error: Exception, remedy: str, tmp_path: Path) -> None:
    assert remedy in sign_in_remedy(Settings.from_environment({}), error)


def test_test_file_that_tests_nothing_is_a_finding_but_not_in_a_deployment(tmp_path: Path) -> None:
    folder = tmp_path / "analytics"
    folder.mkdir()
    (folder / "mau.sql").write_text("select n from raw.a")
    (folder / "mau.test.yaml").write_text("cases: {a: {given: {raw.a: [{n: 1}]}, expect: [{n: 1}]}}")
    variables = {"RUN_ELT_TABLES_DIR": str(tmp_path)}
    assert read_tables(Settings.from_environment(variables))[1][1] == ok(
        "table tests", "1 case of 1 table, not run: run-elt test runs them"
    )
    (folder / "mau.test.yaml").rename(folder / "gone.test.yaml")
    tables, (files, tests) = read_tables(Settings.from_environment(variables))
    assert tables is not None
    assert (files.status, tests.status) == ("ok", "FAIL")
    assert f"{folder}/gone.test.yaml:1: a test file requires the SQL file of its table beside it" in tests.detail
    deployed = read_tables(Settings.from_environment({**variables, "RUN_ELT_DEPLOYMENT": "production"}))
    assert [finding.name for finding in deployed[1]] == ["table files"]
