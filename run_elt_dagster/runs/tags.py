"""Tags of one run: a re-execution copies its parent's tags, so each of ours names the run that it belongs to."""

import dagster as dg

# The one tag to read on the Runs page, and to filter by.
ALERT = "run_elt/alert"
# Dagster's pages and its API leave out tags with this prefix, as they do with those of its own launcher. A tag's value is in
# an index, which in Postgres takes 2,704 bytes: https://www.postgresql.org/docs/current/btree.html
_HIDDEN = ".dagster/run_elt/"
VALUE_LIMIT = 2400

ALIVE = f"{_HIDDEN}alive_at"
DETAIL = f"{_HIDDEN}alert"
INCIDENT = f"{_HIDDEN}incident"
OPEN = f"{_HIDDEN}open"
ACKNOWLEDGED = f"{_HIDDEN}acknowledged"
STARTED_FROM = f"{_HIDDEN}started_from"
SEEN = f"{_HIDDEN}seen"
UNLOGGED = f"{_HIDDEN}unlogged"
RECEIVERS = f"{_HIDDEN}receivers"

# Each tag, and what its value says: docs/alerts.md is written from it.
MEANINGS = {
    ALERT: "How the alert of the run stands. The one tag that Dagster's pages show.",
    DETAIL: "The ledger's entry of the run, as JSON: what is behind the visible tag.",
    INCIDENT: "What makes another failure the same one: a fingerprint on the first run of an open incident, that run's id on a repeat.",
    OPEN: "The code location of an open incident, on its first run.",
    ACKNOWLEDGED: "Who has acknowledged an open incident, and when, on its first run.",
    ALIVE: "The heartbeat: when the process of the run last wrote one.",
    STARTED_FROM: "Fingerprints of the account, the tables' folder and the machine. They tell whose run of the command line it is.",
    UNLOGGED: "The log of publishes that the run has not written yet. If the run is interrupted, a later run writes it.",
    SEEN: "What Snowflake said that readers see, where the run's events do not show it. In pieces: `seen/0`, `seen/1` and so on.",
    RECEIVERS: "That the ledger of the other receivers has the failure, in observations of the asset `alerts/receivers`.",
}


def bound(run_id: str, value: str) -> str:
    """Return a tag's value that counts for this run alone."""
    return f"{run_id} {value}"


def own(run: dg.DagsterRun, tag: str) -> str | None:
    """Return the value of a tag that belongs to the run; None if it has none, or a copy of another run's."""
    owner, _, value = run.tags.get(tag, "").partition(" ")
    return value if owner == run.run_id else None


def copies(run: dg.DagsterRun) -> dict[str, str]:
    """Return the tags that take away what a run, before its first own tag, has copied of another run's alert and log."""
    return {tag: "" for tag in (ALERT, INCIDENT, OPEN, UNLOGGED) if run.tags.get(tag)}


def pieces(tag: str, run_id: str, text: str) -> dict[str, str]:
    """Return tags that keep a text of any length; `joined` reads it."""
    size = VALUE_LIMIT // 4
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    return {f"{tag}/{number}": bound(run_id, f"{len(parts)} {part}") for number, part in enumerate(parts)}


def joined(run: dg.DagsterRun, tag: str) -> str:
    """Return the text that `pieces` has put into tags; empty if there is none, or a part is missing."""
    first = own(run, f"{tag}/0")
    if first is None:
        return ""
    parts = [own(run, f"{tag}/{number}") or "" for number in range(int(first.partition(" ")[0]))]
    return "".join(part.partition(" ")[2] for part in parts) if all(parts) else ""
