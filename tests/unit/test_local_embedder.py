from __future__ import annotations

import hashlib
import subprocess
import sys

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.embedders import _lexical
from pipeline.embedders.local import LocalEmbedder, codes
from pipeline.errors import ServiceRefused
from pipeline.protocols import Embedder
from pipeline.records import Chunk, EmbedGroup, EmbedRequest, Vector

PUMP = "It must be cleaned every week and its filter replaced once a year."
PASSAGES = (
    "The pump moves water from the tank to the boiler. It is driven by an electric motor.",
    PUMP,
    "Employees may take twenty-five days of paid leave; unused days expire in March.",
    "Die Kündigungsfrist beträgt drei Monate zum Quartalsende.",
    "水泵每周必须清洗一次，过滤器每年更换一次。",
)


def group(*texts: str, title: str = "", headings: tuple[str, ...] = ()) -> EmbedGroup:
    chunks = []
    start = 0
    for ordinal, text in enumerate(texts):
        chunks.append(
            Chunk(
                ordinal=ordinal,
                start=start,
                end=start + len(text),
                text=text,
                tokens=len(text) // 4 + 1,
                heading_path=headings,
            )
        )
        start += len(text)
    return EmbedGroup(title=title, chunks=tuple(chunks))


def cosine(one: Vector, other: Vector) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.fixture(scope="module")
def embedder() -> LocalEmbedder:
    return LocalEmbedder()


async def vectors_of(embedder: LocalEmbedder, *groups: EmbedGroup) -> tuple[np.ndarray, ...]:
    return (await embedder.embed(EmbedRequest(groups=groups))).vectors


async def test_each_group_gets_a_row_of_codes_for_each_chunk(embedder: LocalEmbedder) -> None:
    conforming: Embedder = embedder
    request = EmbedRequest(groups=(group(*PASSAGES), group(PUMP)))
    reply = await conforming.embed(request)
    assert [array.shape for array in reply.vectors] == [(len(PASSAGES), 1024), (1, 1024)]
    assert all(array.dtype == np.int8 for array in reply.vectors)
    assert reply.tokens == request.tokens
    assert reply.cost_usd == 0
    question = await conforming.embed_query("How often is the pump cleaned?")
    assert question.shape == (1024,)
    assert question.dtype == np.int8
    assert conforming.space.dimensions == 1024


async def test_without_context_only_the_passage_itself_counts() -> None:
    alone = LocalEmbedder(contextual=False)
    [[one]] = await vectors_of(alone, group(PUMP, title="Pumps", headings=("Care",)))
    [both] = await vectors_of(alone, group(*PASSAGES))
    assert (one == both[1]).all()
    assert alone.limits.group_chunks == 1
    assert list(alone.reads(group(PUMP))) != list(LocalEmbedder().reads(group(PUMP)))


async def test_codes_use_the_whole_range_and_leave_out_minus_128(embedder: LocalEmbedder) -> None:
    for array in await vectors_of(embedder, group(*PASSAGES), group(PUMP, title="Pump")):
        assert (np.abs(array.astype(int)).max(axis=1) == 127).all()
        assert array.min() >= -127


async def test_cosine_survives_the_rounding_to_codes(embedder: LocalEmbedder) -> None:
    groups = [group(*PASSAGES, title="Handbook"), group(*reversed(PASSAGES)), group(PUMP)]
    floats = np.vstack(embedder.floats(groups))
    rounded = np.vstack(await vectors_of(embedder, *groups))
    assert np.allclose(np.linalg.norm(floats, axis=1), 1, atol=1e-5)
    for i in range(len(floats)):
        for j in range(len(floats)):
            assert cosine(rounded[i], rounded[j]) == pytest.approx(float(floats[i] @ floats[j]), abs=0.01)


async def test_a_groups_codes_do_not_depend_on_what_else_is_in_the_request(embedder: LocalEmbedder) -> None:
    words = [word for passage in PASSAGES for word in passage.split()]
    rng = np.random.default_rng(7)
    groups = [
        group(
            *(" ".join(rng.choice(words, size=rng.integers(1, 120))) for _ in range(rng.integers(1, 12))),
            title=" ".join(rng.choice(words, size=2)),
        )
        for _ in range(60)
    ]
    together = await vectors_of(embedder, *groups)
    backwards = (await vectors_of(embedder, *reversed(groups)))[::-1]
    for one, here, there in zip(groups, together, backwards, strict=True):
        (alone,) = await vectors_of(embedder, one)
        assert np.array_equal(alone, here)
        assert np.array_equal(alone, there)


async def test_another_process_gives_the_same_codes(embedder: LocalEmbedder) -> None:
    program = (
        "import hashlib, sys, anyio; from pipeline.embedders.local import LocalEmbedder as E;"
        "print(hashlib.sha256(anyio.run(E().embed_query, sys.argv[1])).hexdigest())"
    )
    for seed in ("0", "1"):
        ran = await anyio.run_process(
            [sys.executable, "-c", program, PUMP],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONUTF8": "1"},
        )
        here = hashlib.sha256((await embedder.embed_query(PUMP)).tobytes()).hexdigest()
        assert ran.stdout.decode().strip() == here


def test_neither_the_module_nor_its_making_imports_wordllama_or_a_hub() -> None:
    program = (
        "import sys; from pipeline.embedders.local import LocalEmbedder; LocalEmbedder();"
        "print(sorted({'wordllama', 'huggingface_hub', 'httpx', 'lancedb', 'prefect'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert ran.stdout.strip() == "[]"


async def test_the_same_chunk_in_another_document_has_another_vector(embedder: LocalEmbedder) -> None:
    one, other, titled, below = await vectors_of(
        embedder,
        group(PASSAGES[0], PUMP),
        group(PUMP, PASSAGES[2]),
        group(PASSAGES[0], PUMP, title="Coffee machine"),
        group(PASSAGES[0], PUMP, headings=("Maintenance",)),
    )
    assert not np.array_equal(one[1], other[0])
    assert not np.array_equal(one[1], titled[1])
    assert not np.array_equal(one[1], below[1])


async def test_an_edited_chunk_changes_its_neighbours_vectors(embedder: LocalEmbedder) -> None:
    before, after = await vectors_of(
        embedder, group(*PASSAGES), group(PASSAGES[0] + " It is loud.", *PASSAGES[1:])
    )
    for old, new in zip(before, after, strict=True):
        assert not np.array_equal(old, new)


async def test_a_question_that_names_a_document_prefers_its_chunk(embedder: LocalEmbedder) -> None:
    coffee, air = await vectors_of(
        embedder,
        group("It stands in the kitchen.", PUMP, title="Coffee machine"),
        group("It hangs below the ceiling.", PUMP, title="Air conditioning"),
    )
    about_coffee = await embedder.embed_query("How often is the coffee machine's filter replaced?")
    about_air = await embedder.embed_query("How often is the air conditioning's filter replaced?")
    assert cosine(about_coffee, coffee[1]) > cosine(about_coffee, air[1]) + 0.05
    assert cosine(about_air, air[1]) > cosine(about_air, coffee[1]) + 0.05
    assert cosine(about_coffee, coffee[1]) > cosine(about_coffee, coffee[0])


async def test_a_question_in_other_words_finds_its_passage(embedder: LocalEmbedder) -> None:
    passages = (
        "The physician examined the patient and wrote a prescription.",
        "The vehicle's engine would not start on the cold morning.",
        "Our bakery sells bread, cake and pastries.",
    )
    (vectors,) = await vectors_of(embedder, group(*passages))
    for place, question in enumerate(("a doctor in a hospital", "car motor trouble", "where to buy a loaf")):
        asked = await embedder.embed_query(question)
        assert np.argmax([cosine(asked, vector) for vector in vectors]) == place


async def test_a_chinese_question_finds_its_passage(embedder: LocalEmbedder) -> None:
    (vectors,) = await vectors_of(
        embedder,
        group("员工每年有二十五天带薪休假。", "水泵每周必须清洗一次。", "合同的终止通知期为三个月。"),
    )
    for place, question in enumerate(("员工有几天休假", "水泵清洗", "合同终止")):
        asked = await embedder.embed_query(question)
        assert np.argmax([cosine(asked, vector) for vector in vectors]) == place


@pytest.mark.parametrize(
    "text",
    [
        *("...", "😀", "|---|---|", "\x00", "\ud800", "a\udfff\x00b", "\u200b", "<|endoftext|>", "<s>"),
        *("𠀀𠀁", "ﬁ", "İ", "\U0010ffff", "﷽" * 9, "e\u0301" * 50, "_" * 99, "1" * 99),
        *("x" * 1_000_000, "漢" * 10_000, " " * 100_000 + "end"),
    ],
    ids=lambda text: ascii(text[:12]),
)
async def test_any_text_has_a_vector_and_always_the_same(embedder: LocalEmbedder, text: str) -> None:
    first = await vectors_of(embedder, group(text), group(text, PUMP, title=text, headings=(text,)))
    again = await vectors_of(embedder, group(text), group(text, PUMP, title=text, headings=(text,)))
    asked = await embedder.embed_query(text)
    assert asked.any()
    for one, other in zip(first, again, strict=True):
        assert one.any(axis=1).all()
        assert np.array_equal(one, other)


async def test_an_empty_question_has_a_vector(embedder: LocalEmbedder) -> None:
    assert (await embedder.embed_query("")).any()


async def test_a_request_without_groups_gives_nothing(embedder: LocalEmbedder) -> None:
    assert (await embedder.embed(EmbedRequest(groups=()))).vectors == ()


async def test_a_chunk_without_words_is_placed_by_its_context(embedder: LocalEmbedder) -> None:
    (vectors,) = await vectors_of(embedder, group("|---|---|", PUMP, title="Coffee machine"))
    asked = await embedder.embed_query("coffee machine")
    assert cosine(asked, vectors[0]) > 0.3


def test_what_it_reads_tells_groups_apart_that_join_alike(embedder: LocalEmbedder) -> None:
    def reading(title: str, *chunks: tuple[tuple[str, ...], str]) -> tuple[str, ...]:
        return tuple(
            embedder.reads(
                EmbedGroup(
                    title=title,
                    chunks=tuple(
                        Chunk(
                            ordinal=i,
                            start=0,
                            end=len(text),
                            text=text,
                            tokens=1,
                            heading_path=headings,
                            page=i,
                        )
                        for i, (headings, text) in enumerate(chunks)
                    ),
                )
            )
        )

    assert len({
        reading("a", (("b",), "c")),
        reading("a", ((), "b"), ((), "c")),
        reading("a", (("b", "c"), "d")),
        reading("a", (("b",), "c"), ((), "d")),
        reading("a", ((), "b"), (("c",), "d")),
        reading("b", (("b",), "c")),
    }) == 6  # fmt: skip


def test_where_the_weights_are_missing_it_says_which_package_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ServiceRefused, match="wordllama"):
        LocalEmbedder()


def test_words_are_runs_of_letters_signs_and_east_asian_pairs() -> None:
    assert _lexical.words("The snake_case, THE ﬁle… 😀") == {
        "the": 2,
        "snake": 1,
        "case": 1,
        "file": 1,
        "😀": 1,
    }
    assert _lexical.words("漢字テ") == {"漢": 1, "字": 1, "テ": 1, "漢字": 1, "字テ": 1}
    assert _lexical.words("한국어 물") == {"한국": 1, "국어": 1, "물": 1}


def test_a_stem_joins_the_forms_of_a_word_and_leaves_short_words() -> None:
    assert _lexical.stem("employees") == _lexical.stem("employee")
    assert _lexical.stem("borrowing") == _lexical.stem("borrowed") == "borrow"
    assert _lexical.stem("cars") == "car"
    assert (_lexical.stem("bus"), _lexical.stem("class"), _lexical.stem("die")) == ("bus", "class", "die")


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(), min_size=1, max_size=80))
def test_no_text_breaks_the_words(text: str) -> None:
    found = list(_lexical.words(text))
    buckets, signs = _lexical.features(found)
    assert buckets.shape == signs.shape == (len(found), _lexical.FEATURES)
    assert ((buckets >= 0) & (buckets < _lexical.DIMENSIONS)).all()
    assert (np.abs(signs) == 1).all()


def test_a_zero_vector_becomes_one_that_cosine_can_compare() -> None:
    assert codes(np.zeros((2, 1024), dtype=np.float32)).tolist() == [[1] * 1024] * 2
