"""A Confluence of the tests: one space behind the cloud's APIs, or a server's, as they are documented.

Like the real ones it tells restrictions, ancestors and versions only where they are expanded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from connectors.confluence import ConfluenceConnector, ConfluenceSettings
from tests.loopback import Asked, Said

PAGE = 40
"""Items a page here, whatever is asked for."""
NAMES = 3
"""Users, or groups, that are told of a restriction at a time."""
PARTS = ("user", "group")
_INCLUDED = re.compile(
    r'<ac:structured-macro ac:name="include"><ac:parameter ac:name="">'
    r'<ac:link><ri:page ri:content-title="(\w+)" /></ac:link></ac:parameter></ac:structured-macro>'
)
_RESTRICTION = re.compile(r"/rest/api/content/(\d+)/restriction/byOperation/read")


@dataclass
class Confluence:
    """One space, `HB`, behind the cloud's or a server's API."""

    cloud: bool
    permissions: bool = False
    """Whether its connectors carry labels."""
    host: str = ""
    pages: dict[str, dict[str, Any]] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    restricted: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """Users and groups that may read a page, or a folder."""
    folders: set[str] = field(default_factory=set)
    unindexed: set[str] = field(default_factory=set)
    """What the search does not know yet."""
    silent: set[str] = field(default_factory=set)
    """Whose restriction is told nobody."""
    unnamed: set[str] = field(default_factory=set)
    """Of whose restriction it is told how many it names, and none of them."""
    meanwhile: dict[str, list[Callable[[], None]]] = field(default_factory=dict)
    """What somebody does as soon as a request was answered."""
    asked: list[str] = field(default_factory=list)
    authorization: str | None = None
    fails: dict[str, list[Said]] = field(default_factory=dict)
    forgetful: bool = False
    """Whether the link to the next page of a list leaves out what was expanded."""
    prefix: str = ""
    """What is before `/wiki` where it is asked through a gateway; its links do not tell."""
    mute: set[str] = field(default_factory=set)
    """Pages of which the cloud leaves out what they stand below."""
    shift: int = 0
    """Pages that came meanwhile: so many of what a page of the list told are told again by the next."""

    @property
    def url(self) -> str:
        return f"{self.host}{self.prefix}/wiki"

    def put(self, key: str, content: bytes, *, below: str | None = None) -> None:
        number = self.numbers.setdefault(key, str(1000 + len(self.numbers)))
        old = self.pages.get(number, {"version": 0})
        self.pages[number] = {
            "title": key,
            "body": content.decode("utf-8", "replace"),
            "version": old["version"] + 1,
            "status": "current",
        }
        if below:
            self.parents[number] = self.numbers[below]

    def folder(self, key: str, *, below: str | None = None) -> None:
        """Something that holds pages, and is none."""
        self.numbers[key] = str(1000 + len(self.numbers))
        self.folders.add(self.numbers[key])
        if below:
            self.parents[self.numbers[key]] = self.numbers[below]

    def drop(self, key: str) -> None:
        del self.pages[self.numbers[key]]

    def restrict(self, key: str, *, users: Iterable[str] = (), groups: Iterable[str] = ()) -> None:
        """Let nobody else read a page; everybody, where none are named."""
        name = "accountId" if self.cloud else "username"
        self.restricted[self.numbers[key]] = [
            *({"type": "known", name: user} for user in users),
            *({"type": "group", "name": group} for group in groups),
        ]

    def connector(self, **settings: object) -> ConfluenceConnector:
        chosen = {
            "type": "confluence",
            "base_url": self.url,
            "spaces": ["HB"],
            "deployment": "cloud" if self.cloud else "server",
            **({"permissions": True, "access": []} if self.permissions else {}),
            **settings,
        }
        return ConfluenceConnector(source="docs", settings=ConfluenceSettings.model_validate(chosen))

    def answer(self, asked: Asked) -> Said:
        if not asked.path.startswith(f"{self.prefix}/wiki/"):
            return Said(status=404)
        path = asked.path.removeprefix(f"{self.prefix}/wiki")
        self.asked.append(f"{path} {asked.query.get('cursor') or asked.query.get('start') or ''}".strip())
        for pattern, answers in self.fails.items():
            if answers and re.search(pattern, self.asked[-1]):
                return answers.pop(0)
        if self.authorization and asked.headers.get("authorization") != self.authorization:
            return Said(status=401)
        said = self.of_cloud(path, asked) if self.cloud else self.of_server(path, asked)
        for pattern, actions in self.meanwhile.items():
            if actions and re.search(pattern, path):
                actions.pop(0)()
        return said

    def of_cloud(self, path: str, asked: Asked) -> Said:  # noqa: PLR0911 - a way out for each thing that may be asked
        cursor = int(asked.query.get("cursor", "0"))
        if path == "/api/v2/spaces":
            there = [{"id": "77", "key": "HB"}] if asked.query["keys"] == "HB" else []
            return Said(content={"results": there})
        if path == "/api/v2/spaces/77/pages":
            about = [self.v2(number) for number in sorted(self.pages)]
            return self.listed(about, cursor, f"/wiki{path}?cursor=")
        if path == "/rest/api/content/search":
            query, expand = asked.query["cql"], asked.query["expand"]
            found = [self.v1(number, expand) for number in self.found(query)]
            return self.listed(found, cursor, f"{path}?cql={quote(query)}&expand={expand}&cursor=")
        if one := _RESTRICTION.fullmatch(path):
            return self.restriction(one[1], asked)
        if one := re.fullmatch(r"/api/v2/(pages|folders)/(\d+)/ancestors", path):
            return self.ancestors(one[2], self.pages if one[1] == "pages" else self.folders)
        if (one := re.fullmatch(r"/api/v2/pages/(\d+)", path)) and one[1] in self.pages:
            return Said(content={**self.v2(one[1]), "body": self.body(one[1], asked.query["body-format"])})
        return Said(status=404)

    def of_server(self, path: str, asked: Asked) -> Said:
        expand = asked.query.get("expand", "")
        forms = re.findall(r"body\.(\w+)", expand)
        if path == "/rest/api/content":
            if asked.query["spaceKey"] != "HB":
                return Said(status=404)
            about = [self.v1(number, expand) for number in sorted(self.pages)]
            following = f"/rest/api/content?spaceKey=HB&expand={expand}&start="
            return self.listed(about, int(asked.query.get("start", "0")), following)
        if found := _RESTRICTION.fullmatch(path):
            return self.restriction(found[1], asked)
        if (found := re.fullmatch(r"/rest/api/content/(\d+)", path)) and found[1] in self.pages:
            return Said(content={**self.v1(found[1], expand), "body": self.body(found[1], *forms)})
        return Said(status=404)

    def ancestors(self, number: str, there: Collection[str]) -> Said:
        above = [{"id": one, "type": self.kind(one)} for one in self.above(number)]
        return Said(content={"results": above}) if number in there else Said(status=404)

    def listed(self, items: list[dict[str, Any]], start: int, following: str) -> Said:
        if self.forgetful:
            following = re.sub(r"&expand=[^&]*", "", following)
        links = {"next": f"{following}{start + PAGE}"} if start + PAGE < len(items) else {}
        return Said(content={"results": items[max(0, start - self.shift) : start + PAGE], "_links": links})

    def found(self, query: str) -> list[str]:
        """What a search finds; pages alone, and not at once."""
        wanted = re.fullmatch(r"id in \(([\d,]+)\)", query)
        assert wanted or query == 'space = "HB" and type = page', query
        known = sorted(self.pages.keys() - self.unindexed)
        return [number for number in known if not wanted or number in wanted[1].split(",")]

    def restriction(self, number: str, asked: Asked) -> Said:
        if number in self.silent or number not in self.pages.keys() | self.folders:
            return Said(status=404)
        assert asked.query["expand"] == "restrictions.user,restrictions.group"
        return Said(content=self.read(number, PARTS, int(asked.query.get("start", "0"))))

    def read(self, number: str, parts: Iterable[str], start: int = 0) -> dict[str, Any]:
        """The restriction that concerns reading."""
        told: dict[str, Any] = {}
        for part in parts:
            those = [
                one
                for one in self.restricted.get(number, ())
                if (one["type"] == "group") == (part == "group")
            ]
            here = those[start : start + NAMES] if number not in self.unnamed else []
            told[part] = {"results": here, "start": start, "limit": NAMES, "size": len(here)}
            if number in self.unnamed:
                told[part]["totalSize"] = len(those)
        return {"operation": "read", "restrictions": told}

    def v2(self, number: str) -> dict[str, Any]:
        about = self.about(number, "createdAt")
        if number in self.mute:
            return about
        parent = self.parents.get(number)
        return {**about, "parentId": parent, "parentType": parent and self.kind(parent)}

    def v1(self, number: str, expand: str) -> dict[str, Any]:
        told, wanted = self.about(number, "when"), expand.split(",")
        if "version" not in wanted:
            del told["version"]
        if "ancestors" in wanted:
            inner = ",".join(one.removeprefix("ancestors.") for one in wanted if one.startswith("ancestors."))
            above = [one for one in self.above(number) if one in self.pages]
            told["ancestors"] = [{"id": one, "type": "page", **self.expanded(one, inner)} for one in above]
        return {**told, **self.expanded(number, expand)}

    def expanded(self, number: str, expand: str) -> dict[str, Any]:
        parts = [part for part in PARTS if f"restrictions.read.restrictions.{part}" in expand.split(",")]
        if not parts or number in self.silent:
            return {"_expandable": {"restrictions": f"/rest/api/content/{number}/restriction/byOperation"}}
        return {"restrictions": {"read": self.read(number, parts)}}

    def above(self, number: str) -> list[str]:
        """The ids of what it stands below, from the top."""
        parent = self.parents.get(number)
        return [*self.above(parent), parent] if parent else []

    def kind(self, number: str) -> str:
        return "folder" if number in self.folders else "page"

    def body(self, number: str, *forms: str) -> dict[str, Any]:
        """What was put, as it is stored; rendered it has what it includes, whoever may read that."""
        stored = self.pages[number]["body"]
        view = _INCLUDED.sub(lambda found: str(self.pages[self.numbers[found[1]]]["body"]), stored)
        values = {"storage": stored, "view": view}
        return {form: {"value": values[form], "representation": form} for form in forms}

    def about(self, number: str, when: str) -> dict[str, Any]:
        page = self.pages[number]
        return {
            "id": number,
            "type": "page",
            "title": page["title"],
            "status": page["status"],
            "version": {"number": page["version"], when: "2026-01-02T03:04:05.000Z"},
            "_links": {"webui": f"/spaces/HB/pages/{number}"},
        }
