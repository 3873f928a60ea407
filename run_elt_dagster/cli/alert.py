"""`run-elt alert`."""

import click

from run_elt_dagster.alerts.blocks import Style
from run_elt_dagster.alerts.message import trial_message
from run_elt_dagster.alerts.posting import post
from run_elt_dagster.alerts.slack import Slack
from run_elt_dagster.settings import Settings, secret_values


@click.command("alert")
@click.option("--test", "is_test", is_flag=True, required=True, help="Post a test message to Slack.")
def command(*, is_test: bool) -> int:  # noqa: ARG001 - required, until there is a second thing to do
    """Try out the alerts: post a test message to the channel of SLACK_CHANNEL."""
    settings = Settings.from_environment()
    slack = Slack.from_settings(settings).resolved()
    if slack.missing:
        raise ValueError(
            f"a test alert requires SLACK_TOKEN and SLACK_CHANNEL, got no {slack.missing}. Nothing was sent. Set them."
        )
    style = Style.of(settings.alerts, secrets=secret_values())
    outcome = post(slack.client(), slack.channel, trial_message(style=style), run_id="")
    if outcome.kind != "delivered":
        raise ValueError(
            f"the test alert was not delivered, got {outcome.reason}. Failed runs would not be reported either."
        )
    print(f"A test alert is in channel {outcome.channel}.")
    return 0
