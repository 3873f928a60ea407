"""`run-elt publish`: a candidate that its run has rejected and kept is published by a person, once, or not at all."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.model.candidate import by_hand_in, marker_in
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.kept import ByHandOutcome, Kept, Published, Publisher, require_checks
from run_elt_dagster.publish.rollback import Rollback
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import RunContext, StatementRunner
from run_elt_dagster_tests.faults.laboratory import open_session
from run_elt_dagster_tests.support.by_hand import PATIENCE, RUN, overtaken_in_its_exchange
from run_elt_dagster_tests.support.effort import cases
from run_elt_dagster_tests.support.local_server import METHODS, NEW, OLD, LocalServer, mau

CHECKS = "primary_key: [n]\nchecks: {row_count: {max: 4}, changes: {max_added: 0}}"


def text(rows: int, value: int, publish: str = "clone") -> str:
    return mau(rows, value, publish=publish, more=CHECKS)


@contextmanager
def publishing(local_server: LocalServer, publish: str = "clone", more: str = CHECKS) -> Generator[Publisher]:
    declared = _parsed(local_server.directory, mau(5, 2, publish=publish, more=more))
    with open_session(local_server.account.arguments) as session:
        yield Publisher(session, declared, options=PublishOptions(), patience=PATIENCE)


def _parsed(directory: Path, sql: str) -> AnalyticsTable:
    return parse_table_file(directory / "mau.sql", sql, schema="analytics", table="mau")


def by_hand(publisher: Publisher, *waived: str, run: str = RUN[:8]) -> ByHandOutcome:
    found = publisher.find(run)
    assert isinstance(found, Kept)
    return publisher.publish(found, person="ana b]", waived=waived)


@pytest.mark.parametrize("publish", cases(METHODS, usual=["swap"]))
def test_kept_candidate_is_published_once_and_names_who_wanted_it(local_server: LocalServer, publish: str) -> None:
    assert local_server.run("0000000A", text(3, 1, publish)).published
    rejected = local_server.run(RUN, text(5, 2, publish))
    assert rejected.failure is not None
    assert "run-elt publish" not in rejected.failure.message
    local_server.reader.sql("create role consumer")
    local_server.reader.sql("grant select on table analytics.mau to role consumer")
    with publishing(local_server, publish) as publisher:
        refused = by_hand(publisher).outcome
        assert refused.failure is not None
        assert "check row_count found 5 rows, expected at least 1 and at most 4" in refused.failure.problem
        assert local_server.seen() == OLD
        done = by_hand(publisher, "row_count", "primary_key")
        assert done.outcome.published, done.outcome.failure
        assert local_server.seen() == NEW
        assert done.left is None
        assert local_server.tables() == {"MAU"}
        comment = local_server.comment()
        said = by_hand_in(comment)
        assert said is not None
        assert (said.person, said.waived) == ("ana_b_", ("row_count", "changes"))
        assert str(marker_in(comment)).startswith(f"[run_elt run {RUN} at 20")
        assert local_server.reader.sql("show grants on table analytics.mau")[-1][5] == "CONSUMER"
        again = publisher.find(RUN[:8])
        assert isinstance(again, Published)
        assert again.by_hand == said
        assert local_server.comment() == comment
    # The next run is a run like any other.
    assert local_server.run("0000000C", text(4, 3, publish)).published
    assert by_hand_in(local_server.comment()) is None


def test_rollback_of_what_a_person_overwrote_brings_back_what_readers_saw_just_before(
    local_server: LocalServer,
) -> None:
    assert local_server.run("0000000A", text(3, 1, "overwrite")).published
    assert local_server.run("0000000B", mau(2, 7, publish="overwrite")).published
    assert local_server.run(RUN, text(4, 2, "overwrite")).failure is not None
    # Since the run has built its rows, somebody has taken those of before back.
    _roll_back(local_server)
    assert local_server.seen() == OLD
    with publishing(local_server, "overwrite") as publisher:
        assert by_hand(publisher).outcome.published
    _roll_back(local_server, is_ended_early=True)
    _roll_back(local_server)
    assert local_server.seen() == OLD


def _roll_back(local_server: LocalServer, *, is_ended_early: bool = False) -> None:
    table = _parsed(local_server.directory, mau(1, 1, publish="overwrite"))
    with open_session(local_server.account.arguments) as session:
        runner = StatementRunner(session, RunContext("rollback"), threading.Event(), patience=PATIENCE)
        rollback = Rollback(runner, table, database="RUN_ELT")
        plan = rollback.plan()
        if is_ended_early:
            rollback.prepare(plan)
        else:
            assert rollback.carry_out(plan) == ()


def _refused(publisher: Publisher, run: str = RUN[:8]) -> str:
    with pytest.raises(PublishRefusedError) as raised:
        publisher.find(run)
    return str(raised.value)


def test_only_an_audited_candidate_of_that_run_is_published_and_only_as_it_was(local_server: LocalServer) -> None:
    assert local_server.run("0000000A", text(3, 1)).published
    with publishing(local_server) as publisher:
        assert "requires the candidate that run 8f3a01c2 has kept, got none. Nothing was changed." in _refused(
            publisher
        )
        assert local_server.run(RUN, text(4, 2)).failure is not None
        (candidate,) = local_server.tables() - {"MAU"}
        (comment,) = local_server.reader.sql(
            f"select comment from information_schema.tables where table_name = '{candidate}'"
        )[0]
        local_server.reader.sql(f"update analytics.{candidate} set v = 9 where n = 0")
        outcome = by_hand(publisher).outcome
        assert outcome.failure is not None
        assert "requires the rows that run 8f3a01c2 has audited" in outcome.failure.message
        for state, got in (
            (comment.replace("run_elt failed", "run_elt run"), "got one that the run has not ended with"),
            (comment.replace("run_elt failed", "run_elt preview"), "got a preview"),
            (comment.replace("[run_elt audited", "[audited"), "got one whose audit has not ended"),
        ):
            local_server.reader.sql(f"comment on table analytics.{candidate} is '{state}'")
            assert got in _refused(publisher)
        local_server.reader.sql(f"comment on table analytics.{candidate} is '{comment}'")
        assert local_server.run("0000000C", mau(3, 3)).published
        assert "requires that nothing newer was published since, got run 0000000C" in _refused(publisher)
    assert local_server.seen() == [(3, 3, 3)]


def test_newer_run_that_publishes_meanwhile_wins(local_server: LocalServer) -> None:
    assert local_server.run("0000000A", text(3, 1)).published
    assert local_server.run(RUN, text(4, 2)).failure is not None
    with publishing(local_server) as publisher:
        found = publisher.find(RUN)
        assert isinstance(found, Kept)
        assert local_server.run("0000000C", mau(3, 3)).published
        done = publisher.publish(found, person="ana", waived=())
        assert (done.outcome.superseded_by, done.by_hand) == ("0000000C", None)
    assert local_server.seen() == [(3, 3, 3)]


@pytest.mark.thorough
def test_two_people_at_once_publish_the_same_rows(local_server: LocalServer) -> None:
    assert local_server.run("0000000A", text(3, 1, "swap")).published
    assert local_server.run(RUN, text(4, 2, "swap")).failure is not None
    with publishing(local_server, "swap") as one, publishing(local_server, "swap") as other:
        first, second = one.find(RUN), other.find(RUN)
        assert isinstance(first, Kept)
        assert isinstance(second, Kept)
        assert one.publish(first, person="ana", waived=()).outcome.published
        # Its candidate is gone, and its rows are there.
        assert other.publish(second, person="ben", waived=()).by_hand is None
        assert isinstance(other.find(RUN), Published)
        assert local_server.seen() == [(4, 2, 2)]


def test_of_two_people_at_the_same_time_readers_and_both_commands_name_one(local_server: LocalServer) -> None:
    """The second one signs the candidate after the first, and its command ends before it drops it."""
    assert local_server.run("0000000A", text(3, 1)).published
    assert local_server.run(RUN, text(4, 2)).failure is not None
    others: list[ByHandOutcome] = []

    def publish_as_another() -> None:
        with publishing(local_server) as other:
            others.append(by_hand(other))

    is_overtaken = overtaken_in_its_exchange(local_server.account, publish_as_another)
    with publishing(local_server) as publisher:
        found = publisher.find(RUN)
        assert isinstance(found, Kept)
        done = publisher.publish(found, person="ben", waived=(), entered=is_overtaken)
        seen = publisher.find(RUN)
    assert isinstance(seen, Published)
    assert seen.by_hand is not None
    assert [done.by_hand, others[0].by_hand] == [seen.by_hand] * 2


def test_table_in_parts_and_other_names_of_checks_are_refused(local_server: LocalServer) -> None:
    declared = _parsed(local_server.directory, text(1, 1))
    with pytest.raises(
        ValueError, match=r"requires checks of analytics.mau, got nope. Nothing was changed. It has row_count, "
    ):
        require_checks([declared], ["row_count", "nope"])
    more = "increment: {column: at, key: n}"
    with open_session(local_server.account.arguments) as session:
        parts = _parsed(local_server.directory, f"/* elt\n{more}\nelt */ select 1 as n")
        assert "got one whose increments are exchanged in place" in _refused(
            Publisher(session, parts, options=PublishOptions())
        )


def test_command_requires_a_run_that_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "analytics.mau_summary", "--run", "8f3"]) == 2
    assert "--run requires the run's id or its first 8 characters, got '8f3'" in capsys.readouterr().err
