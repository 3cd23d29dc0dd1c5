"""The entries for frameworks: the examples of the documentation, bundled and run in a browser.

Each example shows the posts of a blog that the reader chooses, and all of them are put through the same course.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page

from tests.browser.scripted_server import Line, ScriptedServer, until
from tests.docs.blocks import Block, find_blocks
from tests.json_types import JSONObject
from tests.npm.tools import NpmError, Tools

PAGE = """<!doctype html><title>Posts</title><link rel=icon href='data:,'>
<div id=app></div><script type=module src=/app.js></script>"""
#: The examples, by the suffix of their file.
BLOCKS = {
    Path(block.file_name).suffix.removeprefix("."): block
    for block in find_blocks()
    if block.page == "docs/howto/frameworks.md" and block.file_name
}
#: The entry file that shows a component, by the kind of the example. An example in JSX shows itself.
ENTRIES = {
    "jsx": "import './posts.jsx';",
    "vue": "import { createApp } from 'vue'; import Posts from './Posts.vue';"
    "window.app = createApp(Posts); app.mount('#app');",
    "svelte": "import { mount, unmount } from 'svelte'; import Posts from './Posts.svelte';"
    "const shown = mount(Posts, { target: document.getElementById('app') });"
    "window.app = { unmount: () => unmount(shown) };",
}
Show = Callable[[str, str], ScriptedServer]


def bundle(tools: Tools, packed: Path, folder: Path, files: dict[str, str], entry: str) -> str:
    """Bundle an entry file with the packed package and the frameworks; return the code."""
    if not (folder / "node_modules").exists():
        tools.link_modules(folder)
        # The frameworks are found from the packed package, because both lie in one folder.
        shutil.copytree(packed, folder / "node_modules/declbind")
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "entry.js").write_text(entry)
    shutil.copy(Path(__file__).with_name("bundle.mjs"), folder)
    tools.node.run("bundle.mjs", "entry.js", "app.js", cwd=folder)
    return (folder / "app.js").read_text()


def serve_static(code: str) -> str:
    """Return a template with the addresses of its static files, as the scripted server has them."""
    page, count = re.subn(r"\{% static '(?:declbind/)?([\w.]+)' %\}", r"/\1", code)
    assert count == 3
    return "<!doctype html><title>Posts</title><link rel=icon href='data:,'>" + page


def read_alpine(tools: Tools) -> str:
    return (tools.modules / "alpinejs/dist/cdn.js").read_text()


@pytest.fixture
def show(tools: Tools, packed: Path, page: Page, tmp_path: Path) -> Iterator[Show]:
    """Return a function that opens a page with an example, given as its kind and code."""
    servers = []

    def run(kind: str, code: str) -> ScriptedServer:
        if kind == "html":
            servers.append(ScriptedServer(serve_static(code), {"/alpinejs.js": read_alpine(tools)}))
            page.goto(f"http://127.0.0.1:{servers[-1].port}/")
            return servers[-1]
        app = bundle(tools, packed, tmp_path, {BLOCKS[kind].file_name: code}, ENTRIES[kind])
        servers.append(ScriptedServer(PAGE, {"/app.js": app}))
        page.goto(f"http://127.0.0.1:{servers[-1].port}/")
        return servers[-1]

    yield run
    page.goto("about:blank")
    for server in servers:
        server.stop()


def read_all(line: Line, count: int) -> list[JSONObject]:
    """Return some requests, those that end something first."""
    return sorted(
        (line.read() for _ in range(count)), key=lambda request: request["payload"]["action"] != "unsubscribe"
    )


def shows(page: Page, *titles: str) -> None:
    """Wait until the page lists these posts."""
    texts = "[...document.querySelectorAll('li')].map((item) => item.textContent.replace('Delete', '').trim())"
    until(page, f"JSON.stringify({texts}) === {json.dumps(json.dumps(titles, separators=(',', ':')))}")


def take_course(page: Page, server: ScriptedServer) -> Line:
    """Check that an example draws the rows, follows changes and the reader's choice, writes, and says what is wrong."""
    line = server.next_line()
    payload = line.accept(7)
    assert (payload["params"], payload["snapshot"]) == ({"blog_id": 3}, True)
    line.snapshot(7, {1: {"title": "First"}, 2: {"title": "Second"}})
    shows(page, "First", "Second")
    until(page, "document.querySelector('output').textContent === 'live'")
    assert line.silent(), "a second subscription or write"

    page.evaluate("() => { window.second = document.querySelectorAll('li')[1]; }")
    line.change(8, "update", 1, {"title": "Better"})
    line.change(9, "create", 3, {"title": "Third"})
    shows(page, "Better", "Second", "Third")
    assert page.evaluate("second === document.querySelectorAll('li')[1]"), "an unchanged row was drawn anew"

    page.click("li button")
    request = line.read()
    assert (request["payload"]["action"], request["payload"]["pk"]) == ("delete", 1)
    line.reply(request, pk=1)
    line.change(10, "delete", 1, {})
    shows(page, "Second", "Third")

    page.select_option("select", "4")
    ended, begun = read_all(line, 2)
    assert (ended["payload"]["params"], begun["payload"]["params"]) == ({"blog_id": 3}, {"blog_id": 4})
    shows(page)
    line.reply(begun, group="blog-4", epoch="e1", offset=10, resume="proof")
    objects = [{"pk": 9, "data": {"title": "Other"}}]
    line.tagged(10, {"action": "snapshot", "model": "m", "objects": objects, "final": True}, group="blog-4")
    shows(page, "Other")

    line.cut()
    until(page, "document.querySelector('ul').className.split(' ')[0] === 'stale'")
    line = server.next_line()
    line.accept(10, group="blog-4")
    until(page, "document.querySelector('ul').className.split(' ')[0] === 'live'")
    line.tagged(11, {"action": "closed", "reason": "permission"}, group="blog-4")
    until(page, "document.querySelector('[role=alert]')?.textContent === 'The subscription ended: permission.'")
    return line


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_example_is_live(page: Page, show: Show, kind: str) -> None:
    """React runs in its strict mode, which mounts each component twice, and asks once."""
    take_course(page, show(kind, BLOCKS[kind].code))


@pytest.mark.parametrize("kind", ["vue", "svelte"])
def test_a_component_that_is_removed_ends_its_subscription(page: Page, show: Show, kind: str) -> None:
    """The listeners of the client's state go, too."""
    server = show(kind, watched(BLOCKS[kind].code))
    line = server.next_line()
    line.accept(7)
    line.snapshot(7, {1: {"title": "First"}})
    shows(page, "First")
    assert page.evaluate("listeners") == 1
    page.evaluate("app.unmount()")
    assert line.read()["payload"]["action"] == "unsubscribe"
    assert page.evaluate("listeners") == 0


def test_an_element_of_alpine_that_is_removed_ends_its_subscription(page: Page, show: Show) -> None:
    server = show("html", BLOCKS["html"].code)
    line = server.next_line()
    line.accept(7)
    line.snapshot(7, {1: {"title": "First"}})
    shows(page, "First")
    page.evaluate("document.querySelector('section').remove()")
    assert line.read()["payload"]["action"] == "unsubscribe"
    page.evaluate("Alpine.$data(document.querySelector('main')).blog = 4")
    assert line.silent()


def test_a_form_of_alpine_cannot_change_the_rows_of_others(page: Page, show: Show) -> None:
    """A component has copies: what is typed into a form is not in the client's rows."""
    code = BLOCKS["html"].code.replace("const client =", "const client = window.client =")
    line = show("html", code).next_line()
    line.accept(7)
    line.snapshot(7, {1: {"title": "First"}})
    shows(page, "First")
    page.evaluate("() => { window.other = client.stream('posts').subscribe({ blog_id: 3 }); }")
    page.evaluate("Alpine.$data(document.querySelector('section')).rows[0][1].title = 'Typed'")
    shows(page, "Typed")
    assert page.evaluate("other.rows.get(1).title") == "First"


def test_a_component_of_react_that_is_removed_ends_its_subscription(page: Page, show: Show) -> None:
    code = watched(BLOCKS["jsx"].code)
    assert "createRoot(document.getElementById('app')).render(" in code
    code = code.replace("createRoot(document", "window.app = createRoot(document").replace(
        ".render(\n", ";\nwindow.app.render(\n"
    )
    server = show("jsx", code)
    line = server.next_line()
    line.accept(7)
    line.snapshot(7, {1: {"title": "First"}})
    shows(page, "First")
    assert page.evaluate("listeners") == 1
    page.evaluate("app.unmount()")
    assert line.read()["payload"]["action"] == "unsubscribe"
    assert page.evaluate("listeners") == 0


def watched(code: str) -> str:
    """Return an example that counts the listeners of its client's state."""
    count = """
const client = connect();
window.listeners = 0;
for (const [name, step] of [['addEventListener', 1], ['removeEventListener', -1]]) {
  const original = client[name];
  client[name] = (type, listener) => {
    window.listeners += step;
    original.call(client, type, listener);
  };
}
"""
    assert "const client = connect();" in code
    return code.replace("const client = connect();", count, 1)


# Controls ---------------------------------------------------------------------------------------------------

#: How an example goes wrong: its kind, what is replaced, and where the course stops.
FAULTS = {
    "a subscription for each drawing": (
        "jsx", "if (error)", "posts.subscribe({ blog_id: blog, other: 1 }); if (error)", "payload",
    ),
    "a choice that is not followed": ("vue", "() => ({ blog_id: blog.value })", "{ blog_id: blog.value }", "read_all"),
    "a store that is not followed": ("svelte", "posts, { blog_id: blog }", "posts, { blog_id: 3 }", "read_all"),
    "rows that are drawn anew": ("vue", ':key="pk"', ':key="pk + Math.random()"', "drawn anew"),
    "params that are not a function": ("html", "() => ({ blog_id: Number(blog) })", "{ blog_id: blog }", "read_all"),
    "an error that is not shown": ("jsx", "if (error) return", "if (!state) return", "alert"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_example_fails(page: Page, show: Show, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Control: the course finds a component that subscribes too often, does not follow, or draws rows anew."""
    kind, old, new, place = FAULTS[fault]
    code = BLOCKS[kind].code
    assert old in code
    monkeypatch.setattr("tests.browser.scripted_server.WAIT", 2)
    server = show(kind, code.replace(old, new))
    with pytest.raises((AssertionError, TimeoutError, PlaywrightError)) as caught:
        take_course(page, server)
    lines = [str(entry.statement) for entry in caught.traceback]
    assert place in f"{caught.value} {lines}"


@pytest.mark.parametrize("kind", ENTRIES)
def test_an_example_that_does_not_compile_fails(tools: Tools, packed: Path, tmp_path: Path, kind: str) -> None:
    """Control: an import that the package does not have, and a syntax error."""
    block: Block = BLOCKS[kind]
    for code in (block.code.replace("from 'declbind'", "from 'declbind/none'"), block.code + "<"):
        with pytest.raises(NpmError):
            bundle(tools, packed, tmp_path, {block.file_name: code}, ENTRIES[kind])
