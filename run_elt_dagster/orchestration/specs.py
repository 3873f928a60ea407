"""What Dagster shows of a table before anything runs: its asset, its checks, and the tables that it reads from elsewhere."""

import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from run_elt_dagster.audit.plan import Audit
from run_elt_dagster.model.alert_rule import AlertRule
from run_elt_dagster.model.broken import BrokenTable
from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.problems import TableProblem
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.code_versions import code_version
from run_elt_dagster.orchestration.column_schema import declared_schema
from run_elt_dagster.orchestration.links import Links, without_beta_warnings
from run_elt_dagster.orchestration.partitions import dep_of, partitioned_check_spec, partitions_of
from run_elt_dagster.orchestration.selection import BROKEN_KIND, KINDS

# The tag of a table whose file is broken. Its metadata of the same name says what is wrong.
BROKEN = "run_elt/broken"

NO_LINKS = Links()


def source_assets(tables: Catalogue, links: Links = NO_LINKS) -> list[dg.AssetSpec]:
    """Return an external asset for every table that is read but not declared."""
    return [
        dg.AssetSpec(
            asset_key(key),
            group_name=asset_key(key)[-2],
            kinds=KINDS,
            description="Loaded by another process.",
            metadata=_storage(links.name_of(key)),
        )
        for key in tables.sources
        if not tables.is_declared_elsewhere(key)
    ]


def asset_key(key: Key) -> list[str]:
    """Return a key as Dagster takes it: letters, digits and `_` only. Names that differ in other signs alone stay apart."""
    return list(_asset_path(key))


@cache
def _asset_path(key: Key) -> tuple[str, ...]:
    return tuple(part if re.fullmatch(r"\w+", part, re.ASCII) else _plain(part) for part in key)


def _plain(name: str) -> str:
    # A name on disk may be no text at all.
    digest = hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', name)[:80]}_{digest[:6]}"


def _storage(name: str) -> dict[str, Any]:
    """Return metadata that says where a table is; a name alone if it is known."""
    return {"dagster/storage_kind": "snowflake", **({"dagster/table_name": name} if name else {})}


def asset_specs(
    tables: Catalogue,
    *,
    links: Links,
    conditions: Mapping[Key, dg.AutomationCondition[dg.AssetKey]],
    group: str | None,
) -> list[dg.AssetSpec]:
    """Return one asset for every table, and one for every broken file."""
    with without_beta_warnings():
        specs = [asset_spec(tables, key, links=links, condition=conditions.get(key), group=group) for key in tables]
    return [*specs, *(broken_spec(tables, broken, group=group) for broken in tables.broken.values())]


def asset_spec(
    tables: Catalogue,
    key: Key,
    *,
    links: Links = NO_LINKS,
    condition: dg.AutomationCondition[dg.AssetKey] | None = None,
    group: str | None = None,
) -> dg.AssetSpec:
    """Return the asset of a declared table: what it reads, who owns it, its SQL, and the version of its file."""
    table = tables[key]
    return dg.AssetSpec(
        list(table.asset_path),
        deps=[
            dep_of(asset_key(tables.asset_path(parent)), table, tables.get(parent)) for parent in tables.upstream[key]
        ],
        partitions_def=partitions_of(table),
        automation_condition=condition,
        description=_description(table),
        group_name=group or table.schema_name.lower(),
        owners=[table.owner] if table.owner else None,
        tags=table.tags,
        kinds=KINDS,
        code_version=code_version(table),
        freshness_policy=_freshness_policy(table),
        metadata=_definition_metadata(table, links),
        # A table whose parent failed, or that failed itself, ends the step without a materialization.
        skippable=True,
    )


def _description(table: AnalyticsTable) -> str:
    """Return the author's description, where to see what the columns come from, and the SQL.

    Dagster's UI 1.13.27 shows `dagster/column_lineage` nowhere. The answer itself would cost the reading of all SQL at each load.
    """
    columns = (
        "Where its columns come from: `column_lineage` in the metadata of the last materialization, or "
        f"`run-elt lineage {table.name}`."
    )
    return "\n\n".join(filter(None, (table.description, columns, f"```sql\n{table.sql.strip()}\n```")))


def owners_of(tables: Catalogue) -> dict[str, list[str]]:
    """Return whom the alerts of every asset mention, by its key with dots: of broken files too, as far as these say it."""
    broken = {_name_of(tables, key): [file.owner] if file.owner else [] for key, file in tables.broken.items()}
    return {**{_name_of(tables, key): list(table.mentioned) for key, table in tables.items()}, **broken}


def channels_of(tables: Catalogue) -> dict[str, str]:
    """Return the channels of the assets whose alerts have one of their own, by their keys with dots."""
    return {_name_of(tables, key): table.alerts.channel for key, table in tables.items() if table.alerts.channel}


def receivers_of(tables: Catalogue) -> dict[str, tuple[str, ...]]:
    """Return the names of the receivers of the assets whose alerts do not go to all of them, by their keys with dots."""
    return {_name_of(tables, key): table.alerts.receivers for key, table in tables.items() if table.alerts.receivers}


def rules_of(tables: Catalogue) -> dict[str, AlertRule]:
    """Return the rules of the assets whose alerts have an urgency of their own, by their keys with dots."""
    return {_name_of(tables, key): table.alerts for key, table in tables.items() if table.alerts.has_urgency}


def _name_of(tables: Catalogue, key: Key) -> str:
    return ".".join(asset_key(tables.asset_path(key)))


def broken_spec(tables: Catalogue, broken: BrokenTable, *, group: str | None = None) -> dg.AssetSpec:
    """Return the asset of a table whose file is broken: what is wrong, at which file and line. A run that selects it fails."""
    key = asset_key(broken.key)
    return dg.AssetSpec(
        asset_key(tables.asset_path(broken.key)),
        deps=[asset_key(tables.asset_path(parent)) for parent in broken.upstream],
        description=(
            "**The file of this table is broken.** Correct it and load the code location again:\n\n"
            + "\n".join(map(_shown_problem, broken.problems))
            + "\n\n"
            "Until then no run builds this table or a table that reads it. Readers see what they saw before."
        ),
        group_name=group or (key[-2].lower() if len(key) > 1 else None),
        owners=[broken.owner] if broken.owner else None,
        tags={BROKEN: ""},
        kinds={*KINDS, BROKEN_KIND},
        metadata={BROKEN: broken.text},
        skippable=True,
    )


def _shown_problem(problem: TableProblem) -> str:
    """Return a problem as an item of a list. The page does not wrap the lines of a block of code, and whole paths are long."""
    path, _, line = problem.place.rpartition(":")
    place = "/".join(Path(path).parts[-2:])
    return f"- {_code(f'{place}:{line}')}: {_code(problem.message)}"


def _code(text: str) -> str:
    """Return text as Markdown that shows it as it is: https://spec.commonmark.org/0.31.2/#code-spans."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence} {' '.join(text.split())} {fence}"


def _freshness_policy(table: AnalyticsTable) -> dg.FreshnessPolicy | None:
    """Return the policy that Dagster's daemon compares the last materialization with."""
    rule = table.fresh_within
    if rule is None:
        return None
    if rule.fail is not None:
        return dg.FreshnessPolicy.time_window(fail_window=rule.fail, warn_window=rule.warn)
    return _cron_policy(rule.by or "", rule.age_at_deadline)


@cache
def _cron_policy(deadlines: str, age: timedelta) -> dg.FreshnessPolicy:
    return dg.FreshnessPolicy.cron(deadlines, age, timezone="UTC")


def _definition_metadata(table: AnalyticsTable, links: Links) -> dict[str, Any]:
    name = str(target_of(table, database=links.database)) if links.database else ""
    metadata: dict[str, Any] = {
        **_storage(name),
        **declared_schema(table),
        **links.file_of(table),
        "publish": table.method,
        **_parts_of(table),
        "transient": table.transient,
    }
    if table.publish_group:
        metadata["publish_group"] = table.publish_group
    if table.identifier:
        metadata["identifier"] = table.identifier
    if table.warehouse:
        metadata["warehouse"] = table.warehouse
    if table.business_owner:
        metadata["business_owner"] = table.business_owner
    if table.primary_key:
        metadata["primary_key"] = ", ".join(table.primary_key)
    if table.path is not None:
        metadata["sql_file"] = dg.MetadataValue.path(str(table.path))
    return metadata


def _parts_of(table: AnalyticsTable) -> dict[str, Any]:
    """Return metadata that says which parts a table is built in."""
    partitions, increment = table.partitions, table.increment
    if increment is not None:
        lookback = f" less {increment.lookback_hours:g} h" if increment.lookback_hours else ""
        return {"increment": f"since the newest {increment.column}{lookback}, merged by {', '.join(increment.key)}"}
    if partitions is None:
        return {}
    end = f", before {partitions.end.strftime(partitions.key_format)}" if partitions.end is not None else ""
    start = partitions.start.strftime(partitions.key_format)
    return {"partitions": f"by {partitions.by} of {partitions.column} (UTC), from {start}{end}"}


def check_spec(table: AnalyticsTable, audit: Audit) -> dg.AssetCheckSpec:
    """Return the asset check of an audit; one of severity `error` blocks what waits for the table."""
    if table.partitions is not None:
        return partitioned_check_spec(table, audit)
    return dg.AssetCheckSpec(
        audit.name, asset=list(table.asset_path), description=audit.description, blocking=audit.severity == "error"
    )
