"""The rows that a table had before: what AT and BEFORE read.

https://docs.snowflake.com/en/sql-reference/constructs/at-before. A transaction leaves a copy of each table that it changes, and INSERT
OVERWRITE the rows that it replaces. Any other statement leaves nothing: to look further back than that is an error.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from sqlglot import exp

from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded.objects import Register, Table

if TYPE_CHECKING:
    from run_elt_dagster.embedded.engine import EngineSession

# Snowflake keeps any number for a day; here each of them is a copy on somebody's disk.
KEPT_PER_TABLE = 50
KEPT_FOR = "INTERVAL 1 DAY"


def keep_rows(session: "EngineSession", table: Table, *, moved: bool = False) -> None:
    """Keep the rows that a statement is about to change; a transaction keeps those from before it, once.

    Belongs into the transaction that changes them. DuckDB's clock stands still in it: its time names what it has changed.

    Args:
        session: Who changes them.
        table: The table.
        moved: Whether all of them go. They are taken away, so nothing stands under the name.
    """
    if not (moved or session.in_transaction):
        return
    register = session.register(table.database)
    known, past = register.registered(table), register.part("past")
    if known is None:
        return
    row = session.duck.execute(
        f"SELECT kept_name FROM {past} WHERE object_id = ? AND until = now()", [known.object_id]
    ).fetchone()
    kept = table.beside(row[0]) if row else table.kept()
    if row is None:
        _note_others(register, known.object_id)
        how = f"ALTER TABLE {table.sql} RENAME TO {quoted(kept.name)}"
        session.duck.execute(how if moved else f"CREATE TABLE {kept.sql} AS FROM {table.sql}")
    elif moved:
        session.duck.execute(f"DROP TABLE {table.sql}")
    values = [known.object_id, kept.schema, kept.name, session.context.get("query_id")]
    session.duck.execute(f"INSERT INTO {past} VALUES (?, ?, ?, ?, now())", values)


def forget_rows(register: Register, object_id: str, *, until: datetime | None = None) -> None:
    """Let go of the rows that an object had, to a moment or all of them."""
    rows = register.duck.execute(
        f"""DELETE FROM {register.part("past")} WHERE object_id = ? AND until <= coalesce(?, 'infinity'::TIMESTAMPTZ)
        RETURNING kept_schema, kept_name""",
        [object_id, until],
    ).fetchall()
    for schema, name in {row for row in rows if row[1] is not None}:
        # They are gone already where their schema was dropped.
        register.duck.execute(f"DROP TABLE IF EXISTS {Table(register.database, schema, name).sql}")


def _note_others(register: Register, object_id: str) -> None:
    """Note the last change that left nothing, and let go of what is too old or too much."""
    past, objects = register.part("past"), register.part("objects")
    register.duck.execute(
        f"""INSERT INTO {past} SELECT object_id, NULL, NULL, NULL, changed_on FROM {objects}
        WHERE object_id = ? AND changed_on > coalesce((SELECT max(until) FROM {past} WHERE object_id = ?), '-infinity')""",
        [object_id, object_id],
    )
    row = register.duck.execute(
        f"""SELECT until FROM {past} WHERE object_id = ? GROUP BY until
        QUALIFY until <= now() - {KEPT_FOR} OR row_number() OVER (ORDER BY until DESC) >= {KEPT_PER_TABLE}
        ORDER BY until DESC LIMIT 1""",
        [object_id],
    ).fetchone()
    if row is not None:
        forget_rows(register, object_id, until=row[0])
        register.duck.execute(f"INSERT INTO {past} VALUES (?, NULL, NULL, NULL, ?)", [object_id, row[0]])


def table_at(session: "EngineSession", table: Table, when: exp.HistoricalData) -> Table:
    """Return where the rows are that a table had then.

    Raises:
        SqlError: They are not kept (000707), or it cannot be told here (000002).
    """
    register = session.register(table.database)
    known, is_statement = register.registered(table), str(when.args["kind"]).upper() == "STATEMENT"
    if known is None:
        raise unsupported("look into the past of anything but a table", str(table))
    moment = _moment_of_statement(register, when) if is_statement else _moment(register, when)
    values = [known.created_on, moment]
    if register.duck.execute(f"SELECT ? > ? OR now() - {KEPT_FOR} > ?", [*values, moment]).fetchone() != (False,):
        text = f"Time travel data is not available for table {table.name}. The requested time is either beyond the allowed time "
        raise SqlError(f"{text}travel period or before the object creation time.", errno=707, sqlstate="02000")
    # A statement's own changes belong to AT; those of a transaction that began at a moment came after it.
    sign = ">" if is_statement and str(when.this).upper() == "AT" else ">="
    row = register.duck.execute(
        f"""SELECT kept_schema, kept_name, until FROM {register.part("past")} WHERE object_id = ? AND until {sign} ?
        UNION ALL SELECT NULL, NULL, changed_on FROM {register.part("objects")} WHERE object_id = ? AND changed_on > ?
        ORDER BY until, kept_name NULLS LAST LIMIT 1""",
        [known.object_id, moment] * 2,
    ).fetchone()
    if row is not None and row[1] is None:
        raise unsupported("read rows that a statement outside of a transaction has changed since", str(table))
    return Table(table.database, row[0], row[1]) if row else table


def _moment_of_statement(register: Register, when: exp.HistoricalData) -> datetime:
    query = f"SELECT until FROM {register.part('past')} WHERE query_id = ?"
    row = register.duck.execute(query, [when.expression.name]).fetchone()
    if row is None:
        raise unsupported("read the rows before a statement that left none", when.expression.name)
    return row[0]


def _moment(register: Register, when: exp.HistoricalData) -> datetime:
    kind, given = str(when.args["kind"]).upper(), when.expression
    literal = given.this if isinstance(given, exp.Cast) else given
    sql = {"TIMESTAMP": "CAST({} AS TIMESTAMPTZ)", "OFFSET": "now() + to_seconds({})"}.get(kind)
    if sql is None or literal.find(exp.Column, exp.Query, exp.Func):
        raise unsupported("look into the past at anything but a constant", given.sql(dialect="snowflake"))
    (moment,) = register.duck.execute(f"SELECT {sql.format(literal.sql(dialect='duckdb'))}").fetchall()[0]
    return moment
