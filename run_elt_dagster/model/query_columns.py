"""Reads off a SELECT where the values of its columns come from. What it cannot tell, it says; it never guesses.

A value comes from the columns in its expression: arguments, conditions of CASE, PARTITION BY and ORDER BY of a window. What only
decides which rows there are (WHERE, ON, GROUP BY, HAVING, QUALIFY, EXISTS) gives no value.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, takewhile

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from run_elt_dagster.model.names import Key, key_of
from run_elt_dagster.model.origins import NOTHING, Columns, Origin, Output, Rest, Unknown, opaque, together
from run_elt_dagster.model.query_scope import Scope, Source, qualifiers_of, stored

_DEFAULT_SCHEMA = "PUBLIC"
_DUAL = "DUAL"
# Of a sequence, as in `s.seq.nextval`: https://docs.snowflake.com/en/user-guide/querying-sequences
_NEXT = "NEXTVAL"
# https://docs.snowflake.com/en/sql-reference/functions/flatten
_FLATTENED = ("SEQ", "KEY", "PATH", "INDEX", "VALUE", "THIS")
# https://docs.snowflake.com/en/sql-reference/functions/split_to_table
_SPLIT = ("SEQ", "INDEX", "VALUE")
# It numbers the rows that are taken apart, and comes from no column.
_COUNTER = "SEQ"
# What each part of a query may have. Anything else (PIVOT, CONNECT BY, MATCH_RECOGNIZE) gives names another meaning.
_OF_QUERY = {"with_", "order", "limit", "offset", "hint", "operation_modifiers"}
_OF_SELECT = _OF_QUERY | {
    "kind",
    "expressions",
    "distinct",
    "from_",
    "joins",
    "laterals",
    "where",
    "group",
    "having",
    "qualify",
}
_OF_SET = _OF_QUERY | {"this", "expression", "distinct", "by_name"}
_OF_SUBQUERY = _OF_QUERY | {"this", "alias", "sample"}
_OF_TABLE = {"this", "db", "catalog", "alias", "joins", "sample", "when", "version", "hints"}
_OF_ROWS = {"this", "alias", "expressions", "sample", "view", "outer", "ordinality"}
_OF_JOIN = {"this", "on", "using", "side", "kind", "method", "match_condition", "hint"}
_OF_STAR = {"except_", "replace", "rename"}
_WORDS = {"pivots": "PIVOT", "connect": "CONNECT BY", "match": "MATCH_RECOGNIZE"}
_JOIN_KINDS = {"", "INNER", "OUTER", "CROSS", "ASOF"}
# https://docs.snowflake.com/en/sql-reference/functions-date-time#supported-date-and-time-parts
_DATE_PARTS = re.compile(
    "Y{1,4}|YRS?|YEARS?|MM|MON|MONS|MONTHS?|D|DD|DAYS?|DAYOFMONTH|W|WK|WY|WOY|WEEKS?|WEEKOFYEAR|Q|QTRS?|QUARTERS?|HH?|HRS?|HOURS?|"
    "M|MI|MINS?|MINUTES?|S|SECS?|SECONDS?|MS|MSEC|MILLISECONDS?|US|USEC|MICROSECONDS?|NS|NSEC|NANOSEC|NSECONDS?|NANOSECONDS?"
)
_UNREAD: Mapping[type[exp.Expr], str] = {
    exp.DynamicIdentifier: "the name in identifier(...) is computed when it runs",
    exp.ModelAttribute: "what a model reads is not known",
    exp.Placeholder: "a value is put in when it runs",
}
# A recursive query adds to what it reads: far fewer rounds than columns.
_MOST_ROUNDS = 100

Tables = Callable[[Key], Columns]
"""Returns what a table gives, by the key that the SQL names it by."""
_Views = Mapping[str, Columns]


def columns_of(sql: str, tables: Tables) -> Columns:
    """Return the columns of a SELECT, each with its origin.

    Args:
        sql: The SELECT, as Snowflake takes it.
        tables: What the tables give.
    """
    try:
        return _Reader(tables).query(sqlglot.parse_one(sql, read="snowflake"), {}, None)
    except SqlglotError:
        return opaque("the SQL cannot be read")
    except RecursionError:
        return opaque("the SQL is nested too deeply to be read")


class _Reader:
    """Goes through a query from its tables to its columns."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def query(self, node: exp.Expr, views: _Views, outer: Scope | None) -> Columns:
        """Return the columns of a query.

        Args:
            node: The query.
            views: The common table expressions that it can read, by their stored names.
            outer: The SELECT around it.
        """
        while isinstance(node, exp.Subquery):
            if reason := _unread(node, _OF_SUBQUERY):
                return opaque(reason)
            views, node = self._with(node, views, outer), node.this
        views = self._with(node, views, outer)
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, views, outer)
        if isinstance(node, exp.Select):
            return self._select(node, views, outer)
        return opaque("what stands there is no SELECT")

    # Common table expressions: https://docs.snowflake.com/en/sql-reference/constructs/with

    def _with(self, node: exp.Expr, views: _Views, outer: Scope | None) -> _Views:
        with_ = node.args.get("with_")
        known = dict(views)
        for cte in with_.expressions if with_ else ():
            name, names = _alias(cte)
            if name is not None and any(_names(operand, name) for operand in _operands(cte.this)[1:]):
                known[name] = self._recursive(cte.this, name, names, known, outer)
            elif name is not None:
                known[name] = _renamed(self.query(cte.this, known, outer), names)
        return known

    def _recursive(
        self, node: exp.Expr, name: str, names: Sequence[str], views: _Views, outer: Scope | None
    ) -> Columns:
        """Return the columns of a common table expression that reads itself: its rows so far, until they bring no more."""
        first, *more = _operands(node)
        own = self._with(node, views, outer)
        if any(not _is_union_all(part) or _unread(part, _OF_SET) or part.args.get("by_name") for part in _chain(node)):
            return opaque(f"{name.lower()} reads itself in another way than by UNION ALL")
        found = _renamed(self.query(first, own, outer), names)
        for _ in range(_MOST_ROUNDS):
            rounds = [self.query(operand, {**own, name: found}, outer) for operand in more]
            grown = _side_by_side([found, *rounds])
            if grown == found:
                return found
            found = grown
        return opaque(f"{name.lower()} reads itself in too many ways")

    # UNION, INTERSECT, EXCEPT: https://docs.snowflake.com/en/sql-reference/operators-query

    def _set_operation(self, node: exp.SetOperation, views: _Views, outer: Scope | None) -> Columns:
        chain = _chain(node)
        if reason := next(filter(None, (_unread(part, _OF_SET) for part in chain)), ""):
            return opaque(reason)
        views = {**views, **{name: view for part in chain[1:] for name, view in self._with(part, views, outer).items()}}
        # INTERSECT binds more tightly for Snowflake, and from left to right for the parser. Only after EXCEPT that is not the same.
        operators = [type(part) for part in reversed(chain)]
        if any(one is exp.Except and other is exp.Intersect for one, other in pairwise(operators)):
            return opaque("INTERSECT stands after EXCEPT without parentheses")
        first, *more = _operands(node)
        # Rows are taken away by what follows EXCEPT: no value comes from there.
        giving = [operand for operator, operand in zip(operators, more, strict=True) if operator is not exp.Except]
        found = [self.query(operand, views, outer) for operand in (first, *giving)]
        named = [bool(part.args.get("by_name")) for part in chain]
        if any(named):
            return _by_name(found) if all(named) else opaque("UNION stands there with BY NAME and without")
        return _side_by_side(found)

    # SELECT

    def _select(self, node: exp.Select, views: _Views, outer: Scope | None) -> Columns:
        if reason := _unread(node, _OF_SELECT):
            return opaque(reason)
        named = [item for item in node.expressions if isinstance(item, exp.Alias)]
        items = {stored(item.args["alias"]): item.this for item in named}
        scope = Scope(outer, later=frozenset(items))
        if from_ := node.args.get("from_"):
            scope.sources += self._sources(from_.this, scope, views)
        for join in node.args.get("joins") or ():
            self._join(join, scope, views)
        for lateral in node.args.get("laterals") or ():
            scope.sources += self._sources(lateral, scope, views)
        scope.read = lambda item: self._origin(item, scope, views)
        count = Counter(stored(item.args["alias"]) for item in named)
        scope.aliases = {name: item for name, item in items.items() if count[name] == 1}
        scope.later = frozenset(items) - frozenset(scope.aliases)
        found = [self._item(item, scope, views) for item in node.expressions]
        return Columns(
            tuple(item for columns in found for item in columns.items), all(columns.is_ordered for columns in found)
        )

    def _item(self, item: exp.Expr, scope: Scope, views: _Views) -> Columns:
        if isinstance(item, exp.Star):
            return self._star(item, scope, views, ())
        if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            return self._star(item.this, scope, views, qualifiers_of(item))
        if isinstance(item, exp.Aliases):
            return opaque("an item of the SELECT has several names")
        name = _name_of(item)
        # Of a column that stands there by itself, the name is no alias.
        own = name if isinstance(item, exp.Alias) and name in scope.aliases else None
        return Columns((Output(name, scope.about(own, lambda: self._origin(item, scope, views))),))

    def _star(self, star: exp.Star, scope: Scope, views: _Views, qualifiers: Sequence[str]) -> Columns:
        """Return what `*` or `t.*` stands for: https://docs.snowflake.com/en/sql-reference/sql/select."""
        if reason := _unread(star, _OF_STAR):
            return opaque(reason)
        found = _all_of(scope, qualifiers)
        removed = {_last_name(name) for name in star.args.get("except_") or ()}
        given = {
            stored(item.args["alias"]): Output(stored(item.args["alias"]), self._origin(item.this, scope, views))
            for item in star.args.get("replace") or ()
        }
        for item in star.args.get("rename") or ():
            old, new = _last_name(item.this), stored(item.args["alias"])
            given[old] = Output(new, given[old].origin if old in given else found.origin(old))
        return _changed(found, removed, given)

    # FROM

    def _join(self, join: exp.Join, scope: Scope, views: _Views) -> None:
        """Add what a join brings along, and note which columns it merges."""
        kind, method = str(join.args.get("kind") or "").upper(), str(join.args.get("method") or "").upper()
        if (reason := _unread(join, _OF_JOIN)) or kind not in _JOIN_KINDS or method not in {"", "NATURAL", "ASOF"}:
            scope.doubt = reason or f"a join of the kind {kind or method} is not followed"
        new = self._sources(join.this, scope, views)
        left = Scope(sources=scope.sources, merged=scope.merged)
        right = Scope(sources=new)
        names = [stored(name) for name in join.args.get("using") or ()]
        if method == "NATURAL":
            common = _common_names(left, right)
            if common is None:
                scope.doubt = "NATURAL JOIN joins by columns that are not known"
            names = common or []
        # What stands in USING has the value of whichever table has a row.
        merged = {name: together(side.unqualified(name) for side in (left, right)) for name in names}
        scope.sources = [*scope.sources, *new]
        scope.merged = {**scope.merged, **merged}

    def _sources(self, node: exp.Expr, scope: Scope, views: _Views) -> list[Source]:
        """Return the tables behind one place of FROM; those of a join in parentheses are several."""
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
            if node.args.get("alias") or _unread(node, _OF_SUBQUERY):
                return [Source(_names_before(node), opaque("a join in parentheses has a name"))]
            return self._sources(node.this, scope, views)
        name, names = _alias(node)
        columns = _renamed(self._relation(node, scope, views), names)
        if not isinstance(node, exp.Table):
            return [Source(() if name is None else (name,), columns)]
        own = [Source(_names_before(node), columns)]
        if not node.args.get("joins"):
            return own
        # What stands before the parentheses may be seen in them: a name that it may have is not certain there.
        inner = Scope(_so_far(scope), sources=own, later=scope.later)
        for join in node.args["joins"]:
            self._join(join, inner, views)
        scope.doubt = scope.doubt or inner.doubt or ("a join in parentheses has USING" if inner.merged else "")
        return inner.sources

    def _relation(self, node: exp.Expr, scope: Scope, views: _Views) -> Columns:
        """Return what a place of FROM gives."""
        if isinstance(node, exp.Table):
            return opaque(reason) if (reason := _unread(node, _OF_TABLE)) else self._table(node, views)
        if isinstance(node, exp.Query):
            # It sees what stands around the SELECT, not the tables beside it.
            return self.query(node, views, scope.parent)
        return opaque(reason) if (reason := _unread(node, _OF_ROWS)) else self._rows(node, scope, views)

    def _table(self, node: exp.Table, views: _Views) -> Columns:
        if not isinstance(node.this, exp.Identifier):
            return opaque("what stands after FROM is computed when it runs, or is a function or a stage")
        name = stored(node.this)
        parts = [node.args.get("catalog"), node.args.get("db")]
        if all(part is None for part in parts):
            if name in views:
                return views[name]
            return Columns() if name == _DUAL else opaque(f"the session decides what {name.lower()} is")
        # An empty part is that of `database..table`.
        given = [part for part in parts if part is not None]
        if not all(isinstance(part, exp.Identifier) for part in given if part):
            return opaque("a part of a name after FROM is computed when it runs")
        return self._tables(key_of([*(stored(part) if part else _DEFAULT_SCHEMA for part in given), name]))

    def _rows(self, node: exp.Expr, scope: Scope, views: _Views) -> Columns:
        """Return what stands in FROM without being a table or a query of its own."""
        if isinstance(node, exp.Lateral) and isinstance(node.this, exp.Query):
            return self.query(node.this, views, _so_far(scope))
        if isinstance(node, exp.Values):
            return self._values(node, scope, views)
        if isinstance(node, (exp.Lateral, exp.TableFromRows)):
            return self._rows_of(node.this, scope, views)
        return opaque("what stands after FROM is no table and no query")

    def _values(self, node: exp.Values, scope: Scope, views: _Views) -> Columns:
        rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in node.expressions]
        found = [
            Columns(
                tuple(
                    Output(f"COLUMN{number}", self._origin(value, _so_far(scope), views))
                    for number, value in enumerate(row, start=1)
                )
            )
            for row in rows
        ]
        return _side_by_side(found) if found else Columns()

    def _rows_of(self, function: exp.Expr, scope: Scope, views: _Views) -> Columns:
        """Return what a table function gives; of most, nothing is known."""
        if isinstance(function, exp.Generator):
            return Columns()
        names = _FLATTENED if isinstance(function, exp.Explode) else _SPLIT
        if not isinstance(function, (exp.Explode, exp.SplitToTable)):
            return opaque("what a function gives after FROM is not known")
        inputs = [function.this, *function.expressions]
        named = {argument.name.upper(): argument.expression for argument in inputs if isinstance(argument, exp.Kwarg)}
        value = named.get("INPUT", function.this)
        if isinstance(value, exp.Kwarg):
            return opaque("what a function takes apart after FROM is not known")
        origin = self._origin(value, _so_far(scope), views)
        return Columns(tuple(Output(name, NOTHING if name == _COUNTER else origin) for name in names))

    # Expressions

    def _origin(self, node: exp.Expr, scope: Scope, views: _Views) -> Origin:
        """Return where the value of an expression comes from. Not by recursion: a sum may have thousands of terms."""
        found: list[Origin] = []
        bound: set[int] = set()
        left = [node]
        while left:
            part = left.pop()
            if isinstance(part, exp.Lambda):
                bound |= _bound_in(part)
            origin = NOTHING if id(part) in bound else self._leaf(part, scope, views)
            if isinstance(origin, Unknown):
                return origin
            if origin is None:
                left += part.iter_expressions()
            else:
                found.append(origin)
        return together(found)

    def _leaf(self, part: exp.Expr, scope: Scope, views: _Views) -> Origin | None:
        """Return the origin of a part of an expression, None if it is that of its own parts."""
        if isinstance(part, exp.Column):
            return _column_origin(part, scope)
        if isinstance(part, exp.Star):
            # count(*) counts rows; hash(*) reads every column.
            return NOTHING if isinstance(part.parent, exp.Count) else _star_value(part, scope, ())
        if isinstance(part, exp.Parameter):
            return _position(part, scope.sources)
        if isinstance(part, exp.Exists) and isinstance(part.this, exp.Query):
            return NOTHING
        if isinstance(part, exp.Query):
            return self.query(part, views, scope).every()
        return _unread_value(part)


def _column_origin(column: exp.Column, scope: Scope) -> Origin:
    qualifiers = qualifiers_of(column)
    if isinstance(column.this, exp.Star):
        return _star_value(column.this, scope, qualifiers)
    if isinstance(column.this, exp.Parameter):
        return _position(column.this, scope.named(qualifiers) if qualifiers else scope.sources)
    if _is_date_part(column):
        return Unknown(f"{column.name} may be a part of a date or a column")
    if qualifiers and stored(column.this) == _NEXT and not scope.named(qualifiers):
        return NOTHING
    if qualifiers:
        return scope.qualified(stored(column.this), qualifiers)
    return scope.unqualified(stored(column.this))


def _unread(node: exp.Expr, known: Iterable[str]) -> str:
    """Return which part of a node is not followed, as a reason; empty if there is none."""
    for name, value in node.args.items():
        if value and name not in known:
            return f"{_WORDS.get(name, name.strip('_').upper())} is not followed"
    return ""


def _unread_value(part: exp.Expr) -> Unknown | None:
    reason = next((reason for kind, reason in _UNREAD.items() if isinstance(part, kind)), None)
    if isinstance(part, exp.Dot) and isinstance(part.expression, exp.Func):
        reason = f"what the function {part.expression.name} reads is not known"
    return None if reason is None else Unknown(reason)


def _is_date_part(column: exp.Column) -> bool:
    """Return whether a name can be a part of a date: in `trunc(day, month)`. The parser knows it in all other functions."""
    name, call = column.this, column.parent
    if not isinstance(call, exp.Func) or column.args.get("table") or name.args.get("quoted"):
        return False
    function = call.name if isinstance(call, exp.Anonymous) else call.sql_name()
    return (
        function.upper().startswith("TRUNC")
        and column.index != 0
        and _DATE_PARTS.fullmatch(name.name.upper()) is not None
    )


def _bound_in(function: exp.Lambda) -> set[int]:
    """Return the columns in a lambda expression that are its own parameters: https://docs.snowflake.com/en/user-guide/querying-semistructured."""
    names = {stored(parameter) for parameter in function.expressions}
    return {id(column) for column in function.find_all(exp.Column) if stored(column.parts[0]) in names}


def _position(parameter: exp.Parameter, sources: Sequence[Source]) -> Origin:
    """Return the origin of `$1`; a variable of the session, as `$since`, comes from no column."""
    if not parameter.name.isdigit():
        return NOTHING
    if len(sources) == 1 and sources[0].columns.is_ordered:
        before = [*takewhile(lambda item: isinstance(item, Output), sources[0].columns.items)]
        at = int(parameter.name) - 1
        item = before[at] if 0 <= at < len(before) else None
        if isinstance(item, Output):
            return item.origin
    return Unknown(f"which column ${parameter.name} is cannot be told")


def _star_value(star: exp.Star, scope: Scope, qualifiers: Sequence[str]) -> Origin:
    return (
        Unknown("* with changes is not followed here")
        if any(star.args.values())
        else _all_of(scope, qualifiers).every()
    )


def _all_of(scope: Scope, qualifiers: Sequence[str]) -> Columns:
    """Return what `*` stands for: a merged column once, and first."""
    sources = scope.named(qualifiers) if qualifiers else scope.sources
    if scope.doubt and not qualifiers:
        return opaque(scope.doubt)
    if qualifiers and len(sources) != 1:
        return opaque(f"no one table in FROM is called {'.'.join(key_of(qualifiers))}")
    if qualifiers or not scope.merged:
        return _joined([source.columns for source in sources])
    merged = tuple(Output(name, origin) for name, origin in scope.merged.items())
    rest = _changed(_joined([source.columns for source in sources]), set(scope.merged), {})
    return Columns((*merged, *rest.items), is_ordered=False)


def _joined(parts: Sequence[Columns]) -> Columns:
    return Columns(tuple(item for part in parts for item in part.items), all(part.is_ordered for part in parts))


def _changed(columns: Columns, removed: set[str], given: Mapping[str, Output]) -> Columns:
    """Return columns without some, and with others in their place."""
    items: list[Output | Rest] = []
    placed: set[str] = set()
    for item in columns.items:
        if isinstance(item, Rest):
            items.append(Rest(item.table, item.reason, item.without | removed | set(given)))
        elif item.name is not None and item.name in given:
            placed.add(item.name)
            items.append(given[item.name])
        elif item.name not in removed:
            items.append(item)
    missing = [output for name, output in given.items() if name not in placed]
    # Where they stand among columns that are not known is not known either.
    return Columns((*missing, *items), columns.is_ordered and not missing)


def _renamed(columns: Columns, names: Sequence[str]) -> Columns:
    """Return columns under the names behind an alias, as in `t (a, b)`."""
    if not names:
        return columns
    if not columns.is_ordered or columns.outputs is None or len(names) > len(columns.outputs):
        reason = "a list of names stands behind columns that are not known"
        return Columns((*(Output(name, Unknown(reason)) for name in names), *opaque(reason).items), is_ordered=False)
    renamed = (Output(name, output.origin) for name, output in zip(names, columns.outputs, strict=False))
    return Columns((*renamed, *columns.items[len(names) :]))


def _side_by_side(parts: Sequence[Columns]) -> Columns:
    """Return the columns of a union: the names are those of the first query, the values come from all by their places."""
    first = parts[0]
    if first.outputs is None or not first.is_ordered:
        return opaque(next((rest.reason for rest in first.rests), "the order of the columns in a UNION is not known"))
    known = [part.outputs if part.is_ordered else None for part in parts]
    if any(outputs is not None and len(outputs) != len(first.outputs) for outputs in known):
        return opaque("the queries of a UNION have different numbers of columns")
    if any(outputs is None for outputs in known):
        reason = "another query of the UNION has columns that are not known"
        return Columns(tuple(Output(output.name, Unknown(reason)) for output in first.outputs))
    rows = zip(*(outputs for outputs in known if outputs is not None), strict=True)
    return Columns(tuple(Output(row[0].name, together(output.origin for output in row)) for row in rows))


def _by_name(parts: Sequence[Columns]) -> Columns:
    """Return the columns of UNION BY NAME, each from the queries that have it."""
    if any(part.names is None for part in parts):
        return opaque("UNION BY NAME needs the names of all columns, and some are not known")
    names = dict.fromkeys(name for part in parts for name in part.names or ())
    return Columns(
        tuple(Output(name, together(origin for part in parts for origin in part.certain(name))) for name in names)
    )


def _common_names(left: Scope, right: Scope) -> list[str] | None:
    """Return the names that NATURAL JOIN joins by, None if they cannot be told."""
    sides = [[name for source in side.sources for name in source.columns.names or ()] for side in (left, right)]
    if any(source.columns.names is None for side in (left, right) for source in side.sources):
        return None
    return [name for name in dict.fromkeys(sides[0]) if name in sides[1]]


def _so_far(scope: Scope) -> Scope:
    """Return what a lateral query or function sees: the tables before it."""
    return Scope(scope.parent, [*scope.sources], dict(scope.merged), scope.doubt, later=scope.later)


def _chain(node: exp.Expr) -> list[exp.SetOperation]:
    """Return the set operations of `a union b union c`, the last first: what stands in parentheses is one of a, b, c."""
    chain: list[exp.SetOperation] = []
    while isinstance(node, exp.SetOperation):
        chain.append(node)
        node = node.this
    return chain


def _operands(node: exp.Expr) -> list[exp.Expr]:
    chain = _chain(node)
    return [chain[-1].this, *(part.expression for part in reversed(chain))] if chain else [node]


def _is_union_all(node: exp.SetOperation) -> bool:
    return isinstance(node, exp.Union) and not node.args.get("distinct")


def _names(query: exp.Expr, name: str) -> bool:
    """Return whether a query has a table of this name without a schema."""
    return any(not table.args.get("db") and stored(table.this) == name for table in query.find_all(exp.Table))


def _alias(node: exp.Expr) -> tuple[str | None, list[str]]:
    """Return what a place of FROM or a common table expression is called, and the names of its columns behind that."""
    alias = node.args.get("alias")
    if not isinstance(alias, exp.TableAlias):
        return None, []
    columns = alias.args.get("columns") or ()
    names = [stored(column.this if isinstance(column, exp.ColumnDef) else column) for column in columns]
    return stored(alias.this) if alias.this else None, names


def _names_before(node: exp.Expr) -> tuple[str, ...]:
    """Return what may stand before the columns of a table: its alias, else its name with schema and database."""
    name, _ = _alias(node)
    if name is not None:
        return (name,)
    parts: Iterator[exp.Expr | None] = (node.args.get(part) for part in ("catalog", "db", "this"))
    return tuple(stored(part) for part in parts if isinstance(part, exp.Identifier))


def _name_of(item: exp.Expr) -> str | None:
    if isinstance(item, exp.Alias):
        return stored(item.args["alias"])
    if isinstance(item, exp.Column) and isinstance(item.this, exp.Identifier):
        return stored(item.this)
    return f"${item.name}" if isinstance(item, exp.Parameter) and item.name.isdigit() else None


def _last_name(node: exp.Expr) -> str:
    return stored(node.this if isinstance(node, exp.Column) else node)
