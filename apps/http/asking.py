"""What the routes are given: the desk that answers, and who asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from apps.http.guard import Caller
from pipeline.query_desk import Desk


# Asynchronous, though they wait for nothing: anything else FastAPI gives to a thread, and that takes time.
async def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


_key = HTTPBearer(
    scheme_name="key",
    description="A key that `docweave keys create` made. None is needed on the server's own machine, as long "
    "as no key was ever made.",
    auto_error=False,  # the guard has looked at it: this is for the description
)


async def _caller(request: Request, _: Annotated[object, Security(_key)]) -> Caller:
    """As the guard let them in. Without a guard nobody gets so far."""
    caller: Caller = request.state.caller
    return caller


TheDesk = Annotated[Desk, Depends(_desk)]
TheCaller = Annotated[Caller, Depends(_caller)]
