"""Tests of tables where they are not run by the command: on an account, and by pytest."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from run_elt_dagster.testing.account import OnAccount
from run_elt_dagster.testing.folder import load_tests
from run_elt_dagster.testing.runner import Outcome, Runner
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.effort import cases

FAILING = """
cases:
  right:
    given: {raw.a: [{n: 1}]}
    expect: [{n: 1}]
  wrong one:
    given: {raw.a: [{n: 1}]}
    expect: [{n: 2}]
  elsewhere:
    account: true
    given: {raw.a: [{n: 1}]}
    expect: [{n: 1}]
"""


def write(directory: Path, sql: str, cases: str, *, name: str = "t") -> Path:
    folder = directory / "tables" / "analytics"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.sql").write_text(sql)
    (folder / f"{name}.test.yaml").write_text(cases)
    return directory / "tables"


def on_account(project: DagsterProject, cases: str, *queries: str) -> list[dict[str, Outcome]]:
    """Run the cases on each query; return what became of each case."""
    found: list[dict[str, Outcome]] = []
    with (
        project.resource.session(log=print) as session,
        Runner(lambda: OnAccount(session, "run_elt.scratch")) as runner,
    ):
        for sql in queries:
            (tests,), problems = load_tests(write(project.directory, sql, cases), database="RUN_ELT")
            assert problems == []
            found.append({case.name: runner.run(tests, case) for case in tests.file.cases})
    return found


def test_case_on_an_account_reads_the_given_rows_and_leaves_nothing(project: DagsterProject) -> None:
    project.sql("create schema scratch")
    project.sql("create schema raw")
    project.sql("create table raw.a as select 99 as n, 'of the account' as x")
    sql = """
    with b as (select a.n, a.x from raw.a where n > 0)
    select b.n, a.x, b2.x as x2, a.d, a.v:k::number as k, a.v, a.tz, a.f
    from run_elt.raw.a join b on b.n = a.n join raw.a as b2 on b2.n = a.n
    order by 1
    """
    cases = """
    types: {raw.a: {f: float, bin: binary, t: time}}
    cases:
      rows:
        account: true
        exact: true
        ordered: true
        given:
          raw.a:
            - {n: 2, x: "it's \\\\ b", d: 2024-02-29, v: {k: 5, l: [1, null, "'"]}, tz: 2024-01-01 00:00:00+02:00, f: 0.5, bin: 00FF}
            - {n: 1, x: a, t: '10:00:00'}
        expect:
          - {n: 1, x: a, x2: a}
          - {n: 2, x: "it's \\\\ b", x2: "it's \\\\ b", d: 2024-02-29, k: 5, v: {l: [1, null, "'"], k: 5}, tz: 2024-01-01 00:00:00+02:00, f: 0.5}
      no rows:
        account: true
        given: {raw.a: []}
        expect: []
    """
    (found,) = on_account(project, cases, sql)
    assert {each.message for each in found.values()} == {""}
    assert {each.verdict for each in found.values()} == {"passed"}
    assert project.sql("select * from raw.a") == [(99, "of the account")]
    assert project.sql("select table_name from information_schema.tables where table_name like 'RUN_ELT_TEST%'") == []


REFUSED_ON_AN_ACCOUNT = {
    "select n from identifier('raw.a')": "got a table by identifier(...) or by a variable. It would read the rows of the account.",
    "select n from raw.a where exists (select 1 from table(raw.a))": "got a table by table(...) or another function.",
    "select n, current_date as d from raw.a": "cannot freeze the time, got CURRENT_DATE. An account has a clock of its own.",
    "select nope from raw.a": "fails on the account: invalid identifier 'NOPE'",
    "select n, n from raw.a": "a table requires columns that differ, got N twice.",
}


def test_case_that_an_account_cannot_judge_is_an_error(project: DagsterProject) -> None:
    project.sql("create schema scratch")
    cases = "cases: {a: {account: true, given: {raw.a: [{n: 1}]}, expect: []}}"
    found = [each["a"] for each in on_account(project, cases, *REFUSED_ON_AN_ACCOUNT)]
    assert {each.verdict for each in found} == {"error"}
    for each, told in zip(found, REFUSED_ON_AN_ACCOUNT.values(), strict=True):
        assert told in each.message


def run_pytest(directory: Path, *arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    # The plugins of this project's own tests have nothing to do here.
    command = ["-m", "pytest"] if not code else ["-c", code]
    options = ("-q", "--strict-markers", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist")
    environment = {**os.environ, "RUN_ELT_TABLES_DIR": "tables"}
    return subprocess.run(
        [sys.executable, *command, *options, *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def lines_of(result: subprocess.CompletedProcess[str]) -> Sequence[str]:
    return result.stdout.splitlines()


def test_pytest_runs_the_cases_by_their_names(tmp_path: Path) -> None:
    write(tmp_path, "select n from raw.a", FAILING)
    result = run_pytest(tmp_path, "-rs")
    assert result.returncode == 1, result.stdout + result.stderr
    printed = lines_of(result)
    begin = printed.index(f"{tmp_path}/tables/analytics/t.test.yaml:6: wrong one")
    assert printed[begin + 1 : begin + 5] == [
        "1 row expected, 1 found.",
        "            N",
        "missing     2",
        "unexpected  1",
    ]
    assert "1 failed, 1 passed, 1 skipped" in printed[-1]
    assert any("runs on an account only" in line for line in printed)
    selected = run_pytest(tmp_path, "tables/analytics/t.test.yaml::right", "-m", "run_elt and not run_elt_account")
    assert "1 passed" in selected.stdout, selected.stdout


@pytest.mark.thorough
def test_pytest_tells_what_is_wrong_with_a_file_and_can_be_told_to_leave_them(tmp_path: Path) -> None:
    write(tmp_path, "select n from raw.a", "cases:\n  a::b: {given: {raw.a: []}, expect: []}\n")
    (tmp_path / "tables" / "analytics" / "gone.test.yaml").write_text("cases: {}\n")
    result = run_pytest(tmp_path)
    assert result.returncode == 2
    assert (
        f"{tmp_path}/tables/analytics/t.test.yaml:2: the name of a case requires plain text without ::" in result.stdout
    )
    assert "got no gone.sql in analytics" in result.stdout
    assert "Traceback" not in result.stdout
    assert run_pytest(tmp_path, "-p", "no:run_elt").returncode == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize("others", cases(([], ["settings", "variables"]), usual=[["settings", "variables"]]))
def test_plugin_imports_nothing_where_there_is_no_test_of_a_table(tmp_path: Path, others: list[str]) -> None:
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")
    if others:
        # Which folder is that of the tables is a setting.
        (tmp_path / "of_another_program.test.yaml").write_text("not ours\n")
    (tmp_path / "tables").mkdir()
    code = """
import sys, pytest
assert pytest.main(sys.argv[1:]) == 0
heavy = {"dagster", "duckdb", "sqlglot", "snowflake.connector", "rich"} & set(sys.modules)
ours = {name for name in sys.modules if name.startswith("run_elt_dagster.")}
print("imported", sorted(heavy), sorted(ours))
"""
    result = run_pytest(tmp_path, "test_other.py", code=code)
    ours = [f"run_elt_dagster.{name}" for name in ("pytest_plugin", *others)]
    assert f"imported [] {ours}" in result.stdout, result.stdout + result.stderr
