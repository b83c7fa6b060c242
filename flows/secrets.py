"""Secrets out of Prefect's blocks: `prefect://BLOCK-TYPE/NAME`, or with `/FIELD`, in the settings."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from config.secrets import Read, Reference, register
from flows.environment import prefer_quiet
from pipeline.errors import DocweaveError, SettingsError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import BlockDocument

FORM = "prefect://secret/NAME"
"""The simplest; blocks of other types are written `prefect://BLOCK-TYPE/NAME` or `…/NAME/FIELD`."""

_BLOCK = re.compile(r"//(?P<kind>[a-z0-9-]+)/(?P<name>[a-z0-9-]+)(/(?P<field>[A-Za-z_]\w*(\.[\w-]+)*))?")
"""Prefect allows lowercase letters, digits and dashes, for the slug of a block's type and for its name."""


def know_blocks() -> None:
    """Let settings that are read from now on name blocks. Prefect is imported when one is looked up."""
    register("prefect", FORM, _resolver)


def _resolver(reference: Reference) -> Read:
    found = _BLOCK.fullmatch(reference.place)
    if not found:
        raise ValueError("names no block: its type and its name are made of a-z, 0-9 and -")
    return partial(_value, found["kind"], found["name"], found["field"])


def _value(kind: str, name: str, asked: str | None) -> str:
    """The secret value that the block holds: at this field, or the only one there is."""
    block = f"prefect://{kind}/{name}"
    document = _look_up(kind, name, block)
    fields = document.block_schema.fields if document.block_schema else {}
    secret = [field.removesuffix(".*") for field in dict.fromkeys(fields.get("secret_fields", ()))]
    field = asked or _only(document.data, secret, block)
    if not any(field == one or field.startswith(f"{one}.") for one in secret):
        raise SettingsError(f"{block}: {field} is no secret of the block; it has {_or_none(secret)}")
    value = _at(document.data, field)
    if value in (None, ""):
        raise SettingsError(f"{block}: the block holds nothing at {field}")
    if not isinstance(value, str):
        one = f": name one of its values, {block}/{field}.NAME" if isinstance(value, Mapping) else ""
        raise SettingsError(f"{block}: {field} must be text, and is not{one}")
    return value


def _only(data: Mapping[str, object], secret: Sequence[str], block: str) -> str:
    """The one field that holds something."""
    held = [field for field in secret if _at(data, field) not in (None, "")]
    if len(held) != 1:
        which = f"{len(held)} ({', '.join(held)})" if held else "no"
        more = f", or be named with a field: {block}/{held[0]}" if held else ""
        raise SettingsError(f"{block}: the block holds {which} secret values, and must hold one{more}")
    return held[0]


def _or_none(fields: Sequence[str]) -> str:
    return ", ".join(fields) or "none"


def _in_python(kind: str, name: str) -> str:
    """What makes such a block, where it is of Prefect's own type."""
    made = f'from prefect.blocks.system import Secret; Secret(value="…").save("{name}")'
    return f", or in Python: {made}" if kind == "secret" else ""


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
            f"{block}: {server} has no such block. Make one of type {kind} in its UI, under Blocks"
            f"{_in_python(kind, name)}; or name another server by PREFECT_API_URL"
        ) from None
    except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises
        # Not chained: what it says may show an address with a password, or what the block holds.
        raise DocweaveError(f"{block}: {server} did not give the block: {type(error).__name__}") from None


def _at(data: Mapping[str, object], field: str) -> object:
    """What stands at `field`: `value`, `credentials.token`, `headers.Authorization`."""
    here: object = data
    for part in field.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here
