"""Copies of the production database, for a branch or a person: made, listed, compared, dropped."""
