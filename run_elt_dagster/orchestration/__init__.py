"""What Dagster sees: assets, the schedule, heartbeats, and what people ask of its history."""
