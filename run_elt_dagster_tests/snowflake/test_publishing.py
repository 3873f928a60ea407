"""What each way of publishing keeps, and what Snowflake says where one cannot."""

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import pytest

from run_elt_dagster.publish.failures import SYNTAX_ERROR
from run_elt_dagster.publish.guards import OBJECT_EXISTS, OBJECT_MISSING
from run_elt_dagster.publish.methods import exchange_sql
from run_elt_dagster.snowflake.session import StatementError
from run_elt_dagster_tests.support.embedded import Background, Session
from run_elt_dagster_tests.support.snowflake_account import METHODS, OwnTable, allowed, built, first_words

LOOK = [("inspect", "SELECT CURRENT_ROLE(),"), ("inspect", "SHOW STREAMS"), ("inspect", "SELECT 0")]
BUILD = [("build", "CREATE OR"), ("audit", "SELECT COUNT(*),")]
# What a run sends where the table is published already: no statement more, so that one scan also reads the catalogue.
STATEMENTS = {
    "clone": [*LOOK, *BUILD, ("publish", "CREATE OR"), ("clean-up", "DROP TABLE")],
    "swap": [
        *LOOK,
        *BUILD,
        ("publish", "SHOW GRANTS"),
        ("publish", "SHOW GRANTS"),
        ("publish", "ALTER TABLE"),
        ("clean-up", "DROP TABLE"),
    ],
    "overwrite": [
        LOOK[0],
        *BUILD,
        ("publish", "COMMENT ON"),
        ("publish", "INSERT OVERWRITE"),
        ("publish", "COMMENT ON"),
        ("clean-up", "DROP TABLE"),
    ],
}
EXCHANGES = {"clone": "COPY GRANTS", "swap": "SWAP WITH", "overwrite": "INSERT OVERWRITE"}


@contextmanager
def grantee(table: OwnTable, session: Session, kind: str) -> Generator[str]:
    """Give somebody who can have privileges; whoever had to be created goes again."""
    name = f"{table.schema.name}_{table.name}"
    database = f'"{table.schema.database}"'
    created = {
        "DATABASE ROLE": (f"database role {database}.{name}", []),
        "SHARE": (f"share {name}", [f"grant usage on database {database} to share {name}"]),
    }
    if kind not in created or table.schema.account.is_embedded:
        # The embedded Snowflake lets any name have privileges.
        yield {"DATABASE ROLE": f"database role {database}.readers", "SHARE": "share partner"}.get(kind, kind)
        return
    whom, more = created[kind]
    allowed(session, [f"create {whom}"])
    try:
        allowed(session, more)
        if kind == "SHARE":
            allowed(session, [f"grant usage on schema {database}.{table.schema.name} to share {name}"])
        yield whom
    finally:
        session.sql(f"drop {whom}")


@pytest.mark.parametrize("publish", METHODS)
@pytest.mark.parametrize("kind", ["role public", "role public with grant option", "DATABASE ROLE", "SHARE"])
def test_grants_survive_being_published_twice_more(table: OwnTable, publish: str, kind: str) -> None:
    session = table.schema.session()
    table.publish("0000000A", built(3, 1, publish=publish))
    with grantee(table, session, kind) as whom:
        allowed(session, [f"grant select on table {table.name} to {whom}"])
        before = table.grants(session)
        assert "SELECT" in {privilege for privilege, *_ in before}
        for run_id, value in (("0000000B", 2), ("0000000C", 3)):
            table.publish(run_id, built(5, value, publish=publish))
            assert table.grants(session) == before
        assert table.seen(session) == (5, 3, 3)
        session.sql(f"drop table {table.name}")


@pytest.mark.parametrize("publish", METHODS)
def test_published_table_says_in_its_comment_whose_rows_it_has(table: OwnTable, publish: str) -> None:
    """A clone is created with its source's comment; whatever looks at production rests on that."""
    session = table.schema.session()
    for run_id in ("0000000A", "0000000B"):
        table.publish(run_id, built(3, 1, publish=publish, more="description: It's 100 % \\ ours"))
        marker = table.marker(session)
        assert marker is not None
        assert (marker.state, marker.run_id) == ("run", run_id)
        assert marker.at
        assert table.comment(session).startswith("It's 100 % \\ ours [run_elt")


@pytest.mark.parametrize("publish", METHODS)
def test_columns_keep_their_descriptions(table: OwnTable, publish: str) -> None:
    session = table.schema.session()
    more = 'columns: {n: {type: int, description: "Its number"}, v: int}'
    for run_id in ("0000000A", "0000000B"):
        table.publish(run_id, built(3, 1, publish=publish, more=more))
        comments = session.sql(
            "select column_name, comment from information_schema.columns "
            f"where table_schema = current_schema() and table_name = '{table.name}'"
        )
        assert {name: comment or "" for name, comment in comments} == {"N": "Its number", "V": ""}


@pytest.mark.parametrize("publish", METHODS)
def test_first_publish_and_republish_leave_no_candidate(table: OwnTable, publish: str) -> None:
    session = table.schema.session()
    for run_id, rows in (("0000000A", 3), ("0000000B", 5)):
        outcome = table.publish(run_id, built(rows, rows, publish=publish))
        assert (outcome.row_count, outcome.warnings) == (rows, ())
        assert table.seen(session) == (rows, rows, rows)
        found = session.sql(
            "select table_name from information_schema.tables "
            f"where table_schema = current_schema() and table_name like '%{table.name}%'"
        )
        assert found == [(table.name,)]


@pytest.mark.parametrize("publish", ["clone", "overwrite"])
def test_tags_stay_on_the_table(table: OwnTable, publish: str) -> None:
    session = table.schema.session()
    if not table.schema.account.is_embedded:
        allowed(session, ["create tag if not exists cost_center"])
    table.publish("0000000A", built(3, 1, publish=publish))
    allowed(session, [f"alter table {table.name} set tag cost_center = 'growth'"])
    table.publish("0000000B", built(5, 2, publish=publish))
    assert session.value(f"select system$get_tag('cost_center', '{table.name}', 'table')") == "growth"


@pytest.mark.only_an_account("knows tags of tables, not of columns")
@pytest.mark.parametrize("publish", ["clone", "overwrite"])
def test_tags_stay_on_a_column(table: OwnTable, publish: str) -> None:
    session = table.schema.session()
    allowed(session, ["create tag if not exists sensitivity"])
    table.publish("0000000A", built(3, 1, publish=publish))
    allowed(session, [f"alter table {table.name} modify column v set tag sensitivity = 'high'"])
    table.publish("0000000B", built(5, 2, publish=publish))
    assert session.value(f"select system$get_tag('sensitivity', '{table.name}.v', 'column')") == "high"


@pytest.mark.parametrize("publish", METHODS)
def test_run_sends_no_statement_more_than_planned(table: OwnTable, publish: str) -> None:
    """One scan of the candidate reads INFORMATION_SCHEMA too; were that refused, there would be more statements."""
    table.publish("0000000A", built(3, 1, publish=publish))
    sent: list[tuple[str, str]] = []

    def note(sql: str, tag: Mapping[str, str]) -> None:
        sent.append((tag["stage"], first_words(sql)))

    run_id = f"{table.name[-8:]}B"
    table.publish(run_id, built(5, 2, publish=publish), before=note)
    expected = list(STATEMENTS[publish])
    if not table.schema.account.check_policies and publish != "overwrite":
        expected.remove(LOOK[2])
    assert sent == expected
    assert sorted(table.schema.history(run_id, until=len(expected))) == sorted(expected)


def test_scan_sees_candidate_target_and_their_columns_at_once(table: OwnTable) -> None:
    table.publish("0000000A", "select 1 as n, 'a' as v")
    answers: list[str] = []
    outcome = table.publish(
        "0000000B",
        "/* elt\nchecks: {row_count_change: {max_growth: 900%, min_rows: 1}}\nelt */ select 1 as n, 2.5 as v, 3 as w",
        before=lambda sql, tag: answers.append(sql) if tag["stage"] == "audit" else None,
    )
    assert len(answers) == 1
    (change,) = [audit.got for audit in outcome.audits if audit.audit.name == "row_count_change"]
    assert (change["rows"], change["rows published"]) == (1, 1)
    assert len(outcome.schema_changes) >= 2


def test_refusals_have_the_numbers_that_publishing_goes_by(table: OwnTable) -> None:
    session = table.schema.session()
    target, candidate = table.relations("0000000A")
    exchange = exchange_sql(table.declared, target=target, candidate=candidate, exists=False)
    assert session.refused(exchange) == OBJECT_MISSING
    session.sql(f"create table {candidate.sql} as select 1 as n")
    session.sql(exchange)
    assert session.refused(exchange) == OBJECT_EXISTS
    assert session.refused(f"alter table {candidate.sql} rename to {target.sql}") == OBJECT_EXISTS
    session.sql(f"drop table {candidate.sql}")
    for publish in METHODS:
        declared = table.parsed(built(1, 1, publish=publish))
        statement = exchange_sql(declared, target=target, candidate=candidate, exists=True, columns=["N"])
        assert session.refused(statement) == OBJECT_MISSING


@pytest.mark.only_an_account("calls what it does not know unsupported")
def test_clause_that_the_account_does_not_know_is_a_syntax_error(table: OwnTable) -> None:
    """What publishing takes for an account without COPY TAGS."""
    session = table.schema.session()
    session.sql(f"create table {table.name} as select 1 as n")
    assert session.refused(f"create or replace table {table.name} clone {table.name} copy nothing") == SYNTAX_ERROR


def test_view_is_not_replaced(table: OwnTable) -> None:
    session = table.schema.session()
    session.sql(f"create view {table.name} as select 1 as v")
    outcome = table.run("0000000A", built(3, 1))
    assert outcome.failure is not None
    assert "got a view at" in outcome.failure.message
    assert table.seen(session) == (1, 1, 1)


@pytest.mark.parametrize(("publish", "held"), [*EXCHANGES.items(), ("overwrite", "[run_elt publishing")])
def test_older_snapshot_never_overwrites_a_newer_one(table: OwnTable, publish: str, held: str) -> None:
    """The older run is held just before its exchange or its announcement, while the newer one goes all the way."""
    table.publish("00000001", built(1, 0, publish=publish))
    reached, go_on = threading.Event(), threading.Event()

    def hold(sql: str, _: Mapping[str, str]) -> None:
        if held in sql:
            reached.set()
            assert go_on.wait(200)

    older = Background(lambda: table.run("0000000A", built(3, 1, publish=publish), before=hold))
    try:
        assert reached.wait(200)
        table.publish("0000000B", built(5, 2, publish=publish))
    finally:
        go_on.set()
    outcome = older.result(200)
    assert outcome.superseded_by == "0000000B", outcome.failure
    session = table.schema.session()
    assert table.seen(session) == (5, 2, 2)
    marker = table.marker(session)
    assert marker is not None
    assert (marker.state, marker.run_id) == ("run", "0000000B")


@pytest.mark.parametrize("publish", METHODS)
def test_author_error_names_its_query_and_leaves_production_alone(table: OwnTable, publish: str) -> None:
    session = table.schema.session()
    table.publish("0000000A", built(3, 1, publish=publish))
    outcome = table.run("0000000B", f"/* elt\npublish: {publish}\nelt */ select 'canary'::int as v")
    assert outcome.failure is not None
    assert isinstance(outcome.failure.cause, StatementError)
    assert outcome.failure.query_id
    assert "canary" not in outcome.failure.message
    assert table.seen(session) == (3, 1, 1)
