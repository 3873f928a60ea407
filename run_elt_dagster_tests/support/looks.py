"""Each look of the project at Dagster's history: ticks of the sensors and the schedule, the doctor's, and that of `run-elt show`."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import dagster as dg

from run_elt_dagster.alerts.incidents import INCIDENTS_DESCRIBED
from run_elt_dagster.alerts.sensors import alert_sensors
from run_elt_dagster.doctor.deployment import check_deployment
from run_elt_dagster.doctor.finding import Finding
from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.heartbeat import lost_runs_sensor
from run_elt_dagster.orchestration.jobs import JOB_NAME, jobs_of
from run_elt_dagster.orchestration.schedule import schedule_of
from run_elt_dagster.orchestration.show import Shown, differences, recorded_by_dagster
from run_elt_dagster.publish.guards import InventoryTable
from run_elt_dagster.runs.tags import ALIVE, bound
from run_elt_dagster.settings import Settings
from run_elt_dagster_tests.support.alert_harness import AlertHarness

Look = Callable[[], object]
Prepare = Callable[[], Look]
"""Makes ready what a look is to find, and returns the look."""
# Tables with other rows than Dagster recorded last: each takes queries of its own.
_DIFFERENT = 5


class Looks:
    """The looks at one history, as the processes of a deployment take them again and again."""

    def __init__(self, harness: AlertHarness, home: Path) -> None:
        self._harness, self._instance, self._home = harness, harness.instance, home
        self._alert, self._retries, *_ = alert_sensors(harness.alerts)
        self._cursor: str | None = None
        self._alert_tick()
        # What a new process reads once of each open incident, some in each tick.
        for _ in range(-(-len(harness.names) // INCIDENTS_DESCRIBED)):
            self._retries_tick()

    @property
    def all(self) -> Mapping[str, Prepare]:
        return {
            "slack_alert, idle": lambda: self._alert_tick,
            "slack_alert, a new failure": self._new_failure(lambda: self._alert_tick),
            "slack_alert_retries, idle": lambda: self._retries_tick,
            "slack_alert_retries, a new failure": self._new_failure(lambda: self._retries_tick),
            "lost_runs, idle": lambda: self._lost_tick("{}"),
            "lost_runs, a lost run": self._lost_run,
            "daily": lambda: self._scheduled_tick,
            "run-elt doctor, the part of Dagster": lambda: self._doctor,
            "run-elt show, Dagster's records": lambda: self._show,
        }

    def _alert_tick(self) -> str | None:
        resources = {"slack": self._harness.slack}
        with dg.build_sensor_context(self._instance, cursor=self._cursor, resources=resources) as context:
            found = self._alert.evaluate_tick(context)
        self._cursor = found.cursor or self._cursor
        return found.skip_message

    def _retries_tick(self) -> object:
        with dg.build_sensor_context(self._instance, resources={"slack": self._harness.slack}) as context:
            return self._retries(context)

    def _new_failure(self, prepare: Prepare) -> Prepare:
        def failed() -> Look:
            self._harness.fail_only(self._harness.names[-1])
            # The second sensor leaves the first one time.
            self._harness.now += 60
            return prepare()

        return failed

    def _lost_tick(self, cursor: str) -> Look:
        sensor = lost_runs_sensor(lost_after_seconds=60)
        return lambda: sensor(dg.build_sensor_context(self._instance, cursor=cursor))

    def _lost_run(self) -> Look:
        run_id, sign = str(uuid4()), "2026-11-28T00:00:00.000+00:00"
        tags = {ALIVE: bound(run_id, sign)}
        self._instance.add_run(dg.DagsterRun(JOB_NAME, run_id=run_id, tags=tags, status=dg.DagsterRunStatus.STARTED))
        return self._lost_tick(json.dumps({run_id: [sign, 10]}))

    def _scheduled_tick(self) -> object:
        at = datetime.now(UTC)
        (job,) = jobs_of(catalogue([]))
        return schedule_of(job)(dg.build_schedule_context(self._instance, scheduled_execution_time=at))

    def _doctor(self) -> list[Finding]:
        tables = catalogue(
            [
                AnalyticsTable.model_validate({"schema": "analytics", "table": name, "sql": "select 1 as n"})
                for name in self._harness.names
            ]
        )
        os.environ["DAGSTER_HOME"] = str(self._home)
        open_instance = lambda: dg.DagsterInstance.from_config(str(self._home))  # noqa: E731
        return list(check_deployment(Settings.from_environment({}), tables, open_instance))

    def _show(self) -> list[str]:
        keys = [("analytics", name) for name in self._harness.names]
        recorded = recorded_by_dagster(self._instance, keys)
        assert recorded
        return [said for key in keys[-_DIFFERENT:] for said in self._different(recorded, key)]

    def _different(self, recorded: Mapping[tuple[str, ...], object], key: tuple[str, str]) -> Iterator[str]:
        """Yield what is said of a table that a run of this Dagster has published, and has not recorded."""
        (run,) = self._instance.get_runs(limit=1)
        marker = Marker("run", run.run_id, "2026-11-28T00:00:00+00:00")
        existing = InventoryTable(key[1], 5, str(marker))
        shown = Shown(".".join(key), Relation("DB", *key), existing, recorded=recorded[key])  # type: ignore[arg-type]
        return differences(shown, self._instance)
