"""The first version of a table file and of its tests, for a person to go on from."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from run_elt_dagster.disk import DiskError, disk_trouble
from run_elt_dagster.model.column_type import column_type
from run_elt_dagster.model.lineage import catalogue, own_key
from run_elt_dagster.model.names import Key, key_of, stored_names
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.problems import TableProblem, TableProblemsError
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.model.table_files import load_files

# YAML reads such text as text, without quotes.
_PLAIN = re.compile(r"(?!(?:true|false|null)$)[A-Za-z_][\w@.+-]*(?::[\w@.+-]+)?", re.IGNORECASE)
_SAMPLES = {
    "NUMBER": "1",
    "FLOAT": "0.5",
    "BOOLEAN": "true",
    "TEXT": "a",
    "DATE": "2024-01-31",
    "TIMESTAMP_NTZ": "2024-01-31 10:00:00",
    "TIMESTAMP_LTZ": "2024-01-31 10:00:00",
    "TIMESTAMP_TZ": "2024-01-31 10:00:00+00:00",
}
_DEFAULT_COLUMN = "id"


@dataclass(frozen=True)
class NewTable:
    """Two files that are not written yet.

    Attributes:
        name: `schema.table` in lower case.
        sql_path: The table file.
        sql: Its text.
        test_path: The file with its tests, beside it.
        test: Its text.
    """

    name: str
    sql_path: Path
    sql: str
    test_path: Path
    test: str

    def write(self) -> None:
        """Write both files. A file that is there stays as it is, and then neither is written.

        Raises:
            ValueError: One of them is there.
            DiskError: The folder cannot be written.
        """
        written: list[Path] = []
        try:
            self.sql_path.parent.mkdir(exist_ok=True)
            # The table comes last: with it alone in place, its tests would be missed.
            for path, text in ((self.test_path, self.test), (self.sql_path, self.sql)):
                with path.open("x", encoding="utf-8") as file:
                    written.append(path)
                    file.write(text)
        except OSError as error:
            for path in written:
                path.unlink(missing_ok=True)
            if isinstance(error, FileExistsError):
                raise _is_there(self.name, Path(error.filename)) from error
            raise _cannot_write(self.sql_path.parent, error) from error


def new_table(
    directory: Path,
    name: str,
    *,
    source: str | None = None,
    key: Sequence[str] = (),
    owner: str | None = None,
    database: str | None = None,
) -> NewTable:
    """Return a table file that loads as it is, and a test that it passes. Nothing is written.

    Args:
        directory: The folder of table files.
        name: `schema.table` or `schema/table`, in any case.
        source: The table that it selects from; without one it selects a constant.
        key: Columns of its primary key.
        owner: An e-mail address or `team:<name>`.
        database: Name of the session's database.

    Raises:
        ValueError: The name is no table's, or is taken, or the file would not load. The text names everything that is wrong.
    """
    schema, table = _parts(name)
    _require_free(directory, schema, table)
    others, problems = _others(directory)
    columns = _columns_of(source, others) if source else {}
    path = _folder_of(directory, schema) / f"{table}.sql"
    sql = _sql_text(f"{schema}.{table}", source, columns, key=key, owner=owner)
    _require_loads(path, sql, others, problems, database=database)
    test = _test_text(table, source, columns, key=key)
    return NewTable(f"{schema}.{table}", path, sql, path.with_suffix(".test.yaml"), test)


def _parts(name: str) -> tuple[str, str]:
    parts = name.lower().replace("/", ".").split(".")
    if len(parts) != 2:  # noqa: PLR2004 - schema and table
        raise ValueError(
            f"run-elt new requires schema.table, got {name}. Nothing was written. Write both names, as in analytics.orders."
        )
    return parts[0], parts[1]


def _require_free(directory: Path, schema: str, table: str) -> None:
    """Refuse a name that a file has already, in any case."""
    if not directory.is_dir():
        raise ValueError(
            f"run-elt new requires the folder of table files, got none at {directory}. Nothing was written. Create it, or correct "
            "RUN_ELT_TABLES_DIR."
        )
    taken = {f"{table}.sql", f"{table}.test.yaml"}
    for path in directory.glob("*/*"):
        if path.parent.name.lower() == schema and path.name.lower() in taken:
            raise _is_there(f"{schema}.{table}", path)


def _is_there(name: str, path: Path) -> ValueError:
    return ValueError(
        f"run-elt new cannot replace a file, got {name}: {path} is there. Nothing was written. Edit that file, or choose another "
        "name."
    )


def _cannot_write(folder: Path, error: OSError) -> DiskError:
    trouble = disk_trouble(error)
    got = trouble.got if trouble else error.strerror or str(error)
    remedy = trouble.remedy if trouble else "Make it a folder that can be written"
    return DiskError(
        f"run-elt new cannot write into {folder}, got {got}. Nothing was written. {remedy}.", trouble=trouble
    )


def _folder_of(directory: Path, schema: str) -> Path:
    """Return the schema's folder; one that is there may be spelt in another case."""
    there = (path for path in sorted(directory.glob("*")) if path.is_dir() and path.name.lower() == schema)
    return next(there, directory / schema)


def _others(directory: Path) -> tuple[list[AnalyticsTable], list[TableProblem]]:
    """Return the tables that are there; the first one may be about to come."""
    try:
        return load_files(directory)
    except TableProblemsError as error:
        return [], list(error.problems)


def _columns_of(source: str, tables: Sequence[AnalyticsTable]) -> Mapping[str, str | None]:
    """Return the columns that the file of a table declares, with their types; nothing if there is none that does."""
    try:
        wanted: Key = key_of(stored_names(source))
    except ValueError as error:
        raise ValueError(
            f"run-elt new requires --from schema.table, got {source}: a name {error}. Nothing was written. Correct it."
        ) from error
    if len(wanted) == 1:
        raise ValueError(
            f"run-elt new requires --from schema.table, got {source} without a schema. Nothing was written. Write the schema too."
        )
    found = next((table for table in tables if own_key(table) == wanted), None)
    return {name: contract.type for name, contract in found.columns.items()} if found else {}


def _require_loads(
    path: Path,
    text: str,
    others: Sequence[AnalyticsTable],
    known: Sequence[TableProblem],
    *,
    database: str | None,
) -> None:
    """Refuse what would not load. Problems of other files are theirs."""
    try:
        table = parse_table_file(path, text, schema=path.parent.name, table=path.stem)
        catalogue([*others, table], database=database, known_problems=known)
    except TableProblemsError as error:
        if mine := [problem.message.rstrip(".") for problem in error.problems if problem.path == path]:
            raise ValueError(
                f"run-elt new cannot make {path.parent.name}.{path.stem}, got: {'. '.join(mine)}. Nothing was written."
            ) from error


def _sql_text(
    name: str, source: str | None, columns: Mapping[str, str | None], *, key: Sequence[str], owner: str | None
) -> str:
    return f"""/* elt
# The settings of {name}, in YAML. All keys: docs/front_matter.md. `run-elt lint` checks them.
# For readers: a sentence that says what one row is.
description: "{name}: say here what one row is."
# An alert mentions the owner: an e-mail address, or team:<name>.
{_setting("owner", _scalar(owner) if owner else None, example="team:analytics")}
# These columns identify a row and are never NULL. They become a check.
{_setting("primary_key", _list(key) if key else None, example="[id]")}
# Readers see a new version only if all checks hold.
checks:
  row_count: {{min: 1}}
  # not_null: [created_at]
  # accepted_values: {{status: [open, paid]}}
  # freshness: {{created_at: 36}}
# Every column with its type: another column or type then fails the table.
# columns:
#   id: {{type: number, description: Number of the order.}}
elt */
-- The table is what this query returns. Write every table as schema.table: a run builds those of this project first.
{_select(source, columns, key)}
"""


def _setting(name: str, value: str | None, *, example: str) -> str:
    return f"{name}: {value}" if value is not None else f"# {name}: {example}"


def _scalar(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", "''") + "'"


def _list(names: Sequence[str]) -> str:
    return f"[{', '.join(map(_scalar, names))}]"


def _select(source: str | None, columns: Mapping[str, str | None], key: Sequence[str]) -> str:
    if source is None:
        selected = [f"1 as {name}" for name in key or (_DEFAULT_COLUMN,)]
        return f"select {selected[0]}" if len(selected) == 1 else f"select\n    {_lines(selected)}"
    if columns:
        return f"select\n    {_lines(list(columns))}\nfrom {source}"
    return f"select *\nfrom {source}"


def _lines(items: Sequence[str]) -> str:
    return ",\n    ".join(items)


def _test_text(table: str, source: str | None, columns: Mapping[str, str | None], *, key: Sequence[str]) -> str:
    names = columns or dict.fromkeys(key or (_DEFAULT_COLUMN,))
    row = ", ".join(f"{_scalar(name)}: {_sample(type_)}" for name, type_ in names.items())
    given = f"\n      {_scalar(source)}:\n        - {{{row}}}" if source else " {}"
    return f"""# Tests of {table}.sql, without a warehouse: given these rows, the query returns those. `run-elt test` runs them.
cases:
  every row is kept:
    # Rows of the tables that the query reads. A column that is not named is NULL.
    given:{given}
    expect:
      - {{{row}}}
"""


def _sample(type_: str | None) -> str:
    """Return a value in YAML; NULL where the type has no value of YAML's."""
    return "1" if type_ is None else _SAMPLES.get(column_type(type_).names[0], "null")
