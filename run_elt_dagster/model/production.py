"""Versions of tables, and what readers see while one is not published. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from run_elt_dagster.model.candidate import Marker, marker_in
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.partitions import PARTITIONS_TABLE

ProductionState = Literal["unchanged", "new", "none", "unknown"]
# Kinds whose rows can be written over. Anything else under a target's name is no table of a run.
TABLE_KINDS = frozenset({"BASE TABLE", "ICEBERG TABLE", "HYBRID TABLE"})


@dataclass(frozen=True)
class TableVersion:
    """One version of a table, as a catalogue or Dagster's history has it. What it does not say keeps its default.

    Attributes:
        name: As it is stored.
        rows: Their number; None where they are not counted (a view).
        comment: With the marker of the run of its rows.
        created_at: When the object was created; from Dagster's history: when it was published.
        dropped_at: When it was dropped; None if it was not.
        owner: The role that owns it.
        kind: `BASE TABLE`, `VIEW`, `DYNAMIC TABLE`, `ICEBERG TABLE` and the like.
    """

    name: str = ""
    rows: int | None = None
    comment: str = ""
    created_at: datetime | None = None
    dropped_at: datetime | None = None
    owner: str = ""
    kind: str = "BASE TABLE"

    @property
    def marker(self) -> Marker | None:
        """Whose rows it has."""
        return marker_in(self.comment)

    @property
    def words(self) -> str:
        """Its rows and the run that built them, as in `7 rows, built 2026-11-21 00:00 UTC by run 8f3a01c2`."""
        return ", ".join(self.facts) if self.rows is not None else ", ".join(("an unknown number of rows", *self.facts))

    @property
    def facts(self) -> tuple[str, ...]:
        """What is known of its rows and their run, each in words."""
        rows = () if self.rows is None else (counted(self.rows, "rows"),)
        return (*rows, self.marker.published) if self.marker and self.marker.published else rows


# A sentence names so many partitions, and the metadata of a failure keeps so many.
PARTITIONS_NAMED, PARTITIONS_KEPT = 5, 1000
# Of a version, what the metadata of a failure keeps.
_KEPT = ("name", "rows", "comment", "kind")


@dataclass(frozen=True)
class Production:
    """What readers see of a table that a run did not publish.

    Attributes:
        state: `unchanged` where they see the version of before, `new` where they see what the run built, `none` where there is no
            table, `unknown` where Snowflake could not be asked, or does not say.
        version: The version that they see, where it is known.
        run_id: The run to look for where the state is unknown.
        target: The table to look at where the state is unknown.
        partitions: Which partitions this is about; none for the whole table.
    """

    state: ProductionState
    version: TableVersion | None = None
    run_id: str = ""
    target: str = ""
    partitions: tuple[str, ...] = ()

    @classmethod
    def of(cls, version: TableVersion | None) -> "Production":
        """Return what readers see as long as nothing is published over a version; None for no table."""
        return cls("none" if version is None else "unchanged", version)

    @property
    def words(self) -> str:
        """It in a sentence."""
        if self.state == "none":
            return "There is no published table yet."
        if self.partitions:
            return self._words_of_partitions
        if self.state == "new":
            return "Readers see the new table."
        if self.state == "unknown":
            # What is published of a table in parts is noted elsewhere than in its comment.
            is_noted = self.target.endswith(f".{PARTITIONS_TABLE}")
            return (
                "Whether readers see the new table is unknown, since the catalogue does not say: look for "
                f"{self.run_id} in {'' if is_noted else 'the comment of '}{self.target}."
            )
        if self.version is not None and self.version.kind not in TABLE_KINDS:
            return f"Readers still see the {self.version.kind.lower()}."
        facts = f" ({', '.join(self.version.facts)})" if self.version is not None and self.version.facts else ""
        return f"Readers still see the previous table{facts}."

    @property
    def _words_of_partitions(self) -> str:
        named = partition_words(self.partitions)
        if self.state == "unknown":
            return f"Whether readers see the new rows of {named} is unknown: look for {self.run_id} in {self.target}."
        return f"Readers see {'the new rows' if self.state == 'new' else 'what they saw before'} of {named}."

    def to_json(self) -> dict[str, Any]:
        """Return it as the metadata of a failure keeps it, without the description in the comment."""
        version = self.version
        kept: dict[str, Any] = {"state": self.state, "run_id": self.run_id, "target": self.target}
        if self.partitions:
            kept["partitions"] = list(self.partitions[:PARTITIONS_KEPT])
        if version is not None:
            marker = str(version.marker) if version.marker else ""
            kept["version"] = _without_defaults(name=version.name, rows=version.rows, comment=marker, kind=version.kind)
        return {name: value for name, value in kept.items() if value != ""}

    @classmethod
    def from_json(cls, kept: object) -> "Production | None":
        """Return what `to_json` made; None for anything else, such as the metadata of an older failure."""
        if not isinstance(kept, Mapping) or kept.get("state") not in get_args(ProductionState):
            return None
        version = kept.get("version")
        return cls(
            kept["state"],
            # A later release may note more. Without it, the alert still says what readers see.
            TableVersion(**{name: version[name] for name in _KEPT if name in version})
            if isinstance(version, Mapping)
            else None,
            run_id=str(kept.get("run_id", "")),
            target=str(kept.get("target", "")),
            partitions=tuple(map(str, kept.get("partitions", ()))),
        )


def partition_words(keys: Sequence[str]) -> str:
    """Return partitions for a sentence, as in `partition 2024-01-01` or `partitions 2024-01-01, 2024-01-03 and 5 more`."""
    more = len(keys) - PARTITIONS_NAMED
    named = ", ".join(keys[:PARTITIONS_NAMED]) + (f" and {more:,} more" if more > 0 else "")
    return f"partition{'' if len(keys) == 1 else 's'} {named}"


def _without_defaults(**values: Any) -> dict[str, Any]:
    defaults = TableVersion()
    return {name: value for name, value in values.items() if value != getattr(defaults, name)}
