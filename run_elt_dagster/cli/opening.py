"""What a command opens: Dagster's history, and a session of Snowflake."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from run_elt_dagster.cli.printing import say_on_stderr
from run_elt_dagster.project import Project
from run_elt_dagster.redaction import redact
from run_elt_dagster.settings import Settings, history_is_kept, secret_values
from run_elt_dagster.snowflake.session import ConnectorSession, StatementError


def dagster_instance() -> dg.DagsterInstance:
    """Return the instance that Dagster's commands use here: DAGSTER_HOME, or the folder with dagster.yaml.

    Raises:
        ValueError: There is neither.
    """
    if not os.environ.get("DAGSTER_HOME"):
        if not Path("dagster.yaml").is_file():
            raise ValueError(
                f"run-elt requires DAGSTER_HOME or a dagster.yaml in the working directory, got neither in {Path.cwd()}. "
                "Change to the folder where Dagster was started, or set DAGSTER_HOME.",
            )
        os.environ["DAGSTER_HOME"] = str(Path.cwd())
    return dg.DagsterInstance.get()


@contextmanager
def history() -> Generator[dg.DagsterInstance | None]:
    """Open the instance of Dagster's commands, None where they keep no history."""
    if not history_is_kept():
        yield None
        return
    with dagster_instance() as instance:
        yield instance


@contextmanager
def signed_in(project: Project) -> Generator[ConnectorSession]:
    """Open a session.

    Raises:
        ValueError: Snowflake or the connector refuses. The text has the next step.
    """
    with in_words(project.settings), project.snowflake.session(log=say_on_stderr) as session:
        try:
            yield session
        except StatementError as error:
            remedy = "Check the grants." if error.answered else "Look at the network and at Snowflake's status page."
            raise ValueError(f"Snowflake cannot be asked, got {error}. {remedy}") from error


@contextmanager
def in_words(settings: Settings) -> Generator[None]:
    """Turn an error of the connector into one with the next step.

    Raises:
        ValueError: In the place of the connector's error.
    """
    try:
        yield
    except Exception as error:
        # Imported by whatever has raised it, and half a second otherwise.
        connector = sys.modules.get("snowflake.connector.errors")
        if connector is None or not isinstance(error, connector.Error):
            raise
        from run_elt_dagster.doctor.sign_in import sign_in_remedy  # noqa: PLC0415 - a failure is rare

        text = " ".join(redact(str(getattr(error, "msg", None) or error), secrets=secret_values()).split()).rstrip(".")
        remedy = "Check the grants." if getattr(error, "sfqid", None) else sign_in_remedy(settings, error)
        raise ValueError(f"Snowflake cannot be asked, got {text}. {remedy}") from error
