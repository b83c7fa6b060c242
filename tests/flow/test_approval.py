"""Withheld removals, approved by resuming the run that waits for an answer."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported, after conftest.py has set it

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from config import build
from config.load import load_settings

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # Prefect's clients, at the end of a loop
]


@pytest.fixture
def folder(handbook: Path) -> Path:
    """Of the source `wiki`, which asks: 31 documents."""
    folder = handbook.parent / "documents/wiki"
    for number in range(30):
        (folder / f"{number:02}.md").write_text(f"Page {number}.")
    text = handbook.read_text("utf-8")
    asks = "removals: {when_withheld: ask, ask_hours: 2}"
    handbook.write_text(text.replace("path: documents/wiki", f"path: documents/wiki, {asks}"), "utf-8")
    return folder


async def deployed(config: Path) -> Any:
    """The id of a deployment that ingests the wiki."""
    from prefect.client.orchestration import get_client

    from flows.ingest import ingest

    async with get_client() as client:
        return await client.create_deployment(
            flow_id=await client.create_flow(ingest),
            name=f"wiki-{uuid4().hex[:8]}",
            parameters={"config": str(config), "sources": ["wiki"]},
        )


async def run(deployment: Any, again: Any = None) -> Any:
    """A run of the deployment, as a worker would have it; or another try of one that was resumed."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import Pause
    from prefect.flow_engine import run_flow_async

    from flows.ingest import ingest

    async with get_client() as client:
        found = again or (await client.create_flow_run_from_deployment(deployment)).id
        flow_run = await client.read_flow_run(found)
        with suppress(Pause):  # at which its process would end
            await run_flow_async(ingest, flow_run=flow_run, parameters=flow_run.parameters)
        return await client.read_flow_run(found)


async def resume(flow_run: Any, **answers: bool) -> None:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        await client.resume_flow_run(flow_run.id, run_input=answers)


async def question(flow_run: Any) -> tuple[dict[str, Any], str]:
    """The form's fields, and what stands above them."""
    from prefect.input.actions import aread_flow_run_input

    keys = flow_run.state.state_details.run_input_keyset
    schema = await aread_flow_run_input(keys["schema"], flow_run_id=flow_run.id)
    return schema["properties"], await aread_flow_run_input(keys["description"], flow_run_id=flow_run.id)


async def wiki(config: Path) -> int:
    counts = await (await build.open_reader(load_settings(config))).counts()
    return counts["wiki"][0]


def lose(folder: Path, count: int) -> None:
    for path in sorted(folder.glob("??.md"))[:count]:
        path.unlink()


async def test_a_resumed_run_removes_what_was_approved(handbook: Path, folder: Path) -> None:
    deployment = await deployed(handbook)
    await run(deployment)
    lose(folder, 20)
    waiting = await run(deployment)
    assert (waiting.state.name, waiting.name) == ("Suspended", "wiki · 20 withheld")
    assert "removals-withheld" in waiting.tags
    waits = waiting.state.state_details.pause_timeout - waiting.state.timestamp
    assert 7_000 < waits.total_seconds() < 7_400
    fields, above = await question(waiting)
    assert fields["remove_0"]["title"] == "wiki: remove 20 documents"
    assert fields["remove_0"]["default"] is False
    assert "**wiki**: 20 of 31" in above
    assert "- 00.md" in above
    assert "- and 10 more" in above
    another = await run(deployment)
    assert another.state.is_completed(), "one question is enough"
    assert another.name == "wiki · 20 withheld"
    await resume(waiting, remove_0=True)
    done = await run(deployment, again=waiting.id)
    assert done.state.is_completed()
    assert done.name == "wiki · 20 removed"
    assert [tag for tag in done.tags if "withheld" in tag] == []
    assert await wiki(handbook) == 11


async def test_a_run_that_is_resumed_without_approval_removes_nothing(handbook: Path, folder: Path) -> None:
    deployment = await deployed(handbook)
    await run(deployment)
    lose(folder, 20)
    waiting = await run(deployment)
    await resume(waiting, remove_0=False)
    done = await run(deployment, again=waiting.id)
    assert done.state.is_completed()
    assert done.name == "wiki · 20 withheld"
    assert await wiki(handbook) == 31


async def test_what_vanished_after_the_question_is_asked_about_again(handbook: Path, folder: Path) -> None:
    deployment = await deployed(handbook)
    await run(deployment)
    lose(folder, 20)
    waiting = await run(deployment)
    lose(folder, 2)
    await resume(waiting, remove_0=True)
    again = await run(deployment, again=waiting.id)
    assert (again.state.name, again.name) == ("Suspended", "wiki · 22 withheld")
    assert await wiki(handbook) == 31
    await resume(again, remove_0=True)
    done = await run(deployment, again=waiting.id)
    assert done.name == "wiki · 22 removed"
    assert await wiki(handbook) == 9
