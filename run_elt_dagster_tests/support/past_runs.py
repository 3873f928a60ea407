"""A long history, written in bulk: recording a hundred thousand runs one by one takes an hour.

Every row is a row that Dagster wrote, with the id, the table and the time of another run in it.
"""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import sqlalchemy as db

_AT_ONCE = 5000
_MOMENT = re.compile(r'"timestamp": [\d.]+')
_TABLES = ["event_logs", "asset_keys", "asset_event_tags", "asset_check_executions"]


@dataclass(frozen=True)
class PastRun:
    """A run of the past.

    Attributes:
        ended_at: When it ended, aware.
        tags: Its tags.
        table: The table that it built, in place of its model's.
        run_id: Its id.
    """

    ended_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    table: str = ""
    run_id: str = field(default_factory=lambda: str(uuid4()))


def add_past_runs(
    instance: dg.DagsterInstance,
    like: dg.DagsterRun,
    *,
    count: int,
    youngest: timedelta,
    oldest: timedelta,
    tags_of: Callable[[str], Mapping[str, str]],
) -> list[str]:
    """Record runs that ended as one did, without events, at even intervals, and return their ids, the oldest first.

    Args:
        instance: On SQLite or Postgres.
        like: The run whose status, job and selection they have.
        count: How many.
        youngest: How long ago the last of them ended.
        oldest: How long ago the first of them ended.
        tags_of: Returns the tags of a run by its id.
    """
    now, ids = datetime.now(UTC), [str(uuid4()) for _ in range(count)]
    moments = (now - oldest + (oldest - youngest) * number / count for number in range(count))
    runs = [PastRun(at, tags_of(run_id), run_id=run_id) for run_id, at in zip(ids, moments, strict=True)]
    record_runs(instance, [(like, run) for run in runs])
    return ids


def record_runs(instance: dg.DagsterInstance, runs: Sequence[tuple[dg.DagsterRun, PastRun]]) -> None:
    """Record runs, each as the one beside it, without events, in this order.

    Args:
        instance: On SQLite or Postgres.
        runs: The runs whose status, job and selection they have, and what is their own.
    """
    storage: Any = instance.run_storage
    with storage.connect() as connection:
        tables = db.MetaData()
        tables.reflect(connection, only=["runs", "run_tags"])
    templates: dict[int, Mapping[str, Any]] = {}
    for begin in range(0, len(runs), _AT_ONCE):
        rows: list[Mapping[str, Any]] = []
        tags: list[Mapping[str, str]] = []
        for like, run in runs[begin : begin + _AT_ONCE]:
            template = templates.setdefault(id(like), json.loads(dg.serialize_value(like)))
            body = json.dumps({**template, "run_id": run.run_id, "tags": dict(run.tags)})
            rows.append(_row(like, run.run_id, body, run.ended_at))
            tags += [{"run_id": run.run_id, "key": key, "value": value} for key, value in run.tags.items()]
        with storage.connect() as connection:
            connection.execute(tables.tables["runs"].insert(), rows)
            if tags:
                connection.execute(tables.tables["run_tags"].insert(), tags)


def record_events(
    instance: dg.DagsterInstance, like: dg.DagsterRun, runs: Sequence[PastRun], *, table: str, read: Sequence[str] = ()
) -> None:
    """Record for runs what Dagster recorded for one: events, their tags, and evaluations of checks.

    On SQLite, Dagster keeps a file for each run besides what is mirrored across runs. Those files are made for the runs alone
    that are read.

    Args:
        instance: On SQLite or Postgres.
        like: The run with the events.
        runs: Whose events are written, in this order.
        table: The table that the model built.
        read: The ids of the runs with a file of their own.
    """
    storage: Any = instance.event_log_storage
    with storage.index_connection() as connection:
        tables = db.MetaData()
        tables.reflect(connection, only=_TABLES)
        logs = tables.tables["event_logs"]
        past, model = _temporary_tables(connection)
        connection.execute(
            past.insert(),
            [
                {
                    "run_id": run.run_id,
                    "name": run.table or table,
                    "moment": run.ended_at.replace(tzinfo=None),
                    "seconds": f'"timestamp": {run.ended_at.timestamp()}',
                }
                for run in runs
            ],
        )
        events = connection.execute(db.select(logs).where(logs.c.run_id == like.run_id).order_by(logs.c.id)).mappings()
        connection.execute(model.insert(), [_model_of(event) for event in events])
        for statement in _copies(tables, past, model, like=like.run_id, table=table):
            connection.execute(statement)
        _record_assets(connection, tables, {run.table: run for run in runs}, like=like.run_id, table=table)
        past.drop(connection)
        model.drop(connection)
    if storage.is_run_sharded:
        for run in (run for run in runs if run.run_id in set(read)):
            _copy_file(storage, like.run_id, run, table=table)


def _temporary_tables(connection: Any) -> tuple[db.Table, db.Table]:
    kept = db.MetaData()
    text, moment = db.Text, db.DateTime
    past = db.Table(
        "past_runs",
        kept,
        db.Column("number", db.Integer, primary_key=True),
        # Without the index, SQLite goes through all runs for each event.
        db.Column("run_id", text, index=True),
        *(db.Column(name, text) for name in ("name", "seconds")),
        db.Column("moment", moment),
        prefixes=["TEMPORARY"],
    )
    model = db.Table(
        "past_events",
        kept,
        db.Column("number", db.Integer, primary_key=True),
        *(db.Column(name, text) for name in ("event", "dagster_event_type", "step_key", "asset_key", "partition")),
        prefixes=["TEMPORARY"],
    )
    kept.create_all(connection)
    return past, model


def _model_of(event: Mapping[str, Any]) -> Mapping[str, Any]:
    kept = {name: event[name] for name in ("dagster_event_type", "step_key", "asset_key", "partition")}
    return {**kept, "event": _MOMENT.sub("{moment}", event["event"])}


def _copies(tables: db.MetaData, past: db.Table, model: db.Table, *, like: str, table: str) -> list[db.Insert]:
    """Return the statements that write the events of all runs, the tags of their materializations, and their checks."""
    logs, checks = tables.tables["event_logs"], tables.tables["asset_check_executions"]

    def renamed(column: Any) -> Any:
        return db.func.replace(column, table, past.c.name)

    def own(column: Any) -> Any:
        return db.func.replace(db.func.replace(renamed(column), like, past.c.run_id), "{moment}", past.c.seconds)

    every = db.true()
    event = db.select(
        past.c.run_id,
        own(model.c.event),
        model.c.dagster_event_type,
        past.c.moment,
        model.c.step_key,
        renamed(model.c.asset_key),
        model.c.partition,
    )
    names = ["run_id", "event", "dagster_event_type", "timestamp", "step_key", "asset_key", "partition"]
    check = db.select(
        renamed(checks.c.asset_key),
        checks.c.check_name,
        past.c.run_id,
        checks.c.execution_status,
        own(checks.c.evaluation_event),
        past.c.moment,
    ).where(checks.c.run_id == like)
    check_names = ["asset_key", "check_name", "run_id", "execution_status", "evaluation_event"]
    tag = (
        db.select(logs.c.id, logs.c.asset_key, db.literal("dagster/data_version"), logs.c.run_id, logs.c.timestamp)
        .join(past, past.c.run_id == logs.c.run_id)
        .where(logs.c.dagster_event_type == "ASSET_MATERIALIZATION")
    )
    return [
        logs.insert().from_select(
            names, event.select_from(past.join(model, every)).order_by(past.c.number, model.c.number)
        ),
        checks.insert().from_select(
            [*check_names, "evaluation_event_timestamp"], check.select_from(checks.join(past, every))
        ),
        tables.tables["asset_event_tags"]
        .insert()
        .from_select(["event_id", "asset_key", "key", "value", "event_timestamp"], tag),
    ]


def _record_assets(connection: Any, tables: db.MetaData, last: Mapping[str, PastRun], *, like: str, table: str) -> None:
    """Write down the last materialization of each table; nothing if the model has none."""
    assets, logs = tables.tables["asset_keys"], tables.tables["event_logs"]
    model = connection.execute(db.select(assets).where(assets.c.last_run_id == like)).mappings().first()
    if model is None or not model["last_materialization"]:
        return
    of_last = logs.c.run_id.in_([run.run_id for run in last.values()])
    newest = db.select(logs.c.run_id, logs.c.id).where(of_last, logs.c.dagster_event_type == "ASSET_MATERIALIZATION")
    ids = {run_id: number for run_id, number in connection.execute(newest)}  # noqa: C416 - typed rows
    for name, run in last.items():
        moment = f'"timestamp": {run.ended_at.timestamp()}'
        text = _MOMENT.sub(moment, model["last_materialization"]).replace(like, run.run_id).replace(table, name)
        row = {
            "asset_key": model["asset_key"].replace(table, name),
            "last_materialization": re.sub(r'"storage_id": \d+', f'"storage_id": {ids[run.run_id]}', text),
            "last_run_id": run.run_id,
            "last_materialization_timestamp": run.ended_at.replace(tzinfo=None),
        }
        connection.execute(assets.delete().where(assets.c.asset_key == row["asset_key"]))
        connection.execute(assets.insert(), [row])


def _copy_file(storage: Any, like: str, run: PastRun, *, table: str) -> None:
    path = Path(storage.path_for_shard(run.run_id))
    shutil.copy(storage.path_for_shard(like), path)
    with closing(sqlite3.connect(path)) as database, database:
        for number, text in database.execute("select id, event from event_logs").fetchall():
            own = text.replace(like, run.run_id).replace(table, run.table or table)
            own = _MOMENT.sub(f'"timestamp": {run.ended_at.timestamp()}', own)
            database.execute("update event_logs set run_id = ?, event = ? where id = ?", (run.run_id, own, number))


def _row(like: dg.DagsterRun, run_id: str, body: str, ended_at: datetime) -> Mapping[str, Any]:
    moment = ended_at.replace(tzinfo=None)
    return {
        "run_id": run_id,
        "pipeline_name": like.job_name,
        "status": like.status.value,
        "run_body": body,
        "create_timestamp": moment,
        "update_timestamp": moment,
        "start_time": ended_at.timestamp() - 1,
        "end_time": ended_at.timestamp(),
    }
