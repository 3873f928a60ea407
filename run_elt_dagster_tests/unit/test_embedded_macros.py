from collections.abc import Generator

import duckdb
import pytest

from run_elt_dagster.dialect import catalogue
from run_elt_dagster.dialect.macros import Macros, TransactionMacros


@pytest.fixture
def duck() -> Generator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("ATTACH ':memory:' AS _fs_global; CREATE SCHEMA _fs_global._fs_information_schema")
        yield connection


def created(duck: duckdb.DuckDBPyConnection) -> set[str]:
    rows = duck.execute(
        "SELECT function_name FROM duckdb_functions() WHERE database_name = '_fs_global' AND NOT internal"
    )
    return {name for (name,) in rows.fetchall()}


def test_macro_is_created_with_those_it_calls_and_no_other(duck: duckdb.DuckDBPyConnection) -> None:
    macros = Macros(duck)
    assert created(duck) == set()
    query = catalogue.with_macros("SELECT @tz_text(@tz(TIMESTAMP '2024-01-01 12:00:00', 60))")
    macros.create(query)
    assert created(duck) == {"sf_tz", "sf_tz_text", "sf_tz_to_ntz", "sf_ntz_text", "sf_offset_text"}
    assert duck.execute(query).fetchall() == [("2024-01-01 13:00:00.000 +0100",)]


def test_query_without_macros_creates_none(duck: duckdb.DuckDBPyConnection) -> None:
    Macros(duck).create("SELECT 1, '@tz'")
    assert created(duck) == set()


def test_every_macro_can_be_created(duck: duckdb.DuckDBPyConnection) -> None:
    Macros(duck).create("".join(catalogue.macros().values()))
    assert created(duck) == set(catalogue.macros())


@pytest.mark.parametrize("call", ["@variant_kind(upper(v))", "@if_kind(upper(v), ['ARRAY'])"])
def test_kind_of_a_variant_takes_its_argument_once(duck: duckdb.DuckDBPyConnection, call: str) -> None:
    """DuckDB copies an argument to each place that names it: TYPEOF(PARSE_JSON(v)) took half a second to plan."""
    query = catalogue.with_macros(f"EXPLAIN SELECT {call} FROM (SELECT ? AS v FROM range(2))")
    Macros(duck).create(query)
    # What is optimized has found the copies again.
    duck.execute("PRAGMA disable_optimizer")
    ((_, plan),) = duck.execute(query, ["[1]"]).fetchall()
    assert plan.count("upper(v)") == 1


def test_transaction_that_has_begun_has_macros_of_its_own(duck: duckdb.DuckDBPyConnection) -> None:
    macros = Macros(duck)
    macros.create(catalogue.with_macros("SELECT @tz(NULL, 0)"))
    session, query = duck.cursor(), catalogue.with_macros("SELECT @tz_text(@tz(TIMESTAMP '2024-01-01 12:00:00', 60))")
    own = TransactionMacros(session, macros.missing())
    session.begin()
    # It has looked at their database, and does not see what another session creates now.
    created(session)
    macros.create(query)
    with pytest.raises(duckdb.CatalogException):
        session.execute(query)
    session.rollback()
    session.begin()
    for _ in range(2):
        assert session.execute(own.create(query)).fetchall() == [("2024-01-01 13:00:00.000 +0100",)]
    assert created(duck) == {"sf_tz", "sf_tz_text", "sf_tz_to_ntz", "sf_ntz_text", "sf_offset_text"}
    session.rollback()
    with pytest.raises(duckdb.CatalogException):
        session.execute(own.create(query))


def test_macros_that_a_stored_view_calls_are_there_again(duck: duckdb.DuckDBPyConnection) -> None:
    first = Macros(duck)
    duck.execute("ATTACH ':memory:' AS kept")
    view = catalogue.with_macros("CREATE VIEW kept.main.v AS SELECT @date_text(DATE '2024-01-05') AS d")
    first.create(view)
    duck.execute(view)
    duck.execute("DROP MACRO _fs_global._fs_information_schema.sf_date_text")
    Macros(duck).create_for("kept")
    assert duck.execute("SELECT d FROM kept.main.v").fetchall() == [("2024-01-05",)]
