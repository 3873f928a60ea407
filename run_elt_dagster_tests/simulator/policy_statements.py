"""The statements about policies, as data, and their parsers.

https://docs.snowflake.com/en/sql-reference/sql/create-masking-policy,
https://docs.snowflake.com/en/sql-reference/sql/create-row-access-policy,
https://docs.snowflake.com/en/sql-reference/sql/create-projection-policy,
https://docs.snowflake.com/en/sql-reference/sql/create-aggregation-policy and
https://docs.snowflake.com/en/sql-reference/sql/create-join-policy
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from run_elt_dagster.dialect.lexer import keyword_of
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded.reader import Clause, Head, Name, Reader, Statement
from run_elt_dagster.embedded.statements import CreateTable, parse

MASKING, PROJECTION = "MASKING_POLICY", "PROJECTION_POLICY"
ROW_ACCESS, AGGREGATION, JOIN = "ROW_ACCESS_POLICY", "AGGREGATION_POLICY", "JOIN_POLICY"
KINDS = (MASKING, PROJECTION, ROW_ACCESS, AGGREGATION, JOIN)
# What stands before the columns of a policy that groups or joins.
_KEYS = {AGGREGATION: ("ENTITY", "KEY"), JOIN: ("ALLOWED", "JOIN", "KEYS")}


@dataclass(frozen=True)
class CreatePolicy(Statement):
    """CREATE ... POLICY; the body is kept as it is written."""

    kind: str
    name: Name
    body_sql: str
    or_replace: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True)
class DropPolicy(Statement):
    """DROP ... POLICY."""

    kind: str
    name: Name
    if_exists: bool


@dataclass(frozen=True)
class MaskColumn(Statement):
    """ALTER TABLE ... MODIFY COLUMN ... SET MASKING or PROJECTION POLICY; without a policy it is UNSET."""

    target: Name
    column: str
    policy: Name | None
    using: tuple[str, ...] = ()
    force: bool = False
    if_exists: bool = False
    kind: str = MASKING


@dataclass(frozen=True)
class ConstrainTable(Statement):
    """ALTER TABLE ... SET AGGREGATION or JOIN POLICY; without a policy it is UNSET."""

    target: Name
    kind: str
    policy: Name | None
    key: tuple[str, ...] = ()
    force: bool = False
    if_exists: bool = False


@dataclass(frozen=True)
class ColumnPolicy:
    """The policy of a column in CREATE TABLE ... AS, behind the column's type."""

    kind: str
    column: str
    policy: Name
    using: tuple[str, ...] = ()


@dataclass(frozen=True)
class TablePolicy:
    """The policy of a table in CREATE TABLE."""

    kind: str
    policy: Name
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class RestrictRows(Statement):
    """ALTER TABLE ... ADD ROW ACCESS POLICY."""

    target: Name
    policy: Name
    columns: tuple[str, ...]
    if_exists: bool = False


@dataclass(frozen=True)
class FreeRows(Statement):
    """ALTER TABLE ... DROP ROW ACCESS POLICY; without a policy all of them."""

    target: Name
    policy: Name | None
    if_exists: bool = False


@dataclass(frozen=True)
class DescribePolicy(Statement):
    """DESCRIBE ... POLICY."""

    kind: str
    name: Name


def _describe(reader: Reader) -> Statement | None:
    kind = policy_kind(reader)
    return None if kind is None else DescribePolicy(kind, reader.name())


def _create(reader: Reader) -> Statement | None:
    or_replace = reader.accept("OR", "REPLACE")
    kind = policy_kind(reader)
    if kind is not None:
        return read_create_policy(reader, kind, or_replace=or_replace)
    reader.accept("TRANSIENT")
    return _create_protected(reader) if reader.accept("TABLE") else None


def _create_protected(reader: Reader) -> Statement | None:
    """Read CREATE TABLE ... AS whose list of columns has policies; None where it has none.

    A policy stands behind the type of its column: https://docs.snowflake.com/en/sql-reference/sql/create-table. The types are those
    of the query, so the server is told the names alone.
    """
    reader.name()
    first = reader.position
    if reader.keyword != "(":
        return None
    reader.parenthesised()
    end = reader.position
    if not any(keyword_of(token) == "POLICY" for token in reader.tokens[first:end]):
        return None
    reader.position = first + 1
    found: list[ColumnPolicy] = []
    names = reader.listed(lambda: _protected_column(reader, found))
    reader.expect(")")
    listed = ", ".join(map(quoted, names))
    sql = f"{reader.sql[: reader.tokens[first].start]}({listed}){reader.sql[reader.tokens[end - 1].end + 1 :]}"
    statement = parse(sql, (), reader.clauses)
    reader.rest()
    if not isinstance(statement, CreateTable) or statement.query_sql is None:
        raise reader.refusal("create a table with policies on its columns, but for one AS a query")
    creation = replace(statement.creation, clauses=(*statement.creation.clauses, *found))
    return replace(statement, creation=creation)


def _protected_column(reader: Reader, found: list[ColumnPolicy]) -> str:
    """Read a column with its type and its policies, and return its name."""
    column, start = reader.identifier(), reader.position
    while reader.keyword not in {",", ")", "WITH", "MASKING", "PROJECTION"}:
        if reader.keyword == "(":
            reader.parenthesised()
        else:
            reader.next()
    is_typed = reader.position > start
    while reader.keyword not in {",", ")"}:
        reader.accept("WITH")
        kind = next((kind for kind in (MASKING, PROJECTION) if reader.accept(*kind.split("_"))), None)
        if kind is None or not is_typed:
            raise reader.refusal("set this policy in the list of columns, or one of a column without a type")
        policy = reader.name()
        using = _columns(reader) if kind == MASKING and reader.accept("USING") else ()
        found.append(ColumnPolicy(kind, column, policy, using))
    return column


def _row_access_clause(reader: Reader) -> TablePolicy:
    policy = reader.name()
    reader.expect("ON")
    return TablePolicy(ROW_ACCESS, policy, _columns(reader))


def _query_clause(kind: str) -> Callable[[Reader], TablePolicy]:
    def read(reader: Reader) -> TablePolicy:
        policy = reader.name()
        return TablePolicy(kind, policy, _columns(reader) if reader.accept(*_KEYS[kind]) else ())

    return read


def _drop(reader: Reader) -> Statement | None:
    kind = policy_kind(reader)
    return None if kind is None else read_drop_policy(reader, kind)


def _alter_table(reader: Reader) -> Statement | None:
    if_exists = reader.accept("IF", "EXISTS")
    return read_table_policy(reader, reader.name(), if_exists=if_exists)


def policy_kind(reader: Reader) -> str | None:
    """Read which kind of policy comes next, None if no policy does."""
    return next((kind for kind in KINDS if reader.accept(*kind.split("_"))), None)


def read_create_policy(reader: Reader, kind: str, *, or_replace: bool) -> CreatePolicy:
    """Read what follows CREATE ... POLICY."""
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    name = reader.name()
    reader.expect("AS")
    if reader.keyword != "(":
        raise reader.failure()
    return CreatePolicy(kind, name, reader.rest(), or_replace, if_not_exists)


def read_drop_policy(reader: Reader, kind: str) -> DropPolicy:
    """Read what follows DROP ... POLICY."""
    if_exists = reader.accept("IF", "EXISTS")
    return DropPolicy(kind, reader.name(), if_exists)


def read_table_policy(reader: Reader, target: Name, *, if_exists: bool) -> Statement | None:
    """Read a change of a table's policies; None, and nothing read, if something else comes next."""
    start = reader.position
    for read in (_row_access, _column_policy, _query_policy):
        reader.position = start
        if (statement := read(reader, target, if_exists)) is not None:
            return statement
    reader.position = start
    return None


def _row_access(reader: Reader, target: Name, if_exists: bool) -> Statement | None:
    if reader.accept("ADD", "ROW", "ACCESS", "POLICY"):
        policy = reader.name()
        reader.expect("ON")
        return RestrictRows(target, policy, _columns(reader), if_exists)
    if reader.accept("DROP", "ROW", "ACCESS", "POLICY"):
        return FreeRows(target, reader.name(), if_exists)
    return FreeRows(target, None, if_exists) if reader.accept("DROP", "ALL", "ROW", "ACCESS", "POLICIES") else None


def _column_policy(reader: Reader, target: Name, if_exists: bool) -> Statement | None:
    if not (reader.accept("MODIFY") or reader.accept("ALTER")):
        return None
    reader.accept("COLUMN")
    column = reader.identifier()
    for kind in (MASKING, PROJECTION):
        if reader.accept("UNSET", *kind.split("_")):
            return MaskColumn(target, column, None, if_exists=if_exists, kind=kind)
        if reader.accept("SET", *kind.split("_")):
            policy = reader.name()
            using = _columns(reader) if kind == MASKING and reader.accept("USING") else ()
            return MaskColumn(target, column, policy, using, reader.accept("FORCE"), if_exists, kind)
    return None


def _query_policy(reader: Reader, target: Name, if_exists: bool) -> Statement | None:
    for kind in (AGGREGATION, JOIN):
        if reader.accept("UNSET", *kind.split("_")):
            return ConstrainTable(target, kind, None, if_exists=if_exists)
        if reader.accept("SET", *kind.split("_")):
            policy = reader.name()
            key = _columns(reader) if reader.accept(*_KEYS[kind]) else ()
            return ConstrainTable(target, kind, policy, key, reader.accept("FORCE"), if_exists)
    return None


def _columns(reader: Reader) -> tuple[str, ...]:
    reader.expect("(")
    columns = reader.listed(reader.identifier)
    reader.expect(")")
    return tuple(columns)


_TABLE_CLAUSES: tuple[Clause, ...] = (
    (("ROW", "ACCESS", "POLICY"), _row_access_clause),
    (("AGGREGATION", "POLICY"), _query_clause(AGGREGATION)),
    (("JOIN", "POLICY"), _query_clause(JOIN)),
)
CLAUSES: tuple[Clause, ...] = tuple(
    (words, read) for keywords, read in _TABLE_CLAUSES for words in (keywords, ("WITH", *keywords))
)
HEADS: tuple[Head, ...] = (
    (("CREATE",), _create),
    (("DROP",), _drop),
    (("ALTER", "TABLE"), _alter_table),
    (("DESCRIBE",), _describe),
)
