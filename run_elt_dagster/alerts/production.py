"""What readers see of the tables of a run whose process was lost: from the comments of the tables, within seconds.

The comment of a table with increments names the run that has created it. What is noted beside it names the run of its newest rows.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from run_elt_dagster.alerts.failure import ENDED_GROUP
from run_elt_dagster.model.candidate import Marker, marker_in, target_of
from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Relation, quote_identifier
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import GROUP_LOCK_PREFIX, AnalyticsTable
from run_elt_dagster.publish.guards import OBJECT_MISSING
from run_elt_dagster.publish.partitions import all_markers_sql, markers_of, newest_of
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.snowflake.runner import NO_PATIENCE, RunContext, StatementRunner
from run_elt_dagster.snowflake.session import Session, StatementError

if TYPE_CHECKING:
    from run_elt_dagster.publish.group_recovery import EndedExchange

# A tick of a sensor has 60 s, and Slack needs some of them.
PATIENCE_SECONDS = 10
LIMIT_SECONDS = 25
_TAG = {"stage": "alert"}
# A table that no run of ours has made.
_UNMARKED = Marker("run", "unknown")

# For the keys of assets with dots: the marker of the table that readers see, None where there is no table.
Seen = Mapping[str, Marker | None]


def look_at_production(
    snowflake: Callable[[], Snowflake],
    tables: Catalogue,
    names: Sequence[str],
    log: logging.Logger,
    *,
    run_id: str = "",
    options: PublishOptions | None = None,
) -> Seen | None:
    """Return the run of the rows that readers see; None if Snowflake does not answer in time. An alert must not wait.

    Where the run has left the exchange of a group half done, that is ended first.

    Args:
        snowflake: Makes the resource.
        tables: The declared tables.
        names: Which of them, as the keys of their assets with dots.
        log: Called with the reason if there is no answer.
        run_id: The failed run. Nothing of it goes on.
        options: How its tables are published.
    """
    found: list[Seen] = []

    def ask() -> None:
        try:
            found.append(_seen(snowflake(), tables, names, run_id, options or PublishOptions()))
        except Exception as error:  # noqa: BLE001 - whatever it is, the alert says unknown instead
            # Its text may hold what is secret, and adds nothing to what the alert of a failed sign-in says.
            log.warning("what readers see could not be looked up, got %s", type(error).__name__)

    thread = threading.Thread(target=ask, daemon=True, name="look-at-production")
    thread.start()
    thread.join(LIMIT_SECONDS)
    return found[0] if found else None


def _seen(snowflake: Snowflake, tables: Catalogue, names: Sequence[str], run_id: str, options: PublishOptions) -> Seen:
    wanted = [table for table in tables.values() if table.asset_name in names]
    with snowflake.session(patience_seconds=PATIENCE_SECONDS) as session:
        database = session.database
        comments = _comments(session, wanted)
        ended = _end_exchanges(session, tables, comments, run_id, options)
        if ended:
            comments = _comments(session, wanted)
        seen: dict[str, Marker | None] = {
            f"{ENDED_GROUP[each.state]}{each.note.group}": Marker("run", each.note.run_id, each.note.at)
            for each in ended
        }
        for table in wanted:
            target = target_of(table, database=database)
            comment = comments.get((target.schema, target.name))
            marker = None if comment is None else _marker(session, table, target, comment) or _UNMARKED
            seen[table.asset_name] = marker
    return seen


def _comments(session: Session, tables: Sequence[AnalyticsTable]) -> dict[tuple[str, str], str]:
    """Return the comments of all that stands in the schemas of tables, by schema and name."""
    comments: dict[tuple[str, str], str] = {}
    for schema in sorted({table.stored_schema for table in tables}):
        # Needs no warehouse, whose start would cost money: https://docs.snowflake.com/en/sql-reference/sql/show-tables
        answer = session.execute(
            f"SHOW TABLES IN SCHEMA {quote_identifier(session.database)}.{quote_identifier(schema)}", tag=_TAG
        )
        columns = [column.lower() for column in answer.columns]
        name, comment = columns.index("name"), columns.index("comment")
        comments |= {(schema, str(row[name])): str(row[comment] or "") for row in answer.rows}
    return comments


def _end_exchanges(
    session: Session, tables: Catalogue, comments: Mapping[tuple[str, str], str], run_id: str, options: PublishOptions
) -> "list[EndedExchange]":
    """End what the run has begun of groups. It has failed, so nothing of it goes on."""
    # What publishes is of no use where no exchange is left: a process that loads the code location alone never needs it.
    from run_elt_dagster.publish.group_lock import note_in  # noqa: PLC0415
    from run_elt_dagster.publish.group_recovery import end_exchange  # noqa: PLC0415

    left = [
        (Relation(session.database, *at), note)
        for at, comment in comments.items()
        if at[1].startswith(GROUP_LOCK_PREFIX)
        and (note := note_in(comment)) is not None
        and note.run_id == run_id
        and not note.is_rollback
        # Nothing of the run goes on. A person may be publishing what it has kept.
        and note.is_over(lambda _: False)
    ]
    if not left:
        return []
    runner = StatementRunner(session, RunContext("alert", "alert"), threading.Event(), patience=NO_PATIENCE)
    return [end_exchange(runner, tables, lock, note, options=options) for lock, note in left]


def _marker(session: Session, table: AnalyticsTable, target: Relation, comment: str) -> Marker | None:
    if table.increment is None:
        return marker_in(comment)
    try:
        markers = markers_of(session.execute(all_markers_sql(target), tag=_TAG).rows)
    except StatementError as error:
        # Not noted yet: the table was created a moment ago.
        if error.errno != OBJECT_MISSING:
            raise
        return marker_in(comment)
    return newest_of(markers, TableVersion(comment=comment))


def seen_to_text(seen: Seen) -> str:
    """Return it as a tag of the run keeps it."""
    return json.dumps({name: str(marker) if marker else None for name, marker in seen.items()})


def seen_from_text(text: str) -> Seen | None:
    """Return what a tag keeps, None if nothing was looked up."""
    return {name: marker_in(marker) for name, marker in json.loads(text).items()} if text else None
