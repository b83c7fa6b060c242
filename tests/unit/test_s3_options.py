"""Each option of S3 storage has one name, and the settings go before the environment."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from config.load import load_settings
from pipeline.errors import StoreRefused
from pipeline.stores._place import Place
from pipeline.stores._s3_options import misspelt, profile, s3_options

NOWHERE = {"AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}
HERE, THERE = "http://127.0.0.1:9000", "https://storage.example.org"


@pytest.mark.parametrize(
    "option", ["endpoint", "endpoint_url", "aws_endpoint", "AWS_ENDPOINT_URL", "aws_endpoint_url_s3"]
)
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_of_the_settings_counts_under_every_name(option: str, variable: str) -> None:
    named = s3_options({option: HERE}, {variable: THERE, **NOWHERE})
    assert named["aws_endpoint"] == named["aws_endpoint_url_s3"] == HERE


def test_of_the_environment_the_most_special_endpoint_counts() -> None:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    for first, later in itertools.combinations(names, 2):
        assert s3_options({}, {first: HERE, later: THERE, **NOWHERE})["aws_endpoint"] == HERE
    assert s3_options({}, {"AWS_ENDPOINT_URL_S3": "", "AWS_ENDPOINT_URL": HERE})["aws_endpoint"] == HERE


def test_without_an_endpoint_nothing_is_added() -> None:
    assert s3_options({}, {"AWS_REGION": "eu-west-1", **NOWHERE}) == {}
    given = {
        "access_key_id": "a",
        "secret_access_key": "b",
        "token": "c",
        "default_region": "d",
        "timeout": "9s",
    }
    assert s3_options(given, NOWHERE) == {
        "aws_access_key_id": "a",
        "aws_secret_access_key": "b",
        "aws_session_token": "c",
        "aws_region": "d",
        "timeout": "9s",
    }


@pytest.mark.parametrize(
    ("options", "environ", "region"),
    [
        ({"region": "auto"}, {"AWS_REGION": "eu-west-1"}, "auto"),
        ({}, {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
        ({}, {"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({}, {}, "us-east-1"),
    ],
)
def test_storage_with_an_endpoint_has_a_region(
    options: dict[str, str], environ: dict[str, str], region: str
) -> None:
    assert s3_options({"endpoint": HERE, **options}, {**environ, **NOWHERE})["aws_region"] == region


def test_a_profile_names_endpoint_region_and_key(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        f"[profile work]\nregion = eu-west-3\nendpoint_url = {HERE}\n[default]\nregion = eu-west-4\n"
    )
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = a%b\naws_secret_access_key = s\n")
    files = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }
    work = {**files, "AWS_PROFILE": "work"}
    assert profile(work)["aws_access_key_id"] == "a%b"
    named = s3_options({}, work)
    assert (named["aws_endpoint"], named["aws_region"]) == (HERE, "eu-west-3")
    assert "aws_access_key_id" not in named, "that LanceDB reads itself"
    assert profile(files) == {"region": "eu-west-4"}
    assert profile({**files, "AWS_PROFILE": "other"}) == {}


@pytest.mark.parametrize("broken", [b"[work\nx", b"no section = 1", b"\xff\xfe\x00", None])
def test_files_that_cannot_be_read_name_nothing(tmp_path: Path, broken: bytes | None) -> None:
    file = tmp_path / "config"
    if broken is None:
        file.mkdir()
    else:
        file.write_bytes(broken)
    assert profile({"AWS_CONFIG_FILE": str(file), "AWS_SHARED_CREDENTIALS_FILE": str(file)}) == {}


def test_an_option_that_is_passed_over_is_named_beside_what_went_wrong() -> None:
    place = Place.at("s3://bucket/x", {"endpoint": HERE, "aws_acces_key_id": "a", "secret_acess_key": "b"})
    with pytest.raises(StoreRefused) as caught, place.during("look"):
        raise RuntimeError("CredentialsNotLoaded")
    said = str(caught.value)
    assert "there is no key: set aws_access_key_id" in said
    assert "aws_acces_key_id is no option: aws_access_key_id?" in said
    plain = {
        "region": "x",
        "endpoint": HERE,
        "timeout": "9s",
        "client_max_retries": "3",
        "allow_http": "true",
    }
    assert misspelt(s3_options(plain, NOWHERE)) == []


def test_no_secret_of_the_settings_or_the_environment_gets_into_a_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-environment")
    place = Place.at("s3://bucket/x", {"session_token": "token-of-the-settings", "region": "eu-west-1"})
    with pytest.raises(StoreRefused) as caught, place.during("look"):
        raise RuntimeError("odd: secret-of-the-environment, token-of-the-settings in eu-west-1")
    assert str(caught.value) == "s3://bucket/x: cannot look: odd: …, … in eu-west-1"


def test_other_storage_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", HERE)
    for uri in ("gs://bucket/x", "az://container/x"):
        assert Place.at(uri, {"endpoint": THERE}).options == {"endpoint": THERE}


PAGE = Path(__file__).parents[2] / "docs" / "object-storage.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split()[2].split(":")[0])
def test_the_settings_of_the_page_load(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"\$\{(\w+)\}", example):
        monkeypatch.setenv(name, f"value of {name}")
    file = tmp_path / "docweave.yaml"
    file.write_text(f"{example}\nsources: {{notes: {{type: files, path: .}}}}\n")
    store = load_settings(file).store
    assert store.uri.endswith("://vectors/handbook")
    if store.uri.startswith("s3:"):
        options = dict.fromkeys(store.options, "x")
        assert misspelt(s3_options(options, NOWHERE)) == []


def test_the_page_has_an_example_of_each_kind() -> None:
    assert len(EXAMPLES) == 5
