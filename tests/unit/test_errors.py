from __future__ import annotations

import re

import pytest

from pipeline import errors
from pipeline.errors import DocweaveError


def every_error(root: type[DocweaveError] = DocweaveError) -> list[type[DocweaveError]]:
    return [root, *(e for child in ours(root) for e in every_error(child))]


def ours(root: type[DocweaveError]) -> list[type[DocweaveError]]:
    """Its children of the module: a connector may have one of its own, to tell something to itself."""
    return [child for child in root.__subclasses__() if child.__module__ == errors.__name__]


def tree(root: type[DocweaveError] = DocweaveError, depth: int = 0) -> list[tuple[int, str]]:
    return [
        (depth, root.__name__),
        *(row for child in ours(root) for row in tree(child, depth + 1)),
    ]


def test_the_tree_in_the_docstring_is_the_tree_of_the_code() -> None:
    drawn = re.findall(r"^(    (?:  )*)([A-Z]\w+)(?: +[A-Z]+ .*)?$", errors.__doc__ or "", re.MULTILINE)
    assert [((len(indent) - 4) // 2, name) for indent, name in drawn] == tree()


@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.__name__)
def test_the_docstring_names_what_a_caller_does_next(error: type[DocweaveError]) -> None:
    if drawn := re.search(rf"^ +{error.__name__} +([A-Z]+) ", errors.__doc__ or "", re.MULTILINE):
        assert error.recovery.name == drawn[1]
