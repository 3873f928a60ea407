"""The tables and queries of TPC-H and TPC-DS at scale 0.01, and whether two results are the same.

The tables of TPC-H are made here, by numbers that look random and are the same each time. Those of TPC-DS, and its queries, come from
DuckDB's own extension: https://duckdb.org/docs/stable/core_extensions/tpcds. It is fetched once. `RUN_ELT_TESTS_TPC_PYTHON` names another
interpreter, with a DuckDB that has it: the package duckdb-extension-tpcds installs both where DuckDB's own site is out of reach.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

FOLDER = Path(__file__).parent.parent / "documented" / "tpch"
PYTHON = os.environ.get("RUN_ELT_TESTS_TPC_PYTHON") or sys.executable
# A quotient or an average has six digits more than its dividend, at least six in all, where DuckDB gives a DOUBLE.
_CLOSE, _RELATIVELY = 1e-6, 1e-9
_NATIONS = (
    *(
        "ALGERIA",
        "ARGENTINA",
        "BRAZIL",
        "CANADA",
        "EGYPT",
        "ETHIOPIA",
        "FRANCE",
        "GERMANY",
        "INDIA",
        "INDONESIA",
        "IRAN",
        "IRAQ",
    ),
    *(
        "JAPAN",
        "JORDAN",
        "KENYA",
        "MOROCCO",
        "MOZAMBIQUE",
        "PERU",
        "CHINA",
        "ROMANIA",
        "SAUDI ARABIA",
        "VIETNAM",
        "RUSSIA",
    ),
    *("UNITED KINGDOM", "UNITED STATES"),
)
_REGIONS = ("AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST")
_EXTENSION = """
import json, sys
import duckdb
duck = duckdb.connect(config={"allow_unsigned_extensions": "true"})
try:
    import duckdb_extension_tpcds as packed
    duck.execute(f"LOAD '{packed.__path__[0]}/extensions/v{duckdb.__version__}/tpcds.duckdb_extension'")
except ImportError:
    duck.execute("INSTALL tpcds; LOAD tpcds")
duck.execute(f"CALL dsdgen(sf = {sys.argv[2]})")
for (name,) in duck.execute("SELECT table_name FROM duckdb_tables()").fetchall():
    duck.execute(f"COPY {name} TO '{sys.argv[1]}/{name}.parquet'")
queries = [sql for (sql,) in duck.execute("SELECT query FROM tpcds_queries() ORDER BY query_nr").fetchall()]
with open(f"{sys.argv[1]}/queries.json", "w") as file:
    json.dump(queries, file)
"""


@dataclass(frozen=True)
class Decisions:
    """Tables in a folder of Parquet files, and the queries about them."""

    folder: Path
    queries: Sequence[str]


def tpcds(folder: Path, *, scale: float = 0.01) -> Decisions | str:
    """Return TPC-DS, or why there is none here; at scale 0 its tables have no rows."""
    made = subprocess.run(
        [PYTHON, "-c", _EXTENSION, str(folder), str(scale)], capture_output=True, text=True, check=False, timeout=300
    )
    if made.returncode:
        return made.stderr.strip().splitlines()[-1]
    return Decisions(folder, [sql.strip().rstrip(";") for sql in json.loads((folder / "queries.json").read_text())])


def tpch_queries() -> dict[str, str]:
    """Return the 22 queries of TPC-H in Snowflake's SQL."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("q*.sql"))}


def columns_of_tpch() -> dict[str, list[str]]:
    """Return the columns of each table of TPC-H."""
    with duckdb.connect() as duck:
        return {
            name: [column for column, *_ in duck.execute(f"DESCRIBE {query}").fetchall()]
            for name, query in tpch_tables().items()
        }


def columns_in(folder: Path) -> dict[str, list[str]]:
    """Return the columns of each Parquet file in a folder."""
    with duckdb.connect() as duck:
        return {
            path.stem: [column for column, *_ in duck.execute(f"DESCRIBE FROM '{path}'").fetchall()]
            for path in sorted(folder.glob("*.parquet"))
        }


def named(sql: str, tables: Iterable[str], *, schema: str = "raw_data") -> str:
    """Return a query whose tables are those of a schema."""
    own = ",\n".join(f"{name} as (select * from {schema}.{name})" for name in tables)
    head = re.match(r"with\s+", sql, re.IGNORECASE)
    return f"with {own},\n{sql[head.end() :]}" if head else f"with {own}\n{sql}"


def load_parquet(duck: duckdb.DuckDBPyConnection, schema: str, folder: Path) -> None:
    """Create a table of each file, its columns named as on Snowflake."""
    for path in sorted(folder.glob("*.parquet")):
        columns = duck.execute(f"DESCRIBE FROM '{path}'").fetchall()
        items = ", ".join(f'{name} AS "{name.upper()}"' for name, *_ in columns)
        duck.execute(f"CREATE TABLE {schema}.{path.stem.upper()} AS SELECT {items} FROM '{path}'")


def load_tpch(duck: duckdb.DuckDBPyConnection, schema: str) -> None:
    """Create the tables of TPC-H in a schema."""
    for name, query in tpch_tables().items():
        duck.execute(
            f"CREATE TABLE {schema}.{name.upper()} AS {re.sub('( AS |t[(]|, )([a-z]{1,2}_[a-z]+)', _upper, query)}"
        )


def _upper(match: re.Match[str]) -> str:
    return f'{match[1]}"{match[2].upper()}"'


def _number(salt: int, least: int, most: int) -> str:
    return f"({least} + hash(i * 7919 + {salt}) % {most - least + 1})::BIGINT"


def _money(salt: int, least: int, most: int) -> str:
    return f"({_number(salt, least * 100, most * 100)} / 100.0)::DECIMAL(12, 2)"


def _one_of(salt: int, *words: str) -> str:
    return f"({list(words)})[{_number(salt, 1, len(words))}]"


def _day(salt: int, days: int, *, first: str = "DATE '1992-01-01'") -> str:
    return f"({first} + {_number(salt, 0, days)}::INTEGER)::DATE"


def _values(rows: Sequence[Sequence[Any]], columns: str) -> str:
    return f"SELECT * FROM (VALUES {', '.join(str(tuple(row)) for row in rows)}) AS t({columns})"


def tpch_tables() -> dict[str, str]:
    """Return DuckDB's query for the rows of each table."""
    shipped = _day(34, 2500)
    return {
        "region": _values([*enumerate(_REGIONS)], "r_regionkey, r_name"),
        "nation": _values(
            [(n, name, n * 3 % 5) for n, name in enumerate(_NATIONS)], "n_nationkey, n_name, n_regionkey"
        ),
        "supplier": f"""SELECT i::BIGINT AS s_suppkey, 'Supplier#' || lpad(i::VARCHAR, 9, '0') AS s_name,
            'at ' || i AS s_address, i % 25 AS s_nationkey, '10-' || i AS s_phone, {_money(2, -999, 9999)} AS s_acctbal,
            CASE WHEN i % 17 = 0 THEN 'x Customer y Complaints' ELSE 'fine' END AS s_comment FROM range(1, 101) AS g(i)""",
        "part": f"""SELECT i::BIGINT AS p_partkey,
            {_one_of(3, "green", "forest", "blue", "red")} || ' ' || {_one_of(4, "almond", "green", "tan")} AS p_name,
            'Manufacturer#' || {_number(5, 1, 5)} AS p_mfgr, 'Brand#' || {_number(6, 1, 5)} || {_number(7, 1, 5)} AS p_brand,
            {_one_of(8, "STANDARD", "SMALL", "MEDIUM", "ECONOMY", "PROMO")} || ' '
            || {_one_of(9, "ANODIZED", "POLISHED", "PLATED")} || ' ' || {_one_of(10, "TIN", "STEEL", "BRASS")} AS p_type,
            {_number(11, 1, 50)} AS p_size, {_one_of(12, "SM", "MED", "LG")} || ' '
            || {_one_of(13, "CASE", "BOX", "BAG", "PKG", "PACK")} AS p_container, {_money(14, 1, 999)} AS p_retailprice
            FROM range(1, 2001) AS g(i)""",
        "partsupp": f"""SELECT (i - 1) // 4 + 1 AS ps_partkey, ((i - 1) // 4 + (i - 1) % 4 * 25) % 100 + 1 AS ps_suppkey,
            {_number(15, 1, 9999)} AS ps_availqty, {_money(16, 1, 999)} AS ps_supplycost FROM range(1, 8001) AS g(i)""",
        "customer": f"""SELECT i::BIGINT AS c_custkey, 'Customer#' || i AS c_name, 'at ' || i AS c_address,
            {_number(17, 0, 24)} AS c_nationkey, {_number(18, 10, 34)} || '-' || i AS c_phone,
            {_money(19, -999, 9999)} AS c_acctbal, {_one_of(20, "BUILDING", "AUTOMOBILE", "MACHINERY")} AS c_mktsegment,
            'c' || i AS c_comment FROM range(1, 1501) AS g(i)""",
        "orders": f"""SELECT i::BIGINT AS o_orderkey, {_number(21, 0, 499)} * 3 + 1 AS o_custkey,
            {_one_of(22, "O", "F", "P")} AS o_orderstatus, {_money(23, 1, 400000)} AS o_totalprice,
            {_day(24, 2400)} AS o_orderdate,
            {_one_of(25, "1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW")} AS o_orderpriority,
            0 AS o_shippriority, CASE WHEN i % 13 = 0 THEN 'a special b requests' ELSE 'ok' END AS o_comment
            FROM range(1, 15001) AS g(i)""",
        "lineitem": f"""SELECT {_number(26, 1, 15000)} AS l_orderkey, {_number(39, 1, 2000)} AS l_partkey,
            ({_number(39, 1, 2000)} - 1 + {_number(27, 0, 3)} * 25) % 100 + 1 AS l_suppkey,
            {_number(28, 1, 50)}::DECIMAL(12, 2) AS l_quantity, {_money(29, 1, 100000)} AS l_extendedprice,
            ({_number(30, 0, 10)} / 100.0)::DECIMAL(12, 2) AS l_discount, ({_number(31, 0, 8)} / 100.0)::DECIMAL(12, 2) AS l_tax,
            {_one_of(32, "R", "A", "N")} AS l_returnflag, {_one_of(33, "O", "F")} AS l_linestatus, {shipped} AS l_shipdate,
            {_day(35, 60, first=f"{shipped} - 20")} AS l_commitdate, {_day(36, 30, first=f"{shipped} + 1")} AS l_receiptdate,
            {_one_of(37, "DELIVER IN PERSON", "COLLECT COD")} AS l_shipinstruct,
            {_one_of(38, "AIR", "AIR REG", "MAIL", "SHIP", "RAIL")} AS l_shipmode FROM range(1, 60001) AS g(i)""",
    }


def is_same(wanted: Sequence[Sequence[Any]], got: Sequence[Sequence[Any]]) -> bool:
    """Return whether two results have the same rows in the same order."""
    return [len(row) for row in wanted] == [len(row) for row in got] and all(
        _is_near(one, other) for rows in zip(wanted, got, strict=True) for one, other in zip(*rows, strict=True)
    )


def in_order(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return the rows of a table, which has no order of its own."""
    return sorted(rows, key=lambda row: [(value is None, _key(value)) for value in row])


def _key(value: Any) -> Any:
    # Two numbers that are nearly the same must not change places.
    return round(float(value), 3) if isinstance(value, int | float | Decimal) else value or ""


def _is_near(one: Any, other: Any) -> bool:
    numbers = [float(value) for value in (one, other) if isinstance(value, int | float | Decimal)]
    if len(numbers) < 2 or isinstance(one, bool) or isinstance(other, bool):
        return type(one) is type(other) and one == other
    return abs(numbers[0] - numbers[1]) <= max(_CLOSE, _RELATIVELY * max(map(abs, numbers)))
