"""Turns what two brokers cannot share into symbols, so that the rest can be compared field by field.

An id becomes the order of its first appearance: that two answers name the same member, topic or session is compared,
what the id is is not. Everything here has its reason beside it.
"""

import copy
import fnmatch
import json
import re
import time

from . import batches
from .codec import NOBODYS_ID, ZERO_UUID, Uuid

MEMBER = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
GENERATED_ID = re.compile(r"[A-Za-z0-9_-]{22}")


def text(value, _):
    """Words are each project's own; that there are any is compared."""
    return "<text>" if value else value


def size(value, _):
    return "<size>" if isinstance(value, int) and value >= 0 else value


def number(value, _):
    return "<number>" if isinstance(value, int) and value >= 0 else value


def port(value, server):
    return "<port>" if value == server.port else value


def cluster(value, _):
    """Any proper cluster id."""
    return "<cluster>" if value and GENERATED_ID.fullmatch(value) else value


def path(value, server):
    return "<log dir>" if isinstance(value, str) and value.startswith(str(server.data_dir)) else value


# (API, path) -> what takes the value's place, and why it cannot be equal.
MASKS = (
    ("*", "*ErrorMessage", text, "the sentences are each broker's own"),
    ("DescribeQuorum", "Nodes.Listeners.Port", number, "each controller has its own port"),
    ("*", "*Port", port, "each broker has its own port"),
    ("*", "ClusterId", cluster, "each cluster has its own id"),
    ("DescribeConfigs", "Results.Configs.Documentation", text, "the documentation is each broker's own"),
    ("DescribeLogDirs", "Results.LogDir", path, "each broker has its own directory"),
    ("DescribeLogDirs", "Results.TotalBytes", size, "the disk is in use by others"),
    ("DescribeLogDirs", "Results.UsableBytes", size, "the disk is in use by others"),
    (
        "ApiVersions",
        "FinalizedFeaturesEpoch",
        number,
        "counts what happened to the metadata, of which each broker has its own form",
    ),
    ("DescribeQuorum", "Topics.Partitions.LeaderEpoch", number, "an election counter of its own"),
    ("DescribeQuorum", "Topics.Partitions.HighWatermark", number, "the end of a log of its own"),
    ("DescribeQuorum", "Topics.Partitions.*.LogEndOffset", number, "the end of a log of its own"),
)

# Lists whose order means nothing, most of them because Kafka takes it from a hash map: compared by the field (the first
# that the version has) that tells their items apart.
KEYED = {
    "Produce:Responses": "Name TopicId",
    "Produce:Responses.PartitionResponses": "Index",
    "ApiVersions:ApiKeys": "ApiKey",
    "ApiVersions:SupportedFeatures": "Name",
    "ApiVersions:FinalizedFeatures": "Name",
    "Metadata:Topics": "Name TopicId",
    "Metadata:Topics.Partitions": "PartitionIndex",
    "DescribeConfigs:Results": "ResourceName",
    "DescribeConfigs:Results.Configs": "Name",
    "AlterConfigs:Responses": "ResourceName",
    "IncrementalAlterConfigs:Responses": "ResourceName",
    "ListConfigResources:ConfigResources": "ResourceName",
    "CreateTopics:Topics": "Name",
    "CreateTopics:Topics.Configs": "Name",
    "DeleteTopics:Responses": "Name TopicId",
    "DeleteRecords:Topics": "Name",
    "DeleteRecords:Topics.Partitions": "PartitionIndex",
    "CreatePartitions:Results": "Name",
    "DescribeLogDirs:Results.Topics": "Name",
    "DescribeLogDirs:Results.Topics.Partitions": "PartitionIndex",
    "ListGroups:Groups": "GroupId",
    "DeleteGroups:Results": "GroupId",
    "DescribeGroups:Groups": "GroupId",
    "ConsumerGroupDescribe:Groups": "GroupId",
    "OffsetFetch:Groups": "GroupId",
    "DescribeGroups:Groups.Members": "MemberId",
    "JoinGroup:Members": "MemberId",
    "ConsumerGroupDescribe:Groups.Members": "MemberId",
    "ConsumerGroupHeartbeat:Assignment.TopicPartitions": "TopicId",
    "ConsumerGroupDescribe:Groups.Members.Assignment.TopicPartitions": "TopicName",
    "ConsumerGroupDescribe:Groups.Members.TargetAssignment.TopicPartitions": "TopicName",
    "OffsetFetch:Topics": "Name",
    "OffsetFetch:Topics.Partitions": "PartitionIndex",
    "OffsetFetch:Groups.Topics": "Name TopicId",
    "OffsetFetch:Groups.Topics.Partitions": "PartitionIndex",
    "OffsetCommit:Topics": "Name TopicId",
    "OffsetCommit:Topics.Partitions": "PartitionIndex",
    "OffsetDelete:Topics": "Name",
    "OffsetDelete:Topics.Partitions": "PartitionIndex",
    "OffsetForLeaderEpoch:Topics": "Topic",
    "UpdateFeatures:Results": "Feature",
}


class Symbols:
    """The ids of one transcript, numbered as they appear."""

    def __init__(self, server, topics):
        self.server = server
        # What the scripts ask for and nobody has stays as it is.
        self.known = {("id", NOBODYS_ID): NOBODYS_ID, **{("id", topic_id): name for topic_id, name in topics.items()}}
        self.count = {}
        self.now_ms = time.time() * 1000

    def of(self, kind, value):
        if (kind, value) not in self.known:
            self.count[kind] = self.count.get(kind, 0) + 1
            self.known[kind, value] = f"<{kind} {self.count[kind]}>"
        return self.known[kind, value]

    def leaf(self, api, where, value):
        for wanted, pattern, change, _ in MASKS:
            if fnmatch.fnmatchcase(api, wanted) and fnmatch.fnmatchcase(where, pattern):
                return change(value, self.server)
        field = where.rpartition(".")[2]
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int):
            if api == "Fetch" and field == "SessionId" and value:
                return self.of("session", value)
            if field == "ProducerId" and (api == "InitProducerId" and value >= 0 or ("producer", value) in self.known):
                return self.of("producer", value)
            return "<now>" if abs(value - self.now_ms) < batches.DAY_MS else value
        if isinstance(value, Uuid):
            return "<no id>" if value == ZERO_UUID else self.of("id", value)
        if isinstance(value, str):
            # Brokers give members of consumer groups an id in another form than members of classic groups.
            if field in ("MemberId", "Leader") and GENERATED_ID.fullmatch(value):
                return self.of("member", value)
            for secret, name in self.server.secrets():
                value = value.replace(secret, name)
            return MEMBER.sub(lambda match: self.of("member", match[0]), value)
        return value

    def tree(self, api, where, value):
        if isinstance(value, dict):
            return {key: self.tree(api, f"{where}.{key}" if where else key, inner) for key, inner in value.items()}
        if isinstance(value, list):
            items = [self.tree(api, where, inner) for inner in value]
            keys = KEYED.get(f"{api}:{where}")
            return by_key(items, keys) if keys else items
        if isinstance(value, bytes) and api == "Fetch" and where.endswith(".Records"):
            return self.tree(api, where, batches.read(value))
        if isinstance(value, bytes):
            return f"0x{value.hex()}"
        return self.leaf(api, where, value)


def by_key(items, keys):
    """A list as a dictionary; items that share a key are told apart by their order."""
    found = {}
    for item in items:
        name = str(next((item[key] for key in keys.split() if item.get(key) is not None), None))
        while name in found:
            name += "'"
        found[name] = item
    return found


def normalise(transcript, server):
    """The same transcript with symbols."""
    symbols = Symbols(server, transcript.topics)
    normal = copy.copy(transcript)
    normal.exchanges = []
    for exchange in transcript.exchanges:
        shown = copy.copy(exchange)
        shown.answer = symbols.tree(exchange.api, "", exchange.answer)
        normal.exchanges.append(shown)
    return normal


def show(value):
    """A value in one line."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
