"""What the front matter says of changes, the statement made of it, and the verdict on its answer. Nothing is sent."""

import math
from pathlib import Path
from typing import Any

import pytest

from run_elt_dagster.audit.catalogue import Column, Inspection
from run_elt_dagster.audit.changes import ChangesAudit
from run_elt_dagster.audit.declared import audits_of
from run_elt_dagster.audit.plan import Audited, AuditOutcome, Numbers, reading_plan
from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster.model.production import TableVersion
from run_elt_dagster.model.table import AnalyticsTable

CANDIDATE, TARGET = Relation("D", "S", "TEMP_T__8F3A01C2"), Relation("D", "S", "T")
ID, V, W = Column("ID", "NUMBER", 38, 0), Column("V", "NUMBER", 38, 0), Column("W", "TEXT")


def a_table(**rule: Any) -> AnalyticsTable:
    more = {"primary_key": "id"} if rule.pop("has_key", True) else {}
    return AnalyticsTable.model_validate(
        {"schema": "s", "table": "t", "sql": "select 1 as id", "checks": {"changes": rule}, **more}
    )


def an_audit(**rule: Any) -> ChangesAudit:
    return next(audit for audit in audits_of(a_table(**rule)) if isinstance(audit, ChangesAudit))


def audited(*, built: tuple[Column, ...] = (ID, V, W), there: tuple[Column, ...] = (ID, V, W), **more: Any) -> Audited:
    inspection = Inspection(TableVersion("T", 1000), target_columns=there, candidate_columns=built)
    return Audited(CANDIDATE, inspection, published=TARGET, **more)


def judged(audit: ChangesAudit, *values: Any, **more: Any) -> AuditOutcome:
    return audit.judge(Numbers(values, "q"), audited(**more))


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("{max_removed: 1.5}", "checks.changes.max_removed: requires a number of rows or a percentage of them, as in 100 or 0.5%, got '1.5'."),
        ("{max_removed: -1}", "checks.changes.max_removed: requires a number of rows or a percentage of them, as in 100 or 0.5%, got '-1'."),
        ("{max_added: '5'}", "checks.changes.max_added: requires a number of rows or a percentage of them, as in 100 or 0.5%, got '5'."),
        ("{columns: {v: much}}", "checks.changes.columns.v: requires a number of rows or a percentage of them, as in 100 or 0.5%, got 'much'."),
        ("{max_removed: 101%}", "checks.changes: requires a max_removed of at most 100%, got '{max_removed: 101%}'."),
        ("{key: id}", "checks.changes: requires max_added, max_removed, max_changed or columns, got '{key: id}'."),
        ("{max_remove: 1}", "unknown key 'checks.changes.max_remove'. Did you mean 'checks.changes.max_removed'?"),
        ("{key: [id, ID], max_added: 1}", "checks.changes.key: requires columns that differ, got '[id, ID]'."),
        ("{key: id, max_changed: 1, ignore: ID}", "checks.changes.ignore: requires columns that differ, got ID, which key has too."),
        ("{key: id, columns: {ID: 1}}", "checks.changes.columns: requires columns that differ, got ID, which key has too."),
        ("{key: id, columns: {v: 1, V: 2}}", "checks.changes.columns: requires columns that differ, got v, a second time."),
        ("{key: id, columns: {v: 1}, ignore: w}", "checks.changes.ignore: cannot stand without max_changed: columns alone names what is compared, got"),
        ("{max_changed: 1%}", "checks.changes.max_changed: requires a key, or a primary_key of the table, to find the row of before, got none."),
        ("{columns: {v: 5}}", "checks.changes.columns.v: requires a percentage where no key identifies a row, got 5 for v."),
    ],
)  # fmt: skip
def test_wrong_limit_is_told_with_its_line(rule: str, problem: str) -> None:
    text = f"/* elt\nchecks:\n  changes: {rule}\nelt */ select 1 as id"
    with pytest.raises(TableProblemsError) as raised:
        parse_table_file(Path("t.sql"), text, schema="s", table="t")
    (found,) = raised.value.problems
    assert found.line == 3
    assert found.message.startswith(problem)


def test_check_outside_of_checks_is_told_where_it_belongs() -> None:
    with pytest.raises(TableProblemsError, match=r"unknown key 'changes'\. It is a check: write it under checks\."):
        parse_table_file(Path("t.sql"), "/* elt\nchanges: {max_added: 1}\nelt */ select 1 as id", schema="s", table="t")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (
            {"increment": {"column": "at", "key": "id"}, "checks": {"changes": {"key": "v", "max_added": 1}}},
            "requires the key of the increment, id: rows make way by it, got v",
        ),
        (
            {"primary_key": "id", "checks": {"changes": {"columns": {"Id": 1}}}},
            "cannot have a limit for a column of the key, got Id",
        ),
        (
            {"columns": {"id": None}, "checks": {"changes": {"key": "id", "max_changed": 1, "ignore": "w"}}},
            "requires columns of the table, got w",
        ),
    ],
)
def test_rule_has_to_suit_the_table(more: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        AnalyticsTable.model_validate({"schema": "s", "table": "t", "sql": "select 1 as id", **more})


def test_only_columns_with_a_limit_are_read_unless_every_change_counts() -> None:
    def compared(**rule: Any) -> list[str]:
        sql = an_audit(**rule).asks(audited())
        return [name for name in ("V", "W") if f'"{name}"' in sql]

    assert compared(max_removed=0) == []
    assert compared(max_removed=0, columns={"v": 1}) == ["V"]
    assert compared(max_changed=0, columns={"v": 1}) == ["V", "W"]
    assert compared(max_changed=0, ignore="w") == ["V"]


def test_totals_are_asked_of_both_tables_in_one_statement_by_partition() -> None:
    sql = an_audit(has_key=False, columns={"v": "1%", "w": "1%"}).asks(audited(), ("new_number", "old_number"))
    assert sql == (
        'SELECT "run_elt group", SUM("run_elt new"), SUM("run_elt old"), SUM(IFF("run_elt new" = 1, "V", NULL)), '
        'SUM(IFF("run_elt old" = 1, "V", NULL)), COUNT(DISTINCT IFF("run_elt new" = 1, "V", NULL)), '
        'COUNT(DISTINCT IFF("run_elt old" = 1, "V", NULL)), COUNT(DISTINCT IFF("run_elt new" = 1, "W", NULL)), '
        'COUNT(DISTINCT IFF("run_elt old" = 1, "W", NULL)) FROM (SELECT new_number AS "run_elt group", "V", "W", '
        '1 AS "run_elt new", 0 AS "run_elt old" FROM "D"."S"."TEMP_T__8F3A01C2" UNION ALL SELECT old_number AS "run_elt group", '
        '"V", "W", 0 AS "run_elt new", 1 AS "run_elt old" FROM "D"."S"."T") GROUP BY "run_elt group"'
    )


EVERYTHING = {"max_added": 5, "max_removed": "1%", "max_changed": "0.5%", "columns": {"v": 2}}


@pytest.mark.parametrize(
    ("counts", "passed", "words"),
    [
        ((1000, 1000, 5, 10, 5, 0, 2, 4), True, "5 rows added; 10 of 1,000 rows removed; 5 of 1,000 rows changed; 2 with another v; 4 with another w"),
        ((1001, 1000, 6, 5, 0, 0, 0, 0), False, "6 rows added (at most 5); 5 of 1,000 rows removed; 0 of 1,000 rows changed; 0 with another v"),
        ((989, 1000, 0, 11, 0, 0, 0, 0), False, "11 of 1,000 rows removed (1.1 %, at most 1 %); 0 rows added; 0 of 1,000 rows changed; 0 with another v"),
        ((1000, 1000, 0, 0, 6, 0, 3, 0), False, "6 of 1,000 rows changed (0.6 %, at most 0.5 %); 3 with another v (at most 2); 0 rows added; 0 of 1,000 rows removed"),
        ((1001, 1000, 0, 0, 0, 1, 0, 0), False, "1 key with several rows, not compared (at most 0); 0 rows added; 0 of 1,000 rows removed; 0 of 1,000 rows changed; 0 with another v"),
        ((10**9, 10**9, 0, 10**7 + 1, 0, 0, 0, 0), False, "10,000,001 of 1,000,000,000 rows removed (1.0000001 %, at most 1 %); 0 rows added; 0 of 1,000,000,000 rows changed; 0 with another v"),
    ],
)  # fmt: skip
def test_verdict_by_key_says_first_what_is_too_much(counts: tuple[int, ...], passed: bool, words: str) -> None:
    outcome = judged(an_audit(**EVERYTHING), *counts)
    assert (outcome.passed, outcome.summary) == (passed, words)
    assert (outcome.found is None) == passed
    assert outcome.bad_rows is None


@pytest.mark.parametrize(
    ("values", "passed", "words"),
    [
        ((10, 10, 100.0 + 1e-8, 100.0, 3, 3), True, "0 rows more; the sum of v 0 % off; the number of values of v 0 % off"),
        ((10, 10, 99, 100, 3, 3), True, "0 rows more; the sum of v -1 % off; the number of values of v 0 % off"),
        ((13, 10, None, 5, 0, 1), False, "the sum of v -100 % off (at most 1 %); the number of values of v -100 % off (at most 1 %); 3 rows more"),
        ((10, 10, 5, None, 1, 1), False, "the sum of v off from 0, or no number (at most 1 %); 0 rows more; the number of values of v 0 % off"),
        ((10, 10, math.nan, 5.0, 1, 1), False, "the sum of v off from 0, or no number (at most 1 %); 0 rows more; the number of values of v 0 % off"),
        ((10, 10, math.nan, math.nan, 1, 1), True, "0 rows more; the sum of v 0 % off; the number of values of v 0 % off"),
    ],
)  # fmt: skip
def test_verdict_on_totals(values: tuple[Any, ...], passed: bool, words: str) -> None:
    outcome = judged(an_audit(has_key=False, max_added=5, columns={"v": "1%"}), *values)
    assert (outcome.passed, outcome.summary.replace("; 0 of 10 rows fewer", "")) == (passed, words)


@pytest.mark.parametrize(
    ("more", "passed", "words"),
    [
        ({"there": ()}, True, "does not apply: there is no published table to compare with"),
        ({"is_target": True}, True, "does not apply: there is no other table to compare with"),
        ({"there": (V, W)}, False, "found no column ID in both D.S.TEMP_T__8F3A01C2 and D.S.T, expected the key"),
        ({"built": (ID, W)}, False, "found no column V, expected one to compare"),
        ({"built": ()}, False, "could not be evaluated: the catalogue has no columns of D.S.TEMP_T__8F3A01C2"),
    ],
)
def test_nothing_is_asked_where_nothing_can_be_compared(more: dict[str, Any], passed: bool, words: str) -> None:
    audit = an_audit(columns={"v": 1})
    assert audit.asks(audited(**more)) == ""
    outcome = judged(audit, **more)
    assert (outcome.passed, str(outcome)) == (passed, f"check changes {words}")


def test_new_column_has_nothing_to_be_compared_with_and_says_so() -> None:
    outcome = judged(an_audit(columns={"v": 0}), 3, 3, 0, 0, 0, 0, there=(ID,))
    assert (outcome.passed, outcome.summary) == (True, "0 rows added; 0 of 3 rows removed; v is new")


def test_plan_of_reading_names_it_as_a_query_of_its_own() -> None:
    assert str(reading_plan([an_audit(max_added=1)])) == "a query each: changes"
    assert an_audit(max_added="5%", columns={"v": 2}).description == (
        "At most 5 % added, 2 with another v, of the rows that readers see, compared by id."
    )
