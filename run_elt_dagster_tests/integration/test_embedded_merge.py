"""MERGE with several source rows for one row of the target: https://docs.snowflake.com/en/sql-reference/sql/merge."""

import pytest

from run_elt_dagster_tests.support.embedded import Session, account, session
from run_elt_dagster_tests.support.embedded import shipped_server as server

__all__ = ["account", "server", "session"]

MERGE = "merge into t using s on t.k = s.k "
UPDATE = "when matched then update set v = s.v "
BEFORE = [(1, "old"), (2, "old")]


@pytest.fixture
def t(session: Session) -> Session:
    """A session with the table T of two rows, and S of two rows for the first of them and two for none."""
    session.sql("create table t as select column1 as k, column2 as v from values (1, 'old'), (2, 'old')")
    session.sql(
        "create table s as select column1 as k, column2 as v from values (1, 'a'), (1, 'b'), (3, 'c'), (3, 'd')"
    )
    return session


def rows(session: Session) -> list[tuple[int, str]]:
    return [(row[0], row[1]) for row in session.sql("select k, v from t order by k, v")]


@pytest.mark.parametrize(
    "branches",
    [
        UPDATE,
        "when matched and s.v < 'c' then update set v = s.v",
        "when matched and s.v = 'a' then update set v = 'x' when matched and s.v = 'b' then update set v = 'y'",
        "when matched and s.v = 'a' then update set v = s.v when matched then delete",
        UPDATE + "when not matched then insert (k, v) values (s.k, s.v)",
    ],
)
def test_merge_of_two_rows_into_one_is_refused_and_changes_nothing(t: Session, branches: str) -> None:
    error = t.error(MERGE + branches)
    assert error.errno == 100090
    assert "Duplicate row detected during DML action" in str(error)
    assert rows(t) == BEFORE


@pytest.mark.parametrize(
    ("branches", "after"),
    [
        ("when matched and s.v = 'b' then update set v = s.v", [(1, "b"), (2, "old")]),
        ("when matched and s.v = 'b' then delete", [(2, "old")]),
        ("when not matched then insert (k, v) values (s.k, s.v)", [*BEFORE, (3, "c"), (3, "d")]),
        (
            "when matched and s.v = 'z' then delete when not matched and s.v = 'c' then insert values (s.k, s.v)",
            [*BEFORE, (3, "c")],
        ),
    ],
)
def test_merge_takes_the_one_row_that_a_branch_takes_and_every_row_that_is_new(
    t: Session, branches: str, after: list[tuple[int, str]]
) -> None:
    t.sql(MERGE + branches)
    assert rows(t) == after


def test_merge_that_deletes_one_row_for_several_of_the_source_is_refused(t: Session) -> None:
    """An account deletes it: https://docs.snowflake.com/en/sql-reference/sql/merge."""
    error = t.error(MERGE + "when matched then delete")
    assert error.errno == 2
    assert "cannot delete one row for several rows of the source by MERGE" in str(error)
    assert rows(t) == BEFORE
