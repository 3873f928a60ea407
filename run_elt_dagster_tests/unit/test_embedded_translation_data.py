"""The files of `dialect/data`: what a reader of them takes for granted."""

import re
from collections import Counter
from importlib.resources import files

import pytest

import run_elt_dagster.dialect  # noqa: F401 - it registers what Python translates
from run_elt_dagster.dialect import calls, catalogue
from run_elt_dagster.dialect.catalogue import FORMS, GROUPS, PARTS, REFUSED, SIGNATURES, Signature

DATA = files("run_elt_dagster.dialect") / "data"
WAYS = [way for ways in SIGNATURES.values() for way in ways]
PAGE = re.compile(r"[a-z0-9_]+(-[a-z0-9_]+)*")
# They stand in FROM alone, so no call translates them.
IN_FROM = {"FLATTEN", "GENERATOR", "SPLIT_TO_TABLE", "STRTOK_SPLIT_TO_TABLE"}
RESULT = re.compile(r"=|wide|\$[0-9]|number\(\d+,\d+\)")


def texts(ending: str) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in DATA.iterdir() if path.name.endswith(ending)}


def named(way: Signature) -> str:
    return f"{way.name}({' '.join(parameter.type for parameter in way.parameters)})"


def test_every_file_of_functions_has_its_group() -> None:
    assert {f"{group}.tsv" for group in GROUPS} == set(texts(".tsv")) - {"refused.tsv", "parts.tsv", "formats.tsv"}
    assert set(texts(".sql")) <= {f"{group}.sql" for group in GROUPS}


@pytest.mark.parametrize("group", [*GROUPS, "refused"])
def test_line_has_all_its_fields_and_a_page(group: str) -> None:
    head, *lines = texts(".tsv")[f"{group}.tsv"].splitlines()
    for line in lines:
        fields = line.split("\t")
        assert len(fields) == len(head.split("\t")), line
        assert re.fullmatch(r"[A-Z][A-Z0-9_$]*", fields[0]), line
        assert PAGE.fullmatch(fields[-1]), line


@pytest.mark.parametrize("way", WAYS, ids=named)
def test_way_of_calling_has_known_types_and_sql_that_fits(way: Signature) -> None:
    groups = {group for _, group in PARTS.values()}
    for parameter in way.parameters:
        kind, *parts = parameter.type.split("_")
        known = set(parts) <= groups if kind == "part" else parameter.type in {*calls._TAKES, "=", "'"}  # noqa: SLF001
        assert known, parameter
    assert not [parameter for parameter in way.parameters[:-1] if parameter.repeated]
    assert way.sql == "refused" or way.result in calls._NAMED or RESULT.fullmatch(way.result)  # noqa: SLF001
    places = {int(place) for place in re.findall(r"\{(\d)", way.sql)}
    assert way.takes(max(places, default=-1) + 1) or max(places, default=0) < len(way.parameters)


def test_function_that_python_translates_has_a_line_and_its_translation() -> None:
    assert set(FORMS) == {*calls._FORMS, *IN_FROM}  # noqa: SLF001


def test_refused_function_is_no_known_one() -> None:
    assert not set(REFUSED) & {*SIGNATURES, *FORMS}


def test_macro_has_a_name_of_its_own() -> None:
    names = re.findall(r"^CREATE OR REPLACE MACRO @(\w+)\(", "\n".join(texts(".sql").values()), re.MULTILINE)
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert set(catalogue.macros()) == {"sf_fail", *(f"sf_{name}" for name in names)}


def test_macro_that_is_called_exists() -> None:
    statements = catalogue.macros()
    used = [*statements.values(), *(catalogue.with_macros(way.sql) for way in WAYS)]
    names = {name for sql in used for name in catalogue.called_macros(sql)}
    # The name of a part of a date stands in some.
    assert {name for name in names if not name.endswith("_")} <= set(statements)
