import os
from collections.abc import Iterator

import pytest

from run_elt_dagster.settings import VARIABLES


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    yield
    if os.environ.get("RUN_ELT_TESTS_NO_SKIP") and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line(
            "RUN_ELT_TESTS_NO_SKIP is set, and tests were skipped: this run does not count", red=True
        )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("RUN_ELT_TESTS_NO_SKIP") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
