"""The statements about privileges and roles, as data, and their parsers.

https://docs.snowflake.com/en/sql-reference/sql/grant-privilege and
https://docs.snowflake.com/en/sql-reference/sql/create-role
"""

from dataclasses import dataclass

from run_elt_dagster.dialect.errors import unsupported
from run_elt_dagster.embedded.reader import Head, Name, Reader, Statement


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


def _create_role(reader: Reader, *, or_replace: bool) -> Statement:
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    return CreateRole(reader.identifier(), or_replace, if_not_exists)


def _drop_role(reader: Reader) -> Statement:
    if_exists = reader.accept("IF", "EXISTS")
    return DropRole(reader.identifier(), if_exists)


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


HEADS: tuple[Head, ...] = (
    (("GRANT",), _grant),
    (("REVOKE",), _revoke),
    (("CREATE", "ROLE"), lambda reader: _create_role(reader, or_replace=False)),
    (("CREATE", "OR", "REPLACE", "ROLE"), lambda reader: _create_role(reader, or_replace=True)),
    (("DROP", "ROLE"), _drop_role),
)
