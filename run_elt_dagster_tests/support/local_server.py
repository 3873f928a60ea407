"""A server of a test's own, and runs of one table on it, without Dagster around them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.snowflake.session import ConnectorSession
from run_elt_dagster_tests.simulator import SimulatedServer
from run_elt_dagster_tests.support.embedded import Account, connecting
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
        (outcome,) = self.run_all(run_id, {"mau": text}, arguments=arguments, **options).values()
        return outcome

    def run_all(
        self,
        run_id: str,
        texts: Mapping[str, str],
        *,
        arguments: dict[str, Any] | None = None,
        keys: Sequence[str] = (),
        warn: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> dict[str, TableOutcome]:
        """Run tables of the schema analytics, given by name and text; all of them, or those of some names."""
        tables = catalogue(
            [
                parse_table_file(self.directory / f"{name}.sql", text, schema="analytics", table=name)
                for name, text in texts.items()
            ]
        )
        chosen = run_arguments(run_id, retry_seconds=(0, 0, 0), poll_seconds=0.02, **options)
        connect = connecting({**self.account.arguments, **(arguments or {})})
        with connect() as connection, ConnectorSession(connection, connect) as session:
            outcomes = run_tables(session, tables, [("analytics", name) for name in keys or texts], warn=warn, **chosen)
            return {outcome.table.table: outcome for outcome in outcomes}

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
