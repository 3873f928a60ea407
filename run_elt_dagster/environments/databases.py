"""Environments in Snowflake: make one, list them, drop one. The statements are data; `Databases` sends them."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from run_elt_dagster.environments.mark import (
    BETWEEN,
    Environment,
    Mark,
    comment_of,
    environment_database,
    mark_in,
    production_part,
)
from run_elt_dagster.environments.owners import strangers_in
from run_elt_dagster.model.names import display_name, quote_identifier, quote_literal
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.snowflake.runner import RunContext, StatementRunner
from run_elt_dagster.snowflake.session import Answer, Session, StatementError

# "Object already exists", "does not exist or not authorized" in two forms, "Insufficient privileges".
_EXISTS, _MISSING, _NO_PRIVILEGE = frozenset({2002, 3041}), frozenset({2003, 2043}), 3001


def clone_sql(mark: Mark) -> str:
    """Return the one statement that makes an environment: a copy of all schemas, and the mark.

    It copies no rows: both databases share them until one changes. It cannot be repeated after a lost answer: it then finds its own database.
    https://docs.snowflake.com/en/sql-reference/sql/create-database
    """
    return (
        f"CREATE DATABASE {quote_identifier(mark.database)} CLONE {quote_identifier(mark.of)} "
        f"COMMENT = {quote_literal(comment_of(mark))}"
    )


def clone_schemas_sql(mark: Mark, schemas: Sequence[str]) -> list[str]:
    """Return the statements that make an environment of some schemas alone: an empty database with the mark, then each schema.

    https://docs.snowflake.com/en/sql-reference/sql/create-schema

    Args:
        mark: The mark.
        schemas: Stored names.
    """
    database, source = quote_identifier(mark.database), quote_identifier(mark.of)
    return [
        f"CREATE DATABASE {database} COMMENT = {quote_literal(comment_of(mark))}",
        *(f"CREATE SCHEMA {database}.{name} CLONE {source}.{name}" for name in map(quote_identifier, schemas)),
    ]


def clone_without_sql(mark: Mark, schemas: Sequence[str]) -> list[str]:
    """Return the statements that make an environment on the embedded Snowflake, which copies a file as a whole: the copy, less some schemas.

    https://docs.snowflake.com/en/sql-reference/sql/drop-schema

    Args:
        mark: The mark.
        schemas: Stored names of those that it is without.
    """
    database = quote_identifier(mark.database)
    return [clone_sql(mark), *(f"DROP SCHEMA {database}.{quote_identifier(name)} CASCADE" for name in schemas)]


def schemata_sql(database: str) -> str:
    """Return the query for the stored names of the schemas of a database.

    https://docs.snowflake.com/en/sql-reference/info-schema/schemata
    """
    return (
        f"SELECT SCHEMA_NAME FROM {quote_identifier(database)}.INFORMATION_SCHEMA.SCHEMATA "
        "WHERE SCHEMA_NAME NOT IN ('INFORMATION_SCHEMA', 'PUBLIC') ORDER BY 1"
    )


def show_sql(database: str) -> str:
    """Return the query for a database and those beside it, a few others too: `_` and `%` in its name stand for anything.

    https://docs.snowflake.com/en/sql-reference/sql/show-databases
    """
    return f"SHOW DATABASES LIKE {quote_literal(production_part(database) + '%')}"


def drop_sql(database: str) -> str:
    """Return the statement that drops a database; safe to repeat. `UNDROP DATABASE` brings it back for a day.

    https://docs.snowflake.com/en/sql-reference/sql/drop-database
    """
    return f"DROP DATABASE IF EXISTS {quote_identifier(database)}"


@dataclass(frozen=True)
class Listed:
    """A row of SHOW DATABASES.

    Attributes:
        name: Stored name.
        comment: Its comment.
        bytes: How large it is, None where Snowflake does not list it.
    """

    name: str
    comment: str
    bytes: int | None

    @property
    def environment(self) -> Environment | None:
        """The environment that it is, None if it has no mark of its own name."""
        mark = mark_in(self.comment)
        return Environment(mark, self.bytes) if mark is not None and mark.is_of(self.name) else None


def listed_in(answer: Answer) -> list[Listed]:
    """Return the rows of SHOW DATABASES."""
    columns = {name.lower(): number for number, name in enumerate(answer.columns)}

    def cell(row: Sequence[Any], name: str) -> Any:
        return row[columns[name]] if name in columns else None

    return [Listed(str(cell(row, "name")), str(cell(row, "comment") or ""), cell(row, "bytes")) for row in answer.rows]


class Databases:
    """The databases around the one of the session.

    Args:
        session: An open session. It needs no current database.
        database: Stored name of the database of SNOWFLAKE_DATABASE.
        production: Stored name of the production database; None for that of SNOWFLAKE_DATABASE, or what that is a copy of.
        role: Name of the role, for what it lacks; empty where it is not known.
        job: Who sends the statements, for the tag on the queries.
        copies_schemas: Whether a schema can be copied alone; the embedded Snowflake copies a file as a whole.

    Attributes:
        production: Stored name of the production database.
    """

    def __init__(
        self,
        session: Session,
        *,
        database: str,
        production: str | None = None,
        role: str = "",
        job: str = "run-elt env",
        copies_schemas: bool = True,
    ) -> None:
        self._session = session
        self._runner = StatementRunner(session, RunContext("", job), threading.Event())
        self._database, self._role, self._copies_schemas = database, role, copies_schemas
        self._listed = listed_in(self._send(show_sql(production or database)))
        self.production = production or self._source() or database

    def environments(self) -> list[Environment]:
        """Return the environments of the production database, the oldest first."""
        found = (each.environment for each in self._listed)
        ours = [each for each in found if each is not None and each.mark.of == self.production]
        return sorted(ours, key=lambda each: (each.mark.made_at, each.database))

    def create(
        self, name: str, *, owner: str, now: datetime, days: int, schemas: Sequence[str] = (), replace: bool = False
    ) -> Environment:
        """Make an environment.

        Args:
            name: What a person calls it.
            owner: Who it is for.
            now: The moment, aware.
            days: After so many it may be dropped.
            schemas: Stored names of the schemas that are copied; none for all of them.
            replace: Whether an environment of this name is dropped before.

        Raises:
            ValueError: Snowflake refuses, or the name is taken. Nothing is left of it.
        """
        made_at = now.replace(microsecond=0)
        mark = Mark(
            environment_database(self.production, name), self.production, owner, made_at, made_at + timedelta(days=days)
        )
        # Looked up before: an embedded Snowflake, or another answer, may leave out who has the name.
        if any(each.name == mark.database for each in self._listed):
            if not replace:
                raise _taken(mark)
            self.drop(name)
        for number, sql in enumerate(self._statements(mark, schemas)):
            try:
                # Sent once: a second time, it would find its own database.
                self._runner.send_once(sql, tag={"stage": "create environment"})
            except StatementError as error:
                left = self._taken_away(mark) if number else ""
                raise self._not_made(mark, error, left) from error
        return Environment(mark)

    def _statements(self, mark: Mark, schemas: Sequence[str]) -> list[str]:
        if not schemas:
            return [clone_sql(mark)]
        if self._copies_schemas:
            return clone_schemas_sql(mark, schemas)
        there = [str(name) for (name,) in self._send(schemata_sql(self.production)).rows]
        return clone_without_sql(mark, [name for name in there if name not in schemas])

    def strangers(self, tables: Collection[AnalyticsTable], made: Environment) -> list[str]:
        """Return what keeps the role from publishing tables in an environment, in words. An error of Snowflake is one too."""
        try:
            return list(strangers_in(self._session, tables, database=made.database))
        except StatementError as error:
            return [
                f"Who owns the tables of {display_name(made.database)} is not known, got {error}. A run may be refused."
            ]

    def drop(self, name: str) -> Environment:
        """Drop an environment.

        Raises:
            ValueError: It is none, or the role may not drop it.
        """
        database = environment_database(self.production, name)
        listed = next((each for each in self._listed if each.name == database), None)
        found = self._droppable(database, listed)
        try:
            self._send(drop_sql(database))
        except StatementError as error:
            raise ValueError(f"{self._not_dropped(found, error)} {self._owner_remedy(found)}") from error
        return found

    def drop_expired(self, *, now: datetime, tell: Callable[[str], None]) -> list[Environment]:
        """Drop the expired environments, but not the one of SNOWFLAKE_DATABASE, and return them.

        Args:
            now: The moment, aware.
            tell: Called with what could not be dropped: another role may own it.
        """
        return list(self._dropped(now, tell))

    def _dropped(self, now: datetime, tell: Callable[[str], None]) -> Iterator[Environment]:
        for each in self.environments():
            if not each.is_expired(now):
                continue
            if each.database in (self._database, self.production):
                tell(f"{display_name(each.database)} has expired and stays: SNOWFLAKE_DATABASE names it.")
                continue
            try:
                self._send(drop_sql(each.database))
            except StatementError as error:
                tell(f"{self._not_dropped(each, error)} {self._owner_remedy(each)}")
            else:
                yield each

    def _send(self, sql: str) -> Answer:
        return self._runner.send(sql, tag={"stage": "environments"})

    def _source(self) -> str | None:
        """Return what the database of the session is a copy of, None if it is no environment."""
        found = next((each.environment for each in self._listed if each.name == self._database), None)
        return found.mark.of if found else None

    def _droppable(self, database: str, listed: Listed | None) -> Environment:
        shown = display_name(database)
        if database in (self._database, self.production):
            raise ValueError(
                f"run-elt env drop requires another database than the one of SNOWFLAKE_DATABASE, got {shown}. Nothing was dropped. "
                f"Set SNOWFLAKE_DATABASE={display_name(self.production)} first; on the embedded Snowflake, unset it."
            )
        if listed is None:
            known = ", ".join(each.name for each in self.environments()) or "none"
            raise ValueError(
                f"run-elt env drop requires an environment, got {shown}: there is no such database, or the role may not see it. "
                f"Nothing was dropped. Environments of {display_name(self.production)}: {known}."
            )
        if listed.environment is None or listed.environment.mark.of != self.production:
            raise ValueError(
                f"run-elt env drop requires a database that run-elt env create has made, got {shown} without its own mark in the "
                f"comment. Nothing was dropped. If it is yours, drop it by hand: DROP DATABASE {shown}."
            )
        return listed.environment

    def _not_made(self, mark: Mark, error: StatementError, left: str) -> ValueError:
        if error.errno in _EXISTS:
            return _taken(mark)
        shown, source = display_name(mark.database), display_name(mark.of)
        if error.errno in _MISSING and not left:
            return ValueError(
                f"run-elt env create requires a database {source} that the role may see, got {error}. Nothing was made. Correct "
                "SNOWFLAKE_DATABASE or --from."
            )
        if error.errno == _NO_PRIVILEGE:
            return ValueError(
                f"run-elt env create requires a role that may copy {source}, got {error}. {left or 'Nothing was made.'} "
                f"{self._grants(source)}"
            )
        unknown = "" if error.answered else f" Look whether it is there: run-elt env list. {shown} may have been made."
        return ValueError(f"{shown} was not made, got {error}. {left}{unknown}".rstrip())

    def _grants(self, source: str) -> str:
        role = display_name(self._role) if self._role else "<role>"
        return (
            f"Let an administrator run: GRANT CREATE DATABASE ON ACCOUNT TO ROLE {role}; GRANT USAGE ON DATABASE {source} TO ROLE {role}; "
            "If Snowflake names another object, grant USAGE on that schema, or SELECT on that table, too."
        )

    def _taken_away(self, mark: Mark) -> str:
        try:
            self._send(drop_sql(mark.database))
        except StatementError as error:
            return f"{display_name(mark.database)} stays behind unfinished, got {error}. Drop it by hand."
        return "Nothing is left of it."

    @staticmethod
    def _not_dropped(each: Environment, error: StatementError) -> str:
        return f"{display_name(each.database)} was not dropped, got {error}."

    def _owner_remedy(self, each: Environment) -> str:
        return f"The role that owns it drops it; {each.mark.owner} has made it."


def _taken(mark: Mark) -> ValueError:
    return ValueError(
        f"run-elt env create requires a name without a database, got {display_name(mark.database)}: it is there. Nothing was made. Choose "
        f"another name, or drop it first: run-elt env drop {mark.database.removeprefix(mark.of + BETWEEN).lower()}."
    )


def production_for(session: Session, *, database: str, given: str | None, job: str) -> str | None:
    """Return the stored name of the production database, None where nothing names it.

    Args:
        session: An open session of an account.
        database: Stored name of the session's database.
        given: Stored name, where a setting has it: then nothing is asked.
        job: Who asks, for the tag on the query.

    Raises:
        StatementError: The databases could not be listed.
    """
    if given is not None:
        return given if given != database else None
    found = Databases(session, database=database, job=job).production
    return found if found != database else None
