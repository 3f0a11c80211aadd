"""The checker of groups: from what members told, finds two owners, lost records and commits that went back.

Members are told apart by what was done to them: one that was killed, or stopped for longer than its
session, may have processed records that it did not commit, and those come again. Nothing else does.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field

COMPLAINTS_MAX = 10


def micros():
    """The clock that all members write down."""
    return time.time_ns() // 1000


@dataclass
class Tale:
    """What one member told, and what was done to it: all times in microseconds."""

    name: str
    events: list = field(default_factory=list)
    died_at: int | None = None
    pauses: list = field(default_factory=list)
    instance: str | None = None

    def owned(self):
        owned = set()
        for event in self.events:
            if event["event"] == "assigned":
                owned |= set(event["partitions"])
            elif event["event"] in ("revoked", "lost"):
                owned -= set(event["partitions"])
            elif event["event"] == "closed":
                owned = set()
        return owned

    def of(self, *names):
        return [event for event in self.events if event["event"] in names]

    def excused(self, at):
        """Whether it died or stopped after `at`, or had not yet learnt what happened while it was stopped."""
        if self.died_at is not None and self.died_at >= at:
            return True
        return any(pause >= at or at <= self.learnt_at(pause) for pause in self.pauses)

    def learnt_at(self, pause):
        """When it first told of a change in what it owns after a pause."""
        changes = (event["at"] for event in self.of("assigned", "revoked", "lost", "closed"))
        return next((at for at in changes if at > pause), float("inf"))


@dataclass
class Sample:
    """What the broker said is committed, and when it was asked."""

    asked_at: int
    committed: dict


@dataclass
class Span:
    """One member owned one partition from `begin` to `end`, and saw these offsets as [(at, offset)]."""

    tale: Tale
    partition: str
    begin: int
    end: float
    generation: int | None
    seen: list = field(default_factory=list)


def spans(tale):
    """Everything that the member owned, in order; also a complaint for each record seen without owning."""
    done, running, complaints = [], {}, []

    def finish(partition, at):
        if partition in running:
            span = running.pop(partition)
            # Whoever is stopped cannot know that others go on without it.
            stops = [pause for pause in tale.pauses if span.begin <= pause <= at]
            span.end = min([at, *stops[:1]])
            done.append(span)

    for event in tale.events:
        at = event["at"]
        match event["event"]:
            case "assigned":
                for partition in event["partitions"]:
                    finish(partition, at)
                    running[partition] = Span(tale, partition, at, 0, event.get("generation"))
            case "revoked" | "lost":
                for partition in event["partitions"]:
                    finish(partition, at)
            case "closed":
                for partition in list(running):
                    finish(partition, at)
            case "records":
                if event["partition"] in running:
                    running[event["partition"]].seen += [(at, offset) for offset in event["offsets"]]
                else:
                    complaints.append(f"{tale.name} saw records of {event['partition']} which it did not own")
    for partition in list(running):
        finish(partition, tale.died_at or float("inf"))
    return done, complaints


def check(tales, ends, samples=(), forgiving=False):
    """Returns complaints, none when all is well.

    `ends` says how many records each partition has. `forgiving` is for runs in which the broker died:
    members may meet errors, and what was not committed may come again for that reason alone.
    """
    complaints = []
    by_partition = defaultdict(list)
    for tale in tales:
        owned, foreign = spans(tale)
        complaints += foreign
        for span in owned:
            by_partition[span.partition].append(span)
        complaints += [f"{tale.name} failed: {event['message']}" for event in tale.of("failed")]
        if not forgiving:
            complaints += unexpected(tale)
    commits = commits_of(tales)
    for partition, end in ends.items():
        owned = sorted(by_partition[partition], key=lambda span: span.begin)
        complaints += two_owners(partition, owned)
        complaints += seen_wrongly(partition, end, owned, commits[partition], forgiving)
    complaints += went_back(commits, samples)
    return complaints


def unexpected(tale):
    """Members that nobody hurt lose nothing and meet no errors."""
    if tale.pauses:
        return
    for event in tale.of("lost", "fenced", "trouble"):
        yield f"{tale.name} met {event['event']}: {event.get('message') or event.get('partitions')}"


def commits_of(tales):
    """Successful commits per partition as sorted [(at, offset, tale)]."""
    commits = defaultdict(list)
    for tale in tales:
        for event in tale.of("committed"):
            # Stopped between the answer and telling of it: its time says nothing.
            if any(last_before(tale, pause) == event for pause in tale.pauses):
                continue
            for partition, offset in event["offsets"].items():
                commits[partition].append((event["at"], offset, tale.name))
    for found in commits.values():
        found.sort()
    return commits


def last_before(tale, pause):
    """The first event after a pause: what happened before it may be told after it."""
    return next((event for event in tale.events if event["at"] > pause), None)


def two_owners(partition, owned):
    """At no time, and in no generation, does a partition have two owners."""
    generations = {}
    for before, after in zip(owned, owned[1:]):
        if after.begin < before.end and before.tale is not after.tale:
            yield (
                f"two owners: {before.tale.name} had {partition} until {before.end} "
                f"and {after.tale.name} from {after.begin} ({before.end - after.begin} us)"
            )
    for span in owned:
        if span.generation is None:
            continue
        first = generations.setdefault(span.generation, span.tale)
        # A static member that comes back is the same owner in another process.
        if first is not span.tale and (first.instance is None or first.instance != span.tale.instance):
            yield f"two owners: generation {span.generation} gave {partition} to {first.name} and {span.tale.name}"


def seen_wrongly(partition, end, owned, commits, forgiving):
    """Nothing lost, nothing skipped, and nothing twice without a reason."""
    first_seen = {}
    for span in owned:
        offsets = [offset for _, offset in span.seen]
        for before, after in zip(offsets, offsets[1:]):
            if after != before + 1:
                yield f"order: {span.tale.name} saw offset {after} of {partition} after {before}"
        committed = max((offset for at, offset, _ in commits if at < span.begin), default=0)
        for at, offset in span.seen:
            if offset < committed:
                yield f"commit lost: {span.tale.name} saw {partition} at {offset} although {committed} was committed"
            tale, seen_at = first_seen.setdefault(offset, (span.tale, at))
            if (tale, seen_at) != (span.tale, at) and not forgiving and not tale.excused(seen_at):
                yield f"twice: {span.tale.name} saw offset {offset} of {partition}, which {tale.name} had seen"
    missing = sorted(set(range(end)) - set(first_seen))
    if missing:
        yield f"lost: nobody saw {len(missing)} of {end} records of {partition}, first {missing[0]}"
    beyond = [offset for offset in first_seen if offset >= end]
    if beyond:
        yield f"foreign: {partition} ends at {end}, and {min(beyond)} was seen"


def went_back(commits, samples):
    """What is committed never gets smaller, as members and as the broker tell it."""
    for partition, found in commits.items():
        for (_, before, first), (_, after, second) in zip(found, found[1:]):
            if after < before:
                yield f"commit went back: {partition} from {before} ({first}) to {after} ({second})"
    seen = {}
    for sample in sorted(samples, key=lambda sample: sample.asked_at):
        for partition, found in commits.items():
            told = max((offset for at, offset, _ in found if at < sample.asked_at), default=0)
            least = max(told, seen.get(partition, 0))
            got = sample.committed.get(partition, 0)
            if got < least:
                yield f"commit lost: the broker says {got} for {partition}, and {least} was committed"
            seen[partition] = max(got, least)
