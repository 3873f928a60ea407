"""What `run-elt publish` prints and does for partitions."""

from collections.abc import Sequence

import dagster as dg

from run_elt_dagster.cli.asking import agrees, person
from run_elt_dagster.cli.opening import dagster_instance, signed_in
from run_elt_dagster.cli.printing import print_table, say_on_stderr
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.cli.publishing import may_be_waived, said
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import short_id
from run_elt_dagster.model.production import partition_words
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.kept import (
    events_of_partitions,
    late_events_of_partitions,
    report,
    unrecorded_partitions,
)
from run_elt_dagster.orchestration.past import past_of
from run_elt_dagster.project import Project
from run_elt_dagster.publish.kept_parts import (
    KeptPartitions,
    PartitionPublisher,
    PartitionsByHand,
    PublishedPartitions,
)
from run_elt_dagster.publish.log_by_hand import LogByHand
from run_elt_dagster.runs.live import is_live


def publish_partitions(
    project: Project, table: AnalyticsTable, run: str, checks: tuple[str, ...], *, is_agreed: bool
) -> int:
    """Publish the partitions that a run has rejected and kept, after a question."""
    with dagster_instance() as instance, signed_in(project) as session:
        publisher = PartitionPublisher(
            session,
            table,
            options=project.settings.publishing,
            is_live=lambda start: is_live(instance, start),
            past=past_of(instance, lambda _: table.asset_path),
        )
        log = LogByHand(session, project.settings.publishing, person=person(), warn=say_on_stderr)
        found = publisher.find(run)
        if isinstance(found, PublishedPartitions):
            log.partitions_published_before(found)
            return _published_already(instance, publisher, found)
        if (unnoted := found.unnoted) is not None:
            # What comes next is signed anew.
            log.partitions_published_before(unnoted)
            said([_recorded(instance, unnoted)])
        _print_plan(found, checks)
        if not is_agreed and not agrees("publishing by hand", "Publish it?"):
            return 1
        unrecorded: list[str | None] = []

        def note(done: PartitionsByHand) -> None:
            unrecorded.append(report(instance, events_of_partitions(done, found.marker.run_id)))
            log.published([done], found.marker.run_id, keys=found.wanted)

        with progress(f"Asking {table.name} its checks again") as steps:
            done = publisher.publish(
                found,
                person=person(),
                waived=checks,
                entered=lambda state: steps.tell(f"{table.name}: {state}"),
                note=note,
            )
        return _told(done, found, unrecorded)


def _print_plan(kept: KeptPartitions, checks: tuple[str, ...]) -> None:
    print(f"{kept.table.name}, run {short_id(kept.marker.run_id)}")
    lines = [(key, _seen(kept, key), "its rows" if key in kept.wanted else "the same") for key in kept.part.keys]
    print_table(("partition", "readers see now", "they will see"), lines)
    print(f"may be waived: {may_be_waived(checks)}")


def _seen(kept: KeptPartitions, key: str) -> str:
    note = kept.notes.get(key)
    return "nothing" if note is None else f"{counted(note.rows, 'rows')}, {note.marker.published}"


def _published_already(instance: dg.DagsterInstance, publisher: PartitionPublisher, found: PublishedPartitions) -> int:
    """Say so, and finish what a command that was ended has left."""
    who = f", {found.by_hand.words}" if found.by_hand is not None else ""
    what = f"{found.table.name}: {partition_words(found.keys)} of run {short_id(found.run_id)}"
    print(f"{what} are published already{who}. What readers see was not changed.")
    # The candidate last: it says who has published.
    return said([_recorded(instance, found), publisher.drop_what_is_left(found)])


def _recorded(instance: dg.DagsterInstance, found: PublishedPartitions) -> str | None:
    """Record what Dagster does not know yet; return why it could not be recorded."""
    missing = unrecorded_partitions(instance, found)
    return report(instance, late_events_of_partitions(found, missing)) if missing else None


def _told(done: PartitionsByHand, kept: KeptPartitions, unrecorded: Sequence[str | None]) -> int:
    """Say what was published.

    Args:
        done: What became of the partitions.
        kept: The partitions.
        unrecorded: Why Dagster's history could not note it, if it could not.

    Raises:
        ValueError: Not all of it was published.
    """
    outcome, run_id = done.outcome, kept.marker.run_id
    for warning in outcome.warnings:
        say_on_stderr(warning)
    left = [done.left, *unrecorded]
    published = done.published
    if published and done.by_hand is not None:
        rows = sum(outcome.partitions[key].row_count or 0 for key in published)
        print(
            f"{outcome.table.name}, {partition_words(published)}: {counted(rows, 'rows')} of run {short_id(run_id)}, {done.by_hand.words}."
        )
    if done.theirs:
        theirs = partition_words(sorted(done.theirs))
        print(f"{outcome.table.name}, {theirs}: another person has published the same rows at the same time.")
    newer = [key for key, part in outcome.partitions.items() if part.state == "superseded"]
    if newer:
        print(f"{outcome.table.name}, {partition_words(newer)}: a newer run has published them. Readers see its rows.")
    code = said(left)
    if outcome.failure is not None:
        failed = dict.fromkeys(
            each.audit.name for part in outcome.partitions.values() for each in part.audits if each.blocks
        )
        named = " ".join(f"--check {name}" for name in failed)
        raise ValueError(f"{outcome.failure.message}{f' To waive them, add {named}.' if named else ''}")
    return code
