"""The statements that build a candidate and put it into production. Pure: `publish.table_run` sends them."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from run_elt_dagster.audit.catalogue import Marker
from run_elt_dagster.model.names import (
    IDENTIFIER_LIMIT,
    RUN_ID_CHARACTERS,
    Relation,
    exact_sql,
    is_candidate_name,
    stored_name,
    string_sql,
)
from run_elt_dagster.model.table import AnalyticsTable

# Room for the prefix, the run and a digest in the name of a candidate.
_LONGEST_KEPT = IDENTIFIER_LIMIT - len("TEMP_") - len("__") - RUN_ID_CHARACTERS
_DIGEST_CHARACTERS = 8


class PublishRefusedError(Exception):
    """Publishing would break a rule; nothing was published."""


@dataclass(frozen=True)
class Grant:
    """Privileges on a table that one grantee has.

    Attributes:
        privilege: As in `SELECT`.
        grantee_kind: `ROLE`, `DATABASE_ROLE` or `SHARE`.
        grantee: Its stored name, with its database where it belongs to one.
        grant_option: Whether the grantee may pass it on.
    """

    privilege: str
    grantee_kind: str
    grantee: tuple[str, ...]
    grant_option: bool = False


def target_of(table: AnalyticsTable, *, database: str) -> Relation:
    """Return the table that readers see."""
    return Relation(database, table.stored_schema, table.stored_table)


def candidate_prefix(table: AnalyticsTable) -> str:
    """Return what the names of all candidates of a table start with; a long name is cut and told apart by a digest."""
    name = table.stored_table
    if len(name) > _LONGEST_KEPT:
        digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARACTERS].upper()
        name = f"{name[: _LONGEST_KEPT - _DIGEST_CHARACTERS - 1]}_{digest}"
    return f"TEMP_{name}__"


def run_suffix(run_id: str) -> str:
    """Return what the names of a run's candidates end with."""
    return run_id.replace("-", "")[:RUN_ID_CHARACTERS].upper()


def run_of_candidate(name: str) -> str:
    """Return what the name of a candidate says of its run: the start of the run's id, without hyphens."""
    return name[-RUN_ID_CHARACTERS:]


def candidate_of(table: AnalyticsTable, *, database: str, run_id: str) -> Relation:
    """Return the table that a run builds: a name of its own, so no other run can publish it unaudited."""
    return Relation(database, table.stored_schema, candidate_prefix(table) + run_suffix(run_id))


def is_candidate_of(table: AnalyticsTable, name: str) -> bool:
    """Return whether a stored name is one of the table's candidates: the prefix of `a` begins those of `a__b` too."""
    prefix = candidate_prefix(table)
    return name.startswith(prefix) and len(name) == len(prefix) + RUN_ID_CHARACTERS and is_candidate_name(name)


def is_from_its_run(name: str, marker: Marker) -> bool:
    """Return whether the run of a candidate's name made its rows; a copy of a published table names another run's."""
    return name.endswith(f"__{run_suffix(marker.run_id)}")


def comment_of(table: AnalyticsTable, marker: Marker) -> str:
    """Return the comment of a table that a run made: its description, and the run of its rows."""
    return f"{table.description} {marker}".strip()


def build_sql(table: AnalyticsTable, candidate: Relation, *, marker: Marker) -> str:
    """Return the CTAS of the candidate.

    The newline before the closing parenthesis ends a trailing `--` comment of the author's. OR REPLACE makes it safe
    to repeat: the name belongs to this run alone. https://docs.snowflake.com/en/sql-reference/sql/create-table
    """
    comment = string_sql(comment_of(table, marker))
    return f"CREATE OR REPLACE {_kind(table)} {candidate.sql} COMMENT = {comment} AS (\n{table.sql}\n)"


def file_position(table: AnalyticsTable, statement: str, *, line: int, position: int) -> str:
    """Return where in the table's file a position of the statement that builds it is.

    Args:
        table: The table.
        statement: What `build_sql` gave for it.
        line: Line of the statement, from 1.
        position: Position in that line, from 0.

    Returns:
        `path:line:column` as editors take it; empty if it is not in the author's SQL, or the table has no file.
    """
    before = statement.count("\n") - table.sql.count("\n") - 1
    own = line - before
    if table.path is None or not 1 <= own <= table.sql.count("\n") + 1:
        return ""
    # Front matter may end on the line where the SQL begins, and the table does not have its length.
    column = "" if own == 1 and table.sql_line > 1 else f":{position + 1}"
    return f"{table.path}:{table.sql_line + own - 1}{column}"


def column_comments_sql(table: AnalyticsTable, relation: Relation) -> str | None:
    """Return the statement that comments the columns, None if none is described; safe to repeat.

    https://docs.snowflake.com/en/sql-reference/sql/alter-table-column. A list of columns in the CTAS would go by
    position, and so could give a column another one's name.
    """
    parts = [
        f"COLUMN {exact_sql(stored_name(name))} COMMENT {string_sql(contract.description)}"
        for name, contract in table.columns.items()
        if contract.description
    ]
    return f"ALTER TABLE {relation.sql} MODIFY {', '.join(parts)}" if parts else None


def comment_sql(relation: Relation, comment: str) -> str:
    """Return the statement that sets a table's comment; safe to repeat."""
    return f"COMMENT ON TABLE {relation.sql} IS {string_sql(comment)}"


def exchange_sql(
    table: AnalyticsTable,
    *,
    target: Relation,
    candidate: Relation,
    exists: bool,
    columns: Sequence[str] = (),
    copy_tags: bool = True,
) -> str:
    """Return the one statement that puts the candidate into production, and it is atomic.

    Args:
        table: The table; its `publish` chooses the method.
        target: What readers see.
        candidate: What was audited.
        exists: Whether there is a target; without one this is its first publish.
        columns: The candidate's columns, needed to overwrite.
        copy_tags: Whether a clone keeps the target's tags; accounts without COPY TAGS refuse the clause.
    """
    if not exists:
        return _first_publish_sql(table, target, candidate)
    if table.publish == "swap":
        return f"ALTER TABLE {target.sql} SWAP WITH {candidate.sql}"
    if table.publish == "overwrite":
        # INSERT goes by position, so the columns are named.
        names = ", ".join(exact_sql(column) for column in columns)
        return f"INSERT OVERWRITE INTO {target.sql} ({names}) SELECT {names} FROM {candidate.sql}"
    keep = "COPY GRANTS COPY TAGS" if copy_tags else "COPY GRANTS"
    return f"CREATE OR REPLACE {_kind(table)} {target.sql} CLONE {candidate.sql} {keep}"


def _first_publish_sql(table: AnalyticsTable, target: Relation, candidate: Relation) -> str:
    if table.publish == "swap":
        return f"ALTER TABLE {candidate.sql} RENAME TO {target.sql}"
    # Neither OR REPLACE, which would take the grants of a table that somebody else has created in the meantime, nor
    # COPY GRANTS, so the schema's future grants apply: https://docs.snowflake.com/en/sql-reference/sql/create-clone
    return f"CREATE {_kind(table)} {target.sql} CLONE {candidate.sql}"


def same_rows_sql(one: str, other: str, columns: Sequence[str]) -> str:
    """Return the query for how many distinct rows the one table has more or less often than the other.

    https://docs.snowflake.com/en/sql-reference/operators-query#minus-except

    Args:
        one: What stands behind FROM.
        other: Likewise.
        columns: Stored names of the columns that count.
    """
    names = ", ".join(exact_sql(column) for column in columns)
    places = ", ".join(str(place) for place in range(1, len(columns) + 1))
    here, there = (
        f'SELECT {names}, COUNT(*) AS "run_elt copies" FROM {table} GROUP BY {places}' for table in (one, other)
    )
    return f"SELECT COUNT(*) FROM (({here} MINUS {there}) UNION ALL ({there} MINUS {here}))"


def require_same_columns(
    table: AnalyticsTable, target: Relation, *, new: Sequence[str], published: Sequence[str]
) -> None:
    """Refuse to overwrite a table that has other columns.

    Raises:
        PublishRefusedError: It has.
    """
    if sorted(new) == sorted(published):
        return
    added = ", ".join(sorted(set(new) - set(published))) or "none"
    removed = ", ".join(sorted(set(published) - set(new))) or "none"
    raise PublishRefusedError(
        f"{table.name} with publish: overwrite requires the columns of {target}, got new columns: {added}; missing "
        f"columns: {removed}. Readers still see the previous table. Alter the table to match, or use publish: clone.",
    )


def show_grants_sql(relation: Relation) -> str:
    """Return the statement that lists who has which privilege: https://docs.snowflake.com/en/sql-reference/sql/show-grants."""
    return f"SHOW GRANTS ON TABLE {relation.sql}"


def grants_of(rows: Iterable[Sequence[object]], relation: Relation) -> frozenset[Grant]:
    """Return the grants in the answer to `show_grants_sql`, ownership left out.

    Raises:
        PublishRefusedError: A grant is of a kind that cannot be carried over.
    """
    found: set[Grant] = set()
    for row in rows:
        _, privilege, _, _, kind, grantee, option, *_ = (str(value) for value in row)
        if privilege == "OWNERSHIP":
            continue
        if kind not in ("ROLE", "DATABASE_ROLE", "SHARE"):
            raise PublishRefusedError(
                f"publish: swap carries over grants to roles, database roles and shares, got {privilege} to {kind} "
                f"{grantee} on {relation}. It would be lost. Use publish: clone to keep every grant.",
            )
        name = tuple(_grantee_parts(grantee))
        if kind == "DATABASE_ROLE" and len(name) == 1:
            # A database role has privileges in its own database only.
            name = (relation.database, *name)
        found.add(Grant(privilege, kind, name[-1:] if kind == "SHARE" else name, option.lower() == "true"))
    return frozenset(found)


def _grantee_parts(grantee: str) -> list[str]:
    """Split a name that SHOW GRANTS gives: quoted only where it holds a dot."""
    parts = re.findall(r'"(?:[^"]|"")+"|[^."]+', grantee)
    return [part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts] or [grantee]


def grant_changes_sql(relation: Relation, *, present: frozenset[Grant], wanted: frozenset[Grant]) -> list[str]:
    """Return the statements that give a table exactly the wanted grants; each is safe to repeat.

    https://docs.snowflake.com/en/sql-reference/sql/grant-privilege
    """
    revokes = [
        f"REVOKE {grant.privilege} ON TABLE {relation.sql} FROM {_grantee_sql(grant)}" for grant in present - wanted
    ]
    grants = [
        f"GRANT {grant.privilege} ON TABLE {relation.sql} TO {_grantee_sql(grant)}"
        + (" WITH GRANT OPTION" if grant.grant_option else "")
        for grant in wanted - present
    ]
    # Revoking takes away what differs in its grant option alone, so it comes first.
    return sorted(revokes) + sorted(grants)


def _grantee_sql(grant: Grant) -> str:
    return f"{grant.grantee_kind.replace('_', ' ')} {'.'.join(exact_sql(part) for part in grant.grantee)}"


def drop_sql(candidate: Relation) -> str:
    """Return the statement that drops a candidate; safe to repeat."""
    return f"DROP TABLE IF EXISTS {candidate.sql}"


def _kind(table: AnalyticsTable) -> str:
    return "TRANSIENT TABLE" if table.transient else "TABLE"
