"""The statements about masking and row access policies, as data, and their parsers.

https://docs.snowflake.com/en/sql-reference/sql/create-masking-policy and
https://docs.snowflake.com/en/sql-reference/sql/create-row-access-policy
"""

from dataclasses import dataclass

from run_elt_dagster.embedded.reader import Head, Name, Reader, Statement

MASKING = "MASKING_POLICY"
ROW_ACCESS = "ROW_ACCESS_POLICY"


@dataclass(frozen=True)
class CreatePolicy(Statement):
    """CREATE MASKING POLICY and CREATE ROW ACCESS POLICY; the body is kept as it is written."""

    kind: str
    name: Name
    body_sql: str
    or_replace: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True)
class DropPolicy(Statement):
    """DROP MASKING POLICY and DROP ROW ACCESS POLICY."""

    kind: str
    name: Name
    if_exists: bool


@dataclass(frozen=True)
class MaskColumn(Statement):
    """ALTER TABLE ... MODIFY COLUMN ... SET MASKING POLICY; without a policy it is UNSET."""

    target: Name
    column: str
    policy: Name | None
    using: tuple[str, ...] = ()
    force: bool = False
    if_exists: bool = False


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
    """DESCRIBE MASKING POLICY and DESCRIBE ROW ACCESS POLICY."""

    kind: str
    name: Name


def _describe(reader: Reader) -> Statement | None:
    kind = policy_kind(reader)
    return None if kind is None else DescribePolicy(kind, reader.name())


def _create(reader: Reader) -> Statement | None:
    or_replace = reader.accept("OR", "REPLACE")
    kind = policy_kind(reader)
    return None if kind is None else read_create_policy(reader, kind, or_replace=or_replace)


def _drop(reader: Reader) -> Statement | None:
    kind = policy_kind(reader)
    return None if kind is None else read_drop_policy(reader, kind)


def _alter_table(reader: Reader) -> Statement | None:
    if_exists = reader.accept("IF", "EXISTS")
    return read_table_policy(reader, reader.name(), if_exists=if_exists)


def policy_kind(reader: Reader) -> str | None:
    """Read which kind of policy comes next, None if no policy does."""
    if reader.accept("MASKING", "POLICY"):
        return MASKING
    return ROW_ACCESS if reader.accept("ROW", "ACCESS", "POLICY") else None


def read_create_policy(reader: Reader, kind: str, *, or_replace: bool) -> CreatePolicy:
    """Read what follows CREATE MASKING POLICY or CREATE ROW ACCESS POLICY."""
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    name = reader.name()
    reader.expect("AS")
    if reader.keyword != "(":
        raise reader.failure()
    return CreatePolicy(kind, name, reader.rest(), or_replace, if_not_exists)


def read_drop_policy(reader: Reader, kind: str) -> DropPolicy:
    """Read what follows DROP MASKING POLICY or DROP ROW ACCESS POLICY."""
    if_exists = reader.accept("IF", "EXISTS")
    return DropPolicy(kind, reader.name(), if_exists)


def read_table_policy(reader: Reader, target: Name, *, if_exists: bool) -> Statement | None:
    """Read a change of a table's policies; None, and nothing read, if something else comes next."""
    start = reader.position
    if reader.accept("ADD", "ROW", "ACCESS", "POLICY"):
        policy = reader.name()
        reader.expect("ON")
        return RestrictRows(target, policy, _columns(reader), if_exists)
    if reader.accept("DROP", "ROW", "ACCESS", "POLICY"):
        return FreeRows(target, reader.name(), if_exists)
    if reader.accept("DROP", "ALL", "ROW", "ACCESS", "POLICIES"):
        return FreeRows(target, None, if_exists)
    if reader.accept("MODIFY") or reader.accept("ALTER"):
        reader.accept("COLUMN")
        column = reader.identifier()
        if reader.accept("UNSET", "MASKING", "POLICY"):
            return MaskColumn(target, column, None, if_exists=if_exists)
        if reader.accept("SET", "MASKING", "POLICY"):
            policy = reader.name()
            using = _columns(reader) if reader.accept("USING") else ()
            return MaskColumn(target, column, policy, using, reader.accept("FORCE"), if_exists)
    reader.position = start
    return None


def _columns(reader: Reader) -> tuple[str, ...]:
    reader.expect("(")
    columns = reader.listed(reader.identifier)
    reader.expect(")")
    return tuple(columns)


HEADS: tuple[Head, ...] = (
    (("CREATE",), _create),
    (("DROP",), _drop),
    (("ALTER", "TABLE"), _alter_table),
    (("DESCRIBE",), _describe),
)
