"""Budgets of a site: what they are of, what is said in the log, and which builds fail."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import msgspec
import pytest

from tests.attempt_folder import Attempt, repository, toml
from tests.test_output import SITE, Copy
from tests.trees import TreeInMemory
from twistedipc.attempts.folder import LIVE_FILES
from twistedipc.builds.attempt import LiveFiles
from twistedipc.builds.logs import Annotation
from twistedipc.builds.messages import StoredContents
from twistedipc.builds.plan import make_plan
from twistedipc.builds.recognition.reading import BadPlan
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.site.budgets import Budget, Budgets, budgets_of, is_loaded, shown
from twistedipc.builds.site.rules import BadRules
from twistedipc.disk.files import read_file, write_file
from twistedipc.publish.archive import CantPack
from twistedipc.publish.targets.static import comparing
from twistedipc.publish.targets.static.comparing import files_of
from twistedipc.publish.targets.static.release import Content, Entry, Index, Release
from twistedipc.publish.targets.static.variants import sent_by_gzip, variants_of
from twistedipc.server.builder_link import MAX_STORED

#: What no compression makes smaller.
NOISE = os.urandom(400_000)


@pytest.mark.parametrize(
    ("said", "most"),
    [
        ("300 kB", 300_000),
        ("300kB", 300_000),
        ("300 KB", 300_000),
        ("1.5 MB", 1_500_000),
        ("64 KiB", 65_536),
        ("1 MiB", 1 << 20),
        ("2 GB", 2_000_000_000),
        ("1500 B", 1500),
        ("1500", 1500),
        (1500, 1500),
        ("0", 0),
        (0, 0),
    ],
)
def test_a_size_is_written_in_the_usual_ways(said: str | int, most: int) -> None:
    assert budgets_of({"js": said}, "fail") == Budgets(of=[Budget(name="js", most=most)])


@pytest.mark.parametrize("said", ["", "kB", "-1", "1 kilo", "1,5 MB", "1e3", "300 kB/s", "1 TB", -1, "9" * 13, "١ kB"])
def test_what_is_no_size_is_refused(said: str | int) -> None:
    with pytest.raises(BadRules, match=r"^site\.budget, 'js': .* isn't a size such as \"300 kB\""):
        budgets_of({"js": said}, "fail")


@pytest.mark.parametrize("name", ["", "javascript", "script", "Total", "x" * 300 + "*", "*\n", "JS"])
def test_what_is_no_kind_and_no_pattern_is_refused(name: str) -> None:
    with pytest.raises(BadRules, match="a budget is of js, css, html, images, fonts, other, total, or a pattern of"):
        budgets_of({name: "1 kB"}, "fail")


@pytest.mark.parametrize("name", ["/assets/*", "!*.js", "a\\*.js"])
def test_a_pattern_is_of_the_site(name: str) -> None:
    with pytest.raises(BadRules, match="begins at the site's top, without a slash"):
        budgets_of({name: "1 kB"}, "fail")


def test_all_that_is_wrong_is_told_and_there_is_a_bound() -> None:
    with pytest.raises(BadRules) as raised:
        budgets_of({"script": "1 kB", "css": "much"}, "fail")
    assert "'script'" in str(raised.value)
    assert "'css'" in str(raised.value)
    with pytest.raises(BadRules, match="there can be at most 50"):
        budgets_of({f"*.{number}": 1 for number in range(51)}, "fail")


def test_what_a_budget_is_of() -> None:
    def counted(name: str) -> list[str]:
        paths = ["index.html", "a.js", "x/b.mjs", "x/y/c.css", "x/d.png", "e.woff2", "f.json"]
        return [path for path in paths if Budget(name=name, most=0).counts(path)]

    assert counted("js") == ["a.js", "x/b.mjs"]
    assert counted("fonts") == ["e.woff2"]
    assert counted("other") == ["f.json"]
    assert len(counted("total")) == 7
    assert counted("*.css") == ["x/y/c.css"]
    assert counted("x/*") == ["x/b.mjs", "x/d.png"]
    assert counted("x/**") == ["x/b.mjs", "x/y/c.css", "x/d.png"]
    assert counted("*.{js,mjs}") == ["a.js", "x/b.mjs"]


def test_source_maps_and_what_is_compressed_beside_another_file_count_nowhere() -> None:
    paths = {"a.js", "a.js.map", "a.js.br", "a.js.gz", "data.json.gz"}
    assert [path for path in sorted(paths) if is_loaded(path, paths)] == ["a.js", "data.json.gz"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (312_440, "312.4 kB"), (999_949, "999.9 kB"), (999_960, "1 MB"),
     (5_000_000, "5 MB"), (2_500_000_000, "2.5 GB")],
)  # fmt: skip
def test_sizes_are_shown_as_they_are_written(size: int, text: str) -> None:
    assert shown(size) == text


def test_what_counts_is_what_the_platform_sends() -> None:
    text = b"function add(one, another) { return one + another }\n" * 100
    assert sent_by_gzip("a.js", len(text), [text[:1000], text[1000:]]) == len(variants_of(text)["gzip"])
    assert sent_by_gzip("a.png", len(text), [text]) == len(text), "pictures are sent as they are"
    assert sent_by_gzip("a.js", len(NOISE), [NOISE]) == len(NOISE), "it doesn't become smaller"
    assert sent_by_gzip("a.js", 100, [text[:100]]) == 100


# -- in a plan -------------------------------------------------------------------------------------------------------


def plan_of(site: str) -> Budgets:
    files = {".twistedipc.toml": f"[site]\n{site}\n", "index.html": "<h1>hello</h1>"}
    return make_plan(TreeInMemory(files), BuildSettings()).budgets


def test_a_plan_has_them() -> None:
    assert plan_of('budget = {js = "300 kB", "*.css" = 50}') == Budgets(
        of=[Budget(name="js", most=300_000), Budget(name="*.css", most=50)]
    )
    assert plan_of('budget = {js = 1}\nbudget_action = "warn"').action == "warn"
    assert plan_of("marks = false") == Budgets()


@pytest.mark.parametrize(
    ("site", "sentence"),
    [
        ('budget = {js = "much"}', r"`.twistedipc.toml`: site.budget, 'js': 'much' isn't a size"),
        ("budget = {js = true}", "`.twistedipc.toml`: site.budget"),
        ('budget = "300 kB"', "`.twistedipc.toml`: site.budget"),
        ('budget_action = "stop"', "`.twistedipc.toml`: site.budget_action"),
    ],
)
def test_a_bad_one_fails_the_build_with_a_sentence(site: str, sentence: str) -> None:
    with pytest.raises(BadPlan, match=sentence):
        plan_of(site)


# -- packed ----------------------------------------------------------------------------------------------------------


class Site(Copy):
    """What a build has made, with budgets."""

    def __init__(self, base: Path, **budgets: int) -> None:
        super().__init__(base, {})
        self.build("dist/index.html")
        self.budgets = [Budget(name=name, most=most) for name, most in budgets.items()]

    def write(self, name: str, content: bytes) -> None:
        path = self.work / "dist" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def live(self, *files: tuple[str, int], complete: bool = True) -> None:
        write_file(self.folder / LIVE_FILES, LiveFiles(files=list(files), complete=complete))

    def packed(self, action: str = "fail", *, released: bool = True) -> str:
        """Pack it; why it can't be, or ""."""
        budgets = Budgets(of=self.budgets, action=action)  # type: ignore[arg-type]
        try:
            self.pack(publish=SITE if released else None, budgets=budgets)  # type: ignore[arg-type]
        except CantPack as error:
            return str(error)
        return ""

    def remarks(self) -> list[Annotation]:
        return read_file(self.folder / "remarks.json", list[Annotation]) or []


def test_a_site_that_keeps_to_its_budgets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path, js=2000, total=1_000_000)
    site.write("app.js", b"function add(one, another) { return one + another }\n" * 1000)
    site.write("app.js.map", NOISE)
    site.write("app.js.br", NOISE)
    site.write("photo.png", NOISE)
    assert site.packed() == ""
    assert site.remarks() == []
    out = capsys.readouterr().out
    sent = len(zlib.compress(b"function add(one, another) { return one + another }\n" * 1000, 9)) + 12
    assert f"Budget js: {sent} B of 2 kB, as sent with gzip\n" in out
    assert "Budget total: 400." in out


def test_one_that_does_not_fails_and_says_what_is_heavy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path, js=300_000, css=10_000)
    site.write("assets/index-BvJ3kT9a.js", NOISE[:200_000])
    site.write("assets/vendor-CkQ8fW2d.js", NOISE[:90_000])
    for name, size in (("a.js", 9000), ("b.js", 8000), ("c.js", 7000), ("d.js", 6000), ("e.js", 5000)):
        site.write(name, NOISE[:size])
    site.live(("assets/index-*.js", 179_900), ("assets/vendor-*.js", 90_000), ("a.js", 10_000), ("b.js", 8000))
    why = site.packed()
    assert why == (
        "the site is over its budget for js: 325 kB of 300 kB, as sent with gzip, is 25 kB too much. Its largest "
        "files: assets/index-BvJ3kT9a.js 200 kB (+20.1 kB against the live release), assets/vendor-CkQ8fW2d.js 90 kB "
        "(as in the live release), a.js 9 kB (-1 kB against the live release), b.js 8 kB (as in the live release), "
        "c.js 7 kB (new) and 2 smaller"
    )
    assert site.remarks() == [Annotation("error", why)]
    assert not (tmp_path / "archive.tar.gz").exists()
    assert not (tmp_path / "artifact.json").exists()
    assert "Budget js: 325 kB of 300 kB, as sent with gzip: 25 kB too much\n" in capsys.readouterr().out


def test_what_is_not_known_of_the_live_release_is_not_said(tmp_path: Path) -> None:
    site = Site(tmp_path, js=0)
    site.write("a.js", NOISE[:1000])
    assert site.packed().endswith("Its largest files: a.js 1 kB")
    site.live(("b.js", 1000), complete=False)
    assert site.packed().endswith("Its largest files: a.js 1 kB")
    site.live()
    assert site.packed().endswith("Its largest files: a.js 1 kB (new)")


def test_of_files_that_differ_by_their_hashes_the_largest_are_compared(tmp_path: Path) -> None:
    site = Site(tmp_path, js=0)
    site.write("index-BvJ3kT9a.js", NOISE[:2000])
    site.write("index-CkQ8fW2d.js", NOISE[:1000])
    site.write("index-DmR5sX7e.js", NOISE[:900])
    site.live(("index-*.js", 1500), ("index-*.js", 1900))
    why = site.packed()
    assert "index-BvJ3kT9a.js 2 kB (+100 B against the live release), index-CkQ8fW2d.js 1 kB (-500 B against" in why
    assert "index-DmR5sX7e.js 900 B (new)" in why


def test_a_warning_fails_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, js=0, total=0)
    site.write("a.js", NOISE[:1000])
    assert site.packed("warn") == ""
    assert [each.level for each in site.remarks()] == ["warning", "warning"]
    assert (tmp_path / "archive.tar.gz").exists()


def test_several_budgets_are_told_together_and_there_is_a_bound(tmp_path: Path) -> None:
    site = Site(tmp_path, **{"js": 0, "total": 0, "*.js": 0, "a*": 0, "**": 0})
    site.write("a.js", NOISE[:1000])
    why = site.packed()
    assert why.count("over its budget for") == 3
    assert why.endswith("; and it is over 2 more")
    assert len(site.remarks()) == 5


def test_a_budget_counts_where_no_site_is_needed(tmp_path: Path) -> None:
    """Such a build packs what it finds, and goes on without; but somebody has written this."""
    site = Site(tmp_path, js=0)
    site.write("a.js", NOISE[:1000])
    assert "over its budget for js" in site.packed(released=False)


# -- what is known of the live release -------------------------------------------------------------------------------


def entry(size: int, gzip: int | None = None) -> Entry:
    return Entry("0" * 64, size, {} if gzip is None else {"gzip": Content("1" * 64, gzip)})


def test_a_builder_is_told_of_the_live_files() -> None:
    files = {"assets/app-BvJ3kT9a.js": entry(1000, 400), "a.png": entry(500), "new.css": entry(800)}
    assert files_of(Release(1, Index(files=files))) == LiveFiles(
        files=[("a.png", 500), ("assets/app-*.js", 400)], complete=False
    ), "what becomes of new.css isn't known yet"
    whole = files_of(Release(1, Index(files=files, compressed=True)))
    assert whole == LiveFiles(files=[("new.css", 800), ("a.png", 500), ("assets/app-*.js", 400)], complete=True)


def test_of_many_files_the_largest_of_each_kind_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MAX_NAMES", 40)
    monkeypatch.setattr(comparing, "MAX_FILES", 4)
    files = {f"{number}.png": entry(10_000 + number) for number in range(10)}
    files |= {f"{number}.woff2": entry(100 + number) for number in range(10)}
    found = files_of(Release(1, Index(files=files)))
    assert found.files == [("9.png", 10_009), ("9.woff2", 109), ("8.png", 10_008), ("8.woff2", 108)]
    assert not found.complete
    monkeypatch.setattr(comparing, "MAX_NAMES", 11)
    assert [name for name, _ in files_of(Release(1, Index(files=files))).files] == ["9.png"]


@pytest.mark.parametrize("files", [90_000, 13_000, 8_000, 1_000])
def test_what_a_builder_is_told_fits_into_a_frame(files: int) -> None:
    """Short names let many in; the contents of that many are told with them."""
    entries = {f"{number:x}": entry(10_000_000) for number in range(files)}
    found = files_of(Release(1, Index(files=entries)))
    told = StoredContents(contents=bytes(8 * min(len(entries), MAX_STORED)), live=found)
    assert len(msgspec.json.encode(told)) < (1 << 20) - 1000
    assert found.files


# -- a whole build ---------------------------------------------------------------------------------------------------


def test_a_build_that_is_over_its_budget_fails(tmp_path: Path) -> None:
    script = "mkdir dist && echo '<h1>hi</h1>' > dist/index.html && head -c 50000 /dev/urandom > dist/app.js"
    budget = '[site]\nbudget = {js = "40 kB", total = "1 MB"}'
    source = tmp_path / "source"
    repository(source, {".twistedipc.toml": toml(script, more=budget), "package.json": "{}"})
    attempt = Attempt(tmp_path, source, publish=SITE)
    result = attempt.run()
    assert (result.outcome, result.artifact) == ("failed", None)
    assert result.reason.startswith(
        "the site is over its budget for js: 50 kB of 40 kB, as sent with gzip, is 10 kB too"
    )
    assert [(each.level, each.message) for each in attempt.annotations()] == [("error", result.reason)]
    assert "Budget js: 50 kB of 40 kB, as sent with gzip: 10 kB too much" in attempt.output()
    assert "Budget total: 50 kB of 1 MB, as sent with gzip" in attempt.output()


def test_a_build_that_is_warned_is_released(tmp_path: Path) -> None:
    script = "mkdir dist && echo '<h1>hi</h1>' > dist/index.html && head -c 50000 /dev/urandom > dist/app.js"
    budget = '[site]\nbudget = {js = "40 kB"}\nbudget_action = "warn"'
    source = tmp_path / "source"
    repository(source, {".twistedipc.toml": toml(script, more=budget), "package.json": "{}"})
    attempt = Attempt(tmp_path, source, publish=SITE)
    result = attempt.run()
    assert result.outcome == "succeeded", result.reason
    assert result.artifact is not None
    (warning,) = attempt.annotations()
    assert (warning.level, warning.message[:39]) == ("warning", "the site is over its budget for js: 50 ")
