"""Names and constants as DuckDB's SQL writes them."""


def quoted(identifier: str) -> str:
    """Return an identifier for DuckDB."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as a constant for DuckDB."""
    return "'" + text.replace("'", "''") + "'"
