"""The statements that build a candidate and put it into production. Pure: `run_ctas` sends them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from run_elt_dagster.relation import Relation, exact_sql, identifier_sql, string_sql
from run_elt_dagster.table import AnalyticsTable

RUN_ID_CHARACTERS = 8


class PublishRefusedError(Exception):
    """Publishing would break a rule; nothing was published."""


@dataclass(frozen=True)
class Existing:
    """What stands under the target's name.

    Attributes:
        kind: TABLE_TYPE of INFORMATION_SCHEMA.TABLES, as in `BASE TABLE`.
        row_count: Its rows; None where Snowflake keeps no count (a view).
        columns: Column names in order; empty unless asked for.
    """

    kind: str
    row_count: int | None
    columns: tuple[str, ...] = ()


def target_of(table: AnalyticsTable, *, database: str) -> Relation:
    """Return the table that readers see."""
    return Relation(database, table.schema_name, table.table)


def candidate_of(table: AnalyticsTable, *, database: str, run_id: str) -> Relation:
    """Return the table that a run builds: a name of its own, so that no other run can publish it unaudited."""
    suffix = run_id.replace("-", "")[:RUN_ID_CHARACTERS]
    return Relation(database, table.schema_name, f"temp_{table.table}__{suffix}")


def existing_sql(database: str, schemas: Iterable[str]) -> str:
    """Return the query for what stands in the schemas: rows of schema, name, kind and row count.

    https://docs.snowflake.com/en/sql-reference/info-schema/tables
    """
    names = ", ".join(string_sql(schema.upper()) for schema in sorted(set(schemas)))
    return (
        f"SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ROW_COUNT FROM {identifier_sql(database)}.INFORMATION_SCHEMA.TABLES "
        f"WHERE TABLE_SCHEMA IN ({names})"
    )


def columns_sql(relation: Relation) -> str:
    """Return the query for a table's columns: rows of one name, in order."""
    return (
        f"SELECT COLUMN_NAME FROM {identifier_sql(relation.database)}.INFORMATION_SCHEMA.COLUMNS "
        f"WHERE TABLE_SCHEMA = {string_sql(relation.schema.upper())} AND TABLE_NAME = {string_sql(relation.name.upper())} "
        "ORDER BY ORDINAL_POSITION"
    )


def build_sql(table: AnalyticsTable, candidate: Relation, *, run_id: str) -> str:
    """Return the CTAS of the candidate.

    The newline before the closing parenthesis ends a trailing `--` comment of the author's. OR REPLACE makes it safe
    to repeat: the name belongs to this run alone. https://docs.snowflake.com/en/sql-reference/sql/create-table
    """
    comment = string_sql(f"{table.description} [run_elt run {run_id}]".strip())
    return f"CREATE OR REPLACE {_kind(table)} {candidate.sql} COMMENT = {comment} AS (\n{table.sql}\n)"


def publish_sql(
    table: AnalyticsTable,
    *,
    target: Relation,
    candidate: Relation,
    existing: Existing | None,
    columns: Sequence[str] = (),
    copy_tags: bool = True,
) -> list[str]:
    """Return the statements that put the candidate into production; the last one is the exchange, and it is atomic.

    Args:
        table: The table, whose `publish` chooses the method.
        target: What readers see.
        candidate: What was audited.
        existing: What stands under the target's name; None publishes for the first time.
        columns: The candidate's columns, needed to overwrite.
        copy_tags: Whether a clone keeps the target's tags; accounts without COPY TAGS refuse the clause.

    Raises:
        PublishRefusedError: The target is no table, or its columns differ and would have to be overwritten.
    """
    if existing is None:
        return [_first_publish_sql(table, target, candidate)]
    if existing.kind != "BASE TABLE":
        raise PublishRefusedError(
            f"{table.name} requires a table as its target, got a {existing.kind.lower()} at {target}. Readers still see "
            "it. Drop or rename it, then materialize again.",
        )
    if table.publish == "swap":
        return [f"ALTER TABLE {target.sql} SWAP WITH {candidate.sql}"]
    if table.publish == "overwrite":
        return [_overwrite_sql(table, target, candidate, existing=existing, columns=columns)]
    keep = "COPY GRANTS COPY TAGS" if copy_tags else "COPY GRANTS"
    return [f"CREATE OR REPLACE {_kind(table)} {target.sql} CLONE {candidate.sql} {keep}"]


def _first_publish_sql(table: AnalyticsTable, target: Relation, candidate: Relation) -> str:
    if table.publish == "swap":
        return f"ALTER TABLE {candidate.sql} RENAME TO {target.sql}"
    # Neither OR REPLACE, which would take the grants of a table that somebody else has created in the meantime, nor
    # COPY GRANTS, so that the schema's future grants apply: https://docs.snowflake.com/en/sql-reference/sql/create-clone
    return f"CREATE {_kind(table)} {target.sql} CLONE {candidate.sql}"


def _overwrite_sql(
    table: AnalyticsTable,
    target: Relation,
    candidate: Relation,
    *,
    existing: Existing,
    columns: Sequence[str],
) -> str:
    if sorted(columns) != sorted(existing.columns):
        added = ", ".join(sorted(set(columns) - set(existing.columns))) or "none"
        removed = ", ".join(sorted(set(existing.columns) - set(columns))) or "none"
        raise PublishRefusedError(
            f"{table.name} with publish: overwrite requires the columns of {target}, got new columns: {added}; missing "
            f"columns: {removed}. Readers still see the previous table. Alter the table to match, or use publish: clone.",
        )
    names = ", ".join(exact_sql(column) for column in columns)
    return f"INSERT OVERWRITE INTO {target.sql} ({names}) SELECT {names} FROM {candidate.sql}"


def drop_sql(candidate: Relation) -> str:
    """Return the statement that drops a candidate; safe to repeat."""
    return f"DROP TABLE IF EXISTS {candidate.sql}"


def _kind(table: AnalyticsTable) -> str:
    return "TRANSIENT TABLE" if table.transient else "TABLE"
