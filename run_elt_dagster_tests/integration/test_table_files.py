"""What a table file declares holds on the embedded Snowflake as it is written: none of it is lost or altered in silence."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.publish.guards import inventory_of, inventory_sql
from run_elt_dagster.publish.preflight import drop_stale_candidates
from run_elt_dagster.publish.run import audit_published
from run_elt_dagster.snowflake.runner import RunContext
from run_elt_dagster.snowflake.session import ConnectorSession
from run_elt_dagster_tests.support.effort import cases
from run_elt_dagster_tests.support.embedded import Account, running_server
from run_elt_dagster_tests.support.local_server import METHODS, LocalServer, mau

OF_ITSELF = "select column1::int as id, column2::int as parent_id from (values (1, null), (2, 1), (3, {parent}))"


def file(settings: str, sql: str) -> str:
    return f"/* elt\n{settings}\nelt */ {sql}"


_run_ids = (f"{number:08}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server for all tests that do not care about what is published already."""
    directory = tmp_path_factory.mktemp("one_server")
    with running_server(directory) as server:
        account = Account(server)
        with account.resources:
            yield LocalServer(server, account, directory)


def failed_checks(local_server: LocalServer, text: str) -> list[str]:
    outcome = local_server.run(next(_run_ids), text)
    assert outcome.published == (not [audit for audit in outcome.audits if audit.blocks]), outcome.failure
    assert outcome.audits
    return [audit.audit.name for audit in outcome.audits if not audit.passed]


def failed_checks_of_each(local_server: LocalServer, texts: Sequence[str]) -> list[list[str]]:
    """Run each text as a table of its own, all in one run."""
    outcomes = local_server.run_all(next(_run_ids), {f"each_{number}": text for number, text in enumerate(texts)})
    for outcome in outcomes.values():
        assert outcome.published == (not [audit for audit in outcome.audits if audit.blocks]), outcome.failure
        assert outcome.audits
        local_server.reader.sql(f"drop table if exists analytics.{outcome.table.table}")
    return [[audit.audit.name for audit in outcome.audits if not audit.passed] for outcome in outcomes.values()]


def test_settings_in_another_spelling_still_guard_production(one_server: LocalServer) -> None:
    spellings = ("/* ELT\n{}\nELT */", "-- (c) us\n\n/* elt\n{}\nelt */", "/*\nElt\n{}\nElt\n*/")
    texts = [each.format("primary_key: id") + " select column1 as id from (values (1), (1))" for each in spellings]
    assert failed_checks_of_each(one_server, texts) == [["primary_key"]] * len(texts)


ACCEPTED = [
    ("[02142, 02139]", "02142", "1122"),
    ("[02142, 02139]", "02139", "2139"),
    ("[12:30, 13:45]", "12:30", "750"),
    ("['yes', no]", "yes", "t"),
    ("[yes, no]", "no", "false"),
    ("[true, false]", "true", "t"),
    ("[true, false]", "false", "0"),
    ("[1_000]", "1_000", "1000"),
    ("['1.10']", "1.10", "1.1"),
    ("[on, off]", "on", "true"),
    ("[null_, 'null']", "null", "~"),
]


def test_accepted_value_is_the_text_that_the_author_wrote(one_server: LocalServer) -> None:
    good = [
        file(f"checks: {{accepted_values: {{v: {values}}}}}", f"select '{one}' as v") for values, one, _ in ACCEPTED
    ]
    bad = [file(f"checks: {{accepted_values: {{v: {values}}}}}", f"select '{one}' as v") for values, _, one in ACCEPTED]
    assert failed_checks_of_each(one_server, good) == [[]] * len(good)
    assert failed_checks_of_each(one_server, bad) == [["accepted_values_v"]] * len(bad)


def test_accepted_values_hold_for_booleans_and_numbers(one_server: LocalServer) -> None:
    settings = "checks: {accepted_values: {b: [true], n: [1.5, 2], i: [-1]}}"
    assert failed_checks(one_server, file(settings, "select true as b, 1.50 as n, -1 as i")) == []
    wrong = failed_checks(one_server, file(settings, "select false as b, 1.51 as n, 1 as i"))
    assert wrong == ["accepted_values_b", "accepted_values_n", "accepted_values_i"]


def test_range_keeps_every_digit_and_instant(one_server: LocalServer) -> None:
    settings = """checks:
  range:
    n: {max: 12345678901234567890.123456789}
    t: {max: 2030-01-01 00:00:00.000001}
    z: {max: 2030-01-01T00:00:00+02:00}
    d: {max: 2030-01-01}"""
    row = "select {} as n, {} as t, {} as z, {} as d"
    held = row.format(
        "12345678901234567890.123456789",
        "'2030-01-01 00:00:00.000001'::timestamp_ntz",
        "'2029-12-31 22:00:00 +00:00'::timestamp_tz",
        "'2030-01-01'::date",
    )
    beyond = row.format(
        "12345678901234567890.123456790",
        "'2030-01-01 00:00:00.000002'::timestamp_ntz",
        "'2029-12-31 22:00:01 +00:00'::timestamp_tz",
        "'2030-01-02'::date",
    )
    assert failed_checks(one_server, file(settings, held)) == []
    assert failed_checks(one_server, file(settings, beyond)) == [
        "range_n",
        "range_t",
        "range_z",
        "range_d",
    ]


@pytest.mark.parametrize(
    "name",
    cases(
        ("analytics.mau.id", "ANALYTICS.Mau.ID", 'run_elt.analytics."MAU".id', '"ANALYTICS"."MAU"."ID"'),
        usual=['run_elt.analytics."MAU".id'],
    ),
)
def test_relationship_to_the_own_table_is_asked_of_the_candidate(one_server: LocalServer, name: str) -> None:
    settings = f"checks: {{relationship: {{parent_id: '{name}'}}}}"
    good, orphan = (file(settings, OF_ITSELF.format(parent=parent)) for parent in ("2", "9"))
    # Nothing is published yet.
    one_server.reader.sql("drop table if exists analytics.mau")
    assert failed_checks(one_server, good) == []
    assert failed_checks(one_server, orphan) == ["relationship_parent_id"]
    # What is published has the parent; what would be published has not.
    assert failed_checks(one_server, file("", "select 9 as id, null as parent_id")) == []
    assert failed_checks(one_server, orphan) == ["relationship_parent_id"]


def test_relationship_to_a_quoted_name_of_the_own_table_is_asked_of_the_candidate(one_server: LocalServer) -> None:
    settings = """identifier: '"Net sales"'
checks: {relationship: {parent_id: 'analytics."Net sales".id'}}"""
    assert failed_checks(one_server, file(settings, OF_ITSELF.format(parent="2"))) == []
    orphans = failed_checks(one_server, file(settings, OF_ITSELF.format(parent="9")))
    assert orphans == ["relationship_parent_id"]


def test_relationship_to_the_own_table_is_asked_of_the_published_one_when_audited_alone(
    local_server: LocalServer,
) -> None:
    settings = "checks: {relationship: {parent_id: analytics.mau.id}}"
    text = file(settings, OF_ITSELF.format(parent="2"))
    assert failed_checks(local_server, text) == []
    table = parse_table_file(local_server.directory / "mau.sql", text, schema="analytics", table="mau")

    def verdict() -> bool:
        with ConnectorSession(local_server.reader.connection, lambda: None) as session:  # type: ignore[arg-type, return-value]
            (outcome,) = audit_published(session, table, run=RunContext("00000002")).outcomes[1:]
        return outcome.passed

    assert verdict()
    local_server.reader.sql("insert into analytics.mau select 4, 99")
    assert not verdict()


CONTRACTS = [
    ("timestamp_ntz(9)", "'2030-01-01'::timestamp_ntz(9)"),
    ("timestamp(3)", "'2030-01-01'::timestamp_ntz(3)"),
    ("time(9)", "'12:00:00'::time(9)"),
    ("time(0)", "'12:00:00'::time(0)"),
    ("timestamp_tz(6)", "'2030-01-01 00:00:00 +00:00'::timestamp_tz(6)"),
    ("TIMESTAMP_NTZ(9)", "current_timestamp()::timestamp_ntz"),
    ("varchar(16777216)", "'x'::varchar"),
    ("binary(8388608)", "to_binary('ab', 'utf-8')"),
    ("number(38,0)", "1::int"),
    ("double precision", "1.5::float"),
    ("char varying", "'x'"),
    ("variant", "parse_json('1')"),
]


def test_contract_as_describe_table_prints_it_holds(one_server: LocalServer) -> None:
    right = [file(f"columns: {{v: '{contract}'}}", f"select {expression} as v") for contract, expression in CONTRACTS]
    wrong = [file("columns: {v: boolean}", f"select {expression} as v") for _, expression in CONTRACTS]
    assert failed_checks_of_each(one_server, right) == [[]] * len(right)
    assert failed_checks_of_each(one_server, wrong) == [["columns"]] * len(wrong)


def test_sweep_drops_no_declared_table(local_server: LocalServer) -> None:
    """The name is refused where a file is read; should one get past, the sweep still has the list of what is declared."""
    assert local_server.run("00000001", mau(3, 1)).published
    tables = catalogue([parse_table_file(local_server.directory / "t.sql", mau(1, 1), schema="analytics", table="mau")])
    declared = tables["analytics", "mau"].model_copy(update={"table": "temp_orders__00000001"})
    local_server.reader.sql("create table analytics.temp_orders__00000001 clone analytics.mau")
    local_server.reader.sql("create table analytics.temp_wau__00000001 clone analytics.mau")
    inventory = inventory_of(local_server.reader.sql(inventory_sql("RUN_ELT", ["ANALYTICS"])))
    sent: list[str] = []

    class Runner:
        run = RunContext("00000009")

        def send(self, sql: str, **_: Any) -> None:
            sent.append(sql)

    assert drop_stale_candidates(Runner(), inventory, [declared], database="RUN_ELT", older_than_hours=-1) == []  # type: ignore[arg-type]
    assert sent == ['DROP TABLE IF EXISTS "RUN_ELT"."ANALYTICS"."TEMP_WAU__00000001"']


@pytest.mark.parametrize("publish", cases(METHODS, usual=["overwrite"]))
def test_tables_that_only_look_like_candidates_stay(local_server: LocalServer, publish: str) -> None:
    """A clone has the comment of what is published, and so says that an older run built it."""
    assert local_server.run("00000001", mau(3, 1, publish=publish)).published
    # Without the suffix of a run; of the table mau__x.
    others = {"TEMP_MAU__DAILY", "TEMP_MAU__X__00000001"}
    if publish != "swap":
        # A person's copy. After a swap another run's rows do stand under the name of a candidate.
        others.add("TEMP_MAU__20250101")
    for name in others:
        local_server.reader.sql(f"create table analytics.{name} clone analytics.mau")
    assert local_server.run("00000002", mau(5, 2, publish=publish)).published
    assert local_server.tables() == {"MAU", *others}
    local_server.reader.sql("create table analytics.temp_wau__20250102 as select 1 as mine")
    kept: dict[str, Any] = {"keep_candidates_hours": 0}
    assert local_server.run("00000003", mau(5, 2, publish=publish), **kept).published
    # Run 00000001 did build a table mau__x, for all that can be known.
    assert local_server.tables() == {"MAU", "TEMP_WAU__20250102", *others} - {"TEMP_MAU__X__00000001"}


@pytest.mark.parametrize(
    ("contract", "built", "other"),
    [
        ("number(10, 2)", "number(10, 2)", "number(10, 3)"),
        ("number(10, 2)", "decimal(10, 2)", "number(12, 2)"),
        ("number(10)", "number(10, 0)", "number(10, 2)"),
        ("varchar(16777216)", "varchar", "number(10, 2)"),
        ("timestamp_ntz(3)", "timestamp_ntz(3)", "timestamp_ltz(3)"),
        ("time(3)", "time(3)", "timestamp_ntz(3)"),
        ("binary(8388608)", "binary", "varchar(3)"),
    ],
)
def test_contract_with_parameters_tells_a_column_of_others_apart(
    one_server: LocalServer, contract: str, built: str, other: str
) -> None:
    settings = f"columns: {{v: '{contract}'}}"
    assert failed_checks(one_server, file(settings, f"select null::{built} as v")) == []
    outcome = one_server.run(next(_run_ids), file(settings, f"select null::{other} as v"))
    assert not outcome.published
    (found,) = [audit.found for audit in outcome.audits if not audit.passed]
    assert found is not None
    assert found.startswith("V of type ")
    assert found.endswith(f", expected {contract}")


def test_contract_of_a_texts_length_fails_on_the_embedded_snowflake_rather_than_pass_unseen(
    local_server: LocalServer,
) -> None:
    """DuckDB forgets the length that a query gives to a text, as docs/tables.md tells authors."""
    text = file("columns: {v: varchar(10)}", "select null::varchar(10) as v")
    outcome = local_server.run("00000001", text)
    assert [audit.found for audit in outcome.audits if not audit.passed] == ["V of type VARCHAR, expected varchar(10)"]
