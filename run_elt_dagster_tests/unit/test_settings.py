import inspect
import runpy
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from run_elt_dagster.embedded import embedded_snowflake
from run_elt_dagster.settings import VARIABLES, AlertSettings, Settings, reachable_settings
from run_elt_dagster.variables import SettingsError

ROOT = Path(__file__).parents[2]
ACCOUNT = {
    "SNOWFLAKE_ACCOUNT": "org-acc",
    "SNOWFLAKE_USER": "svc",
    "SNOWFLAKE_ROLE": "elt",
    "SNOWFLAKE_WAREHOUSE": "wh",
    "SNOWFLAKE_DATABASE": "prod",
    "SNOWFLAKE_PASSWORD": "hunter2",
}


def problems_of(environment: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment)
    return "\n".join(caught.value.problems)


def test_nothing_set_means_the_embedded_snowflake_and_the_shipped_tables() -> None:
    settings = Settings.from_environment({"SNOWFLAKE_USER": " "})
    assert settings.snowflake is None
    assert settings.tables_dir == ROOT / "run_elt_dagster" / "tables"
    assert (settings.max_concurrent_tables, settings.copy_tags) == (8, True)
    assert (settings.publishing.creates_schemas, settings.publishing.applies_policies) == (True, False)
    on_account = settings.publishing.on(is_embedded=False)
    assert (on_account.creates_schemas, on_account.applies_policies) == (False, True)


def test_account_is_read_and_secrets_stay_in_the_environment() -> None:
    settings = Settings.from_environment({**ACCOUNT, "SNOWFLAKE_PORT": "8443", "SNOWFLAKE_PROTOCOL": "http"})
    assert settings.snowflake is not None
    assert (settings.snowflake.account, settings.snowflake.port) == ("org-acc", 8443)
    assert settings.snowflake.secrets == {"password": "SNOWFLAKE_PASSWORD"}
    assert "hunter2" not in repr(settings)
    assert (settings.publishing.creates_schemas, settings.publishing.applies_policies) == (False, True)


@pytest.mark.parametrize("name", [name for name in ACCOUNT if name != "SNOWFLAKE_PASSWORD"])
def test_half_a_configuration_names_what_is_missing(name: str) -> None:
    environment = {key: value for key, value in ACCOUNT.items() if key != name}
    assert f"a Snowflake account requires {name}, got only " in problems_of(environment)


def test_signing_in_requires_exactly_one_way() -> None:
    without = {key: value for key, value in ACCOUNT.items() if key != "SNOWFLAKE_PASSWORD"}
    assert "requires one of SNOWFLAKE_PRIVATE_KEY_PATH" in problems_of(without)
    assert "requires one way, got SNOWFLAKE_PRIVATE_KEY_PATH, SNOWFLAKE_PASSWORD" in problems_of(
        {**ACCOUNT, "SNOWFLAKE_PRIVATE_KEY_PATH": "key.p8"}
    )


def test_workload_identity_requires_no_user() -> None:
    environment = {key: value for key, value in ACCOUNT.items() if key not in ("SNOWFLAKE_USER", "SNOWFLAKE_PASSWORD")}
    settings = Settings.from_environment({**environment, "SNOWFLAKE_AUTHENTICATOR": "WORKLOAD_IDENTITY"})
    assert settings.snowflake is not None
    assert settings.snowflake.user == ""


def test_all_problems_are_reported_at_once_without_secrets() -> None:
    problems = problems_of(
        {
            "SNOWFLAKE_PASSWORD": "hunter2",
            "RUN_ELT_MAX_CONCURRENT_TABLES": "0",
            "RUN_ELT_COPY_TAGS": "maybe",
            "SNOWFLAKE_PROTOCOL": "ftp",
            "RUN_ELT_STATEMENT_TIMEOUT_SECONDS": "1h",
        }
    )
    for start in (
        "a Snowflake account requires",
        "RUN_ELT_MAX_CONCURRENT_TABLES requires a whole number from 1 to 64, got '0'",
        "RUN_ELT_COPY_TAGS requires true or false, got 'maybe'",
        "SNOWFLAKE_PROTOCOL requires http or https, got 'ftp'",
        "RUN_ELT_STATEMENT_TIMEOUT_SECONDS requires a whole number",
    ):
        assert start in problems
    assert "hunter2" not in problems


def test_value_that_is_wrong_costs_only_itself_and_shows_no_secret() -> None:
    problems = problems_of(
        {
            **ACCOUNT,
            "SNOWFLAKE_PORT": "70000",
            "SLACK_TOKEN": "xoxb-hunter2",
            "SLACK_BASE_URL": "slack",
            "RUN_ELT_LOST_AFTER_SECONDS": "5",
            "RUN_ELT_SOURCE_URL": "https://git.example.com/{file}",
        }
    )
    assert problems.splitlines() == [
        "SNOWFLAKE_PORT requires a whole number from 1 to 65535, got '70000'.",
        "SLACK_BASE_URL requires an address that starts with https:// or http://, got 'slack'.",
        "RUN_ELT_LOST_AFTER_SECONDS requires a whole number from 60 to 86400, got '5'.",
        "RUN_ELT_SOURCE_URL requires an address with {path} in it, maybe {line}, and no other braces, got 'https://git.example.com/{file}'.",
    ]


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("RUN_ELT_MAX_CONCURENT_TABLES", "RUN_ELT_MAX_CONCURRENT_TABLES"),
        ("RUN_ELT_TABLE_DIR", "RUN_ELT_TABLES_DIR"),
        ("RUN_ELT_ALERTS_ON_CANCEL", "RUN_ELT_ALERT_ON_CANCEL"),
        ("RUN_ELT_SLACK_TOKEN", "SLACK_TOKEN"),
        ("SNOWFLAKE_ACOUNT", "SNOWFLAKE_ACCOUNT"),
        ("SLACK_CHANEL", "SLACK_CHANNEL"),
    ],
)
def test_variable_that_is_nearly_a_setting_is_refused(slip: str, meant: str) -> None:
    assert f"{slip} requires the name of a setting, got one that nothing reads. The nearest is {meant}." in problems_of(
        {slip: "1"}
    )


@pytest.mark.parametrize(
    "name",
    [
        *("RUN_ELT_WEBSERVER_PORT", "RUN_ELT_CODE_SERVER_PORT", "RUN_ELT_TESTS_SNOWFLAKE_COPY_TAGS", "SNOWFLAKE_HOME"),
        *(f"{name}_FILE" for name in VARIABLES),
    ],
)
def test_variable_of_something_else_is_let_alone(name: str) -> None:
    assert Settings.from_environment({name: "1"}) == Settings.from_environment({})


def test_settings_are_read_from_the_process_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_ELT_DEPLOYMENT", " staging ")
    assert Settings.from_environment().deployment == "staging"
    assert reachable_settings()[0].deployment == "staging"


def test_secret_is_in_no_log_of_the_library(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")
    caplog.set_level("DEBUG", logger="pydantic_settings")
    settings = Settings.from_environment({**ACCOUNT, "SLACK_TOKEN": "xoxb-hunter2"})
    assert "org-acc" in caplog.text
    assert "hunter2" not in caplog.text
    assert settings.alerts.token == SecretStr("xoxb-hunter2")


def test_constructor_reads_no_variable_and_takes_no_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_CHANNEL", "C01")
    assert AlertSettings().channel == ""
    with pytest.raises(ValidationError):
        AlertSettings(chanel="C01")  # type: ignore[call-arg]


DOCUMENTS = runpy.run_path(str(ROOT / "docs" / "write_settings.py"))["texts"]()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_is_what_the_fields_say(path: Path) -> None:
    """`make docs` writes it."""
    assert path.read_text(encoding="utf-8") == DOCUMENTS[path]
    assert [name for name in VARIABLES if name not in DOCUMENTS[path]] == []


def test_template_sets_nothing_and_every_example_of_it_can_be_used() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    examples = dict(
        line.removeprefix("#").split("=", 1) for line in lines if line.startswith(tuple(f"#{v}=" for v in VARIABLES))
    )
    assert examples.keys() == set(VARIABLES)
    settings = Settings.from_environment(examples)
    assert settings.alerts.owners == {"team:analytics": "S0123456789", "jane@example.com": "U0123456789"}
    assert settings.snowflake is not None
    defaults = Settings.from_environment({})
    given = ("alerts", "snowflake", "source_url", "production_database", "log_schema")
    common = [name for name in Settings.model_fields if name not in given]
    assert [name for name in common if getattr(settings, name) != getattr(defaults, name)] == []


def test_alerts_need_nothing_and_read_everything() -> None:
    assert Settings.from_environment({}).alerts == AlertSettings()
    alerts = Settings.from_environment(
        {
            "SLACK_TOKEN": "xoxb-hunter2",
            "SLACK_CHANNEL": "C01",
            "SLACK_BASE_URL": "http://127.0.0.1:1/api",
            "RUN_ELT_WEBSERVER_URL": "https://dagster.example.com/",
            "RUN_ELT_SLACK_OWNERS": '{"team:analytics": "S0123"}',
            "RUN_ELT_ALERT_ON_CANCEL": "true",
        }
    ).alerts
    assert alerts == AlertSettings(
        token=SecretStr("xoxb-hunter2"),
        channel="C01",
        base_url="http://127.0.0.1:1/api/",
        owners={"team:analytics": "S0123"},
        webserver_url="https://dagster.example.com",
        on_cancel=True,
    )


@pytest.mark.parametrize("owners", ["[]", "{", '{"team:a": "#channel"}', '{"team:a": 1}'])
def test_owners_that_slack_cannot_mention_are_refused(owners: str) -> None:
    assert "RUN_ELT_SLACK_OWNERS requires a JSON object" in problems_of({"RUN_ELT_SLACK_OWNERS": owners})


def test_schedule_and_sensors_run_by_themselves_in_a_deployment_and_on_the_embedded_snowflake() -> None:
    assert Settings.from_environment({}).is_automated
    assert not Settings.from_environment(ACCOUNT).is_automated
    assert not Settings.from_environment({**ACCOUNT, "RUN_ELT_DEPLOYMENT": " "}).is_automated
    deployed = Settings.from_environment({**ACCOUNT, "RUN_ELT_DEPLOYMENT": "production"})
    assert (deployed.is_automated, deployed.deployment) == (True, "production")


def test_where_alerts_go_is_known_whatever_else_is_wrong() -> None:
    wrong = {"SNOWFLAKE_ACCOUNT": "half", "RUN_ELT_MAX_CONCURRENT_TABLES": "many", "RUN_ELT_SLACK_OWNERS": "{"}
    reachable = {"SLACK_TOKEN": "xoxb-hunter2", "SLACK_CHANNEL": "C01", "RUN_ELT_DEPLOYMENT": "production"}
    alerts, deployment = reachable_settings({**wrong, **reachable})
    assert (alerts.has_token, alerts.channel, deployment) == (True, "C01", "production")


def test_database_is_the_accounts_or_the_one_of_the_embedded_snowflake() -> None:
    assert Settings.from_environment(ACCOUNT).database == "prod"
    default = inspect.signature(embedded_snowflake).parameters["database"].default
    assert Settings.from_environment({}).database == default


def test_database_alone_is_an_environment_of_the_embedded_snowflake_if_its_name_is_one() -> None:
    found = Settings.from_environment({"SNOWFLAKE_DATABASE": "run_elt__my_branch"})
    assert (found.snowflake, found.database) == (None, "RUN_ELT__MY_BRANCH")
    assert Settings.from_environment({**ACCOUNT, "SNOWFLAKE_DATABASE": "run_elt__my_branch"}).snowflake is not None


@pytest.mark.parametrize("name", ["RUN_ELT", "PROD__MY_BRANCH", "RUN_ELT_2"])
def test_any_other_database_alone_is_half_an_account(name: str) -> None:
    assert "got only SNOWFLAKE_DATABASE" in problems_of({"SNOWFLAKE_DATABASE": name})


def test_rest_of_an_account_with_the_name_of_an_environment_is_half_an_account() -> None:
    given = {"SNOWFLAKE_DATABASE": "RUN_ELT__MY_BRANCH", "SNOWFLAKE_ROLE": "RUN_ELT"}
    assert "a Snowflake account requires SNOWFLAKE_ACCOUNT" in problems_of(given)
