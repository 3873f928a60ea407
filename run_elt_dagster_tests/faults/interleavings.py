"""Several runs and rollbacks over the same tables at once, in random orders of their statements, while a reader looks."""

import itertools
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from run_elt_dagster.model.candidate import marker_in
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.snowflake.session import StatementError
from run_elt_dagster_tests.faults.laboratory import (
    METHODS,
    FaultLab,
    arguments_of,
    open_rollback,
    open_session,
    run,
    tag_of,
)
from run_elt_dagster_tests.faults.oracle import (
    BEFORE,
    OLD,
    REJECTED_FROM,
    Problem,
    Reader,
    Version,
    Watched,
    declared,
    said_of,
    untrue,
)
from run_elt_dagster_tests.faults.trials import Outcome
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.embedded import Background

Sort = Literal["good", "rejected", "rollback"]
_LAST = Version(99, 99)


class Interleaving:
    """Lets runs send one statement at a time, in an order that is chosen before; then all as they like."""

    def __init__(self, run_ids: Iterable[str], turns: Iterable[int]) -> None:
        self._waiting: dict[str, bool] = dict.fromkeys(run_ids, False)
        self._turns = iter(turns)
        self._turn: str | None = None
        self._changed = threading.Condition()
        self._is_free = False

    def hook(self, event: StatementEvent) -> None:
        """Hold a statement until its run has the turn."""
        run_id = tag_of(event).get("run_id")
        if event.phase != "before" or run_id not in self._waiting:
            return
        with self._changed:
            self._waiting[run_id] = True
            self._give_a_turn()
            assert self._changed.wait_for(lambda: self._is_free or self._turn == run_id, PATIENCE_SECONDS)
            self._turn, self._waiting[run_id] = None, False

    def ended(self, run_id: str) -> None:
        """Wait for a run no longer."""
        with self._changed:
            self._waiting.pop(run_id)
            self._give_a_turn()

    def _give_a_turn(self) -> None:
        """Choose as soon as every run that is left waits: then nothing else is going on."""
        if self._is_free or self._turn is not None or not self._waiting or not all(self._waiting.values()):
            return
        turn = next(self._turns, None)
        if turn is None:
            self._is_free = True
        else:
            choices = self._choices()
            self._turn = choices[turn % len(choices)]
        self._changed.notify_all()

    def _choices(self) -> Sequence[str]:
        """Return the runs that may have the turn."""
        return sorted(self._waiting)


@dataclass(frozen=True)
class Actor:
    """A run, or a rollback, among others."""

    run_id: str
    sort: Sort
    version: Version


@dataclass(frozen=True)
class Scene:
    """What is tried at once, made from a seed."""

    publish: Mapping[str, str]
    parent: str | None
    first: bool
    actors: Sequence[Actor]
    turns: Sequence[int]

    @classmethod
    def of(cls, seed: int, number: int) -> "Scene":
        choose = random.Random(seed)  # noqa: S311 - no secret
        tables = [f"one_{number}", *([f"two_{number}"] if choose.random() < 0.4 else [])]
        first = choose.random() < 0.3
        sorts: list[Sort] = [
            "good",
            *choose.choices(["good", "rejected", "rollback"], [5, 2, 3], k=choose.choice([1, 1, 2, 3])),
        ]
        if first:
            sorts = ["good" if sort == "rollback" else sort for sort in sorts]
        actors = [
            Actor(f"{number:07d}{'BCDE'[place]}", sort, _version(place, sort)) for place, sort in enumerate(sorts)
        ]
        turns = [choose.randrange(12) for _ in range(choose.choice([0, 15, 40, 80]))]
        publish = {table: choose.choice(METHODS) for table in tables}
        return cls(publish, tables[0] if len(tables) > 1 else None, first, actors, turns)

    @property
    def has_rollback(self) -> bool:
        return any(actor.sort == "rollback" for actor in self.actors)

    @property
    def versions(self) -> tuple[Version, ...]:
        return (BEFORE, OLD, _LAST, *(actor.version for actor in self.actors if actor.sort == "good"))

    def tables_of(self, version: Version) -> list[AnalyticsTable]:
        """Return the tables as a run of this version builds them: the second one reads the first."""
        return [
            declared(table, publish, version, parent=self.parent if place else None)
            for place, (table, publish) in enumerate(self.publish.items())
        ]


def _version(place: int, sort: Sort) -> Version:
    return Version(5 + 2 * place, 2 + place + (REJECTED_FROM if sort == "rejected" else 0))


@dataclass
class Stage:
    """A scene that is being played: who has asked what when, and what is wrong with what was said."""

    laboratory: FaultLab
    scene: Scene
    order: Interleaving
    reader: Reader
    watched: Mapping[str, Watched]
    live: set[str]
    asked_at: dict[tuple[str, str], float] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def hook(self, event: StatementEvent) -> None:
        """Note when a run asks the catalogue; let the reader see what a statement has changed before the run goes on."""
        tag = tag_of(event)
        if event.phase == "after" and tag and event.sql.startswith(("CREATE", "ALTER", "INSERT", "UNDROP", "DROP")):
            self.reader.wait_for_look()
        self.order.hook(event)
        if (
            event.phase == "before"
            and tag
            and ("INFORMATION_SCHEMA" in event.sql or event.sql.startswith("SHOW TABLES"))
        ):
            self.asked_at[tag["run_id"], tag.get("asset", "")] = time.monotonic()

    def play(self, actor: Actor) -> list[TableOutcome]:
        try:
            if actor.sort == "rollback":
                self._roll_back(actor)
                return []
            return list(self._run(actor))
        finally:
            self.live.discard(actor.run_id)
            self.order.ended(actor.run_id)

    def _run(self, actor: Actor) -> Iterator[TableOutcome]:
        known = catalogue(self.scene.tables_of(actor.version))
        arguments = arguments_of(actor.run_id, max_concurrent_tables=1, is_live=self._is_live)
        with open_session(self.laboratory.account.arguments) as session:
            for outcome in run_tables(session, known, list(known), **arguments):
                self._judge(actor, outcome)
                yield outcome

    def _is_live(self, start: str) -> bool:
        return any(run_id.startswith(start) for run_id in self.live)

    def _states(self, actor: Actor, asset: str) -> set[tuple[object, ...]]:
        """Return what readers saw since an actor has asked last."""
        since = self.asked_at.get((actor.run_id, asset)) or self.asked_at.get((actor.run_id, ""), 0.0)
        return self.watched[asset.partition("/")[2]].states(since, time.monotonic())

    def _judge(self, actor: Actor, outcome: TableOutcome) -> None:
        asset = "/".join(outcome.table.key)
        states, contents = self._states(actor, asset), {a.run_id: a.version.content for a in self.scene.actors}
        is_child = asset.endswith(f"/two_{int(actor.run_id[:-1])}")
        said = untrue(said_of(outcome), states, actor.version)
        if not is_child and outcome.superseded_by and contents.get(outcome.superseded_by) not in states:
            said.append(Problem("untrue", f"superseded by {outcome.superseded_by}, readers saw {sorted(states)}"))
        self.problems += [Problem(p.verdict, f"run {actor.run_id}, {asset}: {p.text}") for p in said]
        is_free_of_faults = actor.sort == "good" and not self.scene.has_rollback
        if outcome.failure is not None and is_free_of_faults:
            self.problems.append(Problem("failed", f"run {actor.run_id}: {outcome.failure.message}"))

    def _roll_back(self, actor: Actor) -> None:
        table = self.scene.tables_of(actor.version)[0]
        asset = "/".join(table.key)
        others = {run_id for run_id in self.live if run_id != actor.run_id}
        try:
            with open_rollback(
                self.laboratory.account.arguments,
                table,
                actor.run_id,
                is_live=lambda start: any(run_id.startswith(start) for run_id in others & self.live),
            ) as rollback:
                plan = rollback.plan()
                left = rollback.carry_out(plan)
        except (PublishRefusedError, StatementError) as error:
            said = str(error)
        else:
            said = "\n".join([f"{plan.target} is back at {plan.previous.words}", *left])
        found = untrue(said, self._states(actor, asset), actor.version)
        self.problems += [Problem(p.verdict, f"rollback {actor.run_id}: {p.text}") for p in found]


class Interleavings:
    """Trials named `interleaving/<seed>`."""

    def __init__(self, lab: FaultLab) -> None:
        self._laboratory = lab
        self._numbers = itertools.count(1)

    def names(self, seed: int) -> Iterator[str]:
        order = random.Random(seed)  # noqa: S311 - no secret
        while True:
            yield f"interleaving/{order.getrandbits(32)}"

    def run(self, name: str) -> Outcome:
        scene = Scene.of(int(name.partition("/")[2]), next(self._numbers))
        laboratory = self._laboratory
        if not scene.first:
            for table in scene.publish:
                laboratory.publish_old(table)
        watched = {
            table: Watched(table, scene.versions, may_be_missing=scene.has_rollback and place == 0)
            for place, table in enumerate(scene.publish)
        }
        with Reader(laboratory.consumer, list(watched.values())) as reader:
            problems = self._play(scene, reader, watched)
            problems += self._at_the_end(scene)
        laboratory.drop(scene.publish)
        kind = f"{len(scene.actors)} at once{', a rollback among them' if scene.has_rollback else ''}"
        return Outcome(kind, (*reader.problems, *problems))

    def _play(self, scene: Scene, reader: Reader, watched: Mapping[str, Watched]) -> list[Problem]:
        run_ids = [actor.run_id for actor in scene.actors]
        order = Interleaving(run_ids, scene.turns)
        stage = Stage(self._laboratory, scene, order, reader, watched, set(run_ids))
        with self._laboratory.account.hooked(stage.hook):
            threads = [Background(lambda actor=actor: stage.play(actor)) for actor in scene.actors]
            outcomes = [outcome for thread in threads for outcome in thread.result(PATIENCE_SECONDS)]
        return stage.problems + self._order_is_kept(scene, outcomes)

    def _order_is_kept(self, scene: Scene, outcomes: Sequence[TableOutcome]) -> list[Problem]:
        """Check that readers see the newest snapshot that was published, and that the comment tells whose it is."""
        problems: list[Problem] = []
        contents = {actor.run_id: actor.version.content for actor in scene.actors} | {"0": OLD.content}
        comments = self._laboratory.comments(scene.publish)
        for place, table in enumerate(scene.publish):
            marker = marker_in(comments.get(table.upper()))
            seen = self._laboratory.seen(table)
            if scene.has_rollback:
                continue
            if marker is None or marker.state != "run":
                problems.append(Problem("untrue", f"the comment of {table} does not say whose rows it has: {marker}"))
                continue
            if place == 0 and contents.get(marker.run_id) != seen:
                problems.append(Problem("untrue", f"the comment of {table} says {marker}, readers see {seen}"))
            of_table = [o for o in outcomes if o.table.key[-1] == table]
            superseding = {o.superseded_by for o in of_table if o.superseded_by}
            if not any(o.published for o in of_table):
                problems.append(Problem("failed", f"nobody has published {table}"))
            elif superseding and marker.run_id not in superseding and len(of_table) == 2:
                problems.append(Problem("wrong", f"{marker.run_id} is published, superseded by {superseding}"))
        return problems

    def _at_the_end(self, scene: Scene) -> list[Problem]:
        allowed = {version.content for version in scene.versions}
        seen = {table: self._laboratory.seen(table) for table in scene.publish}
        problems = [
            Problem("wrong", f"a new session sees {found} of {table}")
            for table, found in seen.items()
            if found not in allowed
        ]
        if pending := self._laboratory.pending(scene.publish):
            problems.append(Problem("failed", f"candidates are still pending: {sorted(pending)}"))
        after = run(self._laboratory.account.arguments, scene.tables_of(_LAST), f"{_number(scene)}Z")
        failed = [outcome.failure.message for outcome in after if outcome.failure is not None]
        problems += [Problem("failed", f"the next run: {message}") for message in failed]
        seen = {table: self._laboratory.seen(table) for table in scene.publish}
        problems += [
            Problem("wrong", f"after the next run a new session sees {found} of {table}")
            for table, found in seen.items()
            if found != _LAST.content and not failed
        ]
        return problems


def _number(scene: Scene) -> str:
    return scene.actors[0].run_id[:-1]
