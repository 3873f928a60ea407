"""What a SQL file declares: the table, its checks and columns, and the tables that it reads."""
