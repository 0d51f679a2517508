"""
The way of a set of packages into a registry: all of it is there in the end, or the next run goes on with it. Used by
``deliver``, which is the step; synchronous, over two ports: the registry (`Registry`) and what is written down
(`Record`).

A *set* is all that one attempt publishes, in an order in which each comes after those that it needs.

1. *preflight*: the registry is asked about all of them, and nothing is changed before all can be published.
2. Each goes up under a tag of the set's own, ``build-17``; a single package under its final tag. *direct*: it is
   uploaded. *staged*: all are put into the registry's stage, and then a person is needed, whose one-time password
   approves them.
   Where the packages of a set go to several registries, and only some have stages, the others wait for that person too:
   they go up once all that was staged is approved.
3. Each is read until it shows with the content that was packed, before the next goes up. Registries set `latest` by
   themselves where a package is new: in this order, what that leads to has all that it needs.
4. Once all of them can be read, their final tags are moved, in the same order. If one can't be, those that were moved
   are moved back, and the set has failed: the next run finds its versions, and moves the tags.
5. The set's own tag is removed.

Each request that changes something is written down before it is made and after its answer. What has begun, and nobody
knows how it ended, isn't done again before the registry was asked. `latest` is never moved back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NoReturn

import msgspec

from twistedipc.builds.attempt import Published
from twistedipc.builds.states import PublicationState
from twistedipc.publish.record import Facts, Outcome, PersonNeeded, Progress, Record, Step
from twistedipc.publish.targets.npm.looking import (
    BACKOFF,
    MOST_ASKED,
    PATIENCE,
    SET_TAG,
    CantAsk,
    Conflict,
    Item,
    Looking,
    PublishFailed,
    said,
)
from twistedipc.publish.targets.npm.registry import Answer, Found, Kind, Stage

#: How often something is tried at all, where it may go well the next time.
TRIES = 3

_S = PublicationState

#: States in which a publication has ended without being published.
_ENDED = frozenset({_S.CONFLICT, _S.REJECTED, _S.FAILED, _S.DROPPED})

#: Between the version and the tag: how a step that moves a tag says from where.
_FROM = " from "


class Stopped(PublishFailed):
    """It was told to end, where that leaves nothing half done."""


class Rows:
    """What is written down, and what of that is known here."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._steps = list(record.steps())
        self.at: dict[int, PublicationState] = defaultdict(lambda: _S.STORED)
        self.facts: dict[int, Facts] = defaultdict(Facts)
        for standing in record.standings():
            self.at[standing.position] = standing.state
            self.facts[standing.position] = standing.facts

    def begin(self, item: Item, step: Step, detail: str = "") -> None:
        """Write down that a step begins. One of its kind that a crash has left open ends here."""
        if self.is_open(item, step):
            self.end(item, step, Outcome.FAILED, reason="nobody knows how it ended")
        self._record.begin(item.position, step, detail)
        self._steps.append(Progress(position=item.position, step=step, detail=detail))

    def end(
        self,
        item: Item,
        step: Step,
        outcome: Outcome,
        *,
        reached: PublicationState | None = None,
        reason: str = "",
        facts: Facts | None = None,
    ) -> None:
        """Write down how the step that began last has ended."""
        if reached is self.at[item.position]:
            reached = None
        self._record.end(item.position, step, outcome, reached=reached, reason=reason, facts=facts)
        for number in range(len(self._steps) - 1, -1, -1):
            each = self._steps[number]
            if (each.position, each.step, each.outcome) == (item.position, step, None):
                self._steps[number] = msgspec.structs.replace(each, outcome=outcome, reason=reason)
                break
        if reached is not None:
            self.at[item.position] = reached
        if facts is not None:
            known = {name: value for name in facts.__struct_fields__ if (value := getattr(facts, name))}
            self.facts[item.position] = msgspec.structs.replace(self.facts[item.position], **known)

    def last(self, item: Item, step: Step) -> Progress | None:
        """Return the step of this kind that began last for a package."""
        found = [each for each in self._steps if (each.position, each.step) == (item.position, step)]
        return found[-1] if found else None

    def is_open(self, item: Item, step: Step) -> bool:
        """Return whether such a step has begun, and nobody knows how it ended."""
        last = self.last(item, step)
        return last is not None and last.outcome is None

    def moves(self, item: Item) -> list[Progress]:
        """Return the steps that moved the package's tag, and those that moved it back, in their order."""
        kinds = (Step.TAG, Step.UNDO_TAG)
        return [each for each in self._steps if each.position == item.position and each.step in kinds]

    def failed_move(self) -> str:
        """Return why a tag could not be moved, so that the set has failed; "" if all that were tried could."""
        for each in self._steps:
            if each.step is Step.TAG and each.outcome is Outcome.REFUSED:
                return each.reason or "a tag can't be moved"
        return ""


class Course:
    """
    One set, in one attempt.

    :param items: in the order of the set: each after those that it needs
    :param set_tag: the tag under which a set of several goes up
    :param staging: "" (where the registry has stages), "always", "never"
    :param otp: a person's one-time password; "": nobody has given one
    :param asks: whether a person can be asked for one
    :param stopped: returns whether it is to end
    """

    def __init__(
        self,
        items: Sequence[Item],
        record: Record,
        *,
        set_tag: str,
        staging: str = "",
        otp: str = "",
        asks: bool = True,
        sleep: Callable[[float], object],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._items = items
        self._rows = Rows(record)
        self._several = len(items) > 1
        self._set_tag = set_tag
        self._staging = staging
        self._otp = otp
        self._asks = asks
        self._sleep = sleep
        self._stopped = stopped
        self._notices: dict[int, list[str]] = {}
        self._heard: set[str] = set()
        self._found: dict[int, Found] = {}  # of packages that were looked at in this run, before anything was changed
        self._modes: dict[str, Literal["direct", "staged"]] = {}

    def run(self) -> Iterator[Published]:
        """
        Go on from where the rows say. Yield what is published, of a set once all of it is. Raises `PublishFailed`,
        `PersonNeeded`, `RecordLost`.
        """
        self._check_ended()
        self._undo_if_failed()
        for item in self._items:
            self._preflight(item)
        for mode in ("staged", "direct"):
            for item in self._items:
                if self._at(item) is _S.CHECKED and self._mode(item) == mode:
                    self._may_stop()
                    self._put_up(item)
            self._approve_all()
        for item in self._items:
            self._move(item)
        for item in self._items:
            yield self._finish(item)

    def reject(self) -> Iterator[Published]:
        """
        Take back what waits in the registry's stage, and move back the tags that were moved: a person has refused it.
        Nothing is published by this. Raises as `run`; what could not be taken back is tried by the next run.
        """
        wants: Answer | None = None
        failed = ""
        for item in reversed(self._items):  # so that one which somebody approves meanwhile has all that it needs
            if self._at(item) is not _S.STAGED:
                continue
            answer = self._reject(item)
            if answer is not None and answer.kind is Kind.OTP:
                wants = answer
            elif answer is not None:
                failed = f"the stage of {item.label} can't be taken back ({said(answer)})"
        if wants is not None:
            raise PersonNeeded(
                f"what is staged can't be taken back without a one-time password: {said(wants)}", password=True
            )
        for item in reversed(self._items):
            if self._at(item) in (_S.APPROVED, _S.PRESENT) and not self._take_back(item):
                failed = f"the tag {item.tag} of {item.name} can't be moved back from {item.version}"
        if failed:
            raise PublishFailed(failed)
        return iter(())

    def _take_back(self, item: Item) -> bool:
        """Leave a package that is in the registry without its final tag. Return whether the tag is where it was."""
        before = self._moved_from(item)
        if before is not None and not self._undo_one(item, before):
            return False
        under = f" under {set_tag}" if (set_tag := self._rows.facts[item.position].set_tag) else ""
        reason = f"{item.label} stays in the registry{under}: the build was refused before all tags were moved"
        self._rows.begin(item, Step.REJECT, item.tag)
        self._rows.end(item, Step.REJECT, Outcome.DONE, reached=_S.DROPPED, reason=reason)
        return True

    def _reject(self, item: Item) -> Answer | None:
        """Take one stage back: None once it is gone, else how the last try went."""
        stage = self._rows.facts[item.position].stage
        answer = Answer(kind=Kind.REFUSED)
        for number in range(TRIES):
            print(f"Taking back the stage of {item.name} {item.version} …", flush=True)
            self._rows.begin(item, Step.REJECT, stage)
            answer = item.registry.reject(stage, self._otp)
            self._hear(answer.notice)
            if answer.kind is Kind.DONE:
                self._rows.end(item, Step.REJECT, Outcome.DONE, reached=_S.REJECTED)
                return None
            if answer.kind is Kind.ABSENT:
                looking = self._looking(item)
                there = looking.shows(looking.until_there())
                reason = f"{item.label} was approved elsewhere before: it is in the registry" if there else ""
                reached = _S.DROPPED if there else _S.REJECTED
                self._rows.end(item, Step.REJECT, Outcome.ALREADY, reached=reached, reason=reason)
                return None
            self._rows.end(item, Step.REJECT, Outcome.FAILED, reason=said(answer))
            if answer.kind not in (Kind.BUSY, Kind.UNREACHABLE):
                break
            self._pause(number, answer)
        return answer

    # -- the ways that are common

    def _at(self, item: Item) -> PublicationState:
        return self._rows.at[item.position]

    def _looking(self, item: Item) -> Looking:
        return Looking(item, self._sleep, self._hear)

    def _hear(self, notice: str) -> None:
        if notice and notice not in self._heard:
            self._heard.add(notice)
            print(f"The registry says: {notice}", flush=True)

    def _note(self, item: Item, notice: str) -> str:
        if notice not in self._notices.setdefault(item.position, []):
            self._notices[item.position].append(notice)
            print(f"warning: {notice}", flush=True)
        return "; ".join(self._notices[item.position])

    def _may_stop(self) -> None:
        if self._stopped():
            raise Stopped("it was cancelled")

    def _pause(self, number: int, answer: Answer) -> None:
        """Wait before the next try: as long as the registry asks for, within reason."""
        self._sleep(max(BACKOFF[min(number, len(BACKOFF) - 1)], min(answer.after, MOST_ASKED)))

    def _fail(self, item: Item, reason: str) -> NoReturn:
        more = f" (package {item.position + 1} of {len(self._items)})" if self._several else ""
        raise PublishFailed(f"{reason}{more}")

    def _password(self, item: Item, answer: Answer, doing: str) -> NoReturn:
        """A one-time password is needed, or another one."""
        if not self._asks:
            self._fail(
                item,
                f"{item.label} can't be {doing}: the registry wants a one-time password: the project needs a token "
                "that publishes without one, or to have the apiserver publish, where a person can give it",
            )
        why = "refuses the one-time password" if self._otp else "wants a one-time password"
        page = f" ({answer.page})" if answer.page else ""
        raise PersonNeeded(f"{item.label} can't be {doing} yet: the registry {why}{page}", password=True)

    def _mode(self, item: Item) -> Literal["direct", "staged"]:
        """Return how a package goes up: as it was decided, or as the project and the registry say. Raises."""
        known = self._rows.facts[item.position].mode
        if known:
            return known
        address = item.registry.address
        if self._staging == "never":
            return "direct"
        if address not in self._modes:
            self._modes[address] = "staged" if self._has_staging(item) else "direct"
        if self._staging == "always" and self._modes[address] == "direct":
            raise PublishFailed(
                f"nothing is published: the registry {address} has no stages, and the project publishes by stages only "
                "(--staging always)"
            )
        return self._modes[address]

    def _has_staging(self, item: Item) -> bool:
        answer: bool | Answer = False
        for number in range(TRIES + 1):
            answer = item.registry.has_staging()
            if not isinstance(answer, Answer):
                return answer
            if answer.kind not in (Kind.BUSY, Kind.UNREACHABLE):
                break
            self._pause(number, answer)
        assert isinstance(answer, Answer)
        raise CantAsk(f"the registry can't be asked whether it has stages, so nothing is published: {said(answer)}")

    # -- what has ended, before this run

    def _check_ended(self) -> None:
        for item in self._items:
            if self._at(item) in _ENDED:
                self._fail(item, f"{item.label} is {self._at(item).value} already")

    def _undo_if_failed(self) -> None:
        """Go on with moving tags back, if that has begun."""
        reason = self._rows.failed_move()
        if reason:
            self._undo(reason)

    # -- before anything is changed

    def _preflight(self, item: Item) -> None:
        """Ask the registry whether a package can be published."""
        if self._at(item) not in (_S.PACKED, _S.STORED):
            return
        self._may_stop()
        looking = self._looking(item)
        self._rows.begin(item, Step.PREFLIGHT)
        try:
            mode = self._mode(item)
            found = looking.now()
            looking.check_name(found)
            if looking.is_there(found):
                print(f"{item.label} is in the registry already, with the same content.", flush=True)
            else:
                looking.check_latest(found)
        except Conflict as error:
            self._rows.end(item, Step.PREFLIGHT, Outcome.REFUSED, reached=_S.CONFLICT, reason=str(error))
            self._fail(item, str(error))
        except PublishFailed as error:
            self._rows.end(item, Step.PREFLIGHT, Outcome.FAILED, reason=str(error))
            self._fail(item, str(error))
        now = found.tags.get(item.tag, "")
        if now:
            print(f"The tag {item.tag} of {item.name} is at {now} now.", flush=True)
        facts = Facts(
            registry=item.registry.address,
            mode=mode,
            tag_before=now,
            set_tag=self._set_tag if self._several else "",
        )
        self._found[item.position] = found
        self._rows.end(item, Step.PREFLIGHT, Outcome.DONE, reached=_S.CHECKED, facts=facts)

    # -- up

    def _tag_up(self, item: Item) -> str:
        """The tag under which a package goes up."""
        return self._set_tag if self._several else item.tag

    def _put_up(self, item: Item) -> None:
        staged = self._mode(item) == "staged"
        step = Step.STAGE if staged else Step.UPLOAD
        found = self._found.pop(item.position, None) or self._looked_after(item, step)
        try:
            if self._looking(item).is_there(found, ours=self._began(item)):
                self._already(item)
            elif staged:
                self._stage(item)
            else:
                self._upload(item)
        except Conflict as error:
            self._conflict(item, step, error)

    def _began(self, item: Item) -> bool:
        """Return whether this attempt may have brought the version there."""
        return any(self._rows.last(item, step) is not None for step in (Step.UPLOAD, Step.STAGE, Step.APPROVE))

    def _looked_after(self, item: Item, step: Step) -> Found:
        """Look, with patience if a request was made of which nobody knows how it ended."""
        looking = self._looking(item)
        if step is Step.UPLOAD and self._rows.last(item, step) is not None:
            return looking.until_there()  # one that shows still later is found by the upload, which isn't taken twice
        return looking.now()

    def _conflict(self, item: Item, step: Step, error: Conflict) -> NoReturn:
        if not self._rows.is_open(item, step):
            self._rows.begin(item, step, "")
        self._rows.end(item, step, Outcome.REFUSED, reached=_S.CONFLICT, reason=str(error))
        self._fail(item, str(error))

    def _already(self, item: Item) -> None:
        """It is there, with this content."""
        ours = self._began(item)
        status: Literal["published", "already-published"] = "published" if ours else "already-published"
        for step in (Step.UPLOAD, Step.STAGE):
            if self._rows.is_open(item, step):
                self._rows.end(item, step, Outcome.DONE if ours else Outcome.ALREADY)
        self._rows.begin(item, Step.VERIFY, item.version)
        outcome = Outcome.DONE if ours else Outcome.ALREADY
        self._rows.end(item, Step.VERIFY, outcome, reached=_S.PRESENT, facts=Facts(status=status))

    def _upload(self, item: Item) -> None:
        """Upload a package until it can be read."""
        last = self._rows.last(item, Step.UPLOAD)
        if last is not None and last.outcome is Outcome.DONE:
            self._verify(item)
            return
        if last is not None and last.outcome is None:
            self._rows.end(item, Step.UPLOAD, Outcome.FAILED, reason="the registry doesn't have it")
        tag = self._tag_up(item)
        answer = Answer(kind=Kind.REFUSED)
        for number in range(TRIES):
            print(f"Publishing {item.name} {item.version} to {item.registry.address} as {tag} …", flush=True)
            self._rows.begin(item, Step.UPLOAD, tag)
            answer = item.registry.upload(item.tarball, tag=tag, access=item.access, otp=self._otp)
            self._hear(answer.notice)
            if answer.kind is Kind.DONE:
                self._rows.end(item, Step.UPLOAD, Outcome.DONE)
                self._verify(item)
                return
            why = said(answer)
            print(f"The registry hasn't taken it ({why}): looking what it has …", flush=True)
            looking = self._looking(item)
            unsure = answer.unsure or answer.kind is Kind.FORBIDDEN
            found = looking.until_there() if unsure else looking.now()
            if looking.is_there(found, ours=True):
                print(f"{item.label} is in the registry, with the same content.", flush=True)
                self._already(item)
                return
            self._rows.end(item, Step.UPLOAD, Outcome.FAILED, reason=why)
            if answer.kind is Kind.OTP:
                self._password(item, answer, "published")
            if answer.kind not in (Kind.BUSY, Kind.UNREACHABLE, Kind.TAKEN):
                break
            self._pause(number, answer)
        self._fail(item, f"{item.label} isn't published: {said(answer)}")

    def _verify(self, item: Item) -> None:
        """Read what the registry has taken until it shows, and compare it."""
        looking = self._looking(item)
        self._rows.begin(item, Step.VERIFY, item.version)
        try:
            found = looking.until_there(PATIENCE)
            there = looking.is_there(found, ours=True)
        except CantAsk:
            there = False
        except PublishFailed as error:  # another content, or an answer that nobody can read: nobody can install it
            conflict = isinstance(error, Conflict) and self._at(item) is not _S.APPROVED
            reached = _S.CONFLICT if conflict else None
            self._rows.end(item, Step.VERIFY, Outcome.REFUSED, reached=reached, reason=str(error))
            self._fail(item, str(error))
        if there:
            self._rows.end(item, Step.VERIFY, Outcome.DONE, reached=_S.PRESENT, facts=Facts(status="published"))
            return
        why = f"the registry doesn't show {item.label} yet"
        if self._several:
            self._rows.end(item, Step.VERIFY, Outcome.FAILED, reason=why)
            self._fail(item, f"{why}, though it has taken it: no tag was moved; try again later")
        notice = self._note(item, f"{why}, so its tag {item.tag} wasn't looked at")
        facts = Facts(status="published", notice=notice)
        self._rows.end(item, Step.VERIFY, Outcome.FAILED, reached=_S.PRESENT, reason=why, facts=facts)

    # -- staged

    def _stage(self, item: Item) -> None:
        """Put a package into the registry's stage, or find it there."""
        looking = self._looking(item)
        before = self._rows.last(item, Step.STAGE)
        unsure = before is not None and before.outcome is None
        answer = Answer(kind=Kind.REFUSED)
        for number in range(TRIES):
            found = looking.stage(PATIENCE if unsure else ())
            if found is not None:
                self._is_staged(item, found, new=False)
                return
            if self._rows.is_open(item, Step.STAGE):
                self._rows.end(item, Step.STAGE, Outcome.FAILED, reason="the registry doesn't have it")
            tag = self._tag_up(item)
            print(f"Staging {item.name} {item.version} at {item.registry.address} as {tag} …", flush=True)
            self._rows.begin(item, Step.STAGE, tag)
            given = item.registry.stage(item.tarball, tag=tag, access=item.access, otp=self._otp)
            if isinstance(given, Stage):
                self._hear(given.notice)
                self._is_staged(item, given, new=True)
                return
            answer = given
            self._hear(answer.notice)
            unsure = answer.unsure
            if not unsure:
                outcome = Outcome.FAILED if answer.kind in (Kind.OTP, Kind.BUSY) else Outcome.REFUSED
                self._rows.end(item, Step.STAGE, outcome, reason=said(answer))
            if answer.kind is Kind.OTP:
                self._password(item, answer, "staged")
            if answer.kind not in (Kind.BUSY, Kind.UNREACHABLE, Kind.TAKEN):
                break
            self._pause(number, answer)
            there = looking.now()
            if looking.is_there(there):
                self._already(item)
                return
        else:
            found = looking.stage(PATIENCE) if unsure else None
            if found is not None:
                self._is_staged(item, found, new=False)
                return
        if self._rows.is_open(item, Step.STAGE):
            self._rows.end(item, Step.STAGE, Outcome.FAILED, reason=said(answer))
        first = ""
        if not looking.now().versions:
            first = (
                f". {item.name} is new to this registry: if it stages no first version, publish the first one by hand, "
                "or have this project publish directly (--staging never)"
            )
        self._fail(item, f"{item.label} isn't staged: {said(answer)}{first}")

    def _is_staged(self, item: Item, stage: Stage, *, new: bool) -> None:
        if not self._rows.is_open(item, Step.STAGE):
            self._rows.begin(item, Step.STAGE, stage.id)
        outcome = Outcome.DONE if new else Outcome.ALREADY
        self._rows.end(item, Step.STAGE, outcome, reached=_S.STAGED, facts=Facts(stage=stage.id))

    def _approve_all(self) -> None:
        """Have all that is staged approved: what a person did elsewhere is noticed, the rest is done here."""
        for item in self._items:
            if self._at(item) is _S.STAGED:
                self._may_stop()
                self._notice(item)
        waiting = [item for item in self._items if self._at(item) is _S.STAGED]
        if waiting and not self._otp:
            what = f"{waiting[0].label} is" if len(waiting) == 1 else f"{len(waiting)} packages are"
            raise PersonNeeded(
                f"{what} staged at {waiting[0].registry.address}: a person is to approve, with a one-time password"
            )
        for item in waiting:
            try:
                looking = self._looking(item)
                looking.check_latest(looking.now())
            except PublishFailed as error:
                self._fail(item, str(error))
        for item in self._items:
            if self._at(item) is _S.STAGED:
                self._may_stop()
                self._approve(item)
            if self._at(item) is _S.APPROVED:
                self._verify(item)

    def _notice(self, item: Item) -> None:
        """Notice that a stage was approved or rejected elsewhere, or by this attempt before a crash."""
        looking = self._looking(item)
        if looking.waits(self._rows.facts[item.position].stage):
            if self._rows.is_open(item, Step.APPROVE):
                self._rows.end(item, Step.APPROVE, Outcome.FAILED, reason="it still waits")
            return
        self._is_gone(item, ours=self._rows.last(item, Step.APPROVE) is not None)

    def _is_gone(self, item: Item, *, ours: bool) -> None:
        """
        A stage isn't there any more: it was approved, or rejected. ``ours``: this attempt may have approved it.
        """
        looking = self._looking(item)
        try:
            there = looking.is_there(looking.until_there(PATIENCE), ours=ours)
        except Conflict as error:
            self._conflict(item, Step.APPROVE, error)
        stage = self._rows.facts[item.position].stage
        if there:
            print(f"{item.label} was approved.", flush=True)
            if not self._rows.is_open(item, Step.APPROVE):
                self._rows.begin(item, Step.APPROVE, stage)
            reason = "" if ours else "elsewhere"
            self._rows.end(item, Step.APPROVE, Outcome.ALREADY, reached=_S.APPROVED, reason=reason)
            return
        if ours:
            if self._rows.is_open(item, Step.APPROVE):
                self._rows.end(item, Step.APPROVE, Outcome.FAILED, reason="the registry doesn't show it yet")
            self._fail(item, f"the registry doesn't show {item.label} yet, though it is approved: try again later")
        reason = f"{item.label} was rejected at the registry"
        left = [each.name for each in self._items if self._at(each) is _S.STAGED and each is not item]
        if left:
            reason += f": nothing more of the set is published; {', '.join(left[:5])} may still be staged there"
        self._rows.begin(item, Step.VERIFY, stage)
        self._rows.end(item, Step.VERIFY, Outcome.REFUSED, reached=_S.REJECTED, reason=reason)
        self._fail(item, reason)

    def _approve(self, item: Item) -> None:
        """Approve what is staged, with the person's password."""
        looking = self._looking(item)
        stage = self._rows.facts[item.position].stage
        answer = Answer(kind=Kind.REFUSED)
        unsure = False
        for number in range(TRIES):
            print(f"Approving {item.name} {item.version} …", flush=True)
            self._rows.begin(item, Step.APPROVE, stage)
            answer = item.registry.approve(stage, self._otp)
            self._hear(answer.notice)
            if answer.kind is Kind.DONE:
                self._rows.end(item, Step.APPROVE, Outcome.DONE, reached=_S.APPROVED)
                return
            unsure = unsure or answer.unsure
            if (answer.unsure or answer.kind is Kind.ABSENT) and not looking.waits(stage):
                self._is_gone(item, ours=unsure)
                return
            self._rows.end(item, Step.APPROVE, Outcome.FAILED, reason=said(answer))
            if answer.kind is Kind.OTP:
                self._password(item, answer, "approved")
            if answer.kind not in (Kind.BUSY, Kind.UNREACHABLE, Kind.TAKEN, Kind.ABSENT):
                break
            self._pause(number, answer)
        self._fail(item, f"{item.label} isn't approved: {said(answer)}")

    # -- tags

    def _move(self, item: Item) -> None:
        """Let a package's final tag lead to its version, unless it leads to a newer one."""
        if self._at(item) is not _S.PRESENT or self._is_unseen(item):
            return
        looking = self._looking(item)
        try:
            found = looking.until_there()
        except PublishFailed as error:
            self._unmoved(item, "", str(error))
            return
        self._found[item.position] = found
        if looking.is_another(found):
            notice = self._note(
                item, f"{item.label} is in the registry already, and stays as it is: no build has raised it since"
            )
            self._rows.begin(item, Step.TAG, item.tag)
            self._rows.end(item, Step.TAG, Outcome.ALREADY, reason=notice, facts=Facts(notice=notice))
            return
        now = found.tags.get(item.tag, "")
        is_open = self._rows.is_open(item, Step.TAG)
        if now == item.version:
            if not is_open:
                self._rows.begin(item, Step.TAG, item.tag)
            self._rows.end(item, Step.TAG, Outcome.DONE if is_open else Outcome.ALREADY)
            return
        if is_open:
            self._rows.end(item, Step.TAG, Outcome.FAILED, reason="the registry doesn't have it so")
        if looking.stays(found):
            notice = self._note(item, f"the tag {item.tag} stays at {now}, which is newer than {item.version}")
            self._rows.begin(item, Step.TAG, item.tag)
            self._rows.end(item, Step.TAG, Outcome.ALREADY, reason=notice, facts=Facts(notice=notice))
            return
        print(
            f"The tag {item.tag} of {item.name} is at {now or 'no version'}: setting it to {item.version} …", flush=True
        )
        answer = self._set(item, Step.TAG, item.tag, item.version, now)
        if answer is not None:
            self._unmoved(item, now, said(answer))

    def _is_unseen(self, item: Item) -> bool:
        """Return whether the registry hasn't shown a single package, whose tag went up with it."""
        last = self._rows.last(item, Step.VERIFY)
        return last is not None and last.outcome is Outcome.FAILED

    def _set(self, item: Item, step: Step, tag: str, version: str, before: str) -> Answer | None:
        """Set a tag until the registry has it so: None then, else how the last try went."""
        looking = self._looking(item)
        detail = f"{tag}{_FROM}{before}" if before else tag
        answer = Answer(kind=Kind.REFUSED)
        for number in range(TRIES):
            self._rows.begin(item, step, detail)
            answer = item.registry.set_tag(item.name, tag, version, self._otp)
            self._hear(answer.notice)
            if answer.kind is Kind.OTP:
                self._rows.end(item, step, Outcome.FAILED, reason=said(answer))
                if self._asks:
                    self._password(item, answer, "tagged")
                break
            try:
                found = looking.until(
                    lambda seen: seen.tags.get(tag) == version, BACKOFF if answer.kind is Kind.DONE else ()
                )
            except PublishFailed:
                found = Found(name=item.name)
            if found.tags.get(tag) == version or (answer.kind is Kind.DONE and not found.tags and found.versions):
                self._rows.end(item, step, Outcome.DONE, facts=Facts(tag_before=before) if step is Step.TAG else None)
                return None
            why = (
                said(answer)
                if answer.kind is not Kind.DONE
                else "the registry says that it is set, and doesn't show it"
            )
            self._rows.end(item, step, Outcome.FAILED, reason=why)
            if answer.kind not in (Kind.DONE, Kind.BUSY, Kind.UNREACHABLE, Kind.TAKEN):
                break
            self._pause(number, answer)
        return (
            answer if answer.kind is not Kind.DONE else Answer(kind=Kind.REFUSED, said="the registry doesn't keep it")
        )

    def _unmoved(self, item: Item, now: str, why: str) -> None:
        """A tag can't be moved: a notice for a single package; a set's other tags are moved back."""
        if not self._several or any(self._at(each) is _S.PUBLISHED for each in self._items):
            at = f"is at {now or 'no version'} and "
            notice = self._note(
                item,
                f"{item.label} is in the registry, but its tag {item.tag} {at}can't be set ({why}): run "
                f"`npm dist-tag add {item.label} {item.tag}`",
            )
            self._rows.begin(item, Step.VERIFY, item.tag)
            self._rows.end(item, Step.VERIFY, Outcome.DONE, reason=notice, facts=Facts(notice=notice))
            return
        reason = (
            f"the tag {item.tag} of {item.name} can't be moved to {item.version} ({why}): the tags of the set are as "
            f"they were, and its versions are in the registry under {self._set_tag}; a new build goes on with them"
        )
        self._rows.begin(item, Step.TAG, item.tag)
        self._rows.end(item, Step.TAG, Outcome.REFUSED, reason=reason)
        self._undo(reason)

    def _undo(self, reason: str) -> NoReturn:
        """Move back the tags that were moved, the last first. Raises `PublishFailed` with why."""
        left: list[str] = []
        for item in reversed(self._items):
            before = self._moved_from(item)
            if before is None:
                continue
            if not self._undo_one(item, before):
                left.append(f"{item.tag} of {item.name} is at {item.version}")
        if left:
            reason += f". But not all could be moved back: {', '.join(left[:5])}"
        raise PublishFailed(reason)

    def _moved_from(self, item: Item) -> str | None:
        """Return from which version a tag was moved, if this attempt may have moved it and not back; else None."""
        before: str | None = None
        for each in self._rows.moves(item):
            if each.step is Step.UNDO_TAG:
                if each.outcome in (Outcome.DONE, Outcome.ALREADY):
                    before = None
            elif each.outcome is None or each.outcome in (Outcome.DONE, Outcome.FAILED):
                _tag, known, version = each.detail.partition(_FROM)
                before = version if known else ""
        return before

    def _undo_one(self, item: Item, before: str) -> bool:
        """Move one tag back, if it leads to our version. Return whether it doesn't any more."""
        if self._rows.is_open(item, Step.TAG):
            self._rows.end(item, Step.TAG, Outcome.FAILED, reason="the set has failed")
        if self._rows.is_open(item, Step.UNDO_TAG):
            self._rows.end(item, Step.UNDO_TAG, Outcome.FAILED, reason="nobody knows how it ended")
        try:
            now = self._looking(item).now().tags.get(item.tag, "")
        except PublishFailed:
            return False
        if now != item.version or (not before and item.tag == "latest"):
            # A package's first `latest` can't be removed: what it leads to is there, and all that it needs.
            self._rows.begin(item, Step.UNDO_TAG, item.tag)
            self._rows.end(item, Step.UNDO_TAG, Outcome.ALREADY)
            return True
        print(f"Moving the tag {item.tag} of {item.name} back to {before or 'no version'} …", flush=True)
        if before:
            return self._set(item, Step.UNDO_TAG, item.tag, before, item.version) is None
        return self._remove(item, Step.UNDO_TAG, item.tag) is None

    def _remove(self, item: Item, step: Step, tag: str) -> Answer | None:
        """Remove a tag: None once it is gone, else how the last try went. The last step stays open for its caller."""
        answer = Answer(kind=Kind.REFUSED)
        for number in range(TRIES):
            self._rows.begin(item, step, tag)
            answer = item.registry.remove_tag(item.name, tag, self._otp)
            self._hear(answer.notice)
            if answer.kind in (Kind.DONE, Kind.ABSENT):
                self._rows.end(item, step, Outcome.DONE if answer.kind is Kind.DONE else Outcome.ALREADY)
                return None
            self._rows.end(item, step, Outcome.FAILED, reason=said(answer))
            if answer.kind not in (Kind.BUSY, Kind.UNREACHABLE, Kind.TAKEN):
                break
            self._pause(number, answer)
        return answer

    # -- the end

    def _finish(self, item: Item) -> Published:
        """Remove the tags under which a version went up. A failure of that is a notice."""
        if self._at(item) is _S.PRESENT:
            found = self._found.get(item.position)
            tags = dict(found.tags) if found is not None else {}
            if self._several and self._rows.facts[item.position].status == "published":
                tags[self._set_tag] = item.version  # though it may not show yet
            for tag in sorted(tags):
                # That of this set, and those of sets before that have failed with this version.
                if tags[tag] == item.version and SET_TAG.match(tag) and tag != item.tag:
                    answer = self._remove(item, Step.UNTAG, tag)
                    if answer is not None:
                        self._note(item, f"the tag {tag} of {item.name} can't be removed ({said(answer)})")
            notice = "; ".join(self._notices.get(item.position, []))
            self._rows.begin(item, Step.VERIFY, item.tag)
            facts = Facts(notice=notice) if notice else None
            self._rows.end(item, Step.VERIFY, Outcome.DONE, reached=_S.PUBLISHED, facts=facts)
        facts = self._rows.facts[item.position]
        return Published(
            name=item.name,
            version=item.package.version,
            integrity=item.package.integrity,
            status=facts.status or "published",
            registry=facts.registry or item.registry.address,
            notice=facts.notice,
        )
