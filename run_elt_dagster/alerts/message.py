"""The message about a failed run, as Slack's Block Kit, within Slack's limits for any input. Pure.

https://docs.slack.dev/reference/block-kit/blocks
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from run_elt_dagster.alerts.failure import FailedTable, RunFailure, Stage
from run_elt_dagster.redaction import excerpt, redact, redact_row_values

Block = dict[str, Any]
State = Literal["open", "recovered"]

HEADER_LIMIT, SECTION_LIMIT, CONTEXT_LIMIT, TEXT_LIMIT = 150, 3000, 2000, 3000
# Slack refuses blocks over an undocumented total of about 13,200 characters as `msg_blocks_too_long`.
BLOCKS_LIMIT = 12_000
# https://docs.slack.dev/reference/block-kit/block-elements/button-element
URL_LIMIT = 3000
TABLES_SHOWN, NAMES_SHOWN, NAME_LIMIT = 8, 20, 120
# Redacting is linear, but there is no use in reading 10 MB for an excerpt of 2,000 characters.
CAUSE_LIMIT = 20_000
EXCERPT_LIMITS = (2400, 1200, 600, 200, 0)

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_NEXT_STEPS: Mapping[Stage, str] = {
    "connect": "Check that Snowflake is up, and the account, the role and the sign-in in the SNOWFLAKE_ variables.",
    "build": "Look the query up in Snowflake's history, correct the SQL or the grants, then materialize the table again.",
    "audit": "Look at the rejected rows in the candidate, correct the SQL or the source, then materialize the table again.",
    "publish": "Check the grants on the published table and what stands under its name, then materialize it again.",
    "clean-up": "Drop the candidate by hand; readers are not affected.",
    "outside our code": "Open the run's log, remove the cause, then materialize the tables again.",
}


@dataclass(frozen=True)
class Style:
    """What a deployment puts into every message.

    Attributes:
        webserver_url: Address of the UI without a slash at its end; None leaves out links and buttons.
        mentions: Slack's id of a user or a group, by owner.
        secrets: Values that must not appear.
    """

    webserver_url: str | None = None
    mentions: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Message:
    """What `chat.postMessage` takes: the notification, which is the fallback too, and the blocks."""

    text: str
    blocks: tuple[Block, ...] = ()


def failure_message(
    failure: RunFailure,
    *,
    style: Style,
    count: int = 1,
    state: State = "open",
) -> Message:
    """Return the alert about a failed run.

    Args:
        failure: What failed.
        style: Links, mentions and secrets.
        count: How many runs in a row failed alike.
        state: Whether the tables are published again; the message then turns green.
    """
    cause = _cause(failure, style)
    shown = (excerpt(cause, limit=limit) if limit else "" for limit in EXCERPT_LIMITS)
    candidates = (tuple(_blocks(failure, style, cause=text, count=count, state=state)) for text in shown)
    blocks = next((blocks for blocks in candidates if _size(blocks) <= BLOCKS_LIMIT), ())
    title = _title(failure, state)
    mentions = _mentions(failure, style) if state == "open" else ""
    lines = [
        f"*{_escape(title)}*",
        _repeats(count),
        mentions,
        _names([table.name for table in failure.tables], style) if len(failure.tables) > 1 else "",
        _first_line(failure, cause),
        # Said once if it holds for several.
        *dict.fromkeys(_productions(failure.tables[:3], style)),
    ]
    return Message(text=_cut("\n".join(line for line in lines if line), TEXT_LIMIT), blocks=blocks)


def repeat_message(failure: RunFailure, *, style: Style, count: int) -> Message:
    """Return the reply in the thread of the first alert, when a run failed alike again."""
    link = _run_link(failure.run_id, style)
    when = _date(failure.failed_at)
    text = f":repeat: Failed the same way again, {count} times by now: {link}, {when}, launched by {_launched(failure, style)}."
    cause = _first_line(failure, _cause(failure, style))
    return _plain_message("\n".join(filter(None, [text, cause])))


def recovery_message(failure: RunFailure, *, style: Style) -> Message:
    """Return the reply in the thread of the first alert, when every table is published again."""
    names = _names([table.name for table in failure.tables], style)
    return _plain_message(f":large_green_circle: Published again: {names or 'all tables of the run'}.")


def lost_message(run_id: str, *, style: Style) -> Message:
    """Return the alert for a run that cannot be described, so that it is heard of all the same."""
    return _plain_message(
        f":red_circle: {_run_link(run_id, style)} failed, and its events cannot be read. Open the run."
    )


def trial_message(*, style: Style) -> Message:
    """Return what `run-elt alert --test` posts."""
    where = f" Its links lead to {_escape(style.webserver_url)}." if style.webserver_url else ""
    return _plain_message(f":white_check_mark: A test of run_elt_dagster: failed runs will be reported here.{where}")


def without_blocks(message: Message) -> Message:
    """Return the message as text only, for when Slack refuses its blocks."""
    return Message(text=message.text)


def clean(text: str) -> str:
    """Return text that can be sent and shown: no colours, no control characters, no lone surrogates."""
    text = _CONTROL.sub("", _ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    return text.encode("utf-8", "replace").decode("utf-8")


def _blocks(failure: RunFailure, style: Style, *, cause: str, count: int, state: State) -> Iterator[Block]:
    yield {
        "type": "header",
        "text": {"type": "plain_text", "text": _cut(_title(failure, state), HEADER_LIMIT), "emoji": True},
    }
    lead = [_repeats(count), _mentions(failure, style) if state == "open" else ""]
    if any(lead):
        yield _section("\n".join(filter(None, lead)))
    for table in failure.tables[:TABLES_SHOWN]:
        yield _section(_table_text(table, style, alone=len(failure.tables) == 1))
    if len(failure.tables) > TABLES_SHOWN:
        yield _section(f"*and {_names([table.name for table in failure.tables[TABLES_SHOWN:]], style)}*")
    if failure.skipped:
        yield _section(f"*Not refreshed, since they read it:* {_names(failure.skipped, style)}")
    if cause:
        yield {
            "type": "rich_text",
            # Plain by construction: no mention in an error pings anybody, and no backtick ends it.
            "elements": [{"type": "rich_text_preformatted", "elements": [{"type": "text", "text": cause}]}],
        }
    if state == "open":
        yield _section(f"*Next:* {_NEXT_STEPS[failure.stage]}")
    yield {"type": "context", "elements": [{"type": "mrkdwn", "text": _cut(_context(failure, style), CONTEXT_LIMIT)}]}
    if style.webserver_url:
        yield {"type": "actions", "elements": list(_buttons(failure, style))}


def _title(failure: RunFailure, state: State) -> str:
    if state == "recovered":
        return f"🟢 Recovered: {clean(failure.summary)}"
    return f"{'⚪' if failure.cancelled else '🔴'} {clean(failure.summary)}"


def _table_text(table: FailedTable, style: Style, *, alone: bool) -> str:
    parts = [] if alone else [f"*{_name(table.name, style)}*"]
    parts.append(f"*Stage:* {table.stage}{f' · query `{_code(table.query_id, style)}`' if table.query_id else ''}")
    # A check's numbers are counts that this project measured, not values of rows.
    parts += [
        f"*Check* `{_code(check.name, style)}`*:* got {_say(check.got, style, 200)}, expected {_say(check.expected, style, 200)}"
        for check in table.checks[:5]
    ]
    parts += _productions([table], style)
    if table.candidate and table.stage == "audit":
        parts.append(f"*Rejected rows:* `{_code(table.candidate, style)}`")
    if not alone and not table.checks and table.cause:
        parts.append(f"*Cause:* {_say(redact_row_values(_window(table.cause)), style, 200)}")
    return "\n".join(parts)


def _productions(tables: Sequence[FailedTable], style: Style) -> list[str]:
    return [f"*Production:* {_say(table.production, style, 400)}" for table in tables if table.production]


def _cause(failure: RunFailure, style: Style) -> str:
    """Return the root cause in full, without secrets and row values."""
    tables = [table for table in failure.tables if table.cause]
    if not tables:
        text = _window(failure.cause)
        return _plain(redact_row_values(text) if _is_snowflake(failure) else text, style)
    share = CAUSE_LIMIT // len(tables)
    texts = [redact_row_values(_redacted_window(table.cause, style, share)) for table in tables]
    return "\n".join(
        _plain(text if len(tables) == 1 else f"{table.name}: {text}", style)
        for table, text in zip(tables, texts, strict=True)
    )


def _is_snowflake(failure: RunFailure) -> bool:
    return failure.stage in ("connect", "build", "audit", "publish", "clean-up") or "snowflake" in failure.cause.lower()


def _window(text: str, limit: int = CAUSE_LIMIT) -> str:
    return excerpt(text, limit=max(limit, 400))


def _redacted_window(text: str, style: Style, limit: int) -> str:
    """Cut only after the known secrets are out, so that no half of one stays at the cut."""
    for secret in style.secrets:
        text = text.replace(secret, "[redacted]")
    return _window(text, limit)


def _plain(text: str, style: Style) -> str:
    return redact(clean(text), secrets=style.secrets).strip()


def _first_line(failure: RunFailure, cause: str) -> str:
    checks = [check for table in failure.tables for check in table.checks]
    if checks:
        return _cut(_escape(clean(f"Check {checks[0].name}: got {checks[0].got}, expected {checks[0].expected}.")), 400)
    return _cut(_escape(cause.split("\n", 1)[0]), 400)


def _say(text: str, style: Style, limit: int) -> str:
    return _escape(_cut(_plain(text, style), limit))


def _name(text: str, style: Style) -> str:
    return _say(text, style, NAME_LIMIT).replace("*", "")


def _code(text: str, style: Style) -> str:
    return _say(text, style, NAME_LIMIT).replace("`", "'").replace("\n", " ")


def _names(names: Sequence[str], style: Style) -> str:
    shown = ", ".join(_name(name, style) for name in names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown


def _repeats(count: int) -> str:
    return f"*Failed the same way {count:,} times.*" if count > 1 else ""


def _mentions(failure: RunFailure, style: Style) -> str:
    owners = list(dict.fromkeys(_mention(owner, style) for owner in failure.owners))
    return f"*Owner:* {', '.join(owners[:NAMES_SHOWN])}" if owners else ""


def _mention(owner: str, style: Style) -> str:
    """Return a mention that notifies, or the bare name of an owner whom the configuration does not know.

    https://docs.slack.dev/messaging/formatting-message-text#mentioning-users
    """
    slack_id = style.mentions.get(owner)
    if slack_id is None:
        return _name(owner, style)
    return f"<!subteam^{slack_id}>" if slack_id.startswith("S") else f"<@{slack_id}>"


def _context(failure: RunFailure, style: Style) -> str:
    return " · ".join(
        [
            f"run {_run_link(failure.run_id, style)}",
            f"job {_name(failure.job, style)}",
            f"launched by {_launched(failure, style)}",
            _date(failure.failed_at),
        ]
    )


def _launched(failure: RunFailure, style: Style) -> str:
    return f"{failure.trigger} {_name(failure.trigger_name, style)}".strip()


def _run_link(run_id: str, style: Style) -> str:
    short = _name(run_id[:8], style)
    return f"<{_run_url(run_id, style)}|{short}>" if style.webserver_url else f"`{short}`"


def _run_url(run_id: str, style: Style) -> str:
    return f"{style.webserver_url}/runs/{quote(run_id, safe='')}"


def _date(at: datetime) -> str:
    """Return a moment that Slack shows in the reader's time zone."""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time}}|{at:%Y-%m-%d %H:%M} UTC>"


def _buttons(failure: RunFailure, style: Style) -> Iterator[Block]:
    yield _button("Open the run", _run_url(failure.run_id, style), "run")
    for table in failure.tables[:1]:
        path = "/".join(quote(part.encode("utf-8", "replace"), safe="") for part in table.name.split("."))
        url = f"{style.webserver_url}/assets/{path}"
        if len(url) <= URL_LIMIT:
            yield _button("Open the asset", url, "asset")


def _button(text: str, url: str, action: str) -> Block:
    return {
        "type": "button",
        "text": {"type": "plain_text", "text": text},
        "url": url,
        "action_id": f"run_elt_{action}",
    }


def _section(text: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": _cut(text, SECTION_LIMIT)}}


def _plain_message(text: str) -> Message:
    return Message(text=_cut(text, TEXT_LIMIT), blocks=(_section(text),))


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, limit: int) -> str:
    """Cut to a number of UTF-16 units, as Slack counts, and never inside a character or an entity."""
    if _units(text) <= limit:
        return text
    kept = text.encode("utf-16-le", "replace")[: (limit - 1) * 2].decode("utf-16-le", "ignore")
    return re.sub(r"&[a-z]{0,3}$|<[^<>]*$", "", kept) + "…"


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "replace")) // 2


def _size(blocks: Sequence[Block]) -> int:
    return _units(json.dumps(blocks, ensure_ascii=False))
