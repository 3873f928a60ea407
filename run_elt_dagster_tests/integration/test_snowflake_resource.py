"""The resource with an account, against a server on loopback that answers as Snowflake does."""

import base64
import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import snowflake.connector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.connector.errors import Error

from run_elt_dagster.alerts.production import look_at_production
from run_elt_dagster.library import build_defs
from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.settings import PublishOptions, Settings, secret_values
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.session import StatementError
from run_elt_dagster_tests.simulator import SimulatedServer, StatementEvent
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS, cases


class Account:
    """A server, and the environment variables that lead to it."""

    def __init__(self, directory: Path) -> None:
        self.slow = threading.Event()
        self.server = SimulatedServer(directory, hook=self._hold)
        self.environment = {
            "SNOWFLAKE_ACCOUNT": "embedded",
            "SNOWFLAKE_USER": "svc",
            "SNOWFLAKE_ROLE": "elt",
            "SNOWFLAKE_WAREHOUSE": "wh",
            "SNOWFLAKE_DATABASE": "run_elt",
            "SNOWFLAKE_PASSWORD": self.server.password,
            "SNOWFLAKE_HOST": "127.0.0.1",
            "SNOWFLAKE_PORT": str(self.server.port),
            "SNOWFLAKE_PROTOCOL": "http",
            "RUN_ELT_STATEMENT_TIMEOUT_SECONDS": "77",
        }

    def _hold(self, event: StatementEvent) -> None:
        if event.phase == "before" and "slow" in event.sql:
            self.slow.set()
            event.statement.wait(PATIENCE_SECONDS)

    def resource(self, **changes: str) -> Snowflake:
        """Make the resource as definitions.py does; Dagster would resolve the variable of the password."""
        settings = Settings.from_environment({**self.environment, **changes})
        resource = Snowflake.from_settings(settings)
        return resource.model_copy(update={"password": {**self.environment, **changes}["SNOWFLAKE_PASSWORD"]})


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    account = Account(tmp_path)
    account.server.start()
    yield account
    account.server.stop()


def value(resource: Snowflake, expression: str) -> object:
    with resource.connect() as connection, connection.cursor() as cursor:
        ((answer,),) = cursor.execute(f"select {expression}").fetchall()
        return answer


def test_session_has_the_role_warehouse_and_database_of_the_settings(account: Account) -> None:
    resource = account.resource()
    assert [value(resource, f"current_{name}()") for name in ("user", "role", "warehouse", "database")] == [
        "SVC",
        "ELT",
        "WH",
        "RUN_ELT",
    ]


def test_account_and_slack_are_set_up_side_by_side(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret of the one is no field of the other, which no process of a test on the embedded Snowflake would notice."""
    for name, text in {**account.environment, "SLACK_TOKEN": "xoxb-canary", "SLACK_CHANNEL": "C0123"}.items():
        monkeypatch.setenv(name, text)
    assert value(Snowflake.from_settings(Settings.from_environment()).resolved(), "1") == 1


def test_statement_that_runs_for_too_long_is_ended_by_snowflake(account: Account) -> None:
    with (
        account.resource(RUN_ELT_STATEMENT_TIMEOUT_SECONDS="1").session() as session,
        pytest.raises(StatementError, match="timeout") as ended,
    ):
        session.execute("select 'slow'", tag={})
    assert (ended.value.errno, ended.value.answered) == (630, True)


def test_connection_is_closed_after_use_and_after_an_error(account: Account) -> None:
    with account.resource().connect() as connection:
        assert not connection.is_closed()
    assert connection.is_closed()
    with pytest.raises(RuntimeError, match="in between"), account.resource().connect() as connection:
        raise RuntimeError("in between")
    assert connection.is_closed()


@cache
def private_key() -> rsa.RSAPrivateKey:
    """Return one key for all tests: making one takes half a second of CPU."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(password: bytes | None = None) -> str:
    kept = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return private_key().private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kept).decode()


def test_connector_is_told_what_dagster_snowflake_would_tell_it(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ways to sign in, because the import of dagster-snowflake takes longer than they do."""
    key = pem()
    (tmp_path / "key.p8").write_text(key, encoding="utf-8")
    (tmp_path / "locked.p8").write_text(pem(b"open"), encoding="utf-8")
    told: list[dict[str, Any]] = []

    class Told(Exception):  # noqa: N818 - no error, but the end of what is looked at here
        pass

    def connect(**arguments: Any) -> None:
        told.append(arguments)
        raise Told

    # What is sent is looked at, and not who answers.
    monkeypatch.setattr(snowflake.connector, "connect", connect)
    ways: tuple[dict[str, Any], ...] = (
        {"password": "p"},
        {"private_key": key},
        {"private_key": base64.b64encode(key.encode()).decode()},
        {"private_key_path": str(tmp_path / "key.p8")},
        {"private_key_path": str(tmp_path / "locked.p8"), "private_key_password": "open"},
        {"authenticator": "oauth", "token_file_path": str(tmp_path / "token")},
    )
    for way in ways:
        resource = account.resource().model_copy(update={"password": None, **way})
        told.clear()
        with pytest.raises(Told), resource.connect():
            pass
        with pytest.raises(Told), resource.dagster_snowflake().get_connection():
            pass
        with pytest.raises(Told), Snowflake.of(resource.dagster_snowflake()).connect():
            pass
        own = ("application", "backoff_policy")
        ours, theirs, taken = ({name: v for name, v in one.items() if name not in own} for one in told)
        assert ours == {**theirs, "autocommit": True}, way.keys()
        assert taken == ours, way.keys()


def assert_an_account_is_required(theirs: Any) -> None:
    """It may name its connection elsewhere; taken for none, its tables would be built on the embedded Snowflake."""
    with pytest.raises(ValueError, match="the resource of Snowflake requires an account, got none"):
        Snowflake.of(theirs.model_copy(update={"account": None}))
    named = theirs.model_copy(
        update={"account": None, "additional_snowflake_connection_args": {"connection_name": "prod"}}
    )
    assert not Snowflake.of(named).is_embedded


@pytest.mark.parametrize("given", cases(("ours", "theirs"), usual=["theirs"]))
def test_users_assets_and_tables_run_with_the_same_resource(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """Whichever class it is of: what the user's asset is annotated with is dagster-snowflake's."""
    from dagster_snowflake import SnowflakeResource  # noqa: PLC0415 - seconds to import

    monkeypatch.setenv("THE_PASSWORD", account.server.password)
    theirs = account.resource().dagster_snowflake().model_copy(update={"password": dg.EnvVar("THE_PASSWORD")})
    assert_an_account_is_required(theirs)
    with account.resource().connect() as connection, connection.cursor() as cursor:
        cursor.execute("create schema analytics")
    path = tmp_path / "sql" / "analytics" / "orders.sql"
    path.parent.mkdir(parents=True)
    path.write_text("select n from raw_data.orders", encoding="utf-8")
    found: list[object] = []

    @dg.asset(key=["raw_data", "orders"])
    def before(snowflake: SnowflakeResource) -> None:
        snowflake.connect_and_execute("create schema raw_data")
        with snowflake.get_connection() as connection:
            connection.cursor().execute("create table raw_data.orders as select 5 as n")

    @dg.asset(deps=[["analytics", "orders"]])
    def after(snowflake: SnowflakeResource) -> None:
        with snowflake.get_connection(raw_conn=True) as connection:
            found.extend(connection.cursor().execute("select * from analytics.orders").fetchall())

    mine = dg.Definitions(assets=[before, after], jobs=[dg.define_asset_job("all")])
    resource = theirs if given == "theirs" else Snowflake.of(theirs)
    defs = dg.Definitions.merge(
        mine, build_defs(tmp_path / "sql", snowflake=resource, settings=Settings(cache_dir=None))
    )
    with dg.DagsterInstance.ephemeral() as instance:
        assert defs.resolve_job_def("all").execute_in_process(instance=instance).success
    assert found == [(5,)]
    assert account.server.password in secret_values()


@pytest.mark.parametrize("given", cases(("ours", "theirs"), usual=["ours"]))
def test_session_has_the_parameters_of_its_sign_in_whatever_the_resource_sets(account: Account, given: str) -> None:
    resource = account.resource()
    if given == "theirs":
        more = {
            **resource.dagster_snowflake().additional_snowflake_connection_args,
            "session_parameters": {"lock_timeout": 60},
        }
        update = {"additional_snowflake_connection_args": more}
        resource = Snowflake.of(resource.dagster_snowflake().model_copy(update=update))
    with resource.connect() as connection, connection.cursor() as cursor, resource.session() as session:
        cursor.execute("create table public.t as select 1 as n")
        cursor.execute("begin")
        cursor.execute("update public.t set n = 2")
        with session.fresh({"LOCK_TIMEOUT": 0}) as fresh, pytest.raises(StatementError) as late:
            fresh.execute("update public.t set n = 3", tag={})
        assert late.value.errno == 625
        cursor.execute("commit")
        with session.fresh() as fresh:
            assert fresh.execute("select n from public.t", tag={}).rows == ((2,),)


def test_key_that_cannot_be_read_is_an_error_that_does_not_tell_it(account: Account) -> None:
    resource = account.resource().model_copy(update={"password": None, "private_key": "-----BEGIN canary"})
    with (
        pytest.raises(ValueError, match="SNOWFLAKE_PRIVATE_KEY requires a private key in PEM") as wrong,
        resource.connect(),
    ):
        pass
    assert "canary" not in str(wrong.value)


def test_wrong_password_is_an_error_that_does_not_tell_it(account: Account) -> None:
    with (
        pytest.raises(Error, match="Incorrect username or password") as refused,
        account.resource(SNOWFLAKE_PASSWORD="canary").connect(),
    ):
        pass
    assert "canary" not in str(refused.value)


def test_run_signs_in_once_and_reads_the_password_from_the_environment(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in account.environment.items():
        monkeypatch.setenv(name, text)
    resource = Snowflake.from_settings(Settings.from_environment())
    table = AnalyticsTable.model_validate({"schema": "analytics", "table": "n", "sql": "select 1 as n"})
    with account.resource().connect() as connection, connection.cursor() as cursor:
        cursor.execute("create schema analytics")
    logins = account.server.logins
    assets = [analytics_assets(catalogue([table]), PublishOptions(max_concurrent_tables=2, creates_schemas=True))]
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize(assets, resources={"snowflake": resource}, instance=instance).success
    assert account.server.logins == logins + 1
    tags = [json.loads(record.query_tag) for record in account.server.history if record.query_tag]
    assert [tag["stage"] for tag in tags] == ["inspect", "build", "audit", "publish", "clean-up"]


def test_comments_tell_whose_rows_readers_see(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in account.environment.items():
        monkeypatch.setenv(name, text)
    with account.resource().connect() as connection, connection.cursor() as cursor:
        cursor.execute("create schema analytics")
        cursor.execute(
            "create table analytics.mau (n int) comment = 'Users. [run_elt run 0123 at 2026-11-25T00:00:00Z]'"
        )
    tables = catalogue(
        [
            AnalyticsTable.model_validate({"schema": "analytics", "table": t, "sql": "select 1"})
            for t in ("mau", "other")
        ]
    )
    resource = Snowflake.from_settings(Settings.from_environment())
    names = ["analytics.mau", "analytics.other"]
    seen = look_at_production(resource.resolved, tables, names, logging.getLogger())
    assert seen == {"analytics.mau": Marker("run", "0123", "2026-11-25T00:00:00Z"), "analytics.other": None}
    # Nobody listens there: an alert does not wait for it.
    resource = resource.model_copy(update={"port": 9})
    assert look_at_production(lambda: resource, tables, names, logging.getLogger()) is None


def test_table_is_built_on_its_own_warehouse_and_its_child_on_the_common_one(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNOWFLAKE_PASSWORD", account.server.password)
    with account.resource().connect() as connection, connection.cursor() as cursor:
        cursor.execute("create schema analytics")
    large = {"schema": "analytics", "table": "large", "warehouse": "large_wh", "sql": "select current_warehouse() as w"}
    child = {
        "schema": "analytics",
        "table": "child",
        "sql": "select w, current_warehouse() as own from analytics.large",
    }
    tables = [AnalyticsTable.model_validate(table) for table in (large, child)]
    logins = account.server.logins
    with dg.DagsterInstance.ephemeral() as instance:
        assets = [analytics_assets(catalogue(tables), PublishOptions(max_concurrent_tables=2, creates_schemas=True))]
        assert dg.materialize(assets, resources={"snowflake": account.resource()}, instance=instance).success
    # The run's own session, that of the large table, and one that sees what it has published.
    assert account.server.logins == logins + 3
    with account.resource().connect() as connection, connection.cursor() as cursor:
        assert cursor.execute("select * from analytics.child").fetchall() == [("LARGE_WH", "WH")]
    assert account.server.open_sessions == 0


def test_cancelling_a_session_ends_the_query_on_another_warehouse_too(account: Account) -> None:
    with (
        account.resource().session() as session,
        session.on_warehouse("large_wh") as own,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(own.execute, "select 'slow'", tag={})
        assert account.slow.wait(PATIENCE_SECONDS)
        session.cancel()
        with pytest.raises(StatementError, match="cancel"):
            running.result(PATIENCE_SECONDS)


def test_cancelling_a_session_ends_its_query(account: Account) -> None:
    resource = account.resource()
    with resource.session() as session, ThreadPoolExecutor(1) as pool:
        running = pool.submit(session.execute, "select 'slow'", tag={})
        assert account.slow.wait(PATIENCE_SECONDS)
        session.cancel()
        with pytest.raises(StatementError, match="cancel") as cancelled:
            running.result(PATIENCE_SECONDS)
    assert cancelled.value.answered


def test_interrupted_run_cancels_its_query_and_publishes_nothing(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNOWFLAKE_PASSWORD", account.server.password)
    table = AnalyticsTable.model_validate({"schema": "analytics", "table": "n", "sql": "select 'slow' as n"})
    with account.resource().connect() as connection, connection.cursor() as cursor:
        cursor.execute("create schema analytics")

    def interrupt() -> None:
        assert account.slow.wait(PATIENCE_SECONDS)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assets = [analytics_assets(catalogue([table]), PublishOptions(max_concurrent_tables=2, creates_schemas=True))]
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            assets, resources={"snowflake": account.resource()}, instance=instance, raise_on_error=False
        )
    thread.join(PATIENCE_SECONDS)
    assert not result.success
    statements = [record.sql for record in account.server.history]
    assert not any("CLONE" in sql for sql in statements)
    assert any("SYSTEM$CANCEL_ALL_QUERIES" in sql for sql in statements)
    assert account.server.running() == []
