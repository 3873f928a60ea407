"""What makes a database an environment, the statements about it, and what a branch builds."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from run_elt_dagster.environments.changes import Changes
from run_elt_dagster.environments.comparison import CopiedTable, is_untouched
from run_elt_dagster.environments.databases import Databases, Listed, clone_schemas_sql, clone_sql, show_sql
from run_elt_dagster.environments.mark import Mark, comment_of, environment_database, mark_in
from run_elt_dagster.environments.plan import Plan, plan_of, read_by_full_name, schemas_of
from run_elt_dagster.model.lineage import Catalogue, catalogue
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.snowflake.session import Answer, Session, StatementError

MADE_AT = datetime(2026, 11, 28, 10, tzinfo=UTC)
MARK = Mark("PROD__PR_7", "PROD", 'Zoë [it\'s "me"]', MADE_AT, MADE_AT + timedelta(days=14))


def test_mark_of_a_comment_is_read_back() -> None:
    assert mark_in(comment_of(MARK)) == MARK
    assert comment_of(MARK).startswith("Copy of PROD for Zoë")


@pytest.mark.parametrize(
    "edited",
    [
        "",
        "mine",
        "[run_elt environment {}]",
        "[run_elt environment [1]]",
        "[run_elt environment {not json}]",
        comment_of(MARK).replace("2026-11-28T10", "2026-13-28T10"),
        comment_of(MARK).replace("+00:00", ""),
        comment_of(MARK).replace('"owner"', '"ower"'),
    ],
)
def test_edited_comment_has_no_mark(edited: str) -> None:
    assert mark_in(edited) is None


@pytest.mark.parametrize("name", ["PROD", "PROD__PR_8", "PROD__PR_7_OLD", "OTHER"])
def test_database_with_the_mark_of_another_is_no_environment(name: str) -> None:
    """It was renamed, or it is a copy of a copy, or its comment was copied: it is never dropped."""
    assert Listed(name, comment_of(MARK), None).environment is None


def test_mark_that_names_the_production_database_as_an_environment_is_none() -> None:
    for forged in (replace(MARK, database="PROD"), replace(MARK, database="PROD__PR_7", of="PROD__PR_7")):
        assert Listed(forged.database, comment_of(forged), None).environment is None


def test_name_of_an_environment_becomes_part_of_a_database() -> None:
    assert environment_database("PROD", "My_branch2") == "PROD__MY_BRANCH2"


@pytest.mark.parametrize("name", ["feature/x", "a b", "a__b", "_a", "a_", "ä", 'a"b', ""])
def test_name_that_cannot_be_one_is_refused_with_a_near_one(name: str) -> None:
    with pytest.raises(ValueError, match=r"requires a name of letters and digits.*got .*\. Nothing was changed\. "):
        environment_database("PROD", name)


def test_name_that_is_too_long_is_refused() -> None:
    assert len(environment_database("PROD", "a" * 249)) == 255
    with pytest.raises(ValueError, match="at most 249 characters, got 250"):
        environment_database("PROD", "a" * 250)


def test_environment_is_made_in_one_statement() -> None:
    mark = Mark("PROD__A", "PROD", "jane", MADE_AT, MADE_AT + timedelta(days=1))
    assert clone_sql(mark) == (
        'CREATE DATABASE "PROD__A" CLONE "PROD" COMMENT = \'Copy of PROD for jane, dropped after 2026-11-29 (run-elt env). '
        '[run_elt environment {"database": "PROD__A", "of": "PROD", "owner": "jane", "made_at": "2026-11-28T10:00:00+00:00", '
        '"drops_at": "2026-11-29T10:00:00+00:00"}]\''
    )
    first, *schemas = clone_schemas_sql(mark, ["ANALYTICS", "Raw data"])
    assert first == clone_sql(mark).replace(' CLONE "PROD"', "")
    assert schemas == [
        'CREATE SCHEMA "PROD__A"."ANALYTICS" CLONE "PROD"."ANALYTICS"',
        'CREATE SCHEMA "PROD__A"."Raw data" CLONE "PROD"."Raw data"',
    ]


def test_databases_are_listed_by_what_their_names_begin_with() -> None:
    assert show_sql("PROD") == show_sql("PROD__PR_7") == "SHOW DATABASES LIKE 'PROD%'"


def a_table(name: str, sql: str) -> AnalyticsTable:
    return parse_table_file(Path(f"/tables/analytics/{name}.sql"), sql, schema="analytics", table=name)


def tables() -> Catalogue:
    """`a` is read by `b`, `b` by `c`; `d` reads what has no file; `e` reads production by its full name."""
    return catalogue(
        [
            a_table("a", "select 1 as x from raw_data.s"),
            a_table("b", "select x from analytics.a"),
            a_table("c", "select x from analytics.b"),
            a_table("d", "select x from analytics.gone_table"),
            a_table("e", "select x from prod.raw_data.s join prod.other.t using (x)"),
        ]
    )


def changes(*, rows: str = "", settings: str = "", new: str = "", deleted: tuple[Key, ...] = ()) -> Changes:
    differ, set_anew, added = (
        frozenset(("analytics", name) for name in names.split()) for names in (rows, settings, new)
    )
    return Changes("main", differ, set_anew, added, deleted)


def reasons(plan: Plan) -> dict[str, str]:
    return {each.table.table: each.reason for each in plan.built}


def test_all_tables_are_planned_without_changes_and_names() -> None:
    plan = plan_of(tables(), (), None)
    order = [each.table.table for each in plan.built]
    assert (sorted(order), plan.skipped) == (list("abcde"), ())
    assert order.index("a") < order.index("b") < order.index("c")


def test_changed_table_is_planned_with_all_that_read_it() -> None:
    plan = plan_of(tables(), (), changes(rows="a", new=""))
    assert reasons(plan) == {"a": "the file differs", "b": "reads analytics.a", "c": "reads analytics.b"}
    assert plan.skipped == (("analytics", "d"), ("analytics", "e"))
    assert plan.selection == 'key:"analytics/a" or key:"analytics/b" or key:"analytics/c"'


def test_table_with_changed_settings_alone_is_planned_without_its_readers() -> None:
    assert reasons(plan_of(tables(), (), changes(settings="a"))) == {
        "a": "settings in the file differ, and change no row"
    }


def test_reader_of_a_deleted_table_is_planned() -> None:
    plan = plan_of(tables(), (), changes(deleted=(("analytics", "gone_table"),)))
    assert reasons(plan) == {"d": "reads analytics.gone_table (it has no file any more)"}
    assert plan.deleted == (("analytics", "gone_table"),)


def test_named_tables_are_planned_alone_and_of_changed_ones_those_that_are_named() -> None:
    named: list[Key] = [("analytics", "b"), ("analytics", "d")]
    assert reasons(plan_of(tables(), named, None)) == {"b": "named", "d": "named"}
    assert reasons(plan_of(tables(), named, changes(rows="a", new="a"))) == {"b": "reads analytics.a"}


def test_nothing_changed_selects_nothing() -> None:
    assert plan_of(tables(), (), changes()).selection == ""


def test_what_an_environment_reads_of_production_is_found() -> None:
    e = ("analytics", "e")
    assert list(read_by_full_name(tables(), "PROD")) == [(e, ("prod", "other", "t")), (e, ("prod", "raw_data", "s"))]
    assert list(read_by_full_name(tables(), "PROD2")) == []


def test_schemas_of_an_environment_are_those_of_tables_and_of_what_they_read() -> None:
    assert schemas_of(tables(), "PROD") == ("ANALYTICS", "OTHER", "RAW_DATA")
    assert schemas_of(tables(), "PROD2") == ("ANALYTICS", "RAW_DATA")


RUN = "[run_elt run 8f3a01c2-0000 at 2026-11-27T00:00:00.000000Z]"
HOUR = timedelta(hours=1)
SOURCE = CopiedTable("T", 7, RUN, created_at=MADE_AT - HOUR, altered_at=MADE_AT - HOUR)
COPY = replace(SOURCE, created_at=MADE_AT, altered_at=MADE_AT + timedelta(milliseconds=300))


def test_copy_that_nobody_has_changed_is_not_read() -> None:
    assert is_untouched(COPY, SOURCE)
    # A copied file has the times of its source.
    assert is_untouched(SOURCE, SOURCE)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (replace(COPY, altered_at=MADE_AT + 2 * HOUR), SOURCE),
        (COPY, replace(SOURCE, altered_at=MADE_AT + HOUR)),
        # While it was copied: which rows the copy has is not known.
        (COPY, replace(SOURCE, altered_at=MADE_AT - timedelta(minutes=5))),
        (replace(COPY, rows=8), SOURCE),
        (replace(COPY, comment=RUN.replace("8f3a01c2", "8f3a01c3")), SOURCE),
        (replace(COPY, comment=""), replace(SOURCE, comment="")),
        (replace(COPY, altered_at=None), SOURCE),
    ],
)
def test_table_that_may_have_changed_is_read(here: CopiedTable, there: CopiedTable) -> None:
    assert not is_untouched(here, there)


class Refusing:
    """A session that has no database, and refuses statements with a word in them."""

    database = ""

    def __init__(self, word: str) -> None:
        self.word, self.sent = word, list[str]()

    def execute(self, sql: str, *, tag: object) -> Answer:
        self.sent.append(sql.split(" COMMENT", maxsplit=1)[0])
        if self.word in sql:
            raise StatementError("No.", errno=1234, query_id=None, answered=True)
        return Answer((), "", 0)


def test_environment_of_some_schemas_leaves_nothing_where_one_fails() -> None:
    session = Refusing('"PROD"."RAW"')
    databases = Databases(cast("Session", session), database="PROD")
    with pytest.raises(ValueError, match=r"PROD__A was not made, got No\.\. Nothing is left of it\."):
        databases.create("a", owner="jane", now=MADE_AT, days=1, schemas=["ANALYTICS", "RAW"])
    assert session.sent == [
        "SHOW DATABASES LIKE 'PROD%'",
        'CREATE DATABASE "PROD__A"',
        'CREATE SCHEMA "PROD__A"."ANALYTICS" CLONE "PROD"."ANALYTICS"',
        'CREATE SCHEMA "PROD__A"."RAW" CLONE "PROD"."RAW"',
        'DROP DATABASE IF EXISTS "PROD__A"',
    ]
