import sys

from run_elt_dagster.orchestration.scaffolded import scaffolded_definitions


def test_empty_folder_costs_no_import() -> None:
    assert not scaffolded_definitions().assets
    assert "run_elt_dagster.defs" not in sys.modules
