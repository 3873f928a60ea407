"""Own data in the embedded Snowflake: a file becomes a table, wholly or not at all.

- `files`: which columns a file of CSV, JSON lines or Parquet has, each read as text.
- `kinds`: the type that the values of a column have, and the rule that a value of a type obeys. Pure.
- `loading`: looks at all values, then creates the table through the embedded Snowflake.
- `places`: the line of a file where a value stands.

Values are read as text and converted here, since DuckDB's own sniffer would make 7 of 007, and a rounded float of a number with twenty
digits.
"""
