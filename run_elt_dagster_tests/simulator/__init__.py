"""The account simulator: the embedded Snowflake with grants, policies, streams, tags, kinds of tables and Time Travel.

    server = SimulatedServer(directory, hook=hook)

Each feature is one module, which plugs into the server by a `Feature`. Privileges are not enforced, but for GRANT and REVOKE
in a managed access schema. Policies are recorded and listed, not enforced; streams are recorded and
listed, not readable. Dynamic, external and Iceberg tables and materialized views are listed as such; their rows are those at
their creation. AT and BEFORE know the rows that the last three INSERT OVERWRITE of a table replaced, and no others.

Transactions (https://docs.snowflake.com/en/sql-reference/transactions):

- One session at a time has changes that are not committed; whoever wants to change something waits. BEGIN and queries take no lock.
- A lock is given back when its transaction or its session ends. A session that has been idle for five minutes is rolled back as
  soon as another one waits for it, as on an account: a client that is gone looks the same. Its next statement fails until ROLLBACK.
- After a failed statement the changes before it are made again and stay, unless they would differ, as with RANDOM(). Then the
  transaction is rolled back, and every statement fails until COMMIT, which fails too, or ROLLBACK.
- The clock stands still from a transaction's first change to its end. No page says what an account does.

QUERY_HISTORY lists the last 10,000 statements that have ended, to every role: query_history.py. There is no database SNOWFLAKE.

CLONE gives a table its source's tags and policies. LIKE of a table with tags or policies is refused, since no page says whether
they come along; a row access policy does not. Session parameters have their effect, change no value, or are refused.
"""

from run_elt_dagster_tests.simulator.server import DropAnswerError, Hook, SimulatedServer, StatementEvent

__all__ = ["DropAnswerError", "Hook", "SimulatedServer", "StatementEvent"]
