"""Creating, exchanging and dropping tables: each in one DuckDB transaction together with what is known about the table.

DuckDB shows other sessions either all of a transaction or nothing of it, so a reader never finds a table missing,
empty or mixed, as on Snowflake. DuckDB folds the case even of quoted names; where two tables would differ by case alone,
creating the second one is an error here.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fakesnow.rowtype import describe_as_rowtype
from sqlglot import Expr, exp

from run_elt_dagster.embedded import rewrites
from run_elt_dagster.embedded.engine import EngineSession, Result, status
from run_elt_dagster.embedded.errors import SqlError, existing_object, missing_object, syntax_error, unsupported
from run_elt_dagster.embedded.features import Created
from run_elt_dagster.embedded.objects import Table, TableObject, quoted
from run_elt_dagster.embedded.statements import (
    CloneTable,
    CommentColumns,
    CommentTable,
    CreateTable,
    Creation,
    DropTable,
    InsertOverwrite,
    RenameTable,
    SwapTables,
    TruncateTable,
)
from run_elt_dagster.embedded.versions import keep

SUCCESS = "Statement executed successfully."
INSERT_TYPE = 0x3100
# Snowflake keeps keys as information and never enforces them, DuckDB does:
# https://docs.snowflake.com/en/sql-reference/constraints-overview
_KEYS = (
    exp.Constraint,
    exp.ForeignKey,
    exp.PrimaryKey,
    exp.PrimaryKeyColumnConstraint,
    exp.Reference,
    exp.UniqueColumnConstraint,
)
# A name inside a transaction, which nobody else ever sees.
_ASIDE = "embedded exchange"
# Snowflake has one type of integer, and an untyped NULL is text:
# https://docs.snowflake.com/en/sql-reference/data-types-numeric
_STORED_AS: Mapping[str, str] = {
    "HUGEINT": "DECIMAL(38,0)",
    "INTEGER": "BIGINT",
    "SMALLINT": "BIGINT",
    "TINYINT": "BIGINT",
    "UTINYINT": "BIGINT",
    "USMALLINT": "BIGINT",
    "UINTEGER": "BIGINT",
    "UBIGINT": "DECIMAL(38,0)",
    "UHUGEINT": "DECIMAL(38,0)",
    '"NULL"': "VARCHAR",
}


def create_table(session: EngineSession, statement: CreateTable) -> Result:
    """Create a table, filled by a query if there is one.

    https://docs.snowflake.com/en/sql-reference/sql/create-table. With columns and a query the columns are a contract: a
    value that does not fit fails the statement.
    """
    target = session.locate(statement.target)
    # Translated first: fakesnow may look columns up, and a failure must leave the open transaction as it is.
    query = _query_sql(session, statement.query_sql) if statement.query_sql else None
    columns = _columns_of(session, target, statement.columns_sql) if statement.columns_sql else _Columns()
    with session.atomically(ddl=True):
        replaced = _make_way(session, target, statement.creation)
        if replaced is _KEPT:
            return status(f"{target.name} already exists, statement succeeded.")
        # The query may read what is replaced.
        made = target if replaced is None else target.beside(_ASIDE)
        for sql in columns.create_sql(made):
            session.duck.execute(sql)
        if query is not None and columns.typed:
            session.duck.execute(f"INSERT INTO {made.sql} {query}")
        elif query is not None:
            session.duck.execute(f"CREATE TABLE {made.sql}{columns.names_sql} AS {_stored_sql(session, query)}")
        _put(session, made, target, replaced)
        for sql in columns.comment_sql:
            session.duck.execute(sql)
        _register(session, target, statement.creation, replaced=replaced)
    return status(f"{(statement.creation.kind or 'table').capitalize()} {target.name} successfully created.")


def clone_table(session: EngineSession, statement: CloneTable) -> Result:
    """Create a table with the columns of another one and, for CLONE, its rows.

    https://docs.snowflake.com/en/sql-reference/sql/create-clone. The clone has the source's comment. With COPY GRANTS it
    has the grants of the table it replaces, or of the source if it replaces none; with COPY TAGS likewise the tags.
    """
    target, source = session.locate_all(statement.target, statement.source)
    with session.atomically(ddl=True):
        origin = _found(session, source)
        _use(session, "clone", source, origin)
        if origin.transient and not statement.creation.transient and statement.with_rows:
            raise SqlError(
                "SQL compilation error:\nTransient object cannot be cloned to a permanent object.",
                errno=2120,
                sqlstate="42601",
            )
        replaced = _make_way(session, target, statement.creation)
        if replaced is _KEPT:
            return status(f"{target.name} already exists, statement succeeded.")
        made = target if replaced is None else target.beside(_ASIDE)
        _copy(session, source, made, with_rows=statement.with_rows)
        _put(session, made, target, replaced)
        _register(session, target, statement.creation, replaced=replaced, origin=origin)
    return status(f"Table {target.name} successfully created.")


def swap_tables(session: EngineSession, statement: SwapTables) -> Result:
    """Exchange two tables and all that is known about them.

    https://docs.snowflake.com/en/sql-reference/sql/alter-table. Not safe to repeat: the second swap undoes the first.
    """
    target, other = session.locate_all(statement.target, statement.other)
    with session.atomically(ddl=True):
        first = session.register(target.database).find(target)
        if first is None and statement.if_exists:
            return status(SUCCESS)
        if first is None:
            raise missing_object(str(target))
        second = _found(session, other)
        _use(session, "move", target, first)
        _use(session, "move", other, second)
        aside = other.beside(_ASIDE)
        _move(session, target, aside)
        _move(session, other, target)
        _move(session, aside, other)
        for object_id, to in ((first.object_id, other), (second.object_id, target)):
            session.register(to.database).move(object_id, to)
            for feature in session.engine.features:
                feature.on_swap(session, to, object_id)
    return status(SUCCESS)


def rename_table(session: EngineSession, statement: RenameTable) -> Result:
    """Give a table another name, its grants and its comment with it.

    https://docs.snowflake.com/en/sql-reference/sql/alter-table. A new name without a schema stays in the table's own.
    """
    target = session.locate(statement.target)
    *schema, name = statement.to.parts
    to = session.locate(statement.to) if schema else target.beside(name)
    with session.atomically(ddl=True):
        known = session.register(target.database).find(target)
        if known is None and statement.if_exists:
            return status(SUCCESS)
        if known is None:
            raise missing_object(str(target))
        _use(session, "move", target, known)
        taken = session.register(to.database).existing_name(to.schema, to.name)
        if taken is not None and (to.schema, taken) != (target.schema, target.name):
            raise existing_object(str(to))
        _move(session, target, to)
        session.register(target.database).move(known.object_id, to)
    return status(SUCCESS)


def drop_table(session: EngineSession, statement: DropTable) -> Result:
    """Drop a table, which UNDROP can bring back: https://docs.snowflake.com/en/sql-reference/sql/drop-table."""
    try:
        target = session.locate(statement.target)
    except SqlError:
        if statement.if_exists:
            return _nothing_dropped(statement)
        raise
    with session.atomically(ddl=True):
        known = session.register(target.database).find(target)
        if known is None and _drop_temporary(session, target):
            return status(f"{target.name} successfully dropped.")
        if known is None and not statement.if_exists:
            raise missing_object(str(target))
        if known is None:
            return _nothing_dropped(statement)
        _use(session, "drop", target, known)
        keep(session, target, known.object_id)
    return status(f"{target.name} successfully dropped.")


def _drop_temporary(session: EngineSession, target: Table) -> bool:
    """Drop the session's temporary table of a name, if there is one: DuckDB keeps those in a database of their own."""
    temporary = Table("temp", "main", target.name)
    if not session.register(target.database).has_table(temporary):
        return False
    session.duck.execute(f"DROP TABLE {temporary.sql}")
    return True


def truncate_table(session: EngineSession, statement: TruncateTable) -> Result:
    """Remove all rows: https://docs.snowflake.com/en/sql-reference/sql/truncate-table."""
    target = session.locate(statement.target)
    with session.atomically(ddl=True):
        known = session.register(target.database).find(target)
        if known is not None:
            _use(session, "change", target, known)
            session.duck.execute(f"TRUNCATE {target.sql}")
            session.note_change(target)
        elif not statement.if_exists:
            raise missing_object(str(target))
    return status(SUCCESS)


def comment_table(session: EngineSession, statement: CommentTable) -> Result:
    """Change a table's comment: https://docs.snowflake.com/en/sql-reference/sql/comment."""
    target = session.locate(statement.target)
    with session.atomically(ddl=True):
        known = session.register(target.database).find(target)
        if known is not None:
            session.register(target.database).set_comment(known.object_id, statement.comment)
        elif not statement.if_exists:
            raise missing_object(str(target))
    return status(SUCCESS)


def comment_columns(session: EngineSession, statement: CommentColumns) -> Result:
    """Change comments of columns: https://docs.snowflake.com/en/sql-reference/sql/alter-table-column."""
    target = session.locate(statement.target)
    with session.atomically(ddl=True):
        _found(session, target)
        for name, comment in statement.comments:
            text = exp.Literal.string(comment).sql(dialect="duckdb")
            session.duck.execute(f"COMMENT ON COLUMN {target.sql}.{quoted(name)} IS {text}")
    return status(SUCCESS)


def insert_overwrite(session: EngineSession, statement: InsertOverwrite) -> Result:
    """Replace a table's rows; the object, its grants and its columns stay.

    https://docs.snowflake.com/en/sql-reference/sql/insert. The new rows are made before the old ones go, since the query
    may read the very table.
    """
    target = session.locate(statement.target)
    query = _query_sql(session, statement.query_sql)
    names = f" ({', '.join(quoted(name) for name in statement.columns)})" if statement.columns else ""
    with session.atomically(ddl=False):
        known = _found(session, target)
        _use(session, "change", target, known)
        aside = target.beside(_ASIDE)
        _copy(session, target, aside, with_rows=False)
        session.duck.execute(f"INSERT INTO {aside.sql}{names} {query}")
        if not any(feature.on_overwrite(session, target, known.object_id) for feature in session.engine.features):
            session.duck.execute(f"DROP TABLE {target.sql}")
        _move(session, aside, target)
        session.register(target.database).count_rows(target)
        return session.answer(
            f'SELECT count(*) AS "number of rows inserted" FROM {target.sql}', statement_type=INSERT_TYPE
        )


# What stands for "the table is there and stays" where otherwise the replaced object is returned.
_KEPT = TableObject("", "", None, transient=False, kind="", created_on=datetime.min.replace(tzinfo=UTC))


def _make_way(session: EngineSession, target: Table, creation: Creation) -> TableObject | None:
    """Return the object that is going to be replaced, None if there is none, `_KEPT` if it stays.

    Raises:
        SqlError: The name is taken (002002), or another table's name differs from it by case alone.
    """
    if creation.or_replace and creation.if_not_exists:
        raise syntax_error("options IF NOT EXISTS and OR REPLACE are incompatible.")
    register = session.register(target.database)
    known = register.registered(target)
    taken = target.name if known else register.existing_name(target.schema, target.name)
    if taken is None:
        return None
    if taken != target.name:
        raise unsupported("keep two tables with names that differ by case alone", f"{target.name!r} beside {taken!r}")
    if creation.if_not_exists:
        return _KEPT
    known = known or register.find(target)
    if known is None or not creation.or_replace:
        raise existing_object(str(target))
    _use(session, "replace", target, known)
    return known


def _register(
    session: EngineSession,
    target: Table,
    creation: Creation,
    *,
    replaced: TableObject | None,
    origin: TableObject | None = None,
) -> None:
    register = session.register(target.database)
    comment = creation.comment if creation.comment is not None or origin is None else origin.comment
    owner = session.context.get("role") or "SYSADMIN"
    object_id = register.add(target, owner=owner, comment=comment, transient=creation.transient, kind=creation.kind)
    created = Created(object_id, creation, replaced, origin)
    for feature in session.engine.features:
        feature.on_create(session, target, created)


def _use(session: EngineSession, use: str, table: Table, known: TableObject) -> None:
    """Let the features refuse what a statement is about to do with a table."""
    for feature in session.engine.features:
        feature.on_use(use, known, str(table))


def _put(session: EngineSession, made: Table, target: Table, replaced: TableObject | None) -> None:
    """Give a table that was made aside its name; what it replaces is kept for UNDROP."""
    if replaced is not None:
        keep(session, target, replaced.object_id)
        _move(session, made, target)


def _found(session: EngineSession, table: Table) -> TableObject:
    known = session.register(table.database).find(table)
    if known is None:
        raise missing_object(str(table))
    return known


def _nothing_dropped(statement: DropTable) -> Result:
    return status(
        f"Drop statement executed successfully ({statement.target.parts[-1]} already dropped or does not exist)."
    )


def _move(session: EngineSession, table: Table, to: Table) -> None:
    """Rename a table; into another schema, which DuckDB cannot do, by copying."""
    if table.database != to.database:
        raise unsupported("move a table to another database", f"{table} to {to}")
    if table.schema == to.schema:
        session.duck.execute(f"ALTER TABLE {table.sql} RENAME TO {quoted(to.name)}")
        return
    _copy(session, table, to, with_rows=True)
    session.duck.execute(f"DROP TABLE {table.sql}")


def _copy(session: EngineSession, source: Table, target: Table, *, with_rows: bool) -> None:
    """Create a table with the columns of another one, their constraints, defaults and comments."""
    rows = session.duck.execute(
        """SELECT column_name, data_type, is_nullable, column_default, comment FROM duckdb_columns()
        WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY column_index""",
        [source.database, source.schema, source.name],
    ).fetchall()
    columns = [
        f"{quoted(name)} {kind}{'' if nullable else ' NOT NULL'}{f' DEFAULT {default}' if default else ''}"
        for name, kind, nullable, default, _ in rows
    ]
    session.duck.execute(f"CREATE TABLE {target.sql} ({', '.join(columns + _checks(session, source))})")
    for name, _, _, _, comment in rows:
        if comment:
            text = exp.Literal.string(comment).sql(dialect="duckdb")
            session.duck.execute(f"COMMENT ON COLUMN {target.sql}.{quoted(name)} IS {text}")
    if with_rows:
        session.duck.execute(f"INSERT INTO {target.sql} SELECT * FROM {source.sql}")


def _checks(session: EngineSession, table: Table) -> list[str]:
    rows = session.duck.execute(
        """SELECT constraint_text FROM duckdb_constraints()
        WHERE constraint_type = 'CHECK' AND database_name = ? AND schema_name = ? AND table_name = ?""",
        [table.database, table.schema, table.name],
    ).fetchall()
    return [str(row[0]) for row in rows]


def _query_sql(session: EngineSession, query: str) -> str:
    statements = session.duck_sql(query)
    if len(statements) != 1:
        raise unsupported("build a table from this query", repr(query[:200]))
    return statements[0]


def _stored_sql(session: EngineSession, query: str) -> str:
    """Return a query whose columns have the types that Snowflake would store, under distinct names."""
    columns = session.duck.execute(f"DESCRIBE {query}").fetchall()
    names = [str(column[0]) for column in columns]
    for index, name in enumerate(names):
        if name.lower() in {earlier.lower() for earlier in names[:index]}:
            raise SqlError(f"SQL compilation error:\nduplicate column name '{name}'", errno=2025, sqlstate="42S21")
    for name, kind, *_ in columns:
        _check_type(str(name), _STORED_AS.get(str(kind), str(kind)))
    casts = [
        f"CAST({quoted(str(name))} AS {_STORED_AS[str(kind)]}) AS {quoted(str(name))}"
        for name, kind, *_ in columns
        if str(kind) in _STORED_AS
    ]
    return f"SELECT * REPLACE ({', '.join(casts)}) FROM ({query})" if casts else query


def _check_type(name: str, kind: str) -> None:
    """Refuse a type that could be stored but never be read through the connector."""
    try:
        describe_as_rowtype([(name, kind, None, None, None, None)])
    except NotImplementedError as error:
        raise unsupported("store a column of this type", f"{kind} for {name}") from error


@dataclass(frozen=True)
class _Columns:
    """The columns that CREATE TABLE names, for DuckDB.

    Attributes:
        sequences_sql: Statements that create what counts rows, if the columns have types.
        typed_sql: The list of columns with their types, empty if they have none.
        names_sql: The list of names, if they have no types.
        comment_sql: Statements that comment them.
    """

    sequences_sql: tuple[str, ...] = ()
    typed_sql: str = ""
    names_sql: str = ""
    comment_sql: tuple[str, ...] = ()

    @property
    def typed(self) -> bool:
        """Whether the columns have types."""
        return bool(self.typed_sql)

    def create_sql(self, table: Table) -> Sequence[str]:
        """Return the statements that create the empty table, if the columns have types."""
        return (*self.sequences_sql, f"CREATE TABLE {table.sql}{self.typed_sql}") if self.typed else ()


def _columns_of(session: EngineSession, target: Table, columns_sql: str) -> _Columns:
    create = session.parsed(f"CREATE TABLE {target.sql} {columns_sql}")
    columns = [column for column in create.this.expressions if isinstance(column, exp.Identifier | exp.ColumnDef)]
    comments = tuple(_comments_sql(target, columns))
    if all(isinstance(column, exp.Identifier) or column.kind is None for column in columns):
        return _Columns(names_sql=f" ({', '.join(_name_sql(column) for column in columns)})", comment_sql=comments)
    for constraint in list(create.find_all(*_KEYS)):
        _drop_constraint(constraint)
    for column in columns:
        _limit_length(column)
    *sequences, table = session.duck_sql(create.sql(dialect="snowflake"))
    return _Columns(
        sequences_sql=tuple(sequences), typed_sql=table.removeprefix(f"CREATE TABLE {target.sql}"), comment_sql=comments
    )


def _name_sql(column: exp.Identifier | exp.ColumnDef) -> str:
    identifier = column if isinstance(column, exp.Identifier) else column.this
    return quoted(identifier.name if identifier.quoted else identifier.name.upper())


def _comments_sql(target: Table, columns: Sequence[exp.Identifier | exp.ColumnDef]) -> Generator[str]:
    for column in columns:
        for constraint in list(column.find_all(exp.CommentColumnConstraint)):
            comment = exp.Literal.string(constraint.name).sql(dialect="duckdb")
            yield f"COMMENT ON COLUMN {target.sql}.{_name_sql(column)} IS {comment}"
            _drop_constraint(constraint)


def _limit_length(column: exp.Identifier | exp.ColumnDef) -> None:
    """Make VARCHAR(n) refuse longer text, as https://docs.snowflake.com/en/sql-reference/data-types-text says."""
    kind = column.kind if isinstance(column, exp.ColumnDef) else None
    length = kind.find(exp.DataTypeParam) if kind is not None and kind.this in rewrites.TEXT_TYPES else None
    if length is not None:
        text = exp.Anonymous(this="length", expressions=[exp.column(column.this.copy())])
        check = exp.CheckColumnConstraint(this=exp.LTE(this=text, expression=length.this.copy()))
        column.append("constraints", exp.ColumnConstraint(kind=check))


def _drop_constraint(constraint: Expr) -> None:
    parent = constraint.parent
    (parent if isinstance(parent, exp.ColumnConstraint) else constraint).pop()
