"""The publish protocol is drawn in docs/architecture.md as the code has it."""

import ast
import inspect
import re
import textwrap
from pathlib import Path
from typing import get_args

import pytest

from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.publish.methods import METHODS
from run_elt_dagster.publish.table_run import ENDS, TRANSITIONS, State, TableRun

PAGE = (Path(__file__).parents[2] / "docs/architecture.md").read_text()
_STEPS = {state: f"_{state.name.lower()}" for state in TRANSITIONS}


def raised_as_superseded(method: str) -> set[State]:
    """Return `superseded` where a method waits for newer builds, itself or through what it calls."""
    waits = {"_wait_for_newer_builds", "_require_a_candidate"}
    called = {node.attr for node in ast.walk(tree_of(method)) if isinstance(node, ast.Attribute)}
    return {State.SUPERSEDED} if waits & called else set()


def tree_of(method: str) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(getattr(TableRun, method))))


def returned_by(method: str) -> set[State]:
    returns = [node.value for node in ast.walk(tree_of(method)) if isinstance(node, ast.Return)]
    return {State[value.attr] for value in returns if isinstance(value, ast.Attribute)}


@pytest.mark.parametrize("state", TRANSITIONS, ids=lambda state: state.name)
def test_method_of_a_state_returns_the_states_that_the_table_names(state: State) -> None:
    method = _STEPS[state]
    returned = (returned_by(method) | raised_as_superseded(method)) - {State.FAILED}
    assert returned == set(TRANSITIONS[state])


def test_every_state_is_an_end_or_is_followed_by_another() -> None:
    assert set(TRANSITIONS) | ENDS == set(State)
    assert not set(TRANSITIONS) & ENDS


def test_diagram_draws_the_transitions_of_the_code() -> None:
    (diagram,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", PAGE, re.DOTALL)
    arrows = set(re.findall(r"^\s*(\w+) --> (\w+)", diagram, re.MULTILINE))
    expected = {(state.name, following.name) for state, others in TRANSITIONS.items() for following in others}
    assert arrows == expected


def test_table_of_states_names_the_transitions_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|$", PAGE, re.MULTILINE)
    named = {State[name]: tuple(State[other] for other in re.findall(r"`(\w+)`", others)) for name, others in rows}
    assert named == TRANSITIONS


def test_every_way_of_publishing_that_a_file_may_name_has_its_method() -> None:
    assert set(METHODS) == set(get_args(AnalyticsTable.model_fields["publish"].annotation))
