"""The statements that put the rows of partitions back, and what is noted of them then."""

from datetime import UTC, datetime

from run_elt_dagster.model.candidate import Marker, target_of
from run_elt_dagster.publish.part_rollback_plan import PartRollbackPlan, PartVersion, parts_of_slice
from run_elt_dagster.publish.partitions import PublishedPartition, forget_keys_sql, notes_before_sql, record_again_sql
from run_elt_dagster_tests.support.slices import Version, divided, key, part_of

TABLE = divided(Version(3, 1))
TARGET = target_of(TABLE, database="PROD")
X, NOTES = '"PROD"."ANALYTICS"."DAILY"', '"PROD"."ANALYTICS"."RUN_ELT_PARTITIONS"'
DAYS = {day: f"(\"DAY\" >= '2024-01-0{day}'::DATE AND \"DAY\" < '2024-01-0{day + 1}'::DATE)" for day in (1, 2, 3)}
PUBLISHED = datetime(2026, 1, 9, tzinfo=UTC)


def note(day: int, run_id: str, query_id: str | None, rows: int = 5) -> PublishedPartition:
    start, end = (datetime(2024, 1, each, tzinfo=UTC) for each in (day, day + 1))
    marker = Marker("run", run_id, f"2026-01-0{len(run_id)}")
    return PublishedPartition(key(day), start, end, marker, rows, PUBLISHED, query_id)


def a_plan(*versions: PartVersion) -> PartRollbackPlan:
    parts = parts_of_slice(TABLE, part_of(TABLE, (1, 3)), target=TARGET)
    by_key = {version.present.key: version for version in versions}
    return PartRollbackPlan(TABLE, TARGET, parts, by_key, columns=("DAY", "n n"))


def test_each_publish_that_is_undone_is_one_insert_of_the_rows_before_it() -> None:
    plan = a_plan(
        PartVersion(note(1, "bb", "q1"), note(1, "a", None), 3),
        PartVersion(note(3, "bb", "q1"), note(3, "a", None), 4),
        PartVersion(note(2, "ccc", "q2"), note(2, "bb", "q1"), 5),
    )
    names = '"DAY", "n n"'
    head = f"INSERT INTO {X} ({names}) SELECT {names} FROM {X}"
    assert plan.insert_sqls == (
        f"{head} BEFORE(STATEMENT => 'q1') WHERE {DAYS[1]} OR {DAYS[3]}",
        f"{head} BEFORE(STATEMENT => 'q2') WHERE {DAYS[2]}",
    )
    together = "(\"DAY\" >= '2024-01-01'::DATE AND \"DAY\" < '2024-01-04'::DATE)"
    assert plan.delete_sql == f"DELETE FROM {X} WHERE {together}"
    assert (plan.count_sql, plan.rows) == (f"SELECT COUNT(*) FROM {X} WHERE {together}", 12)


def test_note_of_rows_that_are_back_leads_to_those_before_them() -> None:
    once = PartVersion(note(2, "ccc", "q2"), note(2, "bb", "q1"), 5).note
    assert (once.marker, once.query_id) == (Marker("run", "rollback-of-ccc", "2026-01-03"), "q1")
    # One further: it stays the publish of C that was taken back. An older run must not come after it. The rows are others.
    twice = PartVersion(once, note(2, "a", None), 3).note
    assert (twice.marker.run_of_rows, twice.marker.at, twice.query_id, twice.rows) == ("ccc", once.marker.at, None, 3)
    assert (twice.marker.is_rolled_back, twice.marker == once.marker) == (True, False)


def test_notes_are_read_from_the_past_and_written_anew() -> None:
    of = f"TABLE_NAME = 'DAILY' AND PARTITION_KEY IN ('{key(1)}', '{key(2)}')"
    keys = [key(1), key(2)]
    assert notes_before_sql(TARGET, keys, "q1").endswith(f"FROM {NOTES} BEFORE(STATEMENT => 'q1') WHERE {of}")
    assert forget_keys_sql(TARGET, keys) == f"DELETE FROM {NOTES} WHERE {of}"
    assert record_again_sql(TARGET, [note(1, "bb", None, rows=7)]).endswith(
        f"FROM VALUES ('{key(1)}', '2024-01-01 00:00:00'::TIMESTAMP_NTZ, '2024-01-02 00:00:00'::TIMESTAMP_NTZ, "
        "'bb', '2026-01-02', 7, NULL)"
    )
