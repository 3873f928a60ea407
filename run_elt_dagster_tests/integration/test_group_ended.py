"""What is said of a group whose run was killed between two exchanges: by the alert of the run, and by `run-elt doctor`."""

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.alerts.failure import ended_groups_of
from run_elt_dagster.alerts.first_attempt import alert_of_failed_run
from run_elt_dagster.alerts.production import look_at_production
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.doctor.account import check_account
from run_elt_dagster.model.checks import Checks
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.group_lock import GroupNote, operator
from run_elt_dagster.publish.group_recovery import end_left_exchanges
from run_elt_dagster.publish.kept import Kept
from run_elt_dagster.publish.kept_group import GroupPublisher
from run_elt_dagster.publish.preflight import read_targets
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.settings import AlertSettings, PublishOptions, Settings
from run_elt_dagster.snowflake.runner import RunContext, StatementRunner
from run_elt_dagster_tests.faults.groups import GroupCell, publish_old_group, seen_of_group
from run_elt_dagster_tests.faults.laboratory import (
    PROCESSES,
    FaultLab,
    arguments_of,
    open_laboratory,
    open_session,
    run,
)
from run_elt_dagster_tests.faults.run_process import JOB, run_in_dagster
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.embedded import account_variables, simulated_account
from run_elt_dagster_tests.support.history import lay_empty_history
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, slack_stand_in

# Two looks, the lock, two looks, the grants of two tables, and who has the lock: then the first swap.
FIRST_SWAP = 10


@dataclass
class KilledCell(GroupCell):
    """A group whose run is killed after its first exchange. Dagster knows it by a UUID."""

    publish: str = "swap"
    first: bool = False
    fault: str = "killed"
    index: int = FIRST_SWAP

    @property
    def run_id(self) -> str:
        return f"0000000{self.number}-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultLab]:
    with open_laboratory(tmp_path_factory.mktemp("ended_groups")) as laboratory:
        yield laboratory


def half_published(lab: FaultLab, cell: KilledCell, target: Callable[..., object], *arguments: object) -> None:
    """Run a group in a process that is killed when readers see the new rows of its first table."""
    publish_old_group(lab, cell)
    killed(lab, cell, target, *arguments)


def killed(lab: FaultLab, cell: KilledCell, target: Callable[..., object], *arguments: object) -> None:
    """Publish in a process that is killed when readers see the new rows of the first table of two."""
    lab.cells[cell.run_id] = cell
    cell.process = PROCESSES.Process(target=target, args=arguments)
    cell.process.start()
    cell.started.set()
    cell.process.join(PATIENCE_SECONDS)
    cell.ended.set()
    # What ends the exchange sends statements in the name of the run.
    del lab.cells[cell.run_id]
    assert cell.process.exitcode == -signal.SIGKILL
    assert seen_of_group(lab, cell) == (2, 1)


@pytest.mark.thorough
def test_alert_tells_that_it_has_ended_the_exchange_of_the_killed_run(lab: FaultLab, tmp_path: Path) -> None:
    cell, account = KilledCell(1), simulated_account(lab.account.server)
    fields = {name: value for name, value in account.model_dump().items() if value is not None}
    history, tables = lay_empty_history(tmp_path), cell.declared()
    half_published(lab, cell, run_in_dagster, fields, history, tables, cell.run_id, tmp_path / "log")
    alerts = Alerts(
        AlertSettings(),
        {table.asset_name: [] for table in tables},
        (JOB,),
        look=lambda names, log, run_id: look_at_production(
            lambda: account, catalogue(tables), names, log, run_id=run_id
        ),
    )
    with dg.DagsterInstance.local_temp(str(history)) as instance, slack_stand_in() as slack:
        lost = instance.get_run_by_id(cell.run_id)
        assert lost is not None
        # As the daemon does with a run whose process is gone.
        instance.report_run_failed(lost)
        client = Slack(token=TOKEN, channel=CHANNEL, base_url=slack.url)
        alert_of_failed_run(alerts, instance, client, cell.run_id, log=logging.getLogger("ended-groups"))
        (message,) = slack.messages
    assert seen_of_group(lab, cell) == (2, 2)
    told = json.dumps(message["blocks"], ensure_ascii=False)
    assert (
        f"*Group:* publish_group {cell.group}: the run has left its exchange half done. All tables had passed" in told
    )
    assert "New, verified in Snowflake: this run has published the table" in told
    assert not lab.sql(f"select 1 from information_schema.tables where table_name = '{cell.lock}'")


def test_look_of_the_alert_ends_the_exchange_and_says_so(lab: FaultLab) -> None:
    cell = KilledCell(3)
    half_published(lab, cell, run, lab.account.arguments, cell.declared(), cell.run_id)
    account, tables = simulated_account(lab.account.server), catalogue(cell.declared())
    names = [table.asset_name for table in tables.values()]
    seen = look_at_production(lambda: account, tables, names, logging.getLogger("ended-groups"), run_id=cell.run_id)
    assert seen is not None
    assert {name: marker.run_id for name, marker in seen.items() if marker is not None and name in names} == (
        dict.fromkeys(names, cell.run_id)
    )
    (told,) = ended_groups_of(seen)
    assert told.startswith(
        f"publish_group {cell.group}: the run has left its exchange half done. All tables had passed"
    )
    assert seen_of_group(lab, cell) == (2, 2)


def test_doctor_ends_the_exchange_of_a_killed_run_and_names_a_rollback_that_has_not_ended(
    lab: FaultLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = KilledCell(2)
    tables = catalogue(cell.declared())
    for name, value in account_variables(lab.account.server).items():
        monkeypatch.setenv(name, value)

    def groups() -> tuple[str, str, str]:
        findings = check_account(Settings.from_environment(), tables, is_live=lambda _: False)
        return next((found.status, found.detail, found.remedy) for found in findings if found.name == "groups")

    half_published(lab, cell, run, lab.account.arguments, cell.declared(), cell.run_id)
    status, told, _ = groups()
    assert (status, seen_of_group(lab, cell)) == ("ok", (2, 2))
    assert f"Run {cell.run_id} ended while it published publish_group {cell.group}" in told
    assert "the exchange is done now: readers see the new rows in all of them" in told
    assert groups()[:2] == ("ok", "no exchange is left half done")
    began = "2026-01-01T00:00:00Z"
    both = ("analytics.a", "analytics.b")
    note = GroupNote(cell.group, cell.run_id, began, both, "rolls back", by="ana@elsewhere:7", since=began)
    lab.sql(f"create table analytics.{cell.lock} (run_id varchar) comment = '{note}'")
    status, told, _ = groups()
    assert status == "FAIL"
    assert told.startswith(f"run-elt rollback --group {cell.group} of ana@elsewhere:7, begun 2026-01-01 00:00 UTC,")
    assert "Repeat the command" in told
    # To drop the lock of one that goes on would let a run publish beside it.
    note = replace(note, since=datetime.now(UTC).isoformat())
    for who, advice in (("ana@elsewhere:7", "Leave RUN_ELT."), (operator(), "Then drop RUN_ELT.")):
        lab.sql(f"comment on table analytics.{cell.lock} is '{replace(note, by=who)}'")
        assert advice in groups()[2]


def rejecting(cell: KilledCell) -> list[AnalyticsTable]:
    """Return the tables of a group of which one allows no change."""
    orders, totals = cell.declared()
    checks = Checks.model_validate({"changes": {"key": ["n"], "max_changed": 0}})
    return [orders, totals.model_copy(update={"checks": checks})]


def publish_kept(arguments: Mapping[str, Any], tables: Sequence[AnalyticsTable], run_id: str) -> None:
    given = arguments_of(run_id)
    with open_session(arguments) as session:
        publisher = GroupPublisher(
            session, catalogue(tables), tables, options=given["options"], patience=given["patience"]
        )
        publisher.publish([each for each in publisher.find(run_id) if isinstance(each, Kept)], person="ana", waived=())


@pytest.mark.thorough
def test_next_run_ends_what_a_killed_command_has_begun_to_publish_by_hand(lab: FaultLab) -> None:
    cell, arguments = KilledCell(4), lab.account.arguments
    publish_old_group(lab, cell)
    outcomes = run(arguments, rejecting(cell), cell.run_id)
    assert not any(outcome.published for outcome in outcomes)
    killed(lab, cell, publish_kept, arguments, rejecting(cell), cell.run_id)
    told: list[str] = []
    with open_session(arguments) as session:
        # Another group has its tables in the same schema.
        others = KilledCell(5).declared()
        tables = catalogue([*rejecting(cell), *others])
        keys = [table.key for table in others]
        outcomes = list(run_tables(session, tables, keys, **arguments_of("0000000C"), warn=told.append))
    assert all(outcome.published for outcome in outcomes)
    assert seen_of_group(lab, cell) == (2, 2)
    assert [
        f"published publish_group {cell.group}" in each and "the exchange is done now" in each for each in told
    ] == [True]


@pytest.mark.thorough
@pytest.mark.parametrize(("removed", "new"), [(0, (2, 2)), (1, (2, 1))], ids=["exchanged", "waiting"])
def test_table_whose_file_was_removed_keeps_the_exchange_of_no_other_open(
    lab: FaultLab, removed: int, new: tuple[int, int]
) -> None:
    cell = KilledCell(6 + removed)
    half_published(lab, cell, run, lab.account.arguments, cell.declared(), cell.run_id)
    left = [table for number, table in enumerate(cell.declared()) if number != removed]
    with open_session(lab.account.arguments) as session:
        runner = StatementRunner(session, RunContext("look"), threading.Event())
        found = read_targets(runner, left, database=session.database, check_policies=False)
        known, options = catalogue(left), PublishOptions()
        (ended,) = end_left_exchanges(runner, known, found, database=session.database, options=options)
    assert seen_of_group(lab, cell) == new
    gone = cell.declared()[removed].name
    assert f"No file declares {gone} any more" in ended.words
    assert ended.state == ("forward" if removed == 0 else "declared")
    like = [f"{name.upper()}" for name in cell.names]
    names = {
        name for (name,) in lab.sql("select table_name from information_schema.tables where table_schema = 'ANALYTICS'")
    }
    assert {name for name in names if any(each in name for each in [*like, cell.lock])} == set(like)
