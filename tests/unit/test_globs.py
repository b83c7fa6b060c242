"""Which paths a glob matches, and which folders it makes worth entering."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import globs


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.md", "a.md", True),
        ("*.md", "a/b.md", False),
        ("*.md", ".md", True),
        ("*", "a", True),
        ("*", "a/b", False),
        ("**", "a/b/c", True),
        ("**/*", "a", True),
        ("**/*", "a/b/c", True),
        ("**/*.md", "a.md", True),
        ("**/*.md", "a/b/c.md", True),
        ("**/*.md", "a/b/c.mdx", False),
        ("a/**", "a/b", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("a/", "a/b/c", True),
        ("a/**/z.md", "a/z.md", True),
        ("a/**/z.md", "a/b/c/z.md", True),
        ("a/**/z.md", "az.md", False),
        ("**/a/**", "x/y/a/z", True),
        ("**/a/**", "x/y/ba/z", False),
        ("**/a", "a", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[ab].md", "a.md", True),
        ("[ab].md", "c.md", False),
        ("[!ab].md", "c.md", True),
        ("[!ab].md", "a.md", False),
        ("a[!b]c", "a/c", False),
        ("a[.-0]c", "a/c", False),
        ("[]x]", "]", True),
        ("[^a]", "^", True),
        ("[^a]", "b", False),
        ("[!]", "[!]", True),
        ("[a", "[a", True),
        ("a.md", "aXmd", False),
        ("a+(b)|c", "a+(b)|c", True),
        ("*.{md,pdf}", "a.pdf", True),
        ("*.{md,pdf}", "a.txt", False),
        ("{a,b/**}/{x,y{1,2}}.md", "b/q/y2.md", True),
        ("{a}", "{a}", True),
        ("*", "line\nbreak", True),
        ("**/*.md", "line\nbreak/a.md", True),
        ("Ä*", "Äpfel", True),
        ("*.MD", "a.md", False),
    ],
)
def test_a_glob_matches_what_its_signs_stand_for(pattern: str, path: str, matches: bool) -> None:  # noqa: FBT001
    assert bool(globs.matching([pattern]).fullmatch(path)) == matches


@pytest.mark.parametrize(
    "pattern", ["", "/", "/a", "a//b", "./a", "a/../b", "a\\b", "**.md", "a**/b", "[z-a]"]
)
def test_a_glob_that_cannot_match_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"empty|relative|alone|cannot be read"):
        globs.check(pattern)


def test_braces_that_explode_are_refused() -> None:
    with pytest.raises(ValueError, match="1,000"):
        globs.check("{a,b}" * 20)


names = st.text(alphabet="ab.-", min_size=1, max_size=3).filter(lambda name: name not in {".", ".."})
paths = st.lists(names, min_size=1, max_size=4)
patterns = st.lists(names | st.sampled_from(["*", "**", "a*", "?", "[ab]"]), min_size=1, max_size=4)


@settings(deadline=None)  # the machine may be busy
@given(pattern=patterns, path=paths)
def test_no_folder_is_pruned_above_a_path_that_matches(pattern: list[str], path: list[str]) -> None:
    glob = "/".join(pattern)
    if globs.matching([glob]).fullmatch("/".join(path)):
        reaching = globs.reaching([glob])
        assert all(reaching.fullmatch("/".join(path[:depth])) for depth in range(1, len(path)))


@pytest.mark.parametrize(
    ("pattern", "folder", "reached"),
    [
        ("*.md", "a", False),
        ("a/*.md", "a", True),
        ("a/*.md", "a/b", False),
        ("a/b/**", "a/c", False),
        ("a/b/**", "a/b/c/d", True),
        ("**/*.md", "a/b", True),
        ("a*/x/**/y", "ab/x/q", True),
        ("a*/x/**/y", "b", False),
    ],
)
def test_a_folder_is_entered_where_something_below_it_could_match(
    pattern: str,
    folder: str,
    reached: bool,  # noqa: FBT001
) -> None:
    assert bool(globs.reaching([pattern]).fullmatch(folder)) == reached
