"""The settings at the head of a table file: where they stand, and the YAML in them, read as the author wrote it.

PyYAML reads YAML 1.1. That makes 1122 of 02142, 750 of 12:30 and True of yes. Here a value without quotes is a number, true,
false or null only as YAML 1.2 has them (https://yaml.org/spec/1.2.2/#103-core-schema), a date or a timestamp only in full ISO
8601, and text otherwise. A number keeps its digits.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import yaml

Location = tuple[str | int, ...]
"""The keys and indexes that lead to a value, as in `("checks", "unique", 0)`."""

# What Snowflake reads as one unit: no comment begins and no statement ends inside one.
# https://docs.snowflake.com/en/sql-reference/data-types-text
_COMMENT, _UNCLOSED, _WHOLE_WORD = r"--[^\n]* | //[^\n]* | /\*.*?\*/", r"/\*.*", "[A-Za-z_][A-Za-z0-9_$]*"
_QUOTED = r"""'(?:[^'\\]|\\.|'')*' | "(?:[^"]|"")*" | \$\$.*?\$\$"""
SQL_UNIT = re.compile(
    rf"""
    (?P<comment> {_COMMENT} )
  | (?P<unclosed> {_UNCLOSED} )
  | (?P<quoted> {_QUOTED} )
  | (?P<semicolon> ; )
  | (?P<word> {_WHOLE_WORD} )
  | (?P<space> \s+ )
  | (?P<other> . )
    """,
    re.DOTALL | re.VERBOSE,
)
# The same for semicolons alone, in a twentieth of the time: what lies between two signs that may begin something is one piece.
# A word stays whole, since it may hold a $.
_SEMICOLON = re.compile(
    rf"""
    (?P<semicolon> ; )
  | {_COMMENT} | {_UNCLOSED} | {_QUOTED}
  | (?: {_WHOLE_WORD}+ | [^A-Za-z_;'"$/\-]+ )+
  | .
    """,
    re.DOTALL | re.VERBOSE,
)
# The word alone: elt_users is another, and so is the name of the command run-elt.
_WORD = r"(?<!\w)(?<!run-)elt(?!\w)"
# Tabs at the end of its line and before the closing word are no part of the YAML, which refuses them.
_OPENING = re.compile(rf"/\*\s*{_WORD}(?!-)(?:[ \t]*(?=[\r\n]))?", re.IGNORECASE)
_CLOSING = re.compile(rf"{_WORD}\s*\*/", re.IGNORECASE)
_LIKE_SETTINGS = re.compile(rf"\W*{_WORD} | .*{_WORD}\W*\Z", re.IGNORECASE | re.DOTALL | re.VERBOSE)
# Without the word: what only a check can be.
_CHECKS = "row_count|row_count_change|changes|usual|unique|not_null|accepted_values|matches|range|freshness|relationship|source_freshness|sql"
_UNMARKED = re.compile(
    rf"""^[\ \t/*\#-]* ( checks\s*:[\s/*\#\-{{]*(?:{_CHECKS})\s*: | primary_key\s*:[ \t\w\["',\]]+$ )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
# What all of these have in them, case-folded. Of primary_key, the part that no other letter folds into.
_MENTIONED = ("elt", "checks", "mary_key")
_SHOWN_LENGTH = 60


def first_semicolon(sql: str) -> int | None:
    """Return the offset of the first semicolon outside of quotes and comments, None if there is none."""
    if ";" not in sql:
        return None
    return next((piece.start() for piece in _SEMICOLON.finditer(sql) if piece.lastgroup), None)


@dataclass(frozen=True)
class FrontMatter:
    """Where the settings of a file stand.

    Attributes:
        start: Offset of the comment that they are.
        yaml_start: Offset of the YAML.
        yaml: The YAML.
        end: Offset behind the comment: the SQL begins here.
    """

    start: int = 0
    yaml_start: int = 0
    yaml: str = ""
    end: int = 0


class MisplacedSettingsError(ValueError):
    """Settings that would be read as a comment.

    Attributes:
        offset: Where they begin.
    """

    def __init__(self, message: str, *, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def find_front_matter(text: str) -> FrontMatter:
    """Return where the settings stand: the first comment, or the one after comments and blank lines alone.

    Raises:
        MisplacedSettingsError: They never end, or a comment before them looks like settings too.
    """
    for unit in SQL_UNIT.finditer(text):
        if opening := _OPENING.match(text, unit.start()):
            require_no_settings(text[: unit.start()], subject="file ")
            return _from_opening_to_closing(text, opening)
        if unit.lastgroup not in ("space", "comment"):
            break
    return FrontMatter()


def _from_opening_to_closing(text: str, opening: re.Match[str]) -> FrontMatter:
    closing = _CLOSING.search(text, opening.end())
    content = text[opening.end() : closing.start()] if closing else ""
    if closing is None or _OPENING.search(content):
        raise MisplacedSettingsError(
            "front matter requires an end, got none. Close it with elt */", offset=opening.start()
        )
    content = content.rstrip(" \t")
    return FrontMatter(opening.start(), opening.end(), content, closing.end())


def require_no_settings(sql: str, *, at: int = 0, subject: str = "") -> None:
    """Refuse a comment that looks like settings, wherever it stands in a SQL text: its checks would not run.

    Raises:
        MisplacedSettingsError: It begins or ends with the word elt, in any spelling; or it declares checks without the word.
    """
    folded = sql.casefold()
    if not any(word in folded for word in _MENTIONED):
        return
    units = SQL_UNIT.finditer(sql)
    for is_comment, run in itertools.groupby(units, lambda unit: unit.lastgroup in ("comment", "unclosed", "space")):
        if is_comment:
            _require_comments(list(run), at=at, subject=subject)


def _require_comments(run: Sequence[re.Match[str]], *, at: int, subject: str) -> None:
    """Refuse settings in comments that follow each other: settings in -- are one comment a line."""
    text, start = "".join(unit.group() for unit in run), run[0].start()
    for unit in run:
        if _LIKE_SETTINGS.match(unit.group()) and unit.lastgroup != "space":
            rule = "a comment that begins or ends with the word elt besides the settings"
            raise _misplaced(subject, rule, unit.group(), offset=at + unit.start())
    if found := _UNMARKED.search(text):
        rule = "checks in a comment without the word elt"
        raise _misplaced(subject, rule, text[found.start(1) :], offset=at + start + found.start(1))


def _misplaced(subject: str, rule: str, comment: str, *, offset: int) -> MisplacedSettingsError:
    shown = " ".join(comment[: 2 * _SHOWN_LENGTH].split())[:_SHOWN_LENGTH]
    return MisplacedSettingsError(
        f"{subject}cannot have {rule}, got {shown!r}. It would be a comment, and no check in it would run. Settings stand once, "
        "before the SQL, between /* elt and elt */; word another comment differently.",
        offset=offset,
    )


@dataclass(frozen=True)
class Fault:
    """What is wrong with the YAML.

    Attributes:
        line: Line of the YAML, from 0.
        message: What is required, what was found, what to do.
    """

    line: int
    message: str


@dataclass
class Settings:
    """What a YAML text says.

    Attributes:
        values: The settings by key.
        lines: Line of every key and item, from 0.
        faults: What cannot be what the author meant.
    """

    values: dict[str, Any] = field(default_factory=dict[str, Any])
    lines: dict[Location, int] = field(default_factory=dict[Location, int])
    faults: list[Fault] = field(default_factory=list[Fault])


def read_settings(text: str, *, subject: str = "front matter", takes_null: bool = False) -> Settings:
    """Return what a YAML text says; whatever is wrong is in it, and nothing is raised.

    Args:
        text: The YAML.
        subject: What messages call it.
        takes_null: Whether `null` is a value. An empty value is a fault all the same.
    """
    found = _placed(text, takes_null=takes_null)
    faults = [replace(fault, message=fault.message.replace("front matter", subject, 1)) for fault in found.faults]
    return Settings(found.values, found.lines, faults)


def _placed(text: str, *, takes_null: bool) -> Settings:
    try:
        found = _read(text, takes_null=takes_null)
    except RecursionError:
        return Settings(faults=[Fault(0, "front matter is too large or nested too deeply. Write it shorter.")])
    # YAML ends lines at more signs than editors do.
    if _OTHER_BREAK.search(text) is None:
        return found
    starts = [0, *(unit.end() for unit in _LINE_BREAK.finditer(text))]
    lines = [text.count("\n", 0, start) for start in starts]
    faults = [replace(fault, line=lines[fault.line]) for fault in found.faults]
    return Settings(found.values, {at: lines[line] for at, line in found.lines.items()}, faults)


def _read(text: str, *, takes_null: bool) -> Settings:
    try:
        node = _compose(text)
    except yaml.MarkedYAMLError as error:
        return Settings(faults=[_not_yaml(text, _line_of(error), str(error.problem))])
    except yaml.reader.ReaderError as error:
        # Its position counts bytes where PyYAML is built with C.
        line = len(_LINE_BREAK.findall(text, 0, max(text.find(chr(error.character)), 0)))
        return Settings(faults=[_not_yaml(text, line, "a character that YAML refuses")])
    except yaml.YAMLError:
        return Settings(faults=[_not_yaml(text, 0, "something else")])
    if node is None:
        return Settings()
    if not isinstance(node, yaml.MappingNode):
        message = "front matter requires `key: value` lines, got something else. Write one setting a line."
        return Settings(faults=[Fault(node.start_mark.line, message)])
    reader = _Reader(text, takes_null=takes_null)
    values: dict[str, Any] = reader.value(node, ())
    return Settings(values, reader.lines, reader.faults)


def _line_of(error: yaml.MarkedYAMLError) -> int:
    # A quote, a bracket or a key that never ends is missed far behind the place where it begins.
    context, problem = error.context or "", error.problem or ""
    begins = "expected" in problem and ("scanning" in context or "flow" in context)
    mark = (error.context_mark if begins else None) or error.problem_mark
    return mark.line if mark else 0


def _not_yaml(text: str, line: int, problem: str) -> Fault:
    lines = _LINE_BREAK.split(text)
    shown = lines[line].strip()[:_SHOWN_LENGTH] if line < len(lines) else ""
    got = re.sub("^(but )?found ", "", re.sub("^(did|could) not find expected", "no", problem.rstrip(".")))
    got = re.sub("<(.*?)>", r"\1", got)
    if "escape" in problem:
        return Fault(
            line,
            f"front matter requires YAML, got {got} at {shown!r}. In double quotes YAML reads the backslash. Put the value in "
            "single quotes.",
        )
    if shown:
        got = f"{got} at {shown!r}"
    if line < len(lines) and _TAB.match(lines[line]):
        return Fault(
            line,
            f"front matter requires YAML, got a tab before {shown!r}. YAML takes no tab for indentation. Put spaces in its place.",
        )
    return Fault(
        line,
        f"front matter requires YAML, got {got}. Two usual causes: a value with a colon or another sign of YAML's needs "
        "quotes, as in description: 'a: b'; keys of one level need the same indentation, in spaces.",
    )


_TAB = re.compile(r" *\t")

# In C where PyYAML is built with it.
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL, _BOOL, _INT, _FLOAT, _TIMESTAMP, _STR = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "timestamp", "str")
)
_CLOCK, _ZONE = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?", r"[Zz]|[-+][0-9]{2}(?::?[0-9]{2})?"
_IMPLICIT: tuple[tuple[str, str, str], ...] = (
    # Tag, what the whole value is, its first characters. 02142 is text: as a number it would lose its zero.
    (_NULL, r"~|null|Null|NULL|", "~nN"),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_INT, r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        _FLOAT,
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?",
        "-+.0123456789",
    ),
    (
        _TIMESTAMP,
        rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:[Tt\ ]{_CLOCK}\ ?(?:{_ZONE})?)?",
        "0123456789",
    ),
)


# What a node is where nothing tells more: https://yaml.org/spec/1.2.2/#103-core-schema
_TAGS: Mapping[type[yaml.Node], str] = {
    yaml.ScalarNode: _STR,
    yaml.SequenceNode: "tag:yaml.org,2002:seq",
    yaml.MappingNode: "tag:yaml.org,2002:map",
}


class _Loader(_BASE):
    """Composes nodes with the tags of YAML 1.2; `_Reader` makes values of them."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's attribute

    # PyYAML calls both for every node, and they do something where tags depend on paths. Here none does.
    def descend_resolver(self, current_node: yaml.Node | None, current_index: Any) -> None:
        """Leave it out."""

    def ascend_resolver(self) -> None:
        """Leave it out."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        """Return the tag of a node without one, as PyYAML does, but that a value of text is told by its first character."""
        if kind is yaml.ScalarNode and implicit[0]:
            for tag, pattern in self.yaml_implicit_resolvers.get(value[:1], ()):
                if pattern.match(value):
                    return tag
        return _TAGS[kind]


_PATTERNS = {tag: re.compile(rf"(?:{pattern})\Z", re.VERBOSE) for tag, pattern, _ in _IMPLICIT}
for _tag, _, _first in _IMPLICIT:
    _Loader.add_implicit_resolver(_tag, _PATTERNS[_tag], list(_first))
_Loader.yaml_implicit_resolvers[""] = [(_NULL, re.compile(r"\Z"))]


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _number(text: str) -> int | Decimal | str:
    """Return a number with all its digits; one that no column could hold stays text."""
    try:
        if text[:2] in ("0x", "0o"):
            return int(text, 0)
        return int(text) if text.lstrip("+-").isdigit() else Decimal(text)
    except (ValueError, ArithmeticError):
        return text


def _instant(text: str) -> date | datetime | str:
    """Return a date or a timestamp; a day that no calendar has stays text."""
    try:
        return date.fromisoformat(text) if len(text) == len("2030-01-01") else datetime.fromisoformat(_iso(text))
    except ValueError:
        return text


def _iso(text: str) -> str:
    return text[:10] + "T" + text[11:].replace(" ", "").upper()


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    _NULL: lambda _: None,
    _BOOL: lambda text: text.lower() == "true",
    _INT: _number,
    _FLOAT: _number,
    _TIMESTAMP: _instant,
    _STR: str,
}
_PLAIN_NUMBER = re.compile(r"0|-?[1-9][0-9]*|-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9]")
# YAML takes these for ends of lines: https://yaml.org/spec/1.2.2/#54-line-break-characters
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_OTHER_BREAK = re.compile("\r(?!\n)|[\x85\u2028\u2029]")
_MOST_VALUES = 100_000
_CUT = re.compile(r"\s+#[^\s#]")
# A column without a type may be left empty; what stands here is compared with the rows as it is written.
_MAY_BE_EMPTY, _COMPARED, _QUERIES = "columns", ("checks", "accepted_values"), ("checks", "sql")


class _Reader:
    """Makes values of nodes, and notes where they stand and what cannot be meant."""

    def __init__(self, text: str, *, takes_null: bool) -> None:
        # As YAML counts them, for what stands behind a value.
        self._text = _LINE_BREAK.split(text)
        self._takes_null = takes_null
        self.lines: dict[Location, int] = {}
        self.faults: list[Fault] = []
        self._open: set[int] = set()
        self._read = 0

    def value(self, node: yaml.Node, at: Location) -> Any:
        """Return what a node stands for."""
        self._read += 1
        if self._read > _MOST_VALUES:
            # Some values that stand for lists of each other (*) make millions.
            raise RecursionError
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, at)
        if id(node) in self._open:
            self._note(node, "front matter cannot hold a value that contains itself (*). Write it out.")
            return None
        self._open.add(id(node))
        try:
            return self._mapping(node, at) if isinstance(node, yaml.MappingNode) else self._sequence(node, at)
        finally:
            self._open.remove(id(node))

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, Any]:
        self._require_no_tag(node)
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            # Keys are names: `no: int` is a column NO, and not False.
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            here = (*at, key)
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(key_node, "a key requires text, got a list or a mapping. Quote it.")
            elif key == "<<" and not key_node.style:
                self._note(
                    key_node, "front matter cannot merge with <<: YAML 1.2 has no merge keys. Write the keys out."
                )
            elif here in self.lines:
                self._note(key_node, f"key {key!r} requires one value, got a second. Keep one of them.")
            self.lines[here] = key_node.start_mark.line
            if node.flow_style and _is_part_of_a_value(key_node, value_node, is_query=at[:2] == _QUERIES):
                name = ".".join(map(str, here))
                self._note(
                    key_node,
                    f"{name} requires a value, got none. Write one; or quote the value before it: inside of {{}}, a comma or a brace "
                    "ends a value without quotes.",
                )
                continue
            values[key] = self.value(value_node, here)
        return values

    def _sequence(self, node: yaml.Node, at: Location) -> list[Any]:
        self._require_no_tag(node)
        values: list[Any] = []
        for index, item in enumerate(node.value):
            self.lines[*at, index] = item.start_mark.line
            values.append(self.value(item, (*at, index)))
        return values

    def _scalar(self, node: yaml.ScalarNode, at: Location) -> Any:
        text, make = str(node.value), _SCALARS.get(node.tag)
        if make is None or (node.tag in _PATTERNS and not _PATTERNS[node.tag].match(text)):
            # A tag of the author's: !!bool yes.
            self._note(
                node, f"front matter cannot have the tag {_tag_of(node)}, got {text[:_SHOWN_LENGTH]!r}. Leave it out."
            )
            return None
        self._require_no_cut(node, text)
        value = make(text)
        is_null = self._takes_null and bool(text)
        if value is None and not is_null and not (len(at) == 2 and at[0] == _MAY_BE_EMPTY and not text):  # noqa: PLR2004 - columns, its name
            self._note(node, _empty(at, text, takes_null=self._takes_null))
        elif at[:2] == _COMPARED and not isinstance(value, str):
            self._require_what_is_written(node, text, value)
        return value

    def _require_no_cut(self, node: yaml.ScalarNode, text: str) -> None:
        """`Orders #1` is Orders and a comment."""
        if node.style or not text:
            return
        rest = "".join(self._text[node.end_mark.line : node.end_mark.line + 1])[node.end_mark.column :]
        if _CUT.match(rest):
            shown = f"{text} {rest.strip()}"[:_SHOWN_LENGTH]
            self._note(
                node,
                f"a value cannot hold # without quotes, got {shown!r}. YAML reads what follows as a comment. Quote the value, or "
                "put a space behind the # of a comment.",
            )

    def _require_what_is_written(self, node: yaml.ScalarNode, text: str, value: Any) -> None:
        """A value to compare with must not be another one than what it looks like: 1.10 is not 1.1 in a column of text."""
        if isinstance(value, date):
            got, other = "a date", ""
        elif isinstance(value, bool):
            got, other = f"{str(value).lower()}", f", or write {str(value).lower()}"
        else:
            plain = _plain(value)
            got, other = f"the number {plain[:_SHOWN_LENGTH]}", f", or write {plain[:_SHOWN_LENGTH]}"
        if isinstance(value, date) or not (_PLAIN_NUMBER.fullmatch(text) or text in ("true", "false")):
            self._note(
                node,
                f"checks.accepted_values requires values that are what they look like, got {text[:_SHOWN_LENGTH]}, read as "
                f"{got}. Quote it: '{text[:_SHOWN_LENGTH]}'{other}.",
            )

    def _require_no_tag(self, node: yaml.Node) -> None:
        if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            self._note(node, f"front matter cannot have the tag {_tag_of(node)}. Leave it out.")

    def _note(self, node: yaml.Node, message: str) -> None:
        self.faults.append(Fault(node.start_mark.line, message))


def _is_part_of_a_value(key: yaml.Node, value: yaml.Node, *, is_query: bool) -> bool:
    """Return whether a value without quotes was cut: `{type: number(10, 2)}` has a key `2)`, and a query the key `table`."""
    is_empty = isinstance(value, yaml.ScalarNode) and not value.value and not value.style
    is_plain = isinstance(key, yaml.ScalarNode) and not key.style
    return is_empty and is_plain and (is_query or not re.fullmatch(r"[^\W\d]\w*", str(key.value)))


def _plain(number: int | Decimal) -> str:
    """Return a number with all its digits, without an exponent and without zeros at its end."""
    text = f"{number:f}" if isinstance(number, Decimal) else str(number)
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _tag_of(node: yaml.Node) -> str:
    return str(node.tag).replace("tag:yaml.org,2002:", "!!")


def _empty(at: Location, text: str, *, takes_null: bool) -> str:
    name = ".".join(map(str, at))
    if text:
        return f"{name} requires a value, got {text}. YAML reads that as no value. Quote it: '{text}', or remove it."
    null = " NULL is null." if takes_null else ""
    return f"{name} requires a value, got none. Write one, or remove the line.{null}"


def nearest_line(location: tuple[str | int, ...], lines: Mapping[Location, int]) -> int:
    """Return the line of the innermost part of `location` that has one."""
    for length in range(len(location), 0, -1):
        if location[:length] in lines:
            return lines[location[:length]]
    return 1
