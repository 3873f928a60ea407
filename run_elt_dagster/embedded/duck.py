"""DuckDB as the embedded Snowflake needs it, with no file and no server."""

from duckdb import DuckDBPyConnection

# sqlglot still writes lambdas with an arrow, as in `x -> x + 1`.
CONFIG: dict[str, str | bool | int | float | list[str]] = {"lambda_syntax": "ENABLE_SINGLE_ARROW"}
_SETTINGS = (
    # A name that no table has must not find a Python variable, and x / 0 must fail as on Snowflake:
    # https://docs.snowflake.com/en/sql-reference/operators-arithmetic#division
    "python_enable_replacements = false",
    "ieee_floating_point_ops = false",
    # With it DuckDB 2.0.0 drops a comparison with a correlated subquery that holds RANDOM() or any other volatile function:
    # findings/duckdb_error_in_a_correlated_subquery_drops_the_filter.sh.
    "disabled_optimizers = 'statistics_propagation'",
    # Nothing is fetched from anywhere.
    "autoinstall_known_extensions = false",
    "autoload_known_extensions = false",
    "TimeZone = 'UTC'",
)


def prepare(duck: DuckDBPyConnection) -> None:
    """Set what decides how DuckDB executes the SQL of `dialect`, for all connections of the instance."""
    for setting in _SETTINGS:
        duck.execute(f"SET GLOBAL {setting}")
