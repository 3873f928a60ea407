"""The statements that a run would send for the tables of a group as things stand, as data: nothing is sent.

Tables that do not read each other may be built in any order, and at the same time. They are listed one after the other, parents first.
"""

import graphlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from run_elt_dagster.model.groups import groups_of
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, quote_identifier, quote_literal
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.grants import show_grants_sql
from run_elt_dagster.publish.group_lock import Act, GroupNote, create_lock_sql, holder_sql, lock_of
from run_elt_dagster.publish.group_run import in_group
from run_elt_dagster.publish.group_transaction import is_in_one_transaction
from run_elt_dagster.publish.guards import STREAMS_SQL, TargetInventory, inventory_sql, policies_sql
from run_elt_dagster.publish.methods import is_transient_sql, keep_sql, kept_of, replaces_object
from run_elt_dagster.publish.partitions import create_lock_sql as create_part_lock_sql
from run_elt_dagster.publish.partitions import create_table_sql, lock_sql
from run_elt_dagster.publish.planned import RUN_ID, SNAPSHOT_AT, PlannedStatement, PlannedTable, newest_part
from run_elt_dagster.publish.row_exchange import begin_sql
from run_elt_dagster.publish.statements import comment_sql, drop_sql
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.session import Session


@dataclass(frozen=True)
class PlannedGroup:
    """What a run of one group would send.

    Attributes:
        name: The group.
        inspect: The look at what stands there; a run asks once for all of its tables.
        tables: For each table, what builds and audits it, parents first.
        exchange: What publishes all of them, and what is cleaned up then.
    """

    name: str
    inspect: Sequence[PlannedStatement]
    tables: Mapping[Key, Sequence[PlannedStatement]]
    exchange: Sequence[PlannedStatement]

    @property
    def statements(self) -> list[PlannedStatement]:
        """All of it, in order."""
        built = [each for statements in self.tables.values() for each in statements]
        return [*self.inspect, *built, *self.exchange]


def planned_group(
    catalogue: Catalogue,
    name: str,
    inventory: TargetInventory,
    *,
    database: str,
    columns: Mapping[tuple[str, str], Sequence[str]],
    options: PublishOptions,
    part: Slice | None = None,
    whole: Collection[Key] = (),
) -> PlannedGroup:
    """Return what a run of one group would send.

    Args:
        catalogue: The declared tables.
        name: The group.
        inventory: What the schemas of its tables hold.
        database: Stored name of the session's database.
        columns: The columns of what stands there, as `columns_there` returns them.
        options: How tables are published.
        part: The partitions that are built of tables that have some; None for the newest one.
        whole: The tables with increments that are built whole.

    Raises:
        ValueError: The SQL of a table would still read what is published.
    """
    keys = groups_of(catalogue.values())[name]

    def columns_of(table: AnalyticsTable) -> Sequence[str]:
        return columns.get((table.stored_schema, table.stored_table), ())

    order = graphlib.TopologicalSorter({key: catalogue.parents(key) for key in keys}).static_order()
    planned = [
        PlannedTable(
            in_group(catalogue, key, keys, database=database, run_id=RUN_ID),
            inventory,
            database=database,
            columns=columns_of(catalogue[key]),
            options=options,
            is_whole=key in whole,
            part=part if part is not None and catalogue[key].partitions is not None else newest_part(catalogue[key]),
        )
        for key in order
        if key in keys
    ]
    exchange = _Exchange(name, planned, keys=keys, database=database, options=options)
    return PlannedGroup(
        name,
        list(exchange.inspect()),
        {each.table.key: list(_built(each)) for each in planned},
        list(exchange.publish()),
    )


def columns_sql(database: str, schemas: Sequence[str]) -> str:
    """Return the query for the columns of schemas: schema, table and column, in order.

    https://docs.snowflake.com/en/sql-reference/info-schema/columns
    """
    names = ", ".join(map(quote_literal, schemas))
    return (
        f"SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM {quote_identifier(database)}.INFORMATION_SCHEMA.COLUMNS "
        f"WHERE TABLE_SCHEMA IN ({names}) ORDER BY 1, 2, ORDINAL_POSITION"
    )


def columns_there(
    session: Session, schemas: Sequence[str], *, tag: Mapping[str, str]
) -> dict[tuple[str, str], list[str]]:
    """Return the stored names of the columns of all that stands in schemas, in order, by schema and name.

    Raises:
        StatementError: Snowflake does not answer.
    """
    columns: dict[tuple[str, str], list[str]] = {}
    for schema, table, name in session.execute(columns_sql(session.database, schemas), tag=tag).rows:
        columns.setdefault((str(schema), str(table)), []).append(str(name))
    return columns


def _built(planned: PlannedTable) -> Iterator[PlannedStatement]:
    stages = (("audit", planned.sources()), ("build", planned.build()), ("audit", planned.audit()))
    for stage, statements in stages:
        yield from (PlannedStatement(stage, sql, planned.table.name) for sql in statements)


class _Exchange:
    """What is sent for all tables of a group together."""

    def __init__(
        self,
        name: str,
        planned: Sequence[PlannedTable],
        *,
        keys: Sequence[Key],
        database: str,
        options: PublishOptions,
    ) -> None:
        self._planned, self._options, self._database = planned, options, database
        tables = [each.table for each in planned]
        self._lock = lock_of(name, tables, database=database)
        declared = sorted(tables, key=lambda table: keys.index(table.key))
        self._is_one = is_in_one_transaction(declared)
        act: Act = "writes" if self._is_one else "exchanges"
        self._note = GroupNote(name, RUN_ID, SNAPSHOT_AT, tuple(table.name for table in declared), act)
        # New tables come last: a reader finds them when the others are there.
        self._by_turns = sorted(planned, key=lambda each: each.existing is None)

    def inspect(self) -> Iterator[PlannedStatement]:
        schemas = [each.table.stored_schema for each in self._planned]
        yield PlannedStatement("inspect", inventory_sql(self._database, schemas))
        replaced = [
            each.target
            for each in self._declared
            if replaces_object(each.table) and each.existing is not None and each.existing.kind == "BASE TABLE"
        ]
        if replaced:
            yield PlannedStatement("inspect", STREAMS_SQL)
        if replaced and self._options.check_policies:
            yield PlannedStatement("inspect", policies_sql(replaced))
        divided = [each.target for each in self._declared if each.table.is_in_parts and each.existing is not None]
        if divided and self._options.check_policies:
            yield PlannedStatement("inspect", policies_sql(divided))

    @property
    def _declared(self) -> list[PlannedTable]:
        names = self._note.tables
        return sorted(self._planned, key=lambda each: names.index(each.table.name))

    def publish(self) -> Iterator[PlannedStatement]:
        """Yield the lock, what is done under it, and the clean-up."""
        if self._is_one:
            yield from self._publish_in_one_transaction()
            return
        looks = [PlannedStatement("publish", each.look(), each.table.name) for each in self._planned]
        yield from looks
        yield PlannedStatement("publish", create_lock_sql(self._lock, self._note))
        yield from looks
        for step in (self._keep, self._prepare, self._exchange, self._finish, self._drop_kept):
            if step == self._exchange:
                yield self._holder()
            for each in self._by_turns:
                yield from (PlannedStatement("publish", sql, each.table.name) for sql in step(each))
            if step == self._exchange:
                yield from self._transaction()
        yield self._holder()
        yield PlannedStatement("publish", drop_sql(self._lock))
        for each in self._planned:
            yield PlannedStatement("clean-up", drop_sql(each.candidate), each.table.name)

    def _publish_in_one_transaction(self) -> Iterator[PlannedStatement]:
        def of(each: PlannedTable, statements: Iterable[str]) -> Iterator[PlannedStatement]:
            return (PlannedStatement("publish", sql, each.table.name) for sql in statements)

        order = sorted(self._planned, key=lambda each: (each.target.schema, each.target.name))
        yield PlannedStatement("publish", create_lock_sql(self._lock, self._note))
        for each in order:
            yield from of(each, (create_table_sql(each.target), create_part_lock_sql(each.target)))
        for each in sorted(order, key=lambda each: each.existing is None):
            yield from of(each, each.before_rows())
        yield PlannedStatement("publish", begin_sql(RUN_ID))
        for each in order:
            yield from of(each, [lock_sql(each.target)])
        yield self._holder()
        # Whether those that this run has created are still there.
        created = [each for each in order if each.existing is None]
        steps: Sequence[Callable[[PlannedTable], Iterable[str]]] = (
            lambda each: [each.look()] if each in created else [],
            lambda each: [each.noted_rows()],
            PlannedTable.rows,
        )
        for step in steps:
            for each in order:
                yield from of(each, step(each))
        yield PlannedStatement("publish", "COMMIT")
        for each in order:
            yield from of(each, each.after_rows())
        yield self._holder()
        yield PlannedStatement("publish", drop_sql(self._lock))
        for each in self._planned:
            yield PlannedStatement("clean-up", drop_sql(each.candidate), each.table.name)

    def _holder(self) -> PlannedStatement:
        """Return the look whether somebody has taken the lock from the run."""
        return PlannedStatement("publish", holder_sql(self._lock))

    def _keep(self, each: PlannedTable) -> Iterator[str]:
        if each.table.publish == "clone" and each.existing is not None:
            yield is_transient_sql(each.target)
            yield keep_sql(each.target, each.candidate, is_transient=each.table.transient)

    def _prepare(self, each: PlannedTable) -> Iterator[str]:
        yield from each.protect()
        if each.table.publish == "swap" and each.existing is not None:
            yield from map(show_grants_sql, (each.target, each.candidate))
        if self._names_run(each):
            yield comment_sql(each.target, each.comment("publishing"))

    def _exchange(self, each: PlannedTable) -> Iterator[str]:
        if not self._is_written(each):
            yield each.exchange()

    def _transaction(self) -> Iterator[PlannedStatement]:
        written = [each for each in self._by_turns if self._is_written(each)]
        if not written:
            return
        yield PlannedStatement("publish", begin_sql(RUN_ID))
        for each in written:
            yield PlannedStatement("publish", each.exchange(), each.table.name)
        yield PlannedStatement("publish", "COMMIT")

    def _finish(self, each: PlannedTable) -> Iterator[str]:
        yield from each.finish(names_run=self._names_run(each))

    def _drop_kept(self, each: PlannedTable) -> Iterator[str]:
        if each.table.publish == "clone" and each.existing is not None:
            yield drop_sql(kept_of(each.candidate))

    @staticmethod
    def _is_written(each: PlannedTable) -> bool:
        return each.table.publish == "overwrite" and each.existing is not None

    def _names_run(self, each: PlannedTable) -> bool:
        return self._is_written(each) and each.is_owner
