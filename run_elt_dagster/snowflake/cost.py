"""What the statements of this project have cost, as Snowflake's own history says, by table, stage and day.

There are two histories with the same columns:

| history | reaches back | is behind | shows |
| --- | --- | --- | --- |
| INFORMATION_SCHEMA.QUERY_HISTORY, a function | 7 days, 10,000 statements a call | not at all | what the user has sent, and more by MONITOR on a warehouse |
| ACCOUNT_USAGE.QUERY_HISTORY, a view | a year | up to 45 minutes | everything, to a role that may read it |

Neither has credits: those of a query are in ACCOUNT_USAGE.QUERY_ATTRIBUTION_HISTORY.
https://docs.snowflake.com/en/sql-reference/functions/query_history
https://docs.snowflake.com/en/sql-reference/account-usage/query_history
"""

import difflib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from run_elt_dagster.model.names import quote_identifier
from run_elt_dagster.snowflake.session import Session, StatementError

FUNCTION, VIEW = "INFORMATION_SCHEMA.QUERY_HISTORY", "SNOWFLAKE.ACCOUNT_USAGE.QUERY_HISTORY"
# What each of the two keeps, in days.
DAYS_OF_FUNCTION, DAYS_OF_VIEW = 7, 365
# What one call of the function gives at most.
PAGE_STATEMENTS = 10_000
# A busy account is better asked by the view, which needs one question.
MOST_PAGES = 200
STAGES = ("build", "audit", "publish", "clean-up", "inspect", "rollback", "show", "alert", "doctor", "cost")
NO_TABLE = "(no one table)"
_KIB = 1024
_TAG = {"stage": "cost"}
# Columns of `cost_sql`.
_IS_OLDEST, _FIRST_END, _COUNT = 3, 4, 5
# An object that does not exist or is not authorized, and a lack of privileges.
_REFUSED = frozenset({2003, 2043, 3001})


@dataclass(frozen=True)
class Window:
    """A time from its start until before its end, in aware UTC, to a thousandth of a second."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Spent:
    """What statements of one stage, for one table and day, have cost.

    Attributes:
        table: As a person writes it; NO_TABLE for statements that serve a whole run or a command.
        stage: What they were for, as in STAGES.
        day: The day in UTC on which they ended, as in `2026-11-28`.
        statements: How many.
        failed: How many of them failed.
        seconds: How long warehouses executed them, without queueing and compiling.
        bytes_scanned: What they read of tables.
    """

    table: str
    stage: str
    day: str
    statements: int
    failed: int
    seconds: float
    bytes_scanned: int


@dataclass(frozen=True)
class Report:
    """What the statements of a time have cost.

    Attributes:
        history: Which history was asked.
        window: The time.
        role: The role that asked.
        spent: What they cost, in any order.
    """

    history: str
    window: Window
    role: str
    spent: tuple[Spent, ...]

    def of(self, table: str, *, declared: Container[str] = ()) -> "Report":
        """Return the part about one table, which may be empty for a declared one.

        Raises:
            ValueError: The table is not in the report, and no file declares it.
        """
        spent = tuple(each for each in self.spent if each.table == table)
        if not spent and table not in declared:
            near = difflib.get_close_matches(table, {each.table for each in self.spent} - {NO_TABLE}, n=3, cutoff=0.8)
            remedy = f"Did you mean {' or '.join(near)}?" if near else "run-elt cost lists all tables."
            raise ValueError(
                f"run-elt cost requires a table that a run has built in this time or that a file declares, got {table}. Nothing is "
                f"known of it. {remedy}"
            )
        return replace(self, spent=spent)

    @property
    def note(self) -> str:
        """Which history it is, and what that may not show."""
        time = f"{self.window.start:%Y-%m-%d %H:%M} to {self.window.end:%Y-%m-%d %H:%M} UTC"
        if self.history == FUNCTION:
            return (
                f"{time}, by {self.history}: statements of this user, and of others where role {self.role} has MONITOR on their "
                f"warehouse. It keeps {DAYS_OF_FUNCTION} days."
            )
        return f"{time}, by {self.history}: statements of all users. It is up to 45 minutes behind."


def read_cost(session: Session, *, days: int, page_statements: int = PAGE_STATEMENTS) -> Report:
    """Ask Snowflake what the statements of the last days have cost, today included. It is safe to repeat.

    Args:
        session: An open session on an account.
        days: How many days in UTC, from 1. Up to 7 are asked of the function, more of the view.
        page_statements: How many statements one call of the function returns at most.

    Raises:
        ValueError: Snowflake does not keep as many days, the role may not read the view, or the function would have to be called
            too often.
        StatementError: Snowflake did not answer.
    """
    if not 1 <= days <= DAYS_OF_VIEW:
        raise ValueError(
            f"run-elt cost requires --days from 1 to {DAYS_OF_VIEW}, got {days}. Nothing was asked. Snowflake keeps a year."
        )
    ((now, role),) = session.execute("SELECT CURRENT_TIMESTAMP(), CURRENT_ROLE()", tag=_TAG).rows
    until = now.astimezone(UTC)
    # Since midnight, so each day is whole. The function refuses a time that is longer ago than seven days.
    window = Window(until.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1), until)
    if days <= DAYS_OF_FUNCTION:
        return Report(FUNCTION, window, role, tuple(_of_function(session, window, page_statements)))
    return Report(VIEW, window, role, tuple(_of_view(session, window, role)))


def _of_function(session: Session, window: Window, page_statements: int) -> Iterator[Spent]:
    """Yield what the function has, the newest page first. A call that is full has left out the statements that ended before.

    Raises:
        ValueError: It would take too many calls, or one thousandth of a second has more statements than a call returns.
    """
    for _ in range(MOST_PAGES):
        call = function_sql(session.database, window, limit=page_statements)
        rows = session.execute(cost_sql(call, window), tag=_TAG).rows
        if sum(int(row[_COUNT]) for row in rows) < page_statements:
            yield from _spent_of(rows)
            return
        # Others may have ended in the oldest millisecond of the page, so the next page has all of it.
        yield from _spent_of(row for row in rows if not row[_IS_OLDEST])
        end = _after(min(row[_FIRST_END] for row in rows))
        if end >= window.end:
            raise ValueError(
                f"run-elt cost requires fewer than {page_statements:,} statements in a millisecond, got as many before {end}. The "
                f"cost is unknown. Pass --days {DAYS_OF_FUNCTION + 1}: {VIEW} has no such limit."
            )
        window = Window(window.start, end)
    raise ValueError(
        f"run-elt cost requires at most {MOST_PAGES} calls of {FUNCTION} with {page_statements:,} statements each, got more. The "
        f"cost is unknown. Pass fewer --days, or more than {DAYS_OF_FUNCTION} to ask {VIEW}."
    )


def _after(at: datetime) -> datetime:
    """Return the beginning of the next millisecond."""
    utc = at.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000) + timedelta(milliseconds=1)


def _of_view(session: Session, window: Window, role: str) -> Iterable[Spent]:
    try:
        rows = session.execute(cost_sql(VIEW, window), tag=_TAG).rows
    except StatementError as error:
        if error.errno not in _REFUSED:
            raise
        raise ValueError(
            f"run-elt cost requires {VIEW} for more than {DAYS_OF_FUNCTION} days, got a refusal for role {role}: {error.problem}. "
            f"Nothing was read. Let an administrator run GRANT DATABASE ROLE SNOWFLAKE.GOVERNANCE_VIEWER TO ROLE {role}, or pass "
            f"--days {DAYS_OF_FUNCTION}."
        ) from error
    return _spent_of(rows)


def _spent_of(rows: Iterable[Sequence[Any]]) -> Iterator[Spent]:
    """Yield what the rows of `cost_sql` say about statements of ours."""
    for asset, stage, day, _, _, statements, failed, milliseconds, scanned in rows:
        if stage is not None:
            table = str(asset).replace("/", ".") if asset else NO_TABLE
            seconds = int(milliseconds or 0) / 1000
            yield Spent(table, str(stage), str(day), int(statements), int(failed), seconds, int(scanned or 0))


def function_sql(database: str, window: Window, *, limit: int) -> str:
    """Return the call of the function. With an end, it leaves out statements that still run."""
    return (
        f"TABLE({quote_identifier(database)}.INFORMATION_SCHEMA.QUERY_HISTORY(END_TIME_RANGE_START => {_instant(window.start)}, "
        f"END_TIME_RANGE_END => {_instant(window.end)}, RESULT_LIMIT => {limit}))"
    )


def cost_sql(history: str, window: Window) -> str:
    """Return the query of what a history says about a time.

    There is a row for each table, stage and day, with the number of statements and of failed ones, milliseconds and bytes. Whether
    they ended in the oldest millisecond of all, and when the first of them ended, are for `_of_function`. The rows without a stage
    are not ours, or ended outside of the time: all rows together count what a call of the function has returned. Snowflake notes a
    size of the warehouse where a warehouse has executed the statement.

    Args:
        history: What stands in FROM.
        window: When the statements ended.
    """
    ended = f"END_TIME >= {_instant(window.start)} AND END_TIME < {_instant(window.end)}"
    return f"""SELECT ASSET, STAGE, DAY, IS_OLDEST, MIN(END_TIME), COUNT(*), COUNT(ERROR_CODE), SUM(MILLISECONDS), SUM(BYTES_SCANNED)
FROM (
  SELECT
    TAG:asset::VARCHAR AS ASSET,
    TAG:stage::VARCHAR AS STAGE,
    CASE WHEN TAG IS NOT NULL THEN TO_CHAR(CONVERT_TIMEZONE('UTC', END_TIME), 'YYYY-MM-DD') END AS DAY,
    ENDED = MIN(ENDED) OVER () AS IS_OLDEST,
    END_TIME,
    ERROR_CODE,
    CASE WHEN WAREHOUSE_SIZE IS NOT NULL THEN EXECUTION_TIME END AS MILLISECONDS,
    BYTES_SCANNED
  FROM (
    SELECT
      CASE
        WHEN {ended} AND (QUERY_TAG LIKE '{{"run_id": %' OR QUERY_TAG LIKE '{{"stage": %') THEN TRY_PARSE_JSON(QUERY_TAG)
      END AS TAG,
      DATE_TRUNC('MILLISECOND', END_TIME) AS ENDED,
      END_TIME,
      ERROR_CODE,
      WAREHOUSE_SIZE,
      EXECUTION_TIME,
      BYTES_SCANNED
    FROM {history}{f" WHERE {ended}" if history == VIEW else ""}
  )
)
GROUP BY ASSET, STAGE, DAY, IS_OLDEST"""


def _instant(at: datetime) -> str:
    return f"TO_TIMESTAMP_LTZ('{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} +0000')"


def totals(spent: Iterable[Spent], *, by: str) -> dict[str, tuple[Spent, ...]]:
    """Return the parts of a cost under what they have in common, the dearest first, or the earliest day.

    Args:
        spent: The parts.
        by: `table` or `day`.
    """
    found: dict[str, list[Spent]] = {}
    for each in spent:
        found.setdefault(getattr(each, by), []).append(each)
    keys = sorted(found) if by == "day" else sorted(found, key=lambda key: (-_seconds(found[key]), key))
    return {key: tuple(found[key]) for key in keys}


def lines(report: Report, *, by: str) -> tuple[list[str], list[list[str]]]:
    """Return header and lines of the overview by table or by day, with a last line of the sum."""
    stages = _in_order({each.stage for each in report.spent})
    header = [by, "seconds", *stages, "failed", "scanned by builds", "scanned by audits"]
    groups = {**totals(report.spent, by=by), "sum": report.spent}
    return header, [_line(name, parts, stages) for name, parts in groups.items()]


def _line(name: str, parts: Sequence[Spent], stages: Sequence[str]) -> list[str]:
    counts = statements_by_stage(parts)
    scanned = bytes_by_stage(parts)
    return [
        name,
        f"{_seconds(parts):,.1f}",
        *(f"{counts.get(stage, 0):,}" for stage in stages),
        f"{sum(part.failed for part in parts):,}",
        *(size(scanned.get(stage, 0)) for stage in ("build", "audit")),
    ]


def size(count: int) -> str:
    """Return a number of bytes as a person reads it, as in `1.5 GiB`."""
    value, units = float(count), ["KiB", "MiB", "GiB", "TiB"]
    if count < _KIB:
        return f"{count} B"
    while True:
        value, unit = value / _KIB, units.pop(0)
        if value < _KIB or not units:
            return f"{value:,.1f} {unit}"


def as_mapping(report: Report) -> Mapping[str, Any]:
    """Return a report as `--json` prints it: seconds, bytes, and times in UTC."""
    return {
        "history": report.history,
        "since": report.window.start.isoformat(),
        "until": report.window.end.isoformat(),
        "tables": [
            {
                "table": table,
                **_sums(parts),
                "days": [{"day": day, **_sums(each)} for day, each in totals(parts, by="day").items()],
            }
            for table, parts in totals(report.spent, by="table").items()
        ],
    }


def _sums(parts: Sequence[Spent]) -> Mapping[str, Any]:
    return {
        "seconds": round(_seconds(parts), 3),
        "statements": statements_by_stage(parts),
        "failed": sum(part.failed for part in parts),
        "bytes_scanned": bytes_by_stage(parts),
    }


def statements_by_stage(parts: Iterable[Spent]) -> dict[str, int]:
    """Return how many statements each stage took."""
    return _by_stage((part.stage, part.statements) for part in parts)


def bytes_by_stage(parts: Iterable[Spent]) -> dict[str, int]:
    """Return the bytes that each stage has scanned."""
    return _by_stage((part.stage, part.bytes_scanned) for part in parts)


def _by_stage(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for stage, count in counts:
        found[stage] = found.get(stage, 0) + count
    return {stage: found[stage] for stage in _in_order(found)}


def _in_order(stages: Iterable[str]) -> list[str]:
    """Return stages in the order of STAGES; one that is not known there comes last."""
    return sorted(stages, key=lambda stage: (STAGES.index(stage) if stage in STAGES else len(STAGES), stage))


def _seconds(parts: Iterable[Spent]) -> float:
    return sum(part.seconds for part in parts)
