"""The workflow of docs/environments.md for a pull request: its steps, one by one, as GitHub runs them."""

import re
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from run_elt_dagster_tests.support.deployment_dir import ROOT, DeploymentDir

PAGE = ROOT / "docs" / "environments.md"
# What `gh pr comment NUMBER --body-file FILE` posts stays beside it.
GH = '#!/bin/sh\ntest "$1 $2 $3 $4" = "pr comment 7 --body-file" && cp "$5" posted.md\n'
NUMBERS = "/* elt\nprimary_key: n\nelt */\nselect column1 as n, {} as doubled from values (1), (2)"
RIGHT, WRONG = NUMBERS.format("column1 * 2"), NUMBERS.format("1 / 0")
READS = "select sum(doubled) as total from analytics.numbers"


class Workflow:
    """The steps of the page, in a clone of a repository with tables."""

    def __init__(self, deployment: DeploymentDir) -> None:
        (block,) = re.findall(r"(?ms)^```yaml\n(name: Difference.*?)^```$", PAGE.read_text(encoding="utf-8"))
        self.job: Mapping[str, Any] = yaml.safe_load(block)["jobs"]["difference"]
        self.folder, self.deployment = deployment.directory, deployment
        gh = self.folder / "bin" / "gh"
        gh.parent.mkdir()
        gh.write_text(GH, encoding="utf-8")
        gh.chmod(gh.stat().st_mode | stat.S_IXUSR)

    def commit(self, branch: str, **tables: str) -> None:
        for name, sql in tables.items():
            path = self.folder / "tables" / "analytics" / f"{name}.sql"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(sql, encoding="utf-8")
        who = ("-c", "user.name=n", "-c", "user.email=n@example.com")
        for command in (("checkout", "-q", "-B", branch), ("add", "tables"), (*who, "commit", "-qm", "x")):
            subprocess.run(["git", *command], cwd=self.folder, check=True)

    def run(self) -> dict[str, str]:
        """Run all steps, and return what became of each that has a name: `success`, `failure` or `skipped`."""
        became: dict[str, str] = {}
        given = self.folder / "github_env"
        given.write_text("", encoding="utf-8")
        for step in [step for step in self.job["steps"] if "name" in step]:
            if "failure" in became.values() and step.get("if") != "always()":
                became[step["name"]] = "skipped"
                continue
            # A step of its own wins over what a step before has written.
            before = dict(line.split("=", 1) for line in given.read_text(encoding="utf-8").splitlines())
            own = {name: self._value(text) for name, text in {**self.job["env"], **step.get("env", {})}.items()}
            known = {**own, **{name: value for name, value in before.items() if name not in step.get("env", {})}}
            became[step["name"]] = self._run(step["run"], {**known, "GITHUB_ENV": str(given)})
        return became

    def _value(self, text: str) -> str:
        """Return what GitHub writes in the place of an expression; a variable that the repository does not have is empty."""
        values = {"github.event.number": "7", "github.actor": "jane", "github.token": "t"}
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: values.get(found[1], ""), text)

    def _run(self, script: str, variables: Mapping[str, str]) -> str:
        script_file = self.folder / "step.sh"
        script_file.write_text(self._value(script), encoding="utf-8")
        path = f"{self.folder / 'bin'}:{self.deployment.environment()['PATH']}"
        env = {**variables, "PATH": path, "RUN_ELT_TABLES_DIR": "tables"}
        # https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
        done = self.deployment.run("bash", "-e", str(script_file), env=env)
        # pytest shows it where the test fails.
        print(done.stdout, done.stderr)  # noqa: T201
        return "success" if done.returncode == 0 else "failure"


@pytest.fixture
def workflow(deployment_dir: DeploymentDir) -> Workflow:
    """A repository whose main is published in production."""
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=deployment_dir.directory, check=True)
    made = Workflow(deployment_dir)
    made.commit("main", numbers=RIGHT, total=READS, other="select 1 as n")
    command = ("dagster", "asset", "materialize", "--select", "*", "-m", "run_elt_dagster")
    assert deployment_dir.run(*command, env={"RUN_ELT_TABLES_DIR": "tables"}).returncode == 0
    return made


def databases(folder: Path) -> set[str]:
    return {path.stem for path in (folder / ".run_elt").glob("*RUN_ELT*")}


@pytest.mark.thorough
def test_pull_request_is_built_in_its_copy_compared_and_the_copy_is_dropped_also_after_a_failure(
    workflow: Workflow,
) -> None:
    workflow.commit("pr", numbers=RIGHT.replace("* 2", "* 3"))
    assert set(workflow.run().values()) == {"success"}
    posted = (workflow.folder / "posted.md").read_text(encoding="utf-8")
    assert "RUN_ELT__PR_7, compared with RUN_ELT:" in posted
    assert re.findall(r"(?m)^analytics\.\w+ +\w+", posted) == [
        "analytics.numbers  changed",
        "analytics.total    changed",
    ]
    assert databases(workflow.folder) == {"RUN_ELT"}

    (workflow.folder / "posted.md").unlink()
    workflow.commit("pr", numbers=WRONG)
    assert workflow.run() == {
        "Make the environment": "success",
        "Build what has changed": "failure",
        "Post the difference": "skipped",
        "Drop the environment": "success",
    }
    assert not (workflow.folder / "posted.md").exists()
    assert databases(workflow.folder) == {"RUN_ELT"}
