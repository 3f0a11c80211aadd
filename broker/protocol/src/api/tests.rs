use super::*;

#[test]
fn numbers_lead_to_their_apis_and_nothing_else_does() {
    for number in i16::MIN..=i16::MAX {
        match ApiKey::from_number(number) {
            Some(key) => assert_eq!(key.number(), number),
            None => assert!(ApiKey::ALL.iter().all(|key| key.number() != number)),
        }
    }
}

#[test]
fn versions_are_those_of_kafka_4_3_0() {
    let check = |key: ApiKey, number, versions: &str, first_flexible| {
        assert_eq!(key.number(), number, "{key}");
        assert_eq!(key.versions().to_string(), versions, "{key}");
        assert_eq!(key.first_flexible_version(), first_flexible, "{key}");
    };
    check(ApiKey::Produce, 0, "3-13", Some(9));
    check(ApiKey::Fetch, 1, "4-18", Some(12));
    check(ApiKey::ListOffsets, 2, "1-11", Some(6));
    check(ApiKey::Metadata, 3, "0-13", Some(9));
    check(ApiKey::OffsetFetch, 9, "1-10", Some(6));
    check(ApiKey::SaslHandshake, 17, "0-1", None);
    check(ApiKey::ApiVersions, 18, "0-4", Some(3));
    check(ApiKey::InitProducerId, 22, "0-6", Some(2));
    check(ApiKey::OffsetDelete, 47, "0", None);
    check(ApiKey::DescribeCluster, 60, "0-2", Some(0));
    check(ApiKey::DeleteShareGroupOffsets, 92, "0", Some(0));
}

#[test]
fn only_init_producer_id_has_a_version_in_flux() {
    for key in ApiKey::ALL {
        assert_eq!(
            key.latest_version_unstable(),
            key == ApiKey::InitProducerId,
            "{key}"
        );
    }
    assert_eq!(
        ApiKey::InitProducerId.stable_versions(),
        VersionRange::new(0, 5)
    );
    assert_eq!(ApiKey::Fetch.stable_versions(), VersionRange::new(4, 18));
}

#[test]
fn what_only_controllers_serve_is_not_there() {
    // LeaderAndIsr, StopReplica, UpdateMetadata and ControlledShutdown have no version left; Vote,
    // AlterPartition, Envelope and BrokerRegistration are between Kafka's own processes.
    for number in [4, 5, 6, 7, 52, 56, 58, 62, 93] {
        assert_eq!(ApiKey::from_number(number), None);
    }
}

#[test]
fn headers_follow_flexibility_except_that_of_the_api_versions_response() {
    let check = |key: ApiKey, version, request, response| {
        let versions = (
            key.request_header_version(version),
            key.response_header_version(version),
        );
        assert_eq!(versions, (request, response), "{key} {version}");
    };
    check(ApiKey::Produce, 8, 1, 0);
    check(ApiKey::Produce, 9, 2, 1);
    check(ApiKey::SaslHandshake, 1, 1, 0);
    check(ApiKey::ApiVersions, 2, 1, 0);
    check(ApiKey::ApiVersions, 4, 2, 0);
}
