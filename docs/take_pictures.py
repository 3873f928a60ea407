"""Take the pictures of docs/images again: `make pictures`. It needs Chromium, and a minute or two.

The pictures of the UI are taken by the tests that walk through it, so each shows what a test has found on the page. The Slack messages
are among those that a unit test compares with what is posted. Slack draws its own; here a small page of ours draws the blocks.
"""

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
TESTS = ("run_elt_dagster_tests/e2e/test_user_interface.py", "run_elt_dagster_tests/e2e/test_late_tables.py")
GOLDEN = ROOT / "run_elt_dagster_tests" / "unit" / "golden"
# The picture of each message.
MESSAGES = {
    "slack_message": "failed_check",
    "slack_changes": "failed_changes",
    "slack_group": "held_back_group",
    "slack_unusual_rows": "unusual_rows",
    "slack_late_table": "late_table",
    "slack_digest": "digest",
    "slack_paged": "paged",
}
# Not every machine has a font with it. The second half are Slack's names of emoji.
_DOTS = {
    "🔴": "#e01e5a",
    "🟢": "#2eb67d",
    "🟡": "#ecb22e",
    "🟠": "#e8912d",
    "🗒️": "#616061",
    ":large_green_circle:": "#2eb67d",
    ":rotating_light:": "#e01e5a",
    ":eyes:": "#1264a3",
}
_PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; font: 15px/1.47 "Liberation Sans", Arial, sans-serif; color: #1d1c1d; background: #fff; }}
main {{ width: 720px; padding: 20px 24px; }}
h1 {{ font-size: 18px; margin: 0 0 6px; }} p {{ margin: 0 0 8px; }}
code {{ font: 12px "DejaVu Sans Mono", monospace; color: #e01e5a; background: #f7f7f7; border: 1px solid #ddd; border-radius: 3px; padding: 1px 3px; }}
a, .mention {{ color: #1264a3; text-decoration: none; }} .mention {{ background: #e8f5fa; border-radius: 3px; padding: 0 2px; }}
.context, .drawn {{ font-size: 12px; color: #616061; }}
.drawn {{ border-top: 1px solid #ddd; padding-top: 8px; }}
.button {{ display: inline-block; border: 1px solid #bbb; border-radius: 4px; padding: 4px 12px; margin-right: 8px; font-weight: bold; }}
.dot {{ display: inline-block; width: 15px; height: 15px; border-radius: 50%; vertical-align: -2px; }}
</style><main>{blocks}<p class="drawn">{note}</p></main>"""
NOTE = "Drawn from the blocks of the message by docs/take_pictures.py. Slack's own page looks different."


def page_of(blocks: Sequence[Mapping[str, Any]], mentions: Mapping[str, str]) -> str:
    """Return a page that shows the blocks of a message.

    Args:
        blocks: As Slack takes them: https://docs.slack.dev/reference/block-kit/blocks
        mentions: What to show for a user's or a group's id.
    """
    return _PAGE.format(blocks="\n".join(_block(block, mentions) for block in blocks), note=NOTE)


def _block(block: Mapping[str, Any], mentions: Mapping[str, str]) -> str:
    if block["type"] == "header":
        return f"<h1>{_dots(html.escape(block['text']['text'], quote=False))}</h1>"
    if block["type"] == "section":
        return f"<p>{_marked(block['text']['text'], mentions)}</p>"
    if block["type"] == "context":
        return f'<p class="context">{" ".join(_marked(each["text"], mentions) for each in block["elements"])}</p>'
    if block["type"] == "actions":
        buttons = (html.escape(each["text"]["text"]) for each in block["elements"])
        return "<p>" + "".join(f'<span class="button">{text}</span>' for text in buttons) + "</p>"
    raise ValueError(f"docs/take_pictures.py cannot draw a block of type {block['type']}. Nothing was written. Add it.")


def _dots(text: str) -> str:
    for dot, colour in _DOTS.items():
        text = text.replace(dot, f'<span class="dot" style="background: {colour}"></span>')
    return text


def _marked(text: str, mentions: Mapping[str, str]) -> str:
    """Return Slack's mrkdwn as HTML.

    Slack escapes the same signs as HTML: https://docs.slack.dev/messaging/formatting-message-text
    """
    text = re.sub(r"<!date\^[^|>]*\|([^>]*)>", r"\1", text)
    text = re.sub(r"<(?:!subteam\^|@)(\w+)>", lambda found: f"\0{mentions.get(found[1], found[1])}\1", text)
    text = re.sub(r"<(https?://[^|>]+)\|([^>]*)>", r'<a href="\1">\2</a>', text)
    text = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*([^*\n]+)\*", r"<b>\1</b>", text)
    text = text.replace("\0", '<span class="mention">@').replace("\1", "</span>")
    return _dots(text).replace("\n", "<br>")


def main() -> int:
    """Take all pictures, and return the exit code: not 0 where a test has failed. Options of pytest, as `-k`, choose among them."""
    sys.path.insert(0, str(ROOT))
    from run_elt_dagster_tests.support.browser import open_page  # noqa: PLC0415 - only the pictures need Chromium

    with open_page() as page:
        for picture, name in MESSAGES.items():
            message = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
            page.set_content(page_of(message["blocks"], {"S0123": "analytics"}))
            page.locator("main").screenshot(path=IMAGES / f"{picture}.png")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", *TESTS, *sys.argv[1:]]
    environment = {
        **os.environ,
        "RUN_ELT_TESTS_SCREENSHOTS": str(IMAGES),
        "RUN_ELT_TESTS_NO_SKIP": "1",
        "RUN_ELT_TESTS_THOROUGH": "1",
    }
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode  # noqa: S603 - our own words


if __name__ == "__main__":
    sys.exit(main())
