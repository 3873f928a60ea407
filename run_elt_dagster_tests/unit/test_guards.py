"""What the catalogue's answers mean, what forbids to publish, and how grants are carried over: whole values, so no part goes untested."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from run_elt_dagster.model.names import Relation
from run_elt_dagster.model.production import Production
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.grants import Grant, carry_grants_over, grant_changes_sql, grants_of, show_grants_sql
from run_elt_dagster.publish.guards import (
    InventoryTable,
    PublishRefusedError,
    Refusal,
    TargetInventory,
    create_schema_sql,
    inventory_of,
    inventory_sql,
    lost_by_replacing,
    missing_schema,
    no_table_refusal,
    policies_column_sql,
    policies_in,
    policies_sql,
    require_same_columns,
    schema_remedy,
    server_instant,
    streams_by_table,
    with_policies,
    with_streams,
    with_unknown,
)
from run_elt_dagster.snowflake.session import Answer, StatementError

X, TEMP = Relation("PROD", "A", "X"), Relation("PROD", "A", "TEMP_X__8F3A01C2")
CREATED = datetime(2026, 11, 20, tzinfo=UTC)
NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=timezone(timedelta(hours=1)))
TABLE = AnalyticsTable.model_validate({"schema": "a", "table": "x", "sql": "select 1 as n"})


def row(**given: Any) -> tuple[Any, ...]:
    cells = {
        "role": "R",
        "now": NOW,
        "schema": "A",
        "schema_owner": "ADMIN",
        "managed": "NO",
        "name": "X",
        "kind": "BASE TABLE",
        "dynamic": "NO",
        "iceberg": "NO",
        "hybrid": "NO",
        "rows": 7,
        "owner": "R",
        "comment": "of mine",
        "created": CREATED,
    }
    return tuple({**cells, **given}.values())


def test_inventory_is_all_that_the_catalogue_says() -> None:
    view = row(name="V", kind="VIEW", rows=None, owner=None, comment=None, managed="YES")
    found = inventory_of([row(schema="EMPTY", name=None), row(), view])
    expected_view = InventoryTable("V", None, "", created_at=CREATED, owner="", kind="VIEW", managed_by="ADMIN")
    expected = InventoryTable("X", 7, "of mine", created_at=CREATED, owner="R", kind="BASE TABLE")
    assert found == TargetInventory(
        role="R",
        server_time=datetime(2026, 11, 22, 0, 2, 3, tzinfo=UTC),
        tables={("A", "X"): expected, ("A", "V"): expected_view},
        schemas=frozenset({"A", "EMPTY"}),
    )
    assert (found.at(X), found.at(Relation("PROD", "X", "A"))) == (expected, None)
    assert found.production_at(X) == Production("unchanged", expected)
    assert found.production_at(TEMP) == Production("none")


@pytest.mark.parametrize("special", ["dynamic", "iceberg", "hybrid"])
def test_special_table_is_told_by_its_own_column(special: str) -> None:
    assert [each.kind for each in inventory_of([row(**{special: "YES"})]).tables.values()] == [
        f"{special.upper()} TABLE"
    ]


def test_inventory_without_a_role_or_an_owner_of_the_schema_has_empty_names() -> None:
    found = inventory_of([row(role=None, managed="YES", schema_owner=None)])
    assert (found.role, found.tables["A", "X"].managed_by) == ("", "")


def test_inventory_asks_for_each_schema_once() -> None:
    assert inventory_sql("PROD", ["B", "A", "B"]) == (
        "SELECT CURRENT_ROLE(), CURRENT_TIMESTAMP(), s.SCHEMA_NAME, s.SCHEMA_OWNER, s.IS_MANAGED_ACCESS, t.TABLE_NAME, "
        "t.TABLE_TYPE, t.IS_DYNAMIC, t.IS_ICEBERG, t.IS_HYBRID, t.ROW_COUNT, t.TABLE_OWNER, t.COMMENT, t.CREATED "
        'FROM "PROD".INFORMATION_SCHEMA.SCHEMATA AS s LEFT JOIN "PROD".INFORMATION_SCHEMA.TABLES AS t '
        "ON t.TABLE_SCHEMA = s.SCHEMA_NAME WHERE s.SCHEMA_NAME IN ('A', 'B')"
    )


INVENTORY = inventory_of([row(), row(name="Y")])
Y = Relation("PROD", "A", "Y")


def test_policies_are_those_of_the_table_with_the_number_each_once() -> None:
    rows = [(1, "ROW_ACCESS_POLICY", "P"), (1, "MASKING_POLICY", "M"), (1, "MASKING_POLICY", "M")]
    found = with_policies(INVENTORY, [X, Y], rows)
    assert (found.tables["A", "X"].policies, found.tables["A", "Y"].policies) == (
        (),
        ("masking policy M", "row access policy P"),
    )
    assert found.role == INVENTORY.role


def test_policies_of_two_tables_are_one_query() -> None:
    one, other = policies_sql([X, Y]).split(" UNION ALL ")
    assert one == (
        'SELECT 0 AS N, POLICY_KIND, POLICY_NAME FROM TABLE("PROD".INFORMATION_SCHEMA.POLICY_REFERENCES('
        """REF_ENTITY_NAME => '"PROD"."A"."X"', REF_ENTITY_DOMAIN => 'TABLE'))"""
    )
    assert other.startswith("SELECT 1 AS N, ")


def test_policies_of_one_table_are_an_expression_of_any_select() -> None:
    assert policies_column_sql(X) == (
        "(SELECT ARRAY_AGG(OBJECT_CONSTRUCT('kind', POLICY_KIND, 'name', POLICY_NAME)) "
        """FROM TABLE("PROD".INFORMATION_SCHEMA.POLICY_REFERENCES(REF_ENTITY_NAME => '"PROD"."A"."X"', REF_ENTITY_DOMAIN => 'TABLE')))"""
    )
    listed = '[{"kind": "ROW_ACCESS_POLICY", "name": "P"}, {"kind": "MASKING_POLICY", "name": "M"}, {"kind": "MASKING_POLICY", "name": "M"}]'
    assert policies_in(listed) == ("masking policy M", "row access policy P")
    assert (policies_in("[]"), policies_in(None)) == ((), ())


def stream(name: str, source: str | None, tables: str | None = None) -> tuple[Any, ...]:
    return (None, name, "D", "S", None, None, source, "Table", source if tables is None else tables, "DELTA")


def test_streams_are_those_that_read_the_table() -> None:
    rows = [stream("ONE", "PROD.A.X"), stream("TWO", 'PROD.A."X"'), stream("OTHER", "PROD.B.X")]
    assert streams_by_table(rows) == {
        ("PROD", "A", "X"): ("D.S.ONE", "D.S.TWO"),
        ("PROD", "B", "X"): ("D.S.OTHER",),
    }
    found = with_streams(INVENTORY, [X, Y], rows)
    assert (found.tables["A", "X"].streams, found.tables["A", "Y"].streams) == (("D.S.ONE", "D.S.TWO"), ())


def test_stream_on_a_view_reads_each_table_below_it() -> None:
    assert streams_by_table([stream("ONE", "PROD.A.V", 'PROD.A.X, PROD.A."a,b"')]) == {
        ("PROD", "A", "V"): ("D.S.ONE",),
        ("PROD", "A", "X"): ("D.S.ONE",),
        ("PROD", "A", "a,b"): ("D.S.ONE",),
    }


def test_stream_on_a_table_that_is_no_identifier_is_not_overlooked() -> None:
    found = streams_by_table([stream("ONE", "PROD.A.my table"), stream("STAGE", "stage", "")])
    assert found == {("PROD", "A", "my table"): ("D.S.ONE",), ("STAGE",): ("D.S.STAGE",)}


@pytest.mark.parametrize(
    ("source", "tables"),
    [("No privilege or table dropped", "1 inaccessible table(s)"), ("", ""), (None, None)],
)
def test_stream_on_a_table_that_the_role_does_not_see_forbids_nothing(source: str | None, tables: str | None) -> None:
    assert with_streams(INVENTORY, [X, Y], [stream("ONE", source, tables)]) == INVENTORY


def test_all_that_is_unknown_about_a_table_is_kept() -> None:
    found = with_unknown(with_unknown(INVENTORY, [X, TEMP], "streams: a"), [X], "policies: b")
    assert (found.tables["A", "X"].unknown, found.tables["A", "Y"].unknown) == (("streams: a", "policies: b"), ())


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        (
            {"policies": ("masking policy M", "tag T")},
            (
                "x would put another object in the place of PROD.A.X, got masking policy M, tag T on it. The new object would "
                "lack them and expose data. Readers still see the previous table. Use publish: overwrite to keep the object."
            ),
        ),
        (
            {"owner": "OTHER"},
            (
                "x would put another object in the place of PROD.A.X, got a table that role OTHER owns, not R. It would change "
                "hands. Readers still see the previous table. Use publish: overwrite to keep the object, or grant its "
                "ownership to R."
            ),
        ),
        (
            {"kind": "ICEBERG TABLE", "policies": ("tag T",)},
            (
                "x would put another object in the place of PROD.A.X, got iceberg table. It would become an ordinary table. "
                "Readers still see the previous table. Use publish: overwrite to keep the object."
            ),
        ),
        (
            {"streams": ("D.S.ONE", "D.S.TWO")},
            (
                "x would put another object in the place of PROD.A.X, got streams that read it: D.S.ONE, D.S.TWO. They would go "
                "stale. Readers still see the previous table. Use publish: overwrite to keep the object."
            ),
        ),
        (
            {"managed_by": "ADMIN"},
            (
                "x would put another object in the place of PROD.A.X, got a managed access schema that role ADMIN owns, not "
                "R. Its grants could be lost. Readers still see the previous table. Use publish: overwrite to keep the object."
            ),
        ),
        (
            {"unknown": ("streams: a", "policies: b")},
            (
                "x would put another object in the place of PROD.A.X, got no answer about what hangs on it (streams: a; "
                "policies: b). Policies or streams could be lost. Readers still see the previous table. Use publish: overwrite "
                "to keep the object, or set RUN_ELT_CHECK_POLICIES=false where the account has no policies."
            ),
        ),
    ],
)
def test_refusal_says_what_would_be_lost_and_what_to_do(existing: dict[str, Any], expected: str) -> None:
    refused = lost_by_replacing(X, replace(InventoryTable("X", owner="R"), **existing), role="R", act="x")
    assert refused is not None
    assert refused.message == expected


def test_refusal_says_what_readers_see_where_it_is_known() -> None:
    refused = lost_by_replacing(X, InventoryTable("X", owner="OTHER"), role="R", act="x", seen="Nothing was changed.")
    assert refused is not None
    assert (refused.seen, refused.reason) == ("Nothing was changed.", Reason.OWNER)


@pytest.mark.parametrize("existing", [{}, {"owner": ""}, {"managed_by": "R"}])
def test_plain_table_of_the_role_may_be_replaced(existing: dict[str, Any]) -> None:
    plain = replace(InventoryTable("X", owner="R"), **existing)
    assert lost_by_replacing(X, plain, role="R", act="x") is None


def test_what_is_no_table_is_left_to_its_owner() -> None:
    assert no_table_refusal(TABLE, X, InventoryTable("X", kind="VIEW")) == Refusal(
        "a.x requires a table as its target",
        "a view at PROD.A.X",
        "Drop or rename it, then materialize again.",
        seen="Readers still see it.",
        reason=Reason.NO_TABLE,
    )


def test_overwriting_other_columns_is_refused_with_both_differences() -> None:
    with pytest.raises(PublishRefusedError) as raised:
        require_same_columns(TABLE, X, new=("B", "C", "N"), published=("N", "A"))
    assert raised.value.refusal == Refusal(
        "a.x with publish: overwrite requires the columns of PROD.A.X",
        "new columns: B, C; missing columns: A",
        "Alter the table to match, or use publish: clone.",
        seen="Readers still see the previous table.",
        reason=Reason.OVERWRITE_COLUMNS,
    )
    for new, published, words in (
        (("A",), (), "new columns: A; missing columns: none"),
        ((), ("B", "A"), "none; missing columns: A, B"),
    ):
        with pytest.raises(PublishRefusedError, match=words):
            require_same_columns(TABLE, X, new=new, published=published)
    require_same_columns(TABLE, X, new=("A", "B"), published=("B", "A"))


def refused_build(words: str, errno: int) -> StatementError:
    return StatementError(words, errno=errno, query_id="q", answered=True)


@pytest.mark.parametrize("named", ["PROD.A", "A"])
@pytest.mark.parametrize(
    ("errno", "problem"),
    [
        (2003, "schema PROD.A does not exist, or role R may not use it."),
        (3001, "role R may not create tables in schema PROD.A."),
    ],
)
def test_error_about_the_targets_schema_says_who_must_create_it(named: str, errno: int, problem: str) -> None:
    error = refused_build(f"Schema '{named}' does not exist or not authorized.", errno)
    assert missing_schema(X, error, role="R") == (problem, schema_remedy(X, role="R"))


@pytest.mark.parametrize(
    ("words", "errno"), [("Schema 'RAW' missing", 2003), ("Table 'X' missing", 2003), ("'A'", 904)]
)
def test_error_about_something_else_is_not_about_the_targets_schema(words: str, errno: int) -> None:
    assert missing_schema(X, refused_build(words, errno), role="R") is None


def test_schema_of_a_table_is_created_by_its_exact_name() -> None:
    assert create_schema_sql(Relation("PROD", "my schema", "X")) == 'CREATE SCHEMA IF NOT EXISTS "PROD"."my schema"'
    assert create_schema_sql(X) == 'CREATE SCHEMA IF NOT EXISTS "PROD"."A"'


def test_remedy_for_a_missing_schema_is_what_an_administrator_runs() -> None:
    assert schema_remedy(X, role="R") == (
        "Let an administrator with CREATE SCHEMA on database PROD, such as SYSADMIN, run: CREATE SCHEMA IF NOT EXISTS PROD.A; "
        "GRANT USAGE, CREATE TABLE ON SCHEMA PROD.A TO ROLE R;"
    )


def test_snowflakes_time_goes_on_by_what_has_passed_since() -> None:
    assert server_instant(INVENTORY, elapsed_seconds=1.5) == "2026-11-22T00:02:04.500000Z"


def grant_row(grantee: str, kind: str = "ROLE", privilege: str = "SELECT", option: str = "false") -> tuple[str, ...]:
    return ("", privilege, "TABLE", "", kind, grantee, option, "")


def test_grants_are_all_but_ownership_with_the_database_of_a_database_role() -> None:
    rows = [
        grant_row("OWNER", privilege="OWNERSHIP"),
        grant_row("R", option="TRUE"),
        grant_row("D", "DATABASE_ROLE"),
        grant_row("OTHER.D", "DATABASE_ROLE"),
        grant_row("ACCOUNT.S", "SHARE"),
    ]
    assert grants_of(rows, X) == {
        Grant("SELECT", "ROLE", ("R",), grant_option=True),
        Grant("SELECT", "DATABASE_ROLE", ("PROD", "D")),
        Grant("SELECT", "DATABASE_ROLE", ("OTHER", "D")),
        Grant("SELECT", "SHARE", ("S",)),
    }


@pytest.mark.parametrize(
    ("grantee", "parts"),
    [
        ('"a.b"', ("a.b",)),
        ('DB."say ""hi"".v2"', ("DB", 'say "hi".v2')),
        ('"D.B"."r"', ("D.B", "r")),
        # Shown without quotes of its own, since it has no dot.
        ('say "hi"', ('say "hi"',)),
    ],
)
def test_grantee_is_read_as_snowflake_stores_it(grantee: str, parts: tuple[str, ...]) -> None:
    kind = "DATABASE_ROLE" if len(parts) > 1 else "ROLE"
    assert grants_of([grant_row(grantee, kind)], X) == {Grant("SELECT", kind, parts)}


def test_grant_that_cannot_be_carried_over_is_refused_with_the_remedy() -> None:
    with pytest.raises(PublishRefusedError) as raised:
        grants_of([grant_row("APP", "APPLICATION")], X)
    assert raised.value.refusal == Refusal(
        "publish: swap carries over grants to roles, database roles and shares",
        "SELECT to APPLICATION APP on PROD.A.X",
        "Use publish: clone to keep every grant.",
        consequence="It would be lost.",
        reason=Reason.GRANTS,
    )


def test_grants_are_taken_away_before_others_are_given() -> None:
    given = Grant("SELECT", "ROLE", ("R",), grant_option=True)
    assert grant_changes_sql(X, present=frozenset({Grant("SELECT", "ROLE", ("R",))}), wanted=frozenset({given})) == [
        'REVOKE SELECT ON TABLE "PROD"."A"."X" FROM ROLE "R"',
        'GRANT SELECT ON TABLE "PROD"."A"."X" TO ROLE "R" WITH GRANT OPTION',
    ]


class Grants:
    """Sends statements about grants: each GRANT takes effect unless it is `lost`, and is reported as failed if it `fails`.

    Every statement has to come by the runner itself, and by the fresh one while that is open.
    """

    def __init__(self, wanted: str, *, fails: bool, lost: bool) -> None:
        self.sent: list[str] = []
        self._on = {show_grants_sql(X): [grant_row(wanted)], show_grants_sql(TEMP): list[tuple[str, ...]]()}
        self._wanted, self._fails, self._lost = wanted, fails, lost
        self._runner: object = self

    def __call__(self, sql: str, runner: object) -> Answer:
        assert runner is self._runner
        self.sent.append(sql)
        if sql in self._on:
            return Answer(tuple(self._on[sql]), "q", 0.0)
        if not self._lost:
            self._on[show_grants_sql(TEMP)] = [grant_row(self._wanted)]
        if self._fails:
            raise StatementError("no answer", errno=None, query_id="q", answered=False)
        return Answer((), "q", 0.0)

    @contextmanager
    def fresh(self) -> Generator[object]:
        self._runner = object()
        yield self._runner
        self._runner = self

    def carried_over(self) -> str:
        return carry_grants_over(self, self, giver=X, taker=TEMP)  # type: ignore[arg-type]


GRANT = f'GRANT SELECT ON TABLE {TEMP.sql} TO ROLE "R"'
LOOK = [show_grants_sql(X), show_grants_sql(TEMP)]


def test_grants_are_carried_over_and_looked_at_again() -> None:
    grants = Grants("R", fails=False, lost=False)
    assert grants.carried_over() == ""
    assert grants.sent == [*LOOK, GRANT, show_grants_sql(TEMP)]
    assert (grants.carried_over(), grants.sent[4:]) == ("", LOOK)


def test_grant_that_is_reported_as_failed_counts_if_it_took_effect() -> None:
    grants = Grants("R", fails=True, lost=False)
    assert grants.carried_over() == ""
    assert grants.sent == [*LOOK, GRANT, *LOOK, show_grants_sql(TEMP)]


def test_grant_that_failed_and_took_no_effect_is_an_error() -> None:
    with pytest.raises(StatementError, match="no answer"):
        Grants("R", fails=True, lost=True).carried_over()


def test_grant_that_took_no_effect_all_the_same_is_told() -> None:
    assert Grants("R", fails=False, lost=True).carried_over() == "SELECT to R"


def test_all_that_differs_after_carrying_over_is_told() -> None:
    wanted = (grant_row("R"), grant_row("D", "DATABASE_ROLE"))

    def send(sql: str, _: object) -> Answer:
        return Answer(wanted if sql == show_grants_sql(X) else (), "q", 0.0)

    assert carry_grants_over(send, object(), giver=X, taker=TEMP) == "SELECT to PROD.D, SELECT to R"  # type: ignore[arg-type]
