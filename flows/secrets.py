"""Secrets out of Prefect's blocks: `prefect://secret/NAME` in the settings."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from config.secrets import Read, Reference, register
from flows.environment import prefer_quiet
from pipeline.errors import DocweaveError, SettingsError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import BlockDocument

FORM = "prefect://secret/NAME"

_BLOCK = re.compile(r"//(?P<kind>[a-z0-9-]+)/(?P<name>[a-z0-9-]+)")
"""Prefect allows lowercase letters, digits and dashes, for the slug of a block's type and for its name."""


def know_blocks() -> None:
    """Let settings that are read from now on name blocks. Prefect is imported when one is looked up."""
    register("prefect", FORM, _resolver)


def _resolver(reference: Reference) -> Read:
    found = _BLOCK.fullmatch(reference.place)
    if not found:
        raise ValueError("names no block: its type and its name are made of a-z, 0-9 and -")
    return partial(_value, found["kind"], found["name"])


def _value(kind: str, name: str) -> str:
    """The one secret value that the block holds."""
    block = f"prefect://{kind}/{name}"
    document = _look_up(kind, name, block)
    fields = document.block_schema.fields if document.block_schema else {}
    names = list(dict.fromkeys(fields.get("secret_fields", ())))
    values = {field: value for field in names if (value := _at(document.data, field)) not in (None, "")}
    if len(values) != 1:
        which = f"{len(values)} ({', '.join(values)})" if values else "no"
        raise SettingsError(f"{block}: the block holds {which} secret values, and must hold one")
    [(field, value)] = values.items()
    if not isinstance(value, str):
        raise SettingsError(f"{block}: {field} must be text, and is not")
    return value


def _look_up(kind: str, name: str, block: str) -> BlockDocument:
    if "prefect" not in sys.modules:
        prefer_quiet()
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - takes more than a second
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415 - as above
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415 - as above

    address = urlsplit(PREFECT_API_URL.value() or "")
    server = f"the Prefect server at {address.hostname}" if address.hostname else "this machine's Prefect"
    try:
        with get_client(sync_client=True) as client:
            return client.read_block_document_by_name(name, kind)
    except ObjectNotFound:
        raise SettingsError(
            f"{block}: {server} has no such block. Make one in its UI, or name another server by "
            "PREFECT_API_URL"
        ) from None
    except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises
        # Not chained: what it says may show an address with a password, or what the block holds.
        raise DocweaveError(f"{block}: {server} did not give the block: {type(error).__name__}") from None


def _at(data: Mapping[str, object], field: str) -> object:
    """What stands at `field`, in Prefect's spelling: `value`, `credentials.token`, `headers.*`."""
    here: object = data
    for part in field.removesuffix(".*").split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here
