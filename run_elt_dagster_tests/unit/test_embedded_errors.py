"""What DuckDB raises reaches nobody in DuckDB's words."""

import duckdb
import pytest

from run_elt_dagster.dialect.errors import from_duckdb


@pytest.mark.parametrize(
    ("sql", "errno", "words"),
    [
        ("SELECT a FROM (SELECT 1 a, 2 b) GROUP BY a HAVING b > 1", 979, "[b] is not a valid group by expression"),
        ("SELECT (SELECT * FROM (VALUES (1), (2)))", 90150, "Single-row subquery returns more than one row."),
        ("SELECT 99999::DECIMAL(3,0)", 100039, "'99999' is out of range"),
        ("SELECT '98.7'::DECIMAL(2,1)", 100039, "'98.7' is out of range"),
        ("SELECT 'x'::DECIMAL(2,1)", 100038, "'x' is not recognized"),
        ("SELECT list_transform([1], lambda x: x + (SELECT 1))", 2, "cannot take a subquery as such an argument"),
        ("SELECT 9::DECIMAL(38,0) * 99999999999999999999999999999999999999", 2, "cannot compute with so many digits"),
        ("SELECT [1] + {'a': 1}", 2, "cannot run this statement, got a failure of its engine (BinderException)"),
    ],
)
def test_failure_of_duckdb_has_other_words(sql: str, errno: int, words: str) -> None:
    with pytest.raises(duckdb.Error) as failed:
        duckdb.connect().execute(sql).fetchall()
    error = from_duckdb(failed.value)
    assert error.errno == errno
    assert words in error.message
    assert type(failed.value).__name__ in words or "Error:" not in error.message
