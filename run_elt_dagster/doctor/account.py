"""What Snowflake says: signing in, the tables that are read, the schemas that are written, and what hangs on the targets."""

import importlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from run_elt_dagster.doctor.finding import Finding, NamedCheck, failed, ok, skipped
from run_elt_dagster.doctor.governance import GovernanceLook
from run_elt_dagster.doctor.sign_in import sign_in_remedy
from run_elt_dagster.embedded import NotInstalledError
from run_elt_dagster.model.candidate import Marker, instant, target_of
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, Relation, display_name, is_candidate_name, quote_literal, stored_names
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.group_lock import locks_in
from run_elt_dagster.publish.group_recovery import end_exchange
from run_elt_dagster.publish.guards import OBJECT_MISSING, TargetInventory, schema_remedy
from run_elt_dagster.publish.log import COLUMNS, log_table, send_rows
from run_elt_dagster.publish.methods import refusal
from run_elt_dagster.publish.policies import declared_policies
from run_elt_dagster.publish.preflight import read_targets, stale_candidates
from run_elt_dagster.publish.statements import drop_sql
from run_elt_dagster.settings import PublishOptions, Settings
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.runner import NO_PATIENCE, RunContext, StatementRunner
from run_elt_dagster.snowflake.session import ConnectorSession, StatementError


class Check(NamedCheck):
    """The checks of Snowflake."""

    CONNECT = "connect", "signing in fails. The check tries once, because five failures lock the user"
    WAREHOUSE = "warehouse", "the session has none: it does not exist, or the role may not use it"
    DATABASE = (
        "database",
        "the session has none: it does not exist, or the role may not use it. If it has one, `connect` shows it",
    )
    SOURCES = "sources", "the role cannot select from a table that the SQL reads and no file builds"
    SCHEMAS = (
        "schemas",
        "a schema of a table does not exist, or the role cannot create tables in it. On the embedded Snowflake the run creates them",
    )
    TARGETS = (
        "targets",
        "a run would refuse to publish: another owner, policies, streams, a view ([publishing.md](publishing.md)). Or a policy or a tag that a file declares does not exist, or may not be applied ([policies.md](policies.md#rights))",
    )
    GROUPS = (
        "groups",
        "a dead run has left the exchange of a group half done, and it could not be ended. The check ends it where it can. Or `run-elt rollback --group` has not ended: repeat that command ([groups.md](groups.md))",
    )
    CANDIDATES = (
        "candidates",
        "old candidates belong to another role, and a run cannot drop them. Or another role can read a candidate whose table has policies ([security.md](security.md#who-can-read-candidates)). Otherwise the check counts the candidates",
    )
    LOG = (
        "log of publishes",
        "`RUN_ELT_LOG_SCHEMA` is set, and the role cannot add rows to a table of the [log](publish_log.md)",
    )


# The line of the sign-in shows the database; it has a line of its own where it is missing.
SHOWN = tuple(check for check in Check if check is not Check.DATABASE)
# What one sign-in or statement may take, a warehouse that starts included; and all of them together.
PATIENCE_SECONDS, LIMIT_SECONDS = 30, 180
SOURCES_PER_QUERY, NAMES_SHOWN = 100, 5
WHO_SQL = "SELECT CURRENT_USER(), CURRENT_ROLE(), CURRENT_WAREHOUSE(), CURRENT_DATABASE(), CURRENT_ACCOUNT(), CURRENT_REGION()"
_TAG = {"stage": "doctor"}


@dataclass(frozen=True)
class _Look:
    """A session to look with, and what the looks need of it: the stored names of its database and its role; and whether it is the embedded Snowflake's."""

    runner: StatementRunner
    database: str
    role: str
    is_embedded: bool = False


def check_account(
    settings: Settings, tables: Catalogue | None, is_live: Callable[[str], bool] = lambda _: True
) -> Iterator[Finding]:
    """Yield whether a run could sign in, read its sources, create its candidates and publish over its targets.

    It takes four statements if nothing is wrong, and two more for each target schema. Declared policies and tags take those of
    `GovernanceLook`.

    Args:
        settings: With the account, or none for the embedded Snowflake.
        tables: The declared tables; None if a file of theirs is wrong.
        is_live: Whether the run whose id starts with these characters goes on: nothing of it is touched.
    """
    # Its import says nothing about how long signing in takes.
    importlib.import_module("snowflake.connector")
    snowflake = Snowflake.from_settings(settings).resolved()
    started = time.monotonic()
    with ExitStack() as opened:
        try:
            session = opened.enter_context(snowflake.session(patience_seconds=PATIENCE_SECONDS))
        except Exception as error:  # noqa: BLE001 - a key file alone can be wrong in a dozen ways
            yield failed(
                Check.CONNECT,
                f"cannot sign in to {_place(settings)}: {_problem(error)}",
                sign_in_remedy(settings, error),
            )
            yield from skipped(SHOWN[1:], "signing in to Snowflake failed")
            return
        yield from _looks(settings, tables, session, is_live, seconds=time.monotonic() - started)


def _problem(error: Exception) -> str:
    if isinstance(error, NotInstalledError):
        return f"it is not installed here (no {', no '.join(error.missing)})"
    return getattr(error, "msg", None) or str(error)


def _place(settings: Settings) -> str:
    if settings.snowflake is None:
        return f"the embedded Snowflake in {settings.embedded_dir}"
    return f"the account {settings.snowflake.account} as {settings.snowflake.user or 'the user of the token'}"


def _looks(
    settings: Settings,
    tables: Catalogue | None,
    session: ConnectorSession,
    is_live: Callable[[str], bool],
    *,
    seconds: float,
) -> Iterator[Finding]:
    command = RunContext("doctor", "run-elt doctor", is_live=is_live)
    runner = StatementRunner(session, command, threading.Event(), patience=NO_PATIENCE)
    user, role, warehouse, database, account, region = (str(value or "") for value in _row(runner, WHO_SQL))
    place = _place(settings) if settings.snowflake is None else f"account {account} in {region}"
    yield ok(Check.CONNECT, f"{place} as {user}, role {role}, database {database or 'none'}, in {seconds:.1f} s")
    if settings.snowflake is None:
        yield from skipped([Check.WAREHOUSE], "the embedded Snowflake has none")
    else:
        yield _warehouse_finding(settings.snowflake.warehouse, warehouse, role)
    if not database:
        name = settings.snowflake.database if settings.snowflake else ""
        yield failed(
            Check.DATABASE,
            f"the session requires the database {name}, got none: it does not exist, or role {role} may not use it.",
            f"GRANT USAGE ON DATABASE {name} TO ROLE {role}, or correct SNOWFLAKE_DATABASE.",
        )
    if not database or tables is None:
        why = "there is no database" if not database else "the check of the table files failed"
        yield from skipped(SHOWN[2:], why)
        return
    look = _Look(runner, session.database, role, is_embedded=settings.snowflake is None)
    yield from _source_findings(look, tables)
    yield from _schema_findings(look, tables)
    yield from _target_findings(look, tables, settings)
    yield from _log_findings(look, settings.log_schema, session)


def _row(runner: StatementRunner, sql: str) -> tuple[object, ...]:
    return runner.send(sql, tag=_TAG).rows[0]


def _warehouse_finding(wanted: str, got: str, role: str) -> Finding:
    if got:
        return ok(Check.WAREHOUSE, got)
    return failed(
        Check.WAREHOUSE,
        f"the session requires the warehouse {wanted}, got none: it does not exist, or role {role} may not use it.",
        f"GRANT USAGE ON WAREHOUSE {wanted} TO ROLE {role}, or correct SNOWFLAKE_WAREHOUSE.",
    )


def sources_sql(relations: Sequence[Relation]) -> str:
    """Return one query that reads no row of any of the tables, and fails where one must not be read."""
    return " UNION ALL ".join(f"SELECT 1 FROM {relation.sql} WHERE FALSE" for relation in relations)


def _source_findings(look: _Look, tables: Catalogue) -> Iterator[Finding]:
    name = Check.SOURCES
    sources = {_relation(key, look.database): key for key in tables.sources}
    refused = list(_unreadable(look.runner, list(sources)))
    for relation, error in refused:
        readers = ", ".join(tables[key].name for key, reads in tables.upstream.items() if sources[relation] in reads)
        yield failed(
            name,
            f"{relation}, for {readers}, cannot be read: {error}",
            f"GRANT SELECT ON TABLE {relation} TO ROLE {look.role} (VIEW if it is one), with USAGE on its database and schema; or "
            "correct its name.",
        )
    if not refused:
        yield ok(
            name, f"{len(sources)} can be read: {_listed(sorted(map(str, sources)))}" if sources else "none is read"
        )


def _relation(key: Key, database: str) -> Relation:
    parts = stored_names(".".join(key))
    return Relation(*(parts if len(parts) == 3 else (database, *parts)))  # noqa: PLR2004 - database, schema, table


def _unreadable(runner: StatementRunner, relations: Sequence[Relation]) -> Iterator[tuple[Relation, StatementError]]:
    """Yield the tables that cannot be read: all are asked for at once, and halves where that fails."""
    if not relations:
        return
    error = _error_of(runner, sources_sql(relations)) if len(relations) <= SOURCES_PER_QUERY else None
    if error is not None and len(relations) == 1:
        yield relations[0], error
    elif error is not None or len(relations) > SOURCES_PER_QUERY:
        middle = len(relations) // 2
        yield from _unreadable(runner, relations[:middle])
        yield from _unreadable(runner, relations[middle:])


def _error_of(runner: StatementRunner, sql: str) -> StatementError | None:
    """Return why a statement was refused; where no answer came there is nothing more to ask."""
    try:
        runner.send(sql, tag=_TAG)
    except StatementError as error:
        if not error.answered:
            raise
        return error
    return None


def _schema_findings(look: _Look, tables: Catalogue) -> Iterator[Finding]:
    name = Check.SCHEMAS
    schemas = sorted({table.stored_schema for table in tables.values()})
    problems = [problem for schema in schemas if (problem := _cannot_create(look, schema)) is not None]
    yield from problems
    if not problems:
        yield ok(name, f"role {look.role} can create tables in {_listed([display_name(schema) for schema in schemas])}")


def _cannot_create(look: _Look, schema: str) -> Finding | None:
    """Make an empty table and drop it again.

    A temporary table would take no privilege at all: https://docs.snowflake.com/en/sql-reference/sql/create-table. What a
    killed process leaves behind is named and marked as a candidate, so a later run drops it.
    """
    probe = Relation(look.database, schema, f"TEMP_RUN_ELT_DOCTOR__{secrets.token_hex(4).upper()}")
    marker = Marker("failed", "doctor", instant(datetime.now(UTC)))
    where = f"{display_name(look.database)}.{display_name(schema)}"
    created = False
    try:
        error = _error_of(
            look.runner,
            f"CREATE TRANSIENT TABLE {probe.sql} (N INT) DATA_RETENTION_TIME_IN_DAYS = 0 COMMENT = {quote_literal(str(marker))}",
        )
        created = error is None
        if error is not None and look.is_embedded and error.errno == OBJECT_MISSING:
            # The run creates it.
            return None
        if error is not None:
            return failed(
                Check.SCHEMAS,
                f"role {look.role} cannot create tables in {where}: {error}",
                schema_remedy(probe, role=look.role),
            )
    finally:
        left = _error_of(look.runner, drop_sql(probe)) if created else None
    if left is not None:
        return failed(
            Check.SCHEMAS, f"{probe} was created and cannot be dropped: {left}", f"Drop it: {drop_sql(probe)}"
        )
    return None


def _target_findings(look: _Look, tables: Catalogue, settings: Settings) -> Iterator[Finding]:
    try:
        inventory = read_targets(
            look.runner, list(tables.values()), database=look.database, check_policies=settings.check_policies
        )
    except StatementError as error:
        yield failed(
            Check.TARGETS,
            f"INFORMATION_SCHEMA of {look.database} cannot be read: {error}",
            f"GRANT USAGE ON DATABASE {look.database} TO ROLE {look.role}.",
        )
        yield from skipped([Check.GROUPS, Check.CANDIDATES], "what is there cannot be listed")
        return
    found = {target_of(table, database=look.database): table for table in tables.values()}
    refused = [finding for target, table in found.items() if (finding := refusal_finding(table, target, inventory))]
    if not look.is_embedded:
        refused += _governance_findings(look, tables, inventory)
    yield from refused
    if not any(finding.status == "FAIL" for finding in refused):
        yield ok(Check.TARGETS, _targets_detail(found, inventory))
    yield from _group_findings(look, tables, inventory, settings.publishing)
    bare = () if look.is_embedded else tuple(_bare_findings(look, tables, inventory))
    yield from bare
    if not bare:
        yield _candidates_finding(inventory, found.values(), keep_hours=settings.keep_candidates_hours)


def _log_findings(look: _Look, schema: str, session: ConnectorSession) -> Iterator[Finding]:
    """Send the statements that a run sends, without a row."""
    if not schema:
        yield from skipped([Check.LOG], "RUN_ELT_LOG_SCHEMA is not set")
        return
    tables = [log_table(name, schema, database=look.database) for name in COLUMNS]
    problems = [problem for table in tables if (problem := _cannot_log(look, table, session)) is not None]
    yield from problems
    if not problems:
        yield ok(Check.LOG, f"role {look.role} can add rows to {_listed(list(map(str, tables)))}")


def _cannot_log(look: _Look, table: Relation, session: ConnectorSession) -> Finding | None:
    try:
        send_rows(session, look.runner.run, table, [], patience=NO_PATIENCE)
    except StatementError as error:
        if not error.answered:
            raise
        if look.is_embedded and error.errno == OBJECT_MISSING:
            # The run creates it.
            return None
        return failed(
            Check.LOG,
            f"role {look.role} cannot add rows to {table}: {error}",
            "Run deploy/publish_log.sql, or unset RUN_ELT_LOG_SCHEMA.",
        )
    return None


def _group_findings(
    look: _Look, tables: Catalogue, inventory: TargetInventory, options: PublishOptions
) -> Iterator[Finding]:
    """End what dead runs have left half done, and yield what came of it."""
    locks = dict(locks_in(inventory, database=look.database))
    if not locks:
        yield ok(Check.GROUPS, "no exchange is left half done")
    for lock, note in locks.items():
        if not note.is_rollback and not note.is_over(look.runner.run.is_live):
            yield ok(Check.GROUPS, f"{note.holder} is publishing publish_group {note.group}")
            continue
        ended = end_exchange(look.runner, tables, lock, note, options=options)
        if ended.state == "open":
            # Of a command on another machine, nobody can tell yet whether it was killed.
            is_going_on = note.is_rollback and not note.is_over(look.runner.run.is_live)
            then = f"Then drop {lock}, if it still stands."
            yield failed(Check.GROUPS, ended.words, f"Leave {lock} there while it goes on." if is_going_on else then)
        else:
            yield ok(Check.GROUPS, ended.words)


def refusal_finding(table: AnalyticsTable, target: Relation, inventory: TargetInventory) -> Finding | None:
    """Return why the table would not be published, None if it would."""
    existing = inventory.at(target)
    if existing is not None:
        # By their names alone; a run compares schemas and columns too.
        declared = {each.words for each in declared_policies(table, database=target.database)}
        existing = replace(existing, policies=tuple(each for each in existing.policies if each not in declared))
    refused = refusal(table, target, existing, role=inventory.role)
    if refused is None:
        return None
    # What readers see is nothing to find out here.
    return failed(Check.TARGETS, refused.problem, refused.remedy)


def _governance_findings(look: _Look, tables: Catalogue, inventory: TargetInventory) -> Iterator[Finding]:
    """Yield the declared policies and tags that a run could not set, and those that the next one sets."""
    seen = GovernanceLook(
        lambda sql: look.runner.send(sql, tag=_TAG), tables.values(), database=look.database, role=look.role
    )
    for problem, remedy in seen.problems():
        yield failed(Check.TARGETS, problem, remedy)
    if drift := list(seen.drift(lambda target: _is_table(inventory, target))):
        yield ok(Check.TARGETS, f"the next run of each sets it: {'; '.join(drift[:NAMES_SHOWN])}{_and_more(drift)}")
    for problem in seen.unreadable:
        yield failed(Check.TARGETS, problem, f"Give role {look.role} what it lacks: a run asks the same.")


def _is_table(inventory: TargetInventory, target: Relation) -> bool:
    found = inventory.at(target)
    return found is not None and found.kind == "BASE TABLE"


def _targets_detail(found: Mapping[Relation, AnalyticsTable], inventory: TargetInventory) -> str:
    published = {target: existing for target in found if (existing := inventory.at(target)) is not None}
    detail = f"{len(published)} published, {len(found) - len(published)} not yet; nothing is lost by publishing"
    foreign = [
        f"{target} ({each.owner})" for target, each in published.items() if each.owner not in ("", inventory.role)
    ]
    if foreign:
        # Only publish: overwrite goes over them at all.
        detail += f". The order of two runs is not kept where another role owns the table: {_listed(sorted(foreign))}"
    return detail


def _bare_findings(look: _Look, tables: Catalogue, inventory: TargetInventory) -> Iterator[Finding]:
    """Yield the candidates that others can read though their tables have policies: a rejected one never gets them."""
    seen = GovernanceLook(
        lambda sql: look.runner.send(sql, tag=_TAG), tables.values(), database=look.database, role=look.role
    )
    for problem, remedy in seen.read_candidates(inventory.tables):
        yield failed(Check.CANDIDATES, problem, remedy)


def _candidates_finding(inventory: TargetInventory, declared: Iterable[AnalyticsTable], *, keep_hours: int) -> Finding:
    candidates = {place: each for place, each in inventory.tables.items() if is_candidate_name(place[1])}
    old = {(schema, name) for schema, name, _ in stale_candidates(inventory, declared, older_than_hours=keep_hours)}
    stuck = sorted(".".join(place) for place in old if candidates[place].owner not in ("", inventory.role))
    if stuck:
        return failed(
            Check.CANDIDATES,
            f"{len(stuck)} older than {keep_hours} h belong to another role, and role {inventory.role} cannot drop them: "
            f"{_listed(stuck)}.",
            "Drop them with the role that owns them, or grant its ownership.",
        )
    if not candidates:
        return ok(Check.CANDIDATES, "none is left behind")
    kept = len(candidates) - len(old)
    return ok(
        Check.CANDIDATES,
        f"the next run drops {len(old)} older than {keep_hours} h and keeps {kept} younger or unmarked ones",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + _and_more(names)


def _and_more(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return f" and {more} more" if more > 0 else ""
