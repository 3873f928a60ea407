"""The pages of docs/: GitHub and the site read them alike."""

import re
import runpy
from pathlib import Path

import markdown
import pytest
import yaml
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
SOURCES: tuple[str, ...] = runpy.run_path(str(ROOT / "docs" / "build_site.py"))["SOURCES"]
# Its tags name functions of Python. BaseLoader reads them as text.
CONFIG = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
PAGES = sorted(page for name in SOURCES for page in [ROOT / name, *(ROOT / name).rglob("*.md")] if page.suffix == ".md")
PARTS = ("h1", "h2", "h3", "h4", "ol", "ul", "li", "table", "tr", "td", "pre", "img")
GITHUB = MarkdownIt("commonmark").enable("table")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_has_the_same_parts_on_github_and_on_the_site(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = [next(iter(each)) if isinstance(each, dict) else each for each in CONFIG["markdown_extensions"]]
    assert parts(markdown.markdown(text, extensions=names)) == parts(GITHUB.render(text))


def parts(html: str) -> dict[str, int]:
    return {tag: len(re.findall(f"<{tag}[ >]", html)) for tag in PARTS}


def test_no_file_of_the_site_comes_from_another_server() -> None:
    assert CONFIG["theme"]["font"] == "false"
    assert [path for path in CONFIG["extra_css"] if not (ROOT / path).is_file()] == []
    assert "extra_javascript" not in CONFIG
