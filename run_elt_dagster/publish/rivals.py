"""Other runs of the same table: a newer snapshot goes first, an older one can publish no more."""

from typing import TypeGuard

from run_elt_dagster.model.candidate import Marker, run_suffix
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal
from run_elt_dagster.publish.statements import drop_sql
from run_elt_dagster.publish.work import TableWork


class SupersededError(Exception):
    """A run with a newer snapshot has published the table, so this one must not.

    Attributes:
        marker: The run of the rows that readers see.
    """

    def __init__(self, marker: Marker) -> None:
        super().__init__(f"superseded by run {marker.run_id}")
        self.marker = marker


def wait_for_newer_builds(work: TableWork) -> None:
    """Wait until no newer build of the table is on its way.

    A run that publishes has first dropped the older candidates that it saw. Publishing them then fails. A candidate
    that came too late to be seen sees the newer one here, and waits until that is published or has failed.

    Raises:
        SupersededError: Readers see a newer snapshot.
        PublishRefusedError: The newer build neither publishes nor fails; its run may have died.
    """
    waited = 0.0
    while newer := newer_builds(work):
        if waited >= work.patience.wait_seconds:
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} requires that the newest build is published last",
                    f"run {newer[0].run_id} that has built from a newer snapshot and has not published it in {waited:g} s",
                    "Materialize again.",
                    seen=work.production.words,
                    reason=Reason.NEWEST_LAST,
                )
            )
        work.runner.wait(work.patience.poll_seconds)
        waited += work.patience.poll_seconds
        work.inspect()


def newer_builds(work: TableWork) -> list[Marker]:
    """Return the builds of newer snapshots that are not published yet, by the last look.

    Raises:
        SupersededError: One is published.
    """
    own, inspection = work.marker().order, work.inspection
    live = inspection.target.marker if inspection.target else None
    if live is not None and live.order > own and live.state in ("run", "rollback"):
        raise SupersededError(live)
    return [m for m in [live, *map(_marker_of, inspection.candidates)] if _is_pending(m) and m.order > own]


def drop_older(work: TableWork) -> None:
    """Drop what older runs of the table have built and not yet published; their publishing then finds nothing."""
    own = work.marker().order
    for listed in work.inspection.candidates:
        marker = _marker_of(listed)
        if _is_pending(marker) and marker.order < own:
            work.send(drop_sql(Relation(work.target.database, work.target.schema, listed.name)))


def _marker_of(listed: TableVersion) -> Marker | None:
    """Return the marker of a candidate, None where its rows are another run's: after a swap, they are the old table's."""
    marker = listed.marker
    return marker if marker is not None and listed.name.endswith(run_suffix(marker.run_id)) else None


def _is_pending(marker: Marker | None) -> TypeGuard[Marker]:
    """Return whether a run may still publish what it has built, or is just writing it over the target."""
    return marker is not None and marker.state in ("run", "publishing")
