"""What a service says instead of vectors: in words that people can use, and without the key."""

from __future__ import annotations

import json
import re
from http import HTTPStatus

import httpx

from pipeline.embedders import _answers
from pipeline.errors import EmbedError, ServiceRefused, ServiceUnavailable
from pipeline.records import JsonValue

_LONGEST_MESSAGE = 300


class Refusals:
    """Reads what one service says when it does not give what was asked for."""

    def __init__(self, *, service: str, host: str, api_key: str, key_name: str) -> None:
        """`service` and `key_name` are for messages; the key itself is taken out of all that is told."""
        self._service = service
        self._host = host
        self._api_key = api_key
        self._key_name = key_name

    def json(self, content: bytes) -> JsonValue:
        """None where it is no JSON: the parser's exception, which holds the body, ends here.

        Where it is no reply with data, it is made sure that it does not hold the key. Data is left alone: a
        short key may well stand in the middle of a vector's base64.
        """
        try:
            value: JsonValue = json.loads(content)
            if self._api_key and not (isinstance(value, dict) and value.get("data")):
                value = json.loads(content.replace(self._api_key.encode(), b"[key]"))
        except ValueError:
            return None
        return value

    def presentable(self, text: str) -> str:
        """One short line, without the key should the service echo it."""
        if self._api_key:
            text = text.replace(self._api_key, "[key]")
        line = " ".join(text.split())
        return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"

    def refusal(self, response: httpx.Response, reply: JsonValue) -> EmbedError:
        """What an answer other than 200 means, or one of 200 that holds an error; `reply` is its JSON."""
        status, answered = response.status_code, f"{response.status_code}"
        said, kind = _answers.complaint(reply)
        if status == HTTPStatus.OK:
            status, answered = error_code(reply), "200 with an error"
            cause = _answers.classify_within_200(status, said, kind)
        else:
            if not said and response.headers.get("Content-Type", "").startswith("text/plain"):
                said = self.presentable(response.text)
            cause = _answers.classify(status, said, kind)
        words = self.presentable(said) or _answers.phrase(status)
        message = f"{self._service} answered {answered}: {words}"
        advice = self._advice(status, cause)
        if advice:
            message = f"{message}; {advice}"
        if cause is not ServiceUnavailable:
            return cause(message)
        asked = _answers.retry_after(response.headers, reply)
        if asked is not None:
            message = f"{message}; it asks to wait {asked:.0f} s"
        return ServiceUnavailable(message, retry_after=asked)

    def _advice(self, status: int, cause: type[EmbedError]) -> str:
        """What the user can do."""
        if cause is not ServiceRefused:
            return ""
        if status in {401, 403}:
            return f"check {self._key_name}" if self._api_key else f"no key was sent: set {self._key_name}"
        if status in {402, 429}:
            return f"add credit to the account that {self._key_name} belongs to"
        if status in {400, 422}:
            return "check model and dimensions in the settings"
        return f"check the model's name and base_url ({self._host})"


def error_code(reply: JsonValue) -> int:
    """The status that an error within a reply names, as OpenRouter's do; 0 for none."""
    error = reply.get("error") if isinstance(reply, dict) else None
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return int(code) if re.fullmatch(r"[45]\d\d", code, re.ASCII) else 0
