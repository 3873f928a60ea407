"""Who owns the tables of a copy: they keep their owners, and only the owner of a table may replace it.

https://docs.snowflake.com/en/user-guide/object-clone#access-control-privileges-for-cloned-objects
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from run_elt_dagster.model.candidate import target_of
from run_elt_dagster.model.names import display_name
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.guards import TargetInventory, inventory_of, inventory_sql, schema_of
from run_elt_dagster.publish.methods import replaces_object
from run_elt_dagster.snowflake.session import Session

_NAMED = 3


def strangers_in(session: Session, tables: Collection[AnalyticsTable], *, database: str) -> Iterator[str]:
    """Yield what keeps the session's role from publishing in a database, in words: one line for each other owner.

    Args:
        session: An open session.
        tables: The declared tables.
        database: Stored name of the database.

    Raises:
        StatementError: The catalogue does not answer.
    """
    if not tables:
        return
    sql = inventory_sql(database, (table.stored_schema for table in tables))
    inventory = inventory_of(session.execute(sql, tag={"stage": "owners", "job": "run-elt env"}).rows)
    for owner, theirs in _by_owner(inventory, tables, database).items():
        yield _words(owner, theirs, inventory.role, database)


def _by_owner(
    inventory: TargetInventory, tables: Collection[AnalyticsTable], database: str
) -> Mapping[str, Sequence[AnalyticsTable]]:
    found: dict[str, list[AnalyticsTable]] = {}
    for table in tables:
        there = inventory.at(target_of(table, database=database))
        if there is not None and there.owner not in ("", inventory.role) and replaces_object(table):
            found.setdefault(there.owner, []).append(table)
    return found


def _words(owner: str, tables: Sequence[AnalyticsTable], role: str, database: str) -> str:
    more = len(tables) - _NAMED
    named = ", ".join(table.name for table in tables[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
    schemas = sorted({schema_of(target_of(table, database=database)) for table in tables})
    grants = " ".join(
        f"GRANT OWNERSHIP ON ALL TABLES IN SCHEMA {schema} TO ROLE {display_name(role)} COPY CURRENT GRANTS;"
        for schema in schemas
    )
    return (
        f"{named} in {display_name(database)}: a run requires the role that owns them, {display_name(owner)}, got {display_name(role)}. It would "
        f"be refused. Use that role, or let one with MANAGE GRANTS run: {grants}"
    )
