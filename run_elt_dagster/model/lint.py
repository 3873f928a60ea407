"""What is wrong with the files of a folder of tables, all of it at once. Nothing is built, and nothing is asked of Snowflake."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.model.problems import TableProblem, TableProblemsError
from run_elt_dagster.model.table_files import table_paths


@dataclass(frozen=True)
class Linted:
    """What was looked at, and what was found.

    Attributes:
        files: The table files.
        problems: What is wrong with them, in the order of path and line.
    """

    files: tuple[Path, ...]
    problems: tuple[TableProblem, ...]

    def of(self, names: Collection[str]) -> "Linted":
        """Return what concerns some tables only.

        Args:
            names: `schema.table` or `schema/table`, in any case, or the paths of files. Where there is no file at all, they change nothing.

        Raises:
            ValueError: No file declares one of them.
        """
        if not self.files:
            return self
        files = {path: f"{path.parent.name}.{path.stem}".lower() for path in self.files}
        paths = {path.absolute(): name for path, name in files.items()}
        meant = {name: paths.get(Path(name).absolute(), name.lower().replace("/", ".")) for name in names}
        if unknown := sorted(name for name, table in meant.items() if table not in files.values()):
            near = difflib.get_close_matches(meant[unknown[0]], files.values(), n=1)
            raise ValueError(
                f"run-elt lint requires declared tables, got {', '.join(unknown)}: no file declares it. Nothing was checked. "
                + (f"Did you mean {near[0]}?" if near else f"Known tables: {', '.join(sorted(files.values()))}.")
            )
        chosen = tuple(path for path in self.files if files[path] in meant.values())
        return Linted(chosen, tuple(problem for problem in self.problems if problem.path in chosen))


def lint(directory: Path, *, database: str | None = None, cache_dir: Path | None = None) -> Linted:
    """Return what is wrong with the table files, by the rules that a code location loads them by.

    Args:
        directory: The folder of table files.
        database: Name of the session's database.
        cache_dir: Where to remember which tables the SQL reads, None to parse it each time.
    """
    try:
        load_tables(directory, database=database, cache_dir=cache_dir)
    except TableProblemsError as error:
        problems = sorted(error.problems, key=lambda problem: (str(problem.path), problem.line))
    else:
        problems = []
    return Linted(tuple(table_paths(directory)), tuple(problems))
