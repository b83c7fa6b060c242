"""`docweave serve` as a function: the search API in this process, until it is told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import uvicorn

from apps.desk import desk_of
from apps.http.app import AddTo, create_app
from apps.http.guard import is_loopback
from apps.options import all_settings_in
from apps.page.routes import add_page
from apps.serving_telemetry import observe_requests
from config.build import store_options
from config.keys import KeyRing
from config.serving import ServingSettings
from flows.observed import start_traces
from pipeline.errors import SettingsError

STOPPING_SECONDS = 10
"""For the requests that are being answered when the process is told to stop."""
WAITING = 512
"""Connections that wait to be taken up."""
IDLE_SECONDS = 15
"""How long a connection stays open that nothing is asked over."""


def serve(
    configs: Sequence[Path],
    host: str = "",
    port: int | None = None,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Answer until SIGTERM or Ctrl-C.

    Args:
        configs: The settings files of the tables that are asked. The first say all else.
        host: Where to listen; as the settings say, if left out.
        port: Of it; 0 is any that is free.
        tell: Is told the address, once it is listened at.

    Raises:
        SettingsError: the settings cannot be meant, the address cannot be listened at, or it is not this
            machine's own and there is no key.
    """
    tables = all_settings_in(configs)
    for one in tables.values():
        store_options(one)  # a secret that cannot be read is told here, and not to who asks first
    settings = next(iter(tables.values()))
    host = host or settings.serve.host
    listening = listening_at(settings.serve, host, port)
    is_local, ring = _is_local(listening), KeyRing(Path(settings.serve.keys))
    start_traces(settings.telemetry)
    app = create_app(desk_of(tables), settings.serve, is_open=is_local and not ring.is_there, also=_also())
    observe_requests(app)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            access_log=False,  # it would hold the questions
            log_config=None,
            server_header=False,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=STOPPING_SECONDS,
        )
    )
    with listening:
        shown = f"[{host}]" if ":" in host else host
        tell(f"http://{shown}:{listening.getsockname()[1]}")
        server.run(sockets=[listening])


def listening_at(serving: ServingSettings, host: str = "", port: int | None = None) -> socket.socket:
    """A socket that whoever asks from now on waits at. Close it.

    Args:
        serving: What is not said otherwise.
        host: As `serve`.
        port: As `serve`.

    Raises:
        SettingsError: the address cannot be listened at, or is not this machine's own and there is no key.
    """
    host = host or serving.host
    listening = _bound(host, serving.port if port is None else port)
    if not _is_local(listening) and not KeyRing(Path(serving.keys)).keys():
        listening.close()
        raise SettingsError(
            f"{host} can be reached from other machines, and there is no key: make one with `docweave keys "
            "create NAME`, or listen at 127.0.0.1"
        )
    return listening


def _is_local(listening: socket.socket) -> bool:
    return is_loopback(str(listening.getsockname()[0]))


def _also() -> list[AddTo]:
    """The page, and what extras bring."""
    if find_spec("mcp") is None:
        return [add_page]
    from apps.mcp.http import add_mcp  # noqa: PLC0415 - in an extra

    return [add_page, add_mcp]


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, proto)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(WAITING)  # whoever asks from now on waits until the server has started
        listening.set_inheritable(True)
    except OSError as error:
        raise SettingsError(f"cannot listen at {host}, port {port}: {error.strerror}") from error
    return listening
