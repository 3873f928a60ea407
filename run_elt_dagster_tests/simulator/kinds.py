"""Dynamic, external and Iceberg tables and materialized views: listed as such, their rows those at their creation.

https://docs.snowflake.com/en/sql-reference/commands-table
"""

from dataclasses import dataclass

from run_elt_dagster.dialect.errors import SqlError, existing_object, missing_object, unsupported
from run_elt_dagster.dialect.labels import depth_of
from run_elt_dagster.dialect.lexer import keyword_of, tokens_of
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.features import Created, Feature
from run_elt_dagster.embedded.objects import Table, TableObject
from run_elt_dagster.embedded.reader import Name, Reader, Statement
from run_elt_dagster.embedded.results import Result, status
from run_elt_dagster.embedded.statements import CreateTable, Creation
from run_elt_dagster.embedded.versions import keep

KINDS = ("DYNAMIC TABLE", "EXTERNAL TABLE", "ICEBERG TABLE", "MATERIALIZED VIEW")
SUCCESS = "Statement executed successfully."


@dataclass(frozen=True)
class DropKind(Statement):
    """DROP of another kind of table, or of a materialized view."""

    target: Name
    kind: str
    if_exists: bool


@dataclass(frozen=True)
class ClusterTable(Statement):
    """ALTER TABLE ... CLUSTER BY, DROP CLUSTERING KEY, SUSPEND RECLUSTER and RESUME RECLUSTER, and the days of Time Travel."""

    target: Name
    if_exists: bool


def drop_kind(session: EngineSession, statement: DropKind) -> Result:
    target = session.locate(statement.target)
    with session.atomically(ddl=True):
        known = session.register(target.database).registered(target)
        if known is None and not statement.if_exists:
            raise missing_object(str(target))
        if known is not None and known.kind != statement.kind:
            raise _another_kind(known, statement.kind)
        if known is not None:
            keep(session, target, known.object_id)
    return status(f"{target.name} successfully dropped.")


def cluster_table(session: EngineSession, statement: ClusterTable) -> Result:
    """Accept what changes how a table is clustered: that makes queries faster, and changes no result.

    https://docs.snowflake.com/en/user-guide/tables-auto-reclustering
    """
    target = session.locate(statement.target)
    with session.atomically(ddl=True):
        if session.register(target.database).find(target) is None and not statement.if_exists:
            raise missing_object(str(target))
    return status(SUCCESS)


def _create(reader: Reader) -> Statement | None:
    or_replace = reader.accept("OR", "REPLACE")
    kind = next((kind for kind in KINDS if reader.accept(*kind.split())), None)
    if kind is None:
        return None
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    target = reader.name()
    columns = reader.parenthesised() if reader.keyword == "(" else None
    if columns is not None and kind == "EXTERNAL TABLE":
        columns = _stored_columns(columns)
    if reader.keyword in {"CLONE", "LIKE"}:
        raise unsupported("clone tables of this kind", repr(reader.sql[:200]))
    creation = Creation(or_replace, if_not_exists, comment=_properties(reader), kind=kind)
    query = reader.rest() if reader.accept("AS") else None
    if columns is None and query is None:
        raise reader.failure()
    return CreateTable(target, creation, columns, query)


def _properties(reader: Reader) -> str | None:
    """Read the properties; return the comment. Where the table lies and when it is refreshed does not matter here."""
    comment = None
    while not reader.at_end and reader.keyword != "AS":
        if reader.accept("COMMENT"):
            reader.accept("=")
            comment = reader.string()
        elif reader.accept("CLUSTER", "BY"):
            reader.parenthesised()
        elif reader.keywords(2)[1:] == ["="]:
            _skip_property(reader)
        elif reader.accept("WITH", "LOCATION", "="):
            _skip_value(reader)
        else:
            raise unsupported("create a table with this clause", repr(reader.rest()))
    return comment


def _skip_property(reader: Reader) -> None:
    """Read a property of a dynamic, external or Iceberg table: where it lies and when it is refreshed does not matter here."""
    reader.next()
    reader.expect("=")
    _skip_value(reader)


def _skip_value(reader: Reader) -> None:
    if reader.keyword == "(":
        reader.parenthesised()
        return
    last = reader.next()
    # A path on a stage is many tokens without space between them.
    while reader.token is not None and reader.token.start == last.end + 1 and reader.keyword != ",":
        last = reader.next()


def _stored_columns(columns_sql: str) -> str:
    """Return the columns of an external table without what they read from its files: `a int AS (value:c1::int)`."""
    tokens = tokens_of(columns_sql)
    kept, position, depth, start = "", 0, 0, 0
    for index, token in enumerate(tokens):
        if depth == 1 and keyword_of(token) == "AS" and keyword_of(tokens[index + 1]) == "(":
            kept, start = kept + columns_sql[position : token.start], token.start
        depth += depth_of(token)
        if start and depth == 1 and keyword_of(token) == ")":
            position, start = token.end + 1, 0
    return kept + columns_sql[position:]


def _drop(reader: Reader) -> Statement | None:
    kind = next((kind for kind in KINDS if reader.accept(*kind.split())), None)
    if kind is None:
        return None
    if_exists = reader.accept("IF", "EXISTS")
    return DropKind(reader.name(), kind, if_exists)


def _alter_table(reader: Reader) -> Statement | None:
    if_exists = reader.accept("IF", "EXISTS")
    target = reader.name()
    return ClusterTable(target, if_exists) if _changes_clustering(reader) else None


def _changes_clustering(reader: Reader) -> bool:
    if reader.accept("CLUSTER", "BY"):
        reader.parenthesised()
        return True
    if reader.accept("SET", "DATA_RETENTION_TIME_IN_DAYS", "="):
        reader.literal()
        return True
    return any(
        reader.accept(*words)
        for words in (("RESUME", "RECLUSTER"), ("SUSPEND", "RECLUSTER"), ("DROP", "CLUSTERING", "KEY"))
    )


def _on_use(use: str, known: TableObject, name: str) -> None:
    """Refuse what only ordinary tables allow."""
    if not known.kind:
        return
    if use == "change" and known.kind != "ICEBERG TABLE":
        raise SqlError(
            f"SQL compilation error:\nInvalid operation on {known.kind.lower()} {name}: its rows cannot be changed.",
            errno=1421,
            sqlstate="42601",
        )
    if use == "drop" and known.kind != "ICEBERG TABLE":
        raise _another_kind(known, "TABLE")
    if use in {"move", "clone"}:
        raise unsupported(f"do this with a {known.kind.lower()}; an account may refuse it too", name)


def _another_kind(known: TableObject, wanted: str) -> SqlError:
    return SqlError(
        f"SQL compilation error:\nObject found is of type '{known.kind or 'TABLE'}', not specified type '{wanted}'.",
        errno=2203,
        sqlstate="42601",
    )


def _on_create(_: EngineSession, table: Table, created: Created) -> None:
    if created.replaced is not None and created.replaced.kind != created.creation.kind:
        raise existing_object(str(table))


KINDS_OF_TABLES = Feature(
    heads=((("CREATE",), _create), (("DROP",), _drop), (("ALTER", "TABLE"), _alter_table)),
    handlers={DropKind: drop_kind, ClusterTable: cluster_table},
    on_use=_on_use,
    on_create=_on_create,
)
