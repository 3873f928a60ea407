"""The settings of a deployment, and the only place that reads the environment.

Each field of `SnowflakeSettings`, `Settings` and `AlertSettings` is one variable, with its default and its rules. `make docs` writes
docs/settings.md and .env.example from them. A constructor reads no variables; `Settings.from_environment` does.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, SecretStr

from run_elt_dagster.variables import (
    Address,
    Folder,
    Owners,
    Receivers,
    Schema,
    SecretAddress,
    SettingsError,
    SourceAddress,
    TimeOfDay,
    Variables,
    addresses_of,
    read_settings,
    variable,
)

# These sign in as the user of the token or the workload; the connector then needs no user name.
_AUTHENTICATORS_WITHOUT_USER = ("OAUTH", "OAUTH_CLIENT_CREDENTIALS", "WORKLOAD_IDENTITY")
# The database that the embedded Snowflake opens its sessions in.
EMBEDDED_DATABASE = "RUN_ELT"
_EMBEDDED_PLACE = f"{EMBEDDED_DATABASE} on the embedded Snowflake"
MAX_CONCURRENT_TABLES = 8
KEEP_CANDIDATES_HOURS = 72
STATEMENT_TIMEOUT_SECONDS = 4 * 3600
SLACK_URL = "https://slack.com/api/"
_noted_secrets: dict[str, None] = {}
# A name this close to a variable's is a slip: one or two letters in twenty.
_NEAR = 0.94


@dataclass(frozen=True)
class PublishOptions:
    """How a deployment builds and publishes its tables.

    Attributes:
        max_concurrent_tables: Tables that are built at the same time; 1 is strictly one after another.
        copy_tags: Whether publishing by clone keeps the tags of the table that it replaces.
        check_policies: Whether to ask for the policies on the targets: a clone or a swap would lose them.
        keep_candidates_hours: How old what other runs left behind must be to be dropped.
        creates_schemas: Whether a target schema that does not exist is created, as only the embedded Snowflake's are.
        observe_sources: Whether a run first records what the catalogue says of the tables that it reads and does not build.
        applies_policies: Whether Snowflake keeps the declared policies and tags of tables; the embedded one leaves them out.
        log_schema: Schema of the log of publishes, in the session's database or with its own; empty for no log.
    """

    max_concurrent_tables: int = MAX_CONCURRENT_TABLES
    copy_tags: bool = True
    check_policies: bool = True
    keep_candidates_hours: float = KEEP_CANDIDATES_HOURS
    creates_schemas: bool = False
    observe_sources: bool = False
    applies_policies: bool = True
    log_schema: str = ""

    def on(self, *, is_embedded: bool) -> "PublishOptions":
        """Return the options for an account, or for the embedded Snowflake, whatever the environment names."""
        return replace(self, creates_schemas=is_embedded, applies_policies=not is_embedded)


def _cache_dir() -> Path | None:
    try:
        # https://specifications.freedesktop.org/basedir-spec/latest/
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "run_elt_dagster"
    except RuntimeError:
        # A service user without a home.
        return None


class SnowflakeSettings(Variables):
    """How to reach a Snowflake account."""

    account: str = variable(
        "SNOWFLAKE_ACCOUNT",
        "account identifier, as in `myorg-myaccount`",
        default="",
        shown="required",
        example="myorg-myaccount",
    )
    user: str = variable(
        "SNOWFLAKE_USER",
        "login name; not needed for `OAUTH`, `OAUTH_CLIENT_CREDENTIALS` and `WORKLOAD_IDENTITY`",
        default="",
        shown="required",
        example="RUN_ELT",
    )
    role: str = variable("SNOWFLAKE_ROLE", "role of the session", default="", shown="required", example="RUN_ELT")
    warehouse: str = variable(
        "SNOWFLAKE_WAREHOUSE", "warehouse of the session", default="", shown="required", example="RUN_ELT"
    )
    database: str = variable(
        "SNOWFLAKE_DATABASE", "database of the tables", default="", shown="required", example="ANALYTICS"
    )
    private_key_path: str | None = variable(
        "SNOWFLAKE_PRIVATE_KEY_PATH", "file of the private key", example="/run/secrets/snowflake_key.p8"
    )
    private_key: SecretStr | None = variable("SNOWFLAKE_PRIVATE_KEY", "the private key itself, in PEM or in base64")
    private_key_password: SecretStr | None = variable("SNOWFLAKE_PRIVATE_KEY_PASSWORD", "password of the private key")
    password: SecretStr | None = variable("SNOWFLAKE_PASSWORD", "password, or programmatic access token")
    authenticator: str | None = variable(
        "SNOWFLAKE_AUTHENTICATOR", "another method, as in `WORKLOAD_IDENTITY` or `OAUTH`"
    )
    token_file_path: str | None = variable("SNOWFLAKE_TOKEN_FILE_PATH", "file of a token, for methods that read one")
    host: str | None = variable("SNOWFLAKE_HOST", "name of the server", shown="the account's")
    port: int | None = variable("SNOWFLAKE_PORT", "port of the server", ge=1, le=65535, shown="`443`", example="443")
    protocol: Literal["http", "https"] | None = variable(
        "SNOWFLAKE_PROTOCOL", "`https` or `http`", shown="`https`", example="https"
    )

    @property
    def secrets(self) -> dict[str, str]:
        """The names of the variables that are set and hold a secret, by field."""
        found = [name for name in type(self).model_fields if isinstance(getattr(self, name), SecretStr)]
        return {name: str(type(self).model_fields[name].validation_alias) for name in found}


class AlertSettings(Variables):
    """Where alerts go, and what they say."""

    token: SecretStr | None = variable(
        "SLACK_TOKEN",
        "bot token with the scope `chat:write`. With `channels:join` it joins a public channel by itself, and "
        "with `channels:history` no message appears twice after a lost answer of Slack",
    )
    app_token: SecretStr | None = variable(
        "RUN_ELT_SLACK_APP_TOKEN",
        "token of the Slack app (`xapp-...`) with the scope `connections:write`, where `run-elt alert listen` runs. The first message of an "
        "incident then has the buttons Acknowledge and Snooze 4 h ([alerts.md](alerts.md#buttons-in-slack))",
        shown="none: no buttons",
    )
    channel: str = variable("SLACK_CHANNEL", "ID of the channel, as in `C0123456789`", default="")
    base_url: Annotated[Address, AfterValidator(lambda url: url.rstrip("/") + "/")] = variable(
        "SLACK_BASE_URL", "address of Slack's API, for proxies and test servers", default=SLACK_URL
    )
    owners: Owners = variable(
        "RUN_ELT_SLACK_OWNERS",
        "Slack's ids of users (`U...`) and groups (`S...`) to mention, by owner, as JSON",
        default_factory=dict,
        example='{"team:analytics": "S0123456789", "jane@example.com": "U0123456789"}',
    )
    webserver_url: Annotated[Address, AfterValidator(lambda url: url.rstrip("/"))] | None = variable(
        "RUN_ELT_WEBSERVER_URL",
        "address of the Dagster UI, for links in alerts",
        shown="none: no links",
        example="http://127.0.0.1:3000",
    )
    runbook_url: Address | None = variable(
        "RUN_ELT_RUNBOOK_URL",
        "address of [operations.md](operations.md) as your people read it, without an anchor. Each alert links to its cause there",
        shown="none: the path",
        example="https://git.example.com/data/run_elt_dagster/blob/main/docs/operations.md",
    )
    heartbeat_url: SecretAddress | None = variable(
        "RUN_ELT_HEARTBEAT_URL",
        "address that a sensor calls every minute by GET while all is well: no alert waits, the daemons work, no table is late. A "
        "service outside of this deployment tells people when the calls stop ([alerts.md](alerts.md#a-dead-mans-switch))",
        shown="none: no calls",
    )
    receivers: Receivers | None = variable(
        "RUN_ELT_ALERT_RECEIVERS",
        "receivers of alerts besides Slack, as `name=address` apart by spaces: e-mail, PagerDuty, Teams, webhooks and whatever else "
        "[Apprise](https://appriseit.com/services/) has an address for. Install `run_elt_dagster[receivers]`. Messages name a receiver "
        "by its name alone ([alerts.md](alerts.md#other-receivers))",
        shown="none",
    )
    own_channels: bool = variable(
        "RUN_ELT_OWN_CHANNELS",
        "`false`: alerts go to `SLACK_CHANNEL` alone, also those of tables with a channel of their own. Set it where a deployment is "
        "for trying out",
        default=True,
    )
    digest_at: TimeOfDay = variable(
        "RUN_ELT_DIGEST_AT",
        "when the daily digest of tables with `severity: digest`, and of warnings, is posted, with its time zone, as in "
        "`08:00 Europe/Berlin` ([alerts.md](alerts.md#the-daily-digest))",
        default="08:00 UTC",
    )
    on_cancel: bool = variable("RUN_ELT_ALERT_ON_CANCEL", "`true`: a cancelled run alerts too", default=False)
    # Messages contain where the tables are: these two variables are those of the other settings.
    deployment: str = variable("RUN_ELT_DEPLOYMENT", "", default="")
    database: str = variable("SNOWFLAKE_DATABASE", "", default=_EMBEDDED_PLACE)

    @property
    def heartbeat_address(self) -> str:
        """The address as it is called, empty without one."""
        return self.heartbeat_url.get_secret_value() if self.heartbeat_url is not None else ""

    @property
    def receiver_addresses(self) -> dict[str, str]:
        """The addresses of the receivers by name. They are secrets."""
        return addresses_of(self.receivers) if self.receivers is not None else {}

    @property
    def has_buttons(self) -> bool:
        """Whether messages have buttons that a process listens to."""
        return self.app_token is not None

    @property
    def has_token(self) -> bool:
        """Whether SLACK_TOKEN is set."""
        return self.token is not None


class Settings(Variables):
    """The settings of a deployment.

    Attributes:
        snowflake: The account, or None for the embedded Snowflake.
        alerts: Where alerts go.
        embedded_database: The database on the embedded Snowflake: its own, or an environment.
    """

    tables_dir: Folder = variable(
        "RUN_ELT_TABLES_DIR",
        "folder of `<schema>/<table>.sql` files",
        default=Path(__file__).parent / "tables",
        shown="the package's `tables`",
    )
    max_concurrent_tables: int = variable(
        "RUN_ELT_MAX_CONCURRENT_TABLES",
        "tables built at the same time; with 1 strictly one after another",
        default=MAX_CONCURRENT_TABLES,
        ge=1,
        le=64,
    )
    statement_timeout_seconds: int = variable(
        "RUN_ELT_STATEMENT_TIMEOUT_SECONDS",
        "Snowflake ends a statement after this time",
        default=STATEMENT_TIMEOUT_SECONDS,
        ge=1,
        le=7 * 86400,
    )
    # Snowflake takes up to 45 s to say that a query is still running.
    answer_timeout_seconds: int = variable(
        "RUN_ELT_ANSWER_TIMEOUT_SECONDS",
        "a request to Snowflake without an answer fails after this time. A long query is answered meanwhile",
        default=900,
        ge=60,
        le=86400,
    )
    copy_tags: bool = variable(
        "RUN_ELT_COPY_TAGS",
        "`false` if the account refuses `COPY TAGS`. A published table then loses its tags",
        default=True,
    )
    check_policies: bool = variable(
        "RUN_ELT_CHECK_POLICIES",
        "`false` if the account has no policies and refuses to list them. Otherwise clone and swap are refused",
        default=True,
    )
    keep_candidates_hours: int = variable(
        "RUN_ELT_KEEP_CANDIDATES_HOURS",
        "a run drops candidates that earlier runs left behind after this time",
        default=KEEP_CANDIDATES_HOURS,
        ge=24,
        le=8760,
    )
    lost_after_seconds: int = variable(
        "RUN_ELT_LOST_AFTER_SECONDS",
        "a run without a heartbeat fails after this time, and alerts",
        default=300,
        ge=60,
        le=86400,
    )
    observe_sources: bool = variable(
        "RUN_ELT_OBSERVE_SOURCES",
        "`true`: before a run builds, it records rows, bytes, last change and columns of the tables that it reads and does not build. It sends "
        "one statement more for each of their schemas",
        default=False,
    )
    log_schema: Schema = variable(
        "RUN_ELT_LOG_SCHEMA",
        "schema of a [log of publishes](publish_log.md), as in `RUN_ELT` or `OPS.RUN_ELT`: each run adds what became of its tables and "
        "what their checks found. It sends two statements more",
        default="",
        shown="none: no log",
        example="RUN_ELT",
    )
    embedded_dir: Folder = variable(
        "RUN_ELT_EMBEDDED_DIR",
        "folder of the embedded Snowflake's data",
        default=Path(".run_elt"),
        validate_default=True,
        shown="`.run_elt`",
        example=".run_elt",
    )
    cache_dir: Folder | None = variable(
        "RUN_ELT_CACHE_DIR",
        "folder of a cache: what the table files say. Without it each start parses all of them",
        default_factory=_cache_dir,
        shown="`~/.cache/run_elt_dagster`",
    )
    keep_storage_connections: bool = variable(
        "RUN_ELT_KEEP_STORAGE_CONNECTIONS",
        "`false`: Dagster opens a connection to its storage for each event that it writes, as it does without this project. Set it for every "
        "process that reads dagster.yaml ([deployment.md](deployment.md#connections-to-postgres))",
        default=True,
    )
    test_schema: str = variable(
        "RUN_ELT_TEST_SCHEMA",
        "schema for the temporary tables of tests that run on an account only, as in `scratch` or `dev.scratch`. Without it, or "
        "without an account, these tests are skipped",
        default="",
    )
    source_url: SourceAddress | None = variable(
        "RUN_ELT_SOURCE_URL",
        "address of a table's file in Git, for its page in the UI. `{path}` stands for the file's path below `RUN_ELT_TABLES_DIR`, `{line}` "
        "for the line where its SQL begins",
        shown="none: the file on this machine",
        example="https://git.example.com/data/run_elt_dagster/blob/main/run_elt_dagster/tables/{path}#L{line}",
    )
    deployment: str = variable(
        "RUN_ELT_DEPLOYMENT",
        "name of the deployment, as in `production`. Messages contain it. On an account the schedule and the sensors start by "
        "themselves only if it is set. deploy/ sets it for a deployment. Leave it unset on your own machine",
        default="",
    )
    production_database: str | None = variable(
        "RUN_ELT_PRODUCTION_DATABASE",
        "database that environments are copies of, and that `run-elt diff --against production` compares with",
        shown="`SNOWFLAKE_DATABASE`, or what that is a copy of",
        example="ANALYTICS",
    )
    drop_expired_environments: bool = variable(
        "RUN_ELT_DROP_EXPIRED_ENVIRONMENTS",
        "`true` where [environments](environments.md) are used: a job drops expired ones every day at 03:00 UTC",
        default=False,
    )
    snowflake: SnowflakeSettings | None = None
    alerts: AlertSettings = AlertSettings()
    embedded_database: str = EMBEDDED_DATABASE

    @property
    def is_automated(self) -> bool:
        """Whether schedule and sensors run by default: in a named deployment, and on the embedded Snowflake.

        A person's machine with an account would otherwise build production's tables at midnight, beside the deployment.
        """
        return bool(self.deployment) or self.snowflake is None

    @property
    def publishing(self) -> PublishOptions:
        """How tables are built and published."""
        return PublishOptions(
            max_concurrent_tables=self.max_concurrent_tables,
            copy_tags=self.copy_tags,
            check_policies=self.check_policies,
            keep_candidates_hours=self.keep_candidates_hours,
            observe_sources=self.observe_sources,
            log_schema=self.log_schema,
        ).on(is_embedded=self.snowflake is None)

    @property
    def database(self) -> str:
        """The session's database: the one that a name in SQL means that leaves it out."""
        return self.snowflake.database if self.snowflake else self.embedded_database

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Return the settings; a variable that is empty counts as not set.

        Args:
            environment: The variables; those of the process by default.

        Raises:
            SettingsError: With everything that is wrong. Half a configuration never means the embedded Snowflake.
        """
        environment = os.environ if environment is None else environment
        given, problems = _given(environment), list(_slips(environment))
        snowflake, environment_database = None, _embedded_environment(given)
        if environment_database is None and any(name in given for name in SnowflakeSettings.variables()):
            snowflake = read_settings(SnowflakeSettings, given, problems)
            problems += _connection_problems(snowflake, given)
        alerts = read_settings(AlertSettings, given, problems)
        embedded = environment_database or EMBEDDED_DATABASE
        settings = read_settings(cls, given, problems, snowflake=snowflake, alerts=alerts, embedded_database=embedded)
        if problems:
            raise SettingsError(problems)
        return settings


MODELS: tuple[type[Variables], ...] = (SnowflakeSettings, Settings, AlertSettings)
VARIABLES = tuple(dict.fromkeys(name for model in MODELS for name in model.variables()))
"""Every variable that is read."""
SECRET_VARIABLES = tuple(name for model in MODELS for name in model.secret_variables())
_CONNECTION = tuple(SnowflakeSettings.variables())[:5]
_SIGN_IN = ("SNOWFLAKE_PRIVATE_KEY_PATH", "SNOWFLAKE_PRIVATE_KEY", "SNOWFLAKE_PASSWORD")


def reachable_settings(environment: Mapping[str, str] | None = None) -> tuple[AlertSettings, str]:
    """Return where alerts go and the name of the deployment, even if other variables are wrong.

    An alert about wrong settings must not need right ones.
    """
    alerts = read_settings(AlertSettings, _given(os.environ if environment is None else environment), [])
    return alerts, alerts.deployment


def keeps_storage_connections(environment: Mapping[str, str] | None = None) -> bool:
    """Return whether connections to Dagster's storage are kept, even if other variables are wrong: every process of Dagster asks.

    A value that is neither true nor false keeps none. The code location reports it when it loads.
    """
    name, problems = "RUN_ELT_KEEP_STORAGE_CONNECTIONS", list[str]()
    given = _given(os.environ if environment is None else environment)
    settings = read_settings(Settings, {name: given[name]} if name in given else {}, problems)
    return settings.keep_storage_connections and not problems


def secret_values(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the values of the secret variables that are set, to take them out of what leaves the process.

    Args:
        environment: The variables; those of the process by default, and then the secrets of its resources too.
    """
    source = os.environ if environment is None else environment
    # Asked for with each text that leaves the process: no other variable is looked at.
    given = (value for name in SECRET_VARIABLES if (value := source.get(name, "").strip()))
    noted = _noted_secrets if environment is None else ()
    return tuple(dict.fromkeys([*given, *noted]))


def note_secrets(*values: object) -> None:
    """Note secrets that a resource was given in another way than by the variables, before anything is sent with them.

    Args:
        values: Of the process, until it ends. What is no text is left out.
    """
    _noted_secrets.update({value: None for value in values if isinstance(value, str) and value})


def is_validation(environment: Mapping[str, str] | None = None) -> bool:
    """Return whether `dagster definitions validate` or `dg check defs` loads the definitions.

    They set the variable: https://docs.dagster.io/api/clis/cli
    """
    return bool((os.environ if environment is None else environment).get("DAGSTER_IS_DEFS_VALIDATION_CLI"))


def history_is_kept() -> bool:
    """Return whether a Dagster command started here keeps its history where a daemon sees it.

    https://docs.dagster.io/deployment/oss/oss-instance-configuration
    """
    return bool(os.environ.get("DAGSTER_HOME")) or Path("dagster.yaml").is_file()


def _given(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name].strip() for name in VARIABLES if environment.get(name, "").strip()}


def _embedded_environment(given: Mapping[str, str]) -> str | None:
    """Return the database of SNOWFLAKE_DATABASE if that alone is set, and names an environment of the embedded Snowflake.

    Any other half of an account is an error, and never the embedded Snowflake.
    """
    name = given.get("SNOWFLAKE_DATABASE", "").upper()
    is_alone = [each for each in SnowflakeSettings.variables() if each in given] == ["SNOWFLAKE_DATABASE"]
    return name if is_alone and name.startswith(f"{EMBEDDED_DATABASE}__") else None


def _slips(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables that only a slip of the pen keeps from being read."""
    for name in sorted(environment):
        if name in VARIABLES or not name.startswith(("RUN_ELT_", "SNOWFLAKE_", "SLACK_")):
            continue
        bare = name.removeprefix("RUN_ELT_")
        near = [bare] if bare in VARIABLES else difflib.get_close_matches(name, VARIABLES, n=1, cutoff=_NEAR)
        # Beside the right one, a name of Snowflake's or Slack's may be that of another program.
        if near and (name.startswith("RUN_ELT_") or not environment.get(near[0], "").strip()):
            yield f"{name} requires the name of a setting, got one that nothing reads. The nearest is {near[0]}."


def _connection_problems(snowflake: SnowflakeSettings, given: Mapping[str, str]) -> Iterator[str]:
    optional = {"SNOWFLAKE_USER"} if (snowflake.authenticator or "").upper() in _AUTHENTICATORS_WITHOUT_USER else set()
    missing = [name for name in _CONNECTION if name not in given and name not in optional]
    if missing:
        named = ", ".join(name for name in SnowflakeSettings.variables() if name in given)
        yield (
            f"a Snowflake account requires {', '.join(missing)}, got only {named}. Set them, or unset every SNOWFLAKE_ variable "
            "to use the embedded Snowflake."
        )
    ways = [name for name in _SIGN_IN if name in given]
    if not ways and snowflake.authenticator is None:
        yield (
            f"signing in to Snowflake requires one of {', '.join((*_SIGN_IN, 'SNOWFLAKE_AUTHENTICATOR'))}, got none. A key pair "
            "suits a service user best: SNOWFLAKE_PRIVATE_KEY_PATH."
        )
    if len(ways) > 1:
        yield (
            f"signing in to Snowflake requires one way, got {', '.join(ways)}. Which would be used is a guess; unset all but one."
        )
