"""Creating, exchanging and dropping tables: each in one DuckDB transaction together with what is known about the table.

DuckDB shows other sessions either all of a transaction or nothing of it, so a reader never finds a table missing,
empty or mixed, as on Snowflake. DuckDB folds the case even of quoted names; where two tables would differ by case alone,
creating the second one is an error here.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from run_elt_dagster.dialect import changes, values
from run_elt_dagster.dialect.changes import stored_query
from run_elt_dagster.dialect.columns import Declared, declared
from run_elt_dagster.dialect.errors import SqlError, existing_object, missing_object, syntax_error, unsupported
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded import queries, statements
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.features import Created
from run_elt_dagster.embedded.objects import DEFAULT_OWNER, HIDDEN_SCHEMA, Table, TableObject
from run_elt_dagster.embedded.past import keep_rows
from run_elt_dagster.embedded.results import Result, status
from run_elt_dagster.embedded.versions import keep

SUCCESS = "Statement executed successfully."
# A name inside a transaction, which nobody else ever sees.
_ASIDE = "embedded exchange"


def create_table(session: EngineSession, statement: statements.CreateTable) -> Result:
    """Create a table, filled by a query if there is one.

    https://docs.snowflake.com/en/sql-reference/sql/create-table. With columns and a query the columns are a contract: a
    value that does not fit fails the statement.
    """
    target = session.locate(statement.target)
    # Translated first: fakesnow may look columns up, and a failure must leave the open transaction as it is.
    query = queries.relation_of(session, statement.query_sql) if statement.query_sql else None
    columns = (
        declared(statement.columns_sql, partial(queries.constant, session)) if statement.columns_sql else Declared()
    )
    fill_sql = ""
    if query is not None:
        fill_sql = stored_query(query, columns.typed) if columns.typed else changes.stored_table(query, columns.names)
    session.engine.macros.create(columns.typed_sql + fill_sql)
    created, temporary = Created("", statement.creation), statement.creation.temporary
    where = _creating_temporary(session, target, created) if temporary else _creating(session, target, created)
    with session.atomically(ddl=True), where as made:
        if made is None:
            return status(f"{target.name} already exists, statement succeeded.")
        how = "TEMPORARY TABLE" if temporary else "TABLE"
        if columns.typed:
            session.duck.execute(f"CREATE {how} {made.sql} {columns.typed_sql}")
        if fill_sql:
            into = f"INSERT INTO {made.sql}" if columns.typed else f"CREATE {how} {made.sql} AS"
            session.duck.execute(f"{into} {fill_sql}")
        for name, comment in columns.comments:
            session.duck.execute(_comment_sql(made, name, comment))
    return status(f"{(statement.creation.kind or 'table').capitalize()} {target.name} successfully created.")


def clone_table(session: EngineSession, statement: statements.CloneTable) -> Result:
    """Create a table with the columns of another one and, for CLONE, its rows.

    https://docs.snowflake.com/en/sql-reference/sql/create-clone. The clone has the source's comment. With COPY GRANTS it
    has the grants of the table it replaces, or of the source if it replaces none. What else it has is up to the features.
    """
    target, source = session.locate_all(statement.target, statement.source)
    with session.atomically(ddl=True):
        origin = session.found(source)
        session.require_usable("clone", source, origin)
        if origin.transient and not statement.creation.transient and statement.with_rows:
            text = "SQL compilation error:\nTransient object cannot be cloned to a permanent object."
            raise SqlError(text, errno=2120, sqlstate="42601")
        created = Created("", statement.creation, origin=origin, is_clone=statement.with_rows)
        with _creating(session, target, created) as made:
            if made is None:
                return status(f"{target.name} already exists, statement succeeded.")
            _copy(session, source, made, with_rows=statement.with_rows)
    return status(f"Table {target.name} successfully created.")


def swap_tables(session: EngineSession, statement: statements.SwapTables) -> Result:
    """Exchange two tables and all that is known about them.

    https://docs.snowflake.com/en/sql-reference/sql/alter-table. Not safe to repeat: the second swap undoes the first.
    """
    target, other = session.locate_all(statement.target, statement.other)
    with session.altering(target, if_exists=statement.if_exists) as first:
        if first is None:
            return status(SUCCESS)
        second = session.found(other)
        session.require_usable("move", target, first)
        session.require_usable("move", other, second)
        aside = other.beside(_ASIDE)
        _move(session, target, aside)
        _move(session, other, target)
        _move(session, aside, other)
        for object_id, to in ((first.object_id, other), (second.object_id, target)):
            session.register(to.database).move(object_id, to)
            for feature in session.engine.features:
                feature.on_swap(session, to, object_id)
    return status(SUCCESS)


def rename_table(session: EngineSession, statement: statements.RenameTable) -> Result:
    """Give a table another name, its grants and its comment with it.

    https://docs.snowflake.com/en/sql-reference/sql/alter-table. A new name without a schema stays in the table's own.
    """
    target = session.locate(statement.target)
    *schema, name = statement.to.parts
    to = session.locate(statement.to) if schema else target.beside(name)
    with session.altering(target, if_exists=statement.if_exists, use="move") as known:
        if known:
            taken = session.register(to.database).existing_name(to.schema, to.name)
            if taken is not None and (to.schema, taken) != (target.schema, target.name):
                raise existing_object(str(to))
            _move(session, target, to)
            session.register(target.database).move(known.object_id, to)
    return status(SUCCESS)


def drop_table(session: EngineSession, statement: statements.DropTable) -> Result:
    """Drop a table, which UNDROP can bring back: https://docs.snowflake.com/en/sql-reference/sql/drop-table."""
    nothing = f"Drop statement executed successfully ({statement.target.parts[-1]} already dropped or does not exist)."
    try:
        target = session.locate(statement.target)
    except SqlError:
        if statement.if_exists:
            return status(nothing)
        raise
    with session.atomically(ddl=True):
        if _drop_temporary(session, target):
            return status(f"{target.name} successfully dropped.")
        known = session.register(target.database).find(target) if statement.if_exists else session.found(target)
        if known is None:
            return status(nothing)
        session.require_usable("drop", target, known)
        keep(session, target, known.object_id)
    return status(f"{target.name} successfully dropped.")


def _drop_temporary(session: EngineSession, target: Table) -> bool:
    """Drop the session's temporary table of a name, if there is one: DuckDB keeps those in a database of their own."""
    if target.name not in session.temporary:
        return False
    session.duck.execute(f"DROP TABLE {Table('temp', 'main', target.name).sql}")
    session.temporary.discard(target.name)
    return True


def truncate_table(session: EngineSession, statement: statements.TruncateTable) -> Result:
    """Remove all rows: https://docs.snowflake.com/en/sql-reference/sql/truncate-table."""
    target = session.locate(statement.target)
    with session.altering(target, if_exists=statement.if_exists, use="change") as known:
        if known:
            session.duck.execute(f"TRUNCATE {target.sql}")
            session.register(target.database).count_rows(target)
    return status(SUCCESS)


def comment_table(session: EngineSession, statement: statements.CommentTable) -> Result:
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


def comment_columns(session: EngineSession, statement: statements.CommentColumns) -> Result:
    """Change comments of columns: https://docs.snowflake.com/en/sql-reference/sql/alter-table-column."""
    target = session.locate(statement.target)
    with session.altering(target, if_exists=False):
        for name, comment in statement.comments:
            session.duck.execute(_comment_sql(target, name, comment))
    return status(SUCCESS)


def insert_overwrite(session: EngineSession, statement: statements.InsertOverwrite) -> Result:
    """Replace a table's rows; the object, its grants and its columns stay.

    https://docs.snowflake.com/en/sql-reference/sql/insert. The new rows are made before the old ones go, since the query
    may read the very table.
    """
    target = session.locate(statement.target)
    query = queries.relation_of(session, statement.query_sql)
    whole = queries.described(session, target.sql, stored=True)
    columns = [changes.column(whole, name) for name in statement.columns] or list(whole.columns)
    names = ", ".join(quoted(column.inner) for column in columns)
    stored_sql = stored_query(query, columns)
    stored_sql = session.macros.create(stored_sql)
    with session.atomically(ddl=False):
        session.require_usable("change", target, session.found(target))
        aside = target.beside(_ASIDE)
        _copy(session, target, aside, with_rows=False)
        session.duck.execute(f"INSERT INTO {aside.sql} ({names}) {stored_sql}")
        keep_rows(session, target, moved=True)
        _move(session, aside, target)
        session.register(target.database).count_rows(target)
        sql = f'SELECT count(*) AS "number of rows inserted" FROM {target.sql}'
        return session.answer(sql, statement_type=queries.INSERT)


@contextmanager
def _creating(session: EngineSession, target: Table, created: Created) -> Generator[Table | None]:
    """Yield where to make a table, None where one is there and stays; then give it its name and register it.

    What it replaces is kept for UNDROP.
    """
    is_wanted, replaced = _make_way(session, target, created.creation)
    # The query may read what is replaced.
    made = target if replaced is None else target.beside(_ASIDE)
    yield made if is_wanted else None
    if not is_wanted:
        return
    if replaced is not None:
        keep(session, target, replaced.object_id)
        _move(session, made, target)
    register, creation, origin = session.register(target.database), created.creation, created.origin
    comment = creation.comment if creation.comment is not None or origin is None else origin.comment
    owner = session.context.get("role") or DEFAULT_OWNER
    object_id = register.add(target, owner=owner, comment=comment, transient=creation.transient, kind=creation.kind)
    for feature in session.engine.features:
        feature.on_create(session, target, replace(created, object_id=object_id, replaced=replaced))


@contextmanager
def _creating_temporary(session: EngineSession, target: Table, created: Created) -> Generator[Table | None]:
    """Likewise for a table of this session alone: https://docs.snowflake.com/en/user-guide/tables-temp-transient."""
    own, exists = Table("temp", "main", target.name), target.name in session.temporary
    if exists and created.creation.if_not_exists:
        yield None
        return
    if exists and not created.creation.or_replace:
        raise existing_object(target.name)
    made = own.beside(_ASIDE) if exists else own
    yield made
    if exists:
        session.duck.execute(f"DROP TABLE {own.sql}")
        session.duck.execute(f"ALTER TABLE {made.sql} RENAME TO {quoted(own.name)}")
    session.temporary.add(own.name)


def _make_way(session: EngineSession, target: Table, creation: statements.Creation) -> tuple[bool, TableObject | None]:
    """Return whether a table is to be created, and the object that it replaces, None if there is none.

    Raises:
        SqlError: The name is taken (002002), or another table's name differs from it by case alone.
    """
    if creation.or_replace and creation.if_not_exists:
        raise syntax_error("options IF NOT EXISTS and OR REPLACE are incompatible.")
    register = session.register(target.database)
    known = register.registered(target)
    taken = target.name if known else register.existing_name(target.schema, target.name)
    if taken is None:
        return True, None
    if taken != target.name:
        raise unsupported("keep two tables with names that differ by case alone", f"{target.name!r} beside {taken!r}")
    if creation.if_not_exists:
        return False, None
    known = known or register.find(target)
    if known is None or not creation.or_replace:
        raise existing_object(str(target))
    session.require_usable("replace", target, known)
    return True, known


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
        f"""SELECT column_name, comment, definition FROM _fs_global.{HIDDEN_SCHEMA}.embedded_definitions
        WHERE database_name = ? AND schema_name = ? AND table_name = ? ORDER BY position""",
        [source.database, source.schema, source.name],
    ).fetchall()
    session.duck.execute(f"CREATE TABLE {target.sql} ({', '.join(definition for _, _, definition in rows)})")
    for name, comment, _ in rows:
        if comment:
            session.duck.execute(_comment_sql(target, name, comment))
    if with_rows:
        session.duck.execute(f"INSERT INTO {target.sql} SELECT * FROM {source.sql}")


def _comment_sql(table: Table, column: str, comment: str) -> str:
    return f"COMMENT ON COLUMN {table.sql}.{quoted(column)} IS {values.literal_sql(comment)}"
