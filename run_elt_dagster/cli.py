"""The command `run-elt`: what a person wants to know after a run, without opening the UI."""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from dotenv import load_dotenv

from run_elt_dagster.alerts.delivery import post
from run_elt_dagster.alerts.message import Style, trial_message
from run_elt_dagster.assets import is_live
from run_elt_dagster.history import last_publications
from run_elt_dagster.lineage import Catalogue, Key, load_table, load_tables
from run_elt_dagster.publish import PublishRefusedError, target_of
from run_elt_dagster.relation import session_name
from run_elt_dagster.resources.slack import Slack
from run_elt_dagster.resources.snowflake import Snowflake
from run_elt_dagster.rollback import Rollback, RollbackPlan
from run_elt_dagster.sending import RunOptions, Sender
from run_elt_dagster.session import StatementError
from run_elt_dagster.settings import Settings, SettingsError, secret_values
from run_elt_dagster.table import AnalyticsTable, TableProblemsError

if TYPE_CHECKING:
    from run_elt_dagster.doctor import Finding

ROWS_SHOWN = 20
SECTIONS = ("installation", "snowflake", "slack", "dagster")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 something is wrong, 2 wrong usage."""
    # Dagster's own commands read .env in the working directory; this one then sees the same settings.
    load_dotenv(Path(".env"))
    parser = argparse.ArgumentParser(prog="run-elt", description="Look at the tables of run_elt_dagster.")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="list the published tables, then the rows of those that are named")
    show.add_argument("tables", nargs="*", metavar="SCHEMA.TABLE", help="tables whose rows to print")
    rollback = commands.add_parser("rollback", help="put the previous version of a table back")
    rollback.add_argument("table", metavar="SCHEMA.TABLE")
    rollback.add_argument("--yes", action="store_true", help="do it without asking")
    alert = commands.add_parser("alert", help="try out the alerts")
    alert.add_argument("--test", action="store_true", required=True, help="post a test message to Slack")
    doctor = commands.add_parser(
        "doctor", help="check the set-up: settings, tables, Snowflake, Slack, Dagster's daemon"
    )
    doctor.add_argument("--json", action="store_true", help="print a list of objects with name, status, detail, remedy")
    doctor.add_argument(
        "--only",
        nargs="+",
        choices=SECTIONS,
        default=SECTIONS,
        metavar="SECTION",
        help=f"look at these alone: {', '.join(SECTIONS)}",
    )
    watch = commands.add_parser("watch", help="check a deployment from outside, and post to Slack what fails")
    watch.add_argument("--state", type=Path, default=Path("run_elt_watch.json"), help="file of what was told")
    watch.add_argument("--every", type=int, metavar="SECONDS", help="go on for ever; once without it, as a timer wants")
    watch.add_argument("--again-after-hours", type=float, default=6, help="when a failure that lasts is told again: 6")
    watch.add_argument("--confirm-seconds", type=float, default=30, help="look again after so long before telling: 30")
    options = parser.parse_args(arguments)
    try:
        if options.command == "rollback":
            return _rollback(options.table, is_agreed=options.yes)
        if options.command == "doctor":
            return _doctor(options.only, as_json=options.json)
        if options.command == "watch":
            return _watch(options)
        return _alert() if options.command == "alert" else _show(options.tables)
    except (SettingsError, TableProblemsError, StatementError, PublishRefusedError, ValueError) as error:
        print(f"run-elt: {error}", file=sys.stderr)
        return 1


def _show(names: Sequence[str]) -> int:
    settings = Settings.from_environment()
    tables = load_tables(settings.tables_dir)
    keys = [_key_of(name, tables) for name in names]
    with _instance() as instance:
        print(
            _table_of(["table", "rows", "seconds", "checks passed", "published (UTC)", "at"], _rows(instance, tables))
        )
    snowflake = Snowflake.from_settings(settings).resolved()
    for key in keys:
        _print_rows(snowflake, tables[key])
    where = (
        f"embedded Snowflake in {settings.embedded_dir}" if settings.snowflake is None else settings.snowflake.account
    )
    print(f"\nSnowflake: {where}")
    return 0


def _rollback(name: str, *, is_agreed: bool) -> int:
    settings = Settings.from_environment()
    table = load_table(settings.tables_dir, name)
    with _instance() as instance, Snowflake.from_settings(settings).resolved().session() as session:
        options = RunOptions(
            run_id="rollback",
            job="run-elt rollback",
            check_policies=settings.check_policies,
            is_live=lambda start: is_live(instance, start),
        )
        rollback = Rollback(Sender(session, options, threading.Event()), table, database=session.database)
        plan = rollback.plan()
        print(_plan_text(plan))
        if not is_agreed and not _agrees():
            print("Nothing was changed.")
            return 1
        for warning in rollback.carry_out(plan):
            print(f"run-elt: {warning}", file=sys.stderr)
        instance.report_runless_asset_event(
            dg.AssetObservation(
                list(table.key),
                description=f"Rolled back to the previous version: {plan.previous}.",
                metadata={"rolled_back_to": str(plan.previous), "rolled_back_from": str(plan.present or "no table")},
            )
        )
    print(f"{plan.target} is back at {plan.previous}. The next run of {table.name} publishes again: fix its SQL first.")
    return 0


def _plan_text(plan: RollbackPlan) -> str:
    lines = [
        f"{plan.table.name} at {plan.target}",
        f"  readers see now    {plan.present or 'no table'}",
        f"  they will see      {plan.previous}",
        f"  by                 {plan.method}. {plan.consequence}",
    ]
    if plan.aside is not None:
        lines.append(f"  present rows go to {plan.aside}")
    return "\n".join(lines)


def _agrees() -> bool:
    if not sys.stdin.isatty():
        raise ValueError("rolling back requires an answer, got no terminal. Nothing was changed. Pass --yes.")
    return input("Roll back? Type yes: ").strip().lower() == "yes"


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
    while True:
        is_well = watch.once(lambda line: print(line, flush=True))
        if options.every is None:
            return 0 if is_well else 1
        time.sleep(options.every)


def _doctor(sections: Sequence[str], *, as_json: bool) -> int:
    from run_elt_dagster.doctor import examine, summary  # noqa: PLC0415 - the other commands need nothing of it

    findings: list[Finding] = []
    for finding in examine(_instance, sections):
        findings.append(finding)
        if not as_json:
            print(finding, flush=True)
    print(json.dumps([finding.as_mapping() for finding in findings], indent=2) if as_json else summary(findings))
    return 1 if any(finding.status == "FAIL" for finding in findings) else 0


def _key_of(name: str, tables: Catalogue) -> Key:
    key = tuple(name.lower().replace("/", ".").split("."))
    if key not in tables:
        known = ", ".join(table.name for table in tables.values())
        raise ValueError(f"run-elt requires declared tables, got {name}. Nothing was done. Known tables: {known}.")
    return key


def _instance() -> dg.DagsterInstance:
    """Return the instance that Dagster's commands use here: DAGSTER_HOME, or the folder with dagster.yaml."""
    if not os.environ.get("DAGSTER_HOME"):
        if not Path("dagster.yaml").is_file():
            raise ValueError(
                f"run-elt requires DAGSTER_HOME or a dagster.yaml in the working directory, got neither in {Path.cwd()}. "
                "Change to the folder in which Dagster was started, or set DAGSTER_HOME.",
            )
        os.environ["DAGSTER_HOME"] = str(Path.cwd())
    return dg.DagsterInstance.get()


def _rows(instance: dg.DagsterInstance, tables: Catalogue) -> Iterator[list[str]]:
    published = last_publications(instance, list(tables))
    for key in tables:
        event = published.get(key)
        if event is None or event.asset_materialization is None:
            yield [".".join(key), "-", "-", "-", "never", "-"]
            continue
        metadata = {name: value.value for name, value in event.asset_materialization.metadata.items()}
        yield [
            ".".join(key),
            f"{metadata['dagster/row_count']:,}",
            str(metadata["seconds"]),
            str(metadata["checks_passed"]),
            f"{datetime.fromtimestamp(event.timestamp, UTC):%Y-%m-%d %H:%M:%S}",
            str(metadata["dagster/table_name"]),
        ]


def _print_rows(snowflake: Snowflake, table: AnalyticsTable) -> None:
    from snowflake.connector.errors import Error  # noqa: PLC0415 - half a second to import, and only needed for rows

    try:
        columns, rows = _read_rows(snowflake, table)
    except Error as error:
        raise ValueError(f"{table.name} cannot be read: {error.msg}. Materialize it, or check the grants.") from error
    print(f"\n{table.name}{f' (first {ROWS_SHOWN} rows)' if len(rows) == ROWS_SHOWN else ''}")
    print(_table_of(columns, iter(rows)))


def _read_rows(snowflake: Snowflake, table: AnalyticsTable) -> tuple[list[str], list[list[str]]]:
    with snowflake.connect() as connection, connection.cursor() as cursor:
        relation = target_of(table, database=session_name(connection.database or ""))
        cursor.execute(f"SELECT * FROM {relation.sql} ORDER BY 1 LIMIT {ROWS_SHOWN}")
        columns = [column.name.lower() for column in cursor.description]
        return columns, [[str(value) for value in row] for row in cursor.fetchall()]


def _table_of(header: list[str], rows: Iterator[list[str]]) -> str:
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


if __name__ == "__main__":
    sys.exit(main())
