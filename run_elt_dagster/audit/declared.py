"""The audits that the front matter of a table declares. Pure: a new kind of check gets its question here."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from run_elt_dagster.audit.plan import (
    ROW_COUNT_SQL,
    Audit,
    Bounds,
    ContractAudit,
    IncrementAudit,
    KeyAudit,
    Measure,
    PartitionAudit,
    QueryAudit,
    RowCountAudit,
    RowCountChangeAudit,
    ScanAudit,
    SchemaChangeAudit,
    SourceAudit,
    bad_rows_measure,
)
from run_elt_dagster.model.checks import (
    TABLE_PLACEHOLDER,
    Changes,
    Freshness,
    Range,
    Relationship,
    RowCountChange,
    Severity,
    SourceFreshness,
    Usual,
)
from run_elt_dagster.model.counted import agreeing, counted
from run_elt_dagster.model.increment import Increment
from run_elt_dagster.model.names import display_name, quote_identifier, quote_literal, stored_name, stored_names
from run_elt_dagster.model.table import AnalyticsTable

if TYPE_CHECKING:
    # Most folders declare no such check, and each process of Dagster loads this module.
    from run_elt_dagster.audit.usual import Metric


def audits_of(table: AnalyticsTable, *, database: str = "") -> tuple[Audit, ...]:
    """Return the audits of a table, the row count first, each with a name of its own.

    Args:
        table: The table.
        database: Stored name of the session's database: a relationship may name the table itself with it.
    """
    return tuple(_all_audits(table, database))


def _all_audits(table: AnalyticsTable, database: str) -> Iterator[Audit]:
    checks, names = table.checks, table.checks.names()
    bounds = Bounds(min=checks.row_count.min, max=checks.row_count.max)
    yield RowCountAudit(
        name="row_count",
        kind="row_count",
        description=f"The number of rows is {bounds}.",
        severity=checks.row_count.severity,
        measures=(Measure(ROW_COUNT_SQL, "rows", bounds),),
        is_of_table=True,
    )
    yield from _of_parts(table)
    yield from _against_versions(table, names)
    if table.columns:
        yield ContractAudit(
            name="columns",
            kind="columns",
            description=f"Columns and types are the declared ones: {', '.join(table.columns)}.",
            contract={stored_name(name): contract.type for name, contract in table.columns.items()},
        )
    if table.schema_change == "fail":
        yield SchemaChangeAudit(
            name="schema_change", kind="schema_change", description="The columns are those of the published table."
        )
    if table.primary_key:
        yield _key(table, "primary_key", "primary_key", table.primary_key, "error", may_be_null=False)
    for rule in checks.unique:
        name = names["unique", tuple(map(stored_name, rule.columns))]
        yield _key(table, name, "unique", rule.columns, rule.severity, may_be_null=True)
    if checks.not_null is not None:
        yield _not_null(checks.not_null.columns, checks.not_null.severity)
    yield from _column_audits(table, names)
    for column, rule in checks.relationship.items():
        is_own = rule.is_to(table.stored_schema, table.stored_table, database=database)
        yield _relationship(names["relationship", (stored_name(column),)], column, rule, is_own=is_own)
    yield from (
        _source_freshness(names["source_freshness", stored_names(source)], source, rule)
        for source, rule in checks.source_freshness.items()
    )
    for name, rule in checks.sql.items():
        query = f"SELECT * FROM (\n{rule.query.strip()}\n)"
        yield QueryAudit(
            name=name,
            kind="sql",
            description=f"The query `{name}` returns no rows.",
            severity=rule.severity,
            query=query,
        )


def _against_versions(table: AnalyticsTable, names: Mapping[tuple[str, tuple[str, ...]], str]) -> Iterator[Audit]:
    """Yield what compares the rows with those that are, or were, published."""
    checks = table.checks
    if checks.row_count_change is not None:
        yield _row_count_change(checks.row_count_change)
    if checks.changes is not None:
        yield _changes(table, checks.changes)
    if checks.usual is not None:
        yield from _usual(checks.usual, names)


def _of_parts(table: AnalyticsTable) -> Iterator[Audit]:
    """Yield what no author has declared: that the rows can be exchanged."""
    if table.partitions is not None:
        yield _partition(table.partitions.column)
    if table.increment is not None:
        yield _increment(table.increment)


def _row_count_change(rule: RowCountChange) -> Audit:
    bounds = Bounds(
        min=None if rule.max_drop is None else _percent(-rule.max_drop),
        max=None if rule.max_growth is None else _percent(rule.max_growth),
    )
    return RowCountChangeAudit(
        name="row_count_change",
        kind="row_count_change",
        description=f"The number of rows changes by {bounds} % against the published table, if that has {counted(rule.min_rows, 'rows')} or more.",
        severity=rule.severity,
        measures=(Measure(ROW_COUNT_SQL, "% change of the row count", bounds),),
        is_of_table=True,
        min_rows=rule.min_rows,
    )


def _changes(table: AnalyticsTable, rule: Changes) -> Audit:
    from run_elt_dagster.audit.changes import ChangesAudit  # noqa: PLC0415 - few tables declare it

    key = table.difference_key
    limits = [
        *(
            f"{limit} {words}"
            for limit, words in (
                (rule.max_added, "added" if key else "more"),
                (rule.max_removed, "removed" if key else "fewer"),
                (rule.max_changed, "changed"),
            )
            if limit is not None
        ),
        *(f"{limit} with another {name}" if key else f"{limit} off in {name}" for name, limit in rule.columns.items()),
    ]
    by = f"by {', '.join(display_name(name).lower() for name in key)}" if key else "as totals"
    return ChangesAudit(
        name="changes",
        kind="changes",
        description=f"At most {', '.join(limits)}, of the rows that readers see, compared {by}.",
        severity=rule.severity,
        key=key,
        rule=rule,
    )


def _usual(rule: Usual, names: Mapping[tuple[str, tuple[str, ...]], str]) -> Iterator[Audit]:
    from run_elt_dagster.audit.usual_check import UsualAudit  # noqa: PLC0415 - few tables declare it

    for metric, columns in rule.numbers:
        column = columns[0] if columns else ""
        name = names[f"usual_{metric}", tuple(map(stored_name, columns))]
        sql, counts, words = _usual_number(metric, column)
        yield UsualAudit(
            name=name,
            kind="usual",
            description=f"{words} is as usual, by the versions that were published before.",
            severity=rule.severity,
            measures=(Measure(sql, counts, Bounds()),),
            is_of_table=True,
            metric=metric,
            number=name.removeprefix("usual_"),
            since=rule.since,
        )


def _usual_number(metric: "Metric", column: str) -> tuple[str, str, str]:
    """Return an aggregate, what it counts, and its name at the start of a sentence."""
    if metric == "rows":
        return ROW_COUNT_SQL, "rows", "The number of rows"
    name = _sql_of(column)
    if metric == "null_rate":
        # A rate of no rows is none.
        rate = f"COUNT(CASE WHEN {name} IS NULL THEN 1 END)::FLOAT / NULLIF(COUNT(*), 0)"
        return rate, f"share of NULL in {column}", f"The share of NULL in {column}"
    if metric == "distinct":
        return f"COUNT(DISTINCT {name})", f"different values of {column}", f"The number of different values of {column}"
    return f"SUM({name})", f"sum of {column}", f"The sum of {column}"


def _percent(fraction: float) -> float:
    """Return a percentage with the decimals that an author may write; -0.0 is 0."""
    return round(100 * fraction, 9) + 0.0


def _partition(column: str) -> Audit:
    null = f"{_sql_of(column)} IS NULL"
    return PartitionAudit(
        name="partition",
        kind="partition",
        description=f"Every row is in the partitions that are built, by {column}. That is never NULL.",
        measures=(
            bad_rows_measure(f"COUNT(CASE WHEN {null} THEN 1 END)", f"rows with a NULL {column}"),
            bad_rows_measure("0", "rows outside of the partitions"),
        ),
        bad_rows_sql=_where(null),
    )


def _increment(increment: Increment) -> Audit:
    null, names = f"{_sql_of(increment.column)} IS NULL", [_sql_of(column) for column in increment.key]
    any_null, key = _any_null(names), ", ".join(increment.key)
    return IncrementAudit(
        name="increment",
        kind="increment",
        description=f"{key} identifies each row that is merged and is never NULL. {increment.column} is a time and never NULL.",
        column=increment.stored_column,
        measures=(
            Measure(ROW_COUNT_SQL, "rows to merge", Bounds()),
            bad_rows_measure(f"COUNT(CASE WHEN {null} THEN 1 END)", f"rows with a NULL {increment.column}"),
            bad_rows_measure(f"COUNT(CASE WHEN {any_null} THEN 1 END)", "rows with a NULL key"),
            bad_rows_measure(_duplicates(names), "rows with a duplicate key"),
        ),
        bad_rows_sql=(
            f"SELECT * FROM {TABLE_PLACEHOLDER} QUALIFY {null} OR {any_null} OR COUNT(*) OVER (PARTITION BY {', '.join(names)}) > 1"
        ),
    )


def _any_null(names: Sequence[str]) -> str:
    return " OR ".join(f"{name} IS NULL" for name in names)


def _duplicates(names: Sequence[str]) -> str:
    """Return the number of rows with a key that another row has too, but one for each such key; a key with a NULL part is none.

    COUNT of a CASE is 0 without rows, on every engine. COUNT(DISTINCT a, b) leaves out rows with a NULL part, so they are counted
    by themselves: https://docs.snowflake.com/en/sql-reference/functions/count
    """
    return f"COUNT(CASE WHEN NOT ({_any_null(names)}) THEN 1 END) - COUNT(DISTINCT {', '.join(names)})"


def _key(
    table: AnalyticsTable, name: str, kind: str, columns: Sequence[str], severity: Severity, *, may_be_null: bool
) -> Audit:
    names = [_sql_of(column) for column in columns]
    any_null = _any_null(names)
    measures = [bad_rows_measure(_duplicates(names), "rows with a duplicate key")]
    if not may_be_null:
        nulls = f"COUNT(CASE WHEN {any_null} THEN 1 END)"
        measures.insert(0, bad_rows_measure(nulls, "rows with a NULL key"))
    rows = (
        f"SELECT * FROM {TABLE_PLACEHOLDER} QUALIFY "
        + ("" if may_be_null else f"({any_null}) OR ")
        + f"(NOT ({any_null}) AND COUNT(*) OVER (PARTITION BY {', '.join(names)}) > 1)"
    )
    never = "where none of them is NULL" if may_be_null else "and is never NULL"
    description = f"{', '.join(columns)} identifies a row {never}."
    key = tuple(map(stored_name, columns))
    others = _others_with_a_key(table, key)
    if others is None:
        return ScanAudit(
            name=name,
            kind=kind,
            description=description,
            severity=severity,
            measures=tuple(measures),
            bad_rows_sql=rows,
        )
    measures.append(bad_rows_measure("0", f"rows with a key of {others}"))
    return KeyAudit(
        name=name,
        kind=kind,
        description=description,
        severity=severity,
        measures=tuple(measures),
        bad_rows_sql=rows,
        key=key,
    )


def _others_with_a_key(table: AnalyticsTable, key: Sequence[str]) -> str | None:
    """Return which rows that are not built may have a key of one that is, in words; None where none can."""
    if table.partitions is not None and table.partitions.stored_column not in key:
        return "another partition"
    if table.increment is not None and not set(table.increment.stored_key) <= set(key):
        return "a row that stays"
    return None


def _not_null(columns: Sequence[str], severity: Severity) -> Audit:
    measures = tuple(
        bad_rows_measure(f"COUNT(CASE WHEN {_sql_of(column)} IS NULL THEN 1 END)", f"rows with a NULL {column}")
        for column in columns
    )
    condition = " OR ".join(f"{_sql_of(column)} IS NULL" for column in columns)
    return ScanAudit(
        name="not_null",
        kind="not_null",
        description=f"{', '.join(columns)} {'is' if len(columns) == 1 else 'are'} never NULL.",
        severity=severity,
        measures=measures,
        bad_rows_sql=_where(condition),
    )


def _column_audits(table: AnalyticsTable, names: Mapping[tuple[str, tuple[str, ...]], str]) -> Iterator[Audit]:
    checks = table.checks

    def condition(kind: str, column: str, words: str, bad: str, severity: Severity) -> Audit:
        """Return an audit of a condition that is true for rows that are wrong; NULL never is."""
        return ScanAudit(
            name=names[kind, (stored_name(column),)],
            kind=kind,
            description=f"{column} {words}.",
            severity=severity,
            measures=(bad_rows_measure(f"COUNT(CASE WHEN {bad} THEN 1 END)", f"rows with another {column}"),),
            bad_rows_sql=_where(bad),
        )

    for column, rule in checks.accepted_values.items():
        words = f"is one of {', '.join(map(_said, rule.values))}, or NULL"
        yield condition("accepted_values", column, words, _another_sql(_sql_of(column), rule.values), rule.severity)
    for column, rule in checks.matches.items():
        # https://docs.snowflake.com/en/sql-reference/functions/regexp_like: the pattern is anchored at both ends.
        bad = f"NOT REGEXP_LIKE({_sql_of(column)}, {quote_literal(rule.pattern)})"
        yield condition("matches", column, f"matches `{rule.pattern}` as a whole, or is NULL", bad, rule.severity)
    for column, rule in checks.range.items():
        yield condition("range", column, _range_words(rule), _outside_sql(_sql_of(column), rule), rule.severity)
    for column, rule in checks.freshness.items():
        yield _freshness(names["freshness", (stored_name(column),)], column, rule)


def _range_words(rule: Range) -> str:
    parts = [
        f"at least {_said(rule.min)}" if rule.min is not None else "",
        f"at most {_said(rule.max)}" if rule.max is not None else "",
    ]
    return f"is {' and '.join(part for part in parts if part)}, or NULL"


def _said(value: Any) -> str:
    """Return a value as an author writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _another_sql(column: str, values: Sequence[Any]) -> str:
    if isinstance(values[0], bool):
        # Compared with TRUE, text is cast first: 't', 'yes' and '1' would pass.
        # https://docs.snowflake.com/en/sql-reference/data-types-logical
        return f"{column}::VARCHAR NOT IN ({', '.join(quote_literal(_said(value)) for value in values)})"
    return f"{column} NOT IN ({', '.join(map(_literal, values))})"


def _outside_sql(column: str, rule: Range) -> str:
    parts = [f"{column} < {_literal(rule.min)}"] if rule.min is not None else []
    if rule.max is not None:
        parts.append(f"{column} > {_literal(rule.max)}")
    if not any(isinstance(bound, date) for bound in (rule.min, rule.max)):
        # Snowflake counts NaN as greater than every number, so a minimum alone would let it pass:
        # https://docs.snowflake.com/en/sql-reference/data-types-numeric#special-values
        parts.append(f"{column}::FLOAT = 'NaN'::FLOAT")
    return " OR ".join(parts)


def _freshness(name: str, column: str, rule: Freshness) -> Audit:
    # Seconds since 1970 are the same for every kind of timestamp; one without a time zone counts as UTC:
    # https://docs.snowflake.com/en/sql-reference/functions/year
    age = f"DATE_PART(EPOCH_SECOND, CURRENT_TIMESTAMP()) - DATE_PART(EPOCH_SECOND, MAX({_sql_of(column)}))"
    bounds = Bounds(min=-rule.max_ahead_hours, max=rule.max_age_hours)
    return ScanAudit(
        name=name,
        kind="freshness",
        description=f"The latest {column} is at most {_hours(rule.max_age_hours)} old, and at most {_hours(rule.max_ahead_hours)} ahead.",
        severity=rule.severity,
        measures=(Measure(f"({age}) / 3600", f"hours since the latest {column}", bounds),),
        is_of_table=True,
    )


def _source_freshness(name: str, source: str, rule: SourceFreshness) -> Audit:
    *place, schema, table = stored_names(source)
    catalogue = ".".join([*map(quote_identifier, place), "INFORMATION_SCHEMA.TABLES"])
    # LAST_ALTERED is of the last DML or DDL: https://docs.snowflake.com/en/sql-reference/info-schema/tables
    age = (
        "(SELECT (DATE_PART(EPOCH_SECOND, CURRENT_TIMESTAMP()) - DATE_PART(EPOCH_SECOND, MAX(LAST_ALTERED))) / 3600 "
        f"FROM {catalogue} WHERE TABLE_SCHEMA = {quote_literal(schema)} AND TABLE_NAME = {quote_literal(table)})"
    )
    return SourceAudit(
        name=name,
        kind="source_freshness",
        description=f"{source} was changed at most {_hours(rule.max_age_hours)} ago.",
        severity=rule.severity,
        measures=(Measure(age, f"hours since {source} was changed", Bounds(max=rule.max_age_hours)),),
        is_of_table=True,
    )


def _relationship(name: str, column: str, rule: Relationship, *, is_own: bool) -> Audit:
    # What is published under the own name is the version before: it must not be asked, or orphans pass.
    other = TABLE_PLACEHOLDER if is_own else ".".join(quote_identifier(part) for part in rule.table)
    query = (
        f"SELECT * FROM {TABLE_PLACEHOLDER} AS audited WHERE audited.{_sql_of(column)} IS NOT NULL AND NOT EXISTS "
        f"(SELECT 1 FROM {other} AS related WHERE related.{quote_identifier(rule.column)} = audited.{_sql_of(column)})"
    )
    return QueryAudit(
        name=name,
        kind="relationship",
        description=f"Every {column} but NULL is in {rule.to}.",
        severity=rule.severity,
        query=query,
        is_by_row=True,
        # The partner of a new row may be an old one.
        is_of_table=is_own,
    )


def _where(condition: str) -> str:
    return f"SELECT * FROM {TABLE_PLACEHOLDER} WHERE {condition}"


def _sql_of(column: str) -> str:
    return quote_identifier(stored_name(column))


def _literal(value: Any) -> str:
    if isinstance(value, datetime):
        return f"'{value.isoformat(sep=' ')}'::{'TIMESTAMP_NTZ' if value.tzinfo is None else 'TIMESTAMP_TZ'}"
    if isinstance(value, date):
        return f"'{value.isoformat()}'::DATE"
    # A decimal number keeps the digits that the author wrote; a binary one would have others.
    return (
        quote_literal(value) if isinstance(value, str) else f"{value:f}" if isinstance(value, Decimal) else repr(value)
    )


def _hours(hours: float) -> str:
    return agreeing(f"{hours:g}", "hours")
