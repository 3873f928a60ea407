"""What a command works on: whose folder, whose resource, and the keys of whose assets. e2e/test_component.py runs the commands."""

import sys
from pathlib import Path

import pytest

from run_elt_dagster.cli import main
from run_elt_dagster.environments.plan import Plan, Planned
from run_elt_dagster.orchestration.rebuild import RebuildPlan
from run_elt_dagster.project import Location, Project, location_of
from run_elt_dagster.settings import EMBEDDED_DATABASE

DEFINITIONS = """
import dagster as dg
import run_elt_dagster as elt

ACCOUNT = elt.Snowflake(
    account="myorg-account", user="svc", role="R", database=dg.EnvVar("THE_DATABASE"), password=dg.EnvVar("THE_PASSWORD")
)

@dg.definitions
def defs():
    return elt.build_defs(
        elt.SqlFolder("sql", name="sales", key_prefix="shop", snowflake="account"),
        elt.SqlFolder("other"),
        snowflake={"account": ACCOUNT, "snowflake": elt.Snowflake(embedded_dir="data")},
        settings=elt.Settings(cache_dir=None, max_concurrent_tables=2, production_database="prod"),
    )
"""
PYPROJECTS = {
    "[tool.dagster]\nmodule_name = 'the_shop.definitions'": True,
    "[tool.dg.project]\nroot_module = 'the_shop'": True,
    "[tool.dg.project]\nroot_module = 'x'\ncode_location_target_module = 'the_shop.definitions'": True,
    "[tool.dagster]\nmodule_name = 'run_elt_dagster.definitions'": False,
    "[project]\nname = 'x'": False,
}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of another team, in the working directory."""
    for name, text in {
        "the_shop/definitions.py": DEFINITIONS,
        "sql/analytics/orders.sql": "/* elt\nincrement: {column: at, key: id}\nelt */\nselect 1 as id, current_timestamp as at",
        "other/analytics/days.sql": "select 1 as n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.startswith("the_shop")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("THE_DATABASE", "prod__my_branch")
    monkeypatch.setenv("THE_PASSWORD", "hunter2")
    return tmp_path


def test_code_location_says_what_a_command_works_on(shop: Path) -> None:
    location = location_of("the_shop.definitions")
    sales = location.project("sales")
    assert (sales.settings.tables_dir, sales.settings.max_concurrent_tables) == (shop / "sql", 2)
    account = sales.settings.snowflake
    assert account is not None
    assert (account.account, account.role, account.database, account.password) == (
        *("myorg-account", "R", "prod__my_branch"),
        None,
    )
    assert (sales.snowflake.password, sales.database_variable) == ("hunter2", "THE_DATABASE")
    assert [key.to_user_string() for key in sorted(spec.key for spec in location.specs())][
        -1
    ] == "shop/analytics/orders"
    other = location_of(file=Path("the_shop/definitions.py")).project("")
    assert (other.settings.snowflake, other.settings.database) == (None, EMBEDDED_DATABASE)
    assert (other.settings.embedded_dir, other.database_variable) == (shop / "data", "")


def test_selections_and_configs_are_those_of_the_folder(shop: Path) -> None:
    project = location_of("the_shop.definitions").project("sales")
    table = project.table("analytics.orders")
    assert Plan((Planned(table, "named"),)).selection == 'key:"shop/analytics/orders"'
    assert project.tables().asset_path(table.key) == project.declared()[0][table.key].asset_path
    command = RebuildPlan(table, (), None, None, None, None).command(project.target, folder=project.name)
    config = '{"ops": {"sales_run_ctas": {"config": {"rebuild": ["analytics.orders"]}}}}'
    where = ["--config-json", config, "-m", "the_shop.definitions"]
    assert command == ["asset", "materialize", "--select", "shop/analytics/orders", *where]


@pytest.mark.parametrize(("text", "is_another"), PYPROJECTS.items(), ids=range(len(PYPROJECTS)))
def test_code_location_of_pyproject_is_meant_unless_a_variable_names_a_folder(
    shop: Path, monkeypatch: pytest.MonkeyPatch, text: str, is_another: bool
) -> None:
    (shop / "pyproject.toml").write_text(text, encoding="utf-8")
    assert location_of().target[1] == ("the_shop.definitions" if is_another else "run_elt_dagster")
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", "sql")
    assert location_of() == Location()
    assert location_of().project() == Project(location_of().project().settings)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-m", "the_shop.definitions"], "got no --folder. Nothing was done. It has sales, one without a name: pass"),
        (["-m", "the_shop.definitions", "--folder", "sale"], "got --folder sale. Nothing was done. It has sales"),
        (["-m", "the_shop.definition"], "requires a module that Python finds, got the_shop.definition."),
        (["-m", "dagster"], "requires a module with dg.Definitions, got none in dagster."),
        (["-f", "nothing.py"], "requires a Python file, got nothing.py."),
        (["-f", "empty.py"], "requires a code location that calls build_defs or has a component SqlTables, got none"),
        (["--folder", "sales"], "requires one folder of the code location, got --folder sales."),
    ],
    ids=lambda each: each[-1] if isinstance(each, list) else "",
)
def test_what_names_no_folder_is_said(
    shop: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    (shop / "empty.py").write_text("import dagster as dg\ndefs = dg.Definitions()", encoding="utf-8")
    assert main(["plan", *arguments]) == 1
    assert told in capsys.readouterr().err


def test_pyproject_that_cannot_be_read_is_named(shop: Path) -> None:
    (shop / "pyproject.toml").write_text("[", encoding="utf-8")
    with pytest.raises(ValueError, match=r"pyproject\.toml requires TOML, got "):
        location_of()


def test_problems_of_files_are_said_by_the_command_alone(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "sql" / "analytics" / "orders.sql").write_text("/* elt\nownr: x\nelt */\nselect 1 as n", encoding="utf-8")
    assert main(["lint", "-m", "the_shop.definitions", "--folder", "sales"]) == 1
    told = capsys.readouterr()
    assert (told.out.count("unknown key 'ownr'"), told.err) == (1, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "def limit():\n    return 1 / 0\n\n\nLIMIT = limit()",
            "  the_shop/definitions.py:2: return 1 / 0\n  ZeroDivisionError: division by zero\n",
        ),
        ("x = 1\ndef defs(:", "  the_shop/definitions.py:2: def defs(:\n  SyntaxError: invalid syntax"),
        (
            "import not_installed_here",
            "  the_shop/definitions.py:1: import not_installed_here\n  ModuleNotFoundError: No module named 'not_installed_here'\n",
        ),
        (
            # What Dagster finds wrong is at the project's own line.
            "import dagster as dg\n\n\n@dg.asset(name='a b')\ndef a(): ...",
            "  the_shop/definitions.py:4: @dg.asset(name='a b')\n  DagsterInvalidDefinitionError: \"a b\" is not a valid name",
        ),
        (
            "import run_elt_dagster as elt\n\ndefs = elt.build_defs('sql', snowflake='account')",
            "  the_shop/definitions.py:3: defs = elt.build_defs('sql', snowflake='account')\n  TypeError: ",
        ),
    ],
    ids=["raises", "is no Python", "imports what is missing", "is refused by Dagster", "is refused by build_defs"],
)
def test_code_location_that_cannot_be_loaded_is_said_in_a_few_lines(
    shop: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (shop / "the_shop/definitions.py").write_text(text, encoding="utf-8")
    assert main(["lint", "-m", "the_shop.definitions"]) == 1
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.startswith(
        "run-elt: run-elt requires a code location that can be loaded, got an error in -m the_shop.definitions:\n"
    )
    assert printed.endswith("report: dagster definitions validate -m the_shop.definitions\n")
    assert len(printed.splitlines()) <= 6


def test_fault_in_the_call_of_build_defs_is_said_as_it_is(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = DEFINITIONS.replace('SqlFolder("other")', 'SqlFolder("other", name="sales")')
    (shop / "the_shop/definitions.py").write_text(text, encoding="utf-8")
    assert main(["lint", "-m", "the_shop.definitions"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("run-elt: two folders of a code location require two names")


def test_shipped_folder_is_named_to_a_person_who_works_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        assert main(["lint", *arguments]) == 0
        return capsys.readouterr().err

    assert said() == ""
    monkeypatch.chdir(tmp_path)
    told = said()
    assert told.startswith(
        f"run-elt: The shipped tables are meant, in {Path(__file__).parents[2] / 'run_elt_dagster' / 'tables'}. "
    )
    assert told.endswith("with RUN_ELT_TABLES_DIR.\n")
    # A program asks for no advice, and who has chosen needs none.
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "t.sql").write_text("select 1 as n", encoding="utf-8")
    assert said("--json") == said("-m", "run_elt_dagster") == said("--tables-dir", str(tmp_path)) == ""
    monkeypatch.setenv("RUN_ELT_TABLES_DIR", str(tmp_path))
    assert said() == ""
