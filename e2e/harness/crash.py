"""Kills a broker again and again under idempotent load, tampers with tails, and reads everything back."""

import random
import threading

import confluent_kafka

from harness import segments
from harness.clients import Confluent, create_topic
from harness.history import History, fingerprint, value
from harness.process import wait_until

PARTITIONS = 4
VALUE_BYTES_MAX = 3000
SEGMENT_BYTES = 1024 * 1024
LOCAL_BYTES = 2 * SEGMENT_BYTES
# Acknowledgements to wait for after a start before the next kill.
ACKS_BETWEEN_KILLS = (200, 2500)
IN_FLIGHT_MAX = 2000
PROGRESS_SECONDS_MAX = 30
READ_SECONDS_MAX = 15
# How long to wait for what is left of a run that has already failed.
GIVE_UP_SECONDS = 1


class Load:
    """A producer on its own thread; it knows nothing of the kills."""

    def __init__(self, bootstrap, topic, seed, progress_seconds):
        self.progress_seconds = progress_seconds
        self.history = History(PARTITIONS)
        self.bootstrap = bootstrap
        self.topic = topic
        self.random = random.Random(seed)
        self.acks = 0
        self.stopped = threading.Event()
        self.left = None
        self.thread = threading.Thread(target=self.run, name="load")

    def run(self):
        producer = Confluent().producer(
            self.bootstrap,
            enable_idempotence=True,
            linger_ms=2,
            batch_size=20_000,
            compression_codec="lz4",
            message_timeout_ms=300_000,
            reconnect_backoff_ms=10,
            reconnect_backoff_max_ms=100,
            retry_backoff_ms=20,
            socket_timeout_ms=10_000,
            queue_buffering_max_messages=IN_FLIGHT_MAX,
            error_cb=self.failed,
        )
        try:
            self.produce_until_stopped(producer)
        except confluent_kafka.KafkaException as error:
            # Fatal: the broker contradicts what it acknowledged.
            self.history.errors.append(str(error))
        try:
            self.left = producer.flush(GIVE_UP_SECONDS if self.history.errors else self.progress_seconds)
        except (SystemError, confluent_kafka.KafkaException) as error:
            # The client hands a fatal error to whatever call happens to meet it.
            self.history.errors.append(str(error))

    def produce_until_stopped(self, producer):
        sequences = [0] * PARTITIONS
        while not self.stopped.is_set():
            partition = self.random.randrange(PARTITIONS)
            content = value(partition, sequences[partition], self.random.randrange(50, VALUE_BYTES_MAX))
            try:
                producer.produce(self.topic, content, None, partition, on_delivery=self.delivered)
            except BufferError:
                producer.poll(0.05)
                continue
            self.history.send(partition, sequences[partition], content)
            sequences[partition] += 1
            producer.poll(0)

    def delivered(self, error, message):
        if error:
            self.history.errors.append(str(error))
            return
        self.history.acknowledge(message.partition(), message.offset(), message.value())
        self.acks += 1

    def failed(self, error):
        if error.fatal():
            self.history.errors.append(str(error))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.finish()

    def finish(self):
        self.stopped.set()
        self.thread.join()

    def await_acks(self, more):
        """Waits for progress; False when none comes, which the checker then has to explain."""
        wanted = self.acks + more
        try:
            wait_until(lambda: self.acks >= wanted or self.history.errors, self.progress_seconds, "acknowledgements")
        except TimeoutError:
            self.history.errors.append(f"no progress within {self.progress_seconds} s of a start")
        return not self.history.errors


class Watcher:
    """A consumer on its own thread that notes all it is shown while the broker dies."""

    def __init__(self, bootstrap, topic):
        self.seen = []
        self.stopped = threading.Event()
        self.consumer = Confluent().consumer(
            bootstrap, reconnect_backoff_ms=10, reconnect_backoff_max_ms=100, auto_offset_reset="earliest"
        )
        self.consumer.assign([confluent_kafka.TopicPartition(topic, n, 0) for n in range(PARTITIONS)])
        self.thread = threading.Thread(target=self.run, name="watcher")

    def run(self):
        while not self.stopped.is_set():
            for message in self.consumer.consume(500, 0.1):
                if message.error() is None:
                    self.seen.append((message.partition(), message.offset(), fingerprint(message.value())))
        self.consumer.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()


def tear_tail(broker, topic, source):
    """Leaves what a crash in the middle of a write leaves: part of a batch, zeros or noise behind the last whole one."""
    _, path = segments.local(broker.partition_dir(topic, source.randrange(PARTITIONS)))[-1]
    content = path.read_bytes()
    if len(content) < 200:
        return
    torn = source.choice((content[: source.randrange(12, 150)], bytes(source.randrange(1, 5000)), source.randbytes(300)))
    with path.open("ab") as log:
        log.write(torn)


def read_all(bootstrap, topic):
    """Everything readable, per partition as (offset, value), and complaints about what cannot be read."""
    complaints = []
    read = []
    for partition in range(PARTITIONS):
        records = []
        consumer = Confluent().consumer(bootstrap, auto_offset_reset="earliest")
        try:
            read_partition(consumer, confluent_kafka.TopicPartition(topic, partition, 0), records)
        except (confluent_kafka.KafkaException, AssertionError) as error:
            complaints.append(f"unreadable: partition {partition} after {len(records)} records: {error}")
        consumer.close()
        read.append(records)
    return read, complaints


def read_partition(consumer, where, records):
    """Appends every (offset, value) below the high watermark to `records`."""
    low, high = consumer.get_watermark_offsets(where, timeout=READ_SECONDS_MAX)
    assert low == 0, f"it starts at {low}"
    consumer.assign([where])
    while high and (not records or records[-1][0] < high - 1):
        messages = consumer.consume(1000, READ_SECONDS_MAX)
        assert messages, f"it ends at {high} and reading stopped"
        for message in messages:
            if message.error():
                raise confluent_kafka.KafkaException(message.error())
            records.append((message.offset(), message.value()))


def kill_again_and_again(broker, kills, seed, progress_seconds=PROGRESS_SECONDS_MAX):
    """The whole run. Returns (history, seen by the watcher, content at the end, complaints about reading)."""
    source = random.Random(seed)
    broker.start()
    topic = create_topic(broker, PARTITIONS, segment_bytes=SEGMENT_BYTES, local_retention_bytes=LOCAL_BYTES)
    with Load(broker.bootstrap, topic, seed, progress_seconds) as load, Watcher(broker.bootstrap, topic) as watcher:
        for _ in range(kills):
            if not load.await_acks(source.randrange(*ACKS_BETWEEN_KILLS)):
                break
            broker.kill()
            if source.randrange(3) == 0:
                tear_tail(broker, topic, source)
            broker.start()
        else:
            load.await_acks(ACKS_BETWEEN_KILLS[0])
        load.finish()
    if load.left and not load.history.errors:
        load.history.errors.append(f"{load.left} records neither acknowledged nor refused")
    read, complaints = read_all(broker.bootstrap, topic)
    return load.history, watcher.seen, read, complaints
