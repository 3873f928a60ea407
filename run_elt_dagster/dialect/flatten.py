"""Table functions: FLATTEN, SPLIT_TO_TABLE and GENERATOR.

https://docs.snowflake.com/en/sql-reference/functions/flatten and https://docs.snowflake.com/en/sql-reference/functions/generator
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlglot import Expr, exp

from run_elt_dagster.dialect import types, values
from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.expressions import refused
from run_elt_dagster.dialect.parser import authored, function_name
from run_elt_dagster.dialect.scope import HIDDEN, Relation, distinct_columns
from run_elt_dagster.dialect.semi import at_path, steps
from run_elt_dagster.dialect.types import Kind
from run_elt_dagster.dialect.values import Value, literal_sql, macro

if TYPE_CHECKING:
    from run_elt_dagster.dialect.expressions import Expressions

_ARGUMENTS = ("INPUT", "PATH", "OUTER", "RECURSIVE", "MODE")
_COLUMNS = distinct_columns(
    [
        ("SEQ", types.INT),
        ("KEY", types.TEXT),
        ("PATH", types.TEXT),
        ("INDEX", types.INT),
        ("VALUE", types.VARIANT),
        ("THIS", types.VARIANT),
    ]
)
_PIECES = distinct_columns([("SEQ", types.INT), ("INDEX", types.INT), ("VALUE", types.TEXT)])

_NO_THIS = macro("fail", literal_sql("unsupported|show THIS where FLATTEN has nothing to expand"))


def flattened(this: "Expressions", function: Any) -> Relation:
    """Return FLATTEN."""
    named = _arguments(function, _ARGUMENTS)
    if "INPUT" not in named:
        raise refused(function)
    value, outer = this.value(named["INPUT"]), _flag(this, named.get("OUTER"))
    if value.kind is Kind.NULL:
        value = Value("NULL::JSON", types.VARIANT)
    if value.kind not in types.SEMI_STRUCTURED:
        raise SqlError(
            f"SQL compilation error:\nInvalid argument types for function 'FLATTEN': ({value.type})",
            errno=1044,
            sqlstate="42P13",
        )
    path, mode = _text(this, named.get("PATH")), _text(this, named.get("MODE")).upper() or "BOTH"
    if mode not in {"OBJECT", "ARRAY", "BOTH"}:
        raise refused(function)
    sql, base = at_path(value, path).sql, literal_sql(_written(steps(path)))
    recursive = _flag(this, named.get("RECURSIVE"))
    rows = _tree(sql, base, literal_sql(mode)) if recursive else macro("flat", sql, base, literal_sql(mode))
    rows = macro("flat_outer", sql, rows, base) if outer else rows
    row = [f"""struct_extract("flat:"."row:", '{name}')""" for name in "kpivto"]
    known = f"CASE WHEN {row[5]} THEN {_NO_THIS}::JSON ELSE {row[4]} END"
    listed = ", ".join([_sequence(this, named["INPUT"]), *row[:4], known])
    return Relation(f'SELECT {listed} FROM (SELECT unnest({rows}) AS "row:") AS "flat:"', _COLUMNS)


def _tree(sql: str, base: str, mode: str) -> str:
    """Return the list of all elements and of those inside them, each before its own."""
    row = """struct_extract(struct_extract("tree:"."row:", 'e'), '{}')""".format
    first = macro("flat_step", sql, base, mode, "[]::BIGINT[]")
    deeper = macro("flat_step", row("v"), row("p"), mode, """struct_extract("tree:"."row:", 'o')""")
    listed = """list(struct_extract("tree:"."row:", 'e') ORDER BY struct_extract("tree:"."row:", 'o'))"""
    return (
        f'(WITH RECURSIVE "tree:"("row:") AS (SELECT unnest({first}) UNION ALL SELECT unnest({deeper}) FROM "tree:") '
        f'SELECT {listed} FROM "tree:")'
    )


def _written(path: Sequence[str | int]) -> str:
    """Return a path as FLATTEN writes it."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.isidentifier() and step.isascii():
            text += f".{step}" if text else step
        else:
            text += f"['{step}']"
    return text


def _sequence(this: "Expressions", *inputs: Expr) -> str:
    """Return the number of the row from which the input comes."""
    if not any(node.find(exp.Column) for node in inputs):
        return "1::BIGINT"
    numbers = [
        column.value(source.inner).sql
        for source in this.scope.sources
        for column in source.columns
        if column.name == HIDDEN + "ROW"
    ]
    if len(numbers) == len(this.scope.sources) == 1:
        return numbers[0]
    return f"{macro('fail', literal_sql('unsupported|number the rows that FLATTEN reads (SEQ) where FROM has several'))}::BIGINT"


def pieces(this: "Expressions", function: Any) -> Relation:
    """Return SPLIT_TO_TABLE and STRTOK_SPLIT_TO_TABLE.

    https://docs.snowflake.com/en/sql-reference/functions/split_to_table
    """
    name, arguments = function_name(function) or "", list(function.expressions)
    is_split = name == "SPLIT_TO_TABLE"
    if any(isinstance(item, exp.Kwarg) for item in arguments) or len(arguments) not in ({2} if is_split else {1, 2}):
        raise refused(function)
    text, *rest = [values.as_text(value).sql for value in this.values(arguments)]
    listed = macro("split_list" if is_split else "strtok_list", text, rest[0] if rest else "' '")
    rows = macro("split_pieces", listed)
    row = [f"""struct_extract("flat:"."row:", '{key}')""" for key in "iv"]
    return Relation(
        f'SELECT {_sequence(this, *arguments)}, {", ".join(row)} FROM (SELECT unnest({rows}) AS "row:") AS "flat:"',
        _PIECES,
    )


def generated(this: "Expressions", function: Any) -> Relation:
    """Return TABLE(GENERATOR(ROWCOUNT => n)): rows without a column, but for the number that SEQ4 shows."""
    named = _arguments(function, ())
    count = this.value(named["ROWCOUNT"]) if set(named) == {"ROWCOUNT"} else None
    if count is None or count.kind is not Kind.NUMBER or not (count.constant or "").isdecimal():
        raise unsupported("run this GENERATOR", authored(function)[:200])
    return Relation(f"SELECT range FROM range({count.constant})", distinct_columns([(HIDDEN + "SEQ", types.INT)]))


def _arguments(function: Any, names: Sequence[str]) -> Mapping[str, Expr]:
    found: dict[str, Expr] = {}
    for index, item in enumerate(function.expressions):
        if isinstance(item, exp.Kwarg):
            found[str(item.this.name).upper()] = item.expression
        elif index < len(names):
            found[names[index]] = item
        else:
            raise refused(function)
    if names and set(found) - set(names):
        raise refused(function)
    return found


def _flag(this: "Expressions", node: Expr | None) -> bool:
    if node is None:
        return False
    value = this.value(node)
    if value.kind is not Kind.BOOLEAN or value.constant is None:
        raise refused(node)
    return value.constant == "True"


def _text(this: "Expressions", node: Expr | None) -> str:
    if node is None:
        return ""
    value = this.value(node)
    if not value.is_text_constant:
        raise refused(node)
    return value.constant or ""
