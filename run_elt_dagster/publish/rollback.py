"""Put back the version of a table that readers saw before the present one, and take up what a stopped command left half done."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from run_elt_dagster.model.candidate import (
    by_hand_in,
    comment_of,
    put_back_comment,
    rolled_back_marker,
    target_of,
)
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.grants import carry_grants_over
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal
from run_elt_dagster.publish.rollback_plan import RollbackPlan, RollbackPlanner, rollback_tag
from run_elt_dagster.publish.statements import comment_sql, same_rows_sql
from run_elt_dagster.publish.versions import (
    Versions,
    at_sql,
    order_of,
    undrop_sql,
)
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import Answer, StatementError

# How often is looked whether readers see the present version again.
_LOOKS = 3
_FINISH = "Repeat the command to finish it; what readers see does not change."


class Rollback:
    """Puts the previous version of one table back.

    Args:
        runner: Sends its statements.
        table: The table.
        database: The stored name of its database.
        check_policies: Whether to ask for the policies on the present version.
    """

    def __init__(
        self, runner: StatementRunner, table: AnalyticsTable, *, database: str, check_policies: bool = True
    ) -> None:
        self._runner = runner
        self._table = table
        self._target = target_of(table, database=database)
        self._tag = rollback_tag(table)
        self._versions = Versions(runner, self._tag)
        self._planner = RollbackPlanner(runner, table, database=database, check_policies=check_policies)

    def plan(self, *, further: bool = False, begun: tuple[str, str] | None = None) -> RollbackPlan:
        """Return what to do, as `RollbackPlanner.plan` does."""
        return self._planner.plan(further=further, begun=begun)

    def carry_out(self, plan: RollbackPlan) -> tuple[str, ...]:
        """Put the previous version back; what a stopped attempt left half done is taken up by another.

        Before anything changes, the present version is marked as one that is being taken back. A repeated command sees by that
        mark what has been done, and never goes back one version more.

        Returns:
            What is left to do after readers see the previous version, in words.

        Raises:
            PublishRefusedError: Its grants could not be made those of the present version, or a run has published meanwhile.
                The error says what they see.
            StatementError: A statement failed before it was known that readers see the previous version. The error says what they
                see.
        """
        if plan.method == "done":
            return ()
        try:
            self.require_nobody_published(plan)
            self.prepare(plan)
            self.exchange(plan)
            self.require_not_overtaken(plan)
        except StatementError as error:
            raise self._told(plan, error) from error
        return self.clean_up(plan)

    def clean_up(self, plan: RollbackPlan) -> tuple[str, ...]:
        """Do what comes after the exchange, and return what is left to do, in words."""
        return tuple(
            f"the rollback is done: {self._target} is back at {plan.previous.words}. {problem}"
            for problem in self._clean_up(plan)
        )

    def require_nobody_published(self, plan: RollbackPlan) -> None:
        """Look again: a person may have read the plan for an hour.

        Raises:
            PublishRefusedError: Readers see another version than the plan says, or a run is about to publish one.
        """
        inventory, _ = self._planner.look()
        standing = inventory.at(self._target)
        if (standing is None) != (plan.present is None) or order_of(standing) != order_of(plan.present):
            raise PublishRefusedError(
                Refusal(
                    f"rolling back {self._table.name} requires that readers see what the plan says",
                    "another version since",
                    "Repeat the command if that one must go, too.",
                    seen=f"Nothing was changed: {_seen(standing, self._target)}.",
                )
            )

    def require_not_overtaken(self, plan: RollbackPlan) -> None:
        """Ask whether readers see the previous version: no statement can require that nobody publishes just before it.

        Raises:
            PublishRefusedError: They see another one, since a run has published meanwhile.
            StatementError: Snowflake would not tell.
        """
        if plan.method not in ("swap", "undrop"):
            return
        with self._runner.fresh() as fresh:
            standing = self._versions.standing(self._target, fresh)
        if order_of(standing) != order_of(plan.previous):
            aside = f" What was moved away stands in {plan.aside}." if plan.aside is not None else ""
            raise PublishRefusedError(
                Refusal(
                    f"rolling back {self._table.name} requires that no run publishes it meanwhile",
                    "one that has",
                    "Wait for the run, then materialize the table or repeat the command.",
                    seen=f"Now {_seen(standing, self._target)}.{aside}",
                )
            )

    def prepare(self, plan: RollbackPlan) -> None:
        """Do what has to be done before, and mark the present version as one that is being taken back. Safe to repeat.

        Raises:
            StatementError: It could not be done.
            PublishRefusedError: The grants could not be made those of the present version.
        """
        if plan.method == "swap" and plan.aside is not None:
            if plan.restore:
                self._send(undrop_sql(plan.aside))
            seen = "Readers see what they saw before."
            self._carry_grants_over(giver=self._target, taker=plan.aside, seen=seen)
        if plan.method != "clean-up" and plan.present is not None and (marker := plan.taken_back):
            # A repeated command finds there when a person has published these rows.
            notes = [str(by_hand)] if (by_hand := by_hand_in(plan.present.comment)) is not None else []
            begun = comment_of(self._table, replace(marker, state="rollback"), notes=notes)
            self._send(comment_sql(self._target, begun))

    def _clean_up(self, plan: RollbackPlan) -> Iterator[str]:
        """Do what comes after the exchange, and yield what could not be done, with the remedy."""
        if plan.method == "time travel":
            yield from self._commented(self._target, self._comment_after_time_travel(plan))
        if plan.method in ("undrop", "clean-up") and plan.aside is not None:
            # Only now has the previous version a name. The grants that it was replaced with are there from the start.
            try:
                self._carry_grants_over(giver=plan.aside, taker=self._target, seen="")
            except (StatementError, PublishRefusedError) as error:
                # Not marked as done: the next command carries them over.
                yield f"The grants of {plan.aside} are not carried over to it, got: {error}. {_FINISH}"
                return
        if plan.aside is not None and (marker := plan.taken_back):
            # What was taken away may be dropped long before the command is repeated.
            problems = list(self._commented(self._target, put_back_comment(plan.previous.comment, marker)))
            yield from problems
            if not problems:
                yield from self._commented(plan.aside, comment_of(self._table, replace(marker, state="withdrawn")))

    def _commented(self, relation: Relation, comment: str) -> Iterator[str]:
        """Comment a table, and look whether that took effect where Snowflake says that it failed."""
        try:
            self._send_surely(comment_sql(relation, comment))
        except StatementError as error:
            try:
                with self._runner.fresh() as fresh:
                    is_done = any(each.comment == comment for each in self._versions.all_standing(relation, fresh))
            except StatementError:
                is_done = False
            if not is_done:
                yield f"The comment of {relation} may not say so yet, got: {error}. {_FINISH}"

    def exchange(self, plan: RollbackPlan) -> None:
        """Send what readers notice; whatever is said of a statement but success, look whether it happened before all else.

        Raises:
            StatementError: It has not happened, or Snowflake does not say.
        """
        for statement in plan.statements:
            try:
                self._runner.send_once(statement, tag=self._tag)
            except StatementError as error:
                self._runner.reconnect(error)
                if self.has_happened(plan, statement):
                    continue
                if plan.aside is not None and statement == undrop_sql(self._target):
                    # The present table goes back to its place; if that fails too, the command takes it up.
                    with self._runner.fresh() as fresh:
                        fresh.send(f"ALTER TABLE {plan.aside.sql} RENAME TO {self._target.sql}", tag=self._tag)
                raise

    def put_back(self, plan: RollbackPlan) -> bool:
        """Let readers see the present version of the plan again, whatever `exchange` has done of it, and return whether they do.

        Not for rows that a transaction may have written.

        Raises:
            StatementError: Snowflake does not say what they see.
        """
        for look in range(_LOOKS):
            if look:
                self._runner.wait(min(self._runner.patience.poll_seconds, 1))
            with self._runner.fresh() as fresh:
                standing = self._versions.standing(self._target, fresh)
                if standing is not None and order_of(standing) == order_of(plan.present):
                    self._unmark(plan, standing, fresh)
                    return True
                if standing is not None and order_of(standing) != order_of(plan.previous):
                    # Another run's.
                    return False
                with contextlib.suppress(StatementError):
                    fresh.send_once(plan.back_sql(exists=standing is not None), tag=self._tag)
        return False

    def words_now(self) -> str:
        """Return what readers see, asked in a session of its own.

        Raises:
            StatementError: Snowflake does not say.
        """
        with self._runner.fresh() as fresh:
            return _seen(self._versions.standing(self._target, fresh), self._target)

    def has_happened(self, plan: RollbackPlan, statement: str) -> bool:
        """Ask in a session of its own whether a statement took effect.

        Raises:
            StatementError: Snowflake cannot be asked.
        """
        with self._runner.fresh() as fresh:
            if plan.method == "time travel":
                before = at_sql(self._target, plan.read_at)
                question = same_rows_sql(self._target.sql, before, plan.columns)
                return not int(fresh.send(question, tag=self._tag).rows[0][0])
            standing = self._versions.standing(self._target, fresh)
        if statement == undrop_sql(self._target) or plan.method == "swap":
            return standing is not None and standing.marker == plan.previous.marker
        return standing is None

    def _told(self, plan: RollbackPlan, error: StatementError) -> StatementError:
        """Return the error with what readers see now, asked in a session of its own."""
        try:
            seen = self._seen_now(plan)
        except StatementError:
            seen = f"What readers see is unknown, since Snowflake could not be asked: look at the comment of {self._target}"
        return StatementError(
            f"{error}. {seen}. Repeat the command: it goes to the version before the one that readers saw when this one began.",
            errno=error.errno,
            query_id=error.query_id,
            answered=error.answered,
        )

    def _seen_now(self, plan: RollbackPlan) -> str:
        with self._runner.fresh() as fresh:
            standing = self._versions.standing(self._target, fresh)
            if standing is None:
                return f"There is no {self._target}"
            if plan.present is None or order_of(standing) != order_of(plan.present):
                return f"Readers see {standing.words}"
            self._unmark(plan, standing, fresh)
            return f"Nothing has changed: readers see {standing.words}"

    def _unmark(self, plan: RollbackPlan, standing: TableVersion, fresh: StatementRunner) -> None:
        """Say no more that it is being taken back. Where this fails, the next publish comments it anew."""
        if plan.present is not None and standing.comment != plan.present.comment:
            with contextlib.suppress(StatementError):
                fresh.send(comment_sql(self._target, plan.present.comment), tag=self._tag)

    def _send_surely(self, sql: str) -> None:
        """Send a statement that is safe to repeat, at last in a session of its own.

        Raises:
            StatementError: It failed there too.
        """
        try:
            self._send(sql)
        except StatementError:
            with self._runner.fresh() as fresh:
                fresh.send(sql, tag=self._tag)

    def _carry_grants_over(self, *, giver: Relation, taker: Relation, seen: str) -> None:
        """Give a version the grants of another one.

        Raises:
            StatementError: A statement failed, and took no effect.
            PublishRefusedError: They differ all the same.
        """
        difference = carry_grants_over(
            lambda sql, runner: runner.send(sql, tag=self._tag), self._runner, giver=giver, taker=taker
        )
        if difference:
            raise PublishRefusedError(
                Refusal(
                    f"rolling back {self._table.name} requires the grants of {giver} on {taker}",
                    f"a difference: {difference}",
                    "Compare SHOW GRANTS ON TABLE of the two, then repeat the command.",
                    seen=seen,
                )
            )

    def _comment_after_time_travel(self, plan: RollbackPlan) -> str:
        marker = plan.present.marker if plan.present else None
        return comment_of(self._table, rolled_back_marker(marker))

    def _send(self, sql: str) -> Answer:
        return self._runner.send(sql, tag=self._tag)


def _seen(standing: TableVersion | None, target: Relation) -> str:
    return f"readers see {standing.words}" if standing is not None else f"there is no {target}"
