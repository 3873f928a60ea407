"""The plugin `run_elt` of pytest: `<table>.test.yaml` below the folder of tables are tests.

Importing this module and collecting other files imports nothing of the project: all of pytest's runs in this environment load it.
`-p no:run_elt` switches it off.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from run_elt_dagster.model.names import Key
    from run_elt_dagster.model.problems import TableProblem
    from run_elt_dagster.model.table import AnalyticsTable
    from run_elt_dagster.settings import Settings
    from run_elt_dagster.testing.bound import TableTests
    from run_elt_dagster.testing.files import Case
    from run_elt_dagster.testing.runner import AccountRunner, Runner

# Those of testing.files, which is not imported for that.
SUFFIXES = (".test.yaml", ".test.yml", ".tests.yaml", ".tests.yml")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers of the tests, for runs with --strict-markers."""
    config.addinivalue_line("markers", "run_elt: a test of a table's SQL, from <table>.test.yaml")
    config.addinivalue_line("markers", "run_elt_account: one that runs on an account only")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "TableTestFile | None":
    """Collect the test files below the folder of tables.

    Raises:
        UsageError: The setting of that folder is wrong.
    """
    if not file_path.name.lower().endswith(SUFFIXES):
        return None
    try:
        directory = _Session.of(parent.config).directory
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    # A schema may be a link to another place.
    is_below = any(folder.resolve() == directory for folder in file_path.parents)
    return TableTestFile.from_parent(parent, path=file_path) if is_below else None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of what the tests have run on."""
    session = config.stash.get(_KEY, None)
    if session is not None:
        session.close()


class _Session:
    """What the tests of one run of pytest share, each made when it is first needed.

    Settings are read as `run-elt` reads them: from the environment, and from .env in the working directory.
    """

    def __init__(self) -> None:
        self._resources = ExitStack()

    @cached_property
    def _variables(self) -> "Mapping[str, str]":
        from dotenv import dotenv_values  # noqa: PLC0415 - only where there is a test file

        written = {name: value for name, value in dotenv_values(Path(".env")).items() if value is not None}
        return {**written, **os.environ}

    @cached_property
    def settings(self) -> "Settings":
        """The settings.

        Raises:
            SettingsError: One is wrong.
        """
        from run_elt_dagster.settings import Settings  # noqa: PLC0415

        return Settings.from_environment(self._variables)

    @cached_property
    def directory(self) -> Path:
        """The folder of tables. Another setting may be wrong: whose file it is does not depend on that."""
        from run_elt_dagster.settings import Settings  # noqa: PLC0415

        own = {name: value for name, value in self._variables.items() if name == "RUN_ELT_TABLES_DIR"}
        return Settings.from_environment(own).tables_dir.resolve()

    @classmethod
    def of(cls, config: pytest.Config) -> "_Session":
        """Return that of a run of pytest."""
        if _KEY not in config.stash:
            config.stash[_KEY] = cls()
        return config.stash[_KEY]

    @cached_property
    def declared(self) -> "tuple[Mapping[Key, AnalyticsTable], Sequence[TableProblem]]":
        """The declared tables, and what is wrong with their files."""
        from run_elt_dagster.model.lineage import load_declared  # noqa: PLC0415

        return load_declared(self.settings.tables_dir)

    @cached_property
    def runner(self) -> "Runner":
        """What runs the cases."""
        from run_elt_dagster.testing.runner import Runner  # noqa: PLC0415

        return self._resources.enter_context(Runner(self._account))

    @property
    def _account(self) -> "Callable[[], AccountRunner] | None":
        return self._signed_in if self.settings.test_schema and self.settings.snowflake else None

    def _signed_in(self) -> "AccountRunner":
        from dotenv import load_dotenv  # noqa: PLC0415

        from run_elt_dagster.snowflake.resource import Snowflake  # noqa: PLC0415 - with Dagster: a second
        from run_elt_dagster.testing.account import OnAccount  # noqa: PLC0415

        # The secrets are read from the environment.
        load_dotenv(Path(".env"))
        session = Snowflake.from_settings(self.settings).resolved().session(log=print)
        return OnAccount(self._resources.enter_context(session), self.settings.test_schema)

    def close(self) -> None:
        """Let go of what the tests have run on."""
        self._resources.close()


_KEY = pytest.StashKey[_Session]()


class CaseFailedError(Exception):
    """A case whose rows are not the expected ones, or that cannot be judged; the text is for a person."""


class TableTestFile(pytest.File):
    """A test file."""

    def collect(self) -> Iterable["TableCase"]:
        """Yield its cases.

        Raises:
            CollectError: With everything that is wrong with it.
        """
        from run_elt_dagster.embedded import NotInstalledError, require_installed  # noqa: PLC0415
        from run_elt_dagster.model.problems import TableProblemsError  # noqa: PLC0415

        try:
            require_installed()
            tests = self._tests()
        except (NotInstalledError, TableProblemsError, ValueError) as error:
            raise self.CollectError(str(error)) from error
        yield from self._items(tests)

    def _tests(self) -> "TableTests":
        from run_elt_dagster.testing.folder import load_file  # noqa: PLC0415

        session = _Session.of(self.config)
        declared, problems = session.declared
        return load_file(self.path, declared, database=session.settings.database, table_problems=problems)

    def _items(self, tests: "TableTests") -> Iterator["TableCase"]:
        for case in tests.file.cases:
            item = TableCase.from_parent(self, name=case.name, tests=tests, case=case)
            item.add_marker("run_elt")
            if case.account:
                item.add_marker("run_elt_account")
            yield item


class TableCase(pytest.Item):
    """A case of a test file."""

    def __init__(self, *, tests: "TableTests", case: "Case", **rest: Any) -> None:
        super().__init__(**rest)
        self._tests, self._case = tests, case

    def runtest(self) -> None:
        """Run the case.

        Raises:
            CaseFailedError: Its rows are not the expected ones.
        """
        outcome = _Session.of(self.config).runner.run(self._tests, self._case)
        if outcome.verdict == "skipped":
            pytest.skip(outcome.message)
        if outcome.verdict != "passed":
            raise CaseFailedError(outcome.message)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the difference alone: a traceback of this plugin helps nobody."""
        if isinstance(excinfo.value, CaseFailedError):
            return f"{self.path}:{self._case.line}: {self._case.name}\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the case stands."""
        return self.path, self._case.line - 1, f"{self._tests.table.name}: {self._case.name}"
