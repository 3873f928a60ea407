"""What a person reports in the UI is in Dagster's history without a run: no command may take it for a publication."""

from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.runs.history import PUBLISHED_RUN, last_publications, run_of
from run_elt_dagster_tests.support.history import lay_empty_history

KEY = ["analytics", "mau_summary"]


def test_show_does_not_take_a_reported_materialization_for_a_publication(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(lay_empty_history(tmp_path)))
    monkeypatch.chdir(tmp_path)
    with dg.DagsterInstance.get() as instance:
        for metadata in ({}, {"dagster/table_name": "x", "seconds": "long"}):
            event = dg.AssetMaterialization(KEY, description="reported", metadata=metadata)
            instance.report_runless_asset_event(event)
        assert last_publications(instance, [KEY]) == {}
        # What `run-elt publish` records has no run either, and names the one that had built the rows: an incident ends with it.
        told = {"dagster/table_name": "x", PUBLISHED_RUN: "8f3a01c2"}
        instance.report_runless_asset_event(dg.AssetMaterialization([*KEY[:1], "other"], metadata=told))
        (event,) = last_publications(instance, [[*KEY[:1], "other"]]).values()
        assert run_of(event) == "8f3a01c2"
    assert main(["show"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("analytics.mau_summary")]
    assert line.split() == ["analytics.mau_summary", "-", "-", "-", "-", "-", "no", "table"]
