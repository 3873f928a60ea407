"""What is asked of a candidate before anybody may read it."""
