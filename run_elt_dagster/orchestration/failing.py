"""How a run fails: the facts of its failed tables, the failure that has them for the alert, and which tables it skipped."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from run_elt_dagster.audit.plan import NO_ANSWER, AuditOutcome
from run_elt_dagster.embedded import NotInstalledError
from run_elt_dagster.model.broken import BrokenTable
from run_elt_dagster.model.counted import agreeing
from run_elt_dagster.model.names import Key, Relation
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.production import Production
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.events import (
    ERROR_LIMIT,
    QUERY_LIMIT,
    without_secrets,
)
from run_elt_dagster.orchestration.partition_events import failed_partitions, published_partitions
from run_elt_dagster.orchestration.specs import asset_key
from run_elt_dagster.publish.outcome import Failure, TableOutcome
from run_elt_dagster.redaction import excerpt, redact_row_values
from run_elt_dagster.snowflake.session import NoDatabaseError

if TYPE_CHECKING:
    # Loading the code location does without what only a run needs.
    from run_elt_dagster.publish.run import PublishedAudit

# The page of a run shows so many causes; the alert has the facts of all. A sentence of its log names as many tables.
_CAUSES_SHOWN = _NAMES_SHOWN = 50
_CAUSES_IN_LINES, _CAUSE_LIMIT = 3, 300
# The facts of all failed tables are in one event, which each look at the run reads: five thousand tables share so many characters.
_FACTS_LIMIT, _LEAST_FACT = 2_000_000, 300
# Of a table whose file is broken.
_UNTOUCHED = "Readers see what they saw before."
_MEND = "Correct the file, load the code location again, then materialize the table."


def session_reason(error: Exception, *, is_embedded: bool) -> Reason:
    """Return why there is no session, by the class of an error of this project."""
    if isinstance(error, NoDatabaseError):
        return Reason.MISSING_NAME
    if isinstance(error, NotInstalledError):
        return Reason.EMBEDDED_NOT_INSTALLED
    if not is_embedded:
        # Before anything is sent, the key is read and parsed.
        return Reason.SIGN_IN
    return Reason.EMBEDDED_BUSY if isinstance(error, TimeoutError) else Reason.EMBEDDED_DISK


def check_run_facts(
    table: AnalyticsTable, target: Relation, audit: "PublishedAudit", failed: Sequence[AuditOutcome]
) -> dict[str, Any]:
    """Return the facts about a published table that does not hold what its checks ask."""
    checks = f"check{'s' if len(failed) > 1 else ''}"
    production = Production("none" if audit.is_published is False else "unchanged")
    if production.state == "none":
        seen = production.words
    elif all(outcome.error is not None for outcome in failed):
        seen = f"Readers see {target}. Whether it passes its {checks} is unknown."
    else:
        seen = f"Readers see {target}, with rows that fail the {checks}. This run has changed nothing."
    problem = "; ".join(map(str, failed))
    query_id = next((outcome.query_id for outcome in failed if outcome.query_id), None)
    return {
        "table": table.asset_name,
        "was_built": False,
        "stage": "audit",
        "message": without_secrets(f"{table.name} as published: {problem} (query {query_id}). {seen}"),
        "cause": without_secrets(problem),
        "cause_class": f"published: check {', '.join(outcome.audit.name for outcome in failed)}",
        "errno": None,
        "reason": None,
        "checks": [_check_facts(outcome) for outcome in failed],
        "query_id": query_id,
        "production": seen,
        "readers_see": production.to_json(),
        "owners": [table.owner] if table.owner else [],
        "candidate": None,
    }


def broken_facts(broken: BrokenTable, path: Key | None = None) -> dict[str, Any]:
    """Return the facts about a table whose file is broken. Nothing was sent to Snowflake for it.

    Args:
        broken: The file.
        path: The key of its asset, None if that is its own.
    """
    name, problems = ".".join(asset_key(path or broken.key)), without_secrets(broken.text)
    return {
        "table": name,
        "was_built": True,
        "stage": "build",
        "message": f"{name} requires a file without problems, got\n{problems}\nThe table was not built. {_UNTOUCHED} {_MEND}",
        # A phone shows the start of it.
        "cause": without_secrets("\n".join(problem.short for problem in broken.problems)),
        "where": without_secrets(broken.problems[0].place),
        "cause_class": "broken file",
        "errno": None,
        "reason": Reason.BROKEN_FILE.value,
        "checks": [],
        "query_id": None,
        "production": _UNTOUCHED,
        "readers_see": Production("unchanged").to_json(),
        "owners": [broken.owner] if broken.owner else [],
        "candidate": None,
    }


def fail_if(facts: Sequence[Mapping[str, Any]], skipped: Sequence[TableOutcome]) -> None:
    """Fail the run at its end, when everything is recorded.

    Raises:
        dagster.Failure: With the facts, if there are any.
    """
    if facts:
        raise _run_failure(facts, skipped)


def skipped_lines(skipped: Sequence[TableOutcome], *, broken: Collection[Key]) -> str:
    """Return the lines of the log about skipped tables: why each of the first was, and how many more were.

    Args:
        skipped: The tables.
        broken: The tables whose files are broken.
    """
    lines = [_skipped_line(outcome, broken) for outcome in skipped[:_NAMES_SHOWN]]
    more = len(skipped) - len(lines)
    what = "skipped or held back" if any(outcome.held_back_by for outcome in skipped) else "skipped"
    return "\n".join(
        [
            *lines,
            *([f"{_count(more, 'more table')} {what}. The failure of this run names them."] if more else []),
        ]
    )


def _skipped_line(outcome: TableOutcome, broken: Collection[Key]) -> str:
    failed = [".".join(key) for key in outcome.blamed if key not in broken]
    files = [".".join(asset_key(key)) for key in outcome.blamed if key in broken]
    reasons = [
        f"failed tables: {_in_a_line(failed)}" if failed else "",
        f"tables whose files are broken: {_in_a_line(files)}" if files else "",
    ]
    seen = f" {outcome.production.words}" if outcome.production else ""
    because = ", and ".join(filter(None, reasons))
    if outcome.held_back_by:
        group = outcome.table.publish_group
        return (
            f"{outcome.table.name} was held back with publish_group {group}, because of {because}.{seen} Its rows are in "
            f"{outcome.candidate}."
        )
    return f"{outcome.table.name} was skipped, because it reads {because}.{seen}"


def _run_failure(facts: Sequence[Mapping[str, Any]], skipped: Sequence[TableOutcome]) -> dg.Failure:
    """Return the failure of a run: which tables, in a line, and the first causes.

    Dagster prints it twice, each time with the lines of its code behind it, and a person looks there: the log has the causes far above.
    """
    room = max(_LEAST_FACT, _FACTS_LIMIT // max(len(facts), 1))
    built = [fact for fact in facts if fact["was_built"]]
    checked = [fact for fact in facts if not fact["was_built"]]
    held = [outcome for outcome in skipped if outcome.held_back_by]
    skipped = [outcome for outcome in skipped if not outcome.held_back_by]
    lines = [
        f"{_count(len(built), 'table')} failed: {_named(built)}." if built else "",
        f"{_count(len(checked), 'published table')} failed checks: {_named(checked)}." if checked else "",
        f"Skipped, since they read failed tables: {_in_a_line([o.table.name for o in skipped])}." if skipped else "",
        f"Held back with their group: {_in_a_line([o.table.name for o in held])}." if held else "",
        *_causes(facts),
    ]
    return dg.Failure(
        description="\n".join(filter(None, lines)),
        metadata={
            # For a person, on the page of the run.
            **{fact["table"]: fact["message"] for fact in facts[:_CAUSES_SHOWN]},
            "failed": [fact["table"] for fact in built],
            "skipped": [outcome.table.asset_name for outcome in skipped],
            **({"held_back": [outcome.table.asset_name for outcome in held]} if held else {}),
            # For the alert: it reads facts and parses no text.
            "facts": [_stored(fact, room=room) for fact in facts],
        },
        # run_ctas never retries by itself: a retry after a cancel would publish.
        allow_retries=False,
    )


def _causes(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the first line of the first causes, without row values, and where the others are."""
    lines = [f"  {fact['table']}: {_in_line(fact)}" for fact in facts[:_CAUSES_IN_LINES]]
    more = len(facts) - len(lines)
    rest = (
        f"the causes of {_count(more, 'more table')}"
        if more
        else "more about it"
        if len(lines) == 1
        else "more about them"
    )
    return [*lines, f"The log and the metadata of this event have {rest}."]


def _in_line(fact: Mapping[str, Any]) -> str:
    line, errno = str(fact["cause"]).split("\n", 1)[0], fact["errno"]
    # An error without a number is a sentence of ours.
    line = line if errno is None else redact_row_values(line, errno)
    return line if len(line) <= _CAUSE_LIMIT else f"{line[: _CAUSE_LIMIT - 1]}…"


def _stored(fact: Mapping[str, Any], *, room: int) -> dict[str, Any]:
    """Return a fact without its message, and with no more of its cause than there is room for."""
    cause = excerpt(fact["cause"], limit=min(room, ERROR_LIMIT))
    return {**{name: value for name, value in fact.items() if name != "message"}, "cause": cause}


def early_failure(
    stage: str, summary: str, problem: str, error: Exception, *, reason: Reason | None = None
) -> dg.Failure:
    """Return the failure of a run that came to no table."""
    errno = getattr(error, "errno", None)
    cause = without_secrets(problem)
    return dg.Failure(
        description=f"{summary}: {cause}\nNothing was built.",
        metadata={
            "early": {
                "stage": stage,
                "summary": summary,
                "cause": cause,
                "cause_class": f"Snowflake error {errno}" if errno else type(error).__name__,
                "errno": errno,
                "reason": reason.value if reason else None,
            }
        },
        allow_retries=False,
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _named(facts: Sequence[Mapping[str, Any]]) -> str:
    return _in_a_line(
        [f"{fact['table']} in stage {fact['stage']}" if fact["was_built"] else fact["table"] for fact in facts]
    )


def _in_a_line(names: Sequence[str]) -> str:
    """Return names in a line, the first of them where there are many: Dagster stores the line three times."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def facts_of(outcome: TableOutcome, failure: Failure, *, part: Slice | None = None) -> dict[str, Any]:
    """Return the facts about a table that was to be built, as the alert reads them.

    Args:
        outcome: What became of it.
        failure: Why it was not published.
        part: The partitions that were to be built, None for a whole table.
    """
    failed = [audit for audit in outcome.audits if audit.blocks]
    return {
        "table": outcome.table.asset_name,
        "was_built": True,
        "stage": failure.stage,
        "message": without_secrets(failure.message),
        "cause": without_secrets(failure.problem or failure.message),
        "where": failure.where,
        "cause_class": _cause_class(failure, failed),
        "errno": failure.errno,
        "reason": failure.reason.value if failure.reason else None,
        "checks": [_check_facts(audit) for audit in failed],
        "query_id": failure.query_id,
        "production": failure.production.words,
        "readers_see": failure.production.to_json(),
        "owners": [outcome.table.owner] if outcome.table.owner else [],
        "candidate": str(outcome.candidate) if outcome.row_count is not None else None,
        "if_wanted": failure.if_wanted,
        **_partition_facts(outcome, part),
    }


def _partition_facts(outcome: TableOutcome, part: Slice | None) -> dict[str, Any]:
    """Return which partitions failed, and how many of the run are published all the same; nothing of a table built whole."""
    if part is None:
        return {}
    failed = failed_partitions(outcome) if outcome.partitions else list(part.keys)
    return {"partitions": failed, "partitions_published": len(published_partitions(outcome))}


def _cause_class(failure: Failure, failed: Sequence[AuditOutcome]) -> str:
    """Return what makes two failures the same one, without numbers and texts: these differ each day."""
    if failed and failure.cause is None:
        return "check " + ", ".join(audit.audit.name for audit in failed)
    if failure.errno is not None:
        return f"Snowflake error {failure.errno}"
    return type(failure.cause).__name__ if failure.cause is not None else "refused"


def _check_facts(audit: AuditOutcome) -> dict[str, Any]:
    got = audit.found or ", ".join(
        agreeing(f"{number:,}", counts) for counts, number in audit.got.items() if number is not None
    )
    expected = ", ".join(agreeing(bounds, counts) for counts, bounds in audit.expected.items())
    if audit.words and audit.found is None:
        got, expected = audit.words
    # A check of two thousand columns has as many of each.
    return {
        "name": audit.audit.name,
        "kind": audit.audit.kind,
        "is_answered": bool(got),
        "got": excerpt(got or NO_ANSWER, limit=QUERY_LIMIT),
        "expected": excerpt(expected or audit.audit.description, limit=QUERY_LIMIT),
    }
