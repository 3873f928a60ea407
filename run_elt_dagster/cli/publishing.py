"""What publishing a table, partitions and a group by hand share."""

from collections.abc import Sequence

import dagster as dg

from run_elt_dagster.cli.printing import say_on_stderr
from run_elt_dagster.orchestration.kept import is_recorded, late_event, report, tags_of_part
from run_elt_dagster.publish.kept import Published


def said(problems: Sequence[str | None]) -> int:
    """Say what is left to do, and return the exit code."""
    left = [problem for problem in problems if problem]
    for problem in left:
        say_on_stderr(problem)
    return 1 if left else 0


def may_be_waived(checks: Sequence[str]) -> str:
    """Return the names of the checks that may fail, for a person."""
    return ", ".join(dict.fromkeys(["changes", *checks]))


def say_published(instance: dg.DagsterInstance, found: Published) -> str | None:
    """Say that readers see rows already, and note it in Dagster if it is not noted; return why it could not be noted."""
    who = f", {found.by_hand.words}" if found.by_hand is not None else ""
    print(f"{found.table.name} is published already: {found.version.words}{who}. What readers see was not changed.")
    if is_recorded(instance, found):
        return None
    tags = tags_of_part(instance, found.table) if found.is_part else None
    return report(instance, [late_event(found, tags=tags)])
