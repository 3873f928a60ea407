"""Tables that something else loads: what Snowflake's catalogue says of them, as observations of their assets."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from run_elt_dagster.audit.catalogue import COLUMN_SQL, Column, columns_of
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, Relation, display_name, quote_identifier, quote_literal, stored_name
from run_elt_dagster.orchestration.column_schema import COLUMN_SCHEMA, schema_of
from run_elt_dagster.orchestration.specs import asset_key
from run_elt_dagster.snowflake.injected import SNOWFLAKE_KEY, needs_snowflake
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.session import Session, StatementError

JOB_NAME = "observe_sources"
_TAG = {"stage": "observe sources"}
# What `_facts` reads of a table.
_TABLE_SQL = (
    "OBJECT_CONSTRUCT('name', TABLE_NAME, 'kind', TABLE_TYPE, 'rows', ROW_COUNT, 'bytes', BYTES, "
    "'altered', DATE_PART(EPOCH_SECOND, LAST_ALTERED))"
)


@dataclass(frozen=True)
class ObservedColumns:
    """The columns of a source by its last observation.

    Attributes:
        names: As they are stored, in order.
        at: When it was observed.
    """

    names: tuple[str, ...]
    at: datetime


def observed_columns(instance: dg.DagsterInstance, sources: Iterable[Key]) -> dict[Key, ObservedColumns]:
    """Return the columns of the sources that were observed, with one query for each source."""
    found: dict[Key, ObservedColumns] = {}
    for key in sources:
        for record in instance.fetch_observations(dg.AssetKey(asset_key(key)), limit=1).records:
            observation = record.asset_observation
            schema = observation.metadata.get(COLUMN_SCHEMA) if observation is not None else None
            if isinstance(schema, dg.TableSchemaMetadataValue) and schema.schema.columns:
                names = tuple(stored_name(column.name) for column in schema.schema.columns)
                found[key] = ObservedColumns(names, datetime.fromtimestamp(record.timestamp, UTC))
    return found


def observe_sources_job(
    tables: Catalogue, *, name: str = JOB_NAME, op: str = "ask_catalogue", resource: str = SNOWFLAKE_KEY
) -> dg.JobDefinition:
    """Return the job that observes every source once, on demand.

    Args:
        tables: The declared tables.
        name: Of the job.
        op: Name of its op.
        resource: Key of the resource of Snowflake.
    """

    # Not by the name of the job: Dagster refuses a code location with an op and a job of one name.
    @dg.op(name=op, description="Asks the catalogue for rows, bytes, last change and columns of every source.")
    @needs_snowflake(resource)
    def observe(context: dg.OpExecutionContext, snowflake: Snowflake) -> None:
        with snowflake.session(log=context.log.info) as session:
            record_sources(context, session, sources=own_sources(tables, tables.sources))

    @dg.job(name=name, description="Observes the tables that something else loads. Nothing is built.")
    def job() -> None:
        observe()

    return job


def sources_of(tables: Catalogue, selected: Iterable[Key]) -> list[Key]:
    """Return the sources that some tables read, sorted."""
    return sorted({parent for key in selected for parent in tables.upstream[key] if parent not in tables})


def own_sources(tables: Catalogue, sources: Iterable[Key]) -> list[Key]:
    """Leave out the tables that another folder of the code location declares: their runs record them."""
    return [key for key in sources if not tables.is_declared_elsewhere(key)]


def record_sources(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, session: Session, *, sources: Collection[Key]
) -> dict[Key, tuple[str, ...]]:
    """Record an observation of each source, with one statement for each schema. Safe to repeat.

    What cannot be observed is a warning: the build of a table that reads it says more.

    Returns:
        The stored names of the columns of each source that has been observed, in order.
    """
    names: dict[Key, tuple[str, ...]] = {}
    for schema, keys in _by_schema(sources, database=session.database).items():
        try:
            answer = session.execute(sources_sql(schema, keys), tag=_TAG)
        except StatementError as error:
            place = ".".join(map(display_name, schema))
            from run_elt_dagster.orchestration.events import without_secrets  # noqa: PLC0415 - an error is rare

            context.log.warning(without_secrets(f"The sources in {place} were not observed: {error}"))
            continue
        observed = observations(keys, answer.rows[0])
        for observation in observed:
            context.log_event(observation)
        seen = {observation.asset_key for observation in observed}
        for key, relation in keys.items():
            if dg.AssetKey(asset_key(key)) not in seen:
                context.log.warning("%s was not observed: it does not exist, or the role may not see it.", relation)
        names |= _names(keys, answer.rows[0])
    return names


def _names(sources: Mapping[Key, Relation], answer: Sequence[Any]) -> dict[Key, tuple[str, ...]]:
    by_table = columns_of(answer[1])
    return {
        key: tuple(column.name for column in by_table[relation.name])
        for key, relation in sources.items()
        if relation.name in by_table
    }


def _by_schema(sources: Iterable[Key], *, database: str) -> dict[tuple[str, str], dict[Key, Relation]]:
    """Return the places of sources, by database and schema as they are stored."""
    found: dict[tuple[str, str], dict[Key, Relation]] = {}
    for key in sources:
        *place, name = map(stored_name, key)
        # A name without its database is in the session's.
        *_, in_database, schema = database, *place
        relation = Relation(in_database, schema, name)
        found.setdefault((relation.database, relation.schema), {})[key] = relation
    return found


def sources_sql(schema: tuple[str, str], sources: Mapping[Key, Relation]) -> str:
    """Return the query for what the catalogue says of tables in one schema: one row of two JSON arrays, tables and columns.

    https://docs.snowflake.com/en/sql-reference/info-schema/tables

    Args:
        schema: Stored names of database and schema.
        sources: The tables in it.
    """
    names = ", ".join(quote_literal(relation.name) for relation in sources.values())
    catalogue = f"{quote_identifier(schema[0])}.INFORMATION_SCHEMA"
    where = f"WHERE TABLE_SCHEMA = {quote_literal(schema[1])} AND TABLE_NAME IN ({names})"
    return (
        f"SELECT\n  (SELECT ARRAY_AGG({_TABLE_SQL}) FROM {catalogue}.TABLES {where}),\n"
        f"  (SELECT ARRAY_AGG({COLUMN_SQL}) FROM {catalogue}.COLUMNS {where})"
    )


def observations(sources: Mapping[Key, Relation], answer: Sequence[Any]) -> list[dg.AssetObservation]:
    """Return what the answer to `sources_sql` says, for each source that it names."""
    tables, columns = answer
    listed = {str(row["name"]): row for row in (json.loads(tables) if isinstance(tables, str) else tables or [])}
    by_table = columns_of(columns)
    return [
        dg.AssetObservation(
            asset_key(key),
            metadata=dict(_facts(relation, listed[relation.name], by_table.get(relation.name, ()))),
        )
        for key, relation in sources.items()
        if relation.name in listed
    ]


def _facts(relation: Relation, row: Mapping[str, Any], columns: Sequence[Column]) -> Iterator[tuple[str, Any]]:
    """Yield the metadata of a source. A view has neither rows nor bytes."""
    yield "dagster/table_name", str(relation)
    yield "kind", str(row["kind"]).lower().removeprefix("base ")
    if row.get("rows") is not None:
        yield "dagster/row_count", int(row["rows"])
    if row.get("bytes"):
        yield "bytes", int(row["bytes"])
    if row.get("altered") is not None:
        yield "dagster/last_updated_timestamp", dg.MetadataValue.timestamp(float(row["altered"]))
    yield COLUMN_SCHEMA, schema_of(columns)
