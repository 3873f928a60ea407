"""What this project costs beside dbt, dagster-dbt and a bare script, on the same embedded Snowflake."""
