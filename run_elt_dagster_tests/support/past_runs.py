"""A long history, written in bulk: recording a hundred thousand runs one by one takes an hour."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import dagster as dg
import sqlalchemy as db

_AT_ONCE = 5000


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
    storage: Any = instance.run_storage
    with storage.connect() as connection:
        tables = db.MetaData()
        tables.reflect(connection, only=["runs", "run_tags"])
    template: Mapping[str, Any] = json.loads(dg.serialize_value(like))
    ids = [str(uuid4()) for _ in range(count)]
    for begin in range(0, count, _AT_ONCE):
        runs: list[Mapping[str, Any]] = []
        tags: list[Mapping[str, str]] = []
        for number, run_id in enumerate(ids[begin : begin + _AT_ONCE], begin):
            own_tags = tags_of(run_id)
            body = json.dumps({**template, "run_id": run_id, "tags": own_tags})
            ended_at = datetime.now(UTC) - oldest + (oldest - youngest) * number / count
            runs.append(_row(like, run_id, body, ended_at))
            tags += [{"run_id": run_id, "key": key, "value": value} for key, value in own_tags.items()]
        with storage.connect() as connection:
            connection.execute(tables.tables["runs"].insert(), runs)
            if tags:
                connection.execute(tables.tables["run_tags"].insert(), tags)
    return ids


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
