"""Secrets out of the blocks of a real Prefect server."""

# ruff: noqa: PLC0415 - prefect reads its environment when it is imported, after conftest.py has set it

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, SecretStr

from config.build import build_embedder, store_options
from config.load import load_settings
from flows.secrets import know_blocks
from pipeline.errors import DocweaveError, SettingsError
from tests.prefect_server import PrefectServer

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # Prefect's clients, at the end of a loop
]

KEY = "pplx-hunter2"


@pytest.fixture(autouse=True)
def _known() -> None:
    know_blocks()


@pytest.fixture(scope="module")
def blocks(prefect_server: PrefectServer) -> None:
    """The blocks that the tests name."""
    from prefect.blocks.core import Block
    from prefect.blocks.system import Secret

    class Account(BaseModel):
        token: SecretStr

    class Service(Block):
        _block_type_slug = "lathhouse-service"
        user: str
        password: SecretStr
        second: SecretStr | None = None

    class Nested(Block):
        _block_type_slug = "lathhouse-nested"
        account: Account

    class Open(Block):
        _block_type_slug = "lathhouse-open"
        user: str

    def save(block: Any, name: str) -> None:
        block.save(name, overwrite=True, _sync=True)

    save(Secret(value=KEY), "pplx")
    save(Secret(value="12345"), "digits")
    save(Secret(value={"user": KEY}), "several")
    save(Service(user="ada", password=SecretStr(KEY)), "one")
    save(Service(user="ada", password=SecretStr(KEY), second=SecretStr(KEY)), "two")
    save(Nested(account=Account(token=SecretStr(KEY))), "nested")
    save(Open(user=KEY), "none")


def secret(folder: Path, reference: str) -> SecretStr:
    file = folder / "docweave.yaml"
    file.write_text(
        f"store: {{options: {{token: '{reference}'}}}}\nsources: {{docs: {{type: files, path: .}}}}\n"
    )
    option = load_settings(file).store.options["token"]
    assert isinstance(option, SecretStr)
    return option


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("prefect://secret/pplx", KEY),
        ("prefect://secret/digits", "12345"),
        ("prefect://lathhouse-service/one", KEY),
        ("prefect://lathhouse-nested/nested", KEY),
        ("prefect://lathhouse-nested/nested/account.token", KEY),
        ("prefect://lathhouse-service/two/second", KEY),
        ("prefect://secret/several/value.user", KEY),
    ],
)
def test_a_block_gives_its_one_secret_value_or_the_one_that_is_named(
    tmp_path: Path, reference: str, value: str
) -> None:
    assert secret(tmp_path, reference).get_secret_value() == value


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("prefect://secret/nobody", r"prefect://secret/nobody: .* has no such block\. Make one"),
        ("prefect://no-such-type/pplx", "has no such block"),
        ("prefect://secret/several", "value must be text, and is not"),
        ("prefect://lathhouse-service/two", r"holds 2 \(password, second\) secret values, and must hold one"),
        (
            "prefect://lathhouse-service/two",
            "or be named with a field: prefect://lathhouse-service/two/password",
        ),
        ("prefect://lathhouse-service/two/user", "user is no secret of the block; it has password, second"),
        ("prefect://lathhouse-service/one/second", "the block holds nothing at second"),
        ("prefect://secret/several/value.nobody", "the block holds nothing at value.nobody"),
        ("prefect://secret/several", "name one of its values, prefect://secret/several/value.NAME"),
        ("prefect://secret/nobody", r'Secret\(value="…"\)\.save\("nobody"\); or name another server'),
        ("prefect://lathhouse-open/none", "holds no secret values, and must hold one"),
        ("prefect://lathhouse-open/none/user", "user is no secret of the block; it has none"),
    ],
)
def test_a_block_without_one_secret_value_is_named_and_not_shown(
    tmp_path: Path, reference: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as raised:
        secret(tmp_path, reference).get_secret_value()
    assert KEY not in repr((raised.value, raised.value.__cause__))


@pytest.mark.parametrize(
    "reference",
    [
        "prefect:secret/x",
        "prefect://secret",
        "prefect://secret/",
        "prefect://a/b/c/d",
        "prefect://a/b/1",
        "prefect://S/x",
    ],
)
def test_what_names_no_block_is_refused_when_the_settings_are_read(tmp_path: Path, reference: str) -> None:
    with pytest.raises(SettingsError, match=r"names no block: .*; write prefect://secret/NAME$"):
        secret(tmp_path, reference)


@pytest.mark.usefixtures("blocks")
def test_a_block_can_be_read_where_an_event_loop_runs_and_in_a_flow(tmp_path: Path) -> None:
    from prefect import flow

    @flow(persist_result=False)
    async def asking() -> bool:
        return secret(tmp_path, "prefect://secret/pplx").get_secret_value() == KEY

    @flow(persist_result=False)
    def asking_without_a_loop() -> bool:
        return secret(tmp_path, "prefect://secret/pplx").get_secret_value() == KEY

    assert anyio.run(asking)
    assert asking_without_a_loop()


@pytest.mark.usefixtures("blocks")
def test_the_embedders_key_comes_out_of_a_block(tmp_path: Path) -> None:
    file = tmp_path / "docweave.yaml"
    file.write_text(
        "embedding: {provider: perplexity, api_key: 'prefect://secret/pplx'}\n"
        "sources: {docs: {type: files, path: .}}\n"
    )
    settings = load_settings(file)
    embedder = build_embedder(settings)
    assert KEY not in repr((settings, settings.model_dump(), embedder)) + settings.model_dump_json()
    anyio.run(embedder.aclose)


def test_a_server_that_does_not_answer_is_said_and_nothing_waits_for_it_before(tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://ada:hunter2@127.0.0.1:9/api"}):
        kept = secret(tmp_path, "prefect://secret/pplx")
        with pytest.raises(DocweaveError) as raised:
            kept.get_secret_value()
    assert str(raised.value).startswith("prefect://secret/pplx: the Prefect server at 127.0.0.1 did not give")
    assert "hunter2" not in repr((raised.value, raised.value.__cause__))


def test_commands_that_need_no_secret_import_no_prefect(handbook: Path) -> None:
    text = handbook.read_text()
    handbook.write_text(text + "embedding: {provider: perplexity, api_key: 'prefect://secret/nobody'}\n")
    code = (
        "import sys\nfrom apps.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'prefect' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "status", "--config", str(handbook)],
        check=True, capture_output=True, text=True,
        env={**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"},
    )  # fmt: skip
    assert "not ingested yet" in done.stdout


@pytest.mark.usefixtures("blocks")
def test_the_store_takes_a_blocks_value_too(tmp_path: Path) -> None:
    secret(tmp_path, "prefect://secret/pplx")
    assert store_options(load_settings(tmp_path / "docweave.yaml")) == {"token": KEY}
