"""The versions of a table that Snowflake keeps: what lists them, and what its answer means."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.versions import (
    Versions,
    age,
    candidates_sql,
    columns_sql,
    count_sql,
    is_before,
    newest_published,
    order_of,
    undrop_sql,
    versions_in,
    versions_sql,
)
from run_elt_dagster.snowflake.session import Answer

MAU = Relation("PROD", "ANALYTICS", "MAU")
CREATED, EARLIER, LATER = (datetime(2026, 11, day, tzinfo=UTC) for day in (25, 26, 27))
BUILT = Marker("run", "8f3a01c2", "2026-11-25T00:00:00.000000Z")
COLUMNS = ("created_on", "name", "ROWS", "owner", "comment", "dropped_on")


def listed(name: str = "MAU", rows: int | None = 7, dropped: datetime | None = None) -> tuple[Any, ...]:
    return (CREATED, name, rows, "ELT", str(BUILT), dropped)


def version(rows: int | None = 7, dropped: datetime | None = None) -> TableVersion:
    return TableVersion("MAU", rows, str(BUILT), created_at=CREATED, dropped_at=dropped, owner="ELT")


def test_statements_name_the_table_exactly() -> None:
    bitten = Relation("D", "s'x", "m'u")
    assert versions_sql(bitten) == """SHOW TABLES HISTORY LIKE 'm''u' IN SCHEMA "D"."s'x\""""
    assert columns_sql(bitten) == (
        'SELECT COLUMN_NAME FROM "D".INFORMATION_SCHEMA.COLUMNS '
        "WHERE TABLE_SCHEMA = 's''x' AND TABLE_NAME = 'm''u' ORDER BY ORDINAL_POSITION"
    )
    assert count_sql(MAU, "2026-11-25") == (
        """SELECT COUNT(*) FROM "PROD"."ANALYTICS"."MAU" AT(TIMESTAMP => '2026-11-25'::TIMESTAMP_TZ)"""
    )
    assert undrop_sql(MAU) == 'UNDROP TABLE "PROD"."ANALYTICS"."MAU"'


def test_candidates_are_listed_by_the_prefix_of_their_names() -> None:
    table = AnalyticsTable.model_validate({"schema": "analytics", "table": "mau", "sql": "select 1 as n"})
    assert candidates_sql(table, MAU) == """SHOW TABLES HISTORY LIKE 'TEMP_MAU__%' IN SCHEMA "PROD"."ANALYTICS\""""


def test_version_is_all_that_the_answer_says_of_it() -> None:
    rows = (listed(dropped=LATER), listed("mau"), listed(rows=None))
    assert versions_in(Answer(rows, "q", 0.0, COLUMNS), MAU) == [version(dropped=LATER), version(None)]


def test_version_of_an_answer_that_says_little_keeps_its_defaults() -> None:
    assert versions_in(Answer((("MAU", None, None),), "q", 0.0, ("name", "owner", "comment")), MAU) == [
        TableVersion("MAU")
    ]


def test_order_of_a_version_is_its_time_and_run() -> None:
    assert order_of(version()) == (BUILT.at, "8f3a01c2")
    assert order_of(TableVersion("MAU")) is order_of(None) is None


def test_what_stands_comes_before_what_was_dropped_last() -> None:
    standing, last, first = version(), version(dropped=LATER), version(dropped=EARLIER)
    assert sorted([first, standing, last], key=age) == [standing, last, first]


@pytest.mark.parametrize(
    ("created_at", "marker", "is_older"),
    [
        (CREATED, Marker("run", "a", "2026-11-25T00:00:00.000001Z"), True),
        (CREATED, BUILT, False),
        (CREATED, Marker("run", "a"), False),
        (None, BUILT, False),
    ],
)
def test_object_that_is_older_than_its_rows_was_written_over(
    created_at: datetime | None, marker: Marker, is_older: bool
) -> None:
    assert is_before(created_at, marker) is is_older


class Snowflake:
    """Answers what lists the versions of the table, and nothing else."""

    def __init__(self, *rows: tuple[Any, ...]) -> None:
        self._rows = rows
        self.tags: list[Mapping[str, str]] = []

    def send(self, sql: str, *, tag: Mapping[str, str]) -> Answer:
        assert sql == versions_sql(MAU)
        self.tags.append(tag)
        return Answer(self._rows, "q", 0.0, COLUMNS)


TAG = {"stage": "rollback"}


def test_dropped_versions_are_the_latest_first() -> None:
    snowflake: Any = Snowflake(listed(dropped=EARLIER), listed(), listed(dropped=LATER))
    assert Versions(snowflake, TAG).dropped(MAU) == [version(dropped=LATER), version(dropped=EARLIER)]
    assert snowflake.tags == [TAG]


def test_standing_version_is_asked_of_the_runner_that_is_given() -> None:
    lost, fresh = Snowflake(), Snowflake(listed(dropped=LATER), listed())
    first: Any = lost
    other: Any = fresh
    versions = Versions(first, TAG)
    assert versions.standing(MAU, other) == version()
    assert versions.all_standing(MAU, other) == [version()]
    assert versions.standing(MAU, first) is None
    assert (lost.tags, fresh.tags) == ([TAG], [TAG, TAG])


def test_candidate_of_the_same_time_is_newer_by_the_id_of_its_run() -> None:
    found = TableVersion(comment=str(Marker("run", "b", BUILT.at)), dropped_at=LATER)
    assert newest_published([found], after=Marker("run", "a", BUILT.at)) == found
    assert newest_published([found], after=Marker("run", "c", BUILT.at)) is None
    assert newest_published([found], after=Marker("run", "b", BUILT.at)) is None
