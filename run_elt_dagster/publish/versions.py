"""The versions of a table that Snowflake keeps: how they are listed, read and restored.

Snowflake keeps what was replaced or dropped for DATA_RETENTION_TIME_IN_DAYS, a day by default:
https://docs.snowflake.com/en/user-guide/data-time-travel
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from run_elt_dagster.model.candidate import (
    Marker,
    by_hand_in,
    candidate_prefix,
    instant,
    is_candidate_of,
    is_from_its_run,
)
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.snowflake.runner import StatementRunner
from run_elt_dagster.snowflake.session import Answer


def versions_sql(relation: Relation) -> str:
    """Return the statement that lists the versions of a table, dropped ones included, and some others.

    LIKE takes `_` and `%` as wildcards and ignores case, so the names are compared again.
    https://docs.snowflake.com/en/sql-reference/sql/show-tables
    """
    schema = f"{quote_identifier(relation.database)}.{quote_identifier(relation.schema)}"
    return f"SHOW TABLES HISTORY LIKE {quote_literal(relation.name)} IN SCHEMA {schema}"


def undrop_sql(relation: Relation) -> str:
    """Return the statement that restores the latest dropped version: https://docs.snowflake.com/en/sql-reference/sql/undrop-table."""
    return f"UNDROP TABLE {relation.sql}"


def columns_sql(relation: Relation) -> str:
    """Return the query for the columns of a table in order."""
    return (
        f"SELECT COLUMN_NAME FROM {quote_identifier(relation.database)}.INFORMATION_SCHEMA.COLUMNS "
        f"WHERE TABLE_SCHEMA = {quote_literal(relation.schema)} AND TABLE_NAME = {quote_literal(relation.name)} "
        "ORDER BY ORDINAL_POSITION"
    )


def count_sql(relation: Relation, read_at: str) -> str:
    """Return the query for the number of rows that a table had at a moment."""
    return f"SELECT COUNT(*) FROM {at_sql(relation, read_at)}"


def at_sql(relation: Relation, moment: str) -> str:
    """Return what stands behind FROM for a table as it was at a moment."""
    return f"{relation.sql} AT(TIMESTAMP => {quote_literal(moment)}::TIMESTAMP_TZ)"


def before_sql(relation: Relation, query_id: str) -> str:
    """Return what stands behind FROM for a table as it was just before a statement was over.

    Snowflake finds a statement for 14 days: https://docs.snowflake.com/en/sql-reference/constructs/at-before
    """
    return f"{relation.sql} BEFORE(STATEMENT => {quote_literal(query_id)})"


def order_of(version: TableVersion | None) -> tuple[str, str] | None:
    """Return what tells the rows of one run from those of another; None if unknown."""
    return version.marker.order if version is not None and version.marker is not None else None


def versions_in(answer: Answer, relation: Relation) -> list[TableVersion]:
    """Return what the answer to `versions_sql` says of the table itself."""
    return [version for version in _listed_in(answer) if version.name == relation.name]


def candidates_sql(table: AnalyticsTable, target: Relation) -> str:
    """Return the statement that lists the candidates of a table, dropped ones included, and some others."""
    return versions_sql(Relation(target.database, target.schema, f"{candidate_prefix(table)}%"))


def candidates_in(answer: Answer, table: AnalyticsTable) -> list[TableVersion]:
    """Return what the answer to `candidates_sql` says of tables that runs have built to publish them as the table."""
    return [
        version
        for version in _listed_in(answer)
        if is_candidate_of(table, version.name) and version.marker and is_from_its_run(version.name, version.marker)
    ]


def newest_published(candidates: Sequence[TableVersion], *, after: Marker) -> TableVersion | None:
    """Return the candidate that was published last, if it was built after another one; None if that is not certain.

    Nobody but its own run drops the newest candidate, and only when it is published. A failed one stays, and says so. An older
    one may have been dropped by a run that failed afterwards, so nothing follows from it.

    Args:
        candidates: All of them, dropped ones included.
        after: The marker of the other one.
    """
    marked = [(version.marker, version) for version in candidates if version.marker is not None]
    newest = max((marker.order for marker, _ in marked), default=after.order)
    if newest <= after.order:
        return None
    # A build that was sent again leaves a dropped version behind, whatever became of it.
    found = [(marker, version) for marker, version in marked if marker.order == newest]
    certain = all(marker.state == "run" and version.dropped_at is not None for marker, version in found)
    return found[0][1] if certain else None


def _listed_in(answer: Answer) -> list[TableVersion]:
    names = [name.lower() for name in answer.columns]
    return [_version(dict(zip(names, row, strict=True))) for row in answer.rows]


def _version(row: Mapping[str, Any]) -> TableVersion:
    rows = row.get("rows")
    return TableVersion(
        str(row["name"]),
        None if rows is None else int(rows),
        str(row.get("comment") or ""),
        created_at=row.get("created_on"),
        dropped_at=row.get("dropped_on"),
        owner=str(row.get("owner") or ""),
    )


def age(version: TableVersion) -> float:
    """Sort what stands first, then what was dropped last."""
    return float("-inf") if version.dropped_at is None else -version.dropped_at.timestamp()


def replaced_at(version: TableVersion) -> str:
    """Return a moment when readers still saw what came before a version, as markers have it; empty if unknown.

    Rows are published after their build began. What a person publishes may have been built days before, and readers have seen others since.
    """
    by_hand = by_hand_in(version.comment)
    if by_hand is not None:
        return by_hand.at
    return version.marker.at if version.marker is not None else ""


def is_before(created_at: datetime | None, marker: Marker) -> bool:
    """Return whether an object was created before its rows were built: they were written over others."""
    return created_at is not None and bool(marker.at) and instant(created_at) < marker.at


class Versions:
    """Asks Snowflake which versions of a table there are.

    Args:
        runner: Sends the statements.
        tag: Of each of them.
    """

    def __init__(self, runner: StatementRunner, tag: Mapping[str, str]) -> None:
        self._runner, self._tag = runner, tag

    def of(self, relation: Relation, runner: StatementRunner | None = None) -> list[TableVersion]:
        """Return all versions under a name, by another runner where one is given."""
        answer = (runner or self._runner).send(versions_sql(relation), tag=self._tag)
        return versions_in(answer, relation)

    def all_standing(self, relation: Relation, runner: StatementRunner) -> list[TableVersion]:
        """Return those that were not dropped: one, or none."""
        return [version for version in self.of(relation, runner) if version.dropped_at is None]

    def standing(self, relation: Relation, runner: StatementRunner) -> TableVersion | None:
        """Return what stands under a name, None if nothing does."""
        return next(iter(self.all_standing(relation, runner)), None)

    def dropped(self, relation: Relation) -> list[TableVersion]:
        """Return the dropped versions of a table, the latest first: the one that UNDROP restores."""
        return sorted((each for each in self.of(relation) if each.dropped_at is not None), key=age)
