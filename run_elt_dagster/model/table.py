"""One analytics table as its SQL file declares it: the model, and what its settings require of each other."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SkipValidation,
    field_validator,
    model_validator,
)

from run_elt_dagster.model.alert_rule import AlertRule, is_owner
from run_elt_dagster.model.checks import Checks, ColumnContract, ColumnContracts
from run_elt_dagster.model.fields import LocatedError, SomeColumns, Strict, Tags, as_tuple
from run_elt_dagster.model.freshness import FreshRule, in_words
from run_elt_dagster.model.front_matter import (
    Location,
    nearest_line,
)
from run_elt_dagster.model.governance import ObjectTags, Policies
from run_elt_dagster.model.governed_parts import require_comparable, require_true_differences
from run_elt_dagster.model.increment import BEGINNING, Increment, Start, start_at
from run_elt_dagster.model.named_columns import require_declared
from run_elt_dagster.model.names import (
    IDENTIFIER_LIMIT,
    RUN_ID_CHARACTERS,
    Key,
    display_name,
    is_candidate_name,
    quote_identifier,
    stored_name,
    stored_names,
)
from run_elt_dagster.model.partitions import PARTITIONS_TABLE, Partitioning, Slice
from run_elt_dagster.model.placeholders import (
    INCREMENT_START,
    PARTITION_END,
    PARTITION_START,
    filled_in,
    placeholders_in,
    quoted_placeholder,
)
from run_elt_dagster.model.single_select import SqlRuleError, single_select
from run_elt_dagster.model.time_literals import NTZ, declared_time

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What a run creates while it exchanges the tables of a group begins so.
GROUP_LOCK_PREFIX = "RUN_ELT_GROUP_"
_GROUP = r"^[a-z0-9_]{1,63}$"


def _identifier(value: str) -> str:
    if not _IDENTIFIER.fullmatch(value):
        raise ValueError(
            "requires a letter or _ first, then letters, digits and _; name the path so, and say with identifier in the file what "
            "else the name is in Snowflake"
        )
    return value


class AnalyticsTable(Strict):
    """A table that this project builds, audits and publishes.

    A SQL file makes one (`parse_table_file`); so does a plain mapping with `schema`, `table` and `sql`, as the
    `table_params` of the Airflow DAG had them.

    Attributes:
        schema_name: Schema in Snowflake, unquoted. Case does not matter. Alias: `schema`.
        table: Name in Snowflake, unquoted. Case does not matter.
        identifier: Name in Snowflake where it needs quotes, as in `'"Net sales"'`, or schema and name with a dot. Left out, the path
            names the table.
        sql: Exactly one SELECT (or WITH), without a terminator; it runs byte for byte.
        description: Markdown, shown in the UI and as the table's comment in Snowflake.
        owner: The owner that an alert mentions: an e-mail address or `team:<name>`.
        business_owner: The person or team responsible for the numbers: any text.
        primary_key: Columns that are never NULL and identify a row. They become the check `primary_key`.
        columns: All columns with type and description, in any order. Another column or type fails the table.
        schema_change: Whether other columns than the published table's stop the publishing (`fail`), or are only reported. A table with
            `partitions` or an `increment` keeps its old rows: other columns always stop it, or new ones are added to the table (`add`).
        show_rows: How many rows a failed check may show in its metadata. 0 keeps row values out of Dagster.
        tags: Labels to filter by in the UI: letters, digits, `_`, `-` and `.`, 63 characters at most.
        publish: How the candidate becomes the table that readers see.
        publish_group: A name. Readers see all tables with this name change together: none is published before all have passed. A run builds
            all of them or none. They may read each other, but not one with `partitions` or an `increment`.
        transient: Without fail-safe, for tables that can always be built again.
        cluster_by: Columns of the clustering key, in its order.
        data_retention_days: How many days Snowflake keeps the rows of before, 90 at most, 1 with `transient`.
        policies: Masking and row access policies that the table has before readers see it.
        object_tags: Snowflake's tags of the table by name with schema, as in `{governance.domain: sales}`. `tags` are Dagster's.
        partitions: The table is built in parts by the time of its rows. Without it every run builds the whole table.
        increment: Runs build new and changed rows alone, and merge them by key. The first run builds the whole table.
        warehouse: Warehouse that builds, audits and publishes this table, if the session's is too small. It costs two more sign-ins.
        fresh_within: How old the rows that readers see may be. Older rows alert, though nothing failed. Without it they may be of any age.
        alerts: Where its alerts go, and whom they mention besides `owner`. `alerts.yaml` says it for a folder.
        checks: What must hold before readers see the table.
        upstream: `schema.table` names that the SQL reads, in addition to those found in it.
        path: The SQL file, None for a mapping.
        sql_line: Line of the file where `sql` starts, from 1.
        lines: Lines of the file with the settings.
        key_prefix: What a code location puts before the key of its asset.
    """

    schema_name: Annotated[str, AfterValidator(_identifier), Field(alias="schema", max_length=IDENTIFIER_LIMIT)]
    table: Annotated[str, AfterValidator(_identifier), Field(max_length=IDENTIFIER_LIMIT)]
    sql: str
    identifier: str | None = None
    description: str = ""
    owner: str | None = None
    business_owner: str | None = None
    primary_key: SomeColumns = ()
    columns: ColumnContracts = Field(default_factory=dict[str, ColumnContract])
    schema_change: Literal["report", "fail", "add"] = "report"
    show_rows: Annotated[int, Field(ge=0, le=100, strict=True)] = 0
    tags: Tags = Field(default_factory=dict[str, str])
    publish: Literal["clone", "swap", "overwrite"] = "clone"
    publish_group: Annotated[str | None, Field(pattern=_GROUP)] = None
    transient: Annotated[bool, Field(strict=True)] = False
    cluster_by: SomeColumns | None = None
    data_retention_days: Annotated[int, Field(ge=0, le=90, strict=True)] | None = None
    policies: Policies | None = None
    object_tags: ObjectTags = Field(default_factory=dict[str, str])
    partitions: Partitioning | None = None
    increment: Increment | None = None
    warehouse: str | None = None
    fresh_within: FreshRule | None = None
    alerts: AlertRule = AlertRule()
    checks: Checks = Checks()
    upstream: Annotated[tuple[str, ...], BeforeValidator(as_tuple, json_schema_input_type=str | list[str])] = ()
    path: Path | None = None
    sql_line: int = 1
    lines: Annotated[dict[Location, int], SkipValidation] = Field(
        default_factory=dict[Location, int], exclude=True, repr=False
    )
    # No setting of a file, and no part of what a table declares. A private attribute would cost each table a dict of its own.
    key_prefix: Annotated[Key, SkipValidation] = Field(default=(), exclude=True, repr=False)

    def line_of(self, *location: str | int) -> int:
        """Return the line of the file where a setting stands, as in `line_of("checks", "sql", "no_orphans")`."""
        return nearest_line(location, self.lines)

    @property
    def key(self) -> tuple[str, str]:
        """Schema and table in lower case: the asset key, and what makes two tables the same."""
        return (self.schema_name.lower(), self.table.lower())

    @property
    def name(self) -> str:
        """`schema.table` in lower case, as messages say it."""
        return ".".join(self.key)

    @property
    def asset_path(self) -> Key:
        """The key of its asset: its own key, behind the prefix that a code location gives its folder."""
        return (*self.key_prefix, *self.key)

    @property
    def asset_name(self) -> str:
        """The key of its asset with dots, as alerts name it."""
        return ".".join(self.asset_path)

    @property
    def mentioned(self) -> tuple[str, ...]:
        """Whom its alerts mention, each once."""
        return tuple(dict.fromkeys([*((self.owner,) if self.owner else ()), *self.alerts.owners]))

    def behind(self, prefix: Key) -> "AnalyticsTable":
        """Return the same table, whose asset has a prefix."""
        return self.model_copy(update={"key_prefix": prefix})

    @property
    def stored_schema(self) -> str:
        """The schema's name as Snowflake stores it."""
        parts = stored_names(self.identifier) if self.identifier else ()
        return parts[0] if len(parts) == 2 else self.schema_name.upper()  # noqa: PLR2004 - schema and table

    @property
    def stored_table(self) -> str:
        """The table's name as Snowflake stores it."""
        return stored_names(self.identifier)[-1] if self.identifier else self.table.upper()

    @property
    def method(self) -> str:
        """How what is built becomes what readers see: `partition`, `increment`, or the value of `publish`."""
        if self.partitions is not None:
            return "partition"
        return self.publish if self.increment is None else "increment"

    @property
    def difference_key(self) -> tuple[str, ...]:
        """Stored names of the columns that find the row of before: the key of `changes`, the primary key, or that of the increment."""
        changes, increment = self.checks.changes, self.increment
        own = self.primary_key or (increment.key if increment is not None else ())
        return tuple(map(stored_name, (changes.key if changes is not None else ()) or own))

    @property
    def is_in_parts(self) -> bool:
        """Whether a run exchanges some rows of the published table, and the others stay."""
        return self.partitions is not None or self.increment is not None

    @field_validator("identifier")
    @classmethod
    def _identifier_names_a_table(cls, value: str | None) -> str | None:
        if value is not None and len(stored_names(value)) > 2:  # noqa: PLR2004 - schema and table
            raise ValueError("requires a table, or schema.table")
        return value

    @field_validator("warehouse")
    @classmethod
    def _warehouse_is_an_identifier(cls, value: str | None) -> str | None:
        if value is not None:
            stored_name(value)
        return value

    @field_validator("columns")
    @classmethod
    def _contracts_differ(cls, value: ColumnContracts) -> ColumnContracts:
        seen: set[str] = set()
        for name in value:
            if stored_name(name) in seen:
                raise LocatedError(f"requires columns that differ, got {name} a second time", location=(name,))
            seen.add(stored_name(name))
        return value

    @field_validator("sql")
    @classmethod
    def _sql_is_one_select(cls, value: str) -> str:
        return single_select(value)

    @field_validator("owner")
    @classmethod
    def _owner_can_be_mentioned(cls, value: str | None) -> str | None:
        if value is not None and not is_owner(value):
            raise ValueError("requires an e-mail address or team:<name>; a person's name belongs in business_owner")
        return value

    @model_validator(mode="after")
    def _checks_have_names_of_their_own(self) -> "AnalyticsTable":
        taken = {*_NAMES_OF_CHECKS, *self.checks.names().values()}
        if self.is_in_parts:
            taken.add(self.method)
        for name in self.checks.sql:
            # Nobody tells checks apart by upper and lower case.
            if name.lower() in taken:
                raise LocatedError(
                    f"requires a name that no other check of the table has, got {name!r}. Name it differently",
                    location=("checks", "sql", name),
                )
            taken.add(name.lower())
        return self

    @model_validator(mode="after")
    def _name_is_not_the_products(self) -> "AnalyticsTable":
        location = ("identifier",) if self.identifier else ("table",)
        if self.stored_table.upper() == PARTITIONS_TABLE:
            raise LocatedError(
                f"requires another name than {PARTITIONS_TABLE}, got it. Runs keep there what is published of partitions. Name the table "
                "differently",
                location=location,
            )
        if self.stored_table.upper().startswith(GROUP_LOCK_PREFIX):
            raise LocatedError(
                f"requires a name that does not begin with {GROUP_LOCK_PREFIX}, got {display_name(self.stored_table)}. A run that publishes a "
                "group creates and drops such a table. Name the table differently",
                location=location,
            )
        return self

    @model_validator(mode="after")
    def _name_is_no_candidates(self) -> "AnalyticsTable":
        if is_candidate_name(self.stored_table.upper()):
            raise LocatedError(
                f"requires another name than a candidate's, got {display_name(self.stored_table)}: "
                f"temp_<table>__<{RUN_ID_CHARACTERS} hexadecimal digits> is how runs name what they build, and what is left of it is dropped. Name the table differently",
                location=("identifier",) if self.identifier else ("table",),
            )
        return self

    @model_validator(mode="after")
    def _is_whole_or_in_parts(self) -> "AnalyticsTable":
        if self.partitions is not None and self.increment is not None:
            raise LocatedError(
                "cannot stand beside partitions: a run builds either the parts of some time or what is new, got both. Remove one of them",
                location=("increment",),
            )
        if not self.is_in_parts and self.schema_change == "add":
            raise LocatedError(
                "requires report or fail for a table that is built whole: it always has the columns of its SQL, got add",
                location=("schema_change",),
            )
        for name, rule in _NOT_IN_PARTS.items() if self.is_in_parts else ():
            if name in self.model_fields_set and (name != "schema_change" or self.schema_change == "report"):
                got = getattr(self, name)
                raise LocatedError(f"{rule}, got {got if isinstance(got, str) else 'some'}", location=(name,))
        return self

    @model_validator(mode="after")
    def _named_columns_are_declared(self) -> "AnalyticsTable":
        require_declared(self)
        return self

    @model_validator(mode="after")
    def _storage_suits_the_table(self) -> "AnalyticsTable":
        days = self.data_retention_days
        if self.transient and days is not None and days > 1:
            # https://docs.snowflake.com/en/user-guide/data-time-travel
            raise LocatedError(f"requires 0 or 1 for a transient table, got {days}", location=("data_retention_days",))
        return self

    @model_validator(mode="after")
    def _policies_suit_the_table(self) -> "AnalyticsTable":
        if self.policies is None:
            return self
        if self.show_rows:
            raise LocatedError(
                f"cannot stand beside policies: Dagster would show everybody what they hide, got {self.show_rows}",
                location=("show_rows",),
            )
        require_true_differences(self)
        if self.is_in_parts:
            require_comparable(self)
        return self

    @model_validator(mode="after")
    def _column_of_partitions_is_a_time(self) -> "AnalyticsTable":
        column = self._partition_column
        if self.partitions is None or not self.columns:
            return self
        try:
            self.partitions.literal_type(column)
        except ValueError as error:
            raise LocatedError(str(error), location=("partitions", "column")) from error
        return self

    @model_validator(mode="after")
    def _rule_suits_the_partitions(self) -> "AnalyticsTable":
        rule, parts = self.fresh_within, self.partitions
        if rule is None or parts is None:
            return self
        if rule.max_age is not None:
            raise LocatedError(
                "cannot be set for a table with partitions: its rows are as old as the end of its newest partition",
                location=("fresh_within", "max_age"),
            )
        if rule.fail is not None and rule.fail <= parts.longest:
            raise LocatedError(
                f"requires more than a partition by {parts.by}, got {in_words(rule.fail)}: the newest partition is older than that before "
                "the next one is over",
                location=("fresh_within", "fail"),
            )
        return self

    @model_validator(mode="after")
    def _column_of_the_increment_is_a_time(self) -> "AnalyticsTable":
        if self.increment is None:
            return self
        if (declared_type := self._type_of(self.increment.stored_column)) is not None:
            try:
                declared_time(declared_type)
            except ValueError as error:
                raise LocatedError(str(error), location=("increment", "column")) from error
        return self

    @model_validator(mode="after")
    def _changes_can_be_told(self) -> "AnalyticsTable":
        rule, key = self.checks.changes, self.difference_key
        if rule is None:
            return self
        at: Location = ("checks", "changes")
        if self.increment is not None and set(key) != set(self.increment.stored_key):
            raise LocatedError(
                f"requires the key of the increment, {', '.join(self.increment.key)}: rows make way by it, got {', '.join(rule.key)}",
                location=(*at, "key"),
            )
        if not key and rule.max_changed is not None:
            raise LocatedError(
                "requires a key, or a primary_key of the table, to find the row of before, got none",
                location=(*at, "max_changed"),
            )
        if not key and (counted := [name for name, limit in rule.columns.items() if not limit.is_share]):
            raise LocatedError(
                f"requires a percentage where no key identifies a row, got {rule.columns[counted[0]]} for {counted[0]}",
                location=(*at, "columns", counted[0]),
            )
        for name in rule.columns:
            if stored_name(name) in key:
                raise LocatedError(
                    f"cannot have a limit for a column of the key, got {name}", location=(*at, "columns", name)
                )
        return self

    @model_validator(mode="after")
    def _placeholders_have_a_meaning(self) -> "AnalyticsTable":
        found = placeholders_in(self.sql)
        for name, at in found.items():
            key, is_declared = (
                ("increment", self.increment) if name == INCREMENT_START else ("partitions", self.partitions)
            )
            if is_declared is None:
                raise SqlRuleError(f"requires {key} in the front matter for {name}, got none.", offset=at)
            if name != INCREMENT_START and len(found) == 1:
                raise SqlRuleError(
                    f"requires both {PARTITION_START} and {PARTITION_END}, got {name} alone. Rows of other partitions would be "
                    "in the slice.",
                    offset=at,
                )
        if self.is_in_parts and (at := quoted_placeholder(self.sql)) is not None:
            wanted = INCREMENT_START if self.increment is not None else f"{PARTITION_START} and {PARTITION_END}"
            raise SqlRuleError(
                f"requires {wanted} without quotes, got {self.sql[at : at + 20].splitlines()[0]}. Each "
                "stands for a literal that has quotes of its own.",
                offset=at,
            )
        return self

    def _type_of(self, stored_column: str) -> str | None:
        """Return the type that the file declares for a column; None where it declares none."""
        return next((each.type for name, each in self.columns.items() if stored_name(name) == stored_column), None)

    @property
    def _partition_column(self) -> str | None:
        """The type that the file declares for the column of the partitions."""
        return self._type_of(self.partitions.stored_column) if self.partitions is not None else None

    @property
    def readable_sql(self) -> str:
        """The SQL for a parser: without placeholders, on the same lines."""
        if self.increment is not None:
            return self.whole_sql
        return (
            self._filled_in(self.partitions.start, self.partitions.start) if self.partitions is not None else self.sql
        )

    @property
    def whole_sql(self) -> str:
        """The SELECT of all rows: where the file asks for the start of an increment, that is the beginning of all time."""
        if self.increment is None:
            return self.sql
        declared_type = self._type_of(self.increment.stored_column)
        start = Start(BEGINNING, NTZ if declared_type is None else declared_time(declared_type))
        return filled_in(self.sql, {INCREMENT_START: start.literal})

    def start_of(self, moment: date | datetime) -> Start:
        """Return the start of an increment that a person has written, with the type of the column.

        Raises:
            ValueError: The table has no increment.
        """
        if self.increment is None:
            raise ValueError(f"{self.name} cannot have increment_start: its file declares no increment, got {moment}.")
        start, declared_type = start_at(moment), self._type_of(self.increment.stored_column)
        return start if declared_type is None else Start(start.at, declared_time(declared_type))

    def increment_sql(self, start: Start) -> str:
        """Return the SELECT of the rows since a moment. Rows without a time come along: the check `increment` refuses them.

        Raises:
            ValueError: The table has no increment.
        """
        if self.increment is None:
            raise ValueError(f"{self.name} requires increment in its front matter for an increment, got none.")
        if placeholders_in(self.sql):
            return filled_in(self.sql, {INCREMENT_START: start.literal})
        column = quote_identifier(self.increment.stored_column)
        # Left out by the filter, a row without a time would never be built, and nobody would miss it.
        return f"SELECT * FROM (\n{self.sql}\n) WHERE {column} >= {start.literal} OR {column} IS NULL"

    def part(self, text: str | None) -> Slice:
        """Return the partitions that a text asks for: a key, or FIRST...LAST.

        Raises:
            ValueError: The table has no such partitions, or there is no text.
        """
        partitions = self.partitions
        if partitions is None or text is None:
            rule = (
                "cannot have a partition: its file declares no partitions" if text else "requires a partition, got none"
            )
            raise ValueError(f"{self.name} {rule}{f', got {text[:80]}' if text else ''}. Nothing was built.")
        first, _, last = text.partition("...")
        return partitions.between(first, last or first)

    def sliced_sql(self, part: Slice) -> str:
        """Return the SELECT of some partitions. Rows without a time come along: the check `partition` refuses them.

        Raises:
            ValueError: The table has no partitions.
        """
        partitions = self._required_partitions
        if placeholders_in(self.sql):
            return self._filled_in(part.start, part.end)
        within = partitions.predicate(part.start, part.end, self._partition_column)
        # Left out by the filter, a row without a time would be in no partition, and nobody would miss it.
        return f"SELECT * FROM (\n{self.sql}\n) WHERE {within} OR {quote_identifier(partitions.stored_column)} IS NULL"

    def partition_predicate(self, start: datetime, end: datetime) -> str:
        """Return the condition that a row of the table is in a piece of time.

        Raises:
            ValueError: The table has no partitions.
        """
        return self._required_partitions.predicate(start, end, self._partition_column)

    @property
    def partition_type(self) -> str:
        """The type of the literals of a partition: the declared one of the column, or the usual one of its unit.

        Raises:
            ValueError: The table has no partitions.
        """
        return self._required_partitions.literal_type(self._partition_column)

    @property
    def _required_partitions(self) -> Partitioning:
        if self.partitions is None:
            raise ValueError(f"{self.name} requires partitions in its front matter for a slice, got none.")
        return self.partitions

    def _filled_in(self, start: datetime, end: datetime) -> str:
        low, high = (self._required_partitions.literal(each, self._partition_column) for each in (start, end))
        return filled_in(self.sql, {PARTITION_START: low, PARTITION_END: high})

    @field_validator("upstream")
    @classmethod
    def _upstream_is_qualified(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if len(stored_names(name)) not in (2, 3):
                raise ValueError("requires schema.table or database.schema.table")
        return value


# What a table that is built in parts cannot say, and why. The third value of schema_change is its own.
_NOT_IN_PARTS: Mapping[str, str] = {
    "publish": "cannot be chosen for a table that is built in parts: its rows are exchanged in one transaction",
    "schema_change": "requires fail or add for a table that is built in parts: its old rows stay, with their columns",
}
# Checks that a table may have besides those that are named after columns.
_NAMES_OF_CHECKS = ("row_count", "row_count_change", "changes", "primary_key", "columns", "schema_change", "not_null")

# Facts that the path states, or that the parser finds: typing them again in the front matter could contradict them.
FRONT_MATTER_KEYS = tuple(
    field
    for field in AnalyticsTable.model_fields
    if field not in {"schema_name", "table", "sql", "path", "sql_line", "lines", "key_prefix"}
)
