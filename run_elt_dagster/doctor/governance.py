"""Whether a run could set the declared policies and tags, and what the next one sets on tables that readers see."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from run_elt_dagster.model.candidate import is_candidate_of, target_of
from run_elt_dagster.model.names import Relation, quote_identifier
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.grants import show_grants_sql
from run_elt_dagster.publish.guards import POLICIES_PER_QUERY, schema_of
from run_elt_dagster.publish.policies import (
    Attached,
    all_references_sql,
    declared_policies,
    declared_tags,
    describe_sql,
    references_by_table,
    tag_value,
)
from run_elt_dagster.snowflake.session import Answer, StatementError

# As many as one SELECT asks for.
TAGS_PER_QUERY = 100
# Each takes a statement.
CANDIDATES_ASKED = 20
_Ask = Callable[[str], Answer]


class GovernanceLook:
    """Looks at the declared policies and tags of tables.

    It takes one statement for each policy, one for each schema with tags, and for the tables that readers see one for 500 with policies, and
    one for 100 values of tags.

    Args:
        ask: Sends a query, and returns its answer. It raises StatementError.
        tables: The declared tables.
        database: Stored name of the session's database.
        role: The session's role.

    Attributes:
        unreadable: What `drift` could not find out, in words: a run asks the same.
    """

    def __init__(self, ask: _Ask, tables: Iterable[AnalyticsTable], *, database: str, role: str) -> None:
        self._ask, self._tables, self._database, self._role = ask, list(tables), database, role
        self.unreadable: list[str] = []

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield what a run could not set, each with its remedy."""
        yield from self._policies_without_right()
        yield from self._tags_without_right()

    def drift(self, exists: Callable[[Relation], bool]) -> Iterator[str]:
        """Yield what readers' tables have not as their files declare it, in words: the next run sets it.

        Args:
            exists: Whether readers see a table of this name.
        """
        found = {target_of(table, database=self._database): table for table in self._tables}
        present = {target: table for target, table in found.items() if exists(target)}
        yield from self._missing_policies({target: table for target, table in present.items() if table.policies})
        yield from self._other_tags({target: table for target, table in present.items() if table.object_tags})

    def read_candidates(self, places: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Yield the candidates of tables with policies that others can read, each with its remedy.

        A candidate gets its policies when it has passed its audit. A grant on all tables of the schema reaches it before, and
        one that was rejected stays without them.

        Args:
            places: What stands in the schemas: schema and name.
        """
        governed = [table for table in self._tables if table.policies is not None]
        found = [
            Relation(self._database, schema, name)
            for schema, name in sorted(places)
            if any(table.stored_schema == schema and is_candidate_of(table, name) for table in governed)
        ]
        for candidate in found[:CANDIDATES_ASKED]:
            try:
                rows = self._ask(show_grants_sql(candidate)).rows
            except StatementError as error:
                if not error.answered:
                    raise
                # Dropped meanwhile.
                continue
            others = sorted({str(row[5]) for row in rows if str(row[1]) != "OWNERSHIP" and str(row[5]) != self._role})
            if others:
                yield (
                    f"{_listed(others)} can read {candidate}. Its table has policies, and a candidate has none before it has passed its audit.",
                    f"DROP TABLE {candidate.sql}; or revoke the grant. Grant on each table, and never on all tables of the schema.",
                )

    def _policies_without_right(self) -> Iterator[tuple[str, str]]:
        users: dict[str, tuple[Attached, list[str]]] = {}
        for table in self._tables:
            for each in declared_policies(table, database=self._database):
                users.setdefault(describe_sql(each), (each, []))[1].append(table.name)
        for sql, (attached, names) in users.items():
            if (error := self._error_of(sql)) is None:
                continue
            policy, kind = Relation(*attached.policy), attached.kind.replace("_", " ")
            yield (
                f"{_listed(names)} requires {kind.lower()} {policy}, got: {error}",
                f"Create it, or GRANT USAGE ON SCHEMA {schema_of(policy)} and GRANT APPLY ON {kind} {policy} TO ROLE {self._role}.",
            )

    def _tags_without_right(self) -> Iterator[tuple[str, str]]:
        users: dict[Relation, list[str]] = {}
        for table in self._tables:
            for tag, _ in declared_tags(table, database=self._database):
                users.setdefault(tag, []).append(table.name)
        for place in sorted({(tag.database, tag.schema) for tag in users}):
            sql = f"SHOW TAGS IN SCHEMA {'.'.join(map(quote_identifier, place))}"
            shown = self._shown_names(sql)
            for tag in (tag for tag in users if (tag.database, tag.schema) == place):
                if tag.name not in shown:
                    yield (
                        f"{_listed(users[tag])} requires tag {tag}, got none that the role may apply",
                        f"Create it, or GRANT USAGE ON SCHEMA {schema_of(tag)} and GRANT APPLY ON TAG {tag} TO ROLE {self._role}.",
                    )

    def _shown_names(self, sql: str) -> frozenset[str]:
        """Return the tags of a schema that the role has a right on: https://docs.snowflake.com/en/sql-reference/sql/show-tags."""
        try:
            answer = self._ask(sql)
        except StatementError as error:
            if not error.answered:
                raise
            # There is no such schema, or the role may not use it.
            return frozenset()
        place = list(answer.columns).index("name")
        return frozenset(str(row[place]) for row in answer.rows)

    def _missing_policies(self, tables: Mapping[Relation, AnalyticsTable]) -> Iterator[str]:
        for some in _chunks(list(tables), POLICIES_PER_QUERY):
            try:
                present = references_by_table(some, self._ask(all_references_sql(some)).rows)
            except StatementError as error:
                if not error.answered:
                    raise
                self.unreadable.append(f"the policies of {_listed(list(map(str, some)))} cannot be listed: {error}")
                continue
            for target in some:
                missing = set(declared_policies(tables[target], database=self._database)) - present[target]
                if missing:
                    yield f"{target} is without {', '.join(map(str, sorted(missing)))}"

    def _other_tags(self, tables: Mapping[Relation, AnalyticsTable]) -> Iterator[str]:
        asked = [
            (target, tag, value)
            for target, table in tables.items()
            for tag, value in declared_tags(table, database=self._database)
        ]
        for some in _chunks(asked, TAGS_PER_QUERY):
            try:
                values = self._ask(f"SELECT {', '.join(tag_value(tag, target) for target, tag, _ in some)}").rows[0]
            except StatementError as error:
                if not error.answered:
                    raise
                targets = _listed(str(target) for target, _, _ in some)
                self.unreadable.append(f"the tags of {targets} cannot be read: {error}")
                continue
            for (target, tag, wanted), got in zip(some, values, strict=True):
                if got != wanted:
                    yield f"{target} has {'no' if got is None else 'another'} value of tag {tag}"

    def _error_of(self, sql: str) -> StatementError | None:
        try:
            self._ask(sql)
        except StatementError as error:
            if not error.answered:
                raise
            return error
        return None


def _chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def _listed(names: Iterable[str], *, limit: int = 5) -> str:
    known = sorted(set(names))
    more = len(known) - limit
    return ", ".join(known[:limit]) + (f" and {more} more" if more > 0 else "")
