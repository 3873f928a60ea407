"""Keep secrets and row values out of what leaves the process: messages, events and logs. Pure."""

import base64
import json
import re
from collections.abc import Sequence
from urllib.parse import quote

from run_elt_dagster.snowflake.error_templates import vocabulary
from run_elt_dagster.snowflake.errors import sentences

REDACTED = "[redacted]"
# A shorter value would tear ordinary words apart, and protects nothing.
SHORTEST_SECRET = 4

# Each is linear in the text: an error may have megabytes.
_PATTERNS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
    re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}"),  # JSON web tokens
    re.compile(r"\bxox[a-z]-[\w-]{6,}|\bxapp-[\w-]{6,}"),  # Slack tokens
    re.compile(r"https://hooks\.slack\.com/\S+"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),  # AWS access keys, as in a stage's definition
    re.compile(r"\bgh[pousr]_\w{20,}"),
)
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://[^\s/:@]{0,256}:)[^\s/@]{1,512}(@)", re.IGNORECASE)
_NAMED = re.compile(
    r"""(?P<key>\b[\w-]{0,40}(?:password|passwd|secret|token|api_?key|access_?key|credentials?|aws_key_id|private_?key)\b
        (?P<sign>["']?\s{0,3}(?:=>|=|:)\s{0,3})(?:bearer\s)?)
        (?P<value>'[^']{1,4096}'|"[^"]{1,4096}"|[^\s'",;(){}]{1,4096})""",
    re.IGNORECASE | re.VERBOSE,
)
# A table, a column or a check may be called like a secret. It is one of these where such a word or a schema comes before, and a
# sentence follows: `Check user_token: got 0 rows`, `analytics.user_token: invalid identifier`.
_ANNOUNCED = re.compile(r"(?:\w\.|\b(?:check|table|column|view|object|asset|identifier)\s+)$", re.IGNORECASE)
_SENTENCE_WORDS = frozenset(
    [
        "belongs",
        "changes",
        "check",
        "columns",
        "could",
        "database",
        "failed",
        "found",
        "got",
        "new",
        "published",
        "readers",
        "role",
        "run",
        "schema",
        "signing",
        "skipped",
        "snowflake",
        "stage",
        "there",
        "whether",
    ]
)
_BEARER = re.compile(r"(\bbearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)


def redact(text: str, *, secrets: Sequence[str] = ()) -> str:
    """Return the text without secrets.

    Args:
        text: Any text.
        secrets: Values of secret settings; their base64 and URL forms, the text that JSON and Python's `repr` escape, and the lines of a
            key are found too.
    """
    for form in _forms(secrets):
        text = text.replace(form, REDACTED)
    for pattern in _PATTERNS:
        text = pattern.sub(REDACTED, text)
    text = _URL_PASSWORD.sub(rf"\g<1>{REDACTED}\g<2>", text)
    text = _BEARER.sub(rf"\g<1>{REDACTED}", text)
    return _NAMED.sub(lambda match: match.group() if _is_name(match) else f"{match['key']}{REDACTED}", text)


def _is_name(match: re.Match[str]) -> bool:
    if match["sign"] != ": " or not _ANNOUNCED.search(match.string[max(match.start() - 40, 0) : match.start()]):
        return False
    following = match.string[match.start("value") : match.start("value") + 60].split(maxsplit=2)[:2]
    # A table's name in Snowflake may follow the one that it is declared by.
    same = f".{match['key'].partition(':')[0].lower()}"
    words = [
        word.lower().strip(".,;:")
        for word in following
        if not word.replace(",", "").isdecimal() and not word.lower().endswith(same)
    ]
    return len(following) > 1 and bool(words) and words[0] in vocabulary() | _SENTENCE_WORDS


def redact_exception(error: BaseException, *, secrets: Sequence[str] = ()) -> None:
    """Redact the texts of an exception and of what caused it, in place: Dagster stores them all as an event.

    Type, traceback and chain stay, so what failed can still be told.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.args = tuple(redact(part, secrets=secrets) if isinstance(part, str) else part for part in link.args)
        for name in ("msg", "raw_msg"):
            # Snowflake's connector prints these instead of its arguments.
            if isinstance(text := getattr(link, name, None), str):
                setattr(link, name, redact(text, secrets=secrets))
        link = link.__cause__ or link.__context__


def redact_row_values(text: str, errno: int | None = None) -> str:
    """Return an error of Snowflake without the row values that it quotes; names of tables and columns stay.

    Args:
        text: The error's text.
        errno: Its number: it separates errors about a row from errors about the statement; None if unknown.
    """
    return "".join(sentence.lead + sentence.text for sentence in sentences(text, errno))


def excerpt(text: str, *, limit: int) -> str:
    """Return the head and the tail of a long text, and how much is between them."""
    if len(text) <= limit:
        return text
    # The cause is mostly at the start, and what raised it at the end.
    mark = f"\n… {len(text):,} characters in all …\n"
    room = max(limit - len(mark), 2)
    head = room * 2 // 3
    return f"{text[:head]}{mark}{text[len(text) - (room - head) :]}"[:limit]


def _forms(secrets: Sequence[str]) -> list[str]:
    forms: set[str] = set()
    for secret in secrets:
        # A byte of the environment that is no UTF-8 is half a character here, and `?` in a message.
        shown = secret.encode("utf-8", "replace").decode()
        forms |= {secret, shown, quote(shown, safe=""), base64.b64encode(shown.encode()).decode()}
        escaped = (json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret))
        forms |= {form[1:-1] for form in escaped}
        if "\n" in secret:
            forms |= {line.strip() for line in secret.splitlines() if not line.startswith("-----")}
    # The longest first, or a part of it would be replaced and its rest stay.
    return sorted((form for form in forms if len(form) >= SHORTEST_SECRET), key=len, reverse=True)
