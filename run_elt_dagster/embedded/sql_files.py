"""The longer statements in DuckDB's own SQL: each file of the folder `sql` holds what belongs together."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "sql"


def sql_file(name: str, **values: str) -> str:
    """Return the statements of a file, with values in the place of their names in braces."""
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8").format(**values)
