"""Policies and tags of a table as statements, and as the catalogue has them: all of it data, nothing is sent.

https://docs.snowflake.com/en/user-guide/security-column-intro and https://docs.snowflake.com/en/user-guide/security-row-intro
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal, stored_name, stored_names
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.grants import show_grants_sql
from run_elt_dagster.publish.guards import policy_references, policy_words
from run_elt_dagster.publish.statements import drop_sql

ROW_ACCESS, MASKING, PROJECTION = "ROW_ACCESS_POLICY", "MASKING_POLICY", "PROJECTION_POLICY"
AGGREGATION, JOIN = "AGGREGATION_POLICY", "JOIN_POLICY"
# What the columns are for with which such a policy is set. Their order means nothing.
_KEYS = {AGGREGATION: "ENTITY KEY", JOIN: "ALLOWED JOIN KEYS"}
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
    def restricts_queries(self) -> bool:
        """Whether it lets queries of some kinds alone read the table."""
        return self.kind in _KEYS

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
