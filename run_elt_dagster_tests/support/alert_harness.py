"""Real failed runs on an instance of a test's own, without Snowflake: what the alerting sees of them."""

import json
import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import dagster as dg

from run_elt_dagster.alerts.first_attempt import alert_of_failed_run
from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.reconciliation import reconcile
from run_elt_dagster.alerts.run_events import EVENT_TYPES, TABLE_EVENT_TYPES
from run_elt_dagster.alerts.scope import Alerts, Known
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.runs.code_location import CodeLocation
from run_elt_dagster.settings import AlertSettings, PublishOptions
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.session import NO_PARAMETERS, Answer, Parameters, StatementError
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, SlackStandIn

LOG = logging.getLogger("alerts-in-tests")


@dataclass
class ScriptedSession:
    """Snowflake at our own seam: every table has the rows it is told, or fails with an error."""

    database: str = "DB"
    rows: int = 0
    published_rows: int | None = None
    errors: dict[str, StatementError] = field(default_factory=dict)

    def execute(self, sql: str, *, tag: dict[str, str]) -> Answer:
        if error := self.errors.get(tag["stage"]):
            raise error
        seen = [] if self.published_rows is None else [{"name": "MAU", "rows": self.published_rows, "comment": ""}]
        rows = {"audit": ((self.rows, json.dumps(seen), "[]"),), "inspect": self._inventory(sql)}
        return Answer(rows=rows.get(tag["stage"], ()), query_id="01b2-77", seconds=0.0)

    def _inventory(self, sql: str) -> tuple[tuple[Any, ...], ...]:
        if "SCHEMATA" not in sql or self.published_rows is None:
            return ()
        now, no = datetime(2026, 11, 25, tzinfo=UTC), ("NO", "NO", "NO")
        schema, table = (
            ("R", now, "ANALYTICS", "R", "NO"),
            ("MAU", "BASE TABLE", *no, self.published_rows, "R", "", now),
        )
        return ((*schema, *table),)

    def renew(self, number: int) -> None:
        """There is one session."""

    def refresh(self) -> None:
        """There is one session."""

    def fresh(self, parameters: Parameters = NO_PARAMETERS) -> Any:
        return nullcontext(self)

    def on_warehouse(self, name: str) -> Any:
        raise NotImplementedError(name)

    def cancel(self) -> None:
        """Nothing runs."""

    def give_up(self) -> None:
        """Nothing waits."""


class ScriptedSnowflake(Snowflake):
    """The resource of a scripted session."""

    @contextmanager
    def session(self, **_: Any) -> Generator[Any]:
        yield SESSION[0]


SESSION: list[Any] = [ScriptedSession()]


@dataclass
class AlertHarness:
    """An instance, a clock, Slack's stand-in and the alerting between them."""

    instance: dg.DagsterInstance
    stand_in: SlackStandIn
    names: Sequence[str] = ("mau",)
    now: float = 0
    token: str | None = TOKEN
    channel: str = CHANNEL
    timeout_seconds: int = PATIENCE_SECONDS
    settings: AlertSettings = field(default_factory=AlertSettings)
    session: ScriptedSession = field(default_factory=ScriptedSession)
    published_rows: int | None = None
    known: Known = field(default_factory=Known)
    here: CodeLocation | None = None

    @property
    def slack(self) -> Slack:
        return Slack(
            token=self.token,
            channel=self.channel,
            base_url=self.stand_in.url,
            timeout_seconds=self.timeout_seconds,
            token_name="SLACK_TOKEN",
            channel_name="SLACK_CHANNEL",
        )

    @property
    def alerts(self) -> Alerts:
        owners = {f"analytics.{name}": ["team:analytics"] for name in self.names}
        return Alerts(
            settings=self.settings,
            owners=owners,
            jobs=("RunELT_Alert",),
            clock=lambda: self.now,
            wait=self.wait,
            here=self.here,
        )

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def run(self, *, job: str = "RunELT_Alert", tags: dict[str, str] | None = None) -> str:
        """Run the tables and return the run's id; the clock is then the moment of its end."""
        SESSION[0] = self.session
        tables = catalogue(
            [
                AnalyticsTable.model_validate(
                    {"schema": "analytics", "table": name, "sql": "select 1 as n", "owner": "team:analytics"}
                )
                for name in self.names
            ]
        )
        definitions = dg.Definitions(
            assets=[analytics_assets(tables, PublishOptions(max_concurrent_tables=1, creates_schemas=True))],
            jobs=[dg.define_asset_job(job, selection="*")],
            resources={"snowflake": ScriptedSnowflake()},
        )
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, raise_on_error=False, tags=tags
        )
        self.now = max(self.now, self.record(result.run_id).end_time or 0)
        return result.run_id

    def publish(self) -> None:
        self.session = ScriptedSession(rows=5)
        self.run()
        self.published_rows = 5

    def fail(self) -> str:
        self.session = ScriptedSession(published_rows=self.published_rows)
        return self.run()

    def fail_only(self, name: str) -> str:
        """Let one of several tables fail, as Dagster records it: a run of that table alone."""
        names, self.names = self.names, (name,)
        run = self.fail()
        self.names = names
        return run

    def fail_alike(self, count: int) -> list[str]:
        """Return as many failed runs as the storage would have after so many failures; running each takes too long here."""
        first = self.fail()
        return [
            first,
            *(self.copy(first, run_id=f"{number:08d}-0000-4000-8000-000000000000") for number in range(1, count)),
        ]

    def fail_apart(self, count: int) -> list[str]:
        """Return as many failed runs, each of another table: those of one, with the name of another."""
        first, names = self.fail(), [f"t{number}" for number in range(1, count)]
        self.names = (*self.names, *names)
        return [first, *(self.copy(first, table=name) for name in names)]

    def copy(
        self,
        of: str,
        *,
        tags: dict[str, str] | None = None,
        run_id: str | None = None,
        status: dg.DagsterRunStatus | None = None,
        table: str = "mau",
    ) -> str:
        """Record another run with the events of one, of another table if it is named, and return its id."""
        template, run_id = self.record(of).dagster_run, run_id or str(uuid4())
        tags = {} if tags is None else tags
        self.instance.add_run(template._replace(run_id=run_id, tags=tags, status=status or template.status))
        for event in self.instance.all_logs(of, of_type=EVENT_TYPES | TABLE_EVENT_TYPES):
            other = dg.deserialize_value(dg.serialize_value(event).replace("mau", table), dg.EventLogEntry)
            self.instance.event_log_storage.store_event(other._replace(run_id=run_id))
        self.now = max(self.now, self.record(run_id).update_timestamp.timestamp())
        return run_id

    def first_attempt(self, run_id: str) -> None:
        alert_of_failed_run(self.alerts, self.instance, self.slack, run_id, log=LOG)

    def tick(self, seconds_later: float = 0) -> str:
        self.now += seconds_later
        return reconcile(self.alerts, self.instance, self.slack, log=LOG, known=self.known)

    def record(self, run_id: str) -> dg.RunRecord:
        return self.instance.get_run_records(dg.RunsFilter(run_ids=[run_id]), limit=1)[0]

    def ledger(self, run_id: str) -> LedgerEntry:
        return LedgerEntry.of(self.record(run_id).dagster_run)

    def visible(self, run_id: str) -> dict[str, str]:
        """The tags of this project that the Runs page shows."""
        tags = self.record(run_id).dagster_run.tags
        return {name: value for name, value in tags.items() if name.startswith("run_elt/")}

    def posts(self) -> int:
        return len(self.stand_in.calls("chat.postMessage"))

    def log_of(self, run_id: str) -> str:
        return "\n".join(str(entry) for entry in self.instance.all_logs(run_id))
