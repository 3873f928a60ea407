"""`run-elt show`."""

from collections.abc import Iterable, Sequence
from typing import Any

import click
import dagster as dg

from run_elt_dagster.cli.opening import history, signed_in
from run_elt_dagster.cli.parameters import TABLE, as_json
from run_elt_dagster.cli.printing import print_json, print_table, say_on_stderr
from run_elt_dagster.cli.show_partitions import print_partitions
from run_elt_dagster.model.lineage import load_declared
from run_elt_dagster.orchestration.show import HEADER, ROWS_SHOWN, Shown, differences, look, read_rows
from run_elt_dagster.settings import Settings
from run_elt_dagster.snowflake.session import ConnectorSession


@click.command("show")
@click.argument("tables", nargs=-1, type=TABLE, metavar="[SCHEMA.TABLE]...")
@click.option(
    "--partitions", "by_partition", is_flag=True, help="List the published partitions of TABLES, instead of rows."
)
@as_json
def command(tables: tuple[str, ...], *, by_partition: bool, as_json: bool) -> int:
    """List what readers see, then print the rows of TABLES: declared tables, sources, candidates.

    \b
      run-elt show                          every declared table
      run-elt show analytics.mau_summary    the same, and its first rows
      run-elt show --partitions analytics.sessions_daily    what is published of each partition
    """
    settings = Settings.from_environment()
    if by_partition:
        return print_partitions(settings, tables, as_json=as_json)
    declared, problems = load_declared(settings.tables_dir)
    for problem in problems:
        # Of another file, it is no reason not to look at a table.
        say_on_stderr(str(problem))
    with history() as instance, signed_in(settings) as session:
        found = look(session, declared, tables, instance=instance)
        if as_json:
            print_json(_facts(session, found.declared, found.candidates, found.named, instance))
        else:
            print_table(HEADER, [shown.line for shown in found.declared])
            _print_notes(found.declared, instance)
            _print_candidates(found.candidates)
            for shown in found.named:
                _print_rows(session, shown)
            _print_place(settings, instance)
    return 1 if problems and not tables else 0


def _facts(
    session: ConnectorSession,
    declared: Sequence[Shown],
    candidates: Sequence[Shown],
    named: Sequence[Shown],
    instance: dg.DagsterInstance | None,
) -> dict[str, Any]:
    rows = {}
    for shown in named:
        if shown.existing is not None:
            columns, values = read_rows(session, shown)
            rows[shown.name] = [dict(zip(columns, row, strict=True)) for row in values]
    return {
        "tables": [
            {
                **dict(zip(HEADER, shown.line, strict=True)),
                "notes": list(differences(shown, instance)) if instance else [],
            }
            for shown in declared
        ],
        "candidates": [shown.facts for shown in candidates],
        "rows": rows,
    }


def _print_notes(overview: Iterable[Shown], instance: dg.DagsterInstance | None) -> None:
    notes = [f"{shown.name}: {note}" for shown in overview for note in differences(shown, instance)] if instance else []
    if notes:
        print("\nWhat readers see is not what Dagster recorded last:\n" + "\n".join(f"  {note}" for note in notes))


def _print_candidates(found: Sequence[Shown]) -> None:
    if found:
        shown = "\n".join(f"  {candidate.facts}" for candidate in found[:ROWS_SHOWN])
        more = f"\n  and {len(found) - ROWS_SHOWN} more" if len(found) > ROWS_SHOWN else ""
        print(f"\nCandidates (no reader sees them):\n{shown}{more}")


def _print_rows(session: ConnectorSession, shown: Shown) -> None:
    print(f"\n{shown.facts}")
    if shown.reads:
        print(shown.reads)
    if shown.existing is not None:
        columns, rows = read_rows(session, shown)
        print(f"{shown.name}{f' (first {ROWS_SHOWN} rows)' if len(rows) == ROWS_SHOWN else ''}")
        print_table(columns, rows)


def _print_place(settings: Settings, instance: dg.DagsterInstance | None) -> None:
    if instance is None:
        print("\nDagster's history: none here: DAGSTER_HOME is not set, and this folder has no dagster.yaml")
    account = f"account {settings.snowflake.account}" if settings.snowflake else None
    print(f"\nSnowflake: {account or f'embedded Snowflake in {settings.embedded_dir}'}")
