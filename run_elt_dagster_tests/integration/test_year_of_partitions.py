"""A year of days: as one run, as twelve, stopped in the middle and gone on with, and what one more day of it costs."""

import calendar
import logging
import resource
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.publish.partitions import read_partitions
from run_elt_dagster_tests.support.dagster_project import DagsterProject

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(900)]

LOG = logging.getLogger("year")
YEAR = 2023
DAYS = 365
SOURCE = f"""create or replace table raw_data.e as
    select dateadd(day, seq4() % {DAYS}, '{YEAR}-01-01'::date) as day, seq4() as n from table(generator(rowcount => {3 * DAYS}))"""
TABLE = (
    f"/* elt\npartitions: {{by: day, column: day, start: {YEAR}-01-01, end: {YEAR + 1}-01-01}}\nprimary_key: [day, n]\n"
    "elt */\nselect day, n from raw_data.e"
)
MONTHS = [f"{YEAR}-{month:02}-01...{YEAR}-{month:02}-{calendar.monthrange(YEAR, month)[1]}" for month in range(1, 13)]


def measured(what: str, work: Callable[[], object]) -> None:
    """Log how long something takes, for docs/partitions.md. No verdict: other work shares the machine."""
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    work()
    now = resource.getrusage(resource.RUSAGE_SELF)
    cpu = timedelta(seconds=now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
    LOG.info("%s: %.1f s, %.1f s CPU", what, time.monotonic() - began, cpu.total_seconds())


@pytest.fixture
def year(project: DagsterProject) -> DagsterProject:
    project.sql(SOURCE)
    project.declare(one=TABLE, twelve=TABLE)
    return project


def rows(year: DagsterProject, table: str) -> Sequence[tuple[object, ...]]:
    return year.sql(f"select day, count(*), min(n), max(n) from analytics.{table} group by 1 order by 1")


def test_year_is_the_same_as_one_run_and_as_twelve_that_were_stopped_in_the_middle(year: DagsterProject) -> None:
    whole = f"{MONTHS[0].partition('...')[0]}...{MONTHS[-1].partition('...')[2]}"
    measured("365 days as one run", lambda: year.materialize("one", partitions=whole))
    assert len(rows(year, "one")) == DAYS

    def months(chosen: Sequence[str]) -> list[bool]:
        return [year.materialize("twelve", partitions=month).success for month in chosen]

    measured("five months, a run each", lambda: months(MONTHS[:5]))
    year.sql("alter table raw_data.e rename to raw_data.gone")
    # Stopped in the middle: this run fails, and the ones after it were not started.
    assert months(MONTHS[5:6]) == [False]
    with year.resource.session(log=print) as session:
        table = load_tables(year.directory / "tables")["analytics", "twelve"]
        published = {each.key for each in read_partitions(session, table)}
    left = [month for month in MONTHS if month.partition("...")[0] not in published]
    assert left == MONTHS[5:]
    assert len(rows(year, "twelve")) == 151
    year.sql("alter table raw_data.gone rename to raw_data.e")
    measured("the seven months that were left", lambda: months(left))
    assert rows(year, "twelve") == rows(year, "one")
    measured("one day of them again", lambda: year.materialize("one", partitions=f"{YEAR}-06-15"))
    assert rows(year, "one") == rows(year, "twelve")
