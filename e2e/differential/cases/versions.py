"""ApiVersions, and requests in versions that nobody serves."""

from ..allowed import UNSERVED
from ..codec import api, broker_apis
from . import case


@case
def api_versions(s):
    s.ask("ApiVersions", {"ClientSoftwareName": "differential", "ClientSoftwareVersion": "1.0"})


@case
def api_versions_of_tomorrow(s):
    for version in (5, 6, 100, 32767):
        s.ask("ApiVersions", b"", version, label=f"version {version}")


@case
def api_versions_with_bad_names(s):
    for name, version in (
        ("", "1"),
        ("a", ""),
        ("-a", "1"),
        ("a-", "1"),
        ("a b", "1"),
        ("a", ".1"),
        ("a_b", "1"),
        ("a.b-c", "1-2"),
    ):
        s.ask(
            "ApiVersions", {"ClientSoftwareName": name, "ClientSoftwareVersion": version}, [3, 4], label=f"{name!r} {version!r}"
        )


@case
def versions_beyond_the_served_ones_close_the_connection(s):
    for name in broker_apis().values():
        if name not in UNSERVED:
            versions = api(name).versions
            for version in {max(versions[0] - 1, 0), versions[-1] + 1} - set(versions):
                s.ask(name, b"\0" * 64, version, label="a version that nobody serves")


@case
def removed_apis_close_the_connection(s):
    for name in ("LeaderAndIsr", "StopReplica", "UpdateMetadata", "ControlledShutdown"):
        s.ask(name, b"\0" * 64, 0, label="no version is left")
