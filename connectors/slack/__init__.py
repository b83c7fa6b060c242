"""What was said in the channels of Slack."""

from connectors.slack.connector import SlackConnector
from connectors.slack.settings import SlackSettings

__all__ = ["SlackConnector", "SlackSettings"]
