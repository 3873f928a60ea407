import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from run_elt_dagster.alerts.blocks import BLOCKS_LIMIT, Message, Style
from run_elt_dagster.alerts.digest_ledger import Digest, Line
from run_elt_dagster.alerts.digest_message import digest_message
from run_elt_dagster.alerts.failure import FailedCheck, FailedTable, RunFailure
from run_elt_dagster.alerts.late_causes import NEXT, Kind
from run_elt_dagster.alerts.late_ledger import Lateness, LateTable
from run_elt_dagster.alerts.late_message import late_message
from run_elt_dagster.alerts.ledger import LedgerEntry
from run_elt_dagster.alerts.message import (
    failure_message,
    list_message,
    lost_message,
    recovery_message,
    repeat_message,
    trial_message,
)
from run_elt_dagster.alerts.notes import Acknowledgement, with_notes
from run_elt_dagster.alerts.runbook import CHECKS, ENTRIES, entries_of, entry_of
from run_elt_dagster.disk import EMBEDDED_DISK_ERRNO
from run_elt_dagster.model.checks import CHECK_MODELS
from run_elt_dagster.model.freshness import FreshWithin
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.runs.freshness import Watched

GOLDEN = Path(__file__).parent / "golden"

RUN = "8f3a01c2-0000-4000-8000-000000000000"
STYLE = Style(webserver_url="https://dagster.example.com", mentions={"team:analytics": "S0123", "a@b.c": "U0456"})
HOSTILE = "<!channel> <@U1> ``` & \x1b[31mred\x1b[0m \ud800 \u202e 😀 \x00 *bold*"


def a_table(**changes: Any) -> FailedTable:
    table = FailedTable(
        name="analytics.mau_summary",
        stage="audit",
        cause="check row_count found 0 rows, expected at least 1",
        cause_class="check row_count",
        checks=(FailedCheck("row_count", "0 rows", "at least 1 row", kind="row_count"),),
        query_id="01b2-77",
        production="Unchanged: readers still see the table published 21 Nov 2026 00:00 UTC with 7 rows.",
        owners=("team:analytics",),
        candidate="DB.ANALYTICS.TEMP_MAU_SUMMARY__8F3A01C2",
    )
    return replace(table, **changes)


LATE_TABLES = {
    "analytics.mau_summary": Watched(
        "analytics.mau_summary",
        FreshWithin(fail="26h"),  # type: ignore[arg-type]
        schedule="daily",
        owners=("team:analytics",),
    )
}


def a_lateness(**changes: Any) -> Lateness:
    built = datetime(2026, 11, 27, 0, 2, tzinfo=UTC).timestamp()
    lateness = Lateness(
        id="4d2c",
        cause="schedule off|daily",
        words="the schedule `daily` is switched off",
        next_step=NEXT[Kind.SCHEDULE_OFF],
        tables={"analytics.mau_summary": LateTable(built + 26 * 3600, built)},
    )
    return replace(lateness, **changes)


def test_10_thousand_late_tables_and_hostile_names_fit() -> None:
    tables = {f"analytics.{HOSTILE}{n}": LateTable(1.8e9, missing=HOSTILE) for n in range(10_000)}
    assert_slack_takes(late_message(a_lateness(tables=tables, words=HOSTILE * 500), {}, style=STYLE))
    style = replace(STYLE, secrets=("canary",))
    assert "canary" not in str(late_message(a_lateness(words="canary"), LATE_TABLES, style=style))


def test_digest_of_10_thousand_lines_with_hostile_names_fits() -> None:
    tables = tuple(f"analytics.{HOSTILE}{n}" for n in range(50))
    lines = [
        Line(str(n), "failed", tables, HOSTILE * 50, 1.8e9, 1.8e9, run_id=RUN, over_at=n % 2 * 1.8e9)
        for n in range(10_000)
    ]
    message = digest_message(Digest("d", "", 1.8e9, tuple(lines)), {tables[0]: [HOSTILE]}, style=STYLE)
    assert_slack_takes(message)
    assert "250,000 tables were not published" in message.text
    secret = replace(lines[0], words="canary")
    style = replace(STYLE, secrets=("canary",))
    assert "canary" not in str(digest_message(Digest("d", "", 1.8e9, (secret,)), {}, style=style))


def a_failure(*tables: FailedTable, **changes: Any) -> RunFailure:
    tables = tables or (a_table(),)
    failure = RunFailure(
        run_id=RUN,
        job="RunELT_Alert",
        failed_at=datetime(2026, 11, 22, tzinfo=UTC),
        trigger="the schedule",
        trigger_name="daily",
        summary=f"{tables[0].name} was not published"
        if len(tables) == 1
        else f"{len(tables)} tables were not published",
        tables=tables,
        stage=tables[0].stage,
    )
    return replace(failure, **changes)


def everything(message: Message) -> str:
    return message.text + json.dumps(message.blocks, ensure_ascii=False)


def assert_slack_takes(message: Message) -> None:
    assert 0 < len(message.text.encode("utf-16-le")) // 2 <= 3000
    assert len(message.blocks) <= 50
    body = json.dumps(message.blocks, ensure_ascii=False)
    body.encode("utf-8")
    assert len(body) <= BLOCKS_LIMIT
    for block in Block.parse_all(list(message.blocks)):
        block.validate_json()
        if block.type == "section":
            assert 0 < len(block.text.text) <= 3000
        if block.type == "header":
            assert len(block.text.text.encode("utf-16-le")) // 2 <= 150


def a_digest() -> Digest:
    failed = Line(
        "failed|1",
        "failed",
        ("analytics.channel_summary",),
        "Numeric value … is not recognized",
        1795813200,
        1795824000,
        count=3,
        run_id=RUN,
    )
    words = "check freshness: 31 h old, expected at most 26 h"
    warned = Line("warned|2", "warned", ("analytics.mau_summary",), words, 1795824120, 1795824120)
    tables, words = ("analytics.session_summary",), "Warehouse 'WH' was suspended"
    over = Line("failed|3", "failed", tables, words, 1795810000, 1795810000, over_at=1795822200)
    return Digest("d", "", 1795852800, (failed, warned, over))


def test_table_that_is_late_again_since_the_same_moment_is_not_over() -> None:
    late = Line("late|a.b", "late", ("a.b",), "readers see old rows, or none", 100, 100, runs=("100",))
    digest = Digest("id", "", 1.0, (replace(late, over_at=200),)).with_line(late)
    assert [(line.over_at, line.count) for line in digest.lines] == [(0, 2)]


def a_paged_run() -> dg.DagsterRun:
    """The first run of an incident that was held back, has paged, and was acknowledged."""
    entry = LedgerEntry(
        held_since=1795813200, held_for="quiet hours", paged_at=1795820400, paged_for="3 failures in a row"
    )
    tags = {**entry.tags(RUN), **Acknowledgement("Jane", 1795821000).tags(RUN)}
    return dg.DagsterRun(job_name="RunELT_Alert", run_id=RUN, tags=tags)


CHANGES = FailedCheck(
    "changes",
    "120 of 1,000 rows removed (12 %, at most 1 %); 3 rows added; 40 of 1,000 rows changed; 4 with another revenue",
    "At most 1 % removed, 5 % changed, of the rows that readers see, compared by order_id.",
    kind="changes",
)
REFUNDS = replace(
    CHANGES, got="3 of 7 rows removed (42.9 %, at most 0)", expected="At most 0 rows removed, compared by order_id."
)
GOLDENS = {
    "failed_check": lambda: failure_message(a_failure(skipped=("analytics.child",)), style=STYLE),
    "failed_changes": lambda: failure_message(
        a_failure(
            a_table(
                name="analytics.orders",
                cause=f"check changes found {CHANGES.got}",
                cause_class="check changes",
                checks=(CHANGES,),
                candidate="DB.ANALYTICS.TEMP_ORDERS__8F3A01C2",
                if_wanted="run-elt publish analytics.orders --run 8f3a01c2",
            )
        ),
        style=STYLE,
    ),
    "held_back_group": lambda: failure_message(
        a_failure(
            a_table(
                name="finance.refunds",
                cause=f"check changes found {REFUNDS.got}",
                cause_class="check changes",
                checks=(REFUNDS,),
                candidate="DB.FINANCE.TEMP_REFUNDS__8F3A01C2",
                if_wanted="run-elt publish --group finance --run 8f3a01c2",
            ),
            held_back=("finance.orders", "finance.totals"),
        ),
        style=STYLE,
    ),
    "unusual_rows": lambda: failure_message(
        a_failure(
            a_table(
                checks=(
                    FailedCheck(
                        "usual_rows", "41,020 rows on a Monday", "96,147 to 106,274 over 12 Mondays", kind="usual"
                    ),
                )
            )
        ),
        style=STYLE,
    ),
    "failed_check_third_time": lambda: failure_message(a_failure(), style=STYLE, count=3),
    "recovered": lambda: failure_message(a_failure(), style=STYLE, state="recovered", count=3),
    "failed_query_without_links": lambda: failure_message(
        a_failure(
            a_table(
                stage="build",
                checks=(),
                candidate=None,
                cause="Numeric value 'Jane Doe' is not recognized",
                cause_class="Snowflake error 100038",
                errno=100038,
            )
        ),
        style=Style(),
    ),
    "lost_process": lambda: failure_message(
        a_failure(
            a_table(
                stage="outside our code",
                cause="",
                checks=(),
                query_id=None,
                candidate=None,
                production="Unknown.",
                reason=Reason.PROCESS_LOST,
            ),
            stage="outside our code",
            summary="The run's process was lost",
            cause="Run worker unexpectedly exited",
            cause_class="killed",
            reason=Reason.PROCESS_LOST,
            trigger="the UI",
            trigger_name="",
        ),
        style=STYLE,
    ),
    "repeat": lambda: repeat_message(a_failure(), style=STYLE, count=2),
    "recovery": lambda: recovery_message(a_failure(), style=STYLE),
    "late_table": lambda: late_message(a_lateness(), LATE_TABLES, style=STYLE),
    "digest": lambda: digest_message(
        a_digest(), {"analytics.mau_summary": ["team:analytics"]}, style=replace(STYLE, mentions={})
    ),
    "paged": lambda: with_notes(failure_message(a_failure(), style=STYLE, count=3), a_paged_run(), style=STYLE),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_message_is_the_golden_one(name: str) -> None:
    message = GOLDENS[name]()
    assert_slack_takes(message)
    path = GOLDEN / f"{name}.json"
    got = json.dumps({"text": message.text, "blocks": message.blocks}, indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("RUN_ELT_TESTS_WRITE_GOLDEN"):
        path.write_text(got, encoding="utf-8")
    assert got == path.read_text(encoding="utf-8")


def test_10_mb_of_error_fits_and_takes_no_time() -> None:
    started = time.process_time()
    for tables in ([a_table(cause="x" * 10_000_000, checks=())], [a_table(cause="'" * 10_000_000 + "end", checks=())]):
        assert_slack_takes(failure_message(a_failure(*tables), style=Style(secrets=("canary",))))
    assert_slack_takes(failure_message(a_failure(tables=(), cause="eyJ" + "a" * 10_000_000), style=STYLE))
    assert time.process_time() - started < 5


def test_200_failed_tables_fit_and_are_counted() -> None:
    tables = [a_table(name=f"analytics.{'long_' * 30}{n}", cause="c" * 5000, production="p" * 900) for n in range(200)]
    message = failure_message(a_failure(*tables, skipped=tuple(f"analytics.{n}" for n in range(500))), style=STYLE)
    assert_slack_takes(message)
    assert "200 tables were not published" in message.text
    assert "and 480 more" in everything(message)


@pytest.mark.parametrize(("count", "more"), [(5, ""), (6, "; and 1 more cause*"), (5000, "; and 4,995 more causes*")])
def test_causes_beyond_the_first_five_are_counted(count: int, more: str) -> None:
    tables = [
        a_table(name=f"a.t{n}", stage="build", checks=(), cause=f"gone {n}", cause_class=f"{n}") for n in range(count)
    ]
    message = failure_message(a_failure(*tables), style=STYLE)
    assert_slack_takes(message)
    assert f"gone 4{more}" in message.text
    assert "gone 5" not in message.text


def test_text_of_several_tables_names_them_and_says_once_what_holds_for_all() -> None:
    tables = [a_table(name=f"analytics.t{n}", production="There is no published table yet.") for n in range(2)]
    text = failure_message(a_failure(*tables), style=STYLE).text
    assert "analytics.t0, analytics.t1" in text.replace("`", "")
    assert text.count("There is no published table yet.") == 1


@pytest.mark.parametrize("place", ["name", "cause", "production", "query_id", "candidate", "stage_owner", "check"])
def test_hostile_text_mentions_nobody_and_breaks_nothing(place: str) -> None:
    changes: dict[str, Any] = {place: HOSTILE}
    if place == "stage_owner":
        changes = {"owners": (HOSTILE,)}
    if place == "check":
        changes = {"checks": (FailedCheck(HOSTILE, HOSTILE, HOSTILE),)}
    message = failure_message(a_failure(a_table(**{"checks": (), **changes})), style=STYLE)
    assert_slack_takes(message)
    # In preformatted rich text and in plain text nothing is markup; everywhere else it must be escaped.
    markup = [message.text] + [block["text"]["text"] for block in message.blocks if block["type"] == "section"]
    for text in markup:
        assert "<!channel>" not in text
        assert "<@U1>" not in text
    assert "\x1b" not in everything(message)


def test_secret_is_in_no_message_wherever_it_was() -> None:
    secret = "canary-secret-value"
    table = a_table(cause=f"a {secret} b", production=secret, candidate=secret, query_id=secret, checks=())
    for failure in (a_failure(table, trigger_name=secret), a_failure(tables=(), cause=secret)):
        for message in (
            failure_message(failure, style=replace(STYLE, secrets=(secret,))),
            repeat_message(failure, style=replace(STYLE, secrets=(secret,)), count=2),
        ):
            assert secret not in everything(message)


def test_secret_at_the_cut_of_a_long_error_leaves_no_half() -> None:
    secret = "canary" * 20
    for length in range(13_000, 13_400, 40):
        cause = "x " * (length // 2) + secret + " y" * 50_000
        message = failure_message(a_failure(a_table(cause=cause, checks=())), style=replace(STYLE, secrets=(secret,)))
        assert "canary" not in everything(message)


def test_text_is_always_set() -> None:
    assert failure_message(a_failure(a_table(name="")), style=Style()).text.strip()


def test_same_failure_has_the_same_fingerprint_and_another_cause_has_not() -> None:
    first = a_failure(a_table(cause="3 duplicates", query_id="1"))
    again = a_failure(a_table(cause="4 duplicates", query_id="2"), run_id="other", trigger="the UI")
    other = a_failure(a_table(cause_class="Snowflake error 2003"))
    assert first.fingerprint == again.fingerprint != other.fingerprint


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=()), max_size=400),
    count=st.integers(1, 12),
    times=st.integers(1, 9999),
)
def test_any_text_anywhere_fits(text: str, count: int, times: int) -> None:
    table = a_table(
        name=text,
        cause=text * 50,
        production=text * 9,
        query_id=text,
        owners=(text,),
        checks=(FailedCheck(text, text, text),),
    )
    failure = a_failure(*[table] * count, skipped=(text,) * 60, summary=text + "x", trigger_name=text)
    assert_slack_takes(failure_message(failure, style=STYLE, count=times))


def test_each_stage_has_one_next_step_and_the_same_cause_is_told_once() -> None:
    wrong: dict[str, Any] = {"stage": "build", "checks": (), "candidate": None, "cause_class": "Snowflake error 904"}
    tables = [a_table(name=f"analytics.t{n}", cause="invalid identifier 'FOO'", **wrong) for n in range(5)]
    tables += [a_table(name=f"analytics.c{n}") for n in range(2)]
    message = failure_message(a_failure(*tables), style=STYLE)
    assert_slack_takes(message)
    body = json.dumps(message.blocks, ensure_ascii=False)
    assert body.count("*Next (build):*") == body.count("*Next (audit):*") == 1
    assert body.count("*Cause:* invalid identifier 'FOO'") == 1
    assert message.text.count("invalid identifier 'FOO'") == 1
    assert message.text.startswith(
        "*🔴 7 tables were not published: invalid identifier 'FOO'; Check row_count: got 0 rows"
    )


def test_production_comes_before_the_run_and_the_deployment_is_named() -> None:
    style = replace(STYLE, deployment="production", database="SALES & <co>")
    for message in (failure_message(a_failure(), style=style), repeat_message(a_failure(), style=style, count=2)):
        assert message.text.index("Unchanged: readers still see") < message.text.index("run <https://")
        assert "*production* · database SALES &amp; &lt;co&gt;" in message.text
    for message in (
        recovery_message(a_failure(), style=style),
        lost_message(RUN, style=style),
        trial_message(style=style),
    ):
        assert "*production*" in message.text


def test_owners_beyond_the_limit_are_counted() -> None:
    tables = [a_table(name=f"analytics.t{n}", owners=(f"team:t{n}",)) for n in range(23)]
    assert "team:t19 and 3 more" in failure_message(a_failure(*tables), style=STYLE).text


def test_published_table_that_fails_a_check_is_not_said_to_be_unpublished() -> None:
    table = a_table(
        was_built=False, candidate=None, cause_class="published: check row_count", production="Readers see it."
    )
    failure = replace(a_failure(table), summary="analytics.mau_summary fails check row_count")
    message = failure_message(failure, style=STYLE)
    assert message.text.startswith(
        "*🔴 analytics.mau_summary fails check row_count: got 0 rows, expected at least 1 row*"
    )
    assert "not published" not in everything(message)
    assert "run-elt rollback" in everything(message)


@pytest.mark.parametrize("name", ["accepted_values_api_key", "freshness_user_token", "unique_password"])
@pytest.mark.parametrize("was_built", [True, False])
def test_check_that_is_called_like_a_secret_says_what_it_got(name: str, was_built: bool) -> None:
    table = a_table(was_built=was_built, checks=(FailedCheck(name, "2 rows with another api_key", "at most 0 rows"),))
    message = failure_message(a_failure(table), style=STYLE)
    assert "got 2 rows with another api_key, expected at most 0 rows" in message.text
    assert "[redacted]" not in everything(message)


@pytest.mark.parametrize("url", [None, "https://git.example.com/docs/operations.md"])
def test_runbook_of_the_cause_is_named(url: str | None) -> None:
    table = a_table(stage="build", checks=(), cause="Object 'X' does not exist", errno=2003)
    shown = everything(failure_message(a_failure(table), style=replace(STYLE, runbook_url=url)))
    assert f"{url or 'docs/operations.md'}#missing-object" in shown


def test_every_part_of_the_runbook_that_a_message_names_is_in_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [entry.anchor for entry in ENTRIES if page.count(f'<a id="{entry.anchor}"></a>') != 1] == []


@pytest.mark.parametrize(
    ("stage", "errno", "anchor"),
    [
        ("build", 904, "sql"),
        ("build", 1003, "sql"),
        ("build", 100038, "row-values"),
        ("build", 90073, "quota"),
        ("build", 630, "timeout"),
        ("audit", 604, "cancelled-query"),
        ("build", 3001, "privileges"),
        ("build", 2003, "missing-object"),
        ("build", 2043, "missing-object"),
        ("build", 603, "passing-trouble"),
        ("audit", 250003, "passing-trouble"),
        ("publish", 1003, "copy-tags"),
        ("connect", 390144, "sign-in"),
        ("connect", 250001, "network"),
        ("connect", EMBEDDED_DISK_ERRNO, "embedded-disk"),
        ("publish", EMBEDDED_DISK_ERRNO, "embedded-disk"),
        ("build", None, "build"),
        ("publish", None, "publish"),
        ("outside our code", None, "outside"),
    ],
)
def test_number_of_an_error_leads_to_its_part_of_the_runbook(stage: Any, errno: int | None, anchor: str) -> None:
    assert entry_of(a_table(stage=stage, errno=errno, cause="x", checks=())).anchor == anchor


@pytest.mark.parametrize(
    ("cause", "anchor"),
    [
        ("Incorrect username or password was specified.", "sign-in"),
        ("JWT token is invalid.", "sign-in"),
        ("Your user account has been temporarily locked", "user-locked"),
        ("Role 'X' specified in the connect string does not exist or not authorized.", "missing-name"),
        ("Could not connect to Snowflake backend after 4 attempt(s).", "network"),
    ],
)
def test_failed_sign_in_without_a_number_of_its_own_is_told_by_the_words_of_snowflake(cause: str, anchor: str) -> None:
    assert entry_of(a_table(stage="connect", errno=250001, cause=cause, checks=())).anchor == anchor


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_leads_to_its_part_of_the_runbook_whatever_the_words(reason: Reason) -> None:
    table = a_table(stage="build", errno=None, checks=(), cause="check unique: password locked", reason=reason)
    assert entry_of(table).anchor == reason.value
    run = a_failure(tables=(), stage="outside our code", reason=reason)
    assert [entry.anchor for entry in entries_of(run, "outside our code")] == [reason.value]


def test_every_kind_of_check_has_one_part_of_the_runbook() -> None:
    kinds = sorted(kind for entry in CHECKS for kind in entry.kinds)
    assert kinds == sorted([*CHECK_MODELS, "primary_key", "columns", "schema_change", "partition", "increment"])


def test_check_leads_to_the_part_of_its_kind_whatever_its_name() -> None:
    named = a_table(checks=(FailedCheck("row_count", "1", "2", kind="sql"),), cause="check row_count found 1")
    assert entry_of(named).anchor == "own-check"
    assert entry_of(replace(named, was_built=False)).anchor == "published-check"
    silent = FailedCheck("a", "no answer", "1", kind="range", is_answered=False)
    assert entry_of(replace(named, checks=(*named.checks, silent))).anchor == "check-without-answer"


def test_words_are_looked_at_only_where_snowflake_gives_no_number() -> None:
    assert [(entry.anchor, entry.stages) for entry in ENTRIES if entry.pattern] == [
        ("quota", ()),
        ("sign-in", ("connect",)),
        ("user-locked", ("connect",)),
        ("missing-name", ("connect",)),
    ]


@pytest.mark.parametrize(
    "text", ["short", HOSTILE * 20, "<&>" * 400, "😀" * 500], ids=["short", "hostile", "escaped", "emoji"]
)
@pytest.mark.parametrize("url", ["https://dagster.example.com", "https://d.example.com/" + "x" * 300, None])
def test_list_shows_each_of_61_runs_within_the_limits_of_slack(text: str, url: str | None) -> None:
    failures = [
        a_failure(
            a_table(name=f"analytics.t{number}{text}", cause=text, checks=(), owners=(f"team:{number}",)),
            run_id=f"{number:08d}-0000-4000-8000-000000000000",
        )
        for number in range(61)
    ]
    message = list_message([[failure] for failure in failures], [RUN], style=replace(STYLE, webserver_url=url))
    assert_slack_takes(message)
    assert message.text.startswith("*🔴 62 more runs failed, of 62 causes*")
    shown = json.dumps(message.blocks, ensure_ascii=False)
    assert all(failure.run_id[:8] in shown for failure in failures)
    assert shown.index(failures[0].run_id[:8]) < shown.index(failures[1].run_id[:8]) < shown.index(RUN[:8])
    assert "<!channel>" not in everything(message)
    assert "<@U1>" not in everything(message)
