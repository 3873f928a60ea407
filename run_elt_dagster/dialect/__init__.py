"""Snowflake's SQL for DuckDB: whatever is known to give the same, and nothing else.

    Queries(table).relation(parsed("SELECT 1 / 3"))

- `parser` reads a statement and keeps the names of functions.
- `queries` and `sources` translate SELECT and FROM; `scope` knows what names mean.
- `expressions` translates operators, `calls` functions; `instants`, `semi`, `aggregates`, `flatten` and `pivots` those that need
  more than a line of data.
- `types` and `values`: each expression has a type of Snowflake's, and is converted as Snowflake does.
- `catalogue` reads `data`: the functions that are known, each with its page, and macros of DuckDB.

What is not known raises `SqlError` with the number 2: https://docs.snowflake.com/en/sql-reference-functions.
"""

# Each registers what it translates.
from run_elt_dagster.dialect import aggregates, instants, numbers, regexes, semi, texts

__all__ = ["aggregates", "instants", "numbers", "regexes", "semi", "texts"]
