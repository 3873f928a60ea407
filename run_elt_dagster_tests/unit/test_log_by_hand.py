"""What a command adds to the log of publishes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from run_elt_dagster.model.candidate import ByHand, Marker, rolled_back_marker
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.kept import Published
from run_elt_dagster.publish.log_by_hand import LogByHand
from run_elt_dagster.publish.rollback_plan import RollbackPlan
from run_elt_dagster.settings import PublishOptions
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


def log_of(account: Any, *, schema: str = "L") -> LogByHand:
    return LogByHand(account, PublishOptions(log_schema=schema), person="ana b", warn=print)


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
    # By the start of an id, it would be another entry.
    log_of(account).rolled_back([RollbackPlan(TABLE, TARGET, "done", done, done, withdrawn=done.marker)])
    assert len(account.rows) == 4
