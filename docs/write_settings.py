"""Write docs/settings.md and .env.example from the fields of `run_elt_dagster.settings`: `make docs`."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic.fields import FieldInfo

from run_elt_dagster.settings import MODELS
from run_elt_dagster.variables import limits_of

ROOT = Path(__file__).parents[1]
WIDTH = 132


@dataclass(frozen=True)
class Section:
    """Some variables, one after another.

    Attributes:
        first: The first of them; the next section's first ends it.
        title: In docs/settings.md.
        intro: What a reader has to know about all of them.
    """

    first: str
    title: str
    intro: str = ""


SECTIONS = (
    Section(
        "SNOWFLAKE_ACCOUNT",
        "Snowflake account",
        "Set none of these to use the embedded Snowflake. As soon as one is set, all five and one way of signing in must be set.",
    ),
    Section(
        "SNOWFLAKE_PRIVATE_KEY_PATH",
        "Signing in",
        "A key pair suits a service user best. Set only one of `SNOWFLAKE_PRIVATE_KEY_PATH`, `SNOWFLAKE_PRIVATE_KEY` and "
        "`SNOWFLAKE_PASSWORD`.",
    ),
    Section("SNOWFLAKE_HOST", "Private links and test servers"),
    Section("RUN_ELT_TABLES_DIR", "Tables and runs"),
    Section(
        "SLACK_TOKEN",
        "Alerts",
        "Without `SLACK_TOKEN` or `SLACK_CHANNEL` alerts go to the log of the sensor's tick only.",
    ),
)
PAGE = """# Settings

<!-- Written by `make docs` from the fields of run_elt_dagster/settings.py. -->

Environment variables, from the process or from a `.env` file in the folder where a Dagster command starts. [.env.example](../.env.example)
is a template for that file. An empty variable counts as not set. When the code location loads, it reports all wrong values at once.
A name that is nearly a variable's is an error too: one that starts with `RUN_ELT_`, or, if that variable is not set, with `SNOWFLAKE_` or
`SLACK_`.
"""
TEMPLATE = """# Copy to .env and fill in. Dagster's commands read it from the folder where they start. docs/settings.md has a table of all variables.
"""


def texts() -> dict[Path, str]:
    """Return what the two files must contain."""
    return {ROOT / "docs" / "settings.md": _page(), ROOT / ".env.example": _template()}


def _page() -> str:
    parts = [PAGE]
    for section, fields in _sections():
        rows = [f"| `{name}` | {_meaning(field)} | {_default(field)} |" for name, field in fields]
        intro = [section.intro, ""] if section.intro else []
        table = ["| variable | meaning | default |", "| --- | --- | --- |", *rows]
        parts.append("\n".join([f"## {section.title}", "", *intro, *table, ""]))
    return "\n".join(parts)


def _template() -> str:
    parts = [TEMPLATE]
    for section, fields in _sections():
        lines = [f"# --- {section.title} ---", *_comment(section.intro), *["#"] * bool(section.intro)]
        for name, field in fields:
            lines += [*_comment(_meaning(field)), f"#{name}={_example(field)}"]
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


def _sections() -> Iterator[tuple[Section, list[tuple[str, FieldInfo]]]]:
    """Yield the sections with their variables; one that two models read belongs to the first."""
    fields: dict[str, FieldInfo] = {}
    for model in MODELS:
        fields |= {name: field for name, field in model.variables().items() if name not in fields}
    names = list(fields)
    starts = [names.index(section.first) for section in SECTIONS]
    for section, start, end in zip(SECTIONS, starts, [*starts[1:], len(names)], strict=True):
        yield section, [(name, fields[name]) for name in names[start:end]]


def _meaning(field: FieldInfo) -> str:
    limits = limits_of(field)
    return f"{field.description} ({limits})" if limits else str(field.description)


def _default(field: FieldInfo) -> str:
    shown = _extra(field, "shown")
    return shown or (f"`{_value(field)}`" if _value(field) else "none")


def _example(field: FieldInfo) -> str:
    return _extra(field, "example") or ("" if _extra(field, "shown") else _value(field))


def _value(field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) if isinstance(default, int | str) else ""


def _extra(field: FieldInfo, name: str) -> str:
    extra = field.json_schema_extra
    return str(extra[name]) if isinstance(extra, dict) else ""


def _comment(markdown: str) -> list[str]:
    plain = re.sub(r"\[[^]]+\]\(([^)]+)\)", r"docs/\1", markdown).replace("`", "")
    # What starts with code is a value: its letters stay.
    plain = plain if markdown.startswith("`") else plain[:1].upper() + plain[1:]
    return textwrap.wrap(plain, WIDTH, initial_indent="# ", subsequent_indent="# ")


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")  # noqa: T201 - a command prints
