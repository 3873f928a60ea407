"""All tables of a group go back together: to the versions before its last exchange, or none of them."""

import itertools
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.model.lineage import catalogue, load_tables
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.publish.group_lock import GroupNote, operator
from run_elt_dagster.publish.group_recovery import end_exchange
from run_elt_dagster.publish.group_rollback import (
    GroupRollback,
    GroupRollbackError,
    GroupRollbackPlan,
    RollbackOfOne,
    schemas_of_group,
)
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import StatementError
from run_elt_dagster_tests.faults.groups import GroupCell, Seen, publish_old_group, seen_of_group
from run_elt_dagster_tests.faults.kinds import FAULTS, KILLED
from run_elt_dagster_tests.faults.laboratory import (
    METHODS,
    PROCESSES,
    FaultLab,
    arguments_of,
    open_laboratory,
    open_session,
    run,
    tag_of,
)
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.ended_groups import at_first
from run_elt_dagster_tests.support.history import lay_empty_history

OLD: Seen = (1, 1)
NEW: Seen = (2, 2)
METHOD = {"clone": "undrop", "swap": "swap", "overwrite": "time travel"}
NUMBERS = itertools.count(1)
# The last statement of the rollback of clones that readers notice, by its number.
LAST_UNDROP = 12
# What readers notice of a rollback.
NOTICED = ("RENAME TO", "UNDROP", "SWAP WITH", "INSERT OVERWRITE", "COMMIT")


@dataclass
class Group(GroupCell):
    """A group that two runs have published, and a rollback that may meet a fault."""

    stage: str = "rollback"

    @property
    def run_id(self) -> str:
        return f"rollback-{self.number}"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultLab]:
    with open_laboratory(tmp_path_factory.mktemp("group_rollback")) as laboratory:
        yield laboratory


def published(lab: FaultLab, publish: str, **more: Any) -> Group:
    """Return a group whose tables are as two runs would have left them, one after the other."""
    group = Group(next(NUMBERS), publish, first=False, **more)
    publish_old_group(lab, group)
    at = lab.sql("select to_varchar(sysdate(), 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6Z')")[0][0]
    comment = f"'[run_elt run 0000000B at {at}]'"
    for name in group.names:
        row = "2 as v, 1 as n, dateadd(hour, 2, '2024-01-01'::timestamp_ntz) as at"
        rows, candidate = f"comment = {comment} as select {row}", f"analytics.temp_{name}__0000000b"
        statements = {
            "clone": [f"create or replace table analytics.{name} {rows}"],
            "swap": [f"create table {candidate} {rows}", f"alter table analytics.{name} swap with {candidate}"],
            "overwrite": [
                f"insert overwrite into analytics.{name} select {row}",
                f"comment on table analytics.{name} is {comment}",
            ],
        }
        for statement in statements[publish]:
            lab.sql(statement)
    return group


def publish_again(lab: FaultLab, group: Group, value: int, run_id: str) -> None:
    outcomes = run(lab.account.arguments, group.declared(value), run_id)
    assert all(outcome.published for outcome in outcomes), outcomes
    assert seen_of_group(lab, group) == (value, value)


def locks(lab: FaultLab, group: Group) -> list[str]:
    return [
        str(comment)
        for (comment,) in lab.sql(f"select comment from information_schema.tables where table_name = '{group.lock}'")
    ]


def roll_back(
    arguments: dict[str, Any], tables: Sequence[AnalyticsTable], run_id: str, *, further: bool = False, **options: Any
) -> tuple[GroupRollbackPlan, tuple[str, ...]]:
    with open_session(arguments) as session:
        given = arguments_of(run_id, **options)
        runner = StatementRunner(session, given["run"], threading.Event(), patience=given["patience"])
        rollback = GroupRollback(runner, tables[0].publish_group or "", tables, database="RUN_ELT")
        plan = rollback.plan(further=further)
        return plan, rollback.carry_out(plan)


def rolled_back(lab: FaultLab, group: Group, **options: Any) -> GroupRollbackPlan:
    """Roll a group back without a fault."""
    plan, left = roll_back(lab.account.arguments, group.declared(2), "rollback", **options)
    assert left == ()
    assert locks(lab, group) == []
    return plan


def refused(lab: FaultLab, group: Group, **options: Any) -> str:
    before = seen_of_group(lab, group)
    with pytest.raises(PublishRefusedError) as raised:
        rolled_back(lab, group, **options)
    assert "Nothing was changed." in str(raised.value)
    assert seen_of_group(lab, group) == before
    return str(raised.value)


@pytest.mark.parametrize(
    "publish", ["overwrite", *(pytest.param(m, marks=pytest.mark.thorough) for m in ("clone", "swap"))]
)
def test_all_tables_go_back_and_a_repeated_command_changes_nothing(lab: FaultLab, publish: str) -> None:
    group = published(lab, publish)
    plan = rolled_back(lab, group)
    assert [each.method for each in plan.plans] == [METHOD[publish]] * 2
    assert "run 0000000B, built 20" in plan.taken_back
    assert seen_of_group(lab, group) == OLD
    assert ("transaction" in plan.consequence) == (publish == "overwrite")
    again = rolled_back(lab, group)
    assert (again.due, seen_of_group(lab, group)) == ((), OLD)
    assert "--further" in again.consequence
    if publish != "overwrite":
        # What comes after it is published as ever.
        publish_again(lab, group, 3, "0000000C")


@pytest.mark.thorough
def test_tables_of_two_runs_are_not_rolled_back_together(lab: FaultLab) -> None:
    group = published(lab, "clone")
    alone = group.declared(9, in_group=False)[:1]
    assert run(lab.account.arguments, alone, "0000000C")[0].published
    told = refused(lab, group)
    assert "requires that one run has published all of its tables last, got run 0000000C" in told
    assert f"in analytics.{group.names[0]}, run 0000000B" in told
    assert "run-elt rollback schema.table" in told


@pytest.mark.thorough
def test_table_without_a_version_of_before_keeps_the_others(lab: FaultLab) -> None:
    group = published(lab, "swap")
    lab.sql(f"drop table analytics.{group.names[1]}")
    told = refused(lab, group)
    assert (
        f"There is no RUN_ELT.ANALYTICS.{group.names[1].upper()}: run-elt rollback analytics.{group.names[1]} restores it."
        in told
    )
    lab.sql(f"undrop table analytics.{group.names[1]}")
    assert f"run {'0' * 7}D about to publish it" in refused_beside_a_run(lab, group)
    assert rolled_back(lab, group).due
    assert seen_of_group(lab, group) == OLD


def refused_beside_a_run(lab: FaultLab, group: Group) -> str:
    candidate = f"analytics.temp_{group.names[0]}__0000000d"
    lab.sql(f"create table {candidate} comment = '[run_elt run 0000000D]' as select 1 as n")
    told = refused(lab, group, is_live="0000000D".__eq__)
    lab.sql(f"drop table {candidate}")
    return told


@pytest.mark.thorough
def test_lock_of_another_command_or_run_is_respected(lab: FaultLab) -> None:
    group = published(lab, "clone")

    def locked_by(note: GroupNote) -> None:
        lab.sql(f"create or replace table analytics.{group.lock} (run_id varchar) comment = '{note}'")

    now, names = lab.sql("select to_varchar(sysdate(), 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6Z')")[0][0], ("analytics.a",)
    locked_by(GroupNote(group.group, "0000000D", now, names))
    assert "got run 0000000D that does. Nothing was changed. Wait for the run" in refused(
        lab, group, is_live="0000000D".__eq__
    )
    assert "run-elt doctor ends its exchange" in refused(lab, group)
    other = GroupNote(group.group, "0000000B", now, names, "rolls back", "ana@elsewhere:7", now)
    locked_by(other)
    assert f"run-elt rollback --group {group.group} of ana@elsewhere:7, begun {now[:10]}" in refused(lab, group)
    # Nor does a run publish meanwhile.
    outcomes = run(lab.account.arguments, group.declared(3), "0000000E", wait_seconds=0.1)
    (failure,) = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    assert "of ana@elsewhere:7, begun" in failure.message
    assert "Repeat that command if it was killed" in failure.message
    assert seen_of_group(lab, group) == NEW
    # After an hour nobody waits for it any more.
    locked_by(replace(other, since="2026-01-01T00:00:00.000000Z"))
    publish_again(lab, group, 3, "0000000F")
    assert locks(lab, group) == []
    locked_by(replace(other, by=operator()))
    assert rolled_back(lab, group).due


def test_two_people_who_end_a_killed_command_at_once_do_not_both_roll_back(lab: FaultLab) -> None:
    group, began = published(lab, "overwrite"), "2026-01-01T00:00:00Z"
    killed = GroupNote(
        group.group, "0000000B", began, ("analytics.a", "analytics.b"), "rolls back", "ana@elsewhere:7", began
    )
    lab.sql(f"create table analytics.{group.lock} (run_id varchar) comment = '{killed}'")
    now = lab.sql("select to_varchar(sysdate(), 'YYYY-MM-DD\"T\"HH24:MI:SS.FF6Z')")[0][0]
    other = replace(killed, by="ben@elsewhere:8", since=now)
    looks: list[str] = []

    def takes_it_first(event: StatementEvent) -> None:
        if event.phase == "after" and event.sql.startswith("SELECT COMMENT FROM") and not looks:
            looks.append(event.sql)
            lab.sql(f"create or replace table analytics.{group.lock} (run_id varchar) comment = '{other}'")

    with lab.account.hooked(takes_it_first):
        told = refused(lab, group)
    assert f"{group.group} of ben@elsewhere:8, begun" in told
    assert locks(lab, group) == [str(other)]


def test_command_whose_lock_was_taken_leaves_it_there_and_says_so(lab: FaultLab) -> None:
    """After an hour, a command of another machine takes it: nobody can tell whether this one goes on."""
    group, now = published(lab, "swap"), "2026-01-01T00:00:00Z"
    names = tuple(table.name for table in group.declared(2))
    other = GroupNote(group.group, "0000000B", now, names, "rolls back", "ben@elsewhere:8", now)

    def take() -> None:
        lab.sql(f"create or replace table analytics.{group.lock} (run_id varchar) comment = '{other}'")

    with lab.account.hooked(at_first("ALTER TABLE", take, has="SWAP WITH")):
        _, (left,) = roll_back(lab.account.arguments, group.declared(2), "rollback")
    assert f"{group.lock} was taken from this command while it went on" in left
    assert locks(lab, group) == [str(other)]


@pytest.mark.thorough
def test_table_is_not_rolled_back_alone_while_an_exchange_of_its_group_is_left(lab: FaultLab) -> None:
    group = published(lab, "overwrite")
    tables, orders = group.declared(2), group.names[0]
    at = str(lab.comments(group.names)[orders.upper()]).split(" at ")[1].rstrip("]")
    note = GroupNote(group.group, "0000000B", at, tuple(table.name for table in tables))
    lab.sql(f"create table analytics.{group.lock} (run_id varchar) comment = '{note}'")
    assert schemas_of_group(catalogue(tables), group.group) == ["ANALYTICS"]
    with open_session(lab.account.arguments) as session:
        runner = StatementRunner(session, arguments_of("rollback")["run"], threading.Event())
        alone = RollbackOfOne(runner, tables[0], ["ANALYTICS"], database="RUN_ELT")
        with pytest.raises(
            PublishRefusedError, match=r"got run 0000000B that does\. Nothing was changed. .* doctor ends"
        ):
            alone.plan()
        assert seen_of_group(lab, group) == NEW
        # As a rollback leaves it that has looked just before the lock was taken.
        lab.sql(f"comment on table analytics.{orders} is '[run_elt run rollback-of-0000000B at {at}]'")
        lock = Relation("RUN_ELT", "ANALYTICS", group.lock)
        ended = end_exchange(runner, catalogue(tables), lock, note, options=PublishOptions())
    assert ended.state == "open"
    assert f"Since then, somebody has taken its rows back in analytics.{orders}. Materialize all tables" in ended.words
    assert locks(lab, group) == [str(replace(note, ended_by="rollback"))]
    publish_again(lab, group, 3, "0000000C")
    assert locks(lab, group) == []


def test_table_that_is_rolled_back_alone_has_the_lock_of_its_group(lab: FaultLab) -> None:
    group, told = published(lab, "swap"), list[str]()
    first, second = group.declared(2)

    def alone(runner: StatementRunner, table: AnalyticsTable) -> RollbackOfOne:
        return RollbackOfOne(runner, table, ["ANALYTICS"], database="RUN_ELT")

    def looks(event: StatementEvent) -> None:
        if event.phase == "before" and " SWAP WITH " in event.sql and not told:
            # The process of the command is this one, and lives.
            told.extend(locks(lab, group))

    with open_session(lab.account.arguments) as session:
        runner = StatementRunner(session, arguments_of("rollback")["run"], threading.Event())
        with lab.account.hooked(looks):
            assert alone(runner, first).carry_out(alone(runner, first).plan()) == ()
        (note,) = told
        assert f"rolls back {first.name}]" in note
        assert (seen_of_group(lab, group), locks(lab, group)) == ((1, 2), [])
        # As a command leaves it that was killed at its end.
        lab.sql(f"create table analytics.{group.lock} (run_id varchar) comment = '{note}'")
        with pytest.raises(PublishRefusedError, match=f"got run-elt rollback {first.name} of .* repeat it first"):
            alone(runner, second).plan()
        done = alone(runner, first).plan(further=True)
        assert done.method == "done"
        assert alone(runner, first).carry_out(done) == ()
    assert (seen_of_group(lab, group), locks(lab, group)) == ((1, 2), [])


@pytest.mark.thorough
def test_table_that_was_rolled_back_further_alone_keeps_its_group_from_going_back(lab: FaultLab) -> None:
    group = published(lab, "swap")
    publish_again(lab, group, 3, "0000000C")
    rolled_back(lab, group)
    with open_session(lab.account.arguments) as session:
        runner = StatementRunner(session, arguments_of("rollback")["run"], threading.Event())
        alone = RollbackOfOne(runner, group.declared()[0], ["ANALYTICS"], database="RUN_ELT")
        assert alone.carry_out(alone.plan(further=True)) == ()
    assert seen_of_group(lab, group) == (1, 2)
    told = refused(lab, group)
    assert "requires that the rows of one run go from all of its tables, got run 0000000B" in told
    assert "run 0000000C, built" in told


@pytest.mark.thorough
def test_repeated_further_rollback_ends_what_was_begun_though_some_of_it_is_cleaned_up(lab: FaultLab) -> None:
    group, cleaned = published(lab, "swap"), list[str]()
    publish_again(lab, group, 3, "0000000C")
    rolled_back(lab, group)

    def refuses_after_the_first(event: StatementEvent) -> None:
        if event.phase == "before" and cleaned and "rollback" in tag_of(event).get("stage", ""):
            raise SqlError("refused", errno=3001, sqlstate="42501")
        if event.phase == "before" and "[run_elt withdrawn 0000000B" in event.sql:
            cleaned.append(event.sql)

    with lab.account.hooked(refuses_after_the_first):
        _, left = roll_back(lab.account.arguments, group.declared(2), "rollback", further=True)
    assert len(left) == 2, left
    assert (seen_of_group(lab, group), len(locks(lab, group))) == (OLD, 1)
    again = rolled_back(lab, group, further=True)
    assert [each.method for each in again.plans] == ["done", "clean-up"]
    assert seen_of_group(lab, group) == OLD


def meet_fault(lab: FaultLab, publish: str, fault: str = "failed", *, index: int = -1) -> Group:
    """Roll a group back that meets a fault at a statement, check what is said of it, and repeat the command."""
    group = published(lab, publish, fault=fault, index=index)
    lab.cells[group.run_id] = group
    told, left = _told(lab, group)
    del lab.cells[group.run_id]
    where = f"{publish}, {fault} at {group.sent[index : index + 1]}: {told}"
    now = seen_of_group(lab, group)
    if FAULTS[fault] is not KILLED or index < 0:
        assert (now == OLD) == (told == "") or "Repeat the command: it ends" in told, where
        assert now == NEW or "what they saw before" not in told, where
        assert all("the rollback is done" in each or "could not be dropped" in each for each in left), where
        assert now in (OLD, NEW) or locks(lab, group), where
    else:
        assert now in (OLD, NEW) or "rolls back" in locks(lab, group)[0], where
    # Repeated, the command ends what was begun, and goes no version further.
    rolled_back(lab, group)
    assert seen_of_group(lab, group) == OLD, where
    assert not any("[run_elt rollback " in each for each in lab.comments(group.names).values()), where
    return group


def _told(lab: FaultLab, group: Group) -> tuple[str, tuple[str, ...]]:
    arguments = (lab.account.arguments, group.declared(2), group.run_id)
    if FAULTS[group.fault] is not KILLED or group.index < 0:
        try:
            return "", roll_back(*arguments)[1]
        except (GroupRollbackError, PublishRefusedError, StatementError) as error:
            return str(error), ()
    group.process = PROCESSES.Process(target=roll_back, args=arguments)
    group.process.start()
    group.started.set()
    group.process.join(PATIENCE_SECONDS)
    group.ended.set()
    assert group.process.exitcode in (0, -signal.SIGKILL)
    return "killed", ()


def test_fault_at_the_last_statement_puts_all_tables_back(lab: FaultLab) -> None:
    group = meet_fault(lab, "clone", "refused", index=LAST_UNDROP)
    assert group.sent[LAST_UNDROP] == f'UNDROP TABLE "RUN_ELT"."ANALYTICS"."{group.names[1].upper()}"'
    assert group.met.is_set()


@pytest.mark.thorough
@pytest.mark.parametrize(("publish", "fault"), [("swap", "killed"), ("overwrite", "reported as cancelled")])
def test_fault_at_what_readers_notice_puts_all_back_or_is_ended_by_the_next_command(
    lab: FaultLab, publish: str, fault: str
) -> None:
    clean = meet_fault(lab, publish)
    noticed = [index for index, sql in enumerate(clean.sent) if any(word in sql for word in NOTICED)]
    assert len(noticed) == {"swap": 2, "overwrite": 3}[publish]
    for index in noticed:
        assert meet_fault(lab, publish, fault, index=index).met.is_set()


@pytest.mark.thorough
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("publish", METHODS)
def test_fault_at_any_statement_of_the_rollback(lab: FaultLab, publish: str, fault: str) -> None:
    for index in itertools.count():
        if not meet_fault(lab, publish, fault, index=index).met.is_set():
            assert index > 8
            return


@pytest.mark.thorough
def test_command_shows_what_it_will_do_asks_and_notes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tables" / "analytics"
    folder.mkdir(parents=True)
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(tmp_path / "tables"))
    monkeypatch.setenv("RUN_ELT_EMBEDDED_DIR", str(tmp_path / "embedded"))
    monkeypatch.setenv("DAGSTER_HOME", str(lay_empty_history(tmp_path)))
    monkeypatch.setenv("RUN_ELT_LOG_SCHEMA", "RUN_ELT")
    resource = Snowflake(embedded_dir=str(tmp_path / "embedded"), sample_data=False)
    with resource.connect() as connection, dg.DagsterInstance.get() as instance:
        for value in (1, 2):
            for name, query in (("orders", f"select {value} as v"), ("totals", "select v from analytics.orders")):
                (folder / f"{name}.sql").write_text(f"/* elt\npublish_group: finance\nelt */ {query}")
            options = PublishOptions(max_concurrent_tables=1, creates_schemas=True)
            assets = [analytics_assets(load_tables(tmp_path / "tables"), options)]
            assert dg.materialize(assets, resources={"snowflake": resource}, instance=instance).success
        capsys.readouterr()
        assert main(["rollback"]) == 2
        assert main(["rollback", "analytics.orders", "--group", "finance"]) == 2
        assert main(["rollback", "--group", "sales"]) == 1
        assert "got sales. Nothing was changed. The files declare finance." in capsys.readouterr().err
        # A file outside of the group may be wrong just then.
        (folder / "wrong.sql").write_text("/* elt\nownr: x\nelt */ select")
        assert main(["rollback", "--group", "finance"]) == 1
        assert "Pass --yes" in capsys.readouterr().err
        assert main(["rollback", "--group", "finance", "--yes"]) == 0
        told = capsys.readouterr().out
        assert "publish_group finance, exchanged by run" in told
        assert "Of a table by undrop, there is no table between two metadata statements." in told
        assert "publish_group finance is back." in told
        for name in ("orders", "totals"):
            (observed,) = instance.fetch_observations(dg.AssetKey(["analytics", name]), limit=1).records
            assert observed.asset_observation is not None
            assert observed.asset_observation.metadata["publish_group"].value == "finance"
        with connection.cursor() as cursor:
            logged = "select table_name, state, row_count from run_elt.run_elt.publishes order by 1"
            cursor.execute(logged)
            rows = cursor.fetchall()
        assert rows == [(name, "rolled back", 1) for name in ("ORDERS", "TOTALS")]
        # One of the group may not be left out by accident: its file is broken now.
        (folder / "totals.sql").write_text("/* elt\npublish_group: finance\nownr: x\nelt */ select 1 as v")
        assert main(["rollback", "--group", "finance", "--yes"]) == 1
        assert "got broken ones of analytics.totals" in capsys.readouterr().err
