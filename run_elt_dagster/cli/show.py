"""`run-elt show`."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
import dagster as dg

from run_elt_dagster.cli.opening import history, signed_in
from run_elt_dagster.cli.parameters import TABLE, as_json, of_project
from run_elt_dagster.cli.printing import cells, headings, print_json, print_table, say_on_stderr, shown_path
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.cli.show_partitions import increment_facts, increment_line, print_partitions
from run_elt_dagster.model.broken import BrokenTable
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.orchestration.details import Details, ShownCheck, details_of
from run_elt_dagster.orchestration.show import (
    HEADER,
    ROWS_SHOWN,
    Found,
    Shown,
    differences,
    look,
    planned_for,
    read_rows,
)
from run_elt_dagster.project import Project
from run_elt_dagster.publish.governance import not_applied
from run_elt_dagster.publish.partitions import PublishedPartition, last_increment
from run_elt_dagster.publish.planned import RUN_ID, PlannedStatement
from run_elt_dagster.settings import Settings
from run_elt_dagster.snowflake.session import ConnectorSession


@dataclass(frozen=True)
class _Named:
    """What is printed of a table that was asked for by name.

    Attributes:
        shown: What readers see.
        columns: Stored names of its columns; empty if there is none.
        rows: Its first rows.
        details: What is known of a declared table; None of any other.
        statements: What a run would send for it.
        increment: What is noted of its last increment; None without one.
        broken: Why no run builds it; None for a file without problems.
    """

    shown: Shown
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    details: Details | None = None
    statements: Sequence[PlannedStatement] = ()
    increment: PublishedPartition | None = None
    broken: BrokenTable | None = None


@click.command("show")
@click.argument("tables", nargs=-1, type=TABLE, metavar="[SCHEMA.TABLE]...")
@of_project
@click.option(
    "--partitions", "by_partition", is_flag=True, help="List the published partitions of TABLES, instead of rows."
)
@click.option(
    "--partition",
    metavar="KEY",
    help="Of TABLES, show the rows of a partition, as in 2024-01-31, or of a range, FIRST...LAST, and the statements of a run for it.",
)
@as_json
def command(
    project: Project, tables: tuple[str, ...], *, by_partition: bool, partition: str | None, as_json: bool
) -> int:
    """List what readers see: all declared tables, or all that is known of TABLES.

    \b
      run-elt show                          every declared table
      run-elt show analytics.mau_summary    one table, and its first rows
      run-elt show --partitions analytics.sessions_daily    what is published of each partition
      run-elt show --partition 2019-05-07 analytics.sessions_daily    the first rows of one

    Of a declared table it prints the settings with their defaults, what it reads and what reads it, its checks with their last results,
    its history, and the statements that a run would send. Nothing is built or changed. TABLES may also be sources and candidates.
    """
    if by_partition:
        return print_partitions(project, tables, as_json=as_json)
    if partition and not tables:
        raise click.UsageError("--partition requires a table: run-elt show --partition KEY schema.table")
    parts = {table.name: table.part(partition) for table in map(project.table, tables)} if partition else {}
    declared, problems = project.declared()
    for problem in problems:
        # Of another file, it is no reason not to look at a table.
        say_on_stderr(str(problem))
    with history() as instance, signed_in(project) as session:
        with progress("Asking Snowflake and Dagster"):
            found = look(session, declared, tables, instance=instance)
            named = list(_named(session, found.named, project, instance, parts=parts))
        if as_json:
            print_json(_facts(found, named, instance))
        else:
            _print(found, named, instance)
            _print_not_applied(named, project.settings)
            _print_place(project.settings, instance)
    return 1 if problems and not tables else 0


def _named(
    session: ConnectorSession,
    tables: Sequence[Shown],
    project: Project,
    instance: dg.DagsterInstance | None,
    *,
    parts: Mapping[str, Slice],
) -> Iterator[_Named]:
    catalogue = None
    for shown in tables:
        part = parts.get(shown.name)
        columns, rows = read_rows(session, shown, part) if shown.existing is not None else ([], [])
        if shown.table is None:
            yield _Named(shown, columns, rows)
            continue
        catalogue = catalogue or project.tables(keeps_broken=True)
        if (broken := catalogue.broken.get(shown.table.key)) is not None:
            yield _Named(shown, columns, rows, details_of(catalogue, shown.table, instance=instance), broken=broken)
            continue
        options = project.settings.publishing
        statements = planned_for(session, catalogue, shown, columns=columns, options=options, part=part)
        details = details_of(catalogue, shown.table, instance=instance)
        yield _Named(shown, columns, rows, details, statements, last_increment(session, shown.table))


def _facts(found: Found, named: Sequence[_Named], instance: dg.DagsterInstance | None) -> dict[str, Any]:
    return {
        "tables": [
            {
                **shown.as_mapping(),
                "notes": list(differences(shown, instance)) if instance else [],
            }
            for shown in found.declared
        ],
        "candidates": [shown.facts for shown in found.candidates],
        "details": {
            each.shown.name: {
                **each.details.as_mapping(),
                "statements": [vars(one) for one in each.statements],
                "problems": [str(one) for one in each.broken.problems] if each.broken is not None else [],
                **({"increment": increment_facts(each.increment)} if each.increment is not None else {}),
            }
            for each in named
            if each.details is not None
        },
        "rows": {
            each.shown.name: [dict(zip(headings(each.columns), row, strict=True)) for row in each.rows]
            for each in named
            if each.shown.existing is not None
        },
    }


def _print(found: Found, named: Sequence[_Named], instance: dg.DagsterInstance | None) -> None:
    if found.declared:
        print_table(HEADER, [shown.line for shown in found.declared])
    _print_notes(found.declared, instance)
    _print_candidates(found.candidates)
    for each in named:
        print(f"\n{each.shown.facts}")
        if each.increment is not None:
            print(increment_line(each.increment))
        if each.details is not None:
            _print_details(each, each.details)
        _print_rows(each)


def _print_notes(overview: Iterable[Shown], instance: dg.DagsterInstance | None) -> None:
    notes = [f"{shown.name}: {note}" for shown in overview for note in differences(shown, instance)] if instance else []
    if notes:
        print("\nWhat readers see is not what Dagster recorded last:\n" + "\n".join(f"  {note}" for note in notes))


def _print_candidates(found: Sequence[Shown]) -> None:
    if found:
        shown = "\n".join(f"  {candidate.facts}" for candidate in found[:ROWS_SHOWN])
        more = f"\n  and {len(found) - ROWS_SHOWN} more" if len(found) > ROWS_SHOWN else ""
        print(f"\nCandidates (no reader sees them):\n{shown}{more}")


def _print_details(named: _Named, details: Details) -> None:
    table = named.shown.table
    print(f"\nDeclared in {shown_path(table.path) if table and table.path else 'code'}:")
    print_table(
        ("setting", "from", "value"),
        [(each.key, "default" if each.is_default else "file", each.value) for each in details.settings],
    )
    if details.columns:
        print()
        print_table(("column", "type", "description"), details.columns)
    _print_list("Reads", _parents(details))
    _print_list("Read by", details.downstream or ["no declared table"])
    print("\nChecks:")
    print_table(
        ("check", "severity", "holds if", "last result", "at (UTC)"),
        [(check.name, check.severity, check.holds_if, _result(check), _at(check.at)) for check in details.checks],
    )
    print(named.shown.reads)
    _print_history(details)
    if named.broken is not None:
        print(f"\nNo run builds it, because its file is broken:\n{textwrap.indent(named.broken.text, '  ')}")
    else:
        _print_statements(named.statements)


def _result(check: ShownCheck) -> str:
    return ": ".join(filter(None, (check.verdict, check.found))) or "-"


def _parents(details: Details) -> list[str]:
    if details.upstream is None:
        return ["unknown: its file is broken"]
    return [f"{each.name}  ({each.note})" if each.note else each.name for each in details.upstream] or ["no table"]


def _print_list(title: str, names: Sequence[str]) -> None:
    print(f"\n{title}:\n" + "\n".join(f"  {name}" for name in names))


def _print_history(details: Details) -> None:
    if not details.history:
        print(f"\nHistory: {'none yet' if details.history is not None else 'none is kept here'}")
        return
    print("\nHistory, the newest first:")
    print_table(
        ("at (UTC)", "run", "outcome", "rows", "seconds"),
        [
            (
                _at(event.at),
                event.run or "-",
                event.outcome,
                "-" if event.rows is None else f"{event.rows:,}",
                "-" if event.seconds is None else f"{event.seconds:.3f}",
            )
            for event in details.history
        ],
    )


def _print_statements(statements: Sequence[PlannedStatement]) -> None:
    print(f"\nA run would send these statements now. {RUN_ID[:8]} stands for the run:")
    headings = [f"-- {each.stage} {each.table}".rstrip() for each in statements]
    for number, each in enumerate(statements):
        heading = f"{headings[number]}\n" if not number or headings[number - 1] != headings[number] else ""
        print(f"\n{heading}{each.sql};")


def _at(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "-"


def _print_rows(named: _Named) -> None:
    if named.shown.existing is not None:
        part = f" (first {ROWS_SHOWN} rows)" if len(named.rows) == ROWS_SHOWN else ""
        print(f"\n{named.shown.name}{part}")
        print_table(headings(named.columns), cells(named.rows))


def _print_not_applied(named: Sequence[_Named], settings: Settings) -> None:
    tables = [each.shown.table for each in named if each.shown.table is not None]
    if not settings.publishing.applies_policies and (note := not_applied(tables)):
        print(f"\n{note[:1].upper()}{note[1:]}")


def _print_place(settings: Settings, instance: dg.DagsterInstance | None) -> None:
    if instance is None:
        print("\nDagster's history: none here: DAGSTER_HOME is not set, and this folder has no dagster.yaml")
    account = f"account {settings.snowflake.account}" if settings.snowflake else None
    print(f"\nSnowflake: {account or f'embedded Snowflake in {settings.embedded_dir}'}")
