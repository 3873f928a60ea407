"""What a table file declares about who may see what: policies and tags of Snowflake, before any SQL is made of them."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from run_elt_dagster.model.fields import Column, LocatedError, SomeColumns, Strict
from run_elt_dagster.model.names import stored_name, stored_names

# https://docs.snowflake.com/en/user-guide/object-tagging/introduction
_LONGEST_VALUE, _MOST_TAGS = 256, 50
# Without a schema, a name would mean another object in each session.
_FEWEST_PARTS, _MOST_PARTS = 2, 3


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


class Aggregation(Strict):
    """The aggregation policy of a table.

    Attributes:
        name: Its name with its schema.
        entity_key: The columns that identify an entity. Groups are of so many entities then, and not of rows.
    """

    name: QualifiedName
    entity_key: SomeColumns | None = None


class Join(Strict):
    """The join policy of a table.

    Attributes:
        name: Its name with its schema.
        allowed_keys: The columns that it may be joined by. All of them by default.
    """

    name: QualifiedName
    allowed_keys: SomeColumns | None = None


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _or_name(model: type[Strict]) -> BeforeValidator:
    return BeforeValidator(_named, json_schema_input_type=str | model)


class Policies(Strict):
    """The policies of a table. It has them before readers see it.

    Attributes:
        row_access: The policy that chooses the rows that a role sees.
        masking: The policy of each masked column.
        projection: The policy of each column that not every role may select.
        aggregation: The policy by which only groups of rows may be selected.
        join: The policy by which the table must be joined.
    """

    row_access: RowAccess | None = None
    masking: dict[Column, Annotated[Masking, _or_name(Masking)]] = Field(default_factory=dict[str, Masking])
    projection: dict[Column, QualifiedName] = Field(default_factory=dict[str, str])
    aggregation: Annotated[Aggregation | None, _or_name(Aggregation)] = None
    join: Annotated[Join | None, _or_name(Join)] = None

    @model_validator(mode="after")
    def _columns_differ(self) -> "Policies":
        if not (self.row_access or self.masking or self.projection or self.aggregation or self.join):
            raise ValueError("requires one of row_access, masking, projection, aggregation and join, got none")
        for kind, columns in (("masking", self.masking), ("projection", self.projection)):
            seen: set[str] = set()
            for column in columns:
                if stored_name(column) in seen:
                    raise LocatedError(
                        f"requires columns that differ, got {column} a second time", location=(kind, column)
                    )
                seen.add(stored_name(column))
        self._require_policies_apart()
        return self

    def _require_policies_apart(self) -> None:
        """Require that no policy is called with a column that another one protects.

        https://docs.snowflake.com/en/user-guide/security-column-intro#row-access-policies and
        https://docs.snowflake.com/en/user-guide/projection-policies
        """
        hidden = {stored_name(column) for column in self.row_access.on} if self.row_access is not None else set[str]()
        called = {stored_name(each) for mask in self.masking.values() for each in mask.using or ()}
        for column, mask in self.masking.items():
            for each in (column, *(mask.using or ())):
                if stored_name(each) in hidden:
                    raise LocatedError(
                        "cannot name a column of the row access policy: Snowflake allows a column in one of the two alone, got "
                        f"{each}",
                        location=("masking", column),
                    )
        for column in self.projection:
            if stored_name(column) in hidden | called:
                raise LocatedError(
                    f"cannot name a column that another policy is called with: Snowflake refuses such a policy, got {column}",
                    location=("projection", column),
                )

    @property
    def restricts_queries(self) -> bool:
        """Whether a role that they do not exempt can ask only for groups of rows, or for joined rows."""
        return self.aggregation is not None or self.join is not None

    @property
    def columns(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """The columns that each policy names, by its place below `policies`."""
        found: dict[tuple[str, ...], tuple[str, ...]] = {
            ("masking", column): (column, *(mask.using or ())) for column, mask in self.masking.items()
        }
        found |= {("projection", column): (column,) for column in self.projection}
        if self.row_access is not None:
            found["row_access", "on"] = self.row_access.on
        if self.aggregation is not None and self.aggregation.entity_key:
            found["aggregation", "entity_key"] = self.aggregation.entity_key
        if self.join is not None and self.join.allowed_keys:
            found["join", "allowed_keys"] = self.join.allowed_keys
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
