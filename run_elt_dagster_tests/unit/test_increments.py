"""What a file declares of increments, where one begins, and the statements that merge it, as literals."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from run_elt_dagster.audit.catalogue import Column, Inspection
from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.increment import keys_that_stay_sql, merged
from run_elt_dagster.audit.plan import Audit, Audited, KeyAudit, Numbers
from run_elt_dagster.model.candidate import (
    Marker,
    after_note,
    base_in,
    comment_of,
    marker_in,
    pieces_in,
    rolled_back_marker,
    start_in,
)
from run_elt_dagster.model.increment import BEGINNING, Increment, Start
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import Production
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.orchestration.code_versions import code_version
from run_elt_dagster.orchestration.rebuild import require_increment
from run_elt_dagster.publish import increment_exchange, partitions
from run_elt_dagster.publish.statements import build_sql, file_position
from run_elt_dagster_tests.support import table_texts

TARGET, CANDIDATE = Relation("PROD", "ANALYTICS", "ORDERS"), Relation("PROD", "ANALYTICS", "TEMP_ORDERS__8F3A01C2")
X, TEMP, NOTES = (f'"PROD"."ANALYTICS"."{name}"' for name in ("ORDERS", "TEMP_ORDERS__8F3A01C2", "RUN_ELT_PARTITIONS"))
MARKER = Marker("run", "8f3a01c2", "2026-11-25T00:00:00.000000Z")
START = Start(datetime(2026, 11, 24, 21, tzinfo=UTC))
INCREMENT = "increment: {column: updated_at, key: id, lookback_hours: 3}"
SQL = "select\n  id, updated_at\nfrom raw_data.orders -- end"


def parse(front_matter: str = INCREMENT, sql: str = SQL) -> AnalyticsTable:
    return table_texts.parse(table_texts.with_front_matter(front_matter, sql), table="t")


def problems_of(front_matter: str, sql: str = SQL) -> list[str]:
    return table_texts.problems_of(table_texts.with_front_matter(front_matter, sql), table="t")


def increment(**changes: Any) -> Increment:
    return Increment.model_validate({"column": "updated_at", "key": ["id", '"Line no"'], **changes})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("front_matter", "problem"),
    [
        ("increment: {column: updated_at}", "t.sql:2: increment.key: is required, got none."),
        ("increment: {column: updated_at, key: []}", "increment.key: requires at least one column"),
        ("increment: {column: updated_at, key: [id, ID]}", "increment.key: requires columns that differ"),
        ("increment: {column: a, key: id, lookback: 3}", "Did you mean 'increment.lookback_hours'?"),
        ("increment: {column: a, key: id, lookback_hours: -1}", "lookback_hours: requires a number of at least 0"),
        ("increment: {column: a, key: id, lookback_hours: 1e9}", "lookback_hours: requires a number of at most 100000"),
        (f"{INCREMENT}\npublish: overwrite", "t.sql:3: publish: cannot be chosen for a table that is built in parts"),
        (f"{INCREMENT}\nschema_change: report", "t.sql:3: schema_change: requires fail or add for a table that is"),
        (
            f"{INCREMENT}\npartitions: {{by: day, column: day, start: 2024-01-01}}",
            "t.sql:2: increment: cannot stand beside partitions: a run builds either the parts of some time or what is new",
        ),
        (f"{INCREMENT}\ncolumns: {{id: int}}", "increment.column: requires columns of the table, got updated_at"),
        (f"{INCREMENT}\ncolumns: {{updated_at: date}}", "increment.key: requires columns of the table, got id"),
        (
            f"{INCREMENT}\ncolumns: {{id: int, updated_at: int}}",
            "increment.column: requires a column of type date, time",
        ),
        (
            f"{INCREMENT}\nchecks: {{sql: {{increment: 'select * from {{table}}'}}}}",
            "requires a name that no other check of the table",
        ),
    ],
)
def test_declaration_that_cannot_be_followed_is_a_problem_of_its_line(front_matter: str, problem: str) -> None:
    (found,) = problems_of(front_matter)
    assert problem in found


@pytest.mark.parametrize(
    ("front_matter", "sql", "problem"),
    [
        (
            "owner: a@b.c",
            "select {increment_start}",
            "t.sql:4: SQL requires increment in the front matter for {increment",
        ),
        (
            INCREMENT,
            "select {partition_start}",
            "t.sql:4: SQL requires partitions in the front matter for {partition_start}",
        ),
        (INCREMENT, "select '{increment_start}'", "t.sql:4: SQL requires {increment_start} without quotes, got '{incr"),
    ],
)
def test_placeholder_without_a_meaning_is_a_problem_of_its_line(front_matter: str, sql: str, problem: str) -> None:
    (found,) = problems_of(front_matter, sql)
    assert problem in found


@pytest.mark.parametrize(
    ("newest", "snapshot_at", "literal"),
    [
        (datetime(2026, 11, 25, 10, 0, 5, 999_999), None, "'2026-11-25 07:00:05'::TIMESTAMP_NTZ"),  # noqa: DTZ001 - as Snowflake gives it
        (at("2026-11-25T10:00:00"), None, "'2026-11-25 07:00:00 +00:00'::TIMESTAMP_TZ"),
        (datetime.fromisoformat("2026-11-25T10:00:00+09:00"), None, "'2026-11-24 22:00:00 +00:00'::TIMESTAMP_TZ"),
        (date(2026, 11, 25), None, "'2026-11-24'::DATE"),
        # A row in the future: the next increment begins where the last one was read.
        (datetime(9999, 1, 1), at("2026-11-25T10:00:00.5"), "'2026-11-25 07:00:00'::TIMESTAMP_NTZ"),  # noqa: DTZ001
        (date(9999, 1, 1), at("2026-11-25T10:00:00"), "'2026-11-25'::DATE"),
        (datetime(1, 1, 1, 1), None, "'0001-01-01 00:00:00'::TIMESTAMP_NTZ"),  # noqa: DTZ001
    ],
)
def test_increment_begins_before_what_is_published(
    newest: date | datetime, snapshot_at: datetime | None, literal: str
) -> None:
    assert increment(lookback_hours=3).start(newest, snapshot_at=snapshot_at).literal == literal


def test_increment_filters_the_select_of_the_file_and_names_its_start_in_the_comment() -> None:
    table = parse("increment: {column: '\"At\"', key: id}\ndescription: Orders.")
    comment = f"Orders. [run_elt increment since 2026-11-24 21:00:00] {MARKER}"
    statement = build_sql(table, CANDIDATE, marker=MARKER, start=START)
    assert statement == (
        f"CREATE OR REPLACE TABLE {TEMP} COMMENT = '{comment}' AS (\nSELECT * FROM (\n{table.sql}\n) "
        'WHERE "At" >= \'2026-11-24 21:00:00\'::TIMESTAMP_NTZ OR "At" IS NULL\n)'
    )
    assert (marker_in(comment), pieces_in(comment)) == (MARKER, None)
    line = next(n for n, text in enumerate(statement.splitlines(), start=1) if text == "  id, updated_at")
    assert file_position(table, statement, line=line, position=2) == "t.sql:6:3"
    assert build_sql(table, CANDIDATE, marker=MARKER).endswith(f"'Orders. {MARKER}' AS (\n{table.sql}\n)")


@pytest.mark.parametrize(
    ("columns", "beginning"),
    [
        ("", "'0001-01-01 00:00:00'::TIMESTAMP_NTZ"),
        ("\ncolumns: {id: int, updated_at: date}", "'0001-01-01'::DATE"),
        ("\ncolumns: {id: int, updated_at: timestamp_ltz}", "'0001-01-01 00:00:00 +00:00'::TIMESTAMP_LTZ"),
    ],
)
def test_start_stands_where_the_file_asks_for_it(columns: str, beginning: str) -> None:
    table = parse(
        INCREMENT + columns, "select id, updated_at from t where loaded_at > {increment_start} -- {increment_start}"
    )
    assert table.increment_sql(START) == (
        "\nselect id, updated_at from t where loaded_at > '2026-11-24 21:00:00'::TIMESTAMP_NTZ -- {increment_start}\n"
    )
    whole = f"\nselect id, updated_at from t where loaded_at > {beginning} -- {{increment_start}}\n"
    assert (table.whole_sql, table.readable_sql) == (whole, whole)
    assert build_sql(table, CANDIDATE, marker=MARKER).endswith(f"AS (\n{whole}\n)")


def test_rows_make_way_by_their_key() -> None:
    """The columns of the candidate have other names, so those of the target are the only ones of their name."""
    assert increment_exchange.delete_replaced_sql(TARGET, CANDIDATE, key=["ID", "Line no"]) == (
        f'DELETE FROM {X} USING (SELECT "ID" AS "run_elt key 1", "Line no" AS "run_elt key 2" FROM {TEMP}) AS built '
        'WHERE "ID" = "run_elt key 1" AND "Line no" = "run_elt key 2"'
    )
    assert increment_exchange.newest_sql(parse(), TARGET) == f'SELECT MAX("UPDATED_AT") FROM {X}'
    assert increment_exchange.count_sql(TARGET, CANDIDATE, key=["ID"]) == (
        f"SELECT (SELECT COUNT(*) FROM {X}), (SELECT COUNT(*) FROM {X} AS published WHERE EXISTS (SELECT 1 FROM {TEMP} AS built "
        'WHERE built."ID" = published."ID"))'
    )


def test_last_increment_is_noted_in_the_place_of_the_one_before() -> None:
    noted = partitions.record_sql(TARGET, [partitions.increment_note(START)], {partitions.INCREMENT_KEY: 7}, MARKER)
    assert "('increment', '2026-11-24 21:00:00'::TIMESTAMP_NTZ, '9999-12-31 00:00:00'::TIMESTAMP_NTZ, 7)" in noted
    assert partitions.increment_note(None).start == BEGINNING
    assert partitions.all_markers_sql(TARGET).endswith(f"FROM {NOTES} WHERE TABLE_NAME = 'ORDERS'")


def test_table_after_the_merge_has_the_columns_of_the_candidate() -> None:
    built, published = [Column("ID", "NUMBER"), Column("NEW", "TEXT")], [Column("OLD", "TEXT"), Column("ID", "NUMBER")]
    after = merged(TARGET, CANDIDATE, key=["ID"], built=built, published=published)
    assert after.sql == (
        f'(SELECT "ID", "NEW" FROM {TEMP} UNION ALL SELECT "ID", NULL AS "NEW" FROM {X} AS published '
        f'WHERE NOT EXISTS (SELECT 1 FROM {TEMP} AS built WHERE built."ID" = published."ID"))'
    )
    assert keys_that_stay_sql(["MAIL"], TARGET, CANDIDATE, key=["ID"]) == (
        f'SELECT COUNT(*) FROM {TEMP} AS here WHERE EXISTS (SELECT 1 FROM (SELECT "MAIL" FROM {X} AS published WHERE NOT EXISTS '
        f'(SELECT 1 FROM {TEMP} AS built WHERE built."ID" = published."ID")) AS there WHERE here."MAIL" = there."MAIL")'
    )


def audits(front_matter: str) -> dict[str, Audit]:
    return {audit.name: audit for audit in audits_of(parse(f"{INCREMENT}\n{front_matter}"))}


@pytest.mark.parametrize(
    ("key", "is_asked_elsewhere"), [("id", False), ("[mail, Id]", False), ("mail", True), ("[mail, line]", True)]
)
def test_key_that_holds_the_key_of_the_increment_needs_no_look_elsewhere(key: str, is_asked_elsewhere: bool) -> None:
    assert isinstance(audits(f"primary_key: {key}")["primary_key"], KeyAudit) is is_asked_elsewhere


@pytest.mark.parametrize(
    ("data_type", "found"),
    [
        ("DATE", None),
        ("TIMESTAMP_LTZ", None),
        ("NUMBER", "UPDATED_AT of type NUMBER, expected date, timestamp_ntz, timestamp_tz, timestamp_ltz"),
    ],
)
def test_column_that_is_no_time_fails_the_check_of_the_first_build(data_type: str, found: str | None) -> None:
    """Otherwise no run would find where to begin, and each would build the whole table."""
    audit = audits("owner: a@b.c")["increment"]
    inspection = Inspection(candidate_columns=(Column("ID", "NUMBER"), Column("UPDATED_AT", data_type)))
    outcome = audit.judge(Numbers((3, 0, 0, 0)), Audited(CANDIDATE, inspection))
    assert (outcome.found, outcome.blocks) == (found, found is not None)


def test_audits_of_the_table_as_a_whole_are_known() -> None:
    found = audits(
        "checks: {row_count_change: {max_drop: 1%}, freshness: {updated_at: 5}, not_null: id, "
        "relationship: {id: analytics.t.id, updated_at: raw_data.days.day}, sql: {own: 'select * from {table}'}}"
    )
    assert {name for name, audit in found.items() if audit.is_of_table} == {
        *("row_count", "row_count_change", "freshness_updated_at", "relationship_id")
    }


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-25T00:00:00.5Z", at("2026-11-25T00:00:00.5")),
        ("2026-11-25", at("2026-11-25")),
        ("", None),
        ("x", None),
    ],
)
def test_moment_of_a_snapshot_is_read_as_far_as_it_is_one(text: str, moment: datetime | None) -> None:
    assert Marker("run", "8f3a01c2", text).read_at == moment


def test_lookback_puts_no_table_out_of_date() -> None:
    assert code_version(parse()) == code_version(parse("increment: {column: updated_at, key: id}"))
    assert code_version(parse()) != code_version(parse("increment: {column: updated_at, key: [id, line]}"))


def test_run_of_unknown_rows_is_looked_for_in_the_notes() -> None:
    unknown = Production("unknown", run_id="8f3a01c2", target="PROD.ANALYTICS.RUN_ELT_PARTITIONS")
    assert unknown.words.endswith("look for 8f3a01c2 in PROD.ANALYTICS.RUN_ELT_PARTITIONS.")


def test_comment_without_an_increment_is_as_before() -> None:
    assert comment_of(parse(), MARKER) == str(MARKER)


@pytest.mark.parametrize(
    ("front_matter", "remedy"),
    [
        (
            "owner: a@b.c",
            "each run builds it whole. Nothing was built. Run dagster asset materialize --select analytics/t -m",
        ),
        (
            "partitions: {by: day, column: updated_at, start: 2024-01-01, end: 2024-01-03}",
            "--partition-range 2024-01-01...2024-01-02 -m",
        ),
    ],
)
def test_table_that_needs_no_rebuild_is_refused_with_what_to_do(front_matter: str, remedy: str) -> None:
    with pytest.raises(ValueError, match="run-elt rebuild requires a table with increments, got") as caught:
        require_increment(parse(front_matter), ("-m", "run_elt_dagster"))
    assert remedy in str(caught.value)


@pytest.mark.parametrize("kind", ["DATE", "TIMESTAMP_NTZ", "TIMESTAMP_TZ"])
def test_comment_of_a_rejected_increment_is_read_back(kind: str) -> None:
    moment = datetime(2024, 1, 31, tzinfo=UTC) if kind == "DATE" else datetime(2024, 1, 31, 7, 30, tzinfo=UTC)
    start, base = Start(moment, kind), Marker("run", "0000000A", "2024-01-30T00:00:00.000000Z")
    comment = comment_of(parse(), Marker("failed", "0000000B", "2024-02-01"), start=start, notes=[after_note(base)])
    assert (start_in(comment), base_in(comment)) == (start, base)
    assert (start_in("whole"), base_in("whole")) == (None, None)


@pytest.mark.parametrize(
    ("newest", "is_there"),
    [
        (Marker("run", "B", "2"), True),
        (Marker("run", "C", "3"), True),
        (Marker("run", "A", "1"), False),
        (None, False),
        (rolled_back_marker(Marker("run", "B", "2")), False),
        (rolled_back_marker(Marker("run", "C", "3")), False),
    ],
)
def test_increment_goes_on_from_the_rows_that_it_began_after_or_newer_ones(
    newest: Marker | None, is_there: bool
) -> None:
    assert increment_exchange.is_base_there(newest, Marker("run", "B", "2")) is is_there
    assert increment_exchange.is_base_there(newest, None)


def test_increment_goes_on_from_rows_that_were_put_back_before_it_began() -> None:
    base = rolled_back_marker(Marker("run", "B", "2"))
    assert increment_exchange.is_base_there(base, base)
