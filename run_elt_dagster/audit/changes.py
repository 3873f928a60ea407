"""The check `changes`: how far the candidate's rows are from those that readers see. One statement answers it.

Pure: `audit.runner` and `audit.partitioned` ask it, once the catalogue has named the columns of both tables. `audit.difference` has
the SQL.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from run_elt_dagster.audit.difference import FLOAT_TOLERANCE, ColumnTotals, Comparison, RowDifference, Totals
from run_elt_dagster.audit.plan import Audit, Audited, AuditOutcome, Bounds, Number, Numbers
from run_elt_dagster.model.checks import Changes, Limit
from run_elt_dagster.model.counted import counted
from run_elt_dagster.model.names import display_name, stored_name

_WHOLE = 100
Group = tuple[str, str] | tuple[()]


@dataclass(frozen=True, kw_only=True)
class ChangesAudit(Audit):
    """Whether no more rows are added, removed and changed than the file allows.

    Attributes:
        key: Stored names of the columns that find the row of before; none to compare totals.
        rule: What is allowed.
    """

    key: tuple[str, ...]
    rule: Changes

    @property
    def is_asked_late(self) -> bool:
        """Its statement names the columns of both tables."""
        return True

    @property
    def is_plotted(self) -> bool:
        """Each of its numbers is worth a curve."""
        return True

    def asks(self, audited: Audited, group: Group = ()) -> str:
        """Return the one statement; empty where there is nothing to compare with.

        Args:
            audited: The candidate, and what readers see.
            group: Two expressions for the partition of a row, in the candidate and in the published table. The answer then has a
                row for each partition, its number first.
        """
        if self._obstacle(audited) is not None:
            return ""
        comparison = self._comparison(audited, group)
        return comparison.counts_sql() if self.key else comparison.totals_sql()

    def judge(self, numbers: Numbers, audited: Audited) -> AuditOutcome:
        """Return whether every number is inside its limit; where nothing could be compared, what that means."""
        obstacle = self._obstacle(audited)
        if obstacle is not None:
            return obstacle
        comparison = self._comparison(audited)
        # A partition that has no row on either side is in no group of the answer.
        values = numbers.values or (0,) * _width(comparison)
        found = _Found(self.rule)
        if self.key:
            found.compare_rows(comparison, comparison.row_difference(values), base=audited.base)
        else:
            found.compare_totals(comparison.totals(values))
        if not found.got["rows_before"]:
            return AuditOutcome(
                self, {}, numbers.query_id, note=f"the {audited.earlier.words} has no rows to compare with"
            )
        # Without the query: of a wide table it is longer than Dagster should keep, and `run-elt diff` shows more than it.
        return AuditOutcome(
            self,
            found.got,
            numbers.query_id,
            found=found.words if found.over else None,
            summary=found.words,
        )

    def _comparison(self, audited: Audited, group: Group = ()) -> Comparison:
        if audited.published is None:
            raise ValueError(f"check {self.name} requires a published table to compare with, got none.")
        return Comparison(
            audited.relation,
            audited.published,
            audited.inspection.candidate_columns,
            audited.inspection.target_columns,
            self.key,
            audited.replaced,
            only=None if self.rule.max_changed is not None else tuple(map(stored_name, self.rule.columns)),
            ignored=tuple(map(stored_name, self.rule.ignore)),
            group=group,
        )

    def _obstacle(self, audited: Audited) -> AuditOutcome | None:
        """Return the verdict where nothing can be compared: without a published table it passes, otherwise it fails."""
        if audited.is_target:
            return AuditOutcome(self, {}, note="there is no other table to compare with")
        there, built = audited.inspection.target_columns, audited.inspection.candidate_columns
        if audited.published is None or not there:
            return AuditOutcome(self, {}, note=f"there is no {audited.earlier.words} to compare with")
        if not built:
            return AuditOutcome(self, {}, error=f"the catalogue has no columns of {audited.relation}")
        missing = [
            name for name in map(stored_name, self.rule.columns) if name not in {column.name for column in built}
        ]
        if missing:
            return AuditOutcome(self, {}, found=f"no column {', '.join(missing)}, expected one to compare")
        if missing_key := self._comparison(audited).missing_key:
            found = f"no column {', '.join(missing_key)} in both {audited.relation} and {audited.published}, expected the key"
            return AuditOutcome(self, {}, found=found)
        return None


def _width(comparison: Comparison) -> int:
    """Return how many values a row of the answer has."""
    if comparison.key:
        return 6 + len(comparison.compared)
    return 2 + sum(4 if comparison.has_sum(name) else 2 for name in comparison.compared)


@dataclass
class _Found:
    """What was counted, in words and as numbers.

    Attributes:
        rule: What is allowed.
        got: Each number, by the name that Dagster plots it under.
        over: What is more than its limit, in words.
        within: What is not.
    """

    rule: Changes
    got: dict[str, Number | None] = field(default_factory=dict[str, Number | None])
    over: list[str] = field(default_factory=list[str])
    within: list[str] = field(default_factory=list[str])

    @property
    def words(self) -> str:
        """It in a line, what is too much first."""
        return "; ".join([*self.over, *self.within])

    def compare_rows(self, comparison: Comparison, rows: RowDifference, *, base: int | None) -> None:
        """Take what was counted by key.

        Args:
            comparison: What was compared.
            rows: What was counted.
            base: How many rows a share is of, None for those of the published table that were compared.
        """
        of = rows.old_rows if base is None else base
        self.got |= {"rows_before": of, "rows_after": of + rows.new_rows - rows.old_rows}
        self._count("rows_added", rows.added, f"{counted(rows.added, 'rows')} added", self.rule.max_added, of=of)
        self._count(
            "rows_removed",
            rows.removed,
            f"{rows.removed:,} of {counted(of, 'rows')} removed",
            self.rule.max_removed,
            of=of,
        )
        if self.rule.max_changed is not None:
            self._count(
                "rows_changed",
                rows.changed,
                f"{rows.changed:,} of {counted(of, 'rows')} changed",
                self.rule.max_changed,
                of=of,
            )
        if rows.repeated:
            words = f"{rows.repeated:,} key{'' if rows.repeated == 1 else 's'} with several rows, not compared"
            self._count("keys_repeated", rows.repeated, words, Limit(number=0, is_share=False), of=of)
        counts, limits = dict(rows.by_column), {stored_name(name): limit for name, limit in self.rule.columns.items()}
        for name in comparison.compared:
            said, count = display_name(name).lower(), counts.get(name, 0)
            if name in limits or count:
                self._count(f"changed_{said}", count, f"{count:,} with another {said}", limits.get(name), of=of)
        self._tell_new_columns(comparison.compared)

    def compare_totals(self, totals: Totals) -> None:
        """Take what was counted of all rows."""
        of, more = totals.old_rows, totals.new_rows - totals.old_rows
        self.got |= {"rows_before": of, "rows_after": totals.new_rows}
        self._count("rows_added", max(more, 0), f"{counted(max(more, 0), 'rows')} more", self.rule.max_added, of=of)
        self._count(
            "rows_removed",
            max(-more, 0),
            f"{max(-more, 0):,} of {counted(of, 'rows')} fewer",
            self.rule.max_removed,
            of=of,
        )
        limits = {stored_name(name): limit for name, limit in self.rule.columns.items()}
        for name, column in totals.columns.items():
            said = display_name(name).lower()
            for what, words, change in _changes_of(column):
                self._share(f"{what}_{said}_change_percent", change, words.format(said), limits[name])
        self._tell_new_columns(totals.columns)

    def _count(self, name: str, count: int, words: str, limit: Limit | None, *, of: int) -> None:
        self.got[name] = count
        if limit is None or limit.allows(count, of=of):
            self.within.append(words)
            return
        share = f"{_percent(_WHOLE * count / of, limit)}, " if limit.is_share and of else ""
        self.over.append(f"{words} ({share}at most {limit})")

    def _share(self, name: str, change: float, words: str, limit: Limit) -> None:
        is_known = math.isfinite(change)
        self.got[name] = round(change, 4) + 0.0 if is_known else None
        off = f"{_percent(change, limit)} off" if is_known else "off from 0, or no number"
        if abs(change) <= limit.number:
            self.within.append(f"{words} {off}")
        else:
            self.over.append(f"{words} {off} (at most {limit})")

    def _tell_new_columns(self, compared: Sequence[str] | Mapping[str, Any]) -> None:
        new = [name for name in self.rule.columns if stored_name(name) not in compared]
        self.within += [f"{name} is new" for name in new]


def _changes_of(column: ColumnTotals) -> Iterator[tuple[str, str, float]]:
    """Yield how far the totals of a column are from those of before: a name, words and percent."""
    if column.sums is not None:
        yield "sum", "the sum of {}", _change(*column.sums)
    yield "distinct", "the number of values of {}", _change(*column.distinct)


def _change(new: Any, old: Any) -> float:
    """Return a change in percent. NaN is NaN; a change from nothing, from NaN or from an infinite number is infinite."""
    after, before = float(new or 0), float(old or 0)
    if after == before or (math.isnan(after) and math.isnan(before)):
        return 0.0
    if not (math.isfinite(after) and math.isfinite(before)) or before == 0:
        return math.inf
    if math.isclose(after, before, rel_tol=float(FLOAT_TOLERANCE)):
        return 0.0
    return _WHOLE * (after - before) / abs(before)


def _percent(value: float, limit: Limit) -> str:
    """Return a percentage in words; with more digits where two would put it on the other side of its limit."""
    bounds = Bounds(min=-limit.number, max=limit.number)
    short = bounds.rounded(value, 2)
    text = f"{short:,.2f}" if short == round(value, 2) else f"{short:,.9f}"
    return text.rstrip("0").rstrip(".") + " %"
