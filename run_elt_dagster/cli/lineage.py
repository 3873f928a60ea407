"""`run-elt lineage`."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text
from rich.tree import Tree

from run_elt_dagster.cli.parameters import TABLE, as_json, of_project
from run_elt_dagster.cli.printing import print_json, print_tree, say_on_stderr
from run_elt_dagster.model.column_lineage import ColumnLineage, Step, column_file
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, key_of
from run_elt_dagster.model.origins import ColumnRef
from run_elt_dagster.project import Project
from run_elt_dagster.settings import history_is_kept

if TYPE_CHECKING:
    from run_elt_dagster.orchestration.sources import ObservedColumns


@dataclass(frozen=True)
class _Found:
    """What the command prints.

    Attributes:
        table: The table.
        steps: Its columns, each with those behind it.
        missing: Why columns of it are not among them.
        unknown: The columns that may come from it, each with the reason.
        observed: The sources whose columns are known from an observation alone.
    """

    table: Key
    steps: Sequence[Step]
    missing: Sequence[str]
    unknown: Sequence[tuple[str, str]]
    observed: Mapping[Key, "ObservedColumns"]

    @property
    def is_clear(self) -> bool:
        """Whether the columns of a source could not tell more."""
        return bool(self.steps) and not self.missing and not self.unknown and all(map(_is_clear, self.steps))


def _is_clear(step: Step) -> bool:
    return not step.unknown and all(map(_is_clear, step.steps))


@click.command("lineage")
@click.argument("name", type=TABLE, metavar="SCHEMA.TABLE[.COLUMN]")
@of_project
@click.option("--downstream", is_flag=True, help="Show the columns that come from it, not those that it comes from.")
@as_json
def command(project: Project, name: str, *, downstream: bool, as_json: bool) -> int:
    """Show which columns the values of a table or of one column come from.

    \b
      run-elt lineage analytics.mau_summary                   every column, down to the sources
      run-elt lineage analytics.mau_summary.mau               one column
      run-elt lineage raw_data.orders.amount --downstream     what comes from a column of a source

    It is read off the SQL files: no statement is sent. What cannot be told says so, with the reason. The columns of a source are
    known if Dagster's history has an observation of it: launch the job observe_sources. Of a broken file nothing is known.
    """
    settings, tables = project.settings, project.tables(keeps_broken=True)
    _say_broken(tables, name)
    lineage = ColumnLineage(tables, path=column_file(settings.cache_dir, settings.tables_dir))
    found = _look(lineage, name, tables, downstream=downstream)
    if (not found.is_clear or found.table not in tables) and (observed := _observed(tables)):
        lineage = lineage.knowing({key: each.names for key, each in observed.items()})
        found = _look(lineage, name, tables, downstream=downstream, observed=observed)
    lineage.save()
    if as_json:
        print_json(_facts(found, downstream=downstream))
    else:
        print_tree(_drawn(found, downstream=downstream, declared=tables))
        _print_notes(found)
    return 0


def _say_broken(tables: Catalogue, name: str) -> None:
    """Print what is wrong with files: what they read is not in the answer.

    Raises:
        ValueError: The file of the table itself is broken.
    """
    parts = tuple(name.lower().replace("/", ".").split("."))
    for key, broken in tables.broken.items():
        if parts[: len(key)] == key:
            raise ValueError(
                f"{'.'.join(key)} requires a file without problems, got\n{broken.text}\nNothing was shown. Correct the file."
            )
    for problem in tables.problems:
        say_on_stderr(str(problem))


def _look(
    lineage: ColumnLineage,
    name: str,
    tables: Catalogue,
    *,
    downstream: bool,
    observed: Mapping[Key, "ObservedColumns"] | None = None,
) -> _Found:
    table, column = lineage.find(name)
    names = [column] if column is not None else lineage.columns(table)
    look = lineage.downstream if downstream else lineage.upstream
    steps = [look(ColumnRef(table, each)) for each in names]
    unknown = list(lineage.doubtful(table)) if downstream else []
    missing = lineage.unnamed(table) if table in tables and column is None else []
    used = {key: each for key, each in (observed or {}).items() if key in lineage.sources_used}
    return _Found(table, steps, missing, unknown, used)


def _observed(tables: Catalogue) -> "Mapping[Key, ObservedColumns]":
    """Return the columns of the sources by their last observations, nothing where no history is kept."""
    if not tables.sources or not history_is_kept():
        return {}
    # Dagster alone takes a second, and most answers do without.
    from run_elt_dagster.cli.opening import dagster_instance  # noqa: PLC0415
    from run_elt_dagster.orchestration.sources import observed_columns  # noqa: PLC0415

    with dagster_instance() as instance:
        return observed_columns(instance, tables.sources)


def _print_notes(found: _Found) -> None:
    if found.unknown:
        print("\nThese and what comes from them may come from it too:")
        for reader, reason in found.unknown:
            print(f"  {reader}: unknown, because {reason}")
    if found.observed:
        print("\nThe columns of these were observed. They may have changed since:")
        for key, each in sorted(found.observed.items()):
            print(f"  {'.'.join(key)}: {each.at:%Y-%m-%d %H:%M} UTC")


def _drawn(found: _Found, *, downstream: bool, declared: Container[Key]) -> Tree:
    table, steps, missing = found.table, found.steps, found.missing
    is_declared = table in declared
    tree = Tree(Text(f"{'.'.join(table)}{'' if is_declared else '  (no file declares it)'}"))
    # Of a source, nothing says that it has such a column.
    end = "no file reads a column of this name" if downstream else "comes from no column" if is_declared else ""
    for step in steps:
        branch = tree.add(_line(step, key_of([step.column.column])[0], end))
        _draw(branch, step, "" if downstream else "comes from no column", declared)
    for reason in missing:
        tree.add(Text(f"other columns unknown, because {reason}"))
    if not steps and not missing:
        tree.add(Text("no file reads a column of it" if downstream else "its columns are not known"))
    return tree


def _draw(branch: Tree, step: Step, end: str, declared: Container[Key]) -> None:
    for each in step.steps:
        _draw(
            branch.add(_line(each, str(each.column), end if each.column.table in declared else "")), each, end, declared
        )


def _line(step: Step, name: str, end: str) -> Text:
    note = f"unknown, because {step.unknown}" if step.unknown else "see above" if step.is_repeated else ""
    note = note or (end if not step.steps else "")
    return Text(f"{name}  ({note})" if note else name)


def _facts(found: _Found, *, downstream: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "table": ".".join(found.table),
        "direction": "downstream" if downstream else "upstream",
        "columns": [_fact(step, "to" if downstream else "from") for step in found.steps],
        "other_columns_unknown": found.missing,
        "sources_observed": {".".join(key): each.at for key, each in found.observed.items()},
    }
    if downstream:
        facts["may_come_from_it"] = [{"column": column, "unknown": reason} for column, reason in found.unknown]
    return facts


def _fact(step: Step, direction: str) -> dict[str, Any]:
    if step.unknown:
        return {"column": str(step.column), "unknown": step.unknown}
    if step.is_repeated:
        return {"column": str(step.column), "see_above": True}
    return {"column": str(step.column), direction: [_fact(each, direction) for each in step.steps]}
