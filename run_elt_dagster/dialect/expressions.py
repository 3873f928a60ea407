"""Expressions: operators, constants, casts, paths into VARIANT, subqueries. Functions are in `calls.py`.

Whatever has no translator here is refused by name. https://docs.snowflake.com/en/sql-reference/operators
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlglot import Expr, exp

from run_elt_dagster.dialect import calls, types, values
from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.operators import LONGEST_BIGINT, both, compared, negated, product, quotient, sum_of
from run_elt_dagster.dialect.parser import authored
from run_elt_dagster.dialect.scope import Scope
from run_elt_dagster.dialect.types import MOST_DIGITS, SEMI_STRUCTURED, Kind, Type
from run_elt_dagster.dialect.values import Value, converted, macro

if TYPE_CHECKING:
    from run_elt_dagster.dialect.queries import Queries


@dataclass(frozen=True)
class Expressions:
    """Translates the expressions of one SELECT.

    Attributes:
        queries: Translates the queries inside them.
        scope: What names mean.
    """

    queries: "Queries"
    scope: Scope

    def value(self, node: Expr) -> Value:
        """Return an expression's SQL and type.

        Raises:
            SqlError: It breaks a rule of Snowflake's, or is not known here.
        """
        translate = _NODES.get(type(node))
        # What nobody here reads must not be left out in silence, such as the `(+)` of an outer join.
        if translate is None or any(
            value and key not in _READ.get(type(node), _USUAL) for key, value in node.args.items()
        ):
            raise refused(node)
        return translate(self, node)

    def values(self, nodes: Sequence[Expr]) -> list[Value]:
        """Return several expressions."""
        return [self.value(node) for node in nodes]

    def condition(self, node: Expr) -> str:
        """Return a condition's SQL."""
        return converted(self.value(node), types.BOOLEAN).sql


def refused(node: Expr) -> SqlError:
    """Return the error for a construct that is not known to give what Snowflake gives."""
    line = values.position_of(node)
    return unsupported("run this construct", repr(authored(node)[:200]) + (f" in line {line}" if line else ""))


def _literal(_: Expressions, node: Any) -> Value:
    text = str(node.this)
    return values.text_constant(text) if node.is_string or isinstance(node, exp.RawString) else _number(text)


def _bytes(_: Expressions, node: Any) -> Value:
    return Value(f"unhex({values.literal_sql(str(node.this))})", types.BINARY)


def _number(text: str) -> Value:
    if "e" in text.lower():
        if math.isinf(float(text)):
            raise unsupported("use a number of this size", text)
        return Value(f"CAST('{text}' AS DOUBLE)", types.FLOAT, constant=text)
    whole, _, fraction = text.partition(".")
    digits = max(len(whole.lstrip("0")) + len(fraction), 1)
    if digits > MOST_DIGITS:
        raise unsupported("use a number of more than 38 digits", text)
    kind = Type(Kind.NUMBER, digits, len(fraction))
    if not fraction and digits <= LONGEST_BIGINT:
        return Value(f"{whole or 0}::BIGINT", kind, constant=text)
    return Value(f"CAST('{text}' AS {kind.duck})", kind, constant=text)


def _column(this: Expressions, node: Any) -> Value:
    if isinstance(node.this, exp.Star):
        raise refused(node)
    return this.scope.column(node, this.value)


def _position(this: Expressions, node: Any) -> Value:
    if not node.this.name.isdecimal():
        raise refused(node)
    return this.scope.column(exp.Column(this=node.copy()), this.value)


def _negative(this: Expressions, node: Any) -> Value:
    return negated(this.value(node.this))


def _plus(sign: str) -> Callable[[Expressions, Any], Value]:
    def translate(this: Expressions, node: Any) -> Value:
        left, right = node.this, node.expression
        if isinstance(right, exp.Interval) or (sign == "+" and isinstance(left, exp.Interval)):
            moved, interval = (left, right) if isinstance(right, exp.Interval) else (right, left)
            return calls.add_interval(this.value(moved), interval, sign)
        one, other = this.value(left), this.value(right)
        if (of_instants := calls.add_to_instant(one, other, sign)) is not None:
            return of_instants
        return sum_of(one, other, sign)

    return translate


def _times(this: Expressions, node: Any) -> Value:
    return product(*this.values([node.this, node.expression]))


def _divided(this: Expressions, node: Any) -> Value:
    return quotient(*this.values([node.this, node.expression]))


def _modulo(this: Expressions, node: Any) -> Value:
    return calls.modulo(*this.values([node.this, node.expression]))


def _concatenated(this: Expressions, node: Any) -> Value:
    one, other = this.values([node.this, node.expression])
    if Kind.BINARY in {one.kind, other.kind}:
        raise refused(node)
    one, other = values.as_text(one), values.as_text(other)
    return both(f"({one.sql} || {other.sql})", types.TEXT, one, other)


def _comparison(sign: str) -> Callable[[Expressions, Any], Value]:
    def translate(this: Expressions, node: Any) -> Value:
        if isinstance(node.expression, exp.Any | exp.All) or isinstance(node.this, exp.Tuple):
            return _quantified(this, node, sign)
        return compared(this.value(node.this), this.value(node.expression), sign)

    return translate


def _quantified(this: Expressions, node: Any, sign: str) -> Value:
    if isinstance(node.this, exp.Tuple) and isinstance(node.expression, exp.Tuple) and sign in {"=", "<>"}:
        pairs = zip(node.this.expressions, node.expression.expressions, strict=True)
        equal = " AND ".join(compared(this.value(one), this.value(other), "=").sql for one, other in pairs)
        return Value(f"({equal})" if sign == "=" else f"(NOT ({equal}))", types.BOOLEAN)
    quantifier = node.expression
    query = quantifier.this if isinstance(quantifier, exp.Any | exp.All) else None
    if isinstance(query, exp.Subquery):
        query = query.this
    # sqlglot reads NOT IN as <> ALL.
    if isinstance(query, exp.Query) and (sign, type(quantifier)) in {("<>", exp.All), ("=", exp.Any)}:
        found = _in_query(this, node, query)
        return found if sign == "=" else Value(f"(NOT {found.sql})", types.BOOLEAN)
    if isinstance(query, exp.Query):
        relation = this.queries.relation(query, this.scope)
        (one,), (column,) = [this.value(node.this)], relation.columns
        kind = types.common([one.type, column.type])
        if (
            kind is not None
            and kind.kind is one.kind is column.type.kind
            and kind.kind not in SEMI_STRUCTURED | {Kind.TZ}
        ):
            name = "ANY" if isinstance(quantifier, exp.Any) else "ALL"
            return Value(f"({one.sql} {sign} {name} ({relation.sql}))", types.BOOLEAN)
    raise refused(node)


def _logical(word: str) -> Callable[[Expressions, Any], Value]:
    def translate(this: Expressions, node: Any) -> Value:
        # A long chain is flat, not a thousand levels deep.
        operands = [converted(this.value(part), types.BOOLEAN) for part in node.flatten(unnest=False)]
        return both(f"({f' {word} '.join(part.sql for part in operands)})", types.BOOLEAN, *operands)

    return translate


def _not(this: Expressions, node: Any) -> Value:
    operand = converted(this.value(node.this), types.BOOLEAN)
    return both(f"(NOT {operand.sql})", types.BOOLEAN, operand)


def _is(this: Expressions, node: Any) -> Value:
    value = this.value(node.this)
    if isinstance(node.expression, exp.Null):
        return both(f"({value.sql} IS NULL)", types.BOOLEAN, value)
    if isinstance(node.expression, exp.Boolean):
        truth = converted(value, types.BOOLEAN)
        return both(f"({truth.sql} IS {'TRUE' if node.expression.this else 'FALSE'})", types.BOOLEAN, truth)
    raise refused(node)


def _between(this: Expressions, node: Any) -> Value:
    value, low, high = this.values([node.this, node.args["low"], node.args["high"]])
    above, below = compared(value, low, ">="), compared(value, high, "<=")
    return both(f"({above.sql} AND {below.sql})", types.BOOLEAN, above, below)


def _in(this: Expressions, node: Any) -> Value:
    if (query := node.args.get("query")) is not None:
        return _in_query(this, node, query)
    if isinstance(node.this, exp.Tuple):
        each = [_comparison("=")(this, exp.EQ(this=node.this, expression=item)).sql for item in node.expressions]
        return Value(f"({' OR '.join(each)})", types.BOOLEAN)
    (value, *items), kind = values.unified(this.values([node.this, *node.expressions]), "IN")
    if kind.kind in SEMI_STRUCTURED | {Kind.TZ}:
        return Value(f"({' OR '.join(compared(value, item, '=').sql for item in items)})", types.BOOLEAN)
    return both(f"({value.sql} IN ({', '.join(item.sql for item in items)}))", types.BOOLEAN, value)


def _in_query(this: Expressions, node: Any, query: Expr) -> Value:
    relation = this.queries.relation(query.this if isinstance(query, exp.Subquery) else query, this.scope)
    wanted = node.this.expressions if isinstance(node.this, exp.Tuple) else [node.this]
    if len(wanted) != len(relation.columns):
        raise SqlError(
            "SQL compilation error:\ninvalid number of columns in a subquery of IN", errno=2151, sqlstate="42601"
        )
    pairs = [
        values.unified([this.value(one), column.value("in")], "IN")
        for one, column in zip(wanted, relation.columns, strict=True)
    ]
    if any(kind.kind in SEMI_STRUCTURED | {Kind.TZ} for _, kind in pairs):
        raise refused(node)
    names = ", ".join(pair[1].sql for pair, _ in pairs)
    left = ", ".join(pair[0].sql for pair, _ in pairs)
    return Value(
        f'(({left}) IN (SELECT {f"({names})" if len(pairs) > 1 else names} FROM ({relation.sql}) AS "in"))',
        types.BOOLEAN,
    )


def _exists(this: Expressions, node: Any) -> Value:
    query = node.this.this if isinstance(node.this, exp.Subquery) else node.this
    return Value(f"EXISTS ({this.queries.relation(query, this.scope).sql})", types.BOOLEAN)


def _subquery(this: Expressions, node: Any) -> Value:
    relation = this.queries.relation(node.this, this.scope)
    if len(relation.columns) != 1:
        raise SqlError(
            "SQL compilation error:\na subquery as a value must have one column", errno=2151, sqlstate="42601"
        )
    return Value(f"({relation.sql})", relation.columns[0].type)


def _case(this: Expressions, node: Any) -> Value:
    ifs = node.args["ifs"]
    conditions = [_when(this, node.this, branch.this) for branch in ifs]
    default = [node.args["default"]] if node.args.get("default") is not None else []
    results, kind = values.unified(this.values([*(branch.args["true"] for branch in ifs), *default]), "CASE")
    whens = " ".join(f"WHEN {when.sql} THEN {then.sql}" for when, then in zip(conditions, results, strict=False))
    otherwise = f" ELSE {results[-1].sql}" if default else ""
    return both(f"(CASE {whens}{otherwise} END)", kind, *conditions, *results)


def _when(this: Expressions, subject: Expr | None, condition: Expr) -> Value:
    if subject is None:
        return converted(this.value(condition), types.BOOLEAN)
    return compared(this.value(subject), this.value(condition), "=")


def _cast(this: Expressions, node: Any) -> Value:
    kind = types.from_sqlglot(node.to, cuts=True)
    value = values.cast(this.value(node.this), kind, trying=isinstance(node, exp.TryCast))
    digits = types.fraction_digits(node.to)
    return value if digits is None else _whole(value, digits)


def _whole(value: Value, digits: int) -> Value:
    """Return an instant that has no more digits of a second: no page says whether others are cut or rounded."""
    moment = f"struct_extract({value.sql}, 'utc')" if value.kind is Kind.TZ else value.sql
    failure = macro("fail", "'unsupported|cut the fraction of a second'")
    sql = f"(CASE WHEN microsecond({moment}) % 1{'0' * (6 - digits)} <> 0 THEN CAST({failure} AS {value.type.duck}) ELSE {value.sql} END)"
    return replace(value, sql=sql)


def _try_boolean(this: Expressions, node: Any) -> Value:
    """Return TRY_CAST(... AS BOOLEAN), as sqlglot reads it."""
    if not node.args.get("safe"):
        raise refused(node)
    return values.cast(this.value(node.this), types.BOOLEAN, trying=True)


def _like(*, folding: bool) -> Callable[[Expressions, Any], Value]:
    def translate(this: Expressions, node: Any, escape: str = "") -> Value:
        patterns = node.expression
        if isinstance(patterns, exp.Any | exp.All):
            if isinstance(patterns.this, exp.Subquery):
                raise refused(node)
            each = patterns.this.expressions if isinstance(patterns.this, exp.Tuple) else [patterns.this]
            word = " OR " if isinstance(patterns, exp.Any) else " AND "
            parts = [_matched(this, node.this, pattern, escape, folding=folding) for pattern in each]
            return both(f"({word.join(part.sql for part in parts)})", types.BOOLEAN, *parts)
        return _matched(this, node.this, patterns, escape, folding=folding)

    return translate


def _matched(this: Expressions, subject: Expr, pattern: Expr, escape: str, *, folding: bool) -> Value:
    one, other = (values.as_text(value) for value in this.values([subject, pattern]))
    word = "ILIKE" if folding else "LIKE"
    # Without ESCAPE a backslash is a character like any other: https://docs.snowflake.com/en/sql-reference/functions/like
    return both(f"({one.sql} {word} {other.sql}{f' ESCAPE {escape}' if escape else ''})", types.BOOLEAN, one, other)


def _escape(this: Expressions, node: Any) -> Value:
    like = node.this
    sign = node.expression
    if not isinstance(like, exp.Like | exp.ILike) or not isinstance(sign, exp.Literal) or len(str(sign.this)) != 1:
        raise refused(node)
    sql = values.literal_sql(str(sign.this))
    return _like(folding=isinstance(like, exp.ILike))(this, like, sql)  # type: ignore[call-arg]


def _rlike(this: Expressions, node: Any) -> Value:
    return calls.call_of(this, exp.Anonymous(this="F$RLIKE", expressions=[node.this, node.expression]))


def _path(this: Expressions, node: Any) -> Value:
    value = this.value(node.this)
    for part in node.expression.expressions[1:]:
        if isinstance(part, exp.JSONPathKey):
            value = _member(value, values.literal_sql(str(part.this)))
        elif isinstance(part, exp.JSONPathSubscript) and isinstance(part.this, int):
            value = _element(value, f"{part.this}::BIGINT")
        else:
            raise refused(node)
    return value


def _bracket(this: Expressions, node: Any) -> Value:
    value = this.value(node.this)
    (index,) = this.values(node.expressions)
    if index.kind is Kind.TEXT:
        return _member(value, index.sql)
    if index.kind is Kind.NUMBER:
        return _element(value, converted(index, types.INT).sql)
    raise refused(node)


def _dot(this: Expressions, node: Any) -> Value:
    """Return `v['a'].b`: behind a bracket a point goes on with the path."""
    if not isinstance(node.this, exp.Bracket | exp.Dot) or not isinstance(node.expression, exp.Identifier):
        raise refused(node)
    return _member(this.value(node.this), values.literal_sql(node.expression.name))


def _member(value: Value, key: str) -> Value:
    if value.kind not in {Kind.VARIANT, Kind.OBJECT}:
        raise _no_path(value)
    return Value(macro("member", value.sql, key), types.VARIANT, aggregate=value.aggregate)


def _element(value: Value, index: str) -> Value:
    if value.kind not in {Kind.VARIANT, Kind.ARRAY}:
        raise _no_path(value)
    return Value(macro("element", value.sql, index), types.VARIANT, aggregate=value.aggregate)


def _no_path(value: Value) -> SqlError:
    return SqlError(
        f"SQL compilation error:\ninvalid type [{value.kind}] for a path into VARIANT", errno=1007, sqlstate="22023"
    )


def _extract(this: Expressions, node: Any) -> Value:
    return calls.date_part(this, node.this, this.value(node.expression))


def _parameter(this: Expressions, node: Any) -> Value:
    if isinstance(node.this, Value):
        return node.this
    if node.this:
        raise refused(node)
    query = node.root()
    places = [place for place in query.find_all(exp.Placeholder, bfs=False) if not place.this]
    index = next(index for index, place in enumerate(places) if place is node)
    if index >= len(this.queries.parameters):
        raise SqlError("SQL compilation error:\nBind variable ? not set.", errno=2049, sqlstate="42601")
    return this.queries.parameters[index]


def _null(*_: Any) -> Value:
    return values.NULL


def _boolean(_: Expressions, node: Any) -> Value:
    return Value("TRUE" if node.this else "FALSE", types.BOOLEAN, constant=str(bool(node.this)))


def _paren(this: Expressions, node: Any) -> Value:
    value = this.value(node.this)
    return replace(value, sql=f"({value.sql})")


def _inner(this: Expressions, node: Any) -> Value:
    return this.value(node.this)


def _array(this: Expressions, node: Any) -> Value:
    return calls.array_of(this.values(node.expressions))


def _object(this: Expressions, node: Any) -> Value:
    keys = [values.text_constant(str(pair.this.name)) for pair in node.expressions]
    return calls.object_of(keys, this.values([pair.expression for pair in node.expressions]))


_NODES: Mapping[type[Expr], Callable[[Expressions, Any], Value]] = {
    exp.Literal: _literal,
    exp.RawString: _literal,
    exp.HexString: _bytes,
    exp.Null: _null,
    exp.Placeholder: _parameter,
    exp.Boolean: _boolean,
    exp.Column: _column,
    exp.Parameter: _position,
    exp.Paren: _paren,
    exp.Alias: _inner,
    exp.Neg: _negative,
    exp.Add: _plus("+"),
    exp.Sub: _plus("-"),
    exp.Mul: _times,
    exp.Div: _divided,
    exp.Mod: _modulo,
    exp.DPipe: _concatenated,
    exp.EQ: _comparison("="),
    exp.NEQ: _comparison("<>"),
    exp.LT: _comparison("<"),
    exp.LTE: _comparison("<="),
    exp.GT: _comparison(">"),
    exp.GTE: _comparison(">="),
    exp.EqualNull: _comparison("IS NOT DISTINCT FROM"),
    exp.NullSafeEQ: _comparison("IS NOT DISTINCT FROM"),
    exp.NullSafeNEQ: _comparison("IS DISTINCT FROM"),
    exp.And: _logical("AND"),
    exp.Or: _logical("OR"),
    exp.Not: _not,
    exp.Is: _is,
    exp.Between: _between,
    exp.In: _in,
    exp.Exists: _exists,
    exp.Subquery: _subquery,
    exp.Case: _case,
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.ToBoolean: _try_boolean,
    exp.Like: _like(folding=False),
    exp.ILike: _like(folding=True),
    exp.Escape: _escape,
    exp.RegexpLike: _rlike,
    exp.JSONExtract: _path,
    exp.Bracket: _bracket,
    exp.Dot: _dot,
    exp.Extract: _extract,
    exp.Array: _array,
    exp.Struct: _object,
    **calls.NODES,
}

_USUAL = frozenset({"this", "expression", "expressions"})
# Which parts of a node its translator reads, where they are not the usual ones. Some are notes of sqlglot's own.
_READ: Mapping[type[Expr], frozenset[str]] = {
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Column: frozenset({"this", "table", "db", "catalog"}),
    exp.Alias: frozenset({"this", "alias"}),
    exp.Div: _USUAL | {"typed", "safe"},
    exp.DPipe: _USUAL | {"safe"},
    exp.Between: frozenset({"this", "low", "high"}),
    exp.In: frozenset({"this", "expressions", "query"}),
    exp.Subquery: frozenset({"this"}),
    exp.Case: frozenset({"this", "ifs", "default"}),
    exp.Cast: frozenset({"this", "to"}),
    exp.ToBoolean: frozenset({"this", "safe"}),
    exp.TryCast: frozenset({"this", "to", "requires_string", "safe", "null_on_text_overflow", "probe_date_format"}),
    exp.JSONExtract: _USUAL | {"variant_extract", "requires_json", "only_json_types"},
    exp.Bracket: _USUAL | {"offset", "safe"},
    exp.RegexpLike: _USUAL | {"full_match"},
    exp.Window: frozenset({"this", "partition_by", "order", "spec", "over"}),
    exp.CurrentTimestamp: frozenset({"this"}),
}
