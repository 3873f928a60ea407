"""The audits of a slice: one verdict for each check and partition. Pure but for the runner, which asks.

The checks that are aggregates are answered for all partitions by one scan, grouped by the number of the partition. A query of an
author is asked once for each partition.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from run_elt_dagster.audit.catalogue import Inspection
from run_elt_dagster.audit.changes import ChangesAudit
from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.plan import (
    Audit,
    Audited,
    AuditOutcome,
    Earlier,
    KeyAudit,
    Numbers,
    PartitionAudit,
    QueryAudit,
)
from run_elt_dagster.audit.runner import AuditRunner, versions_of, with_sample
from run_elt_dagster.audit.usual_check import partitions_compared, same_hour
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal, stored_name
from run_elt_dagster.model.partitions import Partition, Partitioning, Slice
from run_elt_dagster.model.past import Past, PublishedNumbers
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.snowflake.session import Answer, StatementError

Send = Callable[[str], Answer]
# The types whose values are told apart without a declaration; with a time zone the column has to be declared.
_PLAIN_TIMES, _ZONED_TIMES = ("DATE", "TIMESTAMP_NTZ"), ("TIMESTAMP_TZ", "TIMESTAMP_LTZ")
_UNITS: Mapping[str, str] = {"hour": "hour", "day": "day", "week": "day", "month": "month"}
_DAYS_OF_A_WEEK = 7


@dataclass(frozen=True)
class Rows(Relation):
    """Some rows of a table, in the place of the table.

    Attributes:
        condition: What is true of them.
    """

    condition: str = "TRUE"

    @property
    def sql(self) -> str:
        """A query in parentheses, as it stands behind FROM."""
        return f"(SELECT * FROM {super().sql} WHERE {self.condition})"


def rows_of(relation: Relation, condition: str) -> Rows:
    """Return the rows of a table for which a condition is true."""
    return Rows(relation.database, relation.schema, relation.name, condition)


def number_sql(partitions: Partitioning, part: Slice, data_type: str) -> str:
    """Return the expression for the number of a row's partition in a slice, from 0.

    A row before the slice has a negative number, one after it a number that is too large, one without a time none. DATEDIFF counts the
    bounds between two moments, so WEEK_START has no effect: https://docs.snowflake.com/en/sql-reference/functions/datediff

    Args:
        partitions: How the table is divided.
        part: The slice.
        data_type: The column's type, as the catalogue has it.
    """
    column = quote_identifier(partitions.stored_column)
    if data_type in _ZONED_TIMES:
        column = f"CONVERT_TIMEZONE('UTC', {column})::TIMESTAMP_NTZ"
    number = f"DATEDIFF('{_UNITS[partitions.by]}', {partitions.literal(part.start)}, {column})"
    return f"FLOOR({number} / {_DAYS_OF_A_WEEK})" if partitions.by == "week" else number


def grouped_scan_sql(audits: Sequence[Audit], relation: Relation, *, number: str, more: Sequence[str] = ()) -> str:
    """Return the query that measures all partitions in one scan.

    Args:
        audits: What is measured.
        relation: Of which rows.
        number: The number of a row's partition.
        more: Expressions without a row, such as what the catalogue says.

    Returns:
        Rows of a partition's number, a value for every measure in order, and 1; and one row with 0 in that place: what an empty
        partition has. Behind it, that row has the values of `more`.
    """
    measures = ",\n  ".join(["COUNT(*)", *(measure.sql for audit in audits for measure in audit.scanned)])
    nothing, asked = ("".join(f",\n  {each}" for each in part) for part in (["NULL"] * len(more), more))
    return (
        f"SELECT\n  {number},\n  {measures},\n  1{nothing}\nFROM {relation.sql}\nGROUP BY 1\n"
        f"UNION ALL\nSELECT\n  NULL,\n  {measures},\n  0{asked}\nFROM {relation.sql}\nWHERE 1 = 0"
    )


def keys_elsewhere_sql(columns: Sequence[str], relation: Relation, others: Relation, *, number: str) -> str:
    """Return the query for how many rows of each partition have a key that other rows have too.

    Args:
        columns: The key, as stored. A key with a NULL part equals no other.
        relation: The rows in question.
        others: The rows of other partitions, of the published table.
        number: The number of a row's partition.
    """
    keys = [quote_identifier(column) for column in columns]
    same = " AND ".join(f"here.{key} = there.{key}" for key in keys)
    listed = ", ".join(keys)
    return (
        f'SELECT here."run_elt number", COUNT(*) FROM (SELECT {number} AS "run_elt number", {listed} FROM {relation.sql}) AS here '
        f"WHERE EXISTS (SELECT 1 FROM (SELECT {listed} FROM {others.sql}) AS there WHERE {same}) GROUP BY 1"
    )


def keys_twice_sql(columns: Sequence[str], relation: Relation, *, number: str) -> str:
    """Return the query for how many rows of each partition have a key that another partition of the same rows has too."""
    listed = ", ".join(quote_identifier(column) for column in columns)
    known = " AND ".join(f"{quote_identifier(column)} IS NOT NULL" for column in columns)
    spread = (
        f'SELECT {number} AS "run_elt number", MIN({number}) OVER (PARTITION BY {listed}) AS "run_elt first", '
        f'MAX({number}) OVER (PARTITION BY {listed}) AS "run_elt last" FROM {relation.sql} WHERE {known}'
    )
    return f'SELECT "run_elt number", COUNT(*) FROM ({spread}) WHERE "run_elt first" < "run_elt last" GROUP BY 1'


def key_counts_sql(queries: Mapping[str, Sequence[str]]) -> str:
    """Return the query for the answers to some queries for rows with keys of other rows, each behind the name of its check.

    Args:
        queries: By the name of a check, those of `keys_elsewhere_sql` and `keys_twice_sql`.
    """
    return " UNION ALL ".join(
        f"SELECT {quote_literal(name)}, * FROM ({sql})" for name, asked in queries.items() for sql in asked
    )


def other_rows(table: AnalyticsTable, relation: Relation, pieces: Sequence[tuple[datetime, datetime]]) -> Rows:
    """Return the rows of a partitioned table outside of some pieces of time."""
    partitions = table.partitions
    if partitions is None:
        raise ValueError(f"{table.name} requires partitions, got none.")
    inside = pieces_sql(table, pieces)
    return rows_of(relation, f"NOT ({inside}) OR {quote_identifier(partitions.stored_column)} IS NULL")


def pieces_sql(table: AnalyticsTable, pieces: Sequence[tuple[datetime, datetime]]) -> str:
    """Return the condition that a row of a partitioned table is in one of some pieces of time."""
    return " OR ".join(f"({table.partition_predicate(start, end)})" for start, end in pieces)


def type_problem(table: AnalyticsTable, types: Mapping[str, str]) -> str | None:
    """Return why the column of the partitions cannot tell them apart, None if it can.

    Args:
        table: The table.
        types: The types of the columns by name, as the catalogue has them.
    """
    partitions = table.partitions
    if partitions is None:
        return None
    name = partitions.stored_column
    data_type = types.get(name)
    if data_type is None:
        return f"no column {name}"
    declared = any(stored_name(each) == name and contract.type for each, contract in table.columns.items())
    if data_type in _PLAIN_TIMES or (data_type in _ZONED_TIMES and declared):
        return None
    expected = " or ".join(_PLAIN_TIMES).lower()
    remedy = "; declare the type of a column with a time zone in columns" if data_type in _ZONED_TIMES else ""
    return f"column {name} of type {data_type}, expected {expected}{remedy}"


@dataclass(frozen=True)
class PartitionVerdicts:
    """What the audits of a slice found.

    Attributes:
        outcomes: A verdict for every check, by the key of each partition.
        rows: The number of rows by the key of each partition; empty if they were not counted.
        inspection: What the catalogue said.
    """

    outcomes: Mapping[str, tuple[AuditOutcome, ...]]
    inspection: Inspection
    rows: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class _Scan:
    """The answer to a grouped scan: the values of each partition by its number, and of an empty one."""

    by_number: Mapping[int, Sequence[Any]]
    empty: Sequence[Any]
    nulls: int
    outside: int
    query_id: str
    more: Sequence[Any] = ()

    @classmethod
    def of(cls, answer: Answer, count: int, *, more: int = 0) -> "_Scan":
        place = -1 - more
        groups = {row[0]: row[1:place] for row in answer.rows if row[place]}
        ((empty, asked),) = [(row[1:place], row[len(row) - more :]) for row in answer.rows if not row[place]]
        inside = {
            int(number): values for number, values in groups.items() if number is not None and 0 <= number < count
        }
        nulls = int(groups[None][0]) if None in groups else 0
        total = sum(int(values[0]) for values in groups.values())
        outside = total - nulls - sum(int(values[0]) for values in inside.values())
        return cls(inside, empty, nulls, outside, answer.query_id, asked)

    def values(self, number: int) -> Sequence[Any]:
        return self.by_number.get(number, self.empty)


@dataclass(frozen=True)
class _Answers:
    """What was answered: for each scanned check by its name, and what the catalogue said.

    The keys are, by the name of a check, how many rows of each partition have a key of another partition. Clean are those checks that
    judge each row by itself and have found none in all partitions. Late are those that were asked once for all partitions when the
    catalogue had told the columns: the values of each partition by its number.
    """

    scans: "Mapping[str, _Scan | StatementError]"
    keys: "Mapping[str, Mapping[int, int] | StatementError]"
    clean: Mapping[str, Numbers]
    late: "Mapping[str, Mapping[int, Numbers] | StatementError]"
    inspection: Inspection


@dataclass(frozen=True)
class EarlierRows:
    """Where the numbers of rows come from that those of the partitions are compared with.

    Attributes:
        sql: An expression for a SELECT. The scan of the audits asks for it, so it costs no statement.
        read: Returns by key, of its value, what each partition is compared with.
    """

    sql: str
    read: Callable[[Any], Mapping[str, Earlier]]


class PartitionAuditRunner:
    """The audits of one table, asked of the partitions of a slice.

    Args:
        send: Sends a statement and raises StatementError where it fails.
        table: Whose audits.
        target: What readers see.
        candidate: What a run built; the target itself to audit what is published.
        part: The partitions.
        now: Snowflake's time.
        earlier: Where the number of rows comes from that each partition is compared with; None if there is nothing.
        past: Returns what was published before; None where nobody knows.
    """

    def __init__(
        self,
        send: Send,
        table: AnalyticsTable,
        *,
        target: Relation,
        candidate: Relation,
        part: Slice,
        now: datetime,
        earlier: EarlierRows | None = None,
        past: Past | None = None,
    ) -> None:
        self._send, self._table, self._target, self._part, self._now = send, table, target, part, now
        if table.partitions is None:
            raise ValueError(f"{table.name} requires partitions for the audit of a slice, got none.")
        self._partitions = table.partitions
        self._earlier, self._compared = earlier, dict[str, Earlier]()
        self._past = past
        self._versions: Sequence[PublishedNumbers] | None = None
        self._whole = AuditRunner(send, table, target=target, candidate=candidate)
        self._is_target = candidate == target
        # Of a published table, the other partitions are none of this audit's business.
        own = table.partition_predicate(part.start, part.end)
        self._relation = rows_of(candidate, own) if self._is_target else candidate
        self.audits = audits_of(table, database=target.database)

    def evaluate(self) -> PartitionVerdicts:
        """Return a verdict on every audit of every partition, and what the catalogue said.

        Raises:
            StatementError: Not even the catalogue answers.
        """
        # Where the column has another type, the scan fails or says nothing: the catalogue tells that at the same time.
        more = (*self._whole.inspection_sql, *([self._earlier.sql] if self._earlier is not None else []))
        together = self._scan(self._scanned, self._number(self._table.partition_type), more=more)
        inspection = self._told(together)
        columns = inspection.target_columns if self._is_target else inspection.candidate_columns
        types = {column.name: column.data_type for column in columns}
        if problem := type_problem(self._table, types):
            return PartitionVerdicts(self._undivided(problem), inspection)
        number = self._number(types[self._partitions.stored_column])
        keys = self._keys_elsewhere(number, has_target=inspection.target is not None)
        answers = _Answers(
            self._scans(together, number), keys, self._clean(), self._late(inspection, number), inspection
        )
        self._versions = versions_of(
            self._past, self._table, self.audits, keys=partitions_compared(self._partitions, self._part)
        )
        numbered = list(enumerate(self._part.partitions))
        outcomes = {
            partition.key: tuple(self._verdict(audit, place, partition, answers) for audit in self.audits)
            for place, partition in numbered
        }
        scan = answers.scans["row_count"]
        rows = {} if isinstance(scan, StatementError) else {p.key: int(scan.values(n)[0]) for n, p in numbered}
        return PartitionVerdicts(outcomes, inspection, rows)

    def _told(self, together: "_Scan | StatementError") -> Inspection:
        """Return what the catalogue says, and note what the partitions are compared with: by the scan, or asked alone where that failed.

        Raises:
            StatementError: Not even the catalogue answers.
        """
        count, earlier = len(self._whole.inspection_sql), self._earlier
        if isinstance(together, StatementError):
            inspection, asked = self._whole.inspect_with(*([earlier.sql] if earlier is not None else []))
        else:
            inspection, asked = self._whole.inspection_in(together.more[:count]), tuple(together.more[count:])
        if earlier is not None:
            self._compared = dict(earlier.read(*asked))
        return inspection

    def unanswered(self, error: StatementError) -> Mapping[str, tuple[AuditOutcome, ...]]:
        """Return a failed verdict on every audit of every partition, for when no query could be asked."""
        return self._every(lambda audit, rows: audit.failed_to_run(rows, str(error), error.query_id))

    def _undivided(self, problem: str) -> Mapping[str, tuple[AuditOutcome, ...]]:
        """Return the verdicts where it cannot be told which partition a row belongs to."""

        def verdict(audit: Audit, rows: Relation) -> AuditOutcome:
            if isinstance(audit, PartitionAudit):
                return AuditOutcome(audit, {}, found=problem)
            return audit.failed_to_run(rows, f"the partition of a row cannot be told ({problem})")

        return self._every(verdict)

    def _every(self, verdict: Callable[[Audit, Relation], AuditOutcome]) -> Mapping[str, tuple[AuditOutcome, ...]]:
        return {
            partition.key: tuple(
                replace(verdict(audit, self._rows(partition)), partition=partition.key) for audit in self.audits
            )
            for partition in self._part.partitions
        }

    def _rows(self, partition: Partition) -> Rows:
        name = self._relation
        condition = self._table.partition_predicate(partition.start, partition.end)
        return Rows(name.database, name.schema, name.name, condition)

    @property
    def _scanned(self) -> list[Audit]:
        return [audit for audit in self.audits if audit.scanned]

    def _number(self, data_type: str) -> str:
        return number_sql(self._partitions, self._part, data_type)

    def _scans(self, together: "_Scan | StatementError", number: str) -> Mapping[str, "_Scan | StatementError"]:
        """Return the answer for each scanned audit by name: of the one scan for all, or one for each if that has failed."""
        if not isinstance(together, StatementError):
            return self._parts_of(together, self._scanned)
        return {audit.name: self._scan([audit], number) for audit in self._scanned}

    def _scan(self, audits: Sequence[Audit], number: str, *, more: Sequence[str] = ()) -> "_Scan | StatementError":
        try:
            answer = self._send(grouped_scan_sql(audits, self._relation, number=number, more=more))
        except StatementError as error:
            if not error.answered:
                raise
            return error
        return _Scan.of(answer, len(self._part.partitions), more=len(more))

    @staticmethod
    def _parts_of(scan: _Scan, audits: Sequence[Audit]) -> Mapping[str, "_Scan | StatementError"]:
        """Return what of the one scan belongs to each audit: the number of rows first, then its own measures."""
        parts: dict[str, _Scan | StatementError] = {}
        first = 1
        for audit in audits:
            places = [0, *range(first, first + len(audit.scanned))]
            by_number = {number: [values[place] for place in places] for number, values in scan.by_number.items()}
            parts[audit.name] = replace(scan, by_number=by_number, empty=[scan.empty[place] for place in places])
            first += len(audit.scanned)
        return parts

    def _keys_elsewhere(self, number: str, *, has_target: bool) -> Mapping[str, "Mapping[int, int] | StatementError"]:
        """Return by the name of a check how many rows of each partition have a key of another partition."""
        queries = {
            audit.name: self._key_queries(audit, number, has_target=has_target)
            for audit in self.audits
            if isinstance(audit, KeyAudit)
        }
        together = self._key_counts(queries)
        if not isinstance(together, StatementError):
            return together
        found: dict[str, Mapping[int, int] | StatementError] = {}
        for name, asked in queries.items():
            alone = self._key_counts({name: asked})
            found[name] = alone if isinstance(alone, StatementError) else alone[name]
        return found

    def _key_queries(self, audit: KeyAudit, number: str, *, has_target: bool) -> Sequence[str]:
        queries: list[str] = []
        if has_target:
            others = other_rows(self._table, self._target, [(self._part.start, self._part.end)])
            queries.append(keys_elsewhere_sql(audit.key, self._relation, others, number=number))
        if len(self._part.partitions) > 1:
            queries.append(keys_twice_sql(audit.key, self._relation, number=number))
        return queries

    def _key_counts(self, queries: Mapping[str, Sequence[str]]) -> "Mapping[str, Mapping[int, int]] | StatementError":
        """Return the answers to some queries by the name of the check, added up by the number of the partition."""
        counts: dict[str, dict[int, int]] = {name: {} for name in queries}
        if not any(queries.values()):
            return counts
        try:
            rows = self._send(key_counts_sql(queries)).rows
        except StatementError as error:
            if not error.answered:
                raise
            return error
        for name, place, count in rows:
            # A row without a partition fails another check.
            if place is not None:
                counts[name][int(place)] = counts[name].get(int(place), 0) + int(count)
        return counts

    def _clean(self) -> Mapping[str, Numbers]:
        """Ask all partitions at once what is asked of each row. What finds some is asked again, of each partition."""
        by_row = [audit for audit in self.audits if isinstance(audit, QueryAudit) and audit.is_by_row]
        answers = {audit.name: self._asked(audit, self._relation) for audit in by_row if len(self._part.partitions) > 1}
        return {
            name: answer for name, answer in answers.items() if isinstance(answer, Numbers) and answer.values == (0,)
        }

    def _late(self, inspection: Inspection, number: str) -> Mapping[str, "Mapping[int, Numbers] | StatementError"]:
        """Ask all partitions at once what could not be asked before the catalogue had told the columns."""
        found: dict[str, Mapping[int, Numbers] | StatementError] = {}
        own = self._table.partition_predicate(self._part.start, self._part.end)
        audited = self._under_audit(self._relation, inspection, Earlier(None), replaced=own)
        types = {column.name: column.data_type for column in inspection.target_columns}
        there = self._number(types.get(self._partitions.stored_column, self._table.partition_type))
        for audit in (audit for audit in self.audits if isinstance(audit, ChangesAudit)):
            if sql := audit.asks(audited, (number, there)):
                try:
                    answer = self._send(sql)
                except StatementError as error:
                    if not error.answered:
                        raise
                    found[audit.name] = error
                else:
                    found[audit.name] = {
                        int(row[0]): Numbers(tuple(row[1:]), answer.query_id)
                        for row in answer.rows
                        if row[0] is not None
                    }
        return found

    def _under_audit(self, rows: Relation, inspection: Inspection, earlier: Earlier, *, replaced: str) -> Audited:
        return Audited(
            rows,
            inspection,
            is_target=self._is_target,
            compared=earlier,
            published=self._target,
            replaced=replaced,
        )

    def _verdict(self, audit: Audit, place: int, partition: Partition, answers: _Answers) -> AuditOutcome:
        rows = self._rows(partition)
        earlier = self._compared.get(partition.key, Earlier(None, "published partition"))
        audited = self._under_audit(rows, answers.inspection, earlier, replaced=rows.condition)
        audited = replace(audited, versions=same_hour(self._versions, partition), day=partition.start.date())
        answer = self._answer(audit, place, rows, answers)
        if isinstance(answer, StatementError):
            outcome = audit.failed_to_run(rows, str(answer), answer.query_id)
        else:
            outcome = audit.judge(answer, audited)
        if audit.kind == "freshness" and self._is_old(partition):
            outcome = replace(outcome, note="only the newest partition is asked")
        return with_sample(self._send, self._table, rows, replace(outcome, partition=partition.key))

    def _is_old(self, partition: Partition) -> bool:
        newest = self._partitions.newest(self._now)
        return newest is not None and partition.start < newest.start

    def _answer(self, audit: Audit, place: int, rows: Rows, answers: _Answers) -> Numbers | StatementError:
        scan, keys = answers.scans.get(audit.name), answers.keys.get(audit.name, {})
        late = answers.late.get(audit.name)
        if late is not None:
            return late if isinstance(late, StatementError) else late.get(place, Numbers())
        if scan is None:
            return answers.clean.get(audit.name) or self._asked(audit, rows)
        if isinstance(scan, StatementError):
            return scan
        if isinstance(audit, PartitionAudit):
            return Numbers((scan.nulls, scan.outside), scan.query_id)
        if isinstance(keys, StatementError):
            return keys
        more = (keys.get(place, 0),) if isinstance(audit, KeyAudit) else ()
        return Numbers((*scan.values(place)[1:], *more), scan.query_id)

    def _asked(self, audit: Audit, rows: Relation) -> Numbers | StatementError:
        if not isinstance(audit, QueryAudit):
            return Numbers()
        try:
            answer = self._send(audit.query_sql(rows))
        except StatementError as error:
            if not error.answered:
                raise
            return error
        return Numbers(tuple(answer.rows[0]), answer.query_id)
