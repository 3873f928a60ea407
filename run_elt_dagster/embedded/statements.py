"""The statements that are executed here instead of by fakesnow, as data, and the parser that finds them.

Everything else is a `Query`, whose text goes to fakesnow as it is. Pure: nothing is looked up or executed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from run_elt_dagster.dialect.errors import unsupported
from run_elt_dagster.dialect.lexer import keyword_of, only_statement
from run_elt_dagster.embedded.reader import Clause, Head, Name, Reader, Scope, Statement

DEFAULT_SCHEMA = "PUBLIC"
# https://docs.snowflake.com/en/sql-reference/sql/create-table: properties of a table that change no result here.
IGNORED_PROPERTIES = frozenset({"DATA_RETENTION_TIME_IN_DAYS", "MAX_DATA_EXTENSION_TIME_IN_DAYS", "CHANGE_TRACKING"})
# What only an account has: https://docs.snowflake.com/en/sql-reference/commands-table
_ACCOUNT_ONLY = (
    *(("DYNAMIC", "TABLE"), ("EXTERNAL", "TABLE"), ("HYBRID", "TABLE"), ("ICEBERG", "TABLE"), ("MATERIALIZED", "VIEW")),
    *(("MASKING", "POLICY"), ("ROW", "ACCESS", "POLICY"), ("ROLE",), ("STREAM",)),
)
_READING = frozenset({"SELECT", "WITH", "VALUES", "(", "SHOW", "DESC", "DESCRIBE", "USE", "SET", "UNSET", "LIST", "LS"})


@dataclass(frozen=True)
class Query(Statement):
    """What fakesnow executes."""

    sql: str
    reads_only: bool

    @property
    def writes(self) -> bool:  # type: ignore[override]
        """Whether it may change anything."""
        return not self.reads_only


@dataclass(frozen=True)
class Creation:
    """What CREATE TABLE says besides what the table holds. COPY GRANTS and COPY TAGS have features copy something."""

    or_replace: bool = False
    if_not_exists: bool = False
    transient: bool = False
    temporary: bool = False
    comment: str | None = None
    copy_grants: bool = False
    copy_tags: bool = False
    kind: str = ""
    clauses: tuple[Any, ...] = ()


@dataclass(frozen=True)
class CreateTable(Statement):
    """CREATE TABLE with columns, AS a query, or both."""

    target: Name
    creation: Creation
    columns_sql: str | None
    query_sql: str | None


@dataclass(frozen=True)
class CloneTable(Statement):
    """CREATE TABLE ... CLONE, or LIKE, which takes no rows."""

    target: Name
    source: Name
    creation: Creation
    with_rows: bool = True


@dataclass(frozen=True)
class TableStatement(Statement):
    """A statement about one table that should be there."""

    target: Name
    if_exists: bool = field(default=False, kw_only=True)


class DropTable(TableStatement):
    """DROP TABLE."""


class UndropTable(TableStatement):
    """UNDROP TABLE."""


class TruncateTable(TableStatement):
    """TRUNCATE TABLE."""


class ShowGrants(TableStatement):
    """SHOW GRANTS ON TABLE."""

    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class SwapTables(TableStatement):
    """ALTER TABLE ... SWAP WITH."""

    other: Name


@dataclass(frozen=True)
class RenameTable(TableStatement):
    """ALTER TABLE ... RENAME TO."""

    to: Name


@dataclass(frozen=True)
class CommentTable(TableStatement):
    """COMMENT ON TABLE and VIEW, ALTER TABLE ... SET COMMENT and UNSET COMMENT."""

    comment: str | None
    is_view: bool = False


@dataclass(frozen=True)
class CommentColumns(TableStatement):
    """ALTER TABLE ... MODIFY COLUMN ... COMMENT, for one column or several."""

    comments: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class InsertOverwrite(TableStatement):
    """INSERT OVERWRITE INTO."""

    columns: tuple[str, ...]
    query_sql: str


@dataclass(frozen=True)
class Show(Statement):
    """A SHOW of the objects that a view of the server's own lists; the scope says which of them."""

    view: str
    scope: Scope
    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class ShowTables(Statement):
    """SHOW TABLES; fakesnow lists them."""

    scope: Scope
    sql: str
    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class ShowColumns(TableStatement):
    """SHOW COLUMNS IN TABLE, and DESCRIBE TABLE or VIEW; fakesnow lists them."""

    sql: str
    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class CreateSchema(Statement):
    """CREATE SCHEMA."""

    name: Name
    if_not_exists: bool = False


@dataclass(frozen=True)
class UseSchema(Statement):
    """USE of a database or a schema; a database's schema is PUBLIC."""

    name: Name
    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class Transaction(Statement):
    """BEGIN, COMMIT and ROLLBACK. Who has begun one is the only one who writes."""

    action: str

    @property
    def writes(self) -> bool:  # type: ignore[override]
        """Whether nobody else may write from here on."""
        return self.action == "BEGIN"


@dataclass(frozen=True)
class SetParameters(Statement):
    """ALTER SESSION SET."""

    settings: tuple[tuple[str, str], ...]
    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class CancelQueries(Statement):
    """SELECT SYSTEM$CANCEL_ALL_QUERIES(session)."""

    session_id: int
    writes: ClassVar[bool] = False


def parse(sql: str, heads: Sequence[Head] = (), clauses: Sequence[Clause] = ()) -> Statement:
    """Return the one statement in a text; features read their heads first, and their clauses of CREATE TABLE.

    Raises:
        SqlError: The text holds no statement or several, or a statement that is executed here breaks its syntax.
    """
    reader = Reader(sql, only_statement(sql), clauses)
    for keywords, read in (*heads, *_HEADS):
        if reader.accept(*keywords):
            statement = read(reader)
            if statement is not None:
                reader.finish()
                return statement
            reader.position = 0
    return Query(reader.rest(), keyword_of(reader.tokens[0]) in _READING)


# The words before it change nothing: https://docs.snowflake.com/en/sql-reference/sql/create-table
_TEMPORARY = ("LOCAL", "GLOBAL", "TEMP", "TEMPORARY", "VOLATILE")


def _create(reader: Reader) -> Statement | None:
    or_replace = reader.accept("OR", "REPLACE")
    transient = reader.accept("TRANSIENT")
    if reader.keywords(2) == ["OR", "ALTER"] or (
        (or_replace or transient) and reader.keyword in {"SCHEMA", "DATABASE"}
    ):
        raise reader.refusal("create an object like this")
    for kind in ("SCHEMA", "DATABASE"):
        if reader.accept(kind):
            if_not_exists = reader.accept("IF", "NOT", "EXISTS")
            name = reader.name()
            reader.finish_or_refuse(f"create a {kind.lower()} with this clause")
            return CreateSchema(name, if_not_exists) if kind == "SCHEMA" else None
    temporary = not transient and sum(reader.accept(word) for word in _TEMPORARY) > 0
    _refuse_others(reader)
    if not reader.accept("TABLE"):
        return None
    return _create_table(reader, Creation(or_replace, reader.accept("IF", "NOT", "EXISTS"), transient, temporary))


def _create_table(reader: Reader, creation: Creation) -> Statement:
    target = reader.name()
    columns = reader.parenthesised() if reader.keyword == "(" else None
    if reader.keyword in {"CLONE", "LIKE"}:
        with_rows = reader.next().text.upper() == "CLONE"
        source = reader.name()
        return CloneTable(target, source, _with_options(reader, creation), with_rows)
    creation = _with_options(reader, creation)
    query = reader.rest() if reader.accept("AS") else None
    if columns is None and query is None:
        raise reader.failure()
    return CreateTable(target, creation, columns, query)


def _with_options(reader: Reader, creation: Creation) -> Creation:
    """Return the creation with the clauses that stand before AS."""
    while not reader.at_end and reader.keyword != "AS":
        if reader.accept("COMMENT"):
            reader.accept("=")
            creation = replace(creation, comment=reader.string())
        elif reader.accept("COPY", "GRANTS"):
            creation = replace(creation, copy_grants=True)
        elif reader.accept("COPY", "TAGS"):
            creation = replace(creation, copy_tags=True)
        elif reader.accept("CLUSTER", "BY"):
            reader.parenthesised()
        elif reader.keyword in IGNORED_PROPERTIES:
            reader.next()
            reader.expect("=")
            reader.literal()
        else:
            creation = replace(creation, clauses=(*creation.clauses, _feature_clause(reader)))
    return creation


def _feature_clause(reader: Reader) -> Any:
    for keywords, read in reader.clauses:
        if reader.accept(*keywords):
            return read(reader)
    raise unsupported("create a table with this clause", repr(reader.rest()))


def _alter_table(reader: Reader) -> Statement | None:
    target, if_exists = reader.existing()
    if reader.accept("SWAP", "WITH"):
        return SwapTables(target, reader.name(), if_exists=if_exists)
    if reader.accept("RENAME", "TO"):
        return RenameTable(target, reader.name(), if_exists=if_exists)
    if reader.accept("SET", "COMMENT"):
        reader.expect("=")
        return CommentTable(target, reader.string(), if_exists=if_exists)
    if reader.accept("UNSET", "COMMENT"):
        return CommentTable(target, None, if_exists=if_exists)
    return _column_comments(reader, target) if reader.accept("MODIFY") else None


def _column_comments(reader: Reader, target: Name) -> Statement | None:
    comments: list[tuple[str, str]] = []
    while reader.accept("COLUMN"):
        name = reader.identifier()
        if not reader.accept("COMMENT"):
            return None
        comments.append((name, reader.string()))
        if not reader.accept(","):
            break
    return CommentColumns(target, tuple(comments))


def _drop(reader: Reader) -> Statement | None:
    _refuse_others(reader)
    is_schema = reader.accept("SCHEMA")
    if is_schema or reader.accept("VIEW"):
        reader.existing()
        if not (is_schema and reader.accept("CASCADE")):
            reader.finish_or_refuse("drop an object with this clause")
        return None
    if not reader.accept("TABLE"):
        raise reader.refusal("drop this kind of object")
    target, if_exists = reader.existing()
    if not reader.accept("CASCADE"):
        reader.accept("RESTRICT")
    return DropTable(target, if_exists=if_exists)


def _refuse_others(reader: Reader) -> None:
    if any(reader.accept(*kind) for kind in _ACCOUNT_ONLY):
        raise reader.refusal("create or drop this kind of object")


def _truncate(reader: Reader) -> Statement:
    reader.accept("TABLE")
    target, if_exists = reader.existing()
    return TruncateTable(target, if_exists=if_exists)


def _comment(reader: Reader) -> Statement | None:
    if_exists = reader.accept("IF", "EXISTS")
    is_column = not if_exists and reader.accept("ON", "COLUMN")
    is_view = not is_column and reader.accept("ON", "VIEW")
    if not is_column and not is_view and not reader.accept("ON", "TABLE"):
        raise reader.refusal("comment on this")
    target = reader.name()
    reader.expect("IS")
    comment = reader.string()
    if is_column:
        return CommentColumns(Name(target.parts[:-1]), ((target.parts[-1], comment),))
    return CommentTable(target, comment, is_view, if_exists=if_exists)


def _show(reader: Reader) -> Statement:
    reader.accept("TERSE")
    if reader.accept("TABLES"):
        return ShowTables(reader.scope(), reader.sql)
    if reader.accept("COLUMNS", "IN"):
        reader.accept("TABLE")
        return ShowColumns(reader.name(), sql=reader.sql)
    raise reader.refusal("list this")


def _describe(reader: Reader) -> Statement:
    if not reader.accept("TABLE"):
        reader.accept("VIEW")
    if len(reader.tokens) - reader.position not in {1, 3, 5}:
        raise reader.refusal("describe this")
    return ShowColumns(reader.name(), sql=reader.sql)


def _insert_overwrite(reader: Reader) -> Statement | None:
    if reader.keyword in {"ALL", "FIRST"}:
        return None
    reader.expect("INTO")
    target = reader.name()
    columns: list[str] = []
    if reader.accept("("):
        columns = reader.listed(reader.identifier)
        reader.expect(")")
    return InsertOverwrite(target, tuple(columns), reader.rest())


def _use(reader: Reader) -> Statement:
    is_database = reader.accept("DATABASE")
    is_schema = not is_database and reader.accept("SCHEMA")
    if not is_database and not is_schema and reader.keyword in {"ROLE", "SECONDARY", "WAREHOUSE"}:
        raise unsupported("change the session's role or warehouse", repr(reader.rest()))
    name = reader.name()
    return UseSchema(name if is_schema or len(name.parts) > 1 else Name((*name.parts, DEFAULT_SCHEMA)))


def _transaction(reader: Reader) -> Statement:
    action = keyword_of(reader.tokens[0]).replace("START", "BEGIN")
    if not reader.accept("WORK"):
        reader.accept("TRANSACTION")
    if action == "BEGIN" and reader.accept("NAME"):
        reader.identifier()
    return Transaction(action)


def _set_parameters(reader: Reader) -> Statement:
    settings: list[tuple[str, str]] = []
    while not settings or not reader.at_end:
        name = reader.identifier()
        reader.expect("=")
        settings.append((name, reader.literal()))
        reader.accept(",")
    return SetParameters(tuple(settings))


def _cancel(reader: Reader) -> Statement | None:
    value = reader.literal()
    reader.expect(")")
    return CancelQueries(int(value)) if value.isdecimal() else None


# The first head that a statement starts with decides; a parser that returns None leaves the statement to fakesnow.
_HEADS: tuple[Head, ...] = (
    (("CREATE",), _create),
    (("ALTER", "TABLE"), _alter_table),
    (("DROP",), _drop),
    (("UNDROP", "TABLE"), lambda reader: UndropTable(reader.name())),
    (("TRUNCATE",), _truncate),
    (("COMMENT",), _comment),
    (("INSERT", "OVERWRITE"), _insert_overwrite),
    (("SHOW", "GRANTS", "ON", "TABLE"), lambda reader: ShowGrants(reader.name())),
    (("SHOW", "TABLES", "HISTORY"), lambda reader: Show("embedded_show_tables_history", reader.scope())),
    (("SHOW", "STREAMS"), lambda reader: Show("embedded_show_streams", reader.scope())),
    (("SHOW",), _show),
    (("DESC",), _describe),
    (("DESCRIBE",), _describe),
    (("USE",), _use),
    (("ALTER", "SESSION", "SET"), _set_parameters),
    *((words, _transaction) for words in (("BEGIN",), ("START", "TRANSACTION"), ("COMMIT",), ("ROLLBACK",))),
    (("SELECT", "SYSTEM$CANCEL_ALL_QUERIES", "("), _cancel),
)
