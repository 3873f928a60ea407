"""The text and the blocks that messages are made of, as Slack takes them: escaped, cut, without secrets. Pure.

https://docs.slack.dev/reference/block-kit/blocks
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from run_elt_dagster.model.names import short_id
from run_elt_dagster.redaction import excerpt, redact
from run_elt_dagster.settings import AlertSettings

Block = dict[str, Any]

HEADER_LIMIT, SECTION_LIMIT, CONTEXT_LIMIT, TEXT_LIMIT = 150, 3000, 2000, 3000
# Slack refuses blocks over an undocumented total of about 13,200 characters as `msg_blocks_too_long`.
BLOCKS_LIMIT = 12_000
NAMES_SHOWN, NAME_LIMIT, SHORT_LIMIT = 20, 120, 200
# Redacting is linear, but there is no use in reading 10 MB for an excerpt of 2,000 characters.
CAUSE_LIMIT = 20_000

ACKNOWLEDGE, SNOOZE, SNOOZE_HOURS = "run_elt_acknowledge", "run_elt_snooze", 4

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Style:
    """What a deployment puts into every message.

    Attributes:
        webserver_url: Address of the UI without a slash at its end; None leaves out links and buttons.
        mentions: Slack's id of a user or a group, by owner.
        secrets: Values that must not appear.
        runbook_url: Address of docs/operations.md; None names the path in the repository.
        deployment: Name of the deployment, empty if it has none.
        database: Where the tables are, in words; empty if unknown.
        has_buttons: Whether a process listens to buttons.
    """

    webserver_url: str | None = None
    mentions: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: tuple[str, ...] = field(default=(), repr=False)
    runbook_url: str | None = None
    deployment: str = ""
    database: str = ""
    has_buttons: bool = False

    @classmethod
    def of(cls, settings: AlertSettings, *, secrets: tuple[str, ...]) -> "Style":
        """Return what the settings of a deployment put into every message."""
        return cls(
            settings.webserver_url,
            settings.owners,
            secrets,
            settings.runbook_url,
            settings.deployment,
            settings.database,
            settings.has_buttons,
        )


@dataclass(frozen=True)
class Message:
    """What `chat.postMessage` takes: the notification (the fallback too) and the blocks."""

    text: str
    blocks: tuple[Block, ...] = ()


def without_blocks(message: Message) -> Message:
    """Return the message as text only, for when Slack refuses its blocks."""
    return Message(text=message.text)


def clean(text: str) -> str:
    """Return text that can be sent and shown: no colours, no control characters, no lone surrogates."""
    text = _CONTROL.sub("", _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    return text.encode("utf-8", "replace").decode("utf-8")


def _window(text: str, limit: int = CAUSE_LIMIT) -> str:
    return excerpt(text, limit=max(limit, 400))


def redacted_window(text: str, style: Style, limit: int) -> str:
    """Cut only after the known secrets are out, so no half of one stays at the cut."""
    for secret in style.secrets:
        text = text.replace(secret, "[redacted]")
    return _window(text, limit)


def plain(text: str, style: Style) -> str:
    """Return text without colours, control characters and secrets."""
    return redact(clean(text), secrets=style.secrets).strip()


def say(text: str, style: Style, limit: int) -> str:
    """Return text for a sentence: plain, cut, and escaped."""
    return escape(cut(plain(text, style), limit))


def name_text(text: str, style: Style) -> str:
    """Return a name for a sentence; no asterisk in it ends the bold text around."""
    return say(text, style, NAME_LIMIT).replace("*", "")


def code_text(text: str, style: Style) -> str:
    """Return a name for a place between backticks."""
    return say(text, style, NAME_LIMIT).replace("`", "'").replace("\n", " ")


def names_text(names: Sequence[str], style: Style) -> str:
    """Return names in a line, the first of them where there are many."""
    shown = ", ".join(name_text(name, style) for name in names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown


def mentions(of: Sequence[str], style: Style) -> str:
    """Return the line that notifies the owners, each once; empty if there are none."""
    owners = list(dict.fromkeys(_mention(owner, style) for owner in of))
    more = len(owners) - NAMES_SHOWN
    shown = ", ".join(owners[:NAMES_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
    return f"*Owner{'' if len(owners) == 1 else 's'}:* {shown}" if owners else ""


def everybody(owners: Sequence[str], style: Style) -> str:
    """Return what calls who is in the channel, for a page without an owner that Slack knows: it is to wake a person."""
    return "" if any(owner in style.mentions for owner in owners) else "<!here> "


def _mention(owner: str, style: Style) -> str:
    """Return a mention that notifies, or the bare name of an owner that the configuration does not list.

    https://docs.slack.dev/messaging/formatting-message-text#mentioning-users
    """
    slack_id = style.mentions.get(owner)
    if slack_id is None:
        return name_text(owner, style)
    return f"<!subteam^{slack_id}>" if slack_id.startswith("S") else f"<@{slack_id}>"


def place(style: Style) -> str:
    """Return which deployment and which database this is about."""
    database = f"database {name_text(style.database, style)}" if style.database else ""
    return " · ".join(filter(None, [f"*{name_text(style.deployment, style)}*" if style.deployment else "", database]))


def in_brackets(style: Style) -> str:
    """Return the place in brackets, for the end of a line; empty if it is unknown."""
    return f" ({where})" if (where := place(style)) else ""


def run_link(run_id: str, style: Style) -> str:
    """Return the start of a run id, as a link where the address of the UI is known."""
    short = name_text(short_id(run_id), style)
    return f"<{run_url(run_id, style)}|{short}>" if style.webserver_url else f"`{short}`"


def run_url(run_id: str, style: Style) -> str:
    """Return the address of a run's page."""
    return f"{style.webserver_url}/runs/{quote(run_id, safe='')}"


def date_text(at: datetime) -> str:
    """Return a moment that Slack shows in the reader's time zone."""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time}}|{at:%Y-%m-%d %H:%M} UTC>"


def button(text: str, url: str, action: str) -> Block:
    """Return a button that opens an address."""
    return {
        "type": "button",
        "text": {"type": "plain_text", "text": text},
        "url": url,
        "action_id": f"run_elt_{action}",
    }


def incident_buttons(run_id: str) -> list[Block]:
    """Return the buttons of an incident's first message; `alerts.buttons` takes the clicks.

    Args:
        run_id: The first run of the incident.
    """
    texts = {ACKNOWLEDGE: "Acknowledge", SNOOZE: f"Snooze {SNOOZE_HOURS} h"}
    return [
        {"type": "button", "text": {"type": "plain_text", "text": text}, "action_id": action, "value": run_id}
        for action, text in texts.items()
    ]


def section(text: str) -> Block:
    """Return a block of text, cut to what Slack takes."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": cut(text, SECTION_LIMIT)}}


def plain_message(text: str) -> Message:
    """Return a message of one block."""
    return Message(text=cut(text, TEXT_LIMIT), blocks=(section(text),))


def with_note(message: Message, note: str) -> Message:
    """Return a message with a line behind its first; itself if the line is empty."""
    if not note:
        return message
    first, _, rest = message.text.partition("\n")
    text = cut("\n".join(filter(None, (first, note, rest))), TEXT_LIMIT)
    line: Block = {"type": "context", "elements": [{"type": "mrkdwn", "text": cut(note, CONTEXT_LIMIT)}]}
    return Message(text, (*message.blocks[:1], line, *message.blocks[1:]) if message.blocks else ())


def escape(text: str) -> str:
    """Return text in which nothing is a link or a mention: https://docs.slack.dev/messaging/formatting-message-text#escaping."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut(text: str, limit: int) -> str:
    """Cut to a number of UTF-16 units, as Slack counts, and never inside a character or an entity."""
    if units(text) <= limit:
        return text
    kept = text.encode("utf-16-le", "replace")[: (limit - 1) * 2].decode("utf-16-le", "ignore")
    return re.sub(r"&[a-z]{0,3}$|<[^<>]*$", "", kept) + "…"


def units(text: str) -> int:
    """Return a text's length in UTF-16 units, as Slack counts."""
    return len(text.encode("utf-16-le", "replace")) // 2


def size(blocks: Sequence[Block]) -> int:
    """Return how long blocks are for Slack, in UTF-16 units."""
    return units(json.dumps(blocks, ensure_ascii=False))
