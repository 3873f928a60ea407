from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.alerts import reconciliation
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster_tests.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.integration.embedded_fixtures import Account, running_server
from run_elt_dagster_tests.integration.house import House
from run_elt_dagster_tests.integration.warehouse import Warehouse


@pytest.fixture(autouse=True)
def _unhurried_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick leaves to the next one what it has no time for, by the machine's clock, which no test moves."""
    monkeypatch.setattr(reconciliation, "TICK_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    resource = Snowflake(embedded_dir=str(tmp_path / "embedded"), sample_data=False)
    with resource.connect() as connection, dg.DagsterInstance.ephemeral() as instance:
        yield House(tmp_path, connection, resource, instance)


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    with running_server(tmp_path) as server:
        account = Account(server)
        with account.resources:
            yield Warehouse(server, account, tmp_path)
