import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from run_elt_dagster_tests.e2e.place import ROOT, Place, Webserver, free_port


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    for name in ("dagster.yaml", "workspace.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    place = Place(tmp_path)
    yield place
    for process in reversed(place.processes):
        place.stop(process)


@pytest.fixture
def dagster_dev(place: Place) -> Webserver:
    """`dagster dev` without a flag but for where it listens."""
    port = free_port()
    place.start("dagster", "dev", "--host", "127.0.0.1", "--port", str(port))
    webserver = Webserver(f"http://127.0.0.1:{port}")
    place.wait_for("the webserver", webserver.is_up)
    return webserver
