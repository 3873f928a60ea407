"""Put back the version of a table that readers saw before the present one.

Snowflake keeps what was replaced or dropped for DATA_RETENTION_TIME_IN_DAYS, a day by default:
https://docs.snowflake.com/en/user-guide/data-time-travel
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from run_elt_dagster.guards import Existing, refusal
from run_elt_dagster.inspection import Marker, instant, marker_in
from run_elt_dagster.publish import (
    PublishRefusedError,
    candidate_of,
    comment_of,
    comment_sql,
    grant_changes_sql,
    grants_of,
    is_candidate_of,
    show_grants_sql,
    target_of,
)
from run_elt_dagster.relation import Relation, exact_sql, string_sql
from run_elt_dagster.sending import Sender
from run_elt_dagster.session import Answer, StatementError
from run_elt_dagster.stocktaking import look_around
from run_elt_dagster.table import AnalyticsTable

Method = Literal["swap", "undrop", "time travel"]
ROLLED_BACK = "rollback-of-"
_TAG = {"stage": "rollback"}


@dataclass(frozen=True)
class Version:
    """One version of a table: its rows, if they are counted, and its comment."""

    row_count: int | None
    comment: str

    @property
    def marker(self) -> Marker | None:
        """Whose rows it has."""
        return marker_in(self.comment)

    def __str__(self) -> str:
        """Return it in words."""
        rows = "an unknown number of rows" if self.row_count is None else f"{self.row_count:,} rows"
        built = self.marker.published if self.marker else ""
        return f"{rows}, {built}" if built else rows


@dataclass(frozen=True)
class RollbackPlan:
    """How the previous version comes back.

    Attributes:
        table: The table.
        target: What readers see.
        method: `swap` is one atomic statement, `undrop` two with a gap between them, `time travel` one that rewrites rows.
        present: What readers see now, None if the table is gone.
        previous: What they will see again.
        aside: Where the present version stays for inspection, None where it does not.
        restore: Whether `aside` has to be restored first, since it was dropped.
        read_at: For time travel: the moment whose rows are read, ISO 8601 in UTC.
        columns: The present columns in order, for time travel.
    """

    table: AnalyticsTable
    target: Relation
    method: Method
    present: Version | None
    previous: Version
    aside: Relation | None = None
    restore: bool = False
    read_at: str = ""
    columns: tuple[str, ...] = ()

    @property
    def statements(self) -> tuple[str, ...]:
        """What changes what readers see, in order."""
        target = self.target.sql
        if self.method == "swap" and self.aside is not None:
            return (f"ALTER TABLE {target} SWAP WITH {self.aside.sql}",)
        if self.method == "time travel":
            names = ", ".join(exact_sql(column) for column in self.columns)
            return (f"INSERT OVERWRITE INTO {target} ({names}) SELECT {names} FROM {_at(self.target, self.read_at)}",)
        rename = () if self.aside is None else (f"ALTER TABLE {target} RENAME TO {self.aside.sql}",)
        return (*rename, undrop_sql(self.target))

    @property
    def consequence(self) -> str:
        """What readers notice of it."""
        if self.method == "undrop":
            return "Between two metadata statements there is no table: a query that starts just then fails."
        return "Readers see the one version or the other at every moment."


def versions_sql(relation: Relation) -> str:
    """Return the statement that lists the versions of a table, dropped ones included, and some others.

    LIKE takes `_` and `%` as wildcards and ignores case, so that the names are compared again.
    https://docs.snowflake.com/en/sql-reference/sql/show-tables
    """
    schema = f"{exact_sql(relation.database)}.{exact_sql(relation.schema)}"
    return f"SHOW TABLES HISTORY LIKE {string_sql(relation.name)} IN SCHEMA {schema}"


def undrop_sql(relation: Relation) -> str:
    """Return the statement that restores the latest dropped version: https://docs.snowflake.com/en/sql-reference/sql/undrop-table."""
    return f"UNDROP TABLE {relation.sql}"


def columns_sql(relation: Relation) -> str:
    """Return the query for the columns of a table in order."""
    return (
        f"SELECT COLUMN_NAME FROM {exact_sql(relation.database)}.INFORMATION_SCHEMA.COLUMNS "
        f"WHERE TABLE_SCHEMA = {string_sql(relation.schema)} AND TABLE_NAME = {string_sql(relation.name)} "
        "ORDER BY ORDINAL_POSITION"
    )


def count_sql(relation: Relation, read_at: str) -> str:
    """Return the query for the number of rows that a table had at a moment."""
    return f"SELECT COUNT(*) FROM {_at(relation, read_at)}"


def _at(relation: Relation, moment: str) -> str:
    return f"{relation.sql} AT(TIMESTAMP => {string_sql(moment)}::TIMESTAMP_TZ)"


class Rollback:
    """Puts the previous version of one table back.

    Args:
        send: Sends its statements.
        table: The table.
        database: The stored name of its database.
    """

    def __init__(self, send: Sender, table: AnalyticsTable, *, database: str) -> None:
        self._sender = send
        self._table = table
        self._target = target_of(table, database=database)

    def plan(self) -> RollbackPlan:
        """Look which version there is to go back to, and whether anything forbids it; nothing is changed.

        Raises:
            PublishRefusedError: There is none, or something forbids it.
            StatementError: Snowflake would not tell.
        """
        # By clone, since another object comes under the name; what hangs on the present one would be lost just so.
        replacing = self._table.model_copy(update={"publish": "clone"})
        stock = look_around(self._sender, [replacing], database=self._target.database, options=self._sender.options)
        existing = stock.at(self._target)
        self._require_no_pending_build(
            [found for (schema, name), found in stock.tables.items() if self._is_candidate(schema, name)]
        )
        plan = self._plan(existing)
        if not plan.previous.row_count:
            raise self._refused(f"got a previous version of {plan.previous.row_count or 'no known'} rows")
        if plan.method != "time travel" and (reason := refusal(replacing, self._target, existing, role=stock.role)):
            raise PublishRefusedError(reason)
        return plan

    def carry_out(self, plan: RollbackPlan) -> tuple[str, ...]:
        """Put the previous version back; what a stopped attempt left half done is taken up by another.

        Returns:
            What should be looked at, in words.

        Raises:
            PublishRefusedError: Its grants could not be made those of the present version; nothing has changed.
            StatementError: A statement failed. The error says what readers see.
        """
        try:
            return self._carry_out(plan)
        except StatementError as error:
            raise self._told(error) from error

    def _carry_out(self, plan: RollbackPlan) -> tuple[str, ...]:
        if plan.method == "swap" and plan.aside is not None:
            if plan.restore:
                self._send(undrop_sql(plan.aside))
            self._carry_grants_over(giver=self._target, taker=plan.aside)
        self._exchange(plan)
        if plan.method == "time travel":
            self._send(comment_sql(self._target, self._comment_after_time_travel(plan)))
        if plan.method == "undrop" and plan.aside is not None:
            # Only now has the previous version a name. The grants that it was replaced with are there from the start.
            self._carry_grants_over(giver=plan.aside, taker=self._target)
        return self._mark_aside(plan)

    def _plan(self, existing: Existing | None) -> RollbackPlan:
        dropped = self._dropped(self._target)
        if existing is None:
            if not dropped:
                raise self._refused("got neither a table nor a dropped one")
            return RollbackPlan(self._table, self._target, "undrop", None, dropped[0])
        present = Version(existing.row_count, existing.comment)
        marker = existing.marker
        if marker is None:
            raise self._refused(
                "got a table without the mark of a run in its comment, so that nobody knows what it replaced"
            )
        if marker.run_id.startswith(ROLLED_BACK):
            raise self._refused("got one that was rolled back already, and one version is as far as this goes")
        if _is_before(existing.created_at, marker):
            # The object is older than its rows: they were written over others.
            return self._time_travel(present, marker)
        aside = candidate_of(self._table, database=self._target.database, run_id=marker.run_id)
        plan = self._swap(present, marker, aside)
        if plan is not None:
            return plan
        if not dropped:
            raise self._refused("got none that Snowflake still keeps; see DATA_RETENTION_TIME_IN_DAYS")
        return RollbackPlan(self._table, self._target, "undrop", present, dropped[0], aside)

    def _swap(self, present: Version, marker: Marker, aside: Relation) -> RollbackPlan | None:
        """Return the plan for a table that a swap published: the candidate then has the rows of the version before."""
        rows = self._versions(aside)
        for row in sorted(rows, key=_age):
            version = _version(row)
            if version.marker is not None and version.marker.run_id == marker.run_id:
                # A clone's candidate, which has the present rows.
                continue
            dropped = row.get("dropped_on") is not None
            return RollbackPlan(self._table, self._target, "swap", present, version, aside, restore=dropped)
        return None

    def _time_travel(self, present: Version, marker: Marker) -> RollbackPlan:
        answer = self._send(count_sql(self._target, marker.at))
        columns = tuple(str(name) for (name,) in self._send(columns_sql(self._target)).rows)
        previous = Version(int(answer.rows[0][0]), "")
        return RollbackPlan(
            self._table, self._target, "time travel", present, previous, read_at=marker.at, columns=columns
        )

    def _exchange(self, plan: RollbackPlan) -> None:
        """Send what readers notice; a statement without an answer is looked after before anything else."""
        statements = plan.statements
        for statement in statements:
            try:
                self._sender.once(statement, tag=self._tag)
            except StatementError as error:
                self._sender.recover(error)
                if not error.answered and self._has_happened(plan, statement):
                    continue
                if plan.aside is not None and statement == undrop_sql(self._target):
                    # The present table goes back to its place; if that fails too, the command takes it up.
                    self._send(f"ALTER TABLE {plan.aside.sql} RENAME TO {self._target.sql}")
                raise

    def _has_happened(self, plan: RollbackPlan, statement: str) -> bool:
        if plan.method == "time travel":
            # The same rows each time.
            self._send(statement)
            return True
        standing = self._standing()
        if statement.startswith("UNDROP") or plan.method == "swap":
            return standing is not None and standing.marker == plan.previous.marker
        return standing is None

    def _told(self, error: StatementError) -> StatementError:
        """Return the error with what readers see now."""
        try:
            standing = self._standing()
            seen = f"Readers see {standing}" if standing else f"There is no {self._target}"
        except StatementError:
            seen = "What readers see is unknown"
        return StatementError(
            f"{error}. {seen}. Repeat the command.", errno=error.errno, query_id=error.query_id, answered=error.answered
        )

    def _carry_grants_over(self, *, giver: Relation, taker: Relation) -> None:
        wanted = grants_of(self._send(show_grants_sql(giver)).rows, giver)
        present = grants_of(self._send(show_grants_sql(taker)).rows, taker)
        for statement in grant_changes_sql(taker, present=present, wanted=wanted):
            self._send(statement)

    def _mark_aside(self, plan: RollbackPlan) -> tuple[str, ...]:
        """Mark what was rolled back as failed, so that no run waits for it, and it is swept by age."""
        if plan.aside is None or plan.present is None or plan.present.marker is None:
            return ()
        marker = Marker("failed", plan.present.marker.run_id, plan.present.marker.at)
        try:
            self._send(comment_sql(plan.aside, comment_of(self._table, marker)))
        except StatementError as error:
            return (f"{plan.aside} has the rows that were rolled back, and could not be marked so: {error}",)
        return ()

    def _comment_after_time_travel(self, plan: RollbackPlan) -> str:
        marker = plan.present.marker if plan.present else None
        run, at = (marker.run_id[:8], marker.at) if marker else ("", "")
        return comment_of(self._table, Marker("run", f"{ROLLED_BACK}{run}", at))

    def _require_no_pending_build(self, candidates: Sequence[Existing]) -> None:
        for found in candidates:
            marker = found.marker
            if marker is not None and marker.state != "failed" and self._sender.options.is_live(marker.run_id):
                raise self._refused(f"got run {marker.run_id}, which is about to publish it. Cancel or await it")

    def _is_candidate(self, schema: str, name: str) -> bool:
        return schema == self._target.schema and is_candidate_of(self._table, name)

    def _standing(self) -> Version | None:
        return next((_version(row) for row in self._versions(self._target) if row.get("dropped_on") is None), None)

    def _dropped(self, relation: Relation) -> list[Version]:
        """Return the dropped versions of a table, the latest first: the one that UNDROP restores."""
        rows = [row for row in self._versions(relation) if row.get("dropped_on") is not None]
        return [_version(row) for row in sorted(rows, key=_age)]

    def _versions(self, relation: Relation) -> list[Mapping[str, Any]]:
        answer = self._send(versions_sql(relation))
        return [row for row in _named(answer) if row["name"] == relation.name]

    def _refused(self, got: str) -> PublishRefusedError:
        return PublishRefusedError(
            f"rolling back {self._table.name} requires a previous version of {self._target}, {got}. Nothing was changed. "
            "Materialize the table again, or restore it by hand with Time Travel.",
        )

    @property
    def _tag(self) -> Mapping[str, str]:
        return {"asset": "/".join(self._table.key), **_TAG}

    def _send(self, sql: str) -> Answer:
        return self._sender(sql, tag=self._tag)


def _named(answer: Answer) -> list[Mapping[str, Any]]:
    names = [name.lower() for name in answer.columns]
    return [dict(zip(names, row, strict=True)) for row in answer.rows]


def _version(row: Mapping[str, Any]) -> Version:
    rows = row.get("rows")
    return Version(None if rows is None else int(rows), str(row.get("comment") or ""))


def _age(row: Mapping[str, Any]) -> float:
    """Sort what stands first, then what was dropped last."""
    dropped: datetime | None = row.get("dropped_on")
    return float("-inf") if dropped is None else -dropped.timestamp()


def _is_before(created_at: datetime | None, marker: Marker) -> bool:
    return created_at is not None and bool(marker.at) and instant(created_at) < marker.at
