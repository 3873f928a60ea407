"""Write the tables of tags in docs/alerts.md from `run_elt_dagster.runs.tags` and the ledger of the alerts: `make docs`."""

import inspect
import re
from collections.abc import Iterable
from pathlib import Path

from run_elt_dagster.alerts.ledger import STATUSES, LedgerEntry
from run_elt_dagster.runs.tags import MEANINGS

PAGE = Path(__file__).parent / "alerts.md"
END = "<!-- end -->"


def texts() -> dict[Path, str]:
    """Return what the page must contain."""
    tables = {
        "states": _table(
            "value", "meaning", ((f"`{value}`" if value else "empty", text) for value, text in STATUSES.items())
        ),
        "tags": _table("tag", "its value", ((f"`{tag}`", text) for tag, text in MEANINGS.items())),
        "entry": _table("name", "meaning", ((f"`{name}`", text) for name, text in _kept().items())),
    }
    page = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin = f"<!-- Written by `make docs`, {name}: begin -->"
        assert begin in page, name  # noqa: S101 - the page has a place for each
        page = re.sub(f"{begin}.*?{END}", f"{begin}\n\n{table}\n\n{END}", page, flags=re.DOTALL)
    return {PAGE: page}


def _kept() -> dict[str, str]:
    """Return what the hidden entry keeps, with the meaning that its class gives each name."""
    described = inspect.cleandoc(LedgerEntry.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", described, re.MULTILINE)
    # The status is the visible tag.
    return {name: " ".join(text.split()) for name, text in found if name != "status"}


def _table(first: str, second: str, rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join([f"| {first} | {second} |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in rows)])


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
