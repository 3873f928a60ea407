"""FROM: tables, subqueries, VALUES, joins, LATERAL, FLATTEN, PIVOT and UNPIVOT.

https://docs.snowflake.com/en/sql-reference/constructs/from
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlglot import Expr, exp

from run_elt_dagster.dialect import types, values
from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.dialect.expressions import Expressions, refused
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.dialect.operators import compared
from run_elt_dagster.dialect.parser import function_name
from run_elt_dagster.dialect.scope import (
    HIDDEN,
    Column,
    Relation,
    Scope,
    Source,
    distinct_columns,
    name_of,
)
from run_elt_dagster.dialect.types import Type
from run_elt_dagster.dialect.values import Value

if TYPE_CHECKING:
    from run_elt_dagster.dialect.queries import Queries

_TABLE_PARTS = frozenset({"this", "db", "catalog", "alias", "joins", "pivots", "sample", "when"})
_JOIN_PARTS = frozenset({"this", "side", "kind", "on", "using", "method", "match_condition"})
_SIDES = {"": "INNER", "LEFT": "LEFT", "RIGHT": "RIGHT", "FULL": "FULL"}


@dataclass
class Sources:
    """Translates FROM of one SELECT, and tells its scope what stands there.

    Attributes:
        queries: Translates the queries inside it.
        scope: What names mean.
        numbered: Whether rows get a number that SEQ of FLATTEN shows.
    """

    queries: "Queries"
    scope: Scope
    numbered: bool = False

    @property
    def _this(self) -> Expressions:
        return Expressions(self.queries, self.scope)

    def clause(self, node: exp.Select) -> tuple[str, Sequence[Expr]]:
        """Return what follows FROM, empty where nothing does, and the conditions of WHERE."""
        first, where = node.args.get("from_"), node.args.get("where")
        conditions = [where.this] if where is not None else []
        if first is None:
            return "", conditions
        self.numbered = _numbers_rows(node)
        marked = [part for part in _parts_of(conditions) if any(_marks(part))]
        if marked:
            return self._outer(node, marked), [part for part in _parts_of(conditions) if part not in marked]
        sql = self.one(first.this)
        for lateral in node.args.get("laterals") or []:
            sql = f"{sql} CROSS JOIN {self.one(lateral)}"
        for join in node.args.get("joins") or []:
            sql = f"{sql} {self._join(join)}"
        return sql, conditions

    def _outer(self, node: exp.Select, marked: Sequence[Expr]) -> str:
        """Return FROM for conditions with `(+)`: what has the mark is joined from the left.

        https://docs.snowflake.com/en/sql-reference/constructs/where#joins-in-the-where-clause
        """
        joins = node.args.get("joins") or []
        if node.args.get("laterals") or any(set(_given(join)) - {"this"} for join in joins):
            raise refused(marked[0])
        texts: list[str] = []
        for written in [node.args["from_"].this, *(join.this for join in joins)]:
            texts.append(self.one(written))
            if len(self.scope.sources) != len(texts):
                raise refused(marked[0])
        on: dict[int, list[str]] = {}
        needs: dict[int, set[int]] = {}
        for condition in marked:
            own, others = self._sides(condition)
            plain = condition.copy()
            for column in _marks(plain):
                column.set("join_mark", False)
            on.setdefault(own, []).append(self._this.condition(plain))
            needs[own] = needs.get(own, set()) | others
            if len(needs[own]) > 1:
                raise refused(condition)
        sql = " CROSS JOIN ".join(text for index, text in enumerate(texts) if index not in on)
        placed = set(range(len(texts))) - set(on)
        while len(placed) < len(texts):
            ready = [index for index in on if index not in placed and needs[index] <= placed]
            if not ready or not sql:
                raise refused(marked[0])
            sql = f"{sql} LEFT JOIN {texts[ready[0]]} ON {' AND '.join(on[ready[0]])}"
            placed.add(ready[0])
        return sql

    def _sides(self, condition: Expr) -> tuple[int, set[int]]:
        """Return the source with the mark in a condition, and the other ones."""
        if isinstance(condition, exp.Or) or any(True for _ in condition.find_all(exp.Query)):
            raise refused(condition)
        marked = {self._index(column) for column in _marks(condition)}
        plain = {self._index(column) for column in condition.find_all(exp.Column) if not column.args.get("join_mark")}
        if len(marked) != 1 or marked & plain:
            raise refused(condition)
        return marked.pop(), plain

    def _index(self, column: exp.Column) -> int:
        qualifiers, name = [name_of(part) for part in column.parts[:-1]], name_of(column.this)
        found = [
            index
            for index, source in enumerate(self.scope.sources)
            if (source.is_meant(qualifiers) if qualifiers else any(own.name == name for own in source.columns))
        ]
        if len(found) != 1:
            raise refused(column)
        return found[0]

    def one(self, node: Expr) -> str:
        """Return one source of FROM and the joins behind it, and add it to the scope."""
        sql = self._alone(node)
        for join in node.args.get("joins") or []:
            sql = f"{sql} {self._join(join)}"
        return sql

    def _alone(self, node: Expr) -> str:  # noqa: PLR0911 - a line for each kind
        if isinstance(node, exp.Table):
            return self._table(node)
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
            return f"({self.one(node.this)})" if not node.alias else self._refuse(node)
        if isinstance(node, exp.Subquery):
            return self._subquery(node, lateral=False)
        if isinstance(node, exp.Values):
            return self._added(node, self.queries.rows(node, Scope(parent=self.scope.parent)))
        if isinstance(node, exp.Lateral):
            return self._lateral(node)
        if isinstance(node, exp.TableFromRows):
            return self._table_function(node, node.this)
        return self._refuse(node)

    def _refuse(self, node: Expr) -> str:
        raise refused(node)

    def _table(self, node: exp.Table) -> str:
        function = node.this if isinstance(node.this, exp.Anonymous) else None
        if function is not None:
            return self._table_function(node, function)
        if set(_given(node)) - _TABLE_PARTS:
            raise refused(node)
        names = tuple(name_of(part) for part in node.parts)
        known = self.scope.relation(names[0]) if len(names) == 1 else None
        return self._added(node, known or self.queries.table(node), names=names, named=True)

    def _subquery(self, node: exp.Subquery, *, lateral: bool) -> str:
        if set(_given(node)) - {"this", "alias", "joins", "pivots", "lateral", "sample"}:
            raise refused(node)
        parent = self.scope if lateral else self.scope.parent
        return self._added(node, self.queries.relation(node.this, parent), lateral=lateral)

    def _added(
        self, node: Expr, relation: Relation, *, names: tuple[str, ...] = (), named: bool = False, lateral: bool = False
    ) -> str:
        """Add a relation to the scope under its alias, and return it as it stands in FROM."""
        if (sample := node.args.get("sample")) is not None:
            if lateral or node.args.get("pivots"):
                raise refused(sample)
            relation, named = self._sampled(relation, sample, named=named), False
        for pivot in node.args.get("pivots") or []:
            relation, named = self._pivoted(relation, pivot, named=named), False
            if pivot.args.get("alias"):
                node = pivot
        alias = node.args.get("alias")
        columns = relation.columns
        if alias is not None and alias.this:
            names = (name_of(alias.this),)
        if alias is not None and alias.columns:
            columns = _renamed_columns(columns, [name_of(column) for column in alias.columns])
        inner = self._inner(names[-1] if names else "from")
        body = relation.sql if named else f"{'LATERAL ' if lateral else ''}({relation.sql})"
        if self.numbered and not self.scope.sources:
            body = f"(SELECT *, row_number() OVER () FROM {body})"
            columns = (*columns, Column(f"{HIDDEN}ROW", types.INT, "row:"))
        self.scope.sources.append(Source(names, inner, columns))
        listed = ", ".join(quoted(column.inner) for column in columns)
        return f"{body} AS {quoted(inner)}({listed})"

    def _sampled(self, relation: Relation, sample: Any, *, named: bool) -> Relation:
        """Return SAMPLE: so many rows, or each row by chance.

        https://docs.snowflake.com/en/sql-reference/constructs/sample
        """
        size, share = sample.args.get("size"), sample.args.get("percent")
        number = size if size is not None else share
        method = str(sample.args.get("method") or "BERNOULLI").upper()
        if set(_given(sample)) - {"method", "size", "percent"} or method not in {"BERNOULLI", "ROW"}:
            raise refused(sample)
        if (
            not isinstance(number, exp.Literal)
            or number.is_string
            or (size is not None and not number.name.isdecimal())
        ):
            raise refused(sample)
        how = f"reservoir({number.name} ROWS)" if size is not None else f"bernoulli({number.name} PERCENT)"
        body = relation.sql if named else f"({relation.sql})"
        return replace(relation, sql=f'SELECT * FROM {body} AS "sample" USING SAMPLE {how}')

    def _inner(self, name: str) -> str:
        """Return a name for DuckDB's SQL that no source around has, so a reference never means another one."""
        taken: set[str] = set()
        scope: Scope | None = self.scope
        while scope is not None:
            taken |= {source.inner.lower() for source in scope.sources}
            scope = scope.parent
        inner, number = name, 1
        while inner.lower() in taken:
            number += 1
            inner = f"{name}:{number}"
        return inner

    def _join(self, node: exp.Join) -> str:
        extras = set(_given(node)) - _JOIN_PARTS
        side, kind = str(node.args.get("side") or "").upper(), str(node.args.get("kind") or "").upper()
        method = str(node.args.get("method") or "").upper()
        if (
            extras
            or side not in _SIDES
            or kind not in {"", "INNER", "OUTER", "CROSS"}
            or method not in {"", "NATURAL", "ASOF"}
        ):
            raise refused(node)
        before = list(self.scope.sources)
        right = self.one(node.this)
        added = self.scope.sources[len(before) :]
        names = [name_of(column) for column in node.args.get("using") or []]
        if method == "NATURAL":
            names = [name for name in _names(before) if name in set(_names(added))]
        if names:
            condition = self._merge(names, before, added, side)
        elif node.args.get("on") is not None:
            condition = self._this.condition(node.args["on"])
        else:
            condition = ""
        if method == "ASOF":
            return self._asof(node, right, condition, side + kind)
        if not condition:
            return f"{'CROSS' if side == '' else _SIDES[side]} JOIN {right}{'' if side == '' else ' ON TRUE'}"
        return f"{_SIDES[side]} JOIN {right} ON {condition}"

    def _asof(self, node: exp.Join, right: str, condition: str, side: str) -> str:
        """Return ASOF JOIN, which keeps each row of the left side.

        https://docs.snowflake.com/en/sql-reference/constructs/asof-join
        """
        closest = node.args.get("match_condition")
        closest = closest.this if isinstance(closest, exp.Paren) else closest
        if side or not isinstance(closest, exp.GTE | exp.GT | exp.LTE | exp.LT):
            raise refused(node)
        both = [self._this.condition(closest), *([condition] if condition else [])]
        return f"ASOF LEFT JOIN {right} ON {' AND '.join(both)}"

    def _merge(self, names: Sequence[str], before: Sequence[Source], added: Sequence[Source], side: str) -> str:
        """Make one column of two for USING and NATURAL, and return the condition."""
        conditions: list[str] = []
        for name in names:
            left = self.scope.merged.get(name) or _only(name, before)
            right = _only(name, added)
            conditions.append(compared(left, right, "=").sql)
            chosen = {"RIGHT": right, "FULL": _first_there(left, right)}.get(side, left)
            self.scope.merged[name] = chosen
        return " AND ".join(conditions)

    def _lateral(self, node: exp.Lateral) -> str:
        inner = node.this
        if isinstance(inner, exp.Subquery):
            alias = node.args.get("alias") or inner.args.get("alias")
            query = exp.Subquery(this=inner.this.copy(), alias=alias.copy() if alias else None)
            return self._subquery(query, lateral=True)
        return self._table_function(node, inner)

    def _table_function(self, node: Expr, function: Expr) -> str:
        from run_elt_dagster.dialect import flatten  # noqa: PLC0415 - which needs this module

        plain = function.expression if isinstance(function, exp.Dot) else function
        if isinstance(plain, exp.Anonymous) and plain.name.upper() in self.queries.table_functions:
            return self._added(node, self.queries.table_functions[plain.name.upper()](plain))
        if function_name(function) == "FLATTEN":
            return self._added(node, flatten.flattened(self._this, function), lateral=True)
        if function_name(function) in {"SPLIT_TO_TABLE", "STRTOK_SPLIT_TO_TABLE"}:
            return self._added(node, flatten.pieces(self._this, function), lateral=True)
        if isinstance(function, exp.Generator) or function_name(function) == "GENERATOR":
            return self._added(node, flatten.generated(self._this, function))
        raise refused(node)

    def _pivoted(self, relation: Relation, pivot: Any, *, named: bool) -> Relation:
        from run_elt_dagster.dialect import pivots  # noqa: PLC0415 - which needs this module

        body = relation.sql if named else f"({relation.sql})"
        return pivots.pivoted(self.queries, replace(relation, sql=body), pivot, self.scope)


def _given(node: Expr) -> list[str]:
    return [key for key, value in node.args.items() if value]


def _parts_of(conditions: Sequence[Expr]) -> list[Expr]:
    """Return what AND combines."""
    return [
        part
        for condition in conditions
        for part in (condition.flatten() if isinstance(condition, exp.And) else [condition])
    ]


def _marks(node: Expr) -> list[exp.Column]:
    """Return the columns with `(+)`, without those of queries inside."""
    found = node.walk(prune=lambda part: isinstance(part, exp.Query))
    return [part for part in found if isinstance(part, exp.Column) and part.args.get("join_mark")]


def _numbers_rows(node: exp.Select) -> bool:
    """Return whether a SELECT may show the number of the row that a table function reads: its column SEQ."""
    is_table_function = node.find(exp.Lateral, exp.TableFromRows) or any(
        isinstance(table.this, exp.Anonymous) for table in node.find_all(exp.Table)
    )
    return bool(is_table_function) and any(
        isinstance(item, exp.Star) or item.name.upper() == "SEQ" for item in node.find_all(exp.Star, exp.Column)
    )


def _names(sources: Sequence[Source]) -> list[str]:
    return list(dict.fromkeys(column.name for source in sources for column in source.columns))


def _only(name: str, sources: Sequence[Source]) -> Value:
    found = [column.value(source.inner) for source in sources for column in source.columns if column.name == name]
    if len(found) != 1:
        raise SqlError(f"SQL compilation error:\ninvalid identifier '{name}'", errno=904, sqlstate="42000")
    return found[0]


def _first_there(left: Value, right: Value) -> Value:
    (left, right), kind = values.unified([left, right], "USING")
    return Value(f"coalesce({left.sql}, {right.sql})", kind)


def _renamed_columns(columns: Sequence[Any], names: Sequence[str]) -> tuple[Any, ...]:
    """Return columns under the names beside an alias; those without one keep theirs."""
    if len(names) > len(columns):
        raise SqlError(
            f"SQL compilation error:\nInvalid column list: expected {len(columns)} names, got {len(names)}",
            errno=2034,
            sqlstate="42601",
        )
    pairs: list[tuple[str, Type]] = [
        (names[index] if index < len(names) else column.name, column.type) for index, column in enumerate(columns)
    ]
    renamed = distinct_columns(pairs)
    return tuple(replace(new, stored=old.stored) for new, old in zip(renamed, columns, strict=True))
