"""What became of a table: what was built and audited, and why it was not published."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from run_elt_dagster.audit.catalogue import Column
from run_elt_dagster.audit.plan import AuditOutcome
from run_elt_dagster.model.increment import Start
from run_elt_dagster.model.names import Key, Relation
from run_elt_dagster.model.production import Production, TableVersion
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.snowflake.session import StatementError

Stage = Literal["build", "audit", "publish"]


@dataclass(frozen=True)
class Failure:
    """Why a table was not published.

    Attributes:
        stage: Where it failed.
        message: What failed, what readers see, and the remedy if one is known. Without row values and secrets.
        production: What readers see now.
        query_id: The failed query, if there is one.
        errno: Snowflake's error number, if it gave one.
        cause: The exception, for the log.
        problem: The root cause alone, without the state of production and the remedy.
        where: The place in the SQL file as `path:line:column`, empty if Snowflake names none.
        reason: Why, as a fact; None where Snowflake's number or a check is the reason.
        if_wanted: The command by which a person publishes it all the same, where it only differs from what readers see.
    """

    stage: Stage
    message: str
    production: Production
    query_id: str | None = None
    errno: int | None = None
    cause: Exception | None = None
    problem: str = ""
    where: str = ""
    reason: Reason | None = None
    if_wanted: str = ""

    @property
    def is_unexpected(self) -> bool:
        """Whether it is an error of this project: the log then shows where it was raised."""
        return self.cause is not None and not isinstance(self.cause, StatementError)


@dataclass(frozen=True)
class PartitionOutcome:
    """What became of one partition of a slice.

    Attributes:
        state: `published` where readers see its new rows, `superseded` where they see those of a newer snapshot, `failed` where
            they see those of before, `unknown` where Snowflake could not be asked.
        row_count: Rows of the candidate in it, None if they were not counted.
        audits: A verdict for every audit of the table.
        superseded_by: The run with the newer snapshot.
    """

    state: Literal["published", "superseded", "failed", "unknown"]
    row_count: int | None = None
    audits: tuple[AuditOutcome, ...] = ()
    superseded_by: str | None = None


@dataclass(frozen=True)
class IncrementOutcome:
    """What was built of a table with increments.

    Attributes:
        start: Where the increment begins; None where the whole table was built.
        rows: Rows that were built.
    """

    start: Start | None
    rows: int


@dataclass(frozen=True)
class TableOutcome:
    """What became of a table.

    Attributes:
        table: The table.
        target: What readers see.
        candidate: What was built; still there if the table failed after its build.
        row_count: Rows of the candidate, None if they were not counted. Of an increment, rows of the table that readers see.
        bytes: How large the candidate is, None where the catalogue did not say it.
        columns: Of the candidate, in order; empty if it was not audited.
        audits: A verdict for every audit of the table; empty if its build failed or it was skipped. Of a slice, the verdict on the
            first partition that failed the audit, or on the first one.
        seconds: Duration of each stage that ran.
        query_ids: The last query of each stage that ran.
        warnings: What did not stop the publishing but should be looked at.
        replaced: What somebody else had put into the place of the target while the run went on, in words; empty if nobody had.
        before: What readers saw when the run began, with what a person had done with the table before; None where there was no table.
        failure: Why it was not published.
        skipped_because: The failed tables and the broken files that it reads, directly or not; not empty if it was skipped.
        held_back_by: The tables of its group that were not published, and the broken files; not empty if it passed its audits and was
            held back with its group.
        superseded_by: The run with a newer snapshot, if readers see its rows, in all partitions of a slice; None otherwise.
        schema_changes: How its columns differ from those of the table published before, in words.
        production: What readers see of a table that was skipped or held back; None for any other.
        partitions: What became of the partitions of a slice, by key in their order; empty for a whole table, and for a slice
            that was not built.
        increment: What was built of a table with increments; None of any other, and where it was not audited.
    """

    table: AnalyticsTable
    target: Relation
    candidate: Relation
    row_count: int | None = None
    bytes: int | None = None
    columns: tuple[Column, ...] = ()
    audits: tuple[AuditOutcome, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    query_ids: Mapping[str, str] = field(default_factory=dict[str, str])
    warnings: tuple[str, ...] = ()
    replaced: str = ""
    before: TableVersion | None = None
    failure: Failure | None = None
    skipped_because: tuple[Key, ...] = ()
    held_back_by: tuple[Key, ...] = ()
    superseded_by: str | None = None
    schema_changes: tuple[str, ...] = ()
    production: Production | None = None
    partitions: Mapping[str, PartitionOutcome] = field(default_factory=dict[str, PartitionOutcome])
    increment: IncrementOutcome | None = None

    @property
    def published(self) -> bool:
        """Whether readers see the new table."""
        return self.failure is None and not self.blamed and self.superseded_by is None

    @property
    def blamed(self) -> tuple[Key, ...]:
        """The failed tables and the broken files that it was skipped or held back for; empty of any other."""
        return self.skipped_because or self.held_back_by

    @property
    def in_production(self) -> bool:
        """Whether readers see this table's rows or newer ones, so its children can be built."""
        return self.published or self.superseded_by is not None
