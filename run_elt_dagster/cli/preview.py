"""`run-elt preview`."""

from collections.abc import Sequence
from typing import Any

import click

from run_elt_dagster.audit.increment import rows_to_merge
from run_elt_dagster.audit.plan import AuditOutcome
from run_elt_dagster.cli.opening import signed_in
from run_elt_dagster.cli.parameters import TABLE, as_json, of_project, partition, whole
from run_elt_dagster.cli.printing import cells, headings, print_json, print_table, say_on_stderr
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.model.counted import counted
from run_elt_dagster.project import Project
from run_elt_dagster.publish.preview import audit, built, first_rows
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.session import Answer


@click.command("preview")
@click.argument("table", type=TABLE, metavar="SCHEMA.TABLE")
@of_project
@click.option("--rows", type=click.IntRange(0, 10_000), default=20, show_default=True, help="Rows to print.")
@partition
@whole
@click.option("--keep", is_flag=True, help="Keep the candidate, to query it.")
@as_json
def command(
    project: Project, table: str, *, rows: int, partition: str | None, is_whole: bool, keep: bool, as_json: bool
) -> int:
    """Build and audit a table as its file stands, print its first rows, and publish nothing.

    The tables that it reads are those that readers see. The exit code is 1 if a check would stop the publishing.
    """
    declared = project.buildable(table)
    part = declared.part(partition) if declared.partitions is not None or partition else None
    with (
        signed_in(project) as session,
        progress(f"Building {declared.name} under another name") as steps,
        built(
            session,
            declared,
            job="run-elt preview",
            options=project.settings.publishing,
            keep=keep,
            part=part,
            is_whole=is_whole,
            warn=say_on_stderr,
        ) as work,
    ):
        steps.tell(f"Asking the checks of {declared.name}")
        outcomes = audit(work)
        steps.tell("Reading its first rows")
        shown = first_rows(work, rows) if rows else Answer((), "", 0.0)
        with steps.paused():
            if as_json:
                print_json(_facts(work, outcomes, shown, keep=keep))
            else:
                _print(work, outcomes, shown, keep=keep)
        steps.tell("Closing the session" if keep else "Dropping the build")
    return 1 if any(outcome.blocks for outcome in outcomes) else 0


def _print(work: TableWork, outcomes: Sequence[AuditOutcome], shown: Answer, *, keep: bool) -> None:
    if shown.columns:
        print_table(headings(shown.columns), cells(shown.rows))
        print()
    print_table(
        ("check", "verdict", "found"),
        [(_name(o), _verdict(o), str(o).removeprefix(f"check {o.audit.name} ")) for o in outcomes],
    )
    count = (
        rows_to_merge(outcomes)
        if work.start
        else next((o.row_count for o in outcomes if o.row_count is not None), None)
    )
    since = f" since {work.start.words}" if work.start else ""
    rows = "" if count is None else f"{counted(count, 'rows')}{since} in "
    print(f"\n{work.table.name}: {rows}{work.seconds['build']:.1f} s. Nothing was published. {work.production.words}")
    print(f"The candidate {work.candidate} {'stays.' if keep else 'is dropped.'}")


def _name(outcome: AuditOutcome) -> str:
    return outcome.audit.name if outcome.partition is None else f"{outcome.audit.name} {outcome.partition}"


def _verdict(outcome: AuditOutcome) -> str:
    if outcome.passed:
        return "passed"
    return "failed" if outcome.blocks else "warning"


def _facts(work: TableWork, outcomes: Sequence[AuditOutcome], shown: Answer, *, keep: bool) -> dict[str, Any]:
    return {
        "table": work.table.name,
        "candidate": str(work.candidate) if keep else None,
        "published": False,
        "columns": {column.name: column.type for column in work.inspection.candidate_columns},
        "rows": next((outcome.row_count for outcome in outcomes if outcome.row_count is not None), None),
        "increment": {"start": work.start.words, "rows": rows_to_merge(outcomes)} if work.start else None,
        "first_rows": [dict(zip(shown.columns, row, strict=True)) for row in shown.rows],
        "checks": [
            {
                "name": outcome.audit.name,
                "partition": outcome.partition,
                "verdict": _verdict(outcome),
                "found": str(outcome),
            }
            for outcome in outcomes
        ],
    }
