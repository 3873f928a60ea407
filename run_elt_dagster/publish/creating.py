"""Policies and tags in the statement that creates a candidate: where grants on future tables let others read it at once.

The checks then read the candidate through its policies, so these have to exempt the role of the run. That is proven before the build on
two rows of the table's own columns and policies, and looked at once more after the checks: the catalogue says how many rows there are.
https://docs.snowflake.com/en/sql-reference/sql/create-table
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from run_elt_dagster.audit.catalogue import COLUMN_SQL, Column, columns_of
from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.names import Relation, quote_identifier, quote_literal
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.building import in_the_file
from run_elt_dagster.publish.governance import Governance
from run_elt_dagster.publish.guards import PublishRefusedError, Refusal, server_instant
from run_elt_dagster.publish.policies import Attached, clause_sql, declared_tags
from run_elt_dagster.publish.statements import Protection, drop_sql
from run_elt_dagster.publish.work import TableWork
from run_elt_dagster.snowflake.runner import RunStoppedError
from run_elt_dagster.snowflake.session import StatementError

# Tells the two rows of the proof apart.
_ROW = '"run_elt row"'
_ROWS = 2
# Two values of each type. A mask that is a constant cannot be both, and one that cuts, rounds or replaces a part leaves neither as it is.
_TEXTS = ("1 Ab-3456@c.de", "2 Fg-7890@h.ij")
_MOMENTS = ("'2001-02-03 04:05:06'", "'2002-03-04 05:06:07'")
_VALUES: Mapping[str, tuple[str, str]] = {
    "FLOAT": ("1.25", "2.75"),
    "BOOLEAN": ("TRUE", "FALSE"),
    "DATE": ("'2001-02-03'", "'2002-03-04'"),
    "TIME": ("'04:05:06'", "'05:06:07'"),
    "TIMESTAMP_NTZ": _MOMENTS,
    "TIMESTAMP_LTZ": _MOMENTS,
    "TIMESTAMP_TZ": _MOMENTS,
    "VARIANT": ("TO_VARIANT(1)", "TO_VARIANT(2)"),
    "ARRAY": ("ARRAY_CONSTRUCT(1)", "ARRAY_CONSTRUCT(2)"),
    "OBJECT": ("OBJECT_CONSTRUCT('a', 1)", "OBJECT_CONSTRUCT('a', 2)"),
    "BINARY": ("TO_BINARY('01', 'HEX')", "TO_BINARY('02', 'HEX')"),
}
_COMPARED = (*_VALUES, "NUMBER", "TEXT")
# Of a type of its own already.
_MADE = ("VARIANT", "ARRAY", "OBJECT", "BINARY")


def shape_sql(sql: str, candidate: Relation, marker: Marker) -> str:
    """Return the statement that creates an empty table with the columns of a query in the candidate's place."""
    comment = quote_literal(str(marker))
    return f"CREATE OR REPLACE TRANSIENT TABLE {candidate.sql} COMMENT = {comment} AS (\nSELECT * FROM (\n{sql}\n) WHERE FALSE\n)"


def shape_columns_sql(candidate: Relation, named: Iterable[str]) -> str:
    """Return the query for the columns of that table, and for how many of those that policies name are collated.

    https://docs.snowflake.com/en/sql-reference/info-schema/columns
    """
    names = ", ".join(map(quote_literal, sorted(named)))
    return (
        f"SELECT ARRAY_AGG({COLUMN_SQL}), COUNT_IF(COLLATION_NAME IS NOT NULL AND COLUMN_NAME IN ({names})) "
        f"FROM {quote_identifier(candidate.database)}.INFORMATION_SCHEMA.COLUMNS "
        f"WHERE TABLE_SCHEMA = {quote_literal(candidate.schema)} AND TABLE_NAME = {quote_literal(candidate.name)}"
    )


def protection_of(
    table: AnalyticsTable, declared: Iterable[Attached], columns: Sequence[Column], *, database: str
) -> Protection:
    """Return what the creating statement says of the policies and tags of a table.

    Args:
        table: The table.
        declared: Its policies.
        columns: Its columns in order. Without a policy on a column, none is named.
        database: Stored name of the session's database.
    """
    by_column: dict[str, list[str]] = {}
    for each in sorted(declared):
        by_column.setdefault(each.column, []).append(clause_sql(each))
    # As the page lists them: a row access policy before the others.
    clauses = sorted(by_column.pop("", []), key=lambda clause: not clause.startswith("WITH ROW ACCESS"))
    tags = [f"{tag.sql} = {quote_literal(value)}" for tag, value in declared_tags(table, database=database)]
    clauses += [f"WITH TAG ({', '.join(tags)})"] if tags else []
    if not by_column:
        return Protection(" ".join(clauses))
    names = tuple(quote_identifier(column.name) for column in columns)
    defined = tuple(
        " ".join([name, column.type, *by_column[column.name]]) if column.name in by_column else name
        for name, column in zip(names, columns, strict=True)
    )
    return Protection(" ".join(clauses), columns=names, defined=defined)


def proof_sql(candidate: Relation, protection: Protection, columns: Sequence[Column], marker: Marker) -> str:
    """Return the statement that creates two rows of known values below the policies, in the candidate's place.

    Args:
        candidate: Where.
        protection: The policies and tags of a table of these columns, behind the number of the row.
        columns: The columns that policies name.
        marker: Marks what a killed run leaves of it, so a later run drops it.
    """
    values = [("1", "2"), *map(_values, columns)]
    names = [_ROW, *(quote_identifier(column.name) for column in columns)]
    first = ", ".join(f"{pair[0]} AS {name}" for pair, name in zip(values, names, strict=True))
    second = ", ".join(pair[1] for pair in values)
    clauses = " ".join(
        filter(None, (protection.column_list, f"COMMENT = {quote_literal(str(marker))}", protection.clauses))
    )
    return (
        f"CREATE OR REPLACE TRANSIENT TABLE {candidate.sql} {clauses} AS (\nSELECT {first} UNION ALL SELECT {second}\n)"
    )


def proof_rows_sql(candidate: Relation, columns: Sequence[Column]) -> str:
    """Return the query whether the role reads the values of `proof_sql`: two rows of TRUE.

    It neither groups nor joins, and what it gives comes from each of the columns.
    """
    read = [
        f"({quote_identifier(column.name)} = IFF({_ROW} = 1, {first}, {second}))"
        for column, (first, second) in ((column, _values(column)) for column in columns)
    ]
    return f"SELECT {' AND '.join(read) or 'TRUE'} FROM {candidate.sql}"


def _values(column: Column) -> tuple[str, str]:
    """Return two values of a column's type. The smallest ones of a number fit each number of digits, and text is cut to its length."""
    if column.data_type == "NUMBER":
        first, second = f"1E-{column.scale or 0}", f"2E-{column.scale or 0}"
    elif column.data_type == "TEXT":
        first, second = (quote_literal(text[: column.length]) for text in _TEXTS)
    else:
        first, second = _VALUES[column.data_type]
    if column.data_type in _MADE:
        return first, second
    return f"CAST({first} AS {column.type})", f"CAST({second} AS {column.type})"


class Creation:
    """Proves that the policies of one table exempt the role, and makes what the creating statement says of them.

    Args:
        work: The table on its way.
        governance: Its policies.
        readers: Who could read the candidate at once, in words.
    """

    def __init__(self, work: TableWork, governance: Governance, readers: Sequence[str]) -> None:
        self._work, self._declared, self._readers = work, governance.declared, readers
        self._marker = Marker("failed", work.run.run_id, server_instant(work.inventory, elapsed_seconds=0))

    def proven(self) -> Protection:
        """Return it. What the proof has created is dropped.

        Raises:
            PublishRefusedError: The policies do not exempt the role, or nothing proves that they do.
            StatementError: The SQL of the table cannot be run, a policy cannot be set, or the proof could not be made.
        """
        work = self._work
        try:
            columns = self._columns() if self._names else ()
            self._prove(self._named_of(columns))
        finally:
            # What is left is replaced by the candidate, or dropped by a later run.
            with contextlib.suppress(StatementError, RunStoppedError):
                work.send(drop_sql(work.candidate))
        return self._protection(columns)

    def _protection(self, columns: Sequence[Column]) -> Protection:
        work = self._work
        return protection_of(work.table, self._declared, columns, database=work.target.database)

    @property
    def _names(self) -> frozenset[str]:
        """The stored names of the columns that policies name."""
        return frozenset(name for each in self._declared for name in (each.column, *each.arguments) if name)

    def _columns(self) -> tuple[Column, ...]:
        work = self._work
        shape = shape_sql(work.table.whole_sql, work.candidate, self._marker)
        try:
            work.send(shape)
        except StatementError as error:
            raise in_the_file(work.table, error, shape) from None
        listed, collated = work.send(shape_columns_sql(work.candidate, self._names)).rows[0]
        if collated:
            raise self._refused(
                "columns without a collation below its policies", "some with one", "They would lose it."
            )
        return columns_of(listed)[work.candidate.name]

    def _named_of(self, columns: Sequence[Column]) -> list[Column]:
        if missing := sorted(self._names - {column.name for column in columns}):
            raise self._refused("the columns that its policies name", f"no {', '.join(missing)}", "")
        named = [column for column in columns if column.name in self._names]
        if others := [column for column in named if column.data_type not in _COMPARED]:
            got = ", ".join(f"{column.name} {column.type}" for column in others)
            raise self._refused(
                "types below its policies that can be compared", got, "Nothing would prove what its checks read."
            )
        return named

    def _prove(self, columns: Sequence[Column]) -> None:
        work = self._work
        protection = self._protection([Column(_ROW.strip('"'), "NUMBER"), *columns])
        work.send(proof_sql(work.candidate, protection, columns, self._marker))
        try:
            read = [bool(row[0]) for row in work.send(proof_rows_sql(work.candidate, columns)).rows]
        except StatementError as error:
            if not error.answered or error.transient:
                raise
            raise self._not_exempt(f"an error where it reads through them: {error} (query {error.query_id})") from error
        if read != [True] * _ROWS:
            got = "other values than it wrote" if len(read) == _ROWS else f"{len(read)} of {_ROWS} rows that it wrote"
            raise self._not_exempt(got)

    def _not_exempt(self, got: str) -> PublishRefusedError:
        role = self._work.inventory.role or "of the runs"
        return self._refused(
            f"a role that all of its policies exempt, since {', '.join(self._readers)} would let others read its candidate at once",
            got,
            "Its checks would not read the true rows.",
            remedy=f"Let the policies exempt role {role}, or revoke",
        )

    def _refused(self, rule: str, got: str, consequence: str, *, remedy: str = "Revoke") -> PublishRefusedError:
        work = self._work
        work.stage = "publish"
        return PublishRefusedError(
            Refusal(
                f"{work.table.name} with policies in its creating statement requires {rule}",
                got,
                f"{remedy} the grants on future tables of the schema or the database, and grant on {work.target} itself: publishing keeps that.",
                consequence=consequence,
                seen=work.production.words,
                reason=Reason.POLICIES,
            )
        )


def require_all_rows(work: TableWork, counted: int | None, *, is_rejected: bool) -> None:
    """Require that the checks of a table with policies have read all of its candidate's rows.

    Args:
        work: The table, with what the catalogue has said.
        counted: How many rows the checks have read; None where they could not be asked.
        is_rejected: Whether a check has failed. One that only warns lets rows through that nobody has counted.

    Raises:
        PublishRefusedError: They have read fewer, or nobody knows.
    """
    listed = next((each for each in work.inspection.candidates if each.name == work.candidate.name), None)
    if listed is None or (counted is None and is_rejected):
        return
    if refused := rows_unread(work.table, work.candidate, counted=counted, there=listed.rows, role=work.inventory.role):
        raise PublishRefusedError(replace(refused, seen=work.production.words))


def rows_unread(
    table: AnalyticsTable, candidate: Relation, *, counted: int | None, there: int | None, role: str
) -> Refusal | None:
    """Return why the checks of a table with policies do not count; None where they have read all rows.

    Args:
        table: The table.
        candidate: What was asked.
        counted: How many rows the checks have read; None where they could not be asked.
        there: How many the catalogue says that there are, in the same statement: with those that a row access policy hides.
        role: The session's role.
    """
    if counted is not None and counted == there:
        return None
    read, listed = ("an unknown number" if each is None else f"{each:,}" for each in (counted, there))
    return Refusal(
        f"{table.name} requires that its checks read all rows of {candidate}",
        f"{read} of {listed}",
        f"Let its row access policy exempt role {role}, then materialize again.",
        consequence="They were asked through its policies.",
        reason=Reason.POLICIES,
    )
