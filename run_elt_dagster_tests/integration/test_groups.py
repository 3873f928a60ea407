"""Tables of one `publish_group`: readers see all of them change, or none."""

import pytest

from run_elt_dagster_tests.support.local_server import METHODS, LocalServer

NAMES = ("orders", "refunds", "totals")
BOTH = "select (select max(v) from analytics.orders), (select max(v) from analytics.refunds), (select max(v) from analytics.totals)"


def group(value: int, publish: str = "clone", **more: str) -> dict[str, str]:
    """Return three tables of a group; the last one reads the other two.

    Args:
        value: What each of their rows has.
        publish: How they are published.
        more: Settings of a table, by its name.
    """
    sql = {
        "orders": f"select {value} as v, 1 as n",
        "refunds": f"select {value} as v, 1 as n",
        "totals": "select orders.v, r.n from analytics.orders join analytics.refunds as r on r.v = orders.v",
    }
    return {
        name: f"/* elt\npublish_group: finance\npublish: {publish}\n{more.get(name, '')}\nelt */ {text}"
        for name, text in sql.items()
    }


def seen(server: LocalServer) -> tuple[int, ...]:
    return server.reader.sql(BOTH)[0]


def left_over(server: LocalServer) -> set[str]:
    return server.tables() - {name.upper() for name in NAMES}


@pytest.mark.parametrize("publish", METHODS)
def test_tables_of_a_group_read_each_others_candidates_and_are_published_together(
    local_server: LocalServer, publish: str
) -> None:
    for value in (1, 2):
        outcomes = local_server.run_all(f"0000000{value}", group(value, publish))
        assert all(outcome.published for outcome in outcomes.values()), outcomes
        assert seen(local_server) == (value, value, value)
    assert left_over(local_server) == set()
