"""
What is released is a site: which folder of a working copy is packed, and what is said where none is. With real git,
and folders as frameworks leave them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.attempt_folder import git, repository
from twistedipc.builds.attempt import Checkout, Publish, Spec
from twistedipc.builds.logs import Annotation
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.recognised import PlannedStep
from twistedipc.disk.files import read_file, write_file
from twistedipc.publish import output, pack
from twistedipc.publish.archive import CantPack, Manifest, read_manifest
from twistedipc.publish.site.checking import leads_elsewhere

PAGE = "<h1>hello</h1>\n"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n"
BUILT = [PlannedStep(name="build", run="npm run build")]


class Copy:
    """A working copy of one commit, and what a build has put into it."""

    def __init__(self, base: Path, tracked: Mapping[str, str]) -> None:
        self.folder = base
        self.work = base / "work"
        self.url = ""  # where the project's releases are served
        self.commit = repository(self.work, {"package.json": "{}", **tracked})

    def build(self, *files: str) -> Copy:
        """Write files with a page in each."""
        for name in files:
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(PAGE)
        return self

    def found(self, **plan: str) -> str:
        """The folder that is packed."""
        there = output.Commit(str(self.work / ".git"), self.commit)
        return output.find_output(self.work, Plan(steps=BUILT, **plan), there)  # type: ignore[arg-type]

    def refused(self, **plan: str) -> str:
        """Why none is."""
        with pytest.raises(CantPack) as raised:
            self.found(**plan)
        return str(raised.value)

    def pack(self, *, publish: Publish | None = None, site: bool = False, **plan: str | bool) -> list[str]:
        """Run the pack step: the names of what was packed."""
        spec = Spec(
            attempt="1-1", lease="0" * 16, build=1, project="demo", repository="", ref="main", path="",
            publish=publish or Publish(), site=site, mirror=str(self.work / ".git"), doorbell="", url=self.url,
        )  # fmt: skip
        write_file(self.folder / "spec.json", spec)
        write_file(self.folder / "plan.json", Plan(steps=BUILT, **plan))  # type: ignore[arg-type]
        write_file(self.folder / "checkout.json", Checkout(commit=self.commit, subject="", author=""))
        pack.run(self.folder)
        manifest = read_file(self.folder / "manifest.json", Manifest)
        return [] if manifest is None else [file.path for file in manifest.files]


SITE = Publish(static=True)


@pytest.mark.parametrize(
    ("tracked", "built", "folder"),
    [
        (["public/logo.svg"], ["_site/index.html"], "_site"),
        (["public/logo.svg"], [".output/public/index.html", ".output/server/index.mjs"], ".output/public"),
        (["public/index.html"], ["build/index.html"], "build"),  # create-react-app: its template is in public
        (["public/logo.svg", "index.html"], ["dist/index.html"], "dist"),
        (["public/logo.svg"], [".next/server/app/index.html", "out/index.html"], "out"),
        (["src/index.ts"], ["dist/index.js", "storybook-static/index.html"], "storybook-static"),
        (["docs/index.md"], ["docs/.vitepress/dist/index.html"], "docs/.vitepress/dist"),
        (["content/a.md"], ["public/index.html"], "public"),
        # A few tracked files, or one that keeps the folder, are no site: the build has made it of the folder.
        (["dist/.gitkeep"], ["dist/index.html"], "dist"),
        (["public/robots.txt"], ["public/index.html"], "public"),
        # A committed site is a source, even where the build writes it again.
        (["dist/index.html"], ["dist/index.html", "out/index.html"], "out"),
        (["build/index.html"], ["build/client/index.html", "_site/index.html"], "_site"),
    ],
)
def test_the_folder_that_the_build_made(tmp_path: Path, tracked: list[str], built: list[str], folder: str) -> None:
    """The first of dist, build, out and public that was there was released: five SVGs, or one empty file, green."""
    copy = Copy(tmp_path, dict.fromkeys(tracked, PAGE)).build(*built)
    assert copy.found() == folder
    assert "index.html" in copy.pack(publish=SITE)


@pytest.mark.parametrize(
    ("tracked", "built", "sentences"),
    [
        (
            ["public/logo.svg"],
            ["dist/shop/browser/index.html", "dist/shop/3rdpartylicenses.txt"],
            [
                'dist/shop/browser has an index.html: set output = "dist/shop/browser" under [build] in .twisted',
                "dist has no index.html at its top.",
                "public is tracked by git: it is a source, not a result.",
            ],
        ),
        (
            ["public/logo.svg"],
            [".next/server/app/index.html"],
            [
                '.next is a server\'s output; for a static site set output: "export" in next.config.',
                "public is tracked",
            ],
        ),
        (
            ["apps/web/package.json"],
            ["apps/web/.next/server/app/index.html"],
            ["apps/web/.next is a server's output; "],
        ),
        ([], ["packages/a/dist/server/entry.mjs"], ["packages/a/dist/server is a server's output; "]),
        ([], [".svelte-kit/output/prerendered/pages/index.html"], [".svelte-kit is a server's output; "]),
        ([], [".vercel/output/static/index.html"], [".vercel/output is a server's output; "]),
        ([], [".output/server/index.mjs", ".output/public/a.js"], [".output/server is", ".output/public has no index"]),
        ([], ["build/server/index.js", "build/client/a.js"], ["build/server is a server's output; ", "ssr: false"]),
        ([], ["build/client/index.html"], ['set output = "build/client"']),
        ([], ["site/index.html", "site/a/index.html"], ['site has an index.html: set output = "site"']),
        ([], ["Dist/index.html"], ['Dist has an index.html: set output = "Dist"']),
        ([], ["apps/a/dist/index.html", "apps/b/dist/index.html"], ["apps/a/dist, apps/b/dist have an index.html"]),
        ([], ["index.html"], ['The top of the repository has an index.html: set output = "."']),
        ([], ["dist/Index.html"], ["dist has no index.html at its top, but Index.html."]),
        ([], ["dist/index.html/x"], ["dist/index.html isn't a file."]),
        (
            ["public/index.html"],
            [],
            ["public is tracked by git: it is a source, not a result (to release it all the same,"],
        ),
    ],
)
def test_what_is_said_where_there_is_no_site(
    tmp_path: Path, tracked: list[str], built: list[str], sentences: list[str]
) -> None:
    copy = Copy(tmp_path, dict.fromkeys(tracked, PAGE)).build(*built)
    said = copy.refused()
    assert said.startswith("There is no site to release. ")
    for sentence in sentences:
        assert sentence in said
    with pytest.raises(CantPack):
        copy.pack(site=True)
    # A project that makes no static release builds what it likes.
    copy.pack()


def test_nothing_at_all(tmp_path: Path) -> None:
    said = Copy(tmp_path, {"index.html": PAGE}).refused(remark="Nothing was built.")
    assert said.startswith("There is no site to release. Nothing was built. The build made none of dist, build, out,")
    assert '("." is the repository itself)' in said


def test_one_server_s_output_is_named(tmp_path: Path) -> None:
    """SvelteKit's build/server was said to be React Router's, after the right advice; packages' own were never seen."""
    copy = Copy(tmp_path, {}).build(".svelte-kit/x", "build/server/index.js", "node_modules/a/dist/server/x.js")
    said = copy.refused()
    assert ".svelte-kit is a server's output" in said
    assert "react-router" not in said
    copy = Copy(tmp_path / "2", {}).build("node_modules/a/dist/server/x.js", "1/2/3/.next/x", "src/a")
    assert "a server's output" not in copy.refused()


def test_an_empty_index_is_no_site(tmp_path: Path) -> None:
    copy = Copy(tmp_path, {})
    (copy.work / "dist").mkdir()
    assert "dist is empty." in copy.refused()
    (copy.work / "dist/index.html").touch()
    assert "dist/index.html is empty." in copy.refused()
    assert copy.refused(output="dist").startswith("dist/index.html is empty. For a folder of assets set index")
    (copy.work / "dist/index.html").write_text(" \n")  # as `echo > dist/index.html` makes it
    assert "dist/index.html is empty." in copy.refused()
    (copy.work / "dist/index.html").unlink()
    (copy.work / "dist/index.html").symlink_to("nowhere")
    assert "dist/index.html is a link to nothing." in copy.refused()


def test_what_is_searched_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Copy(tmp_path, {})
    copy.build("node_modules/a/index.html", "coverage/index.html", ".cache/index.html", "1/2/3/4/5/6/index.html")
    assert "has an index.html" not in copy.refused()
    copy.build("1/2/3/4/5/index.html")
    assert 'set output = "1/2/3/4/5"' in copy.refused()
    monkeypatch.setattr(output, "MAX_ENTRIES", 3)
    assert "has an index.html" not in copy.refused()


def test_sources_are_never_named(tmp_path: Path) -> None:
    """Neither what is in the commit, nor what a step has fetched into a submodule."""
    theme = tmp_path / "theme"
    repository(theme, {"index.html": PAGE, "demo/index.html": PAGE})
    copy = Copy(tmp_path / "copy", {"src/index.html": PAGE, "index.html": PAGE})
    for name in ("public", "themes/one"):
        git(copy.work, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(theme), name)
    git(copy.work, "commit", "--quiet", "-m", "submodules")
    copy.commit = git(copy.work, "rev-parse", "HEAD")
    said = copy.refused()
    assert "has an index.html" not in said
    assert "public is tracked by git" in said


def test_the_build_s_own_use_of_git_changes_nothing(tmp_path: Path) -> None:
    copy = Copy(tmp_path, {"public/index.html": PAGE}).build("dist/index.html")
    mirror = tmp_path / "mirror"
    git(tmp_path, "clone", "--quiet", "--bare", str(copy.work), str(mirror))
    git(copy.work, "add", "--force", "dist")
    git(copy.work, "rm", "--quiet", "--cached", "-r", "public")
    git(copy.work, "commit", "--quiet", "-m", "deployed")
    there = output.Commit(str(mirror), copy.commit)
    assert output.find_output(copy.work, Plan(steps=BUILT), there) == "dist"


def test_links(tmp_path: Path) -> None:
    copy = Copy(tmp_path, {"public/index.html": PAGE}).build(".output/public/index.html")
    (copy.work / "dist").symlink_to(".output/public")  # as Nuxt does
    assert copy.found() == "dist"
    (copy.work / "dist").unlink()
    (copy.work / "dist").symlink_to("public")
    assert copy.found() == ".output/public"
    (copy.work / "dist").unlink()
    (copy.work / "dist").symlink_to("/etc")
    assert copy.found() == ".output/public"
    assert copy.refused(output="dist") == "the output folder dist is a link that leaves the repository"
    (copy.work / "dist").unlink()
    (copy.work / "dist").symlink_to(".git")
    assert "link that leaves the repository" in copy.refused(output="dist")


# -- with build.output -----------------------------------------------------------------------------------------------


def test_the_named_folder_may_be_tracked(tmp_path: Path) -> None:
    assert Copy(tmp_path, {"dist/index.html": PAGE}).found(output="dist") == "dist"


def test_the_named_folder_needs_an_index(tmp_path: Path) -> None:
    """A folder of one picture replaced a site, and its address was a 404, with `output` set."""
    copy = Copy(tmp_path, {"src/index.html": PAGE}).build("site/logo.svg", "site/en/index.html")
    said = copy.refused(output="site")
    assert said == (
        'site has no index.html at its top. site/en has an index.html: set output = "site/en" under [build] in '
        '.twistedipc.toml. For a folder of assets set index = "" in .twistedipc.toml.'
    )
    assert copy.found(output="site", index="") == "site"
    assert copy.pack(publish=SITE, output="site", index="") == ["en/index.html", "logo.svg"]


def test_a_folder_of_assets_that_the_build_made(tmp_path: Path) -> None:
    copy = Copy(tmp_path, {"build/keep": "", "out/a.js": PAGE}).build("dist/a.js", "build/b.js", "out/a.js")
    assert copy.found(index="") == "dist"
    (copy.work / "dist/a.js").unlink()
    assert "build has files in it that are tracked by git." in copy.refused(index="")


def test_the_named_folder_isn_t_there(tmp_path: Path) -> None:
    copy = Copy(tmp_path, {}).build("site/index.html", "file")
    said = copy.refused(output="dist")
    assert said.startswith("the build made no folder dist, which build.output in .twistedipc.toml names. site has an")
    assert "file, which build.output in .twistedipc.toml names, isn't a folder" in copy.refused(output="file")


def test_plain_html(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The repository itself: without git, what begins with a dot (but `.well-known`), and what was installed."""
    files = [".twistedipc.toml", ".github/x", ".env", ".well-known/y", "index.html", "css/a.css", "css/.keep"]
    copy = Copy(tmp_path, dict.fromkeys(files, PAGE)).build("node_modules/a/index.js")
    packed = copy.pack(publish=SITE, output=".")
    assert "Left out, since it isn't in the commit: node_modules\n" in capsys.readouterr().out
    assert set(packed) == {".well-known/y", "index.html", "css/a.css", "package.json"}


def test_committed_node_modules_are_part_of_plain_html(tmp_path: Path) -> None:
    copy = Copy(tmp_path, {"index.html": PAGE, "node_modules/jquery/jquery.js": PAGE})
    assert "node_modules/jquery/jquery.js" in copy.pack(publish=SITE, output=".")


def test_a_project_without_static_releases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such a project needs no output, and its output needn't be a site: only a folder that it names is mentioned."""
    copy = Copy(tmp_path, {"public/logo.svg": PAGE})
    assert copy.pack() == []
    assert capsys.readouterr().out == ""
    assert copy.pack(output="lib") == []
    assert "No folder is packed: the build made no folder lib, which" in capsys.readouterr().out
    copy.build("dist/index.js")
    assert copy.pack() == ["index.js"]
    assert copy.pack(output="dist") == ["index.js"]
    (copy.work / "dist/broken").symlink_to("nowhere")
    copy.pack()
    assert "No folder is packed: broken is a link to nothing" in capsys.readouterr().out


# -- what is in it ---------------------------------------------------------------------------------------------------


def test_nothing_but_empty_files_is_no_release(tmp_path: Path) -> None:
    copy = Copy(tmp_path, {})
    (copy.work / "dist").mkdir()
    with pytest.raises(CantPack, match="the output folder dist is empty"):
        copy.pack(publish=SITE, output="dist", index="")
    (copy.work / "dist/logo.txt").touch()
    with pytest.raises(CantPack, match="the output folder dist has only empty files in it"):
        copy.pack(publish=SITE, output="dist", index="")
    assert not (tmp_path / "archive.tar.gz").exists()
    assert not (tmp_path / "artifact.json").exists()


@pytest.mark.parametrize(
    "pointer",
    [
        POINTER,
        POINTER.replace("\n", "\r\n"),
        POINTER.replace("git-lfs", "hawser"),
        POINTER.replace("oid", "ext-0-foo sha256:" + "b" * 64 + "\noid"),
    ],
)
def test_lfs_pointers_are_not_released(tmp_path: Path, pointer: str) -> None:
    """`version https://git-lfs…` was served as logo.png, green."""
    copy = Copy(tmp_path, {}).build("dist/index.html")
    for name in ("logo.png", "b.mp4", "c.mp4", "d.mp4"):
        (copy.work / "dist" / name).write_text(pointer, newline="")
    with pytest.raises(CantPack) as raised:
        copy.pack(publish=SITE)
    assert str(raised.value).startswith(
        "the output folder dist has Git LFS pointers in the place of files: b.mp4, c.mp4, d.mp4 and 1 more. "
    )
    assert "unless lfs = false is set" in str(raised.value)
    copy = Copy(tmp_path / "plain", {"index.html": PAGE, "logo.png": pointer})
    with pytest.raises(CantPack) as raised:
        copy.pack(publish=SITE, output=".")
    assert str(raised.value).startswith("the repository has Git LFS pointers in the place of files: logo.png. ")


def test_what_only_speaks_of_lfs_is_released(tmp_path: Path) -> None:
    copy = Copy(tmp_path, {}).build("dist/index.html")
    (copy.work / "dist/a.txt").write_text(POINTER + "and more\n")
    (copy.work / "dist/b.txt").write_text("version https://git-lfs.github.com/spec/v1\n")
    (copy.work / "dist/c.txt").write_text(POINTER + "\n" * 1024)
    assert copy.pack(publish=SITE) == ["a.txt", "b.txt", "c.txt", "index.html"]


def test_a_folder_that_can_t_be_read_is_passed_over(tmp_path: Path) -> None:
    copy = Copy(tmp_path, {}).build("site/index.html")
    (copy.work / "closed").mkdir(mode=0)
    try:
        assert 'set output = "site"' in copy.refused()
    finally:
        os.chmod(copy.work / "closed", 0o755)


@pytest.mark.parametrize(
    ("plan", "files", "spa"),
    [
        ({}, ["dist/index.html"], False),
        ({"spa": True}, ["dist/index.html", "dist/404.html"], True),
        ({"framework_spa": True}, ["dist/index.html"], True),
        ({"framework_spa": True}, ["dist/index.html", "dist/404.html"], False),
        ({"framework_spa": True}, ["dist/index.html", "dist/docs/404.html"], True),
    ],
)
def test_what_is_packed_says_whether_it_is_a_single_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], plan: dict[str, bool], files: list[str], spa: bool
) -> None:
    copy = Copy(tmp_path, {}).build(*files)
    copy.pack(publish=SITE, **plan)
    manifest = read_manifest(tmp_path / "archive.tar.gz")
    assert (manifest.spa is True) is spa
    assert ("A single-page application" in capsys.readouterr().out) is spa


def test_the_files_with_rules_are_read_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Copy(tmp_path, {}).build("dist/index.html", "dist/about.html", "dist/docs/_headers")
    (copy.work / "dist/_redirects").write_text("/a /about\n/b /nowhere.html 200\n")
    (copy.work / "dist/_headers").write_text("/*\n  X-A: b\n")
    assert copy.pack(publish=SITE) == ["about.html", "docs/_headers", "index.html"]
    serving = read_manifest(tmp_path / "archive.tar.gz").served
    assert [(rule.source, rule.target) for rule in serving.redirects] == [("/a", "/about"), ("/b", "/nowhere.html")]
    assert [(rule.source, rule.values) for rule in serving.headers] == [("/*", [("X-A", "b")])]
    log = capsys.readouterr().out
    assert "Redirects: 2; addresses with headers of their own: 1, _headers and _redirects read" in log
    assert "The files to which these redirects lead aren't in the site: _redirects, line 2 (/b)" in log


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("_redirects", "/a /b\n/b\n", "_redirects, line 2: it has no target"),
        ("_redirects", "/a /b\n/b /a\n", "_redirects, line 1: this redirect goes round"),
        ("_redirects", "/a https://api.example.org/ 200\n", "_redirects, line 1: 200 with another host"),
        ("_redirects", "x" * 65536, "_redirects, line 1: it has more than 4000 characters"),
        ("_headers", "/*\n  Set-Cookie: a=b\n", "_headers, line 2: Set-Cookie can't be set"),
    ],
)
def test_rules_that_can_t_be_used_fail_the_build(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    copy = Copy(tmp_path, {}).build("dist/index.html")
    (copy.work / "dist" / name).write_text(content)
    with pytest.raises(CantPack) as raised:
        copy.pack(publish=SITE)
    assert sentence in str(raised.value)
    assert not (tmp_path / "archive.tar.gz").exists()


def test_no_rules_are_read_from_outside_of_the_folder(tmp_path: Path) -> None:
    copy = Copy(tmp_path, {}).build("dist/index.html", "dist/rules/list")
    (tmp_path / "secret").write_text("/a https://example.org/secret\n")
    (copy.work / "dist/_redirects").symlink_to(tmp_path / "secret")
    with pytest.raises(CantPack, match="_redirects is a link that leaves the folder"):
        copy.pack(publish=SITE)
    (copy.work / "dist/_redirects").unlink()
    (copy.work / "dist/rules/list").write_text("/a /b\n")
    (copy.work / "dist/_redirects").symlink_to("rules/list")
    copy.pack(publish=SITE)
    assert len(read_manifest(tmp_path / "archive.tar.gz").served.redirects) == 1


def test_the_file_for_a_folder_can_have_another_name(tmp_path: Path) -> None:
    copy = Copy(tmp_path, {}).build("dist/index.html", "out/home.html")
    assert copy.found(index="home.html") == "out"
    assert "dist has no home.html at its top, but index.html" in copy.refused(index="home.html", output="dist")


# -- links of a site that isn't at the top of a host -----------------------------------------------------------------

LOST = b'<link rel="stylesheet" href="/assets/a.css"><script type="module" src="/assets/b.js"></script>'


@pytest.mark.parametrize(
    ("page", "address"),
    [
        (LOST, "https://shop.example.org/"),
        (LOST, ""),
        (LOST.replace(b"/assets", b"/shop/assets"), "https://example.org/shop/"),
        (LOST.replace(b'"/assets', b'"./assets'), "https://example.org/shop/"),
        (LOST.replace(b'"/assets', b'"//cdn.example.org/assets'), "https://example.org/shop/"),
        (b'<base href="/x/">' + LOST, "https://example.org/shop/"),
        (b'<a href="/about">About</a>', "https://example.org/shop/"),
        (b"\xff" + LOST, "https://example.org/shop/"),
    ],
)
def test_links_that_are_found_or_not_understood(page: bytes, address: str) -> None:
    assert leads_elsewhere(page, "index.html", address) == ""


def test_links_that_need_a_host_are_told() -> None:
    assert leads_elsewhere(LOST, "index.html", "https://example.org/shop/") == (
        "index.html links to /assets/a.css and 1 more from the top of the host, but this site is at "
        "https://example.org/shop/, where that isn't found: give the project a host of its own (releases.public_url "
        "with {project} in its host, or a domain), or build the site for the path /shop/"
    )


def test_a_site_below_a_path_is_warned_of_its_links(tmp_path: Path) -> None:
    copy = Copy(tmp_path, {}).build("dist/index.html")
    (copy.work / "dist" / "index.html").write_bytes(LOST)
    copy.url = "https://example.org/shop/"
    assert copy.pack(publish=SITE) == ["index.html"]
    (remark,) = read_file(tmp_path / "remarks.json", list[Annotation]) or []
    assert remark.level == "warning"
    assert remark.message.startswith("index.html links to /assets/a.css and 1 more from the top of the host")


def test_no_other_build_is(tmp_path: Path) -> None:
    """It makes no release: nobody looks for its files there."""
    copy = Copy(tmp_path, {}).build("dist/index.html")
    (copy.work / "dist" / "index.html").write_bytes(LOST)
    copy.url = "https://example.org/shop/"
    assert copy.pack() == ["index.html"]
    assert not (tmp_path / "remarks.json").exists()
