"""The ways of publishing, one class each: its statement, what it refuses, and what goes before and after. A new way is a new class.

A way of publishing has two exchanges: one for the first publish, when there is no table yet, and one for every other.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal
from run_elt_dagster.model.production import TABLE_KINDS, TableVersion
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.grants import carry_grants_over
from run_elt_dagster.publish.guards import (
    OBJECT_MISSING,
    InventoryTable,
    PublishRefusedError,
    Refusal,
    lost_by_replacing,
    no_table_refusal,
    require_same_columns,
)
from run_elt_dagster.publish.statements import (
    after_clone_sql,
    after_overwrite_sql,
    column_comments_sql,
    comment_sql,
    drop_sql,
    same_rows_sql,
    table_kind,
)
from run_elt_dagster.publish.versions import candidates_in, candidates_sql, newest_published
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import RunStoppedError, StatementRunner
from run_elt_dagster.snowflake.session import StatementError

# How often production is looked at before an exchange without an answer counts as not done.
VERIFICATIONS = 3
# In the place of TEMP in the name of a candidate: the table of before, while its group is exchanged.
KEPT = "KEPT"


class CandidateGoneError(Exception):
    """Before the exchange, Snowflake has no candidate or no target any more.

    Attributes:
        answer: What Snowflake said.
    """

    def __init__(self, answer: StatementError) -> None:
        super().__init__(str(answer))
        self.answer = answer


@dataclass(frozen=True)
class Publication:
    """What is exchanged.

    Attributes:
        table: The table.
        target: What readers see.
        candidate: What was audited.
        columns: The candidate's columns in order, needed to overwrite.
        copy_tags: Whether a clone keeps the target's tags; accounts without COPY TAGS refuse the clause.
    """

    table: AnalyticsTable
    target: Relation
    candidate: Relation
    columns: Sequence[str] = ()
    copy_tags: bool = True


class Exchange(ABC):
    """The one statement that publishes, which is atomic, and what goes before and after it.

    Attributes:
        is_sent_again: Whether it may be sent again after a look has shown that it took no effect, though it may only be late.
    """

    is_sent_again: ClassVar[bool] = False

    @abstractmethod
    def sql(self, publication: Publication) -> str:
        """Return the statement."""

    def prepare(self, work: TableWork) -> None:  # noqa: B027 - no duty
        """Do what has to be done before; nothing by default.

        Raises:
            PublishRefusedError: It must not be published.
            CandidateGoneError: The candidate or the target is gone.
        """

    def send(self, work: TableWork) -> None:
        """Send the statement, once: it is sent again only after a look.

        Raises:
            StatementError: Snowflake did not report success. It may have taken effect all the same.
        """
        work.send(self._sql_of(work), once=True)

    def took_effect(self, work: TableWork, error: StatementError) -> bool:
        """Return whether readers see the new rows although no success was reported: the comment names the run of the rows."""
        if not _names_the_run(work, looks=1 if error.answered else VERIFICATIONS):
            return False
        if error.answered:
            work.warn_of_effect(error)
        return True

    def give_way(self, work: TableWork) -> Marker | None:  # noqa: ARG002 - of use where it is overridden
        """Take back what `prepare` has done to the target of a newer run that had dropped the candidate; nothing by default.

        Returns:
            The newer run, None if there was nothing to take back.
        """
        return None

    def finish(self, work: TableWork) -> None:  # noqa: B027 - no duty
        """Do what comes after; nothing by default. What fails here is a warning: readers see the new rows."""

    def keep(self, work: TableWork) -> None:  # noqa: B027 - no duty
        """Keep what `put_back` needs of the present table; nothing by default.

        Raises:
            StatementError: It could not be kept.
        """

    @abstractmethod
    def put_back(self, work: TableWork) -> None:
        """Let readers see again what they saw before, where this run has exchanged the table. It is sent once.

        Raises:
            StatementError: Snowflake did not report success.
        """

    def _sql_of(self, work: TableWork) -> str:
        return self.sql(
            Publication(work.table, work.target, work.candidate, work.columns, copy_tags=work.options.copy_tags)
        )


def kept_of(candidate: Relation) -> Relation:
    """Return where the table of before is kept while a group is exchanged; no run takes it for a candidate."""
    return Relation(candidate.database, candidate.schema, f"{KEPT}{candidate.name.removeprefix('TEMP')}")


def is_transient_sql(relation: Relation) -> str:
    """Return the query whether a table is transient: no permanent table can be a clone of one.

    https://docs.snowflake.com/en/sql-reference/info-schema/tables
    """
    return (
        f"SELECT COUNT(*) FROM {quote_identifier(relation.database)}.INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = "
        f"{quote_literal(relation.schema)} AND TABLE_NAME = {quote_literal(relation.name)} AND IS_TRANSIENT = 'YES'"
    )


def keep_sql(target: Relation, candidate: Relation, *, is_transient: bool) -> str:
    """Return the statement that keeps the table of before: its clone, of its kind."""
    return f"CREATE OR REPLACE {_kind(is_transient=is_transient)} {kept_of(candidate).sql} CLONE {target.sql}"


def _kind(*, is_transient: bool) -> str:
    return "TRANSIENT TABLE" if is_transient else "TABLE"


def _names_the_run(work: TableWork, *, looks: int) -> bool:
    for look in range(looks):
        if look:
            work.runner.wait(min(work.patience.poll_seconds, 1))
        if work.looks_afresh() and work.standing is not None and work.standing.marker == work.marker():
            return True
    return False


def _newest_published(work: TableWork) -> TableVersion | None:
    """Return the candidate of the newer run that has published last, None if there is none or Snowflake does not say."""
    with contextlib.suppress(StatementError), work.runner.fresh() as fresh:
        answer = work.send(candidates_sql(work.table, work.target), runner=fresh)
        return newest_published(candidates_in(answer, work.table), after=work.marker())
    return None


class CreateClone(Exchange):
    """The first publish: a clone of the candidate."""

    is_sent_again = True

    def sql(self, publication: Publication) -> str:
        """Return the statement. It fails where another has created the table meanwhile.

        Neither OR REPLACE, which would take the grants of a table that somebody else has created in the meantime, nor
        COPY GRANTS, so the schema's future grants apply: https://docs.snowflake.com/en/sql-reference/sql/create-clone
        """
        kind, target, candidate = table_kind(publication.table), publication.target, publication.candidate
        return f"CREATE {kind} {target.sql} CLONE {candidate.sql}"

    def finish(self, work: TableWork) -> None:
        """Let Automatic Clustering go on, where the file declares a key."""
        work.settle(after_clone_sql(work.table, work.target))

    def put_back(self, work: TableWork) -> None:
        """Drop it: there was no table before."""
        work.send(drop_sql(work.target), once=True)


class ReplaceByClone(Exchange):
    """A clone of the candidate under the name of the table, with its grants."""

    is_sent_again = True

    def sql(self, publication: Publication) -> str:
        """Return the statement."""
        kind, target, candidate = table_kind(publication.table), publication.target, publication.candidate
        keep = "COPY GRANTS COPY TAGS" if publication.copy_tags else "COPY GRANTS"
        return f"CREATE OR REPLACE {kind} {target.sql} CLONE {candidate.sql} {keep}"

    def finish(self, work: TableWork) -> None:
        """Let Automatic Clustering go on, where the file declares a key."""
        work.settle(after_clone_sql(work.table, work.target))

    def keep(self, work: TableWork) -> None:
        """Clone the present table: its rows are needed again where Snowflake keeps nothing of a dropped one, too."""
        target = work.target
        is_transient = bool(work.send(is_transient_sql(target)).rows[0][0])
        work.send(keep_sql(target, work.candidate, is_transient=is_transient))

    def put_back(self, work: TableWork) -> None:
        """Clone the kept table, of whichever kind it is."""
        kept, keep = kept_of(work.candidate), "COPY GRANTS COPY TAGS" if work.options.copy_tags else "COPY GRANTS"
        kind = _kind(is_transient=bool(work.send(is_transient_sql(kept)).rows[0][0]))
        work.send(f"CREATE OR REPLACE {kind} {work.target.sql} CLONE {kept.sql} {keep}", once=True)


class Rename(Exchange):
    """The first publish by swap: the candidate gets the name."""

    def sql(self, publication: Publication) -> str:
        """Return the statement."""
        return f"ALTER TABLE {publication.candidate.sql} RENAME TO {publication.target.sql}"

    def put_back(self, work: TableWork) -> None:
        """Give the candidate its name back."""
        work.send(f"ALTER TABLE {work.target.sql} RENAME TO {work.candidate.sql}", once=True)


class SwapNames(Exchange):
    """The candidate and the table change names. A second swap would bring the old table back, were the first one only late."""

    def sql(self, publication: Publication) -> str:
        """Return the statement."""
        return f"ALTER TABLE {publication.target.sql} SWAP WITH {publication.candidate.sql}"

    def put_back(self, work: TableWork) -> None:
        """Swap a second time."""
        work.send(self._sql_of(work), once=True)

    def prepare(self, work: TableWork) -> None:
        """Give the candidate the grants of the table it replaces, since a swap exchanges them too."""
        try:
            difference = carry_grants_over(
                lambda sql, runner: work.send(sql, runner=runner), work.runner, giver=work.target, taker=work.candidate
            )
        except StatementError as error:
            if error.errno != OBJECT_MISSING:
                raise
            raise CandidateGoneError(error) from error
        if difference:
            raise PublishRefusedError(
                Refusal(
                    f"{work.table.name} requires the grants of {work.target} on its candidate",
                    f"a difference: {difference}",
                    "Use publish: clone, or publish: overwrite.",
                    seen=work.production.words,
                    reason=Reason.GRANTS,
                )
            )


class InsertOverwrite(Exchange):
    """The candidate's rows in the place of the table's. The object stays, and its comment names its run before and after."""

    def sql(self, publication: Publication) -> str:
        """Return the statement. INSERT goes by position, so the columns are named."""
        names = ", ".join(quote_identifier(column) for column in publication.columns)
        target, candidate = publication.target, publication.candidate
        return f"INSERT OVERWRITE INTO {target.sql} ({names}) SELECT {names} FROM {candidate.sql}"

    def write(self, work: TableWork, runner: StatementRunner) -> None:
        """Send the statement in a transaction.

        Raises:
            StatementError: It failed. Nothing has taken effect.
        """
        work.send(self._sql_of(work), once=True, runner=runner)

    def put_back(self, work: TableWork) -> None:
        """Give the target the comment back that it had before its rows were announced; the rows are the transaction's to take back."""
        self._take_announcement_back(work)

    def prepare(self, work: TableWork) -> None:
        """Require the same columns, and announce in the target's comment that its rows are being written."""
        published = [column.name for column in work.inspection.target_columns]
        require_same_columns(work.table, work.target, new=work.columns, published=published)
        if work.is_owner:
            self._announce(work)
        else:
            work.warnings.append(
                f"{work.table.name}: {work.target} belongs to another role. Its comment does not name the run of "
                "its rows, and two runs at once are not kept in order."
            )

    def send(self, work: TableWork) -> None:
        """Send the statement, again where that may help: the rows are the candidate's each time."""
        work.send(self._sql_of(work))

    def took_effect(self, work: TableWork, error: StatementError) -> bool:
        """Ask whether readers see the candidate's rows, whatever Snowflake said of the statement that writes them.

        Where they do not, the target gets its comment back; if that is unknown, it keeps saying that it is being written.
        """
        same: bool | None = None
        with contextlib.suppress(StatementError), work.runner.fresh() as fresh:
            same = self._has_candidates_rows(work, fresh)
        if same is False and work.table.policies is not None and work.options.applies_policies:
            # Other rows, or the same ones behind a policy.
            same = None
        work.is_unknown = same is None
        if same:
            work.warn_of_effect(error)
        if same is False:
            self._take_announcement_back(work)
        return bool(same)

    def give_way(self, work: TableWork) -> Marker | None:
        """Name the newer run in the target's comment again where this one has announced its rows over it.

        No statement can require the candidate while it comments the target. So a run that was paused just before its
        announcement makes it even after a newer run has published and dropped the candidate. The comment of the newer run's
        candidate is among those of the dropped tables.
        """
        if work.standing is None or work.standing.marker != work.marker("publishing"):
            return None
        named: Marker | None = None
        # Looked at again: a still newer run may have published just before the comment.
        for _ in range(VERIFICATIONS):
            newer = _newest_published(work)
            if newer is None or newer.marker is None or newer.marker == named:
                break
            named = newer.marker
            comment = comment_sql(work.target, newer.comment)
            work.comment_target(comment, otherwise=f"has the rows of run {named.run_id}")
        return named

    def finish(self, work: TableWork) -> None:
        """Name the run of the rows in the target's comment."""
        if not work.is_owner:
            return
        written = "has the new rows"
        work.comment_target(comment_sql(work.target, work.comment()), otherwise=written)
        if comments := column_comments_sql(work.table, work.target):
            work.comment_target(comments, otherwise=written)
        work.settle(after_overwrite_sql(work.table, work.target))

    @staticmethod
    def _has_candidates_rows(work: TableWork, fresh: StatementRunner) -> bool | None:
        """Return whether readers see the candidate's rows; None if its rows are gone and the target's comment does not tell either.

        Raises:
            StatementError: Snowflake would not tell.
        """
        same: bool | None = None
        try:
            answer = work.send(same_rows_sql(work.target.sql, work.candidate.sql, work.columns), runner=fresh)
            differing = answer.rows[0][0]
            # Under an aggregation policy that does not exempt the role, a count of too few rows is NULL.
            same = None if differing is None else not int(differing)
        except StatementError as error:
            if error.errno != OBJECT_MISSING:
                raise
        work.inspect(fresh)
        marker = work.standing.marker if work.standing is not None else None
        is_another_runs = work.is_owner and marker is not None and marker.state == "run" and marker != work.marker()
        return False if same is None and is_another_runs else same

    def _announce(self, work: TableWork) -> None:
        """Say that the rows are being written; where that is reported as failed, take it back."""
        try:
            work.send(comment_sql(work.target, work.comment("publishing")))
        except StatementError:
            with contextlib.suppress(StatementError, RunStoppedError), work.runner.fresh() as fresh:
                work.inspect(fresh)
            self._take_announcement_back(work)
            raise

    def _take_announcement_back(self, work: TableWork) -> None:
        """Give the target its comment back after rows were not written; not if another run has commented it since."""
        standing, existing = work.standing, work.existing
        if standing is not None and standing.marker == work.marker("publishing") and existing is not None:
            work.comment_target(comment_sql(work.target, existing.comment), otherwise="has the rows of before")
            work.standing = existing


@dataclass(frozen=True)
class PublishMethod:
    """A way of publishing.

    Attributes:
        first: The exchange where there is no table yet.
        again: The exchange where there is one.
        replaces_object: Whether another object comes under the name: what hangs on the old one would be lost.
        takes_warehouse: Whether publishing needs the warehouse, so no other table is built meanwhile.
        leaves_old_rows: Whether the old rows stand under the candidate's name afterwards.
    """

    first: Exchange
    again: Exchange
    replaces_object: bool = True
    takes_warehouse: bool = False
    leaves_old_rows: bool = False

    def exchange(self, *, exists: bool) -> Exchange:
        """Return the exchange for a table that exists or does not."""
        return self.again if exists else self.first


METHODS: Mapping[str, PublishMethod] = {
    "clone": PublishMethod(first=CreateClone(), again=ReplaceByClone()),
    "swap": PublishMethod(first=Rename(), again=SwapNames(), leaves_old_rows=True),
    "overwrite": PublishMethod(
        first=CreateClone(), again=InsertOverwrite(), replaces_object=False, takes_warehouse=True
    ),
}


def method_of(table: AnalyticsTable) -> PublishMethod:
    """Return the way in which a table without partitions is published."""
    return METHODS[table.publish]


def replaces_object(table: AnalyticsTable) -> bool:
    """Return whether publishing puts another object under the name of a table; that of a table in parts stays."""
    return not table.is_in_parts and method_of(table).replaces_object


def exchange_sql(
    table: AnalyticsTable,
    *,
    target: Relation,
    candidate: Relation,
    exists: bool,
    columns: Sequence[str] = (),
    copy_tags: bool = True,
) -> str:
    """Return the one statement that puts the candidate into production, and it is atomic.

    Args:
        table: The table; its `publish` chooses the method.
        target: What readers see.
        candidate: What was audited.
        exists: Whether there is a target; without one this is its first publish.
        columns: The candidate's columns, needed to overwrite.
        copy_tags: Whether a clone keeps the target's tags; accounts without COPY TAGS refuse the clause.
    """
    exchange = method_of(table).exchange(exists=exists)
    return exchange.sql(Publication(table, target, candidate, columns, copy_tags=copy_tags))


def refusal(
    table: AnalyticsTable,
    target: Relation,
    existing: InventoryTable | None,
    *,
    role: str,
    act: str = "",
    seen: str = "",
) -> Refusal | None:
    """Return why a table must not be published over what stands there; None if it may.

    Args:
        table: The table, with its method of publishing.
        target: What readers see.
        existing: What stands there, None if nothing does.
        role: The session's role.
        act: What would replace it, in words; publishing by the table's method by default.
        seen: What readers see, in a sentence; that they see the previous table by default.
    """
    if existing is None:
        return None
    if existing.kind not in TABLE_KINDS:
        return no_table_refusal(table, target, existing)
    if not replaces_object(table):
        return None
    act = act or f"{table.name} with publish: {table.publish}"
    return lost_by_replacing(target, existing, role=role, act=act, seen=seen)
