"""The check `usual` in runs: what is learned from Dagster's history, and what is refused before readers see it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.runs.history import publications
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster_tests.support.dagster_project import DagsterProject, failure_text
from run_elt_dagster_tests.support.history import lay_empty_history
from run_elt_dagster_tests.support.past_runs import PastRun, record_events, record_runs

DAYS = """/* elt
partitions: {by: day, column: day, start: 2024-01-01}
checks: {usual: {rows: true, null_rate: email, distinct: email, sum: n}}
elt */
select day, n, email from raw_data.e
"""
ROWS = """create table raw_data.e as
select dateadd('day', d.column1, '2024-01-01'::date) as day, r.n as n, case when r.n % 4 > 0 then r.n::varchar end as email
from values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11) as d
cross join (select seq4() as n from table(generator(rowcount => 400))) as r
where d.column1 < 11 or r.n < 40"""


def test_partition_is_audited_against_those_before_it_and_readers_never_see_an_unusual_one(
    project: DagsterProject,
) -> None:
    project.sql(ROWS)
    project.declare(days=DAYS)
    first = project.materialize(partitions="2024-01-01...2024-01-10")
    assert first.success
    notes = [e.asset_check_evaluation for e in project.instance.all_logs(first.run_id) if e.asset_check_evaluation]
    assert {note.description for note in notes if note.check_name == "usual_rows"} == {
        "check usual_rows of partition 2024-01-01 does not apply: 0 of 10 days with a published version are known"
    } | {
        f"check usual_rows of partition 2024-01-{day:02} does not apply: 0 of 10 days with a published version are known"
        for day in range(2, 11)
    }
    result = project.materialize(partitions="2024-01-11...2024-01-12")
    assert not result.success
    # The eleventh is as usual, and published; of the twelfth, a tenth was loaded.
    assert project.sql("select max(day)::varchar, count(*) from analytics.days") == [("2024-01-11", 4400)]
    text = failure_text(result)
    assert "check usual_rows of partition 2024-01-12 found 40 rows; usual 360 to 440 over 10 days" in text
    evaluations = {
        e.asset_check_evaluation.check_name: e.asset_check_evaluation
        for e in project.instance.all_logs(result.run_id)
        if e.asset_check_evaluation and e.asset_check_evaluation.partition == "2024-01-12"
    }
    numbers = {name: evaluations["usual_rows"].metadata[name].value for name in ("number", "low", "high")}
    assert numbers == {"number": 40, "low": 360, "high": 440}
    # A quarter is NULL, as ever; the sum and the different values are as unusual as the rows.
    assert {name: each.passed for name, each in evaluations.items() if name.startswith("usual")} == {
        "usual_rows": False,
        "usual_null_rate_email": True,
        "usual_distinct_email": False,
        "usual_sum_n": False,
    }
    (published,) = project.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(["analytics", "days"]), asset_partitions=["2024-01-11"]), limit=1
    ).records
    kept = published.asset_materialization.metadata if published.asset_materialization else {}
    names = (
        "dagster/partition_row_count",
        "null_rate_email",
        "distinct_email",
        "sum_n",
        "usual_rows_low",
        "usual_rows_high",
    )
    assert [kept[name].value for name in names] == [400, 0.25, 300, 79800, 360, 440]


@pytest.fixture
def kept(tmp_path: Path) -> dg.DagsterInstance:
    return dg.DagsterInstance.local_temp(str(lay_empty_history(tmp_path / "home")))


def test_days_of_a_table_are_learned_once_and_what_was_rolled_back_is_not(
    tmp_path: Path, kept: dg.DagsterInstance
) -> None:
    (tmp_path / "home").mkdir(exist_ok=True)
    resource = Snowflake(embedded_dir=str(tmp_path / "embedded"), sample_data=False)
    key = ("analytics", "mau")
    with kept as instance, resource.connect() as connection:
        project = DagsterProject(tmp_path, connection, resource, instance)
        select = "/* elt\nchecks: {usual: rows}\nelt */\nselect seq4() as n from table(generator(rowcount => %d))"
        project.declare(mau=select % 1000)
        model = project.materialize()
        like = instance.get_run_by_id(model.run_id)
        assert like is not None
        now = datetime.now(UTC)
        # Five runs an hour apart, on each of twelve days: more than a page, and most of each day unread.
        noon = (now - timedelta(days=12)).replace(hour=12)
        moments = [noon + timedelta(days=day, hours=hour) for day in range(12) for hour in range(5)]
        past = [PastRun(moment, table="mau") for moment in moments]
        record_runs(instance, [(like, run) for run in past])
        record_events(instance, like, past, table="mau", read=[])
        read = publications(instance, key, days=500)
        # A page of 50 is ten days. Then come the last ones of the two before. The first run was recorded before all of them.
        assert len(read) == 52
        assert len({datetime.fromtimestamp(event.timestamp, UTC).date() for event in read}) == 12
        project.declare(mau=select % 100)
        result = project.materialize()
        assert "check usual_rows found 100 rows; usual 936 to 1,064 over 12 days" in failure_text(result)
        # A rollback takes back the newest version, and so does a second one.
        for _ in range(2):
            instance.report_runless_asset_event(
                dg.AssetObservation(list(key), metadata={"rolled_back_to": "before", "rolled_back_from": "now"})
            )
        stayed = publications(instance, key, days=500)
    assert [event.timestamp for event in stayed] == [event.timestamp for event in read][:-2]
