"""The test files of a folder of tables, each bound to its table, and what is wrong with the others."""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path

from run_elt_dagster.model.lineage import load_declared
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.problems import TableProblem
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.testing.bound import TableTests, bind
from run_elt_dagster.testing.files import CaseFilesError, case_files, read_case_file, table_of


def load_tests(
    directory: Path, names: Collection[str] = (), *, database: str
) -> tuple[list[TableTests], list[TableProblem]]:
    """Return the tests below a folder of tables, in the order of their files, and what is wrong with the other test files.

    Without names, what is wrong with SQL files counts too: it may be why a column has no type.

    Args:
        directory: The folder of table files.
        names: `schema.table` in any case; only the tests of these tables, all by default.
        database: The session's database.

    Raises:
        TableProblemsError: There is no folder, or no SQL file in it.
        ValueError: A name is of no table, or of one without tests.
    """
    declared, table_problems = load_declared(directory)
    wanted = {_key(name): name for name in names}
    files = {path: table_of(path) for path in case_files(directory)}
    for key, name in wanted.items():
        _require_tests(name, key, declared, files.values(), directory)
    tests: list[TableTests] = []
    problems = [] if wanted else list(table_problems)
    for path, key in files.items():
        if wanted and key not in wanted:
            continue
        try:
            tests.append(load_file(path, declared, database=database, table_problems=table_problems))
        except CaseFilesError as error:
            problems += error.problems
    return tests, list(dict.fromkeys(problems))


def load_file(
    path: Path,
    declared: Mapping[Key, AnalyticsTable],
    *,
    database: str,
    table_problems: Collection[TableProblem] = (),
) -> TableTests:
    """Return the tests of one file.

    Args:
        path: The file.
        declared: All declared tables.
        database: The session's database.
        table_problems: What is wrong with SQL files.

    Raises:
        CaseFilesError: With everything that is wrong with it; also that its table is not there, or not right.
    """
    key = table_of(path)
    table = declared.get(key)
    # One path may be relative, or lead through a link, where the other does not.
    if table is not None and table.path is not None and table.path.parent.resolve() == path.parent.resolve():
        return bind(read_case_file(path, database=database), table, declared, database=database)
    own = [problem for problem in table_problems if problem.path and _names(problem.path) == key]
    if own:
        raise CaseFilesError(own)
    near = difflib.get_close_matches(".".join(key), map(".".join, declared), n=1)
    remedy = f"Did you mean {near[0]}?" if near else "Rename or remove the test file."
    message = (
        f"a test file requires the SQL file of its table beside it, got no {key[1]}.sql in {path.parent.name}. Its cases test "
        f"nothing. {remedy}"
    )
    raise CaseFilesError([TableProblem(path, 1, message)])


def _require_tests(
    name: str, key: Key, declared: Mapping[Key, AnalyticsTable], tested: Collection[Key], directory: Path
) -> None:
    if key in tested:
        return
    if key in declared:
        table = declared[key]
        place = table.path.with_suffix(".test.yaml") if table.path else "a file beside its SQL"
        raise ValueError(f"run-elt test requires tests of {table.name}, got none. Nothing was run. Write {place}.")
    near = difflib.get_close_matches(".".join(key), map(".".join, declared), n=1)
    remedy = f"Did you mean {near[0]}?" if near else f"Known tables: {', '.join(map('.'.join, declared)) or 'none'}."
    raise ValueError(
        f"run-elt requires a declared table, got {name}: {directory} has no file of it. Nothing was run. {remedy}"
    )


def _key(name: str) -> Key:
    return tuple(name.lower().replace("/", ".").split("."))


def _names(path: Path) -> Key:
    return (path.parent.name.lower(), path.stem.lower())
