"""`run-elt doctor`."""

from typing import TYPE_CHECKING

import click

from run_elt_dagster.cli.opening import dagster_instance
from run_elt_dagster.cli.parameters import as_json
from run_elt_dagster.cli.printing import print_json, say
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.doctor import examine, summary

if TYPE_CHECKING:
    from run_elt_dagster.doctor import Finding

SECTIONS = ("installation", "snowflake", "slack", "dagster")


@click.command("doctor")
@click.argument("sections", nargs=-1, type=click.Choice(SECTIONS))
@as_json
def command(sections: tuple[str, ...], *, as_json: bool) -> int:
    """Check the set-up, or only some SECTIONS of it.

    Each line names what is wrong and the next step. The exit code is 1 if a check fails.
    """
    findings: list[Finding] = []
    with progress("Checking the set-up") as steps:
        for finding in examine(dagster_instance, sections or SECTIONS):
            findings.append(finding)
            if not as_json:
                with steps.paused():
                    say(str(finding))
    if as_json:
        print_json([finding.as_mapping() for finding in findings])
    else:
        say(summary(findings))
    return 1 if any(finding.status == "FAIL" for finding in findings) else 0
