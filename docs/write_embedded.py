"""Write docs/embedded.md from the data of `run_elt_dagster.dialect`: `make docs`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from run_elt_dagster.dialect.catalogue import (
    ELEMENTS,
    FORMS,
    GROUPS,
    PARTS,
    REFUSED,
    SIGNATURES,
    Parameter,
    Signature,
    group_names,
)

ROOT = Path(__file__).parents[1]
REFERENCE = "https://docs.snowflake.com/en/sql-reference/functions"
TITLES = {
    "text": "Text, regular expressions, binary",
    "numbers": "Numbers",
    "conditional": "Conditions",
    "aggregates": "Aggregates and windows",
    "dates": "Dates and times",
    "semi_structured": "VARIANT, arrays, objects",
    "context": "The session",
}
_TYPES: Mapping[str, str] = {
    "=": "same",
    "'": "constant",
    "int": "integer",
    "numeric": "number or float",
    "ntz": "timestamp_ntz",
    "ltz": "timestamp_ltz",
    "tz": "timestamp_tz",
    "plain": "no variant",
    "json": "no binary",
}
_REFUSED_SQL = ("refused", "@refused_")
PAGE = """# The embedded Snowflake

<!-- Written by `make docs` from run_elt_dagster/dialect/data. -->

A Snowflake server on your own machine, for trying and testing tables without an account. The real Snowflake connector talks to it. It
translates Snowflake's SQL to [DuckDB](https://duckdb.org)'s, with the types of all columns at hand. **A value is right, or the statement is
refused.**

| | |
| --- | --- |
| Exact | {known} functions in {ways} ways of calling them, [listed below](#functions-that-are-known), each with its page of Snowflake's reference. Operators, casts, CASE, joins (also LATERAL, ASOF and `(+)`), windows, QUALIFY, PIVOT and UNPIVOT, FLATTEN, recursive CTEs, SAMPLE, UNION BY NAME. Types of results, also in the table that is built: `1 / 3` is `0.333333`, a NUMBER(38,6) |
| Converted as Snowflake does | text functions on dates and numbers, arithmetic on text, comparisons with a VARIANT |
| Refused | whatever is not known to be exact. {refused} functions of Snowflake are [known by name](#functions-that-are-refused) |
| Not there | grants, roles, policies, tags, streams, tasks, stages, procedures, functions of your own, sequences, other kinds of tables |
| Different | [a few things](#what-differs-from-an-account), most of them about types |

A refusal has the number 000002. It names the construct and its line, and nothing was executed:

```text
000002 (0A000): The embedded Snowflake cannot run this function, got XMLGET in line 3: 'XMLGET(v, 7)'. Nothing was executed.
Run the statement on a Snowflake account.
```

Some constructs are only known to be wrong for certain rows, such as a timestamp with nanoseconds. The statement then fails at such a row
with the same number. A mistake in your SQL has Snowflake's own number and text, as on an account:

```text
002140 (42601): SQL compilation error: Unknown function DATE_TRUNCT
000904 (42000): SQL compilation error: error line 1 at position 7 invalid identifier 'MONHT'
```

The tests run what Snowflake's reference documents: each value is right or refused, as the value of a query and as that of a table. They run
the queries of TPC-H as tables, and those of TPC-DS, and compare them with DuckDB's own results.

## What differs from an account

| subject | here |
| --- | --- |
| fractions of seconds | six digits. A seventh that is not 0 is refused |
| TIMESTAMP_TZ | keeps its offset. It is refused where several rows become one (GROUP BY, DISTINCT, UNION): Snowflake does not document whose offset stays |
| time zone, week, formats | UTC, weeks start on Monday, the default formats. A parameter is refused at the sign-in and in `ALTER SESSION SET` if it would change a value |
| VARCHAR(n) | enforced and listed where CREATE TABLE declares it, and in casts. A column that only a query gives is VARCHAR(16777216) |
| NUMBER | the scale that Snowflake derives. The precision of a result is often 38 where an account lists fewer digits. A value that needs more than 38 digits fails |
| GEOGRAPHY, GEOMETRY, MAP, VECTOR, FILE, structured types, collations | refused |
| names | `"a"` and `"A"` cannot stand side by side in one table or schema |
| order | rows without ORDER BY come in another order. A LIMIT, ROW_NUMBER or ANY_VALUE with ties may choose other rows, on an account too |
| regular expressions | look-around and back references are refused, as on an account |
| transactions | BEGIN takes the only lock for writing, of all tables, until COMMIT or ROLLBACK: other sessions read, and wait to write for LOCK_TIMEOUT. After a failed statement only ROLLBACK is left, as with TRANSACTION_ABORT_ON_ERROR. AUTOCOMMIT = FALSE is refused. A session runs one statement at a time |
| clauses | one that would have no effect is refused, such as a masking policy of a column, or CLONE of a schema |
| MERGE | several source rows for one target row fail, as with ERROR_ON_NONDETERMINISTIC_MERGE = TRUE |
| Time Travel | UNDROP TABLE knows the last three versions of a name for a day, fifty tables in all, and none of a dropped schema. AT and BEFORE read the rows from before INSERT OVERWRITE and from before a transaction, for a day and the last 50 of a table, in SELECT and INSERT: each is a copy of the table. Behind a change outside of a transaction, and behind a change of columns, they are refused |
| views | the query is translated when the view is created, and stored so |
| keys, NOT NULL | NOT NULL is enforced. Primary, unique and foreign keys are not stored |
| SHOW, DESCRIBE | SHOW lists tables, columns of a table, streams and grants; DESCRIBE is for tables and views, except temporary ones. The owner alone has a grant |
| speed and cost | those of your machine. There is no warehouse, no credit, no result cache |

## Functions that are known

Types: `same` arguments are converted to their common type. A value of another type is converted as Snowflake does it by itself. A type in
brackets must be there as it is. `constant` is a text constant, `part` a part of a date or time. `?` may be missing, `...` may be repeated. A
function without ways of calling is translated by Python: its common ways are known, the others are refused. `not` names what is refused.
"""
REFUSED_PAGE = """## Functions that are refused

Snowflake has them. Here their use fails with the number 000002. Every other name is an unknown function (002140), as on an account.

"""


def texts() -> dict[Path, str]:
    """Return what the file must contain."""
    names = {*SIGNATURES, *FORMS}
    ways = sum(not _is_refused(way) for ways in SIGNATURES.values() for way in ways) + len(FORMS)
    head = PAGE.format(known=len(names), ways=ways, refused=len(REFUSED))
    parts = [head, *(_group(group) for group in GROUPS), _parts(), _elements(), _refused()]
    return {ROOT / "docs" / "embedded.md": "\n".join(parts)}


def _group(group: str) -> str:
    rows = [f"| {_link(name)} | {_ways(name) or 'yes'} |" for name in group_names(group)]
    return "\n".join([f"### {TITLES[group]}", "", "| function | ways of calling it |", "| --- | --- |", *rows, ""])


def _link(name: str) -> str:
    page = FORMS.get(name) or SIGNATURES[name][0].page
    return f"[{name}]({REFERENCE}/{page})"


def _ways(name: str) -> str:
    ways = SIGNATURES.get(name, ())
    known = dict.fromkeys(_arguments(way) for way in ways if not _is_refused(way))
    refused = dict.fromkeys(_arguments(way) for way in ways if _is_refused(way))
    texts = [f"`{text}`" for text in known] + [f"not `{text}`" for text in refused if text not in known]
    return ", ".join([*(["by Python"] if name in FORMS and ways else []), *texts])


def _is_refused(way: Signature) -> bool:
    return way.sql.startswith(_REFUSED_SQL)


def _arguments(way: Signature) -> str:
    return f"({', '.join(_argument(parameter) for parameter in way.parameters)})"


def _argument(parameter: Parameter) -> str:
    name = "part" if parameter.type.startswith("part_") else _TYPES.get(parameter.type, parameter.type)
    exact = f"[{name}]" if parameter.exact else name
    return f"{exact}{'?' if parameter.optional else ''}{' ...' if parameter.repeated else ''}"


def _parts() -> str:
    by_part: dict[str, list[str]] = {}
    for name, (part, _) in PARTS.items():
        by_part.setdefault(part, []).append(f"`{name}`")
    rows = [f"| {part} | {', '.join(names)} |" for part, names in by_part.items()]
    head = ["### Parts of dates and times", "", "| part | its names |", "| --- | --- |"]
    return "\n".join([*head, *rows, ""])


def _elements() -> str:
    names = ", ".join(f"`{name}`" for name in ELEMENTS)
    return f"### Elements of formats\n\nOf dates and times, to read and to write: {names}. Everything else in a format must be quoted or a mark.\n"


def _refused() -> str:
    return REFUSED_PAGE + "\n".join(_families(sorted(REFUSED))) + "\n"


def _families(names: Sequence[str]) -> Iterator[str]:
    """Yield a line for the names of each family, such as `ST_`; those that are alone share one."""
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(re.split(r"[_$]", name)[0], []).append(name)
    alone = [members[0] for members in families.values() if len(members) == 1]
    for members in [*(members for members in families.values() if len(members) > 1), alone]:
        yield "- " + ", ".join(f"[{name}]({REFERENCE}/{REFUSED[name]})" for name in members)


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")  # noqa: T201 - a command prints
