"""The caches of projects: what is kept, restored, saved and tidied, on a real disk."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.attempt_folder import Attempt, repository, toml
from twistedipc.builds.caches import DOWNLOADS_OF, Cache, caches_of, modules_key
from twistedipc.builds.logs import Notice
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.recognised import ManagerWanted, Recognised
from twistedipc.builds.settings import BuildSettings
from twistedipc.caches import moving, store
from twistedipc.caches.store import ProjectCaches, cleared_of, folder_of
from twistedipc.caches.tidying import Limits, clear, kept, tidy
from twistedipc.disk.files import remove_tree
from twistedipc.runner.environment import Environment

_DAY = 86_400_000
LIMITS = Limits(project=1 << 30, total=1 << 30, days=7)
STORE = Cache("npm", ("caches/npm",))
MODULES = Cache("node_modules", ("work/node_modules", "work/apps/web/node_modules"), "k1")
INNER = Cache("node_modules/.vite", ("work/node_modules/.vite",))


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def read(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


class World:
    """A builder's folder of caches, attempts, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "caches"
        self._attempts = folder / "attempts"
        self._count = 0
        self.now = 1_000_000_000_000

    def project(self, name: str = "shop") -> ProjectCaches:
        return ProjectCaches(self.folder / name, lambda: self.now)

    def attempt(self, files: dict[str, str] | None = None) -> Path:
        self._count += 1
        folder = self._attempts / str(self._count)
        (folder / "work").mkdir(parents=True)
        return write(folder, files or {})

    def tidy(self, limits: Limits = LIMITS, free: int = 1 << 40) -> None:
        tidy(self.folder, limits, lambda: self.now, lambda _folder: free)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield World(tmp_path)
    remove_tree(tmp_path)  # pytest can't remove what is very deep


def test_what_was_saved_is_restored_in_another_attempt(world: World) -> None:
    first = world.attempt({"caches/npm/a/b": "1", "work/node_modules/x/index.js": "x", "work/index.html": "page"})
    assert world.project().save([STORE, MODULES], first) == [STORE, MODULES]
    second = world.attempt()
    restored = world.project().restore([STORE, MODULES], second)
    assert [one.cache for one in restored] == [STORE, MODULES]
    assert all(one.whole and one.copied for one in restored)
    assert read(second) == {"caches/npm/a/b": "1", "work/node_modules/x/index.js": "x"}


def test_a_spare_is_taken_without_a_copy_and_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.project().save([STORE], world.attempt({"caches/npm/a": "1"}))
    for _build in range(3):
        world.tidy()
        with monkeypatch.context() as patched:
            patched.setattr(moving, "copy", lambda *_: pytest.fail("it was copied while the build waited"))
            attempt = world.attempt()
            (restored,) = world.project().restore([STORE], attempt)
        assert not restored.copied
        assert read(attempt / "caches") == {"npm/a": "1"}


def test_what_a_build_writes_into_its_copy_reaches_no_other(world: World) -> None:
    world.project().save([STORE], world.attempt({"caches/npm/a": "good"}))
    world.tidy()
    bad = world.attempt()
    world.project().restore([STORE], bad)
    (bad / "caches/npm/a").write_text("bad")
    good = world.attempt()
    world.project().restore([STORE], good)
    assert read(good / "caches") == {"npm/a": "good"}


def test_a_new_saving_outdates_the_spares(world: World) -> None:
    world.project().save([STORE], world.attempt({"caches/npm/a": "old"}))
    world.tidy()
    world.project().save([STORE], world.attempt({"caches/npm/a": "new"}))
    for _build in range(2):
        attempt = world.attempt()
        world.project().restore([STORE], attempt)
        assert read(attempt / "caches") == {"npm/a": "new"}
        world.tidy()


def test_nothing_is_restored_under_another_key(world: World) -> None:
    world.project().save([MODULES], world.attempt({"work/node_modules/x": "1"}))
    other = Cache(MODULES.name, MODULES.paths, "k2")
    assert world.project().restore([other], world.attempt()) == []


def test_what_has_a_key_is_saved_once(world: World) -> None:
    assert world.project().save([MODULES], world.attempt({"work/node_modules/x": "1"}))
    assert not world.project().save([MODULES], world.attempt({"work/node_modules/x": "2"}))
    attempt = world.attempt()
    world.project().restore([MODULES], attempt)
    assert read(attempt / "work") == {"node_modules/x": "1"}


def test_an_inner_folder_is_saved_by_itself_and_restored_into_the_outer_one(world: World) -> None:
    files = {"work/node_modules/x": "1", "work/node_modules/.vite/deps": "2"}
    world.project().save([MODULES, INNER], world.attempt(files))
    only = world.attempt()
    world.project().restore([MODULES], only)
    assert read(only / "work") == {"node_modules/x": "1"}
    both = world.attempt()
    world.project().restore([MODULES, INNER], both)
    assert read(both) == files


def test_what_the_commit_has_stays(world: World) -> None:
    world.project().save(
        [MODULES], world.attempt({"work/node_modules/x": "cached", "work/apps/web/node_modules/y": "2"})
    )
    attempt = world.attempt({"work/node_modules/x": "committed"})
    (restored,) = world.project().restore([MODULES], attempt)
    assert not restored.whole
    assert read(attempt / "work") == {"node_modules/x": "committed", "apps/web/node_modules/y": "2"}


def test_a_link_is_never_followed(world: World, tmp_path: Path) -> None:
    secret = write(tmp_path / "elsewhere", {"node_modules/secret": "of another"})
    attempt = world.attempt()
    (attempt / "work" / "apps").mkdir()
    (attempt / "work" / "apps" / "web").symlink_to(secret)
    (attempt / "work" / "node_modules").symlink_to(secret / "node_modules")
    assert world.project().save([MODULES], attempt) == []
    assert read(secret) == {"node_modules/secret": "of another"}

    world.project().save([MODULES], world.attempt({"work/apps/web/node_modules/x": "1"}))
    attempt = world.attempt()
    (attempt / "work" / "apps").symlink_to(secret)
    world.project().restore([MODULES], attempt)
    assert read(secret) == {"node_modules/secret": "of another"}


def test_links_in_what_is_kept_stay_links(world: World) -> None:
    attempt = world.attempt({"work/node_modules/real/index.js": "1"})
    (attempt / "work/node_modules/alias").symlink_to("real")
    (attempt / "work/node_modules/workspace").symlink_to("../packages/ui")
    world.project().save([MODULES], attempt)
    world.tidy()
    for _build in range(2):
        again = world.attempt()
        world.project().restore([MODULES], again)
        assert os.readlink(again / "work/node_modules/alias") == "real"
        assert os.readlink(again / "work/node_modules/workspace") == "../packages/ui"


def _absolute(folder: Path) -> None:
    (folder / "odd").symlink_to("/etc/passwd")


def _leaving(folder: Path) -> None:
    (folder / "odd").symlink_to("../../../another-attempt")


def _leaving_by_another(folder: Path) -> None:
    """Through a link that stays, as far as one sees: ``up`` is the attempt's folder itself."""
    (folder / "up").symlink_to("../..")
    (folder / "odd").symlink_to("up/../another-attempt")


def _runs_as_owner(folder: Path) -> None:
    (folder / "odd").touch()
    (folder / "odd").chmod(0o4755)


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "odd")


def _socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            listening.bind(f"/proc/self/fd/{descriptor}/odd")
        finally:
            os.close(descriptor)


def _device(folder: Path) -> None:
    try:
        os.mknod(folder / "odd", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices, and not everywhere")


def _linked_elsewhere(folder: Path) -> None:
    """Whoever has the other name could change what the next builds get."""
    (folder.parents[3] / "of-another").write_text("1")
    os.link(folder.parents[3] / "of-another", folder / "odd")


def _deep(folder: Path) -> None:
    inner = os.open(folder, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("odd", dir_fd=inner)
        next_one = os.open("odd", os.O_RDONLY, dir_fd=inner)
        os.close(inner)
        inner = next_one
    os.close(inner)


ODD = [
    _absolute, _leaving, _leaving_by_another, _runs_as_owner, _pipe, _socket, _device, _linked_elsewhere, _deep,
]  # fmt: skip


@pytest.mark.parametrize("make", ODD)
def test_what_no_tool_makes_isn_t_kept(world: World, make: Callable[[Path], None]) -> None:
    attempt = world.attempt({"work/node_modules/x": "1", "caches/npm/a": "1"})
    make(attempt / "work/node_modules")
    refused: list[str] = []
    caches = ProjectCaches(world.folder / "shop", lambda: world.now, refused=refused.append)
    assert caches.save([STORE, MODULES], attempt) == [STORE]
    assert len(refused) == 1
    assert refused[0].startswith("node_modules isn't kept: ")
    assert "odd" in refused[0] or "200 deep" in refused[0]
    assert len(list(caches.entries.iterdir())) == 1


@pytest.mark.parametrize("make", [each for each in ODD if each is not _linked_elsewhere])
def test_what_was_put_into_a_cache_reaches_no_build(world: World, make: Callable[[Path], None]) -> None:
    """Whoever could do so: neither the copy that is made in advance nor the one that is made at once is given out."""
    world.project().save([MODULES], world.attempt({"work/node_modules/x": "1"}))
    (entry,) = world.project().entries.iterdir()
    make(entry / "0")
    world.tidy()
    assert list(world.project().spares.iterdir()) == []
    attempt = world.attempt()
    assert world.project().restore([MODULES], attempt) == []
    assert not (attempt / "work/node_modules").exists()
    world.tidy()
    assert list(world.project().going.iterdir()) == []


def test_files_that_caches_have_in_common_are_kept(world: World) -> None:
    """pnpm's node_modules have their files from its store, by hard links; other links are in what goes anyway."""
    attempt = world.attempt({"caches/npm/a": "1", "work/node_modules/x": "1"})
    for name in ("work/node_modules/a", "work/a", "work/node_modules/.vite/a"):
        (attempt / name).parent.mkdir(exist_ok=True)
        os.link(attempt / "caches/npm/a", attempt / name)
    assert world.project().save([STORE, MODULES, INNER], attempt) == [STORE, MODULES, INNER]
    again = world.attempt()
    world.project().restore([STORE, MODULES, INNER], again)
    assert read(again) == {
        "caches/npm/a": "1", "work/node_modules/a": "1", "work/node_modules/x": "1", "work/node_modules/.vite/a": "1",
    }  # fmt: skip


def test_one_project_never_gets_anothers(world: World) -> None:
    world.project("shop").save([STORE], world.attempt({"caches/npm/a": "1"}))
    assert world.project("blog").restore([STORE], world.attempt()) == []


def test_what_is_old_goes_and_what_is_used_stays(world: World) -> None:
    world.project().save([STORE, MODULES], world.attempt({"caches/npm/a": "1", "work/node_modules/x": "1"}))
    for entry in world.project().entries.iterdir():
        os.utime(entry / "about.json", (world.now / 1000, world.now / 1000))
    world.now += 6 * _DAY
    world.project().restore([STORE], world.attempt())
    stamp = world.now / 1000
    (used,) = [entry for entry in world.project().entries.iterdir() if (entry / "about.json").stat().st_mtime > stamp]
    os.utime(used / "about.json", (stamp, stamp))
    world.now += 2 * _DAY
    world.tidy()
    assert [one.name for one in kept(world.folder, lambda: world.now)] == ["npm"]


@pytest.mark.parametrize(
    ("rule", "days", "stays"),
    [(3, 2, True), (3, 4, False), (None, 4, True), (30, 6, True), (30, 8, False)],  # the builder's own are 7
)
def test_a_project_s_rule_and_the_builder_s_limit_hold_both(
    world: World, rule: int | None, days: int, stays: bool
) -> None:
    for name, its_rule in (("shop", rule), ("other", None)):
        world.project(name).set_rule(its_rule)
        world.project(name).save([STORE], world.attempt({"caches/npm/a": "1"}))
        (entry,) = world.project(name).entries.iterdir()
        os.utime(entry / "about.json", (world.now / 1000, world.now / 1000))
    world.now += days * _DAY
    world.tidy()
    left = kept(world.folder, lambda: world.now)
    assert {one.project: one.rule for one in left} == ({"shop": rule} if stays else {}) | (
        {"other": None} if days < LIMITS.days else {}
    )


def test_a_rule_is_replaced_and_given_up(world: World) -> None:
    for rule in (3, 30, None, None, 1):
        world.project().set_rule(rule)
        assert world.project().rule() == rule
    (world.project().folder / "kept.json").write_text("{")
    assert world.project().rule() is None
    world.project().set_rule(2)
    assert world.project().rule() == 2


def test_a_project_keeps_to_its_size_by_dropping_what_was_used_least_recently(world: World) -> None:
    big = "x" * 100_000
    world.project().save([STORE], world.attempt({"caches/npm/a": big}))
    world.project().save([MODULES], world.attempt({"work/node_modules/x": big}))
    for age, entry in enumerate(sorted(world.project().entries.iterdir(), key=lambda e: (e / "0" / "a").exists())):
        at = world.now / 1000 - age  # the npm cache is older
        os.utime(entry / "about.json", (at, at))
    world.tidy(Limits(project=150_000, total=1 << 30, days=7))
    assert [one.name for one in kept(world.folder, lambda: world.now)] == ["node_modules"]
    world.tidy(Limits(project=1 << 30, total=50_000, days=7))
    assert kept(world.folder, lambda: world.now) == []


def test_spares_leave_the_disk_its_room(world: World) -> None:
    world.project().save([STORE], world.attempt({"caches/npm/a": "1"}))
    world.tidy(Limits(project=1 << 30, total=1 << 30, days=7, free=1 << 40), free=1 << 30)
    assert list(world.project().spares.iterdir()) == []


def test_what_a_killed_process_left_is_removed(world: World) -> None:
    caches = world.project()
    caches.save([STORE], world.attempt({"caches/npm/a": "1"}))
    write(caches.entries / ".new-1", {"0/a": "half"})
    write(caches.spares / ".new-2", {"0/a": "half"})
    write(caches.going / "3", {"a": "half"})
    world.tidy()
    assert [entry.name.startswith(".") for entry in caches.entries.iterdir()] == [False]
    assert [spare.name.startswith(".") for spare in caches.spares.iterdir()] == [False]
    assert list(caches.going.iterdir()) == []


def test_a_build_that_is_killed_while_it_restores_costs_others_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"work/node_modules/a": "a", "work/apps/web/node_modules/b": "b"}
    caches = world.project()
    caches.save([MODULES], world.attempt(files))
    world.tidy()
    moved = moving.move_in

    def killed_at_the_second(source: Path, base: Path, path: str) -> bool:
        if source.name == "1":
            raise KeyboardInterrupt
        return moved(source, base, path)

    with monkeypatch.context() as patched:
        patched.setattr(moving, "move_in", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            caches.restore([MODULES], world.attempt())
    attempt = world.attempt()
    (restored,) = caches.restore([MODULES], attempt)
    assert restored.whole
    assert read(attempt) == files
    world.tidy()
    assert [spare.name.startswith(".") for spare in caches.spares.iterdir()] == [False]


def test_a_spare_has_nothing_of_two_savings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    caches = world.project()
    caches.save([STORE], world.attempt({"caches/npm/x": "1"}))
    copied = moving.copy

    def saved_meanwhile(source: Path, target: Path) -> None:
        copied(source, target)
        caches.save([STORE], world.attempt({"caches/npm/x": "2"}))
        (target / "about.json").write_bytes((source / "about.json").read_bytes())

    with monkeypatch.context() as patched:
        patched.setattr(moving, "copy", saved_meanwhile)
        world.tidy()
    attempt = world.attempt()
    caches.restore([STORE], attempt)
    assert read(attempt) == {"caches/npm/x": "2"}


def test_a_process_that_keeps_the_lock_is_not_waited_for_without_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PATIENCE", 0.0)
    with world.project().locked(), pytest.raises(TimeoutError):
        world.project().restore([STORE], world.attempt())


def test_what_a_build_made_unwritable_is_removed(world: World) -> None:
    attempt = world.attempt({"caches/npm/a/b/c": "1"})
    world.project().save([STORE], attempt)
    for path in sorted(world.project().entries.rglob("*"), reverse=True):
        if path.is_dir():
            path.chmod(0o500)
    clear(world.folder, "", lambda: world.now)
    assert list(world.project().going.iterdir()) == []


def test_folders_that_are_too_deep_or_unwritable_are_removed(tmp_path: Path) -> None:
    """Whatever a build leaves: an attempt's folder that can't be removed would stay on the disk for ever."""
    folder = tmp_path / "attempt"
    folder.mkdir()
    _deep(folder)
    write(folder, {"a/b/c": "1"})
    for name in ("a/b", "a"):
        (folder / name).chmod(0)
    (folder / "link").symlink_to(tmp_path / "precious")
    write(tmp_path / "precious", {"x": "1"})
    remove_tree(folder / "link")
    remove_tree(folder)
    assert not folder.exists()
    assert read(tmp_path / "precious") == {"x": "1"}


def test_clearing_one_project_leaves_the_others(world: World) -> None:
    for name in ("shop", "blog"):
        world.project(name).save([STORE], world.attempt({"caches/npm/a": "1"}))
    assert clear(world.folder, "shop", lambda: world.now) == 1
    assert [one.project for one in kept(world.folder, lambda: world.now)] == ["blog"]


def test_what_was_cleared_is_used_no_more_and_goes(world: World) -> None:
    """A build that ran meanwhile keeps what it has made under the number that it began with."""
    names = [folder_of("shop-1", times) for times in (0, 2, 10)]
    assert [cleared_of(name) for name in names] == [("shop-1", 0), ("shop-1", 2), ("shop-1", 10)]
    for name in (names[0], "blog-1", names[1], names[2], names[0]):
        world.project(name).save([STORE], world.attempt({"caches/npm/a": name}))
    assert world.project(folder_of("shop-1", 11)).restore([STORE], world.attempt()) == []
    world.tidy()
    assert {one.project for one in kept(world.folder, lambda: world.now)} == {"blog-1"}
    world.project(names[2]).save([STORE], world.attempt({"caches/npm/a": "late"}))
    world.tidy()
    assert {one.project for one in kept(world.folder, lambda: world.now)} == {"blog-1"}


def test_tidying_is_done_by_one_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.project().save([STORE], world.attempt({"caches/npm/a": "1"}))
    copies: list[Path] = []

    def copy(_source: Path, target: Path) -> None:
        copies.append(target)
        world.tidy()  # does nothing: another is at it
        target.mkdir()

    monkeypatch.setattr(moving, "copy", copy)
    world.tidy()
    assert len(copies) == 1


# -- which caches a project has


def test_an_outer_folder_comes_before_those_in_it() -> None:
    found = caches_of(["apps/web", ""], modules=["node_modules", "apps/web/node_modules"], key="k")
    order = [path for cache in found for path in cache.paths]
    for position, path in enumerate(order):
        assert not any(later != path and path.startswith(later + "/") for later in order[position:])


def test_managers_are_told_where_to_keep_downloads() -> None:
    assert DOWNLOADS_OF["npm"].environment("/a") == {"npm_config_cache": "/a/caches/npm"}
    kept_paths = {path for cache in caches_of([""]) for path in cache.paths}
    assert {downloads.path for downloads in DOWNLOADS_OF.values()} < kept_paths


def test_builds_use_the_folder_that_is_kept_of_their_manager(tmp_path: Path) -> None:
    """npm, which warns of settings that it doesn't know, sees none of the others'."""
    spec = Attempt(tmp_path, tmp_path).spec
    variables = {variable for downloads in DOWNLOADS_OF.values() for variable in downloads.variables}
    for manager, downloads in DOWNLOADS_OF.items():
        plan = Plan(steps=[], recognised=Recognised(manager=ManagerWanted(name=manager)))
        found = Environment(tmp_path, spec).of_build(plan)
        own = {**DOWNLOADS_OF["npm"].environment(str(tmp_path)), **downloads.environment(str(tmp_path))}
        assert {name: found[name] for name in variables & found.keys()} == own


_parts = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=4)


@given(_parts, _parts)
def test_a_key_tells_all_parts_apart(one: list[tuple[str, bytes]], other: list[tuple[str, bytes]]) -> None:
    assert (modules_key(one) == modules_key(other)) == (one == other)


# -- builds at the same time


def test_two_builds_at_once_get_a_copy_each(world: World) -> None:
    world.project().save([STORE], world.attempt({"caches/npm/a": "1"}))
    world.tidy()
    first, second = world.attempt(), world.attempt()
    world.project().restore([STORE], first)
    world.project().restore([STORE], second)
    (first / "caches/npm/a").write_text("2")
    assert read(second / "caches") == {"npm/a": "1"}
    # Both save: the last one's is what stays, whole.
    world.project().save([STORE], second)
    world.project().save([STORE], first)
    third = world.attempt()
    world.project().restore([STORE], third)
    assert read(third / "caches") == {"npm/a": "2"}


# -- attempts in real runner processes

_STEPS = (
    "mkdir -p $npm_config_cache .turbo data && cat $npm_config_cache/count .turbo/count data/count || true",
    "for f in $npm_config_cache/count .turbo/count data/count; do echo x >>$f; done",
)


def _attempt(base: Path, name: str, **more: object) -> Attempt:
    source = base / "source"
    if not source.exists():
        repository(source, {".twistedipc.toml": toml(*_STEPS)})
    return Attempt(base, source, name=name, caches=str(base / "caches" / "demo"), **more)  # type: ignore[arg-type]


def notices(one: Attempt) -> list[str]:
    return [event.message for event in one.events() if isinstance(event, Notice)]


def test_a_build_goes_on_with_what_the_last_one_kept(tmp_path: Path) -> None:
    first = _attempt(tmp_path, "1-1", context="production")
    assert first.run().outcome == "succeeded", first.output()
    assert not (first.folder / "caches" / "npm").exists()  # it was moved, not copied
    second = _attempt(tmp_path, "2-1", context="production")
    assert second.run().outcome == "succeeded"
    assert second.output(1).count("x") == 2  # the folder "data" isn't declared
    assert notices(second) == ["From earlier builds: npm, .turbo"]
    third = _attempt(tmp_path, "3-1", context="production")
    third.run()
    assert third.output(1).count("x") == 4


def test_a_build_brings_its_project_s_rule(tmp_path: Path) -> None:
    one = _attempt(tmp_path, "1-1", context="production", caches_kept=3)
    assert one.run().outcome == "succeeded", one.output()
    assert {each.rule for each in kept(tmp_path / "caches", lambda: 0)} == {3}


def test_a_preview_leaves_nothing_to_others(tmp_path: Path) -> None:
    assert _attempt(tmp_path, "1-1", context="production").run().outcome == "succeeded"
    preview = _attempt(tmp_path, "2-1", context="preview")
    assert preview.run().outcome == "succeeded"
    assert preview.output(1).count("x") == 2
    third = _attempt(tmp_path, "3-1", context="production")
    third.run()
    assert third.output(1).count("x") == 2


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"
    repository(source, {".twistedipc.toml": toml("mkdir -p .turbo; echo bad >.turbo/x; exit 1")})
    one = Attempt(tmp_path, source, caches=str(tmp_path / "caches" / "demo"), context="production")
    assert one.run().outcome == "failed"
    assert kept(tmp_path / "caches", lambda: 0) == []


def test_a_declared_folder_is_kept(tmp_path: Path) -> None:
    for name, lines in (("1-1", 0), ("2-1", 3)):
        one = _attempt(tmp_path, name, context="production", settings=BuildSettings(caches=["data"]))
        assert one.run().outcome == "succeeded"
        assert one.output(1).count("x") == lines


def test_what_cant_be_read_costs_the_build_nothing(tmp_path: Path) -> None:
    (tmp_path / "caches").mkdir()
    (tmp_path / "caches" / "demo").write_text("this is no folder")
    one = _attempt(tmp_path, "1-1", context="production")
    assert one.run().outcome == "succeeded"
    why = os.strerror(errno.ENOTDIR)
    assert notices(one) == [
        f"what earlier builds kept can't be used: {why}",
        f"nothing is kept for later builds: {why}",
    ]
