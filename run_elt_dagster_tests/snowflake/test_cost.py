"""What the account's own history says about the cost of a run."""

import time

import pytest

from run_elt_dagster.snowflake.cost import Spent, read_cost
from run_elt_dagster_tests.support.snowflake_account import HISTORY_LOOKS, HISTORY_SECONDS, OwnTable, built


def spent_on(table: OwnTable) -> dict[str, Spent]:
    """Return what a table's only run has cost by stage, when the account has noted its last statement."""
    found: dict[str, Spent] = {}
    for _ in range(HISTORY_LOOKS):
        with table.schema.account.resource.session() as session:
            report = read_cost(session, days=2)
        found = {each.stage: each for each in report.spent if each.table == table.declared.name}
        if "clean-up" in found:
            break
        time.sleep(HISTORY_SECONDS)
    return found


@pytest.mark.parametrize(("checks", "scans"), [("", False), ("checks: {not_null: v}", True)])
def test_audit_that_only_counts_rows_scans_nothing(table: OwnTable, checks: str, scans: bool) -> None:
    table.publish("0000000A", built(100_000, 1, more=checks))
    spent = spent_on(table)
    assert {stage: each.statements for stage, each in spent.items()} == dict.fromkeys(
        ("build", "audit", "publish", "clean-up"), 1
    )
    assert (spent["audit"].bytes_scanned > 0) == scans


def test_only_statements_on_a_warehouse_cost_seconds(table: OwnTable) -> None:
    table.publish("0000000A", built(100_000, 1))
    spent = spent_on(table)
    assert {stage for stage, each in spent.items() if each.seconds > 0} - {"audit"} == {"build"}
    assert sum(each.failed for each in spent.values()) == 0
