"""One member of a group, through confluent-kafka or kafka-python.

It tells as JSON lines what it owns, sees and commits; SIGTERM makes it leave. Arguments are key=value:
library, bootstrap, group, topics or pattern, protocol, assignor, instance, session, heartbeat.
"""

import json
import os
import signal
import sys
import time

POLL_SECONDS = 0.1
# A poll of kafka-python that times out between the answer that brings an assignment and its own end forgets
# the assignment, so polls are longer than a rebalance takes.
JOIN_MS = 5000
RECORDS_MAX = 50
METADATA_MS = 2000
RETRIED = ("ILLEGAL_GENERATION", "STALE_MEMBER_EPOCH", "REBALANCE_IN_PROGRESS")


def say(event, **fields):
    line = json.dumps({"at": time.time_ns() // 1000, "event": event, **fields})
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def name(partition):
    return f"{partition.topic}-{partition.partition}"


class Stop:
    """Whether SIGTERM came."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self.ask)

    def ask(self, *_):
        self.asked = True


class Confluent:
    def __init__(self, options):
        import confluent_kafka

        self.library = confluent_kafka
        self.uncommitted = {}
        settings = {
            "bootstrap.servers": options["bootstrap"],
            "group.id": options["group"],
            "client.id": options.get("client", "confluent"),
            "log_level": 3,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
            "topic.metadata.refresh.interval.ms": METADATA_MS,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "group.protocol": options.get("protocol", "classic"),
        }
        if options.get("protocol") == "consumer":
            if "assignor" in options:
                settings["group.remote.assignor"] = options["assignor"]
        else:
            settings["session.timeout.ms"] = int(options["session"])
            settings["heartbeat.interval.ms"] = int(options["heartbeat"])
            assignor = options.get("assignor", "range")
            settings["partition.assignment.strategy"] = {"cooperative": "cooperative-sticky"}.get(assignor, assignor)
        if "instance" in options:
            settings["group.instance.id"] = options["instance"]
        self.consumer = confluent_kafka.Consumer(settings)
        topics = options["topics"].split(",") if "topics" in options else ["^" + options["pattern"]]
        self.consumer.subscribe(topics, on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)

    def assigned(self, _, partitions):
        say("assigned", partitions=sorted(map(name, partitions)))

    def revoked(self, _, partitions):
        self.commit()
        say("revoked", partitions=sorted(map(name, partitions)))

    def lost(self, _, partitions):
        for partition in partitions:
            self.uncommitted.pop((partition.topic, partition.partition), None)
        say("lost", partitions=sorted(map(name, partitions)))

    def turn(self):
        seen = {}
        for message in self.consumer.consume(RECORDS_MAX, POLL_SECONDS):
            if message.error():
                say("trouble", message=str(message.error()))
                continue
            seen.setdefault((message.topic(), message.partition()), []).append(message.offset())
        for (topic, partition), offsets in seen.items():
            say("records", partition=f"{topic}-{partition}", offsets=offsets)
            self.uncommitted[(topic, partition)] = offsets[-1] + 1
        self.commit()

    def commit(self):
        if not self.uncommitted:
            return
        wanted = [self.library.TopicPartition(*where, offset) for where, offset in self.uncommitted.items()]
        try:
            done = self.consumer.commit(offsets=wanted, asynchronous=False)
        except self.library.KafkaException as failure:
            error = failure.args[0]
            # In the middle of a cooperative rebalance the library may not know the new generation yet: the
            # next turn commits again. If the member was thrown out, `lost` comes first.
            say("retried" if error.name() in RETRIED else "trouble", message=str(error))
            return
        failed = [str(partition.error) for partition in done if partition.error]
        if failed:
            say("trouble", message=", ".join(failed))
            return
        say("committed", offsets={name(partition): partition.offset for partition in done})
        self.uncommitted.clear()

    def close(self):
        self.commit()
        self.consumer.close()


class KafkaPython:
    def __init__(self, options):
        import kafka
        from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
        from kafka.coordinator.assignors.range import RangePartitionAssignor

        self.library = kafka
        self.uncommitted = {}
        assignors = {"range": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}
        self.consumer = kafka.KafkaConsumer(
            bootstrap_servers=options["bootstrap"],
            group_id=options["group"],
            group_instance_id=options.get("instance"),
            client_id=options.get("client", "kafka-python"),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(options["session"]),
            heartbeat_interval_ms=int(options["heartbeat"]),
            partition_assignment_strategy=[assignors[options.get("assignor", "range")]],
            fetch_max_wait_ms=100,
            metadata_max_age_ms=METADATA_MS,
            reconnect_backoff_max_ms=500,
            max_poll_records=RECORDS_MAX,
        )
        member = self

        class Listener(kafka.AsyncConsumerRebalanceListener):
            """What was processed was committed before the poll that calls these."""

            async def on_partitions_assigned(self, partitions):
                say("assigned", partitions=sorted(map(name, partitions)))

            async def on_partitions_revoked(self, partitions):
                say("revoked", partitions=sorted(map(name, partitions)))

            async def on_partitions_lost(self, partitions):
                for partition in partitions:
                    member.uncommitted.pop(partition, None)
                say("lost", partitions=sorted(map(name, partitions)))

        if "topics" in options:
            self.consumer.subscribe(topics=options["topics"].split(","), listener=Listener())
        else:
            self.consumer.subscribe(pattern=options["pattern"], listener=Listener())

    def turn(self):
        try:
            polled = self.consumer.poll(JOIN_MS)
        except self.library.errors.KafkaError as failure:
            # A broker that is away ends a poll of this library; the next one connects again.
            say("trouble", message=repr(failure))
            time.sleep(POLL_SECONDS)
            return
        for partition, messages in polled.items():
            say("records", partition=name(partition), offsets=[message.offset for message in messages])
            self.uncommitted[partition] = self.library.OffsetAndMetadata(messages[-1].offset + 1, "", -1)
        self.commit()

    def commit(self):
        if not self.uncommitted:
            return
        try:
            self.consumer.commit(dict(self.uncommitted))
        except self.library.errors.CommitFailedError as failure:
            say("fenced", message=str(failure))
            self.uncommitted.clear()
            return
        except self.library.errors.KafkaError as failure:
            say("trouble", message=repr(failure))
            return
        say("committed", offsets={name(where): offset.offset for where, offset in self.uncommitted.items()})
        self.uncommitted.clear()

    def close(self):
        self.commit()
        self.consumer.close()


LIBRARIES = {"confluent": Confluent, "kafka-python": KafkaPython}


def main():
    options = dict(word.split("=", 1) for word in sys.argv[1:])
    stop = Stop()
    member = LIBRARIES[options["library"]](options)
    say("started", pid=os.getpid())
    try:
        while not stop.asked:
            member.turn()
        member.close()
        say("closed", clean=True)
    except Exception as failure:
        say("failed", message=repr(failure))
        raise


if __name__ == "__main__":
    main()
