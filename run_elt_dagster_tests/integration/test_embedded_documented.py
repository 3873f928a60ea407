"""What Snowflake documents: right, or refused in the server's own words, and nothing else."""

import pytest

from run_elt_dagster_tests.support.documented import FOLDER, Documented, documented
from run_elt_dagster_tests.support.embedded import Session, account, session
from run_elt_dagster_tests.support.embedded import shipped_server as server

__all__ = ["account", "server", "session"]

REFUSED = set((FOLDER / "refused.txt").read_text(encoding="utf-8").splitlines())
AN_ERROR = "an error"
UNSUPPORTED = 2


@pytest.mark.parametrize("line", documented(), ids=lambda line: f"{line.page}: {line.expression[:60]}")
def test_documented_value_is_right_or_refused(session: Session, line: Documented) -> None:
    if line.value == AN_ERROR:
        assert session.refused(line.query) >= UNSUPPORTED
    elif line.expression in REFUSED:
        error = session.error(line.query)
        assert error.errno == UNSUPPORTED, error
        assert "The embedded Snowflake cannot" in str(error)
    else:
        assert line.agrees(session.sql(line.query)), session.sql(line.query)


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in documented()
        if line.value != AN_ERROR and line.expression not in REFUSED and " / " not in line.value
    ],
    ids=lambda line: f"{line.page}: {line.expression[:60]}",
)
def test_table_that_is_built_holds_the_same_value(session: Session, line: Documented) -> None:
    rows = session.sql(line.query)
    names = ", ".join(f"c{index}" for index in range(len(rows[0])))
    session.sql(f"create table built ({names}) as {line.query}")
    assert line.agrees(session.sql("select * from built")), session.sql("select * from built")


def test_documented_lines_are_mostly_right() -> None:
    lines = documented("reference.tsv")
    right = [line for line in lines if line.expression not in REFUSED]
    assert len(lines) >= 300
    assert len(right) >= 0.9 * len(lines)
    assert {line.expression for line in documented()} >= REFUSED
