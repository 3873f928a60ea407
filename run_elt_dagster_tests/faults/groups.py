"""A group of two tables, one of them reading the other, whose run or rollback meets one fault."""

from dataclasses import dataclass, field
from pathlib import Path

from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster_tests.faults.laboratory import Cell, FaultLab
from run_elt_dagster_tests.simulator import StatementEvent

Seen = tuple[int | None, ...]
GOVERNED = (
    "policies: {masking: {v: raw_data.group_mask}, join: raw_data.group_join}\nobject_tags: {raw_data.domain: sales}\n"
)
# The ways of the two tables of a group that is exchanged in one transaction, with a note of each.
_DAY = "partitions: {by: day, column: at, start: 2024-01-01, end: 2024-01-02}"
IN_PARTS = {
    "increment": ("increment: {column: at, key: n}", "publish: overwrite"),
    "partition": (_DAY, _DAY),
}


@dataclass
class GroupCell(Cell):
    """One run of a group of two tables that meets one fault at a statement of one stage.

    Attributes:
        stage: The stage.
        governed: Whether both tables have policies and tags, those of before too.
        sent: Its statements.
    """

    stage: str = "publish"
    governed: bool = False
    sent: list[str] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, str]:
        return f"orders_{self.number}", f"totals_{self.number}"

    @property
    def group(self) -> str:
        return f"g{self.number}"

    @property
    def lock(self) -> str:
        return f"RUN_ELT_GROUP_G{self.number}"

    def declared(self, value: int = 2, *, in_group: bool = True) -> list[AnalyticsTable]:
        orders, _ = self.names
        row = f"select {value} as v, 1 as n, dateadd(hour, {value}, '2024-01-01'::timestamp_ntz) as at"
        # A table in parts cannot be read by another one of its group.
        reading = row if self.publish in IN_PARTS else f"select v, n, at from analytics.{orders}"
        setting = f"publish_group: {self.group}\n" if in_group else ""
        setting += GOVERNED if self.governed else ""
        ways = IN_PARTS.get(self.publish, (f"publish: {self.publish}",) * 2)
        texts = zip(self.names, ways, (row, reading), strict=True)
        return [
            parse_table_file(
                Path(f"{name}.sql"), f"/* elt\n{setting}{way}\nelt */ {text}", schema="analytics", table=name
            )
            for name, way, text in texts
        ]

    def hook(self, event: StatementEvent, stage: str) -> None:
        if stage == self.stage:
            if event.phase == "before":
                self.sent.append(" ".join(event.sql.split()))
            super().hook(event, stage)


def publish_old_group(lab: FaultLab, cell: GroupCell) -> None:
    """Create the tables of a group as an earlier run would have left them: 1 in each."""
    for name in cell.names:
        lab.sql(
            f"create table analytics.{name} comment = '[run_elt run 0000000A at 2026-01-01T00:00:00Z]' as "
            "select 1 as v, 1 as n, dateadd(hour, 1, '2024-01-01'::timestamp_ntz) as at"
        )
        if cell.governed:
            lab.sql(f"alter table analytics.{name} modify column v set masking policy raw_data.group_mask")
            lab.sql(f"alter table analytics.{name} set join policy raw_data.group_join")


def create_policies(lab: FaultLab) -> None:
    """Create the policies that governed groups declare."""
    lab.sql("create masking policy if not exists raw_data.group_mask as (v int) returns int -> 0")
    lab.sql("create join policy if not exists raw_data.group_join as () returns join_constraint -> join_constraint()")


def policies_of_group(lab: FaultLab, cell: GroupCell) -> list[int]:
    """Return how many policies each table has."""
    return [
        len(
            lab.sql(
                "select 1 from table(run_elt.information_schema.policy_references("
                f"ref_entity_name => 'analytics.{name}', ref_entity_domain => 'table'))"
            )
        )
        for name in cell.names
    ]


def tags_of_group(lab: FaultLab, cell: GroupCell) -> list[str | None]:
    """Return the value of the declared tag of each table."""
    return [
        lab.sql(f"select system$get_tag('raw_data.domain', 'analytics.{name}', 'table')")[0][0] for name in cell.names
    ]


def seen_of_group(lab: FaultLab, cell: GroupCell) -> Seen:
    """Return the value in each table; None for one that is not there."""
    there = lab.comments(cell.names)
    return tuple(
        lab.sql(f"select max(v) from analytics.{name}")[0][0] if name.upper() in there else None for name in cell.names
    )
