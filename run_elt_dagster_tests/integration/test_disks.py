"""Disks that are full, read-only or damaged, and histories that two processes opened at the same moment."""

import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.disk import DAMAGED, FULL, READ_ONLY, DiskError
from run_elt_dagster.doctor.deployment import Check, check_deployment
from run_elt_dagster.embedded import embedded_snowflake
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.assets import analytics_assets
from run_elt_dagster.runs.history_files import FILES, history_problems
from run_elt_dagster.settings import PublishOptions
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster.storage.idle import IDLE
from run_elt_dagster_tests.integration.test_embedded_directory import change, value
from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.history import lay_empty_history

# A table's rows are 16 MB, which no compression makes less: more than the limit on the size of a file.
ROWS = "select random() as a, random() as b from table(generator(rowcount => 1000000))"
FULL_DISK = """
import logging, os, resource, sys, snowflake.connector
from pathlib import Path
from run_elt_dagster.embedded import embedded_snowflake
logging.basicConfig(format="log %(message)s", stream=sys.stdout)
directory = Path(sys.argv[1])
with embedded_snowflake(directory, sample_data=False, log=print) as endpoint:
    connection = snowflake.connector.connect(**endpoint.connection_args())
    run = connection.cursor().execute
    run("create or replace table analytics.x comment = 'kept' as select 1 as a")
    # For files, the same as a disk that has no block left.
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(path.stat().st_size for path in directory.iterdir()), resource.RLIM_INFINITY))
    for _ in range(2):
        try:
            run(sys.argv[2])
        except snowflake.connector.errors.Error as error:
            print("refused", error.errno, error.raw_msg, flush=True)
    print("reads", run("select a from analytics.x").fetchall(), flush=True)
    connection.close()
"""


def on_a_full_disk(directory: Path, statement: str) -> list[str]:
    command = [sys.executable, "-c", FULL_DISK, str(directory), statement]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_embedded_snowflake_on_a_full_disk_refuses_and_keeps_what_it_had(tmp_path: Path) -> None:
    said = on_a_full_disk(tmp_path, f"create or replace table analytics.x as {ROWS}")
    assert "reads [(1,)]" in said
    refused = [line for line in said if line.startswith("refused")]
    assert len(refused) == 2
    for line in refused:
        assert line.startswith(f"refused 9998 The embedded Snowflake cannot use its file {tmp_path}/RUN_ELT.db")
        assert line.endswith(f"got {FULL.got}")
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as endpoint:
        # There is space again.
        assert value(endpoint, "select a from analytics.x") == 1
        comment = "select comment from information_schema.tables where table_name = 'X'"
        assert value(endpoint, comment) == "kept"
        change(endpoint, f"create or replace table analytics.x as {ROWS}")
        assert value(endpoint, "select count(*) from analytics.x") == 1_000_000


def a_database(directory: Path) -> Path:
    with embedded_snowflake(directory, sample_data=False, log=print) as endpoint:
        change(endpoint, f"create table analytics.x as {ROWS}")
    return directory / "RUN_ELT.db"


def test_embedded_snowflake_names_a_file_that_is_cut_off_and_leaves_it_alone(tmp_path: Path) -> None:
    path = a_database(tmp_path)
    whole = path.read_bytes()
    for size in (3_000_000, 20_000, 5000, 100):
        os.truncate(path, size)
        with (
            pytest.raises(
                DiskError, match=rf"cannot open {path}, got .*[Pp]ut a copy of it back, or delete"
            ) as failure,
            embedded_snowflake(tmp_path, sample_data=False, log=print),
        ):
            pass
        assert path.stat().st_size == size
        assert "Nothing was executed" in str(failure.value)
    path.write_bytes(whole)
    with embedded_snowflake(tmp_path, sample_data=False, log=print) as endpoint:
        assert value(endpoint, "select count(*) from analytics.x") == 1_000_000


@pytest.mark.thorough
def test_embedded_snowflake_names_a_file_whose_bytes_have_changed(tmp_path: Path) -> None:
    path = a_database(tmp_path)
    with path.open("r+b") as file:
        for block in range(0, path.stat().st_size - 20_000, 262_144):
            file.seek(block + 13_000)
            file.write(b"damage")
    with pytest.raises(DiskError, match=rf"cannot open {path}, got {DAMAGED.got} ") as failure:  # noqa: SIM117
        with embedded_snowflake(tmp_path, sample_data=False, log=print):
            pass
    assert failure.value.trouble is DAMAGED


def test_run_on_a_folder_that_cannot_be_used_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUN_ELT_EMBEDDED_DIR", str(tmp_path / "file"))
    monkeypatch.chdir(tmp_path)
    assert main(["show"]) == 1
    assert f"run-elt: The embedded Snowflake cannot open {tmp_path / 'file'}, got" in capfd.readouterr().err


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME, a folder of one table and an embedded Snowflake."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}", encoding="utf-8")
    folder = tmp_path / "tables" / "analytics"
    folder.mkdir(parents=True)
    for name, sql in (("first", "select 1 as n"), ("second", "select n from analytics.first")):
        (folder / f"{name}.sql").write_text(sql, encoding="utf-8")
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(tmp_path / "tables"))
    monkeypatch.setenv("RUN_ELT_EMBEDDED_DIR", str(tmp_path / "embedded"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return lay_empty_history(tmp_path)


def run_tables(home: Path) -> str:
    """Run the tables, and return the run's id; what Dagster's storage raises is raised."""
    assets = [
        analytics_assets(load_tables(home / "tables"), PublishOptions(max_concurrent_tables=1, creates_schemas=True))
    ]
    resources = {"snowflake": Snowflake(embedded_dir=str(home / "embedded"), sample_data=False)}
    with dg.DagsterInstance.get() as instance:
        return dg.materialize(assets, resources=resources, instance=instance).run_id


REFUSE = """
CREATE TRIGGER full_disk BEFORE INSERT ON event_logs WHEN NEW.dagster_event_type = 'ASSET_MATERIALIZATION'
BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END
"""


def in_index(home: Path, sql: str) -> None:
    with closing(sqlite3.connect(home / "history/runs/index.db")) as database, database:
        database.execute(sql)


def test_publish_that_cannot_be_recorded_is_said_begins_nothing_more_and_is_shown_until_it_is(
    history: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """SQLite refuses the one event here, at the moment and with the words of a full disk."""
    run_tables(history)
    in_index(history, REFUSE)
    capfd.readouterr()
    with pytest.raises(Exception, match="database or disk is full"):
        run_tables(history)
    said = capfd.readouterr().err
    assert (
        "analytics.first was published and could not be recorded in Dagster's history. Readers see the new table"
        in said
    )
    assert "analytics.second was published" not in said
    assert main(["show"]) == 0
    shown = capfd.readouterr().out
    assert "analytics.first: run " in shown
    assert " of this Dagster has published it, and its materialization was not recorded: materialize it again" in shown
    assert "analytics.second: run" not in shown
    in_index(history, "DROP TRIGGER full_disk")
    run_tables(history)
    assert main(["show"]) == 0
    assert "not recorded" not in capfd.readouterr().out


@pytest.mark.parametrize("name", FILES)
def test_doctor_names_a_history_that_is_cut_off_and_does_not_open_it(history: Path, name: str) -> None:
    with dg.DagsterInstance.get() as instance:
        instance.get_runs_count()
    os.truncate(history / name, 0)
    first, *others = check_deployment(None, None, dg.DagsterInstance.get)
    assert (first.name, first.status) == ("history", "FAIL")
    assert str(history / name) in first.detail
    assert [finding.name for finding in others] == list(Check)[1:]
    assert {finding.status for finding in others} == {"skip"}
    # Opened, Dagster would have made an empty one.
    assert (history / name).stat().st_size == 0


def test_command_on_a_damaged_history_says_what_to_do(history: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with dg.DagsterInstance.get() as instance:
        instance.get_runs_count()
    os.truncate(history / "history/runs.db", 20_000)
    assert main(["show"]) == 1
    said = capfd.readouterr().err
    assert said.startswith(f"run-elt: Dagster's history requires whole files, got {DAMAGED.got} (")
    assert "Traceback" not in said


# Opens new histories with two processes each, at the same moment, until one is broken for good; prints its folder.
RACE = """
import os, sys
import dagster as dg
def opens(home):
    with dg.DagsterInstance.from_config(home) as instance:
        instance.get_runs_count(), instance.all_instigator_state()
def child(start, home):
    os.read(start, 1)
    try:
        opens(home)
    finally:
        os._exit(0)
for number in range(200):
    home = os.path.join(sys.argv[1], str(number))
    os.mkdir(home)
    open(os.path.join(home, "dagster.yaml"), "w").write("telemetry: {enabled: false}")
    start, go = os.pipe()
    pids = []
    for _ in range(2):
        pid = os.fork()
        if not pid:
            os.close(go)
            child(start, home)
        pids.append(pid)
    os.close(start), os.close(go)
    for pid in pids:
        os.waitpid(pid, 0)
    try:
        opens(home)
    except Exception as error:
        print(number, home, flush=True)
        break
"""


@pytest.mark.thorough
def test_history_that_two_processes_opened_new_is_named_and_the_remedy_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster 1.13.27 on SQLite breaks about every third. Where no round does, the step before `dagster dev` can go."""
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert done.stdout, "no history was broken in 200 rounds"
    home = Path(done.stdout.split()[1])
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    findings = [
        finding for finding in check_deployment(None, None, dg.DagsterInstance.get) if finding.name == "history"
    ]
    assert {finding.status for finding in findings} == {"FAIL"}
    for finding in findings:
        assert "two processes opened it at the same moment when it was new" in finding.detail
        _, _, remedy = finding.remedy.partition("then run python ")
        subprocess.run([sys.executable, *shlex.split(remedy.partition(". Nothing")[0])], check=True)
    assert history_problems(home) == []
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        shutil.which("mount")
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64m", "run_elt", disk], check=False, capture_output=True
        ).returncode
    )
    if mounted != 0:
        pytest.skip("requires the right to mount a file system")
    yield disk
    IDLE.close()
    subprocess.run(["umount", disk], check=True)


@pytest.mark.thorough
def test_real_disk_that_is_read_only_and_then_full_is_named(
    disk: Path, history: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (history / "dagster.yaml").write_text(
        f"storage: {{sqlite: {{base_dir: {disk}/history}}}}\ntelemetry: {{enabled: false}}"
    )
    run_tables(history)
    change_disk(disk, "ro")
    (finding, *_) = check_deployment(None, None, dg.DagsterInstance.get)
    assert (finding.name, finding.status) == ("history", "FAIL")
    assert f"got {READ_ONLY.got} in {disk}/history" in finding.detail
    with pytest.raises(Exception, match=r"unable to open database file|readonly database"):
        run_tables(history)
    change_disk(disk, "rw")
    fill = disk / "fill"
    assert subprocess.run(["dd", "if=/dev/zero", f"of={fill}", "bs=4k"], check=False, capture_output=True).returncode
    (finding, *_) = check_deployment(None, None, dg.DagsterInstance.get)
    assert f"got {FULL.got} in {disk}/history" in finding.detail
    with pytest.raises(Exception, match=r"database or disk is full|disk I/O error"):
        run_tables(history)
    fill.unlink()
    assert history_problems(history) == []
    capfd.readouterr()
    run_tables(history)
    assert main(["show"]) == 0
    assert "not recorded" not in capfd.readouterr().out


@pytest.mark.thorough
def test_embedded_snowflake_on_a_read_only_disk_says_so_and_keeps_its_tables(disk: Path) -> None:
    with embedded_snowflake(disk / "embedded", sample_data=False, log=print) as endpoint:
        change(endpoint, "create table analytics.x as select 1 as a")
    change_disk(disk, "ro")
    with pytest.raises(DiskError, match=f"cannot open {disk}/embedded, got {READ_ONLY.got}"):  # noqa: SIM117
        with embedded_snowflake(disk / "embedded", sample_data=False, log=print):
            pass
    change_disk(disk, "rw")
    with embedded_snowflake(disk / "embedded", sample_data=False, log=print) as endpoint:
        assert value(endpoint, "select a from analytics.x") == 1


def change_disk(disk: Path, mode: str) -> None:
    # The kernel refuses while a file of the disk is open for writing: this process keeps connections to the storage.
    IDLE.close()
    subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True)
