"""Write docs/commands.md from the help of `run-elt`: `make docs`."""

from collections.abc import Iterator
from pathlib import Path

import click

from run_elt_dagster.cli import COMMANDS, run_elt

PAGE = Path(__file__).parent / "commands.md"
WIDTH = 100

INTRO = """# Commands

`run-elt` answers what comes up before and after a run. Dagster's own commands build. Each command reads the same settings as a run
([settings.md](settings.md)), from the environment and from `.env` in the working directory. With `-m`, `-f` or a pyproject.toml that names your
code location, it works on [a project of your own](library.md#commands).

The exit code is 0 where all is well, 1 where something is wrong, 2 for wrong usage, and 130 after an interruption.

On a terminal, a line at the bottom shows what takes long and since when. Pipes get none, and neither does `--json`.

Names of commands, options and tables complete in the shell, after `eval "$(_RUN_ELT_COMPLETE=bash_source run-elt)"`.
"""


def text() -> str:
    """Return the page: what each command prints with `--help`."""
    parent = click.Context(run_elt, info_name="run-elt", **run_elt.context_settings)
    parts = [INTRO]
    for title, names in COMMANDS.items():
        parts.append(f"## {title}\n")
        parts += [_section(name, parent) for name in names]
    return "\n".join(parts)


def _section(name: str, parent: click.Context) -> str:
    command = run_elt.get_command(parent, name)
    assert command is not None, name  # noqa: S101 - COMMANDS names no other
    return f"### run-elt {name}\n\n" + "\n".join(_helps(command, name, parent))


def _helps(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """Yield the help of a command, and that of each command in it."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    yield f"```text\n{command.get_help(context)}\n```\n"
    for inner, each in getattr(command, "commands", {}).items():
        yield from _helps(each, inner, context)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
