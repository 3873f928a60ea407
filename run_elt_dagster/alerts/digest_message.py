"""The message of a daily digest, within Slack's limits. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from run_elt_dagster.alerts.blocks import (
    BLOCKS_LIMIT,
    HEADER_LIMIT,
    SECTION_LIMIT,
    TEXT_LIMIT,
    Block,
    Message,
    Style,
    clean,
    cut,
    date_text,
    escape,
    mentions,
    names_text,
    place,
    run_link,
    say,
    section,
    size,
    units,
)
from run_elt_dagster.alerts.digest_ledger import Digest, Line, What

NAMES_IN_LINE = 3
# How many lines, and how much of each cause; less where the whole is too long for Slack.
SHOWN = ((30, 250), (30, 80), (12, 80), (5, 40))
_TITLES: Mapping[What, tuple[str, str]] = {
    "failed": ("table was not published", "tables were not published"),
    "late": ("table is late", "tables are late"),
    "warned": ("check warns", "checks warn"),
}


def digest_message(digest: Digest, owners: Mapping[str, Sequence[str]], *, style: Style) -> Message:
    """Return the digest as it is by now.

    Args:
        digest: What it says.
        owners: The owners of the tables, by name. They are named, and not mentioned.
        style: Links and secrets.
    """
    open_ = [line for line in digest.lines if not line.over_at]
    over = [line for line in digest.lines if line.over_at]
    title = clean(_title(open_))
    named = mentions([who for line in open_ for name in line.tables for who in owners.get(name, ())], style)
    made = (_lines([*open_, *over], style, most=most, limit=limit) for most, limit in SHOWN)
    parts = ((lines, tuple(_blocks(title, lines, named, style))) for lines in made)
    lines, blocks = next((part for part in parts if size(part[1]) <= BLOCKS_LIMIT), ([], ()))
    text = "\n".join(filter(None, [f"*{escape(title)}*", *lines, named, place(style)]))
    return Message(cut(text, TEXT_LIMIT), blocks)


def _title(lines: Sequence[Line]) -> str:
    parts = [
        f"{count:,} {words[count > 1]}"
        for what, words in _TITLES.items()
        if (count := sum(len(line.tables) if what == "failed" else 1 for line in lines if line.what == what))
    ]
    return f"🗒️ Digest: {', '.join(parts)}" if parts else "🟢 Digest: all is over by now"


def _lines(lines: Sequence[Line], style: Style, *, most: int, limit: int) -> list[str]:
    shown = [(_over_line if line.over_at else _open_line)(line, style, limit) for line in lines[:most]]
    more = len(lines) - len(shown)
    return [*shown, f"and {more:,} more: the pages of the tables have them"] if more else shown


def _names(line: Line, style: Style) -> str:
    more = len(line.tables) - NAMES_IN_LINE
    return f"{names_text(line.tables[:NAMES_IN_LINE], style)}{f' and {more:,} more' if more > 0 else ''}"


def _open_line(line: Line, style: Style, limit: int) -> str:
    times = f"{line.count:,} times since {_date(line.first_at)}" if line.count > 1 else _date(line.first_at)
    run = f" · run {run_link(line.run_id, style)}" if line.run_id else ""
    paged = " · :rotating_light: has paged" if line.paged_at else ""
    return f"• *{_names(line, style)}:* {say(line.words, style, limit)} · {times}{run}{paged}"


def _over_line(line: Line, style: Style, limit: int) -> str:
    return f":large_green_circle: *{_names(line, style)}:* {say(line.words, style, limit)} · over since {_date(line.over_at)}"


def _blocks(title: str, lines: Sequence[str], named: str, style: Style) -> Iterator[Block]:
    yield {"type": "header", "text": {"type": "plain_text", "text": cut(title, HEADER_LIMIT), "emoji": True}}
    yield from map(section, _sections(lines))
    if named:
        yield section(named)
    if where := place(style):
        yield {"type": "context", "elements": [{"type": "mrkdwn", "text": where}]}


def _sections(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines in parts that a section takes."""
    part = ""
    for line in lines:
        if part and units(part) + units(line) + 1 > SECTION_LIMIT:
            yield part
            part = ""
        part = f"{part}\n{line}" if part else line
    if part:
        yield part


def _date(at: float) -> str:
    return date_text(datetime.fromtimestamp(at, UTC))
