"""Calls of functions: which way of calling one is meant, the arguments converted to it, and what stands around it.

https://docs.snowflake.com/en/sql-reference-functions
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlglot import Expr, exp

from run_elt_dagster.dialect import types, values
from run_elt_dagster.dialect.catalogue import PARTS, SIGNATURES, Parameter, Signature, with_macros
from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.parser import authored, function_name
from run_elt_dagster.dialect.types import Kind, Type
from run_elt_dagster.dialect.values import Part, Value, converted

if TYPE_CHECKING:
    from run_elt_dagster.dialect.expressions import Expressions


@dataclass(frozen=True)
class Call:
    """One call of a function.

    Attributes:
        this: Translates what is inside.
        node: The call as it is written.
        name: The function's name.
        arguments: Its arguments, without DISTINCT around them.
        distinct: Whether DISTINCT stands before them.
        order: What WITHIN GROUP orders by.
        over: The window, None where there is none.
        ignore_nulls: Whether IGNORE NULLS follows.
    """

    this: "Expressions"
    node: Expr
    name: str
    arguments: Sequence[Expr]
    distinct: bool = False
    order: Sequence[exp.Ordered] = ()
    over: exp.Window | None = None
    ignore_nulls: bool = False
    named: Mapping[str, Expr] = field(default_factory=dict[str, Expr])

    def values(self) -> list[Value]:
        """Return the arguments."""
        return self.this.values(self.arguments)

    def order_sql(self) -> str:
        """Return `ORDER BY ...` for inside an aggregate, empty where there is none."""
        keys = [order_key(self.this, ordered) for ordered in self.order]
        return f" ORDER BY {', '.join(keys)}" if keys else ""

    def over_sql(self, *, frame: str = "") -> str:
        """Return the window for DuckDB, empty where there is none.

        Args:
            frame: The frame where the window has ORDER BY and names none.
        """
        return window_sql(self.this, self.over, frame=frame) if self.over is not None else ""

    @property
    def is_ordered(self) -> bool:
        """Whether the window has ORDER BY."""
        return self.over is not None and self.over.args.get("order") is not None


Form = Callable[[Call], Value]
_FORMS: dict[str, Form] = {}


def form(*names: str) -> Callable[[Form], Form]:
    """Register what translates a function; each name has its line, with `python`, in a file of `data`."""

    def register(translate: Form) -> Form:
        for name in names:
            _FORMS[name] = translate
        return translate

    return register


def order_key(this: "Expressions", ordered: exp.Ordered) -> str:
    """Return one item of ORDER BY: NULL comes last going up and first going down, as on Snowflake."""
    value = this.value(ordered.this)
    direction = "DESC" if ordered.args.get("desc") else "ASC"
    nulls = "FIRST" if ordered.args.get("nulls_first") else "LAST"
    return f"{sortable(value, ordered=True)} {direction} NULLS {nulls}"


def sortable(value: Value, *, ordered: bool = False) -> str:
    """Return what DuckDB compares, or sorts where it is ordered, as Snowflake does a value."""
    if value.kind in types.SEMI_STRUCTURED:
        return values.macro("variant_order_key" if ordered else "variant_sort_key", value.sql)
    return f"({value.sql}).utc" if value.kind is Kind.TZ else value.sql


WHOLE = "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
# Days of an interval are all alike, months are not.
_FIXED_UNITS = frozenset({"WEEK", "DAY", "HOUR", "MINUTE", "SECOND"})
_RUNNING = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"


def window_sql(this: "Expressions", window: exp.Window, *, frame: str = "") -> str:
    """Return OVER (...) for DuckDB."""
    parts: list[str] = []
    if partition := window.args.get("partition_by"):
        parts.append(f"PARTITION BY {', '.join(sortable(value) for value in this.values(partition))}")
    order = window.args.get("order")
    if order is not None:
        parts.append(f"ORDER BY {', '.join(order_key(this, ordered) for ordered in order.expressions)}")
    if (spec := window.args.get("spec")) is not None:
        parts.append(_frame_sql(this, window, spec))
    elif frame and order is not None:
        parts.append(frame)
    if window.args.get("alias") or window.args.get("first") is False or str(window.args.get("over", "OVER")) != "OVER":
        raise unsupported("run this window", authored(window)[:200])
    return f" OVER ({' '.join(parts)})"


def _interval_bound(interval: exp.Interval, spec: exp.WindowSpec) -> str:
    number, unit = interval.this, str(interval.args.get("unit") or "").upper().removesuffix("S")
    if not isinstance(number, exp.Literal) or not number.name.isdecimal() or unit not in _FIXED_UNITS:
        raise unsupported("run this window frame", authored(spec))
    return f"INTERVAL '{number.name}' {unit}"


def _frame_sql(this: "Expressions", window: exp.Window, spec: exp.WindowSpec) -> str:
    ends: list[str] = []
    for end in ("start", "end"):
        bound = spec.args.get(end)
        side = spec.args.get(f"{end}_side") or ""
        if isinstance(bound, exp.Interval):
            bound = _interval_bound(bound, spec)
        elif isinstance(bound, Expr):
            value = this.value(bound)
            if value.kind is not Kind.NUMBER or value.constant is None:
                raise unsupported("run this window frame", authored(spec))
            bound = value.constant
        ends.append(f"{bound or 'CURRENT ROW'} {side}".strip())
    if spec.args.get("exclude") or window.args.get("order") is None:
        raise unsupported("run this window frame", authored(spec))
    return f"{spec.args['kind']} BETWEEN {ends[0]} AND {ends[1]}"


def call_of(this: "Expressions", node: Any, **around: Any) -> Value:
    """Return the value of a call.

    Raises:
        SqlError: There is no such function (002140), no such way of calling it (000938, 001044), or it is not known here.
    """
    name = function_name(node)
    if name is None:
        raise _unknown(node)
    arguments, distinct = list(node.expressions), False
    if len(arguments) == 1 and isinstance(arguments[0], exp.Distinct):
        distinct = True
        arguments = list(arguments[0].expressions)
    named = {str(item.this.name).upper(): item.expression for item in arguments if isinstance(item, exp.Kwarg)}
    arguments = [item for item in arguments if not isinstance(item, exp.Kwarg)]
    if arguments and isinstance(arguments[-1], exp.IgnoreNulls | exp.RespectNulls):
        # It may stand inside the parentheses, too.
        around = {**around, "ignore_nulls": isinstance(arguments[-1], exp.IgnoreNulls)}
        arguments[-1] = arguments[-1].this
    call = Call(this, node, name, arguments, distinct=distinct, named=named, **around)
    if (translate := _FORMS.get(name)) is not None:
        return translate(call)
    if name not in SIGNATURES:
        raise refused_function(node, name)
    return by_signature(call)


def _unknown(node: Expr) -> SqlError:
    name = node.name if isinstance(node, exp.Anonymous) else type(node).__name__
    if not isinstance(node, exp.Anonymous):
        return unsupported("run this function", repr(authored(node)[:200]))
    return SqlError(f"SQL compilation error:\nUnknown function {name.upper()}", errno=2140, sqlstate="42601")


def refused_function(node: Expr, name: str) -> SqlError:
    """Return the error for a function that Snowflake has and that is not known here."""
    line = values.position_of(node)
    return unsupported("run this function", f"{name}{f' in line {line}' if line else ''}: {authored(node)[:200]!r}")


def by_signature(call: Call) -> Value:
    """Return a call that a line of data translates."""
    ways = [way for way in SIGNATURES[call.name] if way.takes(len(call.arguments))]
    if not ways:
        raise _wrong_count(call.name, len(call.arguments))
    arguments = [_argument(call, ways, index) for index in range(len(call.arguments))]
    for way in ways:
        if (fitted := _fitted(way, arguments)) is not None and way.sql != "refused":
            return _applied(call, way, fitted)
        if fitted is not None:
            break
    else:
        # A NULL without a type is one of any type.
        for way in ways if any(argument.kind is Kind.NULL for argument in arguments) else ():
            if way.sql != "refused" and (fitted := _fitted(_taking_null(way, arguments), arguments)) is not None:
                return _applied(call, way, fitted)
    kinds = ", ".join(str(argument.kind) for argument in arguments)
    raise unsupported("call this function with arguments of these types", f"{call.name}({kinds})")


def _taking_null(way: Signature, arguments: Sequence[Value]) -> Signature:
    """Return a way of calling that takes NULL wherever it is given."""
    parameters = [way.parameter(index) for index in range(len(arguments))]
    loose = (
        replace(parameter, exact=parameter.exact and argument.kind is not Kind.NULL)
        for parameter, argument in zip(parameters, arguments, strict=True)
    )
    return replace(way, parameters=tuple(loose))


def _argument(call: Call, ways: Sequence[Signature], index: int) -> Value:
    node, takes = call.arguments[index], [way.takes_part(index) for way in ways]
    # A word without quotes may be a column where another way of calling takes a value there.
    if any(takes) and (all(takes) or node.is_string):
        found = PARTS.get(node.name.lower())
        if found is not None and not (isinstance(node, exp.Column) and node.table):
            return Part(found[0], types.TEXT, group=found[1])
        if all(takes):
            raise unsupported(f"take this part of a date in {call.name}", authored(node)[:200])
    return call.this.value(node)


def _wrong_count(name: str, count: int) -> SqlError:
    least = min(sum(not (p.optional or p.repeated) for p in way.parameters) for way in SIGNATURES[name])
    if count < least:
        return SqlError(
            f"SQL compilation error:\nnot enough arguments for function [{name}], expected {least}, got {count}",
            errno=938,
            sqlstate="22023",
        )
    most = max(len(way.parameters) for way in SIGNATURES[name])
    return SqlError(
        f"SQL compilation error:\ntoo many arguments for function [{name}] expected {most}, got {count}",
        errno=939,
        sqlstate="22023",
    )


# What a parameter takes without, and with, a conversion. Each is one that Snowflake does by itself.
_TEXT_LIKE = frozenset(Kind) - {Kind.BINARY, Kind.INTERVAL}
_TAKES: Mapping[str, tuple[frozenset[Kind], frozenset[Kind], Type | None]] = {
    "text": (frozenset({Kind.TEXT}), _TEXT_LIKE, types.TEXT),
    "int": (frozenset(), frozenset({Kind.NUMBER, Kind.FLOAT, Kind.TEXT, Kind.VARIANT, Kind.NULL}), types.INT),
    "number": (frozenset({Kind.NUMBER}), frozenset({Kind.TEXT, Kind.NULL}), None),
    "numeric": (types.NUMERIC, frozenset({Kind.TEXT, Kind.VARIANT, Kind.NULL}), None),
    "float": (frozenset({Kind.FLOAT}), frozenset({Kind.NUMBER, Kind.TEXT, Kind.VARIANT, Kind.NULL}), types.FLOAT),
    "boolean": (
        frozenset({Kind.BOOLEAN}),
        frozenset({Kind.NUMBER, Kind.FLOAT, Kind.TEXT, Kind.VARIANT, Kind.NULL}),
        types.BOOLEAN,
    ),
    "date": (
        frozenset({Kind.DATE}),
        frozenset({Kind.TEXT, Kind.NTZ, Kind.LTZ, Kind.TZ, Kind.VARIANT, Kind.NULL}),
        types.DATE,
    ),
    "time": (frozenset({Kind.TIME}), frozenset({Kind.TEXT, Kind.NULL}), types.TIME),
    "ntz": (
        frozenset({Kind.NTZ}),
        frozenset({Kind.TEXT, Kind.DATE, Kind.LTZ, Kind.TZ, Kind.VARIANT, Kind.NULL}),
        types.NTZ,
    ),
    "ltz": (
        frozenset({Kind.LTZ}),
        frozenset({Kind.TEXT, Kind.DATE, Kind.NTZ, Kind.TZ, Kind.VARIANT, Kind.NULL}),
        types.LTZ,
    ),
    "tz": (
        frozenset({Kind.TZ}),
        frozenset({Kind.TEXT, Kind.DATE, Kind.NTZ, Kind.LTZ, Kind.VARIANT, Kind.NULL}),
        types.TZ,
    ),
    "variant": (
        types.SEMI_STRUCTURED,
        frozenset({Kind.NUMBER, Kind.FLOAT, Kind.TEXT, Kind.BOOLEAN, Kind.NULL}),
        types.VARIANT,
    ),
    "array": (frozenset({Kind.ARRAY}), frozenset({Kind.VARIANT, Kind.NULL}), types.ARRAY),
    "object": (frozenset({Kind.OBJECT}), frozenset({Kind.VARIANT, Kind.NULL}), types.OBJECT),
    "binary": (frozenset({Kind.BINARY}), frozenset({Kind.TEXT, Kind.NULL}), types.BINARY),
    "any": (frozenset(Kind) - {Kind.INTERVAL}, frozenset(), None),
    "plain": (frozenset(Kind) - types.SEMI_STRUCTURED - {Kind.INTERVAL, Kind.TZ}, frozenset(), None),
    "json": (frozenset(Kind) - {Kind.INTERVAL, Kind.BINARY}, frozenset(), None),
}


def _fitted(way: Signature, arguments: Sequence[Value]) -> list[Value] | None:
    """Return the arguments converted to a way of calling, None where they do not fit."""
    fitted: list[Value | None] = []
    for index, argument in enumerate(arguments):
        fitted.append(_converted_to(way.parameter(index), argument))
    if any(value is None for value in fitted):
        return None
    found = [value for value in fitted if value is not None]
    same = [index for index in range(len(found)) if way.parameter(index).type == "="]
    if same:
        unified, _ = values.unified([found[index] for index in same], way.name)
        for index, value in zip(same, unified, strict=True):
            found[index] = value
    return found


def _converted_to(parameter: Parameter, argument: Value) -> Value | None:  # noqa: PLR0911 - a line for each type
    if isinstance(argument, Part) or parameter.type.startswith("part_"):
        is_fit = isinstance(argument, Part) and argument.group in parameter.type.split("_")
        return argument if is_fit else None
    if parameter.type == "=":
        return argument
    if parameter.type == "'":
        return argument if argument.is_text_constant else None
    as_it_is, converts, to = _TAKES[parameter.type]
    if argument.kind in as_it_is:
        return argument
    if parameter.exact or argument.kind not in converts:
        return None
    if parameter.type in {"number", "numeric"}:
        return values.as_number(argument)
    if parameter.type == "int":
        return Value(
            f"CAST({values.cast(argument, types.INT).sql} AS BIGINT)", types.INT, argument.constant, argument.aggregate
        )
    if parameter.type == "text" and to is not None:
        return values.as_text(argument)
    if parameter.type == "array" and argument.kind is Kind.VARIANT:
        return Value(values.macro("variant_as_array", argument.sql), types.ARRAY, aggregate=argument.aggregate)
    return converted(argument, to) if to is not None else None


def _applied(call: Call, way: Signature, arguments: Sequence[Value]) -> Value:
    _check_around(call, way)
    # The names of macros are filled in first: an argument may hold a text such as '@a'.
    sql = _filled(call, replace(way, sql=with_macros(way.sql)), arguments)
    aggregate = way.is_aggregate and call.over is None
    inside = any(argument.aggregate for argument in arguments)
    return Value(f"({sql})" if way.is_aggregate else sql, _result_type(way, arguments), aggregate=aggregate or inside)


def _check_around(call: Call, way: Signature) -> None:
    """Refuse what stands around a call and would be left out."""
    asked = {
        "{over}": call.over is not None,
        "{distinct}": call.distinct,
        "{order}": bool(call.order),
        "{nulls}": call.ignore_nulls,
    }
    if call.named or any(there and place not in way.sql for place, there in asked.items()):
        raise unsupported(f"call {call.name} in this way", authored(call.node)[:200])
    if "{unordered}" in way.sql:
        refuse_order(call)
    if "{ordered}" in way.sql and not call.is_ordered:
        raise SqlError(
            f"SQL compilation error:\nWindow function type [{call.name}] requires ORDER BY in window specification",
            errno=2303,
            sqlstate="42601",
        )


def refuse_order(call: Call) -> None:
    """Refuse ORDER BY and a frame in the window of an aggregate that is always of a whole partition."""
    if call.over is not None and (call.is_ordered or call.over.args.get("spec") is not None):
        raise unsupported(f"order the window of {call.name}", authored(call.node)[:200])


def _filled(call: Call, way: Signature, arguments: Sequence[Value]) -> str:
    texts = [argument.sql for argument in arguments]
    frame = WHOLE if "{whole}" in way.sql else _RUNNING if "{running}" in way.sql else ""
    places = {
        "*": ", ".join(texts),
        "distinct": "DISTINCT " if call.distinct else "",
        "order": call.order_sql(),
        "over": call.over_sql(frame=frame),
        "nulls": " IGNORE NULLS" if call.ignore_nulls else "",
        **dict.fromkeys(("whole", "running", "ordered", "unordered"), ""),
        **{str(index): text for index, text in enumerate(texts)},
    }
    return re.sub(r"\{(\w+|\*)(?:\|([^}]*))?\}", lambda match: places.get(match[1], match[2] or "NULL"), way.sql)


_SIZED = re.compile(r"number\((\d+),(\d+)\)")
_NAMED: Mapping[str, Type] = {
    "text": types.TEXT,
    "int": types.INT,
    "float": types.FLOAT,
    "boolean": types.BOOLEAN,
    "date": types.DATE,
    "time": types.TIME,
    "ntz": types.NTZ,
    "ltz": types.LTZ,
    "tz": types.TZ,
    "variant": types.VARIANT,
    "array": types.ARRAY,
    "object": types.OBJECT,
    "binary": types.BINARY,
}


def _result_type(way: Signature, arguments: Sequence[Value]) -> Type:
    if way.result in _NAMED:
        return _NAMED[way.result]
    if match := _SIZED.fullmatch(way.result):
        return Type(Kind.NUMBER, int(match[1]), int(match[2]))
    if way.result == "wide":
        return replace(arguments[0].type, precision=types.MOST_DIGITS)
    if way.result.startswith("$"):
        return replace(arguments[int(way.result[1:])].type, length=None)
    same = [argument for index, argument in enumerate(arguments) if way.parameter(index).type == "="]
    return replace(same[0].type, length=None)


def _window(this: "Expressions", node: Any) -> Value:
    inner, ignore_nulls, order = node.this, False, ()
    if isinstance(inner, exp.IgnoreNulls | exp.RespectNulls):
        ignore_nulls = isinstance(inner, exp.IgnoreNulls)
        inner = inner.this
    if isinstance(inner, exp.WithinGroup):
        order, inner = inner.expression.expressions, inner.this
    if isinstance(inner, exp.IgnoreNulls | exp.RespectNulls):
        ignore_nulls = isinstance(inner, exp.IgnoreNulls)
        inner = inner.this
    # Like an aggregate it is of groups, never a key of them.
    return replace(call_of(this, inner, over=node, ignore_nulls=ignore_nulls, order=order), aggregate=True)


def _within_group(this: "Expressions", node: Any) -> Value:
    return call_of(this, node.this, order=node.expression.expressions)


def _ignore_nulls(this: "Expressions", node: Any) -> Value:
    return call_of(this, node.this, ignore_nulls=isinstance(node, exp.IgnoreNulls))


def _without_parentheses(name: str) -> Callable[["Expressions", Any], Value]:
    def translate(this: "Expressions", _: Any) -> Value:
        return call_of(this, exp.Anonymous(this=f"F${name}", expressions=[]))

    return translate


def date_part(this: "Expressions", part: Expr, value: Value) -> Value:
    """Return EXTRACT and DATE_PART."""
    return by_signature(Call(this, part, "DATE_PART", [part, given(value)]))


def given(value: Value) -> Expr:
    """Return a value that has been translated already, as a node."""
    return exp.Placeholder(this=value)


def by_values(name: str, arguments: Sequence[Value]) -> Value:
    """Return a call of a function with values."""
    ways = [way for way in SIGNATURES[name] if way.takes(len(arguments))]
    for way in ways:
        if (fitted := _fitted(way, arguments)) is not None and way.sql != "refused":
            sql = with_macros(re.sub(r"\{(\d)\}", lambda match: fitted[int(match[1])].sql, way.sql))
            return Value(sql, _result_type(way, fitted), aggregate=any(value.aggregate for value in fitted))
        if fitted is not None:
            break
    raise unsupported(f"call {name} with arguments of these types", ", ".join(str(value.kind) for value in arguments))


def add_interval(value: Value, interval: exp.Interval, sign: str) -> Value:
    """Return a value moved by an INTERVAL constant."""
    from run_elt_dagster.dialect import instants  # noqa: PLC0415 - which needs this module

    return instants.moved(value, interval, sign)


def add_to_instant(one: Value, other: Value, sign: str) -> Value | None:
    """Return what `+` and `-` make of dates and numbers, None where both are numbers."""
    from run_elt_dagster.dialect import instants  # noqa: PLC0415 - which needs this module

    return instants.sum_of(one, other, sign)


def modulo(one: Value, other: Value) -> Value:
    """Return the remainder, whose sign is that of the first operand."""
    from run_elt_dagster.dialect import numbers  # noqa: PLC0415 - which needs this module

    return numbers.modulo(one, other)


def array_of(items: Sequence[Value]) -> Value:
    """Return an array: a NULL is an element that is missing, written as ` null` with a space."""
    elements = ", ".join(values.macro("json_element", values.as_json(item).sql) for item in items)
    sql = values.macro("array", f"[{elements}]") if items else "'[]'::JSON"
    return Value(sql, types.ARRAY, aggregate=any(item.aggregate for item in items))


def object_of(keys: Sequence[Value], items: Sequence[Value], *, keep_null: bool = False) -> Value:
    """Return an object without the keys and values that are NULL, its keys sorted."""
    if not items:
        return Value("'{}'::JSON", types.OBJECT)
    elements = [values.as_json(item).sql for item in items]
    if (names := _plain_names(keys)) is not None:
        sql = _named_object(dict(zip(names, elements, strict=True)), keep_null=keep_null)
    else:
        texts = [values.as_text(key).sql for key in keys]
        pairs = [f"struct_pack(k := {text}, v := {element})" for text, element in zip(texts, elements, strict=True)]
        sql = values.macro("object_keep_null" if keep_null else "object", f"[{', '.join(pairs)}]")
    return Value(sql, types.OBJECT, aggregate=any(item.aggregate for item in [*keys, *items]))


def _plain_names(keys: Sequence[Value]) -> list[str] | None:
    """Return keys that are constants, each another and none with what JSON escapes; None where one is something else."""
    names = [key.constant or "" for key in keys if key.is_text_constant]
    is_plain = len(set(names)) == len(keys) and all(_PLAIN_NAME.fullmatch(name) for name in names)
    return names if is_plain else None


def _named_object(elements: Mapping[str, str], *, keep_null: bool) -> str:
    """Return the SQL of an object of known keys: sorted here, they take DuckDB a fraction of the time to bind."""
    texts = {name: f"CAST({element} AS VARCHAR)" for name, element in elements.items()}
    if keep_null:
        texts = {name: f"coalesce({text}, 'null')" for name, text in texts.items()}
    # Of what is NULL nothing is left: `||` makes it NULL, and concat_ws leaves that out.
    fields = ", ".join(values.literal_sql(f'"{name}":') + f" || {texts[name]}" for name in sorted(texts))
    return f"('{{' || concat_ws(',', {fields}) || '}}')::JSON"


# Printable ASCII but the quotation mark and the backslash.
_PLAIN_NAME = re.compile(r"[ !#-\[\]-~]*")


NODES: Mapping[type[Expr], Callable[["Expressions", Any], Value]] = {
    exp.Anonymous: call_of,
    exp.Window: _window,
    exp.WithinGroup: _within_group,
    exp.IgnoreNulls: _ignore_nulls,
    exp.RespectNulls: _ignore_nulls,
    exp.CurrentDate: _without_parentheses("CURRENT_DATE"),
    exp.CurrentTimestamp: _without_parentheses("CURRENT_TIMESTAMP"),
    exp.CurrentTime: _without_parentheses("CURRENT_TIME"),
    exp.Localtime: _without_parentheses("LOCALTIME"),
    exp.Localtimestamp: _without_parentheses("LOCALTIMESTAMP"),
    exp.CurrentUser: _without_parentheses("CURRENT_USER"),
    exp.CurrentRole: _without_parentheses("CURRENT_ROLE"),
    exp.CurrentDatabase: _without_parentheses("CURRENT_DATABASE"),
    exp.CurrentSchema: _without_parentheses("CURRENT_SCHEMA"),
    exp.CurrentWarehouse: _without_parentheses("CURRENT_WAREHOUSE"),
    exp.CurrentAccount: _without_parentheses("CURRENT_ACCOUNT"),
    exp.CurrentRegion: _without_parentheses("CURRENT_REGION"),
}
