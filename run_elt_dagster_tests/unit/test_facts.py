"""Facts travel as data: nothing reads them back out of a sentence of this project."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import run_elt_dagster
from run_elt_dagster.alerts.failure import ERRNO_UNKNOWN
from run_elt_dagster.alerts.runbook import entries_of
from run_elt_dagster.embedded import NotInstalledError
from run_elt_dagster.model.reason import Reason
from run_elt_dagster.orchestration.failing import fail_if, session_reason
from run_elt_dagster.snowflake.session import NoDatabaseError, StatementError
from run_elt_dagster_tests.unit.test_alert_failure import facts, failure_of, run_of
from run_elt_dagster_tests.unit.test_run_ctas import RecordingSession, outcomes_of, tables

PACKAGE = Path(run_elt_dagster.__file__).parent
# What holds a sentence of this project.
SENTENCES = {
    "cause_class",
    "consequence",
    "description",
    "detail",
    "message",
    "problem",
    "production",
    "remedy",
    "summary",
    "words",
}
READERS = {
    "startswith",
    "endswith",
    "partition",
    "rpartition",
    "split",
    "removeprefix",
    "removesuffix",
    "find",
    "index",
}
PATTERNS = {"search", "match", "fullmatch", "findall", "finditer", "split"}
# The embedded Snowflake, and the reader of its statements, speak in Snowflake's words.
WRITERS = (PACKAGE / "embedded", PACKAGE / "dialect" / "lexer.py")


def reads_of_sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name where code takes apart, or looks into, an attribute that holds a sentence."""
    for node in ast.walk(tree):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in READERS:
                asked.append(node.func.value)
            if node.func.attr in PATTERNS:
                asked += node.args
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.In | ast.NotIn) for op in node.ops):
            asked += node.comparators
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            asked.append(node.value)
        for each in asked:
            if isinstance(each, ast.Attribute) and each.attr in SENTENCES:
                yield each.lineno, each.attr


@pytest.mark.parametrize(
    "code", ["x.message.startswith('a')", "re.search('a', x.problem)", "'a' in x.summary", "x.detail[2:]"]
)
def test_reading_a_sentence_is_noticed(code: str) -> None:
    assert [name for _, name in reads_of_sentences(ast.parse(code))]


def test_no_fact_is_read_back_out_of_a_sentence() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line} {name}"
        for path in PACKAGE.rglob("*.py")
        if not any(path.is_relative_to(writer) for writer in WRITERS)
        for line, name in reads_of_sentences(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def test_facts_of_a_table_reach_the_alert(instance: dg.DagsterInstance) -> None:
    check = {"name": "mine", "kind": "range", "got": "no answer", "expected": "x", "is_answered": False}
    noted = facts(errno=904, reason=Reason.NO_ANSWER.value, checks=[check])
    failure = failure_of(instance, run_of(instance, dg.Failure("x", metadata={"facts": [noted], "skipped": []})))
    (table,) = failure.tables
    assert (table.errno, table.reason, table.checks[0].kind, table.checks[0].is_answered) == (
        904,
        Reason.NO_ANSWER,
        "range",
        False,
    )


def test_facts_of_an_early_end_reach_the_alert(instance: dg.DagsterInstance) -> None:
    early = {"stage": "connect", "summary": "s", "cause": "c", "cause_class": "X", "errno": 250001}
    for reason, anchor in ((Reason.EMBEDDED_BUSY.value, "embedded-busy"), ("unheard-of", "network")):
        noted = {"early": {**early, "reason": reason}}
        failure = failure_of(instance, run_of(instance, dg.Failure("x", metadata=noted)))
        assert failure.errno == 250001
        assert [entry.anchor for entry in entries_of(failure, "connect")] == [anchor]


def test_failure_from_before_there_were_reasons_still_alerts(instance: dg.DagsterInstance) -> None:
    """Row values are taken out whatever its number was, and the runbook is opened at the stage."""
    early = {"stage": "build", "summary": "s", "cause": "c", "cause_class": "Snowflake error 2003"}
    for metadata, stage in (({"facts": [facts()], "skipped": []}, "audit"), ({"early": early}, "build")):
        failure = failure_of(instance, run_of(instance, dg.Failure("x", metadata=metadata)))
        assert {failure.tables[0].errno, failure.tables[0].reason} == {ERRNO_UNKNOWN, None}
        assert [entry.anchor for entry in entries_of(failure, failure.stage)] == [stage]


@pytest.mark.parametrize(
    ("error", "is_embedded", "expected"),
    [
        (NoDatabaseError(), False, Reason.MISSING_NAME),
        (NoDatabaseError(), True, Reason.MISSING_NAME),
        (ValueError("no private key"), False, Reason.SIGN_IN),
        (FileNotFoundError(), False, Reason.SIGN_IN),
        (NotInstalledError(["fakesnow"]), True, Reason.EMBEDDED_NOT_INSTALLED),
        (TimeoutError(), True, Reason.EMBEDDED_BUSY),
        (PermissionError(), True, Reason.EMBEDDED_DISK),
    ],
)
def test_reason_why_there_is_no_session_is_the_class_of_the_error(
    error: Exception, is_embedded: bool, expected: Reason
) -> None:
    assert session_reason(error, is_embedded=is_embedded) is expected


STATEMENT = StatementError("nothing came", errno=None, query_id="01b2", answered=False, reason=Reason.NO_ANSWER)


@pytest.mark.parametrize(
    ("pattern", "error", "reason"),
    [
        ("select 1 as x", STATEMENT, Reason.NO_ANSWER),
        (
            "select 1 as x",
            StatementError("Schema 'PROD.A' does not exist", errno=2003, query_id="q", answered=True),
            Reason.PRIVILEGES,
        ),
        ("CLONE", KeyError("odd"), None),
    ],
)
def test_failure_notes_its_reason_and_its_message_always_says_what_readers_see(
    pattern: str, error: Any, reason: Reason | None
) -> None:
    failure = outcomes_of(RecordingSession(failing={pattern: error}), tables(x=""))["x"].failure
    assert failure is not None
    assert failure.reason is reason
    assert failure.production.words in failure.message


def test_failure_of_a_run_has_its_first_causes_without_row_values() -> None:
    """Dagster prints it below the log, with the lines of its code: the causes in the log are far above."""

    def fact(table: str, cause: str, errno: int | None = None) -> dict[str, Any]:
        return facts(table=table, stage="build", cause=cause, errno=errno, was_built=True, message=cause)

    one = fact("a.t", "Numeric value 'Ada Lovelace' is not recognized\nat line 1", 100038)
    with pytest.raises(dg.Failure) as raised:
        fail_if([one], [])
    first, cause, rest = (raised.value.description or "").splitlines()
    assert (first, rest) == (
        "1 table failed: a.t in stage build.",
        "The log and the metadata of this event have more about it.",
    )
    assert cause.startswith("  a.t: Numeric value")
    assert "Ada" not in cause
    with pytest.raises(dg.Failure, match=r"\n  a\.t: t\.sql:2: unknown key 'ownr'\n"):
        fail_if([fact("a.t", "t.sql:2: unknown key 'ownr'")], [])
    with pytest.raises(dg.Failure) as raised:
        fail_if([fact(f"a.t{number}", "x" * 1000) for number in range(5)], [])
    lines = (raised.value.description or "").splitlines()
    assert [line[:7] for line in lines[1:4]] == ["  a.t0:", "  a.t1:", "  a.t2:"]
    assert lines[-1] == "The log and the metadata of this event have the causes of 2 more tables."
    assert len("".join(lines)) < 1300
