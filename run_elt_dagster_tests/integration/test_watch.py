"""When the watch tells what, and what it says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.doctor.finding import Finding, failed, ok
from run_elt_dagster.doctor.watch import Watch, message_of, read_state, run_doctor
from run_elt_dagster_tests.support.receiver_stand_in import web_hook
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, Fault, SlackStandIn, slack_stand_in

FILES = failed("table files", "/tables/a/b.sql:2: unknown key 'ownr'.", "Correct that line.")
DAEMON = failed("daemon", "requires a heartbeat every 300 s, got the last 412 s ago.", "Start it.")
WELL = ok("history", "7 runs")


class Situation:
    """A watch whose doctor finds what a test says, on a clock of its own."""

    def __init__(self, slack: SlackStandIn, directory: Path) -> None:
        self.slack, self.state = slack, directory / "state.json"
        self.now, self.said = 1_000_000.0, list[str]()
        self.looks: list[list[Finding]] = []

    def look(self, *findings: Finding, minutes: float = 5, then: list[Finding] | None = None) -> bool:
        """Look once, some minutes after the last look; `then` is what the second look finds."""
        self.now += minutes * 60
        self.looks = [list(findings), list(findings) if then is None else then]
        harness = Watch(self.state, 6 * 3600, 30, lambda: self.looks.pop(0), lambda: self.now, self._wait)
        return harness.once(self.said.append)

    def _wait(self, seconds: float) -> None:
        self.now += seconds

    @property
    def titles(self) -> list[str]:
        return [message["text"].split("\n")[0] for message in self.slack.messages]


@pytest.fixture
def situation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Situation]:
    with slack_stand_in() as slack:
        named = {"SLACK_TOKEN": TOKEN, "SLACK_CHANNEL": CHANNEL, "SLACK_BASE_URL": slack.url}
        for name, value in {**named, "RUN_ELT_DEPLOYMENT": "production"}.items():
            monkeypatch.setenv(name, value)
        yield Situation(slack, tmp_path)


def test_receivers_are_told_too_and_alone_where_slack_is_not_set(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_hook() as hook:
        monkeypatch.setenv("RUN_ELT_ALERT_RECEIVERS", f"hook={hook.hook}")
        hook.status = 500
        situation.look(FILES)
        assert len(situation.titles) == 1
        assert any(line.startswith("the receiver hook did not take it, got ") for line in situation.said)
        assert situation.look(WELL)
        monkeypatch.delenv("SLACK_TOKEN")
        monkeypatch.delenv("SLACK_CHANNEL")
        assert not situation.look(FILES)
        hook.status = 200
        assert not situation.look(FILES)
        assert situation.look(WELL)
    assert [each["type"] for each in hook.taken] == ["failure", "success"]
    assert hook.taken[0]["title"] == "run_elt_dagster (production): table files: failed"
    assert hook.taken[0]["message"].startswith("table files: /tables/a/b.sql:2: unknown key")
    assert "hook-" not in "".join(situation.said)


def test_nothing_that_fails_is_nothing_to_tell(situation: Situation) -> None:
    assert situation.look(WELL)
    assert situation.titles == []


def test_failure_is_told_once_and_its_end(situation: Situation) -> None:
    assert [situation.look(WELL, FILES), situation.look(FILES), situation.look(WELL), situation.look(WELL)] == [
        False,
        False,
        True,
        True,
    ]
    assert situation.titles == [
        ":rotating_light: run_elt_dagster (production): table files: failed",
        ":large_green_circle: run_elt_dagster (production): every check holds again, after 10 min.",
    ]


def test_failure_that_is_gone_at_the_second_look_is_not_told(situation: Situation) -> None:
    assert situation.look(DAEMON, then=[WELL])
    assert situation.titles == []


def test_failure_that_lasts_is_told_every_six_hours(situation: Situation) -> None:
    for _ in range(150):
        situation.look(DAEMON)
    assert situation.titles[1:] == [
        ":rotating_light: run_elt_dagster (production): daemon: failed still, after 360 min",
        ":rotating_light: run_elt_dagster (production): daemon: failed still, after 721 min",
    ]


def test_another_check_that_fails_is_told_at_once_and_one_less_is_not(situation: Situation) -> None:
    situation.look(DAEMON)
    situation.look(DAEMON, FILES)
    situation.look(FILES)
    assert [title.split(": ", 2)[2] for title in situation.titles] == ["daemon: failed", "daemon, table files: failed"]


def test_another_reason_of_the_same_check_is_told_but_another_number_is_not(situation: Situation) -> None:
    situation.look(DAEMON, FILES)
    later = failed("daemon", "requires a heartbeat every 300 s, got the last 1,012 s ago.", "Start it.")
    situation.look(later, FILES, minutes=20)
    assert len(situation.titles) == 1
    situation.look(later, failed("table files", "/tables/a/c.sql:9: no SQL.", "Correct that line."))
    assert "c.sql:9" in situation.slack.messages[1]["text"]


def test_what_slack_does_not_take_is_told_next_time(situation: Situation) -> None:
    situation.slack.faults = [Fault(status=503, times=1)]
    situation.look(FILES)
    assert (situation.titles, situation.said[-1]) == (
        [],
        "not posted, got Slack answered HTTP 503. The next look tries again.",
    )
    situation.look(FILES)
    situation.slack.faults = [Fault(status=503, times=1)]
    assert not situation.look(WELL)
    assert situation.look(WELL)
    assert [title.split()[0] for title in situation.titles] == [":rotating_light:", ":large_green_circle:"]


def test_recovery_of_what_nobody_was_told_is_not_told(situation: Situation) -> None:
    situation.slack.faults = [Fault(status=503, times=1)]
    situation.look(FILES)
    situation.look(WELL)
    assert situation.titles == []


def test_without_slack_the_log_has_it_and_the_exit_code_tells(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLACK_TOKEN")
    assert not situation.look(FILES)
    assert "SLACK_TOKEN not set" in situation.said[-1]
    assert "b.sql:2" in situation.said[-1]


def test_wrong_settings_do_not_keep_it_from_telling(situation: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNOWFLAKE_ACCOUNT", "half")
    monkeypatch.setenv("RUN_ELT_SLACK_OWNERS", "{")
    situation.look(failed("settings", "RUN_ELT_SLACK_OWNERS requires a JSON object", "Correct it."))
    assert len(situation.titles) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"since": "x", "told_at": 0, "told": {}}', '{"told": 1}'])
def test_state_that_cannot_be_read_is_none(situation: Situation, content: str) -> None:
    situation.state.write_text(content, encoding="utf-8")
    situation.look(FILES)
    assert len(situation.titles) == 1
    assert read_state(situation.state).told_at == situation.now


def test_state_that_cannot_be_written_is_said_and_what_fails_is_told(situation: Situation) -> None:
    situation.state.mkdir()
    situation.look(FILES)
    assert len(situation.titles) == 1
    assert "the state cannot be written" in situation.said[-1]


def test_state_is_written_at_each_look_for_the_health_check(situation: Situation) -> None:
    situation.look(WELL)
    assert situation.state.exists()


def test_message_mentions_nobody_shows_no_secret_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_TOKEN", "canary-of-slack")
    problems = [failed("settings", f"<!channel> canary-of-slack \x1b[31m & {'x' * 9000}", "Correct <it>.")] * 40
    message = message_of("failed", problems, minutes=0)
    assert "canary" not in repr(message)
    assert "<" not in message.text
    assert len(message.text) < 10_000
    (header, text) = message.blocks
    assert len(header["text"]["text"]) <= 150
    # Preformatted: there a mention is text.
    assert text["elements"][0]["type"] == "rich_text_preformatted"
    assert text["elements"][0]["elements"][0]["text"].startswith("settings: <!channel> ")


@pytest.mark.thorough
def test_command_tells_what_its_own_process_of_the_doctor_finds_without_files_and_settings_that_load(
    situation: Situation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing works: half an account, a wrong table file, a history without run monitoring and without a daemon."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    (tmp_path / "tables" / "a").mkdir(parents=True)
    (tmp_path / "tables" / "a" / "b.sql").write_text("/* elt\nownr: x\nelt */ select 1 as n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SNOWFLAKE_ACCOUNT", "half")
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(tmp_path / "tables"))
    command = ["watch", "--confirm-seconds", "0", "--state", str(situation.state)]
    assert main(command) == 1
    assert situation.titles == [
        ":rotating_light: run_elt_dagster (production): settings, run monitoring, daemon: failed"
    ]
    assert "a Snowflake account requires SNOWFLAKE_USER" in situation.slack.messages[0]["text"]
    # What nothing depends on was not asked.
    assert "connect" not in capsys.readouterr().out
    assert TOKEN not in situation.slack.everything()


def test_doctor_that_hangs_or_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (late,) = run_doctor(seconds=0.01)
    assert (late.name, late.detail) == ("doctor", "requires an answer within 0 s, got none.")
    monkeypatch.setenv("SLACK_TOKEN", "canary-of-slack")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "run_elt_dagster").mkdir()
    (tmp_path / "run_elt_dagster" / "__init__.py").write_text("raise RuntimeError('canary-of-slack')")
    (broken,) = run_doctor()
    assert (broken.name, "got exit code 1" in broken.detail, "canary" in broken.detail) == ("doctor", True, False)
