"""`run-elt publish`."""

import contextlib
from collections.abc import Sequence

import click
import dagster as dg

from run_elt_dagster.cli import InterruptedCommandError
from run_elt_dagster.cli.asking import agrees, person
from run_elt_dagster.cli.opening import dagster_instance, signed_in
from run_elt_dagster.cli.parameters import TABLE, of_project
from run_elt_dagster.cli.printing import say_on_stderr
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.cli.publish_group import publish_group
from run_elt_dagster.cli.publish_partitions import publish_partitions
from run_elt_dagster.cli.publishing import may_be_waived, said, say_published
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import RUN_ID_CHARACTERS, short_id
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.kept import events_of, report, tags_of_part
from run_elt_dagster.orchestration.past import past_of
from run_elt_dagster.project import Project
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.kept import ByHandOutcome, Kept, Published, Publisher, require_checks
from run_elt_dagster.publish.kept_increment import IncrementPublisher
from run_elt_dagster.publish.log_by_hand import LogByHand
from run_elt_dagster.runs.live import is_live
from run_elt_dagster.snowflake.session import StatementError


@click.command("publish")
@click.argument("table", type=TABLE, metavar="[SCHEMA.TABLE]", required=False)
@of_project
@click.option("--group", metavar="NAME", help="Instead of a table: all tables of a publish_group.")
@click.option(
    "--run",
    "run",
    required=True,
    metavar="RUN",
    help="The run that has kept the candidate: its id, or its first 8 characters.",
)
@click.option(
    "--check",
    "checks",
    multiple=True,
    metavar="NAME",
    help="A failed check that is waived, besides changes. Repeat it for more.",
)
@click.option("--yes", "is_agreed", is_flag=True, help="Do not ask.")
def command(
    project: Project, table: str | None, *, group: str | None, run: str, checks: tuple[str, ...], is_agreed: bool
) -> int:
    """Publish the candidate that a run has rejected and kept, once.

    \b
      run-elt publish analytics.orders --run 8f3a01c2
      run-elt publish analytics.orders --run 8f3a01c2 --check row_count_change
      run-elt publish --group finance --run 8f3a01c2

    Of a table with partitions, it publishes those that the run has rejected. An increment is merged into the rows that readers see. Of a
    group, it publishes all tables or none.

    All checks are asked again. The check changes may fail, and so may those that you name. Whoever publishes, when, and which checks
    were waived stands in the table's comment and in Dagster's history. A repeated command changes nothing.
    """
    if (table is None) == (group is None):
        raise click.UsageError("run-elt publish requires either SCHEMA.TABLE or --group NAME.")
    if len(run) < RUN_ID_CHARACTERS:
        raise click.UsageError(f"--run requires the run's id or its first {RUN_ID_CHARACTERS} characters, got {run!r}.")
    try:
        if group is not None:
            return publish_group(project, group, run, checks, is_agreed=is_agreed)
        declared = project.table(table or "")
        require_checks([declared], checks)
        if declared.partitions is not None:
            return publish_partitions(project, declared, run, checks, is_agreed=is_agreed)
        return _publish(project, declared, run, checks, is_agreed=is_agreed)
    except KeyboardInterrupt:
        what = f"{table} is unknown if its exchange was under way: run-elt show {table}"
        if group is not None:
            what = f"publish_group {group} is unknown if its exchange was under way: run-elt doctor"
        raise InterruptedCommandError(f"What readers see of {what}") from None


def _publish(project: Project, declared: AnalyticsTable, run: str, checks: tuple[str, ...], *, is_agreed: bool) -> int:
    with dagster_instance() as instance, signed_in(project) as session:
        # An increment is merged into the rows of other runs.
        publisher = (Publisher if declared.increment is None else IncrementPublisher)(
            session,
            declared,
            options=project.settings.publishing,
            is_live=lambda start: is_live(instance, start),
            past=past_of(instance, lambda _: declared.asset_path),
        )
        log = LogByHand(session, project.settings.publishing, person=person(), warn=say_on_stderr)
        found = publisher.find(run)
        if isinstance(found, Published):
            return _published_already(instance, publisher, found, log)
        _print_plan(found, checks)
        if not is_agreed and not agrees("publishing by hand", "Publish it?"):
            return 1
        unrecorded: list[str | None] = []

        def note(done: ByHandOutcome) -> None:
            tags = tags_of_part(instance, declared) if found.start is not None else None
            unrecorded.append(report(instance, events_of(done, found.marker.run_id, tags=tags)))
            log.published([done], found.marker.run_id)

        with progress(f"Asking {declared.name} its checks again") as steps:
            done = publisher.publish(
                found,
                person=person(),
                waived=checks,
                entered=lambda state: steps.tell(f"{declared.name}: {state}"),
                note=note,
            )
        if done.outcome.failure is not None and (published := _published_meanwhile(publisher, run)) is not None:
            return _published_already(instance, publisher, published, log)
        return _told(done, found, unrecorded)


def _print_plan(kept: Kept, checks: tuple[str, ...]) -> None:
    print(kept.table.name)
    print(f"  readers see now    {kept.standing.words if kept.standing is not None else 'no table'}")
    print(f"  they will see      {kept.version.words}")
    print(f"  may be waived      {may_be_waived(checks)}")


def _published_already(instance: dg.DagsterInstance, publisher: Publisher, found: Published, log: LogByHand) -> int:
    """Say so, and finish what a command that was ended has left."""
    log.published_before([found])
    # The candidate last: it says who has published.
    return said([say_published(instance, found), publisher.drop_what_is_left(found)])


def _published_meanwhile(publisher: Publisher, run: str) -> Published | None:
    """Return what readers see if another person has published the same candidate at the same time."""
    with contextlib.suppress(PublishRefusedError, StatementError):
        found = publisher.find(run)
        return found if isinstance(found, Published) else None
    return None


def _told(done: ByHandOutcome, kept: Kept, unrecorded: Sequence[str | None]) -> int:
    """Say what was published.

    Args:
        done: What became of the candidate.
        kept: The candidate.
        unrecorded: Why Dagster's history could not note it, if it could not.

    Raises:
        ValueError: It was not published.
    """
    outcome = done.outcome
    for warning in outcome.warnings:
        say_on_stderr(warning)
    if outcome.failure is not None:
        failed = [each.audit.name for each in outcome.audits if each.blocks]
        named = " ".join(f"--check {name}" for name in failed)
        raise ValueError(f"{outcome.failure.message}{f' To waive them, add {named}.' if failed else ''}")
    if done.by_hand is None:
        raise ValueError(
            f"{outcome.table.name} requires that nothing newer is published meanwhile, got run {short_id(outcome.superseded_by or '')}. "
            "Readers see its rows. Nothing is left to do."
        )
    print(
        f"{outcome.table.name}: {counted(outcome.row_count or 0, 'rows')} of run {short_id(kept.marker.run_id)}, {done.by_hand.words}."
    )
    return said([done.left, *unrecorded])
