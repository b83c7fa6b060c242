from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.judge import Expected, JudgedQuestion, compared, estimate, measured, ranked
from pipeline.records import Hit


def hit(key: str, text: str = "", *, ordinal: int = 0, source: str = "handbook") -> Hit:
    return Hit(
        source=source,
        key=key,
        ordinal=ordinal,
        text=text,
        score=1.0,
        title=key,
        heading_path=(),
        page=None,
        start=0,
        end=len(text),
        url=None,
        metadata={},
    )


def asks(*expected: Expected) -> JudgedQuestion:
    return JudgedQuestion(text="?", expected=expected)


def test_a_document_takes_one_place_however_many_of_its_chunks_are_found() -> None:
    question = asks(Expected(key="b"))
    hits = [hit("a"), hit("a", ordinal=1), hit("b"), hit("a", ordinal=2), hit("b", ordinal=1)]
    assert ranked(question, hits) == ["miss handbook/a", "0"]


def test_where_a_passage_is_expected_every_chunk_takes_a_place() -> None:
    question = asks(Expected(key="a", passage="ten  seconds"))
    hits = [
        hit("a", "five seconds"),
        hit("a", "five seconds", ordinal=1),
        hit("a", "hold for ten\nseconds", ordinal=2),
    ]
    assert ranked(question, hits) == ["miss handbook/a#0", "miss handbook/a#1", "0"]


def test_a_key_of_another_source_is_a_miss_where_the_source_is_named() -> None:
    assert ranked(asks(Expected(key="a", source="wiki")), [hit("a")]) == ["miss handbook/a"]
    assert ranked(asks(Expected(key="a")), [hit("a")]) == ["0"]


def test_one_hit_may_hold_two_expected_passages() -> None:
    question = asks(Expected(key="a", passage="one"), Expected(key="a", passage="two"))
    assert ranked(question, [hit("a", "one two")]) == ["0", "1"]


def test_measures_are_those_of_the_literature() -> None:
    question = asks(Expected(key="a"), Expected(key="b"))
    ranking = ["miss x", "1", "miss y", "0"]
    found = measured([question], [ranking], ["R@2", "nDCG@10", "RR"])
    assert found["R@2"].tolist() == [0.5]
    assert found["RR"].tolist() == [0.5]
    gained = 1 / math.log2(3) + 1 / math.log2(5)
    assert math.isclose(found["nDCG@10"][0], gained / (1 + 1 / math.log2(3)))


def test_a_question_of_which_nothing_is_found_counts_as_nothing() -> None:
    questions = [asks(Expected(key="a")), asks(Expected(key="a"))]
    found = measured(questions, [[], ["0"]], ["R@10", "RR"])
    assert found["R@10"].tolist() == [0.0, 1.0]
    assert found["RR"].tolist() == [0.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_mean_lies_between_its_bounds_and_comes_out_the_same_again(values: list[float]) -> None:
    one = estimate(np.array(values))
    assert one.low - 1e-9 <= one.mean <= one.high + 1e-9
    assert one == estimate(np.array(values))


def test_a_gain_is_certain_where_every_question_gains() -> None:
    before, after = np.array([0.1, 0.9, 0.3, 0.5]), np.array([0.2, 1.0, 0.4, 0.6])
    gain = compared({"RR": after}, {"RR": before})["RR"]
    assert gain.low > 0
    assert math.isclose(gain.mean, 0.1)
    none = compared({"RR": before[::-1]}, {"RR": before})["RR"]
    assert none.low < 0 < none.high
