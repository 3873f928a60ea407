"""Parameters that several commands take."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from run_elt_dagster.cli.printing import say_on_stderr

Command = TypeVar("Command", bound=Callable[..., Any])


class TableName(click.ParamType[str]):
    """`schema.table`, completed from the names of the table files."""

    name = "schema.table"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - Click's signature
        """Return the declared tables whose names begin so. No file is read."""
        from run_elt_dagster.settings import Settings  # noqa: PLC0415 - half a second, and only here

        try:
            files = sorted(Path(Settings.from_environment().tables_dir).glob("*/*.sql"))
        except ValueError:  # A wrong setting is said by the command, not by the completion.
            return []
        names = (f"{file.parent.name}.{file.stem}".lower() for file in files)
        return [CompletionItem(name) for name in names if name.startswith(incomplete.lower().replace("/", "."))]


TABLE = TableName()

partition = click.option(
    "--partition",
    metavar="KEY",
    help="The partition to build, as in 2024-01-31, or a range, FIRST...LAST. A partitioned table requires it.",
)
whole = click.option(
    "--whole", "is_whole", is_flag=True, help="Of a table with increments, build all rows and not only what is new."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for a program.")
changed = click.option(
    "--changed",
    is_flag=False,
    flag_value="",
    metavar="[REVISION]",
    help="Only tables whose file differs from a Git revision, and what reads them: from where the branch left the default branch, if none is named.",
)

_module = click.option(
    "-m",
    "--module-name",
    metavar="MODULE",
    envvar="DAGSTER_MODULE_NAME",
    help="Module of your code location, as Dagster's commands take it. By default, that of pyproject.toml.",
)
_file = click.option(
    "-f",
    "--python-file",
    metavar="FILE",
    envvar="DAGSTER_PYTHON_FILE",
    type=click.Path(path_type=Path),
    help="File of your code location.",
)
_folder = click.option("--folder", metavar="NAME", help="Name of the folder, if your code location has several.")


def of_project(command: Command) -> Command:
    """Give a command the options that name a folder of a code location, and what they name as its argument `project`."""

    @_module
    @_file
    @_folder
    @functools.wraps(command)
    def in_project(
        *arguments: Any, module_name: str | None, python_file: Path | None, folder: str | None, **options: Any
    ) -> Any:
        # The completion of a shell, and --help, do without.
        from run_elt_dagster.project import location_of  # noqa: PLC0415

        project = location_of(module_name, python_file).project(folder)
        is_chosen = bool(module_name or python_file or options.get("tables_dir"))
        if not is_chosen and not options.get("as_json") and project.is_elsewhere(Path.cwd()):
            say_on_stderr(
                f"The shipped tables are meant, in {project.settings.tables_dir}. Name your own: a code location with -m or -f, or a folder "
                "of table files with RUN_ELT_TABLES_DIR."
            )
        return command(*arguments, project=project, **options)

    return in_project  # type: ignore[return-value]


def of_location(command: Command) -> Command:
    """Give a command the options that name a code location, and that as its argument `location`."""

    @_module
    @_file
    @functools.wraps(command)
    def at_location(*arguments: Any, module_name: str | None, python_file: Path | None, **options: Any) -> Any:
        from run_elt_dagster.project import location_of  # noqa: PLC0415 - likewise

        return command(*arguments, location=location_of(module_name, python_file), **options)

    return at_location  # type: ignore[return-value]
