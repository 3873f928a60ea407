"""How the rows and columns of two tables differ: the statements, and what their answers say.

Pure: the check `changes` and `run-elt diff` send them.

Both tables are read once and grouped by key, so a key that is NULL is compared with NULL, and one that stands in several rows is
seen. https://docs.snowflake.com/en/sql-reference/constructs/group-by
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from run_elt_dagster.audit.catalogue import Column
from run_elt_dagster.model.names import Relation, display_name, quote_identifier, quote_literal

# Two numbers are the same where one is a FLOAT and they differ by less than this part of the greater one: sums of floats come out
# in another order each time. https://docs.snowflake.com/en/sql-reference/data-types-numeric#rounding-errors
FLOAT_TOLERANCE = "1e-9"
_NUMERIC = frozenset({"NUMBER", "FLOAT", "DECFLOAT"})
_SEMI_STRUCTURED = frozenset({"VARIANT", "ARRAY", "OBJECT", "MAP"})
# MAX takes them as they are, on an account and on the embedded Snowflake.
_ORDERED = frozenset({*_NUMERIC, "TEXT", "DATE", "TIME", "TIMESTAMP_NTZ", "TIMESTAMP_LTZ"})
# The account's own format may leave digits out.
_WITH_OFFSET = "'YYYY-MM-DD HH24:MI:SS.FF9 TZHTZM'"
STATES = ("added", "removed", "changed", "repeated")


@dataclass(frozen=True)
class SchemaDifference:
    """How the columns differ.

    Attributes:
        added: Columns that only the new table has, in its order.
        removed: Columns that only the old table has.
        changed: The old and the new column, where the type differs.
    """

    added: tuple[Column, ...] = ()
    removed: tuple[Column, ...] = ()
    changed: tuple[tuple[Column, Column], ...] = ()

    @property
    def lines(self) -> list[str]:
        """Each difference on a line."""
        return [
            *(f"+ {display_name(column.name)} {column.type}" for column in self.added),
            *(f"- {display_name(column.name)} {column.type}" for column in self.removed),
            *(f"~ {display_name(new.name)} {old.type} -> {new.type}" for old, new in self.changed),
        ]


@dataclass(frozen=True)
class RowDifference:
    """How the rows differ in the columns that both tables have.

    Attributes:
        new_rows: Rows of the new table.
        old_rows: Rows of the old table.
        added: Keys (without a key: rows) that only the new table has.
        removed: Keys (without a key: rows) that only the old table has.
        changed: Keys with one row in each table, and other values in it; 0 without a key.
        repeated: Keys with several rows in a table; these rows are not compared.
        by_column: The columns with other values, and in how many of the changed keys.
    """

    new_rows: int
    old_rows: int
    added: int
    removed: int
    changed: int = 0
    repeated: int = 0
    by_column: tuple[tuple[str, int], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is none that is known of."""
        return not (self.added or self.removed or self.changed or self.repeated)


@dataclass(frozen=True)
class ColumnTotals:
    """What a column has as a whole, in the new table and in the old one. NULL counts nowhere.

    Attributes:
        sums: The sums of its values, None where there is no value; None altogether for a column without numbers.
        distinct: How many values it has.
    """

    sums: tuple[Any, Any] | None
    distinct: tuple[int, int]


@dataclass(frozen=True)
class Totals:
    """What two tables have as a whole.

    Attributes:
        new_rows: Rows of the new table.
        old_rows: Rows of the old table.
        columns: The columns by their stored names.
    """

    new_rows: int
    old_rows: int
    columns: Mapping[str, ColumnTotals]


def columns_sql(new: Relation, old: Relation) -> str:
    """Return the query for the columns of both tables, in order; the first column of a row is `new` or `old`.

    https://docs.snowflake.com/en/sql-reference/info-schema/columns
    """
    parts = [
        f"SELECT '{side}', ORDINAL_POSITION, COLUMN_NAME, DATA_TYPE, NUMERIC_PRECISION, NUMERIC_SCALE, CHARACTER_MAXIMUM_LENGTH, "
        f"DATETIME_PRECISION FROM {quote_identifier(table.database)}.INFORMATION_SCHEMA.COLUMNS "
        f"WHERE TABLE_SCHEMA = {quote_literal(table.schema)} AND TABLE_NAME = {quote_literal(table.name)}"
        for side, table in (("new", new), ("old", old))
    ]
    return " UNION ALL ".join(parts) + " ORDER BY 1, 2"


def columns_of(rows: Sequence[Sequence[Any]], side: str) -> tuple[Column, ...]:
    """Return the columns of one table that the answer to `columns_sql` lists."""
    return tuple(
        Column(str(name), str(kind), _whole(precision), _whole(scale), _whole(length), _whole(digits))
        for given, _, name, kind, precision, scale, length, digits in rows
        if given == side
    )


def _whole(measure: Any) -> int | None:
    return None if measure is None else int(measure)


def schema_difference(new: Sequence[Column], old: Sequence[Column]) -> SchemaDifference:
    """Return how the columns differ; their order does not count."""
    news, olds = {column.name: column for column in new}, {column.name: column for column in old}
    return SchemaDifference(
        tuple(column for column in new if column.name not in olds),
        tuple(column for column in old if column.name not in news),
        tuple((olds[name], column) for name, column in news.items() if name in olds and olds[name] != column),
    )


@dataclass(frozen=True)
class Comparison:
    """Two tables that are compared.

    Attributes:
        new: What a build gives.
        old: What it is compared with.
        new_columns: The columns of the new table.
        old_columns: The columns of the old table.
        key: Stored names of the columns that identify a row; none to compare whole rows.
        within: The condition that a row of the old table is compared; empty for every row.
        only: Stored names of the columns whose values are compared, as far as both tables have them; None for all of them.
        ignored: Stored names of columns whose values are not compared.
        group: Two expressions for the group of a row, in the new table and in the old one: each group is compared by itself. Empty for
            one comparison of all rows.
    """

    new: Relation
    old: Relation
    new_columns: tuple[Column, ...]
    old_columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    within: str = ""
    only: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()
    group: tuple[str, str] | tuple[()] = ()

    @property
    def compared(self) -> tuple[str, ...]:
        """The columns that both tables have and whose values are compared; none of the key."""
        olds = {column.name for column in self.old_columns} - {*self.key, *self.ignored}
        return tuple(c.name for c in self.new_columns if c.name in olds and (self.only is None or c.name in self.only))

    @property
    def missing_key(self) -> tuple[str, ...]:
        """The columns of the key that are not in both tables."""
        news, olds = ({c.name for c in columns} for columns in (self.new_columns, self.old_columns))
        return tuple(name for name in self.key if name not in news & olds)

    def counts_sql(self) -> str:
        """Return the query for one row of counts: those of `row_difference`, in order. With groups, a row for each, its group first."""
        if not self.key:
            return self._whole_rows_sql()
        columns = [f"COUNT_IF(\"run_elt state\" = '{state}')" for state in STATES]
        columns += [
            f"COUNT_IF(\"run_elt state\" = 'changed' AND {_differs(number)})" for number in _numbers(self.compared)
        ]
        counts = ", ".join([*self._groups, 'SUM("run_elt news")', 'SUM("run_elt olds")', *columns])
        return f'{self._compared_sql()} SELECT {counts} FROM "run_elt compared"{self._by_group}'

    def totals_sql(self) -> str:
        """Return the query for one row of totals: those of `totals`, in order. With groups, a row for each, its group first.

        It needs no key. NULL is no value: neither a sum nor a number of values counts it.
        """
        values = [
            f'{aggregate}IFF("run_elt {side}" = 1, {quote_identifier(name)}, NULL))'
            for name in self.compared
            for aggregate in (["SUM("] if self.has_sum(name) else []) + ["COUNT(DISTINCT "]
            for side in ("new", "old")
        ]
        columns = ", ".join([*self._groups, 'SUM("run_elt new")', 'SUM("run_elt old")', *values])
        return f"SELECT {columns} FROM ({self._both_sql()}){self._by_group}"

    def examples_sql(self, rows: int) -> str:
        """Return the query for the first keys of each state: state, key, and the names of the columns that differ.

        Raises:
            ValueError: There is no key.
        """
        if not self.key:
            raise ValueError("examples require a key, got none")
        keys = ", ".join(quote_identifier(name) for name in self.key)
        names = [
            f"IFF({_differs(number)}, {quote_literal(display_name(name).lower())}, NULL)"
            for number, name in zip(_numbers(self.compared), self.compared, strict=True)
        ]
        changed = f"ARRAY_TO_STRING(ARRAY_CONSTRUCT_COMPACT({', '.join(names)}), ', ')" if names else "''"
        return (
            f"{self._compared_sql()} SELECT \"run_elt state\", {keys}, IFF(\"run_elt state\" = 'changed', {changed}, '') "
            f'FROM "run_elt compared" WHERE "run_elt state" <> \'same\' '
            f'QUALIFY ROW_NUMBER() OVER (PARTITION BY "run_elt state" ORDER BY {keys}) <= {rows} ORDER BY "run_elt state", {keys}'
        )

    def row_difference(self, row: Sequence[Any]) -> RowDifference:
        """Return what the answer to `counts_sql` says."""
        numbers = [int(value or 0) for value in row]
        by_column = zip(self.compared, numbers[6:], strict=True) if self.key else ()
        return RowDifference(*numbers[:6], by_column=tuple((name, count) for name, count in by_column if count))

    def totals(self, row: Sequence[Any]) -> Totals:
        """Return what a row of the answer to `totals_sql` says, without its group."""
        rest = iter(row[2:])
        columns = {
            name: ColumnTotals(
                (next(rest), next(rest)) if self.has_sum(name) else None, (int(next(rest)), int(next(rest)))
            )
            for name in self.compared
        }
        return Totals(int(row[0] or 0), int(row[1] or 0), columns)

    def has_sum(self, name: str) -> bool:
        """Return whether a column has numbers in both tables."""
        return self._kinds_of(name) <= _NUMERIC

    @property
    def _groups(self) -> tuple[str, ...]:
        return (_GROUP,) if self.group else ()

    @property
    def _by_group(self) -> str:
        return f" GROUP BY {_GROUP}" if self.group else ""

    def _whole_rows_sql(self) -> str:
        """Return the counts of rows that one table has more often than the other: EXCEPT both ways, as multisets."""
        names = ", ".join(quote_identifier(name) for name in self.compared)
        grouped = f"SELECT {', '.join(_SUMS)} FROM ({self._both_sql()}) GROUP BY {names}"
        return (
            'SELECT SUM("run_elt news"), SUM("run_elt olds"), SUM(GREATEST("run_elt news" - "run_elt olds", 0)), '
            f'SUM(GREATEST("run_elt olds" - "run_elt news", 0)) FROM ({grouped})'
        )

    def _compared_sql(self) -> str:
        """Return the CTEs up to the one with a row for each key: its state, and which columns differ."""
        keys = ", ".join([*self._groups, *(quote_identifier(name) for name in self.key)])
        values = [
            f'MAX(IFF("run_elt {side}" = 1, {quote_identifier(name)}, NULL)) AS "run_elt {side} {number}"'
            for number, name in zip(_numbers(self.compared), self.compared, strict=True)
            for side in ("new", "old")
        ]
        differs = [
            self._differs_sql(number, name) for number, name in zip(_numbers(self.compared), self.compared, strict=True)
        ]
        anything = " OR ".join(_differs(number) for number in _numbers(self.compared)) or "FALSE"
        state = (
            'CASE WHEN "run_elt news" > 1 OR "run_elt olds" > 1 THEN \'repeated\' WHEN "run_elt olds" = 0 THEN \'added\' '
            f"WHEN \"run_elt news\" = 0 THEN 'removed' WHEN {anything} THEN 'changed' ELSE 'same' END"
        )
        return (
            f'WITH "run_elt rows" AS ({self._both_sql()}), '
            f'"run_elt keys" AS (SELECT {", ".join([keys, *_SUMS, *values])} FROM "run_elt rows" GROUP BY {keys}), '
            f'"run_elt differences" AS (SELECT {", ".join([keys, *_COUNTS, *differs])} FROM "run_elt keys"), '
            f'"run_elt compared" AS (SELECT *, {state} AS "run_elt state" FROM "run_elt differences")'
        )

    def _differs_sql(self, number: int, name: str) -> str:
        new, old = (f'"run_elt {side} {number}"' for side in ("new", "old"))
        differs = f"NOT EQUAL_NULL({new}, {old})"
        if self._is_float(name):
            # Less than and not at most: on Snowflake NaN is at most NaN, and would be near any number.
            near = f"ABS({new} - {old}) < {FLOAT_TOLERANCE} * GREATEST(ABS({new}), ABS({old}))"
            differs += f" AND NOT COALESCE({near}, FALSE)"
        return f'({differs}) AS "run_elt differs {number}"'

    def _is_float(self, name: str) -> bool:
        kinds = self._kinds_of(name)
        return kinds <= _NUMERIC and "FLOAT" in kinds

    def _kinds_of(self, name: str) -> set[str]:
        return {column.data_type for column in (*self.new_columns, *self.old_columns) if column.name == name}

    def _both_sql(self) -> str:
        """Return the rows of both tables with the columns that both have, in a form that can be grouped and compared."""
        sides = (("new", self.new, self.group[:1]), ("old", self.old, self.group[1:]))
        return " UNION ALL ".join(
            f"SELECT {''.join(f'{each}, ' for each in self._selected(side, group))}"
            f'{int(side == "new")} AS "run_elt new", {int(side == "old")} AS "run_elt old" FROM {table.sql}'
            f"{f' AS published WHERE {self.within}' if self.within and side == 'old' else ''}"
            for side, table, group in sides
        )

    def _selected(self, side: str, group: Sequence[str]) -> Iterator[str]:
        """Yield the group of a row of one table, its key, and the columns that are compared."""
        yield from (f"{each} AS {_GROUP}" for each in group)
        news, olds = ({column.name: column for column in columns} for columns in (self.new_columns, self.old_columns))
        columns = news if side == "new" else olds
        for name in (*self.key, *self.compared):
            yield _comparable(columns[name], is_one_type=_is_one_type(news[name], olds[name]))


_GROUP = '"run_elt group"'
# Other names than those of the columns: Snowflake could read an alias in the place of the column.
_COUNTS = ('"run_elt news"', '"run_elt olds"')
_SUMS = ('SUM("run_elt new") AS "run_elt news"', 'SUM("run_elt old") AS "run_elt olds"')


def _numbers(names: Sequence[str]) -> Iterator[int]:
    return iter(range(1, len(names) + 1))


def _differs(number: int) -> str:
    return f'"run_elt differs {number}"'


def _is_one_type(new: Column, old: Column) -> bool:
    return new.data_type == old.data_type or {new.data_type, old.data_type} <= _NUMERIC


def _comparable(column: Column, *, is_one_type: bool) -> str:
    """Return a column under its own name, as text where its type has no order, or where the other table has another type."""
    name = quote_identifier(column.name)
    if column.data_type in _SEMI_STRUCTURED:
        return f"TO_JSON({name}) AS {name}"
    if column.data_type == "TIMESTAMP_TZ":
        return f"TO_VARCHAR({name}, {_WITH_OFFSET}) AS {name}"
    return name if is_one_type and column.data_type in _ORDERED else f"TO_VARCHAR({name}) AS {name}"
