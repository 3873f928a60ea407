"""The account simulator: the embedded Snowflake with grants, policies, streams, tags, kinds of tables and Time Travel.

    server = SimulatedServer(directory, hook=hook)

Each feature is one module, which plugs into the server by a `Feature`. Privileges are not enforced, but for GRANT and REVOKE
in a managed access schema. Masking and row access policies are recorded and listed, not enforced; streams are recorded and
listed, not readable. Dynamic, external and Iceberg tables and materialized views are listed as such; their rows are those at
their creation. AT and BEFORE know the rows that the last three INSERT OVERWRITE of a table replaced, and no others.
"""

from run_elt_dagster_tests.simulator.server import DropAnswerError, Hook, SimulatedServer, StatementEvent

__all__ = ["DropAnswerError", "Hook", "SimulatedServer", "StatementEvent"]
