"""What Snowflake knows about a table besides its rows: kept in the database itself, under an id of the object.

Comment, kind, grants and tags belong to the object and not to its name: a swap exchanges them, a rename keeps them, a
replaced table starts without them. https://docs.snowflake.com/en/sql-reference/sql/alter-table

The tables of this register live in the hidden schema of each database, so one DuckDB transaction covers a table and
what is known about it.
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from duckdb import DuckDBPyConnection

from run_elt_dagster.embedded.errors import SqlError, unsupported

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
    """An object of the register.

    Attributes:
        object_id: Its id, which it keeps for life.
        owner: The role that owns it.
        comment: Its comment.
        transient: Whether it is a transient table.
        kind: `DYNAMIC TABLE`, `EXTERNAL TABLE`, `ICEBERG TABLE` or `MATERIALIZED VIEW`; empty for an ordinary table.
    """

    object_id: str
    owner: str
    comment: str | None
    transient: bool
    kind: str = ""

    def require_writable(self, name: str) -> None:
        """Refuse to change the rows of what only a query or files fill.

        Raises:
            SqlError: The object is neither an ordinary nor an Iceberg table.
        """
        if self.kind not in {"", "ICEBERG TABLE"}:
            raise SqlError(
                f"SQL compilation error:\nInvalid operation on {self.kind.lower()} {name}: its rows cannot be changed.",
                errno=1421,
                sqlstate="42601",
            )

    def require_ordinary(self, name: str) -> None:
        """Refuse to rename, exchange or clone any other kind of table.

        Raises:
            SqlError: It is one.
        """
        if self.kind:
            raise unsupported(f"do this with a {self.kind.lower()}; an account may refuse it too", name)


@dataclass(frozen=True)
class GrantRow:
    """One privilege that somebody has."""

    privilege: str
    grantee_kind: str
    grantee: str
    grant_option: bool
    granted_by: str
    created_on: datetime


def quoted(identifier: str) -> str:
    """Return an identifier for DuckDB."""
    return '"' + identifier.replace('"', '""') + '"'


def register_sql(database: str) -> list[str]:
    """Return the statements that create a database's register; safe to repeat.

    Without keys: DuckDB refuses to delete and insert the same key in one transaction, which replacing a table does.
    """
    hidden = f"{quoted(database)}.{HIDDEN_SCHEMA}"
    return [
        f"CREATE SCHEMA IF NOT EXISTS {hidden}",
        f"""CREATE TABLE IF NOT EXISTS {hidden}.embedded_objects (
            object_id VARCHAR, table_schema VARCHAR, table_name VARCHAR, owner VARCHAR, comment VARCHAR,
            is_transient BOOLEAN, created_on TIMESTAMPTZ, last_altered TIMESTAMPTZ, last_ddl TIMESTAMPTZ, row_count BIGINT)""",
        # The name that a dropped or replaced table had, and since when it is kept under another one.
        f"ALTER TABLE {hidden}.embedded_objects ADD COLUMN IF NOT EXISTS dropped_name VARCHAR",
        f"ALTER TABLE {hidden}.embedded_objects ADD COLUMN IF NOT EXISTS dropped_on TIMESTAMPTZ",
        # The rows that an object had until a statement changed them; without a name where they were not kept.
        f"""CREATE TABLE IF NOT EXISTS {hidden}.embedded_past (
            object_id VARCHAR, kept_schema VARCHAR, kept_name VARCHAR, query_id VARCHAR, until TIMESTAMPTZ)""",
        # Such as EXTERNAL TABLE; nothing for an ordinary table.
        f"ALTER TABLE {hidden}.embedded_objects ADD COLUMN IF NOT EXISTS kind VARCHAR",
        f"""CREATE TABLE IF NOT EXISTS {hidden}.embedded_streams (
            schema_name VARCHAR, name VARCHAR, owner VARCHAR, comment VARCHAR, object_id VARCHAR, table_name VARCHAR,
            mode VARCHAR, invalid_reason VARCHAR, created_on TIMESTAMPTZ)""",
        f"""CREATE TABLE IF NOT EXISTS {hidden}.embedded_policies (
            policy_id VARCHAR, schema_name VARCHAR, name VARCHAR, kind VARCHAR, body_sql VARCHAR)""",
        f"""CREATE TABLE IF NOT EXISTS {hidden}.embedded_policy_references (
            policy_id VARCHAR, object_id VARCHAR, column_name VARCHAR, arguments VARCHAR)""",
        f"""CREATE TABLE IF NOT EXISTS {hidden}.embedded_schemas (
            schema_name VARCHAR, owner VARCHAR, is_managed BOOLEAN, comment VARCHAR, created_on TIMESTAMPTZ)""",
        f"""CREATE TABLE IF NOT EXISTS {hidden}.embedded_grants (
            object_id VARCHAR, privilege VARCHAR, grantee_kind VARCHAR, grantee VARCHAR, grant_option BOOLEAN,
            granted_by VARCHAR, created_on TIMESTAMPTZ)""",
        f"CREATE TABLE IF NOT EXISTS {hidden}.embedded_tags (object_id VARCHAR, tag VARCHAR, value VARCHAR)",
        f"CREATE TABLE IF NOT EXISTS {hidden}.embedded_roles (role VARCHAR)",
        f"CREATE TABLE IF NOT EXISTS {hidden}.embedded_facts (fact VARCHAR)",
    ]


class Register:
    """The register of one database, on one DuckDB connection.

    No method opens a transaction: each belongs into the one that changes the table itself.
    """

    def __init__(self, duck: DuckDBPyConnection, database: str) -> None:
        self._duck = duck
        self._database = database
        self._hidden = f"{quoted(database)}.{HIDDEN_SCHEMA}"

    def part(self, name: str) -> str:
        """Return the quoted name of one of the register's tables."""
        return f"{self._hidden}.embedded_{name}"

    def existing_name(self, schema: str, name: str) -> str | None:
        """Return how the table or view is spelled that has a name, whatever the case; None if there is none."""
        row = self._duck.execute(
            """SELECT name FROM (
                SELECT database_name, schema_name, table_name AS name FROM duckdb_tables()
                UNION ALL SELECT database_name, schema_name, view_name FROM duckdb_views())
            WHERE database_name = ? AND schema_name = ? AND lower(name) = lower(?)""",
            [self._database, schema, name],
        ).fetchone()
        return row[0] if row else None

    def has_schema(self, schema: str) -> bool:
        """Return whether a schema exists under exactly this name."""
        row = self._duck.execute(
            "SELECT 1 FROM duckdb_schemas() WHERE database_name = ? AND schema_name = ?",
            [self._database, schema],
        ).fetchone()
        return row is not None

    def has_table(self, table: Table) -> bool:
        """Return whether a table, not a view, exists under exactly this name."""
        row = self._duck.execute(
            "SELECT 1 FROM duckdb_tables() WHERE database_name = ? AND schema_name = ? AND table_name = ?",
            [table.database, table.schema, table.name],
        ).fetchone()
        return row is not None

    def registered(self, table: Table) -> TableObject | None:
        """Return a table's object if the register has it, without a look at DuckDB's listing of all tables."""
        row = self._duck.execute(
            f"""SELECT object_id, owner, comment, is_transient, coalesce(kind, '') FROM {self._hidden}.embedded_objects
            WHERE table_schema = ? AND table_name = ?""",
            [table.schema, table.name],
        ).fetchone()
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
        self._duck.execute(
            f"""INSERT INTO {self._hidden}.embedded_objects (object_id, table_schema, table_name, owner, comment,
                is_transient, kind, created_on, last_altered, last_ddl, row_count)
            VALUES (?, ?, ?, ?, ?, ?, ?, now(), now(), now(), (SELECT count(*) FROM {table.sql}))""",
            [object_id, table.schema, table.name, owner, comment, transient, kind or None],
        )
        return object_id

    def remove(self, object_id: str) -> None:
        """Forget an object and whatever is known about it, but for its past."""
        for part in ("objects", "grants", "tags", "policy_references"):
            self._duck.execute(f"DELETE FROM {self._hidden}.embedded_{part} WHERE object_id = ?", [object_id])

    def move(self, object_id: str, to: Table) -> None:
        """Give an object another name."""
        self._duck.execute(
            f"""UPDATE {self._hidden}.embedded_objects
            SET table_schema = ?, table_name = ?, last_altered = now(), last_ddl = now() WHERE object_id = ?""",
            [to.schema, to.name, object_id],
        )

    def set_comment(self, object_id: str, comment: str | None) -> None:
        """Change an object's comment."""
        self._duck.execute(
            f"""UPDATE {self._hidden}.embedded_objects
            SET comment = ?, last_altered = now(), last_ddl = now() WHERE object_id = ?""",
            [comment, object_id],
        )

    def count_rows(self, table: Table) -> None:
        """Record how many rows a table has now, if it is registered."""
        self._duck.execute(
            f"""UPDATE {self._hidden}.embedded_objects
            SET row_count = (SELECT count(*) FROM {table.sql}), last_altered = now()
            WHERE table_schema = ? AND table_name = ?""",
            [table.schema, table.name],
        )

    def forget_missing(self) -> None:
        """Forget the objects whose tables are gone, as after DROP SCHEMA."""
        rows = self._duck.execute(
            f"""SELECT object_id FROM {self._hidden}.embedded_objects ANTI JOIN duckdb_tables() AS tables
            ON tables.database_name = ? AND tables.schema_name = table_schema AND tables.table_name = embedded_objects.table_name""",
            [self._database],
        ).fetchall()
        for (object_id,) in rows:
            self.remove(object_id)
        for part in ("streams", "policies", "schemas"):
            self._duck.execute(
                f"""DELETE FROM {self._hidden}.embedded_{part} WHERE schema_name NOT IN (
                    SELECT schema_name FROM duckdb_schemas() WHERE database_name = ?)""",
                [self._database],
            )
        self._duck.execute(
            f"""DELETE FROM {self._hidden}.embedded_past
            WHERE object_id NOT IN (SELECT object_id FROM {self._hidden}.embedded_objects)"""
        )
        self._duck.execute(
            f"""UPDATE {self._hidden}.embedded_past SET kept_name = NULL
            WHERE kept_name IS NOT NULL AND (kept_schema, kept_name) NOT IN (
                SELECT (schema_name, table_name) FROM duckdb_tables() WHERE database_name = ?)""",
            [self._database],
        )

    def set_owner(self, object_id: str, owner: str) -> None:
        """Hand an object over to another role."""
        self._duck.execute(
            f"UPDATE {self._hidden}.embedded_objects SET owner = ? WHERE object_id = ?", [owner, object_id]
        )

    def grants(self, object_id: str) -> list[GrantRow]:
        """Return the privileges on an object, ownership apart."""
        rows = self._duck.execute(
            f"""SELECT privilege, grantee_kind, grantee, grant_option, granted_by, created_on
            FROM {self._hidden}.embedded_grants WHERE object_id = ? ORDER BY privilege, grantee_kind, grantee""",
            [object_id],
        ).fetchall()
        return [GrantRow(*row) for row in rows]

    def created_on(self, object_id: str) -> datetime:
        """Return when an object was created."""
        row = self._duck.execute(
            f"SELECT created_on FROM {self._hidden}.embedded_objects WHERE object_id = ?", [object_id]
        ).fetchone()
        assert row is not None  # noqa: S101 - whoever has the id has just read it in the same transaction
        return row[0]

    def grant(
        self,
        object_id: str,
        privilege: str,
        *,
        grantee_kind: str,
        grantee: str,
        grant_option: bool,
        granted_by: str,
    ) -> None:
        """Give a privilege; safe to repeat."""
        self.revoke(object_id, privilege, grantee_kind=grantee_kind, grantee=grantee)
        self._duck.execute(
            f"INSERT INTO {self._hidden}.embedded_grants VALUES (?, ?, ?, ?, ?, ?, now())",
            [object_id, privilege, grantee_kind, grantee, grant_option, granted_by],
        )

    def revoke(self, object_id: str, privilege: str, *, grantee_kind: str, grantee: str) -> None:
        """Take a privilege away, if it was given."""
        self._duck.execute(
            f"""DELETE FROM {self._hidden}.embedded_grants
            WHERE object_id = ? AND privilege = ? AND grantee_kind = ? AND grantee = ?""",
            [object_id, privilege, grantee_kind, grantee],
        )

    def take_grant_option(self, object_id: str, privilege: str, *, grantee_kind: str, grantee: str) -> None:
        """Leave somebody a privilege, if it was given, without the right to pass it on."""
        self._duck.execute(
            f"""UPDATE {self._hidden}.embedded_grants SET grant_option = false
            WHERE object_id = ? AND privilege = ? AND grantee_kind = ? AND grantee = ?""",
            [object_id, privilege, grantee_kind, grantee],
        )

    def copy_grants(self, source_id: str, to_id: str) -> None:
        """Give an object the privileges of another one, all but ownership."""
        self._duck.execute(
            f"""INSERT INTO {self._hidden}.embedded_grants
            SELECT ?, privilege, grantee_kind, grantee, grant_option, granted_by, now()
            FROM {self._hidden}.embedded_grants WHERE object_id = ?""",
            [to_id, source_id],
        )

    def copy_policies(self, source_id: str, to_id: str) -> None:
        """Set the policies of an object on another one too."""
        self._duck.execute(
            f"""INSERT INTO {self._hidden}.embedded_policy_references
            SELECT policy_id, ?, column_name, arguments FROM {self._hidden}.embedded_policy_references WHERE object_id = ?""",
            [to_id, source_id],
        )

    def set_tag(self, object_id: str, tag: str, value: str | None) -> None:
        """Set or, with None, unset a tag."""
        self._duck.execute(
            f"DELETE FROM {self._hidden}.embedded_tags WHERE object_id = ? AND tag = ?", [object_id, tag]
        )
        if value is not None:
            self._duck.execute(f"INSERT INTO {self._hidden}.embedded_tags VALUES (?, ?, ?)", [object_id, tag, value])

    def copy_tags(self, source_id: str, to_id: str) -> None:
        """Give an object the tags of another one that it does not have itself."""
        self._duck.execute(
            f"""INSERT INTO {self._hidden}.embedded_tags
            SELECT ?, tag, value FROM {self._hidden}.embedded_tags
            WHERE object_id = ? AND tag NOT IN (SELECT tag FROM {self._hidden}.embedded_tags WHERE object_id = ?)""",
            [to_id, source_id, to_id],
        )

    def tag(self, object_id: str, tag: str) -> str | None:
        """Return a tag's value."""
        row = self._duck.execute(
            f"SELECT value FROM {self._hidden}.embedded_tags WHERE object_id = ? AND tag = ?", [object_id, tag]
        ).fetchone()
        return row[0] if row else None

    def roles(self) -> Sequence[str]:
        """Return the roles that were created here."""
        return [row[0] for row in self._duck.execute(f"SELECT role FROM {self._hidden}.embedded_roles").fetchall()]

    def add_role(self, role: str) -> None:
        """Create a role."""
        self._duck.execute(f"INSERT INTO {self._hidden}.embedded_roles VALUES (?)", [role])

    def drop_role(self, role: str) -> None:
        """Drop a role and what was granted to it."""
        self._duck.execute(f"DELETE FROM {self._hidden}.embedded_roles WHERE role = ?", [role])
        self._duck.execute(
            f"DELETE FROM {self._hidden}.embedded_grants WHERE grantee_kind = 'ROLE' AND grantee = ?", [role]
        )

    def knows(self, fact: str) -> bool:
        """Return whether a fact was recorded."""
        row = self._duck.execute(f"SELECT 1 FROM {self._hidden}.embedded_facts WHERE fact = ?", [fact]).fetchone()
        return row is not None

    def record(self, fact: str) -> None:
        """Record a fact about the database."""
        self._duck.execute(f"INSERT INTO {self._hidden}.embedded_facts VALUES (?)", [fact])
