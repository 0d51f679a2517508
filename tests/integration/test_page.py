"""The page in a real browser, on real services: what a person sees, live, and that strangers' output stays text."""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
from collections.abc import Iterator
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import APIResponse, Browser, ConsoleMessage, Error, Locator, Page, Route, expect

from tests.integration.browser import LATE, SOON, chromium
from tests.integration.platform import BARE, Platform, git, wait_for
from twistedipc.builds.logs import (
    Annotation,
    Group,
    Lines,
    LogDigest,
    Progress,
    Record,
    StepEnded,
    StepStarted,
    Summary,
    encoder,
)
from twistedipc.terminal import escapes

#: What a build may write: markup, and what a terminal would obey.
OUTPUT = (
    "plain\n\x1b[32mgreen\x1b[0m \x1b[1;38;5;208morange\x1b[0m\n10%\r50%\r100%\n"
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "\x1b[2J\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\\x1b]52;c;eA==\x07\u202ereversed\n"
)
#: Requests for builds.
BUILDS = re.compile(r"/api/v1/builds\b")
MANY = (
    "i=0; while [ $i -lt 100 ]; do seq -f 'line %.0f of many, with some more text behind it' 1 1000; i=$((i+1)); done"
)
STEPS = {
    "show": "cat show.txt && mkdir dist && echo hello > dist/index.html",
    "slow": "echo begin; while [ ! -e $FILE ]; do sleep 0.05; done; echo finished",
    "many": MANY,
    "lossy": "echo begin; while [ ! -e $FILE ]; do sleep 0.05; done; echo destroyed; sleep 1; echo the end",
    "fail": "echo no; exit 3",
    "talk": f"{sys.executable} talk.py",
}
#: Says how far it is, once and again, and makes remarks; goes on when there is a file.
TALK = """
import json, os, socket, time
channel = socket.socket(socket.AF_UNIX)
channel.connect(os.environ["TWISTEDIPC_CHANNEL"])
def say(**message):
    channel.sendall(json.dumps(message).encode() + b"\\n")
def wait(name):
    while not os.path.exists(os.environ["FILE"] + name):
        time.sleep(0.05)
say(type="progress", value=0.25, label="12 of 48 <b>pages</b>")
for level in ("error", "warning", "warning"):
    say(type="annotation", level=level, message="unused import", file="src/page.ts", line=7)
wait("-more")
say(type="progress", value=0.75, label="36 of 48 pages")
say(type="annotation", level="error", message="no such page")
say(type="summary", markdown="**48 pages**")
wait("-back")
say(type="progress", value=0.1, label="once more")
wait("-end")
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a project for each thing that a build may do."""
    with Platform(tmp_path_factory.mktemp("page"), isolation=BARE) as platform:
        for name, run in STEPS.items():
            step = f"{{name = {json.dumps(name)}, run = {json.dumps(run)}}}"
            output = 'output = "dist"\n' if name == "show" else ""
            files = {".twistedipc.toml": f"[build]\nsteps = [{step}]\n{output}", "show.txt": OUTPUT, "talk.py": TALK}
            platform.add_project(
                name, platform.repository(files), publish={"static": name == "show"}, default_ref="main"
            )
        yield platform


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def window(browser: Browser) -> Page:
    """The one window: a new one costs half a second of processor time."""
    return browser.new_context(viewport={"width": 1200, "height": 800}).new_page()


@pytest.fixture
def page(window: Page) -> Iterator[Page]:
    """The window, in which nobody is signed in. What its page complains about fails the test."""
    complaints: list[str] = []

    def error(error: Error) -> None:
        complaints.append(str(error))

    def said(said: ConsoleMessage) -> None:
        if "Content Security Policy" in said.text:
            complaints.append(said.text)

    window.on("pageerror", error)
    window.on("console", said)
    window.set_default_timeout(SOON)
    yield window
    window.unroute_all(behavior="ignoreErrors")
    window.goto("about:blank")
    window.context.clear_cookies()
    window.remove_listener("pageerror", error)
    window.remove_listener("console", said)
    assert complaints == []


def signed_in(page: Page, platform: Platform, where: str = "") -> None:
    """Sign in by the address that the demo prints, then go there."""
    page.goto(f"{platform.url}/#token={platform.token}")
    expect(page.locator("#who")).to_have_text("admin")
    if where:
        page.goto(f"{platform.url}/{where}")


def numbers_of(page: Page) -> list[int]:
    """The numbers of the log's rows, as far as they are elements."""
    return [
        int(number) for number in page.locator(".log .record").evaluate_all("all => all.map((row) => row.dataset.n)")
    ]


def test_the_token_does_not_stay_in_the_address(page: Page, platform: Platform) -> None:
    signed_in(page, platform)
    assert page.url == f"{platform.url}/"
    assert page.evaluate("document.cookie") == "", "no script can read the session"
    page.reload()
    expect(page.locator("#who")).to_have_text("admin")
    page.click("#sign-out")
    expect(page.locator(".sign-in h1")).to_have_text("Sign in")
    page.reload()
    expect(page.locator(".sign-in h1")).to_have_text("Sign in")


def test_signing_in_by_hand(page: Page, platform: Platform) -> None:
    page.goto(platform.url)
    page.fill("#token", "tipc_nonsense")
    page.click(".sign-in button")
    expect(page.locator(".sign-in [role=alert]")).to_contain_text("this token is not valid")
    page.fill("#token", platform.token)
    page.click(".sign-in button")
    expect(page.locator("h1")).to_have_text("Builds")


def test_builds_come_by_themselves(page: Page, platform: Platform) -> None:
    signed_in(page, platform)
    expect(page.locator("#connection")).to_have_text("live")
    build = platform.build("fail")
    row = page.locator("tr", has_text=f"#{build}")
    expect(row.locator(".state")).to_have_text("failed", timeout=LATE)
    row.locator("a").first.click()
    expect(page.locator(".log pre", has_text=re.compile("^no$"))).to_be_visible()
    expect(page.locator("p.reason")).to_contain_text("exit code 3")
    expect(page.locator(".steps li.failed")).to_contain_text("fail")
    expect(page.locator(".log-foot .good")).to_contain_text("complete, verified")


@pytest.mark.long
def test_how_far_builds_are_is_in_their_list(page: Page, platform: Platform) -> None:
    """Live, from the ledger also after the apiserver has died, and in the end only what stays true."""
    signed_in(page, platform)
    build = platform.build("talk", parameters={"FILE": str(platform.shared / "talk")})
    row = page.locator("tr", has_text=f"#{build}")
    expect(row.locator(".share")).to_have_text("25%", timeout=LATE)
    expect(row.locator(".label")).to_have_text("12 of 48 <b>pages</b>")
    expect(row.locator(".remarked")).to_have_text(["1 error", "2 warnings"])
    assert row.locator("progress").evaluate("bar => bar.value") == 0.25
    expect(row.locator(".state")).to_have_text("running")
    page.route(BUILDS, lambda route: route.abort())  # it is told: there is nothing to be asked
    link = row.locator("a").first
    link.focus()
    (platform.shared / "talk-more").write_text("")
    expect(row.locator(".share")).to_have_text("75%")
    expect(row.locator(".remarked")).to_have_text(["2 errors", "2 warnings"])
    assert link.evaluate("link => link === document.activeElement"), "somebody was about to follow it"
    page.unroute(BUILDS)
    platform.apiserver.kill()
    expect(page.locator("#connection")).to_have_text("reconnecting")
    platform.apiserver.start()
    platform.linked()
    shown = platform.api("GET", f"/api/v1/builds/{build}")
    assert shown["progress"] == {"value": 0.75, "label": "36 of 48 pages"}
    assert shown["annotations"] == {"errors": 2, "warnings": 2, "notices": 0}
    expect(row.locator(".share")).to_have_text("75%")
    expect(page.locator("#connection")).to_have_text("live")
    page.route(BUILDS, lambda route: route.abort())
    (platform.shared / "talk-back").write_text("")
    expect(row.locator(".share")).to_have_text("10%")  # told on the new socket
    page.unroute(BUILDS)
    (platform.shared / "talk-end").write_text("")
    expect(row.locator(".state")).to_have_text("succeeded", timeout=LATE)
    expect(row.locator("progress")).to_have_count(0)
    expect(row.locator(".remarked")).to_have_text(["2 errors", "2 warnings"])
    shown = platform.api("GET", f"/api/v1/builds/{build}")
    assert shown["progress"] is None
    assert shown["attempts"][0]["summary"] == "**48 pages**"


@pytest.mark.long
def test_what_comes_while_an_answer_is_awaited_is_not_undone_by_it(page: Page, platform: Platform) -> None:
    """The list was read before the build said more, and comes after it: on a page that begins, and one that goes on."""
    build = platform.build("talk", parameters={"FILE": str(platform.shared / "late")})
    wait_for("it says how far it is", lambda: platform.api("GET", f"/api/v1/builds/{build}")["progress"])
    held: list[Route] = []
    answers: list[APIResponse] = []

    def hold(route: Route) -> None:
        answers.append(route.fetch())
        held.append(route)

    page.route(BUILDS, hold)
    told: list[str] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: told.append(str(frame))))
    signed_in(page, platform)
    expect(page.locator("#connection")).to_have_text("live")

    def hears(value: float) -> bool:
        page.wait_for_timeout(20)  # lets the events come
        return len(answers) >= 2 and any(f'"build":{build},' in each and f'"value":{value}' in each for each in told)

    wait_for("it is told what holds", lambda: hears(0.25))
    (platform.shared / "late-more").write_text("")
    wait_for("it is told what has changed", lambda: hears(0.75))
    row = page.locator("tr", has_text=f"#{build}")
    expect(row).to_have_count(0)
    for route, answer in zip(held, answers, strict=True):
        shown = next(each for each in answer.json()["builds"] if each["id"] == build)
        assert shown["progress"]["value"] == 0.25, "an old answer"
        route.fulfill(response=answer)
    page.unroute(BUILDS)
    expect(row.locator(".share")).to_have_text("75%")
    expect(row.locator(".remarked")).to_have_text(["2 errors", "2 warnings"])
    for name in ("late-back", "late-end"):
        (platform.shared / name).write_text("")
    expect(row.locator(".state")).to_have_text("succeeded", timeout=LATE)


def test_a_log_live_then_published_then_rolled_back(page: Page, platform: Platform) -> None:
    signed_in(page, platform, "#/projects/show")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator(".log-foot .good")).to_contain_text("complete, verified", timeout=LATE)
    expect(page.locator(".row .state")).to_have_text("succeeded")
    text = page.locator(".log").inner_text()
    assert "plain\ngreen orange\n100%\n" in text
    assert "10%" not in text
    # What would have been markup, a link or a command to a terminal is text, or nothing.
    assert "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">linkreversed\n" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "owned" not in page.title()
    assert page.locator(".log script, .log img, .log a").count() == 0
    assert page.locator(".log .f2").inner_text() == "green"
    assert page.locator(".log .b").evaluate("e => e.style.color") == "rgb(255, 135, 0)", "as it was written"
    assert page.get_by_role("link", name="Open the release").get_attribute("href")
    platform.succeed(platform.build("show"))
    page.goto(f"{platform.url}/#/projects/show")
    expect(page.locator(".facts", has_text="recognised in")).to_contain_text("output dist")
    page.get_by_role("link", name="Releases").click()
    page.get_by_role("button", name="Make live").first.click()
    asking = page.get_by_role("dialog")
    expect(asking).to_contain_text("becomes what users get, in the place of release")
    expect(asking).to_contain_text("0 files are new, 0 changed, 0 gone")
    asking.get_by_role("button", name="Don't").click()
    expect(asking).to_have_count(0)
    expect(page.get_by_role("button", name="Make live").first).to_be_focused()
    page.get_by_role("button", name="Make live").first.click()
    asking.get_by_role("button", name="Roll back").click()
    expect(page.locator(".state", has_text="rolled back")).to_be_visible()
    expect(page.locator(".held")).to_contain_text("No release goes live by itself: admin rolled back to release")
    found = platform.succeed(platform.build("show"))
    page.goto(f"{platform.url}/#/builds/{found['id']}")
    expect(page.locator(".held")).to_contain_text("isn't live: it waits")
    page.goto(f"{platform.url}/#/projects/show/releases")
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.locator(".held")).to_have_count(0)
    expect(page.locator(".state", has_text="live")).to_have_count(1)


def test_it_goes_on_where_it_broke_off(page: Page, platform: Platform) -> None:
    signal = platform.shared / "go-on"
    build = platform.build("slow", parameters={"FILE": str(signal)})
    signed_in(page, platform, f"#/builds/{build}")
    expect(page.locator(".log")).to_contain_text("begin", timeout=LATE)
    platform.apiserver.kill()
    expect(page.locator("#connection")).to_have_text("reconnecting")
    platform.apiserver.start()
    platform.linked()
    signal.write_text("")
    expect(page.locator(".log-foot .good")).to_contain_text("complete, verified", timeout=LATE)
    lines = page.locator(".log .text").all_inner_texts()
    assert lines[-2:] == ["begin", "finished"]
    assert lines.count("begin") == 1


@pytest.mark.long
def test_lines_that_are_missing_are_said_to_be(page: Page, platform: Platform) -> None:
    """A line that the builder's disk has destroyed while the apiserver was away."""
    signal = platform.shared / "end-it"
    build = platform.build("lossy", parameters={"FILE": str(signal)})
    signed_in(page, platform, f"#/builds/{build}")
    expect(page.locator(".log")).to_contain_text("begin", timeout=LATE)
    platform.apiserver.kill()
    expect(page.locator("#connection")).to_have_text("reconnecting")
    signal.write_text("")
    (folder,) = (platform.folder / "builder-data" / "attempts").glob(f"{build}-1-*")
    wait_for("the result", (folder / "result.json").exists)
    (journal,) = (folder / "journal").iterdir()
    with journal.open("r+b") as damaged:  # in place: a file that is written again is empty for a moment
        # The last one: the first is in the line that names the command, which may be committed or not.
        damaged.seek(journal.read_bytes().rindex(b"destroyed"))
        damaged.write(b"destroyer")
    platform.apiserver.start()
    platform.linked()
    foot = page.locator(".log-foot .bad")
    expect(foot).to_have_text(re.compile(r"^incomplete: \d+ of \d+ lines are missing$"), timeout=LATE)
    expect(page.locator(".row .state")).to_have_text("failed")
    missing = int(foot.inner_text().split(" ")[1])
    noun = "1 line is" if missing == 1 else f"{missing} lines are"
    said = f"… {noun} missing here: the journal is damaged: the checksum doesn't match"
    expect(page.locator(".log .gap")).to_have_text(said)
    expect(page.locator(".log .gap")).to_be_visible()
    text = "".join(page.locator(".log .text").all_inner_texts())
    assert "begin" in text
    assert "the end" in text
    assert "destroy" not in text
    # Each line has its own number, also behind the gap.
    numbers = numbers_of(page)
    assert numbers == sorted(set(numbers))
    # The same for a viewer that comes when all is over.
    page.reload()
    expect(foot).to_have_text(re.compile(f"^incomplete: {missing} of "))
    expect(page.locator(".log .gap")).to_have_text(said)


def test_cancel_and_try_again(page: Page, platform: Platform) -> None:
    build = platform.build("slow", parameters={"FILE": "/nonexistent/file"})
    signed_in(page, platform, f"#/builds/{build}")
    expect(page.locator(".log")).to_contain_text("begin", timeout=LATE)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".row .state")).to_have_text("cancelled", timeout=LATE)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".facts")).to_contain_text("attempts 1 2")
    expect(page.locator(".log")).to_contain_text("begin", timeout=LATE)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".log-foot .good")).to_contain_text("complete, verified", timeout=LATE)


@pytest.mark.long
def test_a_hundred_thousand_lines(page: Page, platform: Platform) -> None:
    build = platform.build("many")
    platform.succeed(build)
    signed_in(page, platform, f"#/builds/{build}")
    # Only the end of it has come: the server says that it has verified the rest.
    expect(page.locator(".log-foot .good")).to_contain_text("complete, verified by the server (100,")
    # The longest time between two frames while the whole log comes in to be verified here, and how long that takes.
    page.evaluate(
        """() => {
          window.longest = 0;
          window.began = performance.now();
          let last = window.began;
          const frame = (now) => {
            window.longest = Math.max(window.longest, now - last);
            last = now;
            requestAnimationFrame(frame);
          };
          requestAnimationFrame(frame);
        }"""
    )
    page.get_by_role("button", name="Verify here").click()
    expect(page.locator(".log-foot .good")).to_contain_text("complete, verified (100,")
    longest, all_of_it = page.evaluate("[window.longest, performance.now() - window.began]")
    assert page.locator(".log *").count() < 2000, "lines are no elements"
    expect(page.locator(".log .record").last).to_be_in_viewport()
    print(f"the longest pause between two frames: {longest:.0f} ms of {all_of_it:.0f} ms")
    # A page that took the log in one go would draw nothing for most of the time, on a fast machine and on a busy one.
    assert longest < all_of_it / 2


def test_a_revoked_token_ends_the_session(page: Page, platform: Platform) -> None:
    made = json.loads(platform.command("token", "create", "guest", "--scope", "read", "--json").stdout)
    page.goto(f"{platform.url}/#token={made['token']}")
    expect(page.locator("#who")).to_have_text("guest")
    page.goto(f"{platform.url}/#/projects/show")
    expect(page.locator(".facts").first).to_be_visible()
    assert page.get_by_role("button", name="Publish").count() == 0
    platform.api("DELETE", f"/api/v1/tokens/{made['id']}")
    page.goto(f"{platform.url}/#/projects/fail")
    expect(page.locator(".sign-in h1")).to_have_text("Sign in")


@pytest.mark.long
def test_a_person_comes_in_by_an_invitation_and_sees_what_is_theirs(page: Page, platform: Platform) -> None:
    page.goto(f"{platform.url}/#sign-in-failed=unknown")
    expect(page.locator(".sign-in .reason")).to_contain_text("You have no account here")
    assert page.url == f"{platform.url}/"
    invited = platform.api("POST", "/api/v1/people", {"name": "Ann <b>Bo</b>"})
    page.goto(f"{platform.url}/#token={invited['code']}")
    expect(page.locator("#who")).to_have_text("Ann <b>Bo</b>")
    page.get_by_role("link", name="Projects").click()
    expect(page.locator("main")).to_contain_text("There are no projects yet")
    page.click("#who")
    expect(page.locator("main")).to_contain_text("You have no role in a project yet")
    expect(page.locator("main")).to_contain_text("this one")
    platform.api("POST", "/api/v1/projects/show/members", {"person": "Ann <b>Bo</b>", "role": "reader"})
    page.goto(f"{platform.url}/#/projects/show")
    page.reload()
    expect(page.locator(".facts").first).to_be_visible()
    assert page.get_by_role("button", name="Publish").count() == 0
    page.goto(f"{platform.url}/#/projects/show/settings/members")
    expect(page.get_by_role("table", name="Members")).to_contain_text("reader")
    assert page.get_by_role("button", name="Give the role").count() == 0
    platform.api("PATCH", f"/api/v1/people/{invited['person']['id']}", {"disabled": True})
    page.goto(f"{platform.url}/#/projects/fail")
    expect(page.locator(".sign-in h1")).to_have_text("Sign in")


@pytest.mark.long
def test_a_preview_is_compared_and_promoted(page: Page, platform: Platform) -> None:
    repository = platform.repository({"index.html": "<h1>one</h1>"})
    platform.add_project("site", repository, publish={"static": True}, default_ref="main")
    first = platform.succeed(platform.build("site"))
    platform.commit(repository, {"index.html": "<h1>two</h1>", "app.css": "p { color: red }"})
    git(repository, "branch", "fix-menu")
    second = platform.succeed(platform.build("site", ref="fix-menu"))
    signed_in(page, platform, "#/projects/site/releases")
    row = page.locator(".previews tbody tr", has_text="fix-menu")
    expect(row).to_have_count(1)
    expect(row.get_by_role("link", name="fix-menu")).to_have_attribute("href", second["previews"][0])
    expect(row).to_contain_text(f"#{second['id']}")
    row.get_by_role("button", name="Compare fix-menu").click()
    asking = page.get_by_role("dialog")
    was = live_release(platform, "site")
    expect(asking).to_contain_text(f"1 file is new, 1 changed, 0 gone, against release {was} of build #{first['id']}")
    expect(asking.locator("li", has_text="app.css")).to_have_count(1)
    asking.get_by_role("button", name="Close").click()
    row.get_by_role("button", name="Promote fix-menu").click()
    expect(asking).to_contain_text(f"in the place of release {was} of build #{first['id']}, main")
    asking.get_by_role("button", name="Don't").click()
    expect(asking).to_have_count(0)
    row.get_by_role("button", name="Promote fix-menu").click()
    asking.get_by_role("button", name="Make it live").click()
    live = page.locator("tr", has=page.locator(".state", has_text="live"))
    expect(live).to_contain_text(f"#{second['id']}")
    expect(row.get_by_role("button", name="Promote fix-menu")).to_have_count(0)
    page.locator(".previews").get_by_label("New password").fill("eight or more")
    page.locator(".previews").get_by_role("button", name="Set").click()
    expect(page.locator(".previews")).to_contain_text("Guests see previews by a password")
    page.goto(second["previews"][0])
    page.get_by_label("Password").fill("something else")
    page.get_by_role("button", name="Open the preview").click()
    expect(page.get_by_role("alert")).to_have_text("This isn't the password.")
    page.get_by_label("Password").fill("eight or more")
    page.get_by_role("button", name="Open the preview").click()
    expect(page.locator("h1")).to_have_text("two")
    page.reload()
    expect(page.locator("h1")).to_have_text("two")
    page.goto(f"{platform.url}/#/projects/site/releases")
    page.locator(".previews").get_by_role("button", name="Remove the password").click()
    expect(page.locator(".previews")).to_contain_text("Previews have no password")


def live_release(platform: Platform, project: str) -> int:
    found = platform.api("GET", f"/api/v1/projects/{project}/releases")["releases"]
    (live,) = [each["id"] for each in found if each["state"] == "live"]
    assert isinstance(live, int)
    return live


@pytest.mark.long
def test_a_build_that_is_not_there(page: Page, platform: Platform) -> None:
    signed_in(page, platform, "#/builds/999999")
    expect(page.locator("main")).to_contain_text("There is no such build")


@pytest.mark.long
def test_output_is_cleaned_as_everywhere_else(page: Page, platform: Platform) -> None:
    """The page's cleaning of lines is that of `web.terminal`, which the command and the API use."""
    draw = random.Random(7)
    parts = [
        "a",
        " ",
        "é",
        "😀",
        "P",
        "(",
        "[",
        "]",
        "m",
        "0",
        "31",
        "38;5;200",
        ";",
        ":",
        "2J",
        "\t",
        "\b",
        "\r",
        "\x07",
    ]
    parts += ["\x1b", "\x1b[1m", "\x1b[0m", "\x1b[?25l", "\x1b]8;;x\x07", "\x1b\\"]
    parts += ["\x90", "\x9b", "\x9c", "\u202e", "\u2066"]
    lines = ["".join(draw.choices(parts, k=draw.randint(1, 14))) for _ in range(5000)]
    page.goto(platform.url)
    shown = page.evaluate(
        """async (lines) => {
          const { nodesOf, Style } = await import("/static/log/terminal.js");
          return lines.map((line) => nodesOf(line, new Style()).map((node) => node.textContent).join(""));
        }""",
        lines,
    )
    assert shown == [escapes.plain(line) for line in lines]
    # Colours change nothing of what is shown.
    assert shown == [re.sub(r"\x1b\[[0-9;:]*m", "", escapes.colours(line)) for line in lines]


#: What is printed, and how its X is to be shown: its colour (a class, or CSS) and the classes of its style.
RENDITIONS = {
    "\x1b[31mX": ("f1", ""),
    "\x1b[1;91mX": ("f9", "b"),
    "\x1b[38;5;208mX": ("rgb(255, 135, 0)", ""),
    "\x1b[38:5:208mX": ("rgb(255, 135, 0)", ""),
    "\x1b[38;2;255;0;10mX": ("rgb(255, 0, 10)", ""),
    "\x1b[38:2::255:0:10mX": ("rgb(255, 0, 10)", ""),
    "\x1b[31m\x1b[4:3mX": ("f1", "u"),
    "\x1b[31;4m\x1b[4:0mX": ("f1", ""),
    "\x1b[31;4m\x1b[58;5;9mX": ("f1", "u"),
    "\x1b[31m\x1b[53mX": ("f1", ""),
    "\x1b[31m\x1b[0;mX": ("", ""),
    "\x1b[31m\x1b(BX": ("f1", ""),
    "old\r\x1b[KX": ("", ""),
    "|\b/\b-\bX": ("", ""),
    "\x1b]8;;https://example.org/a\x1b\\X\x1b]8;;\x1b\\": ("", ""),
}


@pytest.mark.long
def test_colours_and_styles_are_those_that_were_set(page: Page, platform: Platform) -> None:
    page.goto(platform.url)
    found = page.evaluate(
        """async (lines) => {
          const { nodesOf, Style } = await import("/static/log/terminal.js");
          return lines.map((line) => {
            const [node, ...more] = nodesOf(line, new Style());
            const classes = [...(node.classList ?? [])];
            const named = classes.find((name) => /^f[0-9]/.test(name));
            const flags = classes.filter((name) => name.length === 1).join("");
            return [node.textContent, more.length, named ?? node.style?.color ?? "", flags];
          });
        }""",
        list(RENDITIONS),
    )
    assert found == [["X", 0, colour, classes] for colour, classes in RENDITIONS.values()]


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_256_colours_can_be_read(page: Page, platform: Platform, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(platform.url)
    worst = page.evaluate(
        """async () => {
          const { nodesOf, Style } = await import("/static/log/terminal.js");
          const { contrast } = await import("/static/log/colours.js");
          const rgb = (text) => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
          const ground = document.createElement("div");
          ground.style.background = "var(--card)";
          document.body.append(ground);
          const found = [];
          for (let n = 16; n < 256; n++) {
            const alone = [[`38;5;${n}`, false], [`48;5;${n}`, true]];
            for (const [sequence, own] of [...alone, [`38;5;${n};48;5;${271 - n}`, true], [`31;48;5;${n}`, true]]) {
              const [node] = nodesOf(`\\u001b[${sequence}mX`, new Style());
              ground.append(node);
              const style = getComputedStyle(node);
              const under = own ? style : getComputedStyle(ground);
              found.push([contrast(rgb(style.color), rgb(under.backgroundColor)), sequence]);
            }
          }
          return found.sort((a, b) => a[0] - b[0])[0];
        }"""
    )
    assert worst[0] >= 4.5, worst


@pytest.mark.long
def test_links_in_output_say_where_they_lead(page: Page, platform: Platform) -> None:
    page.goto(platform.url)
    lines = [
        "see https://a.example/x.",
        "\x1b]8;;https://a.example/x\x07docs\x1b]8;;\x07",
        "\x1b]8;;https://evil.example/\x07https://good.example/\x1b]8;;\x07",
        "\x1b]8;;javascript:alert(1)\x07no\x1b]8;;\x07 javascript:alert(1) ftp://a.example",
        "http://localhost:\x1b[1m5173\x1b[22m/",
    ]
    found = page.evaluate(
        """async (lines) => {
          const { nodesOf, Style } = await import("/static/log/terminal.js");
          return lines.map((line) => {
            const box = document.createElement("div");
            box.append(...nodesOf(line, new Style()));
            const links = [...box.querySelectorAll("a")];
            return links.map((a) => [a.textContent, a.href, a.title, a.rel, a.target, a.dataset.to ?? ""]);
          });
        }""",
        lines,
    )
    rest = ["noreferrer noopener", "_blank"]
    assert found == [
        [["https://a.example/x", "https://a.example/x", "https://a.example/x", *rest, ""]],
        [["docs", "https://a.example/x", "https://a.example/x", *rest, "a.example"]],
        [["https://good.example/", "https://evil.example/", "https://evil.example/", *rest, "evil.example"]],
        [],
        [["http://localhost:5173/", "http://localhost:5173/", "http://localhost:5173/", *rest, ""]],
    ]


def test_its_digest_is_sha256(page: Page, platform: Platform) -> None:
    page.goto(platform.url)
    digests = page.evaluate(
        """async () => {
          const { SHA256 } = await import("/static/log/sha256.js");
          const found = [];
          for (let size = 0; size < 300; size++) {
            const sha = new SHA256();
            // In two pieces, cut somewhere else each time.
            const bytes = Uint8Array.from({ length: size }, (_, index) => (index * 7 + size) & 255);
            sha.update(bytes.subarray(0, (size * 5) % (size + 1)));
            sha.update(bytes.subarray((size * 5) % (size + 1)));
            found.push(sha.digest());
          }
          return found;
        }"""
    )
    expected = [hashlib.sha256(bytes((index * 7 + size) & 255 for index in range(size))) for size in range(300)]
    assert digests == [each.hexdigest() for each in expected]


# -- what a build says of itself: the log's view alone, on messages that are given to it ------------------------------


class Shown:
    """A log in the page, outside of any build. ``say`` gives it records, as the WebSocket would."""

    def __init__(self, page: Page, platform: Platform) -> None:
        self._page = page
        self._digest = LogDigest()
        nothing = {"records": 0, "steps": [], "groups": [], "annotations": [], "errors": [], "annotation_counts": {}}
        page.route(re.compile(r"/log/outline\?"), lambda route: route.fulfill(json=nothing))
        page.goto(platform.url)
        expect(page.locator(".sign-in")).to_be_visible()
        page.evaluate(MADE)

    def say(self, *records: Record, more: list[int] | None = None) -> None:
        batch = Lines(first=self._digest.count + 1, time=1, step=0, lines=list(records), more=more or [])
        self._digest.add(batch)
        self._hear(encoder.encode(batch).decode())
        lines = "1 line" if self._digest.count == 1 else f"{self._digest.count:,} lines"
        expect(self._page.locator(".log-foot .counted")).to_have_text(lines)

    def end(self) -> None:
        """All of it has come, and the page finds that it is what was said."""
        end = {"type": "end", "lines": self._digest.count, "sha256": self._digest.hexdigest(), "complete": True}
        self._hear(json.dumps({**end, "state": "succeeded"}))
        expect(self._page.locator(".log-foot .good")).to_contain_text("complete, verified")

    def _hear(self, message: str) -> None:
        self._page.evaluate("(message) => topic.heard(JSON.parse(message))", message)


#: Shows a log alone; ``topic`` is what it has subscribed to.
MADE = """async () => {
  const { LogView } = await import("/static/log/view.js");
  const followed = new Promise((resolve) => {
    window.stream = { follow: (topic) => resolve((window.topic = topic)), leave: () => {} };
  });
  window.view = new LogView({ stream: window.stream, build: 1, attempt: 1, lines: null, changed: () => {} });
  document.getElementById("main").replaceChildren(view.remarks, view.summary, view.element);
  view.start();
  await followed;
}"""


@pytest.fixture
def shown(page: Page, platform: Platform) -> Shown:
    return Shown(page, platform)


@pytest.mark.long
def test_progress_is_a_bar_at_the_head_of_the_log(page: Page, shown: Shown) -> None:
    bar = page.get_by_role("progressbar")
    shown.say(StepStarted(0, "build", "node build.js"), "begin")
    expect(bar).to_be_hidden()
    shown.say(Progress(0.624, "bundling\n\u202e<b>"))
    expect(bar).to_be_visible()
    assert bar.evaluate("bar => [bar.value, bar.max]") == [0.624, 1]
    assert bar.get_attribute("aria-valuetext") == "62% bundling <b>"
    expect(page.locator(".progress .label")).to_have_text("bundling <b>")
    assert page.locator(".progress b").count() == 0
    shown.say("more", Progress(0.9999))
    expect(page.locator(".progress .share")).to_have_text("99%")
    expect(page.locator(".progress .label")).to_be_empty()
    shown.say(StepEnded(0, "succeeded", 1, 0))
    expect(bar).to_be_hidden()
    shown.say(StepStarted(1, "test", ""), Progress(0))
    expect(bar).to_be_visible()
    shown.end()
    expect(bar).to_be_hidden()
    assert "bundling" not in page.locator(".log").inner_text(), "it is no line of the log"


@pytest.mark.long
def test_progress_and_a_summary_break_no_line(page: Page, shown: Shown) -> None:
    shown.say("compil", Progress(0.5), Summary("# x"), "ing", more=[0])
    shown.say("dangl", Annotation("notice", "n"), "ing", more=[0])
    shown.end()
    expect(page.locator(".log .text")).to_have_text(["compiling", "dangl", "notice: n", "ing"])
    assert numbers_of(page) == [1, 5, 6, 7]


@pytest.mark.long
def test_a_line_that_has_no_end_yet_grows(page: Page, shown: Shown) -> None:
    rows = page.locator(".log .text")
    shown.say("first", "compil", more=[1])
    expect(rows).to_have_text(["first", "compil"])
    shown.say("ing", "\r\x1b[Kdone", "next", more=[0])
    expect(rows).to_have_text(["first", "done", "next"])
    assert numbers_of(page) == [1, 2, 5]
    shown.end()


@pytest.mark.long
def test_a_style_goes_on_to_the_end_of_its_step(page: Page, shown: Shown) -> None:
    shown.say(StepStarted(0, "build", ""), "\x1b[31mred", "still", "\x1b[0mplain", "\x1b[32mgreen")
    shown.say("too", StepEnded(0, "succeeded", 1, 0), StepStarted(1, "test", ""), "plain again")
    shown.end()
    styles = "rows => rows.map((row) => row.querySelector('span')?.className ?? '')"
    expect(page.locator(".log .text")).to_have_count(6)
    assert page.locator(".log .text").evaluate_all(styles) == ["f1", "f1", "", "f2", "f2", ""]


@pytest.mark.long
def test_annotations_are_marked_and_listed(page: Page, shown: Shown) -> None:
    shown.say(*[f"line {number}" for number in range(1, 1001)])
    shown.say(Annotation("warning", "unused\nvariable", "src/a.ts", 3), Annotation("error", "<img src=x>", "b.ts"))
    shown.say(Group("tests"), Annotation("notice", "slow"), Group(""))
    shown.say(*[f"line {number}" for number in range(1006, 2001)], Annotation("error", "the last"))
    expect(page.locator(".remarks summary")).to_have_text("2 errors1 warning1 notice")
    buttons = page.locator(".remarks button")
    assert buttons.all_text_contents() == ["b.ts<img src=x>", "the last", "src/a.ts:3unused variable", "slow"]
    expect(page.locator(".log .record")).to_have_count(2000)  # the group's end is no row
    text = page.locator(".log .text").all_text_contents()
    assert text[999:1004] == [
        "line 1000",
        "src/a.ts:3: warning: unused variable",
        "b.ts: error: <img src=x>",
        "notice: slow",
        "line 1006",
    ]
    assert page.locator(".log img, .remarks img").count() == 0
    remark = page.locator("[data-record='1001']")
    assert remark.text_content() == "src/a.ts:3: warning: unused variable"
    expect(remark).not_to_be_in_viewport()
    buttons.nth(2).click()
    expect(remark).to_be_in_viewport()
    expect(remark).to_be_focused()
    page.get_by_role("button", name="Fold all").click()
    slow = page.locator("[data-record='1004']")
    expect(slow).to_have_count(0)
    buttons.nth(3).click()
    expect(slow).to_be_in_viewport()
    # It doesn't jump away from there.
    shown.say("more")
    expect(slow).to_be_in_viewport()
    # From error to error.
    page.get_by_role("button", name="next error").click()
    expect(page.locator(".record.picked")).to_have_text("b.ts: error: <img src=x>")
    page.keyboard.press("e")
    expect(page.locator(".record.picked")).to_have_text("error: the last")
    shown.end()


@pytest.mark.long
def test_groups_and_steps_can_be_folded(page: Page, shown: Shown) -> None:
    shown.say(StepStarted(0, "build", ""), "before", Group("one <b>"), *["in one"] * 900, Group("two"), "in two")
    shown.say("in two, too", Group(""), "between", Group("three"), "in three", StepEnded(0, "succeeded", 1, 0), "after")
    expect(page.locator(".log .record")).to_have_count(911)
    groups = page.locator(".log .group")
    assert [each[1:] for each in groups.all_text_contents()] == ["one <b>", "two", "three"]
    assert numbers_of(page) == [1, *range(2, 907), 908, 909, 910, 911, 912], "each line has its own number"
    rows = page.locator(".log .text")
    groups.nth(1).get_by_role("button").click()
    expect(rows.filter(has_text="in two")).to_have_count(0)
    expect(rows.filter(has_text="in one")).to_have_count(900)
    expect(groups.nth(1).get_by_role("button")).to_be_focused()
    assert groups.nth(1).get_by_role("button").get_attribute("aria-expanded") == "false"
    page.keyboard.press("Enter")
    expect(rows.filter(has_text="in two")).to_have_count(2)
    page.get_by_role("button", name="Fold all").click()
    expect(page.locator(".log .record")).to_have_count(2)  # the step's heading, and what is behind it
    page.locator(".log [data-step]").get_by_role("button").click()
    expect(groups).to_have_count(3)
    expect(rows.filter(has_text="in one")).to_have_count(0)
    # One that comes now is folded as well.
    shown.say(Group("four"), "in four")
    expect(groups).to_have_count(4)
    expect(rows.filter(has_text="in four")).to_have_count(0)
    page.get_by_role("button", name="Fold all").click()
    expect(rows.filter(has_text="in four")).to_have_count(1)
    expect(rows.filter(has_text="in two")).to_have_count(2)
    shown.end()


@pytest.mark.long
def test_what_a_build_says_is_bounded(page: Page, shown: Shown) -> None:
    """As often as a build may say something: the page stays small, and says what it leaves out."""
    remarks = [Annotation("error", "x" * 20, "a.ts", 1)] * 500
    groups: list[Record] = [Group("g"), "line", Progress(0.5)] * 500
    for _ in range(10):
        shown.say(*remarks, *groups)
        shown.say(*[Summary("# " + "x " * 500)] * 50)
    shown.end()
    expect(page.locator(".remarks summary")).to_have_text("5,000 errors")
    assert page.locator(".remarks li").count() == 101
    expect(page.locator(".remarks li.rest")).to_have_text("and 4,900 more in the log")
    assert page.locator(".log .fold").count() <= 6144
    assert page.locator(".log *").count() < 20_000


@pytest.mark.long
def test_events_are_hashed_as_they_were_said(page: Page, shown: Shown) -> None:
    """The digest is over their JSON, which two languages have to write alike."""
    hostile = '\x00\x07\x08\x0b\x0c\x1b\x7f\x85\u2028\ufeff\U0001f600"\\/<é'
    for value in (0, 0.0001, 0.1, 0.3333, 0.5, 0.9999, 1):
        shown.say(Progress(value, hostile))
    shown.say(Annotation("error", hostile, hostile, 2**31 - 1), Group(hostile), Summary(hostile + "\n\r\t"))
    shown.end()


# -- a log that nobody reads from its beginning to its end ------------------------------------------------------------


class Long:
    """
    A log of a million lines, as the server would give it: by range, by outline, by search. Every thousandth line has
    ``needle``; the first step has the first half, and the second one has failed at the end.
    """

    records = 1_000_000
    middle = 500_000

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[tuple[int, int]] = []
        page.route(re.compile(r"/log/outline\?"), lambda route: route.fulfill(json=self.outline()))
        page.route(re.compile(r"/log/search\?"), self._search)
        page.route(re.compile(r"/log\?"), self._read)

    def outline(self) -> dict[str, object]:
        times = {"started": "2026-01-01T10:00:00Z", "ended": "2026-01-01T10:00:09Z"}
        return {
            "attempt": 1,
            "records": self.records,
            "bytes": 1,
            "complete": True,
            "steps": [
                {"index": 0, "name": "first", "outcome": "succeeded", "exit_code": 0, "first": 1, "last": self.middle}
                | times,
                {"index": 1, "name": "second", "outcome": self.outcome, "exit_code": 1, "first": self.middle + 1}
                | {"last": self.records, **times},
            ],
            "groups": [{"record": 600_000, "step": 1, "name": "a group", "time": times["started"]}],
            "annotation_counts": {"errors": 1, "warnings": 0, "notices": 0},
            "annotations": [{"record": 900_000, "step": 1, "level": "error", "message": "no", "file": "", "line": 0}],
            "errors": [{"record": 900_000, "step": 1, "what": "annotation", "message": "no"}],
        }

    outcome = "succeeded"

    def record(self, number: int) -> Record:
        if number in (1, self.middle + 1):
            return StepStarted(int(number > 1), "first" if number == 1 else "second", "")
        if number in (self.middle, self.records):
            succeeded = number == self.middle
            return StepEnded(int(not succeeded), "succeeded" if succeeded else "failed", 9, int(not succeeded))
        if number == 600_000:
            return Group("a group")
        if number == 900_000:
            return Annotation("error", "no")
        return f"line {number}" + (" needle" if number % 1000 == 0 else "")

    def batch(self, first: int, last: int) -> dict[str, object]:
        lines = Lines(first=first, time=1000, step=0, lines=[self.record(n) for n in range(first, last + 1)])
        batch: dict[str, object] = json.loads(encoder.encode(lines))
        return batch

    def _read(self, route: Route) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        after = int(query["after"][0])
        last = min(after + int(query["limit"][0]), self.records)
        self.asked.append((after + 1, last))
        route.fulfill(json={"attempt": 1, "batches": [self.batch(after + 1, last)], "after": last, "end": None})

    def _search(self, route: Route) -> None:
        query = {name: value for name, (value,) in parse_qs(urlsplit(route.request.url).query).items()}
        assert query["q"] == "needle"
        hits = [n for n in range(1000, self.records, 1000) if n not in (500_000, 600_000, 900_000)]
        found = [n for n in hits if int(query.get("after", 0)) < n < int(query.get("before", self.records))]
        newest = query.get("order") == "newest"
        given = sorted(found, reverse=newest)[: int(query["limit"])]
        said: list[dict[str, object]] = [
            {"type": "hit", "build": 1, "attempt": 1, "record": n, "parts": [f"line {n} ", "needle", ""]} for n in given
        ]
        more = given[-1] if len(found) > len(given) else None
        said.append({"type": "end", "matches": len(found), "searched": 1, "missing": 0, "complete": True, "next": more})
        route.fulfill(body="".join(json.dumps(each) + "\n" for each in said), content_type="application/x-ndjson")

    def show(self, lines: str = "null") -> None:
        expect(self.page.locator(".sign-in")).to_be_visible()
        self.page.evaluate(MADE.replace("lines: null", f"lines: {lines}"))

    def end(self, sha256: str = "0" * 64) -> None:
        end = {"type": "end", "lines": self.records, "sha256": sha256, "complete": True, "state": "succeeded"}
        self.page.evaluate("(end) => topic.heard(end)", end)

    def row(self, number: int) -> Locator:
        return self.page.locator(f".log .record[data-n='{number}']")


@pytest.fixture
def long(page: Page, platform: Platform) -> Long:
    page.goto(platform.url)
    return Long(page)


@pytest.mark.long
def test_a_long_log_is_asked_for_by_range(page: Page, long: Long) -> None:
    long.show()
    long.end()
    expect(long.row(999_999)).to_be_in_viewport()
    assert page.evaluate("topic.request().after") == long.records, "what has been isn't sent again"
    expect(page.locator(".log-foot .good")).to_have_text("complete, verified by the server (1,000,000 lines)")
    assert page.locator(".log .record").count() < 1500
    page.wait_for_timeout(300)  # in which nothing more is asked for
    asked = sum(last - first + 1 for first, last in long.asked)
    assert asked <= 2048, long.asked
    # Any line, by a link and by the bar beside it; a step, by its name.
    page.evaluate("view.pick([123456, 123460]), view.go(123456)")
    expect(long.row(123_456)).to_be_in_viewport()
    expect(page.locator(".record.picked")).to_have_count(5)
    assert page.evaluate("location.hash") == "#/builds/1/1/L123456-L123460"
    marks = page.locator(".marks").bounding_box()
    assert marks
    page.mouse.click(marks["x"] + 4, marks["y"] + marks["height"] * 0.75)
    expect(long.row(750_000)).to_be_in_viewport()
    page.evaluate("view.toStep(1)")
    expect(long.row(long.middle + 1)).to_be_in_viewport()
    assert page.locator(".log .block").count() <= 24
    # By the wheel and the keys, from there on, with no line left out.
    page.locator(".log").hover()
    for _ in range(40):
        page.mouse.wheel(0, 300)
    page.wait_for_function("view.window.seen.first > 500300")
    numbers = numbers_of(page)
    assert numbers == sorted(numbers)
    page.locator(".log").focus()
    page.keyboard.press("Home")
    expect(long.row(1)).to_be_in_viewport()
    page.keyboard.press("End")
    expect(long.row(long.records)).to_be_in_viewport()


@pytest.mark.long
def test_the_end_of_a_long_log_is_followed(page: Page, long: Long) -> None:
    long.show()
    expect(long.row(999_999)).to_be_in_viewport()
    page.evaluate(
        """() => topic.heard({ type: "lines", first: 1000001, time: 2, step: 1,
          lines: Array.from({ length: 5000 }, (_, index) => `new ${index}`) })"""
    )
    expect(long.row(1_005_000)).to_be_in_viewport()
    expect(page.locator(".log-foot .counted")).to_have_text("1,005,000 lines")
    page.keyboard.press("g")
    page.keyboard.press("g")
    expect(long.row(1)).to_be_in_viewport()
    page.evaluate("topic.heard({ type: 'lines', first: 1005001, time: 2, step: 1, lines: ['one more'] })")
    expect(page.locator(".log-foot .counted")).to_have_text("1,005,001 lines")
    expect(long.row(1)).to_be_in_viewport()
    page.get_by_role("button", name="Go to the end").click()
    expect(long.row(1_005_001)).to_be_in_viewport()


@pytest.mark.long
def test_a_failure_opens_at_its_cause(page: Page, long: Long) -> None:
    long.outcome = "failed"
    long.show()
    expect(long.row(900_000)).to_be_in_viewport()
    page.keyboard.press("g")
    page.keyboard.press("g")
    expect(long.row(1)).to_be_in_viewport()
    expect(long.row(long.middle + 1)).to_be_in_viewport()  # the first step is folded
    long.row(1).get_by_role("button").click()
    expect(long.row(2)).to_be_in_viewport()
    expect(long.row(1).get_by_role("button")).to_be_focused()


@pytest.mark.long
def test_hits_are_counted_marked_and_gone_to(page: Page, long: Long) -> None:
    long.show()
    expect(long.row(999_999)).to_be_in_viewport()
    page.locator(".log").focus()
    page.keyboard.press("Home")
    page.keyboard.press("/")
    expect(page.locator(".find input")).to_be_focused()
    page.locator(".find input").fill("needle")
    found = page.locator(".found")
    expect(found).to_have_text("996 found")
    page.keyboard.press("Enter")
    expect(found).to_have_text("1 of 996")
    expect(long.row(1000)).to_be_in_viewport()
    page.locator(".log").focus()
    page.keyboard.press("n")
    expect(found).to_have_text("2 of 996")
    expect(long.row(2000)).to_be_in_viewport()
    assert page.evaluate("[...CSS.highlights.get('found-current')].map(String)") == ["needle"]
    page.keyboard.press("N")
    page.keyboard.press("N")
    expect(found).to_have_text("996 of 996")  # around the beginning
    page.get_by_role("button", name="Only hits").click()
    expect(long.row(999_000)).to_be_in_viewport()
    page.locator(".log").focus()
    page.keyboard.press("Home")
    expect(long.row(997)).to_be_in_viewport()
    expect(long.row(1000)).to_have_class(re.compile("hit"))
    assert numbers_of(page)[:9] == [*range(997, 1004), 1997, 1998]
    page.get_by_role("button", name="Only hits").click()
    expect(found).to_be_visible()
    page.locator(".find input").fill("")
    expect(found).to_be_empty()
    assert page.evaluate("CSS.highlights.get('found').size") == 0
    # Who types fast presses Enter before anything is found, or even asked for.
    page.evaluate("""() => {
      const input = document.querySelector(".find input");
      input.value = "needle";
      input.dispatchEvent(new Event("input"));
      input.form.requestSubmit();
    }""")
    expect(found).to_have_text("1 of 996")
    page.locator(".find input").fill("")
    expect(found).to_be_empty()


@pytest.mark.long
def test_what_is_not_read_can_be_verified_here(page: Page, long: Long) -> None:
    long.records, long.middle = 6000, 3000
    digest = LogDigest()
    batch = Lines(first=1, time=1000, step=0, lines=[long.record(number) for number in range(1, 6001)])
    digest.add(batch)
    end = {"type": "end", "lines": 6000, "sha256": digest.hexdigest(), "complete": True, "state": "succeeded"}
    body = encoder.encode(batch) + b"\n" + json.dumps(end).encode() + b"\n"
    page.route(re.compile(r"/log\?.*follow=1"), lambda route: route.fulfill(body=body))
    long.show()
    long.end(digest.hexdigest())
    foot = page.locator(".log-foot [role=status]")
    expect(foot).to_have_text("complete, verified by the server (6,000 lines)")
    page.get_by_role("button", name="Verify here").click()
    expect(foot).to_have_text("complete, verified (6,000 lines)")


@pytest.mark.long
def test_a_line_that_is_not_there_is_said_to_be_missing(page: Page, long: Long) -> None:
    long.show("[2000000, 2000000]")
    expect(long.row(1)).not_to_be_in_viewport()
    long.end()
    expect(page.locator(".log-trouble")).to_have_text("Line 2,000,000 isn't in this log, which has 1,000,000 lines.")


@pytest.mark.long
def test_long_lines_are_wrapped_and_the_place_is_kept(page: Page, long: Long) -> None:
    long.show()
    expect(long.row(999_999)).to_be_in_viewport()
    page.evaluate("view.go(400000)")
    expect(long.row(400_000)).to_be_in_viewport()
    page.evaluate("document.querySelector('.log').style.flex = '0 0 9rem'")
    page.get_by_role("button", name="Wrap").click()
    expect(long.row(400_000)).to_be_in_viewport()
    assert long.row(400_000).evaluate("row => row.offsetHeight") > 20
    page.get_by_role("button", name="Wrap").click()
    expect(long.row(400_000)).to_be_in_viewport()
    page.locator("select").first.select_option("clock")
    expect(long.row(400_000)).to_have_attribute("data-t", re.compile(r"^\d\d:\d\d:01\.000$"))
    expect(long.row(400_000)).to_be_in_viewport()
    page.locator("select").first.select_option("off")


# -- the summary, as Markdown ----------------------------------------------------------------------------------------

RENDER = """async (texts) => {
  const { markdown } = await import("/static/log/markdown.js");
  return texts.map((text) => {
    const holder = document.createElement("div");
    holder.append(markdown(text));
    return holder.innerHTML;
  });
}"""
A = 'rel="noopener noreferrer nofollow" target="_blank"'
MARKDOWN = {
    "plain\ntext": "<p>plain\ntext</p>",
    "# One #\n## Two\nThree\n===": "<h2>One</h2><h3>Two</h3><h2>Three</h2>",
    "#no heading": "<p>#no heading</p>",
    "a\n\n\nb  \nc\\\nd": "<p>a</p><p>b<br>\nc<br>\nd</p>",
    "*a* **b** ***c*** _d_ __e__ ~~f~~": (
        "<p><em>a</em> <strong>b</strong> <strong><em>c</em></strong> <em>d</em> <strong>e</strong> <del>f</del></p>"
    ),
    "**a *b* c**": "<p><strong>a <em>b</em> c</strong></p>",
    "snake_case_name 2 * 3 * 4 **open": "<p>snake_case_name 2 * 3 * 4 **open</p>",
    "*a **b* c**": "<p><em>a **b</em> c**</p>",
    "`a*b*` ``c`d`` `open": "<p><code>a*b*</code> <code>c`d</code> `open</p>",
    r"\*a\* \`b\` \[c](d)": "<p>*a* `b` [c](d)</p>",
    "- a\n- b\n  - c\n    1. d\n- e": "<ul><li>a</li><li>b<ul><li>c<ol><li>d</li></ol></li></ul></li><li>e</li></ul>",
    "3. a\n4. b": '<ol start="3"><li>a</li><li>b</li></ol>',
    "* a\n\n  b\n* c": "<ul><li><p>a</p><p>b</p></li><li>c</li></ul>",
    "text\n- a\nlazy": "<p>text</p><ul><li>a\nlazy</li></ul>",
    "- [ ] a\n- [x] b": "<ul><li>☐ a</li><li>☑ b</li></ul>",
    "```js\n<b>*a*\n\n  x\n```\nb": "<pre><code>&lt;b&gt;*a*\n\n  x</code></pre><p>b</p>",
    "~~~\nopen": "<pre><code>open</code></pre>",
    "    code\n    more": "<pre><code>code\nmore</code></pre>",
    "> a\n> - b\n\nc": "<blockquote><p>a</p><ul><li>b</li></ul></blockquote><p>c</p>",
    "a\n\n***\n- - -": "<p>a</p><hr><hr>",
    "|a|b|\n|-|:-:|\n|1|2|3|\n|x\\|y|": (
        '<div class="wide-table"><table><thead><tr><th>a</th><th class="middle">b</th></tr></thead><tbody>'
        '<tr><td>1</td><td class="middle">2</td></tr><tr><td>x|y</td><td class="middle"></td></tr>'
        "</tbody></table></div>"
    ),
    "a | b\nno table": "<p>a | b\nno table</p>",
    "[a *b*](https://x.example/y_(z)?q=1 'no')": (
        "<p>[a <em>b</em>](<a href=\"https://x.example/y_\" X>https://x.example/y_</a>(z)?q=1 'no')</p>"
    ),
    '[a *b*](https://x.example/y_(z)?q=1 "t")': '<p><a href="https://x.example/y_(z)?q=1" X>a <em>b</em></a></p>',
    "<https://x.example/a> http://y.example/b.": (
        '<p><a href="https://x.example/a" X>https://x.example/a</a> <a href="http://y.example/b" X>http://y.example/b</a>.</p>'
    ),
    "![alt](https://x.example/a.png)": '<p><a href="https://x.example/a.png" X>alt</a></p>',
    # What leads nowhere good is its text.
    "[a](javascript:alert(1)) [b](data:text/html,x) [c](/api/v1/tokens) [d](//x.example)": "<p>a b c d</p>",
    "[e](https://known.example@x.example/) [f](mailto:a@b) [g](java\tscript:x)": "<p>e f [g](java\tscript:x)</p>",
    "<script>x</script><img src=x onerror=y>": "<p>&lt;script&gt;x&lt;/script&gt;&lt;img src=x onerror=y&gt;</p>",
    "a&amp;b &lt;": "<p>a&amp;amp;b &amp;lt;</p>",
    "\x1b[31mred\x1b[0m \u202eabc": "<p>red abc</p>",
    "": "",
}


@pytest.mark.long
def test_the_summary_is_rendered(page: Page, shown: Shown) -> None:
    html = page.evaluate(RENDER, list(MARKDOWN))
    expected = [text.replace(" X>", f" {A}>") for text in MARKDOWN.values()]
    assert dict(zip(MARKDOWN, html, strict=True)) == dict(zip(MARKDOWN, expected, strict=True))
    card = page.locator(".card", has_text="Summary")
    shown.say("line", Summary("# First"))
    expect(card.get_by_role("heading")).to_have_text("First")
    shown.say(Summary("# Second [link](https://x.example/)"))
    expect(card.get_by_role("heading")).to_have_text("Second link")
    expect(card.get_by_role("link")).to_have_attribute("rel", "noopener noreferrer nofollow")
    expect(page.locator(".log .record")).to_have_text(["line"])
    shown.say(Summary(""))
    expect(card).to_be_hidden()
    shown.end()


def test_no_summary_can_do_more_than_it_may(page: Page, platform: Platform) -> None:
    draw = random.Random(11)
    parts = (
        "#¦ ¦\n¦\n\n¦*¦**¦_¦~~¦`¦```¦[¦](¦)¦!¦<¦>¦|¦-¦- ¦1. ¦    ¦\\¦a¦b1¦&¦\"¦'¦https://x.example/"
        "¦javascript:¦<script>¦onclick=¦\t¦\r¦\x1b[1m"
    ).split("¦")
    texts = ["".join(draw.choices(parts, k=draw.randint(1, 60))) for _ in range(3000)]
    page.goto(platform.url)
    odd = page.evaluate(
        """async (texts) => {
          const { markdown } = await import("/static/log/markdown.js");
          const allowed = new Set(("h2 h3 h4 h5 h6 p br strong em del code pre a ul ol li blockquote hr div table " +
            "thead tbody tr th td").split(" "));
          const attributes = { a: ["href", "rel", "target"], ol: ["start"], div: ["class"], th: ["class"] };
          attributes.td = attributes.th;
          const bad = [];
          for (const text of texts) {
            for (const node of markdown(text).querySelectorAll("*")) {
              const name = node.localName;
              const known = allowed.has(name) && node.namespaceURI === "http://www.w3.org/1999/xhtml" &&
                node.getAttributeNames().every((each) => (attributes[name] ?? []).includes(each)) &&
                (name !== "a" || /^https?:/.test(node.protocol)) && (name !== "p" || node.firstChild);
              if (!known) bad.push([text, node.outerHTML]);
            }
          }
          return bad;
        }""",
        texts,
    )
    assert odd == []


@pytest.mark.long
def test_any_summary_is_rendered_in_no_time(page: Page, platform: Platform) -> None:
    size = 32 * 1024
    units = (
        "*¦**a ¦*a¦_a_ ¦a**b¦~~a¦[¦![¦[a](¦[a](https://x.example/(¦`a``¦<a ¦<https://¦\\¦> ¦>¦- ¦-¦ ¦# ¦#"
        "¦1. ¦|¦|-¦a|¦\n¦\t¦```\n¦- a\n¦  - a\n¦***¦=\n¦\r¦https://x.example/ ¦h¦*a_b¦`¦a\n\n"
        "¦|a|b|\n|-|-|\n¦> - ¦[x](y)¦\x1b[¦- [ ] ¦a  \n¦* * ¦a\n¦a \n¦*a\n"
    ).split("¦")
    texts = [(unit * (size // len(unit) + 1))[:size] for unit in units]
    texts += [
        "- " + " " * size + "x",
        "-" + " " * size,
        "# " + " " * size + "#",
        "".join("`" * n + " " for n in range(250)),
    ]
    texts += ["\n".join("  " * n + "- a" for n in range(200)), "".join("> " * n + "a\n" for n in range(200))]
    texts += ["|a" * 1000 + "\n" + "|-" * 1000 + "\n" + ("|a" * 40 + "\n") * 300]
    page.goto(platform.url)
    found = page.evaluate(
        """async (texts) => {
          const { markdown } = await import("/static/log/markdown.js");
          return texts.map((text) => {
            const began = performance.now();
            const nodes = markdown(text).querySelectorAll("*").length;
            return [performance.now() - began, nodes, text.slice(0, 30)];
          });
        }""",
        texts,
    )
    slowest = max(found)
    print(f"the slowest of {len(texts)} summaries: {slowest[0]:.0f} ms ({slowest[2]!r})")
    assert slowest[0] < 500, slowest
    assert max(nodes for _, nodes, _ in found) < 10_000


#: Fills the browser's store of cookies for its host, and sets the session's own, if it can.
ATTACK = """<!doctype html><title>attack</title><script>
for (let i = 0; i < 200; i++) document.cookie = `c${i}=filled; path=/; max-age=9999`;
for (const domain of ["", "; domain=localhost", "; domain=127.0.0.1"])
  document.cookie = "NAME=attacker; path=/" + domain;
</script>"""


def test_a_release_can_not_touch_the_session(page: Page, platform: Platform) -> None:
    """
    A release at another port of the page's host pushed the session out of the browser, or put the attacker's in its
    place: then an admin did everything as somebody else.
    """
    signed_in(page, platform)
    (cookie,) = page.context.cookies(platform.url)
    files = {".twistedipc.toml": '[build]\nsteps = []\noutput = "site"\n'}
    attack = ATTACK.replace("NAME", cookie["name"])  # even if it knew the name
    platform.add_project("attack", platform.repository({**files, "site/index.html": attack}), default_ref="main")
    build = platform.succeed(platform.build("attack"))
    port = platform.releases_port
    assert build["release_url"] == f"http://attack.localhost:{port}/"
    for address in (build["release_url"], f"http://127.0.0.2:{port}/attack/"):
        page.goto(address)
        expect(page).to_have_title("attack")
        assert len(page.evaluate("document.cookie")) > 1000, "it has filled its own store"
        assert page.context.cookies(platform.url) == [cookie]
    for host in ("127.0.0.1", "localhost"):
        answer = page.goto(f"http://{host}:{port}/attack/")
        assert answer is not None
        assert answer.status == 421
    page.goto(platform.url)
    expect(page.locator("#who")).to_have_text("admin")
    # A second session in the browser, however it came there, is no session; and both are forgotten.
    page.context.add_cookies(
        [{"name": cookie["name"], "value": "tipc_x", "domain": "127.0.0.1", "path": "/api", "httpOnly": True}]
    )
    page.goto(platform.url)
    expect(page.locator("#token")).to_be_visible()
    assert page.context.cookies(platform.url) == []
