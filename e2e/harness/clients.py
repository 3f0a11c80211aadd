"""The client families, each with a `write` and a `read`. Readers assign; nobody commits offsets."""

import itertools

import confluent_kafka
import kafka
from confluent_kafka.admin import AdminClient, NewTopic

from harness import tools
from harness.records import Read

READ_SECONDS_MAX = 30
REQUEST_BYTES_MAX = 8 * 1024 * 1024
# Separators that no text record contains.
UNIT, RECORD, NULL, PAIR, ENTRY = "\x1f", "\x1e", "\x02", "\x03", "\x04"

_names = itertools.count()


def create_topic(broker, partitions=1, name=None, **config):
    """Makes a topic through the admin client and returns its name.

    It keeps everything unless told otherwise: the records of many tests have timestamps of years ago.
    """
    config.setdefault("retention_ms", -1)
    name = name or f"t{next(_names)}"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings(config))
    for future in admin.create_topics([topic]).values():
        future.result(60)
    return name


def settings(config):
    """`segment_bytes=1` as Kafka writes it: `{"segment.bytes": "1"}`."""
    return {key: str(value) for key, value in dotted(config).items()}


def dotted(config):
    """Keyword arguments as names of settings; callbacks keep their underscore."""
    return {key if key.endswith("_cb") else key.replace("_", "."): value for key, value in config.items()}


class Confluent:
    """librdkafka through confluent-kafka."""

    name = "confluent"
    binary = True
    null_headers = True
    sets_timestamps = True

    def producer(self, bootstrap, **config):
        return confluent_kafka.Producer(
            {
                "bootstrap.servers": bootstrap,
                "log_level": 0,
                "acks": "all",
                "linger.ms": 20,
                "message.max.bytes": REQUEST_BYTES_MAX,
                **dotted(config),
            }
        )

    def write(self, bootstrap, topic, records, codec, partition=0):
        failures = []
        producer = self.producer(bootstrap, compression_codec=codec)
        for record in records:
            producer.produce(
                topic,
                record.value,
                record.key,
                partition,
                on_delivery=lambda error, _: error and failures.append(error),
                timestamp=record.timestamp or 0,
                headers=list(record.headers),
            )
            producer.poll(0)
        left = producer.flush(READ_SECONDS_MAX)
        assert not failures and left == 0, f"{failures[:3]}, {left} left"

    def consumer(self, bootstrap, **config):
        return confluent_kafka.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "log_level": 0,
                "group.id": "never-joined",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "check.crcs": True,
                **dotted(config),
            }
        )

    def read(self, bootstrap, topic, count, partition=0, offset=0):
        consumer = self.consumer(bootstrap)
        consumer.assign([confluent_kafka.TopicPartition(topic, partition, offset)])
        got = []
        while len(got) < count:
            messages = consumer.consume(min(count - len(got), 1000), READ_SECONDS_MAX)
            assert messages, f"read {len(got)} of {count} records of {topic}-{partition}"
            for message in messages:
                assert message.error() is None, message.error()
                headers = tuple((name, value) for name, value in message.headers() or ())
                got.append(Read(message.offset(), message.timestamp()[1], message.key(), message.value(), headers))
        consumer.close()
        return got


class KafkaPython:
    """The client in plain Python: shares no code with the others."""

    name = "kafka-python"
    binary = True
    null_headers = False
    sets_timestamps = True

    def write(self, bootstrap, topic, records, codec, partition=0):
        producer = kafka.KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            linger_ms=20,
            compression_type=None if codec == "none" else codec,
            max_request_size=REQUEST_BYTES_MAX,
        )
        sent = [
            producer.send(topic, record.value, record.key, list(record.headers), partition, record.timestamp)
            for record in records
        ]
        producer.flush(READ_SECONDS_MAX)
        for future in sent:
            future.get(READ_SECONDS_MAX)
        producer.close()

    def read(self, bootstrap, topic, count, partition=0, offset=0):
        consumer = kafka.KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
        where = kafka.TopicPartition(topic, partition)
        consumer.assign([where])
        consumer.seek(where, offset)
        got = []
        while len(got) < count:
            polled = consumer.poll(READ_SECONDS_MAX * 1000)
            assert polled, f"read {len(got)} of {count} records of {topic}-{partition}"
            for message in polled[where]:
                got.append(
                    Read(message.offset, message.timestamp, message.key, message.value, tuple(map(tuple, message.headers)))
                )
        consumer.close()
        return got


class Kcat:
    """The command line of librdkafka that distributions ship, years older than confluent-kafka's."""

    name = "kcat"
    binary = False
    sets_timestamps = False

    def write(self, bootstrap, topic, records, codec, partition=0):
        # One set of headers per run, so one run for each stretch of records with equal headers.
        for headers, group in itertools.groupby(records, lambda record: record.headers):
            lines = [record.value if record.key is None else record.key + UNIT.encode() + record.value for record in group]
            flags = itertools.chain.from_iterable(("-H", f"{name}={value.decode()}") for name, value in headers)
            tools.run(
                ["kcat", "-P", "-b", bootstrap, "-t", topic, "-p", partition, "-z", codec, "-D", RECORD, "-K", UNIT]
                + ["-X", "acks=all", "-X", f"message.max.bytes={REQUEST_BYTES_MAX}", *flags],
                stdin=RECORD.encode().join(lines),
            )

    def read(self, bootstrap, topic, count, partition=0, offset=0):
        # Lengths come before the bytes, so the bytes may be anything.
        out = tools.run(
            ["kcat", "-C", "-b", bootstrap, "-t", topic, "-p", partition, "-o", offset, "-c", count, "-q"]
            + ["-X", "check.crcs=true", "-f", f"%o %T %K %S %h{RECORD}%k%s"]
        ).stdout
        got = []
        position = 0
        while position < len(out):
            end = out.index(RECORD.encode(), position)
            where, time, key_bytes, value_bytes, headers = out[position:end].split(b" ", 4)
            key_end = end + 1 + max(int(key_bytes), 0)
            position = key_end + max(int(value_bytes), 0)
            got.append(
                Read(
                    int(where),
                    int(time),
                    None if int(key_bytes) < 0 else out[end + 1 : key_end],
                    None if int(value_bytes) < 0 else out[key_end:position],
                    tuple(
                        (name.decode(), value) for name, value in (pair.split(b"=", 1) for pair in headers.split(b",") if pair)
                    ),
                )
            )
        return got


class Console:
    """kafka-console-producer and kafka-console-consumer of Apache Kafka."""

    name = "console"
    binary = False
    sets_timestamps = False

    def write(self, bootstrap, topic, records, codec, partition=0):
        properties = {
            "parse.key": "true",
            "parse.headers": "true",
            "headers.delimiter": UNIT,
            "key.separator": RECORD,
            "headers.separator": ENTRY,
            "headers.key.separator": PAIR,
            "null.marker": NULL,
        }
        lines = []
        for record in records:
            headers = ENTRY.join(f"{name}{PAIR}{value.decode()}" for name, value in record.headers) or NULL
            key = NULL if record.key is None else record.key.decode()
            lines.append(f"{headers}{UNIT}{key}{RECORD}{record.value.decode()}\n")
        words = itertools.chain.from_iterable(("--reader-property", f"{k}={v}") for k, v in properties.items())
        tools.kafka(
            tools.CONSOLE_PRODUCER, "--bootstrap-server", bootstrap, "--topic", topic, "--compression-codec", codec,
            "--request-required-acks", "all", "--request-timeout-ms", 30_000,
            "--command-property", f"max.request.size={REQUEST_BYTES_MAX}", *words,
            stdin="".join(lines).encode(),
        )  # fmt: skip

    def read(self, bootstrap, topic, count, partition=0, offset=0):
        properties = {
            "print.timestamp": "true",
            "print.partition": "true",
            "print.offset": "true",
            "print.headers": "true",
            "print.key": "true",
            "key.separator": UNIT,
            "line.separator": RECORD,
            "headers.separator": ENTRY,
            "null.literal": NULL,
        }
        words = itertools.chain.from_iterable(("--formatter-property", f"{k}={v}") for k, v in properties.items())
        out = tools.kafka(
            tools.CONSOLE_CONSUMER, "--bootstrap-server", bootstrap, "--topic", topic, "--partition", partition,
            "--offset", offset, "--max-messages", count, "--timeout-ms", READ_SECONDS_MAX * 1000, *words,
        )  # fmt: skip
        got = []
        for line in out.split(RECORD.encode())[:-1]:
            time, where, position, headers, key, value = line.split(UNIT.encode(), 5)
            assert where == f"Partition:{partition}".encode()
            pairs = [] if headers == b"NO_HEADERS" else headers.split(ENTRY.encode())
            got.append(
                Read(
                    int(position.removeprefix(b"Offset:")),
                    int(time.removeprefix(b"CreateTime:")),
                    None if key == NULL.encode() else key,
                    None if value == NULL.encode() else value,
                    tuple((name.decode(), content) for name, content in (pair.split(b":", 1) for pair in pairs)),
                )
            )
        return got


FAMILIES = (Confluent(), KafkaPython(), Kcat(), Console())
BINARY = tuple(family for family in FAMILIES if family.binary)
