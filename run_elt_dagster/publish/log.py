"""The log of publishes in the account: what became of each table of a run, and what its checks found. Its statements, as data.

A run adds its rows after its last publish, in one statement for each of two tables. All values are bound, as one JSON text. Each row has an
id that says what it is about, and no id is added twice: so the statements are safe to repeat. Numbers and names are logged, and no value of a
row of a table.
"""

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from run_elt_dagster.audit.plan import AuditOutcome, Number
from run_elt_dagster.model.candidate import ByHand, Marker, by_hand_in, taken_back_of
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import Relation, quote_literal, short_id, stored_names
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import OBJECT_MISSING, create_schema_sql
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.snowflake.runner import BoundStatementRunner, Patience, RunContext, StatementRunner
from run_elt_dagster.snowflake.session import Answer, ConnectorSession, StatementError

PUBLISHES, CHECK_RESULTS = "PUBLISHES", "CHECK_RESULTS"
_TEXT, _NAME, _COUNT, _FLOAT = "VARCHAR", "VARCHAR NOT NULL", "NUMBER(38, 0)", "FLOAT"
# The first columns of both tables.
_ABOUT = {
    "ENTRY_ID": _NAME,
    "RUN_ID": _NAME,
    "TABLE_DATABASE": _NAME,
    "TABLE_SCHEMA": _NAME,
    "TABLE_NAME": _NAME,
    "PARTITION_KEY": _TEXT,
    "FINISHED_AT": "TIMESTAMP_NTZ NOT NULL",
}
COLUMNS: Mapping[str, Mapping[str, str]] = {
    PUBLISHES: {
        **_ABOUT,
        "JOB": _TEXT,
        "LAUNCHED_BY": _TEXT,
        "STATE": _NAME,
        "FAILED_STAGE": _TEXT,
        "PUBLISH_METHOD": _TEXT,
        "CODE_VERSION": _TEXT,
        "SUPERSEDED_BY": _TEXT,
        "WAIVED_CHECKS": _TEXT,
        "ROW_COUNT": _COUNT,
        "BYTES": _COUNT,
        **{f"{stage}_SECONDS": _FLOAT for stage in ("BUILD", "AUDIT", "PUBLISH")},
        **{f"{stage}_QUERY_ID": _TEXT for stage in ("BUILD", "AUDIT", "PUBLISH")},
    },
    CHECK_RESULTS: {
        **_ABOUT,
        "CHECK_NAME": _NAME,
        "KIND": _NAME,
        "SEVERITY": _NAME,
        "VERDICT": _NAME,
        "IS_OF_CANDIDATE": "BOOLEAN NOT NULL",
        "MEASURE": _TEXT,
        "GOT": _FLOAT,
        "EXPECTED_MIN": _FLOAT,
        "EXPECTED_MAX": _FLOAT,
        "QUERY_ID": _TEXT,
    },
}
"""The columns of each table of the log, in order, with their types."""

_COMMENTS = {
    PUBLISHES: "What became of each table of each run. Written by run_elt_dagster.",
    CHECK_RESULTS: "What each check of each run measured. Written by run_elt_dagster.",
}
# A bound text may have 16 MB, and a row takes less than 1 KB: https://docs.snowflake.com/en/sql-reference/data-types-text
ROWS_PER_STATEMENT = 5000
# What people publish by, and take back by.
BY_HAND, ROLLBACK = "run-elt publish", "run-elt rollback"
_TAG = {"stage": "log"}

Row = Mapping[str, Any]


def log_table(name: str, schema: str, *, database: str) -> Relation:
    """Return a table of the log.

    Args:
        name: PUBLISHES or CHECK_RESULTS.
        schema: As RUN_ELT_LOG_SCHEMA has it: `SCHEMA` or `DATABASE.SCHEMA`.
        database: The session's database, as it is stored.
    """
    *above, last = stored_names(schema)
    return Relation(above[0] if above else database, last, name)


def create_sql(table: Relation) -> str:
    """Return the statement that creates a table of the log; safe to repeat."""
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS[table.name].items())
    return f"CREATE TABLE IF NOT EXISTS {table.sql} ({columns}) COMMENT = {quote_literal(_COMMENTS[table.name])}"


def insert_sql(table: Relation) -> str:
    """Return the statement that adds the rows of its one parameter, a JSON list; safe to repeat.

    A row that was added by a statement without an answer is left out: https://docs.snowflake.com/en/sql-reference/functions/flatten
    """
    columns = COLUMNS[table.name]
    values = ", ".join(
        f"entry.value:{name}::{kind.removesuffix(' NOT NULL')} AS {name}" for name, kind in columns.items()
    )
    return (
        f"INSERT INTO {table.sql} ({', '.join(columns)}) SELECT {', '.join(columns)} FROM "
        f"(SELECT {values} FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) AS entry) AS added "
        f"WHERE NOT EXISTS (SELECT 1 FROM {table.sql} AS kept WHERE kept.ENTRY_ID = added.ENTRY_ID)"
    )


@dataclass(frozen=True)
class LoggedRun:
    """What is logged of a run with each of its tables.

    Attributes:
        run_id: Dagster's id.
        job: Name of the job.
        launched_by: How it was launched, and the name of the schedule, the sensor or the user where one is known.
        attempt: How often the step of the run was tried before.
        act: What a person did with its rows, and when; empty for what the run did itself.
    """

    run_id: str
    job: str = ""
    launched_by: str = ""
    attempt: int = 0
    act: str = ""


def publish_rows(
    run: LoggedRun,
    outcome: TableOutcome,
    *,
    at: datetime,
    code_version: str | None = None,
    keys: Sequence[str] = (),
) -> list[Row]:
    """Return the rows of PUBLISHES of one table: one, or one for each partition that was asked for.

    Seconds, bytes and query ids are of the whole slice. The row of its first partition has them, so a sum counts them once.

    Args:
        run: The run.
        outcome: What became of the table.
        at: When that was known, aware.
        code_version: Of the file that was built.
        keys: The partitions that the run was to build; empty for a whole table.
    """
    common = {
        "JOB": run.job or None,
        "LAUNCHED_BY": run.launched_by or None,
        "FAILED_STAGE": outcome.failure.stage if outcome.failure is not None else None,
        "PUBLISH_METHOD": outcome.table.method,
        "CODE_VERSION": code_version,
    }
    once = {
        "BYTES": outcome.bytes,
        **{f"{stage.upper()}_SECONDS": round(seconds, 3) for stage, seconds in outcome.seconds.items()},
        **{f"{stage.upper()}_QUERY_ID": query_id for stage, query_id in outcome.query_ids.items()},
    }
    return [
        {
            **_about(run, outcome.target, at, key),
            **common,
            **_fate(outcome, key),
            **({} if number else {name: value for name, value in once.items() if name in COLUMNS[PUBLISHES]}),
        }
        for number, key in enumerate(list(outcome.partitions) or list(keys) or [None])
    ]


def found_row(
    run: LoggedRun,
    table: AnalyticsTable,
    target: Relation,
    *,
    at: datetime,
    key: str | None = None,
    published: Row | None = None,
) -> Row:
    """Return the row of PUBLISHES of a table whose run was interrupted before it could write one.

    Args:
        run: The run.
        table: The table.
        target: What readers see.
        at: When it was published, or when the run ended, aware.
        key: The partition; None for a whole table.
        published: What is known of its new version; None where nothing says that it was published.
    """
    return {
        **_about(run, target, at, key),
        "JOB": run.job or None,
        "LAUNCHED_BY": run.launched_by or None,
        "STATE": "interrupted" if published is None else "published",
        "PUBLISH_METHOD": table.method,
        **(published or {}),
    }


def published_by(by_hand: ByHand, run_id: str) -> LoggedRun:
    """Return what is logged of kept rows that a person has published: the same for the command, repeated, and a later run."""
    return LoggedRun(run_id, BY_HAND, launched_by(by_hand.person), act=f"{BY_HAND} {by_hand.at}")


def launched_by(person: str) -> str:
    """Return who has given a command, as the log has it."""
    return f"the command line {person}"


def waived(by_hand: ByHand | None) -> Row:
    """Return the column with the checks that a person has waived."""
    return {"WAIVED_CHECKS": ", ".join(by_hand.waived) or None} if by_hand is not None else {}


def rolled_back_row(
    run: LoggedRun,
    table: AnalyticsTable,
    target: Relation,
    taken_back: Marker | None,
    *,
    rows: int | None,
    key: str | None = None,
    method: str | None = None,
) -> Row:
    """Return the row of PUBLISHES of a table, or a part of it, that has its rows of before again.

    It is the same entry for the command, for the same command repeated, and for a later run that finds the rows.

    Args:
        run: The run whose rows readers do not see any more, and who has taken them back.
        table: The table.
        target: What readers see.
        taken_back: What the table or the note says of that run, before or after; None if nothing.
        rows: How many rows readers see.
        key: The partition; None for a whole table.
        method: How they came back, where it is known.
    """
    known = {"STATE": "rolled back", "ROW_COUNT": rows, "PUBLISH_METHOD": method}
    row = found_row(run, table, target, at=datetime.now(UTC), key=key, published=known)
    if taken_back is None:
        return row
    # Rows that were written over others name their run by the start of its id.
    act = f"{ROLLBACK} {taken_back.at}{'+' * taken_back.times_further}"
    return {**row, "ENTRY_ID": "/".join([short_id(taken_back.run_of_rows), act, str(target), key or ""])}


def check_rows(run: LoggedRun, outcome: TableOutcome, *, at: datetime) -> list[Row]:
    """Return the rows of CHECK_RESULTS of one table: one for each measure of each check, of each partition."""
    audits = [each for part in outcome.partitions.values() for each in part.audits] or outcome.audits
    return audit_rows(run, outcome.target, audits, at=at, is_of_candidate=True)


def audit_rows(
    run: LoggedRun, target: Relation, audits: Sequence[AuditOutcome], *, at: datetime, is_of_candidate: bool
) -> list[Row]:
    """Return the rows of CHECK_RESULTS of some verdicts.

    Args:
        run: The run.
        target: What readers see.
        audits: The verdicts.
        at: When they were known, aware.
        is_of_candidate: Whether a candidate was asked, and not the published table.
    """
    rows: list[Row] = []
    for outcome in audits:
        about = _about(run, target, at, outcome.partition)
        verdict = {
            "CHECK_NAME": outcome.audit.name,
            "KIND": outcome.audit.kind,
            "SEVERITY": outcome.audit.severity,
            "VERDICT": _verdict(outcome),
            "IS_OF_CANDIDATE": is_of_candidate,
            "QUERY_ID": outcome.query_id,
        }
        for measured in _measured(outcome):
            entry = "/".join([about["ENTRY_ID"], outcome.audit.name, str(measured.get("MEASURE", ""))])
            rows.append({**about, **verdict, **measured, "ENTRY_ID": entry})
    return rows


class PublishLog:
    """Collects the rows of a run, and adds them to the log in the account.

    Args:
        session: Of the run.
        run: Who sends the statements.
        facts: What is logged of the run.
        schema: As RUN_ELT_LOG_SCHEMA has it.
        creates: Whether tables that do not exist are created, as only those of the embedded Snowflake are.
        patience: How long it waits.
    """

    def __init__(
        self,
        session: ConnectorSession,
        run: RunContext,
        facts: LoggedRun,
        *,
        schema: str,
        creates: bool = False,
        patience: Patience | None = None,
    ) -> None:
        self._session, self._run, self._facts = session, run, facts
        self._schema, self._creates, self._patience = schema, creates, patience
        self._rows: dict[str, list[Row]] = {PUBLISHES: [], CHECK_RESULTS: []}

    def note(self, outcome: TableOutcome, *, code_version: str | None = None, keys: Sequence[str] = ()) -> None:
        """Note what became of a table. The arguments are those of `publish_rows`."""
        now = datetime.now(UTC)
        self._rows[PUBLISHES] += publish_rows(self._facts, outcome, at=now, code_version=code_version, keys=keys)
        self._rows[CHECK_RESULTS] += check_rows(self._facts, outcome, at=now)

    def note_before(self, outcome: TableOutcome, whole_id: Callable[[str], str]) -> None:
        """Note what a person had done with the table before the run, as its comment says: the command may have been killed before it could.

        Args:
            outcome: Of the table.
            whole_id: Returns the id of a run of the table by its start.
        """
        table, target, before = outcome.table, outcome.target, outcome.before
        if before is None:
            return
        if (marker := taken_back_of(before.comment)) is not None:
            run = LoggedRun(whole_id(marker.run_of_rows), ROLLBACK)
            self._rows[PUBLISHES].append(rolled_back_row(run, table, target, marker, rows=before.rows))
        elif (by_hand := by_hand_in(before.comment)) is not None and before.marker is not None:
            at, known = datetime.fromisoformat(by_hand.at), {"ROW_COUNT": before.rows, **waived(by_hand)}
            run = published_by(by_hand, before.marker.run_id)
            self._rows[PUBLISHES].append(found_row(run, table, target, at=at, published=known))

    def note_published(self, target: Relation, audits: Sequence[AuditOutcome]) -> None:
        """Note what the checks of a published table have found, which nothing was built for."""
        self._rows[CHECK_RESULTS] += audit_rows(
            self._facts, target, audits, at=datetime.now(UTC), is_of_candidate=False
        )

    def add(self, rows: Sequence[Row], checks: Sequence[Row] = ()) -> None:
        """Note rows of other runs, of PUBLISHES and of CHECK_RESULTS."""
        self._rows[PUBLISHES] += rows
        self._rows[CHECK_RESULTS] += checks

    def write(self) -> Iterator[str]:
        """Add what was noted, and yield what could not be added, in words. It never raises, and is safe to repeat."""
        for name, rows in self._rows.items():
            if rows and (problem := self._written(name, rows)):
                yield problem

    def _written(self, name: str, rows: Sequence[Row]) -> str | None:
        table = name
        try:
            relation = log_table(name, self._schema, database=self._session.database)
            table = str(relation)
            for first in range(0, len(rows), ROWS_PER_STATEMENT):
                self._insert(relation, rows[first : first + ROWS_PER_STATEMENT])
        except Exception as error:  # noqa: BLE001 - whatever it is, what was published stays published
            return (
                f"The log of publishes requires that {table} exists and that the role has INSERT and SELECT on it, got: {error}. "
                f"{counted(len(rows), 'rows are', 'row is')} missing there. What was published stays published. Run deploy/publish_log.sql, or unset "
                "RUN_ELT_LOG_SCHEMA."
            )
        return None

    def _insert(self, table: Relation, rows: Sequence[Row]) -> None:
        try:
            self._send(table, rows)
        except StatementError as error:
            if not self._creates or error.errno != OBJECT_MISSING:
                raise
            plain = StatementRunner(self._session, self._run, threading.Event(), patience=self._patience)
            for sql in (create_schema_sql(table), create_sql(table)):
                plain.send(sql, tag=_TAG)
            self._send(table, rows)

    def _send(self, table: Relation, rows: Sequence[Row]) -> Answer:
        return send_rows(self._session, self._run, table, rows, patience=self._patience)


def send_rows(
    session: ConnectorSession,
    run: RunContext,
    table: Relation,
    rows: Sequence[Row],
    *,
    patience: Patience | None = None,
) -> Answer:
    """Send the statement that adds rows to a table of the log. Without rows, it shows that the role may.

    Raises:
        StatementError: It failed.
    """
    # What is missing in an object is NULL.
    known = [{name: value for name, value in row.items() if value is not None} for row in rows]
    text = json.dumps(known, ensure_ascii=False, separators=(",", ":"))
    runner = BoundStatementRunner(session, run, threading.Event(), parameters=[text], patience=patience)
    return runner.send(insert_sql(table), tag=_TAG)


def _about(run: LoggedRun, target: Relation, at: datetime, key: str | None) -> dict[str, Any]:
    names = {"TABLE_DATABASE": target.database, "TABLE_SCHEMA": target.schema, "TABLE_NAME": target.name}
    part = {"PARTITION_KEY": key} if key is not None else {}
    return {
        "ENTRY_ID": "/".join([run.run_id, run.act or str(run.attempt), str(target), key or ""]),
        "RUN_ID": run.run_id,
        **names,
        **part,
        # Without a zone: TIMESTAMP_NTZ would leave it out silently.
        "FINISHED_AT": at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds"),
    }


def _fate(outcome: TableOutcome, key: str | None) -> Row:
    """Return what became of a table, or of one of its partitions."""
    part = outcome.partitions.get(key) if key is not None else None
    if part is not None:
        # A partition that has passed is held back with its group by another table.
        state = _state(outcome) if outcome.held_back_by else part.state
        return {"STATE": state, "ROW_COUNT": part.row_count, "SUPERSEDED_BY": part.superseded_by}
    rows = outcome.row_count if key is None else None
    return {"STATE": _state(outcome), "ROW_COUNT": rows, "SUPERSEDED_BY": outcome.superseded_by}


def _state(outcome: TableOutcome) -> str:
    if outcome.failure is not None:
        return "unknown" if outcome.failure.production.state == "unknown" else "failed"
    if outcome.blamed:
        return "skipped" if outcome.skipped_because else "held back"
    return "published" if outcome.superseded_by is None else "superseded"


def _verdict(outcome: AuditOutcome) -> str:
    if outcome.note:
        return "not asked"
    if outcome.error is not None:
        return "no answer"
    if outcome.is_waived:
        return "waived"
    return "passed" if outcome.passed else "failed"


def _measured(outcome: AuditOutcome) -> Iterator[Row]:
    """Yield what was measured, and what was expected of it; one row without numbers where the catalogue answers."""
    for measure in outcome.audit.measures:
        yield {
            "MEASURE": measure.counts,
            "GOT": _finite(outcome.got.get(measure.counts)),
            "EXPECTED_MIN": _finite(measure.bounds.min),
            "EXPECTED_MAX": _finite(measure.bounds.max),
        }
    if not outcome.audit.measures:
        yield {}


def _finite(value: Number | None) -> Number | None:
    """Return a number that JSON can hold."""
    return value if value is not None and math.isfinite(value) else None
