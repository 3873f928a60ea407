"""The causes of a failed run in words, each once, without secrets and row values. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from run_elt_dagster.alerts.blocks import (
    CAUSE_LIMIT,
    TEXT_LIMIT,
    Style,
    clean,
    cut,
    plain,
    redacted_window,
)
from run_elt_dagster.alerts.failure import FailedCheck, FailedTable, RunFailure
from run_elt_dagster.redaction import redact_row_values

State = Literal["open", "recovered"]
CAUSE_IN_LINE_LIMIT = 100
CAUSES_SHOWN = 5


@dataclass(frozen=True)
class Group:
    """Tables that failed alike: at the same stage, for the same cause.

    Attributes:
        tables: The tables, at least one.
        cause: The cause in full, without secrets and row values; empty if the checks say it.
        short: The cause in a line.
    """

    tables: tuple[FailedTable, ...]
    cause: str
    short: str

    @property
    def first(self) -> FailedTable:
        """The first of them."""
        return self.tables[0]

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [table.name for table in self.tables]


def groups_of(failure: RunFailure, style: Style) -> list[Group]:
    """Return the tables by what they failed of, in order."""
    # The share of each, so a thousand long causes take no longer than one.
    share = CAUSE_LIMIT // max(len(failure.tables), 1)
    alike: dict[Any, list[FailedTable]] = {}
    causes: dict[Any, str] = {}
    for table in failure.tables:
        cause = "" if _is_told_by_checks(table) else _table_cause(table, style, share)
        key = (table.stage, table.was_built, table.checks, cause, table.partitions)
        alike.setdefault(key, []).append(table)
        causes[key] = cause
    return [
        Group(tuple(tables), causes[key], causes[key].split("\n", 1)[0] or _checks_line(tables[0], style))
        for key, tables in alike.items()
    ]


def _checks_line(table: FailedTable, style: Style) -> str:
    prefix = "Check " if table.was_built else ""
    said = "; ".join(f"{prefix}{plain(check.name, style)}: {verdict(check, style)}" for check in table.checks)
    return said.replace("\n", " ")


def verdict(check: FailedCheck, style: Style) -> str:
    """Return what a check got and expected, without its name: behind one that is called like a secret, it would look like its value."""
    return f"got {plain(check.got, style)}, expected {plain(check.expected, style)}"


def _is_told_by_checks(table: FailedTable) -> bool:
    """Return whether the failed checks say what was got; a check without an answer has a cause of its own."""
    return bool(table.checks) and all(check.is_answered for check in table.checks)


def _table_cause(table: FailedTable, style: Style, limit: int) -> str:
    text = redacted_window(table.cause, style, limit)
    return plain(text if table.errno is None else redact_row_values(text, table.errno), style)


def title_of(failure: RunFailure, groups: Sequence[Group], state: State, style: Style) -> str:
    """Return the first line of a message, with a sign for the state."""
    if state == "recovered":
        return f"🟢 Recovered: {clean(failure.summary)}"
    return f"{'⚪' if failure.cancelled else '🔴'} {headline(failure, groups, style)}"


def headline(failure: RunFailure, groups: Sequence[Group], style: Style) -> str:
    """Return what happened, and its causes, in a line."""
    check = _check_in_summary(failure, groups)
    cause = causes_of(groups, failure, style) if check is None else verdict(check, style).replace("\n", " ")
    # A sentence of ours begins with a capital letter; Snowflake's go on.
    first = next((group for group in groups if group.short), None)
    joint = ". " if first is not None and not first.cause and first.first.was_built else ": "
    return f"{clean(failure.summary)}{f'{joint}{cause}' if cause else ''}"


def _check_in_summary(failure: RunFailure, groups: Sequence[Group]) -> FailedCheck | None:
    """Return the one check of a published table that the summary names; None if there is none, or its cause says more."""
    if len(failure.tables) != 1 or groups[0].cause:
        return None
    (table,) = failure.tables
    return table.checks[0] if len(table.checks) == 1 and not table.was_built else None


def causes_of(groups: Sequence[Group], failure: RunFailure, style: Style) -> str:
    """Return the causes in a line, each once."""
    causes = dict.fromkeys(group.short for group in groups if group.short)
    if not causes:
        return run_cause_of(failure, style).split("\n", 1)[0]
    # Several share the room of one.
    limit = TEXT_LIMIT if len(causes) == 1 else CAUSE_IN_LINE_LIMIT
    more = len(causes) - CAUSES_SHOWN
    line = "; ".join(cut(cause, limit) for cause in list(causes)[:CAUSES_SHOWN])
    return f"{line}; and {more:,} more cause{'' if more == 1 else 's'}" if more > 0 else line


def run_cause_of(failure: RunFailure, style: Style) -> str:
    """Return the cause of a failure that belongs to no table, without secrets and row values."""
    text = redacted_window(failure.cause, style, CAUSE_LIMIT)
    return plain(text if failure.errno is None else redact_row_values(text, failure.errno), style)
