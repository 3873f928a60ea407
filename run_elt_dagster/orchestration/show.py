"""What `run-elt show` prints: what readers see, as Snowflake says, beside what Dagster has recorded.

Dagster's history alone is not enough: a rollback records no materialization, and another deployment may have published. The
comment of each table names the run of its rows.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.plan import reading_plan
from run_elt_dagster.model.candidate import Marker, by_hand_in, is_candidate_of, target_of
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.lineage import Catalogue, own_key
from run_elt_dagster.model.names import Key, Relation, is_candidate_name, quote_identifier, short_id, stored_names
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import InventoryTable, TargetInventory, inventory_of, inventory_sql
from run_elt_dagster.publish.planned import PlannedStatement, planned_statements
from run_elt_dagster.publish.planned_group import columns_there, planned_group
from run_elt_dagster.runs.history import run_of
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.session import ConnectorSession

ROWS_SHOWN = 20
HEADER = ("table", "rows", "seconds", "checks passed", "built (UTC)", "by run", "at")
_TAG = {"stage": "show"}
_NAMES_IN_DATABASE, _DATABASE_PARTS = 10_000, 3
# Other runs of a table that publish between the start of a run and its own publication are seldom more.
_RECORDS_READ = 50
NOTHING = TargetInventory()
_CANDIDATES = {
    "failed": "a candidate that failed",
    "preview": "a preview that nothing will publish",
    "withdrawn": "a version that a rollback took away",
}

Query = Callable[[str], Sequence[Sequence[Any]]]
"""Sends a query and returns its rows."""


@dataclass(frozen=True)
class Recorded:
    """The last materialization of a table in Dagster.

    Attributes:
        run_id: The run, empty where a person reported it.
        recorded_at: When Dagster recorded it.
        metadata: What it says about the table.
    """

    run_id: str
    recorded_at: datetime
    metadata: Mapping[str, Any]

    def __str__(self) -> str:
        """Return it in words."""
        who = f"of run {short_id(self.run_id)}" if self.run_id else "reported by hand"
        return f"{who}, {self.recorded_at:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class Shown:
    """A table by name, and what is known about it.

    Attributes:
        name: As a person writes it.
        relation: Where it is.
        existing: What stands there, None if nothing does.
        table: Its declaration; None for a source, a candidate, or any other table.
        recorded: Its last materialization; None if there is none, or no history.
        inventory: What its schemas hold; empty where it was not looked at by name.
    """

    name: str
    relation: Relation
    existing: InventoryTable | None
    table: AnalyticsTable | None = None
    recorded: Recorded | None = None
    inventory: TargetInventory = NOTHING

    @property
    def line(self) -> list[str]:
        """The cells of the overview; what Dagster recorded about other rows than readers see is left out."""
        facts = {**self.as_mapping(), "rows": _count(self.existing)}
        facts["at"] = facts["at"] or "no table"
        return ["-" if facts[name] is None else str(facts[name]) for name in HEADER]

    def as_mapping(self) -> dict[str, Any]:
        """Return the overview for a program: numbers as numbers, and None for what is not known."""
        marker = self.existing.marker if self.existing else None
        own = (
            self.recorded if marker and self.recorded and (self.is_in_parts or _is_of(marker, self.recorded)) else None
        )
        metadata = own.metadata if own else {}
        rows = self.existing.rows if self.existing else None
        passed, place = metadata.get("checks_passed"), str(self.relation) if self.existing else None
        values = (self.name, rows, metadata.get("seconds"), passed, *self._built(marker, own), place)
        return dict(zip(HEADER, values, strict=True))

    def _built(self, marker: Marker | None, own: Recorded | None) -> tuple[str | None, str | None]:
        """Return when the newest rows were built, and by which run. The comment of a table in parts names the run that created it."""
        if self.is_in_parts and own is not None:
            return f"{own.recorded_at:%Y-%m-%d %H:%M:%S}", short_id(own.run_id) or None
        return (marker.at[:19].replace("T", " ") or None, _run(marker)) if marker else (None, None)

    @property
    def asset(self) -> dg.AssetKey:
        """The key of its asset, if it has one."""
        return dg.AssetKey(self.table.asset_path if self.table is not None else self.name.split("."))

    @property
    def is_in_parts(self) -> bool:
        """Whether runs exchange parts of it."""
        return self.table is not None and self.table.is_in_parts

    @property
    def facts(self) -> str:
        """Where it is and what it holds, on one line."""
        if self.existing is None:
            return f"{self.name}: there is no {self.relation}"
        marker, kind = self.existing.marker, self.existing.kind.lower().replace("base ", "")
        facts = [f"{_count(self.existing)} rows"] if self.existing.rows is not None else [f"a {kind}"]
        if marker is not None:
            facts += [marker.published or f"built by run {_run(marker)}"]
        if (by_hand := by_hand_in(self.existing.comment)) is not None:
            facts += [by_hand.words]
        if is_candidate_name(self.relation.name) and marker is not None:
            facts += [_CANDIDATES.get(marker.state, "a candidate that is not published")]
        return f"{self.name} at {self.relation}: {', '.join(facts)}"

    @property
    def reads(self) -> str:
        """What its checks read of a candidate; empty for what no file declares."""
        return f"checks read {reading_plan(audits_of(self.table))}" if self.table else ""


@dataclass(frozen=True)
class Found:
    """What `run-elt show` prints.

    Attributes:
        declared: The declared tables: all of them, or those that were asked for by name.
        candidates: Their candidates that runs have left behind, or are building right now.
        named: The tables that were asked for by name.
    """

    declared: Sequence[Shown]
    candidates: Sequence[Shown]
    named: Sequence[Shown]


def look(
    session: ConnectorSession,
    tables: Mapping[Key, AnalyticsTable],
    names: Sequence[str],
    *,
    instance: dg.DagsterInstance | None,
) -> Found:
    """Ask Snowflake and Dagster, in one query each for all tables.

    Args:
        session: An open session.
        tables: The declared tables.
        names: The tables to look at, all declared ones if there are none: declared ones, sources, candidates.
        instance: Dagster's history, None if none is kept.

    Raises:
        ValueError: There is nothing under a name.
        StatementError: Snowflake did not answer.
    """

    def query(sql: str) -> Sequence[Sequence[Any]]:
        return session.execute(sql, tag=_TAG).rows

    database = session.database
    wanted = {name: find(name, tables, database=database) for name in names}
    asked = {table.key: table for _, table in wanted.values() if table} if names else tables
    places = {key: target_of(table, database=database) for key, table in asked.items()}
    inventory = take_stock(query, [*places.values(), *(relation for relation, _ in wanted.values())])
    assets = [table.asset_path for table in asked.values()]
    recorded = recorded_by_dagster(instance, assets) if instance and asked else {}
    declared = {
        key: Shown(
            table.name,
            places[key],
            inventory[database].at(places[key]),
            table,
            recorded.get(table.asset_path),
            inventory[database],
        )
        for key, table in asked.items()
    }
    named: list[Shown] = []
    for name, (relation, table) in wanted.items():
        existing = inventory[relation.database].at(relation)
        if table is None and existing is None:
            raise unknown(query, name, relation, tables)
        named.append(declared[table.key] if table else Shown(name.lower().replace("/", "."), relation, existing))
    found = candidates(inventory)
    if names:
        found = [each for each in found if any(is_candidate_of(table, each.relation.name) for table in asked.values())]
    return Found(list(declared.values()), found, named)


def planned_for(
    session: ConnectorSession,
    catalogue: Catalogue,
    shown: Shown,
    *,
    columns: Sequence[str],
    options: PublishOptions,
    part: Slice | None = None,
    is_whole: bool = False,
) -> Sequence[PlannedStatement]:
    """Return what a run would send for a declared table; of one of a group, what it would send for all tables of the group.

    Args:
        session: Where the catalogue is asked for the other tables of a group.
        catalogue: The declared tables.
        shown: The table.
        columns: Stored names of the columns of what stands there.
        options: How tables are published.
        part: The partitions that are built; None for the newest one.
        is_whole: Whether the table is built whole, though it has an increment.

    Raises:
        StatementError: Snowflake does not answer.
    """
    table, database = shown.table, session.database
    if table is None:
        return ()
    if table.publish_group is None or table.key not in catalogue:
        return planned_statements(
            table,
            shown.inventory,
            database=database,
            columns=columns,
            options=options,
            part=part,
            is_whole=is_whole,
        )
    others = [each for each in catalogue.values() if each.publish_group == table.publish_group]
    schemas = sorted({each.stored_schema for each in others})
    inventory = inventory_of(session.execute(inventory_sql(database, schemas), tag=_TAG).rows)
    there = columns_there(session, schemas, tag=_TAG)
    group = planned_group(
        catalogue,
        table.publish_group,
        inventory,
        database=database,
        columns=there,
        options=options,
        part=part,
        whole=[table.key] if is_whole else [],
    )
    return group.statements


def take_stock(query: Query, relations: Iterable[Relation]) -> dict[str, TargetInventory]:
    """Return by database what the schemas of some tables hold, in one query for each database."""
    schemas: dict[str, set[str]] = {}
    for relation in relations:
        schemas.setdefault(relation.database, set()).add(relation.schema)
    return {database: inventory_of(query(inventory_sql(database, names))) for database, names in schemas.items()}


def find(name: str, tables: Mapping[Key, AnalyticsTable], *, database: str) -> tuple[Relation, AnalyticsTable | None]:
    """Return where a name points to, and its declaration if a file declares it.

    Args:
        name: `schema.table`, `schema/table` or `database.schema.table`; quoted where Snowflake needs quotes.
        tables: The declared tables.
        database: The stored name of the session's database.

    Raises:
        ValueError: It is no name, or one without a schema.
    """
    dotted = name if '"' in name else name.replace("/", ".")
    table = tables.get(tuple(dotted.lower().split(".")))
    if table is not None:
        return target_of(table, database=database), table
    try:
        parts = stored_names(dotted)
    except ValueError as error:
        raise ValueError(f"run-elt show requires schema.table, got {name}: it {error}.") from None
    if not 1 < len(parts) <= _DATABASE_PARTS:
        near = [declared.name for declared in tables.values() if declared.table.lower() == dotted.lower()]
        raise ValueError(
            f"run-elt show requires schema.table, got {name}. Nothing was read. {_suggestion(near)}".strip()
        )
    relation = Relation(*parts) if len(parts) == _DATABASE_PARTS else Relation(database, *parts)
    own = next((t for t in tables.values() if target_of(t, database=database) == relation), None)
    return relation, own


def unknown(query: Query, name: str, relation: Relation, tables: Mapping[Key, AnalyticsTable]) -> ValueError:
    """Return the error for a name that no file declares and nothing in the database has."""
    catalogue = f"{quote_identifier(relation.database)}.INFORMATION_SCHEMA.TABLES"
    rows = query(
        f"SELECT TABLE_SCHEMA, TABLE_NAME FROM {catalogue} WHERE TABLE_SCHEMA <> 'INFORMATION_SCHEMA' LIMIT {_NAMES_IN_DATABASE}"
    )
    known = {table.name for table in tables.values()}
    known |= {".".join(own_key(table)) for table in tables.values()}
    known |= {f"{schema}.{table}".lower() for schema, table in rows}
    wanted = name.lower().replace("/", ".")
    prefix = f"{relation.database}.".lower()
    near = difflib.get_close_matches(wanted.removeprefix(prefix), sorted(known), n=3)
    near += sorted(each for each in known if each.rpartition(".")[2] == wanted.rpartition(".")[2] and each not in near)
    return ValueError(
        f"run-elt show requires a table that exists or that a file declares, got {name}: there is no {relation} that this "
        f"role may see. Nothing was read. {_suggestion(near[:3]) or 'run-elt show lists the declared tables.'}"
    )


def _suggestion(names: Sequence[str]) -> str:
    return f"Did you mean {' or '.join(names)}?" if names else ""


def recorded_by_dagster(instance: dg.DagsterInstance, keys: Sequence[Key]) -> dict[Key, Recorded]:
    """Return the last materialization of each asset that has one, in one query."""
    found: dict[Key, Recorded] = {}
    for record in instance.get_asset_records([dg.AssetKey(list(key)) for key in keys]):
        event = record.asset_entry.last_materialization
        if event is None or event.asset_materialization is None:
            continue
        metadata = {name: value.value for name, value in event.asset_materialization.metadata.items()}
        at = datetime.fromtimestamp(event.timestamp, UTC)
        found[tuple(record.asset_entry.asset_key.path)] = Recorded(run_of(event), at, metadata)
    return found


def differences(shown: Shown, instance: dg.DagsterInstance) -> Iterator[str]:
    """Yield how what readers see differs from Dagster's last record of the table, in words."""
    existing, recorded = shown.existing, shown.recorded
    if existing is None:
        if recorded is not None:
            yield f"Dagster's last materialization is {recorded}, and there is no table any more"
        return
    if shown.is_in_parts:
        # Its comment names the run that has created it. `run-elt show --partitions` has the run of each part.
        return
    marker = existing.marker
    if marker is None:
        yield (
            f"its comment names no run, and Dagster's last materialization is {recorded}: the run of these rows is unknown"
            if recorded is not None
            else "no run has made it"
        )
    elif marker.state == "publishing":
        yield f"run {_run(marker)} is writing over it, or was ended while it did"
    elif recorded is None:
        yield (
            _unrecorded(marker)
            if _run_record(instance, marker)
            else f"run {_run(marker)} has published it, and this Dagster has no materialization: another one has"
        )
    elif not _is_of(marker, recorded):
        yield _other_rows(shown.asset, marker, recorded, instance)
    elif _is_changed(existing, recorded):
        yield f"it was published with {counted(recorded.metadata['dagster/row_count'], 'rows')}: something else has changed them"


def _other_rows(asset: dg.AssetKey, marker: Marker, recorded: Recorded, instance: dg.DagsterInstance) -> str:
    last = f"Dagster's last materialization is {recorded}"
    rolled_back = _rolled_back_at(instance, asset)
    if rolled_back is not None and rolled_back >= recorded.recorded_at:
        return f"rolled back {rolled_back:%Y-%m-%d %H:%M} UTC: readers see the version of before again, and {last}"
    if marker.is_rolled_back:
        return f"rolled back from run {_run(marker)}, and {last}"
    run = _run_record(instance, marker)
    if run is not None and not _is_recorded(instance, asset, run):
        return f"{_unrecorded(marker)}; {last}"
    return f"readers see the rows of run {_run(marker)}, and {last}: it was rolled back, or published elsewhere"


def _unrecorded(marker: Marker) -> str:
    return (
        f"run {_run(marker)} of this Dagster has published it, and its materialization was not recorded: materialize it again "
        "when Dagster's storage is in order"
    )


def _run_record(instance: dg.DagsterInstance, marker: Marker) -> dg.RunRecord | None:
    """Return the run of this Dagster that has published what the marker says, None if it was another Dagster's."""
    if marker.state != "run":
        return None
    return next(iter(instance.get_run_records(dg.RunsFilter(run_ids=[marker.run_id]), limit=1)), None)


def _is_recorded(instance: dg.DagsterInstance, asset: dg.AssetKey, run: dg.RunRecord) -> bool:
    """Return whether a run's materialization of a table was recorded, by those since the run was made: the others stay unread."""
    since = dg.AssetRecordsFilter(asset_key=asset, after_timestamp=run.create_timestamp.timestamp())
    records = instance.fetch_materializations(since, limit=_RECORDS_READ, ascending=True).records
    return any(run_of(record.event_log_entry) == run.dagster_run.run_id for record in records)


def _rolled_back_at(instance: dg.DagsterInstance, asset: dg.AssetKey) -> datetime | None:
    for record in instance.fetch_observations(asset, limit=10).records:
        observation = record.asset_observation
        if observation is not None and "rolled_back_to" in observation.metadata:
            return datetime.fromtimestamp(record.timestamp, UTC)
    return None


def _is_of(marker: Marker, recorded: Recorded) -> bool:
    return bool(recorded.run_id) and marker.state == "run" and marker.run_id == recorded.run_id


def _is_changed(existing: InventoryTable, recorded: Recorded) -> bool:
    rows = recorded.metadata.get("dagster/row_count")
    return existing.rows is not None and isinstance(rows, int) and rows != existing.rows


def _count(existing: InventoryTable | None) -> str:
    return "-" if existing is None or existing.rows is None else f"{existing.rows:,}"


def _run(marker: Marker) -> str:
    return short_id(marker.run_of_rows)


def candidates(inventory: Mapping[str, TargetInventory]) -> list[Shown]:
    """Return the candidates that runs have left behind, or are building right now."""
    return [
        Shown(f"{schema}.{name}".lower(), Relation(database, schema, name), existing)
        for database, each in inventory.items()
        for (schema, name), existing in sorted(each.tables.items())
        if is_candidate_name(name) and existing.marker is not None
    ]


def read_rows(session: ConnectorSession, shown: Shown, part: Slice | None = None) -> tuple[list[str], list[list[Any]]]:
    """Return the stored names of the columns of a table and its first rows; those of a table of ours are sorted by the first column.

    Args:
        session: Where to ask.
        shown: The table.
        part: Its partitions with the rows in question; None for all rows.
    """
    of_part, order = "", ""
    if shown.table is not None:
        of_part = f" WHERE {shown.table.partition_predicate(part.start, part.end)}" if part is not None else ""
        # A source may be too large to sort.
        order = " ORDER BY 1"
    answer = session.execute(f"SELECT * FROM {shown.relation.sql}{of_part}{order} LIMIT {ROWS_SHOWN}", tag=_TAG)
    return list(answer.columns), [list(row) for row in answer.rows]
