"""A case of a table's test with `account: true`."""

from pathlib import Path

from run_elt_dagster.testing.account import OnAccount
from run_elt_dagster.testing.folder import load_tests
from run_elt_dagster.testing.runner import Runner
from run_elt_dagster_tests.support.snowflake_account import OwnSchema

SQL = """
with a as (select * from raw.a where n > 0)
select a.*, a.v:k::number as k, b.x as other from a join raw.a as b on b.n = a.n
"""
CASES = """
types:
  raw.a: {n: number, amount: 'number(10, 2)', f: float, d: date, t: time, ntz: timestamp_ntz, tz: timestamp_tz, v: variant,
    arr: array, obj: object, bin: binary, b: boolean, x: varchar}
cases:
  each type:
    account: true
    exact: true
    given: &rows
      raw.a:
        - {n: 1, amount: 2.50, f: 0.1, d: 2024-02-29, t: '10:00:00', ntz: 2024-02-29 10:00:00.5, tz: 2024-02-29 11:00:00+01:00,
            v: {k: 5, l: [1, null, "it's"]}, arr: [1, a], obj: {k: v}, bin: '00FF', b: true, x: "it's \\\\ x"}
        - {n: 2}
        - {n: null}
    expect:
      - {n: 1, amount: 2.50, f: 0.1, d: 2024-02-29, t: '10:00:00', ntz: 2024-02-29 10:00:00.5, tz: 2024-02-29 11:00:00+01:00,
          v: {k: 5, l: [1, null, "it's"]}, arr: [1, a], obj: {k: v}, bin: '00FF', b: true, x: "it's \\\\ x", k: 5,
          other: "it's \\\\ x"}
      - {n: 2}
  another value:
    account: true
    given: *rows
    expect: [{n: 1, x: y}, {n: 2}]
"""


def test_rows_of_each_type_come_back_and_no_table_stays(schema: OwnSchema, tmp_path: Path) -> None:
    folder = tmp_path / "analytics"
    folder.mkdir()
    (folder / "t.sql").write_text(SQL)
    (folder / "t.test.yaml").write_text(CASES)
    (tests,), problems = load_tests(tmp_path, database=schema.database)
    assert problems == []
    place = f'"{schema.name}"'
    with schema.account.resource.session(log=print) as session, Runner(lambda: OnAccount(session, place)) as runner:
        same, other = (runner.run(tests, case) for case in tests.file.cases)
    assert (same.verdict, same.message) == ("passed", "")
    assert other.verdict == "failed"
    assert other.message.splitlines()[0] == "2 rows expected, 2 found. A changed cell shows expected -> got."
    left = f"select count(*) from information_schema.tables where table_schema = '{schema.name}' and table_name like 'RUN_ELT_TEST%'"
    assert schema.session().value(left) == 0
