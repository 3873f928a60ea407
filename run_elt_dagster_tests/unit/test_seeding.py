"""What the columns of a file become, and what is said of a line that is wrong. DuckDB reads the files, in this process."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from run_elt_dagster.dialect.types import Kind, Type
from run_elt_dagster.model.names import Relation
from run_elt_dagster.seeding.declared import Declaration, declaration_of
from run_elt_dagster.seeding.kinds import Facts, Form, declared_kind, kind_of, listed_types
from run_elt_dagster.seeding.loading import Plan, planned


@pytest.fixture
def plan_of(tmp_path: Path) -> Any:
    def plan(name: str, text: str | bytes, types: dict[str, str] | None = None, **options: Any) -> Plan:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return planned(path, Declaration(types or {}), **options)

    return plan


def columns(plan: Plan) -> dict[str, str]:
    return {name: str(kind) for name, kind in plan.columns}


def values(plan: Plan) -> list[tuple[Any, ...]]:
    return duckdb.sql(plan.values_sql).fetchall()


@pytest.mark.parametrize(
    ("cells", "kind", "converted"),
    [
        (["1", "-20", ""], "NUMBER(38,0)", [1, -20, None]),
        (["007", "12"], "VARCHAR", ["007", "12"]),
        (["+49", "12"], "VARCHAR", ["+49", "12"]),
        (["123456789012345678901234", "1"], "NUMBER(38,0)", [123456789012345678901234, 1]),
        (["9" * 39, "1"], "VARCHAR", ["9" * 39, "1"]),
        (["12.50", "3"], "NUMBER(38,2)", [Decimal("12.50"), 3]),
        (["0.1234567890123", "1"], "FLOAT", [0.1234567890123, 1]),
        (["0.12345678901234567890", "1"], "NUMBER(38,20)", [Decimal("0.12345678901234567890"), 1]),
        (["1e3", "2"], "FLOAT", [1000, 2]),
        (["true", "FALSE", ""], "BOOLEAN", [True, False, None]),
        (["yes", "no"], "VARCHAR", ["yes", "no"]),
        (["2026-11-28", "2024-02-29"], "DATE", [date(2026, 11, 28), date(2024, 2, 29)]),
        (["2026-11-28", "2023-02-29"], "VARCHAR", ["2026-11-28", "2023-02-29"]),
        (["28.11.2026", "01/02/2026"], "VARCHAR", ["28.11.2026", "01/02/2026"]),
        (["2026-11-28 10:00", "2026-11-29"], "TIMESTAMP_NTZ", [datetime(2026, 11, 28, 10), datetime(2026, 11, 29)]),  # noqa: DTZ001 - without a zone
        (["2026-11-28 10:00:00.1234567", "2026-11-29"], "VARCHAR", ["2026-11-28 10:00:00.1234567", "2026-11-29"]),
        (
            ["2026-11-28T10:00:00Z", "2026-11-28 10:00:00.5 -05:30"],
            "TIMESTAMP_TZ",
            [
                {"utc": datetime(2026, 11, 28, 10), "offset": 0},  # noqa: DTZ001 - as DuckDB has it
                {"utc": datetime(2026, 11, 28, 15, 30, 0, 500_000), "offset": -330},  # noqa: DTZ001 - likewise
            ],
        ),
        (["12:30", "13:00"], "VARCHAR", ["12:30", "13:00"]),
        (["", ""], "VARCHAR", [None, None]),
    ],
)
def test_type_of_a_csv_column_keeps_every_digit(
    plan_of: Any, cells: list[str], kind: str, converted: list[Any]
) -> None:
    plan = plan_of("cells.csv", "id,cell\n" + "".join(f"x,{cell}\n" for cell in cells))
    assert columns(plan) == {"ID": "VARCHAR", "CELL": kind}
    assert [row[1] for row in values(plan)] == converted


def test_quoted_empty_text_stays_and_an_empty_field_is_null(plan_of: Any) -> None:
    plan = plan_of("empty.csv", '\ufeffText;"Net sales"\r\n"";""\r\n;1\r\n"a;""b""";2\r\n')
    assert columns(plan) == {"TEXT": "VARCHAR", "Net sales": "NUMBER(38,0)"}
    assert values(plan) == [("", None), (None, 1), ('a;"b"', 2)]


def test_json_says_itself_what_is_a_number_and_what_is_text(plan_of: Any) -> None:
    line = '{"id": 12345678901234567890, "code": "12", "tags": [1], "o": {"b": 1}, "is_new": true, "any": 1, "at": "2026-11-28T10:00:00Z"}'
    plan = plan_of("rows.jsonl", f'{line}\n\n{{"any": "x", "none": null}}\n')
    assert columns(plan) == {
        "ID": "NUMBER(38,0)",
        "CODE": "VARCHAR",
        "TAGS": "ARRAY",
        "O": "OBJECT",
        "IS_NEW": "BOOLEAN",
        "ANY": "VARIANT",
        "AT": "TIMESTAMP_TZ",
        "NONE": "VARCHAR",
    }
    first, second = values(plan)
    assert first[:6] == (12345678901234567890, "12", "[1]", '{"b":1}', True, "1")
    assert second[5] == '"x"'


def test_parquet_keeps_its_types(plan_of: Any, tmp_path: Path) -> None:
    duckdb.sql(
        "COPY (SELECT 1::UTINYINT AS a, 1.5::DECIMAL(10, 2) AS b, 1.5::DOUBLE AS c, [1] AS d, {'x': 1} AS e, 'ab'::BLOB AS f, "
        f"'007' AS g, TIMESTAMPTZ '2026-11-28 10:00:00+02' AS h) TO '{tmp_path}/made.parquet'"
    )
    plan = plan_of("rows.parquet", (tmp_path / "made.parquet").read_bytes())
    kinds = ["NUMBER(38,0)", "NUMBER(10,2)", "FLOAT", "ARRAY", "OBJECT", "BINARY", "VARCHAR", "TIMESTAMP_TZ"]
    assert list(columns(plan).values()) == kinds
    ((*found, moment),) = values(plan)
    assert found == [1, Decimal("1.50"), 1.5, "[1]", '{"x":1}', b"ab", "007"]
    assert moment == {"utc": datetime(2026, 11, 28, 8), "offset": 0}  # noqa: DTZ001 - as DuckDB has it


def test_declared_types_convert_what_fits(plan_of: Any) -> None:
    kinds = ("boolean", "object", "array", "binary", "time", "timestamp_ltz", "varchar(3)", "number(5, 1)")
    types = dict(zip("abcdefgh", kinds, strict=True))
    plan = plan_of(
        "all.csv", 'a,b,c,d,e,f,g,h\nyes,"{""x"":1}",[1],0AfF,23:59:58.5,2026-11-28 00:00 -0530,abc,1.50\n', types
    )
    assert values(plan) == [
        (
            *(True, '{"x":1}', "[1]", b"\n\xff", time(23, 59, 58, 500_000)),
            *(datetime(2026, 11, 28, 5, 30, tzinfo=UTC), "abc", Decimal("1.5")),
        )
    ]


@pytest.mark.parametrize(
    ("name", "text", "types", "problem"),
    [
        ("a.csv", "id,n\n1,a\n2,b,c\n", {}, "a.csv, line 3: requires 2 fields as the first line has, got 3"),
        ("a.csv", 'id,n\n1,"a\nb"\n\n2,"x\n', {}, "a.csv, line 5: requires a field whose quotes are closed"),
        (
            "a.csv",
            'id,n\n1,"a\nb"\n\nxx,c\nyy,d\n',
            {"id": "number"},
            "a.csv, line 5, column id: NUMBER(38,0) requires at most 38 digits, none behind a point, got 'xx' (1 more in this column)",
        ),
        ("a.csv", "id\n12.7\n", {"id": "int"}, "line 2, column id: NUMBER(38,0) requires"),
        ("a.csv", "id\nlong\n", {"id": "varchar(3)"}, "VARCHAR(3) requires at most 3 characters, got 'long'"),
        ("a.csv", "1,2\n3,4\n", {}, "requires a first line with the names of its columns, got 1, 2"),
        ("a.csv", ",id\n3,4\n", {}, "requires a name for each column in its first line, got none for column 1"),
        ("a.csv", "", {}, "requires a first line with the names of its columns, got nothing"),
        (
            "a.csv",
            "a\n1e400\n0.1\n",
            {},
            "line 2, column a: FLOAT requires digits, with a point or an exponent, got '1e400'",
        ),
        ("a.jsonl", "\n", {}, "a.jsonl, line 1: requires at least one JSON object, got none"),
        ("a.jsonl", '{"a": 1, "a": 2}\n', {}, "duplicate key"),
        ("a.csv", "id,ID\n3,4\n", {}, "names that differ by more than case, got id, ID"),
        (
            "a.csv",
            b"id,n\n1,\xff\n",
            {},
            "requires CSV in UTF-8, got invalid start byte (byte 0xff). Nothing was loaded. Save it",
        ),
        ("a.csv", "a\n1\n", {"a": "geography", "z": "date"}, "got geography; column z is declared"),
        ("a.jsonl", '{"a": 1}\n\n{"a": }\n', {}, "a.jsonl, line 3: requires one JSON object on each line"),
        ("a.json", '[{"a": 1},\n{"a": 2}]\n', {}, "a.json, line 1: requires one JSON object on each line"),
        ("a.jsonl", '{"a": 1}\n[1]\n', {}, "a.jsonl, line 2: requires one JSON object on each line, got another value"),
        ("a.jsonl", '{"Id": 1, "id": 2}\n', {}, "names that differ by more than case, got Id, id"),
        ("a.parquet", "xx", {}, "a.parquet cannot be read as parquet"),
        ("a.xlsx", "xx", {}, "requires a name that ends with .csv"),
        ("a[1].csv", "a\n1\n", {}, "requires a path without *, ? and ["),
    ],
)
def test_file_that_does_not_fit_is_refused_with_its_place(
    plan_of: Any, name: str, text: str | bytes, types: dict[str, str], problem: str
) -> None:
    with pytest.raises(ValueError, match="Nothing was loaded") as refused:
        plan_of(name, text, types)
    assert problem in str(refused.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="requires a file, got"):
        planned(tmp_path / "none.csv", Declaration())


def test_format_and_delimiter_can_be_named(plan_of: Any) -> None:
    assert values(plan_of("rows.dat", "a:b,c\n1:2\n", form="csv", delimiter=":")) == [(1, 2)]
    assert values(plan_of("rows.csv", "a\tb,c,d\n1\t2\n", delimiter="\\t")) == [(1, 2)]
    with pytest.raises(ValueError, match="--delimiter requires one character, got '::'"):
        plan_of("rows.csv", "a::b\n1::2\n", delimiter="::")


def test_one_statement_makes_the_table_with_its_comments(plan_of: Any) -> None:
    plan = plan_of("it's.csv", "id,Net sales\n1,2.5\n")
    declaration = Declaration(comments={"ID": "the order's id"})
    assert plan.create_sql(Relation("D", "S", "T"), declaration, replace=True) == (
        'CREATE OR REPLACE TABLE "D"."S"."T" ("ID" NUMBER(38,0) COMMENT \'the order\'\'s id\', "Net sales" NUMBER(38,1)) '
        "COMMENT = 'Loaded from it''s.csv by run-elt seed' AS SELECT \"ID\", \"Net sales\" FROM TABLE(RUN_ELT_SEED())"
    )


def test_number_in_json_that_no_type_can_hold_stays_text() -> None:
    facts = Facts(values=1, plain=True, floating=True, digits=39, significant=39)
    assert kind_of(Form.NUMBER, facts) == Type(Kind.TEXT)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("number", "NUMBER(38,0)"),
        ("bigint", "NUMBER(38,0)"),
        ("number(10)", "NUMBER(10,0)"),
        ("timestamp", "TIMESTAMP_NTZ"),
        ("varchar", "VARCHAR"),
        ("char", "VARCHAR(1)"),
        ("double", "FLOAT"),
    ],
)
def test_declared_type_is_one_of_snowflakes(text: str, kind: str) -> None:
    assert str(declared_kind(text)) == kind


@pytest.mark.parametrize("text", ["strange", "vector(int, 3)", "array(number)", "map(varchar, number)"])
def test_type_that_is_not_there_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="requires a"):
        declared_kind(text)


def test_list_of_types_keeps_the_commas_in_brackets() -> None:
    listed = {"id": "number", "price": "number(10, 2)", '"a, b"': "timestamp_ntz", "c": "double precision"}
    assert listed_types('id number, price number(10, 2), "a, b" timestamp_ntz, c double precision') == listed
    for wrong in ("id", "id number price", "id number(", ","):
        with pytest.raises(ValueError, match="requires"):
            assert all(declared_kind(text) for text in listed_types(wrong).values())


def test_columns_of_a_table_file_are_declared_unless_the_command_says_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    settings = "description: Orders\ncolumns:\n  id: {type: number, description: its id}\n  at: date\n  note:"
    (folder / "orders.sql").write_text(f"/* elt\n{settings} varchar\nelt */\nselect 1 as id\n")
    found = declaration_of(tmp_path, Relation("D", "RAW", "ORDERS"), "AT timestamp_ntz")
    assert found == Declaration({"id": "number", "note": "varchar", "AT": "timestamp_ntz"}, {"ID": "its id"}, "Orders")
    assert declaration_of(tmp_path, Relation("D", "RAW", "OTHERS"), None) == Declaration()
    assert declaration_of(tmp_path / "none", Relation("D", "RAW", "ORDERS"), "a date") == Declaration({"a": "date"})
    for wrong in ("a date, A date", "a-b date", "date"):
        with pytest.raises(ValueError, match="run-elt seed --types requires"):
            declaration_of(tmp_path, Relation("D", "RAW", "ORDERS"), wrong)


@pytest.mark.parametrize(
    ("cells", "place", "noun", "remedy"),
    [
        (["10.5", "N/A", "", "7", "NULL", "9", "8"], "line 3", "a number", "--types 'c number(38,1)'"),
        (["2026-01-01", "2026-02-30"], "line 3", "a date", "--types 'c date'"),
        (["2026-01-01 10:00", "2026-01-01", "oops"], "line 4", "a time stamp", "--types 'c timestamp_ntz'"),
        (["true", "false", "maybe"], "line 4", "true or false", "--types 'c boolean'"),
    ],
)
def test_column_that_few_values_make_text_is_said_with_line_and_remedy(
    plan_of: Any, cells: list[str], place: str, noun: str, remedy: str
) -> None:
    plan = plan_of("f.csv", "c,n\n" + "".join(f"{cell},1\n" for cell in cells))
    assert columns(plan) == {"C": "VARCHAR", "N": "NUMBER(38,0)"}
    (doubt,) = plan.doubts
    assert doubt.startswith(f"f.csv, {place}, column c: most values of the column are {noun}, and this one is not")
    assert ("(1 more in this column)" in doubt) == ("NULL" in cells)
    assert remedy in doubt
    # It is printed, and may be kept by what runs the command: no value of a row is in it.
    assert not any(cell in doubt for cell in cells if cell not in ("", "NULL", "true", "false") and len(cell) > 1)


@pytest.mark.parametrize(
    "cells", [["007", "12", "x9"], ["a", "b", "1"], ["12", "13"], ["+49", "1"], ["2026-01-01", "a", "b"]], ids=str
)
def test_column_of_text_is_no_doubt(plan_of: Any, cells: list[str]) -> None:
    assert plan_of("f.csv", "c\n" + "\n".join(cells)).doubts == ()


def test_declared_text_is_no_doubt(plan_of: Any) -> None:
    assert plan_of("f.csv", "c\n1\n2\nN/A", {"c": "varchar"}).doubts == ()


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": 2}]', '\n[\n  {"a": 1}\n]'])
def test_json_array_is_told_how_it_becomes_lines(plan_of: Any, text: str) -> None:
    with pytest.raises(
        ValueError, match=r"requires one JSON object on each line, got an array\. .*: jq -c '\.\[\]' f.json > f.jsonl$"
    ):
        plan_of("f.json", text)
