"""`run-elt publish --group`: all tables of a group that its run has kept are published by a person, once, or none."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import dagster as dg
import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.cli.publish_group import why_not_published
from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.model.candidate import by_hand_in, marker_in
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.publish.group_lock import GroupNote
from run_elt_dagster.publish.guards import PublishRefusedError
from run_elt_dagster.publish.kept import Kept, Published
from run_elt_dagster.publish.kept_group import GroupPublisher
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster_tests.faults.laboratory import open_session
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.by_hand import PATIENCE, RUN
from run_elt_dagster_tests.support.dagster_project import DagsterProject, failure_text
from run_elt_dagster_tests.support.local_server import LocalServer

COMMENTS = "select table_name, comment from information_schema.tables where table_name in ('MAU', 'SOURCE')"
WANTED = "run-elt publish --group finance --run "


def group(value: int, publish: str = "clone") -> dict[str, str]:
    """Return a group of which one table fails its check if the value changes, and the check of the other one reads it."""
    head = f"/* elt\npublish_group: finance\npublish: {publish}\n{{}}\nelt */ "
    changes = "changes: {key: [n], max_changed: 0}, row_count: {max: 1}, relationship: {v: analytics.mau.v}"
    return {
        "mau": head.format("") + f"select 1::int as n, {value}::int as v",
        "source": head.format(f"checks: {{{changes}}}") + f"select 1::int as n, {value}::int as v",
    }


@contextmanager
def publishing(local_server: LocalServer, publish: str = "clone") -> Generator[GroupPublisher]:
    tables = [
        parse_table_file(local_server.directory / f"{name}.sql", text, schema="analytics", table=name)
        for name, text in group(2, publish).items()
    ]
    with open_session(local_server.account.arguments) as session:
        yield GroupPublisher(session, catalogue(tables), tables, options=PublishOptions(), patience=PATIENCE)


def kept(publisher: GroupPublisher) -> list[Kept]:
    found = publisher.find(RUN[:8])
    return [each for each in found if isinstance(each, Kept)]


def seen(local_server: LocalServer) -> Sequence[object]:
    return local_server.reader.sql("select (select max(v) from analytics.mau), (select max(v) from analytics.source)")[
        0
    ]


def held_back(local_server: LocalServer, publish: str) -> None:
    assert all(each.published for each in local_server.run_all("0000000A", group(1, publish)).values())
    outcomes = local_server.run_all(RUN, group(2, publish))
    failure = outcomes["source"].failure
    assert failure is not None
    assert failure.if_wanted == f"{WANTED}{RUN[:8]}"
    assert seen(local_server) == (1, 1)


@pytest.mark.parametrize(
    "publish", ["swap", *(pytest.param(m, marks=pytest.mark.thorough) for m in ("clone", "overwrite"))]
)
def test_kept_group_is_published_once_by_two_people_at_once(local_server: LocalServer, publish: str) -> None:
    held_back(local_server, publish)
    with publishing(local_server, publish) as one, publishing(local_server, publish) as other:
        candidates = kept(other)
        assert [each.table.name for each in candidates] == ["analytics.mau", "analytics.source"]
        done = one.publish(kept(one), person="ana", waived=())
        assert all(each.outcome.published for each in done), [each.outcome.failure for each in done]
        assert {each.by_hand.words[:16] for each in done if each.by_hand is not None} == {"published by ana"}
        assert seen(local_server) == (2, 2)
        # The second one has asked before the first one published. A second swap would bring the old rows back.
        late = other.publish(candidates, person="ben", waived=())
        assert not any(each.outcome.published for each in late)
        assert seen(local_server) == (2, 2)
        again = other.find(RUN[:8])
        assert [type(each) for each in again] == [Published, Published]
    comments = local_server.reader.sql("select comment from information_schema.tables where table_name = 'SOURCE'")
    said = by_hand_in(comments[0][0])
    assert said is not None
    assert (said.person, said.waived) == ("ana", ("changes",))
    assert local_server.tables() == {"MAU", "SOURCE"}


def test_who_ends_what_a_killed_command_has_written_says_who_published_and_what_was_waived(
    local_server: LocalServer,
) -> None:
    held_back(local_server, "overwrite")
    with publishing(local_server, "overwrite") as publisher:
        assert all(each.outcome.published for each in publisher.publish(kept(publisher), person="ana", waived=()))
    # As it was after COMMIT: the candidates are there, and the comments do not name the run of the rows yet.
    signed = dict(local_server.reader.sql(COMMENTS))
    for name, comment in signed.items():
        candidate, begun = f"analytics.temp_{name}__{RUN[:8]}", comment.replace("run_elt run", "run_elt publishing")
        local_server.reader.sql(f"create table {candidate} clone analytics.{name}")
        local_server.reader.sql(f"comment on table analytics.{name} is '{begun}'")
    marker = marker_in(signed["SOURCE"])
    assert marker is not None
    names = ("analytics.mau", "analytics.source")
    note = GroupNote("finance", RUN, marker.at, names, by="ana@elsewhere:7", since="2026-01-01T00:00:00Z")
    local_server.reader.sql(f"create table analytics.run_elt_group_finance (n int) comment = '{note}'")
    told: list[str] = []
    assert local_server.run_all(
        "0000000C", {**group(2, "overwrite"), "other": "select 1 as n"}, keys=["other"], warn=told.append
    )
    assert "run-elt publish --group finance of ana@elsewhere:7, begun 2026-01-01 00:00 UTC, ended while" in told[0]
    assert "Repeat the command" in told[0]
    assert dict(local_server.reader.sql(COMMENTS)) == signed
    assert "waiving changes" in signed["SOURCE"]


def test_command_that_leaves_a_group_half_published_does_not_say_that_nothing_was(local_server: LocalServer) -> None:
    held_back(local_server, "swap")
    swaps: list[str] = []

    def let_one_pass(event: StatementEvent) -> None:
        """Refuse the second exchange, and what would put the first one back."""
        if event.phase == "before" and "SWAP WITH" in event.sql:
            swaps.append(event.sql)
            if len(swaps) > 1:
                raise SqlError("refused", errno=3001, sqlstate="42501")

    with publishing(local_server, "swap") as publisher, local_server.account.hooked(let_one_pass):
        done = publisher.publish(kept(publisher), person="ana", waived=())
    assert seen(local_server) in ((1, 2), (2, 1))
    told = why_not_published("finance", done)
    assert "was not published" not in told
    assert told.startswith("publish_group finance is published in part, and analytics.mau ")
    assert told.endswith("Once it is ended, repeat the command: it notes and logs who has published.")


def test_run_whose_exchange_somebody_else_has_ended_says_so_and_does_not_swap_back(local_server: LocalServer) -> None:
    texts = {name: text.replace("max_changed: 0", "max_changed: 1") for name, text in group(2, "swap").items()}
    local_server.run_all("0000000A", group(1, "swap"))
    ended: list[str] = []

    def end_it(event: StatementEvent) -> None:
        """Exchange all of it, as a look does at a run that seems to be dead."""
        if event.phase == "before" and event.sql.startswith("CREATE TRANSIENT TABLE") and not ended:
            ended.append(event.sql)
            for name in texts:
                local_server.reader.sql(f"alter table analytics.{name} swap with analytics.temp_{name}__{RUN[:8]}")

    with local_server.account.hooked(end_it):
        outcomes = local_server.run_all(RUN, texts)
    (failure,) = [each.failure for each in outcomes.values() if each.failure is not None]
    assert failure.message.startswith(f"run {RUN} of publish_group finance requires that nobody ends its exchange")
    assert "by hand" not in failure.message
    assert seen(local_server) == (2, 2)


@pytest.mark.thorough
def test_command_is_not_offered_where_a_table_of_the_group_was_not_built(local_server: LocalServer) -> None:
    def read_by_another(value: int) -> dict[str, str]:
        reader = "/* elt\npublish_group: finance\nelt */ select v from analytics.source"
        return {**group(value), "totals": reader}

    local_server.run_all("0000000A", read_by_another(1))
    outcomes = local_server.run_all(RUN, read_by_another(2))
    failure = outcomes["source"].failure
    assert failure is not None
    assert failure.if_wanted == ""
    assert failure.message.endswith("the candidate is kept for inspection.")


@pytest.mark.thorough
def test_other_failed_check_of_one_table_keeps_all_of_them(local_server: LocalServer) -> None:
    held_back(local_server, "swap")
    with publishing(local_server, "swap") as publisher:
        found = kept(publisher)
        local_server.reader.sql(f"insert into analytics.temp_source__{RUN[:8]} select 2, 2")
        done = publisher.publish(found, person="ana", waived=())
        assert seen(local_server) == (1, 1)
        assert [each.outcome.held_back_by for each in done if each.outcome.failure is None] == [
            (("analytics", "source"),)
        ]
        # Both can be published again.
        assert len(kept(publisher)) == len(found)
        local_server.reader.sql(f"drop table analytics.temp_mau__{RUN[:8]}")
        with pytest.raises(PublishRefusedError, match=r"publishing analytics.mau by hand requires the candidate"):
            publisher.find(RUN[:8])


@pytest.mark.thorough
def test_command_publishes_the_group_and_records_it(
    commanded_project: DagsterProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUN_ELT_LOG_SCHEMA", "RUN_ELT")
    project = commanded_project
    project.declare(**group(1))
    assert project.materialize().success
    project.declare(**group(2))
    result = project.materialize()
    run = result.run_id[:8]
    assert f"If the change is wanted: {WANTED}{run}" in failure_text(result)
    capsys.readouterr()
    assert main(["publish", "--run", run]) == 2
    assert main(["publish", "analytics.mau", "--run", run]) == 1
    assert f"Publish all of them: {WANTED}{run}" in capsys.readouterr().err
    assert main(["publish", "--group", "finance", "--run", run]) == 1
    assert "Pass --yes" in capsys.readouterr().err
    assert main(["publish", "--group", "finance", "--run", run, "--yes"]) == 0
    assert f"analytics.source: 1 row of run {run}, published by" in capsys.readouterr().out
    for name in ("mau", "source"):
        (record,) = project.instance.fetch_materializations(dg.AssetKey(["analytics", name]), limit=1).records
        assert record.asset_materialization is not None
        assert record.asset_materialization.metadata["published_run"].value == result.run_id
    assert main(["publish", "--group", "finance", "--run", run, "--yes"]) == 0
    assert "analytics.mau is published already" in capsys.readouterr().out
    logged = "select table_name, state, row_count, run_id from run_elt.run_elt.publishes order by 1"
    assert project.sql(logged) == [(name, "published", 1, result.run_id) for name in ("MAU", "SOURCE")]
