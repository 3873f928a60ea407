"""A table's SQL file, read: the settings above the SQL, the SQL, and every problem with its line."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from run_elt_dagster.model.alert_rule import AlertRule
from run_elt_dagster.model.checks import CHECK_MODELS, Checks, ColumnContract
from run_elt_dagster.model.fields import LocatedError, SeveralLocatedError
from run_elt_dagster.model.freshness import FreshWithin
from run_elt_dagster.model.front_matter import (
    FrontMatter,
    Location,
    MisplacedSettingsError,
    Settings,
    find_front_matter,
    nearest_line,
    read_settings,
)
from run_elt_dagster.model.governance import Aggregation, Join, Masking, Policies, RowAccess
from run_elt_dagster.model.increment import Increment
from run_elt_dagster.model.partitions import Partitioning
from run_elt_dagster.model.problems import TableProblem, TableProblemsError
from run_elt_dagster.model.single_select import SqlRuleError
from run_elt_dagster.model.table import FRONT_MATTER_KEYS, AnalyticsTable


def parse_table_file(
    path: Path, text: str, *, schema: str, table: str, read: Callable[[str], Settings] = read_settings
) -> AnalyticsTable:
    """Return the table that a SQL file declares.

    Args:
        path: The file, for messages.
        text: What it holds; a byte order mark and any line ends are fine.
        schema: From the path.
        table: From the path.
        read: Returns what its front matter says.

    Raises:
        TableProblemsError: With every problem of the file and its line.
    """
    text = text.removeprefix("\ufeff")
    try:
        matter = find_front_matter(text)
    except MisplacedSettingsError as error:
        raise TableProblemsError([TableProblem(path, _line_at(text, error.offset), str(error))]) from error
    settings, lines, problems = _read_front_matter(path, text, matter, read)
    for key in (key for key in settings if key not in FRONT_MATTER_KEYS):
        remedy = "It is a check: write it under checks." if key in CHECK_MODELS else ""
        problems.append(TableProblem(path, lines[(key,)], _unknown_key(key, FRONT_MATTER_KEYS, remedy=remedy)))
    sql_line = _line_at(text, matter.end)
    values = {
        **{key: value for key, value in settings.items() if key in FRONT_MATTER_KEYS},
        "schema": schema,
        "table": table,
        "sql": text[matter.end :],
        "path": path,
        "sql_line": sql_line,
        "lines": lines,
    }
    try:
        parsed = AnalyticsTable.model_validate(values)
    except ValidationError as error:
        # What YAML has told is not said again in other words.
        told = {problem.line for problem in problems}
        found = _validation_problems(path, text, error, lines=lines, sql_start=matter.end)
        problems += [problem for problem in found if problem.line not in told]
    else:
        if not problems:
            return parsed
    raise TableProblemsError(sorted(problems, key=lambda problem: problem.line))


def _read_front_matter(
    path: Path, text: str, matter: FrontMatter, read: Callable[[str], Settings]
) -> tuple[dict[str, Any], dict[Location, int], list[TableProblem]]:
    first_line = _line_at(text, matter.yaml_start)
    settings = read(matter.yaml)
    problems = [TableProblem(path, first_line + fault.line, fault.message) for fault in settings.faults]
    return settings.values, {at: first_line + line for at, line in settings.lines.items()}, problems


def _validation_problems(
    path: Path,
    text: str,
    error: ValidationError,
    *,
    lines: Mapping[Location, int],
    sql_start: int,
) -> Iterator[TableProblem]:
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, SqlRuleError):
            yield TableProblem(path, _line_at(text, sql_start + cause.offset), f"SQL {cause}")
            continue
        for part in cause.errors if isinstance(cause, SeveralLocatedError) else (cause,):
            at = (*location, *part.location) if isinstance(part, LocatedError) else location
            own = {**detail, "msg": str(part)} if isinstance(cause, SeveralLocatedError) else detail
            remedy = part.remedy if isinstance(part, LocatedError) else ""
            yield TableProblem(path, nearest_line(at, lines), f"{_explain(at, own)} {remedy}".rstrip())


def _explain(location: tuple[str | int, ...], detail: Mapping[str, Any]) -> str:
    parts = [str(part) for part in location if part != "[key]"]
    subject = ".".join(parts)
    if detail["type"] == "extra_forbidden":
        known = [*(".".join([*parts[:-1], name]) for name in _model_at(location).model_fields)]
        return _unknown_key(subject, known)
    if detail["type"] == "missing":
        return f"{subject}: is required, got none."
    rule, remedy = _rule(detail)
    got = "" if ", got " in rule else f", got {_written(detail['input'])[:80]!r}"
    return f"{subject}: {rule.rstrip('.')}{got}.{remedy}"


def _rule(detail: Mapping[str, Any]) -> tuple[str, str]:
    """Return what is required, without the names of Python's classes, and a remedy where there is one to add."""
    kind = str(detail["type"])
    if kind == "string_type":
        return "requires text", "" if isinstance(detail["input"], list | dict) else " Quote it."
    known = next((words for start, words in _RULES.items() if kind.startswith(start)), None)
    if known is not None:
        return known.format(**detail.get("ctx", {})), ""
    return str(detail["msg"]).removeprefix("Value error, ").replace("Input should be", "requires"), ""


_RULES = {
    "dict": "requires `key: value` pairs",
    "model": "requires `key: value` pairs",
    "tuple": "requires a list",
    "string_pattern_mismatch": "requires small letters, digits and _, 63 characters at most",
    "int": "requires a whole number, unquoted",
    "bool": "requires true or false, unquoted",
    "greater_than_equal": "requires a number of at least {ge}",
    "greater_than": "requires a number above {gt}",
    "less_than_equal": "requires a number of at most {le}",
    "too_short": "requires at least one entry",
    "too_long": "requires at most {max_length} characters",
    "string_too_long": "requires at most {max_length} characters",
}


def _written(value: Any) -> str:
    """Return a value as YAML has it, and not as Python does."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(value)


def _model_at(location: tuple[str | int, ...]) -> type[BaseModel]:
    """Return the model whose unknown key a location is: that of its first part, or `checks` or `checks.<kind>...`."""
    first, *rest = map(str, location)
    if first == "policies" and len(rest) > 1:
        return _POLICIES.get(rest[0], Masking)
    if first in _MODELS:
        return _MODELS[first]
    return CHECK_MODELS.get(rest[0], Checks) if len(rest) > 1 else Checks


_POLICIES: Mapping[str, type[BaseModel]] = {"row_access": RowAccess, "aggregation": Aggregation, "join": Join}
_MODELS: Mapping[str, type[BaseModel]] = {
    "columns": ColumnContract,
    "fresh_within": FreshWithin,
    "alerts": AlertRule,
    "policies": Policies,
    "partitions": Partitioning,
    "increment": Increment,
}


def _unknown_key(key: str, known: Iterable[str], *, remedy: str = "") -> str:
    known = list(known)
    close = difflib.get_close_matches(key, known, n=1)
    remedy = remedy or f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(known)}."
    return f"unknown key {key!r}. {remedy}"


def _line_at(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1
