"""The statements about schemas, as data, and their parsers: https://docs.snowflake.com/en/sql-reference/sql/create-schema."""

from dataclasses import dataclass

from run_elt_dagster.dialect.errors import unsupported
from run_elt_dagster.embedded.reader import Head, Name, Reader, Statement


@dataclass(frozen=True)
class CreateManagedSchema(Statement):
    """CREATE SCHEMA, with its clauses."""

    name: Name
    if_not_exists: bool = False
    managed: bool = False
    comment: str | None = None


@dataclass(frozen=True)
class ManageSchema(Statement):
    """ALTER SCHEMA ... ENABLE or DISABLE MANAGED ACCESS."""

    name: Name
    managed: bool
    if_exists: bool


def read_create_schema(reader: Reader) -> CreateManagedSchema:
    """Read what follows CREATE SCHEMA."""
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    name = reader.name()
    managed, comment = False, None
    while not reader.at_end:
        if reader.accept("WITH", "MANAGED", "ACCESS"):
            managed = True
        elif reader.accept("COMMENT", "="):
            comment = reader.string()
        elif reader.accept("DATA_RETENTION_TIME_IN_DAYS", "="):
            reader.literal()
        else:
            raise unsupported("create a schema with this clause", repr(reader.rest()))
    return CreateManagedSchema(name, if_not_exists, managed, comment)


def read_alter_schema(reader: Reader) -> ManageSchema | None:
    """Read what follows ALTER SCHEMA; None for what it does not know."""
    if_exists = reader.accept("IF", "EXISTS")
    name = reader.name()
    if reader.accept("ENABLE", "MANAGED", "ACCESS"):
        return ManageSchema(name, managed=True, if_exists=if_exists)
    if reader.accept("DISABLE", "MANAGED", "ACCESS"):
        return ManageSchema(name, managed=False, if_exists=if_exists)
    return None


HEADS: tuple[Head, ...] = ((("CREATE", "SCHEMA"), read_create_schema), (("ALTER", "SCHEMA"), read_alter_schema))
