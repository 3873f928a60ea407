"""What `make docs` writes: the references, each from the code that it describes."""

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from run_elt_dagster.alerts import ledger
from run_elt_dagster.doctor import finding
from run_elt_dagster.model.checks import CHECK_MODELS
from run_elt_dagster.model.front_matter import find_front_matter, read_settings
from run_elt_dagster.model.parsing import parse_table_file
from run_elt_dagster.model.problems import TableProblemsError
from run_elt_dagster.model.table import FRONT_MATTER_KEYS
from run_elt_dagster.runs import tags

ROOT = Path(__file__).parents[2]
WRITERS = {
    name: runpy.run_path(str(ROOT / "docs" / f"write_{name}.py"))
    for name in ("doctor", "alert_tags", "front_matter", "modules")
}
TEXTS: dict[Path, str] = {path: text for writer in WRITERS.values() for path, text in writer["texts"]().items()}
FRONT_MATTER = WRITERS["front_matter"]
EXAMPLES: dict[str, str] = FRONT_MATTER["EXAMPLES"]
CHECK_EXAMPLES: dict[str, list[str]] = FRONT_MATTER["CHECK_EXAMPLES"]
VALIDATOR = jsonschema.Draft202012Validator(FRONT_MATTER["schema"](), format_checker=jsonschema.FormatChecker())
ALL_EXAMPLES = [*EXAMPLES.values(), *(f"checks: {{{each}}}" for some in CHECK_EXAMPLES.values() for each in some)]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_page_is_what_the_code_says(path: Path) -> None:
    """`make docs` writes it."""
    assert path.read_text(encoding="utf-8") == TEXTS[path]


def test_make_docs_runs_every_writer() -> None:
    made = re.findall(r"docs/(write_\w+\.py)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert sorted(made) == sorted(path.name for path in (ROOT / "docs").glob("write_*.py"))


def test_every_check_of_the_doctor_every_tag_and_every_state_is_described() -> None:
    names = [check for kind in finding.NamedCheck.__subclasses__() for check in kind]
    assert set(WRITERS["doctor"]["CHECKS"]) == set(names)
    assert all(check.fails_if for check in names)
    constants = {
        value for name, value in vars(tags).items() if re.fullmatch("[A-Z]+(_[A-Z]+)*", name) and isinstance(value, str)
    }
    assert set(tags.MEANINGS) == constants
    assert set(ledger.STATUSES) == set(ledger.Status.__args__)
    kept = WRITERS["alert_tags"]["_kept"]()
    assert {*kept, "status"} == set(ledger.LedgerEntry.__dataclass_fields__)


def test_every_key_and_check_has_a_description_and_an_example() -> None:
    assert set(EXAMPLES) == set(FRONT_MATTER_KEYS)
    assert set(CHECK_EXAMPLES) == set(CHECK_MODELS)
    described = [*_properties(FRONT_MATTER["schema"]())]
    assert len(described) > len(EXAMPLES) + len(CHECK_EXAMPLES)
    assert [name for name, part in described if not part.get("description")] == []


def _properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in (schema, *schema["$defs"].values()):
        yield from part["properties"].items()


@pytest.mark.parametrize("example", ALL_EXAMPLES)
def test_example_is_read_by_the_model_and_by_the_schema(example: str) -> None:
    table = parse_table_file(Path("t.sql"), f"/* elt\n{example}\nelt */\nselect 1 as id", schema="s", table="t")
    (key,) = read_settings(example).values
    assert table.model_fields_set >= {key}
    assert errors_of(example) == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "run_elt_dagster" / "tables").glob("*/*.sql")), ids=lambda path: path.stem
)
def test_schema_takes_every_shipped_file(path: Path) -> None:
    assert errors_of(find_front_matter(path.read_text(encoding="utf-8")).yaml) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "ownr: team:a",
        "publish: rename",
        "show_rows: 101",
        "show_rows: '5'",
        "transient: yes",
        "owner: 5",
        "tags: {a: 1}",
        "columns: {a: {typ: int}}",
        "checks: {}\nprimary_key: {a: b}",
        "checks: {row_cnt: {min: 1}}",
        "checks: {row_count: {min: -1}}",
        "checks: {row_count_change: {max_drop: 5}}",
        "checks: {not_null: {columns: a, severity: bad}}",
        "checks: {accepted_values: {a: {severity: warn}}}",
        "checks: {accepted_values: {a: [1, x]}}",
        "checks: {range: {a: {min: true}}}",
        "checks: {freshness: {a: 0, b: {max_age_hours: -1}}}",
        "checks: {matches: {}}",
    ],
)
def test_schema_and_model_refuse_the_same(wrong: str) -> None:
    assert errors_of(wrong)
    with pytest.raises(TableProblemsError):
        parse_table_file(Path("t.sql"), f"/* elt\n{wrong}\nelt */\nselect 1 as id", schema="s", table="t")


def errors_of(text: str) -> list[str]:
    """Return what the schema says of a front matter; an editor's YAML has no decimals, and dates as text."""
    values = json.loads(json.dumps(read_settings(text).values, default=_plain))
    return [error.message for error in VALIDATOR.iter_errors(values)]


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value.isoformat() if isinstance(value, date) else str(value)


def test_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(FRONT_MATTER["SCHEMA"].read_text(encoding="utf-8")))


def test_hook_for_others_finds_a_wrong_file(tmp_path: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert f"- id: {hook['id']}" in (ROOT / "docs" / "front_matter.md").read_text(encoding="utf-8")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "t.sql").write_text("/* elt\nownr: a\nelt */\nselect 1 as id", encoding="utf-8")
    assert re.search(hook["files"], "s/t.sql")
    program, *arguments = hook["entry"].split()
    command = [str(Path(sys.executable).parent / program), *arguments, "--tables-dir", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stdout.startswith("s/t.sql:2: unknown key 'ownr'. Did you mean 'owner'?")
