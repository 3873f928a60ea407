"""Load a file into the embedded Snowflake: its columns get types, all values are looked at, then one CTAS makes the table.

The embedded Snowflake reads the file itself, through a table function that only this server has. So the table is one like any
other: its types, its comments, SHOW, INFORMATION_SCHEMA and UNDROP.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import duckdb

from run_elt_dagster.dialect.names import quoted
from run_elt_dagster.dialect.types import Kind, Type
from run_elt_dagster.embedded.features import Feature
from run_elt_dagster.model.candidate import marker_in
from run_elt_dagster.model.names import (
    Relation,
    display_name,
    key_part,
    quote_identifier,
    quote_literal,
    short_id,
    stored_name,
)
from run_elt_dagster.seeding.declared import Declaration
from run_elt_dagster.seeding.files import LocalFile, format_of, opened
from run_elt_dagster.seeding.kinds import (
    Facts,
    Likeness,
    declared_kind,
    facts_sql,
    is_like_sql,
    kind_of,
    likeness_of,
    likeness_sql,
    rule,
    trimmed,
    valid_sql,
    value_sql,
)
from run_elt_dagster.seeding.places import broken_line, line_of
from run_elt_dagster.snowflake.server_session import server_session
from run_elt_dagster.snowflake.session import ConnectorSession, StatementError

_FUNCTION = "RUN_ELT_SEED"
_TAG = {"stage": "seed", "job": "run-elt seed"}
_OBJECT_EXISTS = 2002
_LONGEST_VALUE = 60


@dataclass(frozen=True)
class Plan:
    """A file, and the type of each of its columns, in order.

    Attributes:
        file: The file.
        kinds: The types.
        doubts: Why a column is text, though most of its values are something else: where, and what to do. No value is in it.
    """

    file: LocalFile
    kinds: tuple[Type, ...]
    doubts: tuple[str, ...] = ()

    @property
    def columns(self) -> list[tuple[str, Type]]:
        """Stored names and types."""
        return [(column.name, kind) for column, kind in zip(self.file.columns, self.kinds, strict=True)]

    @property
    def values_sql(self) -> str:
        """DuckDB's query for the values in their types. Text that holds JSON comes as VARIANT, and CREATE TABLE makes more of it."""
        values = ", ".join(f"{value_sql(quoted(name), kind)} AS {quoted(name)}" for name, kind in self.columns)
        return f"SELECT {values} FROM ({self.file.text_sql})"

    def create_sql(self, target: Relation, declaration: Declaration, *, replace: bool) -> str:
        """Return the one statement that makes the table.

        https://docs.snowflake.com/en/sql-reference/sql/create-table
        """
        columns = [
            f"{quote_identifier(name)} {kind}{_comment(declaration.comments.get(name, ''))}"
            for name, kind in self.columns
        ]
        names = ", ".join(quote_identifier(name) for name, _ in self.columns)
        comment = quote_literal(declaration.comment or f"Loaded from {self.file.path.name} by run-elt seed")
        how = "CREATE OR REPLACE TABLE" if replace else "CREATE TABLE"
        return (
            f"{how} {target.sql} ({', '.join(columns)}) COMMENT = {comment} AS SELECT {names} FROM TABLE({_FUNCTION}())"
        )


def planned(path: Path, declaration: Declaration, *, form: str | None = None, delimiter: str | None = None) -> Plan:
    """Read a whole file and return it with a type for each column; every value has been looked at.

    Raises:
        ValueError: A line or a value does not fit, or a declared column is missing. The text has line, column, rule and remedy.
    """
    chosen = format_of(path, form)
    with closing(duckdb.connect()) as duck:
        duck.execute("SET TimeZone = 'UTC'; SET autoinstall_known_extensions = false")
        try:
            file = opened(duck, path, chosen, delimiter=delimiter)
        except duckdb.Error as error:
            raise _unreadable(LocalFile(path, chosen, (), ""), error) from None
        declared = _declared(file, declaration.types)
        try:
            kinds, alike = _kinds(duck, file, declared)
            found = {column.name for column in file.columns if column.kind is None} - set(declared)
            _require_values(duck, Plan(file, kinds), found=found)
            doubts = _doubts(duck, file, alike)
        except duckdb.Error as error:
            raise _unreadable(file, error) from None
    return Plan(file, kinds, doubts)


def load(
    plan: Plan,
    target: Relation,
    declaration: Declaration,
    *,
    directory: Path,
    replace: bool,
    log: Callable[[str], None],
) -> int:
    """Create the table, and its schema, and return how many rows it has. A table that is there stays if anything fails.

    Args:
        plan: What is loaded.
        target: The table.
        declaration: The comments.
        directory: The directory of the embedded Snowflake.
        replace: Whether a table that is there is replaced; UNDROP has it for a day.
        log: Called with what takes time.

    Raises:
        ValueError: The table is there, a run has published it, or the embedded Snowflake refuses.
    """
    feature = Feature(table_functions={_FUNCTION: lambda _session, _call: plan.values_sql})
    with ExitStack() as resources:
        # The sample data is for somebody without data.
        session = server_session(resources, directory, target.database, features=[feature], sample_data=False, log=log)
        try:
            schema = f"{quote_identifier(target.database)}.{quote_identifier(target.schema)}"
            session.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}", tag=_TAG)
            if replace:
                _require_unpublished(session, target)
            session.execute(plan.create_sql(target, declaration, replace=replace), tag=_TAG)
            ((rows,),) = session.execute(f"SELECT COUNT(*) FROM {target.sql}", tag=_TAG).rows
        except StatementError as error:
            raise _not_loaded(plan, target, error) from None
    return int(rows)


def _require_unpublished(session: ConnectorSession, target: Relation) -> None:
    """Refuse to put a file in the place of a table that readers have from a run: its checks and its history are not about the file."""
    rows = session.execute(
        f"SELECT COMMENT FROM {quote_identifier(target.database)}.INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = "
        f"{quote_literal(target.schema)} AND TABLE_NAME = {quote_literal(target.name)}",
        tag=_TAG,
    ).rows
    for (comment,) in rows:
        if (marker := marker_in(comment)) is not None:
            raise ValueError(
                f"run-elt seed --replace requires a table that no run has published, got {target}: run "
                f"{short_id(marker.run_of_rows)} has. Nothing was loaded. Load the file under another name."
            )


def _comment(text: str) -> str:
    return f" COMMENT {quote_literal(text)}" if text else ""


def _declared(file: LocalFile, types: Mapping[str, str]) -> dict[str, Type]:
    """Return the declared types by stored name.

    Raises:
        ValueError: With everything that is wrong.
    """
    names = {column.name for column in file.columns}
    found: dict[str, Type] = {}
    problems: list[str] = []
    for given, text in types.items():
        try:
            name, kind = stored_name(given), declared_kind(text)
        except ValueError as error:
            problems.append(f"column {given} {error}, got {text}")
            continue
        found[name] = kind
        if name not in names:
            problems.append(f"column {given} is declared, and the file has none of this name")
    if problems:
        has = ", ".join(display_name(column.name).lower() for column in file.columns)
        raise ValueError(
            f"{file.path.name} cannot be loaded: {'; '.join(problems)}. Nothing was loaded. The file has {has}."
        )
    return found


def _kinds(
    duck: duckdb.DuckDBPyConnection, file: LocalFile, declared: Mapping[str, Type]
) -> tuple[tuple[Type, ...], dict[str, tuple[Likeness, Type]]]:
    """Return the types of all columns, and what columns of text are alike but for few values."""
    unknown = [c for c in file.columns if c.name not in declared and c.kind is None]
    found = {c.name: c.kind for c in file.columns if c.kind is not None} | dict(declared)
    alike: dict[str, tuple[Likeness, Type]] = {}
    if unknown:
        texts = [quoted(column.name) for column in unknown]
        aggregates = ", ".join(f"{facts_sql(text)}, {likeness_sql(text)}" for text in texts)
        row = duck.execute(f"SELECT {aggregates} FROM ({file.text_sql})").fetchone() or ()
        each, known = len(row) // len(unknown), len(fields(Facts))
        for number, column in enumerate(unknown):
            # An aggregate over no value is NULL.
            answers: list[Any] = [value or 0 for value in row[number * each : (number + 1) * each]]
            facts = Facts(*answers[:known])
            found[column.name] = kind_of(column.form, facts)
            likeness = likeness_of(column.form, facts, answers[known:])
            if found[column.name].kind is Kind.TEXT and likeness is not None:
                alike[column.name] = (likeness, likeness.type_for(facts))
    return tuple(found[column.name] for column in file.columns), alike


def _doubts(
    duck: duckdb.DuckDBPyConnection, file: LocalFile, alike: Mapping[str, tuple[Likeness, Type]]
) -> tuple[str, ...]:
    """Return where the first value stands that makes a column text, and what to do."""
    if not alike:
        return ()
    aggregates: list[str] = []
    for name, (likeness, _) in alike.items():
        text = quoted(name)
        where = (
            f"FILTER (WHERE {trimmed(text)} IS NOT NULL AND NOT coalesce({is_like_sql(text, likeness.kind)}, FALSE))"
        )
        aggregates.append(f'count(*) {where}, min("run_elt row") {where}')
    numbered = f'SELECT row_number() OVER () AS "run_elt row", * FROM ({file.text_sql})'
    row = duck.execute(f"SELECT {', '.join(aggregates)} FROM ({numbered})").fetchone() or ()
    return tuple(
        _doubt(file, name, *likeness, count=int(row[2 * at]), first=int(row[2 * at + 1]))
        for at, (name, likeness) in enumerate(alike.items())
    )


def _doubt(file: LocalFile, name: str, likeness: Likeness, kind: Type, *, count: int, first: int) -> str:
    column = key_part(name)
    more = f" ({count - 1:,} more in this column)" if count > 1 else ""
    return (
        f"{file.path.name}, {_place(file, first)}, column {column}: most values of the column are {likeness.noun}, and this one is not"
        f"{more}. The column was loaded as {Kind.TEXT}. If the value means NULL, leave it {'out' if file.format == 'json' else 'empty'}; if it "
        f"is wrong, correct it. Load again with --replace. With --types '{column} {str(kind).lower()}' no other value is loaded."
    )


def _place(file: LocalFile, row: int) -> str:
    line = line_of(file, row)
    return f"line {line:,}" if line else f"row {row:,}"


def _require_values(duck: duckdb.DuckDBPyConnection, plan: Plan, *, found: set[str]) -> None:
    """Look at every value of the columns whose types were not found in all their values; of FLOATs too, since one may be too large.

    Raises:
        ValueError: One does not fit: the first one, and how many more there are in its column.
    """
    columns = [(name, kind) for name, kind in plan.columns if name not in found or kind.kind is Kind.FLOAT]
    if not columns:
        return
    wrong = [_wrong_sql(name, kind) for name, kind in columns]
    numbered = f'SELECT row_number() OVER () AS "run_elt row", * FROM ({plan.file.text_sql})'
    row = duck.execute(f"SELECT {', '.join(wrong)} FROM ({numbered})").fetchone() or ()
    answers: list[Any] = [row[start : start + 3] for start in range(0, len(row), 3)]
    misfits = [
        (first, count, value, *column) for (count, first, value), column in zip(answers, columns, strict=True) if count
    ]
    if misfits:
        first, count, value, name, kind = min(misfits, key=lambda each: each[0])
        raise _misfit(plan.file, int(first), int(count), str(value), name=name, kind=kind)


def _wrong_sql(name: str, kind: Type) -> str:
    """Return how many values of a column are wrong, the row of the first one, and that value."""
    text = quoted(name)
    there = text if kind.kind is Kind.TEXT else f"nullif(trim({text}), '')"
    where = f"FILTER (WHERE {there} IS NOT NULL AND NOT coalesce({valid_sql(text, kind)}, FALSE))"
    return f'count(*) {where}, min("run_elt row") {where}, arg_min({text}, "run_elt row") {where}'


def _misfit(file: LocalFile, row: int, count: int, value: str, *, name: str, kind: Type) -> ValueError:
    shown = ascii(value[:_LONGEST_VALUE]) + ("..." if len(value) > _LONGEST_VALUE else "")
    more = f" ({count - 1:,} more in this column)" if count > 1 else ""
    column = display_name(name).lower() if display_name(name) == name else display_name(name)
    return ValueError(
        f"{file.path.name}, {_place(file, row)}, column {column}: {kind} requires {rule(kind)}, got {shown}{more}. Nothing was loaded. Correct the "
        f"file, or load the column as text: --types '{column} varchar'."
    )


def _unreadable(file: LocalFile, error: duckdb.Error) -> ValueError:
    broken = broken_line(file)
    if broken is not None:
        return ValueError(
            f"{file.path.name}, line {broken.line:,}: {broken.problem}. Nothing was loaded. {broken.remedy}"
        )
    reason = str(error).splitlines()[0].rstrip(".")
    return ValueError(
        f"{file.path.name} cannot be read as {file.format}, got {reason}. Nothing was loaded. Correct the file."
    )


def _not_loaded(plan: Plan, target: Relation, error: StatementError) -> ValueError:
    if error.errno == _OBJECT_EXISTS:
        return ValueError(
            f"run-elt seed requires a name without a table, got {target}: it is there. Nothing was loaded. Replace it with --replace, "
            "or choose another name."
        )
    return ValueError(f"{plan.file.path.name} cannot be loaded into {target}, got {error}. Nothing was loaded.")


def shown_columns(columns: Sequence[tuple[str, Type]]) -> list[tuple[str, str]]:
    """Return names and types as a person reads them."""
    return [(display_name(name), str(kind)) for name, kind in columns]
