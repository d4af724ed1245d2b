"""A page that would ask the network for anything is not embedded, whichever way it asks; pages that do not are."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbkit.tools.report.embedded import content_policy, script_hashes, without_calls, without_requests

FAR = "https://example.org/x"
ELEMENTS = {
    "img": "src srcset lowsrc dynsrc", "script": "src", "iframe": "src", "frame": "src", "embed": "src code",
    "audio": "src", "video": "src poster", "source": "src srcset", "track": "src", "input": "src formaction",
    "link": "href imagesrcset", "object": "data archive codebase classid", "form": "action",
    "button": "formaction", "a": "ping", "area": "ping",
    "body": "background", "table": "background", "td": "background", "html": "manifest", "base": "href",
    "image": "href", "use": "href xlink:href", "feimage": "href xlink:href", "applet": "code archive codebase",
    "head": "profile", "textpath": "href", "pattern": "href", "bgsound": "src", "portal": "src",
}  # fmt: skip
ADDRESSES = (FAR, "//example.org/x", "x.png", "/x", " \n" + FAR, "HTTPS://EXAMPLE.ORG", "ht\ntps://example.org", "ftp://a/b",
             "ws://example.org", "file:///etc/passwd", "../x")  # fmt: skip
HARMLESS = ("data:image/png;base64,AAAA", "#here", "about:blank", "", "blob:null/1")
STYLES = (
    "background: url({})", "background: url( '{}' )", 'background: URL("{}")', "@import '{}';", "@import url({});",
    '@import\n"{}" screen;', "@font-face {{ src: url({}) }}", "background: image-set('{}' 1x)", "cursor: url({}), auto",
    "background: u\\72l({})", "background: ur/**/l({})", "list-style: url({})", "mask: url({}#a)", "content: src('{}')",
)  # fmt: skip
RELATIONS = ("stylesheet", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload", "prerender", "next")
WAYS = {
    **{f"{tag} {name}": f'<{tag} {name}="{{}}">' for tag, names in ELEMENTS.items() for name in names.split()},
    **{f"link {rel}": f'<link rel="{rel}" href="{{}}">' for rel in RELATIONS},
    **{f"style {n}": f"<style>p {{{{ }}}} {style}</style>" for n, style in enumerate(STYLES)},
    **{f"style attribute {n}": f"<p style=\"{style.replace(chr(34), chr(39))}\">" for n, style in enumerate(STYLES)
       if "import" not in style and "{{" not in style},
    "SVG fill": '<svg><rect fill="url({}#a)"/></svg>', "SVG filter": '<svg><g filter="url({})"/></svg>',
    "SVG script": '<svg><script href="{}"></script></svg>',
    "SVG animation": '<svg><set attributeName="href" to="{}"/></svg>',
    "refresh": '<meta http-equiv="refresh" content="0; url={}">',
    "refresh 2": "<META HTTP-EQUIV=Refresh CONTENT=\"1;URL='{}'\">",
    "srcset of two": '<img srcset="data:a;base64,AA 1x, {} 2x">', "no quotes": "<img src={}>",
    "capitals": "<IMG SRC='{}'>",
    "unclosed": "<img src='{}'", "srcdoc": "<iframe srcdoc='&lt;img src=&quot;{}&quot;&gt;'></iframe>",
    "second source": '<video><source src="{}"></video>', "after a comment": "<!-- a --><img src='{}'>",
    "an empty comment": "<!--><img src='{}'>-->", "an empty comment 2": "<!---><img src='{}'>-->",
    "a comment that ends oddly": "<!-- --!><img src='{}'>-->", "CDATA": "<![CDATA[><img src='{}'>]]>",
    "a style that does not end": "<style>a {{{{ }}}} p {{{{ background: url({})",
    "style after the second address": "<style>p {{{{ background: image-set('data:,' 1x, '{}' 2x)",
    "style with a type": "<style>p {{{{ background: image-set('data:,' type('image/png') 1x, \"{}\" 2x) }}}}</style>",
    "refresh without url": '<meta http-equiv="refresh" content="0;{}">',
    "refresh after a comma": '<meta http-equiv="refresh" content="3, {}">',
    **{f"{inner} in {outer}": f"<{outer}><{inner}></{outer}><img src='{{}}'></{inner}>"
       for outer in ("title", "textarea", "iframe", "noframes", "noembed", "xmp") for inner in ("style", "script")},
    **{f"after the end of {tag}, {n}": f"<{tag}>a</{tag}{end}><img src='{{}}'>"
       for tag in ("style", "script", "title", "textarea") for n, end in enumerate((" ", " x", "/", " x='>'", "\n'"))},
    **{f"{tag} in {outer}": f"<{outer}><{tag}><img src='{{}}'></{tag}></{outer}>"
       for outer in ("svg", "math") for tag in ("style", "title", "script")},
    "a style variable": "<style>p {{{{ --a: '{}'; background: image-set(var(--a) 1x) }}}}</style>",
    "a variable of src": "<style>p {{{{ --a: '{}'; background: src(var(--a)) }}}}</style>",
    "noscript and a style": "<noscript><style></noscript><img src='{}'></style>",
    "noscript and a comment": "<noscript><!--</noscript><img src='{}'>-->",
    "noscript as markup": "<noscript><img src='{}'></noscript>",
    "select and a style": "<select><style></select><img src='{}'></style>",
    "select and a title": "<select><title></select><img src='{}'></title>",
    **{f"in {outer} after the end of {other}": f"<{outer}></{other}><title><img src='{{}}'></title></{outer}>"
       for outer, other in (("svg", "math"), ("math", "svg"), ("svg", "p"))},
    "after an end that does not count": "<svg><desc></svg></desc><title><img src='{}'></title></svg>",
    "a page in data": "<iframe src=\"data:text/html,<img src='{}'>\"></iframe>",
    "a page in encoded data": "<iframe src=\"data:text/html,%3Cimg src='{}'%3E\"></iframe>",
    "a page in a script's address": "<iframe src=\"javascript:'<img src={}>'\"></iframe>",
    "a drawing in data": "<object data=\"data:image/svg+xml,<svg><image href='{}'/></svg>\"></object>",
    "a sheet in data": "<link rel=stylesheet href=\"data:text/css,@import '{}';\">",
    "in a table": "<table><tr><td><img src='{}'></table>", "after a script": "<script>1</script><img src='{}'>",
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_asking_is_seen(way):
    quoted = way in ("no quotes", "a page in a script's address") or way.startswith("style")
    for address in (FAR, "//example.org/x", "x.png") if quoted else ADDRESSES:
        page = WAYS[way].format(address)
        if way == "unclosed":
            page += ">"
        _, asks = without_requests(f"<!doctype html><p>{page}")
        assert asks, page


@pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith("refresh")])
def test_what_lies_in_the_page_itself_is_no_request(way):
    if "variable" in way:
        return  # whatever it holds
    for address in HARMLESS if way != "srcset of two" else HARMLESS[:1]:
        assert without_requests(WAYS[way].format(address))[1] == [], (way, address)


def test_text_that_no_browser_reads_as_markup_is_no_request():
    for tag in ("title", "textarea", "script", "iframe", "noframes"):
        assert without_requests(f"<{tag}><img src='{FAR}'></{tag}><p>a")[1] == [], tag
    page = f"<!-- <img src='{FAR}'> --><svg><rect/></svg><script>var a = \"<img src='{FAR}'>\"</script>"
    assert without_requests(page)[1] == []
    assert without_requests("<style>p { background: image-set('data:,' type('image/png') 1x) }</style>")[1] == []


@pytest.mark.parametrize("part", ["<svg><title>", "<math><style>", "<!--><svg><xmp>"])
def test_a_page_that_is_nested_without_end_is_left_out(part):
    assert "what is nested too deeply to be read" in without_requests(part * 3000)[1]


def test_links_that_a_person_follows_and_text_are_no_requests():
    page = f'<a href="{FAR}">there</a><p>url({FAR})</p><script>var a = "url({FAR})"</script><!-- <img src="{FAR}"> -->'
    assert without_requests(page) == (page, [])


def test_an_icon_is_taken_out_and_a_repeated_attribute_counts_as_in_a_browser():
    html, asks = without_requests(f'<link rel="shortcut icon" href="{FAR}"><p>a')
    assert (html, asks) == ("<p>a", [])
    assert without_requests(f'<img src="{FAR}" src="data:,">')[1] == [FAR]
    assert without_requests(f'<img src="data:," src="{FAR}">')[1] == []


@pytest.mark.parametrize("prefix", ["", "webkit", "moz"])
@pytest.mark.parametrize(
    "page", ["<script>new {}()</script>", "<svg><script>{}</script></svg>", "<p onclick='new {}()'>"]
)
def test_a_script_that_speaks_to_other_machines_by_itself_is_named(page, prefix):
    assert f"{prefix}RTCPeerConnection" in without_requests(page.format(f"{prefix}RTCPeerConnection"))[1]


def test_a_page_with_scripts_loses_what_reaches_other_machines_past_the_policy():
    for before in ("", "<!doctype html>", "\n<!-- a --><!DOCTYPE html>"):
        page = f"{before}<html><script>1</script>"
        assert without_calls(page).startswith(f"{before}<script>for (const kind"), "a doctype stays the first"
        assert len(script_hashes(without_calls(page))) == 2
    assert without_calls("<p>no script") == "<p>no script"


def test_a_page_in_base64_is_read():
    inside = base64.b64encode(f"<img src='{FAR}'>".encode()).decode()
    for data in (f"data:text/html;base64,{inside}", f"data:text/html;base64,{inside.rstrip('=')}"):
        assert FAR in without_requests(f'<iframe src="{data}"></iframe>')[1]


REPEATED = {
    "open comments": "<!--", "open attributes": '<p a="', "open sections": "<![CDATA[", "open tags": "<p ",
    "open ends": "</p ", "ends of a style": "<style>|</style ", "open instructions": "<?a ", "open types": "<!a ",
    "commas": '<img srcset="|, |">', "digits": '<img srcset="|1|">', "sizes": '<img srcset="|1,|">',
    "comments of a style": "<style>|/*|</style>", "types": "<style>image-set(|type( |</style>", "drawings": "<svg>",
    "ends of drawings": "<svg><desc>|</svg>", "spaces of a refresh": "<meta http-equiv=refresh content='| |'>",
    "comments in data": '<iframe src="data:text/html,|<!--|">', "icons": "<link rel=icon href=x>",
}  # fmt: skip


@pytest.mark.parametrize("name", REPEATED)
def test_the_time_to_read_a_page_grows_no_faster_than_the_page(name):
    parts = REPEATED[name].split("|")
    first, part, last = {1: ("", *parts, ""), 2: (*parts, ""), 3: tuple(parts)}[len(parts)]

    def seconds(times: int) -> float:
        page, began = first + part * times + last, time.process_time()
        html, _ = without_requests(page)
        content_policy([html])
        return time.process_time() - began

    seconds(200)
    assert seconds(32_000) < 40 * max(seconds(4_000), 0.02)


@given(st.text("<>/='\" aimgsrctyleu()@#:;\\&\0\n", max_size=80))
def test_a_page_of_any_text_is_read(text):
    html, asks = without_requests(text)
    assert isinstance(html, str) and all(isinstance(ask, str) for ask in asks)
    assert len(script_hashes(html)) >= 0 and "default-src 'none'" in content_policy([html])
