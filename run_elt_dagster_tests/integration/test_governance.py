"""Declared policies and tags stand on a table before readers see it, on the simulator over the real connector."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.publish.guards import inventory_of, inventory_sql
from run_elt_dagster.publish.outcome import TableOutcome
from run_elt_dagster.publish.planned import planned_statements
from run_elt_dagster.publish.preview import built
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster_tests.faults.laboratory import open_session
from run_elt_dagster_tests.integration.test_planned import RUN, sent
from run_elt_dagster_tests.simulator import StatementEvent
from run_elt_dagster_tests.support.effort import cases
from run_elt_dagster_tests.support.local_server import METHODS, NEW, OLD, LocalServer, mau

MORE = """policies:
  row_access: {name: raw_data.filter, on: n}
  masking: {v: raw_data.mask}
  projection: {v: raw_data.hide}
  aggregation: {name: raw_data.groups, entity_key: [v, n]}
  join: {name: raw_data.joined, allowed_keys: v}
object_tags: {raw_data.domain: it's sales}
cluster_by: [n, v]
data_retention_days: 3"""
REFERENCES = (
    "select policy_schema, policy_name, ref_column_name, ref_arg_column_names from table(run_elt.information_schema."
    "policy_references(ref_entity_name => 'analytics.mau', ref_entity_domain => 'table')) order by policy_name"
)
DECLARED = [
    ("RAW_DATA", "FILTER", None, '["N"]'),
    ("RAW_DATA", "GROUPS", None, '["N", "V"]'),
    ("RAW_DATA", "HIDE", "V", None),
    ("RAW_DATA", "JOINED", None, '["V"]'),
    ("RAW_DATA", "MASK", "V", None),
]
CLUSTERED = 'CREATE OR REPLACE TABLE "RUN_ELT"."ANALYTICS"."TEMP_MAU__00000000" CLUSTER BY ("N", "V") DATA_RETENTION_TIME_IN_DAYS = 3 COMMENT'
# Policies without arguments.
BARE = (
    ("projection", "hide", "projection_constraint(allow => false)"),
    ("aggregation", "groups", "aggregation_constraint(min_group_size => 5)"),
    ("join", "joined", "join_constraint(join_required => true)"),
)
X = '"RUN_ELT"."ANALYTICS"."MAU"'
RESUMED = [f"ALTER TABLE {X} RESUME RECLUSTER"]
# What a table needs that the creating statement did not give it.
STORED = {
    ("clone", False): RESUMED,
    ("clone", True): RESUMED,
    ("swap", False): [],
    ("swap", True): [],
    ("overwrite", False): RESUMED,
    ("overwrite", True): [
        f'ALTER TABLE {X} CLUSTER BY ("N", "V")',
        f"ALTER TABLE {X} SET DATA_RETENTION_TIME_IN_DAYS = 3",
    ],
}
EXCHANGES = {
    "clone": ("CREATE OR REPLACE TABLE", "CLONE"),
    "swap": ("ALTER TABLE", "SWAP WITH"),
    "overwrite": ("INSERT OVERWRITE", ""),
}

# One short form of each proof runs always.
FURTHER = [pytest.param(each, marks=pytest.mark.thorough) for each in ("swap", "overwrite")]
LOST = [
    pytest.param(publish, phase, marks=[] if (publish, phase) == ("clone", "after") else pytest.mark.thorough)
    for publish in METHODS
    for phase in ("before", "after")
]


@pytest.fixture(autouse=True)
def policies(local_server: LocalServer) -> None:
    local_server.reader.sql("create masking policy raw_data.mask as (v int) returns int -> 0")
    local_server.reader.sql("create masking policy raw_data.other as (v int) returns int -> 1")
    local_server.reader.sql("create row access policy raw_data.filter as (n int) returns boolean -> n > 0")
    for kind, name, body in BARE:
        local_server.reader.sql(f"create {kind} policy raw_data.{name} as () returns {kind}_constraint -> {body}")


def governed(rows: int, value: int, publish: str, *, more: str = MORE) -> str:
    return mau(rows, value, publish=publish, more=more)


def found(local_server: LocalServer) -> tuple[object, object]:
    tag = "select system$get_tag('raw_data.domain', 'analytics.mau', 'table')"
    return local_server.reader.sql(REFERENCES), local_server.reader.sql(tag)[0][0]


def message(outcome: TableOutcome) -> str:
    assert outcome.failure is not None
    return outcome.failure.message


@pytest.mark.parametrize("publish", cases(METHODS, usual=["clone"]))
def test_planned_statements_of_a_governed_table_are_those_that_a_run_sends(
    local_server: LocalServer, publish: str
) -> None:
    text = governed(3, 1, publish)
    table = parse_table_file(local_server.directory / "mau.sql", text, schema="analytics", table="mau")
    database = local_server.reader.sql("select current_database()")[0][0]
    for exists in (False, True):
        inventory = inventory_of(local_server.reader.sql(inventory_sql(database, ["ANALYTICS"])))
        columns = ["N", "V"] if exists else []
        plan = planned_statements(table, inventory, database=database, columns=columns, options=PublishOptions())
        assert sent(local_server) == []
        outcome = local_server.run(RUN, text)
        assert outcome.published, outcome.failure
        statements = sent(local_server)
        assert [(each.stage, each.sql) for each in plan] == statements
        stored = [sql for _, sql in statements if "CLUSTER" in sql or "RETENTION" in sql]
        assert stored[0].startswith(CLUSTERED)
        assert stored[1:] == STORED[publish, exists]
        assert found(local_server) == (DECLARED, "it's sales")


@pytest.mark.parametrize("publish", ["clone", *FURTHER])
def test_declared_tag_arrives_though_the_replaced_table_has_another_value(
    local_server: LocalServer, publish: str
) -> None:
    assert local_server.run("00000001", governed(3, 1, publish)).published
    changed = MORE.replace("it's sales", "finance")
    outcome = local_server.run("00000002", governed(5, 2, publish, more=changed))
    assert outcome.published, outcome.failure
    assert (local_server.seen(), found(local_server)) == (NEW, (DECLARED, "finance"))
    assert outcome.warnings == ()


@pytest.mark.parametrize(("publish", "phase"), LOST)
def test_policy_whose_answer_is_lost_is_on_the_table_or_nothing_is_published(
    local_server: LocalServer, publish: str, phase: str
) -> None:
    """Readers never see new rows without the policies, whatever Snowflake says of the statement that sets one."""
    assert local_server.run("00000001", mau(3, 1, publish=publish)).published

    def fail(event: StatementEvent) -> None:
        if event.phase == phase and "SET MASKING POLICY" in event.sql:
            raise SqlError("SQL compilation error:\nrefused", errno=3001, sqlstate="42501")

    with local_server.account.hooked(fail):
        outcome = local_server.run("00000002", governed(5, 2, publish))
    assert outcome.published is (phase == "after"), outcome.failure
    assert local_server.seen() == (NEW if phase == "after" else OLD)
    if phase == "after":
        assert found(local_server) == (DECLARED, "it's sales")


@pytest.mark.parametrize("publish", ["overwrite", *FURTHER[:1]])
def test_policies_are_on_before_the_exchange_and_after_the_audit(local_server: LocalServer, publish: str) -> None:
    assert local_server.run("00000001", mau(3, 1, publish=publish)).published
    order: list[str] = []
    begins, holds = EXCHANGES[publish]

    def note(event: StatementEvent) -> None:
        stage = json.loads(event.statement.parameter("QUERY_TAG", "") or "{}").get("stage")
        if event.phase == "after" and " POLICY " in event.sql:
            order.append("policy")
        elif event.phase == "before" and event.sql.startswith(begins) and holds in event.sql and stage == "publish":
            order.append("exchange")
        elif event.phase == "before" and stage == "audit":
            order.append("audit")

    with local_server.account.hooked(note):
        outcome = local_server.run("00000002", governed(5, 2, publish))
    assert outcome.published, outcome.failure
    assert order == ["audit", *["policy"] * len(DECLARED), "exchange"]


def test_policy_that_is_lost_at_the_exchange_is_set_again_and_told(local_server: LocalServer) -> None:
    def lose(event: StatementEvent) -> None:
        if event.phase == "after" and event.sql.startswith("CREATE TABLE") and "CLONE" in event.sql:
            local_server.account.server.hook = None
            local_server.account.session().sql("alter table analytics.mau modify column v unset masking policy")

    with local_server.account.hooked(lose):
        outcome = local_server.run("00000001", governed(5, 2, "clone"))
    assert outcome.published, outcome.failure
    assert found(local_server) == (DECLARED, "it's sales")
    assert "was published without masking policy RUN_ELT.RAW_DATA.MASK on V." in "".join(outcome.warnings)


def test_look_without_an_answer_after_the_exchange_fails_the_table_and_says_what_readers_see(
    local_server: LocalServer,
) -> None:
    assert local_server.run("00000001", governed(3, 1, "clone")).published
    is_exchanged = False

    def fail(event: StatementEvent) -> None:
        nonlocal is_exchanged
        is_exchanged |= event.phase == "after" and "COPY GRANTS" in event.sql
        if is_exchanged and event.phase == "before" and "POLICY_REFERENCES" in event.sql:
            raise SqlError("SQL execution internal error", errno=300010, sqlstate="XX000")

    with local_server.account.hooked(fail):
        outcome = local_server.run("00000002", governed(5, 2, "clone"))
    assert "The table was published, and lacks its policies or cannot be asked." in message(outcome)
    assert "previous table" not in message(outcome)
    assert (local_server.seen(), found(local_server)[0]) == (NEW, DECLARED)


@pytest.mark.parametrize("publish", ["clone", *FURTHER[:1]])
def test_undeclared_policy_is_refused_beside_declared_ones(local_server: LocalServer, publish: str) -> None:
    """Also one of the same name in another schema."""
    assert local_server.run("00000001", governed(3, 1, publish)).published
    local_server.reader.sql("create masking policy analytics.mask as (v int) returns int -> 0")
    local_server.reader.sql("alter table analytics.mau modify column v set masking policy analytics.mask force")
    failed = message(local_server.run("00000002", governed(5, 2, publish)))
    assert "masking policy RUN_ELT.ANALYTICS.MASK on V on it" in failed
    assert local_server.seen() == OLD


@pytest.fixture
def granted(local_server: LocalServer) -> Callable[[StatementEvent], None]:
    """Return a hook that lets others read what the second run creates, as grants on future tables do."""
    local_server.reader.sql("create role reader")

    def grant(event: StatementEvent) -> None:
        if event.phase == "after" and event.sql.startswith("CREATE OR REPLACE") and "TEMP_MAU__00000002" in event.sql:
            local_server.account.session().sql("grant select on table analytics.temp_mau__00000002 to role reader")

    return grant


def test_candidate_whose_rows_are_copied_is_not_built_where_others_could_read_it(
    local_server: LocalServer, granted: Callable[[StatementEvent], None]
) -> None:
    assert local_server.run("00000001", governed(3, 1, "overwrite")).published
    with local_server.account.hooked(granted):
        outcome = local_server.run("00000002", governed(5, 2, "overwrite"))
    assert "requires a schema without grants on future tables, got SELECT to READER" in message(outcome)
    assert (local_server.seen(), local_server.tables()) == (OLD, {"MAU"})
    assert not any("generator" in record.sql for record in local_server.server.history if "00000002" in record.sql)


def test_preview_is_not_built_where_others_could_read_it(local_server: LocalServer) -> None:
    """Nothing publishes it, so it never has policies. `--keep` would leave it to them."""
    local_server.reader.sql("create role reader")
    table = parse_table_file(Path("mau.sql"), governed(3, 1, "clone"), schema="analytics", table="mau")

    def grant(event: StatementEvent) -> None:
        if event.phase == "after" and (
            created := re.match(r"CREATE OR REPLACE .*?TABLE (\S+TEMP_MAU__\w+\")", event.sql)
        ):
            local_server.account.session().sql(f"grant select on table {created[1]} to role reader")

    with local_server.account.hooked(grant), open_session(local_server.account.arguments) as session:
        preview = built(session, table, job="run-elt preview", options=PublishOptions(), keep=True, warn=print)
        with pytest.raises(ValueError, match="without grants on future tables, got SELECT to READER"), preview:
            pass
    assert local_server.tables() == set()
    assert not any("generator" in record.sql for record in local_server.server.history)


@pytest.mark.parametrize("publish", ["clone", *FURTHER[:1]])
def test_candidate_that_others_can_read_has_its_policies_from_its_first_moment(
    local_server: LocalServer, granted: Callable[[StatementEvent], None], publish: str
) -> None:
    assert local_server.run("00000001", governed(3, 1, publish)).published
    at_once: list[object] = []

    def look(event: StatementEvent) -> None:
        granted(event)
        if event.phase == "after" and event.sql.startswith("CREATE OR REPLACE TABLE") and "generator" in event.sql:
            at_once.append(local_server.account.session().sql(REFERENCES.replace(".mau", ".temp_mau__00000002")))

    with local_server.account.hooked(look):
        outcome = local_server.run("00000002", governed(5, 2, publish))
    assert outcome.published, outcome.failure
    assert outcome.warnings == ()
    assert at_once == [DECLARED]
    assert (local_server.seen(), found(local_server)) == (NEW, (DECLARED, "it's sales"))
    assert not any(
        " POLICY " in each.sql for each in local_server.server.history if "ALTER" in each.sql and "00000002" in each.sql
    )


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ("update {proof} set v = 0", "got other values than it wrote."),
        pytest.param("delete from {proof} where n = 1", "got 1 of 2 rows that it wrote.", marks=pytest.mark.thorough),
        pytest.param("refuse", "got an error where it reads through them", marks=pytest.mark.thorough),
    ],
)
def test_role_that_its_policies_do_not_exempt_builds_no_candidate_that_others_can_read(
    local_server: LocalServer, granted: Callable[[StatementEvent], None], change: str, got: str
) -> None:
    """What a policy would leave is left in its place. The simulator enforces none."""
    first = mau(3, 1) if change == "refuse" else governed(3, 1, "clone")
    assert local_server.run("00000001", first).published

    def enforce(event: StatementEvent) -> None:
        granted(event)
        if (
            event.phase == "after"
            and "UNION ALL" in event.sql
            and event.sql.startswith("CREATE")
            and change != "refuse"
        ):
            local_server.account.session().sql(change.format(proof="analytics.temp_mau__00000002"))
        if event.phase == "before" and event.sql.startswith("SELECT TRUE") and change == "refuse":
            raise SqlError("SQL compilation error: Join Policy violation", errno=506037, sqlstate="23001")

    with local_server.account.hooked(enforce):
        more = "policies: {join: raw_data.joined}" if change == "refuse" else MORE
        failed = message(local_server.run("00000002", governed(5, 2, "clone", more=more)))
    assert "requires a role that all of its policies exempt, since SELECT to READER would let others read" in failed
    assert got in failed
    assert (local_server.seen(), local_server.tables()) == (OLD, {"MAU"})


@pytest.mark.thorough
def test_candidate_that_lacks_a_policy_of_its_creating_statement_is_not_published(
    local_server: LocalServer, granted: Callable[[StatementEvent], None]
) -> None:
    assert local_server.run("00000001", governed(3, 1, "clone")).published

    def lose(event: StatementEvent) -> None:
        granted(event)
        if event.phase == "after" and event.sql.startswith("CREATE OR REPLACE TABLE"):
            local_server.account.session().sql("alter table analytics.temp_mau__00000002 unset join policy")

    with local_server.account.hooked(lose):
        failed = message(local_server.run("00000002", governed(5, 2, "clone")))
    assert "Others could have read it without them." in failed
    assert local_server.seen() == OLD


@pytest.mark.parametrize("publish", ["clone", *FURTHER])
def test_run_is_superseded_when_a_newer_one_publishes_before_its_policies_are_on(
    local_server: LocalServer, publish: str
) -> None:
    assert local_server.run("00000001", governed(3, 1, publish)).published

    def overtake(event: StatementEvent) -> None:
        if event.phase == "before" and "POLICY" in event.sql and "TEMP_MAU__00000002" in event.sql:
            local_server.account.server.hook = None
            assert local_server.run("00000003", governed(5, 2, publish)).published

    with local_server.account.hooked(overtake):
        outcome = local_server.run("00000002", governed(7, 3, publish))
    assert outcome.superseded_by == "00000003", outcome.failure
    assert (local_server.seen(), found(local_server)) == (NEW, (DECLARED, "it's sales"))


def test_policy_that_does_not_exist_publishes_nothing(local_server: LocalServer) -> None:
    assert local_server.run("00000001", mau(3, 1)).published
    failed = message(local_server.run("00000002", governed(5, 2, "clone", more=MORE.replace(".mask", ".masc"))))
    assert "MASC" in failed
    assert "Readers still see the previous table" in failed
    assert local_server.seen() == OLD


def test_bare_candidate_is_required_where_rows_are_copied(local_server: LocalServer) -> None:
    """A policy on the candidate would store masked values."""
    assert local_server.run("00000001", governed(3, 1, "overwrite")).published

    def mask(event: StatementEvent) -> None:
        if event.phase == "after" and "TEMP_MAU__00000002" in event.sql and "generator" in event.sql:
            local_server.account.server.hook = None
            local_server.account.session().sql(
                "alter table analytics.temp_mau__00000002 modify column v set masking policy raw_data.mask"
            )

    with local_server.account.hooked(mask):
        outcome = local_server.run("00000002", governed(5, 2, "overwrite"))
    assert "requires no policies on what is copied" in message(outcome)
    assert local_server.seen() == OLD


def test_embedded_snowflake_leaves_policies_and_tags_out_and_says_it(local_server: LocalServer) -> None:
    said: list[str] = []
    outcome = local_server.run("00000001", governed(3, 1, "clone"), applies_policies=False, warn=said.append)
    assert outcome.published, outcome.failure
    assert said == ["the embedded Snowflake applies no policies and tags. It leaves out those of analytics.mau."]
    assert found(local_server) == ([], None)
