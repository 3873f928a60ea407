"""Names of tables and columns as Snowflake's SQL takes them."""

from dataclasses import dataclass


def identifier_sql(name: str) -> str:
    """Return an unquoted name as it is stored: folded to upper case, and quoted so that reserved words work.

    https://docs.snowflake.com/en/sql-reference/identifiers-syntax
    """
    return exact_sql(name.upper())


def exact_sql(name: str) -> str:
    """Return a name exactly as it is stored, quoted."""
    return '"' + name.replace('"', '""') + '"'


def string_sql(text: str) -> str:
    """Return a string literal; quotes are doubled, and backslashes too, since Snowflake reads escapes.

    https://docs.snowflake.com/en/sql-reference/data-types-text
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


@dataclass(frozen=True)
class Relation:
    """A table in Snowflake by its full name."""

    database: str
    schema: str
    name: str

    @property
    def sql(self) -> str:
        """The name for a statement, each part quoted."""
        return ".".join(identifier_sql(part) for part in (self.database, self.schema, self.name))

    def __str__(self) -> str:
        """Return the name for a person: `DATABASE.SCHEMA.NAME`."""
        return ".".join(part.upper() for part in (self.database, self.schema, self.name))
