"""What Snowflake knows about a table besides its rows: kept in the database itself, under an id of the object.

Owner and comment belong to the object and not to its name: a swap exchanges them, a rename keeps them, a replaced table
starts without them. https://docs.snowflake.com/en/sql-reference/sql/alter-table

The tables of this register live in the hidden schema of each database, so one DuckDB transaction covers a table and
what is known about it.
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from duckdb import DuckDBPyConnection

from run_elt_dagster.dialect.names import quoted

HIDDEN_SCHEMA = "_fs_information_schema"
DEFAULT_OWNER = "SYSADMIN"
# What a table is called that is only kept for Time Travel: nothing lists it, nothing finds it.
KEPT_PREFIX = "embedded kept "
_PLAIN = re.compile(r"[A-Z_][A-Z0-9_$]*")


@dataclass(frozen=True)
class Table:
    """Where a table is, by its exact names."""

    database: str
    schema: str
    name: str

    @property
    def sql(self) -> str:
        """The quoted name for DuckDB."""
        return ".".join(quoted(part) for part in (self.database, self.schema, self.name))

    def beside(self, name: str) -> "Table":
        """Return another table of the same schema."""
        return Table(self.database, self.schema, name)

    def kept(self) -> "Table":
        """Return a name in the same schema that no table has had yet, and that nobody sees."""
        return self.beside(KEPT_PREFIX + uuid.uuid4().hex)

    def __str__(self) -> str:
        """Return the name as Snowflake's messages show it: quoted where it has to be."""
        parts = (self.database, self.schema, self.name)
        return ".".join(part if _PLAIN.fullmatch(part) else quoted(part) for part in parts)


@dataclass(frozen=True)
class TableObject:
    """An object of the register. It keeps its id for life.

    Its kind is empty for an ordinary table, the only one that is known here; otherwise it is what a feature calls it.
    """

    object_id: str
    owner: str
    comment: str | None
    transient: bool
    kind: str
    created_on: datetime


def hidden_schema(database: str) -> str:
    """Return the quoted name of a database's schema for what is known about its tables."""
    return f"{quoted(database)}.{HIDDEN_SCHEMA}"


@dataclass(frozen=True)
class Register:
    """The register of one database, on one DuckDB connection.

    No method opens a transaction: each belongs into the one that changes the table itself.
    """

    duck: DuckDBPyConnection
    database: str

    def part(self, name: str) -> str:
        """Return the quoted name of one of the register's tables."""
        return f"{hidden_schema(self.database)}.embedded_{name}"

    def existing_name(self, schema: str, name: str) -> str | None:
        """Return how the table or view is spelled that has a name, whatever the case; None if there is none."""
        names = f"SELECT name FROM _fs_global.{HIDDEN_SCHEMA}.embedded_names"
        where = "WHERE database_name = ? AND schema_name = ? AND lower(name) = lower(?)"
        row = self._row(f"{names} {where}", [self.database, schema, name])
        return row[0] if row else None

    def has_schema(self, schema: str) -> bool:
        """Return whether a schema exists under exactly this name."""
        sql = "SELECT 1 FROM duckdb_schemas() WHERE database_name = ? AND schema_name = ?"
        return self._row(sql, [self.database, schema]) is not None

    def has_table(self, table: Table) -> bool:
        """Return whether a table, not a view, exists under exactly this name."""
        sql = "SELECT 1 FROM duckdb_tables() WHERE database_name = ? AND schema_name = ? AND table_name = ?"
        return self._row(sql, [table.database, table.schema, table.name]) is not None

    def registered(self, table: Table) -> TableObject | None:
        """Return a table's object if the register has it, without a look at DuckDB's listing of all tables."""
        row = self._row(
            f"""SELECT object_id, owner, comment, is_transient, coalesce(kind, ''), created_on FROM {self.part("objects")}
            WHERE table_schema = ? AND table_name = ?""",
            [table.schema, table.name],
        )
        return None if row is None else TableObject(*row)

    def find(self, table: Table) -> TableObject | None:
        """Return a table's object, made up on the spot for a table that the register has never seen."""
        known = self.registered(table)
        if known is None and self.has_table(table):
            self.add(table, owner=DEFAULT_OWNER)
            return self.registered(table)
        return known

    def add(
        self, table: Table, *, owner: str, comment: str | None = None, transient: bool = False, kind: str = ""
    ) -> str:
        """Register a new table and return its object's id."""
        object_id = uuid.uuid4().hex
        self.duck.execute(
            f"""INSERT INTO {self.part("objects")} (object_id, table_schema, table_name, owner, comment,
                is_transient, kind, created_on, last_altered, last_ddl, changed_on, row_count)
            VALUES (?, ?, ?, ?, ?, ?, ?, now(), now(), now(), now(), (SELECT count(*) FROM {table.sql}))""",
            [object_id, table.schema, table.name, owner, comment, transient, kind or None],
        )
        return object_id

    def remove(self, object_id: str) -> None:
        """Forget an object."""
        self.duck.execute(f"DELETE FROM {self.part('objects')} WHERE object_id = ?", [object_id])

    def move(self, object_id: str, to: Table) -> None:
        """Give an object a name that is seen, another one or its own again."""
        changes = "table_schema = ?, table_name = ?, dropped_name = NULL, dropped_on = NULL"
        self._alter(object_id, changes, to.schema, to.name)

    def set_comment(self, object_id: str, comment: str | None) -> None:
        """Change an object's comment."""
        self._alter(object_id, "comment = ?", comment)

    def count_rows(self, table: Table) -> None:
        """Record how many rows a table has now, if it is registered."""
        self.duck.execute(
            f"""UPDATE {self.part("objects")}
            SET row_count = (SELECT count(*) FROM {table.sql}), last_altered = now(), changed_on = now()
            WHERE table_schema = ? AND table_name = ?""",
            [table.schema, table.name],
        )

    def missing(self) -> list[str]:
        """Return the objects whose tables are gone, as after DROP SCHEMA."""
        rows = self.duck.execute(
            f"""SELECT object_id FROM {self.part("objects")} AS objects ANTI JOIN duckdb_tables() AS tables
            ON tables.database_name = ? AND tables.schema_name = table_schema AND tables.table_name = objects.table_name""",
            [self.database],
        ).fetchall()
        return [row[0] for row in rows]

    def knows(self, fact: str) -> bool:
        """Return whether a fact was recorded."""
        return self._row(f"SELECT 1 FROM {self.part('facts')} WHERE fact = ?", [fact]) is not None

    def record(self, fact: str) -> None:
        """Record a fact about the database."""
        self.duck.execute(f"INSERT INTO {self.part('facts')} VALUES (?)", [fact])

    def forget(self, beginning: str) -> None:
        """Forget the facts that begin with a text."""
        self.duck.execute(f"DELETE FROM {self.part('facts')} WHERE starts_with(fact, ?)", [beginning])

    def _row(self, sql: str, params: Sequence[object]) -> tuple[Any, ...] | None:
        # Wholly: a result with rows left keeps its transaction open, and no checkpoint can follow.
        rows = self.duck.execute(sql, params).fetchall()
        return rows[0] if rows else None

    def _alter(self, object_id: str, changes: str, *values: object) -> None:
        self.duck.execute(
            f"UPDATE {self.part('objects')} SET {changes}, last_altered = now(), last_ddl = now() WHERE object_id = ?",
            [*values, object_id],
        )
