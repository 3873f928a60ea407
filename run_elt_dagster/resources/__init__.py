"""What the assets reach outside of Dagster through."""
