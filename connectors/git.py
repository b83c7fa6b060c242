"""Documents in a git repository, as they are in one of its commits."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import quote, urlsplit

import anyio
from pydantic import BeforeValidator, ByteSize, Field, ValidationInfo, field_validator, model_validator

from connectors.choice import Choice
from connectors.media_types import DOCUMENTS, media_type
from connectors.settings import Glob, LocalPath, Secret, SharedSettings, absolute, folder_of, literal_secret
from pipeline.errors import ItemUnreadable, SourceError, SourceRefused, SourceUnavailable
from pipeline.records import ItemRef, RawDocument

_PROTOCOLS = "https:http:ssh:git:file"
_LINK, _SUBMODULE = "120000", "160000"
"""Modes, as git's tree objects have them."""
_LFS = b"version https://git-lfs.github.com/spec/"
_SCP = re.compile(r"(?:[\w.-]+@)?[\w.-]+:(?!//)")
"""git@host:path, as git has it beside addresses."""
_REFUSALS = (
    "authentication failed",
    "could not read username",
    "permission denied",
    "repository not found",
    "not a git repository",
    "does not appear to be a git repository",
    "does not exist",
    "no such file",
    "not found",
    "403",
    "401",
    "dubious ownership",
    "not allowed",
)
_WEB = {
    "github.com": "https://github.com/{repository}/blob/{revision}/{path}",
    "gitlab.com": "https://gitlab.com/{repository}/-/blob/{revision}/{path}",
    "bitbucket.org": "https://bitbucket.org/{repository}/src/{revision}/{path}",
    "codeberg.org": "https://codeberg.org/{repository}/src/branch/{revision}/{path}",
}
_WEB_LINES = {
    # Pages of Markdown show no lines unless its source is asked for.
    "github.com": "?plain=1#L{line}-L{last_line}",
    "gitlab.com": "?plain=1#L{line}-{last_line}",
    "bitbucket.org": "#lines-{line}:{last_line}",
    "codeberg.org": "?display=source#L{line}-L{last_line}",
}


def _repository(given: object, info: ValidationInfo) -> object:
    """An address, or the absolute path of a repository on this machine."""
    if not isinstance(given, str) or not given:
        return given
    if "://" in given:
        if urlsplit(given).password or "@" in urlsplit(given).netloc.removeprefix("git@"):
            raise literal_secret("give the token as `token`")
        return given
    return given if _SCP.match(given) else absolute(given, folder_of(info))


class GitSettings(SharedSettings):
    """Files of a git repository."""

    shaping: ClassVar[tuple[str, ...]] = ("repository", "revision", "web", "web_lines")

    type: Literal["git"] = Field(description="Files of a git repository, local or remote.")
    repository: Annotated[str, BeforeValidator(_repository)] = Field(
        min_length=1,
        description="Its address (https://…, ssh://…, git@host:path), or the path of one on this machine.",
    )
    revision: str = Field(
        default="HEAD",
        pattern=r"^[A-Za-z0-9_][\w./+-]*$",
        description="A branch or tag. Left out: the default branch. Of a local repository also a commit.",
    )
    token: Secret | None = Field(default=None, description="For https://: sent as the password.")
    include: list[Glob] = Field(
        default=[f"**/*.{{{','.join(DOCUMENTS)}}}"],
        min_length=1,
        description="Files to read, as globs over their paths. Left out: every format of documents.",
    )
    exclude: list[Glob] = Field(
        default=[], description="Files to leave out. A glob that matches a folder leaves out all of it."
    )
    web: str | None = Field(
        default=None,
        description="The address of a file's web page, with {path} and {revision} in it. Known for GitHub, "
        "GitLab, Bitbucket and Codeberg.",
    )
    web_lines: str | None = Field(
        default=None,
        description="What shows a passage's lines, put behind that address: #L{line}-L{last_line}. Known for "
        "the same four, unless `web` is given.",
    )
    cache: LocalPath = Field(
        default=Path(".docweave/git"),
        validate_default=True,
        description="Where what was fetched is kept, so that the next run fetches only what is new.",
    )
    max_bytes: ByteSize = Field(
        default=ByteSize(50_000_000), description="Files larger than this are reported and left out."
    )
    timeout_seconds: float = Field(default=600, gt=0, le=86_400, description="How long one fetch may take.")

    @field_validator("web")
    @classmethod
    def _a_template(cls, web: str | None) -> str | None:
        if web is not None and "{path}" not in web:
            raise ValueError("must have {path} in it: https://git.example.org/wiki/blob/{revision}/{path}")
        return web

    @field_validator("web_lines")
    @classmethod
    def _of_lines(cls, template: str | None) -> str | None:
        if template is not None and "{line}" not in template:
            raise ValueError("must have {line} in it: #L{line}-L{last_line}")
        return template

    @model_validator(mode="after")
    def _token_only_over_https(self) -> Self:
        if self.token and not self.repository.startswith("https://"):
            raise ValueError("`token` is for addresses that begin with https://")
        return self

    @property
    def is_local(self) -> bool:
        """Whether it is read where it is."""
        return Path(self.repository).is_absolute()


@dataclass(frozen=True, slots=True, kw_only=True)
class GitConnector:
    """Lists the files of a commit; a key is a path, a version the digest that git has of the content.

    A remote repository is fetched into `cache`, without its history, and only if the branch has moved. Links
    and submodules are left out. Nothing of the repository is run: no hook, no filter.
    """

    source: str
    settings: GitSettings
    _fetching: anyio.Lock = field(default_factory=anyio.Lock)

    async def list_items(self) -> AsyncIterator[ItemRef]:
        """Every file that the settings include, in the order of the paths.

        Raises:
            SourceRefused: no such repository or revision, or no access to it.
            SourceUnavailable: the server does not answer, or git failed.
        """
        commit = await self._commit()
        choice = Choice(include=self.settings.include, exclude=self.settings.exclude, hidden=True)
        listing = await self._git("ls-tree", "-r", "-z", "--full-tree", "--long", commit)
        for line in filter(None, listing.split(b"\0")):
            about, _, name = line.partition(b"\t")
            mode, _, digest, size = about.decode().split()
            key = name.decode("utf-8", "backslashreplace")
            if mode in (_LINK, _SUBMODULE) or not choice.has(key):
                continue
            yield ItemRef(source=self.source, key=key, version=digest, size=int(size))

    async def load(self, ref: ItemRef) -> RawDocument:
        """The file as it was listed.

        Raises:
            ItemUnreadable: it is too large, or kept outside of the repository (LFS).
            SourceError: as `list_items`.
        """
        most = self.settings.max_bytes
        if ref.size and ref.size > most:
            raise ItemUnreadable(
                f"{ref.key} has {ref.size:,} bytes, more than sources.{self.source}.max_bytes: {most:,}"
            )
        if not re.fullmatch(r"[0-9a-f]{40,64}", ref.version):
            raise ItemUnreadable(f"{ref.key} was not listed by this source")
        content = await self._git("cat-file", "blob", ref.version)
        if content.startswith(_LFS):
            raise ItemUnreadable(f"{ref.key} is kept in Git LFS, which is not read")
        url, anchor = self._page(ref.key)
        return RawDocument(ref=ref, content=content, media_type=media_type(ref.key), url=url, anchor=anchor)

    def _page(self, path: str) -> tuple[str | None, str | None]:
        """Where a person can look at the file, and at lines of it.

        On the branch, so that a commit does not change it.
        """
        template, lines, repository = self.settings.web, self.settings.web_lines, ""
        if template is None and not self.settings.is_local:
            address = self.settings.repository
            if _SCP.match(address):
                host, _, repository = address.partition(":")
            else:
                parts = urlsplit(address)
                host, repository = parts.netloc, parts.path
            host = host.rpartition("@")[2].lower()
            template, lines = _WEB.get(host), lines or _WEB_LINES.get(host)
        if template is None:
            return None, None
        url = (
            template.replace("{repository}", repository.strip("/").removesuffix(".git"))
            .replace("{revision}", quote(self.settings.revision))
            .replace("{path}", quote(path))
        )
        return url, lines

    async def _commit(self) -> str:
        """The commit that is read, fetched if it is not here."""
        revision = self.settings.revision
        if self.settings.is_local:
            return (
                (await self._git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}"))
                .decode()
                .strip()
            )
        async with self._fetching:
            commit = await self._at_the_server()
            if not await self._is_here(commit):
                await self._fetch(commit)
        return commit

    async def _at_the_server(self) -> str:
        """The commit of the branch or tag, as the server tells."""
        revision = self.settings.revision
        names = (
            ["HEAD"]
            if revision == "HEAD"
            else [f"refs/heads/{revision}", f"refs/tags/{revision}", f"refs/tags/{revision}^{{}}"]
        )
        told = await self._run("ls-remote", "--quiet", "--", self.settings.repository, *names)
        found = {name: digest for digest, name in (line.split("\t") for line in told.decode().splitlines())}
        for name in reversed(names):  # a tag's own object comes after what it points at
            if name in found:
                return found[name]
        raise SourceRefused(
            f"{self._where()} has no branch or tag {revision!r} (sources.{self.source}.revision)"
        )

    async def _is_here(self, commit: str) -> bool:
        if not await anyio.Path(self._folder).is_dir():
            return False
        try:
            await self._git("cat-file", "-e", f"{commit}^{{tree}}")
        except SourceError:
            return False
        return True

    async def _fetch(self, commit: str) -> None:
        """Bring the commit and its files here; what is here already is not sent again."""
        folder = self._folder
        if not await anyio.Path(folder).is_dir():
            await anyio.Path(folder.parent).mkdir(parents=True, exist_ok=True)
            made = await anyio.to_thread.run_sync(lambda: tempfile.mkdtemp(dir=folder.parent))
            try:
                await self._run("init", "--quiet", "--bare", made)
                await anyio.Path(made).rename(folder)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(lambda: shutil.rmtree(made, ignore_errors=True))
                raise
        what = commit if self.settings.revision == "HEAD" else self.settings.revision
        await self._git(
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--no-recurse-submodules",
            "--force",
            "--",
            self.settings.repository,
            f"{what}:refs/docweave/{self.source}",
        )

    @property
    def _folder(self) -> Path:
        return self.settings.cache / f"{self.source}.git"

    async def _git(self, *arguments: str) -> bytes:
        """Run git in the repository."""
        folder = self.settings.repository if self.settings.is_local else str(self._folder)
        return await self._run("-C", folder, *arguments)

    async def _run(self, *arguments: str) -> bytes:
        command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *arguments]
        try:
            with anyio.fail_after(self.settings.timeout_seconds):
                done = await anyio.run_process(command, check=False, env=self._environment())
        except FileNotFoundError as error:
            raise SourceRefused(f"{self._where()}: the command git is not installed") from error
        except TimeoutError as error:
            raise SourceUnavailable(
                f"{self._where()}: git took more than sources.{self.source}.timeout_seconds: "
                f"{self.settings.timeout_seconds:g}"
            ) from error
        if done.returncode:
            raise self._error(done.stderr.decode("utf-8", "replace"))
        return done.stdout

    def _environment(self) -> Mapping[str, str]:
        """No prompt, no protocol that runs programs, no settings of the system; the token is no argument."""
        ours = {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
            "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
            "GIT_LFS_SKIP_SMUDGE": "1",
            "LC_ALL": "C",
        }
        if self.settings.token:
            import base64  # noqa: PLC0415 - here alone

            login = base64.b64encode(
                f"x-access-token:{self.settings.token.get_secret_value()}".encode()
            ).decode()
            ours |= {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"http.{self.settings.repository}.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: Basic {login}",
            }
        return {**os.environ, **ours}

    def _error(self, said: str) -> SourceError:
        lines = [line for line in said.splitlines() if line.startswith(("fatal:", "error:", "remote:"))]
        reason = " ".join(" ".join(lines or [said]).split())[:300]
        if self.settings.token:
            reason = reason.replace(self.settings.token.get_secret_value(), "…")
        refused = any(word in said.lower() for word in _REFUSALS)
        return (SourceRefused if refused else SourceUnavailable)(f"{self._where()}: {reason}")

    def _where(self) -> str:
        return f"sources.{self.source}.repository: {self.settings.repository}"
