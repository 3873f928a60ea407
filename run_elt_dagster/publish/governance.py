"""The declared policies and tags of a table: on what readers are about to see before they can, and looked up afterwards.

An audit counts true rows: the policies come when it is over, and nobody but the role of the run can read the candidate until then. Where
others could, `publish.creating` has them from the beginning.
https://docs.snowflake.com/en/user-guide/security-column-intro and https://docs.snowflake.com/en/user-guide/security-row-intro
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.grants import show_grants_sql
from run_elt_dagster.publish.guards import (
    OBJECT_MISSING,
    InventoryTable,
    PublishRefusedError,
    Refusal,
    server_instant,
)
from run_elt_dagster.publish.methods import CandidateGoneError, replaces_object
from run_elt_dagster.publish.policies import (
    ROW_ACCESS,
    Attached,
    asks_for_exemption,
    attach_sql,
    declared_policies,
    exemption_sql,
    grants_in,
    probe_sql,
    references_in,
    references_sql,
    tag_values_sql,
    tags_sql,
)
from run_elt_dagster.publish.statements import drop_sql
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import RunStoppedError
from run_elt_dagster.snowflake.session import StatementError

COPIED = "Rows are copied from it, so it has none from the beginning."


class Governance:
    """Puts the declared policies and tags of one table where they belong. One of a table without any sends nothing.

    Where the table that readers see stays the same object, that gets the policies, and the candidate is left bare.

    Args:
        work: The table on its way.
    """

    def __init__(self, work: TableWork) -> None:
        self._work, self._stays = work, not replaces_object(work.table)
        applies = work.options.applies_policies
        self._declared = frozenset(declared_policies(work.table, database=work.target.database) if applies else ())
        self._has_tags = applies and bool(work.table.object_tags)

    @property
    def has_policies(self) -> bool:
        """Whether the file declares some, and they are applied."""
        return bool(self._declared)

    @property
    def hides_rows(self) -> bool:
        """Whether one of them may hide rows from the statements of the run."""
        return any(each.kind == ROW_ACCESS for each in self._declared)

    def undeclared(self) -> tuple[str, ...]:
        """Return the policies on the table that readers see and that the file does not declare, in words.

        Raises:
            StatementError: They could not be listed.
        """
        return tuple(sorted(map(str, self._on(self._work.target) - self._declared)))

    def without_declared(self, existing: InventoryTable | None) -> InventoryTable | None:
        """Return what stands under the target's name with the policies alone that the file does not declare.

        Raises:
            StatementError: They could not be listed.
        """
        if not self._declared or existing is None or existing.kind != "BASE TABLE":
            return existing
        return replace(existing, policies=self.undeclared())

    @property
    def declared(self) -> frozenset[Attached]:
        """The policies that the file declares, if they are applied."""
        return self._declared

    def other_readers(self) -> list[str]:
        """Look before the build who else could read a candidate at once, in words. Its policies come after its audit.

        Grants on future tables of the schema or the database would let them. An empty table has the same ones.

        Raises:
            StatementError: It could not be found out.
        """
        if not self._declared:
            return []
        work = self._work
        marker = Marker("failed", work.run.run_id, server_instant(work.inventory, elapsed_seconds=0))
        try:
            work.send(probe_sql(work.candidate, marker))
            return grants_in(work.send(show_grants_sql(work.candidate)).rows, role=work.inventory.role)
        finally:
            # What is left is replaced by the candidate, or dropped by a later run.
            with contextlib.suppress(StatementError, RunStoppedError):
                work.send(drop_sql(work.candidate))

    def require_no_other_readers(self, why_bare: str = COPIED) -> None:
        """Require that nobody else could read a candidate before its policies are on.

        Args:
            why_bare: Why it does not have them from the beginning, in a sentence.

        Raises:
            PublishRefusedError: Somebody could.
            StatementError: It could not be found out.
        """
        if grants := self.other_readers():
            raise self.others_can_read(grants, why_bare)

    def others_can_read(self, grants: Sequence[str], why_bare: str = COPIED) -> PublishRefusedError:
        """Return why a candidate is not built that others could read, and that must not have its policies from the beginning."""
        work = self._work
        work.stage = "publish"
        return PublishRefusedError(
            Refusal(
                f"{work.table.name} with policies requires a schema without grants on future tables",
                ", ".join(grants),
                f"Revoke the grants on future tables of the schema or the database, and grant on {work.target} itself: publishing keeps that.",
                consequence=f"Its candidate could be read before it has its policies. {why_bare}",
                seen=work.production.words,
                reason=Reason.POLICIES,
            )
        )

    def require_declared(self) -> None:
        """Require that the candidate has the declared policies and no others.

        Raises:
            PublishRefusedError: It has others.
            StatementError: They could not be listed.
        """
        work = self._work
        if (present := self._on(work.candidate)) != self._declared:
            raise self._refused(work.candidate, present, self._wanted, "Others could have read it without them.")

    def require_exempt_role(self, relation: Relation) -> None:
        """Require that the policies on a table let this role compare its rows. What is not built in parts asks for nothing.

        Args:
            relation: Has the policies, or will have those that are declared.

        Raises:
            PublishRefusedError: They do not.
            StatementError: It could not be found out.
        """
        work = self._work
        if not (self._declared and asks_for_exemption(work.table)):
            return
        try:
            work.send(exemption_sql(relation))
        except StatementError as error:
            if not error.answered or error.transient or error.errno == OBJECT_MISSING:
                raise
            restricting = [each for each in self._declared if each.restricts_queries]
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} requires a role that {_listed(restricting)} exempts",
                    f"{work.inventory.role or 'a role'} that may not read {relation}: {error} (query {error.query_id})",
                    "Let the policy return NO_AGGREGATION_CONSTRAINT(), or JOIN_CONSTRAINT(JOIN_REQUIRED => FALSE), for the role of the runs.",
                    consequence="New rows could not be compared with those that stay.",
                    seen=work.production.words,
                    reason=Reason.PARTITION_POLICIES,
                )
            ) from error

    def protect(self) -> None:
        """Give what readers are about to see its policies and tags, and look whether it has them. Safe to repeat.

        Raises:
            PublishRefusedError: It has other policies.
            CandidateGoneError: It is gone, or a policy is.
            StatementError: They could not be set, or listed.
        """
        try:
            self.protect_object(is_in_place=self._stays and self._work.existing is not None)
        except StatementError as error:
            if error.errno != OBJECT_MISSING:
                raise
            raise CandidateGoneError(error) from error

    def protect_object(self, *, is_in_place: bool) -> None:
        """Give the candidate its policies and tags, or the table that stays its policies before the candidate's rows come into it.

        Raises:
            PublishRefusedError: It has other policies, or what is copied has some.
            StatementError: They could not be set, or listed.
        """
        work = self._work
        relation = work.target if is_in_place else work.candidate
        if self._declared and is_in_place and (hiding := self._on(work.candidate)):
            # Their values would be stored for good as the role sees them.
            raise self._refused(
                work.candidate, hiding, "no policies on what is copied", "Masked values would be stored."
            )
        if self._declared:
            self._attach(relation)
        if self._has_tags and not is_in_place:
            # Before the last look: a tag may bring a policy along.
            self._tag(relation)
        if self._declared:
            present = self._on(relation)
            if not self._declared <= present or (not is_in_place and present != self._declared):
                raise self._refused(relation, present, self._wanted, "Readers would see more than they may, or less.")
            self.require_exempt_role(relation)

    def look_after(self) -> None:
        """Look whether what readers see has its policies, and set its tags: a replaced table's values win over a clone's.

        https://docs.snowflake.com/en/release-notes/2026/other/2026-04-02-create-table-copy-tags-ga

        Raises:
            PublishRefusedError: Readers see a table without its policies.
        """
        work = self._work
        if self._declared:
            missing = self._still_missing()
            if missing:
                work.looks_afresh()
                raise self._refused(
                    work.target,
                    missing,
                    self._wanted,
                    "The table was published, and lacks its policies or cannot be asked.",
                )
        if self._has_tags:
            try:
                self._tag(work.target)
            except (StatementError, PublishRefusedError) as error:
                work.warnings.append(f"{work.table.name}: the tags of {work.target} are not those of its file: {error}")

    def _still_missing(self) -> frozenset[Attached] | None:
        """Return the declared policies that readers' table lacks after one more attempt to set them; empty if there are none."""
        work = self._work
        try:
            if missing := self._declared - self._on(work.target):
                work.warnings.append(f"{work.table.name}: {work.target} was published without {_listed(missing)}.")
                self._attach(work.target)
                return self._declared - self._on(work.target)
        except StatementError as error:
            work.warnings.append(f"{work.table.name}: the policies of {work.target} could not be looked up: {error}")
            return self._declared
        return frozenset()

    def _attach(self, relation: Relation) -> None:
        """Set what is missing. Where Snowflake says that it failed, a session of its own looks whether it took effect."""
        work = self._work
        for each in sorted(self._declared - self._on(relation)):
            try:
                work.send(attach_sql(relation, each))
            except StatementError:
                with work.runner.fresh() as fresh:
                    seen = references_in(work.send(references_sql(relation), runner=fresh).rows)
                if each not in seen:
                    raise

    def _tag(self, relation: Relation) -> None:
        work = self._work
        if statement := tags_sql(work.table, relation):
            work.send(statement)
        values = work.send(tag_values_sql(work.table, relation)).rows[0]
        for (name, value), got in zip(work.table.object_tags.items(), values, strict=True):
            if got != value:
                raise PublishRefusedError(
                    Refusal(
                        f"{work.table.name} requires the declared value of tag {name} on {relation}",
                        "another one" if got is not None else "none",
                        "Look in Snowflake's history for what sets it, then materialize again.",
                        seen=work.production.words,
                        reason=Reason.POLICIES,
                    )
                )

    def _on(self, relation: Relation) -> frozenset[Attached]:
        return references_in(self._work.send(references_sql(relation)).rows)

    @property
    def _wanted(self) -> str:
        return _listed(self._declared)

    def _refused(
        self, relation: Relation, present: Iterable[Attached], wanted: str, consequence: str
    ) -> PublishRefusedError:
        work = self._work
        return PublishRefusedError(
            Refusal(
                f"{work.table.name} requires {wanted} at {relation}",
                _listed(present),
                "Set the policies as the file declares them, or declare them as they are, then materialize again.",
                consequence=consequence,
                seen=work.production.words,
                reason=Reason.POLICIES,
            )
        )


def _listed(policies: Iterable[Attached]) -> str:
    return ", ".join(map(str, sorted(policies))) or "none"


def not_applied(tables: Iterable[AnalyticsTable]) -> str:
    """Return what the embedded Snowflake leaves out of tables, in a sentence; empty if it leaves nothing out."""
    names = [table.name for table in tables if table.policies is not None or table.object_tags]
    return (
        f"the embedded Snowflake applies no policies and tags. It leaves out those of {', '.join(names)}."
        if names
        else ""
    )
