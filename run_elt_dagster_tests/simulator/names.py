"""Names of objects inside strings, as the arguments of functions hold them."""

from run_elt_dagster.dialect.lexer import only_statement
from run_elt_dagster.embedded.reader import Name, Reader


def name_in(text: str) -> Name:
    """Return the name that a string holds, as the arguments of functions do."""
    reader = Reader(text, only_statement(text))
    name = reader.name()
    reader.finish()
    return name
