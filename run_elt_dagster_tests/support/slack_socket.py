"""Slack's side of Socket Mode on loopback: says hello, sends clicks, and counts what was acknowledged.

https://docs.slack.dev/apis/events-api/using-socket-mode
"""

import json
import queue
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from run_elt_dagster_tests.support.effort import PATIENCE_SECONDS
from run_elt_dagster_tests.support.slack_stand_in import SlackStandIn


@dataclass
class SlackSocket:
    """The connections of an app, and the envelopes that it acknowledged.

    Attributes:
        connections: Those that are open.
        acknowledged: Ids of envelopes, in order.
    """

    connections: "queue.Queue[ServerConnection]" = field(default_factory=queue.Queue)
    acknowledged: "queue.Queue[str]" = field(default_factory=queue.Queue)

    def serve(self, connection: ServerConnection) -> None:
        connection.send(json.dumps({"type": "hello", "num_connections": 1}))
        self.connections.put(connection)
        try:
            for message in connection:
                self.acknowledged.put(json.loads(message)["envelope_id"])
        except ConnectionClosed:
            return

    def connected(self) -> ServerConnection:
        """Wait for the next connection."""
        return self.connections.get(timeout=PATIENCE_SECONDS)

    def click(self, connection: ServerConnection, payload: dict[str, Any]) -> None:
        """Send a click, and wait until it is acknowledged."""
        envelope = str(uuid4())
        connection.send(json.dumps({"type": "interactive", "envelope_id": envelope, "payload": payload}))
        assert self.acknowledged.get(timeout=PATIENCE_SECONDS) == envelope


def click_of(message: dict[str, Any], text: str, *, user: str = "jane") -> dict[str, Any]:
    """Return the payload of a click on the button of a message that was posted, by its text."""
    (action,) = [
        element
        for block in message["blocks"]
        if block["type"] == "actions"
        for element in block["elements"]
        if element["text"]["text"] == text
    ]
    return {
        "type": "block_actions",
        "user": {"id": f"U{user.upper()}", "name": user},
        "container": {"type": "message", "channel_id": message["channel"], "message_ts": message["ts"]},
        "actions": [{"type": "button", "action_id": action["action_id"], "value": action.get("value", "")}],
    }


@contextmanager
def slack_socket(slack: SlackStandIn) -> Generator[SlackSocket]:
    """Switch Socket Mode on while the block lasts."""
    socket = SlackSocket()
    with serve(socket.serve, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        slack.socket_url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        try:
            yield socket
        finally:
            slack.socket_url = ""
            server.shutdown()
            thread.join()
