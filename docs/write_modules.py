"""Write docs/modules.md from the first lines of all modules: `make docs`."""

import ast
from pathlib import Path

import run_elt_dagster

PACKAGE = Path(run_elt_dagster.__file__).parent
PAGE = Path(__file__).parent / "modules.md"
# In the order of the tour in architecture.md, then what a person starts, then what stands in for Snowflake.
ROOMS = (
    *("model", "testing", "snowflake", "audit", "publish", "environments", "orchestration", "runs", "storage"),
    *("alerts", "doctor", "cli", "embedded", "seeding", "dialect", "defs"),
)

INTRO = """# Modules

Each module of `run_elt_dagster/`, with the first sentence of its file. [architecture.md](architecture.md) says how they work together.
`make docs` writes this page.
"""


def texts() -> dict[Path, str]:
    """Return what the page must contain."""
    parts = [INTRO, _section("run_elt_dagster/", "Above all rooms, or beside them.", _modules(PACKAGE))]
    for room in ROOMS:
        directory = PACKAGE / room
        parts.append(_section(f"{room}/", _first_words(directory / "__init__.py"), _modules(directory)))
    return {PAGE: "\n".join(parts)}


def _section(title: str, words: str, modules: list[Path]) -> str:
    rows = [f"| `{path.name}` | {_first_words(path).replace('|', chr(92) + '|')} |\n" for path in modules]
    table = ["\n| module | what it is |\n| --- | --- |\n", *rows] if rows else []
    return "".join([f"## {title}\n\n{words}\n", *table])


def _modules(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*.py") if not path.name.startswith("__"))


def _first_words(path: Path) -> str:
    words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert words is not None, path  # noqa: S101 - ruff requires one
    return " ".join(words.split("\n\n")[0].split())


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text, encoding="utf-8")
