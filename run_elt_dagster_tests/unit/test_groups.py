"""Tables of one group: the rules that a folder keeps, and SQL that reads candidates in the place of published tables."""

from pathlib import Path

import pytest

from run_elt_dagster.environments.plan import plan_of
from run_elt_dagster.model.groups import left_out, reading_candidates
from run_elt_dagster.model.lineage import Catalogue, catalogue, load_tables
from run_elt_dagster.model.names import Key, Relation
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster.model.redirects import redirected
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.group_lock import GroupNote, note_in
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.scheduler import BuildOrder, GroupNode

ORDERS = Relation("DB", "FIN", "TEMP_ORDERS__0000000A")
QUOTED = Relation("DB", "FIN", "TEMP_Net sales__0000000A")
READ: dict[Key, Relation] = {
    ("fin", "orders"): ORDERS,
    ("db", "fin", "orders"): ORDERS,
    ("fin", '"Net sales"'): QUOTED,
}
NEW = f'{ORDERS.sql} AS "ORDERS"'


def a_table(name: str, sql: str, more: str = "", *, group: str | None = "fin") -> AnalyticsTable:
    setting = f"publish_group: {group}" if group else ""
    return parse_table_file(
        Path(f"fin/{name}.sql"), f"/* elt\n{setting}\n{more}\nelt */ {sql}", schema="fin", table=name
    )


def problems(*tables: AnalyticsTable) -> str:
    with pytest.raises(TableProblemsError) as raised:
        catalogue(tables)
    return str(raised.value)


@pytest.mark.parametrize(
    ("sql", "sent"),
    [
        ("select a from fin.orders", f"select a from {NEW}"),
        ("select orders.a, FIN.Orders.b from fin.orders", f'select orders.a, "ORDERS".b from {NEW}'),
        ("select fin.orders.* from db.fin.orders", f'select "ORDERS".* from {NEW}'),
        ("select o.a from fin.orders as o", f"select o.a from {ORDERS.sql} as o"),
        ('select * from "FIN" . "ORDERS" o', f"select * from {ORDERS.sql} o"),
        ('select "Net sales".x from fin."Net sales"', f'select "Net sales".x from {QUOTED.sql} AS "Net sales"'),
        (
            "with orders as (select 1 a) select * from orders union all select a from fin.orders",
            f"with orders as (select 1 a) select * from orders union all select a from {NEW}",
        ),
        (
            "select 'fin.orders', $$fin.orders$$ /* é 😀 fin.orders */ from fin.orders -- fin.orders",
            f"select 'fin.orders', $$fin.orders$$ /* é 😀 fin.orders */ from {NEW} -- fin.orders",
        ),
        (
            "select 1 from fin.b where exists (select 1 from fin.orders where fin.orders.a = fin.b.a)",
            f'select 1 from fin.b where exists (select 1 from {NEW} where "ORDERS".a = fin.b.a)',
        ),
        ("select * from fin.orders sample (10)", f"select * from {ORDERS.sql} sample (10)"),
        ("select fin.orders.v:a.b::int from fin.orders", f'select "ORDERS".v:a.b::int from {NEW}'),
        ("select * from other.fin.orders, fin.orders_2", "select * from other.fin.orders, fin.orders_2"),
    ],
)
def test_name_of_a_table_is_replaced_and_no_other_character(sql: str, sent: str) -> None:
    assert redirected(sql, READ) == sent


def test_checks_of_a_table_read_candidates_of_its_group() -> None:
    more = "checks: {relationship: {a: fin.orders.id}, sql: {x: 'select * from {table} join fin.orders o on o.a = 1'}}"
    table = reading_candidates(a_table("totals", "select a from fin.orders", more), {("fin", "orders"): ORDERS})
    assert table.sql.strip() == f"select a from {NEW}"
    assert table.checks.sql["x"].query == f"select * from {{table}} join {ORDERS.sql} o on o.a = 1"
    assert table.checks.relationship["a"].table == ("DB", "FIN", "TEMP_ORDERS__0000000A")


@pytest.mark.parametrize(
    ("sql", "more", "why"),
    [
        ("select 1 a from fin.orders at(offset => -60)", "", "AT, BEFORE and CHANGES read its past"),
        ("select * from table('fin.orders')", "", "table(...) reads it by a text"),
        ("select * from identifier('fin.orders')", "", "identifier(...) reads it by a text"),
        ("select orders.a from fin.orders pivot(sum(a) for b in (1))", "", "and it has no alias"),
        ("select 1 a from fin.orders, other.orders", "", "another source of the same SELECT has its name"),
        ("select * from fin.a_view", "upstream: [fin.orders]", "no FROM or JOIN of the SQL does"),
        ("select 1 a", "checks: {sql: {x: \"select * from {table}, table('fin.orders')\"}}", "reads it by a text"),
    ],
)
def test_read_that_cannot_become_one_of_a_candidate_is_refused(sql: str, more: str, why: str) -> None:
    found = problems(a_table("orders", "select 1 as a"), a_table("totals", sql, more))
    assert "publish_group fin requires reads of fin.orders that can become reads of its candidate" in found
    assert why in found
    # Outside of a group, the same reads are fine.
    catalogue([a_table("orders", "select 1 as a", group=None), a_table("totals", sql, more, group=None)])


def test_group_requires_one_way_of_publishing() -> None:
    found = problems(a_table("a", "select 1 a", "publish: overwrite"), a_table("b", "select 1 a"))
    assert (
        "fin/a.sql:3: publish_group fin requires publish: overwrite, partitions or an increment of all its tables"
        in found
    )
    assert "got publish: overwrite here and publish: clone in fin.b" in found
    catalogue([a_table("a", "select 1 a", "publish: swap"), a_table("b", "select 1 a")])


def test_table_between_two_of_a_group_is_refused() -> None:
    between = a_table("m", "select * from fin.a", group=None)
    found = problems(a_table("a", "select 1 a"), between, a_table("b", "select * from fin.m"))
    assert "fin/b.sql:4: publish_group fin requires that no other table stands between its tables, got fin.m" in found


def test_two_groups_that_wait_for_each_other_are_refused() -> None:
    tables = [
        a_table("a1", "select 1 a", group="g1"),
        a_table("b1", "select * from fin.a1", group="g2"),
        a_table("b2", "select 1 a", group="g2"),
        a_table("a2", "select * from fin.b2", group="g1"),
    ]
    assert "requires that no other table stands between its tables" in problems(*tables)


DAILY = "partitions: {by: day, column: a, start: 2024-01-01}"
GROWING = "increment: {column: a, key: [b]}"


def test_table_in_parts_stands_beside_those_that_are_written_in_the_same_transaction() -> None:
    for more in (GROWING, DAILY):
        found = problems(a_table("a", "select 1 a", more), a_table("b", "select 1 a", "publish: swap"))
        setting = more.partition(":")[0]
        assert "fin/a.sql:3: publish_group fin requires publish: overwrite, partitions or an increment" in found
        assert f"got {setting} here and publish: swap in fin.b" in found
    catalogue([a_table("a", "select 1 a", GROWING), a_table("b", "select 1 a", "publish: overwrite")])
    catalogue([a_table("a", "select 1 a", DAILY), a_table("b", "select 1 a", DAILY)])


@pytest.mark.parametrize(
    ("other", "got"),
    [
        (DAILY.replace("day", "month"), "by month from 2024-01-01"),
        (DAILY.replace("-01}", "-02}"), "by day from 2024-01-02"),
        (GROWING, "none"),
        ("publish: overwrite", "none"),
    ],
)
def test_tables_of_a_group_have_the_same_partitions(other: str, got: str) -> None:
    found = problems(a_table("a", "select 1 a", DAILY), a_table("b", "select 1 a", other))
    assert (
        f"requires the same partitions of all its tables or of none, got {got} here and by day from 2024-01-01 in fin.a"
        in found
    )


def test_table_in_parts_is_read_by_no_other_one_of_its_group() -> None:
    """Its candidate has the new rows alone."""
    reader = a_table("b", "select * from fin.a", "publish: overwrite")
    found = problems(a_table("a", "select 1 a", GROWING), reader)
    assert "publish_group fin requires that none of its tables reads one in parts, got fin.a with increment" in found
    # The other way round, the candidate has all rows.
    catalogue([a_table("b", "select 1 a", "publish: overwrite"), a_table("a", "select * from fin.b", GROWING)])


def test_name_of_a_group_is_checked() -> None:
    with pytest.raises(TableProblemsError, match="publish_group: requires small letters, digits and _"):
        a_table("a", "select 1 a", group="Net sales")


def test_table_cannot_have_the_name_of_a_lock() -> None:
    with pytest.raises(TableProblemsError, match="requires a name that does not begin with RUN_ELT_GROUP_"):
        a_table("run_elt_group_fin", "select 1 a")


def three() -> Catalogue:
    return catalogue(
        [
            a_table("orders", "select 1 a"),
            a_table("totals", "select a from fin.orders"),
            a_table("report", "select a from fin.orders", group=None),
        ]
    )


def test_part_of_a_group_is_left_out() -> None:
    tables = three()
    assert left_out(tables, [("fin", "totals"), ("fin", "report")]) == {"fin": (("fin", "orders"),)}
    assert left_out(tables, list(tables)) == {}
    assert left_out(tables, [("fin", "report")]) == {}


def test_plan_of_a_table_has_its_whole_group() -> None:
    built = plan_of(three(), [("fin", "totals")], None).built
    assert [(each.table.name, each.reason) for each in built] == [
        ("fin.orders", "is in publish_group fin"),
        ("fin.totals", "named"),
    ]


def test_table_of_a_group_waits_for_candidates_and_others_for_the_exchange() -> None:
    tables = three()
    order = BuildOrder(tables, list(tables), {})
    steps: list[object] = []
    for _ in range(4):
        assert list(order.blocked_tables()) == []
        node = order.next()
        assert node is not None
        assert order.ready == 0
        steps.append(node)
        order.finish(node, [])
    assert steps == [("fin", "orders"), ("fin", "totals"), GroupNode("fin"), ("fin", "report")]


def test_reader_of_a_held_back_table_is_skipped_for_the_failed_one() -> None:
    tables = three()
    order = BuildOrder(tables, list(tables), {})
    assert list(order.blocked_tables()) == []
    for node, outcomes in [
        (("fin", "orders"), []),
        (("fin", "totals"), []),
        (GroupNode("fin"), [TableOutcome(tables["fin", "orders"], ORDERS, ORDERS, held_back_by=(("fin", "totals"),))]),
    ]:
        assert order.next() == node
        order.finish(node, outcomes)
        blocked = list(order.blocked_tables())
    assert blocked == [(("fin", "report"), (("fin", "totals"),))]


def test_broken_file_keeps_its_group(tmp_path: Path) -> None:
    folder = tmp_path / "fin"
    folder.mkdir()
    (folder / "orders.sql").write_text("/* elt\npublish_group: fin\nno_such_key: 1\nelt */ select 1 a")
    (folder / "totals.sql").write_text("/* elt\npublish_group: fin\nelt */ select 1 a")
    found = load_tables(tmp_path, keeps_broken=True)
    assert found.broken["fin", "orders"].publish_group == "fin"


def test_note_of_a_lock_is_read_back() -> None:
    note = GroupNote("fin", "8f3a", "2026-11-28T00:00:00Z", ("fin.a", "fin.b"))
    assert note_in(f"Some text. {note}") == note
    assert note_in("[run_elt run 8f3a at 2026-11-28]") is None
