"""Environments over the real connector: on the embedded Snowflake, and on a simulated account that copies databases as it does."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.dialect.errors import SqlError
from run_elt_dagster.environments.databases import Databases
from run_elt_dagster.environments.mark import Mark, comment_of
from run_elt_dagster.environments.opening import databases_session
from run_elt_dagster.environments.owners import strangers_in
from run_elt_dagster.model.lineage import load_tables
from run_elt_dagster.orchestration.environments import JOB_NAME, expired_environments_schedule
from run_elt_dagster.settings import Settings
from run_elt_dagster.snowflake import server_session
from run_elt_dagster.snowflake.resource import Snowflake
from run_elt_dagster_tests.simulator.server import SimulatedServer, StatementEvent
from run_elt_dagster_tests.support.dagster_project import DagsterProject
from run_elt_dagster_tests.support.embedded import Account, Session, running_server, simulated_account

NOW = datetime.now(UTC)
TOTALS = "/* elt\nprimary_key: zip\nelt */\nselect zip, amount from raw_data.orders"
LARGE = "select zip from analytics.totals where amount > 1"
TABLES = {"totals": TOTALS, "large": LARGE, "other": "select count(*) as n from raw_data.orders"}


class Branch:
    """A person with a branch, and production beside it, on one account."""

    def __init__(
        self, server: SimulatedServer, project: DagsterProject, root: Session, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.server, self.project, self.root, self.capsys = server, project, root, capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = main(arguments)
        told = self.capsys.readouterr()
        return code, told.out, told.err

    def done(self, *arguments: str) -> str:
        code, out, err = self.run(*arguments)
        assert code == 0, f"{out}\n{err}"
        return out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.done(*arguments, "--json"))

    def databases(self) -> set[str]:
        return {row[1] for row in self.root.sql("show databases like 'RUN_ELT%'")}

    def published(self) -> int:
        """Return how many materializations production's own history has."""
        records = self.project.instance.fetch_materializations(dg.AssetKey(["analytics", "totals"]), limit=100).records
        return len(records)

    def statements(self, job: str) -> list[str]:
        return [each.sql for each in self.server.history if json.loads(each.query_tag or "{}").get("job") == job]

    def seen(self, database: str) -> list[Any]:
        """Return all that can be seen of a database: rows, comments and times of its tables, dropped ones too."""
        listed = self.root.sql(f"show tables history in database {database}")
        tables = [row[:12] for row in listed]
        rows = [
            self.root.sql(f"select * from {database}.{row[3]}.{row[1]} order by 1") for row in listed if not row[11]
        ]
        return [*tables, *rows]


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SimulatedServer, DagsterProject]]:
    """An account with a published production database. A test that changes it publishes it again."""
    directory = tmp_path_factory.mktemp("production")
    with running_server(directory) as server:
        resource = simulated_account(server)
        with resource.connect() as connection, dg.DagsterInstance.ephemeral() as instance:
            project = DagsterProject(directory, connection, resource, instance)
            project.sql(
                "create table raw_data.orders as select column1 as zip, column2 as amount from values ('1', 1), ('2', 2)"
            )
            project.declare(**TABLES)
            assert project.materialize().success
            yield server, project


@pytest.fixture
def branch(
    production: tuple[SimulatedServer, DagsterProject],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Branch]:
    server, project = production
    monkeypatch.chdir(project.directory)
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(project.directory / "tables"))
    for name in ("account", "user", "password", "role", "warehouse", "database", "host", "port", "protocol"):
        monkeypatch.setenv(f"SNOWFLAKE_{name.upper()}", str(getattr(project.resource, name)))
    account = Account(server)
    with account.resources:
        made = Branch(server, project, account.session(), capsys)
        yield made
        server.hook = None
        for name in made.databases() - {"RUN_ELT"}:
            made.root.sql(f"drop database {name}")
    project.declare(**TABLES)


@contextmanager
def in_environment(branch: Branch, monkeypatch: pytest.MonkeyPatch, database: str) -> Generator[DagsterProject]:
    """Yield the code location of the person, as SNOWFLAKE_DATABASE alone sends it to an environment."""
    monkeypatch.setenv("SNOWFLAKE_DATABASE", database)
    project = branch.project
    resource = Snowflake.from_settings(Settings.from_environment())
    with dg.DagsterInstance.ephemeral() as instance:
        yield DagsterProject(project.directory, project.connection, resource, instance)


def test_branch_is_made_built_compared_and_dropped_and_production_sees_nothing(
    branch: Branch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, published = branch.seen("RUN_ELT"), branch.published()
    sent = len(branch.statements("run-elt env"))
    out = branch.done("env", "create", "pr_7", "--owner", "jane", "--days", "3")
    assert "RUN_ELT__PR_7 is a copy of RUN_ELT. It expires after 3 days" in out
    assert out.endswith("export SNOWFLAKE_DATABASE=RUN_ELT__PR_7\n")
    assert [sql.split(" COMMENT")[0] for sql in branch.statements("run-elt env")[sent:-1]] == [
        "SHOW DATABASES LIKE 'RUN_ELT%'",
        'CREATE DATABASE "RUN_ELT__PR_7" CLONE "RUN_ELT"',
    ]

    with in_environment(branch, monkeypatch, "RUN_ELT__PR_7") as mine:
        assert branch.json("diff", "--against", "production")["summary"] == {"same": 3}
        mine.declare(totals=TOTALS.replace("amount from", "amount * 2 as amount, 'x' as note from"))
        assert mine.materialize("totals", "large").success
    before = len(branch.statements("run-elt diff"))
    found = branch.json("diff", "--against", "production")
    # The databases, both catalogues, columns, and one for each table that was built again.
    assert len(branch.statements("run-elt diff")) - before == 5
    assert found["summary"] == {"same": 1, "changed": 2}
    large, other, totals = found["tables"]
    assert (large["difference"]["rows"]["added"], large["difference"]["key"]) == (1, [])
    assert (other["state"], other["difference"]) == ("same", None)
    assert totals["difference"]["schema"]["added"] == {"NOTE": "VARCHAR"}
    assert totals["difference"]["rows"]["changed"] == 2
    assert totals["difference"]["rows"]["by_column"] == {"AMOUNT": 2}
    code, out, _ = branch.run("diff", "--against", "production", "--exit-code")
    assert (code, out.splitlines()[0]) == (1, "RUN_ELT__PR_7, compared with RUN_ELT:")
    assert "1 same, 2 changed" in out
    assert "  amount: 2 rows changed" in out

    monkeypatch.setenv("SNOWFLAKE_DATABASE", "RUN_ELT")
    assert branch.json("env", "create", "pr_7", "--replace")["database"] == "RUN_ELT__PR_7"
    assert branch.seen("RUN_ELT__PR_7")[-1] == seen[-1]
    assert branch.done("env", "drop", "pr_7") == "RUN_ELT__PR_7 was dropped.\n"
    assert branch.databases() == {"RUN_ELT"}
    assert (branch.seen("RUN_ELT"), branch.published()) == (seen, published)


def test_change_without_a_run_is_found(branch: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comment still names the same run on both sides."""
    branch.done("env", "create", "a")
    monkeypatch.setenv("SNOWFLAKE_DATABASE", "RUN_ELT__A")
    branch.root.sql("update run_elt__a.analytics.totals set amount = 5 where zip = '1'")
    branch.root.sql("drop table run_elt__a.analytics.large")
    found = branch.json("diff", "--against", '"RUN_ELT"')["tables"]
    assert [each["state"] for each in found] == ["only there", "same", "changed"]
    assert [each["difference"] is None for each in found] == [True, True, False]


def test_role_that_does_not_own_the_tables_of_a_copy_is_told_before_a_run(branch: Branch) -> None:
    branch.root.sql("create database run_elt__a clone run_elt")
    branch.root.sql("create role if not exists deployment")
    branch.root.sql("grant ownership on table run_elt__a.analytics.other to role deployment")
    tables = load_tables(branch.project.directory / "tables")
    with branch.project.resource.session(log=print) as session:
        (told,) = strangers_in(session, list(tables.values()), database="RUN_ELT__A")
        assert list(strangers_in(session, list(tables.values()), database="RUN_ELT")) == []
    assert told.startswith(
        "analytics.other in RUN_ELT__A: a run requires the role that owns them, DEPLOYMENT, got SYSADMIN."
    )
    assert "GRANT OWNERSHIP ON ALL TABLES IN SCHEMA RUN_ELT__A.ANALYTICS TO ROLE SYSADMIN COPY CURRENT GRANTS;" in told


def test_table_that_cannot_be_read_is_not_passed_over(branch: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    branch.done("env", "create", "a")
    monkeypatch.setenv("SNOWFLAKE_DATABASE", "RUN_ELT__A")
    branch.root.sql("update run_elt__a.analytics.totals set amount = 5")

    def refuse(event: StatementEvent) -> None:
        if event.phase == "before" and "run_elt news" in event.sql:
            raise SqlError("Insufficient privileges to operate on table 'TOTALS'", errno=3001, sqlstate="42501")

    branch.server.hook = refuse
    code, out, _ = branch.run("diff", "--against", "production")
    assert code == 1
    assert "2 same, 1 not compared" in out
    assert "not compared: Insufficient privileges to operate on table 'TOTALS'" in out


def test_diff_against_production_requires_an_environment(branch: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = branch.run("diff", "--against", "production")
    assert (code, "requires an environment, got RUN_ELT: it is no copy" in err) == (1, True)
    code, _, err = branch.run("diff", "--against", "run_elt")
    assert (code, "requires another database than the session's, got RUN_ELT twice" in err) == (1, True)
    assert branch.run("diff")[0] == 2
    # A setting names it where nothing else does.
    branch.root.sql("create database other clone run_elt")
    monkeypatch.setenv("SNOWFLAKE_DATABASE", "other")
    monkeypatch.setenv("RUN_ELT_PRODUCTION_DATABASE", "run_elt")
    assert branch.json("diff", "--against", "production")["against"] == "RUN_ELT"
    one = branch.json("diff", "analytics.other", "--against", "production")
    assert (one["against"], one["different"]) == ("RUN_ELT.ANALYTICS.OTHER", False)


def test_only_databases_with_their_own_mark_are_dropped(branch: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = comment_of(Mark("RUN_ELT__A", "RUN_ELT", "jane", NOW, NOW)).replace("'", "''")
    for name, comment in (("run_elt__b", mark), ("run_elt__c", "mine"), ("run_elt__a", mark)):
        branch.root.sql(f"create database {name} clone run_elt comment = '{comment}'")
    code, _, err = branch.run("env", "drop", "b", "c", "nope")
    assert code == 1
    assert err.count("without its own mark in the comment. Nothing was dropped") == 2
    assert "got RUN_ELT__NOPE: there is no such database" in err
    assert [each["name"] for each in branch.json("env", "list")] == ["a"]
    # Where SNOWFLAKE_DATABASE names it, it stays, expired or not.
    monkeypatch.setenv("SNOWFLAKE_DATABASE", "RUN_ELT__A")
    code, _, err = branch.run("env", "drop", "a")
    assert (code, "requires another database than the one of SNOWFLAKE_DATABASE, got RUN_ELT__A" in err) == (1, True)
    code, _, err = branch.run("env", "drop", "--expired")
    assert (code, "RUN_ELT__A has expired and stays" in err) == (0, True)
    monkeypatch.setenv("SNOWFLAKE_DATABASE", "RUN_ELT")
    # With another production database, none of these is its environment.
    assert branch.json("env", "list", "--from", "run_elt__b") == []
    assert branch.done("env", "drop", "--expired") == "RUN_ELT__A was dropped.\n"
    assert branch.databases() == {"RUN_ELT", "RUN_ELT__B", "RUN_ELT__C"}
    assert branch.done("env", "drop", "--expired") == "No environment of RUN_ELT has expired.\n"


def test_expired_environments_are_dropped_where_another_is_made_and_what_may_not_be_is_said(branch: Branch) -> None:
    for name in ("RUN_ELT__OLD", "RUN_ELT__THEIRS"):
        mark = comment_of(Mark(name, "RUN_ELT", "jane", NOW - timedelta(days=9), NOW - timedelta(days=2)))
        branch.root.sql(f"create database {name} clone run_elt comment = '{mark}'")

    def refuse(event: StatementEvent) -> None:
        if event.phase == "before" and event.sql == 'DROP DATABASE IF EXISTS "RUN_ELT__THEIRS"':
            raise SqlError(
                "Insufficient privileges to operate on database 'RUN_ELT__THEIRS'", errno=3001, sqlstate="42501"
            )

    branch.server.hook = refuse
    code, _, err = branch.run("env", "create", "new")
    assert code == 0
    assert "RUN_ELT__OLD had expired and was dropped." in err
    assert "RUN_ELT__THEIRS was not dropped, got Insufficient privileges" in err
    assert branch.databases() == {"RUN_ELT", "RUN_ELT__NEW", "RUN_ELT__THEIRS"}


def test_job_of_a_deployment_drops_expired_environments(branch: Branch) -> None:
    for name, left in (("RUN_ELT__OLD", -1), ("RUN_ELT__NEW", 1)):
        mark = comment_of(Mark(name, "RUN_ELT", "jane", NOW - timedelta(days=9), NOW + timedelta(days=left)))
        branch.root.sql(f"create database {name} clone run_elt comment = '{mark}'")
    schedule = expired_environments_schedule(database="run_elt", production=None, is_running=False)
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    location = dg.Definitions(schedules=[schedule], resources={"snowflake": branch.project.resource})
    assert location.resolve_job_def(JOB_NAME).execute_in_process(instance=branch.project.instance).success
    assert branch.databases() == {"RUN_ELT", "RUN_ELT__NEW"}


@pytest.mark.parametrize(
    ("errno", "text", "told"),
    [
        (
            3001,
            "Insufficient privileges to operate on account 'X'",
            "GRANT CREATE DATABASE ON ACCOUNT TO ROLE SYSADMIN;",
        ),
        (2003, "Database 'RUN_ELT' does not exist or not authorized.", "Correct SNOWFLAKE_DATABASE or --from."),
        (2002, "Object 'RUN_ELT__A' already exists.", "got RUN_ELT__A: it is there. Nothing was made."),
        (1234, "Something else.", "RUN_ELT__A was not made, got Something else."),
    ],
)
def test_refusal_of_snowflake_names_the_next_step(branch: Branch, errno: int, text: str, told: str) -> None:
    def refuse(event: StatementEvent) -> None:
        if event.phase == "before" and event.sql.startswith("CREATE DATABASE"):
            raise SqlError(text, errno=errno, sqlstate="42501")

    branch.server.hook = refuse
    code, _, err = branch.run("env", "create", "a")
    assert code == 1
    assert told in " ".join(err.split())
    assert branch.databases() == {"RUN_ELT"}


def test_reading_production_by_its_full_name_is_said(branch: Branch) -> None:
    branch.project.declare(other="select count(*) as n from run_elt.raw_data.orders")
    _, _, err = branch.run("env", "create", "a")
    assert (
        "analytics.other reads run_elt.raw_data.orders by its full name: in RUN_ELT__A too, it reads production." in err
    )


def test_plan_prints_what_a_run_would_build_and_send(branch: Branch) -> None:
    out = branch.done("plan")
    assert out.splitlines()[-1] == "3 built, 0 skipped."
    assert "analytics.totals  every table  RUN_ELT.ANALYTICS.TOTALS  clone" in out
    found = branch.json("plan", "analytics.large", "analytics.totals", "--statements")
    totals, large = found["built"]
    assert (totals["table"], large["table"], found["skipped"]) == (
        "analytics.totals",
        "analytics.large",
        ["analytics.other"],
    )
    # Published already, so it keeps its grants.
    (exchange,) = [sql for sql in totals["statements"] if "COPY GRANTS" in sql]
    assert exchange.startswith('CREATE OR REPLACE TABLE "RUN_ELT"."ANALYTICS"."TOTALS" CLONE')
    assert len(branch.statements("run-elt plan")) == 2
    selected = dg.AssetSelection.from_string(branch.done("plan", "analytics.other", "--selection").strip())
    assert selected == dg.AssetSelection.from_string('key:"analytics/other"')
    assert branch.run("plan", "--selection", "--json")[0] == 2


def test_plan_of_a_broken_file_ends_with_1_and_says_why(branch: Branch) -> None:
    branch.project.declare(totals="select (")
    code, out, err = branch.run("plan", "analytics.totals", "analytics.other")
    assert code == 1
    assert "1 built, 1 skipped" in out
    assert "analytics.totals cannot be built:" in out
    assert "totals.sql:1" in err
    code, out, err = branch.run("plan", "analytics.totals", "--selection")
    assert (code, out) == (1, "")
    assert ("totals.sql:1" in err, "No table needs to be built" in err) == (True, False)
    code, _, err = branch.run("plan", "analytics.totls")
    assert (code, "Did you mean analytics.totals?" in err) == (1, True)


def test_plan_of_what_has_changed_hands_over_to_dagster(branch: Branch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(branch.project.directory.parent))
    code, _, err = branch.run("plan", "--changed")
    assert (code, "--changed requires a folder in a working tree of Git" in err) == (1, True)
    git = ["git", "-c", "user.name=n", "-c", "user.email=n@example.com", "-C", str(branch.project.directory)]
    for words in (["init", "--quiet", "--initial-branch=main"], ["add", "tables"], ["commit", "--quiet", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    code, out, err = branch.run("plan", "--changed", "--selection")
    assert (code, out, "No table needs to be built" in err) == (0, "", True)
    branch.project.declare(totals=TOTALS + " where true")
    found = branch.json("plan", "--changed")
    assert [(each["table"], each["because"]) for each in found["built"]] == [
        ("analytics.totals", "the file differs"),
        ("analytics.large", "reads analytics.totals"),
    ]
    assert (found["since"], found["skipped"]) == ("where this branch left main", ["analytics.other"])
    assert branch.done("plan", "--changed", "--selection") == found["selection"] + "\n"
    # What is built in parts says how all of it is.
    branch.project.declare(
        other="/* elt\npartitions: {column: d, by: day, start: 2026-01-01}\nelt */ select d from raw_data.x",
        large="/* elt\nincrement: {column: d, key: zip}\nelt */ select zip, d from raw_data.x",
    )
    _, _, err = branch.run("plan", "--changed")
    assert "analytics.other is built in partitions: give --partition" in err
    assert "analytics.large merges new rows alone. For all of its rows: run-elt rebuild analytics.large" in err
    branch.project.declare(**{**TABLES, "totals": TOTALS + " where true"})
    # The same tables are compared.
    branch.root.sql("create database run_elt__a clone run_elt")
    monkeypatch.setenv("SNOWFLAKE_DATABASE", "RUN_ELT__A")
    assert branch.json("diff", "--against", "run_elt", "--changed")["summary"] == {"same": 2}


# The embedded Snowflake itself: files.


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Snowflake:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUN_ELT_EMBEDDED_DIR", str(tmp_path))
    monkeypatch.setattr(server_session, "_WAIT_SECONDS", 0.3)
    return Snowflake(embedded_dir=str(tmp_path), sample_data=False)


def sql(snowflake: Snowflake, *statements: str) -> list[Any]:
    with snowflake.connect(log=print) as connection, connection.cursor() as cursor:
        return [list(cursor.execute(each) or ()) for each in statements]


def test_copy_of_files_has_its_own_rows_views_and_catalogue(mine: Snowflake) -> None:
    sql(
        mine,
        "create table analytics.t (x number default 7, name varchar(3) not null) as select 1, 'a'",
        "create view analytics.v comment = 'seen' as select sum(x) as x, initcap('ab') as word from analytics.t",
    )
    # What a process leaves that was killed while it copied, and while it dropped.
    place = Path(mine.embedded_dir)
    for name in (".RUN_ELT__A.db.part", ".RUN_ELT__B.db.part.wal", "RUN_ELT__A.db.wal"):
        (place / name).write_bytes(b"half")
    with databases_session(mine, log=print) as session:
        Databases(session, database="RUN_ELT").create("a", owner="jane", now=NOW, days=1)
    assert sorted(each.name for each in place.glob("*RUN_ELT*")) == ["RUN_ELT.db", "RUN_ELT__A.db"]
    # As a run opens it: a new server, on the files alone.
    copy = mine.model_copy(update={"database": "RUN_ELT__A"})
    rows, shown = (
        "select x, word from {}analytics.v",
        "select table_name, row_count, comment from {}information_schema.tables order by 1",
    )
    found = sql(
        copy,
        "insert into analytics.t (name) values ('b')",
        *(query.format(where) for where in ("", "run_elt.") for query in (rows, shown)),
        "select distinct catalog_name from information_schema.schemata",
    )[1:]
    assert found == [
        *([(8, "Ab")], [("T", 2, None), ("V", None, "seen")]),
        *([(1, "Ab")], [("T", 1, None), ("V", None, "seen")]),
        [("RUN_ELT__A",)],
    ]
    with databases_session(mine, log=print) as session:
        databases = Databases(session, database="RUN_ELT")
        (listed,) = databases.environments()
        assert (listed.name, listed.mark.owner, (listed.bytes or 0) > 4096) == ("a", "jane", True)
        # It was there when the server started.
        databases.create("a", owner="jane", now=NOW, days=1, replace=True)
        databases = Databases(session, database="RUN_ELT")
        databases.drop("a")
    assert sorted(each.name for each in place.glob("*RUN_ELT*")) == ["RUN_ELT.db"]
    with pytest.raises(ValueError, match="requires an environment of the embedded Snowflake, got RUN_ELT__A"):
        sql(copy)


def test_copy_of_some_schemas_is_without_the_others(mine: Snowflake) -> None:
    sql(
        mine,
        *(f"create schema if not exists {name}" for name in ("analytics", "raw", '"Other"')),
        *(f"create table {name}.t as select 1 as n" for name in ("analytics", "raw", '"Other"')),
        "create view analytics.v as select n from raw.t",
    )
    with databases_session(mine, log=print) as session:
        databases = Databases(session, database="RUN_ELT", copies_schemas=False)
        databases.create("a", owner="jane", now=NOW, days=1, schemas=("ANALYTICS",))
    tables = "select table_schema, table_name from run_elt{}.information_schema.tables order by 1, 2"
    schemas = "select schema_name from run_elt{}.information_schema.schemata where schema_name <> 'INFORMATION_SCHEMA'"
    copy = mine.model_copy(update={"database": "RUN_ELT__A"})
    found = sql(copy, tables.format("__a"), schemas.format("__a") + " order by 1", tables.format(""))
    assert found[0] == [("ANALYTICS", "T"), ("ANALYTICS", "V")]
    assert ("Other",) not in found[1]
    assert len(found[2]) == 4


def test_copy_that_the_disk_does_not_take_leaves_nothing(mine: Snowflake, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, draft: Path) -> None:
        draft.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(draft))

    monkeypatch.setattr(shutil, "copyfile", full)
    with (
        databases_session(mine, log=print) as session,
        pytest.raises(ValueError, match="RUN_ELT__A was not made") as told,
    ):
        Databases(session, database="RUN_ELT").create("a", owner="jane", now=NOW, days=1)
    assert "cannot use its file" in str(told.value)
    assert "got a disk that is full" in str(told.value)
    assert sorted(each.name for each in Path(mine.embedded_dir).glob("*RUN_ELT*")) == ["RUN_ELT.db"]


def test_copy_waits_for_who_uses_the_files(mine: Snowflake) -> None:
    with (
        mine.connect(log=print),
        pytest.raises(TimeoutError, match=f"got process {os.getpid()} .*Nothing was executed"),
        databases_session(mine, log=print),
    ):
        pass


def test_database_of_a_session_and_odd_names_are_refused(mine: Snowflake) -> None:
    with databases_session(mine, log=print) as session:
        for statement, problem in (
            ("drop database run_elt", "cannot drop the database of a session"),
            ('create database "a b" clone run_elt', "cannot keep a database with this name"),
            ("create database run_elt__a clone nope", "'NOPE' does not exist"),
            ("drop database nope", "'NOPE' does not exist"),
        ):
            with pytest.raises(Exception, match=problem):
                session.execute(statement, tag={})
