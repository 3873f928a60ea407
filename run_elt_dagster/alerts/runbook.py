"""Which part of docs/operations.md says what to do about a cause. Pure.

Each anchor here stands in that page as `<a id="...">`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from run_elt_dagster.alerts.failure import FailedTable, RunFailure, Stage

PATH = "docs/operations.md"


@dataclass(frozen=True)
class Entry:
    """A part of the runbook.

    Attributes:
        anchor: In the page.
        title: What it is about, in words.
        stages: The stages whose failures it explains; empty for every stage.
        pattern: What a cause says that it explains; empty for whatever nothing else explains.
    """

    anchor: str
    title: str
    stages: tuple[Stage, ...] = ()
    pattern: str = ""


_AUDIT: tuple[Stage, ...] = ("audit",)
_PUBLISH: tuple[Stage, ...] = ("publish",)
_CONNECT: tuple[Stage, ...] = ("connect",)
_STATEMENT: tuple[Stage, ...] = ("build", "audit", "publish")

# The first that fits. What is compared is the class of the cause, then its text.
ENTRIES = (
    Entry("check-without-answer", "a check got no answer", _AUDIT, r"could not be evaluated|got no answer"),
    Entry("published-check", "a published table fails a check", _AUDIT, r"^published: check"),
    Entry("row-count-change", "the number of rows changed", _AUDIT, r"^check row_count_change"),
    Entry("row-count", "the number of rows", _AUDIT, r"^check row_count"),
    Entry("keys", "keys that are not unique", _AUDIT, r"^check (?:primary_key|unique)"),
    Entry("not-null", "values that are NULL", _AUDIT, r"^check not_null"),
    Entry("values", "values that are not accepted", _AUDIT, r"^check (?:accepted_values|matches)_"),
    Entry("range", "values out of range", _AUDIT, r"^check range_"),
    Entry("freshness", "rows that are too old", _AUDIT, r"^check freshness_"),
    Entry("relationship", "rows without a partner", _AUDIT, r"^check relationship_"),
    Entry("columns", "other columns than declared", _AUDIT, r"^check columns"),
    Entry("schema-change", "other columns than published", _AUDIT, r"^check schema_change"),
    Entry("own-check", "a check of your own", _AUDIT, r"^check "),
    Entry("policies", "policies on the published table", _PUBLISH, r"polic(?:y|ies) .* on it"),
    Entry("streams", "streams on the published table", _PUBLISH, r"streams that read it"),
    Entry("owner", "another role owns the published table", _PUBLISH, r"a table that role .* owns"),
    Entry("managed-access", "a managed access schema", _PUBLISH, r"a managed access schema"),
    Entry("policies-unknown", "policies cannot be listed", _PUBLISH, r"no answer about what hangs on it"),
    Entry("no-table", "something else under the table's name", _PUBLISH, r"requires a table as its target"),
    Entry("overwrite-columns", "overwriting needs the same columns", _PUBLISH, r"overwrite requires the columns of"),
    Entry("grants", "grants that a swap would lose", _PUBLISH, r"requires the grants of|carries over grants"),
    Entry("newest-last", "another run builds the same table", _PUBLISH, r"newest build is published last"),
    Entry("target-changes", "the target comes and goes", _PUBLISH, r"refused again and again"),
    Entry(
        "sign-in", "Snowflake refuses the sign-in", _CONNECT, r"password|JWT|authenticat|private key|(?<!\d)3901\d\d"
    ),
    Entry("user-locked", "a locked user", _CONNECT, r"locked"),
    Entry("embedded-disk", "the embedded Snowflake's disk", (), r"embedded Snowflake cannot (?:open|use its file)"),
    Entry("embedded-busy", "the embedded Snowflake is in use", _CONNECT, r"embedded Snowflake"),
    Entry("missing-name", "a role, a warehouse or a database", _CONNECT, r"does not exist|current database"),
    Entry("network", "Snowflake cannot be reached", _CONNECT),
    Entry("quota", "the resource monitor stopped the warehouse", (), r"error 90073|resource monitor"),
    Entry("timeout", "the query took too long", _STATEMENT, r"error 630\b"),
    Entry("cancelled-query", "a cancelled query", _STATEMENT, r"error 604\b"),
    Entry("catalogue", "the catalogue cannot be read", ("build",), r"^early:"),
    Entry("missing-object", "an object is not there, or not readable", _STATEMENT, r"error (?:2003|2043)\b"),
    Entry("privileges", "privileges are missing", _STATEMENT, r"error 3001\b"),
    Entry("row-values", "a row that the SQL cannot take", _STATEMENT, r"error 10\d{4}\b"),
    Entry("copy-tags", "the account refuses COPY TAGS", _PUBLISH, r"error 1003\b"),
    Entry("sql", "the SQL is wrong", _STATEMENT, r"error (?:9\d\d|1\d{3}|2\d{3})\b"),
    Entry(
        "passing-trouble",
        "a network error, or Snowflake's own",
        _STATEMENT,
        r"error (?:603|2[59]\d{4}|39\d{4})\b|signing in again",
    ),
    Entry("build", "the query of the table failed", ("build",)),
    Entry("audit", "a check did not hold", _AUDIT),
    Entry("publish", "publishing was refused, or failed", _PUBLISH),
    Entry("cancelled-run", "a cancelled run", (), r"^cancelled"),
    Entry("process-lost", "the run's process was lost", (), r"^killed"),
    Entry("interrupted", "the run was interrupted", (), r"^interrupted"),
    Entry("before-the-first-step", "the run failed before its first step", (), r"^before the first step"),
    Entry("outside", "an error outside the building of tables"),
)


def entry_of(table: FailedTable) -> Entry:
    """Return the part of the runbook about the failure of a table."""
    return _entry(table.stage, (table.cause_class, table.cause))


def entries_of(failure: RunFailure, stage: Stage) -> tuple[Entry, ...]:
    """Return the parts about what failed in a stage, each once."""
    if failure.cause_class:
        return (_entry(failure.stage, (failure.cause_class, failure.cause)),)
    return tuple(dict.fromkeys(entry_of(table) for table in failure.tables if table.stage == stage))


def _entry(stage: Stage, said: Sequence[str]) -> Entry:
    return next(
        entry
        for entry in ENTRIES
        if (not entry.stages or stage in entry.stages)
        # A cause may have megabytes; what tells them apart comes first.
        and (not entry.pattern or any(re.search(entry.pattern, text[:4000], re.IGNORECASE) for text in said))
    )
