"""How often the check `usual` is wrong, measured on series that others have published: `python -m benchmarks.usual --nab FOLDER --wikipedia FILE`.

FOLDER is a checkout of https://github.com/numenta/NAB (MIT license): taxi passengers of New York and mentions of companies on Twitter, summed
by day. FILE is `examples/example_wp_log_peyton_manning.csv` of https://github.com/facebook/prophet (MIT license): logarithms of the views of a page of
Wikipedia by day. `--sessions FILE` takes the sample data of this project as a CSV of `date,sessions`.

Each day is asked about with the days before it, as a run would ask. Days are published whatever the check says, as with `severity: warn`. Then
each day is asked about once more as it would be after an incident: a part is missing, or a part came twice.
"""

import argparse
import csv
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from time import process_time

from run_elt_dagster.audit.usual import VERSIONS_USED, Version, usual_of

# What happened in New York: https://github.com/numenta/NAB, labels/combined_labels.json, realKnownCause/nyc_taxi.csv
INCIDENTS = {
    "marathon": date(2014, 11, 2),
    "Thanksgiving": date(2014, 11, 27),
    "Christmas": date(2014, 12, 25),
    "New Year": date(2015, 1, 1),
    "snow storm": date(2015, 1, 27),
}
# What an incident leaves of a day's rows.
DAMAGES = {"a tenth came": 0.1, "half came": 0.5, "80 % came": 0.8, "30 % came twice": 1.3, "all came twice": 2.0}
COMPANIES = ("AAPL", "AMZN", "CRM", "CVS", "FB", "GOOG", "IBM", "KO", "PFE", "UPS")


@dataclass(frozen=True)
class Measured:
    """What the check said of a series.

    Attributes:
        asked: How many days it was asked about.
        alarms: The days that were not as usual.
        found: Which share of the damaged days was not as usual, by damage.
        seconds: CPU seconds of a question.
    """

    asked: int
    alarms: tuple[date, ...]
    found: dict[str, float]
    seconds: float


def measured(series: Sequence[Version]) -> Measured:
    """Return what the check says of each day of a series, and of each day damaged."""
    asked, alarms, seconds = 0, list[date](), 0.0
    found = dict.fromkeys(DAMAGES, 0)
    for place, version in enumerate(series):
        began = process_time()
        usual = usual_of(series[max(place - VERSIONS_USED, 0) : place], version.day, metric="rows")
        seconds += process_time() - began
        if usual is None:
            continue
        asked += 1
        if not usual.low <= version.value <= usual.high:
            alarms.append(version.day)
        for name, factor in DAMAGES.items():
            found[name] += not usual.low <= version.value * factor <= usual.high
    return Measured(asked, tuple(alarms), {name: count / asked for name, count in found.items()}, seconds / len(series))


def by_day(path: Path) -> list[Version]:
    """Return the sums of the days of a CSV of NAB; the first and the last one are cut off, and left out."""
    sums: dict[date, float] = {}
    with path.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            day = date.fromisoformat(row["timestamp"][:10])
            sums[day] = sums.get(day, 0.0) + float(row["value"])
    return [Version(day, value) for day, value in sorted(sums.items())][1:-1]


def of_column(path: Path, day: str, value: str, *, is_logarithm: bool = False) -> list[Version]:
    """Return a CSV with a row for each day."""
    with path.open(encoding="utf-8") as lines:
        rows = [(date.fromisoformat(row[day]), float(row[value])) for row in csv.DictReader(lines)]
    return [Version(at, round(math.exp(number)) if is_logarithm else number) for at, number in rows]


def all_series(arguments: argparse.Namespace) -> Iterator[tuple[str, list[Version]]]:
    """Yield the name and the days of each series."""
    yield "taxi passengers, New York", by_day(arguments.nab / "data" / "realKnownCause" / "nyc_taxi.csv")
    for company in COMPANIES:
        yield f"mentions of {company}", by_day(arguments.nab / "data" / "realTweets" / f"Twitter_volume_{company}.csv")
    if arguments.wikipedia:
        yield "views of a page", of_column(arguments.wikipedia, "ds", "y", is_logarithm=True)
    if arguments.sessions:
        yield "sessions of the sample data", of_column(arguments.sessions, "date", "sessions")


def row(name: str, days: int, result: Measured) -> str:
    """Return a line of the table."""
    found = " | ".join(f"{share:.0%}" for share in result.found.values())
    return f"| {name} | {days} | {result.asked} | {len(result.alarms)} ({len(result.alarms) / result.asked:.1%}) | {found} |"


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nab", type=Path, required=True)
    parser.add_argument("--wikipedia", type=Path)
    parser.add_argument("--sessions", type=Path)
    print(
        f"| series | days | asked | not as usual | {' | '.join(DAMAGES)} |\n| --- | --- | --- | --- |{' --- |' * len(DAMAGES)}"
    )
    taxi = None
    for name, series in all_series(parser.parse_args()):
        result = measured(series)
        taxi = taxi or result
        print(row(name, len(series), result), f"<!-- {1000 * result.seconds:.1f} ms -->", flush=True)
    assert taxi is not None  # noqa: S101 - the folder is required
    for name, day in INCIDENTS.items():
        near = [each for each in taxi.alarms if abs(each - day) <= timedelta(days=1)]
        print(f"{name}, {day}: {', '.join(map(str, near)) or 'not found'}")
    others = [
        str(each) for each in taxi.alarms if all(abs(each - day) > timedelta(days=1) for day in INCIDENTS.values())
    ]
    print(f"other days: {', '.join(others) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
