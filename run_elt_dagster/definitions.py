"""The whole system on one screen: what is built, when, and by what means."""

import gc

import dagster as dg

# Dagster stays: left out of garbage collection, it is not looked through again while the rest is loaded.
gc.freeze()

from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.library import SqlFolder, build_parts
from run_elt_dagster.orchestration.environments import expired_environments_schedule
from run_elt_dagster.orchestration.scaffolded import scaffolded_definitions
from run_elt_dagster.settings import Settings
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.storage import keep_sqlite_connections

settings = Settings.from_environment()

# A command has opened Dagster's storage by now, and writes the planned events of its run next.
keep_sqlite_connections()

# One SQL file is one table: tables/<schema>/<table>.sql. One step builds each table as a candidate, audits it, and publishes it in one
# atomic exchange. One job has all tables; partitions of another length or start have a job of their own, and wake what reads them.
# Schedules and sensors are on by themselves in a deployment, and off on a person's machine that has an account.
# A failed run posts to Slack; what does not get through is tried again. A run whose process is gone fails too.
parts = build_parts(
    SqlFolder(settings.tables_dir, sources=True),
    snowflake=Snowflake.from_settings(settings),
    slack=Slack.from_settings(settings),
    settings=settings,
)

defs = dg.Definitions.merge(
    # Snowflake does the work: a subprocess for the one step would only cost a second start-up.
    parts.definitions(executor=dg.in_process_executor),
    # Copies of the production database that have expired are dropped once a day.
    dg.Definitions(schedules=[expired_environments_schedule(settings)]),
    # What `dg scaffold defs` has written into defs/ belongs to it.
    scaffolded_definitions(),
)

# What is loaded stays: left out of garbage collection, no process looks through it again, the last time when it ends (1 s).
gc.freeze()
