//! Settings that change while a broker runs: through the socket, with Kafka's codes and words.

mod common;

use std::borrow::Cow;

use common::{Stores, Wire, api_range, batch, create, produce};
use esker_protocol::ErrorCode;
use esker_protocol::api::ApiKey;
use esker_protocol::messages::describe_configs_request::DescribeConfigsResource;
use esker_protocol::messages::*;

const NOW: i64 = 1_700_000_000_000;
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Operation<'a> = (&'a str, i8, Option<&'a str>);

fn incremental<'a>(
    kind: i8,
    name: &'a str,
    operations: &[Operation<'a>],
) -> incremental_alter_configs_request::AlterConfigsResource<'a> {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    AlterConfigsResource {
        resource_type: kind,
        resource_name: Cow::Borrowed(name),
        configs: operations
            .iter()
            .map(|(name, operation, value)| AlterableConfig {
                name: Cow::Borrowed(*name),
                config_operation: *operation,
                value: value.map(Cow::Borrowed),
            })
            .collect(),
    }
}

async fn send(
    wire: &mut Wire,
    resources: Vec<incremental_alter_configs_request::AlterConfigsResource<'_>>,
    validate_only: bool,
) -> Vec<(i16, String)> {
    send_as(wire, 1, resources, validate_only).await
}

async fn send_as(
    wire: &mut Wire,
    version: i16,
    resources: Vec<incremental_alter_configs_request::AlterConfigsResource<'_>>,
    validate_only: bool,
) -> Vec<(i16, String)> {
    let request = IncrementalAlterConfigsRequest {
        resources,
        validate_only,
    };
    wire.call(
        version,
        &request,
        |r: IncrementalAlterConfigsResponse<'_>| {
            let responses = r.responses.iter();
            responses
                .map(|one| {
                    let message = one.error_message.as_deref().unwrap_or_default();
                    (one.error_code, message.to_owned())
                })
                .collect()
        },
    )
    .await
}

async fn alter(
    wire: &mut Wire,
    kind: i8,
    name: &str,
    operations: &[Operation<'_>],
) -> (i16, String) {
    let resource = incremental(kind, name, operations);
    let mut responses = send(wire, vec![resource], false).await;
    responses.pop().expect("one answer for one resource")
}

async fn set(wire: &mut Wire, kind: i8, name: &str, key: &str, value: &str) {
    let done = alter(wire, kind, name, &[(key, SET, Some(value))]).await;
    assert_eq!(done, (0, String::new()), "{key}={value}");
}

/// Value, source, and synonyms as `source:name=value`, of one setting.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    value: Option<String>,
    source: i8,
    read_only: bool,
    synonyms: Vec<String>,
}

async fn describe(wire: &mut Wire, kind: i8, name: &str, key: &str) -> Option<Shown> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: Cow::Borrowed(name),
            configuration_keys: Some(vec![Cow::Borrowed(key)]),
        }],
        include_synonyms: true,
        include_documentation: true,
    };
    wire.call(4, &request, |r: DescribeConfigsResponse<'_>| {
        assert_eq!(r.results[0].error_code, 0);
        let config = r.results[0].configs.first()?;
        assert!(config.documentation.is_some(), "{key}");
        let synonyms = config.synonyms.iter();
        Some(Shown {
            value: config.value.as_deref().map(str::to_owned),
            source: config.config_source,
            read_only: config.read_only,
            synonyms: synonyms
                .map(|s| {
                    format!(
                        "{}:{}={}",
                        s.source,
                        s.name,
                        s.value.as_deref().unwrap_or("")
                    )
                })
                .collect(),
        })
    })
    .await
}

fn shown(value: &str, source: i8, synonyms: &[&str]) -> Option<Shown> {
    Some(Shown {
        value: Some(value.to_owned()),
        source,
        read_only: false,
        synonyms: synonyms.iter().map(|s| (*s).to_owned()).collect(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topics_settings_change_and_are_in_force_when_that_is_answered() {
    let stores = Stores::new();
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 2, &[]).await;
    let large = batch(&[&[7; 2000]], NOW);
    assert_eq!(produce(&mut wire, "topic", large.clone(), -1).await.0, 0);
    set(&mut wire, TOPIC, "topic", "max.message.bytes", "1000").await;
    let too_large = ErrorCode::MessageTooLarge.code();
    assert_eq!(
        produce(&mut wire, "topic", large.clone(), -1).await.0,
        too_large
    );
    assert_eq!(
        describe(&mut wire, TOPIC, "topic", "max.message.bytes").await,
        shown(
            "1000",
            1,
            &["1:max.message.bytes=1000", "5:message.max.bytes=1048588"]
        )
    );
    broker.stop().await;

    // It is the store's, not the process's.
    let broker = common::start(&stores, &[]).await;
    let mut wire = Wire::connect(&broker).await;
    assert_eq!(
        produce(&mut wire, "topic", large.clone(), -1).await.0,
        too_large
    );
    let done = alter(
        &mut wire,
        TOPIC,
        "topic",
        &[("max.message.bytes", DELETE, None)],
    )
    .await;
    assert_eq!(done.0, 0);
    assert_eq!(produce(&mut wire, "topic", large, -1).await.0, 0);
    assert_eq!(
        describe(&mut wire, TOPIC, "topic", "retention.ms").await,
        shown("-1", 1, &["1:retention.ms=-1"])
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_settings_are_the_defaults_of_topics_layer_by_layer() {
    let broker = common::start(&Stores::new(), &[("message.max.bytes", "500000")]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    let large = batch(&[&[7; 2000]], NOW);
    let too_large = ErrorCode::MessageTooLarge.code();

    set(&mut wire, BROKER, "", "message.max.bytes", "1000").await;
    assert_eq!(
        produce(&mut wire, "topic", large.clone(), -1).await.0,
        too_large
    );
    set(&mut wire, BROKER, "1", "message.max.bytes", "3000").await;
    assert_eq!(produce(&mut wire, "topic", large.clone(), -1).await.0, 0);
    let layers = [
        "2:message.max.bytes=3000",
        "3:message.max.bytes=1000",
        "4:message.max.bytes=500000",
        "5:message.max.bytes=1048588",
    ];
    assert_eq!(
        describe(&mut wire, BROKER, "1", "message.max.bytes").await,
        shown("3000", 2, &layers)
    );
    assert_eq!(
        describe(&mut wire, TOPIC, "topic", "max.message.bytes").await,
        shown("3000", 2, &layers)
    );
    assert_eq!(
        describe(&mut wire, BROKER, "", "message.max.bytes").await,
        shown("1000", 3, &layers[1..2])
    );
    let removed = [("message.max.bytes", DELETE, None)];
    assert_eq!(alter(&mut wire, BROKER, "1", &removed).await.0, 0);
    assert_eq!(produce(&mut wire, "topic", large, -1).await.0, too_large);
    let own = describe(&mut wire, BROKER, "1", "node.id").await;
    assert!(own.is_some_and(|shown| shown.read_only));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded_by_what_max_connections_is_now() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    set(&mut wire, BROKER, "1", "max.connections", "1").await;
    let mut refused = Wire::connect(&broker).await;
    assert_eq!(refused.receive().await, None);
    set(&mut wire, BROKER, "1", "max.connections", "5").await;
    let mut admitted = Wire::connect(&broker).await;
    set(&mut admitted, BROKER, "1", "max.connections", "6").await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_refused_as_kafka_refuses_them() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    let bad_request = ErrorCode::InvalidRequest;
    let invalid = ErrorCode::InvalidConfig;
    for (kind, name, operation, code, message) in [
        (
            TOPIC,
            "topic",
            ("no.such", SET, Some("1")),
            invalid,
            "Unknown topic config name: no.such",
        ),
        (
            TOPIC,
            "topic",
            ("retention.ms", SET, Some("soon")),
            invalid,
            "Invalid value soon for configuration retention.ms: Not a number of type LONG",
        ),
        (
            TOPIC,
            "topic",
            ("retention.ms", APPEND, Some("1")),
            invalid,
            "Can't APPEND to key retention.ms because its type is not LIST.",
        ),
        (
            TOPIC,
            "topic",
            ("retention.ms", SET, None),
            bad_request,
            "Null value not supported for : retention.ms",
        ),
        (
            TOPIC,
            "missing",
            ("retention.ms", SET, Some("1")),
            ErrorCode::UnknownTopicOrPartition,
            "The topic 'missing' does not exist.",
        ),
        (
            TOPIC,
            "",
            ("retention.ms", SET, Some("1")),
            bad_request,
            "Default topic resources are not allowed.",
        ),
        (
            BROKER,
            "1",
            ("node.id", SET, Some("2")),
            bad_request,
            "Cannot update these configs dynamically: [node.id]",
        ),
        (
            BROKER,
            "2",
            ("log.retention.ms", SET, Some("2")),
            bad_request,
            "Unexpected broker id, expected 1, but received 2",
        ),
        (
            BROKER,
            "one",
            ("log.retention.ms", SET, Some("2")),
            bad_request,
            "Node id must be an integer, but it is: one",
        ),
        (
            BROKER,
            "1",
            ("min.insync.replicas", SET, Some("2")),
            invalid,
            "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
        ),
        (
            BROKER,
            "1",
            ("min.insync.replicas", DELETE, None),
            invalid,
            "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
        ),
        (
            BROKER,
            "",
            ("min.insync.replicas", DELETE, None),
            invalid,
            "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
        ),
        (
            GROUP,
            "g",
            ("no.such", SET, Some("1")),
            invalid,
            "Unknown group config name: no.such",
        ),
        (
            GROUP,
            "",
            ("consumer.session.timeout.ms", SET, Some("45000")),
            bad_request,
            "Default group resources are not allowed.",
        ),
        (
            CLIENT_METRICS,
            "c",
            ("no.such", SET, Some("1")),
            bad_request,
            "Unknown client metrics configuration: no.such",
        ),
        (
            BROKER_LOGGER,
            "1",
            ("kafka.server", SET, Some("INFO")),
            invalid,
            "Logger kafka.server does not exist!",
        ),
        (
            64,
            "x",
            ("a", SET, Some("b")),
            bad_request,
            "Unknown resource type 64",
        ),
    ] {
        let refused = alter(&mut wire, kind, name, &[operation]).await;
        assert_eq!(refused, (code.code(), message.to_owned()), "{operation:?}");
    }
    let twice = [
        ("retention.ms", SET, Some("1")),
        ("retention.ms", SET, Some("1")),
    ];
    assert_eq!(
        alter(&mut wire, TOPIC, "topic", &twice).await,
        (
            bad_request.code(),
            "Error due to duplicate config keys".to_owned()
        )
    );
    // One resource named twice spoils both, and no other.
    let fine = [("retention.ms", SET, Some("7"))];
    let resources = vec![
        incremental(TOPIC, "topic", &fine),
        incremental(
            GROUP,
            "g",
            &[("consumer.session.timeout.ms", SET, Some("50000"))],
        ),
        incremental(TOPIC, "topic", &fine),
    ];
    let codes: Vec<i16> = send(&mut wire, resources, false)
        .await
        .iter()
        .map(|(code, _)| *code)
        .collect();
    assert_eq!(codes, [bad_request.code(), 0, bad_request.code()]);
    let unchanged = describe(&mut wire, TOPIC, "topic", "retention.ms").await;
    assert_eq!(
        unchanged.and_then(|shown| shown.value).as_deref(),
        Some("-1")
    );
    // What is only to be checked is checked and not done.
    let fits = send(&mut wire, vec![incremental(TOPIC, "topic", &fine)], true).await;
    assert_eq!(fits[0].0, 0);
    let unchanged = describe(&mut wire, TOPIC, "topic", "retention.ms").await;
    assert_eq!(
        unchanged.and_then(|shown| shown.value).as_deref(),
        Some("-1")
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_join_and_leave_a_topics_list() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    for (operation, words, expected) in [
        (APPEND, "compact", "delete,compact"),
        (APPEND, "compact", "delete,compact"),
        (SUBTRACT, "delete", "compact"),
    ] {
        let operations = [("cleanup.policy", operation, Some(words))];
        for version in api_range(ApiKey::IncrementalAlterConfigs) {
            let resource = incremental(TOPIC, "topic", &operations);
            let answered = send_as(&mut wire, version, vec![resource], false).await;
            assert_eq!(answered, [(0, String::new())], "version {version}");
        }
        let policy = describe(&mut wire, TOPIC, "topic", "cleanup.policy").await;
        assert_eq!(
            policy.and_then(|shown| shown.value).as_deref(),
            Some(expected)
        );
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alter_configs_forgets_what_it_does_not_name() {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[("segment.bytes", "2097152")]).await;
    for version in 0..=2 {
        let value = (3_000_000 + i32::from(version)).to_string();
        let request = AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: Cow::Borrowed("topic"),
                configs: vec![AlterableConfig {
                    name: Cow::Borrowed("segment.ms"),
                    value: Some(Cow::Borrowed(&value)),
                }],
            }],
            validate_only: false,
        };
        let code = wire
            .call(version, &request, |r: AlterConfigsResponse<'_>| {
                r.responses[0].error_code
            })
            .await;
        assert_eq!(code, 0);
        let segment_ms = describe(&mut wire, TOPIC, "topic", "segment.ms").await;
        assert_eq!(segment_ms.and_then(|shown| shown.value), Some(value));
    }
    assert_eq!(
        describe(&mut wire, TOPIC, "topic", "segment.bytes").await,
        shown("1073741824", 5, &["5:log.segment.bytes=1073741824"])
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_and_subscriptions_have_settings_and_are_listed_with_them() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    assert_eq!(
        describe(&mut wire, GROUP, "g", "consumer.session.timeout.ms").await,
        shown("45000", 5, &["5:group.consumer.session.timeout.ms=45000"])
    );
    set(
        &mut wire,
        GROUP,
        "g",
        "consumer.session.timeout.ms",
        "50000",
    )
    .await;
    assert_eq!(
        describe(&mut wire, GROUP, "g", "consumer.session.timeout.ms").await,
        shown(
            "50000",
            8,
            &[
                "8:consumer.session.timeout.ms=50000",
                "5:group.consumer.session.timeout.ms=45000"
            ]
        )
    );
    let overrides = broker.shared().group_overrides("g");
    assert_eq!(overrides["consumer.session.timeout.ms"], "50000");
    assert!(broker.shared().group_overrides("h").is_empty());
    set(&mut wire, CLIENT_METRICS, "c", "interval.ms", "1000").await;
    assert_eq!(
        describe(&mut wire, CLIENT_METRICS, "c", "interval.ms").await,
        shown("1000", 7, &["7:interval.ms=1000"])
    );

    let list = async |wire: &mut Wire, version: i16, kinds: &[i8]| {
        let request = ListConfigResourcesRequest {
            resource_types: kinds.to_vec(),
        };
        wire.call(version, &request, |r: ListConfigResourcesResponse<'_>| {
            let listed = r.config_resources.iter();
            let listed = listed.map(|one| (one.resource_type, one.resource_name.to_string()));
            (r.error_code, listed.collect::<Vec<_>>())
        })
        .await
    };
    let named = |kind: i8, name: &str| (kind, name.to_owned());
    assert_eq!(
        list(&mut wire, 1, &[]).await,
        (
            0,
            vec![
                named(GROUP, "g"),
                named(CLIENT_METRICS, "c"),
                named(BROKER_LOGGER, "1"),
                named(BROKER, "1"),
                named(TOPIC, "topic"),
            ]
        )
    );
    assert_eq!(
        list(&mut wire, 0, &[]).await,
        (0, vec![named(CLIENT_METRICS, "c")])
    );
    assert_eq!(
        list(&mut wire, 1, &[GROUP]).await,
        (0, vec![named(GROUP, "g")])
    );
    let unsupported = ErrorCode::UnsupportedVersion.code();
    assert_eq!(list(&mut wire, 1, &[1]).await, (unsupported, Vec::new()));

    let removed = [("consumer.session.timeout.ms", DELETE, None)];
    assert_eq!(alter(&mut wire, GROUP, "g", &removed).await.0, 0);
    assert_eq!(list(&mut wire, 1, &[GROUP]).await, (0, Vec::new()));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_resource_of_no_known_type_spoils_a_description() {
    let broker = common::start(&Stores::new(), &[]).await;
    let mut wire = Wire::connect(&broker).await;
    create(&mut wire, "topic", 1, &[]).await;
    let resource = |resource_type, name| DescribeConfigsResource {
        resource_type,
        resource_name: Cow::Borrowed(name),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource(TOPIC, "topic"), resource(3, "x")],
        ..Default::default()
    };
    let bad_request = ErrorCode::InvalidRequest.code();
    wire.call(4, &request, |r: DescribeConfigsResponse<'_>| {
        let codes: Vec<i16> = r.results.iter().map(|one| one.error_code).collect();
        assert_eq!(codes, [bad_request, bad_request]);
    })
    .await;
    let request = DescribeConfigsRequest {
        resources: vec![resource(BROKER_LOGGER, "1"), resource(BROKER_LOGGER, "2")],
        ..Default::default()
    };
    wire.call(4, &request, |r: DescribeConfigsResponse<'_>| {
        assert_eq!(r.results[0].error_code, 0);
        assert_eq!(r.results[0].configs[0].name, "root");
        assert_eq!(
            r.results[1].error_message.as_deref(),
            Some("Unexpected broker id, expected 1 but received 2")
        );
    })
    .await;
    broker.stop().await;
}
