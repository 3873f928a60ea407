"""Whom the alerts of a table concern: what its file says, and `alerts.yaml` for a folder. Pure but for reading that file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ValidationError, model_validator

from run_elt_dagster.model.fields import LocatedError, Strict, as_tuple
from run_elt_dagster.model.freshness import duration, in_words
from run_elt_dagster.model.front_matter import read_settings
from run_elt_dagster.model.local_time import QuietHours

FILE = "alerts.yaml"
Severity = Literal["page", "notify", "digest"]
# Which severities a key belongs to.
_OF_SEVERITIES: Mapping[str, tuple[Severity, ...]] = {
    "quiet": ("notify",),
    "page_after": ("notify", "digest"),
}
# The most urgent first: the first of a message's tables counts.
SEVERITIES: tuple[Severity, ...] = ("page", "notify", "digest")
# https://docs.slack.dev/reference/objects/conversation-object: public channels C..., private ones C... or G...
_CHANNEL = re.compile(r"[CG][A-Z0-9]{2,}")
# A failure is looked for during 48 h.
_LONGEST = timedelta(days=1)
_PAGE_AFTER = re.compile(
    r"(?P<failures>[2-9]|[1-9][0-9]{1,2}) failures(?: or (?P<time>[1-9][0-9]{0,4} ?[mhd]))?|(?P<only>[1-9][0-9]{0,4} ?[mhd])"
)
# As RUN_ELT_ALERT_RECEIVERS has them.
_RECEIVER = re.compile(r"[a-z][a-z0-9_-]{0,29}")
_OWNER = re.compile(r"team:.+|[^@\s]+@[^@\s]+\.[^@\s]+")


def is_owner(value: str) -> bool:
    """Return whether Dagster and an alert take it as an owner: https://docs.dagster.io/guides/build/assets/metadata-and-tags."""
    return _OWNER.fullmatch(value) is not None


def _channel(value: str) -> str:
    if not _CHANNEL.fullmatch(value):
        raise ValueError("requires the ID of a channel, as in C0123456789: a name can change")
    return value


def _owners(value: tuple[str, ...]) -> tuple[str, ...]:
    for owner in value:
        if not is_owner(owner):
            raise ValueError(f"requires e-mail addresses or team:<name>, got {owner[:100]}")
    return value


def _receivers(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("requires one name at least: an alert without a receiver could be lost")
    for name in value:
        if not _RECEIVER.fullmatch(name):
            raise ValueError(f"requires names of receivers, as RUN_ELT_ALERT_RECEIVERS has them, got {name[:100]}")
    return value


@dataclass(frozen=True)
class PageAfter:
    """When an alert that did not page does.

    Attributes:
        failures: After so many failures in a row; None if their number does not count.
        time: After it has failed for so long; None if that does not count.
    """

    failures: int | None
    time: timedelta | None

    @classmethod
    def of(cls, text: str) -> "PageAfter":
        """Return the rule of `3 failures`, `2h` or `3 failures or 2h`.

        Raises:
            ValueError: It is written otherwise.
        """
        found = _PAGE_AFTER.fullmatch(" ".join(text.split()))
        if found is None:
            raise ValueError("requires two failures or more, a time or both, as in 3 failures, 2h, or 3 failures or 2h")
        failures, times = found["failures"], found["time"] or found["only"]
        time = duration(times) if times else None
        if time is not None and time > _LONGEST:
            raise ValueError("requires a day at most")
        return cls(int(failures) if failures else None, time)

    def words(self, *, failures: int, seconds: float) -> str:
        """Return why it pages after so many failures, in so many seconds; empty if it does not."""
        if self.failures is not None and failures >= self.failures:
            return f"{failures:,} failures in a row"
        if self.time is not None and seconds >= self.time.total_seconds():
            return f"it has failed for {in_words(self.time)}"
        return ""


def _page_after(value: str) -> str:
    PageAfter.of(value)
    return value


def _quiet(value: str) -> str:
    QuietHours.of(value)
    return value


class AlertRule(Strict):
    """Where the alerts of a table go, whom they mention, and how urgent they are.

    Attributes:
        channel: ID of the channel in Slack, as in C0123456789. Without it, that of the deployment.
        owners: Who is mentioned besides `owner`: e-mail addresses or `team:<name>`.
        severity: `page` mentions the owners, so their phones ring. `notify` names them. `digest` waits for the daily digest.
            Without it, `page`.
        quiet: Hours in which a message of severity `notify` waits, with their time zone, as in `22:00-07:00 Europe/Berlin`. UTC
            without a zone.
        page_after: When an alert of severity `notify` or `digest` pages all the same: `3 failures` in a row, `2h` of failing, or
            `3 failures or 2h`.
        receivers: Which receivers of `RUN_ELT_ALERT_RECEIVERS` get its alerts, by name. Without it, all of them.
    """

    channel: Annotated[str, AfterValidator(_channel)] | None = None
    owners: Annotated[
        tuple[str, ...],
        BeforeValidator(as_tuple, json_schema_input_type=str | list[str]),
        AfterValidator(_owners),
    ] = ()
    severity: Severity | None = None
    quiet: Annotated[str, AfterValidator(_quiet)] | None = None
    page_after: Annotated[str, AfterValidator(_page_after)] | None = None
    receivers: (
        Annotated[
            tuple[str, ...],
            BeforeValidator(as_tuple, json_schema_input_type=str | list[str]),
            AfterValidator(_receivers),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _is_of_its_severity(self) -> "AlertRule":
        # Without a severity here, another file may say it.
        for key, rule in self.without_effect(self) if self.severity is not None else ():
            raise LocatedError(rule, location=(key,))
        return self

    @property
    def escalation(self) -> PageAfter | None:
        """When it pages all the same; None if it does not."""
        return PageAfter.of(self.page_after) if self.page_after is not None and self.severity != "page" else None

    @property
    def has_urgency(self) -> bool:
        """Whether it says more than where the alerts go, and whom they mention."""
        return self.severity is not None

    def over(self, other: "AlertRule") -> "AlertRule":
        """Return what this rule says, and what another one says of the rest.

        What belongs to another severity stays without effect: quiet hours of a folder hold for its tables that notify.
        """
        said = {**_said(other), **_said(self)}
        return AlertRule.model_construct(set(said), **said)

    def without_effect(self, own: "AlertRule") -> Iterator[tuple[str, str]]:
        """Yield the keys that a table itself says, and that its severity, by whatever file, leaves without effect: each with the rule.

        Args:
            own: What the table's own file says.
        """
        for key, severities in _OF_SEVERITIES.items():
            if getattr(own, key) is not None and self.severity not in severities:
                yield key, f"requires severity: {' or '.join(severities)}, got {self.severity or 'none, so page'}"

    def quiet_until(self, moment: datetime) -> datetime | None:
        """Return when its quiet hours end, if a moment is in them."""
        return QuietHours.of(self.quiet).until(moment) if self.quiet is not None and self.severity == "notify" else None


def _said(rule: AlertRule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in rule.model_fields_set}


def read_rule(path: Path) -> tuple[AlertRule, Sequence[tuple[int, str]]]:
    """Return what an `alerts.yaml` says, and what is wrong with it: each with its line. Without the file, it says nothing."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return AlertRule(), ()
    except (OSError, UnicodeDecodeError) as error:
        return AlertRule(), [
            (1, f"{FILE} requires a file in UTF-8 that can be read, got {type(error).__name__}. Mend it.")
        ]
    settings = read_settings(text, subject=FILE)
    if settings.faults:
        return AlertRule(), [(fault.line + 1, fault.message) for fault in settings.faults]
    try:
        return AlertRule.model_validate(settings.values), ()
    except ValidationError as error:
        return AlertRule(), list(_problems(error, {at: line + 1 for at, line in settings.lines.items()}))


def _problems(error: ValidationError, lines: dict[tuple[str | int, ...], int]) -> Iterator[tuple[int, str]]:
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        at = (*detail["loc"], *(cause.location if isinstance(cause, LocatedError) else ()))
        key = str(at[0])
        line = next((lines[each] for each in (at, (key,)) if each in lines), 1)
        if detail["type"] == "extra_forbidden":
            yield line, f"unknown key {key!r}. Known keys: {', '.join(AlertRule.model_fields)}."
        else:
            rule = str(detail["msg"]).removeprefix("Value error, ").replace("Input should be", "requires")
            got = "" if ", got " in rule else f", got {str(detail['input'])[:80]!r}"
            yield line, f"{key}: {rule}{got}."
