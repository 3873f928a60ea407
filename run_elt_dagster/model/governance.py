"""What a table file declares about who may see what: policies and tags of Snowflake, before any SQL is made of them."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from run_elt_dagster.model.checks import Column, LocatedError, SomeColumns, Strict
from run_elt_dagster.model.names import stored_name, stored_names

# https://docs.snowflake.com/en/user-guide/object-tagging/introduction
_LONGEST_VALUE, _MOST_TAGS = 256, 50
# Without a schema, a name would mean another object in each session.
_FEWEST_PARTS, _MOST_PARTS = 2, 3
_NOT_YET: Mapping[str, str] = {
    "aggregation": "an audit cannot count the rows of a table that has one",
    "projection": "a table that selects such a column could not be built",
    "join": "an audit cannot join a table that has one",
}


def _qualified(value: str) -> str:
    if not _FEWEST_PARTS <= len(stored_names(value)) <= _MOST_PARTS:
        raise ValueError(f"requires schema.name or database.schema.name, got {value}")
    return value


QualifiedName = Annotated[str, AfterValidator(_qualified)]


class RowAccess(Strict):
    """The row access policy of a table.

    Attributes:
        name: Its name with its schema.
        on: The columns that it is called with, in its order.
    """

    name: QualifiedName
    on: SomeColumns


class Masking(Strict):
    """The masking policy of a column.

    Attributes:
        name: Its name with its schema.
        using: The columns besides that a conditional policy is called with, in its order.
    """

    name: QualifiedName
    using: SomeColumns | None = None


def _as_masking(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Policies(Strict):
    """The policies of a table. It has them before readers see it.

    Attributes:
        row_access: The policy that chooses the rows that a role sees.
        masking: The policy of each masked column.
    """

    row_access: RowAccess | None = None
    masking: dict[Column, Annotated[Masking, BeforeValidator(_as_masking, json_schema_input_type=str | Masking)]] = (
        Field(default_factory=dict[str, Masking])
    )

    @model_validator(mode="before")
    @classmethod
    def _kinds_are_known(cls, value: Any) -> Any:
        for kind in [kind for kind in _NOT_YET if isinstance(value, Mapping) and kind in value]:
            raise LocatedError(f"cannot be declared: {_NOT_YET[kind]}. Set it on a view of the table", location=(kind,))
        return value

    @model_validator(mode="after")
    def _columns_differ(self) -> "Policies":
        if self.row_access is None and not self.masking:
            raise ValueError("requires row_access or masking, got neither")
        hidden = {stored_name(column) for column in self.row_access.on} if self.row_access is not None else set()
        seen: set[str] = set()
        for column, mask in self.masking.items():
            stored = stored_name(column)
            if stored in seen:
                raise LocatedError(
                    f"requires columns that differ, got {column} a second time", location=("masking", column)
                )
            seen.add(stored)
            for each in (column, *(mask.using or ())):
                # https://docs.snowflake.com/en/user-guide/security-column-intro#row-access-policies
                if stored_name(each) in hidden:
                    raise LocatedError(
                        "cannot name a column of the row access policy: Snowflake allows a column in one of the two alone, got "
                        f"{each}",
                        location=("masking", column),
                    )
        return self

    @property
    def columns(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """The columns that each policy names, by its place below `policies`."""
        found: dict[tuple[str, ...], tuple[str, ...]] = {
            ("masking", column): (column, *(mask.using or ())) for column, mask in self.masking.items()
        }
        if self.row_access is not None:
            found["row_access", "on"] = self.row_access.on
        return found


def _tags_can_be_set(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > _MOST_TAGS:
        raise ValueError(f"requires at most {_MOST_TAGS} tags, got {len(tags)}")
    seen: set[tuple[str, ...]] = set()
    for name, value in tags.items():
        try:
            stored = stored_names(_qualified(name))
        except ValueError as error:
            raise LocatedError(str(error), location=(name,)) from error
        if stored in seen:
            raise LocatedError(f"requires tags that differ, got {name} a second time", location=(name,))
        seen.add(stored)
        if len(value) > _LONGEST_VALUE:
            raise LocatedError(f"requires at most {_LONGEST_VALUE} characters, got {len(value)}", location=(name,))
    return tags


ObjectTags = Annotated[dict[str, str], AfterValidator(_tags_can_be_set)]
