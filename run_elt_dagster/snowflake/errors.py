"""What Snowflake's errors say: which parts of them are names and which are values. Pure."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from run_elt_dagster.snowflake.error_templates import (
    DATA_TEMPLATES,
    PLACEHOLDER,
    STATEMENT_TEMPLATES,
    Template,
    vocabulary,
)

HIDDEN = "…"
# A longer text is not compared with templates: no value is that long, and the comparison would take long.
TEMPLATE_LIMIT = 40_000
# What the rows that a statement reads can make it fail with: data conversion, functions, loading.
# https://docs.snowflake.com/en/sql-reference/functions/try_cast
DATA_ERRORS = range(100000, 200000)
# What the connector says of the network and of signing in; it has seen no row yet. The 252000s convert rows.
# https://github.com/snowflakedb/snowflake-connector-python/blob/main/src/snowflake/connector/errorcode.py
CLIENT_ERRORS = (range(250000, 252000), range(290000, 300000), range(390000, 391000))

_IDENTIFIER = r'(?:"(?:[^"\n]|""){1,255}"|[$@~]?[^\W\d][\w$-]{0,255}|\$\d{1,4})'
_NAME = rf"{_IDENTIFIER}(?:\.{{1,2}}{_IDENTIFIER}){{0,4}}"
_TYPE = r"[A-Z][A-Z_]{1,30}(?:\[\w{1,10}\])?(?:\([\d, ]{1,20}\))?(?:\{[a-z ]{1,30}\})?"
# What may stand before a name that is missing or there already. Words alone do not do: `Numeric value 'Jane'` has some too.
# https://docs.snowflake.com/en/sql-reference/sql/show
_KINDS = (
    "account|aggregation policy|alert|api integration|application|authentication policy|catalog integration|column|"
    "compute pool|connection|cortex search service|data metric function|database|database role|dataset|directory table|"
    "dynamic table|event table|external access integration|external function|external table|external volume|"
    "failover group|file format|function|git repository|hybrid table|iceberg table|image repository|integration|"
    "join policy|listing|managed account|masking policy|materialized view|model|network policy|network rule|"
    "notebook|notification integration|object|package|packages policy|password policy|pipe|policy|primary key|"
    "privacy policy|procedure|projection policy|replication group|resource monitor|role|row access policy|schema|"
    "secret|security integration|semantic view|sequence|service|session|session policy|share|snapshot|stage|"
    "storage integration|stored procedure|stream|streamlit|table|tag|task|user|user function|view|warehouse"
)
_KEPT = {
    "name": _NAME,
    "token": rf"(?:{_NAME}|<EOF>|[^\s\w'\"]{{1,3}})",
    "expression": r"[\w$.\"*+/<>=!|, ()-]{1,300}",
    "type": _TYPE,
    "types": rf"(?:{_TYPE}|unknown)(?:, (?:{_TYPE}|unknown)){{0,30}}",
    "number": r"\d{1,20}",
    "kind": rf"(?i:{_KINDS})",
    "words": r"[A-Za-z_][A-Za-z_/]{0,30}(?: [A-Za-z_/]{1,30}){0,5}",
    "path": r"[^'\"\n]{1,1000}",
}

# What comes before the sentence. Its lines and positions count from the start of the statement.
_ANNOUNCEMENT = re.compile(
    r"""\s*(?:
        (?P<code>\d{6})\ \(\w{5}\):\ (?:(?:[0-9a-f]{8}-[0-9a-f-]{20,40}|None):\ )?
      | SQL\ (?:compilation|execution|execution\ internal|access\ control)\ error:
      | error\ line\ (?P<line>\d{1,9})\ at\ position\ (?P<position>\d{1,9})
      | Uncaught\ exception\ of\ type\ '[A-Z_]{1,40}'\ on\ line\ \d{1,9}\ at\ position\ \d{1,9}\ ?:
      | Failure\ during\ expansion\ of\ view\ '"""
    + _NAME
    + r"""':
      | (?:Binder|Catalog|Parser)\ Error:  # DuckDB, of the embedded Snowflake
    )\s*""",
    re.VERBOSE,
)
_IN_A_BODY = re.compile(rf"expansion of view '(?P<view>{_NAME})'|Uncaught exception")
_POSITION = re.compile(r" line (\d{1,9}) at position (\d{1,9})(?= (?P<what>unexpected|near) )")
# Where a loaded row was, and how to go on: a file's name may be a value, and the rest says nothing of the cause.
_LOADED_FROM = re.compile(r"\n\s*File '[\s\S]*\Z")
_DUCKDB = re.compile(r"(?:Binder|Catalog|Parser) Error:")
# An apostrophe inside a word opens nothing, but for a binary literal's.
_OPENING = re.compile(r"""(?<!\w)(?:[xX]?'|`|"(?![A-Za-z_][A-Za-z0-9_$.]*"))|[\[{]""")
_ANY_OPENING = re.compile(r"""(?<!\w)(?:[xX]?'|["`])|[\[{]""")
_CLOSING = "'\"`]}"
# What such a word announces is a name also where no template knows the sentence: a row has none of these.
_ANNOUNCING = (
    "(?:column|database|feature|file format|function|identifier|integration|monitor|object|parameter|pipe|policy|procedure|"
    "role|schema|sequence|share|stage|stream|table|tag|task|type|view|warehouse)"
)
_NAMED = re.compile(
    rf"""[^'"`\[{{:]*\b(?i:{_ANNOUNCING}(?:[ ]name)?)[ ]'(?:{_NAME}|[A-Z]+(?:[ ][A-Z]+){{1,4}})(?:\((?:{_KEPT["types"]})?\))?'(?![\w'])"""
)
# A row's value may stand without quotes: after the word for it, or as a number too long for a position or a time-out.
_BARE_VALUE = re.compile(
    r"(?<=\bvalue )[^\s'\"`\[{]+|(?<==)\s?[^\s'\"`\[{]+|(?<![\w$.(,])[-+]?\d[\w.:/+-]{4,}", re.IGNORECASE
)


@dataclass(frozen=True)
class Sentence:
    """A sentence of an error, without row values.

    Attributes:
        text: As Snowflake says it, without what announces it.
        line: Line of the statement, from 1; None if it names none.
        position: Position in that line, from 0; None if it names none.
        lead: What came before it, such as `SQL compilation error:` and a line end.
    """

    text: str
    line: int | None = None
    position: int | None = None
    lead: str = ""

    @property
    def told(self) -> str:
        """The sentence without its position and the full stop at its end."""
        short = _POSITION.sub(lambda match: "," if match["what"] == "unexpected" else "", self.text, count=1)
        view = _IN_A_BODY.search(self.lead)
        where = f" in view {view['view']}" if view and view["view"] else ""
        return short.strip().removesuffix(".") + where


def sentences(text: str, errno: int | None = None) -> tuple[Sentence, ...]:
    """Return what an error of Snowflake says, without the row values that it quotes.

    Args:
        text: The error's text, with or without its number.
        errno: Its number, None if unknown.
    """
    line, position, at = None, None, 0
    while (match := _ANNOUNCEMENT.match(text, at)) and match.end() > at:
        errno = int(match["code"]) if errno is None and match["code"] else errno
        # A position in the SQL of a view or of a procedure is none in the statement.
        if match["line"] and not _IN_A_BODY.search(text[:at]):
            line, position = int(match["line"]), int(match["position"])
        at = match.end()
    lead, body = text[:at], text[at:]
    if errno is not None and any(errno in known for known in CLIENT_ERRORS):
        return (Sentence(body, line, position, lead),)
    if (whole := _matched(body.strip(), DATA_TEMPLATES)) is not None:
        return (Sentence(whole, line, position, lead),)
    # A procedure fails with a number of its own, whatever failed in it.
    if (errno is not None and errno in DATA_ERRORS) or "Uncaught exception" in lead:
        return (Sentence(_known_words(_without_quotes(body, _ANY_OPENING)), line, position, lead),)
    return tuple(_statement_sentences(body, Sentence("", line, position, lead)))


def _statement_sentences(body: str, first: Sentence) -> Iterator[Sentence]:
    """Yield the lines of an error about the statement; after one that no template knows, none is trusted."""
    lead, line, position = first.lead, first.line, first.position
    # DuckDB's names of the embedded Snowflake are in double quotes; Snowflake's values may be.
    opening = _OPENING if _DUCKDB.search(lead) else _ANY_OPENING
    lines = body.split("\n")
    for number, here in enumerate(lines):
        while announced := _ANNOUNCEMENT.match(here):
            if announced["line"]:
                line, position = int(announced["line"]), int(announced["position"])
            lead, here = lead + announced.group(), here[announced.end() :]  # noqa: PLW2901 - what is left of it
        end = "\n" if number + 1 < len(lines) else ""
        if not here.strip():
            lead += here + end
            continue
        if at := _POSITION.search(here):
            line, position = int(at[1]), int(at[2])
        known = _matched(here.strip(), STATEMENT_TEMPLATES)
        if known is None:
            rest = here + end + "\n".join(lines[number + 1 :])
            yield Sentence(_without_values(rest, opening), line, position, lead)
            return
        yield Sentence(known, line, position, lead)
        lead, line, position = end, None, None


def _matched(text: str, templates: tuple[Template, ...]) -> str | None:
    """Return the text of the first template that it has as a whole, without values; None if it has none."""
    if len(text) > TEMPLATE_LIMIT:
        return None
    # As it is first: a value may look like the place that COPY names behind its errors.
    for said, template in itertools.product(dict.fromkeys([text, _LOADED_FROM.sub("", text)]), templates):
        pattern, kept = _compiled(template.text)
        if match := pattern.fullmatch(said):
            return "".join(match[part] if part.startswith("p_") else part for part in kept) + match["stop"]
    return None


@cache
def _compiled(template: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """Return the pattern of a template, and its parts: literal text, groups to keep, and what stands for a value."""
    pattern, parts = "", list[str]()
    for number, piece in enumerate(PLACEHOLDER.split(template)):
        if number % 2 == 0:
            pattern += re.escape(piece)
            parts.append(piece)
        elif piece == "value":
            pattern += r"[\s\S]*"
            parts.append(HIDDEN)
        else:
            pattern += f"(?P<p_{number}>{_KEPT[piece]})"
            parts.append(f"p_{number}")
    return re.compile(pattern + r"(?P<stop>\.?)"), tuple(parts)


def _without_values(text: str, opening: re.Pattern[str]) -> str:
    """Return an error about the statement that no template knows: with the names that a kind announces, without values."""
    at = 0
    while len(text) <= TEMPLATE_LIMIT and (named := _NAMED.match(text, at)):
        at = named.end()
    rest = _without_quotes(text[at:], opening)
    return _without_bare_values(text[:at]) + _without_bare_values(rest)


def _without_bare_values(text: str) -> str:
    return _BARE_VALUE.sub(lambda match: match.group() if _is_known(match.group()) else HIDDEN, text)


def _without_quotes(text: str, opening: re.Pattern[str]) -> str:
    """Return a text that no template knows without what is behind a colon and without what is in quotes or brackets.

    From the first that opens to the last that closes: a value may have quotes and line ends inside.
    """
    head, colon, _ = text.partition(":")
    quoted = opening.search(head)
    if quoted is None:
        return f"{head}: {HIDDEN}" if colon else head
    last = max(text.rfind(sign) for sign in _CLOSING)
    start = head[: quoted.start()]
    if last <= quoted.start():
        return f"{start}{HIDDEN}"
    # A colon may be inside or outside of the quotes: what follows it cannot be told from a value.
    return f"{start}{quoted.group()}{HIDDEN}{text[last]}{'' if colon else text[last + 1 :]}"


def _known_words(text: str) -> str:
    """Return a text with the words that errors of Snowflake are made of; any other may be a row's."""
    known = [word if _is_known(word) else HIDDEN for word in text.split()]
    shown = [word for number, word in enumerate(known) if word != HIDDEN or known[number - 1 : number] != [HIDDEN]]
    return " ".join(shown)


def _is_known(word: str) -> bool:
    bare = word.strip("'\"`()[]{}.,;:" + HIDDEN)
    return not bare or bare.lower() in vocabulary()
