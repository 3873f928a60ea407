"""Audits: questions put to a candidate, all in one scan, and their verdicts. Pure: `run_ctas` sends the query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from run_elt_dagster.relation import Relation, identifier_sql
from run_elt_dagster.table import AnalyticsTable


@dataclass(frozen=True)
class Bounds:
    """What a measure may be, both ends included; None is no bound."""

    min: int | None = None
    max: int | None = None

    def hold(self, value: int) -> bool:
        """Tell whether a value is inside."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def __str__(self) -> str:
        """Return the bounds as a message says them."""
        if self.min is not None and self.min == self.max:
            return f"exactly {self.min:,}"
        parts = [
            f"at least {self.min:,}" if self.min is not None else "",
            f"at most {self.max:,}" if self.max is not None else "",
        ]
        return " and ".join(part for part in parts if part) or "any number"


@dataclass(frozen=True)
class Measure:
    """A number to read off a table: an aggregate, a word for what it counts, and what it may be."""

    sql: str
    counts: str
    bounds: Bounds


@dataclass(frozen=True)
class Audit:
    """An asset check: its name, what it asks, and the numbers that answer."""

    name: str
    description: str
    measures: tuple[Measure, ...]


@dataclass(frozen=True)
class AuditOutcome:
    """The verdict of an audit.

    Attributes:
        audit: What was asked.
        got: The measured numbers by what they count; empty if the query failed.
        query_id: The query that measured.
        error: Why there are no numbers, if the query failed. An error is never a pass.
    """

    audit: Audit
    got: Mapping[str, int]
    query_id: str | None = None
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every measure is there and inside its bounds."""
        measures = self.audit.measures
        return self.error is None and all(
            measure.counts in self.got and measure.bounds.hold(self.got[measure.counts]) for measure in measures
        )

    @property
    def expected(self) -> dict[str, str]:
        """The bounds by what they count."""
        return {measure.counts: str(measure.bounds) for measure in self.audit.measures}

    def __str__(self) -> str:
        """Return the verdict in words, as in `check row_count found 0 rows, expected at least 1`."""
        if self.error is not None:
            return f"check {self.audit.name} could not be evaluated: {self.error}"
        found = [
            f"{self.got[measure.counts]:,} {measure.counts}, expected {measure.bounds}"
            for measure in self.audit.measures
            if self.passed or not measure.bounds.hold(self.got[measure.counts])
        ]
        return f"check {self.audit.name} found {'; '.join(found)}"


def audits_of(table: AnalyticsTable) -> tuple[Audit, ...]:
    """Return the audits of a table, the row count first."""
    audits = [_row_count(table)]
    if table.primary_key:
        audits.append(_primary_key(table.primary_key))
    return tuple(audits)


def _row_count(table: AnalyticsTable) -> Audit:
    rule = table.checks.row_count
    bounds = Bounds(min=rule.min, max=rule.max)
    return Audit("row_count", f"The number of rows is {bounds}.", (Measure("COUNT(*)", "rows", bounds),))


def _primary_key(columns: Sequence[str]) -> Audit:
    names = [identifier_sql(column) for column in columns]
    any_null = " OR ".join(f"{name} IS NULL" for name in names)
    # COUNT of a CASE is 0 without rows, on every engine; COUNT(DISTINCT a, b) leaves out rows with a NULL part, so that they are counted by themselves:
    # https://docs.snowflake.com/en/sql-reference/functions/count
    duplicates = f"COUNT(CASE WHEN NOT ({any_null}) THEN 1 END) - COUNT(DISTINCT {', '.join(names)})"
    return Audit(
        "primary_key",
        f"{', '.join(columns)} is never NULL and identifies a row.",
        (
            Measure(f"COUNT(CASE WHEN {any_null} THEN 1 END)", "rows with a NULL key", Bounds(max=0)),
            Measure(duplicates, "rows with a duplicate key", Bounds(max=0)),
        ),
    )


def audit_sql(audits: Sequence[Audit], relation: Relation) -> str:
    """Return the query that measures everything in one scan: one row, a number for every measure in order."""
    columns = ",\n  ".join(measure.sql for audit in audits for measure in audit.measures)
    return f"SELECT\n  {columns}\nFROM {relation.sql}"


def judge(audits: Sequence[Audit], row: Sequence[int], query_id: str) -> tuple[AuditOutcome, ...]:
    """Return the verdicts on the one row of `audit_sql`."""
    numbers = iter(row)
    return tuple(
        AuditOutcome(audit, {measure.counts: next(numbers) for measure in audit.measures}, query_id) for audit in audits
    )


def not_evaluated(audits: Sequence[Audit], error: str, query_id: str | None = None) -> tuple[AuditOutcome, ...]:
    """Return a failed verdict for every audit, for when the query itself failed."""
    return tuple(AuditOutcome(audit, {}, query_id, error) for audit in audits)
