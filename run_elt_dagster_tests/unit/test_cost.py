from datetime import UTC, datetime
from typing import Any

import pytest

from run_elt_dagster.snowflake.cost import (
    FUNCTION,
    NO_TABLE,
    VIEW,
    Report,
    Spent,
    Window,
    as_mapping,
    cost_sql,
    function_sql,
    lines,
    size,
)

WINDOW = Window(datetime(2026, 11, 22, tzinfo=UTC), datetime(2026, 11, 28, 6, 30, 0, 162_466, UTC))
SINCE, UNTIL = "TO_TIMESTAMP_LTZ('2026-11-22 00:00:00.000 +0000')", "TO_TIMESTAMP_LTZ('2026-11-28 06:30:00.162 +0000')"


def spent(table: str, stage: str, **changes: Any) -> Spent:
    values: dict[str, Any] = {"day": "2026-11-28", "statements": 1, "failed": 0, "seconds": 1.0, "bytes_scanned": 0}
    return Spent(table, stage, **{**values, **changes})


def a_report(*parts: Spent, history: str = FUNCTION) -> Report:
    return Report(history, WINDOW, "RUN_ELT", parts)


def test_function_is_asked_of_a_time_with_an_end() -> None:
    """Without an end it gives statements that still run, too."""
    assert function_sql("PROD", WINDOW, limit=10_000) == (
        f'TABLE("PROD".INFORMATION_SCHEMA.QUERY_HISTORY(END_TIME_RANGE_START => {SINCE}, END_TIME_RANGE_END => {UNTIL}, '
        "RESULT_LIMIT => 10000))"
    )


def test_only_the_view_is_filtered() -> None:
    """The rows of the function are counted: only so it is known that a call has left some out."""
    ended = f"END_TIME >= {SINCE} AND END_TIME < {UNTIL}"
    assert f"    FROM {VIEW} WHERE {ended}\n" in cost_sql(VIEW, WINDOW)
    assert "    FROM TABLE(f())\n  )" in cost_sql("TABLE(f())", WINDOW)
    assert f"WHEN {ended} AND (QUERY_TAG" in cost_sql("TABLE(f())", WINDOW)


def test_dearest_table_comes_first_and_the_sum_last() -> None:
    report = a_report(
        spent("analytics.a", "build", seconds=0.26, bytes_scanned=3 * 2**20),
        spent("analytics.b", "audit", seconds=2, failed=1, bytes_scanned=10),
        spent("analytics.a", "audit", seconds=0.5, statements=1200),
        spent(NO_TABLE, "inspect", seconds=0),
    )
    assert lines(report, by="table") == (
        ["table", "seconds", "build", "audit", "inspect", "failed", "scanned by builds", "scanned by audits"],
        [
            ["analytics.b", "2.0", "0", "1", "0", "1", "0 B", "10 B"],
            ["analytics.a", "0.8", "1", "1,200", "0", "0", "3.0 MiB", "0 B"],
            [NO_TABLE, "0.0", "0", "0", "1", "0", "0 B", "0 B"],
            ["sum", "2.8", "1", "1,201", "1", "1", "3.0 MiB", "10 B"],
        ],
    )


def test_json_has_each_day_of_each_table() -> None:
    parts = [spent("analytics.a", "build", day=day, seconds=seconds) for day, seconds in (("28", 1.5), ("27", 2.25))]
    (table,) = as_mapping(a_report(*parts))["tables"]
    assert (table["table"], table["seconds"], table["statements"]) == ("analytics.a", 3.75, {"build": 2})
    assert [(day["day"], day["seconds"]) for day in table["days"]] == [("27", 2.25), ("28", 1.5)]


def test_unknown_table_is_an_error_with_a_similar_name() -> None:
    report = a_report(spent("analytics.orders", "build"))
    with pytest.raises(
        ValueError, match=r"got analytics\.order\. Nothing is known of it\. Did you mean analytics\.orders\?"
    ):
        report.of("analytics.order")
    assert report.of("analytics.order", declared={"analytics.order"}).spent == ()


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (5000 * 2**40, "5,000.0 TiB")],
)
def test_size_reads_as_words(count: int, words: str) -> None:
    assert size(count) == words
