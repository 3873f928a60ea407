"""Creating, exchanging and dropping tables: each in one DuckDB transaction together with what is known about the table.

DuckDB shows other sessions either all of a transaction or nothing of it, so a reader never finds a table missing,
empty or mixed, as on Snowflake. DuckDB folds the case even of quoted names; where two tables would differ by case alone,
creating the second one is an error here.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlglot import exp

from run_elt_dagster.dialect import changes, types, values
from run_elt_dagster.dialect.changes import stored, stored_query
from run_elt_dagster.dialect.errors import SqlError, existing_object, missing_object, syntax_error, unsupported
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.dialect.parser import parsed
from run_elt_dagster.dialect.scope import Column, Relation, name_of
from run_elt_dagster.dialect.types import Kind
from run_elt_dagster.embedded import queries
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.features import Created
from run_elt_dagster.embedded.objects import Table, TableObject
from run_elt_dagster.embedded.results import Result, status
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


def create_table(session: EngineSession, statement: CreateTable) -> Result:
    """Create a table, filled by a query if there is one.

    https://docs.snowflake.com/en/sql-reference/sql/create-table. With columns and a query the columns are a contract: a
    value that does not fit fails the statement.
    """
    target = session.locate(statement.target)
    # Translated first: fakesnow may look columns up, and a failure must leave the open transaction as it is.
    query = _relation(session, statement.query_sql) if statement.query_sql else None
    columns = _columns_of(session, target, statement.columns_sql) if statement.columns_sql else _Columns()
    if columns.typed:
        session.engine.macros.create_all()
    elif query is not None:
        session.engine.macros.create(_stored_sql(query, columns.names))
    if statement.creation.temporary:
        return _create_temporary(session, statement, columns, query)
    with session.atomically(ddl=True):
        replaced = _make_way(session, target, statement.creation)
        if replaced is _KEPT:
            return status(f"{target.name} already exists, statement succeeded.")
        # The query may read what is replaced.
        made = target if replaced is None else target.beside(_ASIDE)
        _fill(session, made, columns, query)
        _put(session, made, target, replaced)
        for sql in columns.comment_sql:
            session.duck.execute(sql)
        _register(session, target, Created("", statement.creation, replaced))
    return status(f"{(statement.creation.kind or 'table').capitalize()} {target.name} successfully created.")


def _fill(
    session: EngineSession, made: Table, columns: "_Columns", query: Relation | None, *, how: str = "TABLE"
) -> None:
    if columns.typed:
        session.duck.execute(f"CREATE {how} {made.sql} {columns.typed_sql}")
    if query is not None and columns.typed:
        session.duck.execute(f"INSERT INTO {made.sql} {stored_query(query, columns.typed)}")
    elif query is not None:
        session.duck.execute(f"CREATE {how} {made.sql} AS {_stored_sql(query, columns.names)}")


def _create_temporary(
    session: EngineSession, statement: CreateTable, columns: "_Columns", query: Relation | None
) -> Result:
    """Create a table of this session alone: https://docs.snowflake.com/en/user-guide/tables-temp-transient."""
    name, creation = statement.target.parts[-1], statement.creation
    made = Table("temp", "main", name)
    with session.atomically(ddl=True):
        exists = name in session.temporary
        if exists and creation.if_not_exists:
            return status(f"{name} already exists, statement succeeded.")
        if exists and not creation.or_replace:
            raise existing_object(name)
        aside = made.beside(_ASIDE) if exists else made
        _fill(session, aside, columns, query, how="TEMPORARY TABLE")
        if exists:
            session.duck.execute(f"DROP TABLE {made.sql}")
            session.duck.execute(f"ALTER TABLE {aside.sql} RENAME TO {quoted(name)}")
    session.temporary.add(name)
    return status(f"Table {name} successfully created.")


def clone_table(session: EngineSession, statement: CloneTable) -> Result:
    """Create a table with the columns of another one and, for CLONE, its rows.

    https://docs.snowflake.com/en/sql-reference/sql/create-clone. The clone has the source's comment. With COPY GRANTS it
    has the grants of the table it replaces, or of the source if it replaces none. What else it has is up to the features.
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
        created = Created("", statement.creation, replaced, origin, is_clone=statement.with_rows)
        _register(session, target, created)
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
        if _drop_temporary(session, target):
            return status(f"{target.name} successfully dropped.")
        known = session.register(target.database).find(target)
        if known is None and not statement.if_exists:
            raise missing_object(str(target))
        if known is None:
            return _nothing_dropped(statement)
        _use(session, "drop", target, known)
        keep(session, target, known.object_id)
    return status(f"{target.name} successfully dropped.")


def _drop_temporary(session: EngineSession, target: Table) -> bool:
    """Drop the session's temporary table of a name, if there is one: DuckDB keeps those in a database of their own."""
    if target.name not in session.temporary:
        return False
    session.duck.execute(f"DROP TABLE {Table('temp', 'main', target.name).sql}")
    session.temporary.discard(target.name)
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
    """Change the comment of a table or view: https://docs.snowflake.com/en/sql-reference/sql/comment."""
    target = session.locate(statement.target)
    with session.atomically(ddl=True):
        register = session.register(target.database)
        known = register.find(target)
        if known is not None and not statement.is_view:
            register.set_comment(known.object_id, statement.comment)
        elif known is None and statement.is_view and register.existing_name(target.schema, target.name) == target.name:
            session.duck.execute(f"COMMENT ON VIEW {target.sql} IS {values.literal_sql(statement.comment or '')}")
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
    query = _relation(session, statement.query_sql)
    whole = queries.described(session, target.sql, stored=True)
    columns = [changes.column(whole, name) for name in statement.columns] or list(whole.columns)
    names = ", ".join(quoted(column.inner) for column in columns)
    session.engine.macros.create_all()
    with session.atomically(ddl=False):
        known = _found(session, target)
        _use(session, "change", target, known)
        aside = target.beside(_ASIDE)
        _copy(session, target, aside, with_rows=False)
        session.duck.execute(f"INSERT INTO {aside.sql} ({names}) {stored_query(query, columns)}")
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


def _register(session: EngineSession, target: Table, created: Created) -> None:
    """Register a new table, and let the features record what they know about it."""
    register, creation, origin = session.register(target.database), created.creation, created.origin
    comment = creation.comment if creation.comment is not None or origin is None else origin.comment
    owner = session.context.get("role") or "SYSADMIN"
    object_id = register.add(target, owner=owner, comment=comment, transient=creation.transient, kind=creation.kind)
    for feature in session.engine.features:
        feature.on_create(session, target, replace(created, object_id=object_id))


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


def _relation(session: EngineSession, query: str) -> Relation:
    translator, expression = queries.translated(session, query)
    return translator.relation(expression)


def _stored_sql(relation: Relation, names: Sequence[str]) -> str:
    """Return a query whose columns are as Snowflake would store them, under distinct names.

    Raises:
        SqlError: Two columns have one name (002025), or the names that CREATE TABLE gives are not as many (002020).
    """
    given = names or [column.name for column in relation.columns]
    _refuse_same_names(given)
    kinds = [types.TEXT if column.type.kind is Kind.NULL else column.type for column in relation.columns]
    columns = tuple(Column(name, replace(kind, length=None), name) for name, kind in zip(given, kinds, strict=False))
    return stored_query(relation, columns)


def _refuse_same_names(names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        same = [earlier for earlier in names[:index] if earlier.lower() == name.lower()]
        if name in same:
            raise SqlError(f"SQL compilation error:\nduplicate column name '{name}'", errno=2025, sqlstate="42S21")
        if same:
            raise unsupported("keep two columns with names that differ by case alone", f"{name!r} beside {same[0]!r}")


@dataclass(frozen=True)
class _Columns:
    """The columns that CREATE TABLE names.

    Attributes:
        names: Their names, empty where the statement gives none.
        typed: The columns with their types, empty if they have none.
        typed_sql: Likewise, for DuckDB.
        comment_sql: Statements that comment them.
    """

    names: tuple[str, ...] = ()
    typed: tuple[Column, ...] = ()
    typed_sql: str = ""
    comment_sql: tuple[str, ...] = ()


def _columns_of(session: EngineSession, target: Table, columns_sql: str) -> _Columns:
    create = parsed(f"CREATE TABLE {target.sql} {columns_sql}")
    parts: list[Any] = [part for part in create.this.expressions if isinstance(part, exp.Identifier | exp.ColumnDef)]
    others = [part for part in create.this.expressions if part not in parts]
    if any(not isinstance(part, _KEYS) for part in others):
        raise unsupported("create a table with this constraint", repr(columns_sql[:200]))
    names = tuple(name_of(part if isinstance(part, exp.Identifier) else part.this) for part in parts)
    for part in parts:
        _refuse_clauses(part)
    comments = tuple(_comments_sql(target, parts, names))
    if all(isinstance(part, exp.Identifier) or part.kind is None for part in parts):
        return _Columns(names, comment_sql=comments)
    if not all(isinstance(part, exp.ColumnDef) and part.kind is not None for part in parts):
        raise unsupported("create a table whose columns have types only in part", repr(columns_sql[:200]))
    _refuse_same_names(names)
    typed = tuple(
        Column(name, types.from_sqlglot(part.kind), name, stored=True) for name, part in zip(names, parts, strict=True)
    )
    listed = [_definition(session, column, part) for column, part in zip(typed, parts, strict=True)]
    return _Columns(names, typed, f"({', '.join(listed)})", comments)


def _definition(session: EngineSession, column: Column, part: Any) -> str:
    """Return a column for DuckDB. VARCHAR(n) refuses longer text.

    https://docs.snowflake.com/en/sql-reference/data-types-text
    """
    sql = f"{quoted(column.name)} {column.type.stored}"
    if column.type.length is not None:
        sql += f" CHECK (length({quoted(column.name)}) <= {column.type.length})"
    for constraint in part.args.get("constraints") or []:
        kind = constraint.kind
        if isinstance(kind, exp.NotNullColumnConstraint):
            sql += "" if kind.args.get("allow_null") else " NOT NULL"
        elif isinstance(kind, exp.DefaultColumnConstraint):
            sql += f" DEFAULT {stored(queries.constant(session, kind.this), column)}"
    return sql


def _refuse_clauses(part: Any) -> None:
    """Refuse what a column would silently be without, such as a masking policy."""
    known = (*_KEYS, exp.CommentColumnConstraint, exp.NotNullColumnConstraint, exp.DefaultColumnConstraint)
    for constraint in part.args.get("constraints") or []:
        if not isinstance(constraint.kind, known) or (
            part.kind is None and not isinstance(constraint.kind, exp.CommentColumnConstraint)
        ):
            raise unsupported("create a column with this clause", constraint.sql(dialect="snowflake"))


def _comments_sql(
    target: Table, parts: Sequence[exp.Identifier | exp.ColumnDef], names: Sequence[str]
) -> Generator[str]:
    for part, name in zip(parts, names, strict=True):
        for constraint in part.find_all(exp.CommentColumnConstraint):
            comment = values.literal_sql(constraint.name)
            yield f"COMMENT ON COLUMN {target.sql}.{quoted(name)} IS {comment}"
