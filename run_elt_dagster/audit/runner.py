"""Ask a table the questions of its audits: one scan for the simple ones, a query each for the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from run_elt_dagster.audit.catalogue import Inspection, Listed, inspection_columns_sql, inspection_of
from run_elt_dagster.audit.plan import (
    AuditOutcome,
    audits_of,
    failed_to_run,
    judge,
    judge_against_catalogue,
    query_sql,
    sample_sql,
    scan_sql,
)
from run_elt_dagster.model.candidate import candidate_prefix, is_candidate_of, is_from_its_run
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.snowflake.session import Answer, StatementError

Send = Callable[[str], Answer]
# A longer value of a row that a table shows is cut.
VALUE_LIMIT = 200


class AuditRunner:
    """The audits of one table, asked of one relation.

    Args:
        send: Sends a statement and raises StatementError where it fails.
        table: Whose audits.
        target: What readers see.
        candidate: What a run built; the target itself to audit what is published.
    """

    def __init__(self, send: Send, table: AnalyticsTable, *, target: Relation, candidate: Relation) -> None:
        self._send = send
        self._table = table
        self._target = target
        self._audited = candidate
        self._inspection_sql = inspection_columns_sql(target, candidate, prefix=candidate_prefix(table))
        self.audits = audits_of(table, database=target.database)

    def inspect(self) -> Inspection:
        """Return what the catalogue says now.

        Raises:
            StatementError: It does not answer.
        """
        answer = self._send(f"SELECT\n  {(',' + chr(10) + '  ').join(self._inspection_sql)}")
        return self._inspection(answer.rows[0])

    def evaluate(self) -> tuple[tuple[AuditOutcome, ...], Inspection]:
        """Return a verdict on every audit, in order, and what the catalogue said at the same time.

        A query that fails costs only the audits that it was to answer; each of those is then asked by itself.

        Raises:
            StatementError: Not even the catalogue answers.
        """
        answered, inspection = self._scan()
        on_target = self._audited == self._target
        outcomes = [
            judge_against_catalogue(
                answered.get(a.name) or AuditOutcome(a, {}), self._table, inspection, on_target=on_target
            )
            for a in self.audits
        ]
        return tuple(self._with_sample(outcome) for outcome in outcomes), inspection

    def unanswered(self, error: StatementError) -> tuple[AuditOutcome, ...]:
        """Return a failed verdict on every audit, for when no query could be asked."""
        return tuple(failed_to_run(audit, self._audited, str(error), error.query_id) for audit in self.audits)

    def _scan(self) -> tuple[dict[str, AuditOutcome], Inspection]:
        scanned = [audit for audit in self.audits if audit.in_scan]
        try:
            answer = self._send(scan_sql(scanned, self._audited, more=self._inspection_sql))
        except StatementError as error:
            if not error.answered:
                raise
            return {a.name: self._ask(a.name) for a in self.audits if a.measures}, self.inspect()
        *numbers, tables, columns = answer.rows[0]
        rest = iter(numbers)
        answered = {a.name: judge(a, [next(rest) for _ in a.measures], self._audited, answer.query_id) for a in scanned}
        alone = {a.name: self._ask(a.name) for a in self.audits if a.measures and not a.in_scan}
        return {**answered, **alone}, self._inspection((tables, columns))

    def _ask(self, name: str) -> AuditOutcome:
        audit = next(audit for audit in self.audits if audit.name == name)
        try:
            answer = self._send(query_sql(audit, self._audited))
        except StatementError as error:
            if not error.answered:
                raise
            return failed_to_run(audit, self._audited, str(error), error.query_id)
        return judge(audit, answer.rows[0], self._audited, answer.query_id)

    def _inspection(self, values: Sequence[Any]) -> Inspection:
        tables, columns = values
        found = inspection_of(tables, columns, target=self._target, candidate=self._audited)
        return replace(found, candidates=tuple(filter(self._is_candidate, found.candidates)))

    def _is_candidate(self, listed: Listed) -> bool:
        """Return whether a run has built it for this table: a table of another name, or a person's copy, is no rival."""
        if listed.name == self._audited.name:
            return True
        is_named_so = is_candidate_of(self._table, listed.name)
        return is_named_so and (listed.marker is None or is_from_its_run(listed.name, listed.marker))

    def _with_sample(self, outcome: AuditOutcome) -> AuditOutcome:
        """Add some rows that are wrong, if the table shows them; that they cannot be read changes no verdict."""
        if not self._table.show_rows or outcome.passed or outcome.error is not None or not outcome.audit.bad_rows:
            return outcome
        try:
            answer = self._send(sample_sql(outcome.audit, self._audited, rows=self._table.show_rows))
        except StatementError:
            return outcome
        return replace(outcome, sample=tuple(_shown_row(answer.columns, row) for row in answer.rows))


def _shown_row(columns: Sequence[str], row: Sequence[Any]) -> Mapping[str, str]:
    return {name: str(value)[:VALUE_LIMIT] for name, value in zip(columns, row, strict=False)}
