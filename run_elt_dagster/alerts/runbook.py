"""Which part of docs/operations.md says what to do about a cause. Pure.

Each anchor here stands in that page as `<a id="...">`. A part is found by a fact: a reason, the kind of a check, or Snowflake's
error number. Snowflake and its connector give one number to many failed sign-ins, so there their words count.
"""

import re
from dataclasses import dataclass
from itertools import chain

from run_elt_dagster.alerts.failure import FailedTable, RunFailure, Stage
from run_elt_dagster.disk import EMBEDDED_DISK_ERRNO
from run_elt_dagster.model.reason import Reason

PATH = "docs/operations.md"
# A cause may have megabytes; what tells them apart comes first.
_READ = 4000


@dataclass(frozen=True)
class Entry:
    """A part of the runbook.

    Attributes:
        anchor: In the page. Where it is the value of a `Reason`, the part is about that reason.
        title: What it is about, in words.
        kinds: The kinds of checks that it explains.
        errors: The error numbers of Snowflake that it explains.
        pattern: What Snowflake or its connector says that it explains, where no number tells it.
        stages: The stages whose errors it explains; empty for every stage.
    """

    anchor: str
    title: str
    kinds: tuple[str, ...] = ()
    errors: tuple[range, ...] = ()
    pattern: str = ""
    stages: tuple[Stage, ...] = ()


def _only(*numbers: int) -> tuple[range, ...]:
    return tuple(range(number, number + 1) for number in numbers)


UNANSWERED = Entry("check-without-answer", "a check got no answer")
PUBLISHED = Entry("published-check", "a published table fails a check")
OWN_CHECK = Entry("own-check", "a check of your own", kinds=("sql",))

CHECKS = (
    Entry("row-count-change", "the number of rows changed", kinds=("row_count_change",)),
    Entry("changes", "more changes than are allowed", kinds=("changes",)),
    Entry("usual", "a number is not as usual", kinds=("usual",)),
    Entry("row-count", "the number of rows", kinds=("row_count",)),
    Entry("keys", "keys that are not unique", kinds=("primary_key", "unique")),
    Entry("not-null", "values that are NULL", kinds=("not_null",)),
    Entry("values", "values that are not accepted", kinds=("accepted_values", "matches")),
    Entry("range", "values out of range", kinds=("range",)),
    Entry("freshness", "rows that are too old", kinds=("freshness",)),
    Entry("source-freshness", "a source that is too old", kinds=("source_freshness",)),
    Entry("relationship", "rows without a partner", kinds=("relationship",)),
    Entry("columns", "other columns than declared", kinds=("columns",)),
    Entry("schema-change", "other columns than published", kinds=("schema_change",)),
    Entry("partition-rows", "rows of other partitions", kinds=("partition",)),
    Entry("increment-rows", "rows that cannot be merged", kinds=("increment",)),
    OWN_CHECK,
)

REASONS = (
    Entry(Reason.BROKEN_FILE, "a broken file"),
    Entry(Reason.POLICIES, "policies on the published table"),
    Entry(Reason.STREAMS, "streams on the published table"),
    Entry(Reason.OWNER, "another role owns the published table"),
    Entry(Reason.MANAGED_ACCESS, "a managed access schema"),
    Entry(Reason.POLICIES_UNKNOWN, "policies cannot be listed"),
    Entry(Reason.SPECIAL_TABLE, "a table of another kind"),
    Entry(Reason.NO_TABLE, "something else under the table's name"),
    Entry(Reason.OVERWRITE_COLUMNS, "overwriting needs the same columns"),
    Entry(Reason.GRANTS, "grants that a swap would lose"),
    Entry(Reason.PARTITION_COLUMNS, "other columns than the rows that stay"),
    Entry(Reason.PARTITION_POLICIES, "policies on a table in parts"),
    Entry(Reason.NO_PARTITION, "a run without a partition"),
    Entry(Reason.REBUILD, "a table that cannot be rebuilt"),
    Entry(Reason.GROUP_INCOMPLETE, "a run of a part of a group"),
    Entry(Reason.GROUP_HALF_PUBLISHED, "a group that is published in part"),
    Entry(Reason.NEWEST_LAST, "another run builds the same table"),
    Entry(Reason.TARGET_CHANGES, "the target comes and goes"),
    Entry(Reason.EMBEDDED_BUSY, "the embedded Snowflake is in use"),
    Entry(Reason.EMBEDDED_NOT_INSTALLED, "the embedded Snowflake is not installed"),
    Entry(Reason.NO_ANSWER, "Snowflake does not answer"),
    Entry(Reason.SELECTION, "a selection without tables"),
    Entry(Reason.CANCELLED_RUN, "a cancelled run"),
    Entry(Reason.PROCESS_LOST, "the run's process was lost"),
    Entry(Reason.INTERRUPTED, "the run was interrupted"),
    Entry(Reason.BEFORE_THE_FIRST_STEP, "the run failed before its first step"),
)

_CONNECT: tuple[Stage, ...] = ("connect",)
_PUBLISH: tuple[Stage, ...] = ("publish",)
_STATEMENT: tuple[Stage, ...] = ("build", "audit", "publish")

# These explain an error wherever it comes, before any reason.
EVERYWHERE = (
    Entry(Reason.EMBEDDED_DISK, "the embedded Snowflake's disk", errors=_only(EMBEDDED_DISK_ERRNO)),
    Entry("quota", "the resource monitor stopped the warehouse", errors=_only(90073), pattern="resource monitor"),
)
# The first that fits, where no reason is known.
ERRORS = (
    Entry(Reason.CATALOGUE, "the catalogue cannot be read"),
    Entry(
        Reason.SIGN_IN,
        "Snowflake refuses the sign-in",
        errors=(range(390100, 390200),),
        pattern=r"password|JWT|authenticat|private key|(?<!\d)3901\d\d",
        stages=_CONNECT,
    ),
    Entry("user-locked", "a locked user", pattern="locked", stages=_CONNECT),
    Entry(Reason.MISSING_NAME, "a role, a warehouse or a database", pattern="does not exist", stages=_CONNECT),
    Entry("timeout", "the query took too long", errors=_only(630), stages=_STATEMENT),
    Entry("cancelled-query", "a cancelled query", errors=_only(604), stages=_STATEMENT),
    Entry(Reason.PRIVILEGES, "privileges are missing", errors=_only(3001), stages=_STATEMENT),
    Entry("missing-object", "an object is not there, or not readable", errors=_only(2003, 2043), stages=_STATEMENT),
    Entry("row-values", "a row that the SQL cannot take", errors=(range(100000, 110000),), stages=_STATEMENT),
    Entry("copy-tags", "the account refuses COPY TAGS", errors=_only(1003), stages=_PUBLISH),
    Entry("sql", "the SQL is wrong", errors=(range(900, 3000),), stages=_STATEMENT),
    Entry(
        Reason.PASSING_TROUBLE,
        "a network error, or Snowflake's own",
        errors=(*_only(603), range(250000, 260000), range(290000, 300000), range(390000, 400000)),
        stages=_STATEMENT,
    ),
)

# Where nothing else is known.
OTHERWISE: dict[Stage, Entry] = {
    "connect": Entry("network", "Snowflake cannot be reached"),
    "build": Entry("build", "the query of the table failed"),
    "audit": Entry("audit", "a check did not hold"),
    "publish": Entry("publish", "publishing was refused, or failed"),
}
OUTSIDE = Entry("outside", "an error outside the building of tables")
# A late table: nothing failed, so no failure leads there.
LATE = Entry("late", "a table is late")

ENTRIES = (UNANSWERED, PUBLISHED, *CHECKS, *REASONS, *EVERYWHERE, *ERRORS, *OTHERWISE.values(), OUTSIDE, LATE)


def entry_of(table: FailedTable) -> Entry:
    """Return the part of the runbook about the failure of a table."""
    if table.checks and table.errno is None and table.reason is None:
        return _entry_of_checks(table)
    return _entry(table)


def entries_of(failure: RunFailure, stage: Stage) -> tuple[Entry, ...]:
    """Return the parts about what failed in a stage, each once."""
    if not failure.is_of_tables:
        return (_entry(failure),)
    return tuple(dict.fromkeys(entry_of(table) for table in failure.tables if table.stage == stage))


def _entry_of_checks(table: FailedTable) -> Entry:
    if not all(check.is_answered for check in table.checks):
        return UNANSWERED
    if not table.was_built:
        return PUBLISHED
    by_kind = {kind: entry for entry in CHECKS for kind in entry.kinds}
    return by_kind.get(table.checks[0].kind, OTHERWISE["audit"])


def _entry(failed: FailedTable | RunFailure) -> Entry:
    """Return the part about what is no check."""
    fitting = chain(
        (entry for entry in EVERYWHERE if _is_about_error(entry, failed)),
        (entry for entry in ENTRIES if entry.anchor == failed.reason),
        (entry for entry in ERRORS if _is_about_error(entry, failed)),
    )
    return next(fitting, None) or OTHERWISE.get(failed.stage, OUTSIDE)


def _is_about_error(entry: Entry, failed: FailedTable | RunFailure) -> bool:
    if entry.stages and failed.stage not in entry.stages:
        return False
    if any(failed.errno in numbers for numbers in entry.errors if failed.errno is not None):
        return True
    return bool(entry.pattern and re.search(entry.pattern, failed.cause[:_READ], re.IGNORECASE))
