"""The messages about late tables. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from run_elt_dagster.alerts.blocks import (
    HEADER_LIMIT,
    Block,
    Message,
    Style,
    button,
    clean,
    code_text,
    cut,
    date_text,
    escape,
    everybody,
    in_brackets,
    mentions,
    name_text,
    names_text,
    place,
    plain_message,
    say,
    section,
)
from run_elt_dagster.alerts.late_ledger import Lateness, LateTable
from run_elt_dagster.alerts.runbook import LATE, PATH
from run_elt_dagster.runs.freshness import Watched

TABLES_SHOWN = 15
_WORDS_LIMIT = 600


def late_message(lateness: Lateness, watched: Mapping[str, Watched], *, style: Style) -> Message:
    """Return the first message about a lateness, in its present state.

    Args:
        lateness: Which tables, and why.
        watched: What they declare, by name.
        style: Links, mentions and secrets.
    """
    is_open = bool(lateness.late)
    title = clean(_title(lateness))
    owners = _owners(lateness.tables, watched)
    lines = [
        _paged_line(lateness, owners, style),
        *_table_lines(lateness, watched, style),
        f"*Cause:* {say(lateness.words, style, _WORDS_LIMIT)}.",
        mentions(owners, style) if is_open else "",
        f"*Next:* {say(lateness.next_step, style, _WORDS_LIMIT)} Runbook: {_runbook(style)}." if is_open else "",
    ]
    body = "\n".join(filter(None, lines))
    blocks: list[Block] = [
        {"type": "header", "text": {"type": "plain_text", "text": cut(title, HEADER_LIMIT), "emoji": True}},
        section(body),
    ]
    if where := place(style):
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": where}]})
    if style.webserver_url:
        blocks.append({"type": "actions", "elements": [_asset_button(next(iter(lateness.tables)), style)]})
    text = "\n".join(filter(None, [f"*{escape(title)}*", body, place(style)]))
    return Message(cut(text, 3000), tuple(blocks))


def more_message(lateness: Lateness, tables: Sequence[str], watched: Mapping[str, Watched], *, style: Style) -> Message:
    """Return the reply about more tables that are late for the same cause."""
    owners = [owner for name in tables if name in watched for owner in watched[name].owners]
    text = (
        f":hourglass: {len(tables):,} more {'tables are' if len(tables) > 1 else 'table is'} late for the same cause, "
    )
    text += f"{len(lateness.tables):,} by now: {names_text(tables, style)}.{in_brackets(style)}"
    return plain_message("\n".join(filter(None, [text, mentions(owners, style)])))


def page_message(lateness: Lateness, watched: Mapping[str, Watched], *, style: Style) -> Message:
    """Return the reply that pages, for the channel too: tables have been late for as long as their files allow."""
    owners = _owners(lateness.late, watched)
    since = min(lateness.tables[name].since for name in lateness.late)
    lines = [
        f":rotating_light: {everybody(owners, style)}*Still late: {names_text(lateness.late, style)}*",
        f"It pages: {say(lateness.paged_for, style, _WORDS_LIMIT)}. Late since {_date(since)}.",
        mentions(owners, style),
    ]
    return plain_message("\n".join(filter(None, lines)) + in_brackets(style))


def failed_and_late_message(lateness: Lateness, watched: Mapping[str, Watched], *, style: Style) -> Message:
    """Return the reply in the thread of the failed run that made tables late: the cause is told there."""
    lines = [f":hourglass: *{escape(clean(_words(lateness)))} by now*", *_table_lines(lateness, watched, style)]
    return plain_message(
        "\n".join([*lines, f"*Cause:* {say(lateness.words, style, _WORDS_LIMIT)}.{in_brackets(style)}"])
    )


def fresh_message(lateness: Lateness, watched: Mapping[str, Watched], *, style: Style) -> Message:
    """Return the reply when no table of the lateness is late any more: it was built, or its file asks for no age any more."""
    again = [name for name in lateness.tables if name in watched]
    gone = [name for name in lateness.tables if name not in watched]
    lines = [
        f":large_green_circle: In time again: {names_text(again, style)}." if again else "",
        f":white_circle: Without `fresh_within` by now: {names_text(gone, style)}." if gone else "",
    ]
    return plain_message("\n".join(filter(None, lines)) + in_brackets(style))


def _title(lateness: Lateness) -> str:
    return f"🟠 {_words(lateness)}" if lateness.late else f"🟢 In time again: {_named(lateness)}"


def _words(lateness: Lateness) -> str:
    names = list(lateness.tables)
    if len(names) > 1:
        return f"{len(names):,} tables are late, and readers see old rows"
    has_rows = lateness.tables[names[0]].rows_at is not None
    return f"{names[0]} is late, and readers see {'old rows' if has_rows else 'no rows'}"


def _named(lateness: Lateness) -> str:
    first, *others = lateness.tables
    return f"{first} and {len(others):,} more" if others else first


def _owners(names: Iterable[str], watched: Mapping[str, Watched]) -> list[str]:
    return [owner for name in names if name in watched for owner in watched[name].owners]


def _paged_line(lateness: Lateness, owners: Sequence[str], style: Style) -> str:
    """Return since when it pages; empty if it does not."""
    if not lateness.paged_at:
        return ""
    called = everybody(owners, style) if lateness.late else ""
    since = _date(lateness.paged_at)
    return f":rotating_light: {called}Pages since {since}: {say(lateness.paged_for, style, _WORDS_LIMIT)}."


def _table_lines(lateness: Lateness, watched: Mapping[str, Watched], style: Style) -> Iterator[str]:
    tables = list(lateness.tables.items())
    for name, table in tables[:TABLES_SHOWN]:
        rule = watched[name].rule.words if name in watched else "not watched any more"
        yield f"*{name_text(name, style)}:* {_rows(table, style)} · {escape(rule)} · late since {_date(table.since)}"
    if len(tables) > TABLES_SHOWN:
        yield f"and {len(tables) - TABLES_SHOWN:,} more tables"


def _rows(table: LateTable, style: Style) -> str:
    rows = f"rows of {_date(table.rows_at)}" if table.rows_at is not None else "never published"
    return f"{rows} · partition `{code_text(table.missing, style)}` is missing" if table.missing else rows


def _date(at: float) -> str:
    return date_text(datetime.fromtimestamp(at, UTC))


def _runbook(style: Style) -> str:
    return (
        f"<{style.runbook_url}#{LATE.anchor}|{LATE.title}>"
        if style.runbook_url
        else f"{PATH}#{LATE.anchor} ({LATE.title})"
    )


def _asset_button(name: str, style: Style) -> Block:
    path = "/".join(quote(part.encode("utf-8", "replace"), safe="") for part in name.split("."))
    return button("Open the asset", f"{style.webserver_url}/assets/{path}", "asset")
