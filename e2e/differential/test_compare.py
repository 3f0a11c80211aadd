"""The comparison itself: it must see every kind of difference, and nothing in what two brokers cannot share."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from . import allowed
from .allowed import Allowed, unexplained
from .batches import Record, batch
from .codec import ZERO_UUID, Uuid
from .compare import ABSENT, differences, lines
from .coverage import Coverage
from .normal import normalise
from .script import CLOSED, SILENT, Exchange, Transcript

ONE, TWO, THREE = (Uuid(letter * 22) for letter in "BCD")
MEMBER_ONE, MEMBER_TWO = "c-5f0c1f2e-0000-4000-8000-00000000000a", "c-5f0c1f2e-0000-4000-8000-00000000000b"


def server(port=1, folder="/tmp/x"):
    return SimpleNamespace(
        port=port, data_dir=Path(folder), secrets=lambda: ((f"127.0.0.1:{port}", "<address>"), (folder, "<log dir>"))
    )


def transcript(*answers, api="Metadata", version=12, failure=None, topics=None):
    return Transcript("case", [Exchange("", api, version, answer) for answer in answers], failure, topics or {})


def found(left, right, api="Metadata", left_server=None, right_server=None, **more):
    """(path, kafka, esker) of every difference between two answers, or lists of answers."""
    pair = [answers if isinstance(answers, list) else [answers] for answers in (left, right)]
    kafka = normalise(transcript(*pair[0], api=api, **more), left_server or server())
    esker = normalise(transcript(*pair[1], api=api, **more), right_server or server(2, "/tmp/y"))
    return [(item.path, item.kafka, item.esker) for item in differences(kafka, esker)]


@pytest.mark.parametrize(
    "left, right, path",
    [
        ({"ErrorCode": 0}, {"ErrorCode": 3}, "ErrorCode"),
        ({"Topics": [{"Name": "a", "ErrorCode": 0}]}, {"Topics": [{"Name": "a", "ErrorCode": 5}]}, "Topics.[a].ErrorCode"),
        ({"A": {"B": [1, 2]}}, {"A": {"B": [1, 3]}}, "A.B.[1]"),
        ({"A": [1]}, {"A": [1, 2]}, "A.[1]"),
        ({"A": [1]}, {"A": None}, "A"),
        ({"A": 1}, {}, "A"),
        ({}, {"A": 1}, "A"),
        ({"A": ""}, {"A": None}, "A"),
        ({"A": b"x"}, {"A": b"y"}, "A"),
        ({"A": True}, {"A": False}, "A"),
        ({"ErrorMessage": "text"}, {"ErrorMessage": None}, "ErrorMessage"),
        ({"ErrorMessage": ""}, {"ErrorMessage": None}, "ErrorMessage"),
        ({"Port": 1}, {"Port": 1}, "Port"),
        ({"Id": ZERO_UUID}, {"Id": ONE}, "Id"),
        ({"Time": -1}, {"Time": int(time.time() * 1000)}, "Time"),
        (CLOSED, {"ErrorCode": 0}, ""),
        (SILENT, CLOSED, ""),
    ],
)
def test_a_difference_is_seen(left, right, path):
    assert [where for where, _, _ in found(left, right)] == [path]


def test_both_values_are_told():
    assert found({"A": 1}, {"B": 2}) == [("A", 1, ABSENT), ("B", ABSENT, 2)]


def test_what_brokers_cannot_share_is_no_difference():
    now = int(time.time() * 1000)
    left = {"ClusterId": "A" * 22, "Port": 1, "Where": "127.0.0.1:1 in /tmp/x", "Time": now, "Id": ONE, "ErrorMessage": "words"}
    right = {
        "ClusterId": "B" * 22,
        "Port": 2,
        "Where": "127.0.0.1:2 in /tmp/y",
        "Time": now + 900,
        "Id": TWO,
        "ErrorMessage": "other words",
    }
    assert found(left, right) == []


def test_a_time_of_a_record_is_compared():
    assert found({"Time": 1_700_000_000_000}, {"Time": 1_700_000_000_001}) != []


def test_ids_are_compared_by_what_they_stand_for():
    assert found([{"Id": ONE}, {"Id": ONE}], [{"Id": TWO}, {"Id": TWO}]) == []
    assert found([{"Id": ONE}, {"Id": ONE}], [{"Id": TWO}, {"Id": THREE}]) != []
    assert found([{"M": MEMBER_ONE}, {"M": MEMBER_TWO}], [{"M": MEMBER_TWO}, {"M": MEMBER_ONE}]) == []
    assert found([{"M": MEMBER_ONE}, {"M": MEMBER_TWO}], [{"M": MEMBER_ONE}, {"M": MEMBER_ONE}]) != []
    assert found({"M": MEMBER_ONE}, {"M": "d" + MEMBER_ONE[1:]}) != []


def test_the_order_of_a_list_counts_unless_it_is_chance():
    assert found({"Topics": [{"Name": "a"}, {"Name": "b"}]}, {"Topics": [{"Name": "b"}, {"Name": "a"}]}) == []
    assert found({"Topics": [{"Name": "a"}, {"Name": "b"}]}, {"Topics": [{"Name": "b"}]}) != []
    assert found({"Topics": [{"Name": "a"}] * 2}, {"Topics": [{"Name": "a"}]}) != []
    assert found({"Brokers": [{"NodeId": 1}, {"NodeId": 2}]}, {"Brokers": [{"NodeId": 2}, {"NodeId": 1}]}) != []


def fetched(data):
    return {"Responses": [{"Partitions": [{"Records": data}]}]}


def test_records_are_compared_inside():
    same = batch(Record(b"a"), Record(b"b"))
    assert found(fetched(same), fetched(same), api="Fetch") == []
    other = batch(Record(b"a"), Record(b"c"))
    assert found(fetched(same), fetched(other), api="Fetch") == [
        ("Responses.[0].Partitions.[0].Records.[batches].[0].Records.[1].Value", "0x62", "0x63")
    ]
    assert found(fetched(same), fetched(same + same), api="Fetch") != []
    assert found(fetched(same), fetched(same + same[:20]), api="Fetch") != []
    assert found(fetched(same), fetched(batch(Record(b"a"), Record(b"b"), crc=1)), api="Fetch") != []


def test_a_script_that_ends_early_is_a_difference():
    kafka, esker = transcript({"A": 1}, {"A": 1}), transcript({"A": 1}, failure="TypeError")
    (item,) = differences(kafka, esker)
    assert (item.path, item.step, item.kafka, item.esker) == ("end", 1, "2 answers", "TypeError")


def test_alike_differences_of_several_versions_or_items_are_one_line():
    one, other = ([{"Name": name, "ErrorCode": code} for name in "abc"] for code in (0, 3))
    kafka, esker = (normalise(transcript({"Topics": topics}), server()) for topics in (one, other))
    (line,) = lines(differences(kafka, esker))
    assert line == "case step 0: Metadata v12 Topics.[a].ErrorCode and 2 like it: kafka 0, esker 3"
    kafka, esker = transcript(), transcript()
    for version in (1, 2):
        kafka.exchanges.append(Exchange("x", "Fetch", version, {"A": 1}))
        esker.exchanges.append(Exchange("x", "Fetch", version, {"A": 2}))
    assert list(lines(differences(kafka, esker))) == ["case step 0 (x): Fetch v1,2 A: kafka 1, esker 2"]


def test_an_allowed_difference_is_allowed_where_it_says_and_nowhere_else(monkeypatch):
    entry = Allowed("Metadata:Topics.ErrorCode", "a reason", cases=("other", "ca*"), holds=lambda kafka, esker: esker == 5)
    by_default = Allowed("Metadata:A", "another")
    monkeypatch.setattr(allowed, "ALLOWED", (entry,))
    monkeypatch.setattr(allowed, "ALLOWED_BY_DEFAULT", (by_default,))
    kafka = normalise(transcript({"Topics": [{"Name": "a.b", "ErrorCode": 0}, {"Name": "c", "ErrorCode": 0}], "A": 1}), server())
    esker = normalise(transcript({"Topics": [{"Name": "a.b", "ErrorCode": 5}, {"Name": "c", "ErrorCode": 6}], "A": 2}), server())
    left, used = unexplained(differences(kafka, esker))
    assert [item.path for item in left] == ["Topics.[c].ErrorCode", "A"] and used == {entry}
    left, used = unexplained(differences(kafka, esker), "default")
    assert [item.path for item in left] == ["Topics.[c].ErrorCode"] and used == {entry, by_default}


def test_coverage_counts_versions_and_codes_of_any_depth():
    coverage = Coverage()
    coverage.add(transcript({"ErrorCode": 0, "Topics": [{"ErrorCode": 3}, {"ErrorCode": 5}]}, CLOSED, version=12))
    coverage.add(transcript({"ErrorCode": 35}, api="ApiVersions", version=99))
    assert sorted(coverage.pairs()) == [("ApiVersions", 35), ("Metadata", 3), ("Metadata", 5)]
    assert coverage.json() == {
        "versions": {"Metadata": {"12": ["case"]}},
        "errors": {
            "Metadata": {"NONE(0)": ["case"], "UNKNOWN_TOPIC_OR_PARTITION(3)": ["case"], "LEADER_NOT_AVAILABLE(5)": ["case"]}
        },
    }
    assert 11 in coverage.missing()["Metadata"] and 12 not in coverage.missing()["Metadata"]
