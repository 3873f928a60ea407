"""A Postgres server of a test's own on loopback, and the schemas that older versions of Dagster left in it.

https://www.postgresql.org/docs/current/app-initdb.html
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import dagster_postgres
import sqlalchemy
from sqlalchemy.exc import OperationalError

from run_elt_dagster_tests.support.deployment_dir import SCHEDULE_STATES, daily, dated_back, free_port

PASSWORD = "canary-password-of-postgres"
USER = "dagster"
START_SECONDS = 240
_NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True)
class Database:
    """A database of the server, as the processes of a deployment find it."""

    port: int
    name: str

    @property
    def variables(self) -> dict[str, str]:
        """What deploy/dagster.yaml reads."""
        return {
            "DAGSTER_POSTGRES_HOST": "127.0.0.1",
            "DAGSTER_POSTGRES_PORT": str(self.port),
            "DAGSTER_POSTGRES_USER": USER,
            "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
            "DAGSTER_POSTGRES_DB": self.name,
        }

    @property
    def url(self) -> str:
        """What SQLAlchemy connects to; 2.1 takes "postgresql" for another driver than the one that is installed."""
        return f"postgresql+psycopg2://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{self.name}"

    @contextmanager
    def connection(self) -> Generator[sqlalchemy.Connection]:
        engine = sqlalchemy.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            yield connection

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.connection() as connection:
            return [tuple(row) for row in connection.execute(sqlalchemy.text(sql))]

    def column(self, sql: str) -> list[Any]:
        return [value for (value,) in self.rows(sql)]

    def revision(self) -> str:
        """Return how far Dagster's migrations have come."""
        return self.column("select version_num from alembic_version")[0]

    def downgrade(self, revision: str) -> None:
        """Leave the schema as a Dagster would have that knew only the migrations up to a revision."""
        package = Path(dagster_postgres.__file__).parent
        config = alembic.config.Config(package / "alembic" / "alembic.ini")
        with self.connection() as connection:
            config.attributes["connection"] = connection
            alembic.command.downgrade(config, revision)

    def schedule_was_evaluated(self) -> bool:
        """Tell whether the daemon has noted both when the schedule started and when it looked at it last."""
        return daily(self.rows(SCHEDULE_STATES)) is not None

    def date_schedule_back(self, *, days: int) -> None:
        """Leave the schedule's state as a daemon would have that was last up days ago."""
        identifier, body = dated_back(self.rows(SCHEDULE_STATES), days=days)
        update = sqlalchemy.text("update instigators set instigator_body = :body where id = :id")
        with self.connection() as connection:
            connection.execute(update, {"body": body, "id": identifier})


class Postgres:
    """A server whose data are in a folder.

    Args:
        directory: The folder.
        is_durable: Whether it writes to the disk before it answers, as Postgres does by default; a test's data need not outlive a
            power cut.
    """

    def __init__(self, directory: Path, *, is_durable: bool = False) -> None:
        self.port = free_port()
        self._settings = ("unix_socket_directories=", *(() if is_durable else _NOT_DURABLE))
        self._programs, self._directory, self._who = _programs(), directory, _not_root(directory)
        self._process: subprocess.Popen[Any] | None = None
        _initialize(self._programs, directory, self._who)

    def create_database(self, name: str) -> Database:
        with Database(self.port, "postgres").connection() as connection:
            connection.execute(sqlalchemy.text(f'create database "{name}"'))
        return Database(self.port, name)

    @property
    def cpu_seconds(self) -> float:
        """What its processes have used, those of connections that are closed among them.

        https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
        """
        assert self._process is not None
        _, _, fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")
        return sum(map(int, fields.split()[11:15])) / os.sysconf("SC_CLK_TCK")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = _start(self._programs, self._directory, self._who, self.port, settings=self._settings)
        _wait_until_up(self._process, self.port, self._directory / "server.log")

    def stop(self) -> None:
        """End it at once, with every connection."""
        if self._process is not None:
            # Immediate shutdown: https://www.postgresql.org/docs/current/server-shutdown.html
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(240)
            self._process = None


@contextmanager
def postgres_server(*, is_durable: bool = False) -> Generator[Postgres]:
    """Run a server while the block lasts; its data goes with it."""
    directory = Path(tempfile.mkdtemp(prefix="run_elt_postgres_"))
    try:
        server = Postgres(directory, is_durable=is_durable)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def found_programs() -> list[Path]:
    """Return the `postgres` programs of this machine, oldest first; Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    return found or ([Path(on_path)] if on_path else [])


def _programs() -> Path:
    """Return the folder of Postgres's programs, which are installed where they are missing."""
    found = found_programs()
    if not found:
        # RUNLEVEL keeps the package from starting a server of its own.
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "postgresql"]):
            subprocess.run(command, env=quiet, check=True, capture_output=True, timeout=300)
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent


def _not_root(directory: Path) -> dict[str, Any]:
    """Return as whom to start Postgres, which refuses to be root, and give them the folder."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    os.chown(directory, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _initialize(programs: Path, directory: Path, who: dict[str, Any]) -> None:
    password = directory / "password"
    password.write_text(PASSWORD, encoding="utf-8")
    password.chmod(0o644)
    command = [programs / "initdb", "-D", directory / "data", "-U", USER, "--pwfile", password, "--no-sync"]
    command += ["--auth-host=scram-sha-256", "--auth-local=reject", "--encoding=UTF8", "--no-locale"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=60, **who)


def _start(
    programs: Path, directory: Path, who: dict[str, Any], port: int, *, settings: Sequence[str]
) -> subprocess.Popen[Any]:
    options = [option for setting in settings for option in ("-c", setting)]
    command = [programs / "postgres", "-D", directory / "data", "-h", "127.0.0.1", "-p", str(port), *options]
    with (directory / "server.log").open("wb") as log:
        return subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, start_new_session=True, **who)


def _wait_until_up(process: subprocess.Popen[Any], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            Database(port, "postgres").rows("select 1")
        except OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"Postgres did not start within {START_SECONDS} s\n{log.read_text(errors='replace')}")
