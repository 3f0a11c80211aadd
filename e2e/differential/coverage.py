"""What a run reached: which versions of which APIs, and which error codes of each."""

from collections import defaultdict

from .codec import api, broker_apis

NAMES = {
    -1: "UNKNOWN_SERVER_ERROR", 0: "NONE", 1: "OFFSET_OUT_OF_RANGE", 2: "CORRUPT_MESSAGE", 3: "UNKNOWN_TOPIC_OR_PARTITION",
    5: "LEADER_NOT_AVAILABLE", 6: "NOT_LEADER_OR_FOLLOWER", 7: "REQUEST_TIMED_OUT", 10: "MESSAGE_TOO_LARGE",
    12: "OFFSET_METADATA_TOO_LARGE", 14: "COORDINATOR_LOAD_IN_PROGRESS", 15: "COORDINATOR_NOT_AVAILABLE", 16: "NOT_COORDINATOR",
    17: "INVALID_TOPIC_EXCEPTION", 18: "RECORD_LIST_TOO_LARGE", 19: "NOT_ENOUGH_REPLICAS", 21: "INVALID_REQUIRED_ACKS",
    22: "ILLEGAL_GENERATION", 23: "INCONSISTENT_GROUP_PROTOCOL", 24: "INVALID_GROUP_ID", 25: "UNKNOWN_MEMBER_ID",
    26: "INVALID_SESSION_TIMEOUT", 27: "REBALANCE_IN_PROGRESS", 28: "INVALID_COMMIT_OFFSET_SIZE", 29: "TOPIC_AUTHORIZATION_FAILED",
    31: "CLUSTER_AUTHORIZATION_FAILED", 32: "INVALID_TIMESTAMP", 35: "UNSUPPORTED_VERSION", 36: "TOPIC_ALREADY_EXISTS",
    37: "INVALID_PARTITIONS", 38: "INVALID_REPLICATION_FACTOR", 39: "INVALID_REPLICA_ASSIGNMENT", 40: "INVALID_CONFIG",
    41: "NOT_CONTROLLER", 42: "INVALID_REQUEST", 43: "UNSUPPORTED_FOR_MESSAGE_FORMAT", 44: "POLICY_VIOLATION",
    45: "OUT_OF_ORDER_SEQUENCE_NUMBER", 46: "DUPLICATE_SEQUENCE_NUMBER", 47: "INVALID_PRODUCER_EPOCH", 48: "INVALID_TXN_STATE",
    49: "INVALID_PRODUCER_ID_MAPPING", 50: "INVALID_TRANSACTION_TIMEOUT", 51: "CONCURRENT_TRANSACTIONS",
    53: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", 56: "KAFKA_STORAGE_ERROR", 57: "LOG_DIR_NOT_FOUND", 59: "UNKNOWN_PRODUCER_ID",
    60: "REASSIGNMENT_IN_PROGRESS", 68: "NON_EMPTY_GROUP", 69: "GROUP_ID_NOT_FOUND", 70: "FETCH_SESSION_ID_NOT_FOUND",
    71: "INVALID_FETCH_SESSION_EPOCH", 72: "LISTENER_NOT_FOUND", 73: "TOPIC_DELETION_DISABLED", 74: "FENCED_LEADER_EPOCH",
    75: "UNKNOWN_LEADER_EPOCH", 76: "UNSUPPORTED_COMPRESSION_TYPE", 77: "STALE_BROKER_EPOCH", 78: "OFFSET_NOT_AVAILABLE",
    79: "MEMBER_ID_REQUIRED", 80: "PREFERRED_LEADER_NOT_AVAILABLE", 81: "GROUP_MAX_SIZE_REACHED", 82: "FENCED_INSTANCE_ID",
    83: "ELIGIBLE_LEADERS_NOT_AVAILABLE", 84: "ELECTION_NOT_NEEDED", 85: "NO_REASSIGNMENT_IN_PROGRESS",
    86: "GROUP_SUBSCRIBED_TO_TOPIC", 87: "INVALID_RECORD", 88: "UNSTABLE_OFFSET_COMMIT", 89: "THROTTLING_QUOTA_EXCEEDED",
    90: "PRODUCER_FENCED", 91: "RESOURCE_NOT_FOUND", 92: "DUPLICATE_RESOURCE", 95: "INVALID_UPDATE_VERSION",
    96: "FEATURE_UPDATE_FAILED", 100: "UNKNOWN_TOPIC_ID", 101: "DUPLICATE_BROKER_REGISTRATION", 102: "BROKER_ID_NOT_REGISTERED",
    103: "INCONSISTENT_TOPIC_ID", 104: "INCONSISTENT_CLUSTER_ID", 105: "TRANSACTIONAL_ID_NOT_FOUND",
    106: "FETCH_SESSION_TOPIC_ID_ERROR", 107: "INELIGIBLE_REPLICA", 109: "OFFSET_MOVED_TO_TIERED_STORAGE",
    110: "FENCED_MEMBER_EPOCH", 111: "UNRELEASED_INSTANCE_ID", 112: "UNSUPPORTED_ASSIGNOR", 113: "STALE_MEMBER_EPOCH",
    114: "MISMATCHED_ENDPOINT_TYPE", 115: "UNSUPPORTED_ENDPOINT_TYPE", 116: "UNKNOWN_CONTROLLER_ID", 120: "TRANSACTION_ABORTABLE",
    128: "INVALID_REGULAR_EXPRESSION", 129: "REBOOTSTRAP_REQUIRED",
}  # fmt: skip


def codes(answer):
    """Every error code in an answer, at any depth."""
    if isinstance(answer, dict):
        for key, value in answer.items():
            if key.endswith("ErrorCode") and isinstance(value, int):
                yield value
            else:
                yield from codes(value)
    elif isinstance(answer, list):
        for value in answer:
            yield from codes(value)


class Coverage:
    """Cases by (API, version) and by (API, error code)."""

    def __init__(self):
        self.versions = defaultdict(dict)
        self.errors = defaultdict(dict)

    def add(self, transcript):
        for exchange in transcript.exchanges:
            if not isinstance(exchange.answer, dict):
                continue
            if exchange.version in api(exchange.api).versions:
                self.versions[exchange.api].setdefault(exchange.version, {})[transcript.case] = True
            for code in codes(exchange.answer):
                self.errors[exchange.api].setdefault(code, {})[transcript.case] = True

    def pairs(self):
        """(API, error code) pairs, success left out."""
        return [(name, code) for name, found in self.errors.items() for code in found if code != 0]

    def missing(self):
        """Versions of the APIs asked at all that no case reached."""
        return {
            name: left
            for name in broker_apis().values()
            if name in self.versions
            and (left := [version for version in api(name).versions if version not in self.versions[name]])
        }

    def json(self):
        order = [name for name in broker_apis().values() if name in self.versions]
        return {
            "versions": {name: {str(v): sorted(self.versions[name][v]) for v in sorted(self.versions[name])} for name in order},
            "errors": {
                name: {f"{NAMES.get(code, 'UNNAMED')}({code})": sorted(found[code]) for code in sorted(found)}
                for name in order
                if (found := self.errors[name])
            },
        }

    def lines(self):
        pairs = self.pairs()
        versions = sum(map(len, self.versions.values()))
        yield f"{versions} (API, version) pairs of {len(self.versions)} APIs, {len(pairs)} (API, error code) pairs"
        for name in (name for name in broker_apis().values() if name in self.versions):
            reached = sorted(code for code in self.errors[name] if code)
            yield f"  {name}: {', '.join(f'{NAMES.get(code, code)}({code})' for code in reached) or 'no error'}"
        for name, left in self.missing().items():
            yield f"  not reached: {name} versions {left}"
