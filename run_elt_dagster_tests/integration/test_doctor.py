"""`run-elt doctor` against its real counterparts: a server that answers as Snowflake does, Slack's stand-in, Dagster."""

import json
import shutil
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_shared.serdes import deserialize_value
from pydantic import SecretStr

from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.receivers_ledger import News, ReceiverLedger, Standing, write_ledger
from run_elt_dagster.cli import main
from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.doctor import Finding
from run_elt_dagster.doctor.account import check_account
from run_elt_dagster.doctor.channel import check_slack
from run_elt_dagster.doctor.deployment import check_deployment
from run_elt_dagster.model.lineage import Catalogue, catalogue, load_tables
from run_elt_dagster.settings import AlertSettings, Settings
from run_elt_dagster_tests.simulator import SimulatedServer, StatementEvent
from run_elt_dagster_tests.support.embedded import Account, Session, running_server
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, Fault, SlackStandIn, slack_stand_in
from run_elt_dagster_tests.support.slices import divided

pytestmark = pytest.mark.thorough

MONITORING = {"run_monitoring": {"enabled": True, "max_runtime_seconds": 86400}}
# What depends on the table files, on Slack, and on Dagster's history.
TABLES = ["sources", "schemas", "targets", "groups"]
SLACK = ["slack token", "slack channel"]
HISTORY = ["run monitoring", "daemon", "code location", "schedule", "sensors", "alerts", "freshness"]
SNOWFLAKE = ["connect", "warehouse", *TABLES, "candidates", "log of publishes"]
NAMES = ["versions", "settings", "table files", *SNOWFLAKE, *SLACK, "history", *HISTORY]
# The log of publishes is set up by who wants it.
STATUSES = ["skip" if name == "log of publishes" else "ok" for name in NAMES]
SENSORS = ("slack_alert", "slack_alert_retries", "slack_alert_backfills", "slack_alert_late_tables", "lost_runs")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A history on which a daemon works, and evaluates everything."""
    directory = tmp_path_factory.mktemp("home")
    (directory / "dagster.yaml").write_text(json.dumps({**MONITORING, "telemetry": {"enabled": False}}))
    with beating(directory):
        yield directory


@contextmanager
def beating(directory: Path, *daemons: str) -> Generator[None]:
    """Give the heartbeats of a daemon, and evaluate its sensors, while the block lasts."""
    ended = threading.Event()

    def beats() -> None:
        with dg.DagsterInstance.from_config(str(directory)) as instance:
            while True:
                for daemon in daemons or ("test",):
                    beat(instance, seconds_ago=0, daemon=daemon)
                    if ended.wait(0.7):
                        return

    with dg.DagsterInstance.from_config(str(directory)) as instance:
        evaluated(instance)
        beat(instance, seconds_ago=0, daemon=daemons[-1] if daemons else "test")
    thread = threading.Thread(target=beats, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(20)


def evaluated(instance: dg.DagsterInstance, *, seconds_ago: float = 0, location: str = "run_elt") -> None:
    """Note what the daemon notes when it has evaluated schedule and sensors."""
    at = time.time() - seconds_ago
    switch(instance, "daily", "SCHEDULE", "DECLARED_IN_CODE", location=location)
    for name in SENSORS:
        switch(instance, name, "SENSOR", "DECLARED_IN_CODE", location=location, last_tick_success_timestamp=at)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedServer]:
    with running_server(tmp_path_factory.mktemp("account")) as server:
        yield server


class SetUp:
    """A set-up in which everything is right, the command, and what it said."""

    def __init__(
        self, server: SimulatedServer, slack: SlackStandIn, directory: Path, request: pytest.FixtureRequest
    ) -> None:
        self.server, self.slack, self.directory = server, slack, directory
        self._monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        self._capsys: pytest.CaptureFixture[str] = request.getfixturevalue("capsys")
        self.text = ""
        self.set(
            SNOWFLAKE_ACCOUNT="embedded",
            SNOWFLAKE_USER="svc",
            SNOWFLAKE_ROLE="elt",
            SNOWFLAKE_WAREHOUSE="wh",
            SNOWFLAKE_DATABASE="run_elt",
            SNOWFLAKE_PASSWORD=server.password,
            SNOWFLAKE_HOST="127.0.0.1",
            SNOWFLAKE_PORT=str(server.port),
            SNOWFLAKE_PROTOCOL="http",
            SLACK_TOKEN=TOKEN,
            SLACK_CHANNEL=CHANNEL,
            SLACK_BASE_URL=slack.url,
            RUN_ELT_DEPLOYMENT="production",
            RUN_ELT_TABLES_DIR=str(directory / "tables"),
            DAGSTER_HOME=str(request.getfixturevalue("home")),
        )
        self.table("mau", "select id from raw_data.users")

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def table(self, name: str, text: str, *, schema: str = "analytics") -> None:
        path = self.directory / "tables" / schema / f"{name}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def run(self) -> dict[str, list[dict[str, str]]]:
        """Run the command; return what it found by name."""
        self.code = main(["doctor", "--json"])
        output = self._capsys.readouterr()
        self.text = output.out + output.err
        found: dict[str, list[dict[str, str]]] = {}
        for finding in json.loads(output.out):
            found.setdefault(finding["name"], []).append(finding)
        return found

    def failures(self) -> list[tuple[str, str, str]]:
        """Run the command; return name, detail and remedy of what failed."""
        found = [each for several in self.run().values() for each in several]
        failed = [(f["name"], f["detail"], f["remedy"]) for f in found if f["status"] == "FAIL"]
        assert self.code == (1 if failed else 0)
        return failed

    def account(self) -> list[tuple[str, str, str]]:
        """Look at the account alone; return name, detail and remedy of what failed."""
        settings = Settings.from_environment()
        return failed_of(check_account(settings, load_tables(settings.tables_dir, database="run_elt")))


def failed_of(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.name, finding.detail, finding.remedy) for finding in findings if finding.status == "FAIL"]


@pytest.fixture
def set_up(
    warehouse: SimulatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[SetUp]:
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        slack = stack.enter_context(slack_stand_in())
        account = Account(warehouse)
        stack.enter_context(account.resources)
        session = account.session(role="elt")
        for kind, schema, name in session.sql(
            "select table_type, table_schema, table_name from information_schema.tables where table_schema = 'ANALYTICS'"
        ):
            session.sql(f"drop {kind.split()[-1]} {schema}.{name}")
        session.sql("create or replace table raw_data.users (id int)")
        yield SetUp(warehouse, slack, tmp_path, request)
        warehouse.hook = None


@pytest.fixture
def session(set_up: SetUp) -> Iterator[Session]:
    account = Account(set_up.server)
    with account.resources:
        yield account.session(role="elt")


def beat(instance: dg.DagsterInstance, *, seconds_ago: float, daemon: str = "test") -> None:
    """Write a heartbeat as the daemon does; the classes have no public name, their stored form has."""
    for kind in instance.get_required_daemon_types():
        stored = {
            "__class__": "DaemonHeartbeat",
            "daemon_id": daemon,
            "daemon_type": kind,
            "errors": [],
            "timestamp": time.time() - seconds_ago,
        }
        instance.add_daemon_heartbeat(deserialize_value(json.dumps(stored)))  # type: ignore[arg-type]


def switch(
    instance: dg.DagsterInstance,
    name: str,
    kind: str,
    status: str,
    *,
    location: str = "run_elt",
    **moments: float | str,
) -> None:
    """Note the state of a schedule or a sensor as the UI and the daemon do."""
    data: dict[str, Any] = {"__class__": "SensorInstigatorData", **moments}
    if kind == "SCHEDULE":
        data = {"__class__": "ScheduleInstigatorData", "cron_schedule": "@daily", **moments}
    stored = {
        "__class__": "InstigatorState",
        "job_specific_data": data,
        "job_type": {"__enum__": f"InstigatorType.{kind}"},
        "origin": {
            "__class__": "ExternalJobOrigin",
            "external_repository_origin": {
                "__class__": "ExternalRepositoryOrigin",
                "repository_location_origin": {
                    "__class__": "GrpcServerRepositoryLocationOrigin",
                    "host": "code",
                    "port": 4000,
                    "socket": None,
                    "location_name": location,
                },
                "repository_name": "__repository__",
            },
            "job_name": name,
        },
        "status": {"__enum__": f"InstigatorStatus.{status}"},
    }
    state: Any = deserialize_value(json.dumps(stored))
    if instance.get_instigator_state(state.instigator_origin_id, state.selector_id) is None:
        instance.add_instigator_state(state)
    else:
        instance.update_instigator_state(state)


class Deployment:
    """A history of a test's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self._directory))

    def look(self, settings: Settings | None = None, tables: Catalogue | None = None) -> dict[str, tuple[str, str]]:
        return {f.name: (f.status, f.detail) for f in check_deployment(settings, tables, self.open)}


@pytest.fixture
def deployment(home: Path, tmp_path: Path) -> Iterator[Deployment]:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(home / "dagster.yaml", copy)
    with beating(copy):
        yield Deployment(copy)


def test_everything_right_is_a_line_each_and_little_is_sent(set_up: SetUp) -> None:
    before, logins = len(set_up.server.history), set_up.server.logins
    found = set_up.run()
    assert [each["status"] for several in found.values() for each in several] == STATUSES, set_up.text
    assert (set_up.code, list(found)) == (0, NAMES)
    assert "account" in found["connect"][0]["detail"]
    assert "as SVC, role ELT, database RUN_ELT" in found["connect"][0]["detail"]
    assert found["warehouse"][0]["detail"] == "WH"
    assert found["sources"][0]["detail"] == "1 can be read: RUN_ELT.RAW_DATA.USERS"
    assert set_up.server.logins == logins + 1
    statements = [record.sql.split()[0] for record in list(set_up.server.history)[before:]]
    assert [word for word in statements if word != "USE"] == ["SELECT", "SELECT", "CREATE", "DROP", "SELECT"]
    assert not set_up.slack.messages


def test_text_has_a_line_for_each_check_and_a_sum(set_up: SetUp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == STATUSES
    assert lines[-1] == f"{len(NAMES) - 1} ok, 0 failed, 1 skipped"


def test_nothing_configured_is_the_embedded_snowflake_without_slack_and_without_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--json"]) == 1
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert f"the embedded Snowflake in {tmp_path / '.run_elt'}" in found["connect"]["detail"]
    skipped = [name for name, each in found.items() if each["status"] == "skip"]
    assert skipped == ["warehouse", "log of publishes", *SLACK, *HISTORY]
    assert [name for name, each in found.items() if each["status"] == "FAIL"] == ["history"]
    assert "DAGSTER_HOME" in found["history"]["remedy"]
    assert found["daemon"]["detail"] == "the history cannot be opened"


def test_half_a_configuration_names_every_variable_and_skips_what_needs_it(set_up: SetUp) -> None:
    set_up.set(SNOWFLAKE_ROLE="", RUN_ELT_COPY_TAGS="perhaps")
    found = set_up.run()
    assert sorted(each["detail"] for each in found["settings"]) == [
        "RUN_ELT_COPY_TAGS requires true or false, got 'perhaps'.",
        (
            "a Snowflake account requires SNOWFLAKE_ROLE, got only SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER, SNOWFLAKE_WAREHOUSE, "
            "SNOWFLAKE_DATABASE, SNOWFLAKE_PASSWORD, SNOWFLAKE_HOST, SNOWFLAKE_PORT, SNOWFLAKE_PROTOCOL. Set them, or unset "
            "every SNOWFLAKE_ variable to use the embedded Snowflake."
        ),
    ]
    assert {found[name][0]["status"] for name in ("table files", *SNOWFLAKE, "alerts")} == {"skip"}
    assert found["daemon"][0]["status"] == "ok"
    assert set_up.code == 1


def test_wrong_table_files_are_named_with_path_and_line_and_snowflake_is_signed_in_to(set_up: SetUp) -> None:
    set_up.table("mau", "/* elt\nownr: team:a\nelt */ select 1 as n")
    set_up.table("other", "select 1; select 2")
    found = set_up.run()
    first, second = found["table files"]
    assert "mau.sql:2: unknown key 'ownr'. Did you mean 'owner'?" in first["detail"]
    assert "other.sql:1: SQL requires exactly one statement" in second["detail"]
    assert [found[name][0]["status"] for name in ("connect", "warehouse")] == ["ok", "ok"]
    assert {found[name][0]["status"] for name in TABLES} == {"skip"}
    assert found["sources"][0]["detail"] == "the check of the table files failed"
    # What the right ones need is looked at all the same.
    set_up.table("right", "select 1 as n")
    found = set_up.run()
    assert len(found["table files"]) == 2
    assert "skip" not in {found[name][0]["status"] for name in TABLES}


def test_wrong_password_is_tried_once_and_never_shown(set_up: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[str] = []
    respond = set_up.server.respond

    def noted(path: str, *rest: Any) -> Any:
        paths.append(path)
        return respond(path, *rest)

    monkeypatch.setattr(set_up.server, "respond", noted)
    set_up.set(SNOWFLAKE_PASSWORD="canary-password", SLACK_TOKEN="xoxb-canary-token")
    (name, detail, remedy), (slack, said, mend) = set_up.failures()
    assert name == "connect"
    assert "Incorrect username or password" in detail
    assert "Correct SNOWFLAKE_USER and SNOWFLAKE_PASSWORD" in remedy
    assert len([path for path in paths if "login" in path]) == 1
    assert (slack, said, mend) == ("slack token", "Slack refuses it: invalid_auth.", "Correct SLACK_TOKEN.")
    assert "canary" not in set_up.text


@pytest.mark.parametrize("variable", ["SNOWFLAKE_PRIVATE_KEY", "SNOWFLAKE_PRIVATE_KEY_PATH"])
def test_wrong_key_is_said_and_never_shown(set_up: SetUp, variable: str) -> None:
    (set_up.directory / "key.p8").write_text("-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n")
    key = str(set_up.directory / "key.p8") if variable.endswith("PATH") else "canary-key"
    set_up.set(SNOWFLAKE_PASSWORD="", **{variable: key})
    logins = set_up.server.logins
    ((name, _, remedy),) = set_up.failures()
    assert (name, "to a key in PEM" in remedy) == ("connect", True)
    assert "canary" not in set_up.text
    assert set_up.server.logins == logins


def test_secret_in_the_wrong_variable_is_not_shown(set_up: SetUp) -> None:
    set_up.set(SNOWFLAKE_PORT=set_up.server.password, RUN_ELT_WEBSERVER_URL="ftp://jane:canary@host")
    assert [name for name, *_ in set_up.failures()] == ["settings", "settings"]
    assert set_up.server.password not in set_up.text
    assert "canary" not in set_up.text


def test_source_that_cannot_be_read_is_named_with_who_reads_it(set_up: SetUp) -> None:
    set_up.table("orders", "select 1 as n from raw_data.orders, raw_data.users, raw_data.lines")
    first, second = set_up.account()
    assert first[:1] == second[:1] == ("sources",)
    assert "RUN_ELT.RAW_DATA.LINES, for analytics.orders, cannot be read: " in first[1]
    assert "RUN_ELT.RAW_DATA.ORDERS, for analytics.orders, cannot be read: " in second[1]
    assert "GRANT SELECT ON TABLE RUN_ELT.RAW_DATA.LINES TO ROLE ELT" in first[2]


def test_missing_privilege_to_create_tables_is_said_with_its_grant(set_up: SetUp) -> None:
    def refuse(event: StatementEvent) -> None:
        if event.phase == "before" and event.sql.startswith("CREATE"):
            raise SqlError("Insufficient privileges to operate on schema 'ANALYTICS'", errno=3001, sqlstate="42501")

    set_up.server.hook = refuse
    ((name, detail, remedy),) = set_up.account()
    assert name == "schemas"
    assert "role ELT cannot create tables in RUN_ELT.ANALYTICS: " in detail
    assert "GRANT USAGE, CREATE TABLE ON SCHEMA RUN_ELT.ANALYTICS TO ROLE ELT" in remedy


def test_missing_schema_is_said(set_up: SetUp) -> None:
    set_up.table("mau", "select 1 as n", schema="nowhere")
    ((name, detail, remedy),) = set_up.account()
    assert name == "schemas"
    assert "cannot create tables in RUN_ELT.NOWHERE" in detail
    assert (
        "CREATE SCHEMA IF NOT EXISTS RUN_ELT.NOWHERE; GRANT USAGE, CREATE TABLE ON SCHEMA RUN_ELT.NOWHERE TO ROLE ELT"
        in remedy
    )


def test_table_that_cannot_be_dropped_again_is_named(set_up: SetUp) -> None:
    def refuse(event: StatementEvent) -> None:
        if event.phase == "before" and event.sql.startswith("DROP"):
            raise SqlError("Insufficient privileges", errno=3001, sqlstate="42501")

    set_up.server.hook = refuse
    ((name, detail, remedy),) = set_up.account()
    assert name == "schemas"
    assert "TEMP_RUN_ELT_DOCTOR__" in detail
    assert remedy.startswith('Drop it: DROP TABLE IF EXISTS "RUN_ELT"."ANALYTICS"."TEMP_RUN_ELT_DOCTOR__')


def test_target_that_publishing_would_refuse_is_said_with_the_remedy(set_up: SetUp, session: Session) -> None:
    set_up.table("shown", "select 1 as n")
    session.sql("create view analytics.shown as select 1 as n")
    session.sql("create role owner")
    session.sql("create table analytics.mau (n int)")
    session.sql("grant ownership on table analytics.mau to role owner")
    failures = set_up.account()
    assert len(failures) == 2
    (first, detail, remedy), (second, _, drop) = failures
    assert first == second == "targets"
    assert "got a table that role OWNER owns, not ELT" in detail
    assert remedy == "Use publish: overwrite to keep the object, or grant its ownership to ELT."
    assert drop == "Drop or rename it, then materialize again."


def test_policies_that_cannot_be_listed_fail_unless_they_need_not_be(set_up: SetUp, session: Session) -> None:
    def refuse(event: StatementEvent) -> None:
        if event.phase == "before" and "POLICY_REFERENCES" in event.sql:
            raise SqlError("Unsupported feature 'POLICY_REFERENCES'.", errno=2, sqlstate="0A000")

    session.sql("create table analytics.mau (n int)")
    set_up.server.hook = refuse
    ((name, _, remedy),) = set_up.account()
    assert (name, "RUN_ELT_CHECK_POLICIES=false" in remedy) == ("targets", True)
    set_up.set(RUN_ELT_CHECK_POLICIES="false")
    assert set_up.account() == []


def test_declared_policy_that_is_not_there_is_said_with_its_grant(set_up: SetUp, session: Session) -> None:
    session.sql("create masking policy raw_data.mask as (v int) returns int -> 0")
    policies = "row_access: {name: raw_data.filter, on: n}, masking: {v: raw_data.mask}"
    set_up.table("shown", f"/* elt\npolicies: {{{policies}}}\nelt */ select 1 as n, 2 as v")
    ((name, detail, remedy),) = set_up.account()
    assert name == "targets"
    assert detail.startswith("analytics.shown requires row access policy RUN_ELT.RAW_DATA.FILTER, got: ")
    assert remedy == (
        "Create it, or GRANT USAGE ON SCHEMA RUN_ELT.RAW_DATA and GRANT APPLY ON ROW ACCESS POLICY RUN_ELT.RAW_DATA.FILTER TO ROLE ELT."
    )
    session.sql("create row access policy raw_data.filter as (n int) returns boolean -> n > 0")
    assert set_up.account() == []


def test_leftover_candidates_are_counted(set_up: SetUp, session: Session) -> None:
    session.sql("create table analytics.temp_mau__0123ABCD (n int) comment = '[run_elt failed 0123 at 2026-11-25]'")
    settings = Settings.from_environment()
    found = {finding.name: finding.detail for finding in check_account(settings, load_tables(settings.tables_dir))}
    assert found["candidates"] == "the next run drops 0 older than 72 h and keeps 1 younger or unmarked ones"


def test_candidate_of_a_governed_table_that_others_can_read_is_named(set_up: SetUp, session: Session) -> None:
    session.sql("create masking policy raw_data.mask as (v int) returns int -> 0")
    set_up.table("shown", "/* elt\npolicies: {masking: {v: raw_data.mask}}\nelt */ select 1 as n, 2 as v")
    for name in ("shown", "mau"):
        session.sql(
            f"create table analytics.temp_{name}__0123ABCD (n int) comment = '[run_elt failed 0123 at 2026-11-25]'"
        )
    assert set_up.account() == []
    # A person grants on what there is, and some of it is a candidate.
    for name in ("shown", "mau"):
        session.sql(f"grant select on table analytics.temp_{name}__0123ABCD to role public")
    ((name, detail, remedy),) = set_up.account()
    assert name == "candidates"
    assert detail.startswith("PUBLIC can read RUN_ELT.ANALYTICS.TEMP_SHOWN__0123ABCD. Its table has policies")
    assert remedy.startswith('DROP TABLE "RUN_ELT"."ANALYTICS"."TEMP_SHOWN__0123ABCD"')


def test_missing_warehouse_and_database_are_said(set_up: SetUp) -> None:
    def nothing(event: StatementEvent) -> None:
        if event.phase == "before" and "CURRENT_WAREHOUSE" in event.sql:
            event.statement.sql = "SELECT 'SVC', 'ELT', NULL, NULL, 'ACC', 'REGION'"

    set_up.server.hook = nothing
    (warehouse, _, use), (database, _, remedy) = set_up.account()
    assert (warehouse, database) == ("warehouse", "database")
    assert use == "GRANT USAGE ON WAREHOUSE wh TO ROLE ELT, or correct SNOWFLAKE_WAREHOUSE."
    assert remedy == "GRANT USAGE ON DATABASE run_elt TO ROLE ELT, or correct SNOWFLAKE_DATABASE."


@pytest.mark.parametrize(
    ("change", "variables", "problem", "remedy"),
    [
        ({}, {"SLACK_CHANNEL": "C0WRONGONE"}, "Slack refuses it: channel_not_found.", "the channel's ID"),
        ({"joined": False}, {}, "the app is not in alerts (C0STANDIN).", "Invite the app"),
        ({"archived": True}, {}, "alerts (C0STANDIN) is archived.", "not archived"),
        ({"scopes": "channels:read"}, {}, "posting requires the scope chat:write", "install it again"),
        ({"faults": [Fault(status=503, method="auth.test")]}, {}, "Slack answered HTTP 503.", "SLACK_BASE_URL"),
        ({}, {"SLACK_CHANNEL": ""}, "got no SLACK_CHANNEL. No alert is sent.", "Set SLACK_CHANNEL."),
        ({}, {"SLACK_BASE_URL": "http://127.0.0.1:9/"}, "Slack cannot be reached", "http://127.0.0.1:9/"),
    ],
    ids=["wrong channel", "not invited", "archived", "no scope", "down", "no channel", "unreachable"],
)
def test_slack_that_would_not_take_an_alert_is_said(
    set_up: SetUp, change: dict[str, Any], variables: dict[str, str], problem: str, remedy: str
) -> None:
    for name, value in change.items():
        setattr(set_up.slack, name, value)
    set_up.set(**variables)
    ((name, detail, mend),) = failed_of(check_slack(Settings.from_environment()))
    assert name.startswith("slack")
    assert problem in detail
    assert remedy in mend


@pytest.mark.parametrize("how", ["a name", "no scope"])
def test_channel_that_cannot_be_looked_up_is_skipped(set_up: SetUp, how: str) -> None:
    if how == "a name":
        set_up.set(SLACK_CHANNEL="#alerts")
    else:
        set_up.slack.scopes = "chat:write"
    token, channel = check_slack(Settings.from_environment())
    assert (token.status, channel.status) == ("ok", "skip")
    assert "run-elt alert --test" in channel.detail


def test_history_without_run_monitoring_and_without_daemon_fails(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").touch()
    found = Deployment(tmp_path).look()
    assert found["run monitoring"][0] == "FAIL"
    assert found["daemon"] == ("FAIL", "the schedule and the alerts require a daemon, got none on this history ever.")
    # They do not run: that they are switched on is no comfort.
    for name in ("schedule", "sensors"):
        assert found[name] == ("skip", "it does not run without a daemon")


def a_home(directory: Path) -> Deployment:
    (directory / "dagster.yaml").write_text(json.dumps({**MONITORING, "telemetry": {"enabled": False}}))
    return Deployment(directory)


def test_daemon_that_has_gone_fails_and_nothing_that_it_ran_is_ok(tmp_path: Path) -> None:
    deployment = a_home(tmp_path)
    with deployment.open() as instance:
        evaluated(instance, seconds_ago=400)
        beat(instance, seconds_ago=400)
    found = deployment.look()
    status, detail = found["daemon"]
    assert status == "FAIL"
    assert detail.startswith("requires a heartbeat every 300 s, got the last 40")
    assert [found[name][0] for name in ("code location", "schedule", "sensors")] == ["skip"] * 3


def test_code_location_that_the_daemon_does_not_evaluate_fails(deployment: Deployment) -> None:
    with deployment.open() as instance:
        evaluated(instance, seconds_ago=400)
    found = deployment.look()
    status, detail = found["code location"]
    assert status == "FAIL"
    assert "requires sensors that are evaluated every 30 s, got none of run_elt evaluated in the last 40" in detail
    for name in ("schedule", "sensors"):
        assert found[name] == ("skip", "it does not run while the code location is not loaded")


def test_code_location_of_the_same_tables_that_is_not_evaluated_fails_though_another_is(deployment: Deployment) -> None:
    with deployment.open() as instance:
        evaluated(instance, seconds_ago=400, location="another")
    status, detail = deployment.look()["code location"]
    assert (status, "none of another evaluated" in detail) == ("FAIL", True)


def test_code_location_that_was_never_evaluated_fails(tmp_path: Path) -> None:
    deployment = a_home(tmp_path)
    with beating(tmp_path), deployment.open() as instance:
        for state in instance.all_instigator_state():
            instance.delete_instigator_state(state.instigator_origin_id, state.selector_id)
        found = deployment.look()
    assert (found["code location"][0], found["schedule"][0]) == ("FAIL", "skip")


def test_two_daemons_fail(tmp_path: Path) -> None:
    deployment = a_home(tmp_path)
    with beating(tmp_path, "daemon-a", "daemon-b"):
        found = deployment.look()
    status, detail = found["daemon"]
    assert status == "FAIL"
    assert "requires one daemon, got 2 that give heartbeats in turn (daemon-a, daemon-b)" in detail
    assert found["schedule"][0] == "ok"


def test_midnight_that_the_schedule_owes_fails(deployment: Deployment) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=2)).timestamp()
    with deployment.open() as instance:
        switch(instance, "daily", "SCHEDULE", "DECLARED_IN_CODE", start_timestamp=yesterday)
    status, detail = deployment.look()["schedule"]
    assert status == "FAIL"
    assert "daily requires a tick of " in detail


def test_schedule_of_each_kind_of_partitions_is_looked_at(deployment: Deployment) -> None:
    tables = catalogue([divided("select 1 as n", partitions={"by": "hour", "column": "n", "start": date(2024, 1, 1)})])
    assert deployment.look(tables=tables)["schedule"] == (
        "ok",
        "daily, hourly_2024010100: running by default; no daemon has taken up hourly_2024010100 yet",
    )
    since = (datetime.now(UTC) - timedelta(hours=3)).timestamp()
    with deployment.open() as instance:
        switch(instance, "hourly_2024010100", "SCHEDULE", "DECLARED_IN_CODE", start_timestamp=since)
    status, detail = deployment.look(tables=tables)["schedule"]
    assert (status, "hourly_2024010100 requires a tick of " in detail) == ("FAIL", True)
    with deployment.open() as instance:
        switch(instance, "hourly_2024010100", "SCHEDULE", "DECLARED_IN_CODE", start_timestamp=time.time())
        tags = {"dagster/schedule_name": "hourly_2024010100", "dagster/run_key": "2026-11-27T01:00:00+00:00"}
        for _ in range(2):
            instance.add_run(dg.DagsterRun(job_name="RunELT_Alert_hour_2024010100", tags=tags))
    assert "a tick requires one run" in deployment.look(tables=tables)["schedule"][1]


def test_tick_that_launched_two_runs_fails_but_a_retry_is_no_second_run(deployment: Deployment) -> None:
    tags = {"dagster/schedule_name": "daily", "dagster/run_key": "2026-11-27T00:00:00+00:00"}
    with deployment.open() as instance:
        instance.add_run(dg.DagsterRun(job_name="RunELT_Alert", tags=tags))
        instance.add_run(dg.DagsterRun(job_name="RunELT_Alert", tags={**tags, "dagster/parent_run_id": "it"}))
    assert deployment.look()["schedule"][0] == "ok"
    with deployment.open() as instance:
        instance.add_run(dg.DagsterRun(job_name="RunELT_Alert", tags=tags))
    status, detail = deployment.look()["schedule"]
    assert (status, "a tick requires one run, got 2026-11-27T00:00:00+00:00 launched " in detail) == ("FAIL", True)


def test_machine_with_an_account_and_no_deployment_skips_schedule_and_sensors_unless_they_run(tmp_path: Path) -> None:
    account = {f"SNOWFLAKE_{name}": "x" for name in ("ACCOUNT", "USER", "ROLE", "WAREHOUSE", "DATABASE", "PASSWORD")}
    mine, deployment = Settings.from_environment(account), a_home(tmp_path)
    with beating(tmp_path), deployment.open() as instance:
        # Evaluated a moment ago: a deployment works on this history.
        assert deployment.look(mine)["schedule"] == ("ok", "daily: running")
        evaluated(instance, seconds_ago=400)
        found = deployment.look(mine)
        assert found["schedule"][0] == found["sensors"][0] == found["code location"][0] == "skip"
        assert "RUN_ELT_DEPLOYMENT" in found["schedule"][1]
        # Switched on by hand, and then not evaluated.
        switch(instance, "lost_runs", "SENSOR", "RUNNING")
        assert deployment.look(mine)["code location"][0] == "FAIL"


def test_schedule_and_sensors_that_are_switched_off_fail_but_not_those_of_another_location(
    deployment: Deployment,
) -> None:
    with deployment.open() as instance:
        switch(instance, "daily", "SCHEDULE", "STOPPED", location="another")
        switch(instance, "daily", "SCHEDULE", "RUNNING")
        switch(instance, "slack_alert_retries", "SENSOR", "STOPPED")
    found = deployment.look()
    assert found["schedule"] == ("ok", "daily: running")
    assert found["sensors"] == ("FAIL", "switched off: slack_alert_retries of run_elt.")


def test_sensor_of_the_receivers_is_looked_at_where_some_are_set_and_what_waits_for_them_is_told(
    deployment: Deployment, tmp_path: Path
) -> None:
    settings = Settings(alerts=AlertSettings(receivers=SecretStr("hook=json://127.0.0.1:9")))
    (tmp_path / "tables" / "a").mkdir(parents=True)
    (tmp_path / "tables" / "a" / "b.sql").write_text("select 1 as n", encoding="utf-8")
    tables, now = load_tables(tmp_path / "tables"), time.time()
    with deployment.open() as instance:
        switch(instance, "alert_receivers", "SENSOR", "STOPPED")
        news = News("1", "failed", "run", now - 600, "a.b was not published", left=("hook",))
        ledger = ReceiverLedger(0, (news,), standings={"hook": Standing("retry", 3, reason="not taken")})
        write_ledger(instance, "", ledger, now=now, said=None)
    assert "alert_receivers" not in deployment.look()["sensors"][1]
    found = deployment.look(settings, tables)
    assert found["sensors"] == ("FAIL", "switched off: alert_receivers of run_elt.")
    assert found["alerts"] == ("FAIL", "1 alert waits for the receiver hook, got not taken (3 attempts).")


def test_sensor_of_the_digest_is_looked_at_where_a_file_declares_a_severity(
    deployment: Deployment, tmp_path: Path
) -> None:
    path = tmp_path / "tables" / "analytics" / "mau.sql"
    path.parent.mkdir(parents=True)
    path.write_text("/* elt\nalerts: {severity: digest}\nelt */ select 1 as n", encoding="utf-8")
    with deployment.open() as instance:
        switch(instance, "slack_alert_digest", "SENSOR", "STOPPED")
    assert "slack_alert_digest" not in deployment.look()["sensors"][1]
    found = deployment.look(tables=load_tables(path.parents[1]))
    assert found["sensors"] == ("FAIL", "switched off: slack_alert_digest of run_elt.")


def test_failed_run_without_its_alert_fails(deployment: Deployment) -> None:
    @dg.op
    def fails() -> None:
        raise ValueError("as ordered")

    @dg.job(name="RunELT_Alert")
    def job() -> None:
        fails()

    settings = Settings.from_environment({})
    tables = load_tables(settings.tables_dir)
    assert deployment.look(settings, tables)["alerts"][0] == "ok"
    with deployment.open() as instance:
        run = job.execute_in_process(instance=instance, raise_on_error=False)
        entry = LedgerEntry(status="blocked", reason="invalid_auth: Correct SLACK_TOKEN.")
        instance.add_run_tags(run.run_id, entry.tags(run.run_id))
    found = deployment.look(settings, tables)
    assert found["alerts"] == ("FAIL", "1 failed run waits for its alert. invalid_auth: Correct SLACK_TOKEN.")


def test_home_that_is_no_folder_fails_and_everything_else_is_looked_at(set_up: SetUp) -> None:
    set_up.set(DAGSTER_HOME=str(set_up.directory / "nowhere"))
    ((name, detail, _),) = set_up.failures()
    assert name == "history"
    assert "nowhere" in detail
