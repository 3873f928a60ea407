"""What only a Snowflake account can show; README.md says how to run it."""
