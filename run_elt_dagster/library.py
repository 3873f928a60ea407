"""Audited tables in a code location of your own: `build_defs`, and what it is made of.

The shipped code location, definitions.py, is its first caller. docs/library.md shows how others call it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from run_elt_dagster.alerts.page import alert_asset, alerts_delivered, digest_asset, late_asset
from run_elt_dagster.alerts.receivers_sensor import receivers_asset, receivers_delivered
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.sensors import alert_sensors
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.model.column_lineage import ColumnLineage, column_file
from run_elt_dagster.model.lineage import Catalogue, load_tables, own_key
from run_elt_dagster.model.names import Key, key_of, stored_names
from run_elt_dagster.model.parallel_reads import seldom_collected
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.orchestration.environments import expired_environments_schedule
from run_elt_dagster.orchestration.heartbeat import lost_runs_sensor
from run_elt_dagster.orchestration.jobs import (
    DAILY,
    JOB_NAME,
    SCHEDULE_NAME,
    Timetable,
    jobs_of,
    waking,
    waking_sensors,
)
from run_elt_dagster.orchestration.lateness import watched_tables
from run_elt_dagster.orchestration.links import Links
from run_elt_dagster.orchestration.rebuild import op_name
from run_elt_dagster.orchestration.schedule import schedule_of
from run_elt_dagster.orchestration.sources import JOB_NAME as OBSERVE_NAME
from run_elt_dagster.orchestration.sources import observe_sources_job
from run_elt_dagster.orchestration.specs import (
    asset_key,
    channels_of,
    owners_of,
    receivers_of,
    rules_of,
    source_assets,
)
from run_elt_dagster.orchestration.unrecorded import say_on_stderr
from run_elt_dagster.runs.code_location import Place, embedded_target
from run_elt_dagster.settings import EMBEDDED_DATABASE, PublishOptions, Settings, is_validation
from run_elt_dagster.snowflake.env_vars import text_of
from run_elt_dagster.snowflake.injected import SNOWFLAKE_KEY
from run_elt_dagster.snowflake.resource import Snowflake

if TYPE_CHECKING:
    from dagster_slack import SlackResource
    from dagster_snowflake import SnowflakeResource

    from run_elt_dagster.alerts.production import Seen

SLACK_KEY = "slack"


@dataclass(frozen=True)
class SqlFolder:
    """A folder of `<schema>/<table>.sql` files, and what its assets are called.

    Attributes:
        path: The folder.
        name: What its op, its jobs and its schedules are named after. Two folders of one code location need two names.
        key_prefix: What stands before the keys of its assets, as in `warehouse` or `["finance", "warehouse"]`.
        group: Group of its assets, None for the schema of each table.
        cron: When the job of all its tables runs, in UTC; None for no schedule of that job.
        asset_keys: The keys of assets that load a table which the SQL reads, where they are others than `schema/table`: by the
            table's name as SQL has it, as in `{"raw_data.orders": "ingest/orders"}`.
        sources: Whether the tables that it reads, and that no folder declares, are assets with a description. Dagster refuses it where
            an asset of your own has the same key. Without it they are on the graph too.
        snowflake: Key of the resource that it is built with.
    """

    path: str | Path
    name: str = ""
    key_prefix: str | Sequence[str] = ()
    group: str | None = None
    cron: str | None = DAILY
    asset_keys: Mapping[str, str | Sequence[str]] = field(default_factory=dict[str, str | Sequence[str]])
    sources: bool = False
    snowflake: str = SNOWFLAKE_KEY

    @property
    def directory(self) -> Path:
        """The folder as an absolute path."""
        return Path(self.path).absolute()

    @property
    def prefix(self) -> Key:
        """The prefix in parts."""
        return tuple(_asset_key(self.key_prefix).path) if self.key_prefix else ()

    @property
    def others(self) -> Mapping[Key, Key]:
        """The keys of `asset_keys`, by the keys that SQL reads the tables by."""
        return {key_of(stored_names(name)): tuple(_asset_key(key).path) for name, key in self.asset_keys.items()}

    @property
    def timetable(self) -> Timetable:
        """The names of its jobs and schedules."""
        cron = self.cron or DAILY
        if not self.name:
            return Timetable(JOB_NAME, SCHEDULE_NAME, "", cron)
        return Timetable(f"{self.name}_tables", f"{self.name}_schedule", f"{self.name}_", cron)

    def named(self, what: str) -> str:
        """Return the name of something that each folder has one of."""
        return f"{self.name}_{what}" if self.name else what


@dataclass(frozen=True)
class FolderParts:
    """What a code location has of one folder.

    Attributes:
        assets: The tables, and those that they read if the folder has `sources`.
        jobs: The job of all tables, those of other partitions, and `observe_sources`.
        schedules: Those of the jobs.
        sensors: What builds tables again when another job has published what they read.
    """

    assets: Sequence[dg.AssetsDefinition | dg.AssetSpec]
    jobs: Sequence[Any]
    schedules: Sequence[dg.ScheduleDefinition]
    sensors: Sequence[dg.SensorDefinition]

    def definitions(self) -> dg.Definitions:
        """Return all of it."""
        return dg.Definitions(assets=self.assets, jobs=self.jobs, schedules=self.schedules, sensors=self.sensors)


@dataclass(frozen=True)
class AlertParts:
    """What a code location has once, however many folders it has.

    Attributes:
        assets: The asset that shows how the alerting stands.
        asset_checks: Its check.
        sensors: What alerts, and what ends lost runs.
        resources: By their keys: those of Snowflake, and `slack`.
    """

    assets: Sequence[dg.AssetSpec]
    asset_checks: Sequence[dg.AssetChecksDefinition]
    sensors: Sequence[dg.SensorDefinition]
    resources: Mapping[str, Any]

    def definitions(self) -> dg.Definitions:
        """Return all of it."""
        return dg.Definitions(
            assets=self.assets, asset_checks=self.asset_checks, sensors=self.sensors, resources=self.resources
        )


@dataclass(frozen=True)
class Parts:
    """What a code location consists of. Take all of it by `definitions`, or each part alone.

    Attributes:
        folders: Those of each folder, by its name.
        alerts: Those of all folders together.
        environments: The schedules of what drops expired environments, one for each resource, if the settings ask for it.
    """

    folders: Mapping[str, FolderParts]
    alerts: AlertParts
    environments: Sequence[dg.ScheduleDefinition] = ()

    def definitions(self, *, executor: dg.ExecutorDefinition | None = None) -> dg.Definitions:
        """Return all of it.

        Args:
            executor: Of the code location, for runs of no job of ours. None leaves the choice to the other definitions.
        """
        return dg.Definitions.merge(
            dg.Definitions(executor=executor),
            *(folder.definitions() for folder in self.folders.values()),
            self.alerts.definitions(),
            dg.Definitions(schedules=self.environments),
        )


def _asset_key(key: str | Sequence[str]) -> dg.AssetKey:
    return dg.AssetKey.from_user_string(key) if isinstance(key, str) else dg.AssetKey(list(key))


class FolderError(ValueError):
    """Folders that cannot be in one code location."""


def build_defs(
    *folders: str | Path | SqlFolder,
    snowflake: Snowflake | SnowflakeResource | Mapping[str, Any],
    slack: Slack | SlackResource | None = None,
    settings: Settings | None = None,
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """Return the definitions of folders of SQL files: assets, checks, jobs, schedules, sensors and resources.

    No variable of the environment is read for it. Call it once in a code location: the alerts of all folders are one.

    Args:
        folders: The folders; a path alone is a folder without a name and a prefix.
        snowflake: The resource, or resources by their keys. `Snowflake()` is the embedded Snowflake.
        slack: Where alerts go. Without it, they wait, and the asset `alerts/slack` shows that.
        settings: Everything else. Its `tables_dir`, `snowflake` and `alerts.token` are not used.
        executor: Of the code location, for runs of no job of ours.

    Raises:
        FolderError: Two folders have one name, or declare one table.
        TableProblemsError: A folder cannot be read, or has no SQL file. While Dagster validates definitions: any file is wrong.
    """
    return build_parts(*folders, snowflake=snowflake, slack=slack, settings=settings).definitions(executor=executor)


def build_parts(
    *folders: str | Path | SqlFolder,
    snowflake: Snowflake | SnowflakeResource | Mapping[str, Any],
    slack: Slack | SlackResource | None = None,
    settings: Settings | None = None,
) -> Parts:
    """Return what `build_defs` puts together, each part alone. The arguments and errors are the same."""
    with seldom_collected():
        return _built(folders, snowflake, slack, settings or Settings())


def _built(
    folders: Sequence[str | Path | SqlFolder],
    snowflake: Snowflake | SnowflakeResource | Mapping[str, Any],
    slack: Slack | SlackResource | None,
    settings: Settings,
) -> Parts:
    given = dict(snowflake) if isinstance(snowflake, Mapping) else {SNOWFLAKE_KEY: snowflake}
    loaded = load_folders(
        [each if isinstance(each, SqlFolder) else SqlFolder(each) for each in folders], given, settings
    )
    if (noted := _noted.get()) is not None:
        noted.extend(loaded)
    place = place_of(loaded)
    alerts = alerts_of(loaded, settings, place)
    is_running, has_receivers = any(each.is_running for each in loaded), settings.alerts.receivers is not None
    sources = _sources(loaded)
    return Parts(
        {each.folder.name: _parts_of(each, place, sources[each.folder.name]) for each in loaded},
        AlertParts(
            assets=[
                alert_asset(),
                *([late_asset()] if alerts.watched else []),
                *([digest_asset()] if alerts.rules else []),
                *([receivers_asset()] if has_receivers else []),
            ],
            asset_checks=[alerts_delivered(alerts), *([receivers_delivered(alerts)] if has_receivers else [])],
            sensors=[
                *alert_sensors(alerts, is_running=is_running),
                lost_runs_sensor(lost_after_seconds=settings.lost_after_seconds, is_running=is_running),
            ],
            resources={**given, SLACK_KEY: slack or _no_slack(settings)},
        ),
        _environments(loaded, settings),
    )


def _environments(loaded: Sequence[Loaded], settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return what drops expired environments, for each resource; nothing where nobody has asked for it."""
    if not settings.drop_expired_environments:
        return []
    by_resource = {each.folder.snowflake: each for each in loaded}
    return [
        expired_environments_schedule(
            database=each.database,
            production=settings.production_database,
            resource=resource,
            is_running=each.is_running,
        )
        for resource, each in by_resource.items()
    ]


def _no_slack(settings: Settings) -> Slack:
    """Return the resource without a token: nothing can be sent, and messages say what is missing."""
    return Slack.to(None, settings.alerts, token_name="build_defs(slack)", channel_name="AlertSettings(channel)")  # noqa: S106


@dataclass(frozen=True)
class Loaded:
    """A folder whose files were read.

    Attributes:
        folder: The folder.
        tables: What it declares.
        snowflake: What it is built with.
        settings: Of the code location.
    """

    folder: SqlFolder
    tables: Catalogue
    snowflake: Snowflake
    settings: Settings

    @property
    def database(self) -> str:
        """The session's database as far as it is known: the one that a name in SQL means that leaves it out."""
        return _database(self.snowflake)

    @property
    def is_running(self) -> bool:
        """Whether schedules and sensors run by default: in a named deployment, and on the embedded Snowflake."""
        return bool(self.settings.deployment) or self.snowflake.is_embedded

    @property
    def names(self) -> Mapping[Key, Key]:
        """The keys of the assets of its tables, by the keys that SQL reads the tables by."""
        by_name = {own_key(table): self.tables.asset_path(key) for key, table in self.tables.items()}
        return {**by_name, **{key: self.tables.asset_path(key) for key in self.tables.broken}}


_noted: ContextVar[list[Loaded] | None] = ContextVar("_noted", default=None)


@contextmanager
def noting_folders() -> Generator[list[Loaded]]:
    """Note the folders that `build_defs` and `build_parts` load meanwhile, for a command that works on them."""
    noted: list[Loaded] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def load_folders(folders: Sequence[SqlFolder], given: Mapping[str, Any], settings: Settings) -> list[Loaded]:
    """Return the folders with their tables: one that reads a table of another one of the same resource depends on its asset.

    Raises:
        FolderError: Two folders have one name, or declare one table; or the resource of one is not given.
    """
    for one, two in combinations(folders, 2):
        if one.name == two.name:
            raise FolderError(
                f"two folders of a code location require two names, got {one.name!r} for {one.path} and {two.path}. Nothing was loaded. "
                'Pass SqlFolder(path, name="...").'
            )
    loaded = [_load(folder, given, settings) for folder in folders]
    for one, two in combinations(loaded, 2):
        if one.folder.snowflake == two.folder.snowflake and (both := one.names.keys() & two.names.keys()):
            raise FolderError(
                f"a table requires one file, got {'.'.join(min(both))} in {one.folder.path} and in {two.folder.path}. Nothing was loaded. "
                "Remove one of the two."
            )
    return [replace(each, tables=_placed(each, loaded)) for each in loaded]


def _placed(folder: Loaded, loaded: Sequence[Loaded]) -> Catalogue:
    """Return the tables of a folder, with the keys of the assets that other folders, and others, have."""
    elsewhere = dict(folder.folder.others)
    for other in loaded:
        if other is not folder and other.folder.snowflake == folder.folder.snowflake:
            elsewhere |= {name: (*other.folder.prefix, *path) for name, path in other.names.items()}
    if not folder.folder.prefix and not elsewhere:
        return folder.tables
    return folder.tables.placed(prefix=folder.folder.prefix, elsewhere=elsewhere)


def _load(folder: SqlFolder, given: Mapping[str, Any], settings: Settings) -> Loaded:
    """Return a folder. A broken file is an asset that no run can build. Validation fails."""
    if folder.snowflake not in given:
        raise FolderError(
            f"{folder.path} requires a resource with the key {folder.snowflake}, got {', '.join(given) or 'none'}. Nothing was loaded. "
            "Pass it in snowflake={key: resource}."
        )
    snowflake = Snowflake.of(given[folder.snowflake])
    tables = load_tables(
        folder.directory, database=_database(snowflake), cache_dir=settings.cache_dir, keeps_broken=not is_validation()
    )
    problems = [*map(str, tables.problems), *_unread(folder, tables)]
    if is_validation() and problems:
        raise FolderError("\n".join(problems))
    # A command says them itself where they matter to it.
    for problem in problems if _noted.get() is None else ():
        say_on_stderr(problem)
    return Loaded(folder, tables, snowflake, settings)


def _unread(folder: SqlFolder, tables: Catalogue) -> Iterator[str]:
    """Yield the names of `asset_keys` that no SQL reads: a misspelt one would leave its asset apart from the tables."""
    read = {key for keys in tables.upstream.values() for key in keys}
    if tables.broken:
        # What a broken file reads is not known.
        return
    for name, key in zip(folder.asset_keys, folder.others, strict=True):
        if key not in read:
            yield (
                f"{folder.path}: asset_keys requires a name that the SQL of a table reads, got {name}. Its asset is on no table's graph. "
                "Correct the name, or remove it."
            )


def _database(snowflake: Snowflake) -> str:
    """Return the session's database as far as it is known: the one that a name in SQL means that leaves it out."""
    if snowflake.is_embedded:
        return (snowflake.database or EMBEDDED_DATABASE).upper()
    return text_of(snowflake.database or snowflake.additional_arguments.get("database"))


def _parts_of(loaded: Loaded, place: Place, sources: Sequence[dg.AssetSpec]) -> FolderParts:
    """Return the parts of one folder. One step builds its tables, audits them, and publishes each in one atomic exchange."""
    folder, tables, settings = loaded.folder, loaded.tables, loaded.settings
    jobs = jobs_of(tables, folder.timetable, prefix=folder.prefix)
    woken = waking(tables, jobs)
    analytics = analytics_assets(
        tables,
        settings.publishing.on(is_embedded=loaded.snowflake.is_embedded),
        links=_links(loaded),
        columns=ColumnLineage(tables, path=column_file(settings.cache_dir, folder.directory)),
        woken=woken,
        name=op_name(folder.name),
        group=folder.group,
        resource=folder.snowflake,
        place=place,
    )
    observing = observe_sources_job(
        tables, name=folder.named(OBSERVE_NAME), op=folder.named("ask_catalogue"), resource=folder.snowflake
    )
    scheduled = jobs if folder.cron else jobs[1:]
    return FolderParts(
        [analytics, *sources],
        jobs=[*(job.definition() for job in jobs), observing],
        schedules=[schedule_of(job, is_running=loaded.is_running) for job in scheduled],
        sensors=list(
            waking_sensors(
                [tables.asset_path(key) for key in woken],
                name=folder.named("other_partitions"),
                is_running=loaded.is_running,
            )
        ),
    )


def _links(loaded: Loaded) -> Links:
    return Links.to(loaded.snowflake, loaded.database, loaded.folder.directory, loaded.settings.source_url)


def _sources(loaded: Sequence[Loaded]) -> dict[str, list[dg.AssetSpec]]:
    """Return the tables that folders read and that none declares, each once, by the name of the folder."""
    found: dict[str, list[dg.AssetSpec]] = {}
    seen: set[dg.AssetKey] = set()
    for each in loaded:
        specs = source_assets(each.tables, _links(each)) if each.folder.sources else []
        found[each.folder.name] = [spec for spec in specs if spec.key not in seen]
        seen |= {spec.key for spec in specs}
    return found


def place_of(loaded: Sequence[Loaded]) -> Place:
    """Return what the code location builds, and where: that tells its runs from another location's."""
    targets = [
        embedded_target(Path(each.snowflake.embedded_dir).absolute(), each.database)
        if each.snowflake.is_embedded
        else f"{text_of(each.snowflake.account)}|{each.database}"
        for each in loaded
    ]
    return Place("|".join(str(each.folder.directory) for each in loaded), "|".join(dict.fromkeys(targets)))


def alerts_of(loaded: Sequence[Loaded], settings: Settings, place: Place) -> Alerts:
    """Return what the sensors know of the code location: the tables of all folders."""
    databases = dict.fromkeys(
        f"{each.database} on the embedded Snowflake" if each.snowflake.is_embedded else each.database for each in loaded
    )
    return Alerts(
        settings=settings.alerts.model_copy(
            update={"deployment": settings.deployment, "database": ", ".join(databases)}
        ),
        channels={name: channel for each in loaded for name, channel in channels_of(each.tables).items()},
        receivers={name: named for each in loaded for name, named in receivers_of(each.tables).items()},
        rules={name: rule for each in loaded for name, rule in rules_of(each.tables).items()},
        owners={name: owners for each in loaded for name, owners in owners_of(each.tables).items()},
        jobs=tuple(job.name for each in loaded for job in jobs_of(each.tables, each.folder.timetable)),
        look=partial(_look, loaded, settings.publishing),
        place=place,
        watched=tuple(
            table
            for each in loaded
            for table in watched_tables(
                each.tables, jobs_of(each.tables, each.folder.timetable), has_schedule=each.folder.cron is not None
            )
        ),
        is_automated=any(each.is_running for each in loaded),
    )


def _look(
    loaded: Sequence[Loaded], options: PublishOptions, names: Sequence[str], log: logging.Logger, run_id: str
) -> Seen | None:
    """Ask the account of each folder that has one of the tables, at the same time; None if one does not answer."""
    from run_elt_dagster.alerts.production import look_at_production  # noqa: PLC0415 - only an alert needs it

    asked: list[Callable[[], Seen | None]] = []
    for each in loaded:
        own = {".".join(asset_key(each.tables.asset_path(key))) for key in each.tables}
        if mine := [name for name in names if name in own]:
            ask = partial(
                look_at_production,
                each.snowflake.resolved,
                each.tables,
                mine,
                log,
                run_id=run_id,
                options=options.on(is_embedded=each.snowflake.is_embedded),
            )
            asked.append(ask)
    if len(asked) == 1:
        return asked[0]()
    with ThreadPoolExecutor(max_workers=max(1, len(asked))) as threads:
        answers = [answer.result() for answer in [threads.submit(ask) for ask in asked]]
    known = [answer for answer in answers if answer is not None]
    return {name: marker for answer in known for name, marker in answer.items()} if len(known) == len(asked) else None
