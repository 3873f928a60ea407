"""`run-elt env`."""

import getpass
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from run_elt_dagster.cli.opening import in_words
from run_elt_dagster.cli.parameters import as_json, of_project
from run_elt_dagster.cli.printing import print_json, print_table, say_on_stderr
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.environments.databases import Databases
from run_elt_dagster.environments.mark import MAX_DAYS, Environment, environment_database, stored_database
from run_elt_dagster.environments.opening import databases_session
from run_elt_dagster.environments.plan import read_by_full_name, schemas_of
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import display_name
from run_elt_dagster.project import Project
from run_elt_dagster.settings import SnowflakeSettings

_UNITS = ((1024**3, "GB"), (1024**2, "MB"), (1024, "kB"))
_of = click.option(
    "--from", "source", metavar="DATABASE", help="The production database, in the place of RUN_ELT_PRODUCTION_DATABASE."
)


@click.group("env")
def command() -> None:
    """Make, list and drop copies of the production database, for a branch or a person.

    \b
      run-elt env create my_branch
      run-elt env list
      run-elt env drop my_branch

    A copy shares its rows with production until one of both changes. Runs go there with SNOWFLAKE_DATABASE alone.
    """


@command.command("create")
@click.argument("name")
@of_project
@_of
@click.option(
    "--days", type=click.IntRange(1, MAX_DAYS), default=14, show_default=True, help="It expires after so many."
)
@click.option("--owner", metavar="NAME", help="Who it is for; SNOWFLAKE_USER or the user of this machine by default.")
@click.option(
    "--schemas", "only_schemas", is_flag=True, help="Copy only the schemas of the tables and of what they read."
)
@click.option("--replace", is_flag=True, help="Drop an environment of this name before.")
@as_json
def create(
    project: Project,
    name: str,
    *,
    source: str | None,
    days: int,
    owner: str | None,
    only_schemas: bool,
    replace: bool,
    as_json: bool,
) -> int:
    """Copy the production database as DATABASE__NAME, in one statement.

    Environments that have expired are dropped before.
    """
    settings = project.settings
    owner, now = owner or _user(settings.snowflake), datetime.now(UTC)
    # A wrong name is said before anybody signs in.
    environment_database(stored_database(source or settings.production_database or settings.database), name)
    tables = project.tables(keeps_broken=True, in_database=False)
    with progress("Signing in") as steps, _databases(project, source) as databases:
        for each in databases.drop_expired(now=now, tell=say_on_stderr):
            say_on_stderr(f"{display_name(each.database)} had expired and was dropped.")
        steps.tell(f"Copying {display_name(databases.production)}")
        schemas = schemas_of(tables, databases.production) if only_schemas else ()
        made = databases.create(name, owner=owner, now=now, days=days, schemas=schemas, replace=replace)
        steps.tell("Looking who owns its tables")
        # On the embedded Snowflake there is one role.
        strangers = databases.strangers(list(tables.values()), made) if settings.snowflake else ()
    _warn(tables, made, strangers)
    if as_json:
        print_json(_facts(made, now))
    else:
        _print_made(made, days, project.database_variable)
    return 0


@command.command("list")
@of_project
@_of
@as_json
def list_(project: Project, *, source: str | None, as_json: bool) -> int:
    """List the environments of the production database: owner, age, and when they are dropped."""
    now = datetime.now(UTC)
    with progress("Signing in"), _databases(project, source) as databases:
        found = databases.environments()
    if as_json:
        print_json([_facts(each, now) for each in found])
    elif found:
        header = ("name", "database", "owner", "age", "size", "drops in")
        print_table(header, [_cells(each, now) for each in found])
    else:
        print(f"No environment of {display_name(databases.production)}. Make one: run-elt env create my_branch")
    return 0


@command.command("drop")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@of_project
@click.option("--expired", is_flag=True, help="Drop those that have expired.")
@_of
def drop(project: Project, names: Sequence[str], *, expired: bool, source: str | None) -> int:
    """Drop environments. A database that env create has not made is never dropped, and neither is that of SNOWFLAKE_DATABASE."""
    if bool(names) == expired:
        raise click.UsageError("Name environments, or give --expired.")
    now, left = datetime.now(UTC), list[str]()
    with progress("Signing in"), _databases(project, source) as databases:
        dropped = databases.drop_expired(now=now, tell=left.append) if expired else []
        for name in names:
            try:
                dropped.append(databases.drop(name))
            except ValueError as error:
                left.append(str(error))
    for each in dropped:
        print(f"{display_name(each.database)} was dropped.")
    if expired and not dropped and not left:
        print(f"No environment of {display_name(databases.production)} has expired.")
    for problem in left:
        say_on_stderr(problem)
    # What another role has to drop is no failure of this command.
    return 1 if left and names else 0


@contextmanager
def _databases(project: Project, source: str | None) -> Generator[Databases]:
    settings = project.settings
    given = source or settings.production_database
    with in_words(settings), databases_session(project.snowflake, log=say_on_stderr) as session:
        yield Databases(
            session,
            database=stored_database(settings.database),
            production=stored_database(given) if given else None,
            role=settings.snowflake.role if settings.snowflake else "",
            copies_schemas=settings.snowflake is not None,
        )


def _user(account: SnowflakeSettings | None) -> str:
    if account is not None and account.user:
        return account.user
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user without a name.
        return "an unknown user"


def _warn(tables: Catalogue, made: Environment, strangers: Sequence[str]) -> None:
    for problem in strangers:
        say_on_stderr(problem)
    for key, read in read_by_full_name(tables, made.mark.of):
        say_on_stderr(
            f"{'.'.join(key)} reads {'.'.join(read)} by its full name: in {display_name(made.database)} too, it reads production."
        )


def _print_made(made: Environment, days: int, variable: str) -> None:
    shown = display_name(made.database)
    print(
        f"{shown} is a copy of {display_name(made.mark.of)}. It expires after {days} day{'' if days == 1 else 's'}, on {made.mark.drops_at:%Y-%m-%d}."
    )
    if variable:
        print(f"Every command and every run goes there with this variable:\n\n  export {variable}={_quoted(shown)}")
    else:
        print(
            f"Every command and every run goes there if the resource of your code location has this database:\n\n  {shown}"
        )


def _quoted(shown: str) -> str:
    return f"'{shown}'" if '"' in shown else shown


def _cells(each: Environment, now: datetime) -> list[str]:
    left = each.mark.drops_at - now
    drops = "expired" if left <= timedelta() else _span(left)
    return [
        each.name,
        display_name(each.database),
        each.mark.owner,
        _span(now - each.mark.made_at),
        _size(each.bytes),
        drops,
    ]


def _span(time: timedelta) -> str:
    hours = max(round(time / timedelta(hours=1)), 0)
    return f"{round(hours / 24)} d" if hours >= 48 else f"{hours} h"  # noqa: PLR2004 - two days


def _size(count: int | None) -> str:
    if count is None:
        return "-"
    return next((f"{count / unit:.1f} {word}" for unit, word in _UNITS if count >= unit), f"{count} B")


def _facts(each: Environment, now: datetime) -> dict[str, Any]:
    return {
        "name": each.name,
        "database": display_name(each.database),
        "of": display_name(each.mark.of),
        "owner": each.mark.owner,
        "made_at": each.mark.made_at,
        "drops_at": each.mark.drops_at,
        "expired": each.is_expired(now),
        "bytes": each.bytes,
    }
