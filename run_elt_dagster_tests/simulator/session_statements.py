"""The statements about a session itself, as data, and their parsers: https://docs.snowflake.com/en/sql-reference/sql/alter-session."""

from dataclasses import dataclass
from typing import ClassVar

from run_elt_dagster.dialect.lexer import keyword_of
from run_elt_dagster.embedded.reader import Head, Name, Reader, Statement
from run_elt_dagster.embedded.statements import CancelQueries


@dataclass(frozen=True)
class UseObject(Statement):
    """USE ROLE, WAREHOUSE and SECONDARY ROLES."""

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
class CancelQuery(CancelQueries):
    """SELECT SYSTEM$CANCEL_QUERY(query)."""

    session_id: int = 0
    query_id: str = ""


@dataclass(frozen=True)
class ResultScan(Statement):
    """SELECT * FROM TABLE(RESULT_SCAN(...)); no id stands for the session's last query."""

    query_id: str | None
    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class Transaction(Statement):
    """BEGIN, COMMIT and ROLLBACK. BEGIN takes no lock, and the others end what has one."""

    action: str
    writes: ClassVar[bool] = False


def _use(reader: Reader) -> Statement | None:
    if reader.accept("SECONDARY", "ROLES"):
        return UseObject("SECONDARY ROLES", reader.name())
    for kind in ("ROLE", "WAREHOUSE"):
        if reader.accept(kind):
            return UseObject(kind, reader.name())
    return None


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


def _cancel(reader: Reader) -> Statement:
    query_id = reader.literal()
    reader.expect(")")
    return CancelQuery(query_id=query_id)


def _result_scan(reader: Reader) -> Statement | None:
    query_id = None
    if not reader.accept("LAST_QUERY_ID", "(", ")"):
        query_id = reader.literal()
    if not reader.accept(")", ")") or not reader.at_end:
        return None
    return ResultScan(query_id)


def _transaction(reader: Reader) -> Statement:
    action = keyword_of(reader.tokens[0]).replace("START", "BEGIN")
    if not reader.accept("WORK"):
        reader.accept("TRANSACTION")
    if action == "BEGIN" and reader.accept("NAME"):
        reader.identifier()
    return Transaction(action)


HEADS: tuple[Head, ...] = (
    (("ALTER", "SESSION", "SET"), _set_session),
    (("ALTER", "SESSION", "UNSET"), _unset_session),
    (("USE",), _use),
    (("SELECT", "SYSTEM$CANCEL_QUERY", "("), _cancel),
    (("SELECT", "*", "FROM", "TABLE", "(", "RESULT_SCAN", "("), _result_scan),
    (("BEGIN",), _transaction),
    (("START", "TRANSACTION"), _transaction),
    (("COMMIT",), _transaction),
    (("ROLLBACK",), _transaction),
)
