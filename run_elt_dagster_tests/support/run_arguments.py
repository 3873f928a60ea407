"""The arguments of `run_tables` and `StatementRunner`, from the fields of what they take."""

from dataclasses import fields
from typing import Any

from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.runner import Patience, RunContext


def run_arguments(run_id: str, **given: Any) -> dict[str, Any]:
    """Return the arguments `run`, `options` and `patience`.

    Args:
        run_id: Of the run.
        given: Fields of `RunContext`, `PublishOptions` and `Patience`, by their names.
    """
    parts = {"run": RunContext, "options": PublishOptions, "patience": Patience}
    own = {part: {field.name for field in fields(kind)} for part, kind in parts.items()}
    unknown = set(given) - set().union(*own.values())
    assert not unknown, unknown
    given["run_id"] = run_id
    return {
        part: kind(**{name: value for name, value in given.items() if name in own[part]})
        for part, kind in parts.items()
    }
