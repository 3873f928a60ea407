"""The table function QUERY_HISTORY: https://docs.snowflake.com/en/sql-reference/functions/query_history.

A statement scans each stored table that stands in a FROM with its schema, once for each place. COUNT(*) alone scans nothing. A
table's bytes are eight for each of its values. The size of a warehouse is that of statements which take one: queries, CREATE TABLE
AS, and changes of rows.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlglot import Expr, exp

from run_elt_dagster.dialect import values
from run_elt_dagster.dialect.errors import SqlError, syntax_error
from run_elt_dagster.embedded import queries
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.objects import Table

KEPT = timedelta(days=7)
DEFAULT_LIMIT, GREATEST_LIMIT = 100, 10_000
VALUE_BYTES = 8
_START, _END, _LIMIT = "END_TIME_RANGE_START", "END_TIME_RANGE_END", "RESULT_LIMIT"
_CTAS = re.compile(r"CREATE\b[^(]*\bTABLE\b.*\bAS\b", re.IGNORECASE | re.DOTALL)
_CLONE = re.compile(r"CREATE\b[^(]*\bTABLE\b[^(]*\bCLONE\b", re.IGNORECASE)
_ON_A_WAREHOUSE = frozenset({"SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "MERGE", "CREATE_TABLE_AS_SELECT"})


@dataclass(frozen=True)
class StatementRecord:
    """A statement that was executed.

    Attributes:
        sql: Its text as it was sent.
        query_tag: The session's or the statement's QUERY_TAG, empty if there was none.
        session_id: Which session it ran in.
        role: The session's role at that moment.
        query_id: Its id.
        started_at: When it arrived, in UTC.
        seconds: How long it took, waiting included.
        error_code: Snowflake's error number, None for success.
        user: Who has sent it.
        warehouse: The session's warehouse at that moment.
        scanned: The tables that it has scanned, once for each scan.
        bytes_scanned: How much it has scanned.
    """

    sql: str
    query_tag: str
    session_id: int
    role: str | None
    query_id: str
    started_at: datetime
    seconds: float
    error_code: int | None
    user: str = ""
    warehouse: str | None = None
    scanned: tuple[str, ...] = ()
    bytes_scanned: int = 0

    @property
    def query_type(self) -> str:
        """Snowflake's word for the kind of the statement, as far as its first words tell it."""
        if _CTAS.match(self.sql) and not _CLONE.match(self.sql):
            return "CREATE_TABLE_AS_SELECT"
        first = self.sql.lstrip("( \n").split(None, 1)[0].upper()
        return "SELECT" if first == "WITH" else first

    def row(self) -> Mapping[str, Any]:
        """Return it as QUERY_HISTORY does; times are in milliseconds."""
        milliseconds = round(self.seconds * 1000)
        return {
            "QUERY_ID": self.query_id,
            "QUERY_TEXT": self.sql,
            "QUERY_TYPE": self.query_type,
            "SESSION_ID": self.session_id,
            "USER_NAME": self.user,
            "ROLE_NAME": self.role,
            "WAREHOUSE_NAME": self.warehouse,
            "WAREHOUSE_SIZE": "X-Small" if self.query_type in _ON_A_WAREHOUSE else None,
            "QUERY_TAG": self.query_tag,
            "EXECUTION_STATUS": "SUCCESS" if self.error_code is None else "FAILED_WITH_ERROR",
            "ERROR_CODE": None if self.error_code is None else f"{self.error_code:06d}",
            "START_TIME": self.started_at,
            "END_TIME": self.started_at + timedelta(milliseconds=milliseconds),
            "TOTAL_ELAPSED_TIME": milliseconds,
            "EXECUTION_TIME": milliseconds,
            "QUEUED_OVERLOAD_TIME": 0,
            "BYTES_SCANNED": self.bytes_scanned,
        }


_OTHER_KINDS = {
    **dict.fromkeys(("START_TIME", "END_TIME"), "TIMESTAMPTZ"),
    **dict.fromkeys(
        ("SESSION_ID", "TOTAL_ELAPSED_TIME", "EXECUTION_TIME", "QUEUED_OVERLOAD_TIME", "BYTES_SCANNED"), "BIGINT"
    ),
}
_SAMPLE = StatementRecord("SELECT", "", 0, None, "", datetime.now(UTC), 0, None)
_KINDS = {name: _OTHER_KINDS.get(name, "VARCHAR") for name in _SAMPLE.row()}


def history_sql(session: EngineSession, call: exp.Anonymous, records: Sequence[StatementRecord]) -> str:
    """Return the query of the statements that a call of the function asks for, the one that ended last first.

    Raises:
        SqlError: The call has another argument, a limit that is none, or a time that is no longer kept.
    """
    given = {
        argument.this.name.upper(): argument.expression
        for argument in call.expressions
        if isinstance(argument, exp.Kwarg)
    }
    if len(given) != len(call.expressions) or not given.keys() <= {_START, _END, _LIMIT}:
        raise syntax_error(f"invalid arguments of QUERY_HISTORY: {call.sql(dialect='snowflake')}")
    limit = int(given[_LIMIT].name) if _LIMIT in given else DEFAULT_LIMIT
    if not 1 <= limit <= GREATEST_LIMIT:
        raise syntax_error(f"Invalid value [{limit}] for argument {_LIMIT}.")
    now = datetime.now(UTC)
    times = _instants(session, {name: given[name] for name in (_START, _END) if name in given})
    for instant in times.values():
        if not now - KEPT <= instant <= now + timedelta(minutes=1):
            raise SqlError(
                f"Cannot retrieve data from more than 7 days ago, got {instant}.", errno=2140, sqlstate="22023"
            )
    start, end = times.get(_START), times.get(_END)
    rows = [record.row() for record in records]
    rows = [
        row for row in rows if (start is None or row["END_TIME"] >= start) and (end is None or row["END_TIME"] <= end)
    ]
    rows.sort(key=lambda row: row["END_TIME"], reverse=True)
    text = values.literal_sql(json.dumps(rows[:limit], default=str))
    return f"SELECT statement.* FROM (SELECT UNNEST(from_json({text}, '{json.dumps([_KINDS])}')) AS statement)"


def _instants(session: EngineSession, arguments: Mapping[str, Expr]) -> Mapping[str, datetime]:
    """Return the values of arguments, whatever expressions they are."""
    if not arguments:
        return {}
    items = [f"{argument.sql(dialect='snowflake')}::TIMESTAMP_TZ::VARCHAR" for argument in arguments.values()]
    translator, expression = queries.translated(session, f"SELECT {', '.join(items)}")
    row = queries.run(session, translator.relation(expression).sql)
    texts = [row.column(number)[0].as_py() for number in range(len(items))]
    return {
        name: datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f %z") for name, text in zip(arguments, texts, strict=True)
    }


def scanned_tables(session: EngineSession, expression: Expr) -> list[Table]:
    """Return the tables that a query scans, once for each scan."""
    counted = [_from_of(select) for select in expression.find_all(exp.Select) if _only_counts(select)]
    return [
        session.complete(queries.table_name(table))
        for table in expression.find_all(exp.Table)
        if isinstance(table.this, exp.Identifier)
        and table.db.upper() not in ("", "INFORMATION_SCHEMA")
        and not any(table is each for each in counted)
    ]


def _from_of(select: exp.Select) -> Expr | None:
    source = select.args.get("from_")
    return source.this if source else None


def _only_counts(select: exp.Select) -> bool:
    """Return whether a query asks for the number of a table's rows, and for nothing else of the table."""
    clauses = {name for name, value in select.args.items() if value} - {"expressions", "from_"}
    items = [each.unalias() for each in select.expressions]
    return not clauses and all(isinstance(item, exp.Subquery) or _counts_rows(item) for item in items)


def _counts_rows(item: Expr) -> bool:
    # The parser of the embedded Snowflake marks functions with a prefix.
    return item.sql().upper().removeprefix("F$") == "COUNT(*)"


def bytes_of(session: EngineSession, table: Table) -> int:
    """Return the size of a table, 0 for a view."""
    found = session.duck.execute(
        """SELECT estimated_size * column_count FROM duckdb_tables()
        WHERE database_name = ? AND schema_name = ? AND table_name = ?""",
        [table.database, table.schema, table.name],
    ).fetchone()
    return VALUE_BYTES * int(found[0]) if found else 0
