"""How much a test does of what could go on for ever: `make thorough` takes hours and looks further."""

import os
from collections.abc import Collection, Iterable
from typing import Any

import pytest

# How long a test waits for what is bound to happen, on a machine that does ten other things as well: only a failure takes so
# long. Where a test waits, it waits for an event and not for a time.
PATIENCE_SECONDS = 240


def effort(*, usual: int, thorough: int) -> int:
    return thorough if os.environ.get("RUN_ELT_TESTS_THOROUGH") else usual


def cases(every: Iterable[Any], *, usual: Collection[Any]) -> list[Any]:
    """Return the parameters of a test, of which a run that is not thorough takes the usual ones alone.

    Raises:
        ValueError: A usual case is none of all.
    """
    known = list(every)
    if unknown := [case for case in usual if case not in known]:
        raise ValueError(f"The usual cases {unknown} are none of {known}.")
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), marks=() if case in usual else pytest.mark.thorough
        )
        for case in known
    ]
