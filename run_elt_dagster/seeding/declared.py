"""What is declared of a table before it is loaded: on the command line, or by the `columns` of its file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.lineage import load_declared
from run_elt_dagster.model.names import Relation, stored_name
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster.seeding.kinds import listed_types


@dataclass(frozen=True)
class Declaration:
    """What is declared of a table before it is loaded.

    Attributes:
        types: Types by the names of columns, as a person writes both.
        comments: Comments of columns by their stored names.
        comment: That of the table; empty to name the file.
    """

    types: Mapping[str, str] = field(default_factory=dict[str, str])
    comments: Mapping[str, str] = field(default_factory=dict[str, str])
    comment: str = ""


def declaration_of(directory: Path, target: Relation, types: str | None) -> Declaration:
    """Return what is declared of a table: what the command line says comes before what the table's file says.

    Args:
        directory: The folder of table files; it need not be there.
        target: The table.
        types: A list of names and types; None for none.

    Raises:
        ValueError: It is no such list, or names a column twice.
    """
    given = _listed(types) if types else {}
    try:
        tables, _ = load_declared(directory)
    except TableProblemsError:
        # The first thing that a newcomer does may be to load a file.
        return Declaration(given)
    table = next((each for each in tables.values() if target_of(each, database=target.database) == target), None)
    if table is None:
        return Declaration(given)
    stored = {stored_name(name) for name in given}
    own = {
        name: column.type for name, column in table.columns.items() if column.type and stored_name(name) not in stored
    }
    comments = {stored_name(name): column.description for name, column in table.columns.items() if column.description}
    return Declaration({**own, **given}, comments, table.description)


def _listed(types: str) -> dict[str, str]:
    try:
        found = listed_types(types)
        names = [stored_name(name) for name in found]
    except ValueError as error:
        raise ValueError(f"run-elt seed --types {error}, got {types}. Nothing was loaded.") from None
    if len(set(names)) != len(names):
        raise ValueError(f"run-elt seed --types requires columns that differ, got {types}. Nothing was loaded.")
    return found
