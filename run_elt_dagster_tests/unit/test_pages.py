"""Every code block of the pages is read by what would read it. The commands are run by e2e/test_pages.py, or say why not."""

import configparser
import html
import json
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlglot
import yaml
from sqlglot import exp

from run_elt_dagster.model.front_matter import find_front_matter
from run_elt_dagster.model.lineage import catalogue
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.table import FRONT_MATTER_KEYS
from run_elt_dagster_tests.support.pages import NOT_RUN, ROOT, STORIES, Block, blocks

GOLDEN = Path(__file__).parent / "golden"
PICTURES = runpy.run_path(str(ROOT / "docs" / "take_pictures.py"))
LANGUAGES = {"", "csv", "ini", "json", "mermaid", "python", "sh", "sql", "text", "yaml"}
# sqlglot 30.22 keeps these as text: it has no syntax tree for them. The last two are Postgres's.
UNPARSED = (
    *("grant apply on", "grant ownership", "grant usage on all schemas", "grant select on all tables"),
    *("create role dagster login", "create database dagster owner"),
)


def named(*languages: str) -> list[Any]:
    return [pytest.param(block, id=block.place) for block in blocks(*languages)]


def is_table(block: Block) -> bool:
    return bool(find_front_matter(block.text).yaml)


def test_every_block_has_a_language_that_is_looked_at() -> None:
    assert {block.language for block in blocks()} <= LANGUAGES


def test_every_command_is_run_or_says_why_not() -> None:
    commands = [command for block in blocks("sh") for command in block.commands()]
    in_stories = {each.text for each in commands if each.block.page in STORIES}
    left = [f"{each.block.place}: {each.text}" for each in commands if not each.reason and each.text not in in_stories]
    assert left == []
    starts = [start for start in NOT_RUN if not any(each.text.startswith(start) for each in commands)]
    assert starts == []


def test_every_test_that_a_reason_names_exists() -> None:
    tests = {name for reason in NOT_RUN.values() for name in re.findall(r"\w+/test_\w+\.py", reason)}
    assert tests
    assert [name for name in tests if not (ROOT / "run_elt_dagster_tests" / name).is_file()] == []


@pytest.mark.parametrize("block", [each for each in named("sql") if is_table(each.values[0])])
def test_table_file_loads(block: Block) -> None:
    title = Path(block.title or "tables/analytics/example.sql")
    table = parse_table_file(title, block.text, schema=title.parent.name, table=title.stem)
    assert catalogue([table]).upstream[table.key]


def test_first_table_of_the_readme_is_the_shipped_one() -> None:
    shown = next(block for block in blocks("sql") if block.page == "README.md").text
    shipped = (ROOT / "run_elt_dagster" / "tables" / "analytics" / "mau_summary.sql").read_text(encoding="utf-8")
    assert shown.partition("elt */")[2] == shipped.partition("elt */")[2]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that a page of Markdown has: its own, and those of its headings as GitHub makes them."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)"', text))


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_of_the_documentation_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


@pytest.mark.parametrize("block", [each for each in named("sql") if not is_table(each.values[0])])
def test_statement_can_be_read(block: Block) -> None:
    for statement in sqlglot.parse(block.text, read="snowflake"):
        assert statement is not None
        assert not isinstance(statement, exp.Command) or statement.sql("snowflake").lower().startswith(UNPARSED)


@pytest.mark.parametrize("block", named("yaml"))
def test_yaml_loads_and_is_front_matter_if_its_keys_are(block: Block) -> None:
    values = yaml.safe_load(block.text)
    if set(values) <= set(FRONT_MATTER_KEYS):
        text = f"/* elt\n{block.text}\nelt */\nselect 1 as id"
        assert parse_table_file(Path("t.sql"), text, schema="s", table="t").model_fields_set >= set(values)


@pytest.mark.parametrize("block", named("json"))
def test_json_loads(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize("block", named("ini"))
def test_ini_loads(block: Block) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(block.text)
    assert parser.sections()


# Importing dagster-snowflake takes seconds.
PYTHON = [
    pytest.param(block, id=block.place, marks=[pytest.mark.thorough] * ("from dagster_snowflake" in block.text))
    for block in blocks("python")
]


@pytest.fixture
def _project_of_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folders and modules that docs/library.md speaks of."""
    for name in ("sql", "sales", "finance"):
        table = tmp_path / "my_project" / name / "analytics" / f"{name}.sql"
        table.parent.mkdir(parents=True)
        table.write_text("select 1 as n", encoding="utf-8")
    (tmp_path / "my_project" / "assets.py").write_text(
        "import dagster as dg\n\n@dg.asset\ndef loads_orders(): ...\n\n@dg.asset\ndef report(): ...\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    for name in ("my_project.assets", "my_project"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("_project_of_the_reader")
@pytest.mark.parametrize("block", PYTHON)
def test_python_runs(block: Block) -> None:
    found: dict[str, Any] = {"__name__": "page"}
    exec(compile(block.text, block.place, "exec"), found)  # noqa: S102 - our own words
    if isinstance(defs := found.get("defs"), dg.Definitions):
        assert defs.get_repository_def().get_all_jobs()


def test_task_of_the_editor_finds_file_and_line_of_a_problem() -> None:
    (task,) = [json.loads(block.text) for block in blocks("json")]
    pattern = task["tasks"][0]["problemMatcher"]["pattern"]
    found = re.fullmatch(pattern["regexp"], "tables/s/t.sql:2: unknown key 'ownr'. Did you mean 'owner'?")
    assert found is not None
    assert (found[pattern["file"]], found[pattern["line"]]) == ("tables/s/t.sql", "2")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_picture_of_a_message_has_all_its_words(path: Path) -> None:
    blocks = json.loads(path.read_text(encoding="utf-8")).get("blocks") or []
    drawn = PICTURES["page_of"](blocks, {"S0123": "analytics"})
    text = html.unescape(re.sub(r"<[^>]+>", " ", drawn.partition("<main>")[2]))
    # Without what Slack reads as a sign: addresses, dates, stars, and the names of emoji.
    said = re.sub(
        r"<!date[^|]*\||:[a-z_]+:|<https?:[^|]*\||<!subteam\^\w+>|[*`<>]|[^\x00-\u2fff]",
        " ",
        json.dumps(texts_of(blocks), ensure_ascii=False),
    )
    assert set(re.findall(r"[\w./-]+", html.unescape(said.replace("\\n", " ")))) <= set(re.findall(r"[\w./-]+", text))


def texts_of(part: Any) -> list[str]:
    """Return what a person reads of blocks."""
    if isinstance(part, list):
        return [text for each in part for text in texts_of(each)]
    found = part.get("text", part.get("elements", []))
    return [found] if isinstance(found, str) else texts_of(found)


def test_rows_of_the_first_steps_are_those_of_the_readme() -> None:
    (steps,) = [block for block in blocks("text") if block.page == "docs/getting_started.md"]
    first = next(block for block in blocks("text") if block.page == "README.md")
    assert first.text.endswith(steps.text)


def test_dependencies_in_the_text_of_pages_are_ones_that_dagster_takes() -> None:
    """A name with a slash is none: Dagster refuses the asset."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    written = {found for page in pages for found in re.findall(r"`deps=(\[.+?\])`", page.read_text(encoding="utf-8"))}
    assert written
    for text in written:

        @dg.asset(name="after", deps=json.loads(text))
        def after() -> None: ...

        assert {len(dep.path) for dep in after.asset_deps[after.key]} == {2}
