"""Selections that match no table: Dagster records such a run as one of every table, and here it is refused."""

import difflib
import fnmatch
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import dagster as dg

from run_elt_dagster.model.lineage import Catalogue
from run_elt_dagster.model.names import Key
from run_elt_dagster.model.table import AnalyticsTable
from run_elt_dagster.redaction import excerpt
from run_elt_dagster.runs.facts import REFUSED

KINDS = {"snowflake", "table"}
# A table whose file is broken has it too: it is a sign in the graph.
BROKEN_KIND = "broken"

# The job that Dagster makes of all assets; it offers no constant for the name.
_IMPLICIT_JOB = "__ASSET_JOB"
_OPTIONS = ("--select", "--assets")
_ATTRIBUTE = re.compile(r"(?P<name>[a-z_]+):\s*(?:\"(?P<quoted>[^\"]*)\"|(?P<bare>[^\s()\",+]+))")
_SHOWN, _LIMIT = 5, 500


def refuse_empty_selection(
    run: dg.DagsterRun,
    selected: Sequence[Key],
    tables: Catalogue,
    *,
    root: dg.DagsterRun | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Raise if a run would build tables that were not selected. Nothing was sent to Snowflake before.

    Args:
        run: The run.
        selected: The tables that Dagster wants built.
        tables: The declared tables.
        root: The run that this one re-executes, if it does: of a refused run, the page offers every table as failed.
        arguments: The command line of the process, by default its own.

    Raises:
        dagster.Failure: The selection of the run matches nothing.
    """
    if not selected or not (matches_nothing(run) or (root is not None and matches_nothing(root))):
        return
    asked = _asked_for(sys.argv if arguments is None else arguments)
    message = (
        f"a run requires a selection that matches an asset, got {excerpt(asked or 'an empty one', limit=_LIMIT)}. Dagster would build every table "
        f"instead: this run is refused, nothing was built, and readers see what they saw before. "
        f"{' '.join(_hints(asked, tables))} For every table, select '*' or launch a job."
    )
    raise dg.Failure(message, metadata={REFUSED: message}, allow_retries=False)


def matches_nothing(run: dg.DagsterRun) -> bool:
    """Return whether assets were selected, and none was found. Tried on Dagster 1.13.27.

    | launched by | `asset_selection` | origin |
    | --- | --- | --- |
    | the command line or GraphQL, a selection that matches nothing | None, on the implicit job | either |
    | a sensor or a schedule, `RunRequest(asset_selection=[])` | empty | a code location |
    | a job as a whole: by hand, by the schedule, from the command line | None, on a job with a name | either |
    | `execute_in_process` and `materialize` in Python, without a selection | empty | none |
    | checks alone | None or empty, beside `asset_check_selection` | either |
    """
    if run.asset_selection or run.asset_check_selection:
        return False
    if run.asset_selection is None:
        return run.job_name.startswith(_IMPLICIT_JOB)
    return run.remote_job_origin is not None


def _asked_for(arguments: Sequence[str]) -> str | None:
    """Return what a command line selects; None where the run was launched by other means.

    The run does not keep it: `dagster asset materialize` and `dg launch` execute it in their own process.
    """
    found: str | None = None
    for number, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option in _OPTIONS:
            # As Dagster's commands have it, the last one counts.
            found = value if equals else next(iter(arguments[number + 1 :]), None)
    return found


def _hints(asked: str | None, tables: Catalogue) -> Iterator[str]:
    """Yield what may have been meant by each part of a selection, or else what there is to select by."""
    parts = [(found["name"], found["quoted"] or found["bare"] or "") for found in _ATTRIBUTE.finditer(asked or "")]
    unknown = [part for part in dict.fromkeys(parts) if part[1] not in _VALUES.get(part[0], _VALUES["key"])(tables)]
    if parts and not unknown:
        yield "Each part is known here, and no table is in all of them: `or` takes what is in one of them."
        return
    for name, value in unknown or [("key", "")]:
        known = _VALUES.get(name, _VALUES["key"])(tables)
        near = _near(value, known)
        shown = [_expression(name, one) for one in near or known[:_SHOWN]]
        more = f" and {len(known) - _SHOWN:,} more" if len(known) > _SHOWN else ""
        if _is_loaded_elsewhere(name, value, tables):
            yield f"{_expression(name, value)} has tables that are loaded elsewhere, and none that is built here."
        elif near:
            yield f"Did you mean {' or '.join(shown)}?"
        else:
            yield (
                f"Known here: {', '.join(shown)}{more}."
                if known
                else f"No table has {'an' if name == 'owner' else 'a'} {name}."
            )


def _near(value: str, known: Sequence[str]) -> list[str]:
    """Return the values that are written alike: in another case, with another sign between their parts, without the schema."""
    wanted = _plain(value)
    if not wanted:
        return []
    by_name = {name: one for one in known for name in (_plain(one), _last(_plain(one)))}
    same = [name for name in by_name if name in (wanted, _last(wanted))]
    alike = [name for name in by_name if fnmatch.fnmatchcase(name, wanted) or wanted in name]
    close = difflib.get_close_matches(_last(wanted), by_name, n=_SHOWN)
    return list(dict.fromkeys(by_name[name] for name in same or alike or close))[:_SHOWN]


def _plain(value: str) -> str:
    return re.sub(r"__|\.", "/", value).casefold()


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _expression(name: str, value: str) -> str:
    """Return it as Dagster selects by it: https://docs.dagster.io/guides/build/assets/asset-selection-syntax/reference."""
    if name == "tag" and "=" in value:
        label, _, text = value.partition("=")
        return f'tag:"{label}"="{text}"'
    return f'{name if name in _VALUES else "key"}:"{value}"'


def _is_loaded_elsewhere(name: str, value: str, tables: Catalogue) -> bool:
    names = {"key": ["/".join(key) for key in tables.sources], "group": [key[-2] for key in tables.sources]}
    return value in names.get(name, ())


def _unique(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def _labels(table: AnalyticsTable) -> list[str]:
    return [f"{label}={text}" if text else label for label, text in table.tags.items()]


_VALUES: Mapping[str, Callable[[Catalogue], list[str]]] = {
    "key": lambda tables: ["/".join(key) for key in (*tables, *tables.broken)],
    "group": lambda tables: _unique(table.schema_name.lower() for table in tables.values()),
    "owner": lambda tables: _unique(table.owner for table in tables.values()),
    "tag": lambda tables: _unique(label for table in tables.values() for label in _labels(table)),
    "kind": lambda tables: sorted(KINDS | ({BROKEN_KIND} if tables.broken else set())),
}
