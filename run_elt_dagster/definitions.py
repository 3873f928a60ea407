"""The whole system on one screen: what is built, when, and by what means."""

import gc

import dagster as dg

# Dagster stays: left out of garbage collection, it is not looked through again while the rest is loaded.
gc.freeze()

from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.library import SqlFolder, build_parts
from run_elt_dagster.orchestration.scaffolded import scaffolded_definitions
from run_elt_dagster.settings import Settings
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.storage import keep_sqlite_connections

settings = Settings.from_environment()

# A command has opened Dagster's storage by now, and writes the planned events of its run next.
keep_sqlite_connections()

# One SQL file is one table: tables/<schema>/<table>.sql. A broken one is an asset that no run can build. Validation fails.
parts = build_parts(
    SqlFolder(settings.tables_dir, sources=True),
    snowflake=Snowflake.from_settings(settings),
    slack=Slack.from_settings(settings),
    settings=settings,
)
(tables,) = parts.folders.values()
alerts = parts.alerts

defs = dg.Definitions(
    # One step builds each table as a candidate, audits it, and publishes it in one atomic exchange. Beside the tables: what they read from
    # elsewhere, and how the alerting stands.
    assets=[*tables.assets, *alerts.assets],
    asset_checks=alerts.asset_checks,
    # One job has all tables; partitions of another length or start have a job of their own. One more observes what others load.
    jobs=tables.jobs,
    # On by themselves in a deployment, and off on a person's machine that has an account. Copies of the production database that have
    # expired are dropped once a day where a setting says that there are some.
    schedules=[*tables.schedules, *parts.environments],
    # A failed run posts to Slack; what does not get through is tried again. A run whose process is gone fails too. Partitions of one job
    # wake what reads them in another.
    sensors=[*alerts.sensors, *tables.sensors],
    resources=alerts.resources,
    # Snowflake does the work: a subprocess for the one step would only cost a second start-up.
    executor=dg.in_process_executor,
)
# What `dg scaffold defs` has written into defs/ belongs to it.
defs = dg.Definitions.merge(defs, scaffolded_definitions())

# What is loaded stays: left out of garbage collection, no process looks through it again, the last time when it ends (1 s).
gc.freeze()
