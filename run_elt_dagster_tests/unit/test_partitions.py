"""What a file declares of partitions, which there are, and the SQL of a slice."""

import itertools
from datetime import UTC, date, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from run_elt_dagster.model.partitions import Partition, Partitioning, Slice, contiguous
from run_elt_dagster.model.placeholders import PLACEHOLDERS, filled_in, placeholders_in
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster_tests.support import table_texts


def days(**settings: Any) -> Partitioning:
    return Partitioning.model_validate({"by": "day", "column": "day", "start": date(2024, 1, 1), **settings})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def parse(front_matter: str, sql: str = "select day, n from raw_data.t") -> AnalyticsTable:
    return table_texts.parse(table_texts.with_front_matter(front_matter, sql), table="t")


def problems_of(front_matter: str, sql: str = "select day, n from raw_data.t") -> list[str]:
    return table_texts.problems_of(table_texts.with_front_matter(front_matter, sql), table="t")


DAILY = "partitions: {by: day, column: day, start: 2024-01-01}"


@pytest.mark.parametrize(
    ("by", "start", "until", "keys"),
    [
        ("hour", "2024-01-01T22:00", "2024-01-02T00:59", ["2024-01-01-22:00", "2024-01-01-23:00"]),
        ("day", "2024-02-28", "2024-03-02", ["2024-02-28", "2024-02-29", "2024-03-01"]),
        ("week", "2024-01-01", "2024-01-15", ["2024-01-01", "2024-01-08"]),
        ("month", "2023-11-01", "2024-02-01", ["2023-11-01", "2023-12-01", "2024-01-01"]),
    ],
)
def test_partitions_are_those_that_are_over(by: str, start: str, until: str, keys: list[str]) -> None:
    partitioning = days(by=by, start=at(start))
    found = partitioning.partitions(at(until))
    assert [partition.key for partition in found] == keys
    assert all(earlier.end == later.start for earlier, later in itertools.pairwise(found))
    assert partitioning.newest(at(until)) == found[-1]
    assert [partitioning.partition(key) for key in keys] == list(found)
    assert partitioning.between(keys[0], keys[-1]).partitions == found


def test_partitions_end_before_the_declared_end_and_begin_when_the_first_one_is_over() -> None:
    bounded = days(end=date(2024, 1, 3))
    assert [each.key for each in bounded.partitions(at("2024-06-01"))] == ["2024-01-01", "2024-01-02"]
    assert days().partitions(at("2024-01-01T23:59:59")) == ()
    assert days().newest(at("2023-01-01")) is None


def test_hours_of_the_night_when_clocks_change_have_each_a_key_of_their_own() -> None:
    """Partitions are in UTC: no hour comes twice, and none is left out."""
    keys = [each.key for each in days(by="hour", start=at("2024-10-27")).partitions(at("2024-10-28"))]
    assert (len(keys), len(set(keys))) == (24, 24)


def test_bound_with_a_time_zone_is_read_as_utc() -> None:
    assert days(start=datetime.fromisoformat("2024-01-01T01:00:00+01:00")).start == at("2024-01-01")


@pytest.mark.parametrize("key", ["2023-12-31", "2024-1-1", "2024-01-03", "yesterday", "2024-01-01-05:00", ""])
def test_key_without_a_partition_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"requires a key like 2024-01-01, not before that and before 2024-01-03"):
        days(end=date(2024, 1, 3)).partition(key)


def test_range_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 2024-01-03\.\.\.2024-01-01\. Write 2024-01-01\.\.\.2024-01-03\."):
        days().between("2024-01-03", "2024-01-01")


def test_slice_is_in_order_and_never_empty_and_has_no_gap() -> None:
    found = days().slice(["2024-01-02", "2024-01-01"])
    assert (found.keys, found.start, found.end) == (("2024-01-01", "2024-01-02"), at("2024-01-01"), at("2024-01-03"))
    assert found.words == "2024-01-01 to 2024-01-02 (2 partitions)"
    assert days().slice(["2024-01-02"]).words == "2024-01-02"
    with pytest.raises(ValueError, match="requires a partition, got none"):
        Slice(())
    with pytest.raises(ValueError, match="got 2024-01-01 and then 2024-01-03"):
        days().slice(["2024-01-01", "2024-01-03"])


def test_pieces_of_a_slice_are_contiguous() -> None:
    found = days().between("2024-01-01", "2024-01-05")
    assert found.pieces(["2024-01-05", "2024-01-01", "2024-01-02"]) == (
        (at("2024-01-01"), at("2024-01-03")),
        (at("2024-01-05"), at("2024-01-06")),
    )
    assert found.pieces([]) == ()
    with pytest.raises(ValueError, match="got 2024-01-06"):
        found.pieces(["2024-01-06"])


@pytest.mark.parametrize(
    ("by", "declared", "low"),
    [
        ("day", None, "'2024-01-01'::DATE"),
        ("month", "date", "'2024-01-01'::DATE"),
        ("day", "timestamp_ntz(3)", "'2024-01-01 00:00:00'::TIMESTAMP_NTZ"),
        ("hour", None, "'2024-01-01 00:00:00'::TIMESTAMP_NTZ"),
        ("week", "timestamp_tz", "'2024-01-01 00:00:00 +00:00'::TIMESTAMP_TZ"),
        ("hour", "timestamp_ltz", "'2024-01-01 00:00:00 +00:00'::TIMESTAMP_LTZ"),
    ],
)
def test_literals_have_the_type_of_the_column(by: str, declared: str | None, low: str) -> None:
    assert days(by=by).literal(at("2024-01-01"), declared) == low


@pytest.mark.parametrize(("by", "declared"), [("hour", "date"), ("day", "varchar"), ("day", "timestamp")])
def test_column_without_a_certain_time_is_refused(by: str, declared: str) -> None:
    with pytest.raises(ValueError, match=f"requires a column of type .*timestamp_ltz, got {declared}"):
        days(by=by).literal_type(declared)


def test_slice_filters_the_select_of_the_file() -> None:
    table = parse(
        "partitions: {by: day, column: '\"Day\"', start: 2024-01-01}\ncolumns: {'\"Day\"': timestamp_tz, n: int}",
        'select "Day", n from raw_data.t -- all of it',
    )
    assert table.partitions is not None
    assert table.sliced_sql(table.partitions.between("2024-01-01", "2024-01-02")) == (
        'SELECT * FROM (\n\nselect "Day", n from raw_data.t -- all of it\n\n) WHERE '
        "\"Day\" >= '2024-01-01 00:00:00 +00:00'::TIMESTAMP_TZ AND \"Day\" < '2024-01-03 00:00:00 +00:00'::TIMESTAMP_TZ "
        'OR "Day" IS NULL'
    )


def test_slice_fills_in_the_bounds_where_the_file_asks_for_them() -> None:
    sql = "select day, n -- {partition_start}\nfrom t where day >= {partition_start} and day < {partition_end}"
    table = parse(DAILY, sql)
    assert table.partitions is not None
    assert table.sliced_sql(table.partitions.slice(["2024-01-31"])) == (
        "\nselect day, n -- {partition_start}\nfrom t where day >= '2024-01-31'::DATE and day < '2024-02-01'::DATE\n"
    )
    assert table.readable_sql.endswith("day >= '2024-01-01'::DATE and day < '2024-01-01'::DATE\n")
    assert table.partition_predicate(at("2024-01-01"), at("2024-02-01")) == (
        "\"DAY\" >= '2024-01-01'::DATE AND \"DAY\" < '2024-02-01'::DATE"
    )


def test_placeholders_in_strings_and_comments_are_none() -> None:
    sql = (
        "select '{partition_start}' /* {partition_end} {increment_start} */, \"{partition_end}\", $${partition_start}$$"
    )
    assert not placeholders_in(sql)
    assert filled_in(sql, dict.fromkeys(PLACEHOLDERS, "a")) == sql


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            "{by: day, column: day, start: 2024-01-01 05:00:00}",
            "t.sql:2: partitions.start: requires the first moment of a day in UTC, as in 2024-01-01, got 2024-01-01 05:00:00.",
        ),
        ("{by: week, column: day, start: 2024-01-02}", "requires the first moment of a Monday in UTC"),
        ("{by: month, column: day, start: 2024-01-02}", "requires the first moment of a month in UTC"),
        ("{by: hour, column: day, start: 2024-01-01 00:30:00}", "requires the first moment of an hour"),
        ("{by: day, column: day, start: 2024-01-01, end: 2024-01-01}", "partitions.end: requires an end after start"),
        ("{by: day, column: day, start: '2024-01-01'}", "partitions.start: requires a date or a timestamp, unquoted"),
        ("{by: day, column: day, start: 9999-01-01}", "requires a year of at most 9998"),
        ("{by: year, column: day, start: 2024-01-01}", "partitions.by: requires 'hour', 'day', 'week' or 'month'"),
        ("{by: day, column: day, start: 2024-01-01, look_back: 1}", "Did you mean 'partitions.lookback'?"),
        ("{by: day, column: day, start: 2024-01-01, lookback: 2, max_per_run: 2}", "requires more than lookback"),
        ("{by: day, column: day}", "partitions.start: is required, got none."),
    ],
)
def test_declaration_that_no_partition_fits_is_a_problem_of_its_line(settings: str, problem: str) -> None:
    (found,) = problems_of(f"partitions: {settings}")
    assert problem in found


@pytest.mark.parametrize(
    ("front_matter", "problem"),
    [
        (f"{DAILY}\npublish: clone", "t.sql:3: publish: cannot be chosen for a table that is built in parts"),
        (
            f"{DAILY}\nschema_change: report",
            "t.sql:3: schema_change: requires fail or add for a table that is built in",
        ),
        ("schema_change: add", "t.sql:2: schema_change: requires report or fail for a table that is built whole"),
        (f"{DAILY}\ncolumns: {{n: int}}", "partitions.column: requires columns of the table, got day"),
        (f"{DAILY}\ncolumns: {{day: varchar}}", "partitions.column: requires a column of type date, timestamp_ntz"),
    ],
)
def test_settings_that_do_not_go_together_are_a_problem(front_matter: str, problem: str) -> None:
    (found,) = problems_of(front_matter)
    assert problem in found


@pytest.mark.parametrize(
    ("front_matter", "sql", "problem"),
    [
        (
            "owner: a@b.c",
            "select 1\nwhere x < {partition_end}",
            "t.sql:5: SQL requires partitions in the front matter for",
        ),
        (
            DAILY,
            "select 1\nwhere x < {partition_end}",
            "t.sql:5: SQL requires both {partition_start} and {partition_end}",
        ),
        (
            DAILY,
            "select '{partition_end}' as day",
            "t.sql:4: SQL requires {partition_start} and {partition_end} without",
        ),
    ],
)
def test_placeholders_without_a_slice_are_a_problem_of_their_line(front_matter: str, sql: str, problem: str) -> None:
    (found,) = problems_of(front_matter, sql)
    assert problem in found


def test_columns_can_be_added_to_a_table_in_parts() -> None:
    assert parse(f"{DAILY}\nschema_change: add").schema_change == "add"


def test_table_cannot_have_the_name_of_the_products() -> None:
    with pytest.raises(ValidationError, match="requires another name than RUN_ELT_PARTITIONS"):
        AnalyticsTable.model_validate({"schema": "a", "table": "run_elt_partitions", "sql": "select 1 as id"})


def test_table_without_partitions_has_no_slice() -> None:
    part = Slice((Partition("2024-01-01", at("2024-01-01"), at("2024-01-02")),))
    with pytest.raises(ValueError, match=r"a\.t requires partitions in its front matter for a slice, got none\."):
        AnalyticsTable.model_validate({"schema": "a", "table": "t", "sql": "select 1 as id"}).sliced_sql(part)


def test_partitions_are_asked_for_by_a_key_or_a_range() -> None:
    table = parse(DAILY)
    assert table.part("2024-01-02").keys == ("2024-01-02",)
    assert table.part("2024-01-01...2024-01-02").keys == ("2024-01-01", "2024-01-02")
    with pytest.raises(ValueError, match=r"analytics\.t requires a partition, got none\. Nothing was built\."):
        table.part(None)
    with pytest.raises(ValueError, match="cannot have a partition: its file declares no partitions, got 2024-01-02"):
        parse("owner: a@b.c").part("2024-01-02")


def test_due_are_those_that_have_just_ended_and_none_long_after_the_end() -> None:
    bounded = days(end=date(2024, 1, 11))
    assert [each.key for each in bounded.due(at("2024-01-04T00:00"), 1)] == ["2024-01-02", "2024-01-03"]
    assert [each.key for each in bounded.due(at("2024-01-01T12:00"), 5)] == []
    assert [each.key for each in bounded.due(at("2024-01-12T00:00"), 1)] == ["2024-01-10"]
    assert bounded.due(at("2024-03-01"), 1) == ()
    assert [each.key for each in bounded.last(at("2024-03-01"), 2)] == ["2024-01-09", "2024-01-10"]


def test_contiguous_partitions_are_one_slice() -> None:
    found = contiguous(map(days().partition, ["2024-01-05", "2024-01-02", "2024-01-01", "2024-01-02"]))
    assert [part.keys for part in found] == [("2024-01-01", "2024-01-02"), ("2024-01-05",)]
