"""Secrets of a resource, for use outside of Dagster's own injection."""

from typing import Any, TypeVar

import dagster as dg

Resource = TypeVar("Resource", bound=dg.ConfigurableResource[None])


def resolved(resource: Resource) -> Resource:
    """Return the resource with the variables that hold its secrets read.

    Dagster's `process_config_and_initialize` does it too, but makes an instance with databases of its own for it: seconds, and
    warnings where they are cleared away in another thread than the one that made them (as of dagster 1.13).
    """
    fields = {name: getattr(resource, name) for name in type(resource).model_fields}
    return resource.model_copy(update={name: _value(field) for name, field in fields.items()})


def text_of(field: str | None) -> str:
    """Return a field's text while the code location is loaded; empty if it has none, or its variable is not set."""
    return (field.get_value() if isinstance(field, dg.EnvVar) else field) or ""


def _value(field: Any) -> Any:
    if isinstance(field, dg.EnvVar):
        return field.get_value()
    return {name: _value(each) for name, each in field.items()} if isinstance(field, dict) else field
