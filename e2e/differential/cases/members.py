"""What the scripts of groups share: bodies, and a member of each protocol."""

import struct

from ..codec import messages

SESSION_MS, REBALANCE_MS = 30_000, 20_000
# The newest version of each API that a classic member of a JoinGroup version would use with it.
NEWEST = {"SyncGroup": 5, "Heartbeat": 4, "LeaveGroup": 5}


def subscription(*topics, owned=(), generation=-1, version=3, user_data=None):
    """What a consumer puts into its JoinGroup."""
    body = {
        "Topics": list(topics),
        "UserData": user_data,
        "OwnedPartitions": [{"Topic": t, "Partitions": list(p)} for t, p in owned],
        "GenerationId": generation,
    }
    return struct.pack(">h", version) + messages()["ConsumerProtocolSubscription"].encode(version, body)


def assignment(*assigned, version=3):
    """What a leader gives to a member: (topic, partitions) pairs."""
    body = {"AssignedPartitions": [{"Topic": topic, "Partitions": list(parts)} for topic, parts in assigned]}
    return struct.pack(">h", version) + messages()["ConsumerProtocolAssignment"].encode(version, body)


def group_state(s, group, wanted):
    """Waits until a group is in one of the states."""
    states = (wanted,) if isinstance(wanted, str) else wanted
    return s.until("DescribeGroups", {"Groups": [group]}, lambda got: got["Groups"][0]["GroupState"] in states, 5)


class Member:
    """A classic member: what it knows, and the requests it makes of that."""

    def __init__(
        self, s, group, version=9, protocols=None, instance=None, session=SESSION_MS, rebalance=REBALANCE_MS, kind="consumer"
    ):
        self.s, self.group, self.version, self.instance, self.kind = s, group, version, instance, kind
        self.protocols = (("range", subscription("anything")),) if protocols is None else protocols
        self.session, self.rebalance = session, rebalance
        self.link = s.link()
        self.id, self.generation, self.protocol = "", -1, None

    def join_body(self, **more):
        return {
            "GroupId": self.group, "SessionTimeoutMs": self.session, "RebalanceTimeoutMs": self.rebalance, "MemberId": self.id,
            "GroupInstanceId": self.instance, "ProtocolType": self.kind, "Reason": "a reason",
            "Protocols": [{"Name": name, "Metadata": data} for name, data in self.protocols], **more,
        }  # fmt: skip

    def send_join(self, **more):
        self.s.send("JoinGroup", self.join_body(**more), self.version, link=self.link)

    def joined(self, label="join"):
        answer = self.s.receive(label, link=self.link)
        if answer["ErrorCode"] in (0, 79):
            self.id = answer["MemberId"]
            self.generation = answer["GenerationId"]
            self.protocol = answer["ProtocolName"]
        return answer

    def join(self, label="join", **more):
        """Joins, with the extra round that dynamic members need since version 4."""
        self.send_join(**more)
        answer = self.joined(label)
        if answer["ErrorCode"] == 79:
            self.send_join(**more)
            answer = self.joined(f"{label}, with the id given")
        return answer

    def enter(self, others=(), label="join"):
        """Joins a group of others, who all join again."""
        if self.version >= 4 and not self.id and self.instance is None:
            self.send_join()
            self.joined(f"{label}, for an id")
        self.send_join()
        group_state(self.s, self.group, ("PreparingRebalance", "CompletingRebalance"))
        for other in others:
            other.beat("told to join again")
        for other in others:
            other.send_join()
        for other in (*others, self):
            other.joined(label)

    def body(self, **more):
        known = {"GroupId": self.group, "GenerationId": self.generation, "MemberId": self.id, "GroupInstanceId": self.instance}
        return {**known, **more}

    def send_sync(self, assignments=(), **more):
        given = [
            {"MemberId": member.id if isinstance(member, Member) else member, "Assignment": data} for member, data in assignments
        ]
        body = {**self.body(ProtocolType=self.kind, ProtocolName=self.protocol, Assignments=given), **more}
        self.s.send("SyncGroup", body, min(self.version, NEWEST["SyncGroup"]), link=self.link)

    def synced(self, label="sync"):
        return self.s.receive(label, link=self.link)

    def sync(self, assignments=(), label="sync", **more):
        self.send_sync(assignments, **more)
        return self.synced(label)

    def beat(self, label="heartbeat", **more):
        return self.s.ask("Heartbeat", self.body(**more), min(self.version, NEWEST["Heartbeat"]), label=label, link=self.link)

    def leave(self, label="leave", **more):
        body = {
            "GroupId": self.group,
            "MemberId": self.id,
            "Members": [{"MemberId": self.id, "GroupInstanceId": self.instance, "Reason": "done"}],
            **more,
        }
        return self.s.ask("LeaveGroup", body, min(self.version, NEWEST["LeaveGroup"]), label=label, link=self.link)

    def commit(self, topic, offset, label="commit", versions=9, partition=0, **more):
        body = commit_body(
            self.group, topic, offset, partition, member=self.id, generation=self.generation, instance=self.instance
        )
        return self.s.ask("OffsetCommit", {**body, **more}, versions, label=label, link=self.link)


def commit_body(group, topic, offset, partition=0, member="", generation=-1, instance=None, metadata="note", epoch=-1):
    part = {"PartitionIndex": partition, "CommittedOffset": offset, "CommittedLeaderEpoch": epoch, "CommittedMetadata": metadata}
    return {
        "GroupId": group, "GenerationIdOrMemberEpoch": generation, "MemberId": member, "GroupInstanceId": instance,
        "Topics": [{"Name": topic.name, "TopicId": topic.id, "Partitions": [part]}],
    }  # fmt: skip


def fetch_offsets_body(group, *topics, partitions=(0,), member=None, epoch=-1, stable=False):
    """An OffsetFetch for all versions; without topics it asks for all, which version 1 cannot."""
    old = [{"Name": topic.name, "PartitionIndexes": list(partitions)} for topic in topics] or None
    new = [{"Name": topic.name, "TopicId": topic.id, "PartitionIndexes": list(partitions)} for topic in topics] or None
    asked = {"GroupId": group, "MemberId": member, "MemberEpoch": epoch, "Topics": new}
    return {"GroupId": group, "Topics": old, "Groups": [asked], "RequireStable": stable}


class Consumer:
    """A member of the consumer protocol (KIP-848)."""

    def __init__(
        self,
        s,
        group,
        name="a",
        version=1,
        topics=None,
        regex=None,
        instance=None,
        assignor=None,
        rebalance=REBALANCE_MS,
        rack=None,
    ):
        self.s, self.group, self.version = s, group, version
        self.id = f"{group}-member-{name}"
        self.epoch = 0
        self.assigned = []
        self.full = {
            "InstanceId": instance, "RebalanceTimeoutMs": rebalance, "SubscribedTopicNames": topics, "SubscribedTopicRegex": regex,
            "ServerAssignor": assignor, "RackId": rack,
        }  # fmt: skip

    def body(self, **more):
        return {
            "GroupId": self.group,
            "MemberId": self.id,
            "MemberEpoch": self.epoch,
            "InstanceId": self.full["InstanceId"],
            **more,
        }

    def beat(self, label="heartbeat", version=None, **more):
        """A heartbeat with nothing but the epoch, or what is given."""
        answer = self.s.ask("ConsumerGroupHeartbeat", self.body(**more), version or self.version, label=label)
        if answer and not answer["ErrorCode"]:
            self.id = answer["MemberId"]
            self.epoch = max(answer["MemberEpoch"], 0)
            if answer["Assignment"] is not None:
                self.assigned = answer["Assignment"]["TopicPartitions"]
        return answer

    def join(self, label="join", **more):
        self.epoch = 0
        return self.beat(label, **{**self.full, "TopicPartitions": [], **more})

    def own(self, label="own what was assigned", **more):
        """Says that it now has exactly what it was given."""
        return self.beat(label, TopicPartitions=self.assigned, **more)

    def leave(self, label="leave", epoch=-1):
        return self.beat(label, MemberEpoch=epoch)
