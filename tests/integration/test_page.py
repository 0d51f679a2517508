"""The page in a real browser, on real services: what a person sees, live, and that strangers' output stays text."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.browser import chromium
from tests.integration.platform import Platform, wait_for
from twistedipc.web import terminal

#: What a build may write: markup, and what a terminal would obey.
OUTPUT = (
    "plain\n\x1b[32mgreen\x1b[0m \x1b[1;38;5;208morange\x1b[0m\n10%\r50%\r100%\n"
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "\x1b[2J\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\\x1b]52;c;eA==\x07\u202ereversed\n"
)
MANY = (
    "i=0; while [ $i -lt 100 ]; do seq -f 'line %.0f of many, with some more text behind it' 1 1000; i=$((i+1)); done"
)
STEPS = {
    "show": "cat show.txt && mkdir dist && echo hello > dist/index.html",
    "slow": "echo begin; while [ ! -e $FILE ]; do sleep 0.05; done; echo finished",
    "many": MANY,
    "lossy": "echo begin; while [ ! -e $FILE ]; do sleep 0.05; done; echo destroyed; sleep 1; echo the end",
    "fail": "echo no; exit 3",
}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a project for each thing that a build may do."""
    with Platform(tmp_path_factory.mktemp("page")) as platform:
        for name, run in STEPS.items():
            step = f"{{name = {json.dumps(name)}, run = {json.dumps(run)}}}"
            output = 'output = "dist"\n' if name == "show" else ""
            files = {".twistedipc.toml": f"[build]\nsteps = [{step}]\n{output}", "show.txt": OUTPUT}
            platform.add_project(
                name, platform.repository(files), publish={"static": name == "show"}, default_ref="main"
            )
        yield platform


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a profile of its own. What it complains about fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None)
    page.set_default_timeout(30_000)
    yield page
    context.close()
    assert complaints == []


def signed_in(page: Page, platform: Platform, where: str = "") -> None:
    """Sign in by the address that the demo prints, then go there."""
    page.goto(f"{platform.url}/#token={platform.token}")
    expect(page.locator("#who")).to_have_text("admin")
    if where:
        page.goto(f"{platform.url}/{where}")


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
    expect(page.locator(".sign-in [role=alert]")).to_contain_text("this token is not good")
    page.fill("#token", platform.token)
    page.click(".sign-in button")
    expect(page.locator("h1")).to_have_text("Builds")


def test_builds_come_by_themselves(page: Page, platform: Platform) -> None:
    signed_in(page, platform)
    expect(page.locator("#connection")).to_have_text("live")
    build = platform.build("fail")
    row = page.locator("tr", has_text=f"#{build}")
    expect(row.locator(".state")).to_have_text("failed")
    row.locator("a").first.click()
    expect(page.locator(".log")).to_contain_text("no\n")
    expect(page.locator("p.reason")).to_contain_text("exit code 3")
    expect(page.locator(".steps li.failed")).to_contain_text("fail")
    expect(page.locator(".log-foot .good")).to_contain_text("complete, verified")


def test_a_log_live_then_published_then_rolled_back(page: Page, platform: Platform) -> None:
    signed_in(page, platform, "#/projects/show")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator(".log-foot .good")).to_contain_text("complete, verified", timeout=60_000)
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
    assert page.locator(".log .b").evaluate("e => getComputedStyle(e).color") == "rgb(255, 135, 0)"
    assert page.get_by_role("link", name="Open the release").get_attribute("href", timeout=5000)
    platform.succeed(platform.build("show"))
    page.goto(f"{platform.url}/#/projects/show")
    page.get_by_role("button", name="Make live").first.click()
    expect(page.locator(".state.rolled_back")).to_be_visible()


def test_it_goes_on_where_it_broke_off(page: Page, platform: Platform) -> None:
    signal = platform.folder / "go-on"
    build = platform.build("slow", parameters={"FILE": str(signal)})
    signed_in(page, platform, f"#/builds/{build}")
    expect(page.locator(".log")).to_contain_text("begin")
    platform.apiserver.kill()
    expect(page.locator("#connection")).to_have_text("reconnecting")
    platform.apiserver.start()
    platform.linked()
    signal.write_text("")
    expect(page.locator(".log-foot .good")).to_contain_text("complete, verified", timeout=60_000)
    text = "".join(page.locator(".log .text").all_inner_texts())
    assert text.endswith("begin\nfinished\n")
    assert text.count("begin") == 1


def test_lines_that_are_missing_are_said_to_be(page: Page, platform: Platform) -> None:
    """A line that the builder's disk has destroyed while the apiserver was away."""
    signal = platform.folder / "end-it"
    build = platform.build("lossy", parameters={"FILE": str(signal)})
    signed_in(page, platform, f"#/builds/{build}")
    expect(page.locator(".log")).to_contain_text("begin")
    platform.apiserver.kill()
    expect(page.locator("#connection")).to_have_text("reconnecting")
    signal.write_text("")
    (folder,) = (platform.folder / "builder-data" / "attempts").glob(f"{build}-1-*")
    wait_for("the result", (folder / "result.json").exists)
    (journal,) = (folder / "journal").iterdir()
    journal.write_bytes(journal.read_bytes().replace(b"destroyed", b"destroyer"))
    platform.apiserver.start()
    platform.linked()
    foot = page.locator(".log-foot .bad")
    expect(foot).to_have_text(re.compile(r"^incomplete: \d+ of \d+ lines are missing$"), timeout=60_000)
    expect(page.locator(".row .state")).to_have_text("succeeded")
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
    gutter = "".join(page.locator(".log .gutter").all_inner_texts()).split()
    numbers = [int(number) for number in gutter]
    assert numbers == sorted(set(numbers))
    # The same for who comes when all is over.
    page.reload()
    expect(foot).to_have_text(re.compile(f"^incomplete: {missing} of "))
    expect(page.locator(".log .gap")).to_have_text(said)


def test_cancel_and_try_again(page: Page, platform: Platform) -> None:
    build = platform.build("slow", parameters={"FILE": "/nonexistent/file"})
    signed_in(page, platform, f"#/builds/{build}")
    expect(page.locator(".log")).to_contain_text("begin")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".row .state")).to_have_text("cancelled")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".facts")).to_contain_text("attempts 1 2")
    expect(page.locator(".log")).to_contain_text("begin")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".log-foot .good")).to_contain_text("complete, verified")


def test_a_hundred_thousand_lines(page: Page, platform: Platform) -> None:
    build = platform.build("many")
    platform.succeed(build)
    signed_in(page, platform)
    # The longest time between two frames while the log comes in.
    page.evaluate(
        """() => {
          window.longest = 0;
          let last = performance.now();
          const frame = (now) => {
            window.longest = Math.max(window.longest, now - last);
            last = now;
            requestAnimationFrame(frame);
          };
          requestAnimationFrame(frame);
        }"""
    )
    page.evaluate(f"location.hash = '#/builds/{build}'")
    expect(page.locator(".log-foot .good")).to_contain_text("complete, verified (100,", timeout=60_000)
    assert page.locator(".log *").count() < 2000, "lines are no elements"
    bottom = page.evaluate(
        "(() => { const l = document.querySelector('.log'); return l.scrollHeight - l.scrollTop - l.clientHeight; })()"
    )
    assert bottom < 60, "it follows the end"
    longest = page.evaluate("window.longest")
    print(f"the longest pause between two frames: {longest:.0f} ms")
    assert longest < 1000


def test_a_revoked_token_ends_the_session(page: Page, platform: Platform) -> None:
    made = json.loads(platform.command("token", "create", "guest", "--scope", "read", "--json").stdout)
    page.goto(f"{platform.url}/#token={made['token']}")
    expect(page.locator("#who")).to_have_text("guest")
    page.goto(f"{platform.url}/#/projects/show")
    expect(page.locator(".facts")).to_be_visible()
    assert page.get_by_role("button", name="Publish").count() == 0
    platform.api("DELETE", f"/api/v1/tokens/{made['id']}")
    page.goto(f"{platform.url}/#/projects/fail")
    expect(page.locator(".sign-in h1")).to_have_text("Sign in")


def test_a_build_that_is_not_there(page: Page, platform: Platform) -> None:
    signed_in(page, platform, "#/builds/999999")
    expect(page.locator("main")).to_contain_text("There is no such build")


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
          const { nodesOf, Style } = await import("/static/terminal.js");
          return lines.map((line) => nodesOf(line, new Style()).map((node) => node.textContent).join(""));
        }""",
        lines,
    )
    assert shown == [terminal.plain(line) for line in lines]
    # Colours change nothing of what is shown.
    assert shown == [re.sub(r"\x1b\[[0-9;:]*m", "", terminal.colours(line)) for line in lines]


def test_its_digest_is_sha256(page: Page, platform: Platform) -> None:
    page.goto(platform.url)
    digests = page.evaluate(
        """async () => {
          const { SHA256 } = await import("/static/sha256.js");
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
