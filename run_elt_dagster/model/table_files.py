"""The files of a folder of tables: which they are, and what one of them declares."""

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from run_elt_dagster.model.alert_rule import FILE as RULES
from run_elt_dagster.model.alert_rule import AlertRule, read_rule
from run_elt_dagster.model.front_matter import Settings, read_settings
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.problems import TableProblem, TableProblemsError
from run_elt_dagster.model.table import AnalyticsTable

# What a name in a folder leads to.
_FILE, _FOLDER, _DANGLING = "a file", "a folder", "a link that leads nowhere"


def load_files(
    directory: Path, *, read: Callable[[str], Settings] = read_settings
) -> tuple[list[AnalyticsTable], list[TableProblem]]:
    """Return the tables whose files can be read, in the order of their names, and what is wrong with the others.

    Args:
        directory: The folder of table files.
        read: Returns what front matter says.

    Raises:
        TableProblemsError: There is no folder, or no SQL file in it.
    """
    tables: list[AnalyticsTable] = []
    files, problems = _table_files(directory)
    for path in files:
        try:
            tables.append(_load_table(directory, path, read))
        except TableProblemsError as error:
            problems += error.problems
    rules, wrong = _rules(directory, {path.parent for path in files})
    ruled = [_with_rule(table, rules) for table in tables] if rules else tables
    without_effect = [
        problem for own, table in zip(tables, ruled, strict=True) for problem in _without_effect(own, table)
    ]
    return ruled, [*problems, *wrong, *without_effect]


def _rules(directory: Path, schemas: Collection[Path]) -> tuple[Mapping[Path, AlertRule], list[TableProblem]]:
    """Return what the `alerts.yaml` of each schema, and of the whole folder, say together if they say something, and what is wrong with them."""
    whole, wrong = read_rule(directory / RULES)
    problems = [TableProblem(directory / RULES, line, message) for line, message in wrong]
    found: dict[Path, AlertRule] = {}
    for schema in sorted(schemas):
        rule, wrong = read_rule(schema / RULES)
        problems += [TableProblem(schema / RULES, line, message) for line, message in wrong]
        if (over := rule.over(whole)).model_fields_set:
            found[schema] = over
    return found, problems


def _with_rule(table: AnalyticsTable, rules: Mapping[Path, AlertRule]) -> AnalyticsTable:
    rule = rules.get(table.path.parent) if table.path is not None else None
    if rule is None:
        return table
    return table.model_copy(update={"alerts": table.alerts.over(rule)})


def _without_effect(own: AnalyticsTable, table: AnalyticsTable) -> Iterator[TableProblem]:
    """Yield what a file says of its alerts in vain, as its severity is."""
    if not own.alerts.model_fields_set:
        return
    for key, rule in table.alerts.without_effect(own.alerts):
        lines = table.path.read_text(encoding="utf-8").splitlines() if table.path is not None else []
        line = next((number for number, text in enumerate(lines, 1) if re.search(rf"\b{key}\s*:", text)), 1)
        if table.path is not None:
            yield TableProblem(table.path, line, f"alerts.{key}: {rule}.")


def table_paths(directory: Path) -> list[Path]:
    """Return the SQL files below a folder in the order of their names; none if there is no folder."""
    try:
        return _table_files(directory)[0]
    except TableProblemsError:
        return []


def load_table(directory: Path, name: str) -> AnalyticsTable:
    """Return one table. No other file is opened, so a wrong one elsewhere in the folder changes nothing.

    Args:
        directory: The folder of table files.
        name: `schema.table` or `schema/table`, in any case.

    Raises:
        TableProblemsError: With the problems of this file; or there is no folder, or two files declare the table.
        ValueError: No file declares it.
    """
    _require_folder(directory)
    wanted = name.lower().replace("/", ".")
    # By their names alone: `directory.rglob` would not go into a linked folder.
    files = {path: f"{path.parent.name}.{path.stem}".lower() for path in sorted(directory.glob("*/*"))}
    files = {path: each for path, each in files.items() if _is_sql(path) and not _is_hidden(path)}
    found = [path for path, each in files.items() if each == wanted]
    if not found:
        near = difflib.get_close_matches(wanted, files.values(), n=1)
        known = f"Did you mean {near[0]}?" if near else f"Known tables: {', '.join(files.values()) or 'none'}."
        raise ValueError(
            f"run-elt requires a declared table, got {name}: {directory} has no file of it. Nothing was done. {known}"
        )
    if len(found) > 1:
        message = f"{wanted} requires one file, got a second: {found[0]} declares it too. Rename or remove one of them."
        raise TableProblemsError([TableProblem(found[1], 1, message)])
    rules, problems = _rules(directory, [found[0].parent])
    if problems:
        raise TableProblemsError(problems)
    return _with_rule(_load_table(directory, found[0], read_settings), rules)


def _require_folder(directory: Path) -> None:
    if not directory.is_dir():
        message = "the path of a folder of tables requires a folder, got none. Create it, or correct the path. RUN_ELT_TABLES_DIR is that of the shipped code location."
        raise TableProblemsError([TableProblem(directory, 1, message)])


def _table_files(directory: Path) -> tuple[list[Path], list[TableProblem]]:
    """Return the SQL files below a folder in the order of their names, and a problem for each name that hides some.

    A mounted ConfigMap of Kubernetes consists of links, so they are followed. Names that begin with a dot are no tables: the
    folders of such a mount, checkpoints of notebooks, the files that macOS adds.
    """
    _require_folder(directory)
    found = list(_entries(directory, depth=0))
    if not found:
        message = "a folder of tables requires <schema>/<table>.sql, got no SQL file. Add one."
        raise TableProblemsError([TableProblem(directory, 1, message)])
    files = [entry for entry in found if isinstance(entry, Path)]
    return files, [entry for entry in found if isinstance(entry, TableProblem)]


def _entries(folder: Path, *, depth: int) -> Iterator[Path | TableProblem]:
    """Yield the SQL files below a folder, and a problem for what cannot be read but may be one, or a folder of them."""
    try:
        with os.scandir(folder) as listing:
            entries = sorted(
                (entry for entry in listing if not entry.name.startswith(".")), key=lambda entry: entry.name
            )
    except OSError as error:
        yield TableProblem(
            folder, 1, f"a folder of tables requires to be readable, got {error.strerror}. Make it readable."
        )
        return
    for entry in entries:
        path, kind = folder / entry.name, _kind(entry)
        if _is_sql(path):
            yield (
                path
                if kind == _FILE
                else TableProblem(path, 1, f"a table requires a file, got {kind}. Rename or remove it.")
            )
        elif kind == _FOLDER:
            # Links lead to schemas only: one below could lead in a circle, or through the whole disk.
            is_too_deep = depth > 0 and entry.is_symlink()
            yield from [_refused_link(path)] if is_too_deep or _is_above(path) else _entries(path, depth=depth + 1)
        elif kind == _DANGLING and not path.suffix:
            yield TableProblem(path, 1, f"a folder of tables requires to be there, got {kind}. Correct or remove it.")


def _kind(entry: os.DirEntry[str]) -> str:
    """Return what a name leads to, through links."""
    try:
        if entry.is_file():
            return _FILE
        if entry.is_dir():
            return _FOLDER
        entry.stat()
    except OSError:
        return _DANGLING
    return "a pipe or a device"


def _is_above(folder: Path) -> bool:
    """Return whether a link leads to a folder that holds it."""
    return folder.is_symlink() and folder.resolve() in folder.absolute().parent.resolve().joinpath("x").parents


def _refused_link(path: Path) -> TableProblem:
    message = f"a link cannot lead to folders below a schema or to a folder above it, got {path.readlink()}. Remove it."
    return TableProblem(path, 1, message)


def _is_sql(path: Path) -> bool:
    # A space behind the suffix is not seen, and the table would be left out.
    return path.suffix.rstrip().lower() == ".sql"


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.parent.name.startswith(".")


def _load_table(directory: Path, path: Path, read: Callable[[str], Settings]) -> AnalyticsTable:
    inside = path.parts[len(directory.parts) :]
    if len(inside) != 2:  # noqa: PLR2004 - schema and table
        message = f"the path requires <schema>/<table>.sql below {directory}, got {'/'.join(inside)}. Move it."
        raise TableProblemsError([TableProblem(path, 1, message)])
    try:
        # The SQL runs byte for byte, its line ends included.
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        message = f"a table requires a file that can be read, got {error.strerror}. Make it readable."
        raise TableProblemsError([TableProblem(path, 1, message)]) from error
    except UnicodeDecodeError as error:
        message = f"requires UTF-8, got byte {error.object[error.start]:#04x} at {error.start}. Save it as UTF-8."
        line = error.object.count(b"\n", 0, error.start) + 1
        raise TableProblemsError([TableProblem(path, line, message)]) from error
    return parse_table_file(path, text, schema=inside[0], table=path.stem, read=read)
