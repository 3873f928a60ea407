"""What Snowflake documents: right, or refused in the server's own words, and nothing else."""

from collections.abc import Sequence

import pytest
from snowflake.connector.errors import Error

from run_elt_dagster_tests.support.documented import FOLDER, Documented, documented
from run_elt_dagster_tests.support.effort import effort
from run_elt_dagster_tests.support.embedded import Session, account, session
from run_elt_dagster_tests.support.embedded import shipped_server as server

__all__ = ["account", "server", "session"]

REFUSED = set((FOLDER / "refused.txt").read_text(encoding="utf-8").splitlines())
AN_ERROR = "an error"
UNSUPPORTED = 2
# One session for so many lines: one for each would take ten times as long.
LINES = 60
REFERENCE = "reference.tsv"
OTHERS = sorted({path.name for path in FOLDER.glob("*.tsv")} - {REFERENCE})
# As many lines as there is time for.
CHUNKS = [
    pytest.param(lines[start : start + LINES], id=f"{file}-{start}")
    for file in (REFERENCE, *OTHERS)
    for lines in [documented(file)[:: effort(usual=2 if file == REFERENCE else 9, thorough=1)]]
    for start in range(0, len(lines), LINES)
]


def trouble(session: Session, line: Documented) -> str:
    """Return what is wrong with a line, empty if nothing is."""
    try:
        rows = session.sql(line.query)
    except Error as error:
        if line.value == AN_ERROR:
            return ""
        is_refused = error.errno == UNSUPPORTED and "The embedded Snowflake cannot" in str(error)
        return "" if line.expression in REFUSED and is_refused else f"{line.expression}: {error}"
    if line.expression in REFUSED or line.value == AN_ERROR or not line.agrees(rows):
        return f"{line.expression}: got {rows}, expected {line.value}"
    return ""


def trouble_in_a_table(session: Session, line: Documented) -> str:
    """Return what is wrong with a table that is built of a line, empty if nothing is."""
    try:
        names = ", ".join(f"c{index}" for index, _ in enumerate(session.columns(line.query)))
        session.sql(f"create or replace table built ({names}) as {line.query}")
        rows = session.sql("select * from built")
    except Error as error:
        return f"{line.expression}: {error}"
    return "" if line.agrees(rows) else f"{line.expression}: got {rows}, expected {line.value}"


@pytest.mark.parametrize("lines", CHUNKS)
def test_documented_value_is_right_or_refused(session: Session, lines: Sequence[Documented]) -> None:
    assert [found for line in lines if (found := trouble(session, line))] == []


@pytest.mark.parametrize("lines", CHUNKS)
def test_table_that_is_built_holds_the_same_value(session: Session, lines: Sequence[Documented]) -> None:
    built = [
        line
        for line in lines[:: effort(usual=12, thorough=1)]
        if line.value != AN_ERROR and line.expression not in REFUSED and " / " not in line.value
    ]
    assert [found for line in built if (found := trouble_in_a_table(session, line))] == []


def test_documented_lines_are_mostly_right() -> None:
    lines = documented("reference.tsv")
    right = [line for line in lines if line.expression not in REFUSED]
    assert len(lines) >= 300
    assert len(right) >= 0.9 * len(lines)
    assert {line.expression for line in documented()} >= REFUSED
