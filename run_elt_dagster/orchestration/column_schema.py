"""The columns of a table as Dagster's page shows them: as they are declared, and as a run has built them.

The page takes descriptions and tags from the declaration, types and constraints from the last materialization. It matches names
without their case.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import dagster as dg

from run_elt_dagster.audit.catalogue import Column
from run_elt_dagster.model.names import key_part, stored_name
from run_elt_dagster.model.table import AnalyticsTable

if TYPE_CHECKING:
    # Loading the code location does without what only a run needs.
    from run_elt_dagster.publish.outcome import TableOutcome

COLUMN_SCHEMA = "dagster/column_schema"
_ANY_TYPE = "any"
# Dagster keeps all events of a run in memory until it ends: columns that are alike in many tables are one object.
_SHARED = 10_000


def declared_schema(table: AnalyticsTable) -> dict[str, dg.TableSchema]:
    """Return metadata with the declared columns; nothing if the file declares none."""
    columns = [
        dg.TableColumn(
            _shown(stored_name(name)),
            type=contract.type or _ANY_TYPE,
            description=contract.description or None,
            tags=contract.tags,
        )
        for name, contract in table.columns.items()
    ]
    return {COLUMN_SCHEMA: dg.TableSchema(columns)} if columns else {}


def built_schema(outcome: "TableOutcome") -> dict[str, dg.TableSchema]:
    """Return metadata with the columns of a candidate, and what its checks have found to hold."""
    passed = {audit.audit.name for audit in outcome.audits if audit.passed}
    unique, never_null = set(_keys(outcome.table, passed)), set(_never_null(outcome.table, passed))
    columns = [
        _built_column(column, is_unique=(column.name,) in unique, is_never_null=column.name in never_null)
        for column in outcome.columns
    ]
    keys = [f"checked: unique ({', '.join(map(_shown, key))})" for key in sorted(unique) if len(key) > 1]
    return {COLUMN_SCHEMA: dg.TableSchema(columns, dg.TableConstraints(keys))} if columns else {}


@lru_cache(_SHARED)
def _built_column(column: Column, *, is_unique: bool, is_never_null: bool) -> dg.TableColumn:
    # Snowflake's own constraint is another thing: the next rows may break what these keep.
    checked = ["checked: never NULL"] if column.is_nullable and is_never_null else []
    constraints = dg.TableColumnConstraints(nullable=column.is_nullable, unique=is_unique, other=checked)
    return dg.TableColumn(_shown(column.name), type=column.type, constraints=constraints)


def schema_of(columns: Sequence[Column]) -> dg.TableSchema:
    """Return columns as the catalogue says them."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                _shown(column.name),
                type=column.type,
                constraints=dg.TableColumnConstraints(nullable=column.is_nullable),
            )
            for column in columns
        ]
    )


def _shown(stored: str) -> str:
    """Return the name of a column in small letters, or in quotes where it is another one then."""
    return key_part(stored)


def _keys(table: AnalyticsTable, passed: set[str]) -> Iterator[tuple[str, ...]]:
    """Yield the stored names of columns that identify a row."""
    if "primary_key" in passed:
        yield tuple(map(stored_name, table.primary_key))
    for (kind, columns), name in table.checks.names().items():
        if kind == "unique" and name in passed:
            yield columns


def _never_null(table: AnalyticsTable, passed: set[str]) -> Iterator[str]:
    if "primary_key" in passed:
        yield from map(stored_name, table.primary_key)
    if "not_null" in passed and table.checks.not_null is not None:
        yield from map(stored_name, table.checks.not_null.columns)
