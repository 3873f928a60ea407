-- What decides how DuckDB executes the SQL of dialect/, for all connections of the instance.

-- A name that no table has must not find a Python variable, and x / 0 must fail as on Snowflake:
-- https://docs.snowflake.com/en/sql-reference/operators-arithmetic#division
SET GLOBAL python_enable_replacements = false;
SET GLOBAL ieee_floating_point_ops = false;
-- With it DuckDB 2.0.0 drops a comparison with a correlated subquery that holds RANDOM() or any other volatile function:
-- findings/duckdb_error_in_a_correlated_subquery_drops_the_filter.sh.
SET GLOBAL disabled_optimizers = 'statistics_propagation';
-- Nothing is fetched from anywhere.
SET GLOBAL autoinstall_known_extensions = false;
SET GLOBAL autoload_known_extensions = false;
