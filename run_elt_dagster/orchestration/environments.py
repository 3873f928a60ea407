"""The job that drops expired copies of the production database, once a day where they are used."""

from datetime import UTC, datetime

import dagster as dg

from run_elt_dagster.snowflake.injected import SNOWFLAKE_KEY, needs_snowflake
from run_elt_dagster.snowflake.resource import Snowflake

JOB_NAME = "drop_expired_environments"
_OP_NAME = "drop_environments"
_CRON = "0 3 * * *"


def expired_environments_schedule(
    *, database: str, production: str | None, resource: str = SNOWFLAKE_KEY, is_running: bool = True
) -> dg.ScheduleDefinition:
    """Return the schedule of the job that drops expired environments; a code location with the one has the other.

    Only databases that `run-elt env create` has made are dropped. What the role may not drop is a warning, and fails nothing.

    Args:
        database: The session's database, which is never dropped.
        production: The database that environments are copies of; None for the session's, or what that is a copy of.
        resource: Key of the resource. The job of another one than the usual has its name in front.
        is_running: Whether it runs until a person switches it in the UI.
    """
    before = "" if resource == SNOWFLAKE_KEY else f"{resource}_"

    # Not by the name of the job: Dagster refuses a code location with an op and a job of one name.
    @dg.op(name=f"{before}{_OP_NAME}", description="Drops expired copies of the production database.")
    @needs_snowflake(resource)
    def drop(context: dg.OpExecutionContext, snowflake: Snowflake) -> None:
        # Only this run needs them, and not every process that loads the code location.
        from run_elt_dagster.environments.databases import Databases  # noqa: PLC0415
        from run_elt_dagster.environments.mark import stored_database  # noqa: PLC0415
        from run_elt_dagster.environments.opening import databases_session  # noqa: PLC0415

        with databases_session(snowflake, log=context.log.info) as session:
            databases = Databases(
                session,
                database=stored_database(database),
                production=stored_database(production) if production else None,
                job=JOB_NAME,
            )
            for each in databases.drop_expired(now=datetime.now(UTC), tell=context.log.warning):
                context.log.info("%s of %s has expired and is dropped.", each.database, each.mark.owner)

    @dg.job(
        name=f"{before}{JOB_NAME}", description="Drops expired copies of the production database. No table is built."
    )
    def job() -> None:
        drop()

    return dg.ScheduleDefinition(
        name=f"{before}{JOB_NAME}",
        job=job,
        cron_schedule=_CRON,
        default_status=dg.DefaultScheduleStatus.RUNNING if is_running else dg.DefaultScheduleStatus.STOPPED,
        description="Every day at 03:00 UTC.",
    )
