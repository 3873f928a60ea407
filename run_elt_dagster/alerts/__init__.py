"""Alerts: what failed, the message about it, its delivery to Slack, and the sensors that see to it."""
