"""What stands under the targets' names before a run, and what forbids to publish over it. Pure.

A clone or a swap puts another object under the name, and what hangs on the old one is lost with it: policies, streams, a
foreign owner. Where it cannot be known that nothing is lost, nothing is published.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from run_elt_dagster.model.candidate import instant
from run_elt_dagster.model.names import (
    Relation,
    display_name,
    quote_identifier,
    quote_literal,
    stored_names,
)
from run_elt_dagster.model.production import Production, TableVersion
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.snowflake.session import StatementError

# How many tables' policies one query asks for: a run of a thousand tables needs two, each of 80 kB.
POLICIES_PER_QUERY = 500
# "Object does not exist or not authorized": where it is said of a candidate, a run with a newer snapshot has taken it away; and
# "Insufficient privileges".
OBJECT_MISSING, NO_PRIVILEGE = 2003, 3001
# "Object already exists": another run published the table for the first time after this run had looked.
OBJECT_EXISTS = 2002


@dataclass(frozen=True)
class InventoryTable(TableVersion):
    """What stands under a name in a target schema, and what hangs on it.

    Attributes:
        managed_by: The owner of its schema if that is a managed access schema, None otherwise.
        policies: Masking, row access and other policies on it.
        streams: Streams that read it.
        unknown: Why policies or streams could not be looked up, empty if they could.
    """

    managed_by: str | None = None
    policies: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class TargetInventory:
    """What the target schemas hold when a run begins.

    Attributes:
        role: The session's role.
        server_time: Snowflake's clock when it answered; None if no target schema exists.
        tables: Everything by schema and name, as stored.
        schemas: Those that were asked for and exist, as stored; Snowflake lists no schema that the role has no right on.
    """

    role: str = ""
    server_time: datetime | None = None
    tables: Mapping[tuple[str, str], InventoryTable] = field(default_factory=dict[tuple[str, str], InventoryTable])
    schemas: frozenset[str] = frozenset()

    def at(self, relation: Relation) -> InventoryTable | None:
        """Return what stands under a name, None if nothing does."""
        return self.tables.get((relation.schema, relation.name))

    def production_at(self, relation: Relation) -> Production:
        """Return what readers see under a name as long as nothing is published there."""
        return Production.of(self.at(relation))


def inventory_sql(database: str, schemas: Iterable[str]) -> str:
    """Return the query for what the schemas hold: a row for each table, and one for a schema without any.

    https://docs.snowflake.com/en/sql-reference/info-schema/tables
    """
    catalogue = f"{quote_identifier(database)}.INFORMATION_SCHEMA"
    names = ", ".join(quote_literal(schema) for schema in sorted(set(schemas)))
    return (
        "SELECT CURRENT_ROLE(), CURRENT_TIMESTAMP(), s.SCHEMA_NAME, s.SCHEMA_OWNER, s.IS_MANAGED_ACCESS, t.TABLE_NAME, "
        "t.TABLE_TYPE, t.IS_DYNAMIC, t.IS_ICEBERG, t.IS_HYBRID, t.ROW_COUNT, t.TABLE_OWNER, t.COMMENT, t.CREATED "
        f"FROM {catalogue}.SCHEMATA AS s LEFT JOIN {catalogue}.TABLES AS t ON t.TABLE_SCHEMA = s.SCHEMA_NAME "
        f"WHERE s.SCHEMA_NAME IN ({names})"
    )


def inventory_of(rows: Sequence[Sequence[Any]]) -> TargetInventory:
    """Return what the answer to `inventory_sql` says."""
    if not rows:
        return TargetInventory()
    tables: dict[tuple[str, str], InventoryTable] = {}
    for (
        _,
        _,
        schema,
        schema_owner,
        managed,
        name,
        kind,
        dynamic,
        iceberg,
        hybrid,
        count,
        owner,
        comment,
        created,
    ) in rows:
        if name is None:
            continue
        special = next(
            (word for word, flag in zip(_SPECIAL, (dynamic, iceberg, hybrid), strict=True) if flag == "YES"), ""
        )
        tables[str(schema), str(name)] = InventoryTable(
            str(name),
            None if count is None else int(count),
            str(comment or ""),
            created_at=created,
            owner=str(owner or ""),
            kind=f"{special} TABLE" if special else str(kind),
            managed_by=str(schema_owner or "") if managed == "YES" else None,
        )
    now: datetime = rows[0][1]
    return TargetInventory(str(rows[0][0] or ""), now.astimezone(UTC), tables, frozenset(str(row[2]) for row in rows))


_SPECIAL = ("DYNAMIC", "ICEBERG", "HYBRID")

STREAMS_SQL = "SHOW STREAMS IN ACCOUNT"
# The columns of SHOW STREAMS: https://docs.snowflake.com/en/sql-reference/sql/show-streams
_STREAM_NAME, _STREAM_DATABASE, _STREAM_SCHEMA, _STREAM_SOURCE, _STREAM_TABLES = 1, 2, 3, 6, 8
_LISTED_NAME = re.compile(r'(?:[^",]|"(?:[^"]|"")*")+')


def streams_by_table(rows: Iterable[Sequence[Any]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the names of streams by the stored name of what they read: a table, or a view and the tables below it.

    A stream on a view goes stale too when a table below it is replaced: https://docs.snowflake.com/en/user-guide/streams-intro
    """
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for row in rows:
        name = ".".join(str(row[part]) for part in (_STREAM_DATABASE, _STREAM_SCHEMA, _STREAM_NAME))
        listed = _LISTED_NAME.findall(str(row[_STREAM_TABLES] or ""))
        for table in dict.fromkeys(map(_stored, [str(row[_STREAM_SOURCE] or ""), *listed])):
            found[table] = (*found.get(table, ()), name)
    return found


def _stored(name: str) -> tuple[str, ...]:
    """Return the stored names in a listed one; its parts as they are where it is no identifier, so no stream is overlooked."""
    try:
        return stored_names(name.strip())
    except ValueError:
        return tuple(name.strip().split("."))


def policies_sql(relations: Sequence[Relation]) -> str:
    """Return the query for the policies on tables: rows of a table's number in the list, and a policy."""
    return " UNION ALL ".join(
        f"SELECT {number} AS N, POLICY_KIND, POLICY_NAME FROM TABLE({policy_references(relation)})"
        for number, relation in enumerate(relations)
    )


def policies_column_sql(relation: Relation) -> str:
    """Return an expression for a SELECT: the policies on a table, as one JSON array. It fails where there is no such table."""
    return (
        "(SELECT ARRAY_AGG(OBJECT_CONSTRUCT('kind', POLICY_KIND, 'name', POLICY_NAME)) "
        f"FROM TABLE({policy_references(relation)}))"
    )


def policies_in(listed: Any) -> tuple[str, ...]:
    """Return the policies in the array of `policies_column_sql`, in words."""
    rows = json.loads(listed) if isinstance(listed, str) else (listed or [])
    return tuple(sorted({policy_words(row["kind"], row["name"]) for row in rows}))


def policy_references(relation: Relation) -> str:
    """Return the call of the table function: https://docs.snowflake.com/en/sql-reference/functions/policy_references."""
    return (
        f"{quote_identifier(relation.database)}.INFORMATION_SCHEMA.POLICY_REFERENCES("
        f"REF_ENTITY_NAME => {quote_literal(relation.sql)}, REF_ENTITY_DOMAIN => 'TABLE')"
    )


def policy_words(kind: Any, name: Any) -> str:
    """Return a policy for a person, as in `row access policy REGIONS`."""
    return f"{str(kind).lower().replace('_', ' ')} {name}"


def with_policies(
    inventory: TargetInventory, relations: Sequence[Relation], rows: Iterable[Sequence[Any]]
) -> TargetInventory:
    """Return the inventory with the answer to `policies_sql` in it."""
    found: dict[int, tuple[str, ...]] = {}
    for number, *policy in rows:
        found[int(number)] = (*found.get(int(number), ()), policy_words(*policy))
    return _changed(inventory, {relations[number]: {"policies": tuple(sorted(set(p)))} for number, p in found.items()})


def with_streams(
    inventory: TargetInventory, relations: Sequence[Relation], rows: Iterable[Sequence[Any]]
) -> TargetInventory:
    """Return the inventory with the answer to `STREAMS_SQL` in it."""
    found = streams_by_table(rows)
    names = {relation: found.get((relation.database, relation.schema, relation.name), ()) for relation in relations}
    return _changed(inventory, {relation: {"streams": streams} for relation, streams in names.items() if streams})


def with_unknown(inventory: TargetInventory, relations: Sequence[Relation], reason: str) -> TargetInventory:
    """Return the inventory with a reason why something about the tables is not known."""
    return _changed(
        inventory,
        {r: {"unknown": (*found.unknown, reason)} for r in relations if (found := inventory.at(r)) is not None},
    )


def _changed(inventory: TargetInventory, changes: Mapping[Relation, Mapping[str, Any]]) -> TargetInventory:
    tables = dict(inventory.tables)
    for relation, change in changes.items():
        key = (relation.schema, relation.name)
        tables[key] = replace(tables[key], **change)
    return replace(inventory, tables=tables)


@dataclass(frozen=True)
class Refusal:
    """Why a table must not be published, or rolled back.

    Attributes:
        rule: What is required, or what would be done, in words.
        got: What stands there instead.
        remedy: What to do.
        consequence: What would be lost; empty where nothing would.
        seen: What readers see, in a sentence; empty where whoever refuses does not know it.
        reason: The same as a fact, for the runbook; None where no alert tells it.
    """

    rule: str
    got: str
    remedy: str
    consequence: str = ""
    seen: str = ""
    reason: Reason | None = None

    @property
    def problem(self) -> str:
        """What is wrong, without what readers see and the remedy."""
        return " ".join(filter(None, (f"{self.rule}, got {self.got}.", self.consequence)))

    @property
    def message(self) -> str:
        """All of it, as an error says it."""
        return " ".join(filter(None, (self.problem, self.seen, self.remedy)))


def no_table_refusal(table: AnalyticsTable, target: Relation, existing: InventoryTable) -> Refusal:
    """Return why nothing is published over what is no table."""
    return Refusal(
        f"{table.name} requires a table as its target",
        f"a {existing.kind.lower()} at {target}",
        "Drop or rename it, then materialize again.",
        seen="Readers still see it.",
        reason=Reason.NO_TABLE,
    )


def lost_by_replacing(
    target: Relation, existing: InventoryTable, *, role: str, act: str, seen: str = ""
) -> Refusal | None:
    """Return why no other object may come under the name of a table; None if it may.

    Args:
        target: What readers see.
        existing: What stands there.
        role: The session's role.
        act: What would replace it, in words.
        seen: What readers see, in a sentence; that they see the previous table by default.
    """
    lost = next(_lost(existing, role), None)
    if lost is None:
        return None
    rule = f"{act} would put another object in the place of {target}"
    keep = "Use publish: overwrite to keep the object"
    return Refusal(
        rule,
        lost.got,
        f"{keep}, {lost.or_else}." if lost.or_else else f"{keep}.",
        consequence=lost.consequence,
        seen=seen or Production("unchanged").words,
        reason=lost.reason,
    )


def policies_refusal(
    table: AnalyticsTable, target: Relation, policies: Sequence[str], unknown: Sequence[str] = ()
) -> Refusal | None:
    """Return why the rows of a table cannot be exchanged in parts because of its policies; None if they can.

    DELETE leaves the rows that a row access policy hides, unseen by a later count, and compares masked values:
    https://docs.snowflake.com/en/user-guide/security-row-intro

    Args:
        table: The table.
        target: What readers see.
        policies: The policies on it, in words.
        unknown: Why they could not be looked up, empty if they could.
    """
    if not (policies or unknown):
        return None
    remedy = "Declare them in its file, put them on a view of the table, or build it whole with publish: overwrite."
    if not policies:
        remedy = "Set RUN_ELT_CHECK_POLICIES=false where the account has no policies."
    return Refusal(
        f"{table.name} with {'partitions' if table.partitions is not None else 'increments'} requires a table without policies at {target}",
        f"{', '.join(policies)} on it" if policies else f"no answer about its policies ({'; '.join(unknown)})",
        remedy,
        consequence="Old rows that the role cannot see would stay beside the new ones.",
        seen=Production("unchanged").words,
        reason=Reason.PARTITION_POLICIES,
    )


@dataclass(frozen=True)
class _Loss:
    """What hangs on an object, what would happen to it, and what helps besides `publish: overwrite`."""

    reason: Reason
    got: str
    consequence: str
    or_else: str = ""


def _lost(existing: InventoryTable, role: str) -> Iterator[_Loss]:
    """Yield what forbids to replace the object."""
    if existing.kind != "BASE TABLE":
        yield _Loss(Reason.SPECIAL_TABLE, existing.kind.lower(), "It would become an ordinary table.")
    if existing.policies:
        got = f"{', '.join(existing.policies)} on it"
        yield _Loss(Reason.POLICIES, got, "The new object would lack them and expose data.")
    if existing.streams:
        yield _Loss(Reason.STREAMS, f"streams that read it: {', '.join(existing.streams)}", "They would go stale.")
    if existing.owner and existing.owner != role:
        got = f"a table that role {existing.owner} owns, not {role}"
        yield _Loss(Reason.OWNER, got, "It would change hands.", f"or grant its ownership to {role}")
    if existing.managed_by is not None and existing.managed_by != role:
        got = f"a managed access schema that role {existing.managed_by} owns, not {role}"
        yield _Loss(Reason.MANAGED_ACCESS, got, "Its grants could be lost.")
    if existing.unknown:
        yield _Loss(
            Reason.POLICIES_UNKNOWN,
            f"no answer about what hangs on it ({'; '.join(existing.unknown)})",
            "Policies or streams could be lost.",
            "or set RUN_ELT_CHECK_POLICIES=false where the account has no policies",
        )


def schema_of(relation: Relation) -> str:
    """Return the full name of a table's schema, as SQL and a person write it."""
    return f"{display_name(relation.database)}.{display_name(relation.schema)}"


def create_schema_sql(relation: Relation) -> str:
    """Return the statement that creates a table's schema; safe to repeat.

    https://docs.snowflake.com/en/sql-reference/sql/create-schema
    """
    return f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(relation.database)}.{quote_identifier(relation.schema)}"


def schema_remedy(relation: Relation, *, role: str) -> str:
    """Return who has to do what, so a role can create tables in a table's schema.

    A run never creates a schema on an account: who owns it decides who may grant on its tables.
    https://docs.snowflake.com/en/user-guide/security-access-control-privileges#schema-privileges
    """
    schema = schema_of(relation)
    return (
        f"Let an administrator with CREATE SCHEMA on database {display_name(relation.database)}, such as SYSADMIN, run: "
        f"CREATE SCHEMA IF NOT EXISTS {schema}; GRANT USAGE, CREATE TABLE ON SCHEMA {schema} TO ROLE {role};"
    )


def missing_schema(target: Relation, error: StatementError, *, role: str) -> tuple[str, str] | None:
    """Return what is wrong with the schema of a target, and the remedy; None if the error is about something else.

    Snowflake gives one error for a schema that does not exist and for one that the role may not use.

    Args:
        target: What readers see.
        error: Why the build failed.
        role: The session's role.
    """
    schema = schema_of(target)
    problems = {
        OBJECT_MISSING: f"schema {schema} does not exist, or role {role} may not use it.",
        NO_PRIVILEGE: f"role {role} may not create tables in schema {schema}.",
    }
    named = re.search("schema '([^']+)'", str(error), re.IGNORECASE)
    own = {schema, display_name(target.schema), target.schema, f"{target.database}.{target.schema}"}
    if error.errno not in problems or named is None or named[1] not in own:
        return None
    return problems[error.errno], schema_remedy(target, role=role)


def server_instant(inventory: TargetInventory, *, elapsed_seconds: float) -> str:
    """Return Snowflake's time some seconds after it answered, as markers have it; the clocks of two runs' machines differ."""
    base = inventory.server_time or datetime.now(UTC)
    return instant(datetime.fromtimestamp(base.timestamp() + elapsed_seconds, UTC))


class PublishRefusedError(Exception):
    """Publishing would break a rule; nothing was published.

    Attributes:
        refusal: The rule, what was got, and the remedy.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def require_same_columns(
    table: AnalyticsTable, target: Relation, *, new: Sequence[str], published: Sequence[str]
) -> None:
    """Refuse to overwrite a table that has other columns.

    Raises:
        PublishRefusedError: It has.
    """
    if sorted(new) == sorted(published):
        return
    added = ", ".join(sorted(set(new) - set(published))) or "none"
    removed = ", ".join(sorted(set(published) - set(new))) or "none"
    raise PublishRefusedError(
        Refusal(
            f"{table.name} with publish: overwrite requires the columns of {target}",
            f"new columns: {added}; missing columns: {removed}",
            "Alter the table to match, or use publish: clone.",
            seen=Production("unchanged").words,
            reason=Reason.OVERWRITE_COLUMNS,
        )
    )
