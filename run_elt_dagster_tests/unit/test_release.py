"""What a release consists of: one version, notes, metadata, Pythons."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from run_elt_dagster import cli

ROOT = Path(__file__).parents[2]
NOTES = ROOT / ".ci" / "release_notes.py"
# The kinds of change, in the order in which they stand: https://keepachangelog.com/en/1.1.0/
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def workflow(name: str) -> dict[Any, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def headings(level: int) -> list[str]:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.findall(rf"^{'#' * level} (.+)$", text, re.MULTILINE)


def test_command_prints_the_version_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"run-elt {project()['version']}\n"


def test_every_image_has_the_version_of_the_project() -> None:
    files = [path for folder in ("deploy", "docs") for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = [path.read_text(encoding="utf-8") for path in files if path.suffix != ".png"]
    found = re.findall(r"run-elt-dagster:(?:\$\{RUN_ELT_VERSION:-)?(\d[\w.]*)", "\n".join(texts))
    assert len(found) >= 4
    assert set(found) == {project()["version"]}


def test_changelog_begins_with_what_is_unreleased_and_then_lists_versions_with_their_dates() -> None:
    first, *released = headings(2)
    assert first == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", heading) for heading in released)
    assert set(headings(3)) <= set(KINDS)


def test_notes_of_a_version_are_the_text_below_its_heading() -> None:
    namespace: dict[str, Any] = {"__file__": str(NOTES), "__name__": "release_notes"}
    exec(compile(NOTES.read_text(encoding="utf-8"), NOTES, "exec"), namespace)  # noqa: S102 - a script, of no package
    changelog = "# Changelog\n\n## [Unreleased]\n\n## [1.1.0] - 2026-12-01\n\n### Fixed\n\n- b\n\n## [1.0.0] - 2026-11-30\n\n- a\n"
    assert namespace["notes_of"](changelog, "1.1.0") == "### Fixed\n\n- b"
    assert namespace["notes_of"](changelog, "1.0.0") == "- a"
    with pytest.raises(ValueError, match="got no text below the heading of Unreleased"):
        namespace["notes_of"](changelog, "Unreleased")
    with pytest.raises(ValueError, match=r"got none for 2\.0\.0\. Nothing was released"):
        namespace["notes_of"](changelog, "2.0.0")


def test_release_without_notes_fails_before_anything_is_published() -> None:
    run = subprocess.run([sys.executable, NOTES, "99.0.0"], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "got none for 99.0.0" in run.stderr
    names = [step.get("name") for step in workflow("release.yml")["jobs"]["release"]["steps"]]
    assert names.index("Read the notes") < names.index("Publish the release")


def test_every_python_that_is_promised_is_tested_and_named() -> None:
    lowest, beyond = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project()["requires-python"]).groups()  # pyright: ignore[reportOptionalMemberAccess]
    promised = [f"3.{minor}" for minor in range(int(lowest), int(beyond))]
    assert workflow("ci.yml")["jobs"]["unit"]["strategy"]["matrix"]["python"] == promised
    named = [line.rpartition(" ")[2] for line in project()["classifiers"] if "Python :: 3." in line]
    assert named == promised


def test_metadata_is_complete() -> None:
    assert {"name", "version", "description", "readme", "license", "license-files", "keywords", "classifiers"} <= set(
        project()
    )
    # No URL is made up: the project has no public address yet.
    assert not any(line.startswith("License ::") for line in project()["classifiers"])


def test_thorough_tests_are_run_wholly_and_none_twice() -> None:
    tests = ROOT / "run_elt_dagster_tests"
    files = sorted(path for folder in ("unit", "integration", "e2e") for path in (tests / folder).glob("test_*.py"))
    parts = workflow("thorough.yml")["jobs"]["thorough"]["strategy"]["matrix"]["part"]
    chosen = [path for part in parts for path in tests.glob(f"{part}/test_*.py" if "/" not in part else part)]
    assert sorted(chosen) == files
