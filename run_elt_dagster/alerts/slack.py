"""The Slack resource: dagster-slack's client with a limit on its patience."""

import sys
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from run_elt_dagster.settings import SLACK_URL, AlertSettings, Settings, note_secrets
from run_elt_dagster.snowflake.env_vars import resolved

if TYPE_CHECKING:
    from slack_sdk.web.client import WebClient

# A sensor's tick has 60 s, and one that outlives them repeats its messages.
TIMEOUT_SECONDS = 10


class Slack(dg.ConfigurableResource[None]):
    """A channel of Slack; without a token or a channel it exists all the same, so tables are built."""

    token: str | None = Field(default=None, description="Bot token (xoxb-...) with the scope chat:write.")
    channel: str = Field(default="", description="ID of the channel; a name works where the token is of one workspace.")
    base_url: str = Field(default=SLACK_URL, description="Address of the API, for proxies and tests.")
    timeout_seconds: int = Field(default=TIMEOUT_SECONDS, description="How long one request may take.")
    token_name: str = Field(default="Slack(token)", description="Where the token comes from, for messages about it.")
    channel_name: str = Field(default="Slack(channel)", description="Where the channel comes from, likewise.")

    @classmethod
    def from_settings(cls, settings: Settings) -> "Slack":
        """Return the resource of a deployment; the token stays in the environment until a message is sent."""
        return cls.from_alerts(settings.alerts)

    @classmethod
    def from_alerts(cls, alerts: AlertSettings) -> "Slack":
        """Return the resource where only the settings of alerts are known, as variables have them."""
        token = {"token": dg.EnvVar("SLACK_TOKEN")} if alerts.has_token else {}
        return cls(
            channel=alerts.channel,
            base_url=alerts.base_url,
            token_name="SLACK_TOKEN",  # noqa: S106 - its name
            channel_name="SLACK_CHANNEL",
            **token,  # type: ignore[arg-type]
        )

    @classmethod
    def to(cls, token: str | None, alerts: AlertSettings, *, token_name: str, channel_name: str) -> "Slack":
        """Return the resource of a token and the settings of alerts, where no variable is read.

        Args:
            token: The token, None for none.
            alerts: The settings.
            token_name: What a person calls the token, as in `SlackResource(token)`.
            channel_name: What a person calls the channel.
        """
        return cls(
            token=token,
            channel=alerts.channel,
            base_url=alerts.base_url,
            token_name=token_name,
            channel_name=channel_name,
        )

    @classmethod
    def of(cls, resource: Any, alerts: AlertSettings) -> "Slack":
        """Return the channel behind a resource: one of this class itself, or dagster-slack's, which names no channel.

        Raises:
            TypeError: It is of another class.
        """
        if isinstance(resource, cls):
            return resource
        # Who has a resource of dagster-slack has imported it.
        module = sys.modules.get("dagster_slack")
        if module is None or not isinstance(resource, module.SlackResource):
            raise TypeError(
                "the resource of Slack requires run_elt_dagster.Slack or dagster_slack.SlackResource, got "
                f"{type(resource).__name__}. Nothing was posted. Pass one of the two."
            )
        names = {"token_name": "SlackResource(token)", "channel_name": "AlertSettings(channel)"}
        return cls.to(resource.token, alerts, **names)

    def into(self, channel: str) -> "Slack":
        """Return it with another channel; itself if that is empty."""
        return self.model_copy(update={"channel": channel}) if channel else self

    def resolved(self) -> "Slack":
        """Return the resource with its token read from the environment, for use outside of Dagster's own injection."""
        return resolved(self)

    @property
    def missing(self) -> str:
        """What must be set before anything can be sent, by the names that a person sets it by; empty if nothing."""
        wanted = ((self.token_name, self.token), (self.channel_name, self.channel))
        absent = [name for name, value in wanted if not value]
        return " and ".join(absent)

    def is_left_out(self, alerts: AlertSettings) -> bool:
        """Return whether a deployment has other receivers and does not use Slack: neither token nor channel is set."""
        return alerts.receivers is not None and not self.token and not self.channel

    def named(self, text: str) -> str:
        """Return a text about Slack's settings with the names that a person sets them by, in the place of the variables."""
        return text.replace("SLACK_TOKEN", self.token_name).replace("SLACK_CHANNEL", self.channel_name)

    def client(self) -> "WebClient":
        """Return a client that makes one attempt: the ledger of alerts decides about another.

        dagster-slack's own client retries where an answer was lost, and waits longer than a tick may take.
        https://docs.dagster.io/api/libraries/dagster-slack
        """
        from dagster_slack import SlackResource  # noqa: PLC0415 - only a process that sends needs it

        note_secrets(self.token)
        client = SlackResource(token=self.token or "").get_client()
        client.base_url = self.base_url
        client.timeout = self.timeout_seconds
        client.retry_handlers = []
        return client
