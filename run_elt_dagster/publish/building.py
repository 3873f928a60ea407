"""Building a candidate: the CTAS with its marker, the comments of its columns, and the marker of one that failed."""

import contextlib

from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import OBJECT_MISSING
from run_elt_dagster.publish.statements import BARE, build_sql, column_comments_sql, comment_sql, file_position
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import RunStoppedError
from run_elt_dagster.snowflake.session import StatementError


def build(work: TableWork) -> None:
    """Build the candidate. Safe to repeat.

    Raises:
        StatementError: It could not be built. The error has its place in the table's file, where Snowflake names one.
    """
    protection = work.protection or BARE
    statement = build_sql(
        work.table, work.candidate, marker=work.marker(), part=work.part, start=work.start, protection=protection
    )
    try:
        work.send(statement)
    except StatementError as error:
        raise in_the_file(work.table, error, statement) from None


def comment_columns(work: TableWork) -> None:
    """Comment the columns of the candidate that are described.

    Raises:
        StatementError: They could not be commented.
    """
    if comments := column_comments_sql(work.table, work.candidate):
        try:
            work.send(comments)
        except StatementError as error:
            # A run with a newer snapshot may have taken the candidate away. The audit finds out.
            if error.errno != OBJECT_MISSING:
                raise


def mark_as_failed(work: TableWork) -> None:
    """Say in the candidate's comment that no run need wait for it."""
    comment = comment_sql(work.candidate, work.comment("failed"))
    # What failed before is told; this only would have made it easier for other runs.
    with contextlib.suppress(StatementError, RunStoppedError):
        work.runner.send_once(comment, tag={"asset": "/".join(work.table.key), "stage": work.stage})


def in_the_file(table: AnalyticsTable, error: StatementError, statement: str) -> StatementError:
    """Return the error of the statement that builds a table with its place in the table's file, where it has one."""
    if error.line is None or error.position is None:
        return error
    where = file_position(table, statement, line=error.line, position=error.position)
    return error.with_changes(where=where or error.where)
