"""Regular expressions: those that Snowflake's and DuckDB's libraries read in the same way, and what is done with them.

Snowflake has POSIX's extended expressions and a few letters after a backslash. It does not say which of two alternatives wins
that can begin at one place, nor what becomes of a match of nothing: https://docs.snowflake.com/en/sql-reference/functions-regexp.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from run_elt_dagster.dialect import types, values
from run_elt_dagster.dialect.calls import Call, form
from run_elt_dagster.dialect.errors import SqlError, unsupported
from run_elt_dagster.dialect.numbers import arguments_of, whole_constant
from run_elt_dagster.dialect.values import Value, as_text, converted, macro

_TOKENS = re.compile(r"\\.|\[\^?\]?(?:\[:[a-z]+:\]|[^\]])*\]|.", re.DOTALL)
_LETTERS = frozenset("dDsSwWbBntrf")
_REPEATING = frozenset("*+?{}")
_NO_LITERAL = _REPEATING | frozenset(".^$|()")


@dataclass(frozen=True)
class Regex:
    """One pattern of a call.

    Attributes:
        sql: The pattern for DuckDB, with its parameters in front.
        groups: How many groups it has, None where it is no constant.
        before: What stands before its first group, None where that is not known.
        extracts: Whether its parameters ask for a group.
        nullable: Whether it can match nothing at all.
    """

    sql: str
    groups: int | None
    before: str | None
    extracts: bool
    nullable: bool


def _regex(pattern: Value, parameters: Value | None) -> Regex:
    letters = "c" if parameters is None else parameters.constant
    if letters is None or not re.fullmatch("[cimse]*", letters):
        raise unsupported("match with these parameters", letters or parameters.sql if parameters else "")
    folds = letters.rfind("i") > letters.rfind("c")
    flags = f"(?{'i' if folds else ''}{'m' if 'm' in letters else ''}{'s' if 's' in letters else ''}-U)"
    extracts = "e" in letters
    if pattern.constant is None:
        # Patterns in columns are checked where they are read.
        sql = macro("column_regex", as_text(pattern).sql, values.literal_sql(flags))
        return Regex(sql, None, None, extracts, nullable=False)
    tokens = _TOKENS.findall(pattern.constant)
    _check(pattern.constant, tokens)
    nullable = _matches_nothing(pattern.constant, tokens)
    if nullable and pattern.constant.startswith("^") and "|" not in tokens and "m" not in letters:
        nullable = False
    first = tokens.index("(") if "(" in tokens and "|" not in tokens else None
    before = "".join(tokens[:first]) if first is not None else None
    sql = values.literal_sql(flags + pattern.constant)
    return Regex(sql, tokens.count("("), before, extracts, nullable)


def _check(pattern: str, tokens: Sequence[str]) -> None:
    letters = any(token[0] == "\\" and token[-1].isalnum() and token[-1] not in _LETTERS for token in tokens)
    if letters or any(one in "(*+?}" and two in {"?", "*", "+"} for one, two in pairwise(tokens)):
        raise unsupported("match this kind of regular expression", pattern)
    parts = [part for part in _parts(tokens) if "|" in part]
    if parts and not _of_both_ends(tokens) and not all(_are_distinct(part) for part in parts):
        raise unsupported("match alternatives of which one can begin like another", pattern)


def _parts(tokens: Sequence[str]) -> list[list[str]]:
    """Return what stands between parentheses."""
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token in {"(", ")"}:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _are_distinct(tokens: Sequence[str]) -> bool:
    """Return whether no two alternatives can begin at the same place, or only plain text of which none begins another."""
    ways: list[list[str]] = [[]]
    for token in tokens:
        ways.append([]) if token == "|" else ways[-1].append(token)  # noqa: S105
    firsts = [way[0] if way and _is_literal(way[0]) else "" for way in ways]
    if all(firsts) and len({first[-1] for first in firsts}) == len(ways):
        return not any(way[1:2] in (["*"], ["?"], ["{"]) for way in ways)
    texts = ["".join(token[-1] for token in way) for way in ways if way and all(map(_is_literal, way))]
    return len(texts) == len(ways) and not any(one is not two and two.startswith(one) for one in texts for two in texts)


def _is_literal(token: str) -> bool:
    return not token[-1].isalnum() if token[0] == "\\" else len(token) == 1 and token not in _NO_LITERAL


def _of_both_ends(tokens: Sequence[str]) -> bool:
    """Return whether a pattern is `^x+|x+$`: both match the same where both match."""
    if tokens.count("|") != 1 or tokens[0] != "^" or tokens[-1] != "$":
        return False
    middle = tokens.index("|")
    one, two = tokens[1:middle], tokens[middle + 1 : -1]
    return one == two and not {"(", ")"} & set(one) and (len(one) == 1 or one[1:] in (["+"], ["*"]))


def _matches_nothing(pattern: str, tokens: Sequence[str]) -> bool:
    plain = "".join("x" if token[0] == "[" else "" if token in {"\\b", "\\B"} else token for token in tokens)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.fullmatch(plain, "") is not None
    except re.error as error:
        raise SqlError(f"Invalid regular expression: '{pattern}'", errno=100048, sqlstate="2201B") from error


def _refuse_nothing(regex: Regex) -> None:
    if regex.nullable:
        raise unsupported("look for a regular expression that matches nothing at all", regex.sql)


def _whole(given: Sequence[Value], index: int, default: int, least: int) -> tuple[str, int | None]:
    """Return an optional whole number as SQL, and its value where it is constant."""
    if index >= len(given):
        return str(default), default
    constant = whole_constant(given[index])
    if constant is not None and constant < least:
        raise unsupported("match with this position, occurrence or option", str(constant))
    number = converted(given[index], types.INT).sql
    sql = f"CAST({number} AS BIGINT)"
    return (sql if constant is not None else macro("at_least", sql, str(least))), constant


def _from(text: Value, start: tuple[str, int | None]) -> str:
    sql = as_text(text).sql
    return sql if start[1] == 1 else f"substr({sql}, {start[0]})"


def _group(given: Sequence[Value], index: int, regex: Regex) -> int:
    asked = whole_constant(given[index]) if index < len(given) else None
    if index < len(given) and asked is None:
        raise unsupported("match with a group that is not constant", given[index].sql)
    if asked is None and not regex.extracts:
        return 0
    if regex.groups is None or (asked or 0) > regex.groups or (asked or 0) < 0:
        raise unsupported("extract this group", str(asked))
    return min(1, regex.groups) if asked is None else asked


def _value(sql: str, kind: types.Type, given: Sequence[Value]) -> Value:
    return Value(sql, kind, aggregate=any(value.aggregate for value in given))


def _at(given: Sequence[Value], index: int) -> Value | None:
    return given[index] if index < len(given) else None


@form("RLIKE", "REGEXP", "REGEXP_LIKE")
def rlike(call: Call) -> Value:
    """Return RLIKE, for which the whole text must match: https://docs.snowflake.com/en/sql-reference/functions/rlike."""
    given = arguments_of(call, 2, 3)
    regex = _regex(given[1], _at(given, 2))
    return _value(f"regexp_full_match({as_text(given[0]).sql}, {regex.sql})", types.BOOLEAN, given)


@form("REGEXP_COUNT")
def regexp_count(call: Call) -> Value:
    """Return REGEXP_COUNT: https://docs.snowflake.com/en/sql-reference/functions/regexp_count."""
    given = arguments_of(call, 2, 4)
    regex = _regex(given[1], _at(given, 3))
    _refuse_nothing(regex)
    text = _from(given[0], _whole(given, 2, 1, 1))
    return _value(f"len(regexp_extract_all({text}, {regex.sql}))", types.INT, given)


@form("REGEXP_SUBSTR", "REGEXP_SUBSTR_ALL", "REGEXP_EXTRACT_ALL")
def regexp_substr(call: Call) -> Value:
    """Return REGEXP_SUBSTR: https://docs.snowflake.com/en/sql-reference/functions/regexp_substr."""
    given = arguments_of(call, 2, 6)
    regex = _regex(given[1], _at(given, 4))
    _refuse_nothing(regex)
    text, (occurrence, first) = _from(given[0], _whole(given, 2, 1, 1)), _whole(given, 3, 1, 1)
    group = _group(given, 5, regex)
    found = f"regexp_extract_all({text}, {regex.sql}, {group})"
    if call.name != "REGEXP_SUBSTR":
        return _value(macro("list_json", f"{found}[{occurrence}:]"), types.ARRAY, given)
    if first == 1 and group == 0:
        return _value(f"nullif(regexp_extract({text}, {regex.sql}), '')", types.TEXT, given)
    return _value(f"{found}[{occurrence}]", types.TEXT, given)


@form("REGEXP_INSTR")
def regexp_instr(call: Call) -> Value:
    """Return REGEXP_INSTR: https://docs.snowflake.com/en/sql-reference/functions/regexp_instr."""
    given = arguments_of(call, 2, 7)
    regex = _regex(given[1], _at(given, 5))
    _refuse_nothing(regex)
    start, (occurrence, _), (_, after) = _whole(given, 2, 1, 1), _whole(given, 3, 1, 1), _whole(given, 4, 0, 0)
    group = _group(given, 6, regex)
    if after not in {0, 1} or group > 1 or (group and regex.before is None):
        raise unsupported("give this position of a match", given[1].constant or given[1].sql)
    arguments = [_from(given[0], start), regex.sql, occurrence, str(after), start[0]]
    if not group:
        return _value(macro("regexp_instr", *arguments), types.INT, given)
    before = regex.before or ""
    flags = regex.sql[1 : regex.sql.index(")") + 1]
    split = values.literal_sql(f"{flags}({before}){(given[1].constant or '')[len(before) :]}")
    return _value(macro("regexp_instr_group", *arguments, split), types.INT, given)


@form("REGEXP_REPLACE")
def regexp_replace(call: Call) -> Value:
    """Return REGEXP_REPLACE: https://docs.snowflake.com/en/sql-reference/functions/regexp_replace."""
    given = arguments_of(call, 2, 6)
    regex = _regex(given[1], _at(given, 5))
    other = as_text(given[2]) if len(given) > len(("text", "pattern")) else values.text_constant("")
    start, (occurrence, number) = _whole(given, 3, 1, 1), _whole(given, 4, 0, 0)
    if regex.nullable and (other.constant != "" or number != 0):
        _refuse_nothing(regex)
    new = macro("regex_replacement", other.sql) if other.constant is None else other.sql
    if other.constant is not None and re.search(r"\\([^1-9]|$)", other.constant):
        raise unsupported("replace by this text", other.constant)
    text = _from(given[0], start)
    if number == 0:
        sql = f"regexp_replace({text}, {regex.sql}, {new}, 'g')"
        before = "" if start[1] == 1 else f"substr({as_text(given[0]).sql}, 1, {start[0]} - 1) || "
        return _value(f"({before}{sql})", types.TEXT, given)
    if number is None or other.constant is None or "\\" in other.constant:
        raise unsupported("replace one occurrence by this text", other.constant or other.sql)
    whole = as_text(given[0]).sql
    return _value(macro("regexp_replace_one", whole, text, regex.sql, new, occurrence, start[0]), types.TEXT, given)
