"""Files of Google Drive: the contract against a server that answers as its documented API does."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pydantic import SecretStr, ValidationError

from connectors.google_drive import GoogleDriveConnector, GoogleDriveSettings
from connectors.media_types import media_type
from pipeline.errors import ItemUnreadable, SettingsError, SourceRefused, SourceUnavailable
from pipeline.ingest import ingest_source
from pipeline.records import RawDocument
from pipeline.stores.memory import MemoryStore
from tests.contract.connector_contract import ConnectorContract, SourceOfTests, listed
from tests.fakes import OracleEmbedder
from tests.loopback import Asked, Said, failing, hasten, serving
from tests.world import World

PAGE = 30
"""Files a page here, whatever is asked for."""
GOOGLE = "application/vnd.google-apps"
ROOT = "root-folder_0"
ROBOT = "robot@fern.iam.gserviceaccount.com"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()


def refused(status: int, reason: str) -> Said:
    error = {"code": status, "message": "No.", "errors": [{"domain": "global", "reason": reason}]}
    return Said(status=status, content={"error": error})


@dataclass
class Drive:
    """As much of Drive as is asked: folders, pages, exports, permissions, tokens by key and by user."""

    url: str = ""
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    content: dict[str, bytes] = field(default_factory=dict)
    permissions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Of files in shared drives, which are not listed with these."""
    ids: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    claims: dict[str, Any] = field(default_factory=dict)
    fails: dict[str, list[Said | None]] = field(default_factory=dict)
    """Answers in place of the usual ones, by patterns of paths; None for the usual one."""
    shift: int = 0
    """Files that came meanwhile: so many of what a page told are told again by the next."""
    clock: int = 0

    def __post_init__(self) -> None:
        self.add("Handbook", mimeType=f"{GOOGLE}.folder", id=ROOT, parent="")

    def add(self, name: str, content: bytes = b"", *, parent: str = ROOT, **about: Any) -> str:
        self.clock += 1
        key: str = about.pop("id", f"file-{self.clock:04}")
        kind: str = about.pop("mimeType", media_type(name))
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.clock)
        self.files[key] = {
            "id": key,
            "name": name,
            "mimeType": kind,
            "modifiedTime": moment.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "trashed": False,
            "webViewLink": f"https://drive.google.com/file/d/{key}/view",
            "owners": [{"emailAddress": "ada@fern.org"}],
            "parents": [parent],
            "permissionIds": ["1"],
            "permissions": [{"id": "1", "type": "user", "emailAddress": "Ada@fern.org"}],
            **about,
        }
        if not kind.startswith(GOOGLE):
            mark = hashlib.md5(content, usedforsecurity=False).hexdigest()
            self.files[key] |= {"size": str(len(content)), "md5Checksum": mark}
        self.content[key] = content
        return key

    def put(self, key: str, content: bytes) -> None:
        self.ids[key] = self.add(key, content, id=self.ids.get(key, f"item-{len(self.ids):04}"))

    def drop(self, key: str) -> None:
        self.files[self.ids[key]]["trashed"] = True

    def key(self, **about: str) -> SecretStr:
        known = {
            "type": "service_account",
            "client_email": ROBOT,
            "private_key": PEM,
            "private_key_id": "k1",
            "token_uri": f"{self.url}/token",
        }
        return SecretStr(json.dumps({**known, **about}))

    def connector(self, **settings: object) -> GoogleDriveConnector:
        chosen = {
            "type": "google_drive",
            "base_url": f"{self.url}/drive/v3",
            "folders": [ROOT],
            "credentials": self.key(),
            **settings,
        }
        return GoogleDriveConnector(source="docs", settings=GoogleDriveSettings.model_validate(chosen))

    def answer(self, asked: Asked) -> Said:
        path = asked.path.removeprefix("/drive/v3/")
        self.asked.append(path + ("?media" if asked.query.get("alt") == "media" else ""))
        for pattern, answers in self.fails.items():
            if re.search(pattern, self.asked[-1]) and answers and (failure := answers.pop(0)):
                return failure
        if asked.path == "/token":
            return self.token(asked)
        if asked.headers.get("authorization") not in {f"Bearer {token}" for token in self.tokens}:
            return refused(401, "authError")
        if path.startswith("drives/"):
            return Said(content={"name": "All hands"})
        return self.list(asked) if path == "files" else self.file(asked, *path.split("/")[1:])

    def file(self, asked: Asked, key: str, part: str = "") -> Said:
        if key not in self.files:
            return refused(404, "notFound")
        if part == "permissions":
            return self.page("permissions", self.permissions.get(key, []), asked)
        if part == "export":
            return Said(content=asked.query["mimeType"].encode() + b"\n" + self.content[key])
        return Said(content=self.content[key] if "alt" in asked.query else self.shown(self.files[key], asked))

    def token(self, asked: Asked) -> Said:
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
        if form["grant_type"] == "refresh_token":
            if (form["client_id"], form["client_secret"], form["refresh_token"]) != (
                "id",
                "s3cret",
                "r3fresh",
            ):
                return Said(status=400, content={"error": "invalid_grant"})
        else:
            assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
            head, claims, signature = form["assertion"].split(".")
            KEY.public_key().verify(
                decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
            assert json.loads(decoded(head)) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
            self.claims = json.loads(decoded(claims))
            if self.claims["iss"] != ROBOT:
                return Said(status=400, content={"error": "invalid_grant", "error_description": "No account"})
        self.tokens.append(f"t0ken-{len(self.tokens)}")
        return Said(content={"access_token": self.tokens[-1], "expires_in": 3599, "token_type": "Bearer"})

    def list(self, asked: Asked) -> Said:
        within = re.fullmatch(r"'([\w-]+)' in parents and trashed = false", asked.query["q"])
        assert within
        assert asked.query["includeItemsFromAllDrives"] == asked.query["supportsAllDrives"] == "true"
        if within[1] not in self.files:
            return refused(404, "notFound")
        drive = self.files[within[1]].get("driveId")
        assert asked.query.get("driveId") == drive
        assert asked.query.get("corpora") == (drive and "drive")
        found = [one for one in self.files.values() if one["parents"] == [within[1]] and not one["trashed"]]
        return self.page("files", [self.shown(one, asked) for one in found], asked)

    def shown(self, file: dict[str, Any], asked: Asked) -> dict[str, Any]:
        fields = asked.query["fields"]
        shared = {"permissions"} if file.get("driveId") else set()
        return {
            name: value
            for name, value in file.items()
            if re.search(rf"\b{name}\b", fields) and name not in shared
        }

    def page(self, part: str, found: Any, asked: Asked) -> Said:
        start = int(asked.query.get("pageToken", "0"))
        more = {"nextPageToken": str(start + PAGE)} if start + PAGE < len(found) else {}
        some = found[max(0, start - self.shift) : start + PAGE]
        return Said(content={part: some, "incompleteSearch": False, **more})


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> Iterator[Drive]:
    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("connectors.google_drive.api.anyio.sleep", sleep)
    hasten(monkeypatch)
    drive = Drive()
    with serving(drive.answer) as url:
        drive.url = url
        yield drive


async def read(place: Drive, **settings: object) -> dict[str, RawDocument]:
    connector = place.connector(**settings)
    return {raw.title or "": raw for ref in await listed(connector) for raw in [await connector.load(ref)]}


class TestGoogleDriveConnector(ConnectorContract):
    """The contract, on files of one folder."""

    many = 100

    def outage(self, place: Drive) -> AbstractContextManager[None]:
        return failing(place.fails, "", [Said(status=503)] * 20)

    def refusal(self, place: Drive) -> AbstractContextManager[None]:
        return failing(place.fails, "", [Said(status=400, content={"error": "invalid_grant"})] * 20)

    def half(self, place: Drive) -> AbstractContextManager[None]:
        return failing(place.fails, "^files$", [None, *[Said(status=503)] * 10])

    @contextmanager
    def repeating(self, place: Drive) -> Iterator[None]:
        place.shift = 2
        yield

    @pytest.fixture
    def place(self, place: Drive, monkeypatch: pytest.MonkeyPatch) -> Drive:
        connector = place.connector
        monkeypatch.setattr(place, "connector", lambda: connector(include=["**"]))
        return place

    def key(self, place: SourceOfTests, name: str) -> str:
        assert isinstance(place, Drive)
        return place.ids[name]


async def test_folders_are_read_all_the_way_down_and_google_documents_are_exported(place: Drive) -> None:
    leave = place.add("Leave", mimeType=f"{GOOGLE}.folder")
    deep = place.add("2026/27", mimeType=f"{GOOGLE}.folder", parent=leave)
    place.add("Rules", b"# Rules", parent=leave, mimeType=f"{GOOGLE}.document")
    place.add("Days", b"x", parent=leave, mimeType=f"{GOOGLE}.spreadsheet")
    place.add("Talk", b"x", mimeType=f"{GOOGLE}.presentation")
    place.add("Old.pdf", b"%PDF", parent=deep)
    place.add("Poll", mimeType=f"{GOOGLE}.form")
    place.add("Link", mimeType=f"{GOOGLE}.shortcut")
    place.add("photo.png", b"x")
    place.add("Gone.md", b"x", trashed=True)
    found = await read(place)
    assert {name: (raw.media_type, raw.metadata["folder"]) for name, raw in found.items()} == {
        "Talk": (media_type("x.pptx"), "Handbook"),
        "Rules": ("text/markdown", "Handbook/Leave"),
        "Days": (media_type("x.xlsx"), "Handbook/Leave"),
        "Old.pdf": ("application/pdf", "Handbook/Leave/2026_27"),
    }
    rules = found["Rules"]
    assert rules.content == b"text/markdown\n# Rules"
    assert found["Days"].content.startswith(media_type("x.xlsx").encode())
    assert found["Old.pdf"].content == b"%PDF"
    assert rules.url == f"https://drive.google.com/file/d/{rules.ref.key}/view"
    assert rules.metadata == {
        "folder": "Handbook/Leave",
        "modified": place.files[rules.ref.key]["modifiedTime"],
        "owners": ["ada@fern.org"],
    }
    assert (
        "file-0002"
        in place.connector(folders=["https://drive.google.com/drive/u/0/folders/file-0002"]).settings.folders
    )


async def test_globs_choose_and_folders_that_are_left_out_are_not_asked_for(place: Drive) -> None:
    for name in ("a", "b"):
        folder = place.add(name, mimeType=f"{GOOGLE}.folder")
        place.add("plan", parent=folder, mimeType=f"{GOOGLE}.document")
        place.add("plan.pdf", b"x", parent=folder)
    assert len(await listed(place.connector())) == 4
    assert len(await listed(place.connector(include=["**/*.gdoc"]))) == 2
    place.asked.clear()
    assert len(await listed(place.connector(exclude=["a"]))) == 2
    assert place.asked.count("files") == 2, "the root and b"
    place.asked.clear()
    assert len(await listed(place.connector(include=["a/*.pdf"]))) == 1
    assert place.asked.count("files") == 2, "the root and a"


async def test_a_shared_drive_is_read_as_itself(place: Drive) -> None:
    drive = place.add("Drive", mimeType=f"{GOOGLE}.folder", id="0AShared", parent="", driveId="0AShared")
    place.add("a.md", b"A", parent=drive, driveId=drive)
    found = await read(place, folders=[drive])
    assert found["a.md"].metadata["folder"] == "All hands"


async def test_folders_that_overlap_give_each_file_once(place: Drive) -> None:
    inner = place.add("Leave", mimeType=f"{GOOGLE}.folder")
    place.add("a.md", b"A", parent=inner)
    assert len(await listed(place.connector(folders=[ROOT, inner, ROOT]))) == 1


async def test_a_second_run_over_an_unchanged_drive_downloads_nothing(place: Drive) -> None:
    place.add("a.md", b"A fern needs water.")
    key = place.add("b", b"A frond needs light.", mimeType=f"{GOOGLE}.document")
    world = World(MemoryStore(OracleEmbedder().space))
    report = await ingest_source(place.connector(), world.pipeline)
    assert (report.listed, report.added, report.failures) == (2, 2, [])
    place.asked.clear()
    report = await ingest_source(place.connector(), world.pipeline)
    assert (report.unchanged, report.requests) == (2, 0)
    assert place.asked == ["/token", f"files/{ROOT}", "files"]
    place.add("b", b"A frond needs shade.", id=key, mimeType=f"{GOOGLE}.document")
    place.asked.clear()
    report = await ingest_source(place.connector(), world.pipeline)
    assert (report.unchanged, report.changed) == (1, 1)
    assert place.asked[3:] == [f"files/{key}", f"files/{key}/export"]


async def test_a_version_moves_with_name_folder_and_time(place: Drive) -> None:
    folder = place.add("Leave", mimeType=f"{GOOGLE}.folder")
    key = place.add("a.md", b"A", parent=folder)
    versions = {(await listed(place.connector()))[0].version}
    for changed, part, value in (
        (key, "name", "b.md"),
        (folder, "name", "Holidays"),
        (key, "parents", [ROOT]),
        (key, "modifiedTime", "2026-05-05T00:00:00.000Z"),
    ):
        place.files[changed][part] = value
        versions.add((await listed(place.connector()))[0].version)
    assert len(versions) == 5


async def test_a_document_comes_without_its_pictures_and_a_large_one_as_plain_text(place: Drive) -> None:
    text = b"# Fern\n\n![A frond][image1] grows.\n\n[image1]: <data:image/png;base64,iVBORw0KGgo=>\n"
    place.add("Fern", text, mimeType=f"{GOOGLE}.document")
    assert (await read(place))["Fern"].content == b"text/markdown\n# Fern\n\nA frond grows."
    place.fails["export"] = [refused(403, "exportSizeLimitExceeded")]
    raw = (await read(place))["Fern"]
    assert (raw.media_type, raw.content[:10]) == ("text/plain", b"text/plain")


async def test_access_tells_who_may_read_and_moves_the_version(place: Drive) -> None:
    key = place.add("a.md", b"A")
    drive = place.add("Drive", mimeType=f"{GOOGLE}.folder", id="0AShared", parent="", driveId="0AShared")
    shared = place.add("b.md", b"B", parent=drive, driveId=drive)
    place.permissions[shared] = [
        {"id": "2", "type": "group", "emailAddress": "crew@fern.org"},
        {"id": "3", "type": "user", "emailAddress": "old@fern.org", "deleted": True},
    ]
    settings = {"permissions": True, "folders": [ROOT, drive]}
    found = await read(place, **settings)
    assert [found[name].access for name in ("a.md", "b.md")] == [("ada@fern.org",), ("crew@fern.org",)]
    before = {ref.key: ref.version for ref in await listed(place.connector(**settings))}
    place.files[key]["permissions"] += [
        {"id": "4", "type": "domain", "domain": "fern.org"},
        {"id": "anyoneWithLink", "type": "anyone"},
    ]
    for one in (key, shared):
        place.files[one]["permissionIds"] = ["1", "4", "anyoneWithLink"]
    place.fails["permissions"] = [refused(403, "insufficientFilePermissions")]
    found = await read(place, **settings)
    assert found["a.md"].access == ("ada@fern.org", "anyone", "fern.org")
    assert found["b.md"].access == ("undisclosed",), "Google does not tell"
    place.fails["permissions"] = [refused(403, "insufficientFilePermissions")]
    assert (await read(place, **settings, access=["crew"]))["b.md"].access is None, "the settings' own hold"
    assert all(found[name].ref.version != before[found[name].ref.key] for name in ("a.md", "b.md"))
    place.permissions[shared] = []
    assert (await read(place, **settings))["b.md"].access == ("undisclosed",), "that nobody may is not all"
    assert (await read(place))["a.md"].access is None


async def test_a_list_that_is_not_whole_is_an_error(place: Drive) -> None:
    folder = place.add("Leave", mimeType=f"{GOOGLE}.folder")
    for number in range(3 * PAGE):
        place.add(f"{number}.md", b"x", parent=folder)
    assert len(await listed(place.connector())) == 3 * PAGE
    for answers, told in (
        ([None, None, *[Said(status=503)] * 10], "503"),
        ([None, None, Said(content={"files": [], "incompleteSearch": True})], "search was not complete"),
        ([None, None, Said(content={})], "gave no files"),
        ([None, None, Said(content={"files": ["x"]})], "gave no files"),
        ([None, None, Said(content={"files": [], "nextPageToken": "30"})] * 2, "same page again and again"),
        (
            [None, refused(404, "notFound")],
            "404 notFound, of the folder file-0002: the listing is not complete",
        ),
        ([None, None, Said(status=400, content={})], "the listing is not complete"),
    ):
        place.fails["^files$"] = list(answers)
        with pytest.raises(SourceUnavailable, match=told):
            await listed(place.connector())
    place.fails["^files$"] = [None, None, Said(status=500)]
    assert len(await listed(place.connector())) == 3 * PAGE, "one failure is asked again"


async def test_a_rate_limit_is_waited_for_longer_each_time_and_one_that_lasts_is_an_outage(
    place: Drive, waits: list[float]
) -> None:
    place.add("a.md", b"A")
    reasons = ("userRateLimitExceeded", "rateLimitExceeded")
    place.fails["^files$"] = [*(refused(403, reason) for reason in reasons), Said(status=429)]
    assert len(await listed(place.connector())) == 1
    assert [int(wait) for wait in waits] == [1, 2, 4]
    place.fails["^files$"] = [refused(403, "rateLimitExceeded")]
    with pytest.raises(SourceUnavailable, match="rate limit lasts longer than rate_limit_minutes: 0"):
        await listed(place.connector(rate_limit_minutes=0))
    place.fails["^files$"] = [refused(403, "dailyLimitExceeded")]
    with pytest.raises(SourceUnavailable, match="dailyLimitExceeded"):
        await listed(place.connector())


async def test_a_token_that_ended_early_is_renewed_once(place: Drive) -> None:
    place.add("a.md", b"A")
    connector = place.connector()
    [ref] = await listed(connector)
    place.tokens[0] = "ended"
    assert (await connector.load(ref)).content == b"A"
    assert len(place.tokens) == 2
    place.fails["^files"] = [refused(401, "authError")] * 2
    with pytest.raises(SourceRefused, match="401 authError: the credentials are not accepted"):
        await connector.load(ref)


async def test_a_token_is_kept_while_it_is_good_and_asked_for_again_in_time(
    place: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = place.connector()
    await listed(connector)
    await listed(connector)
    assert len(place.tokens) == 1
    later = time.monotonic() + 3500
    monkeypatch.setattr("connectors.google_drive.token.time.monotonic", lambda: later)
    await listed(connector)
    assert len(place.tokens) == 2


async def test_a_service_account_asks_to_read_only_and_may_act_for_somebody(place: Drive) -> None:
    await listed(place.connector(subject="ada@fern.org"))
    claims = place.claims
    assert claims["scope"] == "https://www.googleapis.com/auth/drive.readonly"
    assert (claims["iss"], claims["sub"], claims["aud"]) == (ROBOT, "ada@fern.org", f"{place.url}/token")
    assert claims["exp"] - claims["iat"] == 3600
    await listed(place.connector())
    assert "sub" not in place.claims


async def test_a_user_is_known_by_a_refresh_token(place: Drive) -> None:
    user = {
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "s3cret",
        "refresh_token": "r3fresh",
    }
    known = {**user, "token_uri": f"{place.url}/token"}
    place.add("a.md", b"A")
    assert len(await listed(place.connector(credentials=SecretStr(json.dumps(known))))) == 1
    wrong = SecretStr(json.dumps({**known, "refresh_token": "wr0ng"}))
    with pytest.raises(SourceRefused, match="invalid_grant: the key or the refresh token") as refusal:
        await listed(place.connector(credentials=wrong))
    assert not any(secret in str(refusal.value) for secret in ("wr0ng", "s3cret"))


async def test_credentials_that_are_none_say_so_and_are_not_shown(place: Drive) -> None:
    for credentials, told in (
        (SecretStr("{s3cret"), "credentials must be the JSON key of a service account, or"),
        (SecretStr('{"type": "s3cret"}'), "credentials must be the JSON key"),
        (SecretStr('{"type": "service_account", "private_key": "s3cret"}'), "credentials lacks client_email"),
        (place.key(private_key="s3cret"), "private_key is no RSA key in PEM"),
    ):
        with pytest.raises(SettingsError, match=told) as refusal:
            await listed(place.connector(credentials=credentials))
        error: BaseException | None = refusal.value
        assert "s3cret" not in str(error)
        assert error
        assert error.__cause__ is None
        assert error.__context__ is None
    with pytest.raises(SourceRefused, match="Google says invalid_grant") as refused_:
        await listed(place.connector(credentials=place.key(client_email="nobody@fern.org")))
    assert "PRIVATE" not in str(refused_.value)


async def test_a_token_endpoint_that_is_none_is_not_taken_for_a_missing_folder(place: Drive) -> None:
    for uri, told in ((f"{place.url}/nowhere", "404"), ("ftp://fern.org/", "no http or https URL")):
        place.fails["^/nowhere"] = [Said(status=404)]
        with pytest.raises(SourceRefused, match=f"credentials: no token: .*{told}"):
            await listed(place.connector(credentials=place.key(token_uri=uri)))


async def test_a_folder_that_is_not_there_is_refused_with_whom_to_share_it(place: Drive) -> None:
    with pytest.raises(SourceRefused, match=f"folders: nowhere is not there, or not shared with {ROBOT}"):
        await listed(place.connector(folders=["nowhere"]))
    plain = place.add("a.md", b"A")
    with pytest.raises(SourceRefused, match="is no folder"):
        await listed(place.connector(folders=[plain]))
    place.files[ROOT]["trashed"] = True
    with pytest.raises(SourceRefused, match="is in the trash"):
        await listed(place.connector())
    with pytest.raises(ValidationError, match="must be a folder's id, or its address"):
        place.connector(folders=["' or ''='"])


async def test_an_account_that_may_not_is_told_what_to_do(place: Drive) -> None:
    for reason, told in (
        ("accessNotConfigured", "enable the Google Drive API"),
        ("insufficientPermissions", "lack the scope drive.readonly"),
        ("domainPolicy", "403 domainPolicy"),
    ):
        place.fails["^files"] = [refused(403, reason)]
        with pytest.raises(SourceRefused, match=told):
            await listed(place.connector())


async def test_one_file_that_cannot_be_had_is_unreadable(place: Drive) -> None:
    key = place.add("a.md", b"A" * 100)
    place.add("b.md", b"B")
    connector = place.connector(max_bytes=50)
    refs = {ref.key: ref for ref in await listed(connector)}
    with pytest.raises(ItemUnreadable, match=r"100 bytes, more than sources\.docs\.max_bytes: 50"):
        await connector.load(refs[key])
    for reason in ("cannotDownloadFile", "cannotDownloadAbusiveFile", "insufficientFilePermissions"):
        place.fails[r"\?media"] = [refused(403, reason)]
        with pytest.raises(ItemUnreadable, match=reason):
            await place.connector().load(refs[key])
    place.files[key]["trashed"] = True
    with pytest.raises(ItemUnreadable, match="moved to the trash"):
        await connector.load(refs[key])
