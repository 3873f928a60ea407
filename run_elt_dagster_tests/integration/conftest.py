from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.alerts import reconciliation
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster_tests.simulator import SimulatedServer
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.embedded import Account, running_server, simulated_account
from run_elt_dagster_tests.support.empty_database import lay_empty_database
from run_elt_dagster_tests.support.history import lay_empty_history
from run_elt_dagster_tests.support.local_server import LocalServer
from run_elt_dagster_tests.support.read_migrations import migrations_read_once


@pytest.fixture(scope="session", autouse=True)
def _read_migrations() -> Iterator[None]:
    with migrations_read_once():
        yield


@pytest.fixture(autouse=True)
def _unhurried_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick leaves to the next one what it has no time for, by the machine's clock, which no test moves."""
    monkeypatch.setattr(reconciliation, "TICK_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[DagsterProject]:
    lay_empty_database(tmp_path / "embedded")
    resource = Snowflake(embedded_dir=str(tmp_path / "embedded"), sample_data=False)
    with resource.connect() as connection, dg.DagsterInstance.ephemeral() as instance:
        yield DagsterProject(tmp_path, connection, resource, instance)


@pytest.fixture
def commanded_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterProject]:
    """A code location that the commands of run-elt find, with a history on the disk."""
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(tmp_path / "tables"))
    monkeypatch.setenv("RUN_ELT_EMBEDDED_DIR", str(tmp_path / "embedded"))
    monkeypatch.setenv("DAGSTER_HOME", str(lay_empty_history(tmp_path)))
    lay_empty_database(tmp_path / "embedded")
    resource = Snowflake(embedded_dir=str(tmp_path / "embedded"), sample_data=False)
    with resource.connect() as connection, dg.DagsterInstance.get() as instance:
        yield DagsterProject(tmp_path, connection, resource, instance)


@pytest.fixture
def simulated_project(tmp_path: Path) -> Iterator[DagsterProject]:
    """A code location on a simulated account, for what the embedded Snowflake refuses."""
    lay_empty_database(tmp_path, SimulatedServer)
    with running_server(tmp_path) as server:
        resource = simulated_account(server)
        with resource.connect() as connection, dg.DagsterInstance.ephemeral() as instance:
            yield DagsterProject(tmp_path, connection, resource, instance)


@pytest.fixture
def local_server(tmp_path: Path) -> Iterator[LocalServer]:
    lay_empty_database(tmp_path, SimulatedServer)
    with running_server(tmp_path) as server:
        account = Account(server)
        with account.resources:
            yield LocalServer(server, account, tmp_path)
