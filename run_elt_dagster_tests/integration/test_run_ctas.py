"""Build, audit and publish on the embedded Snowflake, over the real connector and `dg.materialize`."""

import itertools
import threading
from collections import Counter

import dagster as dg
import pytest

from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.orchestration import failing
from run_elt_dagster.publish.run import run_tables
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import RunContext
from run_elt_dagster.snowflake.session import ConnectorSession
from run_elt_dagster_tests.support.dagster_project import DagsterProject, failure_text
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS, cases, effort

METHODS = ["clone", "swap", "overwrite"]


def numbers(rows: int, *, publish: str = "clone", more: str = "", value: int = 1) -> str:
    return (
        f"/* elt\npublish: {publish}\nprimary_key: n\n{more}\nelt */\n"
        f"select seq4() as n, {value} as v from table(generator(rowcount => {rows}))"
    )


def test_table_is_published_with_its_checks_and_metadata(project: DagsterProject) -> None:
    project.declare(mau=numbers(7))
    result = project.materialize()
    assert result.success
    assert project.checks(result) == {"mau.row_count": True, "mau.primary_key": True}
    metadata = project.materialized(result)["mau"]
    run = result.run_id.replace("-", "")[:8].upper()
    assert metadata["dagster/row_count"] == 7
    assert metadata["dagster/table_name"] == "RUN_ELT.ANALYTICS.MAU"
    assert metadata["candidate"] == f"RUN_ELT.ANALYTICS.TEMP_MAU__{run}"
    # Of numbers that a function makes.
    assert metadata["dagster/column_lineage"] == dg.TableColumnLineage({"n": [], "v": []})
    assert "| n | no column |" in metadata["column_lineage"]
    for stage in ("build", "audit", "publish"):
        assert metadata[f"{stage}_seconds"] >= 0
        assert len(metadata[f"{stage}_query_id"]) >= 32
    # By this tag, Dagster shows later that the file has changed.
    (event,) = result.get_asset_materialization_events()
    assert list(event.materialization.tags or {}) == ["dagster/code_version"]
    assert project.tables() == {"MAU"}


def test_recording_a_table_looks_nothing_up(project: DagsterProject, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[int] = []
    get = dg.DagsterInstance.get_asset_records
    monkeypatch.setattr(
        dg.DagsterInstance,
        "get_asset_records",
        lambda self, keys=None: (looked_up.append(len(keys or [])), get(self, keys))[1],  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    )
    project.declare(mau=numbers(7), wau=numbers(3))
    result = project.materialize()
    assert result.success
    assert looked_up == []
    assert [evaluation.blocking for evaluation in result.get_asset_check_evaluations()] == [True] * 4
    # Alone, a check says which materialization it looked at.
    alone = project.materialize(selection=dg.AssetSelection.checks_for_assets(["analytics", "mau"]))
    targets = [evaluation.target_materialization_data for evaluation in alone.get_asset_check_evaluations()]
    assert [target and target.run_id for target in targets] == [result.run_id] * 2
    assert looked_up == [1]


def test_check_and_its_table_cost_two_events_each(project: DagsterProject) -> None:
    """What is stored for each table and check is what a run of many tables waits for."""
    project.declare(mau=numbers(7), wau=numbers(3))
    result = project.materialize()
    entries = project.instance.all_logs(result.run_id)
    kinds = Counter(entry.dagster_event_type for entry in entries if entry.dagster_event_type)
    about_tables = {kind.value: count for kind, count in kinds.items() if count > 1}
    assert about_tables == {
        "ASSET_MATERIALIZATION_PLANNED": 2,
        "ASSET_CHECK_EVALUATION_PLANNED": 4,
        "ASSET_MATERIALIZATION": 2,
        "ASSET_CHECK_EVALUATION": 4,
        "ENGINE_EVENT": 2,
    }
    # Dagster takes what has no output for forgotten, and would tell of each.
    lines = [entry.user_message for entry in entries if not entry.is_dagster_event]
    assert [line for line in lines if "row_count" in line and "is published" not in line] == []
    assert lines != []


@pytest.mark.parametrize("publish", METHODS)
def test_first_publish_and_republish_leave_the_new_rows_and_no_candidate(project: DagsterProject, publish: str) -> None:
    for rows, value in [(3, 1), (5, 2), (4, 3)]:
        project.declare(mau=numbers(rows, publish=publish, value=value))
        assert project.materialize().success
        assert project.sql("select count(*), min(v), max(v) from analytics.mau") == [(rows, value, value)]
        assert project.tables() == {"MAU"}


@pytest.mark.parametrize(
    ("publish", "published_before"),
    cases(itertools.product(METHODS, (False, True)), usual=[("clone", False), ("overwrite", True)]),
)
def test_zero_rows_publish_nothing(project: DagsterProject, publish: str, published_before: bool) -> None:
    if published_before:
        project.declare(mau=numbers(3, publish=publish))
        assert project.materialize().success
    project.declare(mau=numbers(3, publish=publish) + " where false")
    result = project.materialize()
    assert not result.success
    assert project.checks(result) == {"mau.row_count": False, "mau.primary_key": True}
    assert project.materialized(result) == {}
    candidate = f"TEMP_MAU__{result.run_id.replace('-', '')[:8].upper()}"
    assert project.tables() == ({"MAU", candidate} if published_before else {candidate})
    text = failure_text(result)
    assert f"check row_count found 0 rows, expected at least 1 in RUN_ELT.ANALYTICS.{candidate}" in text
    if published_before:
        assert "Readers still see the previous table (3 rows, built 20" in text
        assert project.sql("select count(*) from analytics.mau") == [(3,)]
    else:
        assert "There is no published table yet." in text


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("select 1 as n union all select 1", "1 row with a duplicate key"),
        ("select 1 as n union all select null", "1 row with a NULL key"),
    ],
)
def test_broken_primary_key_publishes_nothing(project: DagsterProject, select: str, expected: str) -> None:
    project.declare(mau=f"/* elt\nprimary_key: n\nelt */ {select}")
    result = project.materialize()
    assert not result.success
    assert project.checks(result) == {"mau.row_count": True, "mau.primary_key": False}
    assert f"check primary_key found {expected}, expected at most 0" in failure_text(result)
    assert "MAU" not in project.tables()


def test_composite_key_is_unique_by_all_of_its_columns(project: DagsterProject) -> None:
    rows = "select column1 as a, column2 as b from values (1, 1), (1, 2), (2, 1)"
    project.declare(
        good=f"/* elt\nprimary_key: [a, b]\nelt */ {rows}", bad=f"/* elt\nprimary_key: [a, b]\nelt */ {rows}, (2, 1)"
    )
    result = project.materialize()
    assert project.checks(result) == {
        "good.row_count": True,
        "good.primary_key": True,
        "bad.row_count": True,
        "bad.primary_key": False,
    }


@pytest.mark.parametrize(
    ("low", "high", "passes"), cases(((0, 2, False), (3, 3, True), (4, 9, False)), usual=[(3, 3, True), (4, 9, False)])
)
def test_row_count_is_kept_within_its_bounds(project: DagsterProject, low: int, high: int, passes: bool) -> None:
    project.declare(mau=numbers(3, more=f"checks: {{row_count: {{min: {low}, max: {high}}}}}"))
    assert project.materialize().success is passes


def test_failed_table_skips_its_descendants_only(project: DagsterProject) -> None:
    project.declare(
        bad="select * from raw_data.nowhere",
        child="select * from analytics.bad",
        grandchild="select * from analytics.child",
        other=numbers(2),
    )
    result = project.materialize()
    assert not result.success
    assert set(project.materialized(result)) == {"other"}
    text = failure_text(result)
    assert "1 table failed: analytics.bad in stage build." in text
    assert "analytics.bad failed in stage build" in text
    assert "Skipped, since they read failed tables: analytics.child, analytics.grandchild." in text


def test_log_names_some_of_many_tables_that_failed_or_were_skipped_and_the_failure_all(
    project: DagsterProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failing, "_NAMES_SHOWN", 2)
    roots, children = [f"root_{n}" for n in range(3)], [f"child_{n}" for n in range(4)]
    reads = " union all ".join(f"select * from analytics.{root}" for root in roots)
    project.declare(**dict.fromkeys(roots, "select * from raw_data.nowhere"), **dict.fromkeys(children, reads))
    result = project.materialize(max_concurrent_tables=1)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    assert "3 tables failed: analytics.root_0 in stage build, analytics.root_1 in stage build and 1 more." in (
        told.description or ""
    )
    assert "Skipped, since they read failed tables: analytics.child_0, analytics.child_1 and 2 more." in (
        told.description or ""
    )
    assert told.metadata["skipped"].value == [f"analytics.{name}" for name in children]
    (log,) = [
        entry.user_message for entry in project.instance.all_logs(result.run_id) if "was skipped" in entry.user_message
    ]
    skipped, *_, last = log.splitlines()
    assert (
        "child_0 was skipped, because it reads failed tables: analytics.root_0, analytics.root_1 and 1 more." in skipped
    )
    assert last == "2 more tables skipped. The failure of this run names them."


def test_child_reads_the_new_version_of_its_parent(project: DagsterProject) -> None:
    for value in (1, 2):
        project.declare(parent=numbers(2, value=value), child="select max(v) as v from analytics.parent")
        assert project.materialize(max_concurrent_tables=8).success
        assert project.sql("select v from analytics.child") == [(value,)]


def test_sql_runs_as_the_author_wrote_it(project: DagsterProject) -> None:
    written = [
        ("\ufeff/* elt\r\ndescription: x\r\nelt */\r\nselect\r\n 1 as a\r\n", 1),
        ("select 'a;b' as a; -- done", "a;b"),
        ("select $$it's; $$ as a", "it's; "),
        ("select '100%' as a where 'abc' like 'a%' -- 5 % 2", "100%"),
        ("with x as (select 1 as a) select a from x -- no end", 1),
        ("select 'it''s' as a /* trailing */", "it's"),
        ("select '%s %(x)s {y} {{ z }}' as a", "%s %(x)s {y} {{ z }}"),
    ]
    project.declare(**{f"odd_{number}": sql for number, (sql, _) in enumerate(written)})
    result = project.materialize()
    assert result.success, failure_text(result)
    found = [project.sql(f"select a from analytics.odd_{number}") for number in range(len(written))]
    assert found == [[(expected,)] for _, expected in written]


def test_comment_of_the_published_table_names_the_run(project: DagsterProject) -> None:
    project.declare(mau=numbers(1, more="description: It's 100% ours"))
    result = project.materialize()
    ((comment,),) = project.sql("select comment from information_schema.tables where table_name = 'MAU'")
    assert comment.startswith(f"It's 100% ours [run_elt run {result.run_id} at 20")


@pytest.mark.parametrize("publish", cases(METHODS, usual=["swap"]))
def test_target_that_is_a_view_is_not_replaced(project: DagsterProject, publish: str) -> None:
    project.sql("create view analytics.mau as select 42 as n")
    project.declare(mau=numbers(3, publish=publish))
    result = project.materialize()
    assert not result.success
    assert project.sql("select n from analytics.mau") == [(42,)]


def test_overwrite_with_other_columns_is_refused_and_keeps_production(project: DagsterProject) -> None:
    project.declare(mau=numbers(3, publish="overwrite"))
    assert project.materialize().success
    project.declare(mau="/* elt\npublish: overwrite\nelt */ select 1 as n, 2 as w")
    result = project.materialize()
    assert "got new columns: W; missing columns: V" in failure_text(result)
    assert project.sql("select count(*) from analytics.mau") == [(3,)]


@pytest.mark.parametrize("publish", cases(("clone", "overwrite"), usual=["clone"]))
def test_grants_of_production_survive_a_republish_by_clone_and_overwrite(
    simulated_project: DagsterProject, publish: str
) -> None:
    simulated_project.declare(mau=numbers(3, publish=publish))
    assert simulated_project.materialize().success
    simulated_project.sql("create role consumer")
    simulated_project.sql("grant select on table analytics.mau to role consumer")
    simulated_project.declare(mau=numbers(4, publish=publish))
    assert simulated_project.materialize().success
    grants = [(row[1], row[5]) for row in simulated_project.sql("show grants on table analytics.mau")]
    assert ("SELECT", "CONSUMER") in grants


def test_check_alone_audits_production_without_building(project: DagsterProject) -> None:
    project.declare(mau=numbers(3))
    assert project.materialize().success
    project.sql("delete from analytics.mau")
    project.declare(mau=numbers(5))
    key = dg.AssetCheckKey(dg.AssetKey(["analytics", "mau"]), "row_count")
    result = project.materialize(selection=dg.AssetSelection.checks(key))
    assert project.checks(result) == {"mau.row_count": False}
    assert project.materialized(result) == {}
    assert project.sql("select count(*) from analytics.mau") == [(0,)]


def test_table_is_guarded_by_checks_that_were_not_selected(project: DagsterProject) -> None:
    project.declare(mau=numbers(3) + " where false")
    result = project.materialize(selection=dg.AssetSelection.assets(["analytics", "mau"]).without_checks())
    assert not result.success
    assert project.checks(result) == {}
    assert "MAU" not in project.tables()


@pytest.mark.parametrize(
    ("publish", "publishes"),
    [
        ("clone", effort(usual=4, thorough=200)),
        ("swap", effort(usual=3, thorough=200)),
        ("overwrite", effort(usual=3, thorough=200)),
    ],
)
def test_reader_never_sees_the_table_missing_empty_or_mixed(
    project: DagsterProject, publish: str, publishes: int
) -> None:
    """Publishes of a table that alternates between 3 rows of 1 and 5 rows of 2, with a reader in another session."""
    versions = [
        catalogue([parse_table_file(project.directory / "mau.sql", text, schema="analytics", table="mau")])
        for text in (numbers(3, publish=publish, value=1), numbers(5, publish=publish, value=2))
    ]
    session = ConnectorSession(project.connection, project.resource.connect)

    def publish_once(number: int) -> None:
        run, options = RunContext(f"{number:08x}"), PublishOptions()
        (outcome,) = run_tables(session, versions[number % 2], [("analytics", "mau")], run=run, options=options)
        assert outcome.published, outcome.failure

    publish_once(0)
    stop, seen, errors = threading.Event(), list[tuple[int, int, int]](), list[BaseException]()

    def read() -> None:
        with project.resource.connect() as connection, connection.cursor() as cursor:
            # The pause leaves the interpreter to the publishing thread, which otherwise takes five times as long.
            while not stop.wait(0.02):
                try:
                    row = cursor.execute("select count(*), min(v), max(v) from analytics.mau").fetchone()
                except Exception as error:  # noqa: BLE001 - whatever a reader meets is a finding
                    errors.append(error)
                    return
                seen.append(row)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, publishes + 1):
            publish_once(number)
    finally:
        stop.set()
        reader.join(PATIENCE_SECONDS)
    assert errors == []
    assert set(seen) == {(3, 1, 1), (5, 2, 2)}
    assert len(seen) > publishes / 4


def test_what_took_longest_the_last_time_is_built_first(project: DagsterProject) -> None:
    project.declare(quick="select 1 as n", slow="select 1 as n")
    for name, seconds in (("quick", 1.0), ("slow", 9.0)):
        event = dg.AssetMaterialization(["analytics", name], metadata={"seconds": seconds})
        project.instance.report_runless_asset_event(event)
    result = project.materialize(max_concurrent_tables=1)
    assert list(project.materialized(result)) == ["slow", "quick"]
