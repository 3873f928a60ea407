import re
import runpy
from pathlib import Path

import pytest

from run_elt_dagster.dialect.catalogue import FORMS, GROUPS, REFUSED, SIGNATURES, group_names

ROOT = Path(__file__).parents[2]
WRITER = runpy.run_path(str(ROOT / "docs" / "write_embedded.py"))
DOCUMENTS = WRITER["texts"]()
(TEXT,) = DOCUMENTS.values()
KNOWN, NOT_KNOWN = TEXT.split("## Functions that are refused")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_is_what_the_data_say(path: Path) -> None:
    """`make docs` writes it."""
    assert path.read_text(encoding="utf-8") == DOCUMENTS[path]


def test_every_function_stands_in_its_part_once() -> None:
    rows = re.findall(r"^\| \[([A-Z0-9_$]+)\]", KNOWN, re.MULTILINE)
    assert set(rows) == {*SIGNATURES, *FORMS}
    assert sorted(rows) == sorted(name for group in GROUPS for name in group_names(group))
    assert sorted(re.findall(r"\[([A-Z0-9_$]+)\]", NOT_KNOWN)) == sorted(REFUSED)


def test_function_of_the_example_is_refused() -> None:
    (name,) = re.findall(r"cannot run this function, got (\w+)", TEXT)
    assert name in REFUSED
