"""Ask a table the questions of its audits: one scan for the simple ones, a query each for the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from run_elt_dagster.audit.catalogue import Inspection, inspection_columns_sql, inspection_of
from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.plan import Audit, Audited, AuditOutcome, Numbers, scan_sql
from run_elt_dagster.audit.usual_check import UsualAudit
from run_elt_dagster.model.candidate import candidate_prefix, is_candidate_of, is_from_its_run
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.past import Past, PublishedNumbers
from run_elt_dagster.model.production import TableVersion
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
        audits: Which of its audits; all by default.
        known: What the catalogue has said already, so it is not asked again.
        replaced: The condition of the rows of the target that make way for the candidate's; empty for all of them.
        past: Returns what was published before; None where nobody knows.
    """

    def __init__(
        self,
        send: Send,
        table: AnalyticsTable,
        *,
        target: Relation,
        candidate: Relation,
        audits: Sequence[Audit] | None = None,
        known: Inspection | None = None,
        replaced: str = "",
        past: Past | None = None,
    ) -> None:
        self._send, self._past = send, past
        self._table = table
        self._target = target
        self._audited = candidate
        self._inspection_sql = inspection_columns_sql(target, candidate, prefix=candidate_prefix(table))
        self._known, self._replaced = known, replaced
        self.audits = tuple(audits_of(table, database=target.database) if audits is None else audits)

    def inspect(self) -> Inspection:
        """Return what the catalogue says now.

        Raises:
            StatementError: It does not answer.
        """
        return self.inspect_with()[0]

    def inspect_with(self, *more: str) -> tuple[Inspection, tuple[Any, ...]]:
        """Return what the catalogue says now, and the values of other expressions, asked in the same statement.

        Raises:
            StatementError: It does not answer, or an expression is refused.
        """
        row = self._send(f"SELECT\n  {(',' + chr(10) + '  ').join((*self._inspection_sql, *more))}").rows[0]
        count = len(self._inspection_sql)
        return self._inspection(row[:count]), row[count:]

    @property
    def inspection_sql(self) -> Sequence[str]:
        """The expressions that ask the catalogue, for a SELECT that asks for more."""
        return self._inspection_sql

    def inspection_in(self, values: Sequence[Any]) -> Inspection:
        """Return what the catalogue says, by the answer to those expressions."""
        return self._inspection(values)

    def evaluate(self) -> tuple[tuple[AuditOutcome, ...], Inspection]:
        """Return a verdict on every audit, in order, and what the catalogue said at the same time.

        A query that fails costs only the audits that it was to answer; each of those is then asked by itself.

        Raises:
            StatementError: Not even the catalogue answers.
        """
        scan, inspection = self._scan()
        audited = self._under_audit(inspection)
        values = iter(scan.rows[0] if scan is not None else ())
        outcomes: list[AuditOutcome] = []
        for audit in self.audits:
            if scan is None or not audit.scanned:
                answer = self._ask(audit, audited)
            else:
                answer = Numbers(tuple(next(values) for _ in audit.scanned), scan.query_id)
            outcomes.append(self._judge(audit, answer, audited))
        return tuple(with_sample(self._send, self._table, self._audited, outcome) for outcome in outcomes), inspection

    def unanswered(self, error: StatementError) -> tuple[AuditOutcome, ...]:
        """Return a failed verdict on every audit, for when no query could be asked."""
        return tuple(self._judge(audit, error, Audited(self._audited)) for audit in self.audits)

    def _scan(self) -> tuple[Answer | None, Inspection]:
        """Return the answer to the one scan, None where it failed, and what the catalogue said."""
        more = self._inspection_sql if self._known is None else ()
        try:
            answer = self._send(scan_sql(self.audits, self._audited, more=more))
        except StatementError as error:
            if not error.answered:
                raise
            return None, self._known or self.inspect()
        return answer, self._known or self._inspection(answer.rows[0][-len(more) :])

    def _under_audit(self, inspection: Inspection) -> Audited:
        return Audited(
            self._audited,
            inspection,
            is_target=self._audited == self._target,
            published=self._target,
            replaced=self._replaced,
            base=inspection.target_rows if self._replaced else None,
            versions=versions_of(self._past, self._table, self.audits),
        )

    def _ask(self, audit: Audit, audited: Audited) -> Numbers | StatementError:
        sql = audit.asks(audited)
        if not sql:
            return Numbers()
        try:
            answer = self._send(sql)
        except StatementError as error:
            if not error.answered:
                raise
            return error
        return Numbers(tuple(answer.rows[0]), answer.query_id)

    def _judge(self, audit: Audit, answer: Numbers | StatementError, audited: Audited) -> AuditOutcome:
        if isinstance(answer, StatementError):
            return audit.failed_to_run(audited.relation, str(answer), answer.query_id)
        return audit.judge(answer, audited)

    def _inspection(self, values: Sequence[Any]) -> Inspection:
        tables, columns = values
        found = inspection_of(tables, columns, target=self._target, candidate=self._audited)
        return replace(found, candidates=tuple(filter(self._is_candidate, found.candidates)))

    def _is_candidate(self, listed: TableVersion) -> bool:
        """Return whether a run has built it for this table: a table of another name, or a person's copy, is no rival."""
        if listed.name == self._audited.name:
            return True
        is_named_so = is_candidate_of(self._table, listed.name)
        return is_named_so and (listed.marker is None or is_from_its_run(listed.name, listed.marker))


def versions_of(
    past: Past | None, table: AnalyticsTable, audits: Sequence[Audit], *, keys: Sequence[str] = ()
) -> Sequence[PublishedNumbers] | None:
    """Return what was published before of a table whose checks ask for it; None for any other, and where nobody knows.

    Args:
        past: Returns it.
        table: The table.
        audits: Those that are asked.
        keys: The partitions in question.
    """
    is_asked = past is not None and any(isinstance(audit, UsualAudit) for audit in audits)
    return past(table.key, keys) if past is not None and is_asked else None


def with_sample(send: Send, table: AnalyticsTable, relation: Relation, outcome: AuditOutcome) -> AuditOutcome:
    """Add some rows that are wrong, if the table shows them; that they cannot be read changes no verdict.

    Args:
        send: Sends a statement.
        table: The table.
        relation: What was asked.
        outcome: The verdict.
    """
    if not table.show_rows or outcome.passed or outcome.error is not None:
        return outcome
    sql = outcome.audit.sample_sql(relation, rows=table.show_rows)
    if not sql:
        return outcome
    try:
        answer = send(sql)
    except StatementError:
        return outcome
    return replace(outcome, sample=tuple(_shown_row(answer.columns, row) for row in answer.rows))


def _shown_row(columns: Sequence[str], row: Sequence[Any]) -> Mapping[str, str]:
    return {name: str(value)[:VALUE_LIMIT] for name, value in zip(columns, row, strict=False)}
