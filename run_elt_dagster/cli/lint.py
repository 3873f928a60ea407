"""`run-elt lint`."""

from dataclasses import replace
from pathlib import Path

import click

from run_elt_dagster.cli.parameters import TABLE, as_json, of_project
from run_elt_dagster.cli.printing import print_json, shown_path
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.model.lint import Linted, lint
from run_elt_dagster.model.problems import TableProblem
from run_elt_dagster.project import Project


@click.command("lint")
@click.argument("tables", nargs=-1, type=TABLE, metavar="[SCHEMA.TABLE]...")
@of_project
@click.option(
    "--tables-dir",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder of table files, in the place of RUN_ELT_TABLES_DIR.",
)
@as_json
def command(project: Project, tables: tuple[str, ...], *, tables_dir: Path | None, as_json: bool) -> int:
    """Check the files of TABLES, of all tables by default. A path names a table too.

    It finds what keeps a file from loading: settings, SQL, and what it reads. Each problem is a line with file and line. The exit
    code is 1 if there is one. It signs in nowhere.
    """
    settings = project.settings
    folder = tables_dir.absolute() if tables_dir else settings.tables_dir
    with progress("Reading the table files"):
        found = lint(folder, database=settings.database, cache_dir=settings.cache_dir)
    found = found.of(tables) if tables else found
    if as_json:
        print_json([_as_mapping(problem) for problem in found.problems])
    else:
        for problem in found.problems:
            print(replace(problem, path=problem.path and Path(shown_path(problem.path))))
        print(_summary(found))
    return 1 if found.problems else 0


def _as_mapping(problem: TableProblem) -> dict[str, object]:
    return {
        "path": problem.path and shown_path(problem.path),
        "line": problem.line,
        "message": problem.message,
    }


def _summary(found: Linted) -> str:
    files, problems = len(found.files), len(found.problems)
    in_files = f"in {files} table file{'' if files == 1 else 's'}"
    return f"{problems or 'no'} problem{'' if problems == 1 else 's'} {in_files}"
