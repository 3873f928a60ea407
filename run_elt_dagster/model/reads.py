"""Reads off a SQL text which tables it reads. sqlglot only reads here: the SQL that runs is always the author's."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from run_elt_dagster.model.file_cache import Reads, Unclear
from run_elt_dagster.model.names import Key, display_name, key_of, stored_names
from run_elt_dagster.model.redirects import Obstacles

# The table without rows of its own that Oracle's SQL reads from; Snowflake takes it without a schema.
_DUAL = "DUAL"
# Of `db..table`: https://docs.snowflake.com/en/sql-reference/name-resolution
_DEFAULT_SCHEMA = "PUBLIC"
_LONGEST_NAME = 3
_NAME_TABLES = (
    "Correct the SQL; if Snowflake takes it as it is, name every table that it reads in the front matter, as in "
    "upstream: [raw_data.events]"
)
_NAME_THIS = (
    "Write schema.table there, or name what it can stand for in the front matter, as in upstream: [raw_data.events], in "
    "addition to what can be read"
)
_UNKNOWN_SOURCE = "what stands after FROM is computed when it runs, or is no name"
_LONGEST_EXCERPT = 40
# What TABLE(...) may hold besides a table: none of these is a function that returns a table.
_SCALARS = (
    exp.Binary,
    exp.Case,
    exp.Cast,
    exp.Coalesce,
    exp.Concat,
    exp.ConcatWs,
    exp.DynamicIdentifier,
    exp.If,
    exp.Lower,
    exp.Paren,
    exp.Replace,
    exp.Upper,
)
_QUOTED = re.compile(
    r"""--[^\n]*|//[^\n]*|/\*.*?\*/|'(?:[^'\\]|\\.|'')*'|"(?:[^"]|"")*"|\$\$.*?\$\$|(?P<open>/\*|'|"|\$\$)""", re.DOTALL
)
# Rows that are no table: functions, stages, queries. The tables of a query are found by themselves.
_NO_TABLE = (
    exp.DirectoryStage,
    exp.Func,
    exp.Lateral,
    exp.ModelAttribute,
    exp.Query,
    exp.SemanticView,
    exp.TableFromRows,
    exp.Values,
    exp.Window,
)
# What stands after FROM and JOIN: each is looked at by itself.
_SOURCES = (exp.Lateral, exp.Query, exp.Table, exp.TableFromRows, exp.Unnest, exp.Values)


def reads_of(sql: str) -> Reads:
    """Return the tables that a SELECT reads, and the places of it that do not name a table; common table expressions are left out."""
    try:
        query = sqlglot.parse_one(sql, read="snowflake")
    except ParseError as error:
        return Reads({}, (_unparsed(error),))
    except SqlglotError:
        return Reads({}, (_unclosed(sql),))
    except RecursionError:
        return Reads({}, (Unclear(1, "it is nested too deeply to be read", _NAME_TABLES),))
    if not isinstance(query, exp.Query):
        return Reads({}, (Unclear(1, "it does not read as a query", _NAME_TABLES),))
    reading = _Reading(sql, query)
    for node in query.find_all(exp.Table, exp.TableFromRows, exp.Anonymous, exp.From, exp.Join, exp.Lateral):
        reading.look_at(node)
    unclear = tuple(sorted(reading.unclear, key=lambda place: place.line))
    return Reads(dict(sorted(reading.tables.items())), unclear, dict(sorted(reading.fixed.items())))


def _unparsed(error: ParseError) -> Unclear:
    # Its text is for a developer of the parser: it names classes, and underlines by terminal codes.
    first: dict[str, Any] = error.errors[0] if error.errors else {}
    at = str(first.get("highlight") or "")[:_LONGEST_EXCERPT]
    return Unclear(
        int(first.get("line") or 1), f"it cannot be read near {at!r}" if at else "it cannot be read", _NAME_TABLES
    )


def _unclosed(sql: str) -> Unclear:
    """Return where the quote or comment begins that has no end: what the first step of reading fails at."""
    opened = next((unit for unit in _QUOTED.finditer(sql) if unit.lastgroup == "open"), None)
    if opened is None:
        return Unclear(1, "it cannot be read", _NAME_TABLES)
    return Unclear(
        _line_at(sql, opened.start()), f"{opened.group()} begins a text or a comment that never ends", "Close it"
    )


class _Reading:
    """What was found in a SQL text so far.

    Attributes:
        tables: The tables, with their first line.
        unclear: The places that do not name a table.
        fixed: The tables in whose place no other one can be read, each with the line and why.
    """

    def __init__(self, sql: str, query: exp.Expr) -> None:
        self._sql = sql
        self._query = query
        # Looked up, not searched: a text of 1 MB may have twenty thousand tables and as many names.
        self._line_ends = [match.start() for match in re.finditer("\n", sql)]
        self._scopes = _Scopes()
        self._unqualified: set[str] = set()
        self.tables: dict[Key, int] = {}
        self.unclear: list[Unclear] = []
        self.fixed: dict[Key, tuple[int, str]] = {}
        self._obstacles = Obstacles(query)

    def look_at(self, node: exp.Expr) -> None:
        """Note the table that a source of rows or a function reads, if it is one."""
        if isinstance(node, exp.Anonymous):
            self._function(node)
        elif isinstance(node, exp.TableFromRows):
            self._rows_of_a_table(node)
        elif isinstance(node, exp.From | exp.Join):
            # What it takes for an expression here is no source of rows: `from s.a version at 5`.
            if not isinstance(node.this, _SOURCES):
                self._doubt(node, _UNKNOWN_SOURCE)
        elif isinstance(node, exp.Lateral):
            self._lateral(node)
        elif node.arg_key != "format":
            # The other tables; what stands after FILE_FORMAT => is none.
            self._source(node)

    def _source(self, node: exp.Expr) -> None:
        source = node.this
        if isinstance(source, exp.Identifier):
            why = self._obstacles.of(node) if node.args.get("db") else ""
            self._name(node, [node.args.get("catalog"), node.args.get("db"), source], why)
        elif isinstance(source, exp.DynamicIdentifier):
            self._dynamic(node, source)
        elif isinstance(source, exp.Dot) and not _is_no_table(source):
            self._doubt(node, "a name after FROM has more parts than database.schema.table")
        elif not _is_stage(source) and not _is_no_table(source):
            self._doubt(node, _UNKNOWN_SOURCE)

    def _rows_of_a_table(self, node: exp.Expr) -> None:
        """Note the table of `table(...)`: https://docs.snowflake.com/en/sql-reference/literals-table."""
        if not _is_no_table(node.this):
            self._argument(node, node.this, "table(...)")

    def _lateral(self, node: exp.Lateral) -> None:
        if isinstance(node.this, exp.DynamicIdentifier):
            self._dynamic(node, node.this)
        elif not _is_no_table(node.this):
            self._doubt(node, _UNKNOWN_SOURCE)

    def _function(self, node: exp.Anonymous) -> None:
        name, arguments = node.name.lower(), node.expressions
        if name == "error_table" and arguments:
            self._argument(node, arguments[0], "error_table(...)")
        elif name == "system$reference" and len(arguments) > 1 and arguments[0].name.lower() in ("table", "view"):
            self._argument(node, arguments[1], "system$reference(...)")
        elif name in ("system$reference", "system$query_reference", "to_query"):
            self._doubt(node, f"{name}(...) reads by a text")

    def _argument(self, node: exp.Expr, argument: exp.Expr, call: str) -> None:
        if isinstance(argument, exp.Column):
            parts = [argument.args.get(part) for part in ("catalog", "db", "table", "this")]
            self._name(node, parts, f"{call} reads it")
        elif isinstance(argument, exp.DynamicIdentifier):
            self._dynamic(node, argument)
        else:
            self._text(node, argument, call)

    def _dynamic(self, node: exp.Expr, identifier: exp.DynamicIdentifier) -> None:
        # With arguments behind it, as in identifier('s.f')(1), it names a function.
        if not identifier.expressions:
            self._text(node, identifier.this, "identifier(...)")

    def _text(self, node: exp.Expr, argument: exp.Expr | None, call: str) -> None:
        if not _is_string(argument):
            self._doubt(node, f"the name in {call} is computed when it runs")
            return
        try:
            self._add(node, _names_in(argument.name if argument else ""), f"{call} reads it by a text")
        except ValueError:
            self._doubt(node, f"the text in {call} names no table")

    def _name(self, node: exp.Expr, parts: Sequence[Any], why_fixed: str) -> None:
        """Note a table by its parts: identifiers, None for one that is not there, "" for nothing between two dots."""
        given = [part for part in parts if part is not None]
        if all(isinstance(part, exp.Identifier) for part in given if part):
            self._add(node, [_stored(part) if part else "" for part in given], why_fixed)
        else:
            self._doubt(node, _UNKNOWN_SOURCE)

    def _add(self, node: exp.Expr, names: Sequence[str], why_fixed: str) -> None:
        if len(names) == 1:
            self._add_unqualified(node, names[0])
        elif len(names) > _LONGEST_NAME:
            self._doubt(node, f"{'.'.join(map(display_name, names))} has more parts than database.schema.table")
        else:
            key, line = key_of(name or _DEFAULT_SCHEMA for name in names), self._line(node)
            self.tables[key] = min(line, self.tables.get(key, line))
            if why_fixed or "" in names:
                self.fixed.setdefault(key, (line, why_fixed or "its name has two dots"))

    def _add_unqualified(self, node: exp.Expr, name: str) -> None:
        if name == _DUAL or _is_expression(node, name, self._scopes):
            return
        (part,) = key_of([name])
        if part not in self._unqualified:
            self._unqualified.add(part)
            is_out_of_sight = name in self._expressions
            why = (
                "the WITH that defines it cannot be read there" if is_out_of_sight else "the session decides what it is"
            )
            reason = f"table {part} has no schema, and {why}"
            self.unclear.append(Unclear(self._line(node), reason, f"Write schema.{part}", part))

    @cached_property
    def _expressions(self) -> set[str]:
        """The names of all common table expressions."""
        return {name for cte in self._query.find_all(exp.CTE) if (name := _name_of(cte)) is not None}

    def _doubt(self, node: exp.Expr, reason: str) -> None:
        self.unclear.append(Unclear(self._line(node), reason, _NAME_THIS))

    def _line(self, node: exp.Expr) -> int:
        """Return the line of a node; for a variable, a node without a line, the line of its first FROM."""
        starts = [part.meta["start"] for part in node.walk() if "start" in part.meta]
        if not starts:
            variable = re.search(rf"(?i)(?:\bfrom|\bjoin|,)\s*[$:?]{re.escape(node.name)}", self._sql)
            starts = [variable.end() if variable else 0]
        return bisect_left(self._line_ends, min(starts)) + 1


def _line_at(sql: str, offset: int) -> int:
    return sql.count("\n", 0, offset) + 1


def _stored(identifier: exp.Identifier) -> str:
    return identifier.name if identifier.quoted else identifier.name.upper()


def _is_string(node: object) -> bool:
    return isinstance(node, exp.RawString) or (isinstance(node, exp.Literal) and node.is_string)


def _names_in(text: str) -> list[str]:
    """Return the stored names of a qualified name in a text; "" for nothing between two dots.

    Raises:
        ValueError: It is no name.
    """
    database, dots, table = text.strip().partition("..")
    if dots:
        return [*stored_names(database), "", *stored_names(table)]
    return list(stored_names(database))


def _is_stage(node: object) -> bool:
    # https://docs.snowflake.com/en/user-guide/querying-stage
    return isinstance(node, exp.Var | exp.Literal) and node.name.startswith("@")


def _is_no_table(node: object) -> bool:
    """Return whether rows come from a function, a stage or a query; the tables of a query are found by themselves."""
    while isinstance(node, exp.Dot):
        node = node.expression
    return isinstance(node, _NO_TABLE) and not isinstance(node, _SCALARS)


class _Scopes:
    """Which common table expressions can be read where, by the place of the first of each name in its WITH."""

    def __init__(self) -> None:
        self._places: dict[int, dict[str, int]] = {}

    def has(self, at: exp.Expr, below: exp.Expr, name: str, *, is_repeated: bool) -> bool:
        """Return whether `at` lets `below` read a common table expression of this name."""
        if isinstance(at, exp.CTE):
            return is_repeated and _name_of(at) == name
        if isinstance(at, exp.With):
            place = self._places_in(at).get(name)
            return place is not None and (below.index is None or place < below.index)
        with_ = at.args.get("with_")
        return with_ is not None and with_ is not below and name in self._places_in(with_)

    def _places_in(self, with_: exp.Expr) -> dict[str, int]:
        if id(with_) not in self._places:
            names = map(_name_of, reversed(with_.expressions))
            last = len(with_.expressions) - 1
            self._places[id(with_)] = {name: last - place for place, name in enumerate(names) if name is not None}
        return self._places[id(with_)]


def _is_expression(node: exp.Expr, name: str, scopes: _Scopes) -> bool:
    """Return whether a name without a schema is a common table expression where it stands.

    One can be read by the later ones of its WITH, by the query below, and by itself in what follows its first UNION ALL.
    https://docs.snowflake.com/en/sql-reference/constructs/with
    """
    below, at, is_repeated = node, node.parent, False
    while at is not None:
        if scopes.has(at, below, name, is_repeated=is_repeated):
            return True
        if _is_union_all(at):
            is_repeated = is_repeated or below.arg_key == "expression"
        elif not isinstance(at, exp.Subquery):
            is_repeated = False
        below, at = at, at.parent
    return False


def _is_union_all(node: object) -> bool:
    return isinstance(node, exp.Union) and not node.args.get("distinct")


def _name_of(cte: exp.Expr) -> str | None:
    alias = cte.args.get("alias")
    return _stored(alias.this) if alias is not None and isinstance(alias.this, exp.Identifier) else None
