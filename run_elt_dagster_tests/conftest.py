import gc
import os
from collections.abc import Iterator

import pytest

from run_elt_dagster import settings
from run_elt_dagster.settings import VARIABLES
from run_elt_dagster_tests.support.kept_connections import stop_keeping

# What waits more than it computes, the longest first: for Dagster's processes, or for an answer that never comes.
WAITING = (
    "test_each_failure",
    "test_user_interface",
    "e2e/",
    "test_killed_process",
    "test_fault_trials",
    "integration/test_answers",
)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in (*VARIABLES, "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    # A process notes the secrets of its resources until it ends.
    monkeypatch.setattr(settings, "_noted_secrets", {})


@pytest.fixture(autouse=True)
def _no_kept_connections() -> Iterator[None]:
    yield
    stop_keeping()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage while all tests and all that they import are loaded: they stay. It was a quarter of what that takes."""
    gc.disable()
    yield
    gc.enable()
    gc.freeze()


# How long a test may take in a thorough run that says nothing else: many do more there. Elsewhere: pyproject.toml.
THOROUGH_SECONDS = 1800


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only a thorough run does, and spread the tests that wait over the first half, where others compute meanwhile."""
    if not os.environ.get("RUN_ELT_TESTS_THOROUGH"):
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
    else:
        for item in items:
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(THOROUGH_SECONDS))
    ranks = {item: next((n for n, part in enumerate(WAITING) if part in item.nodeid), None) for item in items}
    slow = sorted((item for item, rank in ranks.items() if rank is not None), key=lambda item: ranks[item] or 0)
    others = [item for item, rank in ranks.items() if rank is None]
    gap = max(len(others) // (2 * len(slow) + 1), 1) if slow else 1
    for number, item in enumerate(slow):
        others.insert(number * (gap + 1), item)
    items[:] = others


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    yield
    for line in _fault_matrix(terminalreporter):
        terminalreporter.write_line(line)
    if os.environ.get("RUN_ELT_TESTS_NO_SKIP") and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line(
            "RUN_ELT_TESTS_NO_SKIP is set, and tests were skipped: this run does not count", red=True
        )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("RUN_ELT_TESTS_NO_SKIP") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _fault_matrix(terminalreporter: pytest.TerminalReporter) -> Iterator[str]:
    """Yield the lines of the matrix of faults: for each statement, what readers see after each fault at it."""
    columns: list[str] = []
    lines: dict[tuple[str, int, str], dict[str, str]] = {}
    looks = 0
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", ()):
            if name != "faults" or report.when != "call":
                continue
            title, begin, fault, statements, verdicts, looked = value
            columns += [] if fault in columns else [fault]
            looks += looked
            for number, (statement, verdict) in enumerate(zip(statements, verdicts, strict=True), start=begin):
                lines.setdefault((title, number, statement), {})[fault] = verdict
    if not lines:
        return
    yield f"{'after a fault, readers see':56}" + "".join(f"{column:14}" for column in columns)
    for (title, number, statement), verdicts in sorted(lines.items()):
        yield f"{f'{title:18} {number + 1:2} {statement}':56}" + "".join(f"{verdicts.get(c, '-'):14}" for c in columns)
    counts = [verdict for line in lines.values() for verdict in line.values()]
    yield (
        f"{len(counts)} faults: {counts.count('old')} left the old table, {counts.count('new')} the new one, none anything "
        f"else, in {looks:,} looks of a consumer"
    )
