"""Several processes read what one would; a helper that fails costs time alone."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from run_elt_dagster.model import lineage, parallel_reads
from run_elt_dagster.model.file_cache import Reads
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.model.parallel_reads import helpers_for, read_many, started
from run_elt_dagster.model.reads import reads_of

TEXTS = [
    *(f'select * from raw.t_{number} join "Ré\ud83d".x on true' for number in range(100)),
    "select * from orders",
    "select * from identifier($x)",
    "select 'never closed",
    "selec nothing",
    "select\n* from a.b\nunion all select * from db..c",
]
# The helper itself, which leaves a file where it begins to read.
_LEAVES_A_MARK = """
import pathlib, sys
from run_elt_dagster.model import parallel_reads, reads
read = reads.reads_of
def reads_of(sql):
    pathlib.Path(sys.argv[1]).touch()
    return read(sql)
reads.reads_of = reads_of
parallel_reads.serve()
"""


def test_helper_reads_a_part_and_everything_is_read_as_by_one_process(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    read_here: list[str] = []

    def read(sql: str) -> Reads:
        deadline = time.monotonic() + 60
        while not mark.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        read_here.append(sql)
        return reads_of(sql)

    with started(1, command=(sys.executable, "-c", _LEAVES_A_MARK, str(mark))) as processes:
        found = read_many(TEXTS, read, processes=processes)
    (process,) = processes
    assert process.returncode is not None
    assert found == {text: reads_of(text) for text in TEXTS}
    assert 0 < len(read_here) < len(TEXTS)


def test_folder_read_by_several_processes_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s").mkdir()
    for number in range(60):
        (tmp_path / "s" / f"t_{number}.sql").write_text(
            f"/* elt\nchecks: {{sql: {{q: 'select * from {{table}} join a.b_{number} using (id)'}}}}\nelt */\nselect * from c.d_{number}"
        )
    alone = load_tables(tmp_path)
    helped: list[int] = []
    monkeypatch.setattr(lineage, "helpers_for", lambda count: helped.append(count) or 1)
    assert load_tables(tmp_path).upstream == alone.upstream
    assert load_tables(tmp_path, cache_dir=tmp_path / "cache").upstream == alone.upstream
    # All is remembered: nothing is left to share.
    assert load_tables(tmp_path, cache_dir=tmp_path / "cache").upstream == alone.upstream
    # Once for the files, before they are read, and once for their texts.
    assert helped == [60, 120, 60, 120, 0]


@pytest.mark.parametrize(
    ("processors", "count", "helpers"), [(8, 499, 0), (1, 5000, 0), (2, 5000, 1), (8, 1000, 2), (8, 9000, 3)]
)
def test_helpers_are_started_where_they_are_worth_it(
    monkeypatch: pytest.MonkeyPatch, processors: int, count: int, helpers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)), raising=False)
    assert helpers_for(count) == helpers


@pytest.mark.parametrize(
    "command",
    [
        ("/nowhere/python",),
        (sys.executable, "-c", "raise SystemExit(1)"),
        (sys.executable, "-c", "import sys; sys.stdin.readline(); print('no JSON', flush=True)"),
        (sys.executable, "-c", "import sys; sys.stdin.readline(); print('[[[], []]]', flush=True)"),
        (sys.executable, "-c", "import sys; sys.stdin.readline(); print('[' + '7,' * 19 + '7]', flush=True)"),
    ],
    ids=["is not there", "ends", "answers no JSON", "answers less", "answers something else"],
)
def test_helper_that_fails_takes_no_text_with_it(command: Sequence[str]) -> None:
    with started(1, command=command) as processes:
        found = read_many(TEXTS, reads_of, processes=processes)
    assert found.items() <= {text: reads_of(text) for text in TEXTS}.items()
    # What is left out is what the helper had taken.
    assert len(found) >= len(TEXTS) - 20


def test_helper_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_reads, "_PATIENCE_SECONDS", 0.1)
    command = (sys.executable, "-c", "import time; time.sleep(600)")
    with started(1, command=command) as processes:
        assert len(read_many(TEXTS, reads_of, processes=processes)) >= len(TEXTS) - 20
