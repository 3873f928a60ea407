"""The check `changes` over the real connector: what it counts, what it stops, and how many statements it takes."""

import json
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from run_elt_dagster.audit.catalogue import Column
from run_elt_dagster.audit.difference import Comparison
from run_elt_dagster.audit.plan import AuditOutcome
from run_elt_dagster.model.names import Relation
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster_tests.support.embedded import Account, Session, account
from run_elt_dagster_tests.support.embedded import shipped_server as server
from run_elt_dagster_tests.support.increments import growing, run_increment
from run_elt_dagster_tests.support.increments import seen as rows_seen
from run_elt_dagster_tests.support.local_server import NEW, OLD, LocalServer, mau
from run_elt_dagster_tests.support.slices import Version, divided, run_slice, states

__all__ = ["account", "server"]


def found(audits: tuple[AuditOutcome, ...]) -> AuditOutcome:
    """Return the verdict of the check."""
    return next(each for each in audits if each.audit.name == "changes")


def keyed(limits: str) -> str:
    return f"primary_key: [n]\nchecks: {{changes: {{{limits}}}}}"


def test_change_beyond_its_limit_is_not_published(local_server: LocalServer) -> None:
    more = keyed("max_removed: 0, max_changed: 50%, columns: {v: 3}")
    first = local_server.run("0000000A", mau(3, 1, more=more))
    assert str(found(first.audits)) == "check changes does not apply: there is no published table to compare with"
    failed = local_server.run("0000000B", mau(2, 2, more=more))
    assert failed.failure is not None
    assert local_server.seen() == OLD
    assert str(found(failed.audits)) == (
        "check changes found 1 of 3 rows removed (at most 0); 2 of 3 rows changed (66.67 %, at most 50 %); 0 rows added; 2 with another v"
    )
    assert found(failed.audits).got == {
        "rows_before": 3,
        "rows_after": 2,
        "rows_added": 0,
        "rows_removed": 1,
        "rows_changed": 2,
        "changed_v": 2,
    }
    assert local_server.run("0000000C", mau(5, 2, more=keyed("columns: {v: 3}"))).published
    assert local_server.seen() == NEW


def test_it_takes_one_statement_and_none_where_it_is_not_declared(local_server: LocalServer) -> None:
    def stages(run_id: str, more: str) -> Counter[str]:
        local_server.server.history.clear()
        assert local_server.run(run_id, mau(3, 1, more=more)).published
        tags = (json.loads(record.query_tag or "{}") for record in local_server.server.history)
        return Counter(tag["stage"] for tag in tags if "stage" in tag)

    without, with_it = "primary_key: [n]", keyed("max_removed: 0")
    first = stages("0000000A", without)
    assert first["audit"] == 1
    assert stages("0000000B", without)["audit"] == 1
    assert stages("0000000C", with_it) == stages("0000000D", without) + Counter(audit=1)
    local_server.reader.sql("drop table analytics.mau")
    assert stages("0000000E", with_it) == first


def test_totals_are_compared_without_a_key(local_server: LocalServer) -> None:
    more = "checks: {changes: {max_added: 2, max_removed: 10%, columns: {v: 50%}}}"
    assert local_server.run("0000000A", mau(10, 1, more=more)).published
    outcome = found(local_server.run("0000000B", mau(13, 2, more=more)).audits)
    assert outcome.found == (
        "3 rows more (at most 2); the sum of v 160 % off (at most 50 %); 0 of 10 rows fewer; the number of values of v 0 % off"
    )
    assert outcome.got["sum_v_change_percent"] == 160


@pytest.fixture
def reader(account: Account) -> Session:
    session = account.session()
    for name in ("daily", "orders", "run_elt_partitions"):
        session.sql(f"drop table if exists analytics.{name}")
    return session


def test_each_partition_is_compared_with_its_own_rows_in_one_statement(account: Account, reader: Session) -> None:
    _ = reader
    rule = {"changes": {"key": ["day", "n"], "max_removed": 0, "max_changed": 0}}

    def run(version: Version | str, days: list[int], run_id: str) -> TableOutcome:
        return run_slice(account.arguments, divided(version, checks=rule), days, run_id)

    assert run(Version(3, 1), [1, 2], "0000000A").published
    # The third day is new, and the second one has other values.
    changed = f"select day, n, iff(day = '2024-01-02', 9, v)::int as v from ({Version(3, 1).sql})"
    outcome = run(changed, [1, 3], "0000000B")
    assert states(outcome) == {1: "published", 2: "failed", 3: "published"}
    said = {
        int(key[-2:]): str(found(part.audits)).partition(" 2024-01-0")[2] for key, part in outcome.partitions.items()
    }
    assert said == {
        1: "1 found 0 rows added; 0 of 3 rows removed; 0 of 3 rows changed",
        2: "2 found 3 of 3 rows changed (at most 0); 0 rows added; 0 of 3 rows removed; 3 with another v",
        3: "3 does not apply: the published partition has no rows to compare with",
    }


def test_increment_is_compared_with_the_rows_that_make_way_as_a_share_of_all(account: Account, reader: Session) -> None:
    def run(rows: dict[int, tuple[int, int]], run_id: str, **options: Any) -> TableOutcome:
        table = growing(rows, lookback_hours=1, checks={"changes": {"max_changed": "30%", "max_removed": 0}})
        return run_increment(account.arguments, table, run_id, **options)

    old = {n: (1, n) for n in range(1, 5)}
    assert run(old, "0000000A").published
    fine = run({**old, 4: (2, 4), 5: (1, 5)}, "0000000B")
    assert found(fine.audits).summary == "1 row added; 0 of 4 rows removed; 1 of 4 rows changed; 1 with another v"
    assert found(fine.audits).got["rows_after"] == 5
    failed = run({1: (3, 6), 4: (3, 6), 5: (3, 6)}, "0000000C")
    assert str(found(failed.audits)).startswith("check changes found 3 of 5 rows changed (60 %, at most 30 %)")
    # A whole build is compared with the whole table, so rows that are gone are seen.
    whole = run({1: (1, 1)}, "0000000D", is_whole=True)
    assert str(found(whole.audits)).startswith("check changes found 4 of 5 rows removed (at most 0)")
    assert rows_seen(reader) == {**old, 4: (2, 4), 5: (1, 5)}


VALUES = st.tuples(
    st.one_of(st.none(), st.integers(0, 3)),
    st.one_of(st.none(), st.sampled_from(["a", "b", ""])),
    st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5, 1.5 + 1e-12, 1.6, math.nan, math.inf])),
    st.one_of(st.none(), st.integers(-2, 2)),
)
ROWS = st.lists(VALUES, max_size=7)
COLUMNS = (Column("K", "NUMBER", 38, 0), Column("T", "TEXT"), Column("F", "FLOAT"), Column("N", "NUMBER", 38, 0))
Row = tuple[int | None, str | None, float | None, int | None]


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"'{value}'::float"
    return f"'{value}'" if isinstance(value, str) else str(value)


def _table(rows: list[Row]) -> str:
    listed = ", ".join(f"({', '.join(map(_literal, row))})" for row in rows) or "(0, '', 0::float, 0)"
    where = "" if rows else " where 1 = 0"
    return f"select column1::int as k, column2::varchar as t, column3::float as f, column4::int as n from values {listed}{where}"


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return one == other or math.isclose(one, other, rel_tol=0.99e-9)
    return one == other


def _expected(new: list[Row], old: list[Row]) -> tuple[int, ...]:
    """Return rows of both, keys added, removed, changed, repeated, and the changed values of each column."""
    keys = {row[0] for row in (*new, *old)}
    news, olds = ({key: [row for row in rows if row[0] == key] for key in keys} for rows in (new, old))
    counts = Counter[str]()
    by_column = [0, 0, 0]
    for key in keys:
        if len(news[key]) > 1 or len(olds[key]) > 1:
            counts["repeated"] += 1
        elif not olds[key] or not news[key]:
            counts["removed" if olds[key] else "added"] += 1
        else:
            differs = [not _is_same(a, b) for a, b in zip(news[key][0][1:], olds[key][0][1:], strict=True)]
            counts["changed"] += any(differs)
            by_column = [count + is_other for count, is_other in zip(by_column, differs, strict=True)]
    states = (counts[state] for state in ("added", "removed", "changed", "repeated"))
    return (len(new), len(old), *states, *by_column)


@pytest.mark.parametrize("examples", [6, pytest.param(200, marks=pytest.mark.thorough)])
def test_difference_is_that_of_a_plain_comparison_of_the_rows(account: Account, examples: int) -> None:
    session = account.session()
    one, other = (Relation("RUN_ELT", "ANALYTICS", name) for name in ("DIFF_NEW", "DIFF_OLD"))
    keyed = Comparison(one, other, COLUMNS, COLUMNS, ("K",))
    plain = Comparison(one, other, COLUMNS, COLUMNS, only=("T", "N"))

    @settings(max_examples=examples, deadline=None)
    @given(new=ROWS, old=ROWS)
    def differ_alike(new: list[Row], old: list[Row]) -> None:
        for relation, rows in ((one, new), (other, old)):
            session.sql(f"create or replace table {relation.sql} as {_table(rows)}")
        assert tuple(int(value or 0) for value in session.sql(keyed.counts_sql())[0]) == _expected(new, old)
        totals = plain.totals(session.sql(plain.totals_sql())[0])
        assert (totals.new_rows, totals.old_rows) == (len(new), len(old))
        assert totals.columns["T"].distinct == tuple(len({row[1] for row in rows} - {None}) for rows in (new, old))
        sums = [[row[3] for row in rows if row[3] is not None] for rows in (new, old)]
        assert totals.columns["N"].sums == tuple(sum(each) if each else None for each in sums)

    differ_alike()
