"""What can be checked on this machine: the versions of the libraries, the settings, and the files of the tables."""

import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from run_elt_dagster.doctor.finding import Finding, NamedCheck, failed, ok, skipped
from run_elt_dagster.embedded import NotInstalledError, require_installed
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.lineage import Catalogue, load_tables
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster.settings import Settings
from run_elt_dagster.variables import SettingsError


class Check(NamedCheck):
    """The checks of the installation."""

    VERSIONS = (
        "versions",
        "this project does not support the version of Python or of a library, or the versions of Dagster's libraries do not match",
    )
    SETTINGS = "settings", "a variable is wrong or missing. The check names all of them"
    TABLE_FILES = (
        "table files",
        "a file is wrong. The check names path and line. The other checks look at the right tables",
    )
    TABLE_TESTS = "table tests", "a test file of a table is wrong. The check names path and line"


PACKAGE = "run_elt_dagster"
SHOWN = ("dagster", "dagster-snowflake", "dagster-slack", "snowflake-connector-python")


def check_versions() -> Iterator[Finding]:
    """Yield whether the installed libraries are those that this project, and Dagster's own among them, ask for."""
    try:
        metadata = importlib.metadata.metadata(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        yield failed(
            Check.VERSIONS, f"{PACKAGE} is not installed in this environment.", "Run pip install -e . in its folder."
        )
        return
    yield from version_findings(
        platform.python_version(),
        metadata["Requires-Python"] or "",
        requirements=lambda name: tuple(importlib.metadata.requires(name) or ()),
        installed=_installed,
    )


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def version_findings(
    python: str,
    requires_python: str,
    *,
    requirements: Callable[[str], Sequence[str]],
    installed: Callable[[str], str | None],
) -> Iterator[Finding]:
    """Yield a finding for each requirement that is not met, or one for all. Pure.

    Dagster's libraries each pin the dagster that they were released with; pip only looks at that when it installs.

    Args:
        python: Version of Python.
        requires_python: Which versions this package takes.
        requirements: The requirements of an installed package.
        installed: The version of a package, None if it is not installed.
    """
    problems = 0
    if not SpecifierSet(requires_python).contains(python, prereleases=True):
        problems += 1
        yield failed(
            Check.VERSIONS,
            f"{PACKAGE} requires Python {requires_python}, got {python}.",
            "Create the environment with such a Python.",
        )
    own = _applying(requirements(PACKAGE))
    libraries = [r.name for r in own if r.name.startswith("dagster") and installed(r.name)]
    asked = [(PACKAGE, requirement) for requirement in own]
    for name in libraries:
        asked += [(name, r) for r in _applying(requirements(name)) if r.name.startswith("dagster")]
    for who, requirement in asked:
        version = installed(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            problems += 1
            yield failed(
                Check.VERSIONS,
                f"{who} requires {requirement.name} {requirement.specifier}, got {version or 'none'}.",
                "Install the set that was tried together: pip install -c constraints.txt -e .",
            )
    if not problems:
        yield ok(Check.VERSIONS, ", ".join([f"Python {python}", *(f"{name} {installed(name)}" for name in SHOWN)]))


def _applying(requirements: Sequence[str]) -> list[Requirement]:
    parsed = [Requirement(text) for text in requirements]
    return [r for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})]


def read_settings() -> tuple[Settings | None, list[Finding]]:
    """Return the settings, None if they are wrong, and a finding for each variable that is."""
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        remedy = "Correct it: .env.example describes every variable."
        return None, [failed(Check.SETTINGS, problem, remedy) for problem in error.problems]
    account = f"account {settings.snowflake.account}" if settings.snowflake else "the embedded Snowflake, no account"
    slack = f"Slack's channel {settings.alerts.channel or '-'}" if settings.alerts.has_token else "no Slack"
    deployment = f"deployment {settings.deployment}" if settings.deployment else "no deployment"
    return settings, [ok(Check.SETTINGS, f"{account}; {slack}; {deployment}")]


def read_tables(settings: Settings) -> tuple[Catalogue | None, list[Finding]]:
    """Return the tables that are right, None if there are none at all, and a finding for each problem with its path and line."""
    remedy = "Correct that line: docs/tables.md lists every key."
    try:
        tables = load_tables(settings.tables_dir, database=settings.database, keeps_broken=True)
    except TableProblemsError as error:
        return None, [failed(Check.TABLE_FILES, str(problem), remedy) for problem in error.problems]
    except OSError as error:
        return None, [failed(Check.TABLE_FILES, f"{settings.tables_dir} cannot be read: {error}.", "Make it readable.")]
    if tables.problems:
        return tables or None, [failed(Check.TABLE_FILES, str(problem), remedy) for problem in tables.problems]
    return tables, [
        ok(Check.TABLE_FILES, f"{counted(len(tables), 'tables')} in {settings.tables_dir}"),
        *check_tests(settings),
    ]


def check_tests(settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with the test files of tables; no case is run.

    Not in a deployment: it would alert about files that change nothing there.
    """
    if settings.deployment:
        return
    try:
        require_installed()
    except NotInstalledError:
        yield from skipped([Check.TABLE_TESTS], "the embedded Snowflake is not installed here")
        return
    from run_elt_dagster.testing.folder import load_tests  # noqa: PLC0415 - needs what may not be installed

    tests, problems = load_tests(settings.tables_dir, database=settings.database)
    for problem in problems:
        yield failed(Check.TABLE_TESTS, str(problem), "Correct that line: docs/tests.md says what a test file holds.")
    if not problems:
        cases = sum(len(each.file.cases) for each in tests)
        counted = f"{_counted(cases, 'case')} of {_counted(len(tests), 'table')}"
        yield ok(Check.TABLE_TESTS, f"{counted}, not run: run-elt test runs them")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
