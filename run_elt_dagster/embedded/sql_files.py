"""The longer statements in DuckDB's own SQL: each file of the folder `sql` holds what belongs together."""

from collections.abc import Sequence
from pathlib import Path

from run_elt_dagster.dialect.names import literal
from run_elt_dagster.embedded.objects import DEFAULT_OWNER, HIDDEN_SCHEMA, KEPT_PREFIX, hidden_schema

_FOLDER = Path(__file__).parent / "sql"
_NAMES = {"hidden_schema": HIDDEN_SCHEMA, "kept": KEPT_PREFIX, "owner": DEFAULT_OWNER}


def sql_file(name: str, **values: str) -> str:
    """Return the statements of a file, with values in the place of their names in braces."""
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8").format(**_NAMES, **values)


def database_sql(database: str) -> str:
    """Return the statements that create a database's register and the views on it; safe to repeat."""
    return sql_file("database", hidden=hidden_schema(database), database=literal(database))


def listing_sql(databases: Sequence[str]) -> str:
    """Return the statements that create the views over all databases; safe to repeat."""
    relations = (f"SELECT * FROM {hidden_schema(name)}.embedded_relations" for name in databases)
    return sql_file("show", tables=" UNION ALL ".join(relations))
