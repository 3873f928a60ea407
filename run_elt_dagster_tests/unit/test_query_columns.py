"""Where the values of a query's columns come from: right, or absent with a reason. Never wrong."""

from collections import Counter

import pytest

from run_elt_dagster.model.names import Key
from run_elt_dagster.model.origins import Columns, Rest, Unknown, columns_of_table
from run_elt_dagster.model.query_columns import columns_of
from run_elt_dagster_tests.support.column_lineage import lineage_of, lines, truth
from run_elt_dagster_tests.support.tpc import columns_of_tpch, tpch_queries

# The columns of `raw.*` are not known.
KNOWN: dict[Key, tuple[str, ...]] = {("s", "t"): ("A", "B", "V"), ("s", "u"): ("K", "X", "Y")}


def read(sql: str) -> Columns:
    return columns_of(sql, lambda key: columns_of_table(key, KNOWN.get(key)))


def told(sql: str) -> str:
    """Return the columns of a query in one line: `a: s.t.a, b: ?` where it is absent, `*` for columns without names."""
    found: list[str] = []
    for item in read(sql).items:
        if isinstance(item, Rest):
            found.append("*")
        else:
            origin = "?" if isinstance(item.origin, Unknown) else " ".join(map(str, sorted(item.origin)))
            found.append(f"{item.name}: {origin}".rstrip())
    return ", ".join(found)


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("select t.a, upper(b) as b, count(*) as n from s.t", "A: s.t.a, B: s.t.b, N:"),
        ('select x.a as "low", "low" || b as up from s.t as x', "low: s.t.a, UP: s.t.a s.t.b"),
        # A condition and a window are part of the value; what chooses rows is not.
        ("select iff(a > 1, b, v) as i from s.t where b = 1 qualify count(*) over (order by v) = 1", "I: s.t.a s.t.b s.t.v"),
        ("select row_number() over (partition by a order by v) as n from s.t", "N: s.t.a s.t.v"),
        ("select listagg(a, ',') within group (order by b) as l from s.t", "L: s.t.a s.t.b"),
        ("select a from s.t join s.u on k = b group by a having max(x) > 1", "A: s.t.a"),
        # A name of the SELECT itself: a column comes first.
        ("select a + 1 as q, q * 2 as r, r + b as w from s.t", "Q: s.t.a, R: s.t.a, W: s.t.a s.t.b"),
        ("select b as a, a as c from s.t", "A: s.t.b, C: s.t.a"),
        ("select d.y from (select a as x, b as x, v as y from s.t) d", "Y: s.t.v"),
        ("select a as x, b as x, x as y from s.t", "X: s.t.a, X: s.t.b, Y: ?"),
        # Stars.
        ("select * from s.t, s.u", "A: s.t.a, B: s.t.b, V: s.t.v, K: s.u.k, X: s.u.x, Y: s.u.y"),
        ("select t.* exclude (a) replace (upper(v) as v) from s.t", "B: s.t.b, V: s.t.v"),
        ("select * exclude b rename (a as z) from s.t", "Z: s.t.a, V: s.t.v"),
        ("select * replace (a + b as v) rename (v as w) from s.t", "A: s.t.a, B: s.t.b, W: s.t.a s.t.b"),
        ("select *, a + 1 as q from s.t", "A: s.t.a, B: s.t.b, V: s.t.v, Q: s.t.a"),
        ("select object_construct(*) as o, count(t.*) as c from s.t", "O: s.t.a s.t.b s.t.v, C: s.t.a s.t.b s.t.v"),
        # Queries in queries.
        ("select (select max(y) from s.u where u.k = t.a) as m from s.t", "M: s.u.y"),
        ("select exists (select 1 from s.u where k = a) as e, a in (select x from s.u) as i from s.t", "E:, I: s.t.a s.u.x"),
        ("select d.q from (select a + b as q from s.t) d", "Q: s.t.a s.t.b"),
        ("select m.z from s.t left join lateral (select max(u.x + t.a) as z from s.u) m", "Z: s.t.a s.u.x"),
        ("with c (p, q) as (select a, b from s.t), t as (select q from c) select * from t", "Q: s.t.b"),
        ("with t as (select b as a from s.t) select a from t", "A: s.t.b"),
        # Set operations: by place, with the names of the first; what is taken away gives nothing.
        ("select a, b from s.t union all select k, x from s.u", "A: s.t.a s.u.k, B: s.t.b s.u.x"),
        ("select a from s.t union all by name select k as z, x as a from s.u", "A: s.t.a s.u.x, Z: s.u.k"),
        ("select a from s.t except select k from s.u", "A: s.t.a"),
        ("select a from s.t intersect select k from s.u", "A: s.t.a s.u.k"),
        # Recursion.
        (
            "with recursive r (n, p) as (select a, b from s.t union all select n + x, p || n from r, s.u) select * from r",
            "N: s.t.a s.u.x, P: s.t.a s.t.b s.u.x",
        ),
        # Joins that make one column of two.
        ("select q from (select a as q from s.t) l full join (select k as q from s.u) r using (q)", "Q: s.t.a s.u.k"),
        ("select * from (select a as q, b from s.t) l natural join (select k as q, x from s.u) r", "Q: s.t.a s.u.k, B: s.t.b, X: s.u.x"),
        # Rows that are taken apart, places, values, sequences, functions with parameters of their own.
        ("select f.value:id::int as id, f.seq as n from s.t, lateral flatten(input => v:items) f", "ID: s.t.v, N:"),
        ("select f.c as c from s.t, table(flatten(t.v)) f (c)", "C:"),
        ("select f.value as w from s.t, table(split_to_table(t.b, ',')) f", "W: s.t.b"),
        ("select $1 as p, t.$2 as q, $since as c from s.t", "P: s.t.a, Q: s.t.b, C:"),
        ("select column1 as c, s.seq.nextval as n from (values (1, 2)) w", "C:, N:"),
        ("select transform(v, (x int) -> x + a) as l from s.t", "L: s.t.a s.t.v"),
        ("select date_trunc(month, a) as m, datediff(day, a, b) as d from s.t", "M: s.t.a, D: s.t.a s.t.b"),
        ("select current_date as d, seq4() as n, 1 as one from dual", "D:, N:, ONE:"),
    ],
)  # fmt: skip
def test_column_comes_from_the_columns_in_its_expression(sql: str, wanted: str) -> None:
    assert told(sql) == wanted


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("with c as (select * from raw.e) select id, c.name, lower(email) as email, email || '1' as e from c",
         "ID: raw.e.id, NAME: raw.e.name, EMAIL: raw.e.email, E: raw.e.email"),
        ("with c as (select *, f(x) as g from raw.e) select x, g from c", "X: raw.e.x, G: raw.e.x"),
        ("select z, a from raw.e join s.t on id = b", "Z: raw.e.z, A: s.t.a"),
        ("select *, 1 as one from raw.e", "*, ONE:"),
        ("select (select max(z) from raw.e where e.k = t.a) as m from s.t", "M: raw.e.z"),
        ("select a, k from s.u x join raw.e using (k) join s.t on x.k = t.a", "A: s.t.a, K: raw.e.k s.u.k"),
        # It may be one thing or another.
        ("select z from raw.e, raw.o", "Z: ?"),
        ("select z + 1 as q, q * 2 as r from raw.e", "Q: raw.e.z, R: ?"),
        ("select (select z from raw.e) as m from raw.o", "M: ?"),
        ("select * exclude (a) from raw.e", "*"),
        ("select a from s.t union all select * from raw.e", "A: ?"),
        ("select * from raw.e union all select * from raw.o", "*"),
        ("select b from raw.e natural join s.t", "B: ?"),
        # Snowflake takes aliases in FROM, too.
        ("select parse_json(z) as j, f.value as w from raw.e, lateral flatten(j) f", "J: raw.e.z, W: ?"),
        ("select (select q from raw.e) as m, a as q from s.t", "M: ?, Q: s.t.a"),
        ("select f.value as w from raw.o, (raw.e join lateral flatten(z) f)", "W: ?"),
    ],
)  # fmt: skip
def test_table_without_known_columns_gives_what_only_it_can_have(sql: str, wanted: str) -> None:
    assert told(sql) == wanted


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("select a from s.t x, s.t y", "a may be a column of several tables, and stands without its table"),
        ("select nope from s.t", "no table in FROM has a column nope"),
        ("select w.a from s.t", "no table in FROM is called w"),
        ("select s.f(a) as u from s.t", "what the function f reads is not known"),
        ("select trunc(a, month) as m from s.t", "month may be a part of a date or a column"),
        ("select identifier('a') as i from s.t", "the name in identifier(...) is computed when it runs"),
        ("select x as y from t", "the session decides what t is"),
        ("select x as y from table(s.f(1))", "what a function gives after FROM is not known"),
        ("select $1 as y from @s.stage", "which column $1 is cannot be told"),
    ],
)
def test_column_that_cannot_be_told_says_why(sql: str, reason: str) -> None:
    (item,) = read(sql).items
    assert not isinstance(item, Rest)
    assert item.origin == Unknown(reason)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("select * from s.t pivot (sum(a) for b in ('x')) p", "PIVOT is not followed"),
        ("select level as l from s.t start with a = 1 connect by prior a = b", "CONNECT BY is not followed"),
        ("select * from s.t match_recognize (order by a measures b as c pattern (q) define q as a > 1)", "MATCH_RECOGNIZE is not followed"),
        ("select * ilike '%a%' from s.t", "ILIKE is not followed"),
        ("select a from s.t except select k from s.u intersect select x from s.u", "INTERSECT stands after EXCEPT without parentheses"),
        ("with r as (select a from s.t union select a from r) select a from r", "r reads itself in another way than by UNION ALL"),
        ("select a, b from s.t union all select k from s.u", "the queries of a UNION have different numbers of columns"),
        ("select (", "the SQL cannot be read"),
        (f"select {'(' * 3000}a{')' * 3000} as d from s.t", "the SQL is nested too deeply to be read"),
    ],
)  # fmt: skip
def test_query_that_is_not_followed_gives_columns_without_names_or_origins(sql: str, reason: str) -> None:
    found = read(sql)
    reasons = {item.reason if isinstance(item, Rest) else getattr(item.origin, "reason", None) for item in found.items}
    assert reasons == {reason}


def test_sum_of_thousands_of_terms_is_read() -> None:
    assert told(f"select {' + '.join(['a', 'b'] * 200)} as s from s.t") == "S: s.t.a s.t.b"


def test_queries_of_tpch_are_as_they_were_read_by_hand() -> None:
    tables, written = columns_of_tpch(), truth()
    found = {f"h{name[1:]}": lines(lineage_of(sql, tables)) for name, sql in tpch_queries().items()}
    compared = {name: columns for name, columns in found.items() if name in written}
    assert len(compared) == 13
    assert compared == {name: written[name] for name in compared}
    assert Counter(origin is not None for columns in found.values() for _, origin in columns) == {True: 76}


def test_knowing_fewer_columns_gives_no_other_answer() -> None:
    """A column whose table is not certain is absent, and never another table's."""
    tables = columns_of_tpch()
    answers: Counter[str] = Counter()
    for sql in tpch_queries().values():
        whole = lines(lineage_of(sql, tables))
        for hidden in ({"lineitem"}, {"orders", "nation"}, {"customer", "part", "supplier"}, set(tables)):
            for (name, origin), (_, known) in zip(lines(lineage_of(sql, tables, hidden=hidden)), whole, strict=True):
                assert origin in (None, known), (sql, name)
                answers["absent" if origin is None else "exact"] += 1
    # Most columns have one table that can have them.
    assert answers["exact"] > 2 * answers["absent"] > 0
