"""The statements about streams, as data, and their parsers: https://docs.snowflake.com/en/sql-reference/sql/create-stream."""

from dataclasses import dataclass
from typing import ClassVar

from run_elt_dagster.dialect.errors import unsupported
from run_elt_dagster.embedded.reader import Head, Name, Reader, Scope, Statement


@dataclass(frozen=True)
class CreateStream(Statement):
    """CREATE STREAM ... ON TABLE."""

    name: Name
    table: Name
    or_replace: bool = False
    if_not_exists: bool = False
    comment: str = ""
    append_only: bool = False


@dataclass(frozen=True)
class DropStream(Statement):
    """DROP STREAM."""

    name: Name
    if_exists: bool


@dataclass(frozen=True)
class ShowStreams(Statement):
    """SHOW STREAMS."""

    scope: Scope
    writes: ClassVar[bool] = False


def read_create_stream(reader: Reader, *, or_replace: bool) -> CreateStream:
    """Read what follows CREATE STREAM."""
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    name = reader.name()
    comment, append_only, table = "", False, None
    while not reader.at_end:
        if table is None and reader.accept("ON", "TABLE"):
            table = reader.name()
        elif reader.accept("COMMENT", "="):
            comment = reader.string()
        elif reader.accept("APPEND_ONLY", "="):
            append_only = reader.literal().upper() == "TRUE"
        else:
            raise unsupported("create a stream with this clause", repr(reader.rest()))
    if table is None:
        raise reader.failure()
    return CreateStream(name, table, or_replace, if_not_exists, comment, append_only)


def read_drop_stream(reader: Reader) -> DropStream:
    """Read what follows DROP STREAM."""
    if_exists = reader.accept("IF", "EXISTS")
    return DropStream(reader.name(), if_exists)


HEADS: tuple[Head, ...] = (
    (("CREATE", "STREAM"), lambda reader: read_create_stream(reader, or_replace=False)),
    (("CREATE", "OR", "REPLACE", "STREAM"), lambda reader: read_create_stream(reader, or_replace=True)),
    (("DROP", "STREAM"), read_drop_stream),
    (("SHOW", "STREAMS"), lambda reader: ShowStreams(reader.scope())),
)
