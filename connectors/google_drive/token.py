"""Google's access tokens: by a service account's key, or a user's refresh token."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import anyio

from connectors._http import Http, whole
from connectors._reach import Reach
from connectors.google_drive.settings import GoogleDriveSettings
from pipeline.errors import SettingsError, SourceRefused, SourceUnavailable
from pipeline.records import JsonValue

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from connectors._wire import Request

_SCOPE = "https://www.googleapis.com/auth/drive.readonly"
_TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - where tokens are given, none itself
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SECONDS = 3600
"""That a token is asked for."""
_EARLY = 120
"""Seconds before its end, a token is given up."""
_PARTS = {
    "service_account": ("client_email", "private_key"),
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
}
_ADVICE = {
    "invalid_grant": "the key or the refresh token was revoked, there is no such subject, or this machine's "
    "clock is wrong",
    "unauthorized_client": "the domain does not let this service account act for subject with the scope "
    "drive.readonly",
}


class _Forms(Http):
    """Posts forms, as token endpoints want them."""

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: JsonValue, max_bytes: int | None
    ) -> Request:
        form = urlencode({str(name): str(value) for name, value in body.items()}) if body else ""  # type: ignore[union-attr]
        headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
        return replace(super()._request(method, url, headers, None, max_bytes), content=form.encode())


class Tokens:
    """Keeps one access token, and asks for the next when it ends."""

    def __init__(self, source: str, settings: GoogleDriveSettings) -> None:
        """Reads nothing yet."""
        self._where = f"sources.{source}.credentials"
        self._source = source
        self._settings = settings
        self._asking = anyio.Lock()
        self._token = ""
        self._ends = 0.0

    async def fresh(self) -> str:
        """A token that is good for a while.

        Raises:
            SettingsError: the credentials are none.
            SourceRefused: Google does not accept them.
            SourceUnavailable: Google does not answer.
        """
        async with self._asking:
            if not self._token or time.monotonic() > self._ends:
                self._token, seconds = await self._asked()
                self._ends = time.monotonic() + seconds - _EARLY
            return self._token

    def forget(self, token: str) -> None:
        """This token is not accepted any more."""
        if token == self._token:
            self._token = ""

    def account(self) -> str:
        """Whom folders are to be shared with."""
        known = self._credentials()
        return self._settings.subject or str(known.get("client_email") or "the user of the credentials")

    async def _asked(self) -> tuple[str, float]:
        known = self._credentials()
        url = str(known.get("token_uri") or _TOKEN_URI)
        http = _Forms(Reach.of(self._source, url))
        form = self._form(known, url)
        with whole(f"{self._where}: no token"):
            answer = await http.request("POST", url, body=form, returned={400, 401, 403})
        said = answer.json()
        if not isinstance(said, dict):
            raise SourceUnavailable(f"{self._where}: Google gave no token")
        if answer.status != 200:
            code = str(said.get("error"))
            code = code if re.fullmatch(r"[a-z_]{1,40}", code) else "something unknown"
            advice = _ADVICE.get(code)
            told = f"{self._where}: Google says {code}"
            raise SourceRefused(f"{told}: {advice}" if advice else told)
        token, seconds = said.get("access_token"), said.get("expires_in")
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise SourceUnavailable(f"{self._where}: Google gave no token")
        return token, float(seconds) if isinstance(seconds, int | float) else _SECONDS

    def _form(self, known: Mapping[str, str], url: str) -> dict[str, JsonValue]:
        if known["type"] == "service_account":
            return {"grant_type": _JWT_BEARER, "assertion": self._assertion(known, url)}
        form: dict[str, JsonValue] = {"grant_type": "refresh_token"}
        return form | {part: known[part] for part in _PARTS["authorized_user"]}

    def _credentials(self) -> Mapping[str, str]:
        """What the JSON holds, made sure of."""
        known = _object(self._settings.credentials.get_secret_value())
        parts = _PARTS.get(str(known.get("type")))
        if parts is None:
            raise SettingsError(
                f"{self._where} must be the JSON key of a service account, or the JSON of an authorized_user"
            )
        if missing := [part for part in parts if not isinstance(known.get(part), str)]:
            raise SettingsError(f"{self._where} lacks {' and '.join(missing)}")
        if self._settings.subject and known["type"] != "service_account":
            raise SettingsError(f"sources.{self._source}.subject needs the key of a service account")
        return known

    def _assertion(self, known: Mapping[str, str], url: str) -> str:
        """A signed JWT, as RFC 7523 and Google have it."""
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric import padding  # noqa: PLC0415

        now = int(time.time())
        head = {"alg": "RS256", "typ": "JWT", "kid": known.get("private_key_id")}
        claims = {
            "iss": known["client_email"],
            "scope": _SCOPE,
            "aud": url,
            "iat": now,
            "exp": now + _SECONDS,
        }
        if self._settings.subject:
            claims["sub"] = self._settings.subject
        signed = f"{_encoded(head)}.{_encoded(claims)}"
        signature = self._key(known).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"

    def _key(self, known: Mapping[str, str]) -> RSAPrivateKey:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

        key = None
        with suppress(ValueError, TypeError, UnsupportedAlgorithm):  # their frames hold the key
            key = load_pem_private_key(known["private_key"].encode(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise SettingsError(f"{self._where}: private_key is no RSA key in PEM")
        return key


def _object(text: str) -> Mapping[str, Any]:
    """The object that the text is; empty for other texts, of which an error would hold the whole."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _encoded(part: Mapping[str, object]) -> str:
    return _base64(json.dumps(part, separators=(",", ":")).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")
