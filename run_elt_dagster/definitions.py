"""The whole system on one screen: what is built, when, and by what means."""

import gc
from functools import partial

import dagster as dg

# Dagster stays: left out of garbage collection, it is not looked through again while the rest is loaded.
gc.freeze()

from run_elt_dagster.alerts.health import alert_asset, alerts_delivered
from run_elt_dagster.alerts.production import look_at_production
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.sensors import alert_sensors
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.model.column_lineage import ColumnLineage, column_file
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.orchestration.heartbeat import lost_runs_sensor
from run_elt_dagster.orchestration.jobs import jobs_of, waking, waking_sensors
from run_elt_dagster.orchestration.links import Links
from run_elt_dagster.orchestration.scaffolded import scaffolded_definitions
from run_elt_dagster.orchestration.schedule import schedule_of
from run_elt_dagster.orchestration.sources import observe_sources_job
from run_elt_dagster.orchestration.specs import owners_of, source_assets
from run_elt_dagster.orchestration.unrecorded import say_on_stderr
from run_elt_dagster.settings import Settings, is_validation
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.storage import keep_sqlite_connections

settings = Settings.from_environment()

# A command has opened Dagster's storage by now, and writes the planned events of its run next.
keep_sqlite_connections()

# One SQL file is one table: tables/<schema>/<table>.sql. A broken one is an asset that no run can build. Validation fails.
tables = load_tables(
    settings.tables_dir, database=settings.database, cache_dir=settings.cache_dir, keeps_broken=not is_validation()
)
for problem in tables.problems:
    say_on_stderr(str(problem))

# One step builds each table as a candidate, audits it, and publishes it in one atomic exchange. One job has all tables; partitions of
# another length or start have a job of their own, and wake what reads them.
links = Links.of(settings)
columns = ColumnLineage(tables, path=column_file(settings.cache_dir, settings.tables_dir))
jobs = jobs_of(tables)
woken = waking(tables, jobs)
analytics = analytics_assets(tables, settings.publishing, links=links, columns=columns, woken=woken)
run_elt_alert, *other_jobs = (job.definition() for job in jobs)

snowflake = Snowflake.from_settings(settings)

# A failed run posts to Slack; what does not get through is tried again. A run whose process is gone fails too.
alerts = Alerts(
    settings=settings.alerts,
    owners=owners_of(tables),
    jobs=tuple(job.name for job in jobs),
    look=partial(look_at_production, snowflake.resolved, tables),
)

defs = dg.Definitions(
    assets=[analytics, *source_assets(tables, links), alert_asset()],
    asset_checks=[alerts_delivered(alerts)],
    jobs=[run_elt_alert, *other_jobs, observe_sources_job(tables)],
    # On by themselves in a deployment, and off on a person's machine that has an account.
    schedules=[schedule_of(job, is_running=settings.is_automated) for job in jobs],
    sensors=[
        *alert_sensors(alerts, is_running=settings.is_automated),
        *waking_sensors(woken, is_running=settings.is_automated),
        lost_runs_sensor(lost_after_seconds=settings.lost_after_seconds, is_running=settings.is_automated),
    ],
    resources={"snowflake": snowflake, "slack": Slack.from_settings(settings)},
    # Snowflake does the work: a subprocess for the one step would only cost a second start-up.
    executor=dg.in_process_executor,
)
# What `dg scaffold defs` has written into defs/ belongs to it.
defs = dg.Definitions.merge(defs, scaffolded_definitions())

# What is loaded stays: left out of garbage collection, no process looks through it again, the last time when it ends (1 s).
gc.freeze()
