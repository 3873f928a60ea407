"""The rows that a table had before: AT and BEFORE, as far as INSERT OVERWRITE goes.

https://docs.snowflake.com/en/sql-reference/constructs/at-before. INSERT OVERWRITE leaves the rows that it replaces behind;
what INSERT, UPDATE, DELETE, MERGE or TRUNCATE changed cannot be read any more, and asking for it is an error.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from duckdb import DuckDBPyConnection
from sqlglot import Expr, exp

from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.features import Feature
from run_elt_dagster.embedded.objects import HIDDEN_SCHEMA, Register, Table
from run_elt_dagster.embedded.queries import table_name

OVERWRITES_KEPT = 3
NOTES_KEPT = 20
KEPT_FOR = "INTERVAL 1 DAY"


class Past:
    """What is kept of the rows of a database's tables, on one DuckDB connection.

    No method opens a transaction: each belongs into the one that changes the table itself.
    """

    def __init__(self, duck: DuckDBPyConnection, database: str) -> None:
        self._duck = duck
        self._database = database
        self._register = Register(duck, database)
        self._rows = self._register.part("past")

    def keep(self, table: Table, object_id: str, *, query_id: str) -> None:
        """Take a table out of sight whose rows are about to be overwritten; the object stays under its name."""
        kept = table.kept()
        self._duck.execute(f"ALTER TABLE {table.sql} RENAME TO {quoted(kept.name)}")
        self._duck.execute(
            f"INSERT INTO {self._rows} VALUES (?, ?, ?, ?, now())", [object_id, kept.schema, kept.name, query_id]
        )
        self._expire(object_id)

    def note_change(self, table: Table) -> None:
        """Note that a table's rows have changed and what it had before was not kept; of several such changes the last counts."""
        object_id = self._object_at(table)
        if object_id is None:
            return
        self._duck.execute(
            f"""DELETE FROM {self._rows} WHERE object_id = ? AND kept_name IS NULL AND until >= coalesce(
                (SELECT max(until) FROM {self._rows} WHERE object_id = ? AND kept_name IS NOT NULL), '-infinity')""",
            [object_id, object_id],
        )
        self._duck.execute(f"INSERT INTO {self._rows} VALUES (?, NULL, NULL, NULL, now())", [object_id])

    def purge(self, object_id: str) -> None:
        """Let go of all the rows of an object."""
        rows = self._duck.execute(
            f"DELETE FROM {self._rows} WHERE object_id = ? RETURNING kept_schema, kept_name", [object_id]
        ).fetchall()
        for schema, name in rows:
            if name is not None:
                # They are gone already where their schema was dropped.
                self._duck.execute(f"DROP TABLE IF EXISTS {Table(self._database, schema, name).sql}")

    def table_at(self, table: Table, when: exp.HistoricalData) -> Table:
        """Return where the rows are that a table had then.

        Raises:
            SqlError: They are not kept (000707), or it cannot be told here (000002).
        """
        object_id, point = self._object_at(table), str(when.args["kind"]).upper()
        if object_id is None:
            raise unsupported("look into the past of anything but a table", str(table))
        if point == "STATEMENT":
            return self._around_statement(table, object_id, when)
        moment = self._moment(when, point)
        self._require_kept(table, object_id, moment)
        return self._first_changed_after(table, object_id, moment)

    def _around_statement(self, table: Table, object_id: str, when: exp.HistoricalData) -> Table:
        row = self._duck.execute(
            f"SELECT until, kept_schema, kept_name FROM {self._rows} WHERE object_id = ? AND query_id = ?",
            [object_id, when.expression.name],
        ).fetchone()
        if row is None or row[2] is None:
            raise unsupported(
                "read the rows before a statement, except an INSERT OVERWRITE that is still kept", when.expression.name
            )
        until, schema, name = row
        if str(when.this).upper() == "BEFORE":
            return Table(self._database, schema, name)
        return self._first_changed_after(table, object_id, until)

    def _first_changed_after(self, table: Table, object_id: str, moment: datetime) -> Table:
        row = self._duck.execute(
            f"""SELECT kept_schema, kept_name FROM {self._rows}
            WHERE object_id = ? AND until > ? ORDER BY until, rowid LIMIT 1""",
            [object_id, moment],
        ).fetchone()
        if row is None:
            return table
        if row[1] is None:
            raise unsupported("read rows that another statement than INSERT OVERWRITE has changed since", str(table))
        return Table(self._database, row[0], row[1])

    def _moment(self, when: exp.HistoricalData, point: str) -> datetime:
        given = when.expression
        literal = given.this if isinstance(given, exp.Cast) else given
        if point == "TIMESTAMP" and isinstance(literal, exp.Literal) and literal.is_string:
            try:
                moment = datetime.fromisoformat(str(literal.this))
            except ValueError as error:
                raise SqlError(
                    f"Timestamp '{literal.this}' is not recognized", errno=100035, sqlstate="22007"
                ) from error
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if point == "OFFSET" and not given.find(exp.Column, exp.Query, exp.Func):
            row = self._duck.execute(f"SELECT now() + to_seconds({given.sql(dialect='duckdb')})").fetchone()
            if row is not None:
                return row[0]
        raise unsupported("look into the past at anything but a constant", given.sql(dialect="snowflake"))

    def _require_kept(self, table: Table, object_id: str, moment: datetime) -> None:
        row = self._duck.execute(
            f"""SELECT 1 FROM {self._register.part("objects")}
            WHERE object_id = ? AND created_on <= ? AND now() - {KEPT_FOR} < ?""",
            [object_id, moment, moment],
        ).fetchone()
        if row is None:
            raise SqlError(
                f"Time travel data is not available for table {table.name}. The requested time is either beyond the allowed "
                "time travel period or before the object creation time.",
                errno=707,
                sqlstate="02000",
            )

    def _object_at(self, table: Table) -> str | None:
        row = self._duck.execute(
            f"SELECT object_id FROM {self._register.part('objects')} WHERE table_schema = ? AND table_name = ?",
            [table.schema, table.name],
        ).fetchone()
        return row[0] if row else None

    def _expire(self, object_id: str) -> None:
        """Let go of rows that are too old or too many, noting only that they were not kept."""
        rows = self._duck.execute(
            f"""SELECT kept_schema, kept_name, until, until <= now() - {KEPT_FOR} FROM {self._rows}
            WHERE object_id = ? ORDER BY until DESC, rowid DESC""",
            [object_id],
        ).fetchall()
        kept = [(schema, name, until, is_old) for schema, name, until, is_old in rows if name is not None]
        for index, (schema, name, until, is_old) in enumerate(kept):
            if is_old or index >= OVERWRITES_KEPT:
                self._duck.execute(f"DROP TABLE {Table(self._database, schema, name).sql}")
                self._duck.execute(
                    f"UPDATE {self._rows} SET kept_name = NULL WHERE object_id = ? AND until = ?", [object_id, until]
                )
        if len(rows) > NOTES_KEPT and len(kept) > OVERWRITES_KEPT:
            # Whoever asks for an earlier moment finds the note of a later change, and is refused all the same.
            self._duck.execute(
                f"DELETE FROM {self._rows} WHERE object_id = ? AND until < ?", [object_id, kept[OVERWRITES_KEPT][2]]
            )


def resolved(expression: Expr, locate: Callable[[exp.Table], tuple[Table, Past]]) -> Expr:
    """Return a statement that reads the kept rows wherever it says AT or BEFORE.

    Args:
        expression: The parsed statement, which is changed.
        locate: Says which table a name means, and gives its past.
    """
    for node in list(expression.find_all(exp.Table)):
        when = node.args.get("when")
        if isinstance(when, exp.HistoricalData):
            table, past = locate(node)
            source = past.table_at(table, when)
            alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name, quoted=True))
            parts = {"this": source.name, "db": source.schema, "catalog": source.database}
            for part, name in parts.items():
                node.set(part, exp.to_identifier(name, quoted=True))
            node.set("when", None)
            node.set("alias", alias)
    return expression


def past(session: EngineSession, database: str) -> Past:
    return Past(session.duck, database)


def _rewrite(session: EngineSession, expression: Expr) -> Expr:
    def locate(node: exp.Table) -> tuple[Table, Past]:
        table = session.locate(table_name(node))
        return table, past(session, table.database)

    return resolved(expression, locate)


def _on_overwrite(session: EngineSession, table: Table, object_id: str) -> bool:
    past(session, table.database).keep(table, object_id, query_id=session.context.get("query_id") or "")
    return True


def _on_forget(register: Register) -> None:
    rows, objects = register.part("past"), register.part("objects")
    register.duck.execute(f"DELETE FROM {rows} WHERE object_id NOT IN (SELECT object_id FROM {objects})")
    register.duck.execute(
        f"""UPDATE {rows} SET kept_name = NULL
        WHERE kept_name IS NOT NULL AND (kept_schema, kept_name) NOT IN (
            SELECT (schema_name, table_name) FROM duckdb_tables() WHERE database_name = ?)""",
        [register.database],
    )


TIME_TRAVEL = Feature(
    # The rows that an object had until a statement changed them; without a name where they were not kept.
    register_sql=lambda database: [
        f"""CREATE TABLE IF NOT EXISTS {quoted(database)}.{HIDDEN_SCHEMA}.embedded_past (
            object_id VARCHAR, kept_schema VARCHAR, kept_name VARCHAR, query_id VARCHAR, until TIMESTAMPTZ)"""
    ],
    rewrite=_rewrite,
    on_change=lambda session, table: past(session, table.database).note_change(table),
    on_overwrite=_on_overwrite,
    on_remove=lambda register, object_id: Past(register.duck, register.database).purge(object_id),
    on_forget=_on_forget,
)
