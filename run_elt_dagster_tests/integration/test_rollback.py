"""Putting back the version that readers saw before, on the simulator over the real connector."""

import itertools
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.rollback import Rollback
from run_elt_dagster.publish.rollback_plan import RollbackPlan
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import ConnectorSession, StatementError
from run_elt_dagster_tests.faults.kinds import FAULTS, meet
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.effort import cases, effort
from run_elt_dagster_tests.support.embedded import Background, connecting
from run_elt_dagster_tests.support.local_server import METHODS, NEW, OLD, LocalServer, mau
from run_elt_dagster_tests.support.run_arguments import run_arguments

METHOD = {"clone": "undrop", "swap": "swap", "overwrite": "time travel"}


@contextmanager
def rollback_of(local_server: LocalServer, *, more: str = "", **options: Any) -> Generator[Rollback]:
    text = mau(1, 1, more=more)
    table = parse_table_file(local_server.directory / "mau.sql", text, schema="analytics", table="mau")
    connect = connecting(local_server.account.arguments)
    with connect() as connection, ConnectorSession(connection, connect) as session:
        chosen = run_arguments("rollback", retry_seconds=(0, 0, 0), **options)
        runner = StatementRunner(session, chosen["run"], threading.Event(), patience=chosen["patience"])
        yield Rollback(runner, table, database="RUN_ELT")


def roll_back(local_server: LocalServer, *, further: bool = False) -> RollbackPlan:
    with rollback_of(local_server) as rollback:
        plan = rollback.plan(further=further)
        assert rollback.carry_out(plan) == ()
    return plan


def publish_twice(local_server: LocalServer, publish: str) -> None:
    assert local_server.run("0000000A", mau(3, 1, publish=publish)).published
    local_server.reader.sql("grant select on table analytics.mau to role public")
    assert local_server.run("0000000B", mau(5, 2, publish=publish)).published
    assert local_server.seen() == NEW


def grantees(local_server: LocalServer) -> set[str]:
    rows = local_server.reader.sql("show grants on table analytics.mau")
    return {row[5] for row in rows if row[1] == "SELECT"}


@pytest.mark.parametrize("publish", cases(METHODS, usual=["swap", "overwrite"]))
def test_previous_version_comes_back_with_the_present_grants(local_server: LocalServer, publish: str) -> None:
    publish_twice(local_server, publish)
    local_server.reader.sql("create role later")
    local_server.reader.sql("grant select on table analytics.mau to role later")
    plan = roll_back(local_server)
    assert plan.method == METHOD[publish]
    assert (plan.present, plan.previous.rows) == (plan.present, 3)
    assert plan.present is not None
    assert "5 rows, built" in plan.present.words
    assert (local_server.seen(), grantees(local_server)) == (OLD, {"PUBLIC", "LATER"})
    # What comes after it is published as ever, and waits for nothing that the rollback left.
    assert local_server.run("0000000C", mau(5, 2, publish=publish)).published
    assert local_server.seen() == NEW


@pytest.mark.parametrize("publish", cases(("clone", "swap"), usual=["clone"]))
def test_rollback_of_a_rollback_goes_one_version_further_back(local_server: LocalServer, publish: str) -> None:
    for run, rows in (("0000000A", 3), ("0000000B", 5), ("0000000C", 7)):
        assert local_server.run(run, mau(rows, rows, publish=publish)).published
    seen: list[Any] = []
    for further in (False, True):
        roll_back(local_server, further=further)
        seen += local_server.seen()
    assert seen == [(5, 5, 5), (3, 3, 3)]


@pytest.mark.thorough
@pytest.mark.parametrize("publish", METHODS)
def test_repeated_rollback_changes_nothing_though_the_first_was_complete(
    local_server: LocalServer, publish: str
) -> None:
    assert local_server.run("00000009", mau(7, 7, publish=publish)).published
    publish_twice(local_server, publish)
    roll_back(local_server)
    before = local_server.tables()
    assert (plan := roll_back(local_server)).method == "done"
    assert "--further" in plan.consequence
    assert (local_server.seen(), local_server.tables()) == (OLD, before)
    # The next publish begins anew.
    assert local_server.run("0000000C", mau(5, 2, publish=publish)).published
    assert roll_back(local_server).method == METHOD[publish]
    assert local_server.seen() == OLD


def test_rewritten_rows_go_back_one_version_only(local_server: LocalServer) -> None:
    publish_twice(local_server, "overwrite")
    roll_back(local_server)
    with rollback_of(local_server) as rollback, pytest.raises(PublishRefusedError, match="rolled back already"):
        rollback.plan(further=True)


def test_table_that_somebody_dropped_comes_back(local_server: LocalServer) -> None:
    publish_twice(local_server, "clone")
    local_server.reader.sql("drop table analytics.mau")
    assert roll_back(local_server).present is None
    assert local_server.seen() == NEW


def test_what_would_be_lost_or_is_about_to_change_is_not_rolled_back(local_server: LocalServer) -> None:
    with (
        rollback_of(local_server) as rollback,
        pytest.raises(PublishRefusedError, match="neither a table nor a dropped"),
    ):
        rollback.plan()
    assert local_server.run("0000000A", mau(3, 1)).published
    with (
        rollback_of(local_server) as rollback,
        pytest.raises(PublishRefusedError, match="none that Snowflake still keeps"),
    ):
        rollback.plan()
    assert local_server.run("0000000B", mau(5, 2)).published
    local_server.reader.sql(
        "create table analytics.temp_mau__0000000c comment = '[run_elt run 0000000C]' as select 1 as n"
    )
    options: dict[str, Any] = {"is_live": "0000000C".__eq__}
    with rollback_of(local_server, **options) as rollback, pytest.raises(PublishRefusedError, match="run 0000000C"):
        rollback.plan()
    local_server.reader.sql("create role other")
    local_server.reader.sql("grant ownership on table analytics.mau to role other")
    with rollback_of(local_server) as rollback, pytest.raises(PublishRefusedError, match="role OTHER owns") as refused:
        rollback.plan()
    # "The previous table" would be the one that readers are to see again.
    assert "Readers still see the previous table" not in str(refused.value)
    assert "rolling back analytics.mau would put" in str(refused.value)
    assert local_server.seen() == NEW


def test_rows_that_would_be_read_through_a_policy_are_not_written_over_those_of_now(local_server: LocalServer) -> None:
    publish_twice(local_server, "overwrite")
    local_server.reader.sql("create masking policy raw_data.mask as (v number) returns number -> 0")
    local_server.reader.sql("alter table analytics.mau modify column v set masking policy raw_data.mask")
    refused = pytest.raises(PublishRefusedError, match="without policies, got masking policy MASK on it")
    with rollback_of(local_server) as rollback, refused:
        rollback.plan()
    local_server.reader.sql("alter table analytics.mau modify column v unset masking policy")
    assert roll_back(local_server).method == "time travel"


def test_table_with_declared_policies_is_not_rolled_back(local_server: LocalServer) -> None:
    """The version of before may lack them."""
    publish_twice(local_server, "clone")
    policies = "policies: {masking: {v: raw_data.mask}}"
    refused = pytest.raises(PublishRefusedError, match="got one whose file declares policies")
    with rollback_of(local_server, more=policies) as rollback, refused:
        rollback.plan()
    assert local_server.seen() == NEW


@pytest.mark.thorough
def test_version_that_came_after_the_plan_stays(local_server: LocalServer) -> None:
    publish_twice(local_server, "clone")
    with rollback_of(local_server) as rollback:
        plan = rollback.plan()
        assert local_server.run("0000000C", mau(7, 3)).published
        with pytest.raises(PublishRefusedError, match="Nothing was changed: readers see 7 rows"):
            rollback.carry_out(plan)
    assert local_server.seen() == [(7, 3, 3)]
    assert not any("run_elt rollback " in comment for comment in comments(local_server))


def test_run_that_publishes_just_before_the_exchange_is_told(local_server: LocalServer) -> None:
    """No statement can require that nobody publishes before it: what the command says is what a new session sees."""
    publish_twice(local_server, "clone")
    newer: list[bool] = []

    def publish_first(event: StatementEvent) -> None:
        if event.phase == "before" and "RENAME TO" in event.sql and not newer:
            newer.append(True)
            newer.append(local_server.run("0000000C", mau(7, 3)).published)

    with rollback_of(local_server) as rollback:
        plan = rollback.plan()
        with (
            local_server.account.hooked(publish_first),
            pytest.raises(PublishRefusedError, match="no run publishes it meanwhile") as refused,
        ):
            rollback.carry_out(plan)
    assert newer == [True, True]
    assert local_server.seen() == NEW
    assert "Now readers see 5 rows" in str(refused.value)
    # What was taken away is not lost, and the next run publishes.
    assert str(plan.aside) in str(refused.value)
    assert local_server.run("0000000D", mau(7, 3)).published


ROLLBACK_FAULTS = ("refused", "unavailable afterwards", "reported as cancelled")
# What has taken effect is the harder half.
ALWAYS = [("swap", "unavailable afterwards", False)]


@pytest.mark.parametrize(
    ("publish", "fault", "lasts"),
    cases(itertools.product(METHODS, ROLLBACK_FAULTS, (False, True)), usual=ALWAYS),
)
def test_fault_at_any_statement_leaves_a_table_and_a_repeat_goes_to_the_same_version(
    local_server: LocalServer, publish: str, fault: str, lasts: bool
) -> None:
    publish_twice(local_server, publish)
    count, _ = fault_at(local_server, -1, fault)
    assert local_server.seen() == OLD
    complained = 0
    for index in range(0, count, effort(usual=3, thorough=1)):
        assert local_server.run(f"000000{index:02X}", mau(5, 2, publish=publish)).published
        local_server.reader.sql("grant select on table analytics.mau to role public")
        _, is_done = fault_at(local_server, index, fault, lasts=lasts)
        # Repeated, the command never goes back further than the one that began.
        roll_back(local_server)
        complained += not is_done
        assert local_server.seen() == OLD
        assert "PUBLIC" in grantees(local_server)
        assert not any("run_elt rollback " in comment for comment in comments(local_server))
    assert complained > 0 or fault != "refused"
    assert local_server.run("000000FF", mau(5, 2, publish=publish)).published


def comments(local_server: LocalServer) -> list[str]:
    rows = local_server.reader.sql("select comment from information_schema.tables where table_schema = 'ANALYTICS'")
    return [str(comment) for (comment,) in rows]


def fault_at(local_server: LocalServer, index: int, fault: str, *, lasts: bool = False) -> tuple[int, bool]:
    """Roll back with a fault at one statement of its carrying out, and return how many there are and whether it is done.

    A fault that lasts meets every later statement that changes something, too.
    """
    statements: list[str] = []
    kind = FAULTS[fault]

    def hook(event: StatementEvent) -> None:
        if event.phase == "before":
            statements.append(event.sql)
        changes = not event.sql.startswith(("SELECT", "SHOW"))
        if event.phase == kind.phase and (
            len(statements) == index + 1 or (lasts and changes and len(statements) > index >= 0)
        ):
            meet(kind)

    with rollback_of(local_server) as rollback:
        plan = rollback.plan()
        left, told = tuple[str, ...](), ""
        with local_server.account.hooked(hook):
            try:
                left = rollback.carry_out(plan)
            except StatementError as error:
                told = str(error)
        if told:
            assert "Repeat the command" in told
            assert_told_what_readers_see(local_server, told)
        for problem in left:
            assert "the rollback is done" in problem
            assert local_server.seen() == OLD
    return len(statements), not told and not left


def assert_told_what_readers_see(local_server: LocalServer, told: str) -> None:
    tables = local_server.tables()
    if "MAU" not in tables:
        assert "There is no" in told
    else:
        (rows, _, _) = local_server.seen()[0]
        assert f"eaders see {rows} rows" in told
        assert ("Nothing has changed" in told) == (rows == NEW[0][0])


@pytest.mark.parametrize("publish", cases(("swap", "overwrite"), usual=["swap"]))
def test_reader_notices_nothing_but_another_version(local_server: LocalServer, publish: str) -> None:
    publish_twice(local_server, publish)
    stop, seen = threading.Event(), list[Any]()

    def look() -> None:
        session = local_server.account.session()
        # The pause leaves the interpreter to the rollback.
        while not stop.wait(0.02):
            seen.extend(session.sql("select count(*), min(v), max(v) from analytics.mau"))

    looking = Background(look)
    roll_back(local_server)
    stop.set()
    looking.result()
    assert set(seen) <= {*OLD, *NEW}


def test_command_shows_what_it_will_do_and_asks(
    commanded_project: DagsterProject, capsys: pytest.CaptureFixture[str]
) -> None:
    project = commanded_project
    for rows in (3, 5):
        project.declare(mau=mau(rows, rows))
        assert project.materialize().success
    # Another table's file can be wrong just then.
    project.declare(wrong="/* elt\nownr: x\nelt */ select")
    assert main(["rollback", "analytics.mau"]) == 1
    assert "Pass --yes" in capsys.readouterr().err
    assert main(["rollback", "analytics.mau", "--yes"]) == 0
    told = capsys.readouterr().out
    assert "readers see now    5 rows, built" in told
    assert "they will see      3 rows, built" in told
    assert "there is no table" in told
    observed = project.instance.fetch_observations(dg.AssetKey(["analytics", "mau"]), limit=1).records
    assert observed[0].asset_observation is not None
    assert "Rolled back" in (observed[0].asset_observation.description or "")
    assert project.sql("select count(*) from analytics.mau") == [(3,)]


def test_overwritten_table_is_rolled_back_without_an_account(
    commanded_project: DagsterProject, capsys: pytest.CaptureFixture[str]
) -> None:
    project = commanded_project
    for rows in (3, 5):
        project.declare(mau=mau(rows, rows, publish="overwrite"))
        assert project.materialize().success
    assert main(["rollback", "analytics.mau", "--yes"]) == 0
    assert "is back at 3 rows" in capsys.readouterr().out
    assert project.sql("select count(*) from analytics.mau") == [(3,)]
