"""Policies and tags of tables whose rows are exchanged in place, on the simulator over the real connector."""

from datetime import date
from typing import Any

import pytest

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import PublishRefusedError, inventory_of, inventory_sql
from run_elt_dagster.publish.kept_parts import PartitionPublisher
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.planned import START, planned_statements
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster_tests.faults.laboratory import open_session
from run_elt_dagster_tests.integration.test_governance import BARE as BODIES
from run_elt_dagster_tests.integration.test_planned import RUN, as_planned, sent
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.effort import cases
from run_elt_dagster_tests.support.increments import growing, run_increment
from run_elt_dagster_tests.support.local_server import LocalServer
from run_elt_dagster_tests.support.slices import Version, divided, run_slice, seen, states

BARE = {
    "masking": {"v": "raw_data.mask"},
    "projection": {"v": "raw_data.hide"},
    "aggregation": {"name": "raw_data.groups", "entity_key": "v"},
    "join": "raw_data.joined",
}
POLICIES = {"row_access": {"name": "raw_data.filter", "on": "n"}, **BARE}
TAGS = {"raw_data.domain": "it's sales", "raw_data.owner": "ana"}
DIVISION = {"by": "day", "column": "day", "start": date(2024, 1, 1), "end": date(2024, 1, 3)}
REFERENCES = (
    "select policy_name, ref_column_name, ref_arg_column_names from table(run_elt.information_schema.policy_references("
    "ref_entity_name => 'analytics.mau', ref_entity_domain => 'table')) order by policy_name"
)
DECLARED = [
    ("FILTER", None, '["N"]'),
    ("GROUPS", None, '["V"]'),
    ("HIDE", "V", None),
    ("JOINED", None, None),
    ("MASK", "V", None),
]


@pytest.fixture(autouse=True)
def policies(local_server: LocalServer) -> None:
    local_server.reader.sql("create masking policy raw_data.mask as (v int) returns int -> 0")
    local_server.reader.sql("create row access policy raw_data.filter as (n int) returns boolean -> n > 0")
    for kind, name, body in BODIES:
        local_server.reader.sql(f"create {kind} policy raw_data.{name} as () returns {kind}_constraint -> {body}")


def daily(version: Version, **more: Any) -> AnalyticsTable:
    given = {"policies": POLICIES, "object_tags": TAGS, "data_retention_days": 1, **more}
    return divided(version, table="mau", partitions=DIVISION, primary_key=["day", "n"], **given)


def orders(rows: dict[int, tuple[int, int]]) -> AnalyticsTable:
    return growing(rows, table="mau", policies=BARE, object_tags=TAGS, data_retention_days=1)


def tags(local_server: LocalServer) -> tuple[Any, ...]:
    names = ", ".join(f"system$get_tag('{name}', 'analytics.mau', 'table')" for name in TAGS)
    return local_server.reader.sql(f"select {names}")[0]


def message(outcome: TableOutcome) -> str:
    assert outcome.failure is not None
    return outcome.failure.message


@pytest.mark.parametrize("kind", cases(("partitions", "increment"), usual=["increment"]))
def test_planned_statements_of_governed_parts_are_those_that_a_run_sends(local_server: LocalServer, kind: str) -> None:
    """And the first run publishes a table that has all of it, with true values."""
    arguments = local_server.account.arguments

    def run(run_id: str) -> TableOutcome:
        if kind == "partitions":
            return run_slice(arguments, table, [2, 2], run_id)
        return run_increment(arguments, table, run_id)

    table = daily(Version(3, 7)) if kind == "partitions" else orders({1: (7, 1), 2: (7, 2)})
    first = run("0000000A")
    assert first.published, first.failure
    assert local_server.reader.sql("select min(v), max(v) from analytics.mau") == [(7, 7)]
    expected = DECLARED if kind == "partitions" else DECLARED[1:]
    assert (local_server.reader.sql(REFERENCES), tags(local_server)) == (expected, ("it's sales", "ana"))
    sent(local_server)
    database = local_server.reader.sql("select current_database()")[0][0]
    inventory = inventory_of(local_server.reader.sql(inventory_sql(database, ["ANALYTICS"])))
    columns = ["DAY", "N", "V"] if kind == "partitions" else ["ID", "V", "AT"]
    plan = planned_statements(table, inventory, database=database, columns=columns, options=PublishOptions())
    assert sent(local_server) == []
    second = run(RUN)
    assert second.published, second.failure
    assert second.warnings == ()
    statements = [
        (stage, as_planned(sql).replace("2024-01-01 02:00:00", START.words)) for stage, sql in sent(local_server)
    ]
    assert [(each.stage, each.sql) for each in plan] == statements
    if kind == "increment":
        local_server.reader.sql("alter table analytics.mau modify column v unset masking policy")
        assert run_increment(arguments, orders({}), "0000000C").published
        assert local_server.reader.sql(REFERENCES) == expected


def test_no_row_is_copied_where_a_policy_hides_published_rows_or_masks_the_new_ones(local_server: LocalServer) -> None:
    arguments = local_server.account.arguments
    old = Version(3, 1)
    assert run_slice(arguments, daily(old), [1, 2], "0000000A").published
    # The simulator enforces no policy. Where one hides a row from the role, it sees one less than is noted.
    local_server.reader.sql(
        "update analytics.run_elt_partitions set row_count = row_count + 1 where partition_key = '2024-01-02'"
    )
    hidden = message(run_slice(arguments, daily(Version(5, 2)), [1, 2], "0000000B"))
    assert (
        "requires a role that sees all rows of RUN_ELT.ANALYTICS.MAU, got 6 of the 7 rows that were published" in hidden
    )
    assert seen(local_server.reader, "mau") == old.of(1, 2)
    local_server.reader.sql(
        "update analytics.run_elt_partitions set row_count = row_count - 1 where partition_key = '2024-01-02'"
    )

    def mask(event: StatementEvent) -> None:
        if event.phase == "after" and "TEMP_MAU__0000000C" in event.sql and "generator" in event.sql:
            local_server.account.server.hook = None
            local_server.account.session().sql(
                "alter table analytics.temp_mau__0000000c modify column v set masking policy raw_data.mask"
            )

    with local_server.account.hooked(mask):
        masked = message(run_slice(arguments, daily(Version(5, 2)), [1, 2], "0000000C"))
    assert "requires no policies on what is copied" in masked
    assert seen(local_server.reader, "mau") == old.of(1, 2)


def test_table_of_some_partitions_of_a_governed_first_run_is_not_created(local_server: LocalServer) -> None:
    broken = daily(Version(3, 1), checks={"sql": {"no_second": "select * from {table} where day = '2024-01-02'"}})
    outcome = run_slice(local_server.account.arguments, broken, [1, 2], "0000000A")
    assert "requires that all partitions of its first run pass their checks" in message(outcome)
    assert (states(outcome), "MAU" in local_server.tables()) == ({1: "failed", 2: "failed"}, False)
    # A person cannot publish them either, and the candidate stays as it is.
    with open_session(local_server.account.arguments) as session:
        publisher = PartitionPublisher(session, broken, options=PublishOptions())
        with pytest.raises(PublishRefusedError, match="requires a table without policies in its file, got some"):
            publisher.find("0000000A")
    assert local_server.reader.sql("select count(*) from analytics.temp_mau__0000000a") == [(6,)]


@pytest.mark.parametrize("kind", ["partitions", pytest.param("increment", marks=pytest.mark.thorough)])
def test_role_that_may_only_group_rows_builds_nothing_in_parts(local_server: LocalServer, kind: str) -> None:
    """The first run is refused before the table is created, each later one before the build."""
    arguments, old = local_server.account.arguments, {1: (7, 1), 2: (7, 2)}

    def run(value: int, run_id: str) -> TableOutcome:
        if kind == "partitions":
            return run_slice(arguments, daily(Version(3, value)), [1, 2], run_id)
        return run_increment(arguments, orders({**old, 3: (value, 3)} if value != 7 else old), run_id)

    # As an account does. The simulator enforces no policy.
    def refuse(event: StatementEvent) -> None:
        if event.phase == "before" and event.sql.startswith("SELECT 1 FROM"):
            raise SqlError("SQL compilation error: Aggregation Policy violation", errno=506035, sqlstate="23001")

    with local_server.account.hooked(refuse):
        first = message(run(7, "0000000A"))
    said = "requires a role that aggregation policy RUN_ELT.RAW_DATA.GROUPS on V, join policy RUN_ELT.RAW_DATA.JOINED exempts, got "
    assert said in first
    assert "MAU" not in local_server.tables()
    assert run(7, "0000000B").published
    with local_server.account.hooked(refuse):
        later = message(run(8, "0000000C"))
    assert said in later
    assert not any("generator" in record.sql and "0000000C" in record.sql for record in local_server.server.history)
    assert local_server.reader.sql("select min(v), max(v) from analytics.mau") == [(7, 7)]


@pytest.mark.parametrize("answer", cases(("comes", "is lost"), usual=["is lost"]))
def test_policy_that_is_lost_meanwhile_is_set_again_or_the_table_fails_and_says_what_readers_see(
    local_server: LocalServer, answer: str
) -> None:
    arguments, new = local_server.account.arguments, Version(5, 2)
    assert run_slice(arguments, daily(Version(3, 1)), [1, 2], "0000000A").published
    is_committed = False

    def lose(event: StatementEvent) -> None:
        nonlocal is_committed
        if event.phase == "after" and event.sql == "COMMIT":
            is_committed = True
            if answer == "comes":
                local_server.account.server.hook = None
                local_server.account.session().sql("alter table analytics.mau modify column v unset masking policy")
        elif is_committed and event.phase == "before" and "POLICY_REFERENCES" in event.sql:
            raise SqlError("SQL execution internal error", errno=300010, sqlstate="XX000")

    with local_server.account.hooked(lose):
        outcome = run_slice(arguments, daily(new), [1, 2], "0000000B")
    assert seen(local_server.reader, "mau") == new.of(1, 2)
    assert states(outcome) == {1: "published", 2: "published"}
    assert local_server.reader.sql(REFERENCES) == DECLARED
    if answer == "comes":
        assert "was published without masking policy RUN_ELT.RAW_DATA.MASK on V." in "".join(outcome.warnings)
    else:
        assert "The table was published, and lacks its policies or cannot be asked." in message(outcome)
        assert "previous" not in message(outcome)
