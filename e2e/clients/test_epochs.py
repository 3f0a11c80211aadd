"""Consumers that check leader epochs (KIP-320) go on where a restart has begun another one."""

import confluent_kafka
import kafka
import pytest

from harness import records
from harness.clients import READ_SECONDS_MAX, Confluent, create_topic
from harness.records import Record

HALF = 2000
# Small fetches, so that much is left to fetch when the broker restarts.
FETCH_BYTES_MAX = 20_000


class KafkaPythonReader:
    """Positions that carry the epoch of the record before them are checked before the next fetch."""

    def __init__(self, bootstrap, topic):
        self.where = kafka.TopicPartition(topic, 0)
        self.consumer = kafka.KafkaConsumer(
            bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False,
            fetch_max_bytes=FETCH_BYTES_MAX, max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )  # fmt: skip
        self.consumer.assign([self.where])
        self.consumer.seek(self.where, 0)

    def read(self):
        polled = self.consumer.poll(READ_SECONDS_MAX * 1000, max_records=50)
        return [message.value for message in polled.get(self.where, [])]

    def close(self):
        self.consumer.close()


class ConfluentReader:
    def __init__(self, bootstrap, topic):
        self.consumer = Confluent().consumer(
            bootstrap, fetch_message_max_bytes=FETCH_BYTES_MAX, queued_max_messages_kbytes=20
        )
        self.consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])

    def read(self):
        messages = self.consumer.consume(50, READ_SECONDS_MAX)
        # A connection that is lost and made anew is told of as well.
        return [message.value() for message in messages if message.error() is None]

    def close(self):
        self.consumer.close()


@pytest.mark.parametrize("reader", [KafkaPythonReader, ConfluentReader])
def test_a_reader_goes_on_in_the_epoch_that_a_restart_began(esker, reader):
    broker = esker().start()
    topic = create_topic(broker)
    everything = [Record(records.text(number, 500)) for number in range(2 * HALF)]
    Confluent().write(broker.bootstrap, topic, everything[:HALF], "none")
    reader = reader(broker.bootstrap, topic)
    got = reader.read()
    assert 0 < len(got) < HALF
    broker.stop()
    broker.start()
    Confluent().write(broker.bootstrap, topic, everything[HALF:], "none")
    while len(got) < len(everything):
        more = reader.read()
        assert more, f"read {len(got)} of {len(everything)} records"
        got += more
    reader.close()
    assert got == [record.value for record in everything]
