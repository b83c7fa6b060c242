"""Secrets that are kept elsewhere than in the settings: what may be written, and when they are read."""

from __future__ import annotations

import copy
import json
import os
import pickle
from pathlib import Path

import anyio
import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from pydantic import BaseModel, SecretStr

from config import schema, secrets
from config.build import build_embedder, store_options
from config.check import check
from config.embedding import PerplexityEmbedding
from config.load import load_settings
from config.secrets import MOST_BYTES, KeptSecret, Read, Reference, register
from connectors.settings import Hidden, Secret
from pipeline.errors import SettingsError
from tests.settings_text import SOURCES, Load, complaints

KEY = "pplx-hunter2"


def embedding(written: str) -> str:
    return f"embedding:\n  provider: perplexity\n  api_key: {written}\n{SOURCES}"


def key_of(load: Load, written: str) -> SecretStr:
    chosen = load(embedding(written)).embedding
    assert isinstance(chosen, PerplexityEmbedding)
    assert chosen.api_key is not None
    return chosen.api_key


class Vault:
    """A kind of place that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def resolver(self, reference: Reference) -> Read:
        if not reference.place.startswith("//"):
            raise ValueError("names nothing in the vault")

        def read() -> str:
            self.asked.append(reference.place)
            return KEY

        return read


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Vault:
    """Known beside files; whatever else this process has registered is not, for as long as the test runs."""
    monkeypatch.setattr(secrets, "_SCHEMES", {"file": secrets._SCHEMES["file"]})
    vault = Vault()
    register("vault", "vault://PATH", vault.resolver)
    return vault


class TestFiles:
    def test_a_relative_path_begins_at_the_settings_folder_whatever_the_current_one_is(
        self,
        load: Load,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        (tmp_path / "keys").mkdir()
        (tmp_path / "keys" / "pplx").write_text(KEY)
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
        assert key_of(load, "file:keys/pplx").get_secret_value() == KEY
        assert key_of(load, f"file:{tmp_path}/keys/pplx").get_secret_value() == KEY
        assert key_of(load, f"file://{tmp_path}/keys/pplx").get_secret_value() == KEY
        assert key_of(load, f"FILE:{tmp_path}/keys/../keys/pplx").get_secret_value() == KEY

    def test_a_path_may_begin_at_home_or_hold_a_variable(
        self, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "key").write_text(KEY)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("CREDENTIALS", str(tmp_path))
        assert key_of(load, "file:~/key").get_secret_value() == KEY
        assert key_of(load, "file:${CREDENTIALS}/key").get_secret_value() == KEY

    @pytest.mark.parametrize(
        ("content", "value"),
        [
            (b"hunter2", "hunter2"),
            (b"hunter2\n", "hunter2"),
            (b"hunter2\r\n", "hunter2"),
            (b"hunter2\n\n", "hunter2\n"),
            (b" hunter2 \n", " hunter2 "),
            (b"two\nlines\n", "two\nlines"),
            (b"\xef\xbb\xbfhunter2\r\n", "hunter2"),
            (b"x" * MOST_BYTES, "x" * MOST_BYTES),
        ],
    )
    def test_one_newline_at_the_end_is_not_part_of_it(
        self, load: Load, tmp_path: Path, content: bytes, value: str
    ) -> None:
        (tmp_path / "key").write_bytes(content)
        assert key_of(load, "file:key").get_secret_value() == value

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "does not exist"),
            (b"", "is empty"),
            (b"\n", "is empty"),
            (b" \t\n", "is empty"),
            (b"hunter2" * 10_000, "has more than 65,536 bytes"),
            (b"hunter2\xff", "is not UTF-8"),
        ],
    )
    def test_a_file_that_holds_none_is_named_and_its_content_is_not(
        self, load: Load, tmp_path: Path, content: bytes | None, said: str
    ) -> None:
        if content is not None:
            (tmp_path / "key").write_bytes(content)
        secret = key_of(load, "file:key")
        with pytest.raises(SettingsError) as raised:
            secret.get_secret_value()
        assert str(raised.value).startswith(str(tmp_path / "key"))
        assert said in str(raised.value)
        error: BaseException | None = raised.value
        while error:
            assert "hunter2" not in repr(error)
            error = error.__cause__

    def test_a_folder_is_no_secret(self, load: Load, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"cannot be read: Is a directory"):
            key_of(load, "file:.").get_secret_value()

    def test_a_pipe_is_read_to_its_end(self, load: Load) -> None:
        reading, writing = os.pipe()
        os.write(writing, KEY.encode() + b"\n")
        os.close(writing)
        assert key_of(load, f"file:/dev/fd/{reading}").get_secret_value() == KEY
        os.close(reading)

    def test_what_the_environment_holds_is_not_shown(
        self, load: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KEY", KEY)
        with pytest.raises(
            SettingsError, match=r"^file:\$\{KEY\}, where a secret should be, does not exist$"
        ):
            key_of(load, "file:${KEY}").get_secret_value()


class TestWhatMayBeWritten:
    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ("'file:'", "names no file; write file:PATH"),
            ('"file:a\\0b"', "names no file; write file:PATH"),
            ("file://host/pplx-hunter2", "names a file of another machine"),
            (
                "vualt://pplx-hunter2",
                "unknown scheme; valid: ${NAME}, file:PATH, vault://PATH; did you mean 'vault'?",
            ),
            ("https://pplx-hunter2", "unknown scheme; valid: ${NAME}, file:PATH, vault://PATH"),
            ("vault:pplx-hunter2", "names nothing in the vault; write vault://PATH"),
            ("pplx:hunter2", "is a secret, which no file should hold: write ${NAME}"),
            ("pplx-hunter2", "set NAME in the environment, or file:PATH, or vault://PATH"),
            ("key=file:x", "is a secret, which no file should hold"),
        ],
    )
    @pytest.mark.usefixtures("vault")
    def test_what_names_no_place_is_refused_with_the_valid_ones_and_not_repeated(
        self, load: Load, written: str, said: str
    ) -> None:
        [complaint] = complaints(load, embedding(written))
        assert complaint.startswith("3:12: embedding.api_key: ")
        assert said in complaint
        assert "hunter2" not in complaint

    @pytest.mark.usefixtures("vault")
    def test_options_of_the_store_that_are_secrets_take_the_same_forms(
        self, load: Load, tmp_path: Path
    ) -> None:
        (tmp_path / "id").write_text("AKIA\n")
        settings = load(
            "store:\n  options:\n    aws_access_key_id: file:id\n    aws_secret_access_key: vault://aws\n"
            "    endpoint: file:id\n" + SOURCES
        )
        assert store_options(settings) == {
            "aws_access_key_id": "AKIA", "aws_secret_access_key": KEY, "endpoint": "file:id",
        }  # fmt: skip
        [complaint] = complaints(load, "store:\n  options:\n    sas_token: vualt://hunter2\n" + SOURCES)
        assert complaint.startswith("3:16: store.options.sas_token: begins with an unknown scheme")
        assert "hunter2" not in complaint

    def test_a_secret_that_stands_in_a_mapping_is_refused_and_not_repeated(self, load: Load) -> None:
        written = "telemetry:\n  headers:\n    x-api-key: hunter2\n"
        [complaint] = complaints(load, written + SOURCES)
        assert complaint.startswith("3:16: telemetry.headers.x-api-key: is a secret, which no file")
        assert "hunter2" not in complaint

    def test_without_a_settings_file_a_secret_is_given_by_code(self) -> None:
        with pytest.raises(ValueError, match="is a secret") as raised:
            PerplexityEmbedding.model_validate({"provider": "perplexity", "api_key": "file:pplx-hunter2"})
        assert "hunter2" not in str(raised.value)

    @pytest.mark.parametrize(
        ("written", "right"),
        [
            ("${KEY}", True),
            ("file:keys/pplx", True),
            ("file:///run/secrets/pplx", True),
            ("file:${DIR}/pplx", True),
            ("prefect://secret/pplx", True),
            ("prefect://secret", False),
            ("file:", False),
            ("pplx-hunter2", False),
            ("${KEY:-hunter2}", False),
        ],
    )
    def test_editors_accept_what_the_loader_does(self, written: str, right: bool) -> None:  # noqa: FBT001
        validator = jsonschema.Draft202012Validator(json.loads(schema.schema()))
        assert validator.is_valid(yaml.safe_load(embedding(f"'{written}'"))) is right


class TestReadingLate:
    def test_a_secret_is_read_once_and_not_before_it_is_used(self, load: Load, vault: Vault) -> None:
        settings = load(embedding("vault://pplx"))
        again = load(embedding("vault://pplx"))
        shown = [repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())]
        assert settings == again
        assert isinstance(settings.embedding, PerplexityEmbedding)
        assert settings.embedding.api_key
        assert {settings.embedding.api_key: 1}
        assert copy.deepcopy(settings.embedding)
        assert vault.asked == []
        assert build_embedder(settings).space.model == "pplx-embed-context-v1-0.6b"
        assert settings.embedding.api_key.get_secret_value() == KEY
        assert len(settings.embedding.api_key) == len(KEY)
        assert vault.asked == ["//pplx"]
        shown += [repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())]
        assert not [text for text in shown if KEY in text]
        assert '"api_key":"**********"' in shown[2]

    def test_the_same_place_is_the_same_secret(self, load: Load, tmp_path: Path) -> None:
        assert key_of(load, "file:key") == key_of(load, "file:key")
        assert key_of(load, "file:key") != key_of(load, "file:other")
        assert key_of(load, "file:key") != SecretStr("")
        assert hash(key_of(load, "file:key")) == hash(key_of(load, "file:key"))

    def test_a_secret_that_is_not_there_stops_nothing_that_does_not_use_it(
        self, load: Load, file: Path
    ) -> None:
        settings = load(embedding("file:nowhere"))
        assert settings.store.uri.startswith(str(file.parent))
        with pytest.raises(SettingsError, match=r"nowhere, where a secret should be, does not exist"):
            build_embedder(settings)

    def test_check_says_what_is_wrong_with_it(self, file: Path) -> None:
        (file.parent / "docs").mkdir()
        (file.parent / "docs" / "a.md").write_text("# A")
        file.write_text(embedding("file:nowhere"))
        wrong = [finding for finding in anyio.run(check, file) if not finding.ok]
        assert [finding.what for finding in wrong] == ["embedding"]
        assert wrong[0].message.endswith("nowhere, where a secret should be, does not exist")

    def test_a_secret_of_a_file_can_be_sent_to_another_process(self, load: Load, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(KEY)
        sent = pickle.dumps(key_of(load, "file:key"))
        assert KEY.encode() not in sent
        assert pickle.loads(sent).get_secret_value() == KEY  # noqa: S301 - our own

    def test_a_field_that_is_a_secret_is_written_as_asterisks_and_nothing_as_nothing(self) -> None:
        class Model(BaseModel):
            key: Secret | None = None
            option: str | Hidden = "plain"

        asked = KeptSecret(Reference(place="x", written="x", folder=""), lambda: pytest.fail("it was read"))
        assert Model(key=asked, option=asked).model_dump_json() == (
            '{"key":"**********","option":"**********"}'
        )
        assert Model().model_dump_json() == '{"key":null,"option":"plain"}'


def test_text_with_a_variable_in_it_is_plain_text_to_all_but_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCWEAVE_TEAM", "people")
    (tmp_path / "x.yaml").write_text(
        "sources: {docs: {type: files, path: docs, metadata: {team: 'the ${DOCWEAVE_TEAM}'}}}\n"
    )
    metadata = load_settings(tmp_path / "x.yaml").sources["docs"].metadata
    assert metadata == {"team": "the people"}
    assert pickle.loads(pickle.dumps(metadata)) == metadata  # noqa: S301 - our own
