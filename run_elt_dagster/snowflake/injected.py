"""The resource of Snowflake as an op gets it: under the key of the code location, of this project's class or of dagster-snowflake's."""

import inspect
from collections.abc import Callable
from typing import Any

import dagster as dg

from run_elt_dagster.snowflake.resource import Snowflake

SNOWFLAKE_KEY = "snowflake"
# Of the function.
PARAMETER = "snowflake"


def needs_snowflake(key: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function of an op with the parameter `snowflake` get the resource with a key; its other parameters stay.

    Dagster hands out a resource by the name of a parameter. With `required_resource_keys` in its place, dagster-snowflake's resource
    would come as its older `SnowflakeConnection`, which does not say how it signs in.
    https://docs.dagster.io/guides/build/external-resources/configuring-resources
    """

    def named(function: Callable[..., Any]) -> Callable[..., Any]:
        def compute(context: Any, **given: Any) -> Any:
            return function(context, snowflake=Snowflake.of(given.pop(key)), **given)

        found = inspect.signature(function).parameters.values()
        resource = inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=dg.ResourceParam[Any])
        parameters = [*(each for each in found if each.name != PARAMETER), resource]
        compute.__name__, compute.__doc__ = function.__name__, function.__doc__
        compute.__annotations__ = {each.name: each.annotation for each in parameters}
        compute.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return compute

    return named
