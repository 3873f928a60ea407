"""The settings of a deployment, and the only place that reads the environment."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Every variable that is read, for .env.example, docs/settings.md and the check of half a configuration.
CONNECTION_VARIABLES = (
    "SNOWFLAKE_ACCOUNT",
    "SNOWFLAKE_USER",
    "SNOWFLAKE_ROLE",
    "SNOWFLAKE_WAREHOUSE",
    "SNOWFLAKE_DATABASE",
)
SIGN_IN_VARIABLES = (
    "SNOWFLAKE_PRIVATE_KEY_PATH",
    "SNOWFLAKE_PRIVATE_KEY",
    "SNOWFLAKE_PASSWORD",
    "SNOWFLAKE_AUTHENTICATOR",
)
OTHER_SNOWFLAKE_VARIABLES = (
    "SNOWFLAKE_PRIVATE_KEY_PASSWORD",
    "SNOWFLAKE_TOKEN_FILE_PATH",
    "SNOWFLAKE_HOST",
    "SNOWFLAKE_PORT",
    "SNOWFLAKE_PROTOCOL",
)
RUN_ELT_VARIABLES = (
    "RUN_ELT_TABLES_DIR",
    "RUN_ELT_MAX_CONCURRENT_TABLES",
    "RUN_ELT_STATEMENT_TIMEOUT_SECONDS",
    "RUN_ELT_ANSWER_TIMEOUT_SECONDS",
    "RUN_ELT_COPY_TAGS",
    "RUN_ELT_CHECK_POLICIES",
    "RUN_ELT_KEEP_CANDIDATES_HOURS",
    "RUN_ELT_LOST_AFTER_SECONDS",
    "RUN_ELT_EMBEDDED_DIR",
    "RUN_ELT_CACHE_DIR",
    "RUN_ELT_DEPLOYMENT",
)
ALERT_VARIABLES = (
    "SLACK_TOKEN",
    "SLACK_CHANNEL",
    "SLACK_BASE_URL",
    "RUN_ELT_SLACK_OWNERS",
    "RUN_ELT_WEBSERVER_URL",
    "RUN_ELT_RUNBOOK_URL",
    "RUN_ELT_ALERT_ON_CANCEL",
)
VARIABLES = (
    *CONNECTION_VARIABLES,
    *SIGN_IN_VARIABLES,
    *OTHER_SNOWFLAKE_VARIABLES,
    *RUN_ELT_VARIABLES,
    *ALERT_VARIABLES,
)
SECRET_VARIABLES = ("SNOWFLAKE_PRIVATE_KEY", "SNOWFLAKE_PRIVATE_KEY_PASSWORD", "SNOWFLAKE_PASSWORD", "SLACK_TOKEN")

# These sign in as the user of the token or the workload; the connector then needs no user name.
_AUTHENTICATORS_WITHOUT_USER = ("OAUTH", "OAUTH_CLIENT_CREDENTIALS", "WORKLOAD_IDENTITY")
# The database that the embedded Snowflake opens its sessions in.
EMBEDDED_DATABASE = "RUN_ELT"
_EMBEDDED_PLACE = f"{EMBEDDED_DATABASE} on the embedded Snowflake"
SLACK_URL = "https://slack.com/api/"
# https://docs.slack.dev/messaging/formatting-message-text#mentioning-users: users U... or W..., groups S...
_SLACK_ID = re.compile(r"[UWS][A-Z0-9]{2,}")
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


class SettingsError(ValueError):
    """Everything that is wrong with the environment variables, in one error."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        listing = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(
            "the environment cannot be used. Nothing was loaded. Correct these variables (.env.example describes them):"
            f"\n{listing}",
        )


@dataclass(frozen=True)
class SnowflakeSettings:
    """How to reach a Snowflake account. Secrets are not in here, only the names of the variables that hold them.

    Attributes:
        account: Account identifier, as in `myorg-myaccount`.
        user: Login name; empty for authenticators that need none.
        role: Role of the session.
        warehouse: Compute of the session.
        database: Database of the session.
        authenticator: Method of signing in other than key pair and password, None for these.
        private_key_path: File of the private key, None for another method.
        token_file_path: File of a token, for authenticators that read one.
        secrets: Names of the variables that are set and hold a secret.
        host: Name of the server if it is not the account's, for private links and tests.
        port: Its port.
        protocol: `https`, or `http` in tests.
    """

    account: str
    user: str
    role: str
    warehouse: str
    database: str
    authenticator: str | None
    private_key_path: str | None
    token_file_path: str | None
    secrets: tuple[str, ...]
    host: str | None
    port: int | None
    protocol: str | None


@dataclass(frozen=True)
class AlertSettings:
    """Where alerts go, and what they say. The token is not in here, only whether its variable is set.

    Attributes:
        has_token: Whether SLACK_TOKEN is set.
        channel: ID or name of the channel, empty if none is set.
        base_url: Address of Slack's API, for proxies and tests; ends with a slash.
        owners: Slack's id of a user or a group by owner, as in `{"team:analytics": "S0123", "a@b.c": "U0123"}`.
        webserver_url: Address of the UI for the links of a message, None for no links; without a slash at its end.
        on_cancel: Whether a cancelled run alerts.
        runbook_url: Address of docs/operations.md as people here read it, None for the path in the repository.
        deployment: Name of the deployment, empty on a person's machine.
        database: Where the tables are, in words.
    """

    has_token: bool = False
    channel: str = ""
    base_url: str = SLACK_URL
    owners: Mapping[str, str] = field(default_factory=dict[str, str])
    webserver_url: str | None = None
    on_cancel: bool = False
    runbook_url: str | None = None
    deployment: str = ""
    database: str = _EMBEDDED_PLACE


@dataclass(frozen=True)
class Settings:
    """The settings of a deployment.

    Attributes:
        tables_dir: Folder of `<schema>/<table>.sql` files.
        max_concurrent_tables: Tables that are built at the same time.
        statement_timeout_seconds: When Snowflake ends a statement by itself.
        answer_timeout_seconds: How long Snowflake may leave a request without an answer.
        copy_tags: Whether publishing by clone keeps the tags of the table that it replaces.
        check_policies: Whether to ask for the policies on the targets.
        keep_candidates_hours: How long what a run left behind is kept for inspection.
        lost_after_seconds: How long a live run may go without a heartbeat.
        embedded_dir: Where the embedded Snowflake keeps its data.
        cache_dir: Where it is remembered which tables a file reads, None if this user has no such place.
        snowflake: The account, or None for the embedded Snowflake.
        alerts: Where alerts go.
        deployment: Name of the deployment, as in `production`; empty on a person's machine.
    """

    tables_dir: Path
    max_concurrent_tables: int
    statement_timeout_seconds: int
    answer_timeout_seconds: int
    copy_tags: bool
    check_policies: bool
    keep_candidates_hours: int
    lost_after_seconds: int
    embedded_dir: Path
    cache_dir: Path | None
    snowflake: SnowflakeSettings | None
    alerts: AlertSettings = AlertSettings()
    deployment: str = ""

    @property
    def is_automated(self) -> bool:
        """Whether schedule and sensors run by default: in a named deployment, and on the embedded Snowflake.

        A person's machine with an account would otherwise build production's tables at midnight, beside the deployment.
        """
        return bool(self.deployment) or self.snowflake is None

    @property
    def database(self) -> str:
        """The session's database: the one that a name in SQL means that leaves it out."""
        return self.snowflake.database if self.snowflake else EMBEDDED_DATABASE

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Return the settings; a variable that is empty counts as not set.

        Args:
            environment: The variables; those of the process by default.

        Raises:
            SettingsError: With everything that is wrong. Half a configuration never means the embedded Snowflake.
        """
        return _Reader(os.environ if environment is None else environment).settings()


def reachable_settings(environment: Mapping[str, str] | None = None) -> tuple[AlertSettings, str]:
    """Return where alerts go and the name of the deployment, even if other variables are wrong.

    An alert about wrong settings must not need right ones.
    """
    reader = _Reader(os.environ if environment is None else environment)
    return reader.alerts(), reader.deployment()


def secret_values(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the values of the secret variables that are set, to take them out of what leaves the process."""
    known = os.environ if environment is None else environment
    return tuple(value for name in SECRET_VARIABLES if (value := known.get(name, "").strip()))


def history_is_kept() -> bool:
    """Return whether a Dagster command started here keeps its history where a daemon sees it.

    https://docs.dagster.io/deployment/oss/oss-instance-configuration
    """
    return bool(os.environ.get("DAGSTER_HOME")) or Path("dagster.yaml").is_file()


class _Reader:
    """Collects problems while it reads, so all are reported together."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._set = {name: environment[name].strip() for name in VARIABLES if environment.get(name, "").strip()}
        self._problems: list[str] = []

    def settings(self) -> Settings:
        settings = Settings(
            tables_dir=Path(self._set.get("RUN_ELT_TABLES_DIR") or Path(__file__).parent / "tables").absolute(),
            max_concurrent_tables=self._number("RUN_ELT_MAX_CONCURRENT_TABLES", default=8, low=1, high=64),
            statement_timeout_seconds=self._number(
                "RUN_ELT_STATEMENT_TIMEOUT_SECONDS", default=4 * 3600, low=1, high=7 * 86400
            ),
            # Snowflake takes up to 45 s to say that a query is still running.
            answer_timeout_seconds=self._number("RUN_ELT_ANSWER_TIMEOUT_SECONDS", default=900, low=60, high=86400),
            copy_tags=self._flag("RUN_ELT_COPY_TAGS", default=True),
            check_policies=self._flag("RUN_ELT_CHECK_POLICIES", default=True),
            keep_candidates_hours=self._number("RUN_ELT_KEEP_CANDIDATES_HOURS", default=72, low=24, high=8760),
            lost_after_seconds=self._number("RUN_ELT_LOST_AFTER_SECONDS", default=300, low=60, high=86400),
            embedded_dir=Path(self._set.get("RUN_ELT_EMBEDDED_DIR") or ".run_elt").absolute(),
            cache_dir=self._cache_dir(),
            snowflake=self._snowflake(),
            alerts=self.alerts(),
            deployment=self.deployment(),
        )
        if self._problems:
            raise SettingsError(self._problems)
        return settings

    def _cache_dir(self) -> Path | None:
        if named := self._set.get("RUN_ELT_CACHE_DIR"):
            return Path(named).absolute()
        try:
            # https://specifications.freedesktop.org/basedir-spec/latest/
            return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "run_elt_dagster"
        except RuntimeError:
            # A service user without a home.
            return None

    def _snowflake(self) -> SnowflakeSettings | None:
        named = [name for name in self._set if name.startswith("SNOWFLAKE_")]
        if not named:
            return None
        self._require_connection(named)
        self._require_one_sign_in()
        return SnowflakeSettings(
            account=self._set.get("SNOWFLAKE_ACCOUNT", ""),
            user=self._set.get("SNOWFLAKE_USER", ""),
            role=self._set.get("SNOWFLAKE_ROLE", ""),
            warehouse=self._set.get("SNOWFLAKE_WAREHOUSE", ""),
            database=self._set.get("SNOWFLAKE_DATABASE", ""),
            authenticator=self._set.get("SNOWFLAKE_AUTHENTICATOR"),
            private_key_path=self._set.get("SNOWFLAKE_PRIVATE_KEY_PATH"),
            token_file_path=self._set.get("SNOWFLAKE_TOKEN_FILE_PATH"),
            secrets=tuple(name for name in SECRET_VARIABLES if name in named),
            host=self._set.get("SNOWFLAKE_HOST"),
            port=self._number("SNOWFLAKE_PORT", default=443, low=1, high=65535)
            if "SNOWFLAKE_PORT" in self._set
            else None,
            protocol=self._protocol(),
        )

    def _require_connection(self, named: list[str]) -> None:
        optional = set[str]()
        if self._set.get("SNOWFLAKE_AUTHENTICATOR", "").upper() in _AUTHENTICATORS_WITHOUT_USER:
            optional.add("SNOWFLAKE_USER")
        missing = [name for name in CONNECTION_VARIABLES if name not in self._set and name not in optional]
        if missing:
            self._problems.append(
                f"a Snowflake account requires {', '.join(missing)}, got only {', '.join(named)}. Set them, or unset every "
                "SNOWFLAKE_ variable to use the embedded Snowflake.",
            )

    def _require_one_sign_in(self) -> None:
        ways = [name for name in SIGN_IN_VARIABLES[:3] if name in self._set]
        if not ways and "SNOWFLAKE_AUTHENTICATOR" not in self._set:
            self._problems.append(
                f"signing in to Snowflake requires one of {', '.join(SIGN_IN_VARIABLES)}, got none. A key pair suits a "
                "service user best: SNOWFLAKE_PRIVATE_KEY_PATH.",
            )
        if len(ways) > 1:
            self._problems.append(
                f"signing in to Snowflake requires one way, got {', '.join(ways)}. Which would be used is a guess; unset "
                "all but one.",
            )

    def deployment(self) -> str:
        return self._set.get("RUN_ELT_DEPLOYMENT", "")

    def alerts(self) -> AlertSettings:
        webserver_url = self._url("RUN_ELT_WEBSERVER_URL", default="").rstrip("/")
        return AlertSettings(
            has_token="SLACK_TOKEN" in self._set,
            channel=self._set.get("SLACK_CHANNEL", ""),
            base_url=self._url("SLACK_BASE_URL", default=SLACK_URL).rstrip("/") + "/",
            owners=self._owners(),
            webserver_url=webserver_url or None,
            on_cancel=self._flag("RUN_ELT_ALERT_ON_CANCEL", default=False),
            runbook_url=self._url("RUN_ELT_RUNBOOK_URL", default="") or None,
            deployment=self._set.get("RUN_ELT_DEPLOYMENT", ""),
            database=self._set.get("SNOWFLAKE_DATABASE", "") or _EMBEDDED_PLACE,
        )

    def _url(self, name: str, *, default: str) -> str:
        url = self._set.get(name, default)
        if url and not re.fullmatch(r"https?://[^\s/]+\S*", url):
            self._problems.append(f"{name} requires an address that starts with https:// or http://, got {url!r}.")
        return url

    def _owners(self) -> Mapping[str, str]:
        text = self._set.get("RUN_ELT_SLACK_OWNERS", "{}")
        try:
            owners: Any = json.loads(text)
        except ValueError:
            owners = None
        if isinstance(owners, dict) and all(isinstance(i, str) and _SLACK_ID.fullmatch(i) for i in owners.values()):
            return {str(owner): str(slack_id) for owner, slack_id in owners.items()}
        self._problems.append(
            "RUN_ELT_SLACK_OWNERS requires a JSON object of owners to Slack's ids of users (U...) or groups (S...), as in "
            f'{{"team:analytics": "S0123"}}, got {text!r}.'
        )
        return {}

    def _protocol(self) -> str | None:
        protocol = self._set.get("SNOWFLAKE_PROTOCOL")
        if protocol not in (None, "http", "https"):
            self._problems.append(f"SNOWFLAKE_PROTOCOL requires http or https, got {protocol!r}.")
        return protocol

    def _number(self, name: str, *, default: int, low: int, high: int) -> int:
        text = self._set.get(name, str(default))
        if text.isdecimal() and low <= int(text) <= high:
            return int(text)
        self._problems.append(f"{name} requires a whole number from {low} to {high}, got {text!r}.")
        return default

    def _flag(self, name: str, *, default: bool) -> bool:
        text = self._set.get(name, str(default)).lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        self._problems.append(f"{name} requires true or false, got {text!r}.")
        return default
