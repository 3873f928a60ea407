"""The check `usual`: whether a number of a candidate is as usual, by the versions that were published before it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from run_elt_dagster.audit.plan import Audited, AuditOutcome, Bounds, Number, Numbers, ScanAudit
from run_elt_dagster.audit.usual import VERSIONS_NEEDED, VERSIONS_USED, Metric, Usual, Version, one_a_day, usual_of
from run_elt_dagster.model.partitions import Partition, Partitioning, Slice
from run_elt_dagster.model.past import PublishedNumbers

# Of a partition by hour, the same hours of so many days are read.
_DAYS_OF_HOURS = 30
_HOURS = 24


@dataclass(frozen=True, kw_only=True)
class UsualAudit(ScanAudit):
    """Whether one number is as usual. The outcome has the bounds that were learned, and says from what.

    Attributes:
        metric: What the number is.
        number: The name of the number in what is recorded of a version.
        since: Older versions teach nothing.
    """

    metric: Metric
    number: str
    since: date | None = None

    def judge(self, numbers: Numbers, audited: Audited) -> AuditOutcome:
        """Return whether the number is inside of what is usual; it passes with a word where that is not known."""
        outcome = super().judge(numbers, audited)
        if audited.is_target:
            return replace(outcome, note="what is published is not compared with itself")
        if audited.versions is None:
            return replace(outcome, note="what was published before is not known here")
        past = self.past_of(audited.versions)
        usual = usual_of(past, audited.day, metric=self.metric)
        if usual is None:
            known = len(one_a_day(past, audited.day))
            return replace(outcome, note=f"{known} of {VERSIONS_NEEDED} days with a published version are known")
        (measure,) = self.measures
        value = outcome.got[measure.counts]
        learned = replace(self, measures=(replace(measure, bounds=Bounds(usual.low, usual.high)),))
        return replace(outcome, audit=learned, words=(self._found(value, usual), self._expected(usual)))

    def past_of(self, versions: Sequence[PublishedNumbers]) -> list[Version]:
        """Return this number of the versions that have it, and are to be learned from."""
        since = self.since or date.min
        return [
            Version(each.day, each.numbers[self.number])
            for each in versions
            if self.number in each.numbers and each.day >= since
        ]

    def _found(self, value: Number | None, usual: Usual) -> str:
        (measure,) = self.measures
        return f"{self._number_words(value, measure.counts)}{f' on a {usual.day}' if usual.day else ''}"

    def _number_words(self, value: Number | None, counts: str) -> str:
        if value is None:
            return f"no {counts}"
        if self.metric == "sum":
            return f"a {counts} of {self._said(value)}"
        return f"{self._said(value)} {counts.removeprefix('share of ')}"

    def _expected(self, usual: Usual) -> str:
        return f"{self._said(usual.low)} to {self._said(usual.high)} over {usual.words}"

    def _said(self, value: Number) -> str:
        if self.metric == "null_rate":
            return f"{100 * value:.2f} %"
        short = round(value, 2)
        return f"{short:,.0f}" if math.isfinite(short) and short == int(short) else f"{short:,.2f}"


def partitions_compared(partitions: Partitioning, part: Slice) -> list[str]:
    """Return the keys of the partitions that a slice is compared with: those before its last one, of hours the same hours."""
    if partitions.by != "hour":
        return [each.key for each in partitions.last(part.end, VERSIONS_USED + len(part.partitions))]
    hours = {each.start.hour for each in part.partitions}
    found = partitions.last(part.end, _DAYS_OF_HOURS * _HOURS + len(part.partitions))
    return [each.key for each in found if each.start.hour in hours]


def same_hour(versions: Sequence[PublishedNumbers] | None, partition: Partition) -> Sequence[PublishedNumbers] | None:
    """Return the versions of the hour of a partition; all of them where partitions are days or longer."""
    hour = partition.key[len("2024-01-01") :]
    return None if versions is None else [each for each in versions if each.hour == hour]


def numbers_of(audits: Sequence[AuditOutcome]) -> Mapping[str, Number]:
    """Return what is recorded of a published version, for later ones to learn from and to plot: the numbers and their usual bounds.

    The number of rows is recorded anyway.
    """
    found: dict[str, Number | None] = {}
    for outcome in audits:
        if isinstance(outcome.audit, UsualAudit):
            (measure,) = outcome.audit.measures
            if outcome.audit.number != "rows":
                found[outcome.audit.number] = outcome.got.get(measure.counts)
            bounds = {"low": measure.bounds.min, "high": measure.bounds.max}
            found |= {f"{outcome.audit.name}_{end}": bound for end, bound in bounds.items()}
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}
