"""The product's table of published partitions and increments: its statements, as data, and what it says.

Each schema with tables in parts has one. A table has a row for each published partition, or one for the last increment, and a row
without a partition: the lock.
Who publishes changes the lock first and the others in the same transaction as the rows themselves. So the table is also the order of
snapshots, and the answer to whether a COMMIT has happened.
"""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from run_elt_dagster.audit.plan import Earlier
from run_elt_dagster.model.candidate import Marker, Piece, target_of
from run_elt_dagster.model.increment import BEGINNING, Start
from run_elt_dagster.model.names import Relation, quote_literal
from run_elt_dagster.model.partitions import PARTITIONS_TABLE, Partition, Slice
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.model.time_literals import NTZ, time_literal
from run_elt_dagster.publish.guards import OBJECT_MISSING
from run_elt_dagster.publish.versions import before_sql
from run_elt_dagster.snowflake.session import Session, StatementError

# With so many published partitions before it, a new one is compared.
PARTITIONS_COMPARED = 7
# Snowflake takes so many values in a list, and more: https://docs.snowflake.com/en/sql-reference/constructs/values
PARTITIONS_LISTED = 4000
# The key of the row of the last increment, and the end of its time.
INCREMENT_KEY = "increment"
# The key of the row of a table that is written whole in the transaction of its group.
WHOLE_KEY = "whole"
_END = datetime(9999, 12, 31, tzinfo=UTC)
# In UTC, whatever the session's time zone is.
_NOW = "CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP())::TIMESTAMP_NTZ"
_COLUMNS = "TABLE_NAME, PARTITION_KEY, STARTS_AT, ENDS_AT, RUN_ID, SNAPSHOT_AT, ROW_COUNT, PUBLISHED_AT, QUERY_ID"


@dataclass(frozen=True)
class PublishedPartition:
    """A published partition.

    Attributes:
        key: Its key.
        start: Its first moment, aware, UTC.
        end: The first moment after it.
        marker: The run of its rows.
        rows: Their number.
        published_at: When they were published, aware, UTC.
        query_id: The statement that took away the rows of before. Just before it, readers saw those. None if there were none.
    """

    key: str
    start: datetime
    end: datetime
    marker: Marker
    rows: int
    published_at: datetime
    query_id: str | None = None


@dataclass(frozen=True)
class Markers:
    """What the table says of one target inside of a transaction.

    Attributes:
        first: The marker of the run that had created the target, when somebody published last; None before.
        partitions: The published partitions in question.
    """

    first: Marker | None
    partitions: tuple[PublishedPartition, ...]


def partitions_table(target: Relation) -> Relation:
    """Return the product's table in the schema of a target."""
    return Relation(target.database, target.schema, PARTITIONS_TABLE)


def create_table_sql(target: Relation) -> str:
    """Return the statement that creates the product's table; safe to repeat."""
    comment = "What runs have published of tables in parts. A row without PARTITION_KEY is the lock of a table."
    return (
        f"CREATE TABLE IF NOT EXISTS {partitions_table(target).sql} (TABLE_NAME VARCHAR NOT NULL, PARTITION_KEY VARCHAR, "
        "STARTS_AT TIMESTAMP_NTZ, ENDS_AT TIMESTAMP_NTZ, RUN_ID VARCHAR, SNAPSHOT_AT VARCHAR, ROW_COUNT NUMBER(38, 0), "
        f"PUBLISHED_AT TIMESTAMP_NTZ, QUERY_ID VARCHAR) COMMENT = {quote_literal(comment)}"
    )


def create_lock_sql(target: Relation) -> str:
    """Return the statement that creates the lock of a target; safe to repeat.

    Two runs at once may both create one. Then each of them changes both rows.
    """
    return (
        f"INSERT INTO {partitions_table(target).sql} (TABLE_NAME) SELECT {quote_literal(target.name)} "
        f"WHERE NOT EXISTS (SELECT 1 FROM {partitions_table(target).sql} WHERE {_is_lock(target)})"
    )


def lock_sql(target: Relation) -> str:
    """Return the statement that takes the lock of a target until the transaction ends.

    UPDATE statements on one table exclude each other: https://docs.snowflake.com/en/sql-reference/transactions#resource-locking
    """
    return f"UPDATE {partitions_table(target).sql} SET PUBLISHED_AT = {_NOW} WHERE {_is_lock(target)}"


def markers_sql(target: Relation, pieces: Sequence[Piece]) -> str:
    """Return the query for the lock of a target and for the published partitions in some pieces of time."""
    return (
        f"SELECT {_COLUMNS} FROM {partitions_table(target).sql} WHERE {_is_lock(target)} OR ({_are_in(target, pieces)})"
    )


def all_markers_sql(target: Relation) -> str:
    """Return the query for the lock of a target and for all that is noted of it."""
    return f"SELECT {_COLUMNS} FROM {partitions_table(target).sql} WHERE {_is_of(target)}"


def seen_and_noted_sql(target: Relation) -> str:
    """Return the query for how many rows of a target the role sees, and how many are noted as published."""
    noted = f"SELECT COALESCE(SUM(ROW_COUNT), 0) FROM {partitions_table(target).sql} WHERE {_is_of(target)}"
    return f"SELECT (SELECT COUNT(*) FROM {target.sql}), ({noted})"


def increment_note(start: Start | None) -> Partition:
    """Return what is noted of the last publish of a table with increments: no partition, but what any of them would overlap.

    Args:
        start: Where its increment began; None if it has published the whole table.
    """
    return Partition(INCREMENT_KEY, start.at if start is not None else BEGINNING, _END)


def whole_note() -> Partition:
    """Return what is noted of a table that its group has written whole."""
    return Partition(WHOLE_KEY, BEGINNING, _END)


def newest_of(markers: Markers, standing: TableVersion | None) -> Marker | None:
    """Return the newest run that has published rows of a target; None where none is known.

    Args:
        markers: What is noted of it.
        standing: The target: the comment of a table names the run that has created it, and its notes may be still to come.
    """
    first = standing.marker if standing is not None else None
    found = [first] if first is not None and first.state == "run" else []
    # What is noted of another table, which had this name before, is not true of this one.
    noted = [each.marker for each in markers.partitions if not found or markers.first == first]
    return max([*found, *noted], key=lambda marker: marker.order, default=None)


def forget_all_sql(target: Relation) -> str:
    """Return the statement that forgets what an earlier table of the same name had."""
    return f"DELETE FROM {partitions_table(target).sql} WHERE {_is_of(target)} AND PARTITION_KEY IS NOT NULL"


def remember_first_sql(target: Relation, first: Marker) -> str:
    """Return the statement that notes which run has created the target."""
    return (
        f"UPDATE {partitions_table(target).sql} SET RUN_ID = {quote_literal(first.run_id)}, "
        f"SNAPSHOT_AT = {quote_literal(first.at)} WHERE {_is_lock(target)}"
    )


def forget_sql(target: Relation, pieces: Sequence[Piece]) -> str:
    """Return the statement that forgets the published partitions in some pieces of time."""
    return f"DELETE FROM {partitions_table(target).sql} WHERE {_are_in(target, pieces)}"


def record_sql(
    target: Relation,
    partitions: Sequence[Partition],
    rows: Mapping[str, int],
    marker: Marker,
    *,
    query_id: str | None = None,
    condition: str = "",
) -> str:
    """Return the statement that notes partitions as published, in the place of what is noted under their keys.

    It says how many it has noted: https://docs.snowflake.com/en/sql-reference/sql/merge

    Args:
        target: What readers see.
        partitions: What is published of it.
        rows: Their numbers of rows, by key.
        marker: The run of the rows.
        query_id: The statement that took away their rows of before; None if there were none.
        condition: Where it does not hold, nothing is noted.
    """
    values = ", ".join(
        f"({quote_literal(p.key)}, {_literal(p.start)}, {_literal(p.end)}, {rows[p.key]})" for p in partitions
    )
    name = quote_literal(target.name)
    note = {
        "RUN_ID": quote_literal(marker.run_id),
        "SNAPSHOT_AT": quote_literal(marker.at),
        "QUERY_ID": _text(query_id),
    }
    note |= {column: f"built.{column}" for column in ("STARTS_AT", "ENDS_AT", "ROW_COUNT")} | {"PUBLISHED_AT": _NOW}
    return (
        f"MERGE INTO {partitions_table(target).sql} AS kept USING (SELECT COLUMN1 AS PARTITION_KEY, "
        f"COLUMN2::TIMESTAMP_NTZ AS STARTS_AT, COLUMN3::TIMESTAMP_NTZ AS ENDS_AT, COLUMN4 AS ROW_COUNT FROM VALUES {values}"
        f"{f' WHERE {condition}' if condition else ''}) AS built "
        f"ON kept.TABLE_NAME = {name} AND kept.PARTITION_KEY = built.PARTITION_KEY "
        f"WHEN MATCHED THEN UPDATE SET {', '.join(f'{column} = {value}' for column, value in note.items())} "
        f"WHEN NOT MATCHED THEN INSERT (TABLE_NAME, PARTITION_KEY, {', '.join(note)}) "
        f"VALUES ({name}, built.PARTITION_KEY, {', '.join(note.values())})"
    )


def notes_sql(target: Relation, keys: Sequence[str]) -> str:
    """Return the query for the lock of a target, and for what is published under some keys."""
    return f"SELECT {_COLUMNS} FROM {partitions_table(target).sql} WHERE {_is_lock(target)} OR ({_have(target, keys)})"


def notes_before_sql(target: Relation, keys: Sequence[str], query_id: str) -> str:
    """Return the query for what was published under some keys just before a statement."""
    notes = before_sql(partitions_table(target), query_id)
    return f"SELECT {_COLUMNS} FROM {notes} WHERE {_have(target, keys)}"


def forget_keys_sql(target: Relation, keys: Sequence[str]) -> str:
    """Return the statement that forgets what is published under some keys."""
    return f"DELETE FROM {partitions_table(target).sql} WHERE {_have(target, keys)}"


def record_again_sql(target: Relation, notes: Sequence[PublishedPartition]) -> str:
    """Return the statement that notes what a rollback has put back, each with the run that it says."""
    values = ", ".join(
        f"({quote_literal(n.key)}, {_literal(n.start)}, {_literal(n.end)}, {quote_literal(n.marker.run_id)}, "
        f"{quote_literal(n.marker.at)}, {n.rows}, {_text(n.query_id)})"
        for n in notes
    )
    return (
        f"INSERT INTO {partitions_table(target).sql} ({_COLUMNS}) SELECT {quote_literal(target.name)}, COLUMN1, "
        f"COLUMN2::TIMESTAMP_NTZ, COLUMN3::TIMESTAMP_NTZ, COLUMN4, COLUMN5, COLUMN6, {_NOW}, COLUMN7::VARCHAR FROM VALUES {values}"
    )


def chunks(partitions: Sequence[Partition]) -> Iterator[Sequence[Partition]]:
    """Yield partitions in as many parts as one statement each may list."""
    for first in range(0, len(partitions), PARTITIONS_LISTED):
        yield partitions[first : first + PARTITIONS_LISTED]


def published_sql(target: Relation) -> str:
    """Return the query for all published partitions of a target, in their order."""
    return (
        f"SELECT {_COLUMNS} FROM {partitions_table(target).sql} WHERE {_is_of(target)} AND PARTITION_KEY IS NOT NULL "
        "ORDER BY STARTS_AT"
    )


def markers_of(rows: Iterable[Sequence[Any]]) -> Markers:
    """Return what the answer to `markers_sql` or `published_sql` says."""
    first: Marker | None = None
    found: list[PublishedPartition] = []
    for _, key, start, end, run_id, at, count, published_at, query_id in rows:
        marker = Marker("run", str(run_id), str(at)) if run_id is not None else None
        if key is None:
            first = first or marker
        elif marker is not None:
            moments = (each.replace(tzinfo=UTC) for each in (start, end, published_at))
            starts, ends, published = moments
            found.append(PublishedPartition(str(key), starts, ends, marker, int(count), published, query_id))
    return Markers(first, tuple(found))


def read_partitions(session: Session, table: AnalyticsTable) -> tuple[PublishedPartition, ...]:
    """Return the published partitions of a table in their order; nothing before the first publish.

    Raises:
        StatementError: Snowflake does not say.
    """
    target = target_of(table, database=session.database)
    try:
        answer = session.execute(published_sql(target), tag={"asset": "/".join(table.key), "stage": "inspect"})
    except StatementError as error:
        if error.errno == OBJECT_MISSING:
            return ()
        raise
    return markers_of(answer.rows).partitions


def last_increment(session: Session, table: AnalyticsTable) -> PublishedPartition | None:
    """Return what is noted of the last publish of a table with increments; None of any other, and before the first publish.

    Raises:
        StatementError: Snowflake does not say.
    """
    found = read_partitions(session, table) if table.increment is not None else ()
    return next((each for each in found if each.key == INCREMENT_KEY), None)


def earlier_sql(target: Relation, part: Slice) -> str:
    """Return an expression for a SELECT: the published partitions that a slice is compared with, as one JSON array.

    They are those in its time, and the last ones before it, however many the table has.
    """
    known = f"{partitions_table(target).sql} WHERE {_is_of(target)} AND PARTITION_KEY IS NOT NULL AND STARTS_AT"
    inside = f"SELECT * FROM {known} >= {_literal(part.start)} AND STARTS_AT < {_literal(part.end)}"
    before = f"SELECT * FROM {known} < {_literal(part.start)} ORDER BY STARTS_AT DESC LIMIT {PARTITIONS_COMPARED}"
    one = "'key', PARTITION_KEY, 'start', DATE_PART(EPOCH_SECOND, STARTS_AT), 'rows', ROW_COUNT"
    return f"(SELECT ARRAY_AGG(OBJECT_CONSTRUCT({one})) FROM ({inside} UNION ALL SELECT * FROM ({before})))"


def earlier_of(listed: Any, part: Slice) -> Mapping[str, Earlier]:
    """Return what the numbers of rows of a slice are compared with: the same partition's, or the usual number before it.

    Args:
        listed: The array of `earlier_sql`.
        part: The slice.

    Returns:
        By key; nothing for a partition without any before it.
    """
    rows = json.loads(listed) if isinstance(listed, str) else (listed or [])
    published = sorted((int(row["start"]), str(row["key"]), int(row["rows"])) for row in rows)
    same = {key: count for _, key, count in published}
    found: dict[str, Earlier] = {}
    for partition in part.partitions:
        start = partition.start.timestamp()
        before = [count for began, _, count in published if began < start][-PARTITIONS_COMPARED:]
        if partition.key in same:
            found[partition.key] = Earlier(same[partition.key], "published partition")
        elif before:
            found[partition.key] = Earlier(
                round(statistics.median(before)), f"median of the last {len(before)} published partitions"
            )
    return found


def _is_of(target: Relation) -> str:
    return f"TABLE_NAME = {quote_literal(target.name)}"


def _is_lock(target: Relation) -> str:
    return f"{_is_of(target)} AND PARTITION_KEY IS NULL"


def _have(target: Relation, keys: Sequence[str]) -> str:
    return f"{_is_of(target)} AND PARTITION_KEY IN ({', '.join(map(quote_literal, keys))})"


def _are_in(target: Relation, pieces: Sequence[Piece]) -> str:
    """Return the condition of the partitions that overlap a piece: the length of a partition may have been another one."""
    times = " OR ".join(f"(STARTS_AT < {_literal(end)} AND ENDS_AT > {_literal(start)})" for start, end in pieces)
    return f"{_is_of(target)} AND PARTITION_KEY IS NOT NULL AND ({times})"


def _literal(instant: datetime) -> str:
    return time_literal(instant, NTZ)


def _text(value: str | None) -> str:
    return "NULL" if value is None else quote_literal(value)
