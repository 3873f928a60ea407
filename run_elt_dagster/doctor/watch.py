"""An outside watch: looks at a deployment by `run-elt doctor`, and posts to Slack by itself when something fails.

The alerts of failed runs come from the code location's sensors. Where that is not loaded, or no daemon runs, they say nothing:
so the watch runs neither in the code server nor in the daemon, and needs neither a table file nor settings that are right.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from run_elt_dagster.alerts.blocks import HEADER_LIMIT, Message, clean
from run_elt_dagster.alerts.posting import Outcome, post
from run_elt_dagster.alerts.receivers import Letter, Receiver, receivers_of, send
from run_elt_dagster.alerts.receivers_text import cut, plain_text
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.doctor.finding import Finding, failed
from run_elt_dagster.model.names import RUN_ID_CHARACTERS
from run_elt_dagster.redaction import redact
from run_elt_dagster.settings import reachable_settings, secret_values

# No sign-in to Snowflake: it could lock the user and start the warehouse, and a run that cannot sign in alerts by itself.
SECTIONS = ("installation", "dagster")
DOCTOR_SECONDS = 300
# A message about the same checks for another reason comes no sooner: some reasons read differently each time.
CHANGED_SECONDS = 900
TEXT_LIMIT = 2000

News = Literal["", "failed", "again", "recovered"]


@dataclass(frozen=True)
class State:
    """What was posted so far, kept in a file.

    Attributes:
        since: When it was first found that something fails, in seconds since 1970; 0 if nothing does.
        told_at: When the last message about it got through, 0 if none did.
        told: What that message was about: names of checks, each with its reason without numbers.
    """

    since: float = 0
    told_at: float = 0
    told: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Watch:
    """Where the state is kept, and how patient the watch is.

    Attributes:
        state: The file.
        again_seconds: After what time a lasting failure is posted again.
        confirm_seconds: After what time a failure is checked again before it is posted.
        look: Returns what the doctor has found.
        clock: The time in seconds since 1970.
        wait: Waits so many seconds.
    """

    state: Path
    again_seconds: float
    confirm_seconds: float
    look: Callable[[], Sequence[Finding]]
    clock: Callable[[], float] = time.time
    wait: Callable[[float], object] = time.sleep

    def once(self, say: Callable[[str], object]) -> bool:
        """Look, and post what is new; return whether nothing fails and nothing is left to be told. Safe to repeat.

        Args:
            say: Takes a line for the log.
        """
        state = read_state(self.state)
        problems = _failed(self.look())
        if problems and news_of(state, problems, now=self.clock(), again_seconds=self.again_seconds):
            # What a start or a reload of a process looks like for some seconds is no news.
            self.wait(self.confirm_seconds)
            problems = _failed(self.look())
        for problem in problems:
            say(str(problem))
        now = self.clock()
        news = news_of(state, problems, now=now, again_seconds=self.again_seconds)
        message = message_of(news, problems, minutes=(now - state.since) / 60) if news else None
        is_told = message is None or _is_told(message, say, is_over=news == "recovered")
        _write_state(self.state, _next_state(state, problems, now=now, is_told=bool(news) and is_told), say)
        return is_told and not problems


def news_of(state: State, problems: Sequence[Finding], *, now: float, again_seconds: float) -> News:
    """Return what is to be posted, empty if nothing is. Pure."""
    if not problems:
        return "recovered" if state.told_at else ""
    told, reasons = state.told or {}, _reasons(problems)
    if not reasons.keys() <= told.keys():
        return "failed"
    if now - state.told_at >= again_seconds:
        return "again"
    is_changed = any(told[name] != reason for name, reason in reasons.items())
    return "failed" if is_changed and now - state.told_at >= CHANGED_SECONDS else ""


def message_of(news: News, problems: Sequence[Finding], *, minutes: float) -> Message:
    """Return the message, without secrets and as text that mentions no person."""
    _, deployment = reachable_settings()
    place = f"run_elt_dagster{f' ({deployment})' if deployment else ''}"
    if news == "recovered":
        return _message(f":large_green_circle: {place}: every check holds again, after {minutes:.0f} min.", "")
    names = ", ".join(dict.fromkeys(problem.name for problem in problems))
    still = f" still, after {minutes:.0f} min" if news == "again" else ""
    title = f":rotating_light: {place}: {names}: failed{still}"
    return _message(title, "\n".join(f"{each.name}: {each.detail}\n  -> {each.remedy}" for each in problems))


def run_doctor(*, seconds: float = DOCTOR_SECONDS) -> Sequence[Finding]:
    """Return what `run-elt doctor` finds in a process of its own; that it breaks or takes too long is a finding too."""
    # -P: the folder where it runs is no place for modules.
    command = [sys.executable, "-P", "-m", "run_elt_dagster.cli", "doctor", "--json", *SECTIONS]
    # A group of its own: what the doctor has started ends with it.
    process = subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return [failed("doctor", f"requires an answer within {seconds:.0f} s, got none.", _REMEDY)]
    try:
        return [Finding(**each) for each in json.loads(output)]
    except (ValueError, TypeError):
        said = " ".join(errors.split())[-300:] or "nothing"
        detail = f"requires a list of findings, got exit code {process.returncode}, and it said: {said}"
        return [failed("doctor", redact(detail, secrets=secret_values()), _REMEDY)]


_REMEDY = "Run run-elt doctor where the watch runs, and mend what it names."


def read_state(path: Path) -> State:
    """Return what was posted; nothing if there is no such file or it is cut off."""
    try:
        stored: Any = json.loads(path.read_text(encoding="utf-8"))
        told = {str(name): str(reason) for name, reason in (stored["told"] or {}).items()}
        return State(float(stored["since"]), float(stored["told_at"]), told)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return State()


def _write_state(path: Path, state: State, say: Callable[[str], object]) -> None:
    """Write it in one piece. Its time of change says that the watch is alive, so it is written each time."""
    draft = path.with_name(f"{path.name}.new")
    try:
        draft.write_text(json.dumps(asdict(state)), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        # Rather told twice than not at all.
        say(
            f"the state cannot be written to {path}, got {error}. The watch will post the same again. Make it writable."
        )


def _next_state(state: State, problems: Sequence[Finding], *, now: float, is_told: bool) -> State:
    if not problems:
        # A recovery that did not get through is told next time.
        return state if state.told_at and not is_told else State()
    since = state.since or now
    if not is_told:
        return State(since, state.told_at, state.told)
    return State(since, now, {**(state.told or {}), **_reasons(problems)})


def _failed(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.status == "FAIL"]


def _reasons(problems: Sequence[Finding]) -> dict[str, str]:
    """Return the reasons by check, without what differs from look to look: numbers, and ids of runs and processes."""
    reasons: dict[str, str] = {}
    for problem in problems:
        words = re.sub(rf"\b[0-9a-f]{{{RUN_ID_CHARACTERS}}}\b|\d[\d,.]*", "#", problem.detail)
        reasons[problem.name] = f"{reasons.get(problem.name, '')}{words}"
    return reasons


def _is_told(message: Message, say: Callable[[str], object], *, is_over: bool) -> bool:
    """Tell Slack and each other receiver, and return whether one of them took it: then people know."""
    alerts, _ = reachable_settings()
    slack = Slack.from_alerts(alerts).resolved()
    sent = [_is_sent(receiver, message, say, is_over=is_over) for receiver in receivers_of(alerts)]
    if not slack.is_left_out(alerts):
        sent.append(_is_posted(slack, message, say))
    return any(sent)


def _is_sent(receiver: Receiver, message: Message, say: Callable[[str], object], *, is_over: bool) -> bool:
    title, body = plain_text(message)

    def write(limit: int) -> Letter:
        text = cut(body or title, max(limit - len(title) - 2, 0))
        return Letter(title, text, "success" if is_over else "failure")

    outcome = send(receiver, write, incident="run_elt_watch", is_over=is_over)
    told = outcome.kind == "delivered"
    say(f"the receiver {receiver.name} {'took it' if told else f'did not take it, got {outcome.reason}'}")
    return told


def _is_posted(slack: Slack, message: Message, say: Callable[[str], object]) -> bool:
    if slack.missing:
        say(f"{slack.missing} not set. This goes to the log only: {message.text}")
        return False
    outcome: Outcome = post(slack.client(), slack.channel, message, run_id="")
    told = outcome.kind == "delivered"
    say(
        f"posted to channel {outcome.channel}"
        if told
        else f"not posted, got {outcome.reason.rstrip('.')}. The next look tries again."
    )
    return told


def _message(title: str, details: str) -> Message:
    secrets = secret_values()
    title, details = (clean(redact(text, secrets=secrets)) for text in (title, details))
    text = f"{title}\n{details}".strip()[:TEXT_LIMIT]
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if not details:
        return Message(escaped)
    shown = {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": details[:TEXT_LIMIT]}]}
    # Slack counts UTF-16 units.
    short = title.encode("utf-16-le", "replace")[: HEADER_LIMIT * 2].decode("utf-16-le", "ignore")
    header = {"type": "plain_text", "text": short, "emoji": True}
    return Message(escaped, ({"type": "header", "text": header}, {"type": "rich_text", "elements": [shown]}))
