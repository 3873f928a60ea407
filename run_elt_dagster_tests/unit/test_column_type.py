import pytest

from run_elt_dagster.audit.catalogue import Column
from run_elt_dagster.model.checks import ColumnContract
from run_elt_dagster.model.column_type import NO_SUCH_TYPE, ColumnType, Element, actual_type, column_type

NUMBER, TEXT = Column("A", "NUMBER", 38, 0), Column("A", "TEXT", length=16_777_216)


@pytest.mark.parametrize(
    "text",
    [
        # As DESCRIBE TABLE prints them.
        "NUMBER(38,0)",
        "NUMBER(10,2)",
        "FLOAT",
        "DECFLOAT",
        "VARCHAR(16777216)",
        "VARCHAR(134217728)",
        "VARCHAR(16777216) COLLATE 'en-ci'",
        "BINARY(8388608)",
        "BOOLEAN",
        "DATE",
        "TIME(9)",
        "TIMESTAMP_NTZ(9)",
        "TIMESTAMP_LTZ(3)",
        "TIMESTAMP_TZ(0)",
        "VARIANT",
        "OBJECT",
        "ARRAY",
        "ARRAY(NUMBER(38,0))",
        "ARRAY(NUMBER(38,0) NOT NULL)",
        "ARRAY(ARRAY(VARCHAR(16777216)))",
        "MAP(VARCHAR(16777216), NUMBER(38,0) NOT NULL)",
        'OBJECT(A NUMBER(38,0), "b c" VARCHAR(16777216) NOT NULL)',
        "VECTOR(FLOAT, 256)",
        "VECTOR(INT, 16)",
        "GEOGRAPHY",
        "GEOMETRY",
        "FILE",
        "UUID",
        "INTERVAL YEAR TO MONTH",
        "INTERVAL DAY(9) TO SECOND(6)",
    ],
)
def test_type_that_describe_table_prints_is_accepted_and_admits_itself(text: str) -> None:
    for spelling in (text, text.lower(), f"  {text.replace('(', ' ( ').replace(',', ' , ')}  "):
        assert ColumnContract(type=spelling).type == spelling
        assert column_type(spelling).admits(actual_type(text, ()))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "numbr",
            "",
            "5",
            "number not null",
            "number(10,2",
            "number)",
            "array()",
            "array(numbr)",
            "object(a)",
            "my.type",
        ),
        # Contracts that could never hold.
        *(
            "int(5)",
            "date(3)",
            "boolean(1)",
            "number(39)",
            "number(10,11)",
            "number(10,-2)",
            "number(1,2,3)",
            "varchar(0)",
        ),
        *(
            "varchar(134217729)",
            "timestamp_ntz(10)",
            "time(-1)",
            "vector(float)",
            "vector(varchar, 3)",
            "vector(int, 5000)",
        ),
        *("map(varchar)", "array(int, int)", "float(5)", "varchar(x)", "interval fortnight", "timestamp_ntz(3) with"),
    ],
)
def test_type_that_snowflake_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="requires"):
        ColumnContract(type=text)


@pytest.mark.parametrize(
    ("declared", "column", "holds"),
    [
        ("number", Column("A", "NUMBER", 10, 2), True),
        ("number(10)", Column("A", "NUMBER", 10, 0), True),
        ("number(10, 2)", Column("A", "NUMBER", 10, 2), True),
        ("number(10, 2)", Column("A", "NUMBER", 10, 3), False),
        ("number(10, 2)", Column("A", "NUMBER", 12, 2), False),
        ("number(10, 2)", Column("A", "NUMBER", 10, 0), False),
        ("decimal(10, 2)", Column("A", "NUMBER", 10, 2), True),
        ("number(10)", Column("A", "NUMBER", 10, 2), False),
        ("bigint", Column("A", "NUMBER", 10, 0), True),
        ("bigint", Column("A", "NUMBER", 10, 2), False),
        ("char", Column("A", "TEXT", length=1), True),
        ("char", TEXT, False),
        ("string", TEXT, True),
        ("text", Column("A", "TEXT", length=3), True),
        ("char varying(3)", Column("A", "TEXT", length=3), True),
        ("varchar(10)", Column("A", "TEXT", length=10), True),
        ("varchar(10)", Column("A", "TEXT", length=11), False),
        ("varchar(10)", TEXT, False),
        ("varchar(134217728)", TEXT, False),
        ("binary(16)", Column("A", "BINARY", length=8_388_608), False),
        ("binary(16)", Column("A", "BINARY"), True),
        ("timestamp_ntz", Column("A", "TIMESTAMP_NTZ", digits=3), True),
        ("timestamp_ntz(3)", Column("A", "TIMESTAMP_NTZ", digits=3), True),
        ("timestamp_ntz(3)", Column("A", "TIMESTAMP_NTZ", digits=9), False),
        ("timestamp_ntz(3)", Column("A", "TIMESTAMP_LTZ", digits=3), False),
        ("timestamp_ntz(9)", Column("A", "TIMESTAMP_NTZ", digits=9), True),
        ("timestamp_ntz(9)", Column("A", "TIMESTAMP_NTZ", digits=3), False),
        ("timestamp_ntz(9)", Column("A", "TIMESTAMP_NTZ"), True),
        ("timestamp(3)", Column("A", "TIMESTAMP_LTZ", digits=3), True),
        ("timestamp(3)", Column("A", "TIMESTAMP_LTZ", digits=9), False),
        ("timestamp(3)", Column("A", "DATE"), False),
        ("time(0)", Column("A", "TIME", digits=0), True),
        ("time(0)", Column("A", "TIME", digits=9), False),
        ("array(number)", Column("A", "ARRAY"), True),
        ("array(number)", Column("A", "VARIANT"), False),
        ("array(number)", Column("A", "ARRAY(NUMBER(38,0))"), True),
        ("array(number(10,0))", Column("A", "ARRAY(NUMBER(38,0))"), False),
        ("array(number)", Column("A", "ARRAY(NUMBER(38,0) NOT NULL)"), False),
        ("array(varchar)", Column("A", "ARRAY(NUMBER(38,0))"), False),
        ("array", Column("A", "ARRAY(NUMBER(38,0))"), True),
        ("map(varchar, int)", Column("A", "MAP(VARCHAR(16777216), NUMBER(38,0))"), True),
        ("map(varchar, int)", Column("A", "MAP(VARCHAR(16777216), NUMBER(38,1))"), False),
        ("object(a int, b varchar)", Column("A", "OBJECT(A NUMBER(38,0), B VARCHAR(16777216))"), True),
        ("object(a int, c varchar)", Column("A", "OBJECT(A NUMBER(38,0), B VARCHAR(16777216))"), False),
        ("object(a int)", Column("A", "OBJECT(A NUMBER(38,0), B VARCHAR(16777216))"), False),
        ("vector(float, 256)", Column("A", "VECTOR(FLOAT, 256)"), True),
        ("vector(float, 256)", Column("A", "VECTOR(FLOAT, 16)"), False),
        ("vector(float, 256)", Column("A", "VECTOR(INT, 256)"), False),
        ("vector(float, 256)", Column("A", "VECTOR"), True),
        ("decfloat", Column("A", "DECFLOAT", 38), True),
        ("decfloat(38)", Column("A", "DECFLOAT", 38), True),
        ("decfloat(38)", Column("A", "FLOAT"), False),
        ("variant", Column("A", "INTEGER[]"), False),
    ],
)
def test_column_keeps_its_contract_as_far_as_the_catalogue_says(declared: str, column: Column, holds: bool) -> None:
    assert column.is_a(column_type(declared)) is holds


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (TEXT, "VARCHAR"),
        (Column("A", "TEXT", length=134_217_728), "VARCHAR(134217728)"),
        (Column("A", "TIMESTAMP_NTZ", digits=9), "TIMESTAMP_NTZ"),
        (Column("A", "TIMESTAMP_NTZ", digits=3), "TIMESTAMP_NTZ(3)"),
        (Column("A", "TIME"), "TIME"),
        (Column("A", "DATE", digits=0), "DATE"),
        (Column("A", "BINARY", length=8_388_608), "BINARY"),
        (Column("A", "BINARY", length=16), "BINARY(16)"),
        (NUMBER, "NUMBER(38,0)"),
    ],
)
def test_type_of_a_column_is_shown_as_a_person_writes_it(column: Column, shown: str) -> None:
    assert column.type == shown


INT, DATE = ColumnType(("NUMBER",), whole=True), ColumnType(("DATE",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("number", ColumnType(("NUMBER",))),
        ("number(10)", ColumnType(("NUMBER",), (10, 0))),
        ("decimal(38, 37)", ColumnType(("NUMBER",), (38, 37))),
        ("number(1, 1)", ColumnType(("NUMBER",), (1, 1))),
        ("int", INT),
        ("double precision", ColumnType(("FLOAT",))),
        ("decfloat(38)", ColumnType(("DECFLOAT",))),
        ("varchar(1)", ColumnType(("TEXT",), (1,))),
        ("character varying(134217728)", ColumnType(("TEXT",), (134_217_728,))),
        ("char", ColumnType(("TEXT",), (1,))),
        ("varchar(5) collate 'en'", ColumnType(("TEXT",), (5,))),
        ("timestamp(0)", ColumnType(("TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"), (0,))),
        ("timestamp with local time zone(9)", ColumnType(("TIMESTAMP_LTZ",), (9,))),
        ("interval\n day(9)  to second(6)", ColumnType(("INTERVAL",))),
        ("array", ColumnType(("ARRAY",))),
        ("array(int not null)", ColumnType(("ARRAY",), elements=(Element(INT, not_null=True),))),
        ("map(int, date)", ColumnType(("MAP",), elements=(Element(INT), Element(DATE)))),
        (
            'object(a int, "b c" date not null)',
            ColumnType(("OBJECT",), elements=(Element(INT, "A"), Element(DATE, "b c", not_null=True))),
        ),
        ("vector(int, 1)", ColumnType(("VECTOR",), (1,), elements=(Element(ColumnType(("INT",))),))),
        ("vector(float, 4096)", ColumnType(("VECTOR",), (4096,), elements=(Element(ColumnType(("FLOAT",))),))),
    ],
)
def test_type_is_all_that_its_text_says(text: str, expected: ColumnType) -> None:
    assert column_type(text) == expected


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("numbr", NO_SUCH_TYPE),
        ("number number", NO_SUCH_TYPE),
        ("number(", NO_SUCH_TYPE),
        ("number(10 2)", NO_SUCH_TYPE),
        ("varchar collate", NO_SUCH_TYPE),
        ("array(int not)", NO_SUCH_TYPE),
        ("array(int not date)", NO_SUCH_TYPE),
        ("vector(int 3)", NO_SUCH_TYPE),
        ("int(5)", "requires int without parameters, as Snowflake has it"),
        ("number(0)", "requires number with a parameter from 1 to 38"),
        ("number(x)", "requires number with a parameter from 1 to 38"),
        ("number(10, 38)", "requires number with a parameter from 0 to 37"),
        ("number(10, 11)", "requires number with no more decimals than digits"),
        ("varchar(0)", "requires varchar with a parameter from 1 to 134,217,728"),
        ("vector(int, 4097)", "requires vector with a parameter from 1 to 4,096"),
        ("vector(date, 3)", "requires vector(float, <dimension>) or vector(int, <dimension>)"),
        ("array(int, int)", "requires 1 type in array(...)"),
        ("map(int)", "requires 2 types in map(...)"),
    ],
)
def test_type_that_is_refused_says_what_is_required(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match="requires") as raised:
        column_type(text)
    assert str(raised.value) == rule


def test_types_in_types_go_a_hundred_levels_deep() -> None:
    deepest = "array(" * 100 + "int" + ")" * 100
    assert column_type(deepest).names == ("ARRAY",)
    with pytest.raises(ValueError, match="DESCRIBE TABLE prints"):
        column_type(f"array({deepest})")


@pytest.mark.parametrize(
    ("data_type", "parameters", "expected"),
    [
        ("NUMBER", (38, 0), ColumnType(("NUMBER",), (38, 0))),
        ("VECTOR(INT, 3)", (), column_type("vector(int, 3)")),
        ("TIMESTAMP_NTZ(3)", (9,), ColumnType(("TIMESTAMP_NTZ",), (3,))),
        # Of the catalogue, the parameters say whether there are decimals.
        ("INT", (38, 0), ColumnType(("NUMBER",), (38, 0))),
        # Not a type of Snowflake's: only itself is the same.
        ("INTEGER[]", (38, 0), ColumnType(("INTEGER[]",))),
    ],
)
def test_type_of_the_catalogue_has_the_parameters_of_its_own_columns(
    data_type: str, parameters: tuple[int, ...], expected: ColumnType
) -> None:
    assert actual_type(data_type, parameters) == expected
