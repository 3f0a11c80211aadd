use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

fn resource(arguments: &str) -> Result<ConfigResource, String> {
    let words = arguments.split_whitespace();
    let line = Line::try_parse_from(["config", "describe"].into_iter().chain(words));
    match line.map_err(|error| error.to_string())?.command {
        Command::Describe(options) => Ok(options.of.resource()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn exactly_one_resource_is_named() {
    assert_eq!(
        resource("--topic t"),
        Ok(ConfigResource::Topic("t".to_owned()))
    );
    assert_eq!(
        resource("--broker 1"),
        Ok(ConfigResource::Broker(BrokerId(1)))
    );
    assert_eq!(
        resource("--group g"),
        Ok(ConfigResource::Group("g".to_owned()))
    );
    assert_eq!(
        resource("--cluster-default"),
        Ok(ConfigResource::ClusterDefault)
    );
    for bad in ["", "--topic t --group g", "--broker x", "--broker -1"] {
        assert!(resource(bad).is_err(), "{bad}");
    }
}

fn entry(name: &str, source: ConfigSource) -> ConfigEntry {
    ConfigEntry {
        name: name.to_owned(),
        value: Some("5".to_owned()),
        source,
        is_read_only: false,
        is_sensitive: false,
        kind: "long",
        synonyms: vec![(name.to_owned(), Some("5".to_owned()), source)],
    }
}

#[test]
fn settings_show_where_they_come_from_and_secrets_nothing() {
    let secret = ConfigEntry {
        value: None,
        is_sensitive: true,
        is_read_only: true,
        kind: "password",
        ..entry("ssl.key.password", ConfigSource::BrokerFile)
    };
    let entries = [entry("retention.ms", ConfigSource::Topic), secret];
    let topic = ConfigResource::Topic("t".to_owned());
    assert_eq!(
        described(&topic, &entries, false),
        "topic t\n\
         KEY               VALUE     TYPE      SOURCE                READ ONLY\n\
         retention.ms      5         long      DYNAMIC_TOPIC_CONFIG\n\
         ssl.key.password  (hidden)  password  STATIC_BROKER_CONFIG  yes"
    );
    assert_eq!(
        described(&ConfigResource::ClusterDefault, &[], false),
        "all brokers: nothing differs from the defaults (--all shows them)"
    );
    let json = described_json(&topic, &entries);
    assert_eq!(json["resource"], "topic");
    assert_eq!(
        json["settings"][0]["synonyms"][0]["source"],
        "DYNAMIC_TOPIC_CONFIG"
    );
    assert_eq!(json["settings"][1]["value"], Value::Null);
}

#[test]
fn a_key_that_is_given_twice_is_noticed() {
    let set = |key: &str| ConfigChange::Set(key.to_owned(), "1".to_owned());
    assert_eq!(repeated(&[set("a"), set("b")]), None);
    let changes = [set("a"), set("b"), ConfigChange::Delete("a".to_owned())];
    assert_eq!(repeated(&changes), Some("a"));
}

#[test]
fn changes_are_said_as_done_or_as_possible() {
    let set = ConfigChange::Set("a".to_owned(), "1".to_owned());
    let broker = ConfigResource::Broker(BrokerId(1));
    assert_eq!(altered(&broker, &set, false), "broker 1: a is set to 1");
    let delete = ConfigChange::Delete("a".to_owned());
    assert_eq!(
        altered(&broker, &delete, true),
        "broker 1: a can be taken back"
    );
}
