"""Which releases of the connector are refused before anything is executed, and in which words."""

import subprocess
import sys
from pathlib import Path

import pytest

from run_elt_dagster.snowflake.connecting import ConnectorReleaseError, require_known_release

ANOTHER = """
import sys
import snowflake.connector
snowflake.connector.__version__ = "5.2.0"
sys.modules["snowflake.connector.errorcode"] = None
from run_elt_dagster.snowflake.resource import Snowflake
try:
    with Snowflake(account="a", user="u", password="p", database="d").connect():
        pass
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("version", ["4.7.5", "4.8.1"])
def test_release_that_the_tests_ran_on_is_taken(version: str) -> None:
    require_known_release(version)


@pytest.mark.parametrize("version", ["5.0.0rc1", "5.2.0", "12.0"])
def test_release_with_another_driver_is_refused_with_the_remedy(version: str) -> None:
    with pytest.raises(ConnectorReleaseError, match=f"got {version}. Nothing was executed. Run pip install"):
        require_known_release(version)


def test_other_release_is_refused_before_what_it_has_not_is_imported(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", ANOTHER], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout.startswith("The connection requires snowflake-connector-python before 5, got 5.2.0.")
