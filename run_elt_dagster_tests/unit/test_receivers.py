"""The receivers' addresses and texts."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from run_elt_dagster.alerts.blocks import Message, Style, button, section
from run_elt_dagster.alerts.receivers import Receiver, problem_of, receivers_of
from run_elt_dagster.alerts.receivers_delivery import Desk
from run_elt_dagster.alerts.receivers_ledger import MOST_NEWS, News, ReceiverLedger, Standing
from run_elt_dagster.alerts.receivers_text import BODY_LIMIT, letter_of, plain_text
from run_elt_dagster.alerts.scope import Alerts
from run_elt_dagster.doctor.receivers import check_receivers
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.settings import AlertSettings, Settings, secret_values
from run_elt_dagster.variables import SettingsError

SECRET = "pager=pagerduty://integration-key@api-key-0123 hook=json://user:pass-word@example.com/path?x=1"


def news(number: int, *, title: str = "", body: str = "the text", left: tuple[str, ...] = ("a",)) -> News:
    return News(f"id{number}", "failed", f"run{number}", number, title or f"title {number}", body, left)


def test_addresses_are_read_by_name_and_count_as_secrets() -> None:
    alerts = Settings.from_environment({"RUN_ELT_ALERT_RECEIVERS": f"  {SECRET}\n"}).alerts
    assert list(alerts.receiver_addresses) == ["pager", "hook"]
    assert "key" not in repr(alerts)
    assert "key" not in repr(receivers_of(alerts))
    assert set(alerts.receiver_addresses.values()) <= set(secret_values())
    assert "heartbeat-secret" in secret_values({"RUN_ELT_HEARTBEAT_URL": "heartbeat-secret"})


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("mailto://secret@example.com", "receivers apart by spaces, each with a name of its own"),
        ("a=mailto://secret@example.com a=json://secret.example.com", "each with a name of its own"),
        ("a=secret.example.com", "receivers apart by spaces"),
        ("a=json://secret.example.com/?Retry=2", "addresses without `retry`"),
        ("a=json://secret.example.com/?x=1&optional=yes", "`optional`"),
        ("a=json://secret.example.com/?overflow=split", "`overflow=split`"),
    ],
)
def test_wrong_receivers_are_refused_without_showing_them(value: str, rule: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_environment({"RUN_ELT_ALERT_RECEIVERS": value})
    assert "RUN_ELT_ALERT_RECEIVERS requires " in str(error.value)
    assert rule in str(error.value)
    assert "secret." not in str(error.value)


def test_pager_gets_the_key_of_the_incident_unless_its_address_has_one() -> None:
    plain, own = Receiver("a", "pagerduty://x@y"), Receiver("a", "pagerduty://x@y?dedup=mine")
    assert plain.about("run 1", is_over=False) == "pagerduty://x@y?dedup=run+1&action=trigger"
    assert plain.about("run 1", is_over=True).endswith("&action=resolve")
    assert own.about("run 1", is_over=True) == own.address
    assert Receiver("a", "json://x").about("run 1", is_over=True) == "json://x"


def test_nothing_of_an_address_is_in_a_problem_or_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = Receiver("a", "mailto://user-part:pass-part@?to=to-part")
    assert problem_of(wrong).startswith("a receiver requires an address that Apprise reads")
    assert problem_of(Receiver("a", "json://user-part:pass-part@host-part/path-part")) == ""
    assert caplog.records, "Apprise logs what it reads"
    assert "-part" not in caplog.text


def test_plain_text_has_no_marks_of_slack() -> None:
    blocks = (
        {"type": "header", "text": {"type": "plain_text", "text": "🔴 a.b failed: select 2 *3* 4"}},
        section(
            "*Check* `x`*:* got 1 &lt; 2 &amp;&amp; count(*) from (*)\n*Next:* <https://a.b/c|Runbook>, `run-elt show`"
        ),
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "<!date^1^{date}|2026-11-28 00:00 UTC>"}]},
        {"type": "actions", "elements": [button("Open the run", "http://x/runs/1", "run")]},
    )
    title, body = plain_text(Message("fallback", blocks))
    assert title == "a.b failed: select 2 *3* 4"
    assert body == (
        "Check x: got 1 < 2 && count(*) from (*)\nNext: Runbook (https://a.b/c), run-elt show\n2026-11-28 00:00 UTC"
        "\nOpen the run: http://x/runs/1"
    )
    long = plain_text(Message("x", (*blocks[:1], section("y" * 2900), blocks[3])))[1]
    assert len(long) <= BODY_LIMIT + 1
    assert long.endswith("…\nOpen the run: http://x/runs/1")


@pytest.mark.parametrize("limit", [40, 160, 1024, 6000])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_letter_keeps_to_the_receivers_limit(limit: int, count: int) -> None:
    letter = letter_of([news(n) for n in range(count)], attempts=0, lost=0, style=Style(), limit=limit)
    assert letter.title
    assert len(letter.title) + len(letter.text) + 2 <= limit


def test_letter_of_many_alerts_has_the_texts_of_some_and_the_titles_of_others() -> None:
    many = [news(n, body="text " * 20) for n in range(60)]
    letter = letter_of(many, attempts=2, lost=0, style=Style(), limit=6000)
    assert letter.title == "60 alerts, the newest: title 59"
    assert letter.text.startswith("1. title 0\ntext text")
    assert "\n\n8. title 7\ntext" in letter.text
    assert (
        "\n40. title 39\nand 20 more. Look at the Runs page.\n\nAlert id0, id1, id2 and 57 more\nAttempt 3:"
        in letter.text
    )
    short = letter_of(many, attempts=0, lost=0, style=Style(), limit=400).text
    assert short.startswith("1. title 0\n2. title 1\n")
    assert "\n20. title 19\nand 40 more. Look at the Runs page." in short


def test_letter_mentions_no_group_and_has_no_secret() -> None:
    one = news(1, title="@everyone <!channel>", body="near canary-7, jane@example.com, @here")
    letter = letter_of([one], attempts=0, lost=3, style=Style(secrets=("canary-7",)), limit=1000)
    assert letter.title == "@\u200beveryone <\u200b!channel>"
    assert letter.text.startswith(
        "near [redacted], jane@example.com, @\u200bhere\n\nAlert id1\n3 older alerts could not"
    )


def test_ledger_counts_what_is_too_much_to_keep_one_by_one() -> None:
    ledger = ReceiverLedger(0).standing("a", Standing(status="posting", sending=("id7",)))
    for number in range(MOST_NEWS + 500):
        ledger = ledger.added(news(number))
    assert sum(each.count for each in ledger.news) == MOST_NEWS + 500
    assert len(ledger.news) == MOST_NEWS + 1
    assert ledger.news[-1].title == f"500 more alerts, the last: title {MOST_NEWS + 499}"
    assert sum(bool(each.body) for each in ledger.news) == 30
    assert ledger.told("a", [each.id for each in ledger.news]).news == ()


def test_counts_of_what_is_too_much_stay_few_and_are_about_no_incident() -> None:
    ledger = ReceiverLedger(0)
    for number in range(MOST_NEWS + 100):
        ledger = ledger.added(news(number, left=("a",) if number % 2 else ("b",)))
    counts = [(each.what, each.of.split("-")[0], each.left, each.count) for each in ledger.news[MOST_NEWS:]]
    assert counts == [("more", "counted", ("b",), 50), ("more", "counted", ("a",), 50)]


def test_end_of_an_incident_is_never_counted_for_a_pager() -> None:
    """Counted, it would close nothing there: the incident would stay open, and somebody would be called for it."""
    ledger = ReceiverLedger(0)
    for number in range(MOST_NEWS + 1):
        ledger = ledger.added(news(number, left=("a", "pager")), pagers=["pager"])
    for number in (7, 8):
        end = replace(news(number, left=("a", "pager")), what="recovered", of=f"run{number}")
        ledger = ledger.added(end, pagers=["pager"])
    ends = [(each.of, each.left, each.body) for each in ledger.news if each.what == "recovered"]
    assert ends == [("run7", ("pager",), ""), ("run8", ("pager",), "")]
    assert [(each.left, each.count) for each in ledger.news if each.what == "more"] == [
        (("a", "pager"), 1),
        (("a",), 2),
    ]


def test_settings_without_receivers_have_none() -> None:
    assert receivers_of(AlertSettings()) == ()
    assert receivers_of(AlertSettings(receivers=SecretStr("a=json://b")))[0].kind == "json"


def test_other_locations_stay_known_though_each_tick_fails_and_keeps_no_cursor() -> None:
    desk = Desk()
    assert [desk.knows_others(None, now=now) for now in (1e9, 1e9 + 15, 1e9 + 5000)] == [False, True, False]


def test_doctor_names_the_receivers_that_files_name_in_vain(tmp_path: Path) -> None:
    (tmp_path / "sales").mkdir()
    (tmp_path / "sales" / "a.sql").write_text(
        "/* elt\nalerts: {receivers: [hook, oncal]}\nelt */ select 1 as n", encoding="utf-8"
    )
    tables = load_tables(tmp_path)
    settings = Settings(alerts=AlertSettings(receivers=SecretStr("hook=json://example.com")))
    (unknown, _) = check_receivers(settings, tables)
    assert "alerts.receivers of sales.a requires receivers of RUN_ELT_ALERT_RECEIVERS (hook), got oncal." in str(
        unknown
    )
    assert list(check_receivers(Settings(), tables)) == []


def test_alert_goes_to_the_receivers_that_its_tables_name() -> None:
    alerts = Alerts(AlertSettings(), {}, (), receivers={"s.a": ("x",), "s.b": ("y", "gone"), "s.c": ("gone",)})
    known = ("x", "y", "z")
    named = [["s.a"], ["s.b"], ["s.a", "s.b"], ["s.c"], ["s.a", "s.d"], []]
    got = [alerts.receivers_of(names, known) for names in named]
    assert got == [("x",), ("y",), ("x", "y"), known, known, known]
