"""Which version comes back, by which statements, and what forbids it: whole plans, from what the catalogue says."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from run_elt_dagster.model.candidate import Marker, candidate_of, marker_in, put_back_comment, put_back_from
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import STREAMS_SQL, InventoryTable, PublishRefusedError, inventory_sql, policies_sql
from run_elt_dagster.publish.rollback_plan import Method, RollbackPlan, RollbackPlanner
from run_elt_dagster.publish.versions import columns_sql, count_sql, versions_sql
from run_elt_dagster.snowflake.runner import RunContext
from run_elt_dagster.snowflake.session import Answer

TABLE = AnalyticsTable.model_validate({"schema": "analytics", "table": "mau", "sql": "select 1 as n"})
MAU, ASIDE = (Relation("PROD", "ANALYTICS", name) for name in ("MAU", "TEMP_MAU__0000000B"))
OLD, NEW, NEWER = (
    Marker("run", f"0000000{run}-0000", f"2026-11-2{day}T00:00:00.000000Z")
    for day, run in ((1, "A"), (2, "B"), (3, "C"))
)
TAG = {"asset": "analytics/mau", "stage": "rollback"}


def day(number: int) -> datetime:
    return datetime(2026, 11, number, 0, 5, tzinfo=UTC)


class Account:
    """Answers what a planner asks about a schema; anything else is an error.

    Args:
        tables: What stands in the schema, and each one's versions that were dropped.
        dropped: The dropped versions by name.
        live: The runs that still run.
    """

    def __init__(
        self,
        *tables: InventoryTable,
        dropped: Mapping[str, list[TableVersion]] | None = None,
        live: tuple[str, ...] = (),
        streams: tuple[Any, ...] = (),
    ) -> None:
        self.run = RunContext("rollback", is_live=live.__contains__)
        self.sent: list[Mapping[str, str]] = []
        rows = [
            (
                "R",
                day(27),
                "ANALYTICS",
                "R",
                "NO",
                t.name,
                t.kind,
                "NO",
                "NO",
                "NO",
                t.rows,
                t.owner,
                t.comment,
                t.created_at,
            )
            for t in tables
        ]
        self.answers: dict[str, tuple[Any, ...]] = {
            inventory_sql("PROD", ["ANALYTICS"]): tuple(rows or [("R", day(27), "ANALYTICS", "R", "NO", *[None] * 9)]),
            STREAMS_SQL: streams,
            policies_sql([MAU]): (),
            count_sql(MAU, NEW.at): ((3,),),
            columns_sql(MAU): (("N",), ("m m",)),
        }
        for relation in (
            MAU,
            *(candidate_of(TABLE, database="PROD", run_id=each.run_id) for each in (OLD, NEW, NEWER)),
        ):
            found = [each for each in tables if each.name == relation.name]
            found += (dropped or {}).get(relation.name, [])
            self.answers[versions_sql(relation)] = tuple(
                (t.name, t.rows, t.comment, t.created_at, t.dropped_at, t.owner) for t in found
            )

    def send(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
        self.sent.append(tag)
        return Answer(self.answers[sql], "q", 0.0, ("name", "rows", "comment", "created_on", "dropped_on", "owner"))


def plan_of(account: Account, *, further: bool = False, table: AnalyticsTable = TABLE) -> RollbackPlan:
    runner: Any = account
    return RollbackPlanner(runner, table, database="PROD").plan(further=further)


def refused(account: Account, *, further: bool = False) -> str:
    with pytest.raises(PublishRefusedError) as raised:
        plan_of(account, further=further)
    return raised.value.refusal.message


def standing(marker: Marker | None = NEW, *, name: str = "MAU", rows: int = 5, **changes: Any) -> InventoryTable:
    """Return what stands under a name: by default the table that run B has published by a clone."""
    comment = "" if marker is None else str(marker)
    return replace(InventoryTable(name, rows, comment, created_at=day(22), owner="R"), **changes)


def version(
    marker: Marker, *, name: str = "MAU", rows: int | None = 3, dropped: datetime | None = None
) -> TableVersion:
    return TableVersion(name, rows, str(marker), created_at=day(21), dropped_at=dropped, owner="R")


OLD_ONE = version(OLD, dropped=day(22))


def test_table_that_a_clone_published_comes_back_as_the_version_that_was_dropped_last() -> None:
    earlier = version(OLD, rows=1, dropped=day(20))
    account = Account(standing(), dropped={"MAU": [earlier, OLD_ONE]})
    assert plan_of(account) == RollbackPlan(TABLE, MAU, "undrop", standing(), OLD_ONE, ASIDE)
    assert account.sent == [{"stage": "inspect"}, {"stage": "inspect"}, {"stage": "inspect"}, TAG, TAG]


def test_table_that_a_swap_published_comes_back_from_the_candidate() -> None:
    aside = standing(OLD, name=ASIDE.name, rows=3)
    dropped = version(OLD, name=ASIDE.name, rows=2, dropped=day(23))
    previous = TableVersion(ASIDE.name, 3, str(OLD), created_at=day(22), owner="R")
    assert plan_of(Account(standing(), aside, dropped={ASIDE.name: [dropped]})) == RollbackPlan(
        TABLE, MAU, "swap", standing(), previous, ASIDE
    )


def test_candidate_of_a_swap_that_was_dropped_is_restored_first() -> None:
    older, latest = (version(OLD, name=ASIDE.name, rows=rows, dropped=day(22 + rows)) for rows in (1, 2))
    assert plan_of(Account(standing(), dropped={ASIDE.name: [older, latest]})) == RollbackPlan(
        TABLE, MAU, "swap", standing(), latest, ASIDE, restore=True
    )


def test_candidate_of_a_clone_is_not_what_readers_saw_before() -> None:
    built = version(NEW, name=ASIDE.name, rows=5, dropped=day(22))
    account = Account(standing(), dropped={"MAU": [OLD_ONE], ASIDE.name: [built]})
    assert plan_of(account) == RollbackPlan(TABLE, MAU, "undrop", standing(), OLD_ONE, ASIDE)


def test_candidate_is_looked_for_behind_one_with_the_present_rows() -> None:
    built = version(NEW, name=ASIDE.name, rows=5, dropped=day(24))
    swapped = version(OLD, name=ASIDE.name, dropped=day(23))
    assert plan_of(Account(standing(), dropped={ASIDE.name: [built, swapped]})) == RollbackPlan(
        TABLE, MAU, "swap", standing(), swapped, ASIDE, restore=True
    )


def test_rows_that_were_written_over_others_come_back_by_time_travel() -> None:
    """Another object does not come under the name, so nothing that hangs on the present one forbids it."""
    written = standing(created_at=day(1), owner="OTHER")
    assert plan_of(Account(written, dropped={"MAU": [OLD_ONE]})) == RollbackPlan(
        TABLE, MAU, "time travel", written, TableVersion(rows=3), read_at=NEW.at, columns=("N", "m m")
    )


def test_table_that_is_gone_comes_back() -> None:
    assert plan_of(Account(dropped={"MAU": [OLD_ONE]})) == RollbackPlan(TABLE, MAU, "undrop", None, OLD_ONE)


TAKING_BACK = Marker("rollback", NEW.run_id, NEW.at)
TAKEN_BACK = Marker("withdrawn", NEW.run_id, NEW.at)


def test_stopped_command_that_has_moved_the_present_version_goes_on() -> None:
    moved = standing(TAKING_BACK, name=ASIDE.name)
    assert plan_of(Account(moved, dropped={"MAU": [OLD_ONE]})) == RollbackPlan(
        TABLE, MAU, "undrop", None, OLD_ONE, ASIDE, moved=TAKING_BACK
    )


@pytest.mark.parametrize("further", [False, True])
def test_stopped_command_that_has_put_the_version_back_only_cleans_up(further: bool) -> None:
    back, moved = standing(OLD, rows=3), standing(TAKING_BACK, name=ASIDE.name)
    assert plan_of(Account(moved, back), further=further) == RollbackPlan(
        TABLE, MAU, "clean-up", back, back, ASIDE, moved=TAKING_BACK
    )


def test_mark_of_a_command_that_came_before_the_present_version_is_not_taken_up() -> None:
    moved = standing(TAKING_BACK, name=ASIDE.name)
    for present in (standing(NEWER, created_at=day(24)), standing(NEW)):
        assert plan_of(Account(present, moved, dropped={"MAU": [OLD_ONE]})).method == "undrop"


def test_complete_rollback_is_not_repeated_unless_it_is_to_go_further() -> None:
    """Whether what was taken away is still there or not."""
    back, aside = standing(OLD, rows=3), standing(TAKEN_BACK, name=ASIDE.name)
    back = replace(back, comment=put_back_comment(back.comment, NEW))
    for beside in ([aside], []):
        account = Account(*beside, back, dropped={"MAU": [OLD_ONE]})
        assert plan_of(account) == RollbackPlan(TABLE, MAU, "done", back, back, withdrawn=TAKEN_BACK)
        assert plan_of(account, further=True).method == "undrop"
    # Somebody has published since: a person an older candidate, or a run.
    for present in (standing(OLD), standing(NEW), standing(NEWER, created_at=day(24))):
        assert plan_of(Account(aside, present, dropped={"MAU": [OLD_ONE]})).method == "undrop"


def test_version_that_is_put_back_names_the_last_run_that_was_taken_back() -> None:
    first = put_back_comment(f"Users. {OLD}", NEWER)
    assert put_back_comment(first, NEW) == f"[run_elt put back from {NEW.run_id} of {NEW.at}] Users. {OLD}"
    assert put_back_from(first) == replace(NEWER, state="withdrawn")
    assert marker_in(first) == OLD
    assert put_back_from(f"Users. {OLD}") is None


ROLLED_BACK = Marker("run", "rollback-of-0000000B", NEW.at)


def test_rows_that_were_written_back_are_not_written_back_again() -> None:
    back = standing(ROLLED_BACK, created_at=day(1))
    assert plan_of(Account(back)) == RollbackPlan(TABLE, MAU, "done", back, back, withdrawn=ROLLED_BACK)
    assert "got one that was rolled back already" in refused(Account(back), further=True)


@pytest.mark.parametrize(
    ("account", "got"),
    [
        (Account(), "neither a table nor a dropped one"),
        (Account(standing()), "none that Snowflake still keeps; see DATA_RETENTION_TIME_IN_DAYS"),
        (
            Account(standing(None), dropped={"MAU": [OLD_ONE]}),
            "a table without the mark of a run in its comment: what it replaced is unknown",
        ),
        (Account(standing(), dropped={"MAU": [replace(OLD_ONE, rows=0)]}), "a previous version of no known rows"),
        (Account(standing(), dropped={"MAU": [replace(OLD_ONE, rows=None)]}), "a previous version of no known rows"),
        (
            Account(
                standing(), standing(NEWER, name="TEMP_MAU__0000000C"), live=(NEWER.run_id,), dropped={"MAU": [OLD_ONE]}
            ),
            "run 0000000C-0000 about to publish it. Cancel it or wait for it",
        ),
    ],
)
def test_rollback_is_refused_without_a_version_to_go_back_to(account: Account, got: str) -> None:
    assert refused(account) == (
        f"rolling back analytics.mau requires a previous version of PROD.ANALYTICS.MAU, got {got}. Nothing was changed. "
        "Materialize the table again, or restore it by hand with Time Travel."
    )


@pytest.mark.parametrize(
    ("marker", "name", "live"),
    [
        (NEWER, "TEMP_MAU__0000000C", ()),
        (replace(NEWER, state="failed"), "TEMP_MAU__0000000C", (NEWER.run_id,)),
        (None, "TEMP_MAU__0000000C", (NEWER.run_id,)),
        # Of another table.
        (NEWER, "TEMP_MAU__X__0000000C", (NEWER.run_id,)),
    ],
)
def test_candidate_that_nobody_is_about_to_publish_forbids_nothing(
    marker: Marker | None, name: str, live: tuple[str, ...]
) -> None:
    account = Account(standing(), standing(marker, name=name), live=live, dropped={"MAU": [OLD_ONE]})
    assert plan_of(account).method == "undrop"


def test_rows_that_a_run_is_about_to_write_over_others_forbid_a_rollback() -> None:
    writing = standing(replace(NEWER, state="publishing"), name="TEMP_MAU__0000000C")
    account = Account(standing(), writing, live=(NEWER.run_id,), dropped={"MAU": [OLD_ONE]})
    assert "got run 0000000C-0000 about to publish it" in refused(account)


def test_planner_tags_its_statements_and_goes_no_further_by_itself() -> None:
    written = Account(standing(created_at=day(1)))
    runner: Any = written
    RollbackPlanner(runner, TABLE, database="PROD").plan()
    assert written.sent == [{"stage": "inspect"}] * 3 + [TAG] * 3
    back: Any = Account(standing(ROLLED_BACK, created_at=day(1)))
    assert RollbackPlanner(back, TABLE, database="PROD").plan().method == "done"


def test_present_table_that_would_lose_something_is_not_replaced() -> None:
    foreign = Account(standing(owner="OTHER"), dropped={"MAU": [OLD_ONE]})
    assert refused(foreign).startswith(
        "rolling back analytics.mau would put another object in the place of PROD.ANALYTICS.MAU, got a table that role OTHER "
        "owns, not R. It would change hands. Nothing was changed."
    )
    stream = (None, "CHANGES", "D", "S", None, None, "PROD.ANALYTICS.MAU", "Table", "PROD.ANALYTICS.MAU")
    assert "D.S.CHANGES" in refused(Account(standing(), streams=(stream,), dropped={"MAU": [OLD_ONE]}))


def a_plan(method: Method, **changes: Any) -> RollbackPlan:
    return replace(RollbackPlan(TABLE, MAU, method, standing(), OLD_ONE), **changes)


@pytest.mark.parametrize(
    ("plan", "statements"),
    [
        (a_plan("done"), ()),
        (a_plan("clean-up", aside=ASIDE), ()),
        (a_plan("swap", aside=ASIDE), (f"ALTER TABLE {MAU.sql} SWAP WITH {ASIDE.sql}",)),
        (
            a_plan("undrop", aside=ASIDE),
            (f"ALTER TABLE {MAU.sql} RENAME TO {ASIDE.sql}", f"UNDROP TABLE {MAU.sql}"),
        ),
        (a_plan("undrop", aside=ASIDE, moved=TAKING_BACK), (f"UNDROP TABLE {MAU.sql}",)),
        (a_plan("undrop", present=None), (f"UNDROP TABLE {MAU.sql}",)),
        (
            a_plan("time travel", read_at=NEW.at, columns=("N", "m m")),
            (
                (
                    f'INSERT OVERWRITE INTO {MAU.sql} ("N", "m m") SELECT "N", "m m" FROM {MAU.sql} '
                    f"AT(TIMESTAMP => '{NEW.at}'::TIMESTAMP_TZ)"
                ),
            ),
        ),
    ],
)
def test_plan_changes_what_readers_see_by(plan: RollbackPlan, statements: tuple[str, ...]) -> None:
    assert plan.statements == statements


def test_run_that_is_taken_back_is_the_one_that_readers_saw_when_the_first_command_began() -> None:
    assert a_plan("undrop").taken_back == NEW
    assert a_plan("clean-up", moved=TAKING_BACK, present=standing(OLD)).taken_back == TAKING_BACK
    assert a_plan("undrop", present=None).taken_back is None


def test_table_of_a_group_goes_back_before_a_version_that_was_put_back() -> None:
    """Put back by clone, the rejected version and the present one lie among the dropped ones, younger than the one before."""
    table = TABLE.model_copy(update={"publish_group": "finance"})
    before = version(OLD, rows=1, dropped=day(20))
    put_back = [version(NEW, dropped=day(22)), version(NEWER, dropped=day(23))]
    account = Account(standing(NEW), dropped={"MAU": [before, *put_back]})
    assert plan_of(account, table=table).previous == before
