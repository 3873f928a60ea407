"""Put back the version of a table that readers saw before the present one.

Snowflake keeps what was replaced or dropped for DATA_RETENTION_TIME_IN_DAYS, a day by default:
https://docs.snowflake.com/en/user-guide/data-time-travel
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from run_elt_dagster.model.candidate import (
    Marker,
    candidate_of,
    comment_of,
    instant,
    is_candidate_of,
    rolled_back_marker,
    target_of,
)
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.grants import carry_grants_over
from run_elt_dagster.publish.guards import InventoryTable, PublishRefusedError, Refusal, TargetInventory
from run_elt_dagster.publish.methods import refusal
from run_elt_dagster.publish.preflight import read_targets
from run_elt_dagster.publish.statements import comment_sql, same_rows_sql
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import Answer, StatementError

Method = Literal["swap", "undrop", "time travel", "clean-up", "done"]
_TAG = {"stage": "rollback"}
_FINISH = "Repeat the command to finish it; what readers see does not change."


@dataclass(frozen=True)
class RollbackPlan:
    """How the previous version comes back.

    Attributes:
        table: The table.
        target: What readers see.
        method: `swap` is one atomic statement, `undrop` two with a gap between them, `time travel` one that rewrites rows;
            `clean-up` if an earlier command has put the version back and was then stopped; `done` if it was not.
        present: What readers see now, None if the table is gone.
        previous: What they will see again.
        aside: Where the present version stays for inspection, None where it does not.
        restore: Whether `aside` has to be restored first, since it was dropped.
        moved: Whose rows an earlier command has moved to `aside` already; None if it has not.
        read_at: For time travel: the moment of the rows that are read, ISO 8601 in UTC.
        columns: The present columns in order, for time travel.
    """

    table: AnalyticsTable
    target: Relation
    method: Method
    present: TableVersion | None
    previous: TableVersion
    aside: Relation | None = None
    restore: bool = False
    moved: Marker | None = None
    read_at: str = ""
    columns: tuple[str, ...] = ()

    @property
    def statements(self) -> tuple[str, ...]:
        """What changes what readers see, in order."""
        target = self.target.sql
        if self.method in ("clean-up", "done"):
            return ()
        if self.method == "swap" and self.aside is not None:
            return (f"ALTER TABLE {target} SWAP WITH {self.aside.sql}",)
        if self.method == "time travel":
            names = ", ".join(quote_identifier(column) for column in self.columns)
            return (f"INSERT OVERWRITE INTO {target} ({names}) SELECT {names} FROM {_at(self.target, self.read_at)}",)
        rename = () if self.aside is None or self.moved else (f"ALTER TABLE {target} RENAME TO {self.aside.sql}",)
        return (*rename, undrop_sql(self.target))

    @property
    def taken_back(self) -> Marker | None:
        """The run of the rows that readers saw when the first command began; None if unknown."""
        return self.moved or (self.present.marker if self.present else None)

    @property
    def consequence(self) -> str:
        """What readers notice of it."""
        if self.method == "done":
            return "An earlier command has put this version back, and nothing is left to do. --further goes back one version more."
        if self.method == "clean-up":
            return "An earlier command has put this version back. Only its clean-up is left: readers notice nothing."
        if self.method == "undrop":
            return "Between two metadata statements there is no table: a query that starts just then fails."
        return "Readers see the one version or the other at every moment."


def versions_sql(relation: Relation) -> str:
    """Return the statement that lists the versions of a table, dropped ones included, and some others.

    LIKE takes `_` and `%` as wildcards and ignores case, so the names are compared again.
    https://docs.snowflake.com/en/sql-reference/sql/show-tables
    """
    schema = f"{quote_identifier(relation.database)}.{quote_identifier(relation.schema)}"
    return f"SHOW TABLES HISTORY LIKE {quote_literal(relation.name)} IN SCHEMA {schema}"


def undrop_sql(relation: Relation) -> str:
    """Return the statement that restores the latest dropped version: https://docs.snowflake.com/en/sql-reference/sql/undrop-table."""
    return f"UNDROP TABLE {relation.sql}"


def columns_sql(relation: Relation) -> str:
    """Return the query for the columns of a table in order."""
    return (
        f"SELECT COLUMN_NAME FROM {quote_identifier(relation.database)}.INFORMATION_SCHEMA.COLUMNS "
        f"WHERE TABLE_SCHEMA = {quote_literal(relation.schema)} AND TABLE_NAME = {quote_literal(relation.name)} "
        "ORDER BY ORDINAL_POSITION"
    )


def count_sql(relation: Relation, read_at: str) -> str:
    """Return the query for the number of rows that a table had at a moment."""
    return f"SELECT COUNT(*) FROM {_at(relation, read_at)}"


def _at(relation: Relation, moment: str) -> str:
    return f"{relation.sql} AT(TIMESTAMP => {quote_literal(moment)}::TIMESTAMP_TZ)"


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
        self._check_policies = check_policies
        self._table = table
        self._target = target_of(table, database=database)

    def plan(self, *, further: bool = False) -> RollbackPlan:
        """Look which version there is to go back to, and whether anything forbids it; nothing is changed.

        A person may repeat the command because its answer was lost. So a version that an earlier command has put back stays,
        unless the person asks for the one before it.

        Args:
            further: Go back one version more than an earlier command has, if no run has published since.

        Raises:
            PublishRefusedError: There is none, or something forbids it.
            StatementError: Snowflake did not answer.
        """
        inventory, candidates = self._look()
        existing = inventory.at(self._target)
        begun = self._moved_aside(candidates, existing)
        if existing is not None and begun is not None:
            return RollbackPlan(self._table, self._target, "clean-up", existing, existing, begun[0], moved=begun[1])
        if existing is not None and not further and self._is_rolled_back(candidates, existing):
            return RollbackPlan(self._table, self._target, "done", existing, existing)
        plan = self._plan(existing, begun)
        if not plan.previous.rows:
            raise self._refused(f"a previous version of {plan.previous.rows or 'no known'} rows")
        if plan.method != "time travel":
            self._refuse_what_would_be_lost(existing, role=inventory.role)
        return plan

    @property
    def _replacing(self) -> AnalyticsTable:
        """The table by clone: another object comes under the name, and what hangs on the present one would be lost just so."""
        return self._table.model_copy(update={"publish": "clone"})

    def _look(self) -> tuple[TargetInventory, Mapping[str, InventoryTable]]:
        """Return what stands in the schema, and the candidates of the table by name.

        Raises:
            PublishRefusedError: A run is about to publish one.
        """
        inventory = read_targets(
            self._runner, [self._replacing], database=self._target.database, check_policies=self._check_policies
        )
        candidates = {
            name: found for (schema, name), found in inventory.tables.items() if self._is_candidate(schema, name)
        }
        self._require_no_pending_build(list(candidates.values()))
        return inventory, candidates

    def _refuse_what_would_be_lost(self, existing: InventoryTable | None, *, role: str) -> None:
        # The previous table is what they are to see again: here, they see the present one.
        act, seen = f"rolling back {self._table.name}", "Nothing was changed."
        if refused := refusal(self._replacing, self._target, existing, role=role, act=act, seen=seen):
            raise PublishRefusedError(refused)

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
            self._require_nobody_published(plan)
            self._prepare(plan)
            self._exchange(plan)
            self._require_not_overtaken(plan)
        except StatementError as error:
            raise self._told(plan, error) from error
        return tuple(
            f"the rollback is done: {self._target} is back at {plan.previous.words}. {problem}"
            for problem in self._clean_up(plan)
        )

    def _require_nobody_published(self, plan: RollbackPlan) -> None:
        """Look again: a person may have read the plan for an hour.

        Raises:
            PublishRefusedError: Readers see another version than the plan says, or a run is about to publish one.
        """
        inventory, _ = self._look()
        standing = inventory.at(self._target)
        if (standing is None) != (plan.present is None) or _order(standing) != _order(plan.present):
            raise PublishRefusedError(
                Refusal(
                    f"rolling back {self._table.name} requires that readers see what the plan says",
                    "another version since",
                    "Repeat the command if that one must go, too.",
                    seen=f"Nothing was changed: {_seen(standing, self._target)}.",
                )
            )

    def _require_not_overtaken(self, plan: RollbackPlan) -> None:
        """Ask whether readers see the previous version: no statement can require that nobody publishes just before it.

        Raises:
            PublishRefusedError: They see another one, since a run has published meanwhile.
            StatementError: Snowflake would not tell.
        """
        if plan.method not in ("swap", "undrop"):
            return
        with self._runner.fresh() as fresh:
            standing = self._standing(fresh)
        if _order(standing) != _order(plan.previous):
            aside = f" What was moved away stands in {plan.aside}." if plan.aside is not None else ""
            raise PublishRefusedError(
                Refusal(
                    f"rolling back {self._table.name} requires that no run publishes it meanwhile",
                    "one that has",
                    "Wait for the run, then materialize the table or repeat the command.",
                    seen=f"Now {_seen(standing, self._target)}.{aside}",
                )
            )

    def _prepare(self, plan: RollbackPlan) -> None:
        if plan.method == "swap" and plan.aside is not None:
            if plan.restore:
                self._send(undrop_sql(plan.aside))
            seen = "Readers see what they saw before."
            self._carry_grants_over(giver=self._target, taker=plan.aside, seen=seen)
        if plan.method != "clean-up" and plan.present is not None and (marker := plan.taken_back):
            self._send(comment_sql(self._target, comment_of(self._table, replace(marker, state="rollback"))))

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
            rejected = comment_of(self._table, replace(marker, state="withdrawn"))
            yield from self._commented(plan.aside, rejected)

    def _commented(self, relation: Relation, comment: str) -> Iterator[str]:
        """Comment a table, and look whether that took effect where Snowflake says that it failed."""
        try:
            self._send_surely(comment_sql(relation, comment))
        except StatementError as error:
            try:
                with self._runner.fresh() as fresh:
                    is_done = any(each.comment == comment for each in self._standing_at(relation, fresh))
            except StatementError:
                is_done = False
            if not is_done:
                yield f"The comment of {relation} may not say so yet, got: {error}. {_FINISH}"

    def _plan(self, existing: InventoryTable | None, begun: tuple[Relation, Marker] | None) -> RollbackPlan:
        dropped = self._dropped(self._target)
        if existing is None:
            if not dropped:
                raise self._refused("neither a table nor a dropped one")
            aside, moved = begun or (None, None)
            return RollbackPlan(self._table, self._target, "undrop", None, dropped[0], aside, moved=moved)
        marker = existing.marker
        if marker is None:
            raise self._refused("a table without the mark of a run in its comment: what it replaced is unknown")
        if marker.is_rolled_back:
            raise self._refused("one that was rolled back already, and one version is as far as this goes")
        if _is_before(existing.created_at, marker):
            # The object is older than its rows: they were written over others.
            return self._time_travel(existing, marker)
        aside = candidate_of(self._table, database=self._target.database, run_id=marker.run_id)
        plan = self._swap(existing, marker, aside)
        if plan is not None:
            return plan
        if not dropped:
            raise self._refused("none that Snowflake still keeps; see DATA_RETENTION_TIME_IN_DAYS")
        return RollbackPlan(self._table, self._target, "undrop", existing, dropped[0], aside)

    def _swap(self, present: TableVersion, marker: Marker, aside: Relation) -> RollbackPlan | None:
        """Return the plan for a table that a swap published: the candidate then has the rows of the version before."""
        for version in sorted(self._versions(aside), key=_age):
            if version.marker is not None and version.marker.run_id == marker.run_id:
                # A clone's candidate. It has the present rows.
                continue
            is_dropped = version.dropped_at is not None
            return RollbackPlan(self._table, self._target, "swap", present, version, aside, restore=is_dropped)
        return None

    def _time_travel(self, present: TableVersion, marker: Marker) -> RollbackPlan:
        answer = self._send(count_sql(self._target, marker.at))
        columns = tuple(str(name) for (name,) in self._send(columns_sql(self._target)).rows)
        previous = TableVersion(rows=int(answer.rows[0][0]))
        return RollbackPlan(
            self._table, self._target, "time travel", present, previous, read_at=marker.at, columns=columns
        )

    def _exchange(self, plan: RollbackPlan) -> None:
        """Send what readers notice; whatever is said of a statement but success, look whether it happened before all else."""
        for statement in plan.statements:
            try:
                self._runner.send_once(statement, tag=self._tag)
            except StatementError as error:
                self._runner.reconnect(error)
                if self._has_happened(plan, statement):
                    continue
                if plan.aside is not None and statement == undrop_sql(self._target):
                    # The present table goes back to its place; if that fails too, the command takes it up.
                    with self._runner.fresh() as fresh:
                        fresh.send(f"ALTER TABLE {plan.aside.sql} RENAME TO {self._target.sql}", tag=self._tag)
                raise

    def _has_happened(self, plan: RollbackPlan, statement: str) -> bool:
        """Ask in a session of its own whether a statement took effect.

        Raises:
            StatementError: Snowflake cannot be asked.
        """
        with self._runner.fresh() as fresh:
            if plan.method == "time travel":
                before = _at(self._target, plan.read_at)
                question = same_rows_sql(self._target.sql, before, plan.columns)
                return not int(fresh.send(question, tag=self._tag).rows[0][0])
            standing = self._standing(fresh)
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
            standing = self._standing(fresh)
            if standing is None:
                return f"There is no {self._target}"
            if plan.present is None or _order(standing) != _order(plan.present):
                return f"Readers see {standing.words}"
            if standing.comment != plan.present.comment:
                # It is not being taken back any more. Where this fails, the next publish comments it anew.
                with contextlib.suppress(StatementError):
                    fresh.send(comment_sql(self._target, plan.present.comment), tag=self._tag)
            return f"Nothing has changed: readers see {standing.words}"

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

    def _require_no_pending_build(self, candidates: Sequence[InventoryTable]) -> None:
        for found in candidates:
            marker = found.marker
            pending = marker is not None and marker.state in ("run", "publishing")
            if marker is not None and pending and self._runner.run.is_live(marker.run_id):
                raise self._refused(f"run {marker.run_id} about to publish it. Cancel it or wait for it")

    def _is_candidate(self, schema: str, name: str) -> bool:
        return schema == self._target.schema and is_candidate_of(self._table, name)

    def _moved_aside(
        self, candidates: Mapping[str, InventoryTable], existing: InventoryTable | None
    ) -> tuple[Relation, Marker] | None:
        """Return the version that an earlier command has taken away from readers without ending its clean-up."""
        present = existing.marker if existing is not None else None
        for name, found in candidates.items():
            marker = found.marker
            if marker is not None and marker.state == "rollback" and (present is None or present.order < marker.order):
                return Relation(self._target.database, self._target.schema, name), marker
        return None

    def _is_rolled_back(self, candidates: Mapping[str, InventoryTable], existing: InventoryTable) -> bool:
        """Return whether a command has put this version back, and no run has published since."""
        present = existing.marker
        if present is None:
            return False
        taken_back = [
            found.marker for found in candidates.values() if found.marker and found.marker.state == "withdrawn"
        ]
        return present.is_rolled_back or any(present.order < marker.order for marker in taken_back)

    def _standing(self, runner: StatementRunner) -> TableVersion | None:
        return next(iter(self._standing_at(self._target, runner)), None)

    def _standing_at(self, relation: Relation, runner: StatementRunner) -> list[TableVersion]:
        return [version for version in self._versions(relation, runner) if version.dropped_at is None]

    def _dropped(self, relation: Relation) -> list[TableVersion]:
        """Return the dropped versions of a table, the latest first: the one that UNDROP restores."""
        return sorted((each for each in self._versions(relation) if each.dropped_at is not None), key=_age)

    def _versions(self, relation: Relation, runner: StatementRunner | None = None) -> list[TableVersion]:
        answer = (runner or self._runner).send(versions_sql(relation), tag=self._tag)
        return [_version(row) for row in _named(answer) if row["name"] == relation.name]

    def _refused(self, got: str) -> PublishRefusedError:
        return PublishRefusedError(
            Refusal(
                f"rolling back {self._table.name} requires a previous version of {self._target}",
                got,
                "Materialize the table again, or restore it by hand with Time Travel.",
                seen="Nothing was changed.",
            )
        )

    @property
    def _tag(self) -> Mapping[str, str]:
        return {"asset": "/".join(self._table.key), **_TAG}

    def _send(self, sql: str) -> Answer:
        return self._runner.send(sql, tag=self._tag)


def _seen(standing: TableVersion | None, target: Relation) -> str:
    return f"readers see {standing.words}" if standing is not None else f"there is no {target}"


def _order(version: TableVersion | None) -> tuple[str, str] | None:
    return version.marker.order if version is not None and version.marker is not None else None


def _named(answer: Answer) -> list[Mapping[str, Any]]:
    names = [name.lower() for name in answer.columns]
    return [dict(zip(names, row, strict=True)) for row in answer.rows]


def _version(row: Mapping[str, Any]) -> TableVersion:
    rows = row.get("rows")
    return TableVersion(
        str(row["name"]),
        None if rows is None else int(rows),
        str(row.get("comment") or ""),
        created_at=row.get("created_on"),
        dropped_at=row.get("dropped_on"),
        owner=str(row.get("owner") or ""),
    )


def _age(version: TableVersion) -> float:
    """Sort what stands first, then what was dropped last."""
    return float("-inf") if version.dropped_at is None else -version.dropped_at.timestamp()


def _is_before(created_at: datetime | None, marker: Marker) -> bool:
    return created_at is not None and bool(marker.at) and instant(created_at) < marker.at
