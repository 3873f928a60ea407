"""The statements that are executed here instead of by fakesnow, as data, and the parser that finds them.

Everything else is a `Query`, whose text goes to fakesnow as it is. Pure: nothing is looked up or executed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from run_elt_dagster.embedded.errors import unsupported
from run_elt_dagster.embedded.lexer import Token, only_statement, tokens_of
from run_elt_dagster.embedded.policy_statements import (
    policy_kind,
    read_create_policy,
    read_drop_policy,
    read_table_policy,
)
from run_elt_dagster.embedded.reader import Name, Reader, Scope, Statement, name_in
from run_elt_dagster.embedded.schema_statements import read_alter_schema, read_create_schema
from run_elt_dagster.embedded.stream_statements import ShowStreams, read_create_stream, read_drop_stream

# https://docs.snowflake.com/en/sql-reference/sql/create-table: properties of a table that change no result here.
_IGNORED_PROPERTIES = frozenset({"DATA_RETENTION_TIME_IN_DAYS", "MAX_DATA_EXTENSION_TIME_IN_DAYS", "CHANGE_TRACKING"})
KINDS = ("DYNAMIC TABLE", "EXTERNAL TABLE", "ICEBERG TABLE", "MATERIALIZED VIEW")
_AFTER_ITEMS = frozenset(
    {"FROM", "WHERE", "HAVING", "QUALIFY", "ORDER", "LIMIT", "OFFSET", "FETCH", "UNION", "EXCEPT", "MINUS"}
    | {"INTERSECT", "INTO", ")", ";"}
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

    @property
    def describable(self) -> bool:
        """Whether its columns can be told without executing it."""
        return self.sql.lstrip("(")[:6].strip().upper() in {"SELECT", "WITH", "VALUES"}


@dataclass(frozen=True)
class Creation:
    """What CREATE TABLE says besides what the table holds."""

    or_replace: bool = False
    if_not_exists: bool = False
    transient: bool = False
    comment: str | None = None
    copy_grants: bool = False
    copy_tags: bool = False
    tags: tuple[tuple[Name, str], ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class CreateTable(Statement):
    """CREATE TABLE with columns, AS a query, or both; other kinds of tables too, and materialized views."""

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
class SwapTables(Statement):
    """ALTER TABLE ... SWAP WITH."""

    target: Name
    other: Name
    if_exists: bool


@dataclass(frozen=True)
class RenameTable(Statement):
    """ALTER TABLE ... RENAME TO."""

    target: Name
    to: Name
    if_exists: bool


@dataclass(frozen=True)
class DropTable(Statement):
    """DROP TABLE, or DROP of another kind of table."""

    target: Name
    if_exists: bool
    kind: str = ""


@dataclass(frozen=True)
class UndropTable(Statement):
    """UNDROP TABLE."""

    target: Name


@dataclass(frozen=True)
class TruncateTable(Statement):
    """TRUNCATE TABLE."""

    target: Name
    if_exists: bool


@dataclass(frozen=True)
class CommentTable(Statement):
    """COMMENT ON TABLE, ALTER TABLE ... SET COMMENT and UNSET COMMENT."""

    target: Name
    comment: str | None
    if_exists: bool


@dataclass(frozen=True)
class CommentColumns(Statement):
    """ALTER TABLE ... MODIFY COLUMN ... COMMENT, for one column or several."""

    target: Name
    comments: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TagTable(Statement):
    """ALTER TABLE ... SET TAG and UNSET TAG; a value of None unsets."""

    target: Name
    tags: tuple[tuple[Name, str | None], ...]
    if_exists: bool


@dataclass(frozen=True)
class ClusterTable(Statement):
    """ALTER TABLE ... CLUSTER BY, DROP CLUSTERING KEY, SUSPEND RECLUSTER and RESUME RECLUSTER."""

    target: Name
    if_exists: bool


@dataclass(frozen=True)
class InsertOverwrite(Statement):
    """INSERT OVERWRITE INTO."""

    target: Name
    columns: tuple[str, ...]
    query_sql: str


@dataclass(frozen=True)
class Grant(Statement):
    """GRANT or REVOKE privileges on one table."""

    target: Name
    privileges: tuple[str, ...]
    grantee_kind: str
    grantee: str
    grant_option: bool = False
    revoke: bool = False


@dataclass(frozen=True)
class ShowGrants(Statement):
    """SHOW GRANTS ON TABLE. It may write: whatever names a table registers it if need be."""

    target: Name


@dataclass(frozen=True)
class ShowTablesHistory(Statement):
    """SHOW TABLES HISTORY, which lists dropped tables too."""

    scope: Scope
    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class CreateRole(Statement):
    """CREATE ROLE."""

    role: str
    or_replace: bool
    if_not_exists: bool


@dataclass(frozen=True)
class DropRole(Statement):
    """DROP ROLE."""

    role: str
    if_exists: bool


@dataclass(frozen=True)
class UseObject(Statement):
    """USE ROLE, WAREHOUSE, DATABASE and SCHEMA."""

    kind: str
    name: Name
    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class AlterSession(Statement):
    """ALTER SESSION SET and UNSET."""

    settings: tuple[tuple[str, str], ...] = ()
    unset: tuple[str, ...] = ()
    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class CancelQueries(Statement):
    """SELECT SYSTEM$CANCEL_ALL_QUERIES(session) or SYSTEM$CANCEL_QUERY(query)."""

    session_id: int | None = None
    query_id: str | None = None
    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class ResultScan(Statement):
    """SELECT * FROM TABLE(RESULT_SCAN(...)); no id stands for the session's last query."""

    query_id: str | None
    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class GetTag(Statement):
    """SELECT SYSTEM$GET_TAG(tag, table, 'table'). It may write: whatever names a table registers it if need be."""

    tag: str
    target: Name


@dataclass(frozen=True)
class Transaction(Statement):
    """BEGIN, COMMIT and ROLLBACK."""

    action: str


def parse(sql: str) -> Statement:
    """Return the one statement in a text.

    Raises:
        SqlError: The text holds no statement or several, or a statement that is executed here breaks its syntax.
    """
    reader = Reader(sql, only_statement(sql))
    for keywords, read in _HEADS:
        if reader.accept(*keywords):
            statement = read(reader)
            if statement is not None:
                reader.finish()
                return statement
            reader.position = 0
    return Query(sql[reader.tokens[0].start : reader.tokens[-1].end], reader.tokens[0].keyword in _READING)


def _create(reader: Reader) -> Statement | None:
    or_replace = reader.accept("OR", "REPLACE")
    if reader.accept("ROLE"):
        if_not_exists = reader.accept("IF", "NOT", "EXISTS")
        return CreateRole(reader.identifier(), or_replace, if_not_exists)
    if (policy := policy_kind(reader)) is not None:
        return read_create_policy(reader, policy, or_replace=or_replace)
    if reader.accept("STREAM"):
        return read_create_stream(reader, or_replace=or_replace)
    if not or_replace and reader.accept("SCHEMA"):
        return read_create_schema(reader)
    transient = reader.accept("TRANSIENT")
    kind = _kind(reader)
    if kind is None:
        return None
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    return _create_table(reader, Creation(or_replace, if_not_exists, transient, kind=kind))


def _kind(reader: Reader) -> str | None:
    """Read which kind of table comes next: empty for an ordinary one, None if something else does."""
    if reader.accept("HYBRID"):
        raise unsupported("create tables of this kind", repr(reader.sql[:200]))
    for kind in KINDS:
        if reader.accept(*kind.split()):
            return kind
    return "" if reader.accept("TABLE") else None


def _create_table(reader: Reader, creation: Creation) -> Statement:
    target = reader.name()
    options = _Options(creation)
    columns = _columns(reader)
    if columns is not None and creation.kind == "EXTERNAL TABLE":
        columns = _stored_columns(columns)
    if reader.keyword in {"CLONE", "LIKE"} and creation.kind:
        raise unsupported("clone tables of this kind", repr(reader.sql[:200]))
    if reader.keyword in {"CLONE", "LIKE"}:
        with_rows = reader.next().keyword == "CLONE"
        source = reader.name()
        _table_options(reader, options)
        return CloneTable(target, source, options.made(), with_rows)
    _table_options(reader, options)
    query = reader.rest() if reader.accept("AS") else None
    if columns is None and query is None:
        raise reader.failure()
    return CreateTable(target, options.made(), columns, query)


def _columns(reader: Reader) -> str | None:
    return reader.parenthesised() if reader.keyword == "(" else None


@dataclass
class _Options:
    """The clauses of CREATE TABLE as far as they have been read."""

    start: Creation
    comment: str | None = None
    copied: set[str] = field(default_factory=set[str])
    tags: list[tuple[Name, str]] = field(default_factory=list[tuple[Name, str]])

    def made(self) -> Creation:
        return Creation(
            self.start.or_replace,
            self.start.if_not_exists,
            self.start.transient,
            self.comment,
            "GRANTS" in self.copied,
            "TAGS" in self.copied,
            tuple(self.tags),
            self.start.kind,
        )


def _table_options(reader: Reader, options: _Options) -> None:
    while not reader.at_end and reader.keyword != "AS":
        if reader.accept("COMMENT"):
            reader.accept("=")
            options.comment = reader.string()
        elif reader.accept("COPY", "GRANTS"):
            options.copied.add("GRANTS")
        elif reader.accept("COPY", "TAGS"):
            options.copied.add("TAGS")
        elif reader.accept("CLUSTER", "BY"):
            reader.parenthesised()
        elif reader.accept("TAG", "(") or reader.accept("WITH", "TAG", "("):
            options.tags.extend(_tag_settings(reader))
            reader.expect(")")
        elif options.start.kind and [token.text for token in reader.ahead(2)][1:] == ["="]:
            _skip_property(reader)
        elif options.start.kind and reader.accept("WITH", "LOCATION", "="):
            _skip_value(reader)
        elif reader.keyword in _IGNORED_PROPERTIES:
            reader.next()
            reader.expect("=")
            reader.literal()
        else:
            raise unsupported("create a table with this clause", repr(reader.rest()))


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
    while not reader.at_end and reader.ahead(1)[0].start == last.end and reader.keyword != ",":
        last = reader.next()


def _stored_columns(columns_sql: str) -> str:
    """Return the columns of an external table without what they read from its files: `a int AS (value:c1::int)`."""
    tokens = tokens_of(columns_sql)
    kept, position, depth, start = "", 0, 0, 0
    for index, token in enumerate(tokens):
        if depth == 1 and token.keyword == "AS" and tokens[index + 1].keyword == "(":
            kept, start = kept + columns_sql[position : token.start], token.start
        depth += _depth_of(token)
        if start and depth == 1 and token.keyword == ")":
            position, start = token.end, 0
    return kept + columns_sql[position:]


def _tag_settings(reader: Reader) -> list[tuple[Name, str]]:
    return reader.listed(lambda: _tag_setting(reader))


def _tag_setting(reader: Reader) -> tuple[Name, str]:
    tag = reader.name()
    reader.expect("=")
    return tag, reader.string()


def _alter_table(reader: Reader) -> Statement | None:
    if_exists = reader.accept("IF", "EXISTS")
    target = reader.name()
    if reader.accept("SWAP", "WITH"):
        return SwapTables(target, reader.name(), if_exists)
    if reader.accept("RENAME", "TO"):
        return RenameTable(target, reader.name(), if_exists)
    policy = read_table_policy(reader, target, if_exists=if_exists)
    return policy or _alter_table_properties(reader, target, if_exists=if_exists)


def _alter_table_properties(reader: Reader, target: Name, *, if_exists: bool) -> Statement | None:
    if reader.accept("SET", "COMMENT"):
        reader.expect("=")
        return CommentTable(target, reader.string(), if_exists)
    if reader.accept("UNSET", "COMMENT"):
        return CommentTable(target, None, if_exists)
    if [token.keyword for token in reader.ahead(2)] == ["MODIFY", "COLUMN"]:
        return _column_comments(reader, target)
    if reader.accept("SET", "TAG"):
        return TagTable(target, tuple(_tag_settings(reader)), if_exists)
    if reader.accept("UNSET", "TAG"):
        return TagTable(target, tuple((tag, None) for tag in reader.listed(reader.name)), if_exists)
    return ClusterTable(target, if_exists) if _changes_clustering(reader) else None


def _column_comments(reader: Reader, target: Name) -> Statement | None:
    reader.accept("MODIFY")
    comments: list[tuple[str, str]] = []
    while reader.accept("COLUMN"):
        name = reader.identifier()
        if not reader.accept("COMMENT"):
            return None
        comments.append((name, reader.string()))
        if not reader.accept(","):
            break
    return CommentColumns(target, tuple(comments))


def _changes_clustering(reader: Reader) -> bool:
    if reader.accept("CLUSTER", "BY"):
        reader.parenthesised()
        return True
    return any(
        reader.accept(*words)
        for words in (("RESUME", "RECLUSTER"), ("SUSPEND", "RECLUSTER"), ("DROP", "CLUSTERING", "KEY"))
    )


def labels_of(sql: str) -> list[str] | None:
    """Return what Snowflake calls the columns of a query that have no alias: their text, in upper case unless quoted.

    There is one label for each item of the outermost SELECT, or None where a query begins in another way.
    """
    reader = Reader(sql, only_statement(sql))
    while reader.accept("("):
        pass
    depth = 0
    while not (depth == 0 and reader.accept("SELECT")):
        if reader.at_end:
            return None
        depth += _depth_of(reader.next())
    if not reader.accept("DISTINCT"):
        reader.accept("ALL")
    items: list[list[Token]] = [[]]
    while not reader.at_end and not (depth == 0 and _ends_items(reader)):
        token = reader.next()
        depth += _depth_of(token)
        if depth == 0 and token.keyword == ",":
            items.append([])
        else:
            items[-1].append(token)
    return [_label(sql, item) for item in items]


def _ends_items(reader: Reader) -> bool:
    """Return whether the list of a SELECT is over; the GROUP of WITHIN GROUP belongs to it."""
    return reader.keyword in _AFTER_ITEMS or [token.keyword for token in reader.ahead(2)] == ["GROUP", "BY"]


def _label(sql: str, item: Sequence[Token]) -> str:
    label, end = "", item[0].start if item else 0
    for token in item:
        space = " " if token.start > end else ""
        label += space + (token.text.upper() if token.kind == "word" else sql[token.start : token.end])
        end = token.end
    return label


def _depth_of(token: Token) -> int:
    return {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.keyword, 0)


def _drop(reader: Reader) -> Statement | None:
    if reader.accept("ROLE"):
        if_exists = reader.accept("IF", "EXISTS")
        return DropRole(reader.identifier(), if_exists)
    if reader.accept("STREAM"):
        return read_drop_stream(reader)
    if (policy := policy_kind(reader)) is not None:
        return read_drop_policy(reader, policy)
    kind = _kind(reader)
    if kind is None:
        return None
    if_exists = reader.accept("IF", "EXISTS")
    target = reader.name()
    if not reader.accept("CASCADE"):
        reader.accept("RESTRICT")
    return DropTable(target, if_exists, kind)


def _truncate(reader: Reader) -> Statement:
    reader.accept("TABLE")
    if_exists = reader.accept("IF", "EXISTS")
    return TruncateTable(reader.name(), if_exists)


def _comment(reader: Reader) -> Statement | None:
    if_exists = reader.accept("IF", "EXISTS")
    if not reader.accept("ON", "TABLE"):
        return None
    target = reader.name()
    reader.expect("IS")
    return CommentTable(target, reader.string(), if_exists)


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


def _grant(reader: Reader) -> Statement:
    privileges, target = _privileges_on_table(reader)
    reader.expect("TO")
    kind, grantee = _grantee(reader)
    option = reader.accept("WITH", "GRANT", "OPTION")
    if reader.keyword in {"COPY", "REVOKE"}:
        raise unsupported("move the ownership of a table with this clause", repr(reader.rest()))
    return Grant(target, privileges, kind, grantee, grant_option=option)


def _revoke(reader: Reader) -> Statement:
    option = reader.accept("GRANT", "OPTION", "FOR")
    privileges, target = _privileges_on_table(reader)
    reader.expect("FROM")
    kind, grantee = _grantee(reader)
    if not reader.accept("CASCADE"):
        reader.accept("RESTRICT")
    return Grant(target, privileges, kind, grantee, grant_option=option, revoke=True)


def _privileges_on_table(reader: Reader) -> tuple[tuple[str, ...], Name]:
    privileges = reader.listed(lambda: _privilege(reader))
    reader.expect("ON")
    if not reader.accept("TABLE"):
        raise unsupported("grant on anything but one table", repr(reader.sql))
    return tuple(privileges), reader.name()


def _privilege(reader: Reader) -> str:
    words = [reader.identifier()]
    while reader.keyword not in {",", "ON"}:
        words.append(reader.identifier())
    return " ".join(words)


def _grantee(reader: Reader) -> tuple[str, str]:
    if reader.accept("DATABASE", "ROLE"):
        return "DATABASE_ROLE", str(reader.name())
    if reader.accept("SHARE"):
        return "SHARE", reader.identifier()
    reader.accept("ROLE")
    return "ROLE", reader.identifier()


def _use(reader: Reader) -> Statement:
    if reader.accept("SECONDARY", "ROLES"):
        return UseObject("SECONDARY ROLES", reader.name())
    for kind in ("ROLE", "WAREHOUSE", "DATABASE", "SCHEMA"):
        if reader.accept(kind):
            return UseObject(kind, reader.name())
    name = reader.name()
    return UseObject("DATABASE" if len(name.parts) == 1 else "SCHEMA", name)


def _set_session(reader: Reader) -> Statement:
    settings: list[tuple[str, str]] = []
    while not reader.at_end:
        name = reader.identifier()
        reader.expect("=")
        settings.append((name, reader.literal()))
        reader.accept(",")
    if not settings:
        raise reader.failure()
    return AlterSession(settings=tuple(settings))


def _unset_session(reader: Reader) -> Statement:
    return AlterSession(unset=tuple(reader.listed(reader.identifier)))


def _cancel(reader: Reader) -> Statement | None:
    function = reader.tokens[reader.position - 2].keyword
    value = reader.literal()
    reader.expect(")")
    if function == "SYSTEM$CANCEL_QUERY":
        return CancelQueries(query_id=value)
    return CancelQueries(session_id=int(value)) if value.isdecimal() else None


def _result_scan(reader: Reader) -> Statement | None:
    query_id = None
    if not reader.accept("LAST_QUERY_ID", "(", ")"):
        query_id = reader.literal()
    if not reader.accept(")", ")") or not reader.at_end:
        return None
    return ResultScan(query_id)


def _get_tag(reader: Reader) -> Statement | None:
    tag = reader.string()
    reader.expect(",")
    target = reader.string()
    reader.expect(",")
    if reader.string().upper() != "TABLE":
        return None
    reader.expect(")")
    return GetTag(name_in(tag).parts[-1], name_in(target))


def _transaction(reader: Reader) -> Statement:
    action = reader.tokens[0].keyword.replace("START", "BEGIN")
    if not reader.accept("WORK"):
        reader.accept("TRANSACTION")
    if action == "BEGIN" and reader.accept("NAME"):
        reader.identifier()
    return Transaction(action)


# The first head that a statement starts with decides; a parser that returns None leaves the statement to fakesnow.
_HEADS: tuple[tuple[tuple[str, ...], Callable[[Reader], Statement | None]], ...] = (
    (("CREATE",), _create),
    (("ALTER", "TABLE"), _alter_table),
    (("ALTER", "SESSION", "SET"), _set_session),
    (("ALTER", "SESSION", "UNSET"), _unset_session),
    (("DROP",), _drop),
    (("UNDROP", "TABLE"), lambda reader: UndropTable(reader.name())),
    (("TRUNCATE",), _truncate),
    (("COMMENT",), _comment),
    (("INSERT", "OVERWRITE"), _insert_overwrite),
    (("GRANT",), _grant),
    (("REVOKE",), _revoke),
    (("SHOW", "GRANTS", "ON", "TABLE"), lambda reader: ShowGrants(reader.name())),
    (("SHOW", "TABLES", "HISTORY"), lambda reader: ShowTablesHistory(reader.scope())),
    (("SHOW", "STREAMS"), lambda reader: ShowStreams(reader.scope())),
    (("ALTER", "SCHEMA"), read_alter_schema),
    (("USE",), _use),
    (("SELECT", "SYSTEM$CANCEL_ALL_QUERIES", "("), _cancel),
    (("SELECT", "SYSTEM$CANCEL_QUERY", "("), _cancel),
    (("SELECT", "SYSTEM$GET_TAG", "("), _get_tag),
    (("SELECT", "*", "FROM", "TABLE", "(", "RESULT_SCAN", "("), _result_scan),
    (("BEGIN",), _transaction),
    (("START", "TRANSACTION"), _transaction),
    (("COMMIT",), _transaction),
    (("ROLLBACK",), _transaction),
)
