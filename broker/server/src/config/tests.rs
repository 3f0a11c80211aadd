use super::*;

fn parse(pairs: &[(&str, &str)]) -> Result<(Config, Vec<String>), ConfigError> {
    Config::from_properties(
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
    )
}

#[test]
fn a_properties_file_of_kafka_starts_esker_with_warnings() {
    let (config, warnings) = parse(&[
        ("node.id", "7"),
        ("process.roles", "broker,controller"),
        ("listeners", "PLAINTEXT://:9092,INSIDE://[::1]:0"),
        (
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT",
        ),
        ("log.dirs", "/a, /b"),
        ("log.retention.hours", "24"),
    ])
    .unwrap();
    assert_eq!(config.node_id, BrokerId(7));
    assert_eq!(config.log_dirs, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(
        config.listeners[1].address,
        HostPort {
            host: "::1".to_owned(),
            port: 0
        }
    );
    assert_eq!(config.request_bytes_max, 104_857_600);
    assert_eq!(
        warnings,
        ["process.roles is a key of Kafka that has no effect in Esker"]
    );
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let error = parse(&[("log.retension.ms", "1")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown configuration key \"log.retension.ms\"; did you mean \"log.retention.ms\"?"
    );
    assert!(
        parse(&[("zzz", "1")])
            .unwrap_err()
            .to_string()
            .ends_with("\"zzz\"")
    );
}

#[test]
fn the_node_has_one_id_under_both_names() {
    for given in ["node.id", "broker.id"] {
        let (config, warnings) = parse(&[(given, "7")]).expect("an id is enough");
        assert_eq!((config.node_id.0, warnings), (7, Vec::new()));
        for name in ["node.id", "broker.id"] {
            assert_eq!(config.properties.get(name).map(String::as_str), Some("7"));
        }
    }
    assert!(parse(&[("node.id", "7"), ("broker.id", "7")]).is_ok());
    let error = parse(&[("node.id", "7"), ("broker.id", "8")]).unwrap_err();
    assert!(error.to_string().contains("broker.id"), "{error}");
}

#[test]
fn coordinators_linger_only_where_they_are_told_for_how_long() {
    let linger = [
        ("-1", None),
        ("0", None),
        ("5", Some(5)),
        ("2147483647", Some(1000)),
    ];
    for (given, linger) in linger {
        let key = "group.coordinator.append.linger.ms";
        let (config, warnings) = parse(&[("node.id", "1"), (key, given)]).unwrap();
        let expected = linger.map(Duration::from_millis);
        assert_eq!(
            (config.coordinator_append_linger, warnings),
            (expected, Vec::new())
        );
    }
    assert_eq!(parse(&[]).unwrap().0.coordinator_append_linger, None);
}

#[test]
fn values_that_cannot_be_used_are_refused() {
    for (key, value) in [
        ("node.id", "-1"),
        ("node.id", "one"),
        ("listeners", "PLAINTEXT"),
        ("listeners", "SSL://:9093"),
        ("listeners", ""),
        ("log.durability", "maybe"),
        ("object.store.url", "ftp://x"),
        ("metadata.store", "etcd://127.0.0.1:2379/esker"),
        ("cluster.id", "short"),
        ("log.segment.bytes", "5"),
        ("auto.create.topics.enable", "perhaps"),
        ("http.listener", "9644"),
        ("planted.bug", "cut-batch-of-another-build"),
        ("group.coordinator.append.linger.ms", "-2"),
    ] {
        assert!(parse(&[(key, value)]).is_err(), "{key}={value}");
    }
}

#[test]
fn every_effective_key_is_a_key_of_kafka() {
    for name in keys::EFFECTIVE_KEYS {
        assert!(
            kafka_keys::BROKER_KEYS.iter().any(|key| key.name == *name),
            "{name}"
        );
    }
    for key in topic::TOPIC_KEYS {
        for synonym in key.synonyms.iter().filter(|synonym| !synonym.is_empty()) {
            let known = kafka_keys::BROKER_KEYS
                .iter()
                .any(|known| known.name == *synonym);
            assert!(
                known || keys::OWN_KEYS.iter().any(|own| own.name == *synonym),
                "{synonym}"
            );
        }
    }
}

#[test]
fn the_tables_are_sorted_as_they_are_searched() {
    let kafkas = kafka_keys::BROKER_KEYS;
    assert!(kafkas.windows(2).all(|pair| pair[0].name < pair[1].name));
    let ours = keys::OWN_KEYS;
    assert!(ours.windows(2).all(|pair| pair[0].name < pair[1].name));
    assert_eq!(keys::default_of("log.segment.bytes"), Some("1073741824"));
    assert_eq!(keys::default_of("log.durability"), Some("durable"));
    assert_eq!(keys::default_of("no.such.key"), None);
}
