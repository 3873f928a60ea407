"""Queries, changes of rows, views and columns: what `dialect` turns into DuckDB's SQL, executed.

https://docs.snowflake.com/en/sql-reference/sql-dml
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb
from sqlglot import Expr, exp

from run_elt_dagster.dialect import changes, types, values
from run_elt_dagster.dialect.errors import SqlError, from_duckdb, missing_object, unsupported
from run_elt_dagster.dialect.expressions import Expressions
from run_elt_dagster.dialect.labels import labels_of
from run_elt_dagster.dialect.parser import parsed
from run_elt_dagster.dialect.queries import Queries
from run_elt_dagster.dialect.scope import Column, Relation, Scope, distinct_columns, name_of
from run_elt_dagster.dialect.types import Type
from run_elt_dagster.dialect.values import Value
from run_elt_dagster.embedded.features import TableFunction
from run_elt_dagster.embedded.objects import HIDDEN_SCHEMA, Table
from run_elt_dagster.embedded.past import table_at
from run_elt_dagster.embedded.reader import Name
from run_elt_dagster.embedded.results import Result, allow_arrow_output, counts, result_of, status

if TYPE_CHECKING:
    from run_elt_dagster.embedded.engine import EngineSession

SELECT, INSERT, UPDATE, DELETE, MERGE = 0x1000, 0x3100, 0x3200, 0x3300, 0x3400
# Views over the register in the place of DuckDB's own: https://docs.snowflake.com/en/sql-reference/info-schema
_INFORMATION_SCHEMA = {"COLUMNS", "TABLES", "VIEWS", "SCHEMATA", "LOAD_HISTORY"}
# Booleans are integers, and moments are dates, to Python: the first that fits decides.
_BOUND: Mapping[type, Type] = {
    bool: types.BOOLEAN,
    int: types.INT,
    datetime: types.NTZ,
    date: types.DATE,
    time: types.TIME,
    str: types.TEXT,
}


def table_name(table: exp.Table) -> Name:
    """Return a parsed table's name with Snowflake's folding of case."""
    return Name(tuple(name_of(part) for part in table.parts if isinstance(part, exp.Identifier)))


def no_policies(_session: "EngineSession", _call: exp.Anonymous) -> str:
    """Answer POLICY_REFERENCES without a row, since no policy can be created."""
    return f"SELECT * FROM _fs_global.{HIDDEN_SCHEMA}.embedded_policy_references"


def translated(session: "EngineSession", sql: str, *, params: Sequence[Any] = ()) -> tuple[Queries, Expr]:
    """Return the translator of a statement, and the statement as it is read."""
    sql = session.prepared(sql)
    expression = parsed(sql)
    for feature in session.engine.features:
        expression = feature.rewrite(session, expression)
    functions = {name: partial(_answered, session, answer) for name, answer in session.engine.table_functions.items()}
    labels = labels_of(sql) if isinstance(expression, exp.Query) else None
    queries = Queries(
        lambda node: _table(session, node),
        context=session.context,
        parameters=[_bound(value) for value in params],
        table_functions=functions,
        labels=labels or (),
    )
    return queries, expression


def _answered(session: "EngineSession", answer: TableFunction, call: exp.Anonymous) -> Relation:
    return described(session, answer(session, call))


def relation_of(session: "EngineSession", sql: str, params: Sequence[Any] = ()) -> Relation:
    """Return what a query gives."""
    queries, expression = translated(session, sql, params=params)
    return queries.relation(expression)


def _bound(value: Any) -> Value:
    """Return a value of `?`, in the type in which the connector bound it."""
    if value is None:
        return values.NULL
    for python, kind in _BOUND.items():
        if isinstance(value, python):
            sql = f"CAST({values.literal_sql(str(value))} AS {kind.duck})"
            return Value(sql, kind, constant=str(value))
    raise unsupported("bind a value of this type", type(value).__name__)


def described(session: "EngineSession", duck_sql: str, *, stored: bool = False, name: str = "") -> Relation:
    """Return a relation in DuckDB's own SQL with its columns."""
    rows = session.duck.execute(f"DESCRIBE {duck_sql}").fetchall()
    pairs = [(str(row[0]), types.from_duck(str(row[1]))) for row in rows]
    return Relation(name or duck_sql, tuple(Column(label, kind, label, stored) for label, kind in pairs))


def _table(session: "EngineSession", node: exp.Table) -> Relation:
    """Return a table or view with its columns; one that is not there is an error (002003)."""
    name = table_name(node)
    *qualifiers, last = name.parts or ("",)
    if not last:
        raise unsupported("read this", node.sql(dialect="snowflake"))
    if qualifiers and qualifiers[-1] == "INFORMATION_SCHEMA":
        table = _information_view(session, name.parts)
        if (known := session.engine.information_schema.get(table)) and not node.args.get("when"):
            return known
    elif last in session.temporary:
        table = Table("temp", "main", last)
    else:
        table = session.complete(name)
    if (when := node.args.get("when")) is not None:
        table = table_at(session, table, when)
    try:
        relation = described(session, table.sql, stored=True, name=table.sql)
    except duckdb.CatalogException as error:
        raise missing_object(str(table)) from error
    if table.schema == HIDDEN_SCHEMA:
        session.engine.information_schema[table] = relation
    return relation


def _information_view(session: "EngineSession", parts: Sequence[str]) -> Table:
    database = parts[0] if len(parts) > 2 else session.database  # noqa: PLR2004 - database.schema.table
    if not database or parts[-1] not in _INFORMATION_SCHEMA or database not in session.engine.databases:
        raise missing_object(".".join(parts))
    return Table(database, HIDDEN_SCHEMA, f"_fs_{parts[-1].lower()}")


def run(session: "EngineSession", sql: str) -> Any:
    """Execute DuckDB's SQL and return its rows; what DuckDB cannot do is an SqlError."""
    allow_arrow_output()
    sql = session.macros.create(sql)
    try:
        return session.duck.execute(sql).to_arrow_table()
    except duckdb.Error as error:
        raise from_duckdb(error) from error


def select(session: "EngineSession", sql: str, params: Sequence[Any] = ()) -> Result:
    """Execute a query."""
    relation = relation_of(session, sql, params)
    return result_of(run(session, relation.sql), [(column.name, column.type) for column in relation.columns], SELECT)


def change(session: "EngineSession", sql: str, params: Sequence[Any] = ()) -> Callable[[], Result]:
    """Return what executes INSERT, UPDATE, DELETE or MERGE; all that it needs to know of its tables is known by then."""
    queries, expression = translated(session, sql, params=params)
    target = expression.this.this if isinstance(expression.this, exp.Schema) else expression.this
    if not isinstance(target, exp.Table):
        raise unsupported("change the rows of this", repr(sql[:200]))
    make, answer = _CHANGES[type(expression)]
    made = make(queries, expression, _table(session, target))
    session.macros.create(made.check_sql + made.sql)

    def execute() -> Result:
        if made.check_sql and run(session, made.check_sql).num_rows:
            raise SqlError("Duplicate row detected during DML action", errno=100090, sqlstate="42P18")
        return answer(run(session, made.sql))

    return execute


def _merged(rows: Any) -> Result:
    actions = [str(action) for action in rows.column(0).to_pylist()]
    names = ["number of rows inserted", "number of rows updated", "number of rows deleted"]
    return counts(names, [actions.count(word) for word in ("INSERT", "UPDATE", "DELETE")], MERGE)


_UPDATED = ("number of rows updated", "number of multi-joined rows updated")
_CHANGES: Mapping[type[Expr], tuple[Callable[..., changes.Change], Callable[[Any], Result]]] = {
    exp.Insert: (changes.insert, lambda rows: counts(["number of rows inserted"], [rows.num_rows], INSERT)),
    exp.Update: (changes.update, lambda rows: counts(_UPDATED, [rows.num_rows, 0], UPDATE)),
    exp.Delete: (changes.delete, lambda rows: counts(["number of rows deleted"], [rows.num_rows], DELETE)),
    exp.Merge: (changes.merge, _merged),
}
CHANGES = tuple(_CHANGES)


def create_view(session: "EngineSession", sql: str) -> Result:
    """Create a view; its query is translated once, when it is created.

    https://docs.snowflake.com/en/sql-reference/sql/create-view
    """
    queries, create = translated(session, sql)
    node: Any = create
    schema = node.this if isinstance(node.this, exp.Schema) else None
    properties = node.args["properties"].expressions if node.args.get("properties") else []
    known = {"this", "kind", "replace", "expression", "exists", "properties"}
    if {key for key, value in node.args.items() if value} - known or any(
        not isinstance(item, exp.SchemaCommentProperty) for item in properties
    ):
        raise unsupported("create a view with these clauses", repr(sql[:200]))
    named: Any = schema.this if schema else node.this
    view = session.locate(table_name(named))
    relation = queries.relation(node.expression)
    columns = relation.columns
    if schema is not None:
        if any(part.args.get("constraints") for part in schema.expressions):
            raise unsupported("create a view whose columns have clauses", repr(sql[:200]))
        if len(schema.expressions) != len(columns):
            given = f"expected {len(columns)} columns, got {len(schema.expressions)}"
            text = f"SQL compilation error:\nInvalid column definition list, {given}"
            raise SqlError(text, errno=2026, sqlstate="42601")
        names = [name_of(part.this if isinstance(part, exp.ColumnDef) else part) for part in schema.expressions]
        columns = distinct_columns([(name, column.type) for name, column in zip(names, columns, strict=True)])
    replaces, exists = node.args.get("replace"), " IF NOT EXISTS" if node.args.get("exists") else ""
    how = "OR REPLACE VIEW" if replaces else f"VIEW{exists}"
    with session.atomically(ddl=True):
        run(session, f"CREATE {how} {view.sql} AS {changes.stored_query(relation, columns)}")
        for comment in properties:
            session.duck.execute(f"COMMENT ON VIEW {view.sql} IS {values.literal_sql(str(comment.this.this))}")
    return status(f"View {view.name} successfully created.")


def alter_columns(session: "EngineSession", sql: str) -> Result:
    """Add, drop or rename columns: https://docs.snowflake.com/en/sql-reference/sql/alter-table."""
    node = parsed(sql)
    table = session.locate(table_name(node.this))
    found = [changes.alterations(action) for action in node.args["actions"]]
    if not all(found):
        raise unsupported("alter a table like this", repr(sql[:200]))
    with session.altering(table, if_exists=bool(node.args.get("exists"))) as known:
        for part in [part for parts in found for part in parts] if known else ():
            run(session, f"ALTER TABLE {table.sql} {part}")
        if known:
            session.register(table.database).count_rows(table)
    return status("Statement executed successfully.")


def constant(session: "EngineSession", node: Expr) -> Value:
    """Return the default of a column."""
    translator, _ = translated(session, "SELECT 1")
    return Expressions(translator, Scope()).value(node)
