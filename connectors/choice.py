"""Which of the paths below a root are wanted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from connectors import globs

_SPECIAL = re.compile(r"[*?\[]")


@dataclass(slots=True, kw_only=True)
class Choice:
    """Tells by the settings' globs; for places that are not a folder of this machine."""

    include: Sequence[str]
    exclude: Sequence[str] = ()
    hidden: bool = False
    _wanted: re.Pattern[str] = field(init=False)
    _reachable: re.Pattern[str] = field(init=False)
    _unwanted: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        self._wanted = globs.matching(self.include)
        self._reachable = globs.reaching(self.include)
        self._unwanted = globs.matching(self.exclude)

    def has(self, path: str) -> bool:
        """Whether the path is included, and neither it nor a folder that it is in is left out."""
        return bool(self._wanted.fullmatch(path)) and not self._left_out(path)

    def reaches(self, folder: str) -> bool:
        """Whether there may be a wanted path below the folder."""
        return bool(self._reachable.fullmatch(folder)) and not self._left_out(folder)

    def _left_out(self, path: str) -> bool:
        names = path.split("/")
        if not self.hidden and any(name.startswith(".") for name in names):
            return True
        return any(self._unwanted.fullmatch("/".join(names[:end])) for end in range(1, len(names) + 1))

    def below(self) -> str:
        """The folder that holds all that can be included: empty, or ending with a slash."""
        return common_folder(self.include)


def common_folder(patterns: Sequence[str]) -> str:
    """The deepest folder below which all matches of the patterns are: empty, or ending with a slash."""
    plain = [choice for pattern in patterns for choice in globs.expand(pattern)]
    folders = [_fixed(pattern) for pattern in plain]
    shared: list[str] = []
    for names in zip(*folders, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return "".join(name + "/" for name in shared)


def _fixed(pattern: str) -> list[str]:
    """The folders at the beginning of a pattern that can only be one."""
    found: list[str] = []
    for name in pattern.split("/")[:-1]:
        if _SPECIAL.search(name):
            break
        found.append(name)
    return found
