"""Audits: the kinds of questions put to a candidate, the simple ones all in one scan, and their verdicts.

Pure: `audit.declared` makes the audits of a table, and `audit.runner` asks them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from run_elt_dagster.audit.catalogue import Column, Inspection
from run_elt_dagster.model.checks import TABLE_PLACEHOLDER, Severity
from run_elt_dagster.model.column_type import column_type
from run_elt_dagster.model.counted import agreeing, counted
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.past import PublishedNumbers
from run_elt_dagster.model.time_literals import TIMES

# A check that counts the rows of a query stops here: to know that there are so many is enough.
BAD_ROWS_LIMIT = 10_000
# Alone, it is answered from what Snowflake keeps of a table, without a look at its rows.
ROW_COUNT_SQL = "COUNT(*)"
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

    def rounded(self, value: float, digits: int) -> float:
        """Return a number with so many decimals. It stays as it is where they would put it on the other side of a bound."""
        short = round(value, digits)
        return short if self.hold(short) == self.hold(value) else value

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


def bad_rows_measure(sql: str, counts: str) -> Measure:
    """Return a measure that counts rows that are wrong: there must be none."""
    return Measure(sql, counts, Bounds(max=0), counts_bad_rows=True)


@dataclass(frozen=True)
class Numbers:
    """What a query answered for one audit: a value for each of its measures in order, none for an audit without a query."""

    values: tuple[Any, ...] = ()
    query_id: str | None = None


@dataclass(frozen=True)
class Earlier:
    """What a number of rows is compared with.

    Attributes:
        rows: Their number, None if there are none to compare with.
        words: What has them.
    """

    rows: int | None
    words: str = "published table"


@dataclass(frozen=True)
class Audited:
    """The table under audit, and what the catalogue said of it and of the published table at the same moment.

    Attributes:
        relation: The table.
        inspection: What the catalogue said.
        is_target: Whether it is the published table itself. There is no other one to compare it with then.
        compared: What the number of its rows is compared with; None for the published table.
        published: What readers see, None where it is not compared.
        replaced: The condition of the rows that readers see in the place of which these come; empty for all of them.
        base: How many rows a share of changed ones is of; None for those that are replaced.
        versions: What was published before, in order; None where nobody knows.
        day: The day that it is of: today in UTC, or the first one of a partition.
    """

    relation: Relation
    inspection: Inspection = field(default_factory=Inspection)
    is_target: bool = False
    compared: Earlier | None = None
    published: Relation | None = None
    replaced: str = ""
    base: int | None = None
    versions: Sequence[PublishedNumbers] | None = None
    day: date = field(default_factory=lambda: datetime.now(UTC).date())

    @property
    def earlier(self) -> Earlier:
        """What the number of its rows is compared with."""
        earlier = self.compared or Earlier(self.inspection.target_rows)
        return Earlier(None, earlier.words) if self.is_target else earlier

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its columns in order."""
        return self.inspection.target_columns if self.is_target else self.inspection.candidate_columns


@dataclass(frozen=True, kw_only=True)
class Audit(ABC):
    """An asset check: its name, what it asks, and how the answer is judged. Each kind of question is a class.

    Attributes:
        name: Of the asset check. It decides nothing.
        kind: What declares it: the key under `checks`, or `primary_key`, `columns` or `schema_change`. It is a fact for alerts.
        description: What it asks, in a sentence.
        severity: Whether a failure stops the publishing, or is only shown.
        measures: Numbers that a query has to answer; empty if the catalogue answers.
        is_of_table: Whether it is about the table as a whole. Then the rows of an increment alone cannot answer it.
    """

    name: str
    kind: str
    description: str
    severity: Severity = "error"
    measures: tuple[Measure, ...] = ()
    is_of_table: bool = False

    @property
    def scanned(self) -> tuple[Measure, ...]:
        """The measures that the one scan of the table answers; empty for an audit that is asked by itself."""
        return ()

    @property
    def count_limit(self) -> int | None:
        """Where its query stops counting, None if it counts everything."""
        return None

    @property
    def is_metadata(self) -> bool:
        """Whether its measures by themselves read no rows: Snowflake keeps the number of a table's rows."""
        return False

    @property
    def is_asked_late(self) -> bool:
        """Whether its query depends on what the catalogue says, so it is made only then."""
        return False

    @property
    def is_plotted(self) -> bool:
        """Whether Dagster shows each of its numbers by itself, over time."""
        return False

    def query_sql(self, _relation: Relation) -> str:
        """Return the query that answers it by itself: one row, a number for each measure. Empty without measures."""
        return ""

    def asks(self, audited: Audited) -> str:
        """Return that query for a table of which the catalogue has told."""
        return self.query_sql(audited.relation)

    def sample_sql(self, _relation: Relation, *, rows: int) -> str:  # noqa: ARG002 - of other kinds
        """Return the query of so many rows that are wrong; empty if the audit has none to show."""
        return ""

    @abstractmethod
    def judge(self, numbers: Numbers, audited: Audited) -> "AuditOutcome":
        """Return the verdict on what was answered."""

    def failed_to_run(self, relation: Relation, error: str, query_id: str | None = None) -> "AuditOutcome":
        """Return a failed verdict, for when the query itself failed."""
        return AuditOutcome(self, {}, query_id, error=error, query=self.query_sql(relation))

    def _measured(self, numbers: Numbers, relation: Relation) -> "AuditOutcome":
        got = {measure.counts: _number(v) for measure, v in zip(self.measures, numbers.values, strict=True)}
        return AuditOutcome(self, got, numbers.query_id, query=self.query_sql(relation))


@dataclass(frozen=True, kw_only=True)
class ScanAudit(Audit):
    """Aggregates of the table: one scan answers all audits of this kind.

    Attributes:
        bad_rows_sql: A query of the rows that are wrong, TABLE_PLACEHOLDER behind its first FROM; empty if none are to show.
    """

    bad_rows_sql: str = ""

    @property
    def scanned(self) -> tuple[Measure, ...]:
        """All of its measures."""
        return self.measures

    @property
    def is_metadata(self) -> bool:
        """Whether it only counts rows."""
        return all(measure.sql == ROW_COUNT_SQL for measure in self.measures)

    def query_sql(self, relation: Relation) -> str:
        """Return a scan for this audit alone."""
        return scan_sql([self], relation)

    def sample_sql(self, relation: Relation, *, rows: int) -> str:
        """Return the query of some rows that are wrong."""
        # The first place is the table. A later one is text of a condition.
        return _first_rows_sql(self.bad_rows_sql.replace(TABLE_PLACEHOLDER, relation.sql, 1), rows)

    def judge(self, numbers: Numbers, audited: Audited) -> "AuditOutcome":
        """Return whether every number is inside its bounds."""
        return self._measured(numbers, audited.relation)


@dataclass(frozen=True, kw_only=True)
class KeyAudit(ScanAudit):
    """Whether a key identifies a row of a table in parts, where its other rows may have the key too: these are asked as well.

    The last measure counts rows with a key of those others. The scan does not answer it.

    Attributes:
        key: The key's columns, as stored.
    """

    key: tuple[str, ...]

    @property
    def scanned(self) -> tuple[Measure, ...]:
        """All of its measures but the last one."""
        return self.measures[:-1]

    def judge(self, numbers: Numbers, audited: Audited) -> "AuditOutcome":
        """Return whether there is no duplicate; a scan of the whole table has found all of them."""
        is_whole = len(numbers.values) == len(self.scanned)
        return super().judge(replace(numbers, values=(*numbers.values, 0)) if is_whole else numbers, audited)


class PartitionAudit(ScanAudit):
    """Whether every row is in the partitions that are built. A scan of the whole table has no partitions in mind: it asks for NULL alone.

    The last measure counts rows outside of the partitions, and the grouped scan of a slice knows it without asking.
    """

    @property
    def scanned(self) -> tuple[Measure, ...]:
        """The rows without a time."""
        return self.measures[:-1]

    def judge(self, numbers: Numbers, audited: Audited) -> "AuditOutcome":
        """Return whether there is no such row."""
        is_whole = len(numbers.values) == len(self.scanned)
        return super().judge(replace(numbers, values=(*numbers.values, 0)) if is_whole else numbers, audited)


@dataclass(frozen=True, kw_only=True)
class IncrementAudit(ScanAudit):
    """Whether the rows of an increment can be merged: each has a time and a key of its own. The first measure counts the rows.

    Attributes:
        column: The column with the time, as stored.
    """

    column: str

    def judge(self, numbers: Numbers, audited: Audited) -> "AuditOutcome":
        """Return whether there is no row that cannot be merged. Without a time no run would know where the next increment begins."""
        outcome = super().judge(numbers, audited)
        types = {column.name: column.data_type for column in audited.columns}
        kind = types.get(self.column, "unknown") if types else TIMES[0]
        expected = ", ".join(TIMES).lower()
        return (
            outcome if kind in TIMES else replace(outcome, found=f"{self.column} of type {kind}, expected {expected}")
        )


class RowCountAudit(ScanAudit):
    """How many rows the table has. The outcome has the number as its `row_count`, too."""

    def judge(self, numbers: Numbers, audited: Audited) -> "AuditOutcome":
        """Return whether the number of rows is inside its bounds."""
        (count,) = numbers.values
        return replace(super().judge(numbers, audited), row_count=None if count is None else int(count))


class SourceAudit(ScanAudit):
    """How long ago a table was changed that something else loads: the catalogue answers, in the scan and before the build."""

    @property
    def is_metadata(self) -> bool:
        """Whether it reads no rows: it never does."""
        return True

    def judge(self, numbers: Numbers, audited: Audited) -> "AuditOutcome":
        """Return whether the last change is late enough. A table that the catalogue does not list was never changed."""
        outcome = super().judge(numbers, audited)
        if numbers.values == (None,):
            return replace(outcome, found="no such table, or none that the role may see")
        return outcome


@dataclass(frozen=True, kw_only=True)
class RowCountChangeAudit(ScanAudit):
    """How far the number of rows is from the published table's: the scan and the catalogue answer together.

    Attributes:
        min_rows: A published table with fewer rows is not compared.
    """

    min_rows: int

    def judge(self, numbers: Numbers, audited: Audited) -> "AuditOutcome":
        """Return whether the change in percent is inside its bounds."""
        outcome = super().judge(numbers, audited)
        (measure,) = self.measures
        rows, before, words = outcome.got[measure.counts], audited.earlier.rows, audited.earlier.words
        if before is None or rows is None:
            return replace(outcome, got={}, note=f"there is no {words} to compare with")
        if before < max(self.min_rows, 1):
            note = (
                f"the {words} has {counted(before, 'rows')}, and fewer than {max(self.min_rows, 1):,} are not compared"
            )
            return replace(outcome, got={}, note=note)
        # Nine decimals of a percentage are all that an author may write. -0.0 is 0.
        change = measure.bounds.rounded(round(100 * (rows - before) / before, 9), 4) + 0.0
        return replace(outcome, got={measure.counts: change, "rows": int(rows), "rows published": before})


_WRONG_ROWS = (bad_rows_measure(ROW_COUNT_SQL, "rows that are wrong"),)


@dataclass(frozen=True, kw_only=True)
class QueryAudit(Audit):
    """A query of the rows that are wrong, asked by itself and counted up to a limit.

    Attributes:
        query: The query, TABLE_PLACEHOLDER in it being the table.
        is_by_row: Whether it judges each row by itself. Then it finds none in a partition if it finds none in all of them.
    """

    query: str
    is_by_row: bool = False
    measures: tuple[Measure, ...] = _WRONG_ROWS

    @property
    def count_limit(self) -> int:
        """Where counting stops."""
        return BAD_ROWS_LIMIT

    def query_sql(self, relation: Relation) -> str:
        """Return the query that counts the rows."""
        return f"SELECT COUNT(*) FROM (SELECT 1 AS BAD FROM (\n{self._of(relation)}\n) LIMIT {BAD_ROWS_LIMIT + 1})"

    def sample_sql(self, relation: Relation, *, rows: int) -> str:
        """Return the query of some of the rows."""
        return _first_rows_sql(self._of(relation), rows)

    def judge(self, numbers: Numbers, audited: Audited) -> "AuditOutcome":
        """Return whether the query found no row."""
        return self._measured(numbers, audited.relation)

    def _of(self, relation: Relation) -> str:
        return self.query.replace(TABLE_PLACEHOLDER, relation.sql)


class CatalogueAudit(Audit):
    """A question that the catalogue answers: no query is sent for it."""


@dataclass(frozen=True, kw_only=True)
class ContractAudit(CatalogueAudit):
    """Whether columns and types are the declared ones.

    Attributes:
        contract: The declared type of each column, by its stored name; None for any type.
    """

    contract: Mapping[str, str | None]

    def judge(self, numbers: Numbers, audited: Audited) -> "AuditOutcome":  # noqa: ARG002 - the catalogue has answered
        """Return what differs from the contract."""
        return AuditOutcome(self, {}, found=_contract_broken(self.contract, audited.columns))


class SchemaChangeAudit(CatalogueAudit):
    """Whether the columns are those of the published table."""

    def judge(self, numbers: Numbers, audited: Audited) -> "AuditOutcome":  # noqa: ARG002 - the catalogue has answered
        """Return what differs from the published table."""
        if audited.is_target or not audited.inspection.target_columns:
            return AuditOutcome(self, {}, note="there is no other table to compare with")
        changes = schema_changes(audited.inspection)
        return AuditOutcome(self, {}, found=f"{'; '.join(changes)}, expected no change" if changes else None)


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
        row_count: Rows of the table, if the audit has counted all of them.
        partition: The key of the partition that was asked, None for a whole table.
        summary: What an audit without measures counted, in words.
        is_waived: Whether a person publishes although it failed.
        words: What was found and what was expected, in words, where these say more than the numbers; empty otherwise.
    """

    audit: Audit
    got: Mapping[str, Number | None]
    query_id: str | None = None
    error: str | None = None
    query: str = ""
    found: str | None = None
    note: str = ""
    sample: tuple[Mapping[str, str], ...] = ()
    row_count: int | None = None
    partition: str | None = None
    summary: str = ""
    is_waived: bool = False
    words: tuple[str, str] | tuple[()] = ()

    @property
    def passed(self) -> bool:
        """Whether every measure is there and inside its bounds."""
        if self.note:
            return True
        return self.error is None and self.found is None and all(self._holds(m) for m in self.audit.measures)

    @property
    def blocks(self) -> bool:
        """Whether it stops the publishing."""
        return not self.passed and self.audit.severity == "error" and not self.is_waived

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
        check = f"check {self.audit.name}" + (f" of partition {self.partition}" if self.partition is not None else "")
        if self.note:
            return f"{check} does not apply: {self.note}"
        if self.error is not None:
            return f"{check} could not be evaluated: {self.error}"
        if self.found is not None or self.summary or self.words:
            return f"{check} found {self.found or self.summary or '; usual '.join(self.words)}"
        found = [
            f"{agreeing(_say(self.got.get(measure.counts), measure.bounds, limit=self.audit.count_limit), measure.counts)}, "
            f"expected {measure.bounds}"
            for measure in self.audit.measures
            if self.passed or not self._holds(measure)
        ]
        return f"{check} found {'; '.join(found) or 'what it expects'}"


def with_keys_elsewhere(outcome: AuditOutcome, rows: int) -> AuditOutcome:
    """Return the verdict on a key with the number of rows that share it with rows that were not built."""
    return replace(outcome, got={**outcome.got, outcome.audit.measures[-1].counts: rows})


def _say(value: Number | None, bounds: Bounds, *, limit: int | None) -> str:
    if value is None:
        return "no"
    if limit is not None and value > limit:
        return f"more than {limit:,}"
    if isinstance(value, int):
        return f"{value:,}"
    short = bounds.rounded(value, 2)
    return f"{short:,.2f}" if short == round(value, 2) else f"{short:,.9f}".rstrip("0")


@dataclass(frozen=True)
class ReadingPlan:
    """What the audits of a table read, by the names of their checks.

    Attributes:
        catalogue: What the catalogue answers. It goes along with the statement of the scan and reads no rows.
        metadata: What Snowflake answers without the rows. It is empty if a scan is needed all the same.
        scan: What the one scan of the candidate answers.
        queries: What takes a query of its own each. A relationship scans the candidate once more, a query of an author as
            often as it names the candidate.
    """

    catalogue: tuple[str, ...]
    metadata: tuple[str, ...]
    scan: tuple[str, ...]
    queries: tuple[str, ...]

    def __str__(self) -> str:
        """Return it in words, as in `one scan: row_count, not_null; a query each: orphans`."""
        parts = {
            "metadata alone": self.metadata,
            "one scan": self.scan,
            "a query each": self.queries,
            "the catalogue": self.catalogue,
        }
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)


def reading_plan(audits: Sequence[Audit]) -> ReadingPlan:
    """Return what the audits of a table read."""
    scanned = [audit for audit in audits if audit.scanned]
    names = tuple(audit.name for audit in scanned)
    is_metadata = all(audit.is_metadata for audit in scanned)
    others = [audit for audit in audits if not audit.scanned]
    return ReadingPlan(
        catalogue=tuple(audit.name for audit in others if not (audit.measures or audit.is_asked_late)),
        metadata=names if is_metadata else (),
        scan=() if is_metadata else names,
        queries=tuple(audit.name for audit in others if audit.measures or audit.is_asked_late),
    )


def sources_sql(audits: Sequence[SourceAudit]) -> str:
    """Return the query for how long ago sources were changed: one row, a number for each audit in order."""
    return "SELECT\n  " + ",\n  ".join(measure.sql for audit in audits for measure in audit.measures)


def scan_sql(audits: Sequence[Audit], relation: Relation, *, more: Sequence[str] = ()) -> str:
    """Return the query that measures in one scan: one row, a number for every measure in order, then what is asked more."""
    columns = ",\n  ".join([*(measure.sql for audit in audits for measure in audit.scanned), *more])
    return f"SELECT\n  {columns}\nFROM {relation.sql}"


def _first_rows_sql(query: str, rows: int) -> str:
    return f"SELECT * FROM (\n{query}\n) LIMIT {rows}" if query else ""


def _contract_broken(contract: Mapping[str, str | None], columns: Sequence[Column]) -> str | None:
    there = {column.name: column for column in columns}
    missing = [name for name in contract if name not in there]
    more = [column.name for column in columns if column.name not in contract]
    retyped = [
        f"{name} of type {there[name].type}, expected {wanted}"
        for name, wanted in contract.items()
        if name in there and wanted is not None and not there[name].is_a(column_type(wanted))
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
