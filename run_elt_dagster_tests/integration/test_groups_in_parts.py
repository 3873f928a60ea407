"""Groups whose rows are exchanged in one transaction: increments beside whole tables, and tables with the same partitions."""

import json
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.model.lineage import Catalogue, catalogue
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.rebuild import RebuildPlan
from run_elt_dagster.publish.group_lock import GroupLock, GroupNote, lock_of, operator
from run_elt_dagster.publish.group_part_rollback import GroupPartRollback, GroupPartRollbackPlan
from run_elt_dagster.publish.group_recovery import EndedExchange
from run_elt_dagster.publish.group_rollback import LockOfOne, alone_in_group
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.kept_group import GroupPublisher
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.part_rollback import put_back
from run_elt_dagster.publish.part_rollback_plan import PartRollbackPlanner, last_increment
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster_tests.faults.laboratory import arguments_of, open_session, tag_of
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.effort import effort
from run_elt_dagster_tests.support.embedded import Background
from run_elt_dagster_tests.support.ended_groups import at_first, ended_by_another
from run_elt_dagster_tests.support.history import lay_empty_history
from run_elt_dagster_tests.support.local_server import LocalServer

BOTH = "select (select max(v) from analytics.orders), (select max(v) from analytics.totals)"
COUNTED = "select (select count(*) from analytics.orders), (select count(*) from analytics.totals)"


def growing(value: int, *, more: str = "") -> list[AnalyticsTable]:
    """Return a table with increments, and a whole one beside it: each run adds an order, and changes the total."""
    texts = {
        "orders": f"/* elt\npublish_group: sales\nincrement: {{column: at, key: n}}\n{more}\nelt */ "
        f"select {value}::int as n, {value}::int as v, dateadd(hour, {value}, '2024-01-01'::timestamp_ntz) as at",
        "totals": f"/* elt\npublish_group: sales\npublish: overwrite\nelt */ select {value}::int as v",
    }
    return declared(texts)


def daily(value: int, *, days: int = 3, more: str = "") -> list[AnalyticsTable]:
    """Return two tables by day, with one row for each."""
    row = f"select '2024-01-01'::date + seq4() as day, {value} as v from table(generator(rowcount => {days}))"
    head = "/* elt\npublish_group: sales\npartitions: {by: day, column: day, start: 2024-01-01, end: 2024-01-04}\n"
    return declared({"orders": f"{head}elt */ {row}", "totals": f"{head}{more}\nelt */ {row}"})


def declared(texts: Mapping[str, str]) -> list[AnalyticsTable]:
    return [parse_table_file(Path(f"{name}.sql"), text, schema="analytics", table=name) for name, text in texts.items()]


def run(
    server: LocalServer,
    tables: list[AnalyticsTable],
    run_id: str,
    part: str | None = None,
    *,
    warn: list[str] | None = None,
) -> dict[str, TableOutcome]:
    known: Catalogue = catalogue(tables)
    slices = {table.key: table.part(part) for table in tables} if part is not None else {}
    with open_session(server.account.arguments) as session:
        given = arguments_of(run_id)
        outcomes = run_tables(
            session, known, list(known), slices=slices, warn=(warn if warn is not None else []).append, **given
        )
        return {outcome.table.table: outcome for outcome in outcomes}


def published(outcomes: Mapping[str, TableOutcome]) -> bool:
    assert all(each.failure is None for each in outcomes.values()), [each.failure for each in outcomes.values()]
    return all(each.published for each in outcomes.values())


@contextmanager
def rolling_back(
    server: LocalServer, tables: list[AnalyticsTable], part: str | None = None
) -> Generator[GroupPartRollback]:
    with open_session(server.account.arguments) as session:
        runner = StatementRunner(session, arguments_of("rollback")["run"], threading.Event())
        slices = {table.key: table.part(part) for table in tables} if part is not None else {}
        yield GroupPartRollback(runner, "sales", tables, slices, database="RUN_ELT")


def roll_back(
    server: LocalServer, tables: list[AnalyticsTable], part: str | None = None, *, further: bool = False
) -> GroupPartRollbackPlan:
    with rolling_back(server, tables, part) as rollback:
        plan = rollback.plan(further=further)
        assert rollback.carry_out(plan) == ()
    return plan


def test_increment_and_whole_table_change_in_one_transaction_and_go_back_together(local_server: LocalServer) -> None:
    sent: list[str] = []

    def notes(event: StatementEvent) -> None:
        if event.phase == "before" and tag_of(event).get("stage") == "publish":
            sent.append(event.sql)

    for value in (1, 2):
        with local_server.account.hooked(notes):
            assert published(run(local_server, growing(value), f"0000000{value}"))
        assert local_server.reader.sql(BOTH) == [(value, value)]
    assert local_server.reader.sql(COUNTED) == [(2, 1)]
    # Of the second run: all that readers notice stands between one BEGIN and one COMMIT.
    last = sent[max(n for n, sql in enumerate(sent) if sql.startswith("BEGIN")) :]
    noticed = [n for n, sql in enumerate(last) if sql.startswith(("DELETE", "INSERT", "MERGE"))]
    assert 0 < min(noticed) < max(noticed) < last.index("COMMIT")
    # A failed check of the one holds the other back.
    failed = run(local_server, growing(3, more="checks: {row_count: {min: 9}}"), "00000003")
    assert failed["orders"].failure is not None
    assert failed["orders"].failure.if_wanted == ""
    assert failed["totals"].held_back_by == (("analytics", "orders"),)
    assert local_server.reader.sql(BOTH) == [(2, 2)]
    plan = roll_back(local_server, growing(3))
    assert len(plan.due) == 2
    assert local_server.reader.sql(BOTH) == [(1, 1)]
    assert roll_back(local_server, growing(3)).due == ()
    assert published(run(local_server, growing(4), "00000004"))
    assert local_server.reader.sql(COUNTED) == [(2, 1)]
    assert {name for name in local_server.tables() if "GROUP" in name} == set()


@pytest.mark.thorough
def test_partitions_of_all_tables_change_together_or_none(local_server: LocalServer) -> None:
    assert published(run(local_server, daily(1), "00000001", "2024-01-01...2024-01-02"))
    assert local_server.reader.sql(COUNTED) == [(2, 2)]
    # A check that one partition of one table fails holds all of them back, of both tables.
    outcomes = run(
        local_server,
        daily(2, more="checks: {sql: {old: \"select * from {table} where day = '2024-01-03'\"}}"),
        "00000002",
        "2024-01-02...2024-01-03",
    )
    assert outcomes["totals"].failure is not None
    assert outcomes["orders"].held_back_by == (("analytics", "totals"),)
    assert {part.state for each in outcomes.values() for part in each.partitions.values()} == {"failed"}
    assert local_server.reader.sql(COUNTED) == [(2, 2)]
    assert published(run(local_server, daily(2), "00000003", "2024-01-02...2024-01-03"))
    assert local_server.reader.sql(COUNTED) == [(3, 3)]
    refused = pytest.raises(PublishRefusedError, match="nothing before what readers see of partition 2024-01-01")
    with rolling_back(local_server, daily(2), "2024-01-01...2024-01-02") as rollback, refused:
        rollback.plan()
    roll_back(local_server, daily(2), "2024-01-02")
    assert local_server.reader.sql("select day::varchar, v from analytics.totals order by 1") == [
        ("2024-01-01", 1),
        ("2024-01-02", 1),
        ("2024-01-03", 2),
    ]


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "part"), [(growing, None), (daily, "2024-01-01")], ids=["increment", "partition"])
def test_older_of_two_runs_is_superseded_as_a_whole(local_server: LocalServer, kind: object, part: str | None) -> None:
    make = growing if part is None else daily
    assert published(run(local_server, make(1), "00000001", part))
    reached, go_on = threading.Event(), threading.Event()

    def waits(event: StatementEvent) -> None:
        # The older one has built and audited, and is about to take the lock.
        if event.phase == "before" and "CREATE TRANSIENT TABLE" in event.sql and "0000000A" in event.sql:
            reached.set()
            assert go_on.wait(60)

    with local_server.account.hooked(waits):
        older = Background(partial(run, local_server, make(2), "0000000A", part))
        assert reached.wait(60)
        assert published(run(local_server, make(3), "0000000B", part))
        go_on.set()
        outcomes = older.result()
    assert {outcome.superseded_by for outcome in outcomes.values()} == {"0000000B"}
    comments = local_server.reader.sql("select comment from information_schema.tables where table_name = 'TOTALS'")
    assert "0000000A" not in str(comments)
    assert local_server.reader.sql(BOTH) == [(3, 3)]
    assert {name for name in local_server.tables() if name.startswith(("TEMP", "RUN_ELT_GROUP"))} == set()


@pytest.mark.thorough
def test_run_with_some_newer_partitions_fails_as_a_whole(local_server: LocalServer) -> None:
    """Published in part, its other partitions would be those of another run than the same ones of the other table."""
    assert published(run(local_server, daily(1), "00000001", "2024-01-01"))
    reached, go_on = threading.Event(), threading.Event()

    def waits(event: StatementEvent) -> None:
        if event.phase == "before" and "CREATE TRANSIENT TABLE" in event.sql and "0000000A" in event.sql:
            reached.set()
            assert go_on.wait(60)

    both = "2024-01-01...2024-01-02"
    with local_server.account.hooked(waits):
        older = Background(partial(run, local_server, daily(2), "0000000A", both))
        assert reached.wait(60)
        assert published(run(local_server, daily(3), "0000000B", "2024-01-01"))
        go_on.set()
        outcomes = older.result()
    (failure,) = [each.failure for each in outcomes.values() if each.failure is not None]
    assert "have rows of one run, got run 0000000B" in failure.message
    assert local_server.reader.sql(BOTH) == [(3, 3)]
    assert local_server.reader.sql(COUNTED) == [(1, 1)]


@pytest.mark.thorough
def test_key_that_somebody_has_written_meanwhile_fails_its_check_and_rolls_all_back(local_server: LocalServer) -> None:
    more = "checks: {unique: v}"
    assert published(run(local_server, growing(1, more=more), "00000001"))
    done: list[str] = []

    def writes(event: StatementEvent) -> None:
        if event.phase == "before" and event.sql.startswith("BEGIN") and not done:
            done.append(event.sql)
            local_server.reader.sql("update analytics.orders set v = 2")

    with local_server.account.hooked(writes):
        outcomes = run(local_server, growing(2, more=more), "00000002")
    failure = outcomes["orders"].failure
    assert failure is not None
    assert "check unique_v found 1 row with a key of a row that stays" in failure.message
    assert "Readers still see the previous table" in failure.message
    assert outcomes["totals"].held_back_by == (("analytics", "orders"),)
    assert local_server.reader.sql(BOTH) == [(2, 1)]
    assert local_server.reader.sql(COUNTED) == [(1, 1)]
    assert {name for name in local_server.tables() if "GROUP" in name} == set()


@pytest.mark.thorough
def test_reader_never_sees_rows_of_two_runs(local_server: LocalServer) -> None:
    assert published(run(local_server, growing(1), "00000001"))
    ended, seen = threading.Event(), list[tuple[int, int]]()

    def polls() -> None:
        reader = local_server.account.session()
        while not ended.is_set():
            seen.append(reader.sql(BOTH)[0])

    polling = Background(polls)
    for value in range(2, effort(usual=5, thorough=20)):
        assert published(run(local_server, growing(value), f"{value:08d}"))
    ended.set()
    polling.result()
    assert len(seen) > 20
    assert [each for each in seen if each[0] != each[1]] == []


@pytest.mark.thorough
def test_table_of_the_group_goes_back_alone_under_its_lock_and_is_told_by_the_group(local_server: LocalServer) -> None:
    for value in (1, 2):
        assert published(run(local_server, growing(value), f"0000000{value}"))
    orders, _ = tables = growing(2)
    with open_session(local_server.account.arguments) as session:
        runner = StatementRunner(session, arguments_of("rollback")["run"], threading.Event())
        plan = PartRollbackPlanner(runner, orders, last_increment(), database="RUN_ELT").plan()
        of_one = LockOfOne(runner, orders, ["ANALYTICS"], database="RUN_ELT")
        with alone_in_group(of_one) as left:
            assert "RUN_ELT_GROUP_SALES" in local_server.tables()
            # Its process is this one. What another machine does cannot be told.
            local_server.reader.sql(_of_another_machine(local_server))
            refused = pytest.raises(PublishRefusedError, match="that nobody exchanges its tables")
            with rolling_back(local_server, tables) as rollback, refused:
                rollback.plan()
            put_back(runner, plan)
        assert left == []
    assert local_server.reader.sql(BOTH) == [(1, 2)]
    # The rows of the same run go from the other table too.
    assert [each.table.table for each in roll_back(local_server, tables).due] == ["totals"]
    assert local_server.reader.sql(BOTH) == [(1, 1)]


def _of_another_machine(server: LocalServer) -> str:
    (comment,) = server.reader.sql(
        "select comment from information_schema.tables where table_name = 'RUN_ELT_GROUP_SALES'"
    )[0]
    before, _, after = str(comment).partition(" by ")
    _, _, since = after.partition(" since ")
    return f"comment on table analytics.run_elt_group_sales is '{before} by ana@elsewhere:7 since {since}'"


@pytest.mark.thorough
def test_kept_candidates_of_such_a_group_are_refused_by_hand(local_server: LocalServer) -> None:
    tables = growing(1, more="checks: {row_count: {min: 9}}")
    run(local_server, tables, "00000001")
    with open_session(local_server.account.arguments) as session:
        publisher = GroupPublisher(session, catalogue(tables), tables, options=PublishOptions())
        with pytest.raises(PublishRefusedError, match="requires a group whose tables are all built whole"):
            publisher.find("00000001")


@pytest.mark.thorough
def test_command_rolls_the_group_back_after_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(tmp_path / "tables"))
    monkeypatch.setenv("RUN_ELT_EMBEDDED_DIR", str(tmp_path / "embedded"))
    monkeypatch.setenv("DAGSTER_HOME", str(lay_empty_history(tmp_path)))
    folder = tmp_path / "tables" / "analytics"
    folder.mkdir(parents=True)
    resource = Snowflake(embedded_dir=str(tmp_path / "embedded"), sample_data=False)
    for value in (1, 2):
        tables = daily(value)
        for table in tables:
            head = "partitions: {by: day, column: day, start: 2024-01-01, end: 2024-01-04}"
            (folder / f"{table.table}.sql").write_text(
                f"/* elt\npublish_group: sales\n{head}\nchecks: {{row_count: {{min: 1}}}}\nelt */{table.sql}"
            )
        with resource.session() as session:
            known = catalogue(tables)
            slices = {table.key: table.part("2024-01-01") for table in tables}
            given = arguments_of(f"0000000{value}")
            assert all(each.published for each in run_tables(session, known, list(known), slices=slices, **given))
    assert main(["rollback", "--group", "sales"]) == 1
    assert "requires a partition, got none" in capsys.readouterr().err
    assert main(["rollback", "analytics.orders", "--partition", "2024-01-01", "--yes"]) == 0
    alone = capsys.readouterr()
    assert (
        "The other tables of publish_group sales stay as they are. All of them go back by run-elt rollback --group sales"
        in alone.err
    )
    assert "partition 2024-01-01 has the rows of before" in alone.out
    arguments = ["rollback", "--group", "sales", "--partition", "2024-01-01", "--yes"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "analytics.totals  2024-01-01" in said
    assert "publish_group sales is back" in said
    assert main(arguments) == 0
    assert "nothing is left to do" in capsys.readouterr().out


@pytest.mark.thorough
def test_dagster_records_partitions_of_a_group_and_says_what_was_held_back(project: DagsterProject) -> None:
    head = "/* elt\npublish_group: sales\npartitions: {by: day, column: day, start: 2024-01-01}\n"
    row = "select '2024-01-01'::date as day, 1 as v"
    project.declare(orders=f"{head}elt */ {row}", totals=f"{head}checks: {{row_count: {{min: 5}}}}\nelt */ {row}")
    assert not project.materialize(partitions="2024-01-01", log_schema="RUN_ELT").success
    logged = "select table_name, state from run_elt.run_elt.publishes order by 1"
    assert project.sql(logged) == [("ORDERS", "held back"), ("TOTALS", "failed")]
    orders, totals = (dg.AssetKey(["analytics", name]) for name in ("orders", "totals"))
    (held,) = project.instance.fetch_observations(orders, limit=5).records
    assert held.asset_observation is not None
    assert held.asset_observation.metadata["held_back_by"].value == "analytics.totals"
    assert project.instance.fetch_materializations(orders, limit=5).records == []
    project.declare(orders=f"{head}elt */ {row}", totals=f"{head}elt */ {row}")
    assert project.materialize(partitions="2024-01-01").success
    for key in (orders, totals):
        (record,) = project.instance.fetch_materializations(key, limit=5).records
        assert record.partition_key == "2024-01-01"


def test_commit_that_is_found_late_is_not_written_twice(local_server: LocalServer) -> None:
    """Its note would name a statement that took away the run's own rows, and a rollback would bring those back."""
    assert published(run(local_server, growing(1), "00000001"))
    met: list[str] = []

    def loses(event: StatementEvent) -> None:
        # The answer to the COMMIT, and then the first look whether it was done.
        wanted, phase = (("COMMIT", "after"), ("BEGIN", "before"))[min(len(met), 1)]
        if len(met) < 2 and event.phase == phase and event.sql.startswith(wanted):
            met.append(wanted)
            raise SqlError("a fault", errno=390111, sqlstate="08001")

    with local_server.account.hooked(loses):
        assert published(run(local_server, growing(2), "00000002"))
    assert met == ["COMMIT", "BEGIN"]
    roll_back(local_server, growing(2))
    assert local_server.reader.sql(BOTH) == [(1, 1)]


def test_policy_that_cannot_be_looked_up_after_the_commit_fails_its_table_alone(local_server: LocalServer) -> None:
    """Readers see the new rows of both: to say that the other one was held back would be wrong."""
    local_server.reader.sql("create masking policy raw_data.mask as (v int) returns int -> v")
    committed: list[str] = []

    def governed(value: int) -> list[AnalyticsTable]:
        return growing(value, more="policies: {masking: {v: raw_data.mask}}")

    def refuses(event: StatementEvent) -> None:
        if event.phase == "after" and event.sql.startswith("COMMIT"):
            committed.append(event.sql)
        if event.phase == "before" and committed and "POLICY_REFERENCES" in event.sql.upper():
            raise SqlError("a fault", errno=3001, sqlstate="08001")

    assert published(run(local_server, governed(1), "00000001"))
    with local_server.account.hooked(refuses):
        outcomes = run(local_server, governed(2), "00000002")
    assert local_server.reader.sql(BOTH) == [(2, 2)]
    assert outcomes["totals"].published
    failure = outcomes["orders"].failure
    assert failure is not None
    assert (
        "The table was published, and lacks its policies or cannot be asked. Readers see the new table."
        in failure.message
    )


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "part"), [(growing, None), (daily, "2024-01-01")], ids=["increment", "partition"])
def test_first_publish_that_fails_says_that_there_is_no_table(
    local_server: LocalServer, kind: object, part: str | None
) -> None:
    def refuses(event: StatementEvent) -> None:
        if event.phase == "before" and event.sql.startswith("MERGE"):
            raise SqlError("a fault", errno=3001, sqlstate="08001")

    with local_server.account.hooked(refuses):
        outcomes = run(local_server, growing(1) if kind is growing else daily(1), "00000001", part)
    assert {"ORDERS", "TOTALS"}.isdisjoint(local_server.tables())
    told = [each.failure.production if each.failure is not None else each.production for each in outcomes.values()]
    assert [production and production.state for production in told] == ["none", "none"]


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "part"), [(growing, None), (daily, "2024-01-01")], ids=["increment", "partition"])
def test_first_publish_that_fails_says_what_readers_see_of_tables_that_cannot_be_dropped(
    local_server: LocalServer, kind: object, part: str | None
) -> None:
    are_created = threading.Event()

    def refuses(event: StatementEvent) -> None:
        if event.phase == "before" and are_created.is_set():
            raise SqlError("a fault", errno=3001, sqlstate="08001")
        if event.phase == "after" and event.sql.startswith("CREATE TABLE") and '."TOTALS" ' in event.sql:
            are_created.set()

    with local_server.account.hooked(refuses):
        outcomes = run(local_server, growing(1) if kind is growing else daily(1), "00000001", part)
    assert local_server.reader.sql(BOTH) == [(1, 1)]
    failures = [outcome.failure for outcome in outcomes.values() if outcome.failure is not None]
    assert [failure.production.state for failure in failures] == ["new", "new"]
    assert ["Readers see the new table." in failure.message for failure in failures] == [True, True]


@pytest.mark.thorough
def test_repeated_rollback_names_the_run_that_a_killed_one_has_taken_back(local_server: LocalServer) -> None:
    for value in (1, 2):
        assert published(run(local_server, growing(value), f"0000000{value}"))
    tables = growing(2)
    with rolling_back(local_server, tables) as rollback, open_session(local_server.account.arguments) as session:
        # All that a command has done that is killed after its COMMIT.
        runner = StatementRunner(session, arguments_of("rollback")["run"], threading.Event())
        names = tuple(table.name for table in tables)
        now = "2026-01-01T00:00:00Z"
        note = GroupNote("sales", "00000002", now, names, "rolls back", operator(), now)
        assert GroupLock(runner, lock_of("sales", tables, database="RUN_ELT"), note).take() is None
        put_back(runner, *rollback.plan().plans)
    assert local_server.reader.sql(BOTH) == [(1, 1)]
    assert roll_back(local_server, tables).due == ()
    (comment,) = local_server.reader.sql("select comment from information_schema.tables where table_name = 'TOTALS'")[0]
    assert "run rollback-of-00000002 " in str(comment)
    assert {name for name in local_server.tables() if "GROUP" in name} == set()


@pytest.mark.thorough
def test_group_goes_no_further_where_one_of_its_tables_has_gone_further_alone(local_server: LocalServer) -> None:
    for value in (1, 2, 3, 4):
        assert published(run(local_server, growing(value), f"0000000{value}"))
    orders, _ = tables = growing(4)
    roll_back(local_server, tables)
    with open_session(local_server.account.arguments) as session:
        runner = StatementRunner(session, arguments_of("rollback")["run"], threading.Event())
        put_back(runner, PartRollbackPlanner(runner, orders, last_increment(), database="RUN_ELT").plan(further=True))
    assert local_server.reader.sql(BOTH) == [(2, 3)]
    refused = "go back to the rows of one run, got run 00000001 in analytics.orders, run 00000002 in analytics.totals"
    with pytest.raises(PublishRefusedError, match=refused):
        roll_back(local_server, tables, further=True)
    assert local_server.reader.sql(BOTH) == [(2, 3)]


@pytest.mark.thorough
def test_group_does_not_go_back_over_what_a_table_has_published_without_it(local_server: LocalServer) -> None:
    for value in (1, 2):
        assert published(run(local_server, growing(value), f"0000000{value}"))
    alone = declared({"totals": "/* elt\npublish: overwrite\nelt */ select 7::int as v"})
    assert published(run(local_server, alone, "00000003"))
    with pytest.raises(PublishRefusedError, match=r"got these: .*run 00000003 that has published it since"):
        roll_back(local_server, growing(3))
    assert local_server.reader.sql(BOTH) == [(2, 7)]


@pytest.mark.thorough
def test_rebuild_of_an_increment_builds_its_group_and_replaces_all_of_its_rows(project: DagsterProject) -> None:
    def declare(value: int) -> None:
        orders = f"select {value} as n, {value} as v, dateadd(hour, {value}, '2024-01-01'::timestamp_ntz) as at"
        project.declare(
            orders=f"/* elt\npublish_group: sales\nincrement: {{column: at, key: n}}\nelt */ {orders}",
            totals=f"/* elt\npublish_group: sales\npublish: overwrite\nelt */ select {value} as v",
        )

    for value in (1, 2):
        declare(value)
        assert project.materialize().success
    assert project.sql(COUNTED) == [(2, 1)]
    declare(3)
    orders, _ = growing(3)
    plan = RebuildPlan(orders, (), 2, None, None, None, others=(("analytics", "totals"),))
    arguments = plan.command([])
    given = dict(zip(arguments[2::2], arguments[3::2], strict=True))
    selection = dg.AssetSelection.from_string(given["--select"])
    assert project.materialize(selection=selection, config=json.loads(given["--config-json"])).success
    assert project.sql(BOTH) == [(3, 3)]
    assert project.sql(COUNTED) == [(1, 1)]


@pytest.mark.parametrize("sql", ["BEGIN", pytest.param("COMMIT", marks=pytest.mark.thorough)])
def test_run_that_is_taken_for_dead_says_published_only_where_its_tables_stand(
    local_server: LocalServer, sql: str
) -> None:
    """Who ends its exchange drops the tables that it has just created, or waits for its transaction."""
    ended: list[Background] = []

    def end() -> None:
        ended.append(Background(partial(ended_by_another, local_server, growing(1))))
        if sql == "BEGIN":
            ended[0].result()

    with local_server.account.hooked(at_first(sql, end)):
        outcomes = run(local_server, growing(1), "00000001")
    (told,) = ended[0].result()
    there = {"ORDERS", "TOTALS"} & local_server.tables()
    assert told.state == {"BEGIN": "back", "COMMIT": "forward"}[sql]
    assert [each.published for each in outcomes.values()] == [bool(there)] * 2
    assert len(there) in (0, 2)
    assert {name for name in local_server.tables() if "GROUP" in name} == set()


def test_new_tables_whose_file_was_removed_go_with_the_others_of_a_dead_run(local_server: LocalServer) -> None:
    told: list[EndedExchange] = []

    def end() -> None:
        orders, _ = growing(1)
        told.extend(ended_by_another(local_server, [orders]))

    with local_server.account.hooked(at_first("BEGIN", end)):
        run(local_server, growing(1), "00000001")
    (ended,) = told
    assert ended.state == "back"
    # The candidate of the declared one is what its file says of it.
    assert local_server.tables() == {"RUN_ELT_PARTITIONS", "TEMP_ORDERS__00000001"}
