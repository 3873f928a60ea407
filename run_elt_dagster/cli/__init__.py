"""The command `run-elt`: tables, runs and the set-up, without the UI.

`COMMANDS` lists what there is. A command's module is imported when the command is run: Dagster alone takes a second, and neither
`--help` nor the completion of a shell has to wait for it.
"""

import importlib
import importlib.metadata
import os
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from run_elt_dagster.runs.history_files import HistoryProblem

# What shells expect of a command that SIGINT has ended.
INTERRUPTED = 130

# Each is the function `command` of the module of its name, in this folder.
COMMANDS: Mapping[str, Mapping[str, str]] = {
    "Write tables": {
        "new": "Write the first version of a table's file and of its tests.",
        "seed": "Load a file of your own into the embedded Snowflake.",
        "lint": "Check the table files, all of them at once.",
        "test": "Run the tests of tables, without a warehouse.",
        "preview": "Build and audit a table, and publish nothing.",
        "diff": "Count what a build would change for readers.",
        "plan": "Print what a run would build, and where it would be published.",
        "env": "Make, list and drop copies of the production database.",
    },
    "Look": {
        "show": "List what readers see, and print the rows of tables.",
        "query": "Print the rows of a query.",
        "lineage": "Show which columns the values of a column come from.",
        "cost": "List what each table has cost in Snowflake.",
    },
    "Mend": {
        "retry": "Build what a failed run left unpublished, and nothing else.",
        "rebuild": "Build a table with increments whole again.",
        "publish": "Publish the candidate that a run has rejected and kept.",
        "rollback": "Put the previous version of a table, or of a group, back.",
    },
    "Check the set-up": {
        "doctor": "Check settings, tables, Snowflake, Slack and Dagster.",
        "alert": "List, acknowledge and snooze alerts, and try them out.",
        "watch": "Check a deployment from outside, and post failures to Slack.",
    },
}


class _Commands(click.Group):
    """The commands of `COMMANDS`, each imported when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        """Return the names of all commands."""
        return [name for part in COMMANDS.values() for name in part]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        return importlib.import_module(f"{__name__}.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; the error about a name that is none has the nearest one."""
        names = self.list_commands(ctx)
        near = get_close_matches(args[0], names, n=1)
        if near and args[0] not in names and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - Click's signature
        """Write the commands by what they are for, without importing them."""
        for title, part in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl(list(part.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command, without importing it."""
        return [
            CompletionItem(name, help=text)
            for part in COMMANDS.values()
            for name, text in part.items()
            if name.startswith(incomplete)
        ] or click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog='Completion in bash: eval "$(_RUN_ELT_COMPLETE=bash_source run-elt)". For zsh and fish: zsh_source, fish_source.',
)
@click.version_option(
    importlib.metadata.version("run_elt_dagster"), prog_name="run-elt", message="%(prog)s %(version)s"
)
def run_elt() -> None:
    """Look at the tables of run_elt_dagster, mend them, and check the set-up."""


class InterruptedCommandError(Exception):
    """SIGINT has ended a command; the text says what that leaves unknown."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 something is wrong, 2 wrong usage, 130 interrupted."""
    from dotenv import load_dotenv  # noqa: PLC0415 - the completion of a shell does not need it

    # Dagster's own commands read .env in the working directory; this one then sees the same settings.
    load_dotenv(Path(".env"))
    try:
        return run_elt.main(arguments, prog_name="run-elt", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, InterruptedCommandError) as error:
        print(f"run-elt: interrupted. {error}".rstrip(), file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        lines = _lines_of(error)
        if not lines:
            raise
        for line in lines:
            print(f"run-elt: {line}", file=sys.stderr)
        return 1


def _lines_of(error: Exception) -> Sequence[object]:
    """Return what a person reads of an error; nothing of one that only a fault of this project explains."""
    # Imported here: an error is rare, and what has raised it has imported them.
    from run_elt_dagster.disk import DiskError  # noqa: PLC0415
    from run_elt_dagster.embedded import NotInstalledError  # noqa: PLC0415
    from run_elt_dagster.publish.group_rollback import GroupRollbackError  # noqa: PLC0415
    from run_elt_dagster.publish.guards import PublishRefusedError  # noqa: PLC0415
    from run_elt_dagster.snowflake.session import StatementError  # noqa: PLC0415

    refused = (PublishRefusedError, GroupRollbackError)
    told = (NotInstalledError, StatementError, *refused, TimeoutError, ValueError, DiskError)
    return [error] if isinstance(error, told) else _history_problems(error)


def _history_problems(error: BaseException | None) -> "list[HistoryProblem]":
    """Return what is wrong with the files of Dagster's history, if an error is SQLite's or the operating system's about them."""
    from run_elt_dagster.runs.history_files import history_problems  # noqa: PLC0415 - an error is rare

    while error is not None:
        if isinstance(error, (sqlite3.Error, OSError)) or getattr(error, "orig", None) is not None:
            return history_problems(Path(os.environ.get("DAGSTER_HOME") or Path.cwd()))
        error = error.__cause__ or error.__context__
    return []
