"""`run-elt test`."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from run_elt_dagster.cli.parameters import TABLE, as_json, of_project
from run_elt_dagster.cli.printing import print_json, say
from run_elt_dagster.cli.progress import progress
from run_elt_dagster.embedded import require_installed
from run_elt_dagster.model.problems import TableProblem
from run_elt_dagster.project import Project

if TYPE_CHECKING:
    from run_elt_dagster.testing.runner import AccountRunner, Outcome


@click.command("test")
@click.argument("tables", nargs=-1, type=TABLE, metavar="[SCHEMA.TABLE]...")
@of_project
@as_json
def command(project: Project, tables: tuple[str, ...], *, as_json: bool) -> int:
    """Run the tests of TABLES, of all tables by default, without a warehouse.

    The tests of a table are in <table>.test.yaml beside its SQL. The exit code is 1 if one fails, or if there is none.

    \b
      run-elt test                          every test
      run-elt test analytics.mau_summary    those of one table
    """
    require_installed()
    from run_elt_dagster.testing.folder import load_tests  # noqa: PLC0415 - needs what may not be installed
    from run_elt_dagster.testing.runner import Runner  # noqa: PLC0415

    started = time.monotonic()
    settings = project.settings
    outcomes: list[Outcome] = []
    with ExitStack() as stack, progress("Reading the tests") as steps:
        tests, problems = load_tests(settings.tables_dir, tables, database=settings.database)
        cases = [(each, case) for each in tests for case in each.file.cases]
        runner = stack.enter_context(Runner(_account(project, stack)))
        for number, (each, case) in enumerate(cases):
            steps.tell(f"{each.table.name}: {case.name}", done=number, total=len(cases))
            outcomes.append(outcome := runner.run(each, case))
            if not as_json:
                with steps.paused():
                    _print(outcome)
    if as_json:
        print_json({"cases": [outcome.as_mapping() for outcome in outcomes], "problems": _mappings(problems)})
    else:
        for problem in problems:
            say(f"ERROR  {problem}")
        say(_summary([outcome.verdict for outcome in outcomes], len(problems), time.monotonic() - started))
    is_right = outcomes and not problems and all(outcome.verdict in ("passed", "skipped") for outcome in outcomes)
    return 0 if is_right else 1


def _account(project: Project, stack: ExitStack) -> "Callable[[], AccountRunner] | None":
    """Return what opens a session for the tests that run on an account only, None where there is no account for them."""
    settings = project.settings
    if not settings.test_schema or settings.snowflake is None:
        return None

    def opened() -> "AccountRunner":
        # Dagster alone takes a second, and only an account needs it.
        from run_elt_dagster.cli.opening import signed_in  # noqa: PLC0415
        from run_elt_dagster.testing.account import OnAccount  # noqa: PLC0415

        return OnAccount(stack.enter_context(signed_in(project)), settings.test_schema)

    return opened


def _print(outcome: "Outcome") -> None:
    say(f"{_WORDS[outcome.verdict]:<6} {outcome.table}: {outcome.case}")
    # An error names its own place.
    place = [f"{_seen_from_here(outcome.path)}:{outcome.line}"] if outcome.verdict == "failed" else []
    for line in (*place, *outcome.message.splitlines()):
        say(f"       {line}")


def _seen_from_here(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


_WORDS = {"passed": "ok", "failed": "FAIL", "error": "ERROR", "skipped": "skip"}


def _summary(verdicts: Sequence[str], problems: int, seconds: float) -> str:
    if not verdicts and not problems:
        return "There is no test. Write <table>.test.yaml beside the SQL of a table: docs/tests.md shows one."
    counted = Counter(verdicts)
    parts = [f"{counted[verdict]} {verdict}" for verdict in ("passed", "failed") if counted[verdict]]
    errors = counted["error"] + problems
    parts += [f"{errors} error{'' if errors == 1 else 's'}"] if errors else []
    parts += [f"{counted['skipped']} skipped"] if counted["skipped"] else []
    return f"\n{', '.join(parts)} in {seconds:.2f} s"


def _mappings(problems: Sequence[TableProblem]) -> list[dict[str, object]]:
    return [{"path": str(each.path), "line": each.line, "message": each.message} for each in problems]
