"""An account, one schema in it, one table of that: what a test does with them, over the project's own session."""

import json
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from run_elt_dagster.model.candidate import Marker, candidate_of, marker_in, target_of
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.rollback import Rollback
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.settings import SECRET_VARIABLES
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.runner import RunContext, StatementRunner
from run_elt_dagster.snowflake.session import Answer, Connect, ConnectorSession
from run_elt_dagster_tests.simulator import SimulatedServer
from run_elt_dagster_tests.support import opting_in
from run_elt_dagster_tests.support.embedded import Session, running_server, simulated_account
from run_elt_dagster_tests.support.run_arguments import run_arguments

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

METHODS = ("clone", "swap", "overwrite")
# What the account's edition or the role's rights do not have: https://docs.snowflake.com/en/user-guide/security-access-control-privileges
UNSUPPORTED, NOT_ALLOWED = 2, 3001
STATEMENT_SECONDS = 300
HISTORY_LOOKS, HISTORY_SECONDS = 20, 3


@dataclass
class Account:
    """An account that can be signed in to, or the embedded Snowflake in its place."""

    resource: Snowflake = field(repr=False)
    copy_tags: bool = True
    check_policies: bool = True
    server: SimulatedServer | None = None

    @property
    def is_embedded(self) -> bool:
        return self.server is not None

    def create_schema(self, name: str) -> None:
        # Rolling back needs a day of it, whatever the account keeps otherwise.
        kept = "" if self.is_embedded else " DATA_RETENTION_TIME_IN_DAYS = 1"
        self._send(f"CREATE SCHEMA {quote_identifier(name)}{kept}")

    def drop_schema(self, name: str) -> None:
        """Drop a schema on a connection of its own: that of a test may be lost."""
        self._send(f"DROP SCHEMA IF EXISTS {quote_identifier(name)} CASCADE")

    def _send(self, sql: str) -> None:
        with self.resource.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql)


def real_account() -> Account:
    """Return the account of the variables; the secrets are read now and are not in the environment of the tests."""
    settings = opting_in.settings()
    variables = opting_in.deployment()
    with pytest.MonkeyPatch.context() as patch:
        for name in SECRET_VARIABLES:
            if name in variables:
                patch.setenv(name, variables[name])
        resource = Snowflake.from_settings(settings).resolved()
    resource = resource.model_copy(update={"statement_timeout_seconds": STATEMENT_SECONDS})
    return Account(resource, settings.copy_tags, settings.check_policies)


@contextmanager
def embedded_account(directory: Path) -> Generator[Account]:
    """Give an embedded Snowflake that is signed in to as an account is."""
    with running_server(directory) as server:
        server.measures_bytes = True
        resource = simulated_account(server).model_copy(update={"statement_timeout_seconds": STATEMENT_SECONDS})
        yield Account(resource, server=server)


class WatchedSession(ConnectorSession):
    """The project's own session, which tells of each statement before it is sent."""

    def __init__(
        self,
        connection: "SnowflakeConnection",
        connect: Connect,
        before: Callable[[str, Mapping[str, str]], None],
    ) -> None:
        super().__init__(connection, connect)
        self._before = before

    def execute(
        self, sql: str, *, tag: Mapping[str, str], parameters: Sequence[str] = (), most_rows: int | None = None
    ) -> Answer:
        self._before(sql, tag)
        return super().execute(sql, tag=tag, parameters=parameters, most_rows=most_rows)


@dataclass
class OwnSchema:
    """The schema of a run of the tests, and the sessions in it."""

    account: Account
    name: str
    resources: ExitStack = field(default_factory=ExitStack)

    def session(self) -> Session:
        """Open a session in the schema, which is closed with the test."""
        session = Session(self.resources.enter_context(self.account.resource.connect()))
        session.sql(f"USE SCHEMA {quote_identifier(self.name)}")
        return session

    @contextmanager
    def watched(self, before: Callable[[str, Mapping[str, str]], None]) -> Generator[WatchedSession]:
        connect = self.account.resource.connect
        with connect() as connection, WatchedSession(connection, connect, before) as session:
            yield session

    @cached_property
    def database(self) -> str:
        return str(self.session().value("select current_database()"))

    def history(self, run_id: str, *, until: int) -> list[tuple[str, str]]:
        """Return stage and first words of a run's statements, as the account itself has noted them.

        Args:
            run_id: The run.
            until: How many there should be; an account notes them a moment later.
        """
        found = list[tuple[str, str]]()
        for _ in range(HISTORY_LOOKS):
            found = self._history(run_id)
            if len(found) >= until or self.account.is_embedded:
                break
            time.sleep(HISTORY_SECONDS)
        return found

    def _history(self, run_id: str) -> list[tuple[str, str]]:
        if self.account.server is not None:
            noted = [(record.query_tag, record.sql) for record in self.account.server.history]
        else:
            # https://docs.snowflake.com/en/sql-reference/functions/query_history
            noted = self.session().sql(
                "select query_tag, query_text from table(information_schema.query_history_by_user("
                "end_time_range_start => dateadd('minute', -10, current_timestamp()), result_limit => 10000)) "
                f"where try_parse_json(query_tag):run_id = {quote_literal(run_id)} order by start_time, query_id"
            )
        tags = [(json.loads(tag or "{}"), sql) for tag, sql in noted]
        return [(str(tag["stage"]), first_words(sql)) for tag, sql in tags if tag.get("run_id") == run_id]


@dataclass
class OwnTable:
    """One table of a test's own, and runs of it."""

    schema: OwnSchema
    name: str
    directory: Path

    @property
    def declared(self) -> AnalyticsTable:
        return self.parsed(built(1, 1))

    def parsed(self, text: str) -> AnalyticsTable:
        path = self.directory / f"{self.name}.sql"
        return parse_table_file(path, text, schema=self.schema.name, table=self.name)

    def run(
        self,
        run_id: str,
        text: str,
        *,
        before: Callable[[str, Mapping[str, str]], None] = lambda _, __: None,
        **options: Any,
    ) -> TableOutcome:
        """Build, audit and publish the table as `run_ctas` does, in a session of its own."""
        tables = catalogue([self.parsed(text)])
        with self.schema.watched(before) as session:
            (outcome,) = run_tables(session, tables, list(tables), **self._arguments(run_id, **options))
        return outcome

    def publish(self, run_id: str, text: str, **options: Any) -> TableOutcome:
        """Run the table, which has to go well."""
        outcome = self.run(run_id, text, **options)
        assert outcome.published, outcome.failure
        return outcome

    def _arguments(self, run_id: str, **options: Any) -> dict[str, Any]:
        account = self.schema.account
        chosen = {"copy_tags": account.copy_tags, "check_policies": account.check_policies, **options}
        return run_arguments(run_id, job="tests", **chosen)

    @contextmanager
    def rollback(self) -> Generator[Rollback]:
        with self.schema.watched(lambda _, __: None) as session:
            runner = StatementRunner(session, RunContext("rollback", "tests"), threading.Event())
            check_policies = self.schema.account.check_policies
            yield Rollback(runner, self.declared, database=session.database, check_policies=check_policies)

    def relations(self, run_id: str) -> tuple[Relation, Relation]:
        """Return target and candidate."""
        database = self.schema.database
        return target_of(self.declared, database=database), candidate_of(
            self.declared, database=database, run_id=run_id
        )

    def seen(self, session: Session) -> tuple[Any, ...]:
        """Return rows, least and greatest value as a reader sees them."""
        (row,) = session.sql(f"select count(*), min(v), max(v) from {self.name}")
        return row

    def grants(self, session: Session) -> set[tuple[str, ...]]:
        """Return privilege, kind of the grantee, its name and its grant option, ownership apart."""
        rows = listing(session, f"show grants on table {self.name}")
        names = ("privilege", "granted_to", "grantee_name", "grant_option")
        return {tuple(str(row[name]) for name in names) for row in rows if row["privilege"] != "OWNERSHIP"}

    def marker(self, session: Session) -> Marker | None:
        return marker_in(self.comment(session))

    def comment(self, session: Session) -> str:
        (row,) = [row for row in listing(session, f"show tables like '{self.name}'") if row["name"] == self.name]
        return str(row["comment"] or "")


def built(rows: int, value: int, *, publish: str = "clone", more: str = "") -> str:
    """Return a table's file: so many rows, all with one value."""
    return f"/* elt\npublish: {publish}\n{more}\nelt */ select seq4() as n, {value}::int as v from table(generator(rowcount => {rows}))"


def listing(session: Session, statement: str) -> list[dict[str, Any]]:
    """Return the rows of a SHOW by the names of its columns."""
    with closing(session.connection.cursor()) as cursor:
        cursor.execute(statement)
        rows, names = cursor.fetchall(), [column.name.lower() for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in rows]


def first_words(sql: str) -> str:
    return " ".join(sql.split()[:2])


def allowed(session: Session, statements: Iterable[str]) -> None:
    """Send statements that the role or the account's edition may not have; the test is then skipped."""
    from snowflake.connector.errors import ProgrammingError  # noqa: PLC0415 - half a second to import

    for statement in statements:
        try:
            session.sql(statement)
        except ProgrammingError as error:
            if error.errno in (UNSUPPORTED, NOT_ALLOWED):
                pytest.skip(f"not allowed here: {error.raw_msg or error.msg}")
            raise
