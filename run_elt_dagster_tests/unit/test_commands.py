"""The command line as a whole: what is listed, imported, completed and documented."""

import contextlib
import io
import os
import pty
import re
import runpy
import subprocess
import sys
from pathlib import Path

import click
import pytest

from run_elt_dagster.cli import COMMANDS, main, run_elt
from run_elt_dagster.cli.printing import print_table

ROOT = Path(__file__).parents[2]
NAMES = [name for part in COMMANDS.values() for name in part]


def test_page_of_commands_is_what_they_say() -> None:
    """`make docs` writes it."""
    written = runpy.run_path(str(ROOT / "docs" / "write_commands.py"))
    assert written["PAGE"].read_text(encoding="utf-8") == written["text"]()


@pytest.mark.parametrize("name", NAMES)
def test_listed_command_has_its_name_and_says_what_it_does(name: str) -> None:
    command = run_elt.get_command(click.Context(run_elt), name)
    assert command is not None
    assert command.name == name
    assert command.help
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option))


def test_every_module_with_a_command_is_listed() -> None:
    folder = ROOT / "run_elt_dagster" / "cli"
    assert {path.stem for path in folder.glob("*.py") if "def command(" in path.read_text("utf-8")} == set(NAMES)


def test_help_and_completion_do_not_import_dagster() -> None:
    """A shell that completes a name waits for it."""
    code = "import sys; from run_elt_dagster.cli import main; main(); assert 'dagster' not in sys.modules"
    helped = _run([sys.executable, "-c", code, "--help"], {})
    assert all(f"  {name} " in helped for name in NAMES)
    assert set(_completed("run-elt ")) == set(NAMES)
    assert _completed("run-elt sh") == ["show"]
    # Names of tables, from the names of their files.
    assert _completed("run-elt show analytics.m") == ["analytics.mau_summary"]


def test_wrong_usage_ends_with_2_and_names_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shwo"]) == 2
    assert "No such command 'shwo'. Did you mean show?" in capsys.readouterr().err
    assert main(["doctor", "slak"]) == 2
    assert "'slack'" in capsys.readouterr().err


def _completed(line: str) -> list[str]:
    """Return what a shell offers at the end of a line."""
    words = {"_RUN_ELT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    code = "import sys; from run_elt_dagster.cli import main; main()"
    return [offered.partition(",")[2] for offered in _run([sys.executable, "-c", code], words).splitlines()]


def _run(command: list[str], variables: dict[str, str]) -> str:
    return subprocess.run(command, env={**os.environ, **variables}, check=True, capture_output=True, text=True).stdout


def _on_a_terminal(*arguments: str) -> str:
    """Return all that a terminal gets of a command, drawn lines with their escapes."""
    own, others = pty.openpty()
    code = "import sys; from run_elt_dagster.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdin=others, stdout=others, stderr=others, env={**os.environ, "TERM": "xterm"}):
        os.close(others)
        drawn = b""
        # Linux ends a terminal that nobody writes to any more with an error.
        with contextlib.suppress(OSError):
            while some := os.read(own, 65536):
                drawn += some
    os.close(own)
    return drawn.decode()


def test_terminal_alone_gets_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe and a program get what the command prints, and nothing else."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "t.sql").write_text("select 1 as n", encoding="utf-8")
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(tmp_path))
    drawn = _on_a_terminal("lint")
    # The line is drawn, and erased before the result is printed.
    before, _, after = drawn.partition("Reading the table files")
    assert "no problem" not in before
    assert "\x1b[2K" in after.partition("no problem")[0]
    assert _on_a_terminal("lint", "--json") == "[]\r\n"
    code = "import sys; from run_elt_dagster.cli import main; sys.exit(main())"
    piped = subprocess.run([sys.executable, "-c", code, "lint"], check=True, capture_output=True, text=True)
    assert (piped.stdout, piped.stderr) == ("no problems in 1 table file\n", "")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


HEADER = ["table", "rows", "seconds", "checks passed", "built (UTC)", "by run", "at"]
LINE = ["analytics.mau_summary", "7", "0.31", "2 of 2", "2026-11-28 00:00:12", "3f9a21c4", "2026-11-28 00:00:14"]


def _printed(monkeypatch: pytest.MonkeyPatch, width: int, header: list[str], *rows: list[str]) -> str:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(header, rows)
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())


def test_narrow_terminal_gets_a_line_for_each_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """In columns, each of them would have seven characters."""
    said = "a note that is too long for a line of a terminal that is as narrow as a phone is"
    assert _printed(monkeypatch, 60, [*HEADER, "note"], [*LINE, f"{said}\nlast"]) == (
        "analytics.mau_summary\n"
        "  rows           7\n"
        "  seconds        0.31\n"
        "  checks passed  2 of 2\n"
        "  built (UTC)    2026-11-28 00:00:12\n"
        "  by run         3f9a21c4\n"
        "  at             2026-11-28 00:00:14\n"
        "  note           a note that is too long for a line of a\n"
        "                 terminal that is as narrow as a phone is\n"
        "                 last\n"
    )


@pytest.mark.parametrize(("width", "header", "row"), [(80, HEADER, LINE), (30, HEADER[:2], ["x" * 50, "1"])])
def test_terminal_that_is_wide_enough_gets_columns(
    monkeypatch: pytest.MonkeyPatch, width: int, header: list[str], row: list[str]
) -> None:
    lines = [line.split() for line in _printed(monkeypatch, width, header, row).splitlines()]
    assert any(line[:2] == ["table", "rows"] for line in lines)


def test_value_of_a_table_cannot_command_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["na\x1bme"], [["\x1b[2Jgone\x07"]])
    assert capsys.readouterr().out == "na\\x1bme\n\\x1b[2Jgone\\x07\n"
