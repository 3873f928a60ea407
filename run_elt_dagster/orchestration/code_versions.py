"""What lets Dagster show a table as out of date when its file has changed since it was built, and only then.

Dagster compares a table's code version with that of its last materialization, if the materialization names every table that
the code reads and its version. The contents of a table have no version here: a table that was built again every day would put
all its readers out of date.
"""

import hashlib
from collections.abc import Iterable, Mapping

import dagster as dg

from run_elt_dagster.model.table import AnalyticsTable

# Dagster's names, and what it assumes of an asset without a version. It offers no constants for them (1.13.27).
_CODE_VERSION, _DATA_VERSION = "dagster/code_version", "dagster/data_version"
_INPUT_VERSION, _INPUT_EVENT = "dagster/input_data_version", "dagster/input_event_pointer"
NO_VERSION, _NO_EVENT = "INITIAL", "NULL"
_DIGITS = 16
# Where a file lies is no part of what it declares.
_OF_THE_PLACE = {"path": True, "sql_line": True, "lines": True}
# When which rows are built, and who hears of it, is none of their contents.
_OF_THE_SCHEDULE = {
    "fresh_within": True,
    "alerts": True,
    "partitions": {"end": True, "lookback": True, "max_per_run": True},
    "increment": {"lookback_hours": True},
}


def code_version(table: AnalyticsTable) -> str:
    """Return a digest of a table's SQL and settings, as hexadecimal digits.

    A setting at its default leaves the digest as it is. So a new version of this project puts no table out of date.
    """
    declared = table.model_dump_json(exclude={**_OF_THE_PLACE, **_OF_THE_SCHEDULE}, exclude_defaults=True)
    return hashlib.sha256(declared.encode()).hexdigest()[:_DIGITS]


def built_version(instance: dg.DagsterInstance, key: dg.AssetKey) -> str | None:
    """Return the code version of a table's last materialization; None without one, or where a person has reported it.

    A materialization of an increment has that of the last whole build: most of its rows are of that code.
    """
    return built_tags(instance, key).get(_CODE_VERSION)


def built_tags(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, str]:
    """Return the tags of a table's last materialization that `version_tags` has given it; none of one that a person has reported."""
    event = instance.get_latest_materialization_event(key)
    built = event.asset_materialization if event is not None else None
    tags = (built.tags if built is not None else None) or {}
    names = (f"{_INPUT_VERSION}/", f"{_INPUT_EVENT}/")
    return {name: value for name, value in tags.items() if name == _CODE_VERSION or name.startswith(names)}


def version_tags(
    table: AnalyticsTable,
    upstream: Iterable[dg.AssetKey],
    *,
    versions: Mapping[dg.AssetKey, str],
    built: str | None = None,
) -> dict[str, str]:
    """Return the tags of a materialization, with the code that it was built from and the versions of what it read.

    Args:
        table: The built table.
        upstream: Exactly the dependencies of its asset: Dagster shows each one without a tag as new.
        versions: Versions of tables that something else builds; none for one without a version.
        built: The code version of the rows that stay, beside which an increment was merged; None where no row stays.
    """
    tags = {_CODE_VERSION: built or code_version(table)}
    for key in upstream:
        name = key.to_user_string()
        tags[f"{_INPUT_VERSION}/{name}"] = versions.get(key, NO_VERSION)
        # Without it, Dagster takes the version for missing.
        tags[f"{_INPUT_EVENT}/{name}"] = _NO_EVENT
    return tags


def source_versions(instance: dg.DagsterInstance, sources: Iterable[dg.AssetKey]) -> dict[dg.AssetKey, str]:
    """Return the versions of tables that something else builds, in one query and one more for each that was only observed.

    An asset of another code location has a version, and Dagster compares it with the one that a reader has noted.
    """
    versions: dict[dg.AssetKey, str] = {}
    for record in instance.get_asset_records(list(sources)):
        key = record.asset_entry.asset_key
        event = record.asset_entry.last_materialization
        built = event.asset_materialization if event is not None else None
        tags = built.tags if built is not None else _observed_tags(instance, key)
        if tags and _DATA_VERSION in tags:
            versions[key] = tags[_DATA_VERSION]
    return versions


def _observed_tags(instance: dg.DagsterInstance, key: dg.AssetKey) -> Mapping[str, str]:
    for record in instance.fetch_observations(key, limit=1).records:
        if record.asset_observation is not None:
            return record.asset_observation.tags
    return {}
