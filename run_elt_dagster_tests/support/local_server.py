"""A server of a test's own, and runs of one table on it, without Dagster around them."""

from contextlib import closing
from pathlib import Path
from typing import Any

import snowflake.connector

from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import parse_table_file
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.snowflake.session import ConnectorSession
from run_elt_dagster_tests.simulator import SimulatedServer
from run_elt_dagster_tests.support.embedded import Account
from run_elt_dagster_tests.support.run_arguments import run_arguments

METHODS = ["clone", "swap", "overwrite"]
# (rows, least and greatest value) of the tables of two runs.
OLD, NEW = [(3, 1, 1)], [(5, 2, 2)]


class LocalServer:
    """A server of a test's own, and runs of the table analytics.mau on it."""

    def __init__(self, server: SimulatedServer, account: Account, directory: Path) -> None:
        self.server, self.account, self.directory = server, account, directory
        self.reader = account.session()

    def run(self, run_id: str, text: str, *, arguments: dict[str, Any] | None = None, **options: Any) -> TableOutcome:
        tables = catalogue([parse_table_file(self.directory / "mau.sql", text, schema="analytics", table="mau")])
        chosen = run_arguments(run_id, retry_seconds=(0, 0, 0), poll_seconds=0.02, **options)

        def connect() -> Any:
            return closing(snowflake.connector.connect(**{**self.account.arguments, **(arguments or {})}))

        with connect() as connection, ConnectorSession(connection, connect) as session:
            (outcome,) = run_tables(session, tables, [("analytics", "mau")], **chosen)
        return outcome

    def seen(self) -> list[tuple[Any, ...]]:
        return self.reader.sql("select count(*), min(v), max(v) from analytics.mau")

    def comment(self) -> str:
        """Return the comment of the table."""
        return self.reader.sql("select comment from information_schema.tables where table_name = 'MAU'")[0][0]

    def tables(self) -> set[str]:
        rows = self.reader.sql("select table_name from information_schema.tables where table_schema = 'ANALYTICS'")
        return {name for (name,) in rows}


def mau(rows: int, value: int, *, publish: str = "clone", more: str = "") -> str:
    return f"/* elt\npublish: {publish}\n{more}\nelt */ select seq4() as n, {value}::int as v from table(generator(rowcount => {rows}))"
