"""What Dagster's history holds of a run: whose it is, its tags, and what it published."""
