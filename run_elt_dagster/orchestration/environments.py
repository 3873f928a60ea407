"""The job that drops expired copies of the production database, once a day where a deployment runs by itself."""

from datetime import UTC, datetime

import dagster as dg

from run_elt_dagster.settings import Settings
from run_elt_dagster.snowflake.injected import SNOWFLAKE_KEY, needs_snowflake
from run_elt_dagster.snowflake.resource import Snowflake

JOB_NAME = "drop_expired_environments"
_CRON = "0 3 * * *"


def expired_environments_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Return the schedule of the job that drops expired environments; a code location with the one has the other.

    Only databases that `run-elt env create` has made are dropped. What the role may not drop is a warning, and fails nothing.
    """

    # Not by the name of the job: Dagster refuses a code location with an op and a job of one name.
    @dg.op(name="drop_environments", description="Drops expired copies of the production database.")
    @needs_snowflake(SNOWFLAKE_KEY)
    def drop(context: dg.OpExecutionContext, snowflake: Snowflake) -> None:
        # Only a run of this job needs them.
        from run_elt_dagster.environments.databases import Databases  # noqa: PLC0415
        from run_elt_dagster.environments.mark import stored_database  # noqa: PLC0415
        from run_elt_dagster.environments.opening import databases_session  # noqa: PLC0415

        given = settings.production_database
        with databases_session(snowflake, log=context.log.info) as session:
            databases = Databases(
                session,
                database=stored_database(settings.database),
                production=stored_database(given) if given else None,
                job=JOB_NAME,
            )
            for each in databases.drop_expired(now=datetime.now(UTC), tell=context.log.warning):
                context.log.info("%s of %s has expired and is dropped.", each.database, each.mark.owner)

    @dg.job(name=JOB_NAME, description="Drops expired copies of the production database. No table is built.")
    def job() -> None:
        drop()

    return dg.ScheduleDefinition(
        name=JOB_NAME,
        job=job,
        cron_schedule=_CRON,
        default_status=dg.DefaultScheduleStatus.RUNNING if settings.is_automated else dg.DefaultScheduleStatus.STOPPED,
        description="Every day at 03:00 UTC.",
    )
