from pathlib import Path

import pytest
from pydantic import ValidationError

from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster.model.single_select import SqlRuleError, single_select
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster_tests.support.table_texts import parse, problems_of, with_front_matter


def test_file_declares_a_table_by_its_front_matter_and_its_path() -> None:
    table = parse(
        with_front_matter(
            """description: Orders.
owner: team:sales
business_owner: Ada L.
primary_key: [id, line]
tags: {domain: sales}
publish: swap
transient: true
checks:
  row_count: {min: 5, max: 9}
upstream: [raw_data.orders]"""
        )
    )
    assert table.key == ("analytics", "orders")
    assert table.model_dump(exclude={"path", "sql", "sql_line", "schema_name", "table"}, exclude_defaults=True) == {
        "description": "Orders.",
        "owner": "team:sales",
        "business_owner": "Ada L.",
        "primary_key": ("id", "line"),
        "tags": {"domain": "sales"},
        "publish": "swap",
        "transient": True,
        "checks": {"row_count": {"min": 5, "max": 9}},
        "upstream": ("raw_data.orders",),
    }


def test_file_without_front_matter_is_a_table_with_defaults() -> None:
    table = parse("select 1 as id")
    assert (table.publish, table.transient, table.checks.row_count.min, table.owner) == ("clone", False, 1, None)


def test_mapping_declares_a_table_as_table_params_did() -> None:
    table = AnalyticsTable.model_validate({"schema": "analytics", "table": "mau_summary", "sql": "select 1 as mau"})
    assert table.name == "analytics.mau_summary"


def test_mapping_without_sql_is_refused() -> None:
    with pytest.raises(ValidationError, match="sql"):
        AnalyticsTable.model_validate({"schema": "analytics", "table": "mau_summary"})


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "\r\nselect\r\n  1 as a\r\n",
        "select 1 -- no end of line",
        "select 'a;b' as s, 100 % 7 as m where 'x' like '%y'",
        "select $$ a;b 'c $$ as s",
        'select 1 as "a;b"',
        "select 1 /* a; b */ as a",
        "select 1 // a; b\n as a",
        "select 'it''s; here', 'back\\'; slash' as s",
        "with a as (select 1 as x) select * from a",
        "(select 1) union all (select 2)",
        "-- first a comment; with a semicolon\nselect 1",
    ],
)
def test_single_select_is_kept_byte_for_byte(sql: str) -> None:
    assert single_select(sql) == sql


@pytest.mark.parametrize("end", [";", ";\n", "; -- done", ";;", " ; /* done; */ ;\n"])
def test_single_select_loses_its_terminator_and_what_follows_it(end: str) -> None:
    assert single_select("select ';' as a" + end).rstrip() == "select ';' as a"


@pytest.mark.parametrize(
    ("sql", "rule", "offset"),
    [
        ("", "no statement", 0),
        (" \n ;; -- nothing\n", "no statement", 0),
        ("select 1; select 2", "a second one that starts with select", 10),
        ("select 1;\ndrop table x", "a second one that starts with drop", 10),
        ("create table x as select 1", "got CREATE", 0),
        ("\n drop table x", "got DROP", 2),
        ("insert into x select 1", "got INSERT", 0),
        ("call proc()", "got CALL", 0),
        ("((values (1)))", "got VALUES", 2),
    ],
)
def test_single_select_refuses_everything_else_and_says_where(sql: str, rule: str, offset: int) -> None:
    with pytest.raises(SqlRuleError, match=rule) as caught:
        single_select(sql)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("sql", "template", "offset"),
    [
        ("select *\nfrom {{ ref('orders') }}", "{{ ref('orders') }}", 14),
        ("{{ config(materialized='table') }}\nselect 1", "{{ config(materialized='table') }}", 0),
        ("select 1 {# it's a comment #} as a", "{# it's a comment #}", 9),
        ("select 1 {%- if x -%} as a", "{%- if x -%}", 9),
        ("select 1 where a = {{ b", "{{", 19),
        ("select 1 where day = '{{ ds }}'", "{{ ds }}", 22),
        ("select 1 where day > '{{ macros.ds_add(ds, -1) }}'", "{{ macros.ds_add(ds, -1) }}", 22),
        ('select 1 from "{{ target.schema }}".t', "{{ target.schema }}", 15),
    ],
)
def test_single_select_refuses_templates_of_other_tools(sql: str, template: str, offset: int) -> None:
    with pytest.raises(SqlRuleError, match="there is no ref") as caught:
        single_select(sql)
    assert f"got {template}. " in str(caught.value)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    "sql",
    [
        "select '{{name}} {% x %}' as a",
        "select 1 -- {{ ref('x') }}",
        "select {'a': {'b': 1}} as o",
        "select 1 /* {# */ as a",
    ],
)
def test_single_select_takes_braces_that_are_data(sql: str) -> None:
    assert single_select(sql) == sql


def test_setting_knows_its_line() -> None:
    table = parse(with_front_matter("owner: team:a\nupstream:\n  - s.t\n  - s.u"))
    assert [table.line_of("owner"), table.line_of("upstream", 1), table.line_of("upstream"), table.line_of("tags")] == [
        2,
        5,
        3,
        1,
    ]


def test_byte_order_mark_and_crlf_do_not_disturb_front_matter() -> None:
    table = parse("\ufeff/* elt\r\ndescription: x\r\nelt */\r\nselect 1 as id\r\n")
    assert table.description == "x"
    assert table.sql == "\r\nselect 1 as id\r\n"


@pytest.mark.parametrize(
    ("front_matter", "expected"),
    [
        ("desciption: x", "t.sql:2: unknown key 'desciption'. Did you mean 'description'?"),
        ("schema: x", "t.sql:2: unknown key 'schema'. Did you mean 'schema_change'?"),
        ("publish: copy", "t.sql:2: publish: requires 'clone', 'swap' or 'overwrite', got 'copy'."),
        ("owner: Ada Lovelace", "t.sql:2: owner: requires an e-mail address or team:<name>;"),
        ("checks:\n  row_cout: {min: 1}", "t.sql:3: unknown key 'checks.row_cout'. Did you mean 'checks.row_count'?"),
        ("checks:\n  row_count:\n    mni: 1", "t.sql:4: unknown key 'checks.row_count.mni'. Did you mean"),
        (
            "checks:\n  row_count: {min: -1}",
            "t.sql:3: checks.row_count.min: requires a number of at least 0",
        ),
        (
            "checks:\n  row_count: {min: 3, max: 2}",
            "t.sql:3: checks.row_count: requires min <= max, got min 3 and max 2",
        ),
        ("primary_key: [id, ID]", "t.sql:2: primary_key: requires columns that differ"),
        ("primary_key:\n  - id\n  - a b", "t.sql:4: primary_key.1: requires a letter or _ first"),
        ("tags: {domain: a b}", "t.sql:2: tags: requires keys and values of at most 63"),
        ("upstream: orders", "t.sql:2: upstream: requires schema.table or database.schema.table"),
        ("transient: 1", "t.sql:2: transient: requires true or false, unquoted, got '1'."),
        ("description: a: b", "t.sql:2: front matter requires YAML, got mapping values are not allowed"),
        (
            "description: a\nowner: team:a\ndescription: b",
            "t.sql:4: key 'description' requires one value, got a second.",
        ),
        ("- description", "t.sql:2: front matter requires `key: value` lines"),
    ],
)
def test_wrong_front_matter_is_reported_with_its_line(front_matter: str, expected: str) -> None:
    (problem,) = problems_of(with_front_matter(front_matter))
    assert problem.startswith(expected)


def test_front_matter_that_never_ends_is_reported() -> None:
    assert problems_of("/* elt\ndescription: x\nselect 1") == [
        "t.sql:1: front matter requires an end, got none. Close it with elt */"
    ]


def test_every_problem_of_a_file_is_reported_at_once_in_the_order_of_its_lines() -> None:
    text = with_front_matter("publish: copy\nfoo: 1\nowner: Ada", sql="select 1;\nselect 2")
    assert [problem.split(": ")[0] for problem in problems_of(text)] == ["t.sql:2", "t.sql:3", "t.sql:4", "t.sql:7"]


@pytest.mark.parametrize("name", ["a b", "1a", 'a"b', "a-b", "", "x" * 256])
def test_table_names_that_the_candidate_cannot_carry_are_refused(name: str) -> None:
    with pytest.raises(TableProblemsError):
        parse_table_file(Path("t.sql"), "select 1", schema="analytics", table=name)


@pytest.mark.parametrize("name", ["temp_orders__20250101", "TEMP_A__0123ABCD", "temp_a__b__deadbeef"])
def test_table_named_like_a_candidate_is_refused_by_its_path(name: str) -> None:
    with pytest.raises(TableProblemsError, match=r"requires another name than a candidate's, got TEMP_\w+"):
        parse_table_file(Path("t.sql"), "select 1", schema="analytics", table=name)


@pytest.mark.parametrize(
    "identifier",
    ["temp_orders__20250101", "analytics.Temp_Orders__20250101", "'\"TEMP_x__0123ABCD\"'", "'\"temp_é__0123abcd\"'"],
)
def test_table_named_like_a_candidate_is_refused_by_its_identifier(identifier: str) -> None:
    (problem,) = problems_of(with_front_matter(f"owner: team:a\nidentifier: {identifier}"))
    assert problem.startswith("t.sql:3: identifier: requires another name than a candidate's, got ")


@pytest.mark.parametrize(
    "name", ["temp_orders", "temp_orders__2025", "temp__20250101", "orders__20250101", "temp_a__2025010g"]
)
def test_table_named_otherwise_is_accepted(name: str) -> None:
    assert parse_table_file(Path("t.sql"), "select 1", schema="analytics", table=name).table == name


@pytest.mark.parametrize(
    ("checks", "line", "name"),
    [
        ("  unique: a\n  sql: {unique_a: 'select * from {table}'}", 4, "unique_a"),
        ("  sql:\n    x: select * from {table}\n    UNIQUE_A: select * from {table}\n  unique: a", 5, "UNIQUE_A"),
        ("  sql: {Not_Null: 'select * from {table}'}", 3, "Not_Null"),
        ("  sql: {columns: 'select * from {table}'}", 3, "columns"),
        ("  sql:\n    orphans: select * from {table}\n    Orphans: select 1 from {table}", 5, "Orphans"),
        ("  range: {a: {min: 0}}\n  sql: {range_a: 'select * from {table}'}", 4, "range_a"),
    ],
)
def test_check_named_like_another_is_refused_with_its_line(checks: str, line: int, name: str) -> None:
    (problem,) = problems_of(with_front_matter(f"checks:\n{checks}"))
    assert problem.startswith(
        f"t.sql:{line}: checks.sql.{name}: requires a name that no other check of the table has, got {name!r}"
    )


@pytest.mark.parametrize(
    ("checks", "line", "subject"),
    [
        ("  unique: [a, A]", 3, "checks.unique.1: requires one check unique of A"),
        ("  unique:\n    - [a, b]\n    - [A, B]", 5, "checks.unique.1: requires one check unique of A, B"),
        ("  range:\n    a: {min: 0}\n    A: {max: 5}", 5, "checks.range.A: requires one check range of A"),
        ("  matches:\n    a: x\n    '\"A\"': y", 5, 'checks.matches."A": requires one check matches of A'),
    ],
)
def test_check_that_is_declared_twice_is_refused_with_its_line(checks: str, line: int, subject: str) -> None:
    (problem,) = problems_of(with_front_matter(f"checks:\n{checks}"))
    assert problem.startswith(f"t.sql:{line}: {subject}, got a second.")


def test_pattern_that_snowflake_does_not_take_is_refused_with_its_line() -> None:
    (problem,) = problems_of(with_front_matter("checks:\n  matches:\n    email: '(?!x).+'"))
    assert problem == (
        "t.sql:4: checks.matches.email.pattern: cannot have a negative lookahead, got '(?!' at character 1. Snowflake takes "
        "POSIX patterns. Write a pattern without it, or a check in checks.sql."
    )


def test_mapping_with_settings_in_its_sql_is_refused() -> None:
    with pytest.raises(ValidationError, match="begins or ends with the word elt"):
        AnalyticsTable.model_validate({"schema": "a", "table": "b", "sql": "/* elt\ndescription: x\nelt */ select 1"})


def test_changes_may_stand_beside_masked_columns_that_it_ignores() -> None:
    policies = "policies: {masking: {a: s.m}}\n"
    for rule in ("key: b, max_changed: 1, ignore: a", "key: b, columns: {c: 1}", "max_removed: 1"):
        assert parse(with_front_matter(f"{policies}checks: {{changes: {{{rule}}}}}")).policies is not None


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            "policies:\n  masking: {a: mask}",
            "3: policies.masking.a.name: requires schema.name or database.schema.name, got mask.",
        ),
        (
            "policies: {}",
            "2: policies: requires one of row_access, masking, projection, aggregation and join, got none.",
        ),
        (
            "policies:\n  row_access: {name: s.r, on: [A]}\n  projection: {a: s.p}",
            "4: policies.projection.a: cannot name a column that another policy is called with",
        ),
        (
            "policies:\n  masking: {b: {name: s.m, using: a}}\n  projection: {a: s.p}",
            "4: policies.projection.a: cannot name a column that another policy is called with",
        ),
        (
            "policies: {masking: {a: s.m}}\nshow_rows: 5",
            "3: show_rows: cannot stand beside policies: Dagster would show everybody what they hide, got 5.",
        ),
        ("policies:\n  projection: {a: s.p, A: s.q}", "3: policies.projection.A: requires columns that differ, got A"),
        ("policies:\n  aggregation: {name: s.g, key: a}", "3: unknown key 'policies.aggregation.key'."),
        (
            "columns: {a: int}\npolicies:\n  join: {name: s.j, allowed_keys: b}",
            "4: policies.join.allowed_keys: requires columns of the table, got b.",
        ),
        (
            "policies:\n  aggregation: s.g\nchecks: {changes: {key: b, max_removed: 1}}",
            "4: checks.changes: cannot stand beside an aggregation policy: it lets no row be compared, got s.g.",
        ),
        (
            "policies:\n  projection: {a: s.p}\nincrement: {column: a, key: b}",
            "3: policies.projection.a: cannot hide the column that an increment begins after of a table that is built in parts",
        ),
        (
            "policies:\n  row_access: {name: s.r, on: [A]}\n  masking:\n    b: {name: s.m, using: a}",
            "5: policies.masking.b: cannot name a column of the row access policy",
        ),
        (
            "columns: {a: int}\npolicies:\n  masking:\n    b: s.m",
            "5: policies.masking.b: requires columns of the table, got b.",
        ),
        (
            "policies:\n  masking: {a: s.m}\nchecks: {changes: {key: a, max_removed: 1}}",
            "4: checks.changes: cannot compare a masked column: its values would be compared as the role sees them, got a.",
        ),
        (
            "policies:\n  masking: {a: s.m}\nchecks: {changes: {key: b, max_changed: 1}}",
            "4: checks.changes: requires masked columns in ignore: their values would be compared as the role sees them, got no a.",
        ),
        (
            "policies:\n  row_access: {name: s.r, on: a}\nchecks: {changes: {key: b, max_removed: 1}}",
            "4: checks.changes: cannot stand beside a row access policy: rows that it hides would count as added, got s.r.",
        ),
        (
            "policies:\n  masking: {a: s.m}\nincrement: {column: a, key: b}",
            "3: policies.masking.a: cannot mask the column that an increment begins after of a table that is built in parts",
        ),
        (
            "policies:\n  masking: {A: s.m}\npartitions: {by: day, column: d, start: 2024-01-01}\nchecks: {unique: a}",
            "3: policies.masking.A: cannot mask a column of a key of a table that is built in parts",
        ),
        (
            "policies:\n  masking: {a: s.m}\nincrement: {column: d, key: b}\nchecks: {usual: {sum: a}}",
            "3: policies.masking.a: cannot mask a column that a check asks of the whole table",
        ),
        (
            "policies:\n  row_access: {name: s.r, on: [a]}\nincrement: {column: d, key: b}",
            "3: policies.row_access: cannot be set for a table with increments: old rows that it hides",
        ),
        (
            "object_tags:\n  domain: x",
            "3: object_tags.domain: requires schema.name or database.schema.name, got domain.",
        ),
        (
            "transient: true\ndata_retention_days: 2",
            "3: data_retention_days: requires 0 or 1 for a transient table, got 2.",
        ),
        ("columns: {a: int}\ncluster_by: [a, b]", "3: cluster_by: requires columns of the table, got b."),
        ("policies:\n  row_access: {name: s.r, columns: a}", "3: unknown key 'policies.row_access.columns'."),
    ],
)
def test_policies_and_tags_that_cannot_be_set_are_refused_with_their_line(settings: str, problem: str) -> None:
    found = problems_of(with_front_matter(settings))
    assert any(each.startswith(f"t.sql:{problem}") for each in found), found


def test_each_column_that_a_setting_names_is_one_of_those_that_the_file_lists() -> None:
    found = problems_of(
        with_front_matter(
            """columns: {month: date, mau: int, '"Net sales"': int}
primary_key: mouth
cluster_by: [month, week]
checks:
  unique: [[month, muu], MAU]
  not_null: [mau, day]
  accepted_values: {kind: [a]}
  range:
    mau: {min: 0}
    '"Net Sales"': {min: 0}
  relationship: {month: analytics.orders.monht}
  usual: {sum: mua}
  changes: {max_changed: 1, key: month, ignore: at}
  sql: {none_below: 'select 1 from {table} where other < 0'}"""
        )
    )
    rule = "requires columns of the table, got"
    lists = 'columns lists month, mau, "Net sales".'
    assert found == [
        f"t.sql:3: primary_key: {rule} mouth. Did you mean 'month'?",
        f"t.sql:4: cluster_by: {rule} week. {lists}",
        f"t.sql:6: checks.unique.0: {rule} muu. Did you mean 'mau'?",
        f"t.sql:7: checks.not_null: {rule} day. {lists}",
        f"t.sql:8: checks.accepted_values.kind: {rule} kind. {lists}",
        f"""t.sql:11: checks.range."Net Sales": {rule} "Net Sales". Did you mean '"Net sales"'?""",
        f"t.sql:12: checks.relationship.month: {rule} monht. Did you mean 'month'?",
        f"t.sql:13: checks.usual.sum: {rule} mua. Did you mean 'mau'?",
        f"t.sql:14: checks.changes.ignore: {rule} at. {lists}",
    ]


def test_file_without_columns_may_name_any() -> None:
    assert parse(with_front_matter("primary_key: month\nchecks: {not_null: day}")).primary_key == ("month",)
