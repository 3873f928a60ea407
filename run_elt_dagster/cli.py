"""The command `run-elt`: the questions after a run, answered without the UI."""

import argparse
import importlib.metadata
import json
import os
import shlex
import sqlite3
import sys
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from dotenv import load_dotenv

from run_elt_dagster.alerts.blocks import Style
from run_elt_dagster.alerts.message import trial_message
from run_elt_dagster.alerts.posting import post
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.disk import DiskError
from run_elt_dagster.embedded import NotInstalledError
from run_elt_dagster.model.lineage import load_declared
from run_elt_dagster.model.names import short_id
from run_elt_dagster.model.table_files import load_table
from run_elt_dagster.orchestration.assets import is_live
from run_elt_dagster.orchestration.retry import retry_of
from run_elt_dagster.orchestration.show import HEADER, ROWS_SHOWN, Shown, differences, look, read_rows
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.rollback import Rollback
from run_elt_dagster.publish.rollback_plan import RollbackPlan
from run_elt_dagster.redaction import redact
from run_elt_dagster.runs.history_files import HistoryProblem, history_problems
from run_elt_dagster.settings import Settings, history_is_kept, secret_values
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.runner import RunContext, StatementRunner
from run_elt_dagster.snowflake.session import ConnectorSession, StatementError

if TYPE_CHECKING:
    from run_elt_dagster.doctor import Finding

# What shells expect of a command that SIGINT has ended.
INTERRUPTED = 130
SECTIONS = ("installation", "snowflake", "slack", "dagster")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 something is wrong, 2 wrong usage, 130 interrupted."""
    # Dagster's own commands read .env in the working directory; this one then sees the same settings.
    load_dotenv(Path(".env"))
    parser = argparse.ArgumentParser(
        prog="run-elt", description="Look at the tables of run_elt_dagster, mend them, and check the set-up."
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {importlib.metadata.version('run_elt_dagster')}"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="list what readers see, then print the rows of the named tables")
    show.add_argument(
        "tables",
        nargs="*",
        metavar="SCHEMA.TABLE",
        help="print the rows of these: declared tables, sources, candidates",
    )
    rollback = commands.add_parser("rollback", help="put the previous version of a table back")
    rollback.add_argument("table", metavar="SCHEMA.TABLE")
    rollback.add_argument("--yes", action="store_true", help="do not ask")
    rollback.add_argument(
        "--further", action="store_true", help="go back one version more than an earlier rollback has"
    )
    retry = commands.add_parser("retry", help="build what a failed run left unpublished, and nothing else")
    retry.add_argument(
        "run", nargs="?", metavar="RUN", help="the run's id or its beginning; the newest failed run by default"
    )
    retry.add_argument("--dry-run", action="store_true", help="only print what would be built")
    alert = commands.add_parser("alert", help="try out the alerts")
    alert.add_argument("--test", action="store_true", required=True, help="post a test message to Slack")
    doctor = commands.add_parser("doctor", help="check the set-up: settings, tables, Snowflake, Slack, Dagster")
    doctor.add_argument("--json", action="store_true", help="print a list of objects with name, status, detail, remedy")
    doctor.add_argument(
        "--only",
        nargs="+",
        choices=SECTIONS,
        default=SECTIONS,
        metavar="SECTION",
        help=f"check only these: {', '.join(SECTIONS)}",
    )
    watch = commands.add_parser("watch", help="check a deployment from outside, and post failures to Slack")
    watch.add_argument(
        "--state", type=Path, default=Path("run_elt_watch.json"), help="file that remembers what was posted"
    )
    watch.add_argument(
        "--every", type=int, metavar="SECONDS", help="check again and again; without it once, for a timer"
    )
    watch.add_argument(
        "--again-after-hours", type=float, default=6, help="post a lasting failure again after this time: 6"
    )
    watch.add_argument(
        "--confirm-seconds",
        type=float,
        default=60,
        help="check a failure again after this time before it is posted: 60",
    )
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except KeyboardInterrupt:
        print(f"run-elt: interrupted.{_unknown(options)}", file=sys.stderr)
        return INTERRUPTED
    except (NotInstalledError, StatementError, PublishRefusedError, TimeoutError, ValueError, DiskError) as error:
        print(f"run-elt: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        if not (problems := _history_problems(error)):
            raise
        for problem in problems:
            print(f"run-elt: {problem}", file=sys.stderr)
        return 1


def _history_problems(error: BaseException | None) -> list[HistoryProblem]:
    """Return what is wrong with the files of Dagster's history, if an error is SQLite's or the operating system's about them."""
    while error is not None:
        if isinstance(error, (sqlite3.Error, OSError)) or getattr(error, "orig", None) is not None:
            return history_problems(Path(os.environ.get("DAGSTER_HOME") or Path.cwd()))
        error = error.__cause__ or error.__context__
    return []


def _run(options: argparse.Namespace) -> int:
    if options.command == "rollback":
        return _rollback(options.table, is_agreed=options.yes, further=options.further)
    if options.command == "retry":
        return _retry(options.run, is_dry_run=options.dry_run)
    if options.command == "doctor":
        return _doctor(options.only, as_json=options.json)
    if options.command == "watch":
        return _watch(options)
    return _alert() if options.command == "alert" else _show(options.tables)


def _unknown(options: argparse.Namespace) -> str:
    """Return what an interruption leaves unknown."""
    if options.command != "rollback":
        return ""
    return (
        f" What readers see of {options.table} is unknown if its exchange was under way: run-elt show {options.table}"
    )


def _show(names: Sequence[str]) -> int:
    settings = Settings.from_environment()
    tables, problems = load_declared(settings.tables_dir)
    for problem in problems:
        # Of another file, it is no reason not to look at a table.
        print(f"run-elt: {problem}", file=sys.stderr)
    with _history() as instance, _signed_in(settings) as session:
        found = look(session, tables, names, instance=instance)
        print(_table_of(HEADER, [shown.line for shown in found.declared]))
        _print_notes(found.declared, instance)
        _print_candidates(found.candidates)
        for shown in found.named:
            print(f"\n{shown.facts}")
            if shown.existing is not None:
                columns, rows = read_rows(session, shown)
                print(f"{shown.name}{f' (first {ROWS_SHOWN} rows)' if len(rows) == ROWS_SHOWN else ''}")
                print(_table_of(columns, rows))
    _print_place(settings, instance)
    return 1 if problems and not names else 0


def _print_notes(overview: Iterable[Shown], instance: dg.DagsterInstance | None) -> None:
    notes = [f"{shown.name}: {note}" for shown in overview for note in differences(shown, instance)] if instance else []
    if notes:
        print("\nWhat readers see is not what Dagster recorded last:\n" + "\n".join(f"  {note}" for note in notes))


def _print_candidates(found: Sequence[Shown]) -> None:
    if found:
        shown = "\n".join(f"  {candidate.facts}" for candidate in found[:ROWS_SHOWN])
        more = f"\n  and {len(found) - ROWS_SHOWN} more" if len(found) > ROWS_SHOWN else ""
        print(f"\nCandidates (no reader sees them):\n{shown}{more}")


def _print_place(settings: Settings, instance: dg.DagsterInstance | None) -> None:
    if instance is None:
        print("\nDagster's history: none here: DAGSTER_HOME is not set, and this folder has no dagster.yaml")
    account = f"account {settings.snowflake.account}" if settings.snowflake else None
    print(f"\nSnowflake: {account or f'embedded Snowflake in {settings.embedded_dir}'}")


@contextmanager
def _history() -> Generator[dg.DagsterInstance | None]:
    """Open the instance of Dagster's commands, None where they keep no history."""
    if not history_is_kept():
        yield None
        return
    with _instance() as instance:
        yield instance


@contextmanager
def _signed_in(settings: Settings) -> Generator[ConnectorSession]:
    """Open a session; what Snowflake or the connector refuses is an error for a person, with the next step."""
    with _told(settings), Snowflake.from_settings(settings).resolved().session(log=_log) as session:
        try:
            yield session
        except StatementError as error:
            remedy = "Check the grants." if error.answered else "Look at the network and at Snowflake's status page."
            raise ValueError(f"Snowflake cannot be asked, got {error}. {remedy}") from error


@contextmanager
def _told(settings: Settings) -> Generator[None]:
    try:
        yield
    except Exception as error:
        # Imported by whatever has raised it, and half a second otherwise.
        connector = sys.modules.get("snowflake.connector.errors")
        if connector is None or not isinstance(error, connector.Error):
            raise
        from run_elt_dagster.doctor.sign_in import sign_in_remedy  # noqa: PLC0415 - a failure is rare

        text = " ".join(redact(str(getattr(error, "msg", None) or error), secrets=secret_values()).split()).rstrip(".")
        remedy = "Check the grants." if getattr(error, "sfqid", None) else sign_in_remedy(settings, error)
        raise ValueError(f"Snowflake cannot be asked, got {text}. {remedy}") from error


def _log(text: str) -> None:
    print(f"run-elt: {text}", file=sys.stderr, flush=True)


def _rollback(name: str, *, is_agreed: bool, further: bool) -> int:
    settings = Settings.from_environment()
    table = load_table(settings.tables_dir, name)
    snowflake = Snowflake.from_settings(settings).resolved()
    with _instance() as instance, _told(settings), snowflake.session(log=_log) as session:
        command = RunContext("rollback", "run-elt rollback", is_live=lambda start: is_live(instance, start))
        runner = StatementRunner(session, command, threading.Event())
        rollback = Rollback(runner, table, database=session.database, check_policies=settings.check_policies)
        plan = rollback.plan(further=further)
        print(_plan_text(plan))
        if plan.method == "done":
            return 0
        if not is_agreed and not _agrees():
            print("Nothing was changed.")
            return 1
        left = list(rollback.carry_out(plan))
        try:
            instance.report_runless_asset_event(_observation(plan))
        except Exception as error:  # noqa: BLE001 - readers see the previous version, whatever becomes of the history
            left.append(
                f"the rollback is done, but Dagster's history could not note it, got {type(error).__name__}: {error}"
            )
    print(
        f"{plan.target} is back at {plan.previous.words}. The next run of {table.name} publishes again: fix its SQL first."
    )
    for problem in left:
        print(f"run-elt: {problem}", file=sys.stderr)
    return 1 if left else 0


def _observation(plan: RollbackPlan) -> dg.AssetObservation:
    return dg.AssetObservation(
        list(plan.table.key),
        description=f"Rolled back to the previous version: {plan.previous.words}.",
        metadata={"rolled_back_to": plan.previous.words, "rolled_back_from": _present(plan)},
    )


def _present(plan: RollbackPlan) -> str:
    return plan.present.words if plan.present else "no table"


def _plan_text(plan: RollbackPlan) -> str:
    lines = [
        f"{plan.table.name} at {plan.target}",
        f"  readers see now    {_present(plan)}",
        f"  they will see      {plan.previous.words}",
        f"  by                 {plan.method}. {plan.consequence}",
    ]
    if plan.aside is not None and plan.moved is None:
        lines.append(f"  present rows go to {plan.aside}")
    return "\n".join(lines)


def _agrees() -> bool:
    if not sys.stdin.isatty():
        raise ValueError("rolling back requires an answer, got no terminal. Nothing was changed. Pass --yes.")
    return input("Roll back? Type yes: ").strip().lower() == "yes"


def _retry(run: str | None, *, is_dry_run: bool) -> int:
    from run_elt_dagster.definitions import defs  # noqa: PLC0415 - the other commands need no code location

    # As it was, so Dagster finds its instance as it does without this command.
    environment = dict(os.environ)
    with _instance() as instance:
        retry = retry_of(instance, list(defs.resolve_all_asset_specs()), run)
    for key in retry.published_since:
        print(f"{'.'.join(key.path)} is published since run {short_id(retry.run_id)}, and is left out.")
    if not retry.keys:
        print(f"All that run {short_id(retry.run_id)} left is published since. Nothing was built.")
        return 0
    print(f"Left by run {short_id(retry.run_id)}: {', '.join('.'.join(key.path) for key in retry.keys)}")
    print(f"dagster {shlex.join(retry.command)}", flush=True)
    if is_dry_run:
        return 0
    try:
        # In place of this process: a signal reaches Dagster, and its exit code is the command's.
        os.execve(sys.executable, [sys.executable, "-m", "dagster", *retry.command], environment)  # noqa: S606
    except OSError as error:
        raise ValueError(
            f"run-elt retry requires a selection that fits into a command line, got {len(retry.keys):,} tables ({error}). "
            "Nothing was built. Re-execute the run from asset failure in the UI, or select a schema with group:."
        ) from error


def _alert() -> int:
    settings = Settings.from_environment()
    slack = Slack.from_settings(settings).resolved()
    if slack.missing:
        raise ValueError(
            f"a test alert requires SLACK_TOKEN and SLACK_CHANNEL, got no {slack.missing}. Nothing was sent. Set them."
        )
    style = Style.of(settings.alerts, secrets=secret_values())
    outcome = post(slack.client(), slack.channel, trial_message(style=style), run_id="")
    if outcome.kind != "delivered":
        raise ValueError(
            f"the test alert was not delivered, got {outcome.reason}. Failed runs would not be reported either."
        )
    print(f"A test alert is in channel {outcome.channel}.")
    return 0


def _watch(options: argparse.Namespace) -> int:
    from run_elt_dagster.doctor.watch import Watch, run_doctor  # noqa: PLC0415 - the other commands need nothing of it

    watch = Watch(options.state, options.again_after_hours * 3600, options.confirm_seconds, run_doctor)
    if options.every is None:
        return 0 if watch.once(_say) else 1
    while True:
        # First the wait: what is started together with it is not up yet.
        time.sleep(options.every)
        watch.once(_say)


def _say(line: str) -> None:
    print(line, flush=True)


def _doctor(sections: Sequence[str], *, as_json: bool) -> int:
    from run_elt_dagster.doctor import examine, summary  # noqa: PLC0415 - the other commands need nothing of it

    findings: list[Finding] = []
    for finding in examine(_instance, sections):
        findings.append(finding)
        if not as_json:
            print(finding, flush=True)
    print(json.dumps([finding.as_mapping() for finding in findings], indent=2) if as_json else summary(findings))
    return 1 if any(finding.status == "FAIL" for finding in findings) else 0


def _instance() -> dg.DagsterInstance:
    """Return the instance that Dagster's commands use here: DAGSTER_HOME, or the folder with dagster.yaml."""
    if not os.environ.get("DAGSTER_HOME"):
        if not Path("dagster.yaml").is_file():
            raise ValueError(
                f"run-elt requires DAGSTER_HOME or a dagster.yaml in the working directory, got neither in {Path.cwd()}. "
                "Change to the folder where Dagster was started, or set DAGSTER_HOME.",
            )
        os.environ["DAGSTER_HOME"] = str(Path.cwd())
    return dg.DagsterInstance.get()


def _table_of(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


if __name__ == "__main__":
    sys.exit(main())
