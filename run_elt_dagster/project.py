"""What a command works on: the shipped code location as the environment describes it, or a folder of another code location.

Another one is loaded as Dagster's commands load it, and its calls of `build_defs` say the rest. Dagster is imported for such a one alone.
"""

import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import tomllib
import traceback
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from run_elt_dagster.model.lineage import Catalogue, load_declared, load_tables
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.problems import TableProblem
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.model.table_files import load_table
from run_elt_dagster.settings import EMBEDDED_DATABASE, Settings, SnowflakeSettings

if TYPE_CHECKING:
    import dagster as dg

    from run_elt_dagster.alerts.scope import Alerts
    from run_elt_dagster.alerts.slack import Slack
    from run_elt_dagster.library import Loaded
    from run_elt_dagster.snowflake.resource import Snowflake

_SHIPPED = "run_elt_dagster"
_PACKAGE = str(Path(__file__).parent) + os.sep
# Python's own files, and where packages are installed.
_NOT_OWN = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_LINES_OF_REASON = 3
# What of an account is shown, and what a hint is about; signing in is the resource's.
_SHOWN = ("account", "user", "role", "warehouse", "authenticator")


@dataclass(frozen=True)
class Project:
    """What a command works on: a folder of tables, and where they are published.

    Attributes:
        settings: Its settings. `snowflake` is None for the embedded Snowflake, and without secrets where a resource has them.
        target: How Dagster's commands name its code location: `-m`, `-f`, and what follows.
        name: Name of the folder; empty for one without a name.
        prefix: What stands before the keys of its assets.
        resource: What signs in; None for what the settings say.
    """

    settings: Settings
    target: tuple[str, str] = ("-m", _SHIPPED)
    name: str = ""
    prefix: Key = ()
    resource: "Snowflake | None" = None

    @property
    def database_variable(self) -> str:
        """The variable that sends its sessions to another database; empty where the code location has the name of the database."""
        if self.resource is None:
            return "SNOWFLAKE_DATABASE"
        return str(getattr(self.resource.database, "env_var_name", ""))

    @property
    def snowflake(self) -> "Snowflake":
        """What signs in, its secrets resolved."""
        from run_elt_dagster.snowflake.resource import Snowflake  # noqa: PLC0415 - it imports Dagster

        return (self.resource or Snowflake.from_settings(self.settings)).resolved()

    def is_elsewhere(self, here: Path) -> bool:
        """Return whether it is the shipped folder of tables, by default alone, and a person works outside of the package's own folder."""
        folder = self.settings.tables_dir
        is_shipped = folder == Path(__file__).parent / "tables" and not os.environ.get("RUN_ELT_TABLES_DIR", "").strip()
        return is_shipped and not here.is_relative_to(Path(__file__).parents[1])

    def table(self, name: str) -> AnalyticsTable:
        """Return a declared table. The errors are those of `load_table`."""
        return load_table(self.settings.tables_dir, name).behind(self.prefix)

    def buildable(self, name: str) -> AnalyticsTable:
        """Return a declared table that a run would build: its file is right, by itself and beside the others.

        Raises:
            ValueError: Its file is broken, or no file declares it.
        """
        table = self.table(name)
        if (broken := self.tables(keeps_broken=True).broken.get(table.key)) is not None:
            raise ValueError(_broken(table.name, broken.text, "Nothing was built."))
        return table

    def declared(self) -> tuple[dict[Key, AnalyticsTable], list[TableProblem]]:
        """Return the tables whose files can be read, and what is wrong with the others; no SQL is parsed."""
        tables, problems = load_declared(self.settings.tables_dir)
        return {key: table.behind(self.prefix) for key, table in tables.items()}, problems

    def tables(self, *, keeps_broken: bool = False, in_database: bool = True) -> Catalogue:
        """Return all tables of the folder. The errors are those of `load_tables`.

        Args:
            keeps_broken: Whether a broken file is no error.
            in_database: Whether a name with the session's database means the same as one without.
        """
        tables = load_tables(
            self.settings.tables_dir,
            database=self.settings.database if in_database else None,
            cache_dir=self.settings.cache_dir,
            keeps_broken=keeps_broken,
        )
        return tables.placed(prefix=self.prefix) if self.prefix else tables


@dataclass(frozen=True)
class Location:
    """A code location.

    Attributes:
        target: How Dagster's commands name it.
        definitions: Its definitions; None for the shipped one that nobody has loaded.
        folders: Those of its calls of `build_defs`.
    """

    target: tuple[str, str] = ("-m", _SHIPPED)
    definitions: "dg.Definitions | None" = None
    folders: Sequence["Loaded"] = field(default_factory=list["Loaded"])

    @property
    def is_shipped(self) -> bool:
        """Whether the environment describes it."""
        return self.target[1] in (_SHIPPED, f"{_SHIPPED}.definitions")

    def specs(self) -> "list[dg.AssetSpec]":
        """Return all of its assets."""
        loaded = self.definitions or importlib.import_module(f"{_SHIPPED}.definitions").defs
        return list(loaded.resolve_all_asset_specs())

    def slack(self) -> "Slack":
        """Return what posts to Slack, its token resolved.

        Raises:
            ValueError: It calls no `build_defs`.
        """
        from run_elt_dagster.alerts.slack import Slack  # noqa: PLC0415 - it imports Dagster

        if self.is_shipped:
            return Slack.from_settings(Settings.from_environment()).resolved()
        if not self.folders or self.definitions is None:
            raise ValueError(_no_build_defs(self.target[1]))
        resource = (self.definitions.resources or {}).get("slack")
        return Slack.of(resource, self.folders[0].settings.alerts).resolved()

    def alerts(self, instance: "dg.DagsterInstance") -> "Alerts":
        """Return what the sensors know of it, by its table files and the history.

        Raises:
            ValueError: It calls no `build_defs`.
        """
        from run_elt_dagster.alerts.scope import RETRIES_SENSOR, at_location  # noqa: PLC0415 - it imports Dagster
        from run_elt_dagster.library import alerts_of, place_of  # noqa: PLC0415
        from run_elt_dagster.runs.code_location import known_locations, location_here  # noqa: PLC0415

        folders = _shipped_folders() if self.is_shipped else self.folders
        if not folders:
            raise ValueError(_no_build_defs(self.target[1]))
        alerts = alerts_of(folders, folders[0].settings, place_of(folders))
        return at_location(alerts, instance, location_here(known_locations(instance, RETRIES_SENSOR), alerts.place))

    def project(self, folder: str | None = None) -> Project:
        """Return what a command works on.

        Args:
            folder: Name of a folder, None for the only one.

        Raises:
            ValueError: There is no such folder, or several.
        """
        if self.is_shipped:
            if folder:
                raise ValueError(_no_folder(f"--folder {folder}", ["one folder, without a name"]))
            return Project(Settings.from_environment())
        chosen = [each for each in self.folders if folder is None or each.folder.name == folder]
        if not self.folders:
            raise ValueError(_no_build_defs(self.target[1]))
        if len(chosen) != 1:
            asked = f"--folder {folder}" if folder else "no --folder"
            raise ValueError(_no_folder(asked, [each.folder.name or "one without a name" for each in self.folders]))
        return _project_of(chosen[0], self.target)


def _broken(name: str, problems: str, consequence: str) -> str:
    return f"{name} requires a file without problems, got\n{problems}\n{consequence} Correct the file."


def _no_build_defs(module: str) -> str:
    return (
        f"run-elt requires a code location that calls build_defs or has a component SqlTables, got none of both in {module}. "
        f"Nothing was done. Name another one with -m or -f. The shipped one is -m {_SHIPPED}."
    )


def _shipped_folders() -> "Sequence[Loaded]":
    from run_elt_dagster.library import SNOWFLAKE_KEY, SqlFolder, load_folders  # noqa: PLC0415 - it imports Dagster
    from run_elt_dagster.snowflake.resource import Snowflake  # noqa: PLC0415

    settings = Settings.from_environment()
    return load_folders([SqlFolder(settings.tables_dir)], {SNOWFLAKE_KEY: Snowflake.from_settings(settings)}, settings)


def _no_folder(asked: str, names: Sequence[str]) -> str:
    return f"run-elt requires one folder of the code location, got {asked}. Nothing was done. It has {', '.join(names)}: pass --folder NAME."


def location_of(module: str | None = None, file: Path | None = None) -> Location:
    """Return a code location: the one that is named, the one of pyproject.toml in the working directory, or the shipped one.

    Args:
        module: Its module, as `-m` of Dagster's commands takes it.
        file: Its file, as `-f` takes it.

    Raises:
        ValueError: It cannot be found or loaded, or pyproject.toml cannot be read.
    """
    if module is None and file is None and not os.environ.get("RUN_ELT_TABLES_DIR", "").strip():
        module = _module_of_pyproject(Path("pyproject.toml"))
    if file is None and module in (None, _SHIPPED, f"{_SHIPPED}.definitions"):
        return Location()
    from run_elt_dagster.library import noting_folders  # noqa: PLC0415 - it imports Dagster

    # As Dagster's commands do.
    sys.path.insert(0, str(Path.cwd()))
    target = f"-f {file}" if file is not None else f"-m {module}"
    with noting_folders() as folders, _loading(target):
        loaded = _of_file(file) if file is not None else _of_module(str(module))
        definitions = _definitions(loaded)
    return Location(("-m", str(module)) if file is None else ("-f", str(file)), definitions, folders)


def _module_of_pyproject(path: Path) -> str | None:
    """Return the module that `dagster` or `dg` would load here, None if pyproject.toml names none.

    https://docs.dagster.io/guides/build/projects-and-components
    """
    if not path.is_file():
        return None
    try:
        tool: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
    except ValueError as error:
        raise ValueError(f"{path.absolute()} requires TOML, got {error}. Nothing was done. Correct it.") from error
    if named := tool.get("dagster", {}).get("module_name"):
        return str(named)
    project = tool.get("dg", {}).get("project", {})
    root = project.get("root_module")
    return project.get("code_location_target_module") or (f"{root}.definitions" if root else None)


@contextmanager
def _loading(target: str) -> Generator[None]:
    """Say in a few lines why a code location cannot be loaded. What this project has found wrong is said as it is.

    Raises:
        ValueError: It cannot be loaded.
    """
    try:
        yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, ValueError) and frames[-1].filename.startswith(_PACKAGE):
            raise
        file, line, text = _place(error, frames)
        reasons = [each for each in str(error).splitlines() if each.strip()][:_LINES_OF_REASON] or ["no message"]
        reason = "\n  ".join(reasons)
        raise ValueError(
            f"run-elt requires a code location that can be loaded, got an error in {target}:\n  {file}:{line}: {text}\n"
            f"  {type(error).__name__}: {reason}\nNothing was done. Correct it, or name another code location with -m or -f. All lines of "
            f"Python's report: dagster definitions validate {target}"
        ) from error


def _place(error: Exception, frames: Sequence[traceback.FrameSummary]) -> tuple[str, int, str]:
    """Return file, line and text of the last line of the project's own: neither Python's, nor that of an installed package."""
    if isinstance(error, SyntaxError) and error.filename:
        file, line, text = error.filename, error.lineno or 1, (error.text or "").strip()
    else:
        own = [frame for frame in frames if not frame.filename.startswith((*_NOT_OWN, _PACKAGE, "<"))] or list(frames)
        file, line, text = own[-1].filename, own[-1].lineno or 1, own[-1].line or ""
    here = Path.cwd()
    return str(Path(file).relative_to(here)) if Path(file).is_relative_to(here) else file, line, text


def _of_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"run-elt requires a module that Python finds, got {name}. Nothing was done. Install your project (pip install -e .), or name "
            f"another one with -m or -f. The shipped one is -m {_SHIPPED}."
        ) from error


def _of_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise ValueError(f"run-elt requires a Python file, got {path}. Nothing was done. Correct -f.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _definitions(module: ModuleType) -> "dg.Definitions":
    """Return the definitions of a module: an object, or what a function with `@dg.definitions` returns.

    Raises:
        ValueError: There are none.
    """
    import dagster as dg  # noqa: PLC0415 - a second

    @dg.definitions
    def none() -> dg.Definitions:
        return dg.Definitions()

    # Their class has no public name.
    functions: Any = type(none)
    for _, value in inspect.getmembers(module):
        if isinstance(value, functions):
            return value()
        if isinstance(value, dg.Definitions):
            return value
    raise ValueError(
        f"run-elt requires a module with dg.Definitions, got none in {module.__name__}. Nothing was done. Name another one with -m or -f."
    )


def _project_of(loaded: "Loaded", target: tuple[str, str]) -> Project:
    """Return what a command works on, of a folder that a code location has loaded."""
    from run_elt_dagster.snowflake.env_vars import text_of  # noqa: PLC0415 - it imports Dagster

    snowflake, database = loaded.snowflake, loaded.database
    account = None
    if not snowflake.is_embedded:
        texts = {name: text_of(getattr(snowflake, name)) for name in _SHOWN}
        shown: dict[str, Any] = {name: text for name, text in texts.items() if text}
        account = SnowflakeSettings(database=database, **shown)
    settings = loaded.settings.model_copy(
        update={
            "tables_dir": loaded.folder.directory,
            "snowflake": account,
            "embedded_database": database if snowflake.is_embedded else EMBEDDED_DATABASE,
            "embedded_dir": Path(snowflake.embedded_dir).absolute(),
        }
    )
    return Project(settings, target, loaded.folder.name, loaded.folder.prefix, snowflake)
