"""Looks at a long history: they take as much of Dagster's storage as looks at a short one."""

from dataclasses import replace
from pathlib import Path

import pytest

from run_elt_dagster_tests.support.effort import effort
from run_elt_dagster_tests.support.empty_history import empty_history
from run_elt_dagster_tests.support.long_history import Size, fill
from run_elt_dagster_tests.support.looks import Looks
from run_elt_dagster_tests.support.storage_work import Work, work

# Not counted: Dagster on SQLite finds a tag that it changes by its name alone, among those of all runs (1.13.27), and the doctor
# says how many runs there are.
UNCOUNTED = ("a new failure", "a lost run", "doctor")


def work_of_looks(home: Path, storage: str, size: Size) -> dict[str, Work]:
    """Return what each look at a history of this size takes, the second time."""
    home.mkdir()
    found: dict[str, Work] = {}
    with empty_history(home, storage) as (harness, server):
        fill(harness, size)
        for name, prepare in Looks(harness, home).all.items():
            prepare()()
            look = prepare()
            with work(server.rows_read if server else None) as found[name]:
                look()
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("storage", ["sqlite", "postgres"])
def test_looks_take_as_much_of_the_storage_however_many_runs_it_has(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each open incident took eleven statements of every tick."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    few = Size(effort(usual=200, thorough=10_000), tables=effort(usual=20, thorough=200), open_incidents=1, days=3)
    many = replace(few, runs=few.runs * 10, days=few.days * 10, open_incidents=few.tables // 2)
    short, long = (work_of_looks(tmp_path / str(size.runs), storage, size) for size in (few, many))
    assert {name: each.statements for name, each in long.items()} == {n: each.statements for n, each in short.items()}
    counted = {name: (short[name].steps, long[name].steps) for name in long if not any(p in name for p in UNCOUNTED)}
    # Postgres reads small tables whole, so a short history says nothing there: no look reads what failed in all the time.
    most = many.runs // 10 if storage == "postgres" else None
    grown = {name: (few_, many_) for name, (few_, many_) in counted.items() if many_ > (most or 3 * few_ + 200)}
    assert grown == {}
