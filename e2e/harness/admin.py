"""Administration through every client, behind one set of names; what a client cannot do it `lacks`."""

import kafka
import kafka.admin
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from harness.serving import SERVED, Refused

SECONDS_MAX = 30


class ConfluentAdmin:
    name = "confluent"
    # confluent-kafka wraps everything but the deletion of committed offsets.
    lacks = ("delete_offsets",)

    def __init__(self, bootstrap):
        self.admin = AdminClient({"bootstrap.servers": bootstrap})

    def ask(self, op, **fields):
        try:
            return getattr(self, op)(**fields)
        except KafkaException as error:
            raise Refused(error.args[0].code(), str(error)) from error

    @staticmethod
    def wait(futures):
        return {key: future.result(SECONDS_MAX) for key, future in futures.items()}

    def create_topic(self, topic, partitions, config):
        self.wait(self.admin.create_topics([NewTopic(topic, partitions, 1, config=config)]))

    def delete_topic(self, topic):
        self.wait(self.admin.delete_topics([topic]))

    def topics(self):
        return sorted(self.admin.list_topics(timeout=SECONDS_MAX).topics)

    def partitions(self, topic):
        return len(self.admin.list_topics(topic, SECONDS_MAX).topics[topic].partitions)

    def create_partitions(self, topic, total):
        self.wait(self.admin.create_partitions([NewPartitions(topic, total)]))

    def alter_config(self, topic, name, value):
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        self.wait(
            self.admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])])
        )

    def config(self, topic, name):
        (entries,) = self.wait(self.admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)])).values()
        return entries[name].value

    def delete_records(self, topic, partition, before):
        (deleted,) = self.wait(self.admin.delete_records([TopicPartition(topic, partition, before)])).values()
        return deleted.low_watermark

    def offsets(self, topic, partition):
        where = TopicPartition(topic, partition)
        asked = [self.admin.list_offsets({where: spec}) for spec in (OffsetSpec.earliest(), OffsetSpec.latest())]
        return [self.wait(futures)[where].offset for futures in asked]

    def groups(self):
        listed = self.admin.list_consumer_groups().result(SECONDS_MAX)
        assert not listed.errors, listed.errors
        return {group.group_id: [group.type.name.capitalize(), group.state.name.capitalize()] for group in listed.valid}

    def group(self, group):
        (found,) = self.wait(self.admin.describe_consumer_groups([group])).values()
        assigned = [
            f"{where.topic}-{where.partition}" for member in found.members for where in member.assignment.topic_partitions
        ]
        return {"state": found.state.name.capitalize(), "members": len(found.members), "assigned": sorted(assigned)}

    def committed(self, group, topic):
        (found,) = self.wait(self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])).values()
        return {str(where.partition): where.offset for where in found.topic_partitions if where.topic == topic}

    def commit(self, group, topic, offsets):
        wanted = [TopicPartition(topic, int(partition), offset) for partition, offset in offsets.items()]
        (altered,) = self.wait(self.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, wanted)])).values()
        for where in altered.topic_partitions:
            if where.error:
                raise Refused(where.error.code(), str(where.error))

    def delete_group(self, group):
        self.wait(self.admin.delete_consumer_groups([group]))


class KafkaPythonAdmin:
    name = "kafka-python"
    lacks = ()

    def __init__(self, bootstrap):
        self.admin = kafka.KafkaAdminClient(bootstrap_servers=bootstrap)

    def ask(self, op, **fields):
        try:
            return getattr(self, op)(**fields)
        except kafka.errors.KafkaError as error:
            raise Refused(getattr(error, "errno", None), repr(error)) from error

    def create_topic(self, topic, partitions, config):
        self.admin.create_topics([kafka.admin.NewTopic(topic, partitions, 1, topic_configs=config)])

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def topics(self):
        return sorted(self.admin.list_topics())

    def partitions(self, topic):
        (found,) = self.admin.describe_topics([topic])
        return len(found["partitions"])

    def create_partitions(self, topic, total):
        self.admin.create_partitions({topic: kafka.admin.NewPartitions(total)})

    def alter_config(self, topic, name, value):
        altered = self.admin.alter_configs([kafka.admin.ConfigResource("TOPIC", topic, {name: value})])
        if altered["topic"][topic] != "OK":
            raise Refused(None, altered["topic"][topic])

    def config(self, topic, name):
        described = self.admin.describe_configs([kafka.admin.ConfigResource("TOPIC", topic)], config_filter="all")
        return described["topic"][topic][name]["value"]

    def delete_records(self, topic, partition, before):
        where = kafka.TopicPartition(topic, partition)
        return self.admin.delete_records({where: before})[where]["low_watermark"]

    def offsets(self, topic, partition):
        where = kafka.TopicPartition(topic, partition)
        specs = (kafka.admin.OffsetSpec.EARLIEST, kafka.admin.OffsetSpec.LATEST)
        return [self.admin.list_partition_offsets({where: spec})[where].offset for spec in specs]

    def groups(self):
        return {group["group_id"]: [group["group_type"].capitalize(), group["group_state"]] for group in self.admin.list_groups()}

    def group(self, group):
        found = self.admin.describe_groups([group])[group]
        assigned = [
            f"{topic['topic']}-{partition}"
            for member in found["members"]
            for topic in member["member_assignment"]["assigned_partitions"]
            for partition in topic["partitions"]
        ]
        return {"state": found["group_state"], "members": len(found["members"]), "assigned": sorted(assigned)}

    def committed(self, group, topic):
        found = self.admin.list_group_offsets(group)[group]
        return {str(where.partition): offset.offset for where, offset in found.items() if where.topic == topic}

    def commit(self, group, topic, offsets):
        wanted = {
            kafka.TopicPartition(topic, int(partition)): kafka.OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
        }
        self.raise_first(self.admin.alter_group_offsets(group, wanted))

    def delete_offsets(self, group, topic, partitions):
        self.raise_first(
            self.admin.delete_group_offsets(group, [kafka.TopicPartition(topic, partition) for partition in partitions])
        )

    def delete_group(self, group):
        self.raise_first(self.admin.delete_groups([group]))

    @staticmethod
    def raise_first(errors):
        for error in errors.values():
            error = error if isinstance(error, type) else getattr(kafka.errors, str(error), error)
            if error is not kafka.errors.NoError and error != "OK":
                raise error()


class ServedAdmin:
    """A client in another language: it does what it is asked, under the same names."""

    def __init__(self, served, bootstrap):
        self.served = served
        self.bootstrap = bootstrap
        self.name = served.name
        self.lacks = served.lacks

    def ask(self, op, **fields):
        return self.served.ask(op, self.bootstrap, **fields)


ADMINS = {
    "confluent": ConfluentAdmin,
    "kafka-python": KafkaPythonAdmin,
    **{served.name: lambda bootstrap, served=served: ServedAdmin(served, bootstrap) for served in SERVED},
}
