"""Requests of every API whose bodies are not what they should be."""

from ..allowed import UNSERVED
from ..codec import api, broker_apis
from . import case

SERVED = [name for name in broker_apis().values() if name not in UNSERVED]
# A body that is harmless in every version; whatever is not here is empty.
BODIES = {
    "Produce": {"Acks": 1},
    "Metadata": {"Topics": [{"Name": "no such topic"}]},
    "DescribeTopicPartitions": {"Topics": [{"Name": "no such topic"}]},
    "ApiVersions": {"ClientSoftwareName": "differential", "ClientSoftwareVersion": "1"},
    "DescribeLogDirs": {"Topics": []},
    "ListGroups": {"StatesFilter": ["no-such-state"]},
    "ListConfigResources": {"ResourceTypes": [8]},
}
# Answers that hold what other cases left behind.
MINE = {"ListGroups": "Groups.GroupId", "ListConfigResources": "ConfigResources.ResourceName"}


def first_and_last(name):
    versions = api(name).versions
    return dict.fromkeys((versions[0], api(name).request.flexible.low, versions[-1]))


def bodies(name):
    for version in first_and_last(name):
        if version in api(name).versions:
            yield version, api(name).request.encode(version, BODIES.get(name, {}))


@case
def requests_that_are_cut_close_the_connection(s):
    for name in SERVED:
        for version, body in bodies(name):
            for size in dict.fromkeys((0, len(body) // 2, len(body) - 1)):
                if 0 <= size < len(body):
                    s.ask(name, body[:size], version, label=f"{size} of {len(body)} bytes", mine=MINE.get(name))


@case
def requests_with_bytes_after_their_end(s):
    for name in SERVED:
        for version, body in bodies(name):
            s.ask(name, body + b"\0\0\0", version, label="three bytes more", mine=MINE.get(name))


@case
def requests_of_nothing_but_ones_close_the_connection(s):
    for name in SERVED:
        for version, body in bodies(name):
            # All ones ask DescribeLogDirs for everything, which is different everywhere.
            if body and name != "DescribeLogDirs":
                s.ask(name, b"\xff" * (len(body) + 20), version, label="all ones", mine=MINE.get(name))


@case
def requests_with_huge_lengths_close_the_connection(s):
    for name in SERVED:
        for version, body in bodies(name):
            if len(body) > 8:
                s.ask(name, b"\x7f" * (len(body) + 20), version, label="lengths beyond the end", mine=MINE.get(name))


@case
def requests_with_unknown_tags_are_answered(s):
    for name in SERVED:
        if name not in ("ListGroups", "ListConfigResources"):
            body = {**BODIES.get(name, {}), "?tag 99": b"unknown"}
            flexible = [version for version in api(name).versions if version in api(name).request.flexible]
            s.ask(name, body, flexible, label="a tag nobody knows")
