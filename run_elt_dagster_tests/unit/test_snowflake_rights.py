"""What deploy/ sets up in Snowflake: clean SQL, the rights that a run needs and no other, and a page that explains each.

No Snowflake account is at hand here: docs/deployment.md says what that leaves unproven.
"""

import re
from pathlib import Path

import pytest
import sqlfluff
import sqlglot
from sqlglot import exp

from run_elt_dagster.publish.log import COLUMNS, create_sql, log_table
from run_elt_dagster.settings import SECRET_VARIABLES

ROOT = Path(__file__).parents[2]
SECRETS = {*SECRET_VARIABLES, "DAGSTER_POSTGRES_PASSWORD"}


def text_of(name: str) -> str:
    return (ROOT / "deploy" / name).read_text(encoding="utf-8")


def statements() -> list[exp.Expr]:
    return [statement for statement in sqlglot.parse(text_of("snowflake_setup.sql"), dialect="snowflake") if statement]


@pytest.mark.parametrize("name", ["snowflake_setup.sql", "publish_log.sql"])
def test_setup_of_snowflake_is_clean_sql(name: str) -> None:
    assert sqlfluff.lint(text_of(name), dialect="snowflake", config_path=str(ROOT / "pyproject.toml")) == []


def test_setup_of_snowflake_has_all_of_its_statements() -> None:
    assert len(statements()) > 30


def test_setup_of_the_log_creates_the_tables_that_runs_write_to() -> None:
    created = [
        each for each in sqlglot.parse(text_of("publish_log.sql"), dialect="snowflake") if isinstance(each, exp.Create)
    ]
    written = [table.sql("snowflake") for table in created if table.kind == "TABLE"]
    assert [_columns(each) for each in written] == [
        _columns(create_sql(log_table(name, "RUN_ELT", database="D"))) for name in COLUMNS
    ]


def _columns(create: str) -> dict[str, str]:
    """Return the columns of a CREATE TABLE with their types, and its comment."""
    parsed = sqlglot.parse_one(create, dialect="snowflake")
    columns = {
        column.name.upper(): column.sql("snowflake").partition(" ")[2] for column in parsed.find_all(exp.ColumnDef)
    }
    return {**columns, "comment": parsed.find(exp.SchemaCommentProperty).sql("snowflake")}


def test_role_gets_these_rights_and_no_other() -> None:
    granted = [line for line in text_of("snowflake_setup.sql").splitlines() if line.startswith("grant ")]
    to_role = " to role identifier($service_role);"
    assert [line.removesuffix(to_role) for line in granted] == [
        "grant role identifier($service_role) to user identifier($service_user);",
        "grant role identifier($service_role) to role sysadmin;",
        "grant usage on warehouse identifier($warehouse_name)",
        "grant usage on database identifier($database_name)",
        "grant usage on schema identifier($source_schema)",
        "grant usage on schema identifier($target_schema)",
        "grant create table on schema identifier($target_schema)",
        "grant select on table identifier($first_source)",
        "grant select on table identifier($second_source)",
    ]
    assert [type(s) for s in statements() if isinstance(s, exp.Grant)] == [exp.Grant] * 7


def test_user_is_a_service_with_a_key_pair_and_warehouse_has_limits() -> None:
    sql = " ".join(text_of("snowflake_setup.sql").split())
    for needed in (
        "type = service",
        "default_secondary_roles = ()",
        "rsa_public_key = 'PUBLIC_KEY_OF_RUN_ELT'",
        "set network_policy = $policy_name",
        "allowed_ip_list = ('203.0.113.10')",
        "auto_suspend = 60",
        "statement_timeout_in_seconds = 14400",
        "on 100 percent do suspend ",
    ):
        assert needed in sql, needed
    assert "password" not in re.sub(r"--.*", "", text_of("snowflake_setup.sql"))


def test_variables_are_set_before_they_are_used_and_fit() -> None:
    known: set[str] = set()
    for line in re.sub(r"--.*", "", text_of("snowflake_setup.sql")).splitlines():
        assert set(re.findall(r"\$(\w+)", line)) <= known, line
        if setting := re.match(r"set (\w+) = ", line):
            known.add(setting[1])
            assert len(line) < 256


def test_security_page_explains_every_grant_and_secret() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    for secret in SECRETS:
        assert f"`{secret}`" in page
    for right in ("USAGE", "CREATE TABLE", "SELECT", "OWNERSHIP"):
        assert f"`{right}`" in page
