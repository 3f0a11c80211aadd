"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources, UpdateFeatures."""

from . import case

UNKNOWN, TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 0, 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


def describing(kind, name, keys=None, synonyms=True, documentation=True):
    wanted = [{"ResourceType": kind, "ResourceName": name, "ConfigurationKeys": keys}]
    return {"Resources": wanted, "IncludeSynonyms": synonyms, "IncludeDocumentation": documentation}


@case
def describe_configs_of_a_topic(s):
    plain = s.topic("plain")
    s.ask("DescribeConfigs", describing(TOPIC, plain.name), label="defaults")
    tuned = s.topic("tuned", retention_ms=1000, cleanup_policy="compact,delete", max_message_bytes=5000)
    s.ask("DescribeConfigs", describing(TOPIC, tuned.name), label="tuned")
    s.ask(
        "DescribeConfigs",
        describing(TOPIC, tuned.name, synonyms=False, documentation=False),
        label="without synonyms and documentation",
    )
    s.ask("DescribeConfigs", describing(TOPIC, tuned.name, ["retention.ms", "no.such.key", "retention.ms"]), label="some keys")
    s.ask("DescribeConfigs", describing(TOPIC, tuned.name, []), label="no keys")
    s.ask("DescribeConfigs", describing(TOPIC, "__consumer_offsets"), label="an internal topic")


@case
def describe_configs_of_a_broker(s):
    s.ask("DescribeConfigs", describing(BROKER, "1"), label="everything")
    s.ask("DescribeConfigs", describing(BROKER, "1", ["log.retention.ms", "node.id", "no.such.key"]), label="some keys")
    s.ask("DescribeConfigs", describing(BROKER, ""), label="the defaults of all brokers")


@case
def describe_configs_of_a_group(s):
    s.ask("DescribeConfigs", describing(GROUP, s.name("g")), label="a group that is none")
    s.ask("DescribeConfigs", describing(GROUP, ""), label="empty name")
    s.ask("DescribeConfigs", describing(GROUP, s.name("g"), ["consumer.session.timeout.ms"]), label="one key")


@case
def describe_configs_refused(s):
    for label, kind, name in (
        ("unknown topic", TOPIC, s.name("none")),
        ("empty topic", TOPIC, ""),
        ("bad topic", TOPIC, "bad name!"),
        ("another broker", BROKER, "7"),
        ("no broker", BROKER, "x"),
        ("unknown type", 1, "x"),
        ("type 0", UNKNOWN, "x"),
        ("type 100", 100, "x"),
        ("negative type", -2, "x"),
        ("loggers of another broker", LOGGER, "7"),
        ("loggers of none", LOGGER, ""),
        ("metrics without a name", CLIENT_METRICS, ""),
    ):
        s.ask("DescribeConfigs", describing(kind, name), label=label)
    s.ask("DescribeConfigs", {"Resources": []}, label="nothing")
    topic = s.topic()
    both = describing(TOPIC, topic.name, ["retention.ms"])
    both["Resources"] += describing(TOPIC, s.name("none"))["Resources"] + describing(BROKER, "1", ["node.id"])["Resources"]
    s.ask("DescribeConfigs", both, label="some of each")


def altering(kind, name, configs, **more):
    settings = [{"Name": key, "Value": value} for key, value in configs.items()]
    return {"Resources": [{"ResourceType": kind, "ResourceName": name, "Configs": settings}], **more}


def changing(kind, name, *changes, **more):
    settings = [{"Name": key, "ConfigOperation": operation, "Value": value} for key, operation, value in changes]
    return {"Resources": [{"ResourceType": kind, "ResourceName": name, "Configs": settings}], **more}


def settled(s, kind, name, **wanted):
    """Waits until a setting is described as it should be."""
    wanted = {key.replace("_", "."): value for key, value in wanted.items()}
    s.until(
        "DescribeConfigs",
        describing(kind, name),
        lambda got: wanted.items() <= {item["Name"]: item["Value"] for item in got["Results"][0]["Configs"]}.items(),
    )


@case
def alter_configs_of_a_topic(s):
    for version in s.versions("AlterConfigs"):
        topic = s.topic(f"t{version}", retention_ms=1000)
        s.ask(
            "AlterConfigs",
            altering(TOPIC, topic.name, {"retention.bytes": "77"}, ValidateOnly=True),
            version,
            label="only checked",
        )
        s.ask(
            "AlterConfigs",
            altering(TOPIC, topic.name, {"retention.bytes": "5000", "cleanup.policy": "compact"}),
            version,
            label="replaces all",
        )
        settled(s, TOPIC, topic.name, retention_bytes="5000", retention_ms="604800000")
        s.ask("DescribeConfigs", describing(TOPIC, topic.name, ["retention.ms", "retention.bytes", "cleanup.policy"]), 4)
        s.ask("AlterConfigs", altering(TOPIC, topic.name, {}), version, label="nothing is left")
        settled(s, TOPIC, topic.name, retention_bytes="-1")
        s.ask("DescribeConfigs", describing(TOPIC, topic.name, ["retention.ms", "retention.bytes", "cleanup.policy"]), 4)


@case
def alter_configs_refused(s):
    topic = s.topic()
    for label, body in (
        ("unknown topic", altering(TOPIC, s.name("none"), {"retention.ms": "1"})),
        ("empty topic", altering(TOPIC, "", {"retention.ms": "1"})),
        ("bad topic", altering(TOPIC, "bad name!", {"retention.ms": "1"})),
        ("unknown key", altering(TOPIC, topic.name, {"no.such.key": "1"})),
        ("bad value", altering(TOPIC, topic.name, {"retention.ms": "soon"})),
        ("null value", altering(TOPIC, topic.name, {"retention.ms": None})),
        ("one good, one bad", altering(TOPIC, topic.name, {"retention.ms": "5", "cleanup.policy": "burn"})),
        ("unknown type", altering(1, "x", {"a": "b"})),
        ("type 0", altering(UNKNOWN, "x", {"a": "b"})),
        ("another broker", altering(BROKER, "7", {"log.cleaner.threads": "2"})),
        ("no broker", altering(BROKER, "x", {"log.cleaner.threads": "2"})),
        ("a key that cannot change", altering(BROKER, "1", {"node.id": "2"})),
        ("bad value of the broker", altering(BROKER, "1", {"log.cleaner.threads": "many"})),
        ("loggers", altering(LOGGER, "1", {"kafka": "INFO"})),
        ("group", altering(GROUP, "", {"consumer.session.timeout.ms": "45000"})),
        ("group, bad key", altering(GROUP, s.name("g"), {"no.such.key": "1"})),
        ("nothing", {"Resources": []}),
        (
            "a key twice",
            {
                "Resources": [
                    {
                        "ResourceType": TOPIC,
                        "ResourceName": topic.name,
                        "Configs": [{"Name": "retention.ms", "Value": "1"}, {"Name": "retention.ms", "Value": "2"}],
                    }
                ]
            },
        ),
    ):
        s.ask("AlterConfigs", body, label=label)


@case
def alter_configs_of_one_topic_twice(s):
    topic = s.topic()
    s.send("AlterConfigs", {"Resources": altering(TOPIC, topic.name, {"retention.ms": "5"})["Resources"] * 2}, 2)
    s.receive("twice", seconds=1)


@case
def incremental_alter_configs_of_a_topic(s):
    for version in s.versions("IncrementalAlterConfigs"):
        topic = s.topic(f"t{version}", retention_ms=1000)
        keys = ["retention.ms", "retention.bytes", "cleanup.policy"]

        def change(label, *changes, **more):
            s.ask("IncrementalAlterConfigs", changing(TOPIC, topic.name, *changes, **more), version, label=label)

        change("only checked", ("retention.bytes", SET, "9"), ValidateOnly=True)
        change("set", ("retention.bytes", SET, "5000"))
        settled(s, TOPIC, topic.name, retention_bytes="5000")
        s.ask("DescribeConfigs", describing(TOPIC, topic.name, keys), 4, label="set")
        change("append", ("cleanup.policy", APPEND, "compact"))
        settled(s, TOPIC, topic.name, cleanup_policy="delete,compact")
        s.ask("DescribeConfigs", describing(TOPIC, topic.name, keys), 4, label="appended")
        change("append what is there", ("cleanup.policy", APPEND, "compact"))
        change("subtract", ("cleanup.policy", SUBTRACT, "delete"))
        settled(s, TOPIC, topic.name, cleanup_policy="compact")
        s.ask("DescribeConfigs", describing(TOPIC, topic.name, keys), 4, label="subtracted")
        change("subtract what is not there", ("cleanup.policy", SUBTRACT, "delete"))
        change("delete", ("retention.ms", DELETE, None), ("cleanup.policy", DELETE, None))
        settled(s, TOPIC, topic.name, retention_ms="604800000", cleanup_policy="delete")
        s.ask("DescribeConfigs", describing(TOPIC, topic.name, keys), 4, label="deleted")
        change("delete what is not set", ("retention.ms", DELETE, None))


@case
def incremental_alter_configs_refused(s):
    topic = s.topic()
    for label, body in (
        ("unknown topic", changing(TOPIC, s.name("none"), ("retention.ms", SET, "1"))),
        ("empty topic", changing(TOPIC, "", ("retention.ms", SET, "1"))),
        ("bad topic", changing(TOPIC, "bad name!", ("retention.ms", SET, "1"))),
        ("unknown key", changing(TOPIC, topic.name, ("no.such.key", SET, "1"))),
        ("unknown key deleted", changing(TOPIC, topic.name, ("no.such.key", DELETE, None))),
        ("bad value", changing(TOPIC, topic.name, ("retention.ms", SET, "soon"))),
        ("null value", changing(TOPIC, topic.name, ("retention.ms", SET, None))),
        ("append to what is no list", changing(TOPIC, topic.name, ("retention.ms", APPEND, "1"))),
        ("subtract from what is no list", changing(TOPIC, topic.name, ("retention.ms", SUBTRACT, "1"))),
        ("append null", changing(TOPIC, topic.name, ("cleanup.policy", APPEND, None))),
        ("append a bad value", changing(TOPIC, topic.name, ("cleanup.policy", APPEND, "burn"))),
        ("unknown operation", changing(TOPIC, topic.name, ("retention.ms", 4, "1"))),
        ("negative operation", changing(TOPIC, topic.name, ("retention.ms", -1, "1"))),
        ("one key, two operations", changing(TOPIC, topic.name, ("retention.ms", SET, "1"), ("retention.ms", DELETE, None))),
        ("one key twice", changing(TOPIC, topic.name, ("retention.ms", SET, "1"), ("retention.ms", SET, "2"))),
        ("no change", changing(TOPIC, topic.name)),
        ("unknown type", changing(1, "x", ("a", SET, "b"))),
        ("type 0", changing(UNKNOWN, "x", ("a", SET, "b"))),
        ("another broker", changing(BROKER, "7", ("log.cleaner.threads", SET, "2"))),
        ("no broker", changing(BROKER, "x", ("log.cleaner.threads", SET, "2"))),
        ("a key that cannot change", changing(BROKER, "1", ("node.id", SET, "2"))),
        ("a key of brokers that is none", changing(BROKER, "1", ("no.such.key", SET, "2"))),
        ("bad value of the broker", changing(BROKER, "1", ("log.cleaner.threads", SET, "many"))),
        ("loggers of another broker", changing(LOGGER, "7", ("kafka", SET, "INFO"))),
        ("empty group", changing(GROUP, "", ("consumer.session.timeout.ms", SET, "45000"))),
        ("group, bad key", changing(GROUP, s.name("g"), ("no.such.key", SET, "1"))),
        ("group, out of bounds", changing(GROUP, s.name("g"), ("consumer.session.timeout.ms", SET, "5"))),
        ("group, above its bound", changing(GROUP, s.name("g"), ("consumer.session.timeout.ms", SET, "99999999"))),
        (
            "group, heartbeat beyond the session",
            changing(
                GROUP, s.name("g"), ("consumer.heartbeat.interval.ms", SET, "15000"), ("consumer.session.timeout.ms", SET, "5000")
            ),
        ),
        ("nothing", {"Resources": []}),
        ("twice", {"Resources": changing(TOPIC, topic.name, ("retention.ms", SET, "5"))["Resources"] * 2}),
    ):
        s.ask("IncrementalAlterConfigs", body, label=label)
    both = changing(TOPIC, topic.name, ("retention.ms", SET, "123"))
    both["Resources"] += changing(TOPIC, s.name("none"), ("retention.ms", SET, "1"))["Resources"]
    s.ask("IncrementalAlterConfigs", both, label="one good, one bad")
    settled(s, TOPIC, topic.name, retention_ms="123")
    both = changing(TOPIC, topic.name, ("retention.ms", SET, "456"))
    for kind, name in ((GROUP, s.name("g")), (BROKER, "1")):
        odd = changing(kind, name, ("retention.ms", 9, "1"))["Resources"]
        beside = {"Resources": both["Resources"] + odd, "ValidateOnly": True}
        s.ask("IncrementalAlterConfigs", beside, 1, label=f"an unknown operation beside, type {kind}")
    s.ask("DescribeConfigs", describing(TOPIC, topic.name, ["retention.ms"]), label="what is left")


@case
def incremental_alter_configs_with_odd_lists(s):
    topic = s.topic()
    for label, change in (
        ("append nothing", ("cleanup.policy", APPEND, "")),
        ("append several", ("cleanup.policy", APPEND, "compact,delete")),
        ("append with a space", ("cleanup.policy", APPEND, " compact")),
        ("append twice the same", ("leader.replication.throttled.replicas", APPEND, "0:1,0:1")),
        ("subtract nothing", ("cleanup.policy", SUBTRACT, "")),
        ("subtract all", ("cleanup.policy", SUBTRACT, "compact,delete")),
        ("subtract from the default", ("follower.replication.throttled.replicas", SUBTRACT, "0:1")),
        ("set an empty list", ("cleanup.policy", SET, "")),
        ("a value that is too long", ("leader.replication.throttled.replicas", SET, ",".join(["0:1"] * 8193))),
        ("delete with a value", ("cleanup.policy", DELETE, "delete")),
    ):
        s.ask("IncrementalAlterConfigs", changing(TOPIC, topic.name, change), 1, label=label)
        # What is in force then has many forms, and Kafka answers before it is.
        s.pause(0.3)
        s.ask("DescribeConfigs", describing(TOPIC, topic.name, [change[0]]), 4, label=label)


@case
def configs_of_brokers_are_checked(s):
    for label, change in (
        ("append", ("log.cleanup.policy", APPEND, "compact")),
        ("append what it cannot be", ("log.cleanup.policy", APPEND, "burn")),
        ("append to no list", ("log.retention.ms", APPEND, "1")),
        ("subtract", ("log.cleanup.policy", SUBTRACT, "delete")),
        ("a password", ("ssl.keystore.password", SET, "x")),
        ("a password of a listener", ("listener.name.plaintext.ssl.keystore.password", SET, "x")),
        ("of a listener that is none", ("listener.name.other.max.connections", SET, "5")),
        ("connections", ("max.connections", SET, "500")),
        ("negative", ("log.cleaner.threads", SET, "-1")),
        ("zero", ("log.cleaner.threads", SET, "0")),
        ("minimal ISR", ("min.insync.replicas", SET, "1")),
        ("minimal ISR deleted", ("min.insync.replicas", DELETE, None)),
        ("neither true nor false", ("unclean.leader.election.enable", SET, "maybe")),
        ("retention below no limit", ("log.retention.ms", SET, "-7")),
        ("no retention", ("log.retention.ms", SET, "0")),
        ("an unknown key deleted", ("no.such.key", DELETE, None)),
        ("one that is not set deleted", ("log.retention.ms", DELETE, None)),
        ("one that cannot change", ("num.partitions", SET, "3")),
        ("too small", ("log.segment.bytes", SET, "10")),
    ):
        key, operation, value = change
        for name in ("1", ""):
            s.ask(
                "IncrementalAlterConfigs", changing(BROKER, name, change, ValidateOnly=True), 1, label=f"{label}, broker {name!r}"
            )
            if operation == SET:
                body = altering(BROKER, name, {key: value}, ValidateOnly=True)
                s.ask("AlterConfigs", body, 2, label=f"{label} alone, broker {name!r}")
    both = {"min.insync.replicas": "1", "log.retention.ms": "5"}
    s.ask("AlterConfigs", altering(BROKER, "", both, ValidateOnly=True), 2, label="with the minimal ISR, all brokers")


@case
def configs_of_groups_are_checked(s):
    for key, operation, value in (
        ("consumer.heartbeat.interval.ms", SET, "1"),
        ("consumer.heartbeat.interval.ms", SET, "x"),
        ("share.session.timeout.ms", SET, "45000"),
        ("share.isolation.level", SET, "read_committed"),
        ("share.isolation.level", SET, "nothing"),
        ("share.auto.offset.reset", SET, "by_duration:PT1H"),
        ("share.auto.offset.reset", SET, "nothing"),
        ("streams.num.standby.replicas", SET, "1"),
        ("streams.num.standby.replicas", SET, "99"),
        ("consumer.session.timeout.ms", APPEND, "1"),
        ("consumer.session.timeout.ms", SET, None),
        ("no.such.key", DELETE, None),
    ):
        body = changing(GROUP, s.name("g"), (key, operation, value), ValidateOnly=True)
        s.ask("IncrementalAlterConfigs", body, 1, label=f"{key} {operation} {value}")


@case
def configs_of_loggers_are_checked(s):
    for label, name, change in (
        ("unknown logger", "1", ("no.such", SET, "INFO")),
        ("unknown level", "1", ("root", SET, "LOUD")),
        ("the root's deleted", "1", ("root", DELETE, None)),
        ("append", "1", ("root", APPEND, "INFO")),
        ("no name", "", ("root", SET, "INFO")),
        ("no number", "x", ("root", SET, "INFO")),
    ):
        s.ask("IncrementalAlterConfigs", changing(LOGGER, name, change, ValidateOnly=True), 1, label=label)


@case
def describe_configs_with_odd_values(s):
    odd = {"segment.bytes": " 2097152 ", "min.cleanable.dirty.ratio": "1e-1", "cleanup.policy": "delete, delete", "preallocate": "TRUE",
           "retention.ms": "+5", "compression.type": " gzip ", "leader.replication.throttled.replicas": "0:1, 0:1,"}  # fmt: skip
    topic = s.topic(**{key.replace(".", "_"): value for key, value in odd.items()})
    s.ask("DescribeConfigs", describing(TOPIC, topic.name))


@case
def configs_of_client_metrics_change(s):
    name = s.name("m")
    s.ask("DescribeConfigs", describing(CLIENT_METRICS, name), label="none")
    for label, change in (
        ("all metrics", ("metrics", SET, "*")),
        ("an interval", ("interval.ms", SET, "5000")),
        ("an interval that is too short", ("interval.ms", SET, "5")),
        ("a bad pattern", ("match", SET, "client_id")),
        ("an unknown part", ("match", SET, "colour=red")),
        ("an expression that does not parse", ("match", SET, "client_id=(")),
        ("expressions", ("match", SET, "client_id=a.*,client_software_name=b,client_id=a.*")),
        ("an unknown key", ("no.such.key", SET, "1")),
        ("append", ("metrics", APPEND, "org.apache")),
    ):
        s.ask("IncrementalAlterConfigs", changing(CLIENT_METRICS, name, change), 1, label=label)
    settled(s, CLIENT_METRICS, name, interval_ms="5000")
    s.ask("DescribeConfigs", describing(CLIENT_METRICS, name), label="changed")
    s.ask("ListConfigResources", {"ResourceTypes": []}, 0, mine="ConfigResources.ResourceName", label="listed")
    s.ask("ListConfigResources", {"ResourceTypes": [CLIENT_METRICS] * 2}, 1, mine="ConfigResources.ResourceName", label="twice")
    s.ask("AlterConfigs", altering(CLIENT_METRICS, name, {}), 2, label="replaced by nothing")
    s.until("DescribeConfigs", describing(CLIENT_METRICS, name),
            lambda got: not any(item["ConfigSource"] == 7 for item in got["Results"][0]["Configs"]))  # fmt: skip
    s.ask("ListConfigResources", {"ResourceTypes": []}, 0, mine="ConfigResources.ResourceName", label="no longer listed")


@case
def configs_of_brokers_change(s):
    s.ask("IncrementalAlterConfigs", changing(BROKER, "1", ("log.retention.ms", SET, "777000")), label="one broker")
    settled(s, BROKER, "1", log_retention_ms="777000")
    s.ask("DescribeConfigs", describing(BROKER, "1", ["log.retention.ms"]), label="one broker")
    s.ask("IncrementalAlterConfigs", changing(BROKER, "", ("log.retention.ms", SET, "888000")), label="all brokers")
    s.until(
        "DescribeConfigs",
        describing(BROKER, ""),
        lambda got: any(item["Value"] == "888000" for item in got["Results"][0]["Configs"]),
    )
    s.ask("DescribeConfigs", describing(BROKER, "1", ["log.retention.ms"]), label="both")
    s.ask("DescribeConfigs", describing(BROKER, ""), label="both")
    topic = s.topic()
    s.ask("DescribeConfigs", describing(TOPIC, topic.name, ["retention.ms"]), label="a topic takes it over")
    s.ask("IncrementalAlterConfigs", changing(BROKER, "1", ("log.retention.ms", DELETE, None)), label="one broker")
    settled(s, BROKER, "1", log_retention_ms="888000")
    s.ask("DescribeConfigs", describing(TOPIC, topic.name, ["retention.ms"]), label="a topic takes it over")
    s.ask("IncrementalAlterConfigs", changing(BROKER, "", ("log.retention.ms", DELETE, None)), label="all brokers")
    s.until(
        "DescribeConfigs",
        describing(BROKER, ""),
        lambda got: all(item["Name"] != "log.retention.ms" for item in got["Results"][0]["Configs"]),
    )
    s.ask("DescribeConfigs", describing(BROKER, "1", ["log.retention.ms"]), label="neither")
    s.ask(
        "IncrementalAlterConfigs",
        changing(BROKER, "", ("log.cleaner.threads", SET, "2"), ValidateOnly=True),
        label="only checked",
    )


@case
def configs_of_groups_change(s):
    group = s.name("g")
    s.ask("IncrementalAlterConfigs", changing(GROUP, group, ("consumer.session.timeout.ms", SET, "46000")), label="set")
    settled(s, GROUP, group, consumer_session_timeout_ms="46000")
    s.ask("DescribeConfigs", describing(GROUP, group), label="set")
    s.ask("ListConfigResources", {"ResourceTypes": [GROUP]}, 1, mine="ConfigResources.ResourceName", label="groups")
    s.ask("IncrementalAlterConfigs", changing(GROUP, group, ("consumer.session.timeout.ms", DELETE, None)), label="deleted")
    settled(s, GROUP, group, consumer_session_timeout_ms="45000")
    s.ask("DescribeConfigs", describing(GROUP, group), label="deleted")


@case
def list_config_resources(s):
    s.topic()
    s.ask("ListConfigResources", {"ResourceTypes": []}, mine="ConfigResources.ResourceName", label="all")
    for kinds in ([TOPIC], [BROKER], [LOGGER], [CLIENT_METRICS], [GROUP], [TOPIC, GROUP]):
        s.ask("ListConfigResources", {"ResourceTypes": kinds}, 1, mine="ConfigResources.ResourceName", label=f"types {kinds}")
    s.ask("ListConfigResources", {"ResourceTypes": [BROKER, LOGGER]}, 1, label="brokers")
    for kinds in ([UNKNOWN], [1], [100], [-1], [TOPIC, 1]):
        s.ask("ListConfigResources", {"ResourceTypes": kinds}, 1, label=f"types {kinds}")


def updating(*updates, **more):
    changes = [
        {"Feature": name, "MaxVersionLevel": level, "UpgradeType": kind, "AllowDowngrade": kind > 1}
        for name, level, kind in updates
    ]
    return {"FeatureUpdates": changes, "timeoutMs": 10_000, **more}


@case
def update_features(s):
    upgrade, safe, unsafe = 1, 2, 3
    for label, body in (
        ("as it is", updating(("group.version", 1, upgrade))),
        ("unknown feature", updating(("no.such.feature", 1, upgrade))),
        ("empty name", updating(("", 1, upgrade))),
        ("too high", updating(("group.version", 99, upgrade))),
        ("negative", updating(("group.version", -1, upgrade))),
        ("lower without leave", updating(("group.version", 0, upgrade))),
        ("metadata too high", updating(("metadata.version", 999, upgrade))),
        ("metadata too low", updating(("metadata.version", 1, unsafe))),
        ("the same level as a downgrade", updating(("group.version", 1, safe))),
        ("nothing", updating()),
        ("twice", updating(("group.version", 1, upgrade), ("group.version", 1, upgrade))),
        ("one good, one bad", updating(("group.version", 1, upgrade), ("no.such.feature", 1, upgrade))),
        ("twice, the second good", updating(("group.version", 9, upgrade), ("group.version", 1, upgrade))),
        ("twice, the first good", updating(("group.version", 1, upgrade), ("group.version", 9, upgrade))),
        ("no time", {**updating(("group.version", 1, upgrade)), "timeoutMs": 0}),
    ):
        s.ask("UpdateFeatures", {**body, "ValidateOnly": True}, label=f"{label}, only checked")
        s.ask("UpdateFeatures", body, label=label)
    for kind in (0, 4, -1):
        s.ask("UpdateFeatures", updating(("group.version", 1, kind)), (1, 2), label=f"upgrade type {kind}")
