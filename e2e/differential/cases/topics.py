"""CreateTopics, DeleteTopics, CreatePartitions."""

from ..codec import NOBODYS_ID, ZERO_UUID
from . import case

TURNS = (2, 4, 5, 7)


def creating(name, partitions=1, factor=1, configs=None, assignments=(), **more):
    settings = [{"Name": key, "Value": value} for key, value in (configs or {}).items()]
    wanted = [{"PartitionIndex": index, "BrokerIds": list(brokers)} for index, brokers in assignments]
    topic = {"Name": name, "NumPartitions": partitions, "ReplicationFactor": factor, "Configs": settings, "Assignments": wanted}
    return {"Topics": [topic], "timeoutMs": 10_000, **more}


@case
def create_topics(s):
    for version in s.versions("CreateTopics"):
        s.ask("CreateTopics", creating(s.name(f"v{version}"), 3), version, label="new")
        s.serving(s.name(f"v{version}"), 3)
        s.ask("CreateTopics", creating(s.name(f"v{version}")), version, label="again")
        s.ask("CreateTopics", creating(s.name(f"d{version}"), -1, -1), version, label="defaults")
        s.ask(
            "CreateTopics",
            creating(s.name(f"c{version}"), 1, 1, {"cleanup.policy": "compact", "retention.ms": "1000"}),
            version,
            label="with settings",
        )
        s.ask(
            "CreateTopics", creating(s.name(f"a{version}"), -1, -1, None, [(0, [1]), (1, [1])]), version, label="with assignments"
        )
        s.ask("CreateTopics", creating(s.name(f"o{version}"), validateOnly=True), version, label="only checked")
        s.ask("CreateTopics", creating(s.name(f"o{version}"), validateOnly=True), version, label="checked again")
        s.ask("CreateTopics", creating(s.name(f"v{version}"), validateOnly=True), version, label="only checked, exists")


@case
def create_topics_refused(s):
    for label, body in (
        ("no partitions", creating(s.name("t"), 0)),
        ("negative partitions", creating(s.name("t"), -2)),
        ("no replicas", creating(s.name("t"), 1, 0)),
        ("negative replicas", creating(s.name("t"), 1, -2)),
        ("more replicas than brokers", creating(s.name("t"), 1, 2)),
        ("empty name", creating("")),
        ("dot", creating(".")),
        ("dots", creating("..")),
        ("bad name", creating("bad name!")),
        ("slash", creating("a/b")),
        ("umlaut", creating("ä")),
        ("too long", creating("x" * 250)),
        ("unknown setting", creating(s.name("t"), 1, 1, {"no.such.setting": "1"})),
        ("value of a wrong type", creating(s.name("t"), 1, 1, {"retention.ms": "soon"})),
        ("value out of range", creating(s.name("t"), 1, 1, {"retention.ms": "-2"})),
        ("unknown choice", creating(s.name("t"), 1, 1, {"cleanup.policy": "burn"})),
        ("null value", creating(s.name("t"), 1, 1, {"retention.ms": None})),
        ("empty value", creating(s.name("t"), 1, 1, {"cleanup.policy": ""})),
        ("unknown broker", creating(s.name("t"), -1, -1, None, [(0, [9])])),
        ("no broker", creating(s.name("t"), -1, -1, None, [(0, [])])),
        ("a broker twice", creating(s.name("t"), -1, -1, None, [(0, [1, 1])])),
        ("assignments with a gap", creating(s.name("t"), -1, -1, None, [(0, [1]), (2, [1])])),
        ("assignments of different sizes", creating(s.name("t"), -1, -1, None, [(0, [1]), (1, [])])),
        ("assignments and a count", creating(s.name("t"), 2, -1, None, [(0, [1])])),
        ("assignments and a factor", creating(s.name("t"), -1, 1, None, [(0, [1])])),
        ("negative partition", creating(s.name("t"), -1, -1, None, [(-1, [1])])),
        ("a name that collides", creating(s.name("c_o"))),
        ("the same again with a dot", creating(s.name("c.o"))),
        ("nothing", {"Topics": [], "timeoutMs": 1000}),
        ("a partition assigned twice", creating(s.name("t"), -1, -1, None, [(0, [1]), (0, [1])])),
        ("a partition assigned twice and a factor", creating(s.name("t"), -1, 1, None, [(0, [1]), (0, [1])])),
        ("bad name and null value", creating("bad name!", 1, 1, {"retention.ms": None})),
        ("bad value and no partitions", creating(s.name("t"), 0, 1, {"retention.ms": "soon"})),
        ("no partitions and no replicas", creating(s.name("t"), 0, 0)),
        ("more partitions than a request may create", creating(s.name("t"), 10_001)),
        ("as many as can be asked for", creating(s.name("t"), 2**31 - 1)),
        ("as many replicas as can be asked for", creating(s.name("t"), 1, 2**15 - 1)),
    ):
        s.ask("CreateTopics", body, TURNS, label=label)
    s.topic("there")
    s.ask("CreateTopics", creating(s.name("there"), 0, 0, {"retention.ms": None}), TURNS, label="exists, and all else is wrong")
    many = {"Topics": creating(s.name("t"), 6000)["Topics"] + creating("bad name!", 6000)["Topics"], "timeoutMs": 1000}
    s.ask("CreateTopics", many, TURNS, label="together more than a request may create")
    twice = creating(s.name("twice"))
    twice["Topics"][0]["Configs"] = [{"Name": "retention.ms", "Value": value} for value in ("soon", "1", "2")]
    s.ask("CreateTopics", {**twice, "validateOnly": True}, TURNS, label="a setting several times")
    s.ask("CreateTopics", creating("__consumer_offsets"), TURNS, label="an internal topic that exists")
    s.ask("CreateTopics", creating("__cluster_metadata"), TURNS, label="the topic of metadata")


@case
def create_topics_with_every_setting_wrong(s):
    for key, values in (
        ("compression.type", ("zip", "")), ("delete.retention.ms", ("-1",)), ("file.delete.delay.ms", ("-1",)), ("flush.messages", ("-1", "0")),
        ("flush.ms", ("-1",)), ("index.interval.bytes", ("-1",)), ("max.compaction.lag.ms", ("0",)), ("max.message.bytes", ("-1",)),
        ("message.timestamp.after.max.ms", ("-1",)), ("message.timestamp.before.max.ms", ("-1",)), ("message.timestamp.type", ("Now",)),
        ("min.cleanable.dirty.ratio", ("2", "-0.1", "x")), ("min.compaction.lag.ms", ("-1",)), ("min.insync.replicas", ("0",)),
        ("preallocate", ("maybe",)), ("retention.bytes", ("-2", "9223372036854775808")), ("segment.bytes", ("13", "1048575")),
        ("segment.index.bytes", ("3",)), ("segment.jitter.ms", ("-1",)), ("segment.ms", ("0",)), ("unclean.leader.election.enable", ("perhaps",)),
        ("local.retention.ms", ("-3",)), ("local.retention.bytes", ("-3",)), ("remote.storage.enable", ("perhaps",)),
        ("compression.gzip.level", ("0", "10", "-2")), ("compression.lz4.level", ("0", "18")), ("compression.zstd.level", ("23",)),
        ("leader.replication.throttled.replicas", ("x",)), ("cleanup.policy", ("delete,burn", "compact,delete", "delete,delete")),
        ("message.format.version", ("3.0",)), ("message.downconversion.enable", ("true",)), ("min.compaction.lag.ms", (" 5 ",)),
        ("retention.ms", ("+5", "0x10", "5.0", "9223372036854775807", "", " ")), ("preallocate", ("TRUE", " true ")),
        ("remote.storage.enable", ("true",)), ("remote.log.copy.disable", ("true",)), ("internal.segment.bytes", ("100",)),
        ("", ("1",)), (" retention.ms", ("1",)), ("min.cleanable.dirty.ratio", ("1e-1", ".5")), ("min.compaction.lag.ms", ("-0",)),
        ("compression.type", ("GZIP", " gzip ", "none")), ("cleanup.policy", ("Delete", "delete,", "delete , compact", "none", ",")),
        ("leader.replication.throttled.replicas", ("0:1,,1:1", "99999999999:1", "*", "none", "0:1,*")),
    ):  # fmt: skip
        for value in values:
            s.ask("CreateTopics", creating(s.name("t"), 1, 1, {key: value}, validateOnly=True), 7, label=f"{key}={value!r}")
    for label, settings in (
        ("min lag above max lag", {"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"}),
        ("local retention above retention", {"local.retention.ms": "10", "retention.ms": "5"}),
        ("local bytes above bytes", {"local.retention.bytes": "10", "retention.bytes": "5"}),
    ):
        s.ask("CreateTopics", creating(s.name("t"), 1, 1, settings, validateOnly=True), 7, label=label)


@case
def create_several_topics(s):
    s.topic("there")
    bodies = [
        creating(s.name("a")),
        creating(s.name("there")),
        creating("bad name!"),
        creating(s.name("b"), 0),
        creating(s.name("c"), 1, 3),
    ]
    s.ask("CreateTopics", {"Topics": [body["Topics"][0] for body in bodies], "timeoutMs": 10_000}, 7, label="some of each")
    s.ask("CreateTopics", {"Topics": creating(s.name("d"))["Topics"] * 2, "timeoutMs": 10_000}, TURNS, label="twice")


@case
def create_topics_without_time(s):
    for version in TURNS:
        s.ask("CreateTopics", creating(s.name(f"t{version}"), timeoutMs=-1), version, label="no time")


@case
def delete_topics(s):
    for version in s.versions("DeleteTopics"):
        topic = s.topic(f"t{version}")
        body = {"Topics": [{"Name": topic.name}], "TopicNames": [topic.name], "TimeoutMs": 10_000}
        s.ask("DeleteTopics", body, version, label="there")
        s.gone(topic.name)
        s.ask("DeleteTopics", body, version, label="gone")
    topic = s.topic("id")
    s.ask("DeleteTopics", {"Topics": [{"TopicId": topic.id}], "TimeoutMs": 10_000}, 6, label="by id")
    s.gone(topic.name)
    s.ask("DeleteTopics", {"Topics": [{"TopicId": topic.id}], "TimeoutMs": 10_000}, 6, label="by id, gone")


@case
def topics_that_differ_in_dots_alone(s):
    names = [s.name(end) for end in ("a.b", "a_b", "ab")]
    s.ask("CreateTopics", {"Topics": [creating(name)["Topics"][0] for name in names], "timeoutMs": 10_000}, 2, label="together")


@case
def topics_without_time(s):
    topic, other = s.topic("a"), s.topic("b")
    for time in (0, -1):
        s.ask("CreatePartitions", {**growing(topic.name, 1), "TimeoutMs": time}, label=f"grow in {time} ms to what there is")
        s.ask("DeleteTopics", {"Topics": [{"Name": s.name("none")}], "TimeoutMs": time}, 6, label=f"delete nothing in {time} ms")
        s.ask("CreateTopics", creating("bad name!", 0, timeoutMs=time), 7, label=f"create nothing in {time} ms")
    s.ask("CreatePartitions", {**growing(other.name, 2), "TimeoutMs": -1}, 3, label="grow at once")
    gone = [{"TopicId": topic.id, "Name": None}, {"Name": other.name}, {"Name": other.name}]
    s.ask("DeleteTopics", {"Topics": gone, "TimeoutMs": -1}, 6, label="delete at once")
    s.ask("DeleteTopics", {"TopicNames": [topic.name, other.name], "TimeoutMs": -1}, range(1, 6), label="delete at once")
    s.ask("Metadata", {"Topics": [{"Name": topic.name}, {"Name": other.name}]}, 12, label="nothing has changed")


@case
def delete_topics_refused(s):
    topic = s.topic()
    for label, topics in (
        ("unknown id", [{"TopicId": NOBODYS_ID}]),
        ("id and name", [{"TopicId": topic.id, "Name": topic.name}]),
        ("neither", [{"TopicId": ZERO_UUID, "Name": None}]),
        ("name twice", [{"Name": topic.name}, {"Name": topic.name}]),
        ("id twice", [{"TopicId": topic.id}, {"TopicId": topic.id}]),
        ("name and id of one topic", [{"TopicId": topic.id}, {"Name": topic.name}]),
        ("name, and id twice", [{"TopicId": topic.id}, {"Name": topic.name}, {"TopicId": topic.id}]),
        ("name thrice", [{"Name": topic.name}] * 3),
        ("nothing", []),
        ("empty name", [{"Name": ""}]),
        ("bad name", [{"Name": "bad name!"}]),
    ):
        s.ask("DeleteTopics", {"Topics": topics, "TimeoutMs": 10_000}, 6, label=label)
    for names in ([s.name("none")], [""], ["bad name!"], [topic.name, topic.name], []):
        s.ask("DeleteTopics", {"TopicNames": names, "TimeoutMs": 10_000}, range(1, 6), label=f"{names}")
    s.ask("Metadata", {"Topics": [{"Name": topic.name}], "AllowAutoTopicCreation": False}, 12, label="what is left")


def growing(name, count, assignments=None, **more):
    wanted = None if assignments is None else [{"BrokerIds": list(brokers)} for brokers in assignments]
    return {"Topics": [{"Name": name, "Count": count, "Assignments": wanted}], "TimeoutMs": 10_000, **more}


@case
def create_partitions(s):
    for version in s.versions("CreatePartitions"):
        topic = s.topic(f"t{version}")
        s.ask("CreatePartitions", growing(topic.name, 2, ValidateOnly=True), version, label="only checked")
        s.ask("CreatePartitions", growing(topic.name, 2), version, label="two")
        s.serving(topic.name, 2)
        s.ask("CreatePartitions", growing(topic.name, 4, [[1], [1]]), version, label="four, with assignments")
        s.serving(topic.name, 4)
        s.ask("Metadata", {"Topics": [{"Name": topic.name}]}, 12)


@case
def create_partitions_refused(s):
    topic = s.topic(partitions=2)
    for label, body in (
        ("as many as there are", growing(topic.name, 2)),
        ("fewer", growing(topic.name, 1)),
        ("none", growing(topic.name, 0)),
        ("negative", growing(topic.name, -1)),
        ("unknown topic", growing(s.name("none"), 5)),
        ("bad name", growing("bad name!", 5)),
        ("empty name", growing("", 5)),
        ("too few assignments", growing(topic.name, 5, [[1]])),
        ("too many assignments", growing(topic.name, 3, [[1], [1]])),
        ("no assignment", growing(topic.name, 3, [])),
        ("unknown broker", growing(topic.name, 3, [[9]])),
        ("a broker twice", growing(topic.name, 3, [[1, 1]])),
        ("no broker", growing(topic.name, 3, [[]])),
        ("nothing", {"Topics": [], "TimeoutMs": 1000}),
        ("twice", {"Topics": growing(topic.name, 3)["Topics"] * 2, "TimeoutMs": 1000}),
        ("only checked, too few", growing(topic.name, 1, ValidateOnly=True)),
    ):
        s.ask("CreatePartitions", body, label=label)
    s.ask("Metadata", {"Topics": [{"Name": topic.name}]}, 12, label="nothing has changed")
