"""Moments as typed literals of SQL: https://docs.snowflake.com/en/sql-reference/data-types-datetime. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from run_elt_dagster.model.column_type import column_type

DATE, NTZ = "DATE", "TIMESTAMP_NTZ"
WITH_A_ZONE = ("TIMESTAMP_TZ", "TIMESTAMP_LTZ")
TIMES = (DATE, NTZ, *WITH_A_ZONE)


def time_literal(instant: datetime, name: str) -> str:
    """Return a moment as a literal, in UTC and without fractions of a second; of a date, its day.

    Args:
        instant: The moment, aware.
        name: One of TIMES.
    """
    instant = instant.astimezone(UTC).replace(tzinfo=None)
    if name == DATE:
        return f"'{instant.date().isoformat()}'::{DATE}"
    zone = " +00:00" if name in WITH_A_ZONE else ""
    return f"'{instant.isoformat(sep=' ', timespec='seconds')}{zone}'::{name}"


def declared_time(declared_type: str, takes: Sequence[str] = TIMES) -> str:
    """Return which of some types of time a column is declared as.

    Raises:
        ValueError: It is another type, or one whose meaning an account decides.
    """
    name, *others = column_type(declared_type).names
    if others or name not in takes:
        raise ValueError(
            f"requires a column of type {', '.join(takes[:-1]).lower()} or {takes[-1].lower()}, got {declared_type}"
        )
    return name
