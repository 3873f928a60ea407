"""The regular expressions that Snowflake takes, and those that only other engines take.

Patterns are POSIX extended regular expressions with the backslash sequences d, D, s, S, w, W, b and B of Perl, without
non-greedy quantifiers: https://docs.snowflake.com/en/sql-reference/functions-regexp. What POSIX does not have (groups that
begin with (?, back-references, classes of Unicode) is refused, though an engine may take some of it: a pattern that it does not
take would fail when the table is audited.
"""

import re
from dataclasses import dataclass

_LARGEST_REPETITION = 1_000
# What begins at a place of a pattern. ] is a sign of its own where it comes first in brackets; possessive, or it could be taken
# for the end after all.
_PIECE = re.compile(
    r"""
    (?P<escape> \\. )
  | (?P<bracket> \[\^?+\]?+(?: \[:\^?\w*:\] | \\. | [^\]] )*+\] )
  | (?P<group> \(\? (?: <?[=!] | P?<\w* | P=\w*\)? | \w*[:)] | . )? )
  | (?P<repeat> (?: [*+?] | \{\d*(?:,\d*)?\} ) )
  | (?P<open> \( ) | (?P<close> \) ) | (?P<either> \| ) | (?P<anchor> [\^$] )
  | (?P<unclosed> \[ | \\ )
  | (?P<other> . )
    """,
    re.DOTALL | re.VERBOSE,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_CLASSES = frozenset(
    {"alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word"}
    | {"xdigit"}
)
_LETTERS = frozenset("dDsSwWbBntrfv")
_SPACES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_GROUPS = {
    "(?=": "a lookahead",
    "(?!": "a negative lookahead",
    "(?<=": "a lookbehind",
    "(?<!": "a negative lookbehind",
    "(?:": "a group that is not captured",
    "(?P": "a named group",
    "(?<": "a named group",
    "(?>": "an atomic group",
    "(?#": "a comment",
    "(?(": "a condition",
}
_INSTEAD = "Snowflake takes POSIX patterns. "
_BY_QUERY = "Write a pattern without it, or a check in checks.sql"


@dataclass(frozen=True)
class _Piece:
    kind: str
    text: str
    at: int

    @property
    def shown(self) -> str:
        return f"{self.text[:20]!r} at character {self.at + 1}"


def require_posix(pattern: str) -> None:
    """Refuse a pattern that Snowflake does not take.

    Raises:
        ValueError: With the construct, where it is, and what to write instead.
    """
    if control := _CONTROL.search(pattern):
        raise ValueError(
            f"cannot have a control character, got {control.group()!r} at character {control.start() + 1}. In double quotes "
            "YAML makes it of \\b. Write the pattern in single quotes"
        )
    pieces = [_Piece(m.lastgroup or "other", m.group(), m.start()) for m in _PIECE.finditer(pattern)]
    depth = 0
    previous = _Piece("start", "", 0)
    for piece in pieces:
        _refuse_what_posix_lacks(piece)
        if piece.kind == "repeat":
            _require_something_to_repeat(piece, previous)
        depth += {"open": 1, "close": -1}.get(piece.kind, 0)
        if depth < 0:
            raise ValueError(f"requires a ( for every ), got {piece.shown}")
        previous = piece
    if depth:
        raise ValueError("requires a ) for every (, got a pattern that ends before")


def _refuse_what_posix_lacks(piece: _Piece) -> None:
    if piece.kind == "unclosed":
        missing = "a ] for every [" if piece.text == "[" else "a sign behind a backslash"
        raise ValueError(f"requires {missing}, got {piece.shown}")
    if piece.kind == "group":
        name = next((_GROUPS[start] for start in _GROUPS if piece.text.startswith(start)), "a flag")
        remedy = "Write ( instead" if piece.text == "(?:" else _BY_QUERY
        raise ValueError(f"cannot have {name}, got {piece.shown}. {_INSTEAD}{remedy}")
    if piece.kind == "escape":
        _require_known_escape(piece.text, piece)
    if piece.kind == "bracket":
        _require_known_bracket(piece)


def _require_known_escape(escape: str, piece: _Piece, allowed: frozenset[str] = _LETTERS) -> None:
    sign = escape[1]
    if sign.isdigit():
        raise ValueError(f"cannot have a back-reference, got {escape!r} in {piece.shown}. {_INSTEAD}{_BY_QUERY}")
    if (sign.isalpha() or not sign.isascii()) and sign not in allowed:
        known = ", ".join(f"\\{letter}" for letter in "dDsSwWbB")
        raise ValueError(
            f"cannot have {escape} in a pattern, got {piece.shown}. Snowflake takes {known} besides POSIX. {_BY_QUERY}"
        )


def _require_known_bracket(piece: _Piece) -> None:
    inside = piece.text[1:-1].removeprefix("^")
    if unknown := re.search(r"\[:[^\]:]*[^\w\]:^][^\]:]*:\Z", inside):
        raise ValueError(
            f"requires a class of POSIX's, as in [[:alpha:]], got {unknown.group() + ']'!r} in {piece.shown}"
        )
    signs: list[str] = []
    for part in re.finditer(r"\[:(\^?\w*):\]|\[[.=]|\\.|.", inside, re.DOTALL):
        text = part.group()
        if part[1] is not None and part[1].lstrip("^") not in _CLASSES:
            raise ValueError(f"requires a class of POSIX's, as in [[:alpha:]], got {text!r} in {piece.shown}")
        if text in ("[.", "[="):
            raise ValueError(f"cannot have a collating element, got {piece.shown}. {_BY_QUERY}")
        if len(text) == 2:  # noqa: PLR2004 - a backslash and a sign
            _require_known_escape(text, piece, _LETTERS - {"b", "B"})
        signs.append(text)
    _require_ranges_of_signs(signs, piece)


def _require_ranges_of_signs(signs: list[str], piece: _Piece) -> None:
    """Require that ranges ascend, from one sign to another. POSIX does not say what a class at an end means, and engines refuse one."""
    at = 0
    while at + 2 < len(signs):
        low, dash, high = signs[at : at + 3]
        first, last = _sign(low), _sign(high)
        # Behind a class, - is a sign.
        if dash != "-" or first is None:
            at += 1
            continue
        if last is None:
            raise ValueError(
                f"requires a sign at the end of a range, got {low}-{high} in {piece.shown}. Write - first in the brackets for the sign"
            )
        if first > last:
            raise ValueError(f"requires ranges that ascend, got {low}-{high} in {piece.shown}")
        at += 3


def _sign(text: str) -> str | None:
    """Return the sign that a part of brackets stands for; None for a class."""
    if len(text) == 1:
        return text
    return _SPACES.get(text[1], None if text[0] == "[" or text[1].isalpha() else text[1])


def _require_something_to_repeat(piece: _Piece, previous: _Piece) -> None:
    if previous.kind == "repeat":
        kind = {"?": "a non-greedy quantifier", "+": "a possessive quantifier"}.get(
            piece.text, "two quantifiers in a row"
        )
        got = f"{previous.text + piece.text!r} at character {previous.at + 1}"
        raise ValueError(f"cannot have {kind}, got {got}. {_INSTEAD}The whole value is matched: one quantifier will do")
    if previous.kind in ("start", "open", "either", "anchor"):
        raise ValueError(f"requires something to repeat before a quantifier, got {piece.shown}")
    if piece.text.startswith("{"):
        low, _, high = piece.text[1:-1].partition(",")
        if not low or int(low) > _LARGEST_REPETITION or (high and not int(low) <= int(high) <= _LARGEST_REPETITION):
            raise ValueError(
                f"requires a repetition as {{2}}, {{2,}} or {{2,5}}, up to {_LARGEST_REPETITION:,}, got {piece.shown}"
            )
