"""A deployment in a folder: Postgres, code server, webserver and daemon, by the files under deploy/.

Each may write to the deployment's data only, as in a container with a read-only root file system, and only the code server
has the secrets of Slack and Snowflake.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from run_elt_dagster_tests.support.deployment_dir import ROOT, DeploymentDir, Webserver, free_port
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.postgres import Database
from run_elt_dagster_tests.support.slack_stand_in import CHANNEL, TOKEN, SlackStandIn

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
# Everything is read-only but the folder that is mounted over itself.
READ_ONLY_ROOT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'


@dataclass
class Deployment:
    """A folder as `deploy/` lays it out on a machine, and who runs in it."""

    place: DeploymentDir
    database: Database
    slack: SlackStandIn
    code_port: int = field(default_factory=free_port)
    web_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        for folder in (self.home, self.data / "tmp"):
            folder.mkdir(parents=True)
        for name in ("dagster.yaml", "workspace.yaml"):
            shutil.copy(ROOT / "deploy" / name, self.home)
        shutil.copytree(ROOT / "run_elt_dagster" / "tables", self.tables)

    @property
    def home(self) -> Path:
        return self.place.directory / "home"

    @property
    def data(self) -> Path:
        return self.place.directory / "data"

    @property
    def tables(self) -> Path:
        return self.place.directory / "tables"

    @property
    def common(self) -> dict[str, str]:
        """The variables of every process."""
        return {
            **self.database.variables,
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_COMPUTE_LOGS_DIR": str(self.data / "logs"),
            "RUN_ELT_CODE_SERVER_HOST": "127.0.0.1",
            "RUN_ELT_CODE_SERVER_PORT": str(self.code_port),
            "TMPDIR": str(self.data / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    @property
    def secret(self) -> dict[str, str]:
        """The variables of the code server alone."""
        return {
            "RUN_ELT_TABLES_DIR": str(self.tables),
            "RUN_ELT_EMBEDDED_DIR": str(self.data / "embedded"),
            "RUN_ELT_LOST_AFTER_SECONDS": "60",
            "RUN_ELT_DEPLOYMENT": "production",
            "SLACK_TOKEN": TOKEN,
            "SLACK_CHANNEL": CHANNEL,
            "SLACK_BASE_URL": self.slack.url,
        }

    def start_code_server(self) -> subprocess.Popen[bytes]:
        """Start it and wait until it listens: a daemon that starts before looks for it again only after a minute."""
        process = self._start("code_server", env=self.secret)
        self.place.wait_for("the code server", lambda: is_listening(self.code_port))
        return process

    def start_daemon(self) -> subprocess.Popen[bytes]:
        return self._start("daemon")

    def start_webserver(self) -> Webserver:
        self._start("webserver")
        return Webserver(self.web_url)

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def run(self, *command: str) -> str:
        run = self.place.run(*command, env={**self.common, **self.secret})
        assert run.returncode == 0, run.stderr
        return run.stdout

    def reload(self) -> subprocess.CompletedProcess[str]:
        """Load the tables again, as docs/deployment.md says."""
        return self.place.run(sys.executable, str(DEPLOY / "location.py"), self.web_url, "--reload")

    def is_loaded(self) -> bool:
        """Ask what the webserver's health check asks."""
        return self.place.run(sys.executable, str(DEPLOY / "location.py"), self.web_url).returncode == 0

    def doctor(self, *sections: str) -> dict[str, list[dict[str, str]]]:
        """Return what `run-elt doctor` finds, by check."""
        command = ("run-elt", "doctor", "--json", *(sections or ("installation", "dagster")))
        run = self.place.run(*command, env={**self.common, **self.secret})
        found: dict[str, list[dict[str, str]]] = {}
        for finding in json.loads(run.stdout):
            found.setdefault(finding["name"], []).append(finding)
        failed = any(finding["status"] == "FAIL" for several in found.values() for finding in several)
        assert run.returncode == (1 if failed else 0), run.stderr
        return found

    def watch(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Look once from outside, as the timer of deploy/systemd does."""
        command = ("run-elt", "watch", "--state", str(self.data / "watch.json"), "--confirm-seconds", "0")
        return self.place.run(*command, env={**self.common, **self.secret, **variables})

    def _start(self, service: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start what a service of deploy/compose.yaml runs, on loopback and with this folder's paths."""
        here = {
            "0.0.0.0": "127.0.0.1",  # noqa: S104 - what it replaces
            "4000": str(self.code_port),
            "3000": str(self.web_port),
            "/opt/run_elt/home/workspace.yaml": str(self.home / "workspace.yaml"),
            "/opt/run_elt/code_server.sh": str(DEPLOY / "code_server.sh"),
        }
        words: Sequence[str] = COMPOSE["services"][service]["command"]
        command = [here.get(word, word) for word in words]
        closed = ("unshare", "--mount", "sh", "-c", READ_ONLY_ROOT, str(self.data)) if may_close_root() else ()
        return self.place.start(*closed, *command, env={**self.common, **(env or {})})


def may_close_root() -> bool:
    """Tell whether this machine lets a test mount; without it the processes run with the root file system open."""
    return (
        shutil.which("unshare") is not None
        and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0
    )


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)
