"""The declared policies and tags of a table: on what readers are about to see before they can, and looked up afterwards.

An audit counts true rows: the policies come when it is over, and nobody but the role of the run can read the candidate until then. Where
others could, `publish.creating` has them from the beginning.
https://docs.snowflake.com/en/user-guide/security-column-intro and https://docs.snowflake.com/en/user-guide/security-row-intro
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal, stored_name, stored_names
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.grants import show_grants_sql
from run_elt_dagster.publish.guards import (
    OBJECT_MISSING,
    InventoryTable,
    PublishRefusedError,
    Refusal,
    policy_references,
    policy_words,
    server_instant,
)
from run_elt_dagster.publish.methods import CandidateGoneError, replaces_object
from run_elt_dagster.publish.statements import drop_sql
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import RunStoppedError
from run_elt_dagster.snowflake.session import StatementError

ROW_ACCESS, MASKING, PROJECTION = "ROW_ACCESS_POLICY", "MASKING_POLICY", "PROJECTION_POLICY"
AGGREGATION, JOIN = "AGGREGATION_POLICY", "JOIN_POLICY"
# What the columns are for with which such a policy is set. Their order means nothing.
_KEYS = {AGGREGATION: "ENTITY KEY", JOIN: "ALLOWED JOIN KEYS"}
COPIED = "Rows are copied from it, so it has none from the beginning."
_REFERENCE = "POLICY_KIND, POLICY_DB, POLICY_SCHEMA, POLICY_NAME, REF_COLUMN_NAME, REF_ARG_COLUMN_NAMES, TAG_NAME"


@dataclass(frozen=True, order=True)
class Attached:
    """A policy on a table.

    Attributes:
        kind: As the catalogue has it, ROW_ACCESS_POLICY for example.
        policy: The stored names of its database and schema, and its own.
        column: The stored name of the column that it protects; empty for a policy of the table.
        arguments: The stored names of the other columns that it is called with, in its order; of a key, sorted.
        tag: The tag that brings it, empty if it was set on the table itself.
    """

    kind: str
    policy: tuple[str, ...]
    column: str = ""
    arguments: tuple[str, ...] = ()
    tag: str = ""

    @property
    def words(self) -> str:
        """The policy as the look at many tables at once has it: without its schema and columns."""
        return policy_words(self.kind, self.policy[-1])

    def __str__(self) -> str:
        """Return it for a person: names, and nothing of what it does."""
        words = policy_words(self.kind, Relation(*self.policy))
        columns = ", ".join(filter(None, (self.column, *self.arguments)))
        return f"{words}{f' on {columns}' if columns else ''}{f' by tag {self.tag}' if self.tag else ''}"


def declared_policies(table: AnalyticsTable, *, database: str) -> list[Attached]:
    """Return the policies that a table's file declares, as the catalogue would list them.

    Args:
        table: The table.
        database: Stored name of the session's database, for names without one.
    """
    found: list[Attached] = []
    if table.policies is None:
        return found
    if (rows := table.policies.row_access) is not None:
        columns = tuple(map(stored_name, rows.on))
        found.append(Attached(ROW_ACCESS, _full(rows.name, database), arguments=columns))
    for column, mask in table.policies.masking.items():
        using = tuple(map(stored_name, mask.using or ()))
        found.append(Attached(MASKING, _full(mask.name, database), stored_name(column), using))
    for column, name in table.policies.projection.items():
        found.append(Attached(PROJECTION, _full(name, database), stored_name(column)))
    if (groups := table.policies.aggregation) is not None:
        found.append(_by_key(AGGREGATION, _full(groups.name, database), groups.entity_key or ()))
    if (joins := table.policies.join) is not None:
        found.append(_by_key(JOIN, _full(joins.name, database), joins.allowed_keys or ()))
    return found


def _by_key(kind: str, policy: tuple[str, ...], columns: Iterable[str]) -> Attached:
    return Attached(kind, policy, arguments=tuple(sorted(map(stored_name, columns))))


def _full(name: str, database: str) -> tuple[str, ...]:
    return (database, *stored_names(name))[-3:]


def attach_sql(relation: Relation, attached: Attached) -> str:
    """Return the statement that sets a policy. A second one fails and changes nothing.

    https://docs.snowflake.com/en/sql-reference/sql/alter-table
    """
    policy = Relation(*attached.policy).sql
    columns = ", ".join(map(quote_identifier, attached.arguments))
    if attached.kind == ROW_ACCESS:
        return f"ALTER TABLE {relation.sql} ADD ROW ACCESS POLICY {policy} ON ({columns})"
    kind = attached.kind.replace("_", " ")
    if attached.kind in _KEYS:
        key = f" {_KEYS[attached.kind]} ({columns})" if columns else ""
        return f"ALTER TABLE {relation.sql} SET {kind} {policy}{key}"
    own = quote_identifier(attached.column)
    using = f" USING ({own}, {columns})" if columns else ""
    return f"ALTER TABLE {relation.sql} MODIFY COLUMN {own} SET {kind} {policy}{using}"


def clause_sql(attached: Attached) -> str:
    """Return the clause of CREATE TABLE that sets a policy: of the table, or behind the type of its column.

    https://docs.snowflake.com/en/sql-reference/sql/create-table
    """
    policy = Relation(*attached.policy).sql
    columns = ", ".join(map(quote_identifier, attached.arguments))
    words = f"WITH {attached.kind.replace('_', ' ')} {policy}"
    if attached.kind == ROW_ACCESS:
        return f"{words} ON ({columns})"
    if attached.kind in _KEYS:
        return f"{words} {_KEYS[attached.kind]} ({columns})" if columns else words
    return f"{words} USING ({quote_identifier(attached.column)}, {columns})" if columns else words


def describe_sql(attached: Attached) -> str:
    """Return the statement that fails where the role may not apply a policy, or there is none.

    https://docs.snowflake.com/en/sql-reference/sql/desc-masking-policy
    """
    return f"DESCRIBE {attached.kind.replace('_', ' ')} {Relation(*attached.policy).sql}"


def asks_for_exemption(table: AnalyticsTable) -> bool:
    """Return whether a run has to ask that the policies of a table exempt its role: it compares new rows with those that stay."""
    return table.is_in_parts and table.policies is not None and table.policies.restricts_queries


def exemption_sql(relation: Relation) -> str:
    """Return the query that Snowflake refuses where an aggregation or a join policy does not exempt the role.

    https://docs.snowflake.com/en/user-guide/aggregation-policies and https://docs.snowflake.com/en/user-guide/join-policies: it neither
    groups nor joins. It reads no value.
    """
    return f"SELECT 1 FROM {relation.sql} LIMIT 1"


def references_sql(relation: Relation) -> str:
    """Return the query for the policies on a table: https://docs.snowflake.com/en/sql-reference/functions/policy_references."""
    return f"SELECT {_REFERENCE} FROM TABLE({policy_references(relation)})"


def references_in(rows: Iterable[Sequence[Any]]) -> frozenset[Attached]:
    """Return the policies in the answer to `references_sql`."""
    return frozenset(
        Attached(
            str(kind),
            (str(database), str(schema), str(name)),
            str(column or ""),
            _arguments(str(kind), arguments),
            str(tag or ""),
        )
        for kind, database, schema, name, column, arguments, tag in rows
    )


def _arguments(kind: str, listed: str | None) -> tuple[str, ...]:
    names = tuple(map(str, json.loads(listed))) if listed else ()
    return tuple(sorted(names)) if kind in _KEYS else names


def all_references_sql(relations: Sequence[Relation]) -> str:
    """Return the query for the policies on several tables: rows of a table's number in the list, and a policy as `references_sql` has it."""
    return " UNION ALL ".join(
        f"SELECT {number} AS N, {_REFERENCE} FROM TABLE({policy_references(relation)})"
        for number, relation in enumerate(relations)
    )


def references_by_table(
    relations: Sequence[Relation], rows: Iterable[Sequence[Any]]
) -> dict[Relation, frozenset[Attached]]:
    """Return the policies in the answer to `all_references_sql`, by their table."""
    found: dict[int, list[Sequence[Any]]] = {}
    for number, *reference in rows:
        found.setdefault(int(number), []).append(reference)
    return {relation: references_in(found.get(number, ())) for number, relation in enumerate(relations)}


def declared_tags(table: AnalyticsTable, *, database: str) -> list[tuple[Relation, str]]:
    """Return the tags that a table's file declares, each with its value.

    Args:
        table: The table.
        database: Stored name of the session's database, for names without one.
    """
    return [(Relation(*_full(name, database)), value) for name, value in table.object_tags.items()]


def tags_sql(table: AnalyticsTable, relation: Relation) -> str | None:
    """Return the statement that sets the declared tags, None if there are none; safe to repeat.

    https://docs.snowflake.com/en/user-guide/object-tagging/introduction
    """
    tags = [f"{tag.sql} = {quote_literal(value)}" for tag, value in declared_tags(table, database=relation.database)]
    return f"ALTER TABLE {relation.sql} SET TAG {', '.join(tags)}" if tags else None


def tag_value(tag: Relation, relation: Relation) -> str:
    """Return the expression for the value of a table's tag: https://docs.snowflake.com/en/sql-reference/functions/system_get_tag."""
    return f"SYSTEM$GET_TAG({quote_literal(tag.sql)}, {quote_literal(relation.sql)}, 'table')"


def tag_values_sql(table: AnalyticsTable, relation: Relation) -> str:
    """Return the query for the values of the declared tags, in their order."""
    asked = (tag_value(tag, relation) for tag, _ in declared_tags(table, database=relation.database))
    return f"SELECT {', '.join(asked)}"


def probe_sql(candidate: Relation, marker: Marker) -> str:
    """Return the statement that creates an empty table in the candidate's place: it has the grants that the candidate would have.

    Args:
        candidate: Where.
        marker: Marks what a killed run leaves of it, so a later run drops it.
    """
    comment = quote_literal(str(marker))
    return f"CREATE OR REPLACE TRANSIENT TABLE {candidate.sql} COMMENT = {comment} AS (\nSELECT 1 AS N WHERE FALSE\n)"


def grants_in(rows: Iterable[Sequence[Any]], *, role: str) -> list[str]:
    """Return who else has a right on a table, in words, from the answer to `show_grants_sql`.

    Args:
        rows: The answer.
        role: The session's role; empty where it is not known.
    """
    found: set[str] = set()
    for _, privilege, _, _, _, grantee, *_ in rows:
        if grantee != role and (role or privilege != "OWNERSHIP"):
            found.add(f"{privilege} to {grantee}")
    return sorted(found)


def planned_before_build(
    table: AnalyticsTable, candidate: Relation, target: Relation, *, exists: bool, marker: Marker
) -> Iterator[str]:
    """Yield what is asked before the build of a table with policies."""
    if table.policies is None:
        return
    if exists:
        yield references_sql(target)
        yield from _planned_exemption(table, target)
    yield probe_sql(candidate, marker)
    yield show_grants_sql(candidate)
    yield drop_sql(candidate)


def planned_before_exchange(table: AnalyticsTable, relation: Relation, *, stays: bool) -> Iterator[str]:
    """Yield what protects a table before the exchange.

    Args:
        table: The table.
        relation: What gets the policies and tags.
        stays: Whether it is what readers see. It has its policies from an earlier run then, and its tags come after the exchange.
    """
    if table.policies is not None:
        yield references_sql(relation)
    if not stays:
        policies = declared_policies(table, database=relation.database)
        yield from (attach_sql(relation, each) for each in sorted(policies))
        yield from _planned_tags(table, relation)
    if table.policies is not None:
        yield references_sql(relation)
        yield from _planned_exemption(table, relation)


def _planned_exemption(table: AnalyticsTable, relation: Relation) -> Iterator[str]:
    if asks_for_exemption(table):
        yield exemption_sql(relation)


def planned_after_exchange(table: AnalyticsTable, target: Relation) -> Iterator[str]:
    """Yield the look whether readers see a protected table, and its tags."""
    if table.policies is not None:
        yield references_sql(target)
    yield from _planned_tags(table, target)


def _planned_tags(table: AnalyticsTable, relation: Relation) -> Iterator[str]:
    if tags := tags_sql(table, relation):
        yield tags
        yield tag_values_sql(table, relation)


class Governance:
    """Puts the declared policies and tags of one table where they belong. One of a table without any sends nothing.

    Where the table that readers see stays the same object, that gets the policies, and the candidate is left bare.

    Args:
        work: The table on its way.
    """

    def __init__(self, work: TableWork) -> None:
        self._work, self._stays = work, not replaces_object(work.table)
        applies = work.options.applies_policies
        self._declared = frozenset(declared_policies(work.table, database=work.target.database) if applies else ())
        self._has_tags = applies and bool(work.table.object_tags)

    @property
    def has_policies(self) -> bool:
        """Whether the file declares some, and they are applied."""
        return bool(self._declared)

    @property
    def hides_rows(self) -> bool:
        """Whether one of them may hide rows from the statements of the run."""
        return any(each.kind == ROW_ACCESS for each in self._declared)

    def undeclared(self) -> tuple[str, ...]:
        """Return the policies on the table that readers see and that the file does not declare, in words.

        Raises:
            StatementError: They could not be listed.
        """
        return tuple(sorted(map(str, self._on(self._work.target) - self._declared)))

    def without_declared(self, existing: InventoryTable | None) -> InventoryTable | None:
        """Return what stands under the target's name with the policies alone that the file does not declare.

        Raises:
            StatementError: They could not be listed.
        """
        if not self._declared or existing is None or existing.kind != "BASE TABLE":
            return existing
        return replace(existing, policies=self.undeclared())

    @property
    def declared(self) -> frozenset[Attached]:
        """The policies that the file declares, if they are applied."""
        return self._declared

    def other_readers(self) -> list[str]:
        """Look before the build who else could read a candidate at once, in words. Its policies come after its audit.

        Grants on future tables of the schema or the database would let them. An empty table has the same ones.

        Raises:
            StatementError: It could not be found out.
        """
        if not self._declared:
            return []
        work = self._work
        marker = Marker("failed", work.run.run_id, server_instant(work.inventory, elapsed_seconds=0))
        try:
            work.send(probe_sql(work.candidate, marker))
            return grants_in(work.send(show_grants_sql(work.candidate)).rows, role=work.inventory.role)
        finally:
            # What is left is replaced by the candidate, or dropped by a later run.
            with contextlib.suppress(StatementError, RunStoppedError):
                work.send(drop_sql(work.candidate))

    def require_no_other_readers(self, why_bare: str = COPIED) -> None:
        """Require that nobody else could read a candidate before its policies are on.

        Args:
            why_bare: Why it does not have them from the beginning, in a sentence.

        Raises:
            PublishRefusedError: Somebody could.
            StatementError: It could not be found out.
        """
        if grants := self.other_readers():
            raise self.others_can_read(grants, why_bare)

    def others_can_read(self, grants: Sequence[str], why_bare: str = COPIED) -> PublishRefusedError:
        """Return why a candidate is not built that others could read, and that must not have its policies from the beginning."""
        work = self._work
        work.stage = "publish"
        return PublishRefusedError(
            Refusal(
                f"{work.table.name} with policies requires a schema without grants on future tables",
                ", ".join(grants),
                f"Revoke the grants on future tables of the schema or the database, and grant on {work.target} itself: publishing keeps that.",
                consequence=f"Its candidate could be read before it has its policies. {why_bare}",
                seen=work.production.words,
                reason=Reason.POLICIES,
            )
        )

    def require_declared(self) -> None:
        """Require that the candidate has the declared policies and no others.

        Raises:
            PublishRefusedError: It has others.
            StatementError: They could not be listed.
        """
        work = self._work
        if (present := self._on(work.candidate)) != self._declared:
            raise self._refused(work.candidate, present, self._wanted, "Others could have read it without them.")

    def require_exempt_role(self, relation: Relation) -> None:
        """Require that the policies on a table let this role compare its rows. What is not built in parts asks for nothing.

        Args:
            relation: Has the policies, or will have those that are declared.

        Raises:
            PublishRefusedError: They do not.
            StatementError: It could not be found out.
        """
        work = self._work
        if not (self._declared and asks_for_exemption(work.table)):
            return
        try:
            work.send(exemption_sql(relation))
        except StatementError as error:
            if not error.answered or error.transient or error.errno == OBJECT_MISSING:
                raise
            restricting = [each for each in self._declared if each.kind in _KEYS]
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} requires a role that {_listed(restricting)} exempts",
                    f"{work.inventory.role or 'a role'} that may not read {relation}: {error} (query {error.query_id})",
                    "Let the policy return NO_AGGREGATION_CONSTRAINT(), or JOIN_CONSTRAINT(JOIN_REQUIRED => FALSE), for the role of the runs.",
                    consequence="New rows could not be compared with those that stay.",
                    seen=work.production.words,
                    reason=Reason.PARTITION_POLICIES,
                )
            ) from error

    def protect(self) -> None:
        """Give what readers are about to see its policies and tags, and look whether it has them. Safe to repeat.

        Raises:
            PublishRefusedError: It has other policies.
            CandidateGoneError: It is gone, or a policy is.
            StatementError: They could not be set, or listed.
        """
        try:
            self.protect_object(is_in_place=self._stays and self._work.existing is not None)
        except StatementError as error:
            if error.errno != OBJECT_MISSING:
                raise
            raise CandidateGoneError(error) from error

    def protect_object(self, *, is_in_place: bool) -> None:
        """Give the candidate its policies and tags, or the table that stays its policies before the candidate's rows come into it.

        Raises:
            PublishRefusedError: It has other policies, or what is copied has some.
            StatementError: They could not be set, or listed.
        """
        work = self._work
        relation = work.target if is_in_place else work.candidate
        if self._declared and is_in_place and (hiding := self._on(work.candidate)):
            # Their values would be stored for good as the role sees them.
            raise self._refused(
                work.candidate, hiding, "no policies on what is copied", "Masked values would be stored."
            )
        if self._declared:
            self._attach(relation)
        if self._has_tags and not is_in_place:
            # Before the last look: a tag may bring a policy along.
            self._tag(relation)
        if self._declared:
            present = self._on(relation)
            if not self._declared <= present or (not is_in_place and present != self._declared):
                raise self._refused(relation, present, self._wanted, "Readers would see more than they may, or less.")
            self.require_exempt_role(relation)

    def look_after(self) -> None:
        """Look whether what readers see has its policies, and set its tags: a replaced table's values win over a clone's.

        https://docs.snowflake.com/en/release-notes/2026/other/2026-04-02-create-table-copy-tags-ga

        Raises:
            PublishRefusedError: Readers see a table without its policies.
        """
        work = self._work
        if self._declared:
            missing = self._still_missing()
            if missing:
                work.looks_afresh()
                raise self._refused(
                    work.target,
                    missing,
                    self._wanted,
                    "The table was published, and lacks its policies or cannot be asked.",
                )
        if self._has_tags:
            try:
                self._tag(work.target)
            except (StatementError, PublishRefusedError) as error:
                work.warnings.append(f"{work.table.name}: the tags of {work.target} are not those of its file: {error}")

    def _still_missing(self) -> frozenset[Attached] | None:
        """Return the declared policies that readers' table lacks after one more attempt to set them; empty if there are none."""
        work = self._work
        try:
            if missing := self._declared - self._on(work.target):
                work.warnings.append(f"{work.table.name}: {work.target} was published without {_listed(missing)}.")
                self._attach(work.target)
                return self._declared - self._on(work.target)
        except StatementError as error:
            work.warnings.append(f"{work.table.name}: the policies of {work.target} could not be looked up: {error}")
            return self._declared
        return frozenset()

    def _attach(self, relation: Relation) -> None:
        """Set what is missing. Where Snowflake says that it failed, a session of its own looks whether it took effect."""
        work = self._work
        for each in sorted(self._declared - self._on(relation)):
            try:
                work.send(attach_sql(relation, each))
            except StatementError:
                with work.runner.fresh() as fresh:
                    seen = references_in(work.send(references_sql(relation), runner=fresh).rows)
                if each not in seen:
                    raise

    def _tag(self, relation: Relation) -> None:
        work = self._work
        if statement := tags_sql(work.table, relation):
            work.send(statement)
        values = work.send(tag_values_sql(work.table, relation)).rows[0]
        for (name, value), got in zip(work.table.object_tags.items(), values, strict=True):
            if got != value:
                raise PublishRefusedError(
                    Refusal(
                        f"{work.table.name} requires the declared value of tag {name} on {relation}",
                        "another one" if got is not None else "none",
                        "Look in Snowflake's history for what sets it, then materialize again.",
                        seen=work.production.words,
                        reason=Reason.POLICIES,
                    )
                )

    def _on(self, relation: Relation) -> frozenset[Attached]:
        return references_in(self._work.send(references_sql(relation)).rows)

    @property
    def _wanted(self) -> str:
        return _listed(self._declared)

    def _refused(
        self, relation: Relation, present: Iterable[Attached], wanted: str, consequence: str
    ) -> PublishRefusedError:
        work = self._work
        return PublishRefusedError(
            Refusal(
                f"{work.table.name} requires {wanted} at {relation}",
                _listed(present),
                "Set the policies as the file declares them, or declare them as they are, then materialize again.",
                consequence=consequence,
                seen=work.production.words,
                reason=Reason.POLICIES,
            )
        )


def _listed(policies: Iterable[Attached]) -> str:
    return ", ".join(map(str, sorted(policies))) or "none"


def not_applied(tables: Iterable[AnalyticsTable]) -> str:
    """Return what the embedded Snowflake leaves out of tables, in a sentence; empty if it leaves nothing out."""
    names = [table.name for table in tables if table.policies is not None or table.object_tags]
    return (
        f"the embedded Snowflake applies no policies and tags. It leaves out those of {', '.join(names)}."
        if names
        else ""
    )
