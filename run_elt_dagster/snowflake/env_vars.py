"""Secrets of a resource, for use outside of Dagster's own injection."""

from typing import TypeVar

import dagster as dg

Resource = TypeVar("Resource", bound=dg.ConfigurableResource[None])


def resolved(resource: Resource) -> Resource:
    """Return the resource with the variables that hold its secrets read.

    Dagster's `process_config_and_initialize` does it too, but makes an instance with databases of its own for it: seconds, and
    warnings where they are cleared away in another thread than the one that made them (as of dagster 1.13).
    """
    fields = {name: getattr(resource, name) for name in type(resource).model_fields}
    values = {name: value.get_value() for name, value in fields.items() if isinstance(value, dg.EnvVar)}
    return resource.model_copy(update=values)
