"""Whether the code server has loaded the code location, by asking it as the daemon does.

Its own health check is not enough: `dagster code-server start` answers "serving" with a load error too, and then the daemon
evaluates nothing and reports nothing.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

# Starting the command takes seconds, on a busy machine many.
LIMIT_SECONDS = 60
_REMOTE = re.compile(r"Error loading repository location [^:\s]+:(.*)", re.DOTALL)
_CAUSED_BY = "The above exception was caused by the following exception:"

Answer = tuple[Literal["loaded", "broken", "away", "unknown"], str]
"""`broken` is a load error and `away` no answer, each with what was said; `unknown` says nothing about the server."""


def ask_code_server(home: Path) -> Answer:
    """Return what the code server says that `workspace.yaml` in a DAGSTER_HOME names. Safe to repeat; nothing is changed.

    https://docs.dagster.io/deployment/code-locations/workspace-yaml
    """
    workspace = home / "workspace.yaml"
    place = _place(workspace)
    if not place:
        return "unknown", ""
    # The public way to ask; a library call for it is none of Dagster's public API.
    command = [sys.executable, "-P", "-m", "dagster", "schedule", "list", "--workspace", str(workspace)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return "away", f"the code server at {place} gave no answer within {LIMIT_SECONDS} s"
    return answer_of(run.returncode, run.stderr, place)


def answer_of(exit_code: int, text: str, place: str) -> Answer:
    """Return what Dagster's command has found out. Pure.

    Args:
        exit_code: The command's.
        text: What it wrote to its error output.
        place: Host and port, for the words.
    """
    if exit_code == 0:
        return "loaded", place
    said = _REMOTE.search(text)
    if said is None:
        return "unknown", ""
    first, *causes = (each.partition("Stack Trace:")[0].strip() for each in said[1].split(_CAUSED_BY))
    if "UserCodeUnreachableError" in first:
        return "away", f"no code server answers at {place}"
    # The first says only that loading failed.
    return "broken", re.sub(r"^[\w.]+: ", "", causes[0] if causes else first)


def _place(workspace: Path) -> str:
    """Return host and port of the one code server of a workspace; empty if there is none, or several."""
    try:
        (entry,) = yaml.safe_load(workspace.read_text(encoding="utf-8"))["load_from"]
        server: Mapping[str, Any] = entry["grpc_server"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return ""
    host, port = (_value(server.get(name, "")) for name in ("host", "port"))
    return f"{host}:{port}" if host and port else ""


def _value(setting: Any) -> str:
    return os.environ.get(str(setting.get("env")), "") if isinstance(setting, dict) else str(setting)
