"""The plan of a folder of tables, and the statements of a plan as things stand in Snowflake."""

from collections.abc import Iterator, Sequence

from run_elt_dagster.environments.changes import changes_since
from run_elt_dagster.environments.plan import Plan, plan_of
from run_elt_dagster.model.groups import groups_of
from run_elt_dagster.model.lineage import Catalogue, load_tables
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.table_files import load_table
from run_elt_dagster.publish.guards import inventory_of, inventory_sql
from run_elt_dagster.publish.planned import PlannedStatement, planned_statements
from run_elt_dagster.publish.planned_group import columns_there, planned_group
from run_elt_dagster.settings import PublishOptions, Settings
from run_elt_dagster.snowflake.session import Session

_TAG = {"stage": "plan", "job": "run-elt plan"}
# In the place of a key, before the name of a group.
EXCHANGE_OF = "publish_group"


def planned(
    settings: Settings, names: Sequence[str], changed: str | None, *, prefix: Key = ()
) -> tuple[Plan, Catalogue]:
    """Return what would be built, and all tables of the folder.

    Args:
        settings: The settings.
        names: Tables, as a person names them; none for all.
        changed: A revision of Git that the files are compared with: empty for where the branch left the default branch. None to compare
            with none.
        prefix: What stands before the keys of the assets.

    Raises:
        TableProblemsError: There is no folder of tables, or no SQL file in it.
        ValueError: A name is no table's, or Git cannot be asked.
    """
    tables = load_tables(
        settings.tables_dir, database=settings.database, cache_dir=settings.cache_dir, keeps_broken=True
    )
    tables = tables.placed(prefix=prefix) if prefix else tables
    keys = _keys(settings, tables, names)
    changes = None
    if changed is not None:
        broken = {key: each.problems[0].path for key, each in tables.broken.items()}
        changes = changes_since(
            settings.tables_dir,
            changed or None,
            tables,
            {key: path for key, path in broken.items() if path is not None},
        )
    return plan_of(tables, keys, changes), tables


def _keys(settings: Settings, tables: Catalogue, names: Sequence[str]) -> list[Key]:
    keys: list[Key] = [tuple(name.lower().replace("/", ".").split(".")) for name in names]
    for key, name in zip(keys, names, strict=True):
        if key not in tables and key not in tables.broken:
            # It says which tables there are, and which one may be meant.
            load_table(settings.tables_dir, name)
    return keys


def statements_of(
    session: Session, plan: Plan, catalogue: Catalogue, options: PublishOptions
) -> Iterator[tuple[Key, Sequence[PlannedStatement]]]:
    """Yield what a run would send for each table of a plan, after two questions for all of them.

    What exchanges a group stands behind its tables, with `EXCHANGE_OF` and the group's name in the place of a key.

    Raises:
        StatementError: The catalogue does not answer.
    """
    schemas = sorted({each.table.stored_schema for each in plan.built})
    if not schemas:
        return
    inventory = inventory_of(session.execute(inventory_sql(session.database, schemas), tag=_TAG).rows)
    columns = columns_there(session, schemas, tag=_TAG)
    groups = groups_of(each.table for each in plan.built)
    for each in plan.built:
        if each.table.publish_group is None:
            there = columns.get((each.table.stored_schema, each.table.stored_table), [])
            yield (
                each.table.key,
                planned_statements(each.table, inventory, database=session.database, columns=there, options=options),
            )
    for name in groups:
        group = planned_group(catalogue, name, inventory, database=session.database, columns=columns, options=options)
        yield from group.tables.items()
        yield (EXCHANGE_OF, name), group.exchange
