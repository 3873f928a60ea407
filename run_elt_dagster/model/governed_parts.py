"""What policies may do to a table whose statements compare new rows with published ones: one that is built in parts, or has the check `changes`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from run_elt_dagster.model.fields import LocatedError
from run_elt_dagster.model.names import stored_name

if TYPE_CHECKING:
    from run_elt_dagster.model.table import AnalyticsTable


def require_comparable(table: "AnalyticsTable") -> None:
    """Require policies under which the rows that stay can be told from those that go.

    Masked values would be compared with true ones: https://docs.snowflake.com/en/user-guide/security-column-intro. A row access policy
    hides rows from DELETE: https://docs.snowflake.com/en/user-guide/security-row-intro. How many rows a partition has is noted, so hidden
    ones are missed. How many an increment leaves is not. A column that cannot be selected can be compared:
    https://docs.snowflake.com/en/user-guide/projection-policies. Under an aggregation or a join policy nothing can be: a run asks whether
    they exempt its role.

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
    compared, projected = dict(_compared(table)), dict(_projected(table))
    for column in table.policies.masking:
        if use := compared.get(stored_name(column)):
            raise LocatedError(
                f"cannot mask {use} of a table that is built in parts: masked values would be compared with true ones, got {column}. "
                "Mask it in a view",
                location=("policies", "masking", column),
            )
    for column in table.policies.projection:
        if use := projected.get(stored_name(column)):
            raise LocatedError(
                f"cannot hide {use} of a table that is built in parts: a run reads values of it, got {column}. Hide it in a view",
                location=("policies", "projection", column),
            )


def require_true_differences(table: "AnalyticsTable") -> None:
    """Require policies under which the check `changes` compares true values: those of readers are compared as the role sees them.

    What it does not compare stands in its `ignore`, so nobody takes it for compared.

    Raises:
        LocatedError: The table has others.
    """
    rule, policies = table.checks.changes, table.policies
    if rule is None or policies is None:
        return
    for kind, policy, why in (
        ("a row access", policies.row_access, "rows that it hides would count as added"),
        ("an aggregation", policies.aggregation, "it lets no row be compared"),
        ("a join", policies.join, "it lets no row be compared"),
    ):
        if policy is not None:
            raise LocatedError(
                f"cannot stand beside {kind} policy: {why}, got {policy.name}. Remove one of them",
                location=("checks", "changes"),
            )
    ignored, limited = (set(map(stored_name, names)) for names in (rule.ignore, rule.columns))
    kinds = [
        *((column, "masked") for column in policies.masking),
        *((column, "hidden") for column in policies.projection),
    ]
    for column, kind in kinds:
        stored = stored_name(column)
        if stored in table.difference_key or stored in limited:
            raise LocatedError(
                f"cannot compare a {kind} column: its values would be compared as the role sees them, got {column}",
                location=("checks", "changes"),
            )
        if rule.max_changed is not None and stored not in ignored:
            raise LocatedError(
                f"requires {kind} columns in ignore: their values would be compared as the role sees them, got no {column}",
                location=("checks", "changes"),
            )


def _projected(table: "AnalyticsTable") -> Iterator[tuple[str, str]]:
    """Yield the stored names of the columns of which a run reads values of published rows, and what each is for."""
    if table.increment is None:
        return
    checks = table.checks
    # These checks are about the whole table, as it will be.
    numbers = checks.usual.numbers if checks.usual is not None else ()
    asked = [*checks.freshness, *checks.relationship, *(column for _, columns in numbers for column in columns)]
    yield from ((stored_name(column), "a column that a check asks of the whole table") for column in asked)
    yield table.increment.stored_column, "the column that an increment begins after"


def _compared(table: "AnalyticsTable") -> Iterator[tuple[str, str]]:
    """Yield the stored names of the columns that are compared with published rows, and what each is for."""
    checks = table.checks
    yield from _projected(table)
    keys = [*table.primary_key, *(column for rule in checks.unique for column in rule.columns)]
    yield from ((stored_name(column), "a column of a key") for column in keys)
    if table.increment is not None:
        yield from ((column, "a column of the key") for column in table.increment.stored_key)
    if table.partitions is not None:
        yield table.partitions.stored_column, "the column of the partitions"
