"""Whose run is it: two code locations of one instance may declare tables of the same names.

A run that a code location launched names it. One of the command line names the module or file that it was started with, and
writes from where: the location that has most in common with it is its own.
"""

import contextlib
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from run_elt_dagster.runs.tags import STARTED_FROM, own
from run_elt_dagster.settings import EMBEDDED_DATABASE, Settings
from run_elt_dagster.variables import SettingsError

_PACKAGE = __name__.partition(".")[0]
# How much each says about where a run was started: the account and the tables more than the machine.
_WEIGHTS = {"target": 2, "tables": 2, "package": 2, "host": 1, "executable": 1, "directory": 1}
_SAME_CODE, _SAME_PACKAGE = 8, 4
_FINGERPRINT_CHARACTERS = 8
# If the sensor of a location was not evaluated for so long, the location counts as gone.
FRESH_SECONDS = 3600


@dataclass(frozen=True)
class CodeLocation:
    """A code location, as far as its runs of the command line are recognised by it.

    Attributes:
        name: Its name in the workspace.
        repository: Name of its repository.
        code: The module or file that it loads; empty where it is served by a process of its own.
        surroundings: Fingerprints of where its process runs, as `surroundings` returns them.
    """

    name: str
    repository: str
    code: str
    surroundings: Mapping[str, str]

    def has(self, run: dg.DagsterRun, others: Sequence["CodeLocation"]) -> bool:
        """Return whether a run is this location's.

        Args:
            run: The run.
            others: What is known of the other locations with these alerts.
        """
        if run.remote_job_origin is not None:
            origin = run.remote_job_origin.repository_origin
            return (self.name, self.repository) == (origin.code_location_origin.location_name, origin.repository_name)
        started_from, code = own(run, STARTED_FROM), _code_of_run(run)
        if started_from is None and code is None:
            return True
        facts: Mapping[str, str] = json.loads(started_from or "{}")
        known = {(each.name, each.repository): each for each in (*others, self)}
        scores = {name: location.in_common(code or "", facts) for name, location in known.items()}
        best = max(scores.values())
        if started_from is None and best < _SAME_PACKAGE:
            # No run of ours has begun there, and it was started with other code.
            return False
        return (self.name, self.repository) == min(name for name, score in scores.items() if score == best)

    def surely_has(self, run: dg.DagsterRun) -> bool:
        """Return whether a run is this location's, whatever others there are: it names it, or had its tables and its target."""
        if run.remote_job_origin is not None:
            return self.has(run, ())
        facts: Mapping[str, str] = json.loads(own(run, STARTED_FROM) or "{}")
        return all(name in facts and facts[name] == self.surroundings.get(name) for name in ("tables", "target"))

    def in_common(self, code: str, facts: Mapping[str, str]) -> int:
        """Return how much of where a run was started is this location's: its code, and its surroundings."""
        mine = self.code or _PACKAGE
        same_package = code.partition(".")[0] == mine.partition(".")[0] or _is_inside_package(code)
        of_code = _SAME_CODE if code == mine else _SAME_PACKAGE if same_package else 0
        return of_code + sum(
            weight for name, weight in _WEIGHTS.items() if name in facts and facts[name] == self.surroundings.get(name)
        )


@dataclass(frozen=True)
class Place:
    """What a code location builds, and where.

    Attributes:
        tables: The folders of its tables.
        target: The account and the database, or the folder of the embedded Snowflake.
    """

    tables: str
    target: str

    @classmethod
    def of(cls, settings: Settings) -> "Place":
        """Return the place of the shipped code location."""
        account = settings.snowflake
        if account is None:
            return cls(str(settings.tables_dir), embedded_target(settings.embedded_dir, settings.embedded_database))
        return cls(str(settings.tables_dir), f"{account.account}|{account.database}")


def embedded_target(directory: Path, database: str) -> str:
    """Return where tables of the embedded Snowflake are: its folder alone for its own database, so an older version's is the same."""
    return str(directory) if database == EMBEDDED_DATABASE else f"{directory}|{database}"


def this_location(context: dg.SensorEvaluationContext, place: Place | None = None) -> CodeLocation | None:
    """Return the code location that evaluates a sensor; None outside of a daemon."""
    origin: Any = context.code_location_origin
    if origin is None or context.repository_name is None:
        return None
    loaded = None if type(origin).__name__ == "GrpcServerCodeLocationOrigin" else origin.loadable_target_origin
    code = "" if loaded is None else _code(loaded.module_name or loaded.package_name, loaded.python_file, loaded)
    return CodeLocation(origin.location_name, context.repository_name, code, surroundings(place))


def location_here(known: Sequence[CodeLocation], place: Place | None = None) -> CodeLocation | None:
    """Return the location that is started from where this process is, if one is known."""
    here = surroundings(place)
    return min(known, key=lambda location: (-location.in_common(_PACKAGE, here), location.name), default=None)


def to_cursor(location: CodeLocation, *, now: float) -> str:
    """Return the cursor that identifies this location to the others."""
    return json.dumps({"at": now, "location": asdict(location)})


def was_seen_lately(cursor: str | None, *, now: float) -> bool:
    """Return whether a cursor of `to_cursor` is so young that the others have been seen since, too."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return bool(json.loads(cursor or "")["at"] > now - FRESH_SECONDS)
    return False


def known_locations(instance: dg.DagsterInstance, sensor: str) -> tuple[CodeLocation, ...]:
    """Return the locations whose sensor of this name was evaluated within the hour, by its cursor."""
    found: list[CodeLocation] = []
    # An instance in memory keeps no schedules and sensors.
    states: list[Any] = list(instance.all_instigator_state()) if instance.schedule_storage is not None else []
    for state in states:
        if state.instigator_name != sensor:
            continue
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            kept = json.loads(state.instigator_data.cursor)
            if kept["at"] > time.time() - FRESH_SECONDS:
                found.append(CodeLocation(**kept["location"]))
    return tuple(found)


@cache
def surroundings(place: Place | None = None) -> Mapping[str, str]:
    """Return where this process runs, and what it builds, as fingerprints. Nothing can be read from them.

    Args:
        place: What the code location builds, None for what the environment says.
    """
    facts = {
        "package": str(Path(__file__).resolve().parents[1]),
        "host": socket.gethostname(),
        "executable": sys.executable,
        "directory": str(Path.cwd()),
    }
    with contextlib.suppress(SettingsError):
        facts |= asdict(place or Place.of(Settings.from_environment()))
    return {name: hashlib.sha256(fact.encode()).hexdigest()[:_FINGERPRINT_CHARACTERS] for name, fact in facts.items()}


def started_from(place: Place | None = None) -> str:
    """Return what a run of this process writes down about where it was started."""
    return json.dumps(surroundings(place))


def _code_of_run(run: dg.DagsterRun) -> str | None:
    if run.job_code_origin is None:
        return None
    pointer: Any = run.job_code_origin.repository_origin.code_pointer
    return _code(getattr(pointer, "module", None), getattr(pointer, "python_file", None), pointer)


def _code(module: str | None, python_file: str | None, origin: Any) -> str:
    if module or not python_file:
        return module or ""
    return os.path.realpath(Path(getattr(origin, "working_directory", None) or "") / python_file)


def _is_inside_package(code: str) -> bool:
    return code.startswith(str(Path(__file__).resolve().parents[1]) + os.sep)
