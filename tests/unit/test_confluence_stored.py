"""A Confluence page as it is stored becomes HTML of what its authors wrote."""

from __future__ import annotations

import time

import pytest

from connectors.confluence.stored import html


def macro(name: str, body: str = "", **parameters: str) -> str:
    given = "".join(
        f'<ac:parameter ac:name="{key}">{told}</ac:parameter>' for key, told in parameters.items()
    )
    return f'<ac:structured-macro ac:name="{name}" ac:schema-version="1">{given}{body}</ac:structured-macro>'


def rich(body: str) -> str:
    return f"<ac:rich-text-body>{body}</ac:rich-text-body>"


def plain(text: str, of: str = "text") -> str:
    return f"<ac:plain-{of}-body><![CDATA[{text}]]></ac:plain-{of}-body>"


PAGE = '<ri:page ri:space-key="HB" ri:content-title="Leave &amp; pay" />'
PANEL = (
    '<ac:adf-extension><ac:adf-node type="panel"><ac:adf-attribute key="panel-type">note</ac:adf-attribute>'
    "<ac:adf-content><p>once</p></ac:adf-content></ac:adf-node>"
    "<ac:adf-fallback><p>once</p></ac:adf-fallback></ac:adf-extension>"
)
TASKS = (
    "<ac:task-list><ac:task><ac:task-id>1</ac:task-id><ac:task-status>incomplete</ac:task-status>"
    "<ac:task-body>buy <b>milk</b></ac:task-body></ac:task></ac:task-list>"
)


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        ("<h1>A</h1><p>b &amp; c<br /></p>", "<h1>A</h1><p>b &amp; c<br /></p>"),
        (macro("code", plain("if a < b: f('<p>')"), language="py"), "<pre>if a &lt; b: f('&lt;p&gt;')</pre>"),
        (macro("code", plain("a]]]]><![CDATA[>b")), "<pre>a]]&gt;b</pre>"),
        (macro("code", plain("</ac:parameter>")), "<pre>&lt;/ac:parameter&gt;</pre>"),
        (macro("panel", rich("<p>kept</p>"), title="Note", bgColor="red"), "Note <p>kept</p>"),
        ('<ac:parameter ac:name="x" /><p>kept</p>' + macro("anchor", title="t"), "<p>kept</p>t "),
        (macro("jira", key="ABC-1", serverId="7f"), "ABC-1 "),
        (rich(f"<p>a</p>{rich('<p>b</p>')}<p>c</p>"), "<p>a</p><p>b</p><p>c</p>"),
        (f"<ac:link>{PAGE}</ac:link>", "Leave &amp; pay"),
        ('<ac:link><ri:page ri:content-title="a > b" /></ac:link>, c', "a > b, c"),
        (f'<ac:link ac:anchor="a" /><ac:link>{PAGE}{plain("words", "text-link")}</ac:link>', "words"),
        (f"<ac:link>{PAGE}<ac:link-body><b>x</b></ac:link-body></ac:link>", "<b>x</b>"),
        ('<ac:link><ri:user ri:account-id="5b" /></ac:link>', ""),
        ('<p>by <time datetime="2026-01-02" /></p>', "<p>by 2026-01-02</p>"),
        (TASKS, "<ul><li>buy <b>milk</b></li></ul>"),
        (PANEL, "<p>once</p>"),
    ],
)
def test_what_authors_wrote_is_kept(storage: str, expected: str) -> None:
    assert html(storage) == expected


@pytest.mark.parametrize(
    "name", ["include", "excerpt-include", "detailssummary", "children", "contentbylabel"]
)
def test_a_macro_that_takes_from_elsewhere_leaves_nothing(name: str) -> None:
    link = f"<ac:link>{PAGE}</ac:link>"
    assert html(f"<p>a</p>{macro(name, page=link, label='x', excerpt='true')}<p>b</p>") == "<p>a</p><p>b</p>"


@pytest.mark.parametrize(
    "piece", ["<![CDATA[", "<ac:link>", "</ac:link>", '<ac:parameter ac:name="a">', "<time ", '<a b="']
)
def test_what_is_not_well_formed_takes_no_longer(piece: str) -> None:
    began = time.perf_counter()
    html(piece * 50_000)
    assert time.perf_counter() - began < 2
