"""Metadata, DescribeCluster, DescribeTopicPartitions, DescribeQuorum, DescribeLogDirs."""

from ..batches import Record, batch
from ..codec import NOBODYS_ID, ZERO_UUID
from ..script import Topic
from . import case


def named(*names, **more):
    return {"Topics": [{"Name": name} for name in names], "AllowAutoTopicCreation": False, **more}


@case
def metadata_of_topics(s):
    topic, other = s.topic(partitions=3), s.topic("other")
    s.ask("Metadata", named(topic.name, other.name), label="two")
    s.ask("Metadata", named(topic.name, topic.name), label="twice")
    s.ask("Metadata", named(), 0, mine="Topics.Name", label="none asks version 0 for all")
    s.ask("Metadata", named(), range(1, 14), label="none")
    s.ask("Metadata", {"Topics": None}, range(1, 14), mine="Topics.Name", label="all")
    s.ask("Metadata", named("__consumer_offsets"), label="an internal topic")
    operations = {"IncludeClusterAuthorizedOperations": True, "IncludeTopicAuthorizedOperations": True}
    s.ask("Metadata", named(topic.name, **operations), range(8, 14), label="with operations")


@case
def metadata_by_id(s):
    topic = s.topic()
    for version in range(10, 14):
        s.ask("Metadata", {"Topics": [{"TopicId": topic.id, "Name": None}]}, version, label="by id")
        s.ask("Metadata", {"Topics": [{"TopicId": topic.id, "Name": topic.name}]}, version, label="by id and name")
        s.ask("Metadata", {"Topics": [{"TopicId": topic.id, "Name": "other"}]}, version, label="by id and another name")
        s.ask("Metadata", {"Topics": [{"TopicId": NOBODYS_ID, "Name": None}]}, version, label="unknown id")
        s.ask("Metadata", {"Topics": [{"TopicId": ZERO_UUID, "Name": None}]}, version, label="neither id nor name")
        s.ask(
            "Metadata",
            {"Topics": [{"TopicId": topic.id, "Name": None}, {"Name": topic.name}]},
            version,
            label="one by id, one by name",
        )


@case
def metadata_of_what_is_not_there(s):
    for label, name in (
        ("unknown", s.name("none")),
        ("empty", ""),
        ("dot", "."),
        ("dots", ".."),
        ("bad", "bad name!"),
        ("long", "x" * 249),
        ("too long", "x" * 250),
        ("slash", "a/b"),
        ("umlaut", "ä"),
    ):
        s.ask("Metadata", named(name), range(4, 14), label=label)


@case
def metadata_of_some_of_each(s):
    topic = s.topic(partitions=2)
    operations = {"IncludeClusterAuthorizedOperations": True, "IncludeTopicAuthorizedOperations": True}
    for label, names in (
        ("known and not", (s.name("none"), topic.name, "bad name!")),
        ("internal and not there", ("__share_group_state",)),
        ("empty", ("",)),
        ("all twice", (s.name("none"), topic.name) * 2),
    ):
        s.ask("Metadata", named(*names), range(4, 14), label=label)
        s.ask("Metadata", named(*names, **operations), range(8, 14), label=f"{label}, with operations")
    for label, ids in (
        ("ids, known and not", (topic.id, NOBODYS_ID)),
        ("ids twice", (topic.id, topic.id, NOBODYS_ID, NOBODYS_ID)),
        ("an id and nothing", (topic.id, ZERO_UUID)),
    ):
        body = {"Topics": [{"TopicId": topic_id, "Name": None} for topic_id in ids], **operations}
        s.ask("Metadata", body, range(12, 14), label=f"{label}, with operations")


@case
def metadata_creates_topics(s):
    for version in s.versions("Metadata"):
        name = s.name(f"auto{version}")
        s.ask("Metadata", {"Topics": [{"Name": name}], "AllowAutoTopicCreation": True}, version, label="first")
        s.serving(name)
        s.ask("Metadata", {"Topics": [{"Name": name}], "AllowAutoTopicCreation": True}, version, label="created")
    for name in ("bad name!", "x" * 250, "..", ""):
        s.ask("Metadata", {"Topics": [{"Name": name}], "AllowAutoTopicCreation": True}, label=f"{name[:10]!r}")


@case
def describe_cluster(s):
    for kind in (1, 2, 0, 3, -1):
        s.ask("DescribeCluster", {"EndpointType": kind}, label=f"endpoint type {kind}")
    s.ask("DescribeCluster", {"IncludeClusterAuthorizedOperations": True}, label="with operations")
    s.ask("DescribeCluster", {"IncludeFencedBrokers": True}, 2, label="with fenced brokers")


@case
def describe_topic_partitions(s):
    topic, other = s.topic("a", partitions=3), s.topic("b", partitions=2)

    def ask(label, *names, **more):
        s.ask("DescribeTopicPartitions", {"Topics": [{"Name": name} for name in names], **more}, label=label)

    ask("one", topic.name)
    ask("two, in any order", other.name, topic.name)
    ask("twice", topic.name, topic.name)
    ask("unknown", s.name("none"))
    ask("some of each", other.name, s.name("none"), topic.name)
    ask("bad name", "bad name!")
    ask("empty name", "")
    ask("empty name among others", topic.name, "", "bad name!")
    ask("empty name and cursor", topic.name, "", Cursor={"TopicName": "", "PartitionIndex": 0})
    s.ask("DescribeTopicPartitions", {"Topics": []}, mine="Topics.Name", label="all")
    ask("negative cursor of all", Cursor={"TopicName": topic.name, "PartitionIndex": -1})
    ask("internal", "__consumer_offsets")
    for limit in (1, 2, 3, 4, 5, 0, -1):
        ask(f"at most {limit}", topic.name, other.name, ResponsePartitionLimit=limit)
    for label, name, index in (("first", topic.name, 0), ("second", topic.name, 2), ("other", other.name, 1), ("beyond the end", topic.name, 9),
                               ("negative", topic.name, -1), ("before all", s.name("0"), 0), ("between", s.name("aa"), 0), ("behind all", s.name("z"), 0)):  # fmt: skip
        ask(f"cursor at {label}", topic.name, other.name, Cursor={"TopicName": name, "PartitionIndex": index})
    ask(
        "cursor and limit",
        topic.name,
        other.name,
        ResponsePartitionLimit=2,
        Cursor={"TopicName": topic.name, "PartitionIndex": 1},
    )


@case
def describe_quorum(s):
    s.ask("DescribeQuorum", {"Topics": [{"TopicName": "__cluster_metadata", "Partitions": [{"PartitionIndex": 0}]}]})
    s.ask(
        "DescribeQuorum",
        {"Topics": [{"TopicName": "__cluster_metadata", "Partitions": [{"PartitionIndex": 1}]}]},
        label="another partition",
    )
    s.ask("DescribeQuorum", {"Topics": [{"TopicName": "other", "Partitions": [{"PartitionIndex": 0}]}]}, label="another topic")
    s.ask("DescribeQuorum", {"Topics": []}, label="nothing")
    metadata, index = "__cluster_metadata", {"PartitionIndex": 0}
    s.ask("DescribeQuorum", {"Topics": [{"TopicName": metadata, "Partitions": [index]}] * 2}, label="twice")
    s.ask("DescribeQuorum", {"Topics": [{"TopicName": metadata, "Partitions": [index] * 2}]}, label="a partition twice")
    s.ask("DescribeQuorum", {"Topics": [{"TopicName": metadata, "Partitions": []}]}, label="no partition")


@case
def describe_log_dirs(s):
    topic = s.topic(partitions=2)
    s.produce(topic, batch(Record(b"x" * 1000)))
    one = {"Topics": [{"Topic": topic.name, "Partitions": [0, 1]}]}
    s.ask("DescribeLogDirs", one, label="one topic")
    s.ask("DescribeLogDirs", {"Topics": [{"Topic": topic.name, "Partitions": [0, 7]}]}, label="one that is not there")
    s.ask("DescribeLogDirs", {"Topics": [{"Topic": s.name("none"), "Partitions": [0]}]}, label="an unknown topic")
    s.ask("DescribeLogDirs", {"Topics": one["Topics"] * 2}, label="twice")
    s.ask("DescribeLogDirs", {"Topics": []}, label="nothing")
    s.ask("DescribeLogDirs", {"Topics": [{"Topic": topic.name, "Partitions": []}]}, label="no partition")


@case
def topics_that_come_and_go(s):
    topic = s.topic()
    s.ask("Metadata", {"Topics": [{"Name": topic.name}], "AllowAutoTopicCreation": False}, 12, label="there")
    s.quiet("DeleteTopics", {"Topics": [{"Name": topic.name}], "TimeoutMs": 30_000})
    s.gone(topic.name)
    s.ask("Metadata", {"Topics": [{"TopicId": topic.id, "Name": None}]}, 12, label="gone")
    again = s.topic()
    s.ask("Metadata", {"Topics": [{"Name": again.name}], "AllowAutoTopicCreation": False}, 12, label="another of the name")
    s.ask("Metadata", {"Topics": [{"TopicId": topic.id, "Name": None}]}, 12, label="the first is gone for ever")
    s.ask(
        "DeleteTopics",
        {"Topics": [{"TopicId": Topic("", topic.id).id}], "TimeoutMs": 1000},
        6,
        label="the first cannot be deleted again",
    )
