"""Queries: SELECT with all its clauses, set operations, VALUES, and common table expressions.

https://docs.snowflake.com/en/sql-reference/constructs
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlglot import Expr, exp

from run_elt_dagster.dialect import types, values
from run_elt_dagster.dialect.calls import order_key, sortable
from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.expressions import Expressions, refused
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.dialect.parser import authored, deep_recursion
from run_elt_dagster.dialect.scope import (
    Relation,
    Scope,
    Source,
    ambiguous_column,
    distinct_columns,
    name_of,
)
from run_elt_dagster.dialect.sources import Sources
from run_elt_dagster.dialect.stars import is_star, starred
from run_elt_dagster.dialect.types import SEMI_STRUCTURED, Kind, Type
from run_elt_dagster.dialect.values import Value

# Equal values of these may look different.
_SELECT_CLAUSES = frozenset(
    {
        "expressions",
        "from_",
        "joins",
        "where",
        "group",
        "having",
        "qualify",
        "order",
        "limit",
        "offset",
        "distinct",
        "with_",
        "kind",
    }
    | {"laterals", "hint", "operation_modifiers"}
)


@dataclass(frozen=True)
class Item:
    """One column of a SELECT.

    Attributes:
        name: What it is called.
        value: What it gives.
        node: How it is written; None for one that `*` stands for.
    """

    name: str
    value: Value
    node: Expr | None = None


@dataclass(frozen=True)
class Queries:
    """Translates queries for one session.

    Attributes:
        table: Returns the columns of a table or view, and its name in DuckDB's SQL.
        context: What CURRENT_ROLE() and its like give, by what they are about.
        parameters: The values of `?`.
        table_functions: Functions in FROM that the session answers, by name.
        labels: What the columns of the outermost query are called that have no name, in their order.
    """

    table: Callable[[exp.Table], Relation]
    context: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    parameters: Sequence[Value] = ()
    table_functions: Mapping[str, Callable[[exp.Anonymous], Relation]] = field(
        default_factory=dict[str, Callable[[exp.Anonymous], Relation]]
    )
    labels: Sequence[str] = ()

    def relation(self, node: Expr, parent: Scope | None = None) -> Relation:
        """Return a query's SQL and columns.

        Raises:
            SqlError: It breaks a rule of Snowflake's, or holds what is not known here.
        """
        if parent is None:
            with deep_recursion():
                return self._relation(node, None)
        return self._relation(node, parent)

    def _relation(self, node: Expr, parent: Scope | None) -> Relation:
        if isinstance(node, exp.Subquery):
            return self._parenthesised(node, parent)
        if isinstance(node, exp.Select):
            return self._select(node, parent)
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, parent)
        if isinstance(node, exp.Values):
            return self.rows(node, Scope(parent=parent))
        raise refused(node)

    def _parenthesised(self, node: exp.Subquery, parent: Scope | None) -> Relation:
        extras = {key for key, value in node.args.items() if value} - {
            "this",
            "alias",
            "order",
            "limit",
            "offset",
            "with_",
        }
        if extras:
            raise refused(node)
        scope, prefix = self._with(node, parent)
        inner = self.relation(node.this, scope)
        return self._ordered(node, Relation(f"{prefix}({inner.sql})", inner.columns), scope)

    def _with(self, node: Expr, parent: Scope | None) -> tuple[Scope, str]:
        """Return the scope with the common table expressions of a query, and their SQL."""
        scope, clause = Scope(parent=parent), node.args.get("with_")
        if clause is None:
            return scope, ""
        recursive = False
        texts: list[str] = []
        for cte in clause.expressions:
            name = name_of(cte.args["alias"].this)
            if name in scope.relations:
                raise unsupported("name two common table expressions alike", name)
            names = [name_of(column) for column in cte.args["alias"].columns]
            if self._is_recursive(cte, name):
                recursive = True
                relation = self._recursive(cte, name, names, scope)
            else:
                relation = _renamed(self.relation(cte.this, scope), names)
            scope.relations[name] = Relation(quoted(name), relation.columns)
            columns = ", ".join(quoted(column.inner) for column in relation.columns)
            texts.append(f"{quoted(name)}({columns}) AS ({relation.sql})")
        return scope, f"WITH {'RECURSIVE ' if recursive else ''}{', '.join(texts)} "

    def _is_recursive(self, cte: exp.CTE, name: str) -> bool:
        tables = cte.this.find_all(exp.Table)
        return isinstance(cte.this, exp.Union) and any(
            not table.args.get("db") and name_of(table.this) == name for table in tables
        )

    def _recursive(self, cte: exp.CTE, name: str, names: Sequence[str], scope: Scope) -> Relation:
        union = cte.this
        if union.args.get("distinct"):
            raise refused(union)
        anchor = _renamed(self.relation(union.this, scope), names)
        inner = Scope(parent=scope, relations={name: Relation(quoted(name), anchor.columns)})
        step = self.relation(union.expression, inner)
        if len(step.columns) != len(anchor.columns):
            raise _column_counts(anchor, step)
        wide = tuple(
            types.common([one.type, other.type]) or one.type
            for one, other in zip(anchor.columns, step.columns, strict=True)
        )
        if any(one.type.kind is not kind.kind for one, kind in zip(anchor.columns, wide, strict=True)):
            raise unsupported("change the type of a column in a recursive query", authored(cte)[:200])
        # DuckDB gives the columns the anchor's types, so those must hold what the steps bring.
        columns = distinct_columns(
            [(column.name, _widest(kind)) for column, kind in zip(anchor.columns, wide, strict=True)]
        )
        inner.relations[name] = Relation(quoted(name), columns)
        step = self.relation(union.expression, inner)
        return Relation(f"{_cast_to(anchor, columns)} UNION ALL {_cast_to(step, columns)}", columns)

    def _select(self, node: exp.Select, parent: Scope | None) -> Relation:
        unknown = {key for key, value in node.args.items() if value} - _SELECT_CLAUSES
        if unknown or node.args.get("kind"):
            raise refused(node)
        outer, prefix = self._with(node, parent)
        scope = Scope(parent=outer)
        from_sql, where = Sources(self, scope).clause(node)
        this = Expressions(self, scope)
        scope.aliases = _aliases(node)
        items = self._items(node, this)
        select = _Select(self, node, this, items)
        if not items:
            # GENERATOR has none, for instance.
            raise unsupported("select no column at all", repr(authored(node)[:200]))
        columns = distinct_columns([(item.name, item.value.type) for item in items])
        listed = ", ".join(
            f"{item.value.sql} AS {quoted(column.inner)}" for item, column in zip(items, columns, strict=True)
        )
        parts = [
            f"{prefix}SELECT {select.distinct_sql()}{listed}",
            f"FROM {from_sql}" if from_sql else "",
            select.where_sql(where),
            select.group_sql(),
            select.having_sql(),
            select.qualify_sql(),
            select.order_sql(),
            limit_sql(this, node),
        ]
        return Relation(" ".join(part for part in parts if part), columns)

    def _items(self, node: exp.Select, this: Expressions) -> list[Item]:
        items: list[Item] = []
        is_outermost = this.scope.parent is not None and this.scope.parent.parent is None
        for index, written in enumerate(node.expressions):
            if is_star(written):
                items += [Item(name, value) for name, value in starred(this, written)]
            elif isinstance(written, exp.Alias):
                items.append(Item(name_of(written.args["alias"]), this.value(written.this), written.this))
            else:
                items.append(Item(self._label(written, index, is_outermost=is_outermost), this.value(written), written))
        return items

    def _label(self, written: Expr, index: int, *, is_outermost: bool) -> str:
        if isinstance(written, exp.Column):
            return name_of(written.this)
        if is_outermost and index < len(self.labels):
            return self.labels[index]
        return authored(written).upper()

    def _set_operation(self, node: exp.SetOperation, parent: Scope | None) -> Relation:
        outer, prefix = self._with(node, parent)
        words = {exp.Union: "UNION", exp.Intersect: "INTERSECT", exp.Except: "EXCEPT"}
        operands = list(self._operands(node, outer)) if isinstance(node, exp.Union) else None
        if operands is None:
            operands = [(None, self.relation(node.this, outer)), (None, self.relation(node.expression, outer))]
        if isinstance(node, exp.Intersect) and isinstance(node.this, exp.Union | exp.Except):
            # sqlglot reads it from the left, the standard says that INTERSECT comes first.
            raise refused(node)
        if not isinstance(node, exp.Union) and (node.args.get("by_name") or not node.args.get("distinct")):
            raise refused(node)
        if node.args.get("by_name"):
            operands = _by_name(operands)
        columns = _united([relation for _, relation in operands])
        if any(distinct is not False for distinct, _ in operands[1:]) and any(
            column.type.kind is Kind.TZ for column in columns
        ):
            raise refused(node)
        word = next(word for kind, word in words.items() if isinstance(node, kind))
        texts = [_cast_to(relation, columns) for _, relation in operands]
        if any(distinct is not False for distinct, _ in operands[1:]):
            texts = [_distinct_apart(text, columns) for text in texts]
        signs = [f"{word}{' ALL' if distinct is False else ''}" for distinct, _ in operands[1:]]
        sql = _combined(texts, signs)
        return self._ordered(node, Relation(f"{prefix}{sql}", columns), outer)

    def _operands(self, node: exp.Union, outer: Scope) -> Sequence[tuple[bool | None, Relation]]:
        """Return the operands of a chain of UNION, from the left: a chain of a thousand is no recursion of a thousand."""
        rights: list[tuple[bool | None, Expr]] = []
        left: Expr = node
        while isinstance(left, exp.Union) and not (left is not node and _has_tail(left)):
            if bool(left.args.get("by_name")) is not bool(node.args.get("by_name")):
                raise refused(left)
            rights.append((bool(left.args.get("distinct")), left.expression))
            left = left.this
        first = (None, self.relation(left, outer))
        return [first, *((distinct, self.relation(right, outer)) for distinct, right in reversed(rights))]

    def _ordered(self, node: Expr, relation: Relation, scope: Scope) -> Relation:
        """Return a relation with ORDER BY and LIMIT around it."""
        order, has_limit = node.args.get("order"), node.args.get("limit") or node.args.get("offset")
        if order is None and not has_limit:
            return relation
        around = Scope([Source((), "all", relation.columns)], parent=scope)
        this = Expressions(self, around)
        keys = [_key_of_output(this, ordered, relation) for ordered in order.expressions] if order else []
        order_sql = f" ORDER BY {', '.join(keys)}" if keys else ""
        limit = limit_sql(this, node)
        return Relation(
            f'SELECT * FROM ({relation.sql}) AS "all"{order_sql}{f" {limit}" if limit else ""}', relation.columns
        )

    def rows(self, node: exp.Values, scope: Scope) -> Relation:
        """Return VALUES."""
        this = Expressions(self, scope)
        rows = [this.values(row.expressions if isinstance(row, exp.Tuple) else [row]) for row in node.expressions]
        if len({len(row) for row in rows}) != 1:
            raise SqlError(
                "SQL compilation error:\nthe rows of VALUES have different numbers of values",
                errno=1241,
                sqlstate="42601",
            )
        by_column = [values.unified([row[index] for row in rows], "VALUES") for index in range(len(rows[0]))]
        lines = [", ".join(_sized(column[number], kind) for column, kind in by_column) for number in range(len(rows))]
        columns = distinct_columns([(f"COLUMN{index + 1}", kind) for index, (_, kind) in enumerate(by_column)])
        return Relation(f"VALUES {', '.join(f'({line})' for line in lines)}", columns)


@dataclass(frozen=True)
class _Select:
    """The clauses of one SELECT behind its items."""

    queries: Queries
    node: exp.Select
    this: Expressions
    items: Sequence[Item]

    def distinct_sql(self) -> str:
        """Return DISTINCT, if it is there."""
        distinct = self.node.args.get("distinct")
        if distinct is None:
            return ""
        if distinct.args.get("on") or any(item.value.kind is Kind.TZ for item in self.items):
            raise refused(self.node)
        return "DISTINCT "

    def where_sql(self, conditions: Sequence[Expr]) -> str:
        """Return WHERE."""
        parts = [*(self.this.condition(part) for part in conditions), *self._told_apart()]
        return f"WHERE {' AND '.join(parts)}" if parts else ""

    def _told_apart(self) -> list[str]:
        """Return conditions that fail where groups of a VARIANT are not known."""
        group = self.node.args.get("group")
        keys = [item.value for item in self.items] if self.node.args.get("distinct") or group is not None else []
        if group is not None:
            nodes = [key for part in group.expressions for key in (part.expressions or [part])]
            keys += [
                self.this.value(key) for key in nodes if isinstance(key, exp.Column | exp.JSONExtract | exp.Bracket)
            ]
        return list(
            dict.fromkeys(_told_apart(key) for key in keys if key.kind in SEMI_STRUCTURED and not key.aggregate)
        )

    def group_sql(self) -> str:
        """Return GROUP BY."""
        group = self.node.args.get("group")
        if group is None:
            return ""
        if group.args.get("all"):
            keys = [
                _grouped(item.value, group).sql
                for item in self.items
                if not item.value.aggregate and item.value.constant is None
            ]
            return f"GROUP BY {', '.join(keys)}" if keys else ""
        if {key for key, value in group.args.items() if value} - {"expressions", "all"}:
            raise refused(group)
        return f"GROUP BY {', '.join(self._group_set(part) for part in group.expressions)}"

    def _group_set(self, part: Expr) -> str:
        if isinstance(part, exp.Tuple | exp.Rollup | exp.Cube | exp.GroupingSets):
            inside = [self._group_set(key) for key in part.expressions]
            return f"{_GROUP_WORDS[type(part)]}({', '.join(inside)})"
        return self._group_key(part.this if isinstance(part, exp.Paren) else part)

    def _group_key(self, key: Expr) -> str:
        is_position = isinstance(key, exp.Literal) and not key.is_string
        value = self._item(key).value if is_position else self.this.value(key)
        return _grouped(value, key).sql

    def _item(self, position: Expr) -> Item:
        number = int(position.name) if position.name.isdecimal() else 0
        if not 0 < number <= len(self.items):
            raise SqlError(
                f"SQL compilation error:\nposition {position.name} is not in the list of the SELECT",
                errno=2078,
                sqlstate="42601",
            )
        return self.items[number - 1]

    def having_sql(self) -> str:
        """Return HAVING."""
        having = self.node.args.get("having")
        return f"HAVING {self.this.condition(having.this)}" if having is not None else ""

    def qualify_sql(self) -> str:
        """Return QUALIFY."""
        qualify = self.node.args.get("qualify")
        return f"QUALIFY {self.this.condition(qualify.this)}" if qualify is not None else ""

    def order_sql(self) -> str:
        """Return ORDER BY. A name is that of an item before it is that of a column."""
        order = self.node.args.get("order")
        if order is None:
            return ""
        return f"ORDER BY {', '.join(part for ordered in order.expressions for part in self._order_keys(ordered))}"

    def _order_keys(self, ordered: exp.Ordered) -> list[str]:
        if _is_all(ordered.this) and not self.this.scope.has_column("ALL"):
            return [self._order_item(item, ordered) for item in self.items]
        item = self._ordered_item(ordered.this)
        return [self._order_item(item, ordered) if item is not None else order_key(self.this, ordered)]

    def _ordered_item(self, key: Expr) -> Item | None:
        """Return the item that a key of ORDER BY means, None where it is an expression of its own."""
        if isinstance(key, exp.Literal) and not key.is_string:
            return self._item(key)
        if isinstance(key, exp.Column) and len(key.parts) == 1:
            found = [item for item in self.items if item.name == name_of(key.this)]
            if len({item.value.sql for item in found}) > 1:
                raise ambiguous_column(name_of(key.this))
            if found:
                return found[0]
        self._refuse_two_meanings(key)
        if self.node.args.get("distinct") is None:
            return None
        # SELECT DISTINCT(a) is an item in parentheses.
        keys = {self.this.value(node).sql for node in (key, exp.paren(key.unnest()))}
        same = [item for item in self.items if item.value.sql in keys]
        if not same:
            raise refused(key)
        return same[0]

    def _refuse_two_meanings(self, key: Expr) -> None:
        """Refuse a name inside an expression that is a column's and another item's: no page tells which is meant."""
        for column in key.find_all(exp.Column):
            if len(column.parts) == 1 and not isinstance(column.this, exp.Star):
                name = name_of(column.this)
                alias = self.this.scope.aliases.get(name)
                if alias is not None and self.this.scope.has_column(name) and alias != column:
                    raise refused(key)

    def _order_item(self, item: Item, ordered: exp.Ordered) -> str:
        key = sortable(item.value, ordered=True)
        direction = "DESC" if ordered.args.get("desc") else "ASC"
        nulls = "FIRST" if ordered.args.get("nulls_first") else "LAST"
        return f"{self.items.index(item) + 1 if key == item.value.sql else key} {direction} NULLS {nulls}"


def _is_all(key: Expr) -> bool:
    return (
        isinstance(key, exp.Column)
        and len(key.parts) == 1
        and not key.this.args.get("quoted")
        and key.name.upper() == "ALL"
    )


_GROUP_WORDS = {exp.Tuple: "", exp.Rollup: "ROLLUP ", exp.Cube: "CUBE ", exp.GroupingSets: "GROUPING SETS "}


def _grouped(value: Value, node: Expr) -> Value:
    """Return a key of groups: which offset a group of equal instants shows, no page tells."""
    if value.kind is Kind.TZ:
        raise unsupported("group by a TIMESTAMP_TZ", authored(node)[:200])
    return value


def _told_apart(value: Value) -> str:
    return f"({values.macro('told_apart', value.sql)} IS NULL)"


def _distinct_apart(sql: str, columns: Sequence[Any]) -> str:
    """Return an operand of a set operation that leaves out what is there twice."""
    keys = [_told_apart(column.value("part")) for column in columns if column.type.kind in SEMI_STRUCTURED]
    names = ", ".join(quoted(column.inner) for column in columns)
    return f'(SELECT * FROM {sql} AS "part"({names}) WHERE {" AND ".join(keys)})' if keys else sql


def _by_name(operands: Sequence[tuple[bool | None, Relation]]) -> list[tuple[bool | None, Relation]]:
    """Return operands with the columns of all of them: those of the first, then the others' own.

    https://docs.snowflake.com/en/sql-reference/operators-query
    """
    names = list(dict.fromkeys(column.name for _, relation in operands for column in relation.columns))
    if len({name.upper() for name in names}) < len(names):
        raise unsupported("match columns whose names differ in case", ", ".join(names))
    return [(distinct, _arranged(relation, names)) for distinct, relation in operands]


def _arranged(relation: Relation, names: Sequence[str]) -> Relation:
    """Return a relation with columns of these names, NULL where it has none."""
    own = {column.name: column for column in relation.columns}
    if len(own) < len(relation.columns):
        raise unsupported("match several columns of one name", ", ".join(column.name for column in relation.columns))
    columns = distinct_columns([(name, own[name].type if name in own else types.NULL) for name in names])
    items = ", ".join(
        f"{own[column.name].value('side').sql if column.name in own else 'NULL'} AS {quoted(column.inner)}"
        for column in columns
    )
    inner = ", ".join(quoted(column.inner) for column in relation.columns)
    return Relation(f'SELECT {items} FROM ({relation.sql}) AS "side"({inner})', columns)


def _combined(texts: Sequence[str], signs: Sequence[str]) -> str:
    """Return a chain of set operations. One of UNION ALL alone is a tree, for DuckDB takes long for a deep one."""
    if len(texts) == 1:
        return texts[0]
    half = len(texts) // 2
    if len(texts) == 2 or set(signs) != {"UNION ALL"}:  # noqa: PLR2004 - a pair
        return " ".join([texts[0], *(f"{sign} {text}" for sign, text in zip(signs, texts[1:], strict=True))])
    return f"({_combined(texts[:half], signs[: half - 1])} UNION ALL {_combined(texts[half:], signs[half:])})"


def _has_tail(node: Expr) -> bool:
    return any(node.args.get(key) for key in ("order", "limit", "offset", "with_"))


def _aliases(node: exp.Select) -> dict[str, Expr]:
    return {name_of(item.args["alias"]): item.this for item in node.expressions if isinstance(item, exp.Alias)}


def _key_of_output(this: Expressions, ordered: exp.Ordered, relation: Relation) -> str:
    key = ordered.this
    if isinstance(key, exp.Literal) and key.name.isdecimal() and 0 < int(key.name) <= len(relation.columns):
        column = relation.columns[int(key.name) - 1]
        ordered = exp.Ordered(
            this=exp.Column(this=exp.Identifier(this=column.name, quoted=True)),
            desc=ordered.args.get("desc"),
            nulls_first=ordered.args.get("nulls_first"),
        )
    return order_key(this, ordered)


def limit_sql(this: Expressions, node: Expr) -> str:
    """Return LIMIT and OFFSET; FETCH and TOP are the same."""
    parts: list[str] = []
    limit = node.args.get("limit")
    if isinstance(limit, exp.Fetch):
        options = limit.args.get("limit_options")
        if options is not None and (options.args.get("percent") or options.args.get("with_ties")):
            raise refused(limit)
        parts.append(f"LIMIT {_count(this, limit.args.get('count'))}")
    elif limit is not None and limit.args.get("limit_options"):
        raise refused(limit)
    elif limit is not None and not isinstance(limit.expression, exp.Null):
        parts.append(f"LIMIT {_count(this, limit.expression)}")
    if (offset := node.args.get("offset")) is not None:
        parts.append(f"OFFSET {_count(this, offset.expression)}")
    return " ".join(parts)


def _count(this: Expressions, node: Expr | None) -> str:
    value = this.value(node) if node is not None else Value("1", types.INT, "1")
    if value.constant is None or not value.constant.isdecimal():
        raise SqlError(
            "SQL compilation error:\nLIMIT and OFFSET require a constant number", errno=1003, sqlstate="42000"
        )
    return value.constant


def _renamed(relation: Relation, names: Sequence[str]) -> Relation:
    """Return a relation whose columns have the names that a list beside its alias gives."""
    if not names:
        return relation
    if len(names) != len(relation.columns):
        raise SqlError(
            f"SQL compilation error:\nInvalid column list: expected {len(relation.columns)} names, got {len(names)}",
            errno=2034,
            sqlstate="42601",
        )
    pairs = [(name, column.type) for name, column in zip(names, relation.columns, strict=True)]
    return Relation(relation.sql, distinct_columns(pairs))


def _column_counts(one: Relation, other: Relation) -> SqlError:
    return SqlError(
        "SQL compilation error:\ninvalid number of result columns for set operator input branches, expected "
        f"{len(one.columns)}, got {len(other.columns)} in branch {{2}}",
        errno=2022,
        sqlstate="42601",
    )


def _united(relations: Sequence[Relation]) -> tuple[Any, ...]:
    first = relations[0]
    for other in relations[1:]:
        if len(other.columns) != len(first.columns):
            raise _column_counts(first, other)
    pairs: list[tuple[str, Type]] = []
    for index, column in enumerate(first.columns):
        kind = types.common([relation.columns[index].type for relation in relations])
        if kind is None:
            kinds = ", ".join(dict.fromkeys(str(relation.columns[index].type.kind) for relation in relations))
            raise unsupported(f"find the common type of column {column.name} in a set operation", kinds)
        pairs.append((column.name, kind))
    return distinct_columns(pairs)


def _widest(kind: Type) -> Type:
    return Type(Kind.NUMBER, types.MOST_DIGITS, kind.scale) if kind.kind is Kind.NUMBER else kind


def _sized(value: Value, kind: Type) -> str:
    if value.kind is kind.kind is Kind.NUMBER and kind.scale:
        return f"CAST({value.sql} AS {kind.duck})"
    return value.sql


def _cast_to(relation: Relation, columns: Sequence[Any]) -> str:
    """Return a relation's SQL with its columns converted to the types of others."""
    if all(
        one.type == other.type or other.type.kind is one.type.kind is not Kind.NUMBER
        for one, other in zip(relation.columns, columns, strict=True)
    ):
        return f"({relation.sql})"
    items: list[str] = []
    for own, wanted in zip(relation.columns, columns, strict=True):
        value = values.converted(own.value("branch"), wanted.type)
        sql = f"CAST({value.sql} AS {wanted.type.duck})" if wanted.type.kind is Kind.NUMBER else value.sql
        items.append(f"{sql} AS {quoted(wanted.inner)}")
    names = ", ".join(quoted(own.inner) for own in relation.columns)
    return f'(SELECT {", ".join(items)} FROM ({relation.sql}) AS "branch"({names}))'
