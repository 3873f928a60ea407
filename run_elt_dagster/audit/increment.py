"""The audits of an increment: of its rows where they tell, and of the table as it would be after the merge where only that does."""

from collections.abc import Sequence
from dataclasses import dataclass

from run_elt_dagster.audit.catalogue import Column, Inspection
from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.plan import AuditOutcome, IncrementAudit, KeyAudit, with_keys_elsewhere
from run_elt_dagster.audit.runner import AuditRunner, Send
from run_elt_dagster.model.names import Relation, quote_identifier
from run_elt_dagster.model.past import Past
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.snowflake.session import StatementError


@dataclass(frozen=True)
class Merged(Relation):
    """A table as it would be after a merge, in the place of a table.

    Attributes:
        query: Its rows.
    """

    query: str = ""

    @property
    def sql(self) -> str:
        """A query in parentheses, as it stands behind FROM."""
        return f"({self.query})"


def same_key_sql(key: Sequence[str], one: str, other: str) -> str:
    """Return the condition that two rows have the same key; a NULL part equals nothing.

    Args:
        key: The columns, as stored.
        one: How the one row is called.
        other: How the other row is called.
    """
    return " AND ".join(f"{one}.{quote_identifier(name)} = {other}.{quote_identifier(name)}" for name in key)


def is_replaced_sql(candidate: Relation, key: Sequence[str]) -> str:
    """Return the condition that a row of the table `published` makes way for one of the candidate."""
    return f"EXISTS (SELECT 1 FROM {candidate.sql} AS built WHERE {same_key_sql(key, 'built', 'published')})"


def merged(
    target: Relation, candidate: Relation, *, key: Sequence[str], built: Sequence[Column], published: Sequence[Column]
) -> Merged:
    """Return the table as it would be after the merge, with the columns of the candidate.

    Args:
        target: What readers see.
        candidate: What is merged into it.
        key: The columns of the key, as stored.
        built: The columns of the candidate.
        published: The columns of the target.
    """
    there = {column.name for column in published}
    names = [quote_identifier(column.name) for column in built]
    # A column that the table does not have yet is NULL in the rows that stay.
    old = [name if column.name in there else f"NULL AS {name}" for name, column in zip(names, built, strict=True)]
    query = (
        f"SELECT {', '.join(names)} FROM {candidate.sql} UNION ALL "
        f"SELECT {', '.join(old)} FROM {target.sql} AS published WHERE NOT {is_replaced_sql(candidate, key)}"
    )
    return Merged(target.database, target.schema, target.name, query)


def keys_that_stay_sql(columns: Sequence[str], target: Relation, candidate: Relation, *, key: Sequence[str]) -> str:
    """Return the query for how many rows of the candidate have a key that a row has too that stays.

    Args:
        columns: The key in question, as stored.
        target: What readers see; before the merge or after it, the answer is the same.
        candidate: What is merged into it.
        key: The key of the increment.
    """
    listed = ", ".join(map(quote_identifier, columns))
    stays = f"SELECT {listed} FROM {target.sql} AS published WHERE NOT {is_replaced_sql(candidate, key)}"
    return (
        f"SELECT COUNT(*) FROM {candidate.sql} AS here "
        f"WHERE EXISTS (SELECT 1 FROM ({stays}) AS there WHERE {same_key_sql(columns, 'here', 'there')})"
    )


def rows_to_merge(outcomes: Sequence[AuditOutcome]) -> int:
    """Return how many rows the candidate has, by its verdicts; 0 where they were not counted."""
    counted = (outcome for outcome in outcomes if isinstance(outcome.audit, IncrementAudit))
    return int(next((each.got.get(each.audit.measures[0].counts) for each in counted), None) or 0)


class IncrementAuditRunner:
    """The audits of one table, asked of an increment.

    Args:
        send: Sends a statement and raises StatementError where it fails.
        table: Whose audits.
        target: What readers see.
        candidate: The increment.
        past: Returns what was published before; None where nobody knows.
    """

    def __init__(
        self, send: Send, table: AnalyticsTable, *, target: Relation, candidate: Relation, past: Past | None = None
    ) -> None:
        if table.increment is None:
            raise ValueError(f"{table.name} requires increment in its front matter for the audit of one, got none.")
        self._send, self._table, self._target, self._candidate = send, table, target, candidate
        self._past = past
        self._key = table.increment.stored_key
        self.audits = audits_of(table, database=target.database)
        of_rows = [audit for audit in self.audits if not audit.is_of_table]
        replaced = is_replaced_sql(candidate, self._key)
        self._of_rows = AuditRunner(send, table, target=target, candidate=candidate, audits=of_rows, replaced=replaced)

    def evaluate(self) -> tuple[tuple[AuditOutcome, ...], Inspection]:
        """Return a verdict on every audit, in order, and what the catalogue said.

        Raises:
            StatementError: Not even the catalogue answers.
        """
        of_rows, inspection = self._of_rows.evaluate()
        found = {outcome.audit.name: self._with_those_that_stay(outcome) for outcome in of_rows}
        after = merged(
            self._target,
            self._candidate,
            key=self._key,
            built=inspection.candidate_columns,
            published=inspection.target_columns,
        )
        of_table = [audit for audit in self.audits if audit.is_of_table]
        runner = AuditRunner(
            self._send,
            self._table,
            target=self._target,
            candidate=after,
            audits=of_table,
            known=inspection,
            past=self._past,
        )
        found |= {outcome.audit.name: outcome for outcome in runner.evaluate()[0]}
        return tuple(found[audit.name] for audit in self.audits), inspection

    def unanswered(self, error: StatementError) -> tuple[AuditOutcome, ...]:
        """Return a failed verdict on every audit, for when no query could be asked."""
        return tuple(audit.failed_to_run(self._candidate, str(error), error.query_id) for audit in self.audits)

    def _with_those_that_stay(self, outcome: AuditOutcome) -> AuditOutcome:
        audit = outcome.audit
        if not isinstance(audit, KeyAudit) or outcome.error is not None:
            return outcome
        try:
            answer = self._send(keys_that_stay_sql(audit.key, self._target, self._candidate, key=self._key))
        except StatementError as error:
            if not error.answered:
                raise
            return audit.failed_to_run(self._candidate, str(error), error.query_id)
        return with_keys_elsewhere(outcome, int(answer.rows[0][0]))
