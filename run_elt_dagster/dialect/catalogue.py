"""What is known of Snowflake's functions, read from the files in `data`.

A line of a `.tsv` file is one way of calling a function: its name, the types of its arguments, the type of its result,
DuckDB's SQL, and the page of Snowflake's reference. A function may have several lines; the first that fits is taken.

- Arguments are types (`text`, `int`, `number`, `float`, `boolean`, `date`, `time`, `datetime`, `timestamp`, `variant`, `array`,
  `object`, `binary`, `any`): a value of another type is converted as Snowflake does by itself. `=` converts all such arguments to
  their common type. A type in brackets must be there as it is: `[float]`. `'` is a constant text. `?` after a type: may be
  missing. `*` after the last one: any number of it.
- The result is a type, `=` for the common type, or `$0` for that of the first argument, `wide` that with 38 digits. `number(10,2)` has digits.
- In the SQL `{0}` is the first argument, `{*}` all of them with commas between, `@name` a macro of the `.sql` files. `{over}` makes it
  an aggregate: the place of OVER; `{distinct}`, `{order}` and `{nulls}` are those of DISTINCT, WITHIN GROUP and IGNORE NULLS. `{whole}`
  says that its frame is the whole partition by default, `{running}` that it ends with the row. `{ordered}` requires ORDER BY in the
  window, `{unordered}` forbids it. `{1|x}` is `x` where the argument is missing. `python` says that a
  function of this package translates it (`@form` in `calls.py`), `refused` that this way of calling is not known.
- `part_day_time` is a part of a date or time, quoted or not, of the groups `day` and `time` of `parts.tsv`; `{0}` is its name.

`refused.tsv` lists the functions of Snowflake that are not known here, so none of them is called unknown.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_PARAMETER = re.compile(r"(\[?)(=|'|[a-z_]+)(\]?)([?*]?)")


@dataclass(frozen=True)
class Parameter:
    """One argument of a function.

    Attributes:
        type: The name of its type, `=` or `'`.
        exact: Whether nothing is converted to it.
        optional: Whether it may be missing.
        repeated: Whether any number of it may follow.
    """

    type: str
    exact: bool = False
    optional: bool = False
    repeated: bool = False


@dataclass(frozen=True)
class Signature:
    """One way of calling a function, as the line of `functions.tsv` has it."""

    name: str
    parameters: tuple[Parameter, ...]
    result: str
    sql: str
    page: str

    @property
    def is_aggregate(self) -> bool:
        """Whether it makes one value of many rows."""
        return "{over}" in self.sql

    def takes(self, count: int) -> bool:
        """Return whether it can be called with so many arguments."""
        least = sum(not (parameter.optional or parameter.repeated) for parameter in self.parameters)
        most = float("inf") if any(parameter.repeated for parameter in self.parameters) else len(self.parameters)
        return least <= count <= most

    def takes_part(self, index: int) -> bool:
        """Return whether an argument is the name of a part of a date or time."""
        return bool(self.parameters) and self.parameter(index).type.startswith("part_")

    def parameter(self, index: int) -> Parameter:
        """Return the parameter of an argument."""
        return self.parameters[min(index, len(self.parameters) - 1)]


def _lines(name: str) -> list[list[str]]:
    text = (_DATA / name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines()[1:] if line and not line.startswith("#")]


def _parameters(text: str) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(kind, exact=bool(bracket), optional=end == "?", repeated=end == "*")
        for bracket, kind, _, end in _PARAMETER.findall(text)
    )


def _read() -> tuple[Mapping[str, Sequence[Signature]], Mapping[str, str]]:
    by_name: dict[str, list[Signature]] = {}
    forms: dict[str, str] = {}
    for group in GROUPS:
        for name, parameters, result, sql, page in _lines(f"{group}.tsv"):
            if sql == "python":
                forms[name] = page
            else:
                by_name.setdefault(name, []).append(Signature(name, _parameters(parameters), result, sql, page))
    return MappingProxyType(by_name), MappingProxyType(forms)


GROUPS = ("text", "numbers", "conditional", "aggregates", "dates", "semi_structured", "context")
_DATA = files("run_elt_dagster.dialect") / "data"
# Every way of calling every function that is known, and the page of each function that Python translates.
SIGNATURES, FORMS = _read()
REFUSED = dict(_lines("refused.tsv"))
FUNCTION_NAMES = frozenset({*SIGNATURES, *FORMS, *REFUSED})
# The part, and the group, of each of its names.
PARTS = {name: (part, group) for names, part, group in _lines("parts.tsv") for name in names.split()}
# The elements of the formats of dates and times, the longest first: what reads one, the name of that, what writes it, its need.
ELEMENTS = {line[0]: line[1:] for line in sorted(_lines("formats.tsv"), key=lambda line: -len(line[0]))}


def group_names(group: str) -> Sequence[str]:
    """Return the names of the functions of a group, as its file has them one after another."""
    return list(dict.fromkeys(line[0] for line in _lines(f"{group}.tsv")))


@cache
def macros() -> Mapping[str, str]:
    """Return the statement that creates each macro, by the macro's name in DuckDB."""
    statements = {"sf_fail": f"CREATE MACRO {_FAIL}(x) AS CAST(CAST(concat('!', x) AS TINYINT) AS VARCHAR)"}
    for group in GROUPS:
        path = _DATA / f"{group}.sql"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        lines = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
        for statement in filter(None, (part.strip(" \n;") for part in lines.split(";\n"))):
            sql = with_macros(statement)
            statements[called_macros(sql)[0]] = sql
    return MappingProxyType(statements)


def called_macros(sql: str) -> Sequence[str]:
    """Return the names of the macros in DuckDB's SQL, in the order in which they stand there."""
    return list(dict.fromkeys(_CALLED.findall(sql)))


def with_temporary(sql: str, names: Collection[str]) -> str:
    """Return DuckDB's SQL with calls of temporary macros in the place of those with these names."""
    return _CALLED.sub(lambda call: f"temp.main.{call[1]}(" if call[1] in names else call[0], sql)


_MACRO = re.compile(r"@([a-z_0-9]+)")
# A database in memory, so a macro needs no place in anybody's.
_HOME = "_fs_global._fs_information_schema"
_CALLED = re.compile(rf"{re.escape(_HOME)}\.(sf_[a-z_0-9]+)\(")
# DuckDB's own error() is volatile: it may not stand in the order of a window, and DuckDB 2.0.0 drops a comparison with a
# correlated subquery that holds one. A cast that fails is not: "Could not convert string '!<number>|<text>' to INT8".
_FAIL = f"{_HOME}.sf_fail"
_ERROR = re.compile(r"\berror\(")


def with_macros(sql: str) -> str:
    """Return SQL with the full names of macros, which are written `@name`, and with failures that are not volatile."""
    return _ERROR.sub(f"{_FAIL}(", _MACRO.sub(rf"{_HOME}.sf_\1", sql))
