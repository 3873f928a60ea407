"""What may be published, in which order, and with whose grants, on the simulator over the real connector."""

import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.model.candidate import marker_in
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS, cases
from run_elt_dagster_tests.support.embedded import Background
from run_elt_dagster_tests.support.ended_groups import at_first
from run_elt_dagster_tests.support.local_server import METHODS, NEW, OLD, LocalServer, mau

ANNOUNCEMENT = "[run_elt publishing"
EXCHANGES = {"clone": "COPY GRANTS", "swap": "SWAP WITH", "overwrite": "INSERT OVERWRITE"}


ROW = "select 1 as k, 'a' as t, 1.5::float as f, current_date() as d, current_timestamp()::timestamp_ntz as ts"


# The check that fails, the front matter that declares it, and the rows.
BAD = [
    ("row_count", "checks: {row_count: {min: 2}}", ROW),
    ("row_count", "checks: {row_count: {max: 1}}", f"{ROW} union all {ROW}"),
    ("row_count_change", "checks: {row_count_change: {max_drop: 50%, min_rows: 1}}", ROW),
    (
        "row_count_change",
        "checks: {row_count_change: {max_growth: 10%, min_rows: 1}}",
        f"{ROW} from table(generator(rowcount => 90))",
    ),
    ("primary_key", "primary_key: k", ROW.replace("1 as k", "null as k")),
    ("primary_key", "primary_key: [k, t]", f"{ROW} union all {ROW}"),
    ("unique_k_t", "checks: {unique: [[k, t]]}", f"{ROW} union all {ROW}"),
    ("not_null", "checks: {not_null: [t, k]}", ROW.replace("'a'", "null")),
    ("accepted_values_t", "checks: {accepted_values: {t: [b, c]}}", ROW),
    ("accepted_values_k", "checks: {accepted_values: {k: [2, 3]}}", ROW),
    ("matches_t", "checks: {matches: {t: '[b-z]+'}}", ROW),
    ("matches_t", "checks: {matches: {t: a}}", ROW.replace("'a'", "'xay'")),
    ("range_k", "checks: {range: {k: {min: 2}}}", ROW),
    ("range_k", "checks: {range: {k: {max: 0}}}", ROW),
    ("range_f", "checks: {range: {f: {min: 0}}}", ROW.replace("1.5::float", "'NaN'::float")),
    ("range_d", "checks: {range: {d: {max: 2020-01-01}}}", ROW),
    ("freshness_ts", "checks: {freshness: {ts: 1}}", ROW.replace("current_timestamp()", "'2020-01-01'")),
    ("freshness_ts", "checks: {freshness: {ts: 1}}", ROW.replace("current_timestamp()", "'2999-01-01'")),
    ("freshness_ts", "checks: {freshness: {ts: 1}}", ROW.replace("current_timestamp()", "null")),
    ("relationship_k", "checks: {relationship: {k: raw_data.keys.k}}", ROW.replace("1 as k", "7 as k")),
    (
        "negative",
        "checks: {sql: {negative: 'select * from {table} where k < 0'}}",
        ROW.replace("1 as k", "-1 as k"),
    ),
    ("broken", "checks: {sql: {broken: 'select nope from {table}'}}", ROW),
    ("range_t", "checks: {range: {t: {min: 0}}}", ROW),
    ("not_null", "checks: {not_null: nowhere}", ROW),
    ("columns", "columns: {k: int, t: varchar, f: float, d: date}", ROW),
    ("columns", "columns: {k: int, t: varchar, f: float, d: date, ts: timestamp_ntz, more: int}", ROW),
    ("columns", "columns: {k: varchar, t: varchar, f: float, d: date, ts: timestamp_ntz}", ROW),
    ("columns", "columns: {k: int, t: varchar, f: float, d: timestamp, ts: timestamp_ntz}", ROW),
    ("schema_change", "schema_change: fail", f"select 1 as extra, * from ({ROW})"),
    ("schema_change", "schema_change: fail", ROW.replace("1 as k", "'1' as k")),
]


def test_bad_data_is_caught_by_its_check_and_leaves_production_alone(local_server: LocalServer) -> None:
    """All tables in one run: a server for each would cost half a second."""
    local_server.reader.sql("create table raw_data.keys as select 1 as k")
    rows = ROW.replace("1 as k", "seq4() as k") + " from table(generator(rowcount => 3))"
    for number in range(len(BAD)):
        local_server.reader.sql(f"create table analytics.t{number} comment = '[run_elt run 00000001]' as {rows}")
    bad = {f"t{number}": f"/* elt\n{checks}\nelt */ {sql}" for number, (_, checks, sql) in enumerate(BAD)}
    outcomes = local_server.run_all("00000002", bad)
    caught = {
        (name, BAD[number][1]): [audit.audit.name for audit in outcomes[table].audits if not audit.passed]
        for number, (table, (name, _, _)) in enumerate(zip(bad, BAD, strict=True))
    }
    assert caught == {(name, checks): [name] for name, checks, _ in BAD}
    assert {outcome.failure.stage if outcome.failure else "" for outcome in outcomes.values()} == {"audit"}
    assert [local_server.reader.value(f"select count(*) from analytics.{name}") for name in bad] == [3] * len(BAD)


def test_good_data_passes_every_kind_of_check_and_comments_its_columns(local_server: LocalServer) -> None:
    local_server.reader.sql("create table raw_data.keys as select 1 as k")
    matter = """primary_key: k
columns: {k: {type: int, description: "The key"}, t: varchar, f: float, d: date, ts: timestamp_ntz}
schema_change: fail
checks:
  row_count_change: {max_drop: 10%, min_rows: 0}
  unique: [t]
  not_null: [k, t]
  accepted_values: {t: [a, b]}
  matches: {t: '[a-z]'}
  range: {k: {min: 0, max: 9}, f: {max: 2.5}, d: {min: 2020-01-01}}
  freshness: {ts: 1}
  relationship: {k: raw_data.keys.k}
  sql: {negative: 'select * from {table} where k < 0'}"""
    for run in ("00000001", "00000002"):
        outcome = local_server.run(run, f"/* elt\n{matter}\nelt */ {ROW}")
        assert outcome.published, outcome.failure
    assert len(outcome.audits) == 15
    columns = local_server.reader.sql("show columns in table analytics.mau")
    assert "The key" in columns[0]


def test_warning_is_published_and_told(local_server: LocalServer) -> None:
    outcome = local_server.run("00000001", mau(3, 1, more="checks: {range: {v: {min: 9, severity: warn}}}"))
    assert outcome.published
    assert "check range_v found 3 rows" in outcome.warnings[0]


def test_rows_are_shown_only_where_the_table_opts_in(local_server: LocalServer) -> None:
    for more, shown in (("", 0), ("show_rows: 2", 2)):
        outcome = local_server.run("00000001", mau(3, 1, more=f"{more}\nchecks: {{range: {{v: {{min: 9}}}}}}"))
        assert len(outcome.audits[1].sample) == shown


def test_swap_carries_every_grant_over(local_server: LocalServer) -> None:
    assert local_server.run("00000001", mau(3, 1, publish="swap")).published
    local_server.reader.sql("create role consumer")
    for grantee in ("role consumer with grant option", "database role run_elt.readers", "share partner"):
        local_server.reader.sql(f"grant select on table analytics.mau to {grantee}")

    def grants() -> set[tuple[Any, ...]]:
        return {
            (row[1], row[4], row[5], row[6]) for row in local_server.reader.sql("show grants on table analytics.mau")
        }

    before = grants()
    assert len(before) == 4
    assert local_server.run("00000002", mau(5, 2, publish="swap")).published
    assert (grants(), local_server.seen()) == (before, NEW)


def test_table_of_another_role_is_not_replaced(local_server: LocalServer) -> None:
    local_server.reader.sql("create role other")
    assert local_server.run("00000001", mau(3, 1)).published
    local_server.reader.sql("grant ownership on table analytics.mau to role other")
    outcome = local_server.run("00000002", mau(5, 2))
    assert outcome.failure is not None
    assert "role OTHER owns" in outcome.failure.message
    assert local_server.seen() == OLD


# Where the older run has built nothing, and where it has only to publish; `overwrite` has a place of its own below.
HELD_ALWAYS = {("clone", "CREATE OR REPLACE TABLE"), ("swap", "exchange")}


@pytest.mark.parametrize(
    ("publish", "held"),
    [
        *cases(itertools.product(METHODS, ["CREATE OR REPLACE TABLE", "COUNT(*)", "exchange"]), usual=HELD_ALWAYS),
        ("overwrite", ANNOUNCEMENT),
    ],
)
def test_older_snapshot_never_overwrites_a_newer_one(local_server: LocalServer, publish: str, held: str) -> None:
    """The older run is held at a statement while the newer one goes all the way."""
    assert local_server.run("00000001", mau(1, 0, publish=publish)).published
    text = EXCHANGES[publish] if held == "exchange" else held
    reached, go_on = threading.Event(), threading.Event()

    def hook(event: StatementEvent) -> None:
        if event.phase == "before" and text in event.sql and "0000000A" in event.sql:
            reached.set()
            go_on.wait(PATIENCE_SECONDS)

    with local_server.account.hooked(hook):
        older = Background(lambda: local_server.run("0000000A", mau(3, 1, publish=publish)))
        assert reached.wait(PATIENCE_SECONDS)
        assert local_server.run("0000000B", mau(5, 2, publish=publish)).published
        go_on.set()
        outcome = older.result()
    assert local_server.seen() == NEW
    assert outcome.superseded_by == "0000000B", outcome.failure
    assert local_server.tables() == {"MAU"}
    # What the alert of a lost run and a rollback go by.
    marker = marker_in(local_server.comment())
    assert marker is not None
    assert (marker.state, marker.run_id) == ("run", "0000000B")


def before_its_announcement(local_server: LocalServer, run_id: str, act: Callable[[], Any]) -> TableOutcome:
    """Run a table, and do something else just before it announces in the target's comment that it writes the rows."""
    done = threading.Event()

    def hook(event: StatementEvent) -> None:
        if event.phase == "before" and f"{ANNOUNCEMENT} {run_id}" in event.sql and not done.is_set():
            done.set()
            act()

    with local_server.account.hooked(hook):
        outcome = local_server.run(run_id, mau(3, 1, publish="overwrite"))
    assert done.is_set()
    return outcome


def test_the_newest_of_several_newer_runs_gets_the_comment_back(local_server: LocalServer) -> None:
    assert local_server.run("00000001", mau(1, 0, publish="overwrite")).published
    failing = "columns: {nowhere: int}"

    def publish_twice() -> None:
        assert local_server.run("0000000B", mau(7, 3, publish="overwrite")).published
        assert local_server.run("0000000C", mau(5, 2, publish="overwrite", more="description: newest")).published

    outcome = before_its_announcement(local_server, "0000000A", publish_twice)
    assert outcome.superseded_by == "0000000C", outcome.failure
    assert local_server.comment().startswith("newest [run_elt run 0000000C at ")
    # Of a newer run that failed nothing is known but that it failed, so an older one does not count as published last.
    outcome = before_its_announcement(
        local_server,
        "0000000D",
        lambda: [
            local_server.run("0000000E", mau(5, 2, publish="overwrite")),
            local_server.run("0000000F", mau(7, 3, publish="overwrite", more=failing)),
        ],
    )
    assert outcome.superseded_by is None
    assert outcome.failure is not None
    assert outcome.failure.production.state == "unknown"
    assert local_server.seen() == NEW


def test_candidate_that_somebody_drops_leaves_unknown_what_readers_see(local_server: LocalServer) -> None:
    assert local_server.run("00000001", mau(5, 2, publish="overwrite")).published
    outcome = before_its_announcement(
        local_server, "0000000A", lambda: local_server.reader.sql("drop table analytics.temp_mau__0000000A")
    )
    assert outcome.superseded_by is None
    assert outcome.failure is not None
    assert "is unknown, since the catalogue does not say: look for 0000000A" in outcome.failure.message
    assert local_server.seen() == NEW


@pytest.mark.parametrize("publish", cases(METHODS, usual=["swap"]))
def test_statement_that_hangs_ends_by_its_timeout_and_leaves_production_alone(
    local_server: LocalServer, publish: str
) -> None:
    assert local_server.run("00000001", mau(3, 1, publish=publish)).published
    text = EXCHANGES[publish]

    def hook(event: StatementEvent) -> None:
        if event.phase == "before" and text in event.sql:
            # As Snowflake's timer does it. A real one would end other statements of this session too on a busy machine.
            raise SqlError("Statement reached its statement or warehouse timeout", errno=630, sqlstate="57014")

    with local_server.account.hooked(hook):
        outcome = local_server.run("00000002", mau(5, 2, publish=publish))
    assert outcome.failure is not None
    assert outcome.failure.errno == 630
    assert local_server.seen() == OLD
    assert len([record for record in local_server.server.history if text in record.sql and record.error_code]) == 1


def test_row_values_in_an_error_reach_no_outcome(local_server: LocalServer) -> None:
    outcome = local_server.run("00000001", "select 'canary'::int as n")
    assert outcome.failure is not None
    assert "is not recognized" in outcome.failure.message
    assert "canary" not in outcome.failure.message


def test_refused_statement_is_sent_once(local_server: LocalServer) -> None:
    outcome = local_server.run("00000001", "select nope from raw_data.nowhere")
    assert outcome.failure is not None
    assert len([record for record in local_server.server.history if "nope" in record.sql]) == 1


def test_leftovers_are_swept_by_age_but_never_a_live_runs(local_server: LocalServer) -> None:
    for run in ("0000000C", "0000000D"):
        assert not local_server.run(run, mau(3, 1, more="checks: {row_count: {min: 9}}")).published
    assert local_server.run("00000003", mau(3, 1)).published
    assert {"TEMP_MAU__0000000C", "TEMP_MAU__0000000D"} < local_server.tables()
    asked: list[str] = []

    def is_live(run_id: str) -> bool:
        asked.append(run_id)
        return run_id == "0000000D"

    options: dict[str, Any] = {"keep_candidates_hours": 0, "is_live": is_live}
    assert local_server.run("00000004", mau(3, 1), **options).published
    assert local_server.tables() == {"MAU", "TEMP_MAU__0000000D"}
    # A run may leave thousands of candidates, and each question is one to Dagster's storage.
    assert sorted(asked) == ["0000000C", "0000000D"]


def test_check_that_fails_to_compile_leaves_the_others_their_verdicts(local_server: LocalServer) -> None:
    outcome = local_server.run("00000001", mau(3, 1, more="checks: {not_null: nowhere, range: {v: {min: 0}}}"))
    assert {audit.audit.name: audit.passed for audit in outcome.audits} == {
        "row_count": True,
        "not_null": False,
        "range_v": True,
    }


NAMES = ("select", "lower case", 'qu"ote', "größe", "x" * 255)
# The name that has to be quoted twice, with each method.
ALWAYS = [(publish, 'qu"ote') for publish in METHODS]


@pytest.mark.parametrize(
    ("publish", "identifier"),
    cases(itertools.product(METHODS, NAMES), usual=ALWAYS),
)
def test_names_that_bite_are_published_twice(local_server: LocalServer, publish: str, identifier: str) -> None:
    quoted = '"' + identifier.replace('"', '""') + '"'
    for run, rows in (("00000001", 3), ("00000002", 5)):
        matter = f"identifier: '{quoted}'\nprimary_key: ['{quoted}']\npublish: {publish}"
        sql = f"select seq4() as {quoted} from table(generator(rowcount => {rows}))"
        outcome = local_server.run(run, f"/* elt\n{matter}\nelt */ {sql}")
        assert outcome.published, outcome.failure
        assert local_server.reader.value(f"select count(*) from analytics.{quoted}") == rows
    assert local_server.tables() == {identifier}


@pytest.mark.parametrize("question", cases((1, 2), usual=[1]))
def test_run_whose_candidate_a_newer_run_takes_away_is_superseded_without_a_verdict(
    local_server: LocalServer, question: int
) -> None:
    """A verdict on rows that are gone would be a failed check, and Dagster fails the run of a failed check."""
    audits = "checks: {sql: {sane: 'select * from {table} where v < 0'}}"
    asked, newer = list[str](), list[Any]()

    def take_away(event: StatementEvent) -> None:
        tag = json.loads(event.statement.parameter("QUERY_TAG", "") or "{}")
        if event.phase == "before" and (tag.get("run_id"), tag.get("stage")) == ("0000000B", "audit"):
            asked.append(event.sql)
            if len(asked) == question:
                newer.append(local_server.run("0000000C", mau(7, 3, more=audits)))

    with local_server.account.hooked(take_away):
        outcome = local_server.run("0000000B", mau(5, 2, more=audits))
    assert newer[0].published
    assert outcome.failure is None
    assert (outcome.superseded_by, outcome.audits) == ("0000000C", ())
    assert local_server.seen() == [(7, 3, 3)]


@pytest.mark.parametrize("publish", cases([*METHODS, "increment"], usual=["clone"]))
def test_table_that_somebody_replaces_while_the_run_builds_is_told(local_server: LocalServer, publish: str) -> None:
    more = "increment: {column: at, key: n}"
    text = mau(3, 1, publish=publish)
    if publish == "increment":
        text = f"/* elt\n{more}\nelt */ select 1 as n, 1::int as v, '2024-01-01'::timestamp_ntz as at"
    assert local_server.run("00000001", text).warnings == ()
    columns = ", '2024-01-01'::timestamp_ntz as at" if publish == "increment" else ""
    theirs = f"create or replace table analytics.mau as select 1::int as n, 9::int as v{columns}"
    replace = at_first("CREATE OR REPLACE TABLE", lambda: local_server.reader.sql(theirs), has="TEMP_MAU__00000002")
    with local_server.account.hooked(replace):
        outcome = local_server.run("00000002", text)
    assert outcome.replaced.startswith("1 row")
    told = [each for each in outcome.warnings if "somebody else has changed RUN_ELT.ANALYTICS.MAU" in each]
    assert len(told) == 1
    assert "There was the table with" in told[0]
    # The next run finds what this one has published.
    assert local_server.run("00000003", text).replaced == ""


@pytest.mark.parametrize("times", [1, pytest.param(9, marks=pytest.mark.thorough)])
def test_first_table_in_parts_that_somebody_drops_is_not_said_published(local_server: LocalServer, times: int) -> None:
    """It is created before the transaction that notes it."""
    text = (
        "/* elt\nincrement: {column: at, key: n}\nelt */ select 1 as n, 1::int as v, '2024-01-01'::timestamp_ntz as at"
    )
    dropped: list[str] = []

    def drop(event: StatementEvent) -> None:
        if event.phase == "before" and event.sql.startswith("BEGIN") and len(dropped) < times:
            dropped.append(event.sql)
            local_server.reader.sql("drop table if exists analytics.mau")

    with local_server.account.hooked(drop):
        outcome = local_server.run("00000001", text)
    assert outcome.published == ("MAU" in local_server.tables()) == (times == 1)
    assert len(dropped) >= 1
