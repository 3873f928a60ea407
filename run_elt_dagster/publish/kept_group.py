"""Publish the candidates of a group that its run has kept: a person has looked at what the checks of some found, and wants all of them.

Each table goes the way of a kept candidate up to the end of its audit (`publish.kept`). Then all of them are exchanged as a run does it
(`publish.group_run`), under the lock of the group. So what a killed command has begun is ended as that of a killed run is.
"""

import graphlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from run_elt_dagster.model.candidate import ByHand
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key, Relation
from run_elt_dagster.model.past import Past
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.by_hand import RAISE_THE_LIMIT, ByHandDesk, Person, not_by_hand
from run_elt_dagster.publish.group_lock import GroupNote, locks_in, operator
from run_elt_dagster.publish.group_recovery import end_exchange
from run_elt_dagster.publish.group_run import GroupRun, in_group
from run_elt_dagster.publish.group_transaction import is_in_one_transaction
from run_elt_dagster.publish.kept import ByHandOutcome, Kept, KeptRun, Published, kept_or_published
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.table_run import State, clean_up
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import Patience, StatementRunner
from run_elt_dagster.snowflake.session import Session


class GroupPublisher(ByHandDesk):
    """Publishes kept candidates of one group in one session.

    Args:
        session: An open session.
        catalogue: The declared tables.
        tables: Those of the group.
        options: How tables are published.
        is_live: Whether a run goes on.
        past: Returns what was published before; None where nobody knows.
        patience: How long is waited for what may pass.
    """

    def __init__(
        self,
        session: Session,
        catalogue: Catalogue,
        tables: Sequence[AnalyticsTable],
        *,
        options: PublishOptions,
        is_live: Callable[[str], bool] = lambda _: False,
        past: Past | None = None,
        patience: Patience | None = None,
    ) -> None:
        super().__init__(session, *tables, options=options, is_live=is_live, past=past, patience=patience)
        self._catalogue = catalogue

    def find(self, run: str) -> list[Kept] | list[Published]:
        """Return the kept candidates of a run, or what is published already, in the order of the tables; nothing is changed.

        Raises:
            PublishRefusedError: A table has neither, or some are published and others are not.
            StatementError: Snowflake does not answer.
        """
        if is_in_one_transaction(self._tables):
            # The candidate of a part says too little of itself to be exchanged with others days later.
            parts = next(table for table in self._tables if table.is_in_parts)
            got = f"{parts.name}, whose {parts.method}s are exchanged in place"
            raise not_by_hand(self._tables[0], "a group whose tables are all built whole", got, RAISE_THE_LIMIT)
        database, inventory = self.database, self._look(self._runner(run))
        for lock, note in locks_in(inventory, database=database):
            if note.group == self._tables[0].publish_group:
                got = f"{note.holder} that has {lock}"
                remedy = "Wait for it. What has ended, run-elt doctor ends or names. Then repeat the command."
                raise not_by_hand(self._tables[0], "that nobody exchanges its group", got, remedy)
        found = [kept_or_published(table, inventory, run, database=database, with_group=True) for table in self._tables]
        kept = [each for each in found if isinstance(each, Kept)]
        published = [each for each in found if isinstance(each, Published)]
        if kept and published:
            got = f"{published[0].table.name}, whose rows of the run readers see already"
            remedy = "Materialize all tables of the group again."
            raise not_by_hand(kept[0].table, "that none of its group is published", got, remedy)
        return kept or published

    def publish(
        self,
        kept: Sequence[Kept],
        *,
        person: str,
        waived: Collection[str],
        entered: Callable[[AnalyticsTable, State], None] = lambda _, __: None,
    ) -> list[ByHandOutcome]:
        """Publish all kept candidates or none; the outcomes say what readers see."""
        run_id, database = kept[0].marker.run_id, self.database
        runner = self._runner(run_id)
        looked = self._look_with_clock(runner)

        def end(lock: Relation, note: GroupNote) -> None:
            end_exchange(runner, self._catalogue, lock, note, options=self._options)

        by_key: dict[Key, Kept] = {each.table.key: each for each in kept}
        people, outcomes = dict[Key, Person](), list[TableOutcome]()
        group = GroupRun(
            runner, self._catalogue, list(by_key), looked[1], database=database, end_exchange=end, by=operator()
        )
        for key in self._parents_first(by_key):
            with self._on_its_warehouse(self._catalogue[key]) as session:
                each = self._redirected(by_key[key], list(by_key))
                people[key] = self._person(
                    self._runner(run_id, session),
                    each.table,
                    looked,
                    name=person,
                    waived=waived,
                    taken_up=each.taken_up,
                )
                outcome = group.hold(
                    key, KeptRun(each, people[key]), lambda state, table=self._catalogue[key]: entered(table, state)
                )
            outcomes += [] if outcome is None else [group.end(outcome)]
        outcomes += group.publish()
        return [self._cleaned_up(runner, each, people[each.table.key].by_hand) for each in outcomes]

    def drop_what_is_left(self, published: Published) -> str | None:
        """Drop the candidate of rows that readers see already; return why it is still there."""
        return self._drop(published.table, published.candidate, published.run_id)

    @staticmethod
    def _cleaned_up(runner: StatementRunner, outcome: TableOutcome, by_hand: ByHand | None) -> ByHandOutcome:
        left = clean_up(runner, outcome) if outcome.in_production else None
        return ByHandOutcome(outcome, by_hand if outcome.published else None, left)

    def _parents_first(self, keys: Mapping[Key, Kept]) -> list[Key]:
        order = graphlib.TopologicalSorter({key: self._catalogue.parents(key) for key in keys}).static_order()
        return [key for key in order if key in keys]

    def _redirected(self, kept: Kept, keys: Sequence[Key]) -> Kept:
        """Return a candidate whose checks read the candidates of the others."""
        run_id, database = kept.marker.run_id, self.database
        table = in_group(self._catalogue, kept.table.key, keys, database=database, run_id=run_id)
        return replace(kept, table=table)
