"""Which version of a table readers saw before the present one, how it comes back, and whether anything forbids it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from run_elt_dagster.model.candidate import (
    Marker,
    candidate_of,
    is_candidate_of,
    put_back_from,
    target_of,
)
from run_elt_dagster.model.names import Relation, quote_identifier, short_id
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import InventoryTable, PublishRefusedError, Refusal, TargetInventory
from run_elt_dagster.publish.methods import refusal
from run_elt_dagster.publish.preflight import read_targets
from run_elt_dagster.publish.versions import (
    Versions,
    age,
    at_sql,
    columns_sql,
    count_sql,
    is_before,
    replaced_at,
    undrop_sql,
)
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import Answer

Method = Literal["swap", "undrop", "time travel", "clean-up", "done"]


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
        withdrawn: Whose rows an earlier command has taken away, where that is done.
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
    withdrawn: Marker | None = None

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
            return (
                f"INSERT OVERWRITE INTO {target} ({names}) SELECT {names} FROM {at_sql(self.target, self.read_at)}",
            )
        rename = () if self.aside is None or self.moved else (f"ALTER TABLE {target} RENAME TO {self.aside.sql}",)
        return (*rename, undrop_sql(self.target))

    def back_sql(self, *, exists: bool) -> str:
        """Return the statement that undoes these by `swap` or `undrop`: the present version stands aside then.

        Args:
            exists: Whether there is a table under the target's name.
        """
        aside = self.aside.sql if self.aside is not None else ""
        if not exists:
            return f"ALTER TABLE {aside} RENAME TO {self.target.sql}"
        return f"ALTER TABLE {self.target.sql} SWAP WITH {aside}"

    @property
    def taken_back(self) -> Marker | None:
        """The run of the rows that readers saw when the first command began; None if unknown."""
        return self.moved or self.withdrawn or (self.present.marker if self.present else None)

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


def rollback_tag(table: AnalyticsTable) -> Mapping[str, str]:
    """Return the tag of the statements that roll a table back."""
    return {"asset": "/".join(table.key), "stage": "rollback"}


class RollbackPlanner:
    """Finds out how the previous version of one table comes back; nothing is changed.

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
        self._tag = rollback_tag(table)
        self._versions = Versions(runner, self._tag)

    def plan(self, *, further: bool = False, begun: tuple[str, str] | None = None) -> RollbackPlan:
        """Look which version there is to go back to, and whether anything forbids it; nothing is changed.

        A person may repeat the command because its answer was lost. So a version that an earlier command has put back stays,
        unless the person asks for the one before it.

        Args:
            further: Go back one version more than an earlier command has, if no run has published since.
            begun: Whose rows a killed command was taking back: the start of the run's id, and when its build began. Where it has ended with
                this table, nothing is left to do, `further` or not.

        Raises:
            PublishRefusedError: There is none, or something forbids it.
            StatementError: Snowflake did not answer.
        """
        if self._table.is_in_parts:
            # Its comment names the run that has created it, and the rows of others are in it.
            raise self._refused(f"one whose {self._table.method}s are exchanged in place")
        if self._table.policies is not None:
            # The previous version may lack them, and rows that are read through them would be stored masked.
            raise self._refused("one whose file declares policies")
        inventory, candidates = self.look()
        existing = inventory.at(self._target)
        moved = self._moved_aside(candidates, existing)
        if existing is not None and moved is not None:
            return RollbackPlan(self._table, self._target, "clean-up", existing, existing, moved[0], moved=moved[1])
        if existing is not None and (taken := _withdrawn_of(candidates, begun)) is not None:
            return RollbackPlan(self._table, self._target, "done", existing, existing, withdrawn=taken)
        if existing is not None and not further and (taken := self._taken_back(existing)) is not None:
            return RollbackPlan(self._table, self._target, "done", existing, existing, withdrawn=taken)
        plan = self._plan(existing, moved)
        if not plan.previous.rows:
            raise self._refused(f"a previous version of {plan.previous.rows or 'no known'} rows")
        if plan.method == "time travel":
            self._refuse_masked_rows(existing)
        else:
            self._refuse_what_would_be_lost(existing, role=inventory.role)
        return plan

    @property
    def _replacing(self) -> AnalyticsTable:
        """The table by clone: another object comes under the name, and what hangs on the present one would be lost just so."""
        return self._table.model_copy(update={"publish": "clone"})

    def look(self) -> tuple[TargetInventory, Mapping[str, InventoryTable]]:
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

    def _refuse_masked_rows(self, existing: InventoryTable | None) -> None:
        """Refuse to write rows that are read through a policy: what it hides or masks would be lost for everybody."""
        if existing is None or not (existing.policies or existing.unknown):
            return
        found = f"{', '.join(existing.policies)} on it" if existing.policies else "; ".join(existing.unknown)
        remedy = "Take the policies off while you roll back, or materialize the table again."
        if not existing.policies:
            remedy = "Set RUN_ELT_CHECK_POLICIES=false where the account has no policies."
        raise PublishRefusedError(
            Refusal(
                f"rolling back {self._table.name} requires {self._target} without policies",
                found,
                remedy,
                consequence="Rows of before would be stored as the role sees them.",
                seen="Nothing was changed.",
            )
        )

    def _plan(self, existing: InventoryTable | None, begun: tuple[Relation, Marker] | None) -> RollbackPlan:
        dropped = self._versions.dropped(self._target)
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
        # A group that was put back leaves dropped versions that readers were not to see, and the present one a second time.
        if self._table.publish_group is not None:
            dropped = [each for each in dropped if each.marker is None or not _is_no_earlier(each.marker, marker)]
        if is_before(existing.created_at, marker):
            # The object is older than its rows: they were written over others.
            return self._time_travel(existing)
        aside = candidate_of(self._table, database=self._target.database, run_id=marker.run_id)
        plan = self._swap(existing, marker, aside)
        if plan is not None:
            return plan
        if not dropped:
            raise self._refused("none that Snowflake still keeps; see DATA_RETENTION_TIME_IN_DAYS")
        return RollbackPlan(self._table, self._target, "undrop", existing, dropped[0], aside)

    def _swap(self, present: TableVersion, marker: Marker, aside: Relation) -> RollbackPlan | None:
        """Return the plan for a table that a swap published: the candidate then has the rows of the version before."""
        for version in sorted(self._versions.of(aside), key=age):
            if version.marker is not None and version.marker.run_id == marker.run_id:
                # A clone's candidate. It has the present rows.
                continue
            is_dropped = version.dropped_at is not None
            return RollbackPlan(self._table, self._target, "swap", present, version, aside, restore=is_dropped)
        return None

    def _time_travel(self, present: TableVersion) -> RollbackPlan:
        read_at = replaced_at(present)
        answer = self._send(count_sql(self._target, read_at))
        columns = tuple(str(name) for (name,) in self._send(columns_sql(self._target)).rows)
        previous = TableVersion(rows=int(answer.rows[0][0]))
        return RollbackPlan(
            self._table, self._target, "time travel", present, previous, read_at=read_at, columns=columns
        )

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

    @staticmethod
    def _taken_back(existing: InventoryTable) -> Marker | None:
        """Return whose rows a command has taken away to put this version back; None where a run has published it, or since."""
        present = existing.marker
        if present is not None and present.is_rolled_back:
            return present
        return put_back_from(existing.comment)

    def _refused(self, got: str) -> PublishRefusedError:
        return PublishRefusedError(
            Refusal(
                f"rolling back {self._table.name} requires a previous version of {self._target}",
                got,
                "Materialize the table again, or restore it by hand with Time Travel.",
                seen="Nothing was changed.",
            )
        )

    def _send(self, sql: str) -> Answer:
        return self._runner.send(sql, tag=self._tag)


def _is_no_earlier(marker: Marker, present: Marker) -> bool:
    """Return whether a version is the present one, or of a later snapshot."""
    return marker == present or marker.at > present.at


def _withdrawn_of(candidates: Mapping[str, InventoryTable], begun: tuple[str, str] | None) -> Marker | None:
    """Return the marker of the rows that a command was taking back, where it has taken them; None where it has not."""
    markers = [found.marker for found in candidates.values() if found.marker is not None]
    withdrawn = [each for each in markers if each.state == "withdrawn" and (short_id(each.run_id), each.at) == begun]
    return next(iter(withdrawn), None)
