"""The least that a run of Dagster's command line does: one asset without any work, and no Snowflake."""

import dagster as dg


@dg.asset
def nothing() -> None:
    """Do nothing."""


defs = dg.Definitions(assets=[nothing], executor=dg.in_process_executor)
