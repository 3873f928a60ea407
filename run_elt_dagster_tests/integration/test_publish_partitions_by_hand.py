"""`run-elt publish` of a table with partitions: those that a run has rejected are published by a person, once, or not at all."""

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg
import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.kept import events_of_partitions
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.kept_parts import (
    KeptPartitions,
    PartitionPublisher,
    PartitionsByHand,
    PublishedPartitions,
)
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster_tests.faults.laboratory import open_session
from run_elt_dagster_tests.support.by_hand import PATIENCE, RUN, overtaken_in_its_exchange
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.local_server import LocalServer
from run_elt_dagster_tests.support.slices import DAYS, Version, divided, key, notes, run_slice, seen, states

OLD, NEW = Version(3, 1), Version(3, 2)


def rejecting(version: Version | str = NEW, *, most_rows: int = 3) -> AnalyticsTable:
    checks = {"changes": {"max_changed": 0}, "row_count": {"max": most_rows}}
    return divided(version, primary_key=["n"], checks=checks)


@contextmanager
def publishing(local_server: LocalServer, *, most_rows: int = 3) -> Generator[PartitionPublisher]:
    with open_session(local_server.account.arguments) as session:
        yield PartitionPublisher(session, rejecting(most_rows=most_rows), options=PublishOptions(), patience=PATIENCE)


def by_hand(publisher: PartitionPublisher, *waived: str) -> PartitionsByHand:
    found = publisher.find(RUN[:8])
    assert isinstance(found, KeptPartitions)
    return publisher.publish(found, person="ana", waived=waived)


def rejected(local_server: LocalServer) -> None:
    """Publish two days, and let a run reject them and publish a third one that nothing is published of."""
    arguments = local_server.account.arguments
    assert run_slice(arguments, rejecting(OLD), [1, 2], "0000000A").published
    outcome = run_slice(arguments, rejecting(), [1, 3], RUN)
    assert states(outcome) == {1: "failed", 2: "failed", 3: "published"}
    assert outcome.failure is not None
    assert outcome.failure.if_wanted == f"run-elt publish analytics.daily --run {RUN[:8]}"
    assert outcome.failure.message.endswith(f"If the change is wanted: {outcome.failure.if_wanted}")


def test_kept_partitions_are_published_once_and_the_others_stay(local_server: LocalServer) -> None:
    rejected(local_server)
    with publishing(local_server) as publisher:
        found = publisher.find(RUN[:8])
        assert isinstance(found, KeptPartitions)
        assert (found.wanted, found.published, found.superseded) == ((key(1), key(2)), (key(3),), {})
        # The candidate alone says who has published them: it goes when that is noted elsewhere.
        noted: list[tuple[PartitionsByHand, bool]] = []
        candidate = f"TEMP_DAILY__{RUN[:8].upper()}"
        done = publisher.publish(
            found, person="ana", waived=(), note=lambda done: noted.append((done, candidate in local_server.tables()))
        )
        assert noted == [(done, True)]
        assert done.outcome.failure is None, done.outcome.failure
        assert states(done.outcome) == {1: "published", 2: "published"}
        assert done.by_hand is not None
        assert (done.by_hand.person, done.by_hand.waived) == ("ana", ("changes",))
        assert seen(local_server.reader) == NEW.of(1, 2, 3)
        assert notes(local_server.reader, rejecting()) == dict.fromkeys((1, 2, 3), (RUN, 3))
        assert local_server.tables() == {"DAILY", "RUN_ELT_PARTITIONS"}
        again = publisher.find(RUN[:8])
        assert isinstance(again, PublishedPartitions)
        assert again.keys == (key(1), key(2), key(3))


@pytest.mark.thorough
def test_of_two_people_at_the_same_time_the_first_one_has_published(local_server: LocalServer) -> None:
    rejected(local_server)
    firsts: list[PartitionsByHand] = []

    def publish_first() -> None:
        with publishing(local_server) as other:
            firsts.append(by_hand(other))

    is_overtaken = overtaken_in_its_exchange(local_server.account, publish_first)
    with publishing(local_server) as publisher:
        found = publisher.find(RUN[:8])
        assert isinstance(found, KeptPartitions)
        second = publisher.publish(found, person="ben", waived=(), entered=is_overtaken)
    (first,) = firsts
    assert (first.published, first.theirs) == ((key(1), key(2)), frozenset())
    assert (second.published, second.theirs, second.by_hand) == ((), {key(1), key(2)}, None)
    assert second.outcome.failure is None
    assert [len(events_of_partitions(each, RUN)) > 0 for each in (first, second)] == [True, False]
    assert seen(local_server.reader) == NEW.of(1, 2, 3)


def test_each_partition_says_what_was_waived_for_it_also_after_a_killed_command(local_server: LocalServer) -> None:
    arguments, session, candidate = local_server.account.arguments, local_server.reader, f"temp_daily__{RUN[:8]}"
    assert run_slice(arguments, rejecting(OLD), [1, 2], "0000000A").published
    first = "day = '2024-01-01'"
    other = (
        f"select day, n, iff({first}, 2, 1)::int as v from ({Version(4, 1).sql}) where n < {3 * DAYS} or not {first}"
    )
    assert states(run_slice(arguments, rejecting(other), [1, 2], RUN)) == {1: "failed", 2: "failed"}
    session.sql(f"create table analytics.kept clone analytics.{candidate}")
    with publishing(local_server) as publisher:
        done = by_hand(publisher, "row_count")
        assert states(done.outcome) == {1: "published", 2: "published"}
        made = [each for each in events_of_partitions(done, RUN) if isinstance(each, dg.AssetMaterialization)]
        assert {each.partition: each.metadata["checks_waived"].value for each in made} == {
            key(1): "changes",
            key(2): "row_count",
        }
        # Killed after its COMMIT, it would have left the candidate with its name. Here the second day was refused.
        comment = session.sql("select comment from information_schema.tables where table_name = 'KEPT'")[0][0]
        session.sql(f"alter table analytics.kept rename to analytics.{candidate}")
        session.sql(f"comment on table analytics.{candidate} is '{done.by_hand} {comment}'")
        session.sql(f"delete from analytics.run_elt_partitions where partition_key = '{key(2)}'")
        found = publisher.find(RUN[:8])
        assert isinstance(found, KeptPartitions)
        assert found.wanted == (key(2),)
        assert found.unnoted is not None
        assert (found.unnoted.keys, found.unnoted.by_hand) == ((key(1),), done.by_hand)


@pytest.mark.thorough
def test_partition_that_a_newer_run_has_published_since_stays(local_server: LocalServer) -> None:
    rejected(local_server)
    with publishing(local_server) as publisher:
        early = publisher.find(RUN[:8])
        assert isinstance(early, KeptPartitions)
        newer = run_slice(local_server.account.arguments, divided(Version(2, 7)), [2, 2], "0000000C")
        assert states(newer) == {2: "published"}
        found = publisher.find(RUN[:8])
        assert isinstance(found, KeptPartitions)
        assert (found.wanted, dict(found.superseded)) == ((key(1),), {key(2): "0000000C"})
        # What was found before it is superseded under the lock.
        done = publisher.publish(early, person="ana", waived=())
        assert states(done.outcome) == {1: "published", 2: "superseded"}
        assert seen(local_server.reader) == {**NEW.of(1, 3), **Version(2, 7).of(2)}


@pytest.mark.thorough
def test_partition_that_fails_another_check_or_has_other_rows_stays(local_server: LocalServer) -> None:
    rejected(local_server)
    session, candidate = local_server.reader, f"analytics.temp_daily__{RUN[:8]}"
    with publishing(local_server, most_rows=2) as publisher:
        refused = by_hand(publisher)
        assert states(refused.outcome) == {1: "failed", 2: "failed"}
        assert refused.by_hand is None
        session.sql(f"insert into {candidate} select '2024-01-01'::date, 100, 2")
        done = by_hand(publisher, "row_count")
        assert states(done.outcome) == {1: "failed", 2: "failed"}
        assert done.outcome.failure is not None
        assert "requires the rows that run 8f3a01c2 has audited in" in done.outcome.failure.problem
    assert seen(session) == {**OLD.of(1, 2), **NEW.of(3)}


@pytest.mark.thorough
def test_candidate_that_no_run_has_rejected_or_that_is_overtaken_is_refused(local_server: LocalServer) -> None:
    with publishing(local_server) as publisher:
        with pytest.raises(PublishRefusedError, match="the candidate that run 8f3a01c2 has kept, got none"):
            publisher.find(RUN[:8])
        arguments = local_server.account.arguments
        assert run_slice(arguments, rejecting(OLD), [1, 1], "0000000A").published
        assert states(run_slice(arguments, rejecting(), [1, 1], RUN)) == {1: "failed"}
        assert run_slice(arguments, divided(Version(2, 7)), [1, 1], "0000000C").published
        with pytest.raises(PublishRefusedError, match=r"got newer rows of partition 2024-01-01, of run 0000000C"):
            publisher.find(RUN[:8])
    assert len(seen(local_server.reader)) < DAYS


@pytest.mark.thorough
def test_command_lists_the_partitions_publishes_and_records_them(
    commanded_project: DagsterProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUN_ELT_LOG_SCHEMA", "RUN_ELT")
    project = commanded_project
    head = "/* elt\npartitions: {by: day, column: day, start: 2024-01-01}\nchecks: {changes: {key: [n], max_changed: 0}}\nelt */ "
    for value in (1, 2):
        project.declare(daily=f"{head}select '2024-01-01'::date as day, 1 as n, {value} as v")
        run_id = project.materialize(partitions=key(1)).run_id
    capsys.readouterr()
    arguments = ["publish", "analytics.daily", "--run", run_id[:8]]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "2024-01-01  1 row, built " in said.out
    assert "Pass --yes" in said.err
    assert main([*arguments, "--yes"]) == 0
    assert f"analytics.daily, partition 2024-01-01: 1 row of run {run_id[:8]}, published by" in capsys.readouterr().out
    assert project.sql("select v from analytics.daily") == [(2,)]
    asset = dg.AssetKey(["analytics", "daily"])
    (record,) = project.instance.fetch_materializations(asset, limit=1).records
    assert record.partition_key == key(1)
    assert record.asset_materialization is not None
    assert record.asset_materialization.metadata["checks_waived"].value == "changes"
    assert main([*arguments, "--yes"]) == 0
    assert "partition 2024-01-01 of run" in capsys.readouterr().out
    assert len(project.instance.fetch_materializations(asset, limit=9).records) == 2
    logged = "select job, partition_key, state, row_count, waived_checks, run_id from run_elt.run_elt.publishes"
    assert project.sql(logged) == [("run-elt publish", key(1), "published", 1, "changes", run_id)]


@pytest.mark.thorough
def test_waived_key_of_another_partition_is_published(local_server: LocalServer) -> None:
    arguments, checks = local_server.account.arguments, {"unique": ["v"]}
    table = divided(f"select day, n, 1::int as v from ({Version(1, 1).sql})", checks=checks)
    assert run_slice(arguments, table, [1], "0000000A").published
    assert states(run_slice(arguments, table, [2], RUN)) == {2: "failed"}
    with open_session(arguments) as session:
        done = by_hand(PartitionPublisher(session, table, options=PublishOptions(), patience=PATIENCE), "unique_v")
    assert done.outcome.failure is None, done.outcome.failure
    assert done.by_hand is not None
    assert done.by_hand.waived == ("unique_v",)
    assert notes(local_server.reader, table) == {1: ("0000000A", 1), 2: (RUN, 1)}
