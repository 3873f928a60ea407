"""What policies may do to a table that is built in parts: its statements compare new rows with those that stay."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from run_elt_dagster.model.checks import LocatedError
from run_elt_dagster.model.names import stored_name

if TYPE_CHECKING:
    from run_elt_dagster.model.table import AnalyticsTable


def require_comparable(table: "AnalyticsTable") -> None:
    """Require policies under which the rows that stay can be told from those that go.

    Masked values would be compared with true ones: https://docs.snowflake.com/en/user-guide/security-column-intro. A row access policy
    hides rows from DELETE: https://docs.snowflake.com/en/user-guide/security-row-intro. How many rows a partition has is noted, so hidden
    ones are missed. How many an increment leaves is not.

    Raises:
        LocatedError: The table has others.
    """
    if table.policies is None:
        return
    if table.increment is not None and table.policies.row_access is not None:
        raise LocatedError(
            "cannot be set for a table with increments: old rows that it hides would stay beside the new ones, got "
            f"{table.policies.row_access.name}. Put it on a view",
            location=("policies", "row_access"),
        )
    compared = dict(_compared(table))
    for column in table.policies.masking:
        if use := compared.get(stored_name(column)):
            raise LocatedError(
                f"cannot mask {use} of a table that is built in parts: masked values would be compared with true ones, got {column}. "
                "Mask it in a view",
                location=("policies", "masking", column),
            )


def _compared(table: "AnalyticsTable") -> Iterator[tuple[str, str]]:
    """Yield the stored names of the columns that are compared with published rows, and what each is for."""
    checks = table.checks
    if table.increment is not None:
        # These checks are about the whole table, as it will be.
        numbers = checks.usual.numbers if checks.usual is not None else ()
        asked = [*checks.freshness, *checks.relationship, *(column for _, columns in numbers for column in columns)]
        yield from ((stored_name(column), "a column that a check asks of the whole table") for column in asked)
    keys = [*table.primary_key, *(column for rule in checks.unique for column in rule.columns)]
    yield from ((stored_name(column), "a column of a key") for column in keys)
    if table.increment is not None:
        yield from ((column, "a column of the key") for column in table.increment.stored_key)
        yield table.increment.stored_column, "the column that an increment begins after"
    if table.partitions is not None:
        yield table.partitions.stored_column, "the column of the partitions"
