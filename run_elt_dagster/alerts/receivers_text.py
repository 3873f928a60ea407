"""The plain texts that receivers get: made of the blocks of the message for Slack, so both contain the same facts. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from run_elt_dagster.alerts.blocks import Message, Style
from run_elt_dagster.alerts.receivers import TITLE_LIMIT, Letter, Mood
from run_elt_dagster.alerts.receivers_ledger import News
from run_elt_dagster.model.counted import counted
from run_elt_dagster.redaction import redact

BODY_LIMIT = 2000
# Of several alerts in one message: how many with their texts, and how many at least by their titles; fewer where the receiver takes less.
SHOWN = ((8, 40), (4, 40), (2, 40), (0, 40), (0, 20), (0, 5))
_LINK = re.compile(r"<(https?://[^|<>]+)\|([^<>]*)>")
_DATE = re.compile(r"<!date\^[^|<>]*\|([^<>]*)>")
# A label of ours is bold; an asterisk of SQL has a blank beside it, or letters before it.
_BOLD = re.compile(r"(?<![^\s`])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])")
_SIGN = re.compile(r"^(?::[a-z_]+:|[\U0001f534\U0001f7e0\U0001f7e2\u26aa])\s*")
# Some services turn these into a mention of many.
_MENTION = re.compile(r"@(?=(?:everyone|here|channel|all)\b)|<(?=[!@#])", re.IGNORECASE)
_URGENCY: tuple[Mood, ...] = ("failure", "warning", "success")
_MOODS: dict[str, Mood] = {"recovered": "success", "fresh": "success", "late": "warning"}


def plain_style(style: Style) -> Style:
    """Return a style for texts outside of Slack: owners are their names."""
    return replace(style, mentions={})


def plain_text(message: Message) -> tuple[str, str]:
    """Return a message for Slack as a title and a plain text, links at its end."""
    lines = [line for block in message.blocks for line in _lines(block)] or _plain(message.text).split("\n")
    title, *rest = [line for line in lines if line.strip()]
    links = [f"{each['text']['text']}: {each['url']}" for each in _elements(message, "actions")]
    end = "".join(f"\n{link}" for link in links)
    return _SIGN.sub("", title)[:TITLE_LIMIT], cut("\n".join(rest), BODY_LIMIT - len(end)) + end


def letter_of(news: Sequence[News], *, attempts: int, lost: int, style: Style, limit: int) -> Letter:
    """Return one message about some alerts, the oldest first.

    Args:
        news: The alerts, at least one.
        attempts: How often some of them were sent in vain.
        lost: How many alerts were never delivered before.
        style: The secrets that must not appear.
        limit: How long title and text may be together.
    """
    moods: list[Mood] = [_MOODS.get(each.what, "failure") for each in news]
    mood = min(moods, key=_URGENCY.index)
    title = (
        news[0].title
        if len(news) == 1
        else f"{sum(each.count for each in news):,} alerts, the newest: {news[-1].title}"
    )
    foot = f"\n\n{_foot(news, attempts=attempts, lost=lost)}"
    title = cut(_safe(title, style), min(TITLE_LIMIT, limit // 2))
    room = max(limit - len(title) - len(foot) - 2, 0)
    return Letter(title, (cut(_safe(_text(news, room), style), room) + foot)[: max(limit - len(title) - 2, 0)], mood)


def _text(news: Sequence[News], room: int) -> str:
    if len(news) == 1:
        return news[0].body or news[0].title
    texts = [_listed(news, whole, listed) for whole, listed in SHOWN]
    return next((text for text in texts if len(text) <= room), texts[-1])


def _listed(news: Sequence[News], whole: int, listed: int) -> str:
    parts = [f"{number}. {each.title}\n{each.body}".strip() for number, each in enumerate(news[:whole], 1)]
    titles = [f"{number}. {each.title}" for number, each in enumerate(news[whole:listed], whole + 1)]
    more = sum(each.count for each in news[listed:])
    rest = "\n".join([*titles, *([f"and {more:,} more. Look at the Runs page."] if more else [])])
    return "\n\n".join(filter(None, [*parts, rest]))


def _foot(news: Sequence[News], *, attempts: int, lost: int) -> str:
    """Return what tells a repeated message from a new one: the same alerts have the same ids."""
    ids = ", ".join(each.id for each in news[:3]) + (f" and {len(news) - 3:,} more" if len(news) > 3 else "")  # noqa: PLR2004
    lines = [f"Alert {ids}"]
    if attempts:
        lines.append(f"Attempt {attempts + 1}: an earlier one failed, and its message may have arrived all the same.")
    if lost:
        lines.append(
            f"{counted(lost, 'older alerts', 'older alert')} could not be sent to this receiver within 48 h. Look at the Runs page."
        )
    return "\n".join(lines)


def moment(at: float) -> str:
    """Return a moment for a text."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def cut(text: str, limit: int) -> str:
    """Cut a text to a number of characters."""
    return text if len(text) <= limit else f"{text[: max(limit - 1, 0)]}…"[: max(limit, 0)]


def _safe(text: str, style: Style) -> str:
    """Take out secrets that were set since the text was made, and what a service could turn into a mention."""
    return _MENTION.sub(lambda match: f"{match.group()}\u200b", redact(text, secrets=style.secrets))


def _lines(block: dict[str, Any]) -> Iterator[str]:
    match block["type"]:
        case "header":
            yield block["text"]["text"]
        case "section":
            yield from _plain(block["text"]["text"]).split("\n")
        case "context":
            yield from (_plain(each["text"]) for each in block["elements"])
        case "rich_text":
            yield from (text["text"] for each in block["elements"] for text in each["elements"])
        case _:
            return


def _elements(message: Message, kind: str) -> Iterator[dict[str, Any]]:
    for block in message.blocks:
        if block["type"] == kind:
            yield from (each for each in block["elements"] if "url" in each)


def _plain(text: str) -> str:
    text = _LINK.sub(lambda match: f"{match[2]} ({match[1]})", _DATE.sub(r"\1", text))
    text = _BOLD.sub(r"\1", text).replace("`", "")
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
