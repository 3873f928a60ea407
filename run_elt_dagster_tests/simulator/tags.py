"""Tags of tables: https://docs.snowflake.com/en/user-guide/object-tagging/introduction."""

from dataclasses import dataclass
from typing import ClassVar

from run_elt_dagster.dialect.errors import missing_object, unsupported
from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.embedded.engine import EngineSession
from run_elt_dagster.embedded.features import Created, Feature
from run_elt_dagster.embedded.objects import HIDDEN_SCHEMA, Register, Table
from run_elt_dagster.embedded.reader import Name, Reader, Statement
from run_elt_dagster.embedded.results import Result, status
from run_elt_dagster_tests.simulator.names import name_in

SUCCESS = "Statement executed successfully."


@dataclass(frozen=True)
class Tags:
    """The clause TAG of CREATE TABLE."""

    settings: tuple[tuple[Name, str], ...]


@dataclass(frozen=True)
class TagTable(Statement):
    """ALTER TABLE ... SET TAG and UNSET TAG; a value of None unsets."""

    target: Name
    tags: tuple[tuple[Name, str | None], ...]
    if_exists: bool


@dataclass(frozen=True)
class GetTag(Statement):
    """SELECT SYSTEM$GET_TAG(tag, table, 'table')."""

    tag: str
    target: Name
    writes: ClassVar[bool] = False


@dataclass(frozen=True)
class GetTags(Statement):
    """SELECT of several SYSTEM$GET_TAG."""

    asked: tuple[GetTag, ...]
    writes: ClassVar[bool] = False


class TagRows:
    """The tags of the tables of one database, on the connection of its register."""

    def __init__(self, register: Register) -> None:
        self._duck = register.duck
        self._hidden = f"{quoted(register.database)}.{HIDDEN_SCHEMA}"

    def remove(self, object_id: str) -> None:
        self._duck.execute(f"DELETE FROM {self._hidden}.embedded_tags WHERE object_id = ?", [object_id])

    def set_tag(self, object_id: str, tag: str, value: str | None) -> None:
        """Set or, with None, unset a tag."""
        self._duck.execute(
            f"DELETE FROM {self._hidden}.embedded_tags WHERE object_id = ? AND tag = ?", [object_id, tag]
        )
        if value is not None:
            self._duck.execute(f"INSERT INTO {self._hidden}.embedded_tags VALUES (?, ?, ?)", [object_id, tag, value])

    def copy_tags(self, source_id: str, to_id: str) -> None:
        """Give an object the tags of another one, in the place of its own."""
        self._duck.execute(
            f"""DELETE FROM {self._hidden}.embedded_tags
            WHERE object_id = ? AND tag IN (SELECT tag FROM {self._hidden}.embedded_tags WHERE object_id = ?)""",
            [to_id, source_id],
        )
        self._duck.execute(
            f"""INSERT INTO {self._hidden}.embedded_tags
            SELECT ?, tag, value FROM {self._hidden}.embedded_tags WHERE object_id = ?""",
            [to_id, source_id],
        )

    def has_tags(self, object_id: str) -> bool:
        """Return whether an object has any."""
        sql = f"SELECT 1 FROM {self._hidden}.embedded_tags WHERE object_id = ?"
        return self._duck.execute(sql, [object_id]).fetchone() is not None

    def tag(self, object_id: str, tag: str) -> str | None:
        """Return a tag's value."""
        row = self._duck.execute(
            f"SELECT value FROM {self._hidden}.embedded_tags WHERE object_id = ? AND tag = ?", [object_id, tag]
        ).fetchone()
        return row[0] if row else None


def tag_table(session: EngineSession, statement: TagTable) -> Result:
    """Set or unset tags of a table: https://docs.snowflake.com/en/user-guide/object-tagging/introduction.

    Tags of columns are not kept. A tag need not have been created.
    """
    target = session.locate(statement.target)
    with session.atomically(ddl=True):
        known = session.register(target.database).find(target)
        if known is None and not statement.if_exists:
            raise missing_object(str(target))
        if known is not None:
            for tag, value in statement.tags:
                TagRows(session.register(target.database)).set_tag(known.object_id, tag.parts[-1], value)
    return status(SUCCESS)


def get_tag(session: EngineSession, statement: GetTag) -> Result:
    """Return a tag's value, NULL if it is not set.

    https://docs.snowflake.com/en/sql-reference/functions/system_get_tag
    """
    return get_tags(session, GetTags((statement,)))


def get_tags(session: EngineSession, statement: GetTags) -> Result:
    """Return the values of tags in one row."""
    values: list[str | None] = []
    with session.reading():
        for asked in statement.asked:
            target = session.locate(asked.target)
            known = session.register(target.database).find(target)
            if known is None:
                raise missing_object(str(target))
            values.append(TagRows(session.register(target.database)).tag(known.object_id, asked.tag))
    columns = ", ".join(['?::VARCHAR AS "SYSTEM$GET_TAG"'] * len(values))
    return session.answer(f"SELECT {columns}", values)


def _tags(reader: Reader) -> Tags:
    settings = tuple(_tag_settings(reader))
    reader.expect(")")
    return Tags(settings)


def _tag_settings(reader: Reader) -> list[tuple[Name, str]]:
    return reader.listed(lambda: _tag_setting(reader))


def _tag_setting(reader: Reader) -> tuple[Name, str]:
    tag = reader.name()
    reader.expect("=")
    return tag, reader.string()


def _alter_table(reader: Reader) -> Statement | None:
    if_exists = reader.accept("IF", "EXISTS")
    target = reader.name()
    if reader.accept("SET", "TAG"):
        return TagTable(target, tuple(_tag_settings(reader)), if_exists)
    if reader.accept("UNSET", "TAG"):
        return TagTable(target, tuple((tag, None) for tag in reader.listed(reader.name)), if_exists)
    return None


def _get_tags(reader: Reader) -> Statement | None:
    asked: list[GetTag] = []
    while (one := _get_tag(reader)) is not None:
        asked.append(one)
        if not reader.accept(",", "SYSTEM$GET_TAG", "("):
            return one if len(asked) == 1 else GetTags(tuple(asked))
    return None


def _get_tag(reader: Reader) -> GetTag | None:
    tag = reader.string()
    reader.expect(",")
    target = reader.string()
    reader.expect(",")
    if reader.string().upper() != "TABLE":
        return None
    reader.expect(")")
    return GetTag(name_in(tag).parts[-1], name_in(target))


def _on_create(session: EngineSession, table: Table, created: Created) -> None:
    """Give a new table its tags: a clone's source has some, the statement may, and with COPY TAGS those of the replaced table win.

    https://docs.snowflake.com/en/user-guide/object-clone and
    https://docs.snowflake.com/en/release-notes/2026/other/2026-04-02-create-table-copy-tags-ga
    """
    rows = TagRows(session.register(table.database))
    if created.origin is not None and not created.is_clone and rows.has_tags(created.origin.object_id):
        raise unsupported("tell whether LIKE takes tags along", str(table))
    if created.origin is not None:
        rows.copy_tags(created.origin.object_id, created.object_id)
    for clause in created.creation.clauses:
        for tag, value in clause.settings if isinstance(clause, Tags) else ():
            rows.set_tag(created.object_id, tag.parts[-1], value)
    if created.replaced is not None and created.creation.copy_tags:
        rows.copy_tags(created.replaced.object_id, created.object_id)


TAGS = Feature(
    heads=((("ALTER", "TABLE"), _alter_table), (("SELECT", "SYSTEM$GET_TAG", "("), _get_tags)),
    clauses=((("TAG", "("), _tags), (("WITH", "TAG", "("), _tags)),
    handlers={TagTable: tag_table, GetTag: get_tag, GetTags: get_tags},
    register_sql=lambda database: [
        f"""CREATE TABLE IF NOT EXISTS {quoted(database)}.{HIDDEN_SCHEMA}.embedded_tags (
            object_id VARCHAR, tag VARCHAR, value VARCHAR)"""
    ],
    on_create=_on_create,
    on_remove=lambda register, object_id: TagRows(register).remove(object_id),
)
