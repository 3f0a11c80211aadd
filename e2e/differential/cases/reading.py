"""Fetch with its sessions, ListOffsets, OffsetForLeaderEpoch and DeleteRecords."""

from ..batches import CODECS, TIME, Record, batch
from ..codec import NOBODYS_ID, ZERO_UUID
from ..script import Topic, fetch_body, produce_body
from . import case

UNKNOWN = Topic("no-such-topic", NOBODYS_ID)
# `max.incremental.fetch.session.cache.slots`, and a full cache is not asked for more by others.
SLOTS = 1000
TURNS = (4, 5, 7, 9, 11, 12, 13, 16, 18)
BY_NAME, BY_ID = 12, 17


def filled(s, count=3, **options):
    """A topic with `count` batches of two records each."""
    topic = s.topic(**options)
    for number in range(count):
        s.produce(topic, batch(Record(b"a%d" % number, b"k"), Record(b"b%d" % number, time=1), time=TIME + 10 * number))
    return topic


@case
def fetch_in_every_version(s):
    topic = filled(s)
    for offset in (0, 1, 2, 5):
        s.ask("Fetch", fetch_body((topic, 0, offset)), label=f"from {offset}")
    s.ask("Fetch", fetch_body((topic, 0, 6)), label="from the end")
    s.ask("Fetch", fetch_body((topic, 0, 0), isolation=1), label="read committed")
    s.ask("Fetch", fetch_body((topic, 0, 6), isolation=1), label="read committed from the end")
    s.ask("Fetch", fetch_body((topic, 0, 0), rack="a rack"), label="from a rack")


@case
def fetch_out_of_range(s):
    topic = filled(s)
    for offset in (7, 1 << 40, -1, -2, -(1 << 40)):
        s.ask("Fetch", fetch_body((topic, 0, offset)), label=f"from {offset}")
    empty = s.topic("empty")
    s.ask("Fetch", fetch_body((empty, 0, 0)), TURNS, label="an empty log")
    s.ask("Fetch", fetch_body((empty, 0, 1)), TURNS, label="beyond an empty log")


@case
def fetch_of_what_is_not_there(s):
    topic = filled(s)
    s.ask("Fetch", fetch_body((UNKNOWN, 0, 0)), label="unknown topic")
    s.ask("Fetch", fetch_body((topic, 5, 0)), label="unknown partition")
    s.ask("Fetch", fetch_body((topic, -1, 0)), TURNS, label="negative partition")
    s.ask("Fetch", fetch_body((topic, 0, 0), (UNKNOWN, 0, 0), (topic, 1, 0)), label="some of each")
    s.ask("Fetch", fetch_body((Topic("", ZERO_UUID), 0, 0)), TURNS, label="no name, no id")
    s.ask("Fetch", fetch_body((Topic("bad name!", ZERO_UUID), 0, 0)), TURNS, label="bad name")
    s.ask("Fetch", fetch_body(), label="nothing")


@case
def fetch_with_leader_epochs(s):
    topic = filled(s)
    for epoch in (-1, 0, 1, 5, -2):
        s.ask("Fetch", fetch_body((topic, 0, 0, {"CurrentLeaderEpoch": epoch})), label=f"epoch {epoch}")


@case
def fetch_with_the_last_epoch_that_was_read(s):
    topic = filled(s)
    for epoch in (-1, 0, 1, 9):
        for offset in (0, 3, 6, 7):
            s.ask(
                "Fetch",
                fetch_body((topic, 0, offset, {"LastFetchedEpoch": epoch})),
                range(12, 19),
                label=f"epoch {epoch}, offset {offset}",
            )


@case
def fetch_with_limits(s):
    topic = s.topic(partitions=3)
    for partition in range(3):
        for _ in range(3):
            s.produce(topic, batch(Record(b"x" * 100)), partition)
    everything = [(topic, partition, 0) for partition in range(3)]
    for bound in (0, 1, 150, 180, 400, 600, 1000):
        s.ask("Fetch", fetch_body(*everything, max_bytes=bound), (4, 12, 17), label=f"at most {bound} bytes")
    for bound in (0, 1, 175, 200, 400):
        limited = [(topic, partition, 0, {"PartitionMaxBytes": bound}) for partition in range(3)]
        s.ask("Fetch", fetch_body(*limited), (4, 12, 17), label=f"at most {bound} bytes of a partition")
    s.ask("Fetch", fetch_body(*everything, max_bytes=-1), (4, 12), label="negative limit")
    s.ask("Fetch", fetch_body((topic, 0, 0, {"PartitionMaxBytes": -1})), (4, 12), label="negative limit of a partition")


@case
def fetch_that_waits(s):
    topic = filled(s)
    s.ask("Fetch", fetch_body((topic, 0, 6), wait=50), TURNS, label="nothing comes")
    s.ask("Fetch", fetch_body((topic, 0, 0), wait=50, min_bytes=1 << 20), TURNS, label="too little comes")
    s.ask("Fetch", fetch_body((topic, 0, 7), wait=20_000), TURNS, label="an error does not wait")
    s.ask("Fetch", fetch_body((topic, 0, 6), wait=20_000, min_bytes=0), TURNS, label="no bytes are enough")
    reader = s.link()
    for version in (4, 12, 17):
        s.send("Fetch", fetch_body((topic, 0, s.produce(topic, batch()) + 1), wait=20_000), version, link=reader)
        s.produce(topic, batch(Record(b"comes")))
        s.receive("a record comes", link=reader)


@case
def fetch_of_what_is_missing_waits_with_the_others(s):
    topic = filled(s)
    reader = s.link()
    for version in (4, 12, 13, 17):
        end = s.produce(topic, batch()) + 1
        s.send("Fetch", fetch_body((UNKNOWN, 0, 0), (topic, 0, end), (topic, 7, 0), wait=20_000), version, link=reader)
        s.pause(0.2)
        s.produce(topic, batch(Record(b"comes")))
        s.receive("a record comes", link=reader)
    s.ask("Fetch", fetch_body((UNKNOWN, 0, 0), wait=20_000), TURNS, label="nothing to wait for")


@case
def fetch_with_odd_numbers(s):
    topic = filled(s)
    for offset in (0, 6):
        s.ask("Fetch", fetch_body((topic, 0, offset), wait=-1), TURNS, label=f"negative wait from {offset}")
        s.ask("Fetch", fetch_body((topic, 0, offset), wait=50, min_bytes=-1), TURNS, label=f"negative minimum from {offset}")
        s.ask("Fetch", fetch_body((topic, 0, offset), max_bytes=-1), TURNS, label=f"negative limit from {offset}")
        part = {"PartitionMaxBytes": -1}
        s.ask("Fetch", fetch_body((topic, 0, offset, part)), TURNS, label=f"negative limit of a partition from {offset}")
    s.ask("Fetch", fetch_body((topic, 0, 9), max_bytes=-1), TURNS, label="negative limit out of range")
    s.ask("Fetch", fetch_body((topic, 0, 0, {"LastFetchedEpoch": -5})), (12, 17), label="negative last epoch")
    s.ask("Fetch", fetch_body((topic, 0, 0), isolation=7), TURNS, label="no such isolation")


@case
def fetch_as_a_replica_that_is_none(s):
    topic = filled(s)
    for replica in (-2, -3, 0, 2):
        for version in (4, 9, 11, 12, 13, 15, 18):
            body = fetch_body((topic, 0, 0), ReplicaId=replica, ReplicaState={"ReplicaId": replica, "ReplicaEpoch": -1})
            s.ask("Fetch", body, version, label=f"replica {replica}")
            body = fetch_body(
                (topic, 0, 0, {"CurrentLeaderEpoch": 0}),
                ReplicaId=replica,
                ReplicaState={"ReplicaId": replica, "ReplicaEpoch": 7},
            )
            s.ask("Fetch", body, version, label=f"replica {replica} with an epoch")


@case
def fetch_of_one_partition_twice(s):
    topic = filled(s)
    body = fetch_body((topic, 0, 0))
    body["Topics"][0]["Partitions"].append({"Partition": 0, "FetchOffset": 4, "PartitionMaxBytes": 1000})
    s.ask("Fetch", body, (4, 12, 17))


@case
def fetch_of_one_topic_twice(s):
    topic, other = filled(s, partitions=2), filled(s, suffix="other")
    wanted = ((topic, 0, 4), (other, 0, 4), (topic, 1, 0), (UNKNOWN, 0, 0), (other, 0, 5), (topic, 0, 6))
    s.ask("Fetch", fetch_body(*wanted), (4, 12, 17))


@case
def fetch_after_compression(s):
    for codec in CODECS:
        topic = s.topic(codec)
        s.produce(topic, batch(Record(b"x" * 100), Record(b"y" * 100), codec=codec))
        s.ask("Fetch", fetch_body((topic, 0, 0)), label=codec)
        s.ask("Fetch", fetch_body((topic, 0, 1)), (4, 12), label=f"{codec} from inside the batch")


def session(s, topics, version, label):
    answer = s.ask("Fetch", fetch_body(*topics, session=(0, 0)), version, label=label)
    return answer["SessionId"]


@case
def fetch_session_from_open_to_close(s):
    topic = s.topic(partitions=3)
    for version in range(7, 19):
        s.produce(topic, batch(Record(b"first")), 0)
        here = s.quiet(
            "ListOffsets", {"Topics": [{"Name": topic.name, "Partitions": [{"PartitionIndex": 0, "Timestamp": -1}]}]}, 7
        )
        end = here["Topics"][0]["Partitions"][0]["Offset"]
        number = session(s, [(topic, 0, end), (topic, 1, 0), (topic, 2, 0)], version, "open")
        s.ask("Fetch", fetch_body(session=(number, 1)), version, label="nothing new")
        s.produce(topic, batch(Record(b"second")), 0)
        s.ask("Fetch", fetch_body(session=(number, 2)), version, label="one has news")
        s.ask("Fetch", fetch_body(session=(number, 3)), version, label="the same news again")
        s.ask("Fetch", fetch_body((topic, 0, end + 1), session=(number, 4)), version, label="moved on")
        s.ask("Fetch", fetch_body(session=(number, 5), forgotten=[(topic, 1, 2)]), version, label="two forgotten")
        s.ask("Fetch", fetch_body((topic, 1, 0), session=(number, 6)), version, label="one added again")
        s.ask("Fetch", fetch_body((topic, 9, 0), session=(number, 7)), version, label="one that is not there")
        s.ask("Fetch", fetch_body(session=(number, 8)), version, label="an error is told each time")
        s.ask("Fetch", fetch_body((topic, 0, 0), session=(number, -1)), version, label="close")
        s.ask("Fetch", fetch_body(session=(number, 10)), version, label="closed")


@case
def fetch_session_errors(s):
    topic = filled(s)
    for version in range(7, 19):
        s.ask("Fetch", fetch_body(session=(12345, 1)), version, label="unknown session")
        s.ask(
            "Fetch", fetch_body((topic, 0, 0), session=(12345, 0)), version, label="a full fetch in place of an unknown session"
        )
        number = session(s, [(topic, 0, 0)], version, "open")
        s.ask("Fetch", fetch_body(session=(number, 5)), version, label="epoch ahead")
        s.ask("Fetch", fetch_body(session=(number, 0x7FFFFFFF)), version, label="epoch far ahead")
        s.ask("Fetch", fetch_body(session=(number, 1)), version, label="right epoch")
        s.ask("Fetch", fetch_body(session=(number, 1)), version, label="the same epoch again")
        s.ask("Fetch", fetch_body((topic, 0, 2), session=(number, 0)), version, label="a new session in its place")
        s.ask("Fetch", fetch_body(session=(number, 2)), version, label="the old one is gone")
        s.ask("Fetch", fetch_body(session=(0, 5)), version, label="an epoch without a session")
        s.ask("Fetch", fetch_body((topic, 0, 0), session=(-7, -1)), version, label="negative session")
        s.ask("Fetch", fetch_body((topic, 0, 0), session=(0, -5)), version, label="negative epoch")


@case
def fetch_session_that_two_requests_share(s):
    topic = filled(s)
    for version in (7, 12, 17):
        number = session(s, [(topic, 0, 6)], version, "open")
        other = s.link()
        s.send("Fetch", fetch_body(session=(number, 1), wait=1000), version, link=other)
        s.pause(0.3)
        s.ask("Fetch", fetch_body(session=(number, 2)), version, label="overtakes")
        s.receive("overtaken", link=other)
        s.ask("Fetch", fetch_body(session=(number, 3)), version, label="goes on")


@case
def fetch_session_forgets(s):
    topic, other = filled(s, partitions=3), filled(s, suffix="other")
    for version in (7, 12, 13, 18):
        number = session(s, [(topic, 0, 0), (topic, 1, 0), (other, 0, 6)], version, "open")
        s.ask("Fetch", fetch_body(session=(number, 1), forgotten=[(topic, 2, 9, -1), (UNKNOWN, 0)]), version, label="strangers")
        added = fetch_body((topic, 2, 0), session=(number, 2), forgotten=[(topic, 2)])
        s.ask("Fetch", added, version, label="what it adds")
        moved = fetch_body((topic, 0, 2), session=(number, 3), forgotten=[(topic, 0, 0)])
        s.ask("Fetch", moved, version, label="what it moves")
        s.ask("Fetch", fetch_body(session=(number, 4)), version, label="the rest")
        others = fetch_body((topic, 2, 0), session=(number, 5), forgotten=[(topic, 1), (other, 0)])
        s.ask("Fetch", others, version, label="all others")
        s.ask("Fetch", fetch_body((topic, 0, 4), session=(number, 6)), version, label="added again, as a new one")
        s.ask("Fetch", fetch_body(session=(number, 7), forgotten=[(topic, 0, 1, 2)]), version, label="all")
        s.ask("Fetch", fetch_body((topic, 0, 4), session=(number, 8)), version, label="none is left")


@case
def fetch_session_of_partitions_named_twice(s):
    topic = filled(s, partitions=2)
    for version in (7, 12, 13, 18):
        number = session(s, [(topic, 0, 0), (topic, 1, 0), (topic, 0, 4)], version, "open")
        s.ask("Fetch", fetch_body(session=(number, 1)), version, label="what is remembered")
        s.ask("Fetch", fetch_body((topic, 0, 2), (topic, 0, 6), session=(number, 2)), version, label="moved twice")


@case
def fetch_session_of_topics_that_take_turns(s):
    topic, other = s.topic(partitions=2), s.topic("other")
    for version in (7, 12, 18):
        ends = [s.produce(topic, batch(), partition) + 1 for partition in range(2)]
        end = s.produce(other, batch()) + 1
        number = session(s, [(topic, 0, ends[0]), (other, 0, end), (topic, 1, ends[1])], version, "open")
        for partition in range(2):
            s.produce(topic, batch(), partition)
        s.ask("Fetch", fetch_body(session=(number, 1)), version, label="around a quiet one")
        s.produce(other, batch())
        s.ask("Fetch", fetch_body(session=(number, 2)), version, label="whoever had records comes last")
        s.ask("Fetch", fetch_body((topic, 0, ends[0] + 1), session=(number, 3)), version, label="moved in its place")


@case
def fetch_session_when_there_are_too_many(s):
    topic = filled(s)
    link = s.link()

    def quietly(wanted):
        link.send("Fetch", 12, fetch_body((topic, 0, 6), session=wanted))
        return link.receive()["SessionId"]

    opened = [number for _ in range(SLOTS + 8) if (number := quietly((0, 0)))]
    s.ask("Fetch", fetch_body((topic, 0, 0), session=(0, 0)), (7, 12, 18), label="no room, and an answer all the same")
    for number in opened:
        quietly((number, -1))
    number = session(s, [(topic, 0, 0)], 12, "room again")
    s.ask("Fetch", fetch_body((topic, 0, 0), session=(number, -1)), 12, label="close")


@case
def fetch_session_changes_between_names_and_ids(s):
    topic = filled(s)
    number = session(s, [(topic, 0, 0)], BY_NAME, "open by name")
    s.ask("Fetch", fetch_body(session=(number, 1)), BY_ID, label="go on by id")
    number = session(s, [(topic, 0, 0)], BY_ID, "open by id")
    s.ask("Fetch", fetch_body(session=(number, 1)), BY_NAME, label="go on by name")


@case
def fetch_session_without_partitions_is_none(s):
    for version in (7, 12, 13, 18):
        s.ask("Fetch", fetch_body(session=(0, 0)), version, label="empty")
    topic = filled(s)
    for version in (7, 12, 13, 18):
        number = session(s, [(topic, 0, 0)], version, "open")
        s.ask("Fetch", fetch_body(session=(number, 1), forgotten=[(topic, 0)]), version, label="everything forgotten")
        s.ask("Fetch", fetch_body(session=(number, 2)), version, label="it is gone")


@case
def fetch_session_turns_through_its_partitions(s):
    topic = s.topic(partitions=3)
    for partition in range(3):
        for _ in range(4):
            s.produce(topic, batch(Record(b"x" * 100)), partition)
    for version in (7, 12, 18):
        answer = s.ask(
            "Fetch", fetch_body(*((topic, p, 0) for p in range(3)), max_bytes=170, session=(0, 0)), version, label="open"
        )
        number = answer["SessionId"]
        for epoch in range(1, 6):
            s.ask("Fetch", fetch_body(max_bytes=170, session=(number, epoch)), version, label="one batch at a time")


@case
def fetch_session_of_an_unknown_id(s):
    topic = filled(s)
    for version in (13, 17):
        number = session(s, [(UNKNOWN, 0, 0), (topic, 0, 6)], version, "open with an unknown id")
        s.ask("Fetch", fetch_body(session=(number, 1)), version, label="still unknown")


@case
def fetch_session_outlives_its_topic(s):
    for version in (12, 17):
        topic = filled(s, suffix=f"t{version}")
        number = session(s, [(topic, 0, 6)], version, "open")
        s.quiet("DeleteTopics", {"Topics": [{"Name": topic.name}], "TimeoutMs": 30_000})
        s.gone(topic.name)
        s.ask("Fetch", fetch_body(session=(number, 1)), version, label="the topic is gone")
        again = filled(s, suffix=f"t{version}")
        s.ask("Fetch", fetch_body(session=(number, 2)), version, label="the name is another topic")
        s.ask("Fetch", fetch_body((again, 0, 0), session=(number, 3)), version, label="the new topic is asked for")


def offsets(topic, *timestamps, partition=0, **more):
    parts = [{"PartitionIndex": partition, "Timestamp": time, **more} for time in timestamps]
    return {"ReplicaId": -1, "Topics": [{"Name": topic.name, "Partitions": parts}], "TimeoutMs": 1000}


@case
def list_offsets_of_every_kind(s):
    topic = filled(s)
    empty = s.topic("empty")
    for time in (
        -1,
        -2,
        -3,
        -4,
        -5,
        -6,
        -7,
        -100,
        0,
        TIME - 1,
        TIME,
        TIME + 1,
        TIME + 2,
        TIME + 10,
        TIME + 21,
        TIME + 22,
        1 << 62,
    ):
        s.ask("ListOffsets", offsets(topic, time), label=f"timestamp {time}")
        s.ask("ListOffsets", offsets(empty, time), label=f"timestamp {time} of an empty log")
    for isolation in (0, 1, 2, -1):
        s.ask("ListOffsets", {**offsets(topic, -1), "IsolationLevel": isolation}, label=f"isolation {isolation}")


@case
def list_offsets_with_unordered_timestamps(s):
    topic = s.topic()
    for times in ((0, 500, 100), (50,), (900, 1), (900,)):
        s.produce(topic, batch(*(Record(b"x", time=offset) for offset in times), codec="lz4"))
    for time in (-3, TIME, TIME + 60, TIME + 100, TIME + 500, TIME + 501, TIME + 900, TIME + 901):
        s.ask("ListOffsets", offsets(topic, time), (1, 4, 7, 11), label=f"timestamp {time - TIME if time > 0 else time}")


@case
def list_offsets_with_leader_epochs(s):
    topic = filled(s)
    for epoch in (-1, 0, 1, 7, -3):
        s.ask("ListOffsets", offsets(topic, -1, CurrentLeaderEpoch=epoch), label=f"epoch {epoch}")


@case
def list_offsets_of_what_is_not_there(s):
    topic = filled(s)
    s.ask("ListOffsets", offsets(UNKNOWN, -1), label="unknown topic")
    s.ask("ListOffsets", offsets(topic, -1, partition=3), label="unknown partition")
    s.ask("ListOffsets", offsets(topic, -1, partition=-1), label="negative partition")
    s.ask("ListOffsets", offsets(Topic("bad name!", ""), -1), label="bad name")
    s.ask("ListOffsets", {"ReplicaId": -1, "Topics": []}, label="nothing")


@case
def list_offsets_of_one_partition_twice(s):
    topic = filled(s, partitions=2)
    s.ask("ListOffsets", offsets(topic, -1, -2), label="twice in one topic")
    body = offsets(topic, -1)
    body["Topics"].append(offsets(topic, -1)["Topics"][0])
    s.ask("ListOffsets", body, label="in two topics")
    body["Topics"][1]["Partitions"][0]["PartitionIndex"] = 1
    s.ask("ListOffsets", body, (1, 7, 11), label="two partitions in two topics of one name")
    s.ask("ListOffsets", {"ReplicaId": -1, "Topics": [{"Name": topic.name, "Partitions": []}]}, (1, 7, 11), label="no partition")


@case
def list_offsets_as_a_replica(s):
    topic = filled(s)
    for replica in (-2, -3, 0, 1, 2):
        s.ask("ListOffsets", {**offsets(topic, -1), "ReplicaId": replica}, (1, 4, 11), label=f"replica {replica}")


def epochs(topic, *wanted, replica=-2):
    parts = [
        {"Partition": partition, "CurrentLeaderEpoch": current, "LeaderEpoch": epoch} for partition, current, epoch in wanted
    ]
    return {"ReplicaId": replica, "Topics": [{"Topic": topic.name, "Partitions": parts}]}


@case
def offset_for_leader_epoch(s):
    topic = filled(s, partitions=2)
    for epoch in (0, 1, 5, -1, -5):
        s.ask("OffsetForLeaderEpoch", epochs(topic, (0, -1, epoch)), label=f"epoch {epoch}")
        s.ask("OffsetForLeaderEpoch", epochs(topic, (1, -1, epoch)), label=f"epoch {epoch} of an empty log")
    for current in (0, 1, -1, -2):
        s.ask("OffsetForLeaderEpoch", epochs(topic, (0, current, 0)), label=f"current epoch {current}")
    s.ask("OffsetForLeaderEpoch", epochs(topic, (7, -1, 0)), label="unknown partition")
    s.ask("OffsetForLeaderEpoch", epochs(UNKNOWN, (0, -1, 0)), label="unknown topic")
    s.ask("OffsetForLeaderEpoch", epochs(topic, (0, -1, 0), (1, -1, 0)), label="two")
    s.ask("OffsetForLeaderEpoch", epochs(topic, (0, -1, 0), (0, -1, 1)), label="one twice")
    s.ask("OffsetForLeaderEpoch", epochs(topic), label="no partition")
    s.ask("OffsetForLeaderEpoch", {"ReplicaId": -2, "Topics": []}, label="none")
    for replica in (-1, -2, 0, 1, 2):
        s.ask("OffsetForLeaderEpoch", epochs(topic, (0, -1, 0), replica=replica), (3, 4), label=f"replica {replica}")


def below(topic, offset, partition=0):
    return {
        "Topics": [{"Name": topic.name, "Partitions": [{"PartitionIndex": partition, "Offset": offset}]}],
        "TimeoutMs": 10_000,
    }


@case
def delete_records(s):
    for version in s.versions("DeleteRecords"):
        topic = filled(s, suffix=f"t{version}")
        for offset in (0, 1, 3, 2, -1):
            s.ask("DeleteRecords", below(topic, offset), version, label=f"below {offset}")
            s.ask("ListOffsets", offsets(topic, -2), 7, label="log start")
        s.ask("Fetch", fetch_body((topic, 0, 0)), 12, label="below the start")
        s.ask("Fetch", fetch_body((topic, 0, 6)), 12, label="at the end")
        s.produce(topic, batch(Record(b"after")))
        s.ask("ListOffsets", offsets(topic, 0), 7, label="by time")
        s.ask("OffsetForLeaderEpoch", epochs(topic, (0, -1, 0)), 4)


@case
def delete_records_errors(s):
    topic = filled(s)
    for offset in (7, 1 << 40, -2, -(1 << 40)):
        s.ask("DeleteRecords", below(topic, offset), label=f"below {offset}")
    s.ask("DeleteRecords", below(UNKNOWN, 0), label="unknown topic")
    s.ask("DeleteRecords", below(topic, 0, 5), label="unknown partition")
    s.ask("DeleteRecords", below(Topic("bad name!", ""), 0), label="bad name")
    s.ask("DeleteRecords", {"Topics": [], "TimeoutMs": 1000}, label="nothing")
    compacted = s.topic("compacted", cleanup_policy="compact")
    s.produce(compacted, batch(Record(b"v", b"k")))
    s.ask("DeleteRecords", below(compacted, 1), label="a compacted topic")
    both = s.topic("both", cleanup_policy="compact,delete")
    s.produce(both, batch(Record(b"v", b"k")))
    s.ask("DeleteRecords", below(both, 1), label="a topic that is compacted and deleted from")
    s.ask("DeleteRecords", below(Topic("__consumer_offsets", ""), 0), label="an internal topic")


@case
def delete_records_of_several_partitions(s):
    for version in s.versions("DeleteRecords"):
        topic = filled(s, suffix=f"t{version}", partitions=3)
        for partition in (1, 2):
            s.produce(topic, batch(), partition)
        body = below(topic, 2)
        parts = body["Topics"][0]["Partitions"]
        parts += [{"PartitionIndex": index, "Offset": offset} for index, offset in ((1, 1), (2, 5), (7, 0))]
        body["Topics"] += below(UNKNOWN, 0)["Topics"]
        s.ask("DeleteRecords", body, version, label="some of each")
        body = below(topic, 1)
        body["Topics"][0]["Partitions"].append({"PartitionIndex": 0, "Offset": 3})
        s.ask("DeleteRecords", body, version, label="one partition twice")
        body = below(topic, 9)
        body["Topics"][0]["Partitions"].append({"PartitionIndex": 0, "Offset": 4})
        s.ask("DeleteRecords", body, version, label="one partition twice, wrong at first")
        s.ask("DeleteRecords", {"Topics": [{"Name": topic.name, "Partitions": []}]}, version, label="no partition")
        s.ask("DeleteRecords", {**below(topic, 5), "TimeoutMs": 0}, version, label="without patience")
        for partition in range(3):
            s.ask("ListOffsets", offsets(topic, -2, partition=partition), 7, label="log start")
            s.ask("ListOffsets", offsets(topic, -4, partition=partition), 11, label="local log start")


@case
def delete_records_under_a_session(s):
    for version in (7, 12, 18):
        topic = filled(s, suffix=f"t{version}")
        number = session(s, [(topic, 0, 6)], version, "open")
        s.quiet("DeleteRecords", below(topic, 3))
        s.ask("Fetch", fetch_body(session=(number, 1)), version, label="the log start is news")
        s.ask("Fetch", fetch_body(session=(number, 2)), version, label="and old")
        s.ask("Fetch", fetch_body((topic, 0, 2), session=(number, 3)), version, label="below the start")
        s.ask("Fetch", fetch_body((topic, 0, 3), session=(number, 4)), version, label="inside a batch, at the start")
        s.quiet("DeleteRecords", below(topic, -1))
        s.ask("Fetch", fetch_body((topic, 0, 6), session=(number, 5)), version, label="nothing is left")
        s.ask("OffsetForLeaderEpoch", epochs(topic, (0, -1, 0)), 4, label="its epoch")
        s.ask("Produce", produce_body(topic, batch(Record(b"after"))), 8, label="after the deletion")
        s.ask("Produce", produce_body(topic, batch(base_offset=9)), 8, label="refused after the deletion")
        s.ask("Fetch", fetch_body(session=(number, 6)), version, label="and something again")


@case
def fetch_session_that_starts_over(s):
    topic = filled(s, partitions=2)
    for version in (7, 12, 13, 18):
        first = session(s, [(topic, 0, 6)], version, "open")
        another = fetch_body((topic, 1, 0), session=(first, 0))
        second = s.ask("Fetch", another, version, label="another in its place")["SessionId"]
        s.ask("Fetch", fetch_body(session=(first, 1)), version, label="the first is gone")
        s.ask("Fetch", fetch_body((topic, 0, 9), session=(second, 1)), version, label="out of range")
        s.ask("Fetch", fetch_body(session=(second, 2)), version, label="still out of range")
        s.ask("Fetch", fetch_body((topic, 0, 6), session=(second, 3)), version, label="back in range is news")
        s.ask("Fetch", fetch_body(session=(second, 4)), version, label="and then none")
        wrong = {"CurrentLeaderEpoch": 5}
        s.ask("Fetch", fetch_body((topic, 0, 6, wrong), session=(second, 5)), version, label="a wrong epoch")
        s.ask("Fetch", fetch_body(session=(second, 6), isolation=1), version, label="another isolation")
        s.ask("Fetch", fetch_body(session=(second, 7), max_bytes=-1), version, label="a negative limit")
        replica = fetch_body(session=(second, 8), ReplicaId=2, ReplicaState={"ReplicaId": 2})
        s.ask("Fetch", replica, version, label="a replica")
        s.ask("Fetch", fetch_body(session=(second, 9)), version, label="goes on")
        s.ask("Fetch", fetch_body((topic, 0, 0), session=(second, -1), forgotten=[(topic, 0)]), version, label="close")
        s.ask("Fetch", fetch_body(session=(second, 10)), version, label="closed")
        s.ask("Fetch", fetch_body((topic, 0, 0), session=(second, -1)), version, label="close what is closed")


@case
def fetch_session_with_a_grown_topic(s):
    topic = filled(s)
    for version, partitions in ((12, 2), (17, 3)):
        number = session(s, [(topic, 0, 6), (topic, partitions - 1, 0)], version, "open, one is not there yet")
        wanted = {"Topics": [{"Name": topic.name, "Count": partitions, "Assignments": None}], "TimeoutMs": 30_000}
        s.quiet("CreatePartitions", wanted)
        s.serving(topic.name, partitions)
        s.ask("Fetch", fetch_body(session=(number, 1)), version, label="now it is")
        s.ask("Fetch", fetch_body(session=(number, 2)), version, label="nothing new")


@case
def fetch_session_of_a_topic_with_a_history(s):
    topic = filled(s, partitions=2)
    for version in (7, 12, 18):
        number = session(s, [(topic, 0, 0), (topic, 1, 0), (UNKNOWN, 0, 0), (topic, 9, 0)], version, "open")
        s.produce(topic, batch(), 1)
        for epoch in range(1, 5):
            s.ask("Fetch", fetch_body(session=(number, epoch), max_bytes=1), version, label="one batch at a time, errors last")
        moved = fetch_body((topic, 0, 2), (topic, 9, 1), session=(number, 5), max_bytes=1)
        s.ask("Fetch", moved, version, label="moved")
        s.ask("Fetch", fetch_body(session=(number, 6), forgotten=[(UNKNOWN, 0), (topic, 9)]), version, label="errors forgotten")
