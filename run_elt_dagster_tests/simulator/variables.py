"""Session variables: https://docs.snowflake.com/en/sql-reference/session-variables#using-variables-in-sql."""

import itertools
from collections.abc import Mapping

from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.dialect.lexer import is_word, keyword_of, tokens_of


def inlined_variables(sql: str, variables: Mapping[str, str]) -> str:
    """Return a statement with the values of session variables in the place of `$name`.

    https://docs.snowflake.com/en/sql-reference/session-variables#using-variables-in-sql

    Raises:
        SqlError: There is no such variable.
    """
    values = {name.upper(): value for name, value in variables.items()}
    tokens = tokens_of(sql)
    for dollar, word in reversed(list(itertools.pairwise(tokens))):
        if keyword_of(dollar) == "$" and is_word(word) and dollar.end + 1 == word.start:
            if word.text.upper() not in values:
                message = f"SQL compilation error: error\nSession variable '${word.text.upper()}' does not exist"
                raise SqlError(message, errno=2211, sqlstate="02000")
            sql = sql[: dollar.start] + values[word.text.upper()] + sql[word.end + 1 :]
    return sql
