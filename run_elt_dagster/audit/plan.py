"""Audits: questions put to a candidate, the simple ones all in one scan, and their verdicts. Pure: `audit.runner` asks them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from run_elt_dagster.audit.catalogue import Column, Inspection
from run_elt_dagster.model.checks import TABLE_PLACEHOLDER, Freshness, Range, Relationship, RowCountChange, Severity
from run_elt_dagster.model.column_type import column_type
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal, stored_name
from run_elt_dagster.model.table import AnalyticsTable

# A check that counts the rows of a query stops here: to know that there are so many is enough.
BAD_ROWS_LIMIT = 10_000
# What a check got that could not be asked.
NO_ANSWER = "no answer"
Number = int | float


@dataclass(frozen=True)
class Bounds:
    """What a measure may be, both ends included; None is no bound."""

    min: Number | None = None
    max: Number | None = None

    def hold(self, value: Number) -> bool:
        """Return whether a value is inside."""
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
    """A number to read off a table.

    Attributes:
        sql: The aggregate.
        counts: What the number counts, in words.
        bounds: What the number may be.
        counts_bad_rows: Whether it counts rows that are wrong, and not all rows, hours or percent.
    """

    sql: str
    counts: str
    bounds: Bounds
    counts_bad_rows: bool = False


def _bad_rows(sql: str, counts: str) -> Measure:
    return Measure(sql, counts, Bounds(max=0), counts_bad_rows=True)


Comparison = Literal["row count", "contract", "columns"]
"""What the catalogue answers: the published row count, the declared columns, or the published columns."""


@dataclass(frozen=True)
class Audit:
    """An asset check: its name, what it asks, and how it is answered.

    Attributes:
        name: Of the asset check.
        description: What it asks, in a sentence.
        measures: Aggregates of the table, or of what `query` returns; empty if an inspection of the catalogue answers it.
        compares: What an inspection of the catalogue is compared with; None if the measures alone decide.
        severity: Whether a failure stops the publishing, or is only shown.
        query: A query of the rows that are wrong, `{table}` in it being the table; empty for what one scan answers.
        bad_rows: A query of the rows that are wrong, to show some of them; empty if there are none to show.
    """

    name: str
    description: str
    measures: tuple[Measure, ...] = ()
    compares: Comparison | None = None
    severity: Severity = "error"
    query: str = ""
    bad_rows: str = ""

    @property
    def in_scan(self) -> bool:
        """Whether the one scan of the table answers it."""
        return bool(self.measures) and not self.query


@dataclass(frozen=True)
class AuditOutcome:
    """The verdict on an audit.

    Attributes:
        audit: What was asked.
        got: The measured values by what they count; empty if the query failed.
        query_id: Snowflake's id of the query that answered, or failed.
        error: Why there is no answer. An error is never a pass.
        query: The question as SQL that a person can run again; empty if the catalogue answered.
        found: What an audit without measures found wrong, in words; None if it found nothing.
        note: Why the question does not apply, empty if it does; it then counts as passed.
        sample: Rows that are wrong, only for tables that show them.
    """

    audit: Audit
    got: Mapping[str, Number | None]
    query_id: str | None = None
    error: str | None = None
    query: str = ""
    found: str | None = None
    note: str = ""
    sample: tuple[Mapping[str, str], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every measure is there and inside its bounds."""
        if self.note:
            return True
        return self.error is None and self.found is None and all(self._holds(m) for m in self.audit.measures)

    @property
    def blocks(self) -> bool:
        """Whether it stops the publishing."""
        return not self.passed and self.audit.severity == "error"

    @property
    def expected(self) -> dict[str, str]:
        """The bounds by what they count."""
        return {measure.counts: str(measure.bounds) for measure in self.audit.measures}

    @property
    def bad_rows(self) -> int | None:
        """How many rows are wrong, counted up to a limit where a query returns them; None if the audit counts none."""
        values = [self.got.get(measure.counts) for measure in self.audit.measures if measure.counts_bad_rows]
        known = [value for value in values if value is not None]
        return int(sum(known)) if known else None

    def _holds(self, measure: Measure) -> bool:
        value = self.got.get(measure.counts)
        return value is not None and measure.bounds.hold(value)

    def __str__(self) -> str:
        """Return the verdict in words, as in `check row_count found 0 rows, expected at least 1`."""
        if self.note:
            return f"check {self.audit.name} does not apply: {self.note}"
        if self.error is not None:
            return f"check {self.audit.name} could not be evaluated: {self.error}"
        if self.found is not None:
            return f"check {self.audit.name} found {self.found}"
        found = [
            f"{_say(self.got.get(measure.counts), is_limited=bool(self.audit.query))} {measure.counts}, expected {measure.bounds}"
            for measure in self.audit.measures
            if self.passed or not self._holds(measure)
        ]
        return f"check {self.audit.name} found {'; '.join(found) or 'what it expects'}"


def _say(value: Number | None, *, is_limited: bool) -> str:
    if value is None:
        return "no"
    if is_limited and value > BAD_ROWS_LIMIT:
        return f"more than {BAD_ROWS_LIMIT:,}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def audits_of(table: AnalyticsTable, *, database: str = "") -> tuple[Audit, ...]:
    """Return the audits of a table, the row count first, each with a name of its own.

    Args:
        table: The table.
        database: Stored name of the session's database: a relationship may name the table itself with it.
    """
    return tuple(_all_audits(table, database))


def _all_audits(table: AnalyticsTable, database: str) -> Iterator[Audit]:
    checks, names = table.checks, table.checks.names()
    bounds = Bounds(min=checks.row_count.min, max=checks.row_count.max)
    yield Audit(
        "row_count",
        f"The number of rows is {bounds}.",
        (Measure("COUNT(*)", "rows", bounds),),
        severity=checks.row_count.severity,
    )
    if checks.row_count_change is not None:
        yield _row_count_change(checks.row_count_change)
    if table.columns:
        names_of_columns = ", ".join(table.columns)
        yield Audit("columns", f"Columns and types are the declared ones: {names_of_columns}.", compares="contract")
    if table.schema_change == "fail":
        yield Audit("schema_change", "The columns are those of the published table.", compares="columns")
    if table.primary_key:
        yield _key("primary_key", table.primary_key, "error", may_be_null=False)
    for rule in checks.unique:
        name = names["unique", tuple(map(stored_name, rule.columns))]
        yield _key(name, rule.columns, rule.severity, may_be_null=True)
    if checks.not_null is not None:
        yield _not_null(checks.not_null.columns, checks.not_null.severity)
    yield from _column_audits(table, names)
    for column, rule in checks.relationship.items():
        is_own = rule.is_to(table.stored_schema, table.stored_table, database=database)
        yield _relationship(names["relationship", (stored_name(column),)], column, rule, is_own=is_own)
    for name, rule in checks.sql.items():
        query = f"SELECT * FROM (\n{rule.query.strip().rstrip(';')}\n)"
        yield _counting(Audit(name, f"The query `{name}` returns no rows.", severity=rule.severity, query=query))


def _row_count_change(rule: RowCountChange) -> Audit:
    bounds = Bounds(
        min=None if rule.max_drop is None else round(-100 * rule.max_drop, 4),
        max=None if rule.max_growth is None else round(100 * rule.max_growth, 4),
    )
    return Audit(
        "row_count_change",
        f"The number of rows changes by {bounds} % against the published table, if that has {rule.min_rows:,} rows or more.",
        # Answered by the row count and the catalogue together.
        (Measure("COUNT(*)", "% change of the row count", bounds),),
        compares="row count",
        severity=rule.severity,
    )


def _key(name: str, columns: Sequence[str], severity: Severity, *, may_be_null: bool) -> Audit:
    names = [_sql_of(column) for column in columns]
    any_null = " OR ".join(f"{name} IS NULL" for name in names)
    # COUNT of a CASE is 0 without rows, on every engine. COUNT(DISTINCT a, b) leaves out rows with a NULL part, so they are
    # counted by themselves:
    # https://docs.snowflake.com/en/sql-reference/functions/count
    duplicates = f"COUNT(CASE WHEN NOT ({any_null}) THEN 1 END) - COUNT(DISTINCT {', '.join(names)})"
    measures = [_bad_rows(duplicates, "rows with a duplicate key")]
    if not may_be_null:
        nulls = f"COUNT(CASE WHEN {any_null} THEN 1 END)"
        measures.insert(0, _bad_rows(nulls, "rows with a NULL key"))
    rows = (
        f"SELECT * FROM {TABLE_PLACEHOLDER} QUALIFY "
        + ("" if may_be_null else f"({any_null}) OR ")
        + f"(NOT ({any_null}) AND COUNT(*) OVER (PARTITION BY {', '.join(names)}) > 1)"
    )
    never = "where none of them is NULL" if may_be_null else "and is never NULL"
    return Audit(
        name, f"{', '.join(columns)} identifies a row {never}.", tuple(measures), severity=severity, bad_rows=rows
    )


def _not_null(columns: Sequence[str], severity: Severity) -> Audit:
    measures = tuple(
        _bad_rows(f"COUNT(CASE WHEN {_sql_of(column)} IS NULL THEN 1 END)", f"rows with a NULL {column}")
        for column in columns
    )
    condition = " OR ".join(f"{_sql_of(column)} IS NULL" for column in columns)
    return Audit(
        "not_null",
        f"{', '.join(columns)} {'is' if len(columns) == 1 else 'are'} never NULL.",
        measures,
        severity=severity,
        bad_rows=_where(condition),
    )


def _column_audits(table: AnalyticsTable, names: Mapping[tuple[str, tuple[str, ...]], str]) -> Iterator[Audit]:
    checks = table.checks

    def condition(kind: str, column: str, words: str, bad: str, severity: Severity) -> Audit:
        """Return an audit of a condition that is true for rows that are wrong; NULL never is."""
        return Audit(
            names[kind, (stored_name(column),)],
            f"{column} {words}.",
            (_bad_rows(f"COUNT(CASE WHEN {bad} THEN 1 END)", f"rows with another {column}"),),
            severity=severity,
            bad_rows=_where(bad),
        )

    for column, rule in checks.accepted_values.items():
        words = f"is one of {', '.join(map(_said, rule.values))}, or NULL"
        yield condition("accepted_values", column, words, _another_sql(_sql_of(column), rule.values), rule.severity)
    for column, rule in checks.matches.items():
        # https://docs.snowflake.com/en/sql-reference/functions/regexp_like: the pattern is anchored at both ends.
        bad = f"NOT REGEXP_LIKE({_sql_of(column)}, {quote_literal(rule.pattern)})"
        yield condition("matches", column, f"matches `{rule.pattern}` as a whole, or is NULL", bad, rule.severity)
    for column, rule in checks.range.items():
        yield condition("range", column, _range_words(rule), _outside_sql(_sql_of(column), rule), rule.severity)
    for column, rule in checks.freshness.items():
        yield _freshness(names["freshness", (stored_name(column),)], column, rule)


def _range_words(rule: Range) -> str:
    parts = [
        f"at least {_said(rule.min)}" if rule.min is not None else "",
        f"at most {_said(rule.max)}" if rule.max is not None else "",
    ]
    return f"is {' and '.join(part for part in parts if part)}, or NULL"


def _said(value: Any) -> str:
    """Return a value as an author writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _another_sql(column: str, values: Sequence[Any]) -> str:
    if isinstance(values[0], bool):
        # Compared with TRUE, text is cast first: 't', 'yes' and '1' would pass.
        # https://docs.snowflake.com/en/sql-reference/data-types-logical
        return f"{column}::VARCHAR NOT IN ({', '.join(quote_literal(_said(value)) for value in values)})"
    return f"{column} NOT IN ({', '.join(map(_literal, values))})"


def _outside_sql(column: str, rule: Range) -> str:
    parts = [f"{column} < {_literal(rule.min)}"] if rule.min is not None else []
    if rule.max is not None:
        parts.append(f"{column} > {_literal(rule.max)}")
    if not any(isinstance(bound, date) for bound in (rule.min, rule.max)):
        # Snowflake counts NaN as greater than every number, so a minimum alone would let it pass:
        # https://docs.snowflake.com/en/sql-reference/data-types-numeric#special-values
        parts.append(f"{column}::FLOAT = 'NaN'::FLOAT")
    return " OR ".join(parts)


def _freshness(name: str, column: str, rule: Freshness) -> Audit:
    # Seconds since 1970 are the same for every kind of timestamp; one without a time zone counts as UTC:
    # https://docs.snowflake.com/en/sql-reference/functions/year
    age = f"DATE_PART(EPOCH_SECOND, CURRENT_TIMESTAMP()) - DATE_PART(EPOCH_SECOND, MAX({_sql_of(column)}))"
    bounds = Bounds(min=-rule.max_ahead_hours, max=rule.max_age_hours)
    return Audit(
        name,
        f"The latest {column} is at most {rule.max_age_hours:g} hours old, and at most {rule.max_ahead_hours:g} hours ahead.",
        (Measure(f"({age}) / 3600", f"hours since the latest {column}", bounds),),
        severity=rule.severity,
    )


def _relationship(name: str, column: str, rule: Relationship, *, is_own: bool) -> Audit:
    # What is published under the own name is the version before: it must not be asked, or orphans pass.
    other = TABLE_PLACEHOLDER if is_own else ".".join(quote_identifier(part) for part in rule.table)
    query = (
        f"SELECT * FROM {TABLE_PLACEHOLDER} AS audited WHERE audited.{_sql_of(column)} IS NOT NULL AND NOT EXISTS "
        f"(SELECT 1 FROM {other} AS related WHERE related.{quote_identifier(rule.column)} = audited.{_sql_of(column)})"
    )
    return _counting(Audit(name, f"Every {column} but NULL is in {rule.to}.", severity=rule.severity, query=query))


def _counting(audit: Audit) -> Audit:
    """Return an audit that counts what its query returns, up to a limit."""
    return replace(audit, measures=(_bad_rows("COUNT(*)", "rows that are wrong"),), bad_rows=audit.query)


def _where(condition: str) -> str:
    return f"SELECT * FROM {TABLE_PLACEHOLDER} WHERE {condition}"


def _sql_of(column: str) -> str:
    return quote_identifier(stored_name(column))


def _literal(value: Any) -> str:
    if isinstance(value, datetime):
        return f"'{value.isoformat(sep=' ')}'::{'TIMESTAMP_NTZ' if value.tzinfo is None else 'TIMESTAMP_TZ'}"
    if isinstance(value, date):
        return f"'{value.isoformat()}'::DATE"
    # A decimal number keeps the digits that the author wrote; a binary one would have others.
    return (
        quote_literal(value) if isinstance(value, str) else f"{value:f}" if isinstance(value, Decimal) else repr(value)
    )


def scan_sql(audits: Sequence[Audit], relation: Relation, *, more: Sequence[str] = ()) -> str:
    """Return the query that measures in one scan: one row, a number for every measure in order, then what is asked more."""
    columns = ",\n  ".join([*(measure.sql for audit in audits for measure in audit.measures), *more])
    return f"SELECT\n  {columns}\nFROM {relation.sql}"


def query_sql(audit: Audit, relation: Relation) -> str:
    """Return the query that answers one audit by itself: one row, a number for every measure."""
    if not audit.query:
        return scan_sql([audit], relation)
    rows = audit.query.replace(TABLE_PLACEHOLDER, relation.sql)
    return f"SELECT COUNT(*) FROM (SELECT 1 AS BAD FROM (\n{rows}\n) LIMIT {BAD_ROWS_LIMIT + 1})"


def sample_sql(audit: Audit, relation: Relation, *, rows: int) -> str:
    """Return the query of some rows that are wrong."""
    # Behind the first place it is text of a condition, unless it is a query of the author's.
    times = -1 if audit.query else 1
    return f"SELECT * FROM (\n{audit.bad_rows.replace(TABLE_PLACEHOLDER, relation.sql, times)}\n) LIMIT {rows}"


def judge(audit: Audit, values: Sequence[Any], relation: Relation, query_id: str | None) -> AuditOutcome:
    """Return the verdict on the row of numbers that answers one audit."""
    got = {measure.counts: _number(value) for measure, value in zip(audit.measures, values, strict=True)}
    return AuditOutcome(audit, got, query_id, query=query_sql(audit, relation))


def failed_to_run(audit: Audit, relation: Relation, error: str, query_id: str | None = None) -> AuditOutcome:
    """Return a failed verdict, for when the query itself failed."""
    query = query_sql(audit, relation) if audit.measures else ""
    return AuditOutcome(audit, {}, query_id, error=error, query=query)


def judge_against_catalogue(
    outcome: AuditOutcome, table: AnalyticsTable, inspection: Inspection, *, on_target: bool
) -> AuditOutcome:
    """Return the verdict on an audit that compares with the catalogue: the published table, or the declared columns."""
    if outcome.error is not None:
        return outcome
    compares, rule = outcome.audit.compares, table.checks.row_count_change
    if compares == "row count" and rule is not None:
        return _row_count_compared(outcome, rule, inspection, on_target=on_target)
    if compares == "contract":
        audited = inspection.target_columns if on_target else inspection.candidate_columns
        return replace(outcome, found=_contract_broken(table, audited))
    if compares == "columns":
        return _columns_compared(outcome, inspection, on_target=on_target)
    return outcome


def _columns_compared(outcome: AuditOutcome, inspection: Inspection, *, on_target: bool) -> AuditOutcome:
    if on_target or not inspection.target_columns:
        return replace(outcome, note="there is no other table to compare with")
    changes = schema_changes(inspection)
    return replace(outcome, found=f"{'; '.join(changes)}, expected no change" if changes else None)


def _row_count_compared(
    outcome: AuditOutcome, rule: RowCountChange, inspection: Inspection, *, on_target: bool
) -> AuditOutcome:
    (measure,) = outcome.audit.measures
    rows, before = outcome.got[measure.counts], inspection.target_rows
    if on_target or before is None or rows is None:
        return replace(outcome, got={}, note="there is no published table to compare with")
    if before < max(rule.min_rows, 1):
        note = f"the published table has {before:,} rows, and fewer than {max(rule.min_rows, 1):,} are not compared"
        return replace(outcome, got={}, note=note)
    change = round(100 * (rows - before) / before, 4)
    return replace(outcome, got={measure.counts: change, "rows": int(rows), "rows published": before})


def _contract_broken(table: AnalyticsTable, columns: Sequence[Column]) -> str | None:
    contracts = {stored_name(name): contract for name, contract in table.columns.items()}
    there = {column.name: column for column in columns}
    missing = [name for name in contracts if name not in there]
    more = [column.name for column in columns if column.name not in contracts]
    retyped = [
        f"{name} of type {there[name].type}, expected {contract.type}"
        for name, contract in contracts.items()
        if name in there and contract.type is not None and not there[name].is_a(column_type(contract.type))
    ]
    parts = [
        f"no column {', '.join(missing)}" if missing else "",
        f"undeclared columns {', '.join(more)}" if more else "",
    ]
    return "; ".join([*filter(None, parts), *retyped]) or None


def schema_changes(inspection: Inspection) -> tuple[str, ...]:
    """Return how the candidate's columns differ from the published table's, in words; nothing at a first publish."""
    old = {column.name: column.type for column in inspection.target_columns}
    new = {column.name: column.type for column in inspection.candidate_columns}
    if not old or not new:
        return ()
    added, removed = [name for name in new if name not in old], [name for name in old if name not in new]
    retyped = [f"{name} {old[name]} -> {new[name]}" for name in new if name in old and new[name] != old[name]]
    lines = (("added", added), ("removed", removed), ("retyped", retyped))
    return tuple(f"columns {what}: {', '.join(names)}" for what, names in lines if names)


def _number(value: Any) -> Number | None:
    if value is None or isinstance(value, int):
        return value
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else float(value)
