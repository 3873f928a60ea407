"""Texts of table files, as their parser reads them: the table that they declare, or what is wrong with them."""

from pathlib import Path

import pytest

from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster.model.table import AnalyticsTable


def with_front_matter(front_matter: str, sql: str = "select 1 as id") -> str:
    return f"/* elt\n{front_matter}\nelt */\n{sql}\n"


def parse(text: str, *, table: str = "orders") -> AnalyticsTable:
    return parse_table_file(Path("t.sql"), text, schema="analytics", table=table)


def problems_of(text: str, *, table: str = "orders") -> list[str]:
    with pytest.raises(TableProblemsError) as caught:
        parse(text, table=table)
    return [str(problem) for problem in caught.value.problems]
