"""The statements that build a candidate, comment and drop it. Pure: `publish.table_run` sends them."""

from collections.abc import Sequence
from dataclasses import dataclass

from run_elt_dagster.model.candidate import Marker, comment_of
from run_elt_dagster.model.increment import Start
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal, stored_name
from run_elt_dagster.model.partitions import Slice
from run_elt_dagster.model.table import AnalyticsTable


@dataclass(frozen=True)
class Protection:
    """What a creating statement says of policies and tags.

    Attributes:
        clauses: Those of the table.
        columns: All columns as SQL takes them, in order; none where no policy is on a column.
        defined: The same, each with its type and its policies if it has some.
    """

    clauses: str = ""
    columns: tuple[str, ...] = ()
    defined: tuple[str, ...] = ()

    @property
    def column_list(self) -> str:
        """The list of columns behind the name of the table; empty without one."""
        return f"({', '.join(self.defined)})" if self.defined else ""

    def named(self, sql: str) -> str:
        """Return a query with the columns in the order of the list, which goes by position."""
        return f"SELECT {', '.join(self.columns)} FROM (\n{sql}\n)" if self.columns else sql


BARE = Protection()


def build_sql(
    table: AnalyticsTable,
    candidate: Relation,
    *,
    marker: Marker,
    part: Slice | None = None,
    start: Start | None = None,
    protection: Protection = BARE,
) -> str:
    """Return the CTAS of the candidate.

    The newline before the closing parenthesis ends a trailing `--` comment of the author's. OR REPLACE makes it safe
    to repeat: the name belongs to this run alone. https://docs.snowflake.com/en/sql-reference/sql/create-table

    Args:
        table: The table.
        candidate: What is built.
        marker: The run that builds it.
        part: The partitions that are built; None for a table without them.
        start: Where the increment begins that is built; None for the whole table.
        protection: The policies and tags that it has from its first moment.
    """
    sql, pieces = (table.whole_sql, ()) if part is None else (table.sliced_sql(part), [(part.start, part.end)])
    if start is not None:
        sql = table.increment_sql(start)
    comment = quote_literal(comment_of(table, marker, pieces, start=start))
    before, after = (protection.column_list, cluster_by_sql(table), retention_sql(table)), protection.clauses
    clauses = " ".join(filter(None, (*before, f"COMMENT = {comment}", after)))
    return f"CREATE OR REPLACE {table_kind(table)} {candidate.sql} {clauses} AS (\n{protection.named(sql)}\n)"


def cluster_by_sql(table: AnalyticsTable) -> str:
    """Return the clause with the clustering key: https://docs.snowflake.com/en/user-guide/tables-clustering-keys."""
    columns = ", ".join(quote_identifier(stored_name(column)) for column in table.cluster_by or ())
    return f"CLUSTER BY ({columns})" if columns else ""


def retention_sql(table: AnalyticsTable) -> str:
    """Return the clause with the days of Time Travel: https://docs.snowflake.com/en/user-guide/data-time-travel."""
    days = table.data_retention_days
    return "" if days is None else f"DATA_RETENTION_TIME_IN_DAYS = {days}"


def after_clone_sql(table: AnalyticsTable, target: Relation) -> list[str]:
    """Return what a clone needs: it has the clustering key of its source, and Automatic Clustering is suspended.

    https://docs.snowflake.com/en/user-guide/object-clone
    """
    return [f"ALTER TABLE {target.sql} RESUME RECLUSTER"] if table.cluster_by else []


def after_overwrite_sql(table: AnalyticsTable, target: Relation) -> list[str]:
    """Return what gives a table that stays its declared clustering key and days of Time Travel; safe to repeat."""
    key, days = cluster_by_sql(table), retention_sql(table)
    return [f"ALTER TABLE {target.sql} {act}" for act in (key, f"SET {days}" if days else "") if act]


def stored_as_sql(table: AnalyticsTable, target: Relation) -> str | None:
    """Return the query for the clustering key and the days of Time Travel of a table; None where its file declares neither.

    https://docs.snowflake.com/en/sql-reference/info-schema/tables
    """
    if not (table.cluster_by or table.data_retention_days is not None):
        return None
    catalogue = f"{quote_identifier(target.database)}.INFORMATION_SCHEMA.TABLES"
    return (
        f"SELECT CLUSTERING_KEY, RETENTION_TIME FROM {catalogue} WHERE TABLE_SCHEMA = {quote_literal(target.schema)} "
        f"AND TABLE_NAME = {quote_literal(target.name)}"
    )


def after_rows_sql(table: AnalyticsTable, target: Relation, key: str | None, days: object) -> list[str]:
    """Return what gives a table that stays what its file declares and the catalogue does not have.

    Args:
        table: The table.
        target: What readers see.
        key: Its clustering key as the catalogue has it, `LINEAR(DAY, "a b")` for example; None if it has none.
        days: Its days of Time Travel.
    """
    acts: list[str] = []
    declared = [stored_name(column) for column in table.cluster_by or ()]
    present = (key or "").partition("(")[2].removesuffix(")")
    if declared and _plain(present) != _plain(",".join(declared)):
        acts.append(cluster_by_sql(table))
    if table.data_retention_days is not None and str(days) != str(table.data_retention_days):
        acts.append(f"SET {retention_sql(table)}")
    return [f"ALTER TABLE {target.sql} {act}" for act in acts]


def _plain(columns: str) -> str:
    """Return columns without what the catalogue may write in another way."""
    return columns.replace('"', "").replace(" ", "")


def file_position(table: AnalyticsTable, statement: str, *, line: int, position: int) -> str:
    """Return where in the table's file a position of the statement that builds it is.

    Args:
        table: The table.
        statement: What `build_sql` gave for it.
        line: Line of the statement, from 1.
        position: Position in that line, from 0.

    Returns:
        `path:line:column` as editors take it; empty if it is not in the author's SQL, or the table has no file.
    """
    # Found from behind, since the description stands before it. With literals in the place of placeholders it has as many lines.
    found = statement.rfind(table.sql)
    before = statement.count("\n", 0, found) if found >= 0 else statement.count("\n") - table.sql.count("\n") - 1
    own = line - before
    if table.path is None or not 1 <= own <= table.sql.count("\n") + 1:
        return ""
    # Front matter may end on the line where the SQL begins, and the table does not have its length.
    column = "" if own == 1 and table.sql_line > 1 else f":{position + 1}"
    return f"{table.path}:{table.sql_line + own - 1}{column}"


def column_comments_sql(table: AnalyticsTable, relation: Relation) -> str | None:
    """Return the statement that comments the columns, None if none is described; safe to repeat.

    https://docs.snowflake.com/en/sql-reference/sql/alter-table-column. A list of columns in the CTAS would go by
    position, and so could give a column another one's name.
    """
    parts = [
        f"COLUMN {quote_identifier(stored_name(name))} COMMENT {quote_literal(contract.description)}"
        for name, contract in table.columns.items()
        if contract.description
    ]
    return f"ALTER TABLE {relation.sql} MODIFY {', '.join(parts)}" if parts else None


def comment_sql(relation: Relation, comment: str) -> str:
    """Return the statement that sets a table's comment; safe to repeat."""
    return f"COMMENT ON TABLE {relation.sql} IS {quote_literal(comment)}"


def same_rows_sql(one: str, other: str, columns: Sequence[str]) -> str:
    """Return the query for how many distinct rows the one table has more or less often than the other.

    https://docs.snowflake.com/en/sql-reference/operators-query#minus-except

    Args:
        one: What stands behind FROM.
        other: Likewise.
        columns: Stored names of the columns that count.
    """
    names = ", ".join(quote_identifier(column) for column in columns)
    places = ", ".join(str(place) for place in range(1, len(columns) + 1))
    here, there = (
        f'SELECT {names}, COUNT(*) AS "run_elt copies" FROM {table} GROUP BY {places}' for table in (one, other)
    )
    return f"SELECT COUNT(*) FROM (({here} MINUS {there}) UNION ALL ({there} MINUS {here}))"


def drop_sql(candidate: Relation) -> str:
    """Return the statement that drops a candidate; safe to repeat."""
    return f"DROP TABLE IF EXISTS {candidate.sql}"


def table_kind(table: AnalyticsTable) -> str:
    """Return what a statement that creates the table calls it."""
    return "TRANSIENT TABLE" if table.transient else "TABLE"
