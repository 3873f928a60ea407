"""The statements that a run would send for one table as things stand, as data: nothing is sent. `publish.planned_group` has those of a group.

A run sends more where something is in its way: other candidates of the table, grants that differ, grants on future tables that let others
read a candidate of a table with policies, an answer that is lost. Of a partitioned table, they are those for the newest partition that is
over. Of one with increments, START stands for where one begins. The check `changes` compares values by their types, and these are not
looked up here: they are compared as text would be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from run_elt_dagster.audit.catalogue import Column, Inspection, inspection_columns_sql
from run_elt_dagster.audit.changes import ChangesAudit
from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.increment import is_replaced_sql, keys_that_stay_sql, merged
from run_elt_dagster.audit.partitioned import (
    grouped_scan_sql,
    key_counts_sql,
    keys_elsewhere_sql,
    number_sql,
    other_rows,
    pieces_sql,
    rows_of,
)
from run_elt_dagster.audit.plan import Audit, Audited, KeyAudit, scan_sql, sources_sql
from run_elt_dagster.model.candidate import Marker, State, candidate_of, candidate_prefix, comment_of, target_of
from run_elt_dagster.model.increment import BEGINNING, Start
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish import increment_exchange
from run_elt_dagster.publish.grants import show_grants_sql
from run_elt_dagster.publish.guards import (
    STREAMS_SQL,
    InventoryTable,
    TargetInventory,
    inventory_sql,
    policies_column_sql,
    policies_sql,
)
from run_elt_dagster.publish.increment_exchange import delete_all_sql, delete_replaced_sql, newest_sql
from run_elt_dagster.publish.methods import exchange_sql, replaces_object
from run_elt_dagster.publish.partitions import (
    INCREMENT_KEY,
    WHOLE_KEY,
    all_markers_sql,
    earlier_sql,
    forget_all_sql,
    increment_note,
    lock_sql,
    markers_sql,
    partitions_table,
    record_sql,
    seen_and_noted_sql,
    whole_note,
)
from run_elt_dagster.publish.policies import (
    planned_after_exchange,
    planned_before_build,
    planned_before_exchange,
    references_sql,
)
from run_elt_dagster.publish.row_exchange import begin_sql, insert_rows_sql
from run_elt_dagster.publish.slice_exchange import delete_sql, exchanged_sql, first_sql, insert_sql
from run_elt_dagster.publish.sources import holding_audits
from run_elt_dagster.publish.statements import (
    after_clone_sql,
    after_overwrite_sql,
    build_sql,
    column_comments_sql,
    comment_sql,
    drop_sql,
    stored_as_sql,
)
from run_elt_dagster.settings import PublishOptions

# What stands for the run that there is not yet.
RUN_ID = "00000000-0000-0000-0000-000000000000"
SNAPSHOT_AT = "0000-00-00T00:00:00.000000Z"
# What stands for the query id of its DELETE.
QUERY_ID = "00000000-0000-0000-0000-00000000DE1E"
START = Start(BEGINNING)


@dataclass(frozen=True)
class PlannedStatement:
    """A statement that a run would send.

    Attributes:
        stage: What it is for, as the tag of the query says it.
        sql: Its text. RUN_ID, SNAPSHOT_AT and QUERY_ID stand for the run, for the time when the build begins and for the query
            that deletes, 0 for the rows of a part.
        table: Which table of a group it is about; empty for all of them, and without a group.
    """

    stage: str
    sql: str
    table: str = ""


def planned_statements(
    table: AnalyticsTable,
    inventory: TargetInventory,
    *,
    database: str,
    columns: Sequence[str],
    options: PublishOptions,
    is_whole: bool = False,
    part: Slice | None = None,
) -> list[PlannedStatement]:
    """Return what a run would send for a table, in order.

    Args:
        table: The table.
        inventory: What its schema holds.
        database: Stored name of the session's database.
        columns: Stored names of the columns of what stands there, in order: `overwrite` names them.
        options: How tables are published.
        is_whole: Whether a table with increments is built whole.
        part: The partitions that are built; None for the newest one.
    """
    chosen = part or newest_part(table)
    planned = PlannedTable(
        table, inventory, database=database, columns=columns, options=options, is_whole=is_whole, part=chosen
    )
    stages: tuple[tuple[str, Iterator[str]], ...] = (
        ("inspect", planned.inspect()),
        ("audit", planned.sources()),
        ("build", planned.build()),
        ("audit", planned.audit()),
        ("publish", planned.publish()),
        ("clean-up", iter([drop_sql(planned.candidate)])),
    )
    return [PlannedStatement(stage, sql) for stage, statements in stages for sql in statements]


class PlannedTable:
    """The statements of each stage of one table.

    Attributes:
        table: The table.
        target: What readers see.
        candidate: What is built.
        existing: What stands under the target's name; None if nothing does.
    """

    def __init__(
        self,
        table: AnalyticsTable,
        inventory: TargetInventory,
        *,
        database: str,
        columns: Sequence[str],
        options: PublishOptions,
        is_whole: bool,
        part: Slice | None,
    ) -> None:
        self.table, self._inventory, self._columns, self._options = table, inventory, columns, options
        self.target: Relation = target_of(table, database=database)
        self.candidate: Relation = candidate_of(table, database=database, run_id=RUN_ID)
        self.existing: InventoryTable | None = inventory.at(self.target)
        self._part = part
        is_increment = table.increment is not None and self.existing is not None and not is_whole
        self._start = START if is_increment else None

    def inspect(self) -> Iterator[str]:
        """Yield the look at what stands there; a run asks once for all of its tables."""
        yield inventory_sql(self.target.database, [self.target.schema])
        if self.existing is None or self.existing.kind != "BASE TABLE":
            return
        if replaces_object(self.table):
            yield STREAMS_SQL
        if self._options.check_policies and (self.table.is_in_parts or replaces_object(self.table)):
            yield policies_sql([self.target])

    def sources(self) -> Iterator[str]:
        """Yield the question that holds the build back where a source is too old."""
        if asked := holding_audits(self.table, database=self.target.database):
            yield sources_sql(asked)

    def build(self) -> Iterator[str]:
        """Yield the CTAS of the candidate, and the comments of its columns."""
        if self._options.applies_policies:
            yield from planned_before_build(
                self.table,
                self.candidate,
                self.target,
                exists=self.existing is not None,
                marker=_marker("failed"),
            )
        if self._start is not None:
            yield all_markers_sql(self.target)
            yield newest_sql(self.table, self.target)
        yield build_sql(self.table, self.candidate, marker=_marker("run"), part=self._part, start=self._start)
        if comments := column_comments_sql(self.table, self.candidate):
            yield comments

    def audit(self) -> Iterator[str]:
        """Yield the scan with the look at the catalogue, and the queries of the other checks."""
        audits = audits_of(self.table, database=self.target.database)
        if self._start is not None:
            yield from self._audit_increment(audits)
            return
        rows = self.candidate
        if self._part is None or self.table.partitions is None:
            yield scan_sql(audits, rows, more=self._catalogue)
            yield from _queries(audits, self._under_audit(rows))
            return
        number = number_sql(self.table.partitions, self._part, self.table.partition_type)
        scanned = [audit for audit in audits if audit.scanned]
        more = (*self._catalogue, *self._compared(self._part))
        yield grouped_scan_sql(scanned, rows, number=number, more=more)
        yield from self._key_looks(self._part, number)
        own = self.table.partition_predicate(self._part.start, self._part.end)
        for audit in (audit for audit in audits if isinstance(audit, ChangesAudit)):
            yield from filter(None, [audit.asks(self._under_audit(rows, replaced=own), (number, number))])
        rows = rows_of(rows, pieces_sql(self.table, self._pieces(self._part)))
        yield from _queries([audit for audit in audits if not audit.is_asked_late], self._under_audit(rows))

    def _audit_increment(self, audits: Sequence[Audit]) -> Iterator[str]:
        of_rows = [audit for audit in audits if not audit.is_of_table]
        of_table = [audit for audit in audits if audit.is_of_table]
        key = self._key
        yield scan_sql(of_rows, self.candidate, more=self._catalogue)
        replaced = is_replaced_sql(self.candidate, key)
        yield from _queries(of_rows, self._under_audit(self.candidate, replaced=replaced))
        for audit in (audit for audit in audits if isinstance(audit, KeyAudit)):
            yield keys_that_stay_sql(audit.key, self.target, self.candidate, key=key)
        columns = [Column(name, "") for name in self._columns]
        after = merged(self.target, self.candidate, key=key, built=columns, published=columns)
        yield scan_sql(of_table, after)
        yield from _queries(of_table, self._under_audit(after))

    def publish(self) -> Iterator[str]:
        """Yield the one statement that publishes, or the transaction that does, with what goes before and after it."""
        if self.table.is_in_parts:
            yield from self._in_a_transaction()
            return
        yield from self.protect()
        names_run = self.table.publish == "overwrite" and self.existing is not None and self.is_owner
        if self.table.publish == "swap" and self.existing is not None:
            yield from map(show_grants_sql, (self.target, self.candidate))
        if names_run:
            yield comment_sql(self.target, self.comment("publishing"))
        yield self.exchange()
        yield from self.finish(names_run=names_run)

    def protect(self) -> Iterator[str]:
        """Yield what protects a table which is built whole, before its exchange."""
        if not self._options.applies_policies:
            return
        stays = self.existing is not None and not replaces_object(self.table)
        if stays and self.table.policies is not None:
            yield references_sql(self.candidate)
        yield from planned_before_exchange(self.table, self.target if stays else self.candidate, stays=stays)

    def exchange(self) -> str:
        """Return the one statement that publishes a table which is built whole."""
        return exchange_sql(
            self.table,
            target=self.target,
            candidate=self.candidate,
            exists=self.existing is not None,
            columns=self._columns,
            copy_tags=self._options.copy_tags,
        )

    def finish(self, *, names_run: bool) -> Iterator[str]:
        """Yield what follows it, the look at its policies and tags last.

        Args:
            names_run: Whether the comment of the table names the run afterwards.
        """
        if names_run:
            yield comment_sql(self.target, self.comment("run"))
            yield from filter(None, [column_comments_sql(self.table, self.target)])
        if self._options.applies_policies:
            yield from self._settle(names_run=names_run)
            yield from planned_after_exchange(self.table, self.target)

    def _settle(self, *, names_run: bool) -> Iterator[str]:
        """Yield what gives the published table its clustering and retention where the exchange does not."""
        if names_run:
            yield from after_overwrite_sql(self.table, self.target)
        elif self.table.publish == "clone" or (self.table.publish == "overwrite" and self.existing is None):
            yield from after_clone_sql(self.table, self.target)

    def before_rows(self) -> Iterator[str]:
        """Yield what goes before the transaction that exchanges the rows."""
        if self._part is not None:
            pieces, marker = self._pieces(self._part), _marker("run")
            yield from self._ready(
                first_sql(self.table, self.target, self.candidate, marker=marker, pieces=pieces, whole=True)
            )
            return
        yield from self._ready(exchange_sql(self.table, target=self.target, candidate=self.candidate, exists=False))

    def noted_rows(self) -> str:
        """Return the query for what is noted of the rows, in the transaction."""
        return (
            markers_sql(self.target, self._pieces(self._part))
            if self._part is not None
            else all_markers_sql(self.target)
        )

    def rows(self) -> Iterator[str]:
        """Yield what exchanges the rows and notes them, in the transaction."""
        if self._part is not None:
            yield from self._slice_rows(self._part)
        elif self.table.increment is not None:
            yield from self._increment_rows()
        else:
            if self.existing is not None:
                yield self.exchange()
            query_id = QUERY_ID if self.existing is not None else None
            yield forget_all_sql(self.target)
            yield record_sql(self.target, [whole_note()], {WHOLE_KEY: 0}, _marker("run"), query_id=query_id)

    def after_rows(self) -> Iterator[str]:
        """Yield what follows the transaction."""
        if self.table.is_in_parts:
            yield from self._after_rows()
        else:
            yield from self.finish(names_run=self.existing is not None and self.is_owner)

    def _ready(self, first: str) -> Iterator[str]:
        is_governed = self._options.applies_policies and self.table.policies is not None
        is_asked = self.table.is_in_parts and self._options.check_policies
        has_policies_looked_up = self.existing is not None and is_asked and not is_governed
        yield self.look(*([policies_column_sql(self.target)] if has_policies_looked_up else []))
        if self.existing is None:
            if self._options.applies_policies:
                yield from planned_before_exchange(self.table, self.candidate, stays=False)
            yield first
            yield self.look()
        elif is_governed:
            yield references_sql(self.target)
            yield references_sql(self.candidate)
            yield from planned_before_exchange(self.table, self.target, stays=True)

    def _in_a_transaction(self) -> Iterator[str]:
        yield from self.before_rows()
        yield begin_sql(RUN_ID)
        yield lock_sql(self.target)
        yield self.noted_rows()
        if self.existing is None:
            # Whether the table that the run has created is still there.
            yield self.look()
        yield from self.rows()
        yield "COMMIT"
        yield from self._after_rows()

    def _after_rows(self) -> Iterator[str]:
        """Yield the looks after a transaction."""
        if not self._options.applies_policies:
            return
        if self.existing is None:
            yield from after_clone_sql(self.table, self.target)
        else:
            yield from filter(None, [stored_as_sql(self.table, self.target)])
        yield from planned_after_exchange(self.table, self.target)

    def _increment_rows(self) -> Iterator[str]:
        target, candidate = self.target, self.candidate
        if self.existing is not None:
            is_whole = self._start is None
            yield delete_all_sql(target) if is_whole else delete_replaced_sql(target, candidate, key=self._key)
            yield insert_rows_sql(target, candidate, columns=self._columns)
            yield increment_exchange.count_sql(target, candidate, key=self._key)
            for audit in audits_of(self.table, database=target.database) if self._start is not None else ():
                if isinstance(audit, KeyAudit) and audit.severity == "error":
                    yield keys_that_stay_sql(audit.key, target, candidate, key=self._key)
        yield forget_all_sql(target)
        query_id = QUERY_ID if self.existing is not None else None
        yield record_sql(target, [increment_note(self._start)], {INCREMENT_KEY: 0}, _marker("run"), query_id=query_id)

    @property
    def _key(self) -> Sequence[str]:
        return self.table.increment.stored_key if self.table.increment is not None else ()

    def _slice_rows(self, part: Slice) -> Iterator[str]:
        table, target, candidate, pieces = self.table, self.target, self.candidate, self._pieces(part)
        if self.existing is not None:
            if self._options.applies_policies and table.policies is not None and table.policies.row_access is not None:
                yield seen_and_noted_sql(target)
            yield delete_sql(table, target, pieces)
            yield insert_sql(table, target, candidate, columns=self._columns, pieces=pieces)
        query_id = QUERY_ID if self.existing is not None else None
        keys = [each.key for each in self._keys_elsewhere if each.severity == "error"]
        condition = exchanged_sql(table, target, pieces, rows=0, keys=keys) if query_id is not None else ""
        rows = dict.fromkeys(part.keys, 0)
        yield record_sql(target, part.partitions, rows, _marker("run"), query_id=query_id, condition=condition)

    def _key_looks(self, part: Slice, number: str) -> Iterator[str]:
        """Yield the query for keys that other partitions have too, if a check asks for them."""
        if self.existing is None or not self._keys_elsewhere:
            return
        others = other_rows(self.table, self.target, self._pieces(part))
        asked = {
            each.name: [keys_elsewhere_sql(each.key, self.candidate, others, number=number)]
            for each in self._keys_elsewhere
        }
        yield key_counts_sql(asked)

    def _compared(self, part: Slice) -> Sequence[str]:
        """Return the expression for what numbers of rows are compared with, if a check does."""
        is_noted = self._inventory.at(partitions_table(self.target)) is not None
        is_asked = is_noted and self.table.checks.row_count_change is not None
        return [earlier_sql(self.target, part)] if is_asked else []

    @property
    def _keys_elsewhere(self) -> Sequence[KeyAudit]:
        """The checks of keys that other partitions may have too."""
        audits = audits_of(self.table, database=self.target.database)
        return [each for each in audits if isinstance(each, KeyAudit)]

    @property
    def _catalogue(self) -> Sequence[str]:
        return inspection_columns_sql(self.target, self.candidate, prefix=candidate_prefix(self.table))

    def _under_audit(self, rows: Relation, *, replaced: str = "") -> Audited:
        columns = tuple(Column(name, "TEXT") for name in self._columns) if self.existing is not None else ()
        inspection = Inspection(target_columns=columns, candidate_columns=columns)
        return Audited(rows, inspection, published=self.target, replaced=replaced)

    def comment(self, state: State) -> str:
        """Return the comment of the rows."""
        return comment_of(self.table, _marker(state))

    def look(self, *more: str) -> str:
        """Return the look at the catalogue by itself, with other expressions in the same statement."""
        return f"SELECT\n  {(',' + chr(10) + '  ').join((*self._catalogue, *more))}"

    @staticmethod
    def _pieces(part: Slice) -> tuple[tuple[datetime, datetime], ...]:
        return part.pieces(part.keys)

    @property
    def is_owner(self) -> bool:
        """Whether the session's role owns the target."""
        return self.existing is not None and self.existing.owner == self._inventory.role


def _queries(audits: Sequence[Audit], audited: Audited) -> Iterator[str]:
    """Yield the queries of the audits that no scan answers."""
    for audit in audits:
        if not audit.scanned and (query := audit.asks(audited)):
            yield query


def newest_part(table: AnalyticsTable) -> Slice | None:
    """Return the newest partition that is over, the first one where none is; None of a table without partitions."""
    if table.partitions is None:
        return None
    first = table.partitions.start.strftime(table.partitions.key_format)
    return Slice((table.partitions.newest(datetime.now(UTC)) or table.partitions.partition(first),))


def _marker(state: State) -> Marker:
    """Return what comments would say of the rows."""
    return Marker(state, RUN_ID, SNAPSHOT_AT)
