"""What readers see, in words and as the metadata of a failure keeps it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from run_elt_dagster.model.candidate import Marker
from run_elt_dagster.model.production import Production, TableVersion

BUILT = str(Marker("run", "8f3a01c2-0000", "2026-11-21T00:00:00.000000Z"))
DESCRIBED = TableVersion("MAU", 7, f"Monthly active users. {BUILT}", owner="ELT")

SENTENCES = [
    (Production.of(None), "There is no published table yet."),
    (
        Production.of(DESCRIBED),
        "Readers still see the previous table (7 rows, built 2026-11-21 00:00 UTC by run 8f3a01c2).",
    ),
    (Production.of(TableVersion(rows=1234)), "Readers still see the previous table (1,234 rows)."),
    (Production.of(TableVersion()), "Readers still see the previous table."),
    (Production("unchanged"), "Readers still see the previous table."),
    (Production.of(TableVersion(kind="VIEW")), "Readers still see the view."),
    (Production("new", DESCRIBED), "Readers see the new table."),
    (
        Production("unknown", run_id="8f3a", target="DB.A.MAU"),
        (
            "Whether readers see the new table is unknown, since the catalogue does not say: look for 8f3a in the "
            "comment of DB.A.MAU."
        ),
    ),
]


@pytest.mark.parametrize(("production", "words"), SENTENCES)
def test_production_is_said_in_one_sentence(production: Production, words: str) -> None:
    assert production.words == words


@pytest.mark.parametrize("production", [production for production, _ in SENTENCES])
def test_production_comes_back_from_the_metadata_of_a_failure_with_the_same_words(production: Production) -> None:
    back = Production.from_json(json.loads(json.dumps(production.to_json())))
    assert back is not None
    assert (back.state, back.words) == (production.state, production.words)


@pytest.mark.parametrize(
    ("production", "kept"),
    [
        (Production.of(None), {"state": "none"}),
        (
            Production.of(DESCRIBED),
            {"state": "unchanged", "version": {"name": "MAU", "rows": 7, "comment": BUILT}},
        ),
        (
            Production.of(TableVersion("V", comment="of mine", kind="VIEW")),
            {"state": "unchanged", "version": {"name": "V", "kind": "VIEW"}},
        ),
        (
            Production("unknown", run_id="8f3a", target="DB.A.MAU"),
            {"state": "unknown", "run_id": "8f3a", "target": "DB.A.MAU"},
        ),
    ],
)
def test_metadata_of_a_failure_keeps_what_is_known(production: Production, kept: dict[str, Any]) -> None:
    assert production.to_json() == kept
    assert Production.from_json(kept) == replace(
        production,
        version=None if production.version is None else TableVersion(**kept["version"]),
    )


def test_metadata_of_a_later_release_is_read_as_far_as_it_is_known() -> None:
    kept = {"state": "unchanged", "later": 1, "version": {"name": "MAU", "rows": 7, "later": 1}}
    assert Production.from_json(kept) == Production("unchanged", TableVersion("MAU", 7))


def test_metadata_does_not_repeat_the_description_of_the_table() -> None:
    assert "Monthly" not in json.dumps(Production.of(DESCRIBED).to_json())


@pytest.mark.parametrize("kept", [None, "Readers still see the previous table.", {}, {"state": "another"}])
def test_anything_else_in_the_metadata_is_no_production(kept: object) -> None:
    assert Production.from_json(kept) is None


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (DESCRIBED, "7 rows, built 2026-11-21 00:00 UTC by run 8f3a01c2"),
        (TableVersion(comment=BUILT), "an unknown number of rows, built 2026-11-21 00:00 UTC by run 8f3a01c2"),
        (TableVersion(), "an unknown number of rows"),
    ],
)
def test_version_is_said_by_its_rows_and_its_run(version: TableVersion, words: str) -> None:
    assert version.words == words
