"""What archives and e-mails hold."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ParseError
from pipeline.parse import DocumentParser, ParseLimits
from pipeline.parse.contents import _sanitised
from pipeline.records import Contained, ItemRef, RawDocument
from tests.documents import archive, csv, mail, markdown, outlook, picture_of


@pytest.fixture(scope="module")
def parser() -> DocumentParser:
    return DocumentParser(processes=1)


def raw(key: str, content: bytes, media_type: str = "") -> RawDocument:
    return RawDocument(
        ref=ItemRef(source="s", key=key, version="7"),
        content=content,
        media_type=media_type,
        url="https://x.org/a",
        metadata={"team": "people"},
    )


def keys(found: Contained) -> list[str]:
    return [document.ref.key for document in found.documents]


async def test_the_files_of_an_archive_are_documents_under_its_key(parser: DocumentParser) -> None:
    outer = raw("up/a.zip", archive())

    found = await parser.children(outer)

    assert keys(found) == ["up/a.zip!/people/leave.md", "up/a.zip!/rates.csv"]
    leave = found.documents[0]
    assert (leave.content, leave.ref.version, leave.ref.source) == (markdown(), "7", "s")
    assert (leave.url, leave.metadata, leave.ref.size) == (
        "https://x.org/a",
        {"team": "people"},
        len(markdown()),
    )
    document = await parser.parse(leave)
    assert (document.title, document.media_type) == ("Travel", "text/markdown")
    assert (await parser.parse(outer)).text == ""


async def test_attachments_are_documents_down_to_the_innermost(parser: DocumentParser) -> None:
    inner = mail(("rates.csv", csv()), ("deep.zip", archive()))

    found = await parser.children(raw("a.zip", archive(("mails/one.eml", inner))))

    assert keys(found) == [
        "a.zip!/mails/one.eml",
        "a.zip!/mails/one.eml!/rates.csv",
        "a.zip!/mails/one.eml!/deep.zip!/people/leave.md",
        "a.zip!/mails/one.eml!/deep.zip!/rates.csv",
    ]
    assert found.refused == {}


async def test_containers_too_deep_in_one_another_are_refused_alone(parser: DocumentParser) -> None:
    deepest = archive(("x.md", b"# X"))
    for _ in range(3):
        deepest = archive(("y.md", b"# Y"), ("next.zip", deepest))

    found = await parser.children(raw("a.zip", deepest))

    assert keys(found) == ["a.zip!/y.md", "a.zip!/next.zip!/y.md", "a.zip!/next.zip!/next.zip!/y.md"]
    assert found.refused == {
        "a.zip!/next.zip!/next.zip!/next.zip": "is the container number 4 in one another; 3 are opened"
    }


async def test_an_outlook_message_holds_files_and_messages(parser: DocumentParser) -> None:
    inner = {
        "__properties_version1.0": bytes(24),
        "__substg1.0_0037001F": "Re: rates/2026".encode("utf-16-le"),
        "__substg1.0_1000001F": "The words inside".encode("utf-16-le"),
        "__attach_version1.0_#00000000": {
            "__substg1.0_3707001F": "deep.md".encode("utf-16-le"),
            "__substg1.0_37010102": b"# Deep",
        },
    }

    found = await parser.children(raw("a.msg", outlook(("leave.md", markdown()), inner=inner)))

    assert keys(found) == [
        "a.msg!/leave.md",
        "a.msg!/Re: rates-2026.eml",
        "a.msg!/Re: rates-2026.eml!/deep.md",
    ]
    document = await parser.parse(found.documents[1])
    assert (document.title, document.text) == ("Re: rates/2026", "The words inside")


async def test_what_is_no_document_is_left_out(parser: DocumentParser) -> None:
    picture = picture_of("x").read()
    files = [
        *(
            ("a.png", picture),
            ("noise.bin", bytes(range(256)) * 8),
            ("__MACOSX/._a.md", b"x"),
            (".hidden.md", b"x"),
        ),
        *(
            ("folder/.DS_Store", b"x"),
            ("LICENSE", b"Words"),
            ("script.py", b"print(1)"),
            ("unnamed", picture),
        ),
    ]

    assert keys(await parser.children(raw("a.zip", archive(*files)))) == [
        "a.zip!/LICENSE",
        "a.zip!/script.py",
    ]
    assert keys(await parser.children(raw("a.eml", mail(("logo.png", picture))))) == []


async def test_other_formats_hold_nothing(parser: DocumentParser) -> None:
    assert await parser.children(raw("a.md", b"# A")) == Contained(documents=())
    with pytest.raises(ParseError, match="no text"):
        await parser.children(raw("a.bin", bytes(range(256))))


async def test_no_name_leads_anywhere_else(parser: DocumentParser) -> None:
    names = [
        "../../etc/up.md",
        "/root.md",
        "C:\\win\\a.md",
        "a/./b//c.md",
        "x\ny.md",
        "in!/side.md",
        "..",
    ]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name in names:
            target.writestr(zipfile.ZipInfo(name), "# Words")

    found = await parser.children(raw("z.zip", out.getvalue()))

    assert [key.removeprefix("z.zip!/") for key in keys(found)] == [
        "etc/up.md",
        "root.md",
        "win/a.md",
        "a/b/c.md",
        "x_y.md",
        "in!_/side.md",
        "unnamed",
    ]


@given(st.text(max_size=700))
def test_a_sanitised_name_is_a_short_relative_path(name: str) -> None:
    path = _sanitised(name)

    assert 0 < len(path) <= 300
    assert path.isprintable()
    assert "!/" not in path
    assert not {"", ".", ".."} & set(path.split("/"))
    assert _sanitised(path) == path


async def test_names_that_are_the_same_are_told_apart(parser: DocumentParser) -> None:
    files = [("a.md", b"# 1"), ("./a.md", b"# 2"), ("b/../a.md", b"# 3"), ("/a.md", b"# 4")]

    found = await parser.children(raw("z.zip", archive(*files)))

    assert keys(found) == ["z.zip!/a.md", "z.zip!/a~2.md", "z.zip!/b/a.md", "z.zip!/a~3.md"]
    assert [document.content for document in found.documents] == [b"# 1", b"# 2", b"# 3", b"# 4"]


async def test_a_member_that_is_broken_is_refused_alone(parser: DocumentParser) -> None:
    content = bytearray(archive(("a.md", b"# A " * 200), ("b.md", b"# B")))
    content[36:42] = b"\xff" * 6
    locked = archive(("c.md", b"# C"), ("d.md", b"# D"))
    at = locked.rindex(b"PK\x01\x02", 0, locked.rindex(b"PK\x01\x02"))
    locked = locked[: at + 8] + struct.pack("<H", 1) + locked[at + 10 :]

    broken = await parser.children(raw("a.zip", bytes(content)))
    secret = await parser.children(raw("b.zip", locked))

    assert (keys(broken), list(broken.refused)) == (["a.zip!/b.md"], ["a.zip!/a.md"])
    assert "cannot be taken out" in broken.refused["a.zip!/a.md"]
    assert (keys(secret), secret.refused) == (["b.zip!/d.md"], {"b.zip!/c.md": "is protected by a password"})


@pytest.mark.parametrize("key", ["a.zip", "a.eml", "a.msg"])
async def test_a_container_that_is_none_is_refused(parser: DocumentParser, key: str) -> None:
    with pytest.raises(ParseError, match=rf"^{key} is no "):
        await parser.children(raw(key, b"PK\x03\x04 no such thing"))


async def test_a_container_with_too_much_in_it_is_refused_whole() -> None:
    limits = ParseLimits(contained_documents=3, contained_bytes=1_000, input_bytes=2_000)
    parser = DocumentParser(limits, processes=1)
    nested = archive(("one.zip", archive(("a.md", b"# A"), ("b.md", b"# B"))), ("two.zip", archive()))

    with pytest.raises(ParseError, match="holds more than 3 documents"):
        await parser.children(raw("a.zip", nested))
    with pytest.raises(ParseError, match="holds more than 1,000 bytes"):
        await parser.children(raw("a.zip", archive(("a.md", b"a" * 600), ("b.md", b"b" * 600))))
    with pytest.raises(ParseError, match="has 2,001 bytes; at most 2,000 are parsed"):
        await parser.children(raw("a.zip", bytes(2_001)))


async def test_a_bomb_in_an_archive_is_refused_before_it_is_inflated(parser: DocumentParser) -> None:
    bomb = archive(("bomb.txt", bytes(50_000_000)), ("a.md", b"# A"))

    found = await parser.children(raw("a.zip", bomb))

    assert keys(found) == ["a.zip!/a.md"]
    assert "more than 1,000 times as large" in found.refused["a.zip!/bomb.txt"]
