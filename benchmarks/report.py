"""Medians, ratios, tables and verdicts out of measured rounds. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.clients import BARE, BEFORE, DAGSTER_DBT, DBT, POSTGRES, PROJECT, RAW

Rounds = Sequence["Round"]
THREADS = 8


@dataclass(frozen=True)
class Scenario:
    """What is measured: so many tables of a kind, at a latency, with a way of answering.

    Attributes:
        count: Tables.
        kind: `trivial` or `realistic`.
        with_latency: Whether statements take time.
        answers: `replay` or `execute`.
    """

    count: int
    kind: str
    with_latency: bool
    answers: str = "replay"


@dataclass(frozen=True)
class Round:
    """One measured run of one client.

    Attributes:
        scenario: What was measured.
        number: Rounds are interleaved: those with the same number ran one after another.
        client: Who ran.
        wall_seconds: From start to end.
        cpu_seconds: Of the client's processes.
        peak_mib: Of the client's processes.
        server_cpu_seconds: Of the server meanwhile.
        logins: Sign-ins.
        statements: Statements sent.
        missed: Statements for which no answer had been recorded.
        first_statement_seconds: From the start to the first statement, None without one.
        connections: What Postgres has counted, None for a client without it.
    """

    scenario: Scenario
    number: int
    client: str
    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    server_cpu_seconds: float
    logins: int
    statements: int
    missed: int = 0
    first_statement_seconds: float | None = None
    connections: int | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Round":
        """Return a round as `record` has stored it."""
        values: dict[str, Any] = {**record}
        values["scenario"] = Scenario(**record["scenario"])
        return cls(**values)

    def record(self) -> dict[str, Any]:
        """Return the round as JSON takes it."""
        return asdict(self)


@dataclass(frozen=True)
class Target:
    """What a number should be.

    Attributes:
        text: The target in words.
        concerns: Which scenarios it is about.
        number: The number out of the rounds of one scenario; None where they do not tell.
        limit: What it may be at most.
    """

    text: str
    concerns: Callable[[Scenario], bool]
    number: Callable[[Rounds], float | None]
    limit: float


def middle(rounds: Rounds, client: str, measure: str) -> float | None:
    """Return the median of a client's rounds, None if it did not run or has no such number."""
    found = [getattr(round_, measure) for round_ in rounds if round_.client == client]
    values = [value for value in found if value is not None]
    return median(values) if values else None


def ratio(rounds: Rounds, client: str, other: str, measure: str = "wall_seconds") -> float | None:
    """Return the median of the ratios of two clients within a round, None if they never ran in the same one."""
    return _paired(rounds, client, other, measure, lambda own, others: own / others if others else None)


def difference(rounds: Rounds, client: str, other: str, measure: str = "wall_seconds") -> float | None:
    """Return the median of the differences of two clients within a round, None if they never ran in the same one."""
    return _paired(rounds, client, other, measure, lambda own, others: own - others)


def _paired(
    rounds: Rounds, client: str, other: str, measure: str, compare: Callable[[float, float], float | None]
) -> float | None:
    others = {round_.number: getattr(round_, measure) for round_ in rounds if round_.client == other}
    compared = [
        value
        for round_ in rounds
        if round_.client == client and round_.number in others
        if (value := compare(getattr(round_, measure), others[round_.number])) is not None
    ]
    return median(compared) if compared else None


def _at(count: int, *, with_latency: bool) -> Callable[[Scenario], bool]:
    return lambda scenario: (
        scenario.answers == "replay" and scenario.count == count and scenario.with_latency == with_latency
    )


def _replayed(scenario: Scenario) -> bool:
    return scenario.answers == "replay"


def _spare_statements(rounds: Rounds) -> float | None:
    """Return how many statements a run sent besides four a table."""
    statements = middle(rounds, PROJECT, "statements")
    return None if statements is None else statements - 4 * rounds[0].scenario.count


def _wall(client: str, other: str) -> Callable[[Rounds], float | None]:
    return lambda rounds: ratio(rounds, client, other)


def _first_statement(rounds: Rounds) -> float | None:
    """Return how much later than the end of a bare run of Dagster the first statement is sent, in seconds."""
    ends = {round_.number: round_.wall_seconds for round_ in rounds if round_.client == BARE}
    delays = [
        round_.first_statement_seconds - ends[round_.number]
        for round_ in rounds
        if round_.client == PROJECT and round_.number in ends and round_.first_statement_seconds is not None
    ]
    return median(delays) if delays else None


_LATENCY_200, _NONE_200 = _at(200, with_latency=True), _at(200, with_latency=False)
_LATENCY_1000, _NONE_1000 = _at(1000, with_latency=True), _at(1000, with_latency=False)

TARGETS = (
    Target("wall time, in dbt's", _NONE_200, _wall(PROJECT, DBT), 0.7),
    Target("wall time, in dbt's", _LATENCY_200, _wall(PROJECT, DBT), 0.78),
    Target("wall time, in dagster-dbt's", _LATENCY_200, _wall(PROJECT, DAGSTER_DBT), 0.5),
    Target("wall time, in the floor's", _LATENCY_200, _wall(PROJECT, RAW), 1.15),
    Target("wall time, in dbt's", _at(20, with_latency=True), _wall(PROJECT, DBT), 0.85),
    Target("wall time, in dbt's", _LATENCY_1000, _wall(PROJECT, DBT), 0.85),
    Target("wall time, in dbt's", _NONE_1000, _wall(PROJECT, DBT), 0.7),
    Target("wall time on Postgres, in SQLite's", _replayed, _wall(POSTGRES, PROJECT), 1.0),
    *(
        Target("wall time on Postgres, in SQLite's before", concerns, _wall(POSTGRES, BEFORE), 0.7)
        for concerns in (_NONE_200, _LATENCY_200)
    ),
    Target("connections to Postgres", _replayed, lambda rounds: middle(rounds, POSTGRES, "connections"), 2 * THREADS),
    Target("wall time, in dagster-dbt's", _at(1, with_latency=False), _wall(PROJECT, DAGSTER_DBT), 1.0),
    Target("first statement, seconds after a bare run's end", _at(1, with_latency=False), _first_statement, 0.3),
    Target("statements besides 4 a table", _replayed, _spare_statements, 4),
    Target("logins", _replayed, lambda rounds: middle(rounds, PROJECT, "logins"), 1),
    *(
        Target("peak MiB more than dbt", concerns, lambda rounds: difference(rounds, PROJECT, DBT, "peak_mib"), 20)
        for concerns in (_NONE_200, _LATENCY_200)
    ),
)


def verdicts(rounds: Rounds) -> list[tuple[str, str, str, str]]:
    """Return a row for each target that the rounds of one scenario tell of: the target, its limit, the number, met or not."""
    scenario = rounds[0].scenario
    rows: list[tuple[str, str, str, str]] = []
    for target in TARGETS:
        if target.concerns(scenario) and (number := target.number(rounds)) is not None:
            # What is printed is what counts.
            shown = f"{number:.2f}"
            rows.append((target.text, f"{target.limit:g}", shown, "met" if float(shown) <= target.limit else "not met"))
    return rows


def summary(rounds: Rounds) -> str:
    """Return the medians of one scenario's rounds as a table, and what became of its targets."""
    count = rounds[0].scenario.count
    header = (
        "client",
        "wall s",
        "x floor",
        "x dbt",
        "first statement s",
        "CPU s",
        "server CPU s",
        "peak MiB",
        "logins",
        "statements a table",
        "connections",
    )
    clients = list(dict.fromkeys(round_.client for round_ in rounds))
    rows = [
        (
            client,
            _number(middle(rounds, client, "wall_seconds")),
            _number(ratio(rounds, client, RAW)),
            _number(ratio(rounds, client, DBT)),
            _number(middle(rounds, client, "first_statement_seconds")),
            _number(middle(rounds, client, "cpu_seconds")),
            _number(middle(rounds, client, "server_cpu_seconds")),
            _number(middle(rounds, client, "peak_mib"), decimals=0),
            _number(middle(rounds, client, "logins"), decimals=0),
            _number((middle(rounds, client, "statements") or 0) / count),
            _number(middle(rounds, client, "connections"), decimals=0),
        )
        for client in clients
    ]
    text = rendered(header, rows)
    if judged := verdicts(rounds):
        text += "\n\n" + rendered(("target", "at most", "got", ""), judged)
    if missed := sum(round_.missed for round_ in rounds):
        text += f"\n\n{missed} statements had no recorded answer and were executed: their time is the server's."
    return text


def title(scenario: Scenario, *, latency: str, rounds: Rounds) -> str:
    """Return the heading of a scenario."""
    repeats = len({round_.number for round_ in rounds})
    how = "answers replayed" if scenario.answers == "replay" else "executed by DuckDB"
    return f"{scenario.count} {scenario.kind} tables, {latency}, {how}, median of {repeats}"


def _number(value: float | None, *, decimals: int = 2) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def rendered(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown whose columns are aligned for a terminal too: the first to the left, others to the right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *others = row
        padded = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])
