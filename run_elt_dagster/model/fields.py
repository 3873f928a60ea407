"""What the settings of a table file are made of: models without unknown keys, columns, tags, hours, and errors that say where."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from run_elt_dagster.model.front_matter import Location
from run_elt_dagster.model.names import stored_name

# A NUMBER has no more: https://docs.snowflake.com/en/sql-reference/data-types-numeric
MOST_DIGITS = 38
_TAG_KEY = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")


class LocatedError(ValueError):
    """A broken rule, with the part of the value that breaks it.

    Attributes:
        location: Keys that lead from the value to the part.
        remedy: A sentence of what to do; empty where the message has it.
    """

    def __init__(self, message: str, *, location: Location, remedy: str = "") -> None:
        super().__init__(message)
        self.location = location
        self.remedy = remedy


class SeveralLocatedError(ValueError):
    """Several broken rules of one value.

    Attributes:
        errors: Each of them, at least one.
    """

    def __init__(self, errors: Sequence[LocatedError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{'.'.join(map(str, each.location))} {each}. {each.remedy}" for each in errors))


class Strict(BaseModel):
    """A part of the front matter: unknown keys are errors, nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)


def as_tuple(value: Any) -> Any:
    """Return one text as a list of one."""
    return (value,) if isinstance(value, str) else value


def _column(value: str) -> str:
    stored_name(value)
    return value


def _differ(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("requires at least one column")
    if len({stored_name(value) for value in values}) < len(values):
        raise ValueError("requires columns that differ")
    return values


def _suit_dagster(tags: dict[str, str]) -> dict[str, str]:
    # The rule is Dagster's: https://docs.dagster.io/guides/build/assets/metadata-and-tags/tags
    for key, text in tags.items():
        if not (_TAG_KEY.fullmatch(key) and _TAG_VALUE.fullmatch(text)):
            raise ValueError("requires keys and values of at most 63 letters, digits, '_', '-' and '.'")
    return tags


Tags = Annotated[dict[str, str], AfterValidator(_suit_dagster)]
Column = Annotated[str, AfterValidator(_column)]
# What an author may write. `json_schema_input_type` is for the JSON Schema of the front matter alone: docs/write_front_matter.py.
WrittenColumns = str | list[str]
Columns = Annotated[tuple[Column, ...], BeforeValidator(as_tuple, json_schema_input_type=WrittenColumns)]
SomeColumns = Annotated[Columns, AfterValidator(_differ)]


def short_for(key: str, written: Any) -> Callable[[Any], Any]:
    """Return a validator that takes the one important value in the place of the whole mapping.

    Args:
        key: The key of that value.
        written: What an author may write, for the JSON Schema: the mapping, or the value.
    """

    def as_mapping(value: Any) -> Any:
        return value if isinstance(value, Mapping) else {key: value}

    return BeforeValidator(as_mapping, json_schema_input_type=written)  # type: ignore[return-value]


def is_finite(value: float | Decimal) -> bool:
    """Return whether a number is neither infinite nor NaN."""
    # A whole number may have more digits than a binary one takes.
    return isinstance(value, int) or (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value))


def digits(value: float | Decimal) -> int:
    """Return how many digits a number has without an exponent; 0 for a binary one: that is written with an exponent."""
    if isinstance(value, Decimal):
        return max(value.adjusted(), 0) - min(int(value.as_tuple().exponent), 0) + 1
    return len(str(abs(value))) if isinstance(value, int) else 0


def _hours(value: Any) -> float:
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if not is_number or not is_finite(value) or digits(value) > MOST_DIGITS:
        raise ValueError("requires a number of hours, unquoted")
    return float(value)


Hours = Annotated[float, BeforeValidator(_hours, json_schema_input_type=float)]
