"""The differences that are meant. Both lists are short, and every entry says why."""

import fnmatch
from dataclasses import dataclass
from typing import Callable

from .codec import api
from .compare import ABSENT
from .script import SILENT


@dataclass(frozen=True)
class Allowed:
    """Differences in one field (`Api:Path` without indexes and keys, patterns allowed), as far as the other members do
    not narrow it: cases and labels of steps (patterns, of which one must fit), the full path, the two values."""

    where: str
    reason: str
    cases: tuple = ("*",)
    labels: tuple = ("*",)
    path: str = "*"
    holds: Callable = lambda kafka, esker: True

    def covers(self, difference):
        return (
            fnmatch.fnmatchcase(f"{difference.api}:{difference.field}", self.where)
            and any(fnmatch.fnmatchcase(difference.case, pattern) for pattern in self.cases)
            and any(fnmatch.fnmatchcase(difference.label, pattern) for pattern in self.labels)
            and fnmatch.fnmatchcase(difference.path, self.path)
            and self.holds(difference.kafka, difference.esker)
        )


def names(value):
    """The names in one named item, or in a list of them (which has become a dictionary)."""
    return [value["Name"]] if "Name" in value else list(value)


# With `validation=full`.
ALLOWED = (
    Allowed(
        "*:",
        "where Apache Kafka forgets a request and its client waits in vain, Esker answers",
        holds=lambda kafka, esker: kafka == SILENT and isinstance(esker, dict),
    ),
    Allowed(
        "*:*ErrorMessage",
        "Esker says what was wrong also where Kafka gives a bare code",
        holds=lambda kafka, esker: kafka in (None, "") and esker == "<text>",
    ),
    Allowed(
        "ConsumerGroupHeartbeat:HeartbeatIntervalMs",
        "members of a group that changes are asked to come back sooner",
        holds=lambda kafka, esker: isinstance(kafka, int) and isinstance(esker, int) and kafka // 20 <= esker < kafka,
    ),
    Allowed(
        "DescribeConfigs:Results.Configs",
        "the keys of Esker are described beside Kafka's",
        holds=lambda kafka, esker: kafka == ABSENT and all(name.startswith(OWN_KEYS) for name in names(esker)),
    ),
    Allowed(
        "CreateTopics:Topics.Configs",
        "the settings of Esker are among a new topic's beside Kafka's",
        holds=lambda kafka, esker: kafka == ABSENT and all(name.startswith(OWN_KEYS) for name in names(esker)),
    ),
    Allowed(
        "*Configs*Value",
        "unset means that the object store decides: tiering is on wherever there is one",
        path="*remote·storage·enable*",
        holds=lambda kafka, esker: (kafka, esker) == ("false", None),
    ),
    Allowed(
        "ApiVersions:ApiKeys",
        "APIs whose work has not come yet are not advertised",
        holds=lambda kafka, esker: esker == ABSENT and kafka["ApiKey"] in (api(name).key for name in UNSERVED),
    ),
    Allowed(
        "ApiVersions:*Features",
        "features whose work has not come yet, or that are about KRaft, are not there",
        holds=lambda kafka, esker: esker == ABSENT and set(names(kafka)) <= set(UNSERVED_FEATURES),
    ),
    Allowed(
        "FindCoordinator:Coordinators.ErrorCode",
        "share groups have not come yet: there is no coordinator for a key of theirs, well formed or not",
        labels=("share, *",),
        holds=lambda kafka, esker: esker == COORDINATOR_NOT_AVAILABLE,
    ),
    Allowed(
        "CreateTopics:*",
        "of topics whose names differ in dots and underscores alone there is one; in one request Kafka creates both",
        cases=("topics-that-differ-in-dots-alone",),
    ),
    Allowed(
        "*",
        "the expressions of a subscription to clients' metrics are Java's, and nobody matches them here",
        cases=("configs-of-client-metrics-change",),
        labels=("an expression that does not parse",),
    ),
    Allowed(
        "Fetch:Responses.Partitions.Records",
        "a batch that the limit cuts off is not sent: no reader can use a part of it",
        path="*.Records.[[]rest]",
        holds=lambda kafka, esker: esker == 0,
    ),
    Allowed(
        "Fetch:Responses.Partitions.Records.Bytes",
        "each compressor makes its own bytes of the same records",
        cases=("produce-to-topics-with-a-codec-of-their-own",),
    ),
    Allowed(
        "Produce:Responses.PartitionResponses.ErrorCode",
        "where damaged bytes make Kafka stumble over itself, Esker calls them what they are",
        holds=lambda kafka, esker: (kafka, esker) == (UNKNOWN_SERVER_ERROR, INVALID_RECORD),
    ),
    Allowed(
        "*",
        "a stream that ends inside a frame is undecodable, also when another frame before it held all records",
        cases=("produce-of-streams-in-every-form",),
        labels=("gzip, half a member more", "zstd, half a frame more"),
    ),
    Allowed(
        "*",
        "batches whose records are not numbered densely are refused where records are walked; Kafka stores or renumbers them",
        cases=("produce-of-records-with-odd-fields",),
        labels=("offsets *",),
    ),
)

# What `validation=default`, which does not look into records, adds to them.
ALLOWED_BY_DEFAULT = (
    Allowed(
        "*",
        "records are neither decompressed nor walked: under a sound header and checksum they are stored as they are",
        cases=(
            "produce-of-records-that-do-not-parse", "produce-of-what-does-not-decompress", "produce-of-several-members-and-frames",
            "produce-of-snappy-in-both-framings", "produce-of-streams-in-every-form",
        ),
    ),
    Allowed(
        "*",
        "for the same reason the header's count of records and its largest timestamp are believed",
        cases=("produce-with-wrong-header-fields",),
        labels=("count too *", "max timestamp too *"),
    ),
    Allowed(
        "*",
        "for the same reason the bounds hold the header's timestamps, not each record's",
        cases=("produce-with-timestamps-out-of-bounds",),
        labels=("* of three *",),
    ),
)  # fmt: skip

UNKNOWN_SERVER_ERROR, COORDINATOR_NOT_AVAILABLE, INVALID_RECORD = -1, 15, 87
UNSERVED_FEATURES = (
    "transaction.version", "share.version", "streams.version", "kraft.version", "eligible.leader.replicas.version",
)  # fmt: skip
# The APIs that come with later work; their cases come with them.
UNSERVED = (
    "SaslHandshake", "SaslAuthenticate", "AddPartitionsToTxn", "AddOffsetsToTxn", "EndTxn", "WriteTxnMarkers", "TxnOffsetCommit",
    "DescribeAcls", "CreateAcls", "DeleteAcls", "AlterReplicaLogDirs", "CreateDelegationToken", "RenewDelegationToken",
    "ExpireDelegationToken", "DescribeDelegationToken", "ElectLeaders", "AlterPartitionReassignments", "ListPartitionReassignments",
    "DescribeClientQuotas", "AlterClientQuotas", "DescribeUserScramCredentials", "AlterUserScramCredentials", "UnregisterBroker",
    "DescribeProducers", "DescribeTransactions", "ListTransactions", "GetTelemetrySubscriptions", "PushTelemetry", "AddRaftVoter",
    "RemoveRaftVoter", "ShareGroupHeartbeat", "ShareGroupDescribe", "ShareFetch", "ShareAcknowledge", "InitializeShareGroupState",
    "ReadShareGroupState", "WriteShareGroupState", "DeleteShareGroupState", "ReadShareGroupStateSummary", "StreamsGroupHeartbeat",
    "StreamsGroupDescribe", "DescribeShareGroupOffsets", "AlterShareGroupOffsets", "DeleteShareGroupOffsets",
)  # fmt: skip
OWN_KEYS = (
    "admin.listener", "cluster.id", "http.listener", "log.dir.reserve.bytes", "log.durability", "manifest.retention.ms", "metadata.store",
    "object.store.", "offload.", "queued.max.response.bytes", "remote.cache.bytes", "shutdown.timeout.ms", "validation",
)  # fmt: skip


def unexplained(differences, validation="full"):
    """The differences that no entry allows, and the entries that allowed one."""
    entries = ALLOWED if validation == "full" else ALLOWED + ALLOWED_BY_DEFAULT
    left, used = [], set()
    for difference in differences:
        entry = next((entry for entry in entries if entry.covers(difference)), None)
        if entry:
            used.add(entry)
        else:
            left.append(difference)
    return left, used
