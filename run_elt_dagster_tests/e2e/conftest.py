import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from run_elt_dagster_tests.support.deployment_dir import ROOT, DeploymentDir, Webserver, free_port
from run_elt_dagster_tests.support.history import lay_empty_history
from run_elt_dagster_tests.support.postgres import Postgres, postgres_server
from run_elt_dagster_tests.support.slack_stand_in import SlackStandIn, slack_stand_in


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def slack() -> Iterator[SlackStandIn]:
    with slack_stand_in() as stand_in:
        yield stand_in


@pytest.fixture
def deployment_dir(tmp_path: Path) -> Iterator[DeploymentDir]:
    for name in ("dagster.yaml", "workspace.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    # Where dagster.yaml keeps it. test_make begins without one, as a clone does.
    lay_empty_history(tmp_path / ".dagster_storage")
    deployment_dir = DeploymentDir(tmp_path)
    yield deployment_dir
    for process in reversed(deployment_dir.processes):
        deployment_dir.stop(process)


@pytest.fixture
def dagster_dev(deployment_dir: DeploymentDir) -> Webserver:
    """`dagster dev` without a flag but for where it listens."""
    port = free_port()
    deployment_dir.start("dagster", "dev", "--host", "127.0.0.1", "--port", str(port))
    webserver = Webserver(f"http://127.0.0.1:{port}")
    deployment_dir.wait_for("the webserver", webserver.is_up)
    return webserver
