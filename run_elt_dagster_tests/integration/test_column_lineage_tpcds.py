"""Where the columns of the 99 queries of TPC-DS come from."""

from collections import Counter
from pathlib import Path

import pytest

from run_elt_dagster_tests.support.column_lineage import lineage_of, lines, truth
from run_elt_dagster_tests.support.tpc import columns_in, tpcds

pytestmark = pytest.mark.thorough


def test_queries_of_tpcds_are_as_they_were_read_by_hand(tmp_path: Path) -> None:
    found = tpcds(tmp_path, scale=0)
    if isinstance(found, str):
        pytest.skip(f"DuckDB's extension tpcds is not to be had: {found}")
    tables, written = columns_in(found.folder), truth()
    read = {f"ds{at:02}": lines(lineage_of(sql, tables)) for at, sql in enumerate(found.queries, start=1)}
    compared = {name: columns for name, columns in read.items() if name in written}
    assert len(compared) == 22
    assert compared == {name: written[name] for name in compared}
    assert Counter(origin is not None for columns in read.values() for _, origin in columns) == {True: 618}

    # Without the columns of a table, each column is as before or absent.
    for at, sql in enumerate(found.queries, start=1):
        for hidden in ({"date_dim"}, {"item", "customer"}, {"store_sales", "catalog_sales"}):
            less = lines(lineage_of(sql, tables, hidden=hidden))
            whole = read[f"ds{at:02}"]
            assert [origin in (None, known) for (_, origin), (_, known) in zip(less, whole, strict=True)] == [
                True
            ] * len(whole)
