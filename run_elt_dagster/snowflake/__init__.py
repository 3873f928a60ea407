"""How statements reach Snowflake: sessions, answers that may never come, and what errors say."""
