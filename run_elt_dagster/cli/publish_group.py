"""What `run-elt publish --group` prints and does."""

import contextlib
from collections.abc import Sequence

import dagster as dg

from run_elt_dagster.cli.asking import agrees, person
from run_elt_dagster.cli.opening import dagster_instance, signed_in
from run_elt_dagster.cli.printing import print_table, say_on_stderr
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.cli.publishing import may_be_waived, said, say_published
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import short_id
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.orchestration.kept import events_of, report
from run_elt_dagster.orchestration.past import past_of
from run_elt_dagster.project import Project
from run_elt_dagster.publish.group_rollback import tables_of_group
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.kept import ByHandOutcome, Kept, Published, require_checks
from run_elt_dagster.publish.kept_group import GroupPublisher
from run_elt_dagster.publish.log_by_hand import LogByHand
from run_elt_dagster.runs.live import is_live
from run_elt_dagster.snowflake.session import StatementError


def publish_group(project: Project, group: str, run: str, checks: tuple[str, ...], *, is_agreed: bool) -> int:
    """Publish all tables of a group that a run has kept, after a question."""
    catalogue = project.tables(keeps_broken=True)
    tables = tables_of_group(catalogue, group, command="publish")
    require_checks(tables, checks)
    with dagster_instance() as instance, signed_in(project) as session:
        publisher = GroupPublisher(
            session,
            catalogue,
            tables,
            options=project.settings.publishing,
            is_live=lambda start: is_live(instance, start),
            past=past_of(instance, catalogue.asset_path),
        )
        log = LogByHand(session, project.settings.publishing, person=person(), warn=say_on_stderr)
        kept, published = _apart(publisher.find(run))
        if published:
            return _published_already(instance, publisher, published, log)
        _print_plan(group, kept, checks)
        if not is_agreed and not agrees("publishing by hand", "Publish it?"):
            return 1
        with progress(f"Asking publish_group {group} its checks again") as steps:
            done = publisher.publish(
                kept,
                person=person(),
                waived=checks,
                entered=lambda table, state: steps.tell(f"{table.name}: {state}"),
            )
        if any(each.outcome.failure is not None for each in done) and (meanwhile := _meanwhile(publisher, run)):
            return _published_already(instance, publisher, meanwhile, log)
        run_id = kept[0].marker.run_id
        code = _told(instance, group, done, run_id)
        log.published(done, run_id)
        return code


def _apart(found: Sequence[Kept | Published]) -> tuple[list[Kept], list[Published]]:
    kept = [each for each in found if isinstance(each, Kept)]
    return kept, [each for each in found if isinstance(each, Published)]


def _print_plan(group: str, kept: Sequence[Kept], checks: tuple[str, ...]) -> None:
    print(f"publish_group {group}, run {short_id(kept[0].marker.run_id)}")
    lines = [
        (each.table.name, each.standing.words if each.standing else "no table", each.version.words) for each in kept
    ]
    print_table(("table", "readers see now", "they will see"), lines)
    print(f"may be waived: {may_be_waived(checks)}")


def _meanwhile(publisher: GroupPublisher, run: str) -> list[Published]:
    """Return what readers see if another person has published the same candidates at the same time."""
    with contextlib.suppress(PublishRefusedError, StatementError):
        return _apart(publisher.find(run))[1]
    return []


def _published_already(
    instance: dg.DagsterInstance, publisher: GroupPublisher, published: Sequence[Published], log: LogByHand
) -> int:
    """Say so, and finish what a command that was ended has left."""
    log.published_before(published)
    left = [publisher.drop_what_is_left(each) for each in published]
    return said([*left, *(say_published(instance, each) for each in published)])


def _told(instance: dg.DagsterInstance, group: str, done: Sequence[ByHandOutcome], run_id: str) -> int:
    """Record what was published and say it.

    Raises:
        ValueError: It was not published.
    """
    for warning in (warning for each in done for warning in each.outcome.warnings):
        say_on_stderr(warning)
    if problem := why_not_published(group, done):
        raise ValueError(problem)
    newer = {each.outcome.superseded_by for each in done if each.outcome.superseded_by}
    if newer:
        raise ValueError(
            f"publish_group {group} requires that nothing newer is published meanwhile, got run {short_id(newer.pop() or '')}. "
            "Readers see its rows. Nothing is left to do."
        )
    left = [problem for each in done for problem in (each.left, report(instance, events_of(each, run_id)))]
    for each in done:
        if each.by_hand is not None:
            rows = each.outcome.row_count or 0
            print(
                f"{each.outcome.table.name}: {counted(rows, 'rows')} of run {short_id(run_id)}, {each.by_hand.words}."
            )
    return said(left)


def why_not_published(group: str, done: Sequence[ByHandOutcome]) -> str:
    """Return why a group is not published, or not all of it, in sentences; empty where nothing has failed."""
    failures = [each.outcome.failure for each in done if each.outcome.failure is not None]
    told = " ".join(failure.message for failure in failures)
    if any(failure.reason == Reason.GROUP_HALF_PUBLISHED for failure in failures):
        return f"{told} Once it is ended, repeat the command: it notes and logs who has published."
    blocked = dict.fromkeys(audit.audit.name for each in done for audit in each.outcome.audits if audit.blocks)
    named = " ".join(f"--check {name}" for name in blocked)
    waive = f" To waive them, add {named}." if named else ""
    return f"publish_group {group} was not published. {told}{waive}" if failures else ""
