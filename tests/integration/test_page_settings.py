"""A project's settings on the page, in a real browser: seen, changed, and removed only after a question."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Locator, Page, Route, expect

from tests.integration.browser import SOON, chromium
from tests.integration.platform import BARE, Platform, wait_for
from tests.outside import Anybody
from tests.outside_server import OutsideServer

pytestmark = pytest.mark.long

AXE = Path(__file__).parent.parent.parent / "twistedipc/web/page/node_modules/axe-core/axe.min.js"

#: The sections by their addresses, with the view of what isn't kept.
SECTIONS = (
    *(
        f"#/projects/site/settings/{each}"
        for each in (
            "builds",
            "targets",
            "variables",
            "domains",
            "pushes",
            "schedules",
            "receivers",
            "members",
            "retention",
            "access",
            "general",
        )
    ),
    "#/storage",
    "#/projects?new=yes",
)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("settings"), isolation=BARE) as platform:
        repository = platform.repository({"index.html": "hello"})
        platform.add_project("site", repository, publish={"static": True}, default_ref="main")
        platform.add_project("other", repository, publish={"static": False}, environment={"MODE": "x"})
        yield platform


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def window(browser: Browser, platform: Platform) -> Page:
    """A window in which the admin is signed in."""
    window = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    window.set_default_timeout(SOON)
    window.goto(f"{platform.url}/#token={platform.token}")
    expect(window.locator("#who")).to_have_text("admin")
    return window


@pytest.fixture
def page(window: Page) -> Iterator[Page]:
    """The window. What its page complains about fails the test."""
    complaints: list[str] = []

    def error(error: Error) -> None:
        complaints.append(str(error))

    def said(said: ConsoleMessage) -> None:
        if "Content Security Policy" in said.text:
            complaints.append(said.text)

    window.on("pageerror", error)
    window.on("console", said)
    window.set_viewport_size({"width": 1280, "height": 900})
    yield window
    window.remove_listener("pageerror", error)
    window.remove_listener("console", said)
    assert complaints == []


def section(page: Page, platform: Platform, project: str, name: str, text: str) -> Locator:
    page.goto(f"{platform.url}/#/projects/{project}/settings/{name}")
    return page.get_by_role("region", name=text, exact=True)


def unfold(where: Locator, summary: str) -> None:
    where.locator("summary", has_text=re.compile(f"^{summary}$")).click()


def agree(page: Page, verb: str, says: str = "", typed: str = "") -> None:
    """Answer the question that has to be there, after what it says."""
    asking = page.get_by_role("dialog")
    expect(asking).to_contain_text(says)
    if typed:
        asking.get_by_label(f"Type {typed} to go on").fill(typed)
    asking.get_by_role("button", name=verb, exact=True).click()
    expect(asking).to_have_count(0)


def test_how_a_project_is_built_is_changed(page: Page, platform: Platform) -> None:
    builds = section(page, platform, "other", "builds", "Sources and builds")
    builds.get_by_role("button", name="Save").click()
    expect(builds.get_by_role("status").last).to_have_text("Nothing is changed.")
    builds.get_by_label("Protected refs").fill("main release/*")
    builds.get_by_label("Longest build, in minutes").fill("10")
    builds.get_by_label("Folder", exact=True).fill("apps/shop")
    builds.get_by_label("Build command").fill("npm run build:all")
    builds.get_by_label("Install nothing").check()
    builds.get_by_label("A single-page application").select_option("no")
    # What is typed stays when the project is read again meanwhile: a build of it begins.
    with page.expect_response(re.compile("/api/v1/projects/other$")):
        platform.build("other")
    expect(builds.get_by_label("Install nothing")).to_be_checked()
    builds.get_by_role("button", name="Save").click()
    expect(builds.get_by_role("status").last).to_have_text("Saved.")
    found = platform.api("GET", "/api/v1/projects/other")
    assert (found["protected"], found["timeout"]) == (["main", "release/*"], 600)
    assert found["settings"] == {"root": "apps/shop", "build": "npm run build:all", "install": "", "spa": False}
    unfold(builds, "Caches, network and what else it may say")
    builds.get_by_label("Caches", exact=True).fill("../outside")
    builds.get_by_role("button", name="Save").click()
    expect(builds.get_by_role("alert")).to_contain_text("caches")
    page.reload()
    for label in ("Folder", "Build command"):
        builds.get_by_label(label, exact=True).fill("")
    builds.get_by_label("Install nothing").uncheck()
    builds.get_by_label("A single-page application").select_option("")
    builds.get_by_role("button", name="Save").click()
    expect(builds.get_by_role("status").last).to_have_text("Saved.")
    assert platform.api("GET", "/api/v1/projects/other")["settings"] == {}


def test_variables_secrets_and_environments(page: Page, platform: Platform) -> None:
    part = section(page, platform, "other", "variables", "Variables and secrets")
    expect(part).to_contain_text("MODE")
    unfold(part, "Set an environment")
    part.get_by_label("Name of the environment").fill("staging")
    part.get_by_label("Refs that lead to it").fill("staging release/*")
    part.get_by_role("button", name="Set the environment").click()
    environments = part.get_by_role("region", name="Environments")
    expect(environments.get_by_role("table")).to_contain_text("staging release/*")
    unfold(part, "Set a variable")
    part.get_by_label("Name of the variable").fill("API_KEY")
    part.get_by_label("Value", exact=True).fill("<b>not bold</b>")
    part.get_by_role("region", name="Variables").get_by_label("For").select_option("previews")
    part.get_by_role("button", name="Set the variable").click()
    expect(part).to_contain_text("API_KEY looks like a secret")
    expect(part.get_by_role("region", name="Variables").get_by_role("table")).to_contain_text("<b>not bold</b>")
    assert platform.api("GET", "/api/v1/projects/other")["of_contexts"]["previews"] == {"API_KEY": "<b>not bold</b>"}
    unfold(part, "Set a secret")
    part.get_by_label("Name of the secret").fill("DEPLOY_KEY")
    part.get_by_label("Value of the secret").fill("-----BEGIN-----\ns3cret line\n")
    part.get_by_label("Given to").select_option("install")
    part.get_by_role("button", name="Set the secret").click()
    secrets = part.get_by_role("region", name="Secrets")
    expect(secrets.get_by_role("table")).to_contain_text("the step install")
    expect(part.get_by_label("Value of the secret")).to_have_value("")
    (secret,) = platform.api("GET", "/api/v1/projects/other")["build_secrets"]
    assert (secret["name"], secret["steps"], secret["builds"]) == ("DEPLOY_KEY", "install", "all")
    assert "s3cret" not in page.content()
    part.get_by_label("Name of the secret").fill("PATH")
    part.get_by_label("Value of the secret").fill("long enough")
    part.get_by_role("button", name="Set the secret").click()
    expect(part.get_by_role("alert")).to_contain_text("a secret can't be named PATH")
    part.get_by_role("button", name="Remove DEPLOY_KEY").click()
    agree(page, "Remove", "Its value is erased")
    part.get_by_role("button", name="Remove staging").click()
    agree(page, "Remove", "are previews from now on")
    part.get_by_role("button", name="Remove MODE").click()
    page.get_by_role("dialog").get_by_role("button", name="Don't").click()
    expect(part.get_by_role("button", name="Remove MODE")).to_be_focused()
    page.keyboard.press("Enter")
    agree(page, "Remove", "go without MODE")
    expect(part.get_by_text("MODE", exact=True)).to_have_count(0)
    found = platform.api("GET", "/api/v1/projects/other")
    assert (found["environment"], found["build_secrets"], found["environments"]) == ({}, [], [])


def test_where_a_project_publishes(page: Page, platform: Platform) -> None:
    """The form is made from what the API says of the targets, and says what a change has made void."""
    form = section(page, platform, "site", "targets", "Where it publishes")
    static, npm = form.get_by_label("static release"), form.get_by_label("npm package")
    expect(static).to_be_checked()
    expect(npm).not_to_be_checked()
    expect(form.get_by_label("Registry", exact=True)).to_be_hidden()
    npm.check()
    form.get_by_label("Registry", exact=True).fill("http://npm.example/")
    form.get_by_label("Packages", exact=True).fill("@acme/ui\n@acme/*")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("status").first).to_contain_text("Saved. http://npm.example/ isn't https")
    npm_now = {"type": "npm", "registry": "http://npm.example/", "packages": ["@acme/ui", "@acme/*"]}
    assert platform.api("GET", "/api/v1/projects/site")["targets"] == [{"type": "static"}, npm_now]
    form.get_by_label("Headers", exact=True).fill("Referrer-Policy: no-referrer, same-origin\nX-Frame-Options:")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("status").first).to_contain_text("Saved.")
    static_now = {"type": "static", "headers": ["Referrer-Policy: no-referrer, same-origin", "X-Frame-Options:"]}
    wait_for("it is saved", lambda: platform.api("GET", "/api/v1/projects/site")["targets"] == [static_now, npm_now])
    form.get_by_label("Headers", exact=True).fill("")
    form.get_by_label("Value of npm_token").fill("npm_1234567890")
    form.get_by_role("button", name="Set", exact=True).click()
    expect(form.get_by_role("button", name="Replace")).to_be_visible()
    assert platform.api("GET", "/api/v1/projects/site")["secrets"] == ["npm_token"]
    # What is switched off keeps its settings; what has none goes.
    npm.uncheck()
    form.get_by_role("button", name="Save").click()
    agree(page, "Publish there no more", "don't publish to npm package")
    expect(form.get_by_role("status").first).to_have_text("Saved.")
    assert platform.api("GET", "/api/v1/projects/site")["targets"] == [{"type": "static"}, {**npm_now, "paused": True}]
    page.reload()
    npm.check()
    expect(form.get_by_label("Registry", exact=True)).to_have_value("http://npm.example/")
    form.get_by_label("Registry", exact=True).fill("nothing of the kind")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_contain_text("registry")


def test_hooks_and_polling(page: Page, platform: Platform) -> None:
    part = section(page, platform, "other", "pushes", "Pushes and pull requests")
    expect(part).to_contain_text("No message is taken")
    part.get_by_role("button", name="Make a secret").click()
    expect(part.locator(".secret")).to_contain_text("/hooks/other")
    first = part.locator(".secret code").last.inner_text()
    part.get_by_role("button", name="Replace the secret").click()
    agree(page, "Replace", "stops at once")
    expect(part.locator(".secret code").last).not_to_have_text(first)
    part.get_by_label("Branches").fill("main fix/*")
    part.get_by_label("Pull requests build").uncheck()
    part.get_by_role("button", name="Save").click()
    expect(part.get_by_text("Saved.")).to_be_visible()
    assert platform.api("GET", "/api/v1/projects/other/hook")["settings"] == {
        "branches": ["main", "fix/*"],
        "pull_requests": False,
    }
    part.get_by_label("Every so many minutes").fill("7")
    part.get_by_role("button", name="Look at it").click()
    expect(part).to_contain_text("The repository is looked at every 7 minutes")
    expect(part).to_contain_text("Nothing has moved yet")
    part.get_by_role("button", name="Stop polling").click()
    agree(page, "Stop", "isn't looked at any more")
    expect(part).to_contain_text("No message has come yet")
    part.get_by_role("button", name="Remove the hook").click()
    agree(page, "Remove")
    expect(part).to_contain_text("No message is taken")


def test_schedules_receivers_and_what_was_told(page: Page, platform: Platform) -> None:
    schedules = section(page, platform, "other", "schedules", "Schedules")
    unfold(schedules, "Set a schedule")
    schedules.get_by_label("Name of the schedule").fill("nightly")
    schedules.get_by_label("Times, as cron has them").fill("61 2 * * *")
    schedules.get_by_role("button", name="Set the schedule").click()
    expect(schedules.get_by_role("alert")).to_contain_text("61")
    schedules.get_by_label("Times, as cron has them").fill("30 2 * * MON-FRI")
    schedules.get_by_role("button", name="Set the schedule").click()
    expect(schedules.get_by_role("table")).to_contain_text("30 2 * * MON-FRI")
    schedules.get_by_role("button", name="Remove nightly").click()
    agree(page, "Remove", "isn't built at these times")
    expect(schedules).to_contain_text("Nothing is built by schedule")
    page.get_by_role("link", name="Notifications").click()
    receivers = page.get_by_role("region", name="Notifications")
    unfold(receivers, "Set a receiver")
    receivers.get_by_label("Kind").select_option("slack")
    expect(receivers.get_by_label("Address")).to_have_attribute("type", "password")
    receivers.get_by_label("Kind").select_option("webhook")
    hook = Anybody()
    server = OutsideServer(hook, "http://hooks.example")
    try:
        receivers.get_by_label("Name of the receiver").fill("hook")
        receivers.get_by_label("Address").fill(f"{server.url}/secret")
        receivers.get_by_label("Events").fill("failed live")
        receivers.get_by_role("button", name="Set the receiver").click()
        expect(receivers.get_by_role("table", name="Receivers")).to_contain_text("failed live")
        expect(receivers.locator(".secret")).to_contain_text("It isn't shown again")
        platform.api("PATCH", "/api/v1/projects/other", {"settings": {"build": "exit 3"}})
        build = platform.build("other")
        platform.wait(build, {"failed"})
        wait_for("it is told", lambda: hook.asked)
        page.reload()
        told = receivers.get_by_role("region", name="Who was told")
        row = told.get_by_role("row").filter(has_text=f"#{build}")
        row.get_by_role("button", name="Tell hook of build").click()
        wait_for("it is told again", lambda: len(hook.asked) == 2)
        assert hook.asked[0].headers["Webhook-Id"] == hook.asked[1].headers["Webhook-Id"]
        receivers.get_by_role("button", name="Remove hook", exact=True).click()
        agree(page, "Remove", "its secret is erased")
        expect(receivers).to_contain_text("News go to nobody")
    finally:
        server.stop()


def test_domains_and_members(page: Page, platform: Platform) -> None:
    domains = section(page, platform, "site", "domains", "Domains")
    unfold(domains, "Add a domain")
    for name, use in {"bücher.example": "served", "www.bücher.example": "redirect"}.items():
        domains.get_by_label("Domain", exact=True).fill(name)
        domains.get_by_label("Use").select_option(use)
        domains.get_by_role("button", name="Add the domain").click()
        expect(domains.get_by_role("link", name=name, exact=True)).to_be_visible()
    row = domains.get_by_role("row").filter(has=page.get_by_role("link", name="www.bücher.example"))
    expect(row).to_contain_text("leads to the main one")
    domains.get_by_label("Domain", exact=True).fill("localhost")
    domains.get_by_role("button", name="Add the domain").click()
    expect(domains.get_by_role("alert")).to_contain_text("localhost has one part only")
    row.get_by_role("button", name="Remove www.bücher.example").click()
    agree(page, "Remove", "Links to it end")
    expect(row).to_have_count(0)

    platform.api("POST", "/api/v1/people", {"name": "bob"})
    members = section(page, platform, "site", "members", "Members")
    unfold(members, "Give a role")
    members.get_by_label("Name", exact=True).fill("bob")
    members.get_by_label("Role", exact=True).select_option("publisher")
    members.get_by_role("button", name="Give the role").click()
    expect(members.get_by_role("table")).to_contain_text("publisher")
    members.get_by_role("button", name="Remove bob").click()
    agree(page, "Remove", "doesn't see site any more")
    expect(members).to_contain_text("Nobody is a member")


def test_what_is_kept(page: Page, platform: Platform) -> None:
    """Rules that would leave nothing are asked back; what goes is shown before, and what is pinned stays."""
    first = platform.build("site")
    platform.succeed(first)
    platform.succeed(platform.build("site", publish=False))
    kept = section(page, platform, "site", "retention", "What is kept")
    expect(kept.get_by_label("Logs")).to_be_visible()
    kept.get_by_label("Logs").fill("soon")
    kept.get_by_role("button", name="Save").click()
    expect(kept.get_by_role("alert")).to_contain_text("retention")
    kept.get_by_label("Logs").fill("2 weeks")
    kept.get_by_label("Releases").fill("3")
    kept.get_by_role("button", name="Save").click()
    expect(kept.get_by_role("status").first).to_have_text("Saved.")
    assert platform.api("GET", "/api/v1/projects/site")["retention"] == {"logs": 14, "releases": 3}
    page.goto(f"{platform.url}/#/builds/{first}")
    page.get_by_role("button", name="Pin").click()
    expect(page.get_by_role("button", name="Pinned")).to_have_attribute("aria-pressed", "true")
    assert platform.api("GET", f"/api/v1/builds/{first}")["pinned"]
    page.get_by_role("button", name="Pinned").click()
    expect(page.get_by_role("button", name="Pin", exact=True)).to_be_visible()

    kept = section(page, platform, "site", "retention", "What is kept")
    expect(kept.get_by_label("Logs")).to_have_value("14 days")
    kept.get_by_label("Archives of builds that publish nothing").fill("0")
    asked: list[dict[str, Any]] = []

    def answer(route: Route) -> None:
        """As the API does where nothing is left by a rule, which needs logs that are days old."""
        body = route.request.post_data_json or {}
        if route.request.method != "PATCH" or body.get("confirm"):
            return route.continue_()
        asked.append(body)
        detail = "by these rules even the newest logs of site would be removed: say confirm = true if that is meant"
        return route.fulfill(status=409, json={"detail": detail})

    page.route("**/api/v1/projects/site", answer)
    for verb in ("Don't", "Keep so little"):
        kept.get_by_role("button", name="Save").click()
        asking = page.get_by_role("dialog")
        expect(asking).to_contain_text("even the newest logs of site would be removed.")
        asking.get_by_label("Type site to go on").fill("site")
        asking.get_by_role("button", name=verb).click()
        expect(asking).to_have_count(0)
        expect(kept.get_by_role("status").first).to_have_text("Saved." if asked[1:] else "Nothing is changed.")
    page.unroute("**/api/v1/projects/site")
    assert asked == [{"retention": {"logs": 14, "releases": 3, "unpublished": 0}}] * 2
    assert platform.api("GET", "/api/v1/projects/site")["retention"] == asked[0]["retention"]
    table = kept.get_by_role("table", name="What would go now")
    expect(table).to_contain_text("unpublished = 0 days")
    kept.get_by_role("button", name="Remove it now").click()
    expect(page.get_by_role("dialog")).to_contain_text("1 archive of builds that publish nothing")
    agree(page, "Remove it", "It can't be brought back")
    expect(kept).to_contain_text("1 archive of builds that publish nothing")
    expect(kept).to_contain_text("removed")
    page.goto(f"{platform.url}/#/storage")
    expect(page.locator("main")).to_contain_text("The last run was")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, platform: Platform, scheme: str) -> None:
    """Nothing at 390 px either, where no section is wider than the screen."""
    if not AXE.exists():
        if os.environ.get("TWISTEDIPC_TESTS_NO_SKIP"):
            pytest.fail("axe-core isn't installed: `make check` installs it")
        pytest.skip("axe-core isn't installed (make check installs it)")
    page.emulate_media(color_scheme="light" if scheme == "light" else "dark", reduced_motion="reduce")
    page.set_viewport_size({"width": 390 if scheme == "dark" else 1280, "height": 900})
    found = []
    for view in SECTIONS:
        page.goto(f"{platform.url}/{view}")
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".loading")).to_have_count(0)
        for summary in page.locator("main summary").all():
            summary.click()
        page.evaluate(AXE.read_text("utf-8"))  # the page's policy lets no other script in: this is the debugger's way
        options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        answer = page.evaluate("(options) => axe.run(document, options)", options)
        for each in answer["violations"]:
            found += [f"{view}: {each['id']}: {node['html'][:160]}" for node in each["nodes"][:3]]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{view} is wider than the screen")
    assert not found, "\n".join(found)


def test_who_may_not_change_sees(page: Page, platform: Platform) -> None:
    """Without forms, and without what is for administrators."""
    made = platform.api("POST", "/api/v1/tokens", {"name": "guest", "scopes": ["read"]})
    context = page.context.browser
    assert context is not None
    guest = context.new_context().new_page()
    try:
        guest.goto(f"{platform.url}/#token={made['token']}")
        expect(guest.locator("#who")).to_have_text("guest")
        for name in ("builds", "variables", "domains", "pushes", "schedules", "receivers", "members", "retention"):
            guest.goto(f"{platform.url}/#/projects/site/settings/{name}")
            expect(guest.locator(".section h2")).to_be_visible()
            expect(guest.locator(".loading")).to_have_count(0)
            assert guest.locator(".section form").count() == 0, name
        assert guest.get_by_role("link", name="Caches and removal").count() == 0
    finally:
        guest.context.close()
