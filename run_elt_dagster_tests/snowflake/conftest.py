import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from run_elt_dagster_tests.support import opting_in

if TYPE_CHECKING:
    # Seconds to import, and this file is read by every run of the tests.
    from run_elt_dagster_tests.support.snowflake_account import Account, OwnSchema, OwnTable


class NotOptedIn(pytest.Module):
    """A file of tests that is not even imported."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        pytest.skip(opting_in.NOT_SET, allow_module_level=True)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only_an_account(reason): the embedded Snowflake cannot show this, and why")
    if opting_in.is_opted_in() and not opting_in.is_embedded():
        # A long traceback shows the arguments of every function, passwords among them.
        config.option.tbstyle, config.option.showlocals = "short", False


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave the folder out of a run of all tests, in which a skipped test counts as a failed one."""
    is_wanted = opting_in.is_opted_in() or opting_in.is_named(config.args, config.invocation_params.dir)
    return None if is_wanted else True


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return None if opting_in.is_opted_in() else NotOptedIn.from_parent(parent, path=module_path)


def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("only_an_account")
    if marker is not None and opting_in.is_embedded():
        pytest.skip(f"the embedded Snowflake {marker.args[0]}")


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Account"]:
    from run_elt_dagster_tests.support.snowflake_account import embedded_account, real_account  # noqa: PLC0415

    if not opting_in.is_embedded():
        yield real_account()
        return
    with embedded_account(tmp_path_factory.mktemp("embedded")) as account:
        yield account


@pytest.fixture(scope="session")
def schema(account: "Account") -> Iterator["OwnSchema"]:
    """The one schema of this run of the tests, which goes whatever happens in it."""
    from run_elt_dagster_tests.support.snowflake_account import OwnSchema  # noqa: PLC0415

    name = f"RUN_ELT_TESTS_{datetime.now(UTC):%Y%m%d_%H%M%S}_{uuid.uuid4().hex[:8]}".upper()
    with ExitStack() as resources:
        resources.callback(account.drop_schema, name)
        account.create_schema(name)
        yield OwnSchema(account, name, resources)


@pytest.fixture
def table(schema: "OwnSchema", tmp_path: Path) -> Iterator["OwnTable"]:
    """A table of the test's own: its name, and nothing under it yet."""
    from run_elt_dagster_tests.support.snowflake_account import OwnSchema, OwnTable  # noqa: PLC0415

    with ExitStack() as resources:
        yield OwnTable(OwnSchema(schema.account, schema.name, resources), f"T_{uuid.uuid4().hex[:8]}".upper(), tmp_path)
