"""Who has asked for the tests on an account, and how they sign in."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from run_elt_dagster.settings import Settings
from run_elt_dagster.variables import SettingsError

FOLDER = Path(__file__).parents[1] / "snowflake"
PREFIX = "RUN_ELT_TESTS_"
EMBEDDED = "RUN_ELT_TESTS_SNOWFLAKE_EMBEDDED"
# Not about signing in: these are settings of the deployment itself.
_SETTINGS = {
    "RUN_ELT_TESTS_SNOWFLAKE_COPY_TAGS": "RUN_ELT_COPY_TAGS",
    "RUN_ELT_TESTS_SNOWFLAKE_CHECK_POLICIES": "RUN_ELT_CHECK_POLICIES",
}
NOT_SET = (
    "a test on a Snowflake account requires RUN_ELT_TESTS_SNOWFLAKE_ACCOUNT, _USER, _ROLE, _WAREHOUSE, _DATABASE and "
    "_PRIVATE_KEY_PATH or _PASSWORD, got none of them. Set them, or RUN_ELT_TESTS_SNOWFLAKE_EMBEDDED=1 for the embedded "
    "Snowflake; see run_elt_dagster_tests/snowflake/README.md."
)


def is_opted_in(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether any of the variables is set; half of a configuration is an error and no reason to skip."""
    return any(name.startswith("RUN_ELT_TESTS_SNOWFLAKE_") and value.strip() for name, value in environment.items())


def is_named(arguments: Iterable[str], directory: Path) -> bool:
    """Tell whether the command line names this folder, or something in it.

    Args:
        arguments: What pytest was told to collect.
        directory: What relative paths start from.
    """
    paths = ((directory / argument.partition("::")[0]).resolve() for argument in arguments)
    return any(path.is_relative_to(FOLDER) for path in paths)


def is_embedded(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the embedded Snowflake is to stand in for an account."""
    return environment.get(EMBEDDED, "") == "1"


def deployment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables that a deployment on the account would have."""
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX) and name != EMBEDDED}
    return {_SETTINGS.get(name, name.removeprefix(PREFIX)): value for name, value in given.items()}


def settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings that a deployment on the account would have.

    Raises:
        ValueError: Half of them is set, or something that cannot be.
    """
    try:
        found = Settings.from_environment(deployment(environment))
    except SettingsError as error:
        raise ValueError(f"the variables of the tests, less their {PREFIX}: {error}") from None
    if found.snowflake is None:
        raise ValueError(NOT_SET)
    return found
