"""A code location of a test's own, and what to ask of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from snowflake.connector import SnowflakeConnection

from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.orchestration.specs import source_assets
from run_elt_dagster.runs.partitions import PARTITION, RANGE_END, RANGE_START
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.resource import Snowflake


@dataclass
class DagsterProject:
    """A code location of its own: a folder of tables and an embedded Snowflake without sample data."""

    directory: Path
    connection: SnowflakeConnection
    resource: Snowflake
    instance: dg.DagsterInstance

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()]

    def declare(self, **tables: str) -> None:
        for name, text in tables.items():
            path = self.directory / "tables" / "analytics" / f"{name}.sql"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())

    def materialize(
        self,
        *tables: str,
        selection: dg.AssetSelection | None = None,
        max_concurrent_tables: int = 4,
        partitions: str | None = None,
        others: Sequence[Any] = (),
        tags: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        log_schema: str = "",
    ) -> dg.ExecuteInProcessResult:
        """Run the tables, all by default, as a job of the code location does.

        Args:
            tables: Which.
            selection: Which, in their place.
            max_concurrent_tables: How many at a time.
            partitions: The partition to build, or FIRST...LAST.
            others: Definitions of other projects.
            tags: Of the run.
            config: Of the run.
            log_schema: Where the log of publishes is, empty for none.
        """
        catalogue = load_tables(self.directory / "tables", keeps_broken=True)
        chosen = (
            dg.AssetSelection.assets(*(["analytics", name] for name in tables)) if tables else dg.AssetSelection.all()
        )
        definitions = dg.Definitions(
            assets=[
                analytics_assets(
                    catalogue,
                    PublishOptions(
                        max_concurrent_tables=max_concurrent_tables, creates_schemas=True, log_schema=log_schema
                    ),
                ),
                *source_assets(catalogue),
                *(other for other in others if not isinstance(other, dg.AssetChecksDefinition)),
            ],
            asset_checks=[other for other in others if isinstance(other, dg.AssetChecksDefinition)],
            jobs=[dg.define_asset_job("job", selection=selection or chosen)],
            resources={"snowflake": self.resource},
        )
        job = definitions.resolve_job_def("job")
        first, _, last = (partitions or "").partition("...")
        asked = {RANGE_START: first, RANGE_END: last} if last else {PARTITION: first} if first else {}
        return job.execute_in_process(
            instance=self.instance, raise_on_error=False, tags={**asked, **(tags or {})} or None, run_config=config
        )

    def materialized(self, result: dg.ExecuteInProcessResult) -> dict[str, Mapping[str, Any]]:
        """Return the metadata of what a run has materialized, by table, as Dagster has stored it."""
        return {
            event.asset_materialization.asset_key.path[-1]: {
                name: value.value for name, value in event.asset_materialization.metadata.items()
            }
            for event in self.instance.all_logs(result.run_id)
            if event.asset_materialization is not None
        }

    def checks(self, result: dg.ExecuteInProcessResult) -> dict[str, bool]:
        """Return whether each check has passed, as Dagster has stored it: the result of a failed run lists none."""
        evaluations = (event.asset_check_evaluation for event in self.instance.all_logs(result.run_id))
        return {f"{e.asset_key.path[-1]}.{e.check_name}": e.passed for e in evaluations if e is not None}

    def tables(self) -> set[str]:
        rows = self.sql("select table_name from information_schema.tables where table_schema = 'ANALYTICS'")
        return {name for (name,) in rows}


def failure_text(result: dg.ExecuteInProcessResult) -> str:
    """Return what the page of the run says: the failure, and the causes in its metadata."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    if failure is None:
        return str(event.step_failure_data.error)
    causes = [str(value.value) for name, value in failure.metadata.items() if "." in name]
    return "\n".join([failure.description or "", *causes])
