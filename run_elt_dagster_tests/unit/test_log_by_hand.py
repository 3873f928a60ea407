"""What a command adds to the log of publishes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from run_elt_dagster.model.candidate import ByHand, Marker, put_back_comment, rolled_back_marker
from run_elt_dagster.model.names import Relation, short_id
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.kept import Published
from run_elt_dagster.publish.log import LoggedRun, PublishLog
from run_elt_dagster.publish.log_by_hand import LogByHand
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.part_rollback_plan import PartRollbackPlan, PartVersion, last_increment
from run_elt_dagster.publish.partitions import PublishedPartition
from run_elt_dagster.publish.rollback_plan import RollbackPlan
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import RunContext
from run_elt_dagster.snowflake.session import Answer

TABLE = AnalyticsTable.model_validate({"schema": "a", "table": "b", "sql": "select 1 as n"})
TARGET = Relation("D", "A", "B")
OLD, NEW = Marker("run", "run-a-of-a", "2026-11-27T00:00:00Z"), Marker("run", "run-b-of-b", "2026-11-28T00:00:00Z")


class Account:
    """Takes statements, and keeps the rows that they bind."""

    database = "D"

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def execute(self, sql: str, *, tag: Mapping[str, str], parameters: Sequence[str]) -> Answer:
        assert sql.startswith('INSERT INTO "D"."L"."PUBLISHES"')
        assert tag["stage"] == "log"
        self.rows += json.loads(parameters[0])
        return Answer((), "q", 0.0)


def log_of(account: Any, *, schema: str = "L", **more: Any) -> LogByHand:
    return LogByHand(account, PublishOptions(log_schema=schema), person="ana b", warn=print, **more)


def test_repeated_command_adds_the_same_entry_as_the_first_one() -> None:
    account, by_hand = Account(), ByHand("ana", "2026-11-28T09:12:00.5Z", ("changes", "row_count"))
    found = Published(TABLE, TARGET, TableVersion("B", 5, f"{by_hand} {NEW}"), by_hand)
    for _ in range(2):
        log_of(account).published_before([found])
    first, second = account.rows
    assert first == second
    known = {
        "ENTRY_ID": "run-b-of-b/run-elt publish 2026-11-28T09:12:00.5Z/D.A.B/",
        "FINISHED_AT": "2026-11-28T09:12:00.500",
        "LAUNCHED_BY": "the command line ana",
        "STATE": "published",
        "ROW_COUNT": 5,
        "WAIVED_CHECKS": "changes, row_count",
    }
    assert {name: first[name] for name in known} == known


def test_rollback_names_the_run_that_was_taken_back_and_the_rows_that_readers_see() -> None:
    account = Account()
    present, previous = TableVersion("B", 5, str(NEW)), TableVersion("B", 3, str(OLD))
    plan = RollbackPlan(TABLE, TARGET, "swap", present, previous)
    log_of(account, schema="").rolled_back([plan])
    assert account.rows == []
    log_of(account).rolled_back([plan])
    (row,) = account.rows
    known = {
        "RUN_ID": "run-b-of-b",
        "JOB": "run-elt rollback",
        "LAUNCHED_BY": "the command line ana_b",
        "STATE": "rolled back",
        "PUBLISH_METHOD": "swap",
        "ROW_COUNT": 3,
    }
    assert {name: row[name] for name in known} == known


def test_repeated_rollback_of_a_group_logs_all_tables_as_the_first_command_would_have() -> None:
    account, other = Account(), Relation("D", "A", "C")
    present, previous = TableVersion("B", 5, str(NEW)), TableVersion("B", 3, str(OLD))
    first = [RollbackPlan(TABLE, each, "time travel", present, previous) for each in (TARGET, other)]
    log_of(account).rolled_back(first)
    # It was killed between the comments of the two.
    done = TableVersion("B", 3, str(rolled_back_marker(NEW)))
    log_of(account).rolled_back([RollbackPlan(TABLE, TARGET, "done", done, done, withdrawn=done.marker), first[1]])
    one, two, one_again, two_again = account.rows
    assert one["ENTRY_ID"] == one_again["ENTRY_ID"]
    assert two["ENTRY_ID"] == two_again["ENTRY_ID"] != one["ENTRY_ID"]
    assert (one_again["RUN_ID"], one_again["ROW_COUNT"], "PUBLISH_METHOD" in one_again) == (NEW.run_id, 3, False)
    # Alone, the start of the id is all that it knows, unless Dagster's history says more.
    alone = [RollbackPlan(TABLE, TARGET, "done", done, done, withdrawn=done.marker)]
    log_of(account).rolled_back(alone)

    def whole_id(_: AnalyticsTable, start: str) -> str:
        return {short_id(NEW.run_id): NEW.run_id}[start]

    log_of(account, whole_id=whole_id).rolled_back(alone)
    assert [(row["ENTRY_ID"], row["RUN_ID"]) for row in account.rows[4:]] == [
        (one["ENTRY_ID"], short_id(NEW.run_id)),
        (one["ENTRY_ID"], NEW.run_id),
    ]


def test_rollback_that_goes_further_is_an_entry_of_its_own() -> None:
    account, entries = Account(), list[str]()
    present = TableVersion("B", 5, str(NEW))
    for _ in range(3):
        log_of(account).rolled_back([RollbackPlan(TABLE, TARGET, "time travel", present, present)])
        present = TableVersion("B", 3, str(rolled_back_marker(present.marker)))
        # The same command, repeated after it was killed.
        log_of(account).rolled_back([RollbackPlan(TABLE, TARGET, "done", present, present, withdrawn=present.marker)])
        first, second = (row["ENTRY_ID"] for row in account.rows[-2:])
        assert first == second
        entries.append(first)
    assert len(set(entries)) == 3


@pytest.mark.parametrize("comment", [str(rolled_back_marker(NEW)), put_back_comment(str(OLD), NEW)])
def test_next_run_logs_a_rollback_whose_command_was_killed_as_the_command_would_have(comment: str) -> None:
    account: Any = Account()
    present, previous = TableVersion("B", 5, str(NEW)), TableVersion("B", 3, str(OLD))
    log_of(account).rolled_back([RollbackPlan(TABLE, TARGET, "undrop", present, previous)])
    log = PublishLog(account, RunContext("run-c"), LoggedRun("run-c"), schema="L")
    outcome = TableOutcome(TABLE, TARGET, TARGET, before=TableVersion("B", 3, comment))
    log.note_before(outcome, lambda _: NEW.run_id)
    assert list(log.write()) == []
    by_command, by_run = account.rows
    assert by_command["ENTRY_ID"] == by_run["ENTRY_ID"]
    known = ("RUN_ID", "STATE", "JOB", "ROW_COUNT")
    assert [by_run[name] for name in known] == [NEW.run_id, "rolled back", "run-elt rollback", 3]
    assert [by_command[name] for name in known] == [by_run[name] for name in known]


def test_repeated_rollback_of_partitions_logs_what_the_killed_command_has_put_back() -> None:
    account = Account()
    start = datetime(2024, 1, 1, tzinfo=UTC)
    present = PublishedPartition("2024-01-01", start, start + timedelta(days=1), NEW, 5, start, query_id="q2")
    version = PartVersion(present, replace(present, marker=OLD, query_id=None), rows=3)
    parts = replace(last_increment(), keys=(present.key,), is_partition=True)
    due = PartRollbackPlan(TABLE, TARGET, parts, {present.key: version}, notes={present.key: present})
    done = PartRollbackPlan(TABLE, TARGET, parts, {}, done=(present.key,), notes={present.key: version.note})
    for plan in (due, done):
        log_of(account).parts_rolled_back(plan)
    by_command, by_the_next = account.rows
    assert by_command["ENTRY_ID"] == by_the_next["ENTRY_ID"]
    assert [row["ROW_COUNT"] for row in account.rows] == [3, 3]
    # Rows that nobody has taken back are no rollback.
    untouched = PartRollbackPlan(TABLE, TARGET, parts, {}, notes={present.key: present})
    log_of(account).parts_rolled_back(untouched)
    assert len(account.rows) == 2


def test_next_run_logs_what_a_killed_command_has_published_as_the_command_would_have() -> None:
    account: Any = Account()
    by_hand = ByHand("ana", "2026-11-28T09:12:00.5Z", ("changes",))
    found = Published(TABLE, TARGET, TableVersion("B", 5, f"{by_hand} {NEW}"), by_hand)
    log_of(account).published_before([found])
    log = PublishLog(account, RunContext("run-c"), LoggedRun("run-c"), schema="L")
    log.note_before(TableOutcome(TABLE, TARGET, TARGET, before=found.version), str)
    assert list(log.write()) == []
    by_command, by_run = account.rows
    assert by_command == by_run
