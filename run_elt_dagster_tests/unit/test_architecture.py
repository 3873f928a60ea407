"""docs/architecture.md names what exists: a tour that leads to a function of another name is worse than none."""

import importlib
import re
import tomllib
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import run_elt_dagster

PACKAGE = Path(run_elt_dagster.__file__).parent
ROOT = PACKAGE.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ROOMS = (
    "model",
    "snowflake",
    "audit",
    "publish",
    "orchestration",
    "runs",
    "storage",
    "alerts",
    "doctor",
    "settings",
    "testing",
    "environments",
)


def part(title: str) -> str:
    """Return a part of the page, from its heading to the next one."""
    match = re.search(rf"^## {re.escape(title)}.*?\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match[1]


def names_in(text: str) -> list[str]:
    return re.findall(rf"`((?:{'|'.join(ROOMS)})(?:\.\w+)+)`", text)


def resolve(name: str) -> Any:
    """Return what a dotted name means, the longest part of it being a module."""
    parts = name.split(".")
    modules = [n for n in range(1, len(parts) + 1) if is_module(parts[:n])]
    module = importlib.import_module(".".join(["run_elt_dagster", *parts[: modules[-1]]]))
    return reduce(attribute, parts[modules[-1] :], module)


def is_module(parts: list[str]) -> bool:
    path = PACKAGE.joinpath(*parts)
    return path.is_dir() or path.with_suffix(".py").is_file()


def attribute(owner: Any, name: str) -> Any:
    if isinstance(owner, type) and issubclass(owner, BaseModel) and name in owner.model_fields:
        return owner.model_fields[name]
    return getattr(owner, name)


TOUR, ADDING = part("A tour"), part("Where do I add")


@pytest.mark.parametrize("name", sorted({*names_in(TOUR), *names_in(ADDING)}))
def test_tour_names_what_exists(name: str) -> None:
    assert resolve(name) is not None


def test_name_that_does_not_exist_is_noticed() -> None:
    for name in ("publish.run.no_such_function", "publish.no_such_module", "model.table.AnalyticsTable.no_such_field"):
        with pytest.raises(AttributeError):
            resolve(name)


def test_tour_enters_the_rooms_in_order_and_numbers_its_steps() -> None:
    rooms = dict.fromkeys(name.split(".")[0] for name in names_in(TOUR[TOUR.index("### ") :]))
    way = ["model", "orchestration", "publish", "alerts"]
    assert [room for room in rooms if room in way] == way
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", TOUR, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 15


def test_tour_is_read_in_ten_minutes() -> None:
    """At 150 words a minute, for somebody who looks into the code."""
    assert len(TOUR.split()) <= 1500


@pytest.mark.parametrize("question", ["A check kind", "A way of publishing", "An alert channel"])
def test_question_of_where_to_add_has_an_answer_with_places(question: str) -> None:
    answers = re.split(r"^(?=\*\*)", ADDING, flags=re.MULTILINE)
    (answer,) = [each for each in answers if each.startswith(f"**{question}**")]
    assert len(names_in(answer)) >= 3
    assert len(answer.split()) <= 200


def test_list_of_rooms_and_the_page_of_modules_have_every_room_and_nothing_else() -> None:
    listed = re.findall(r"^  (\w+(?:/|\.py)) ", part("Rooms"), re.MULTILINE)
    rooms = [f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")]
    modules = [path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert sorted(listed) == sorted([*rooms, *modules, "tables/"])
    titles = re.findall(r"^## (\w+/)$", (ROOT / "docs" / "modules.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(titles) == sorted([*rooms, "run_elt_dagster/"])


def test_floors_of_the_page_are_those_that_are_checked() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = config["tool"]["importlinter"]["contracts"][0]["layers"]
    wanted = [sorted(name.removeprefix("run_elt_dagster.") for name in re.split(r"\s*\|\s*", each)) for each in layers]
    floors = re.search(r"Imports between rooms point down.*?```\n(.*?)```", PAGE, re.DOTALL)
    assert floors is not None
    assert [sorted(line.split()) for line in floors[1].splitlines()] == wanted


def test_files_and_pages_that_the_tour_names_exist() -> None:
    for path in re.findall(r"`?\b((?:docs|unit|integration)/\w+\.(?:md|py))\b", TOUR + ADDING):
        assert (ROOT / path).is_file() or (ROOT / "run_elt_dagster_tests" / path).is_file(), path
    for path in re.findall(r"`(tables/[\w/]+\.sql)`", TOUR):
        assert (PACKAGE / path).is_file(), path
