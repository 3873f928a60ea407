"""Why a table or a run failed, as a fact. Pure.

Whoever finds out the reason notes it, and nothing reads it back out of a message. Snowflake's error numbers and the kinds of checks
are facts already, so they are no reasons here. `alerts.runbook` finds the part of docs/operations.md by all three.
"""

from enum import StrEnum


class Reason(StrEnum):
    """A reason. Its value is the anchor of its part of docs/operations.md, and stands in the metadata of failures."""

    # What keeps a table from being built at all.
    BROKEN_FILE = "broken-file"
    # What forbids to publish over the present table.
    POLICIES = "policies"
    STREAMS = "streams"
    OWNER = "owner"
    MANAGED_ACCESS = "managed-access"
    POLICIES_UNKNOWN = "policies-unknown"
    SPECIAL_TABLE = "special-table"
    NO_TABLE = "no-table"
    OVERWRITE_COLUMNS = "overwrite-columns"
    GRANTS = "grants"
    PARTITION_COLUMNS = "partition-columns"
    PARTITION_POLICIES = "partition-policies"
    NO_PARTITION = "no-partition"
    REBUILD = "rebuild"
    GROUP_INCOMPLETE = "group-incomplete"
    GROUP_HALF_PUBLISHED = "group-half-published"
    # What other runs, and people, do at the same time.
    NEWEST_LAST = "newest-last"
    TARGET_CHANGES = "target-changes"
    # Why there is no session.
    SIGN_IN = "sign-in"
    MISSING_NAME = "missing-name"
    EMBEDDED_BUSY = "embedded-busy"
    EMBEDDED_DISK = "embedded-disk"
    EMBEDDED_NOT_INSTALLED = "embedded-not-installed"
    # What became of a statement, where Snowflake gives no number of its own.
    CATALOGUE = "catalogue"
    PRIVILEGES = "privileges"
    NO_ANSWER = "no-answer"
    PASSING_TROUBLE = "passing-trouble"
    # How a run ended that came to no table.
    SELECTION = "selection"
    CANCELLED_RUN = "cancelled-run"
    PROCESS_LOST = "process-lost"
    INTERRUPTED = "interrupted"
    BEFORE_THE_FIRST_STEP = "before-the-first-step"
