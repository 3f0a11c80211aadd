//! Pages that follow the code. `UPDATE_GOLDEN=1` rewrites what is generated.

use std::path::PathBuf;

use esker_server::config::dynamic::CHANGED_AT_ONCE;
use esker_server::config::keys::{EFFECTIVE_KEYS, OWN_KEYS, STORED_TOPIC_KEYS, default_of};
use esker_server::config::topic::TOPIC_KEYS;
use esker_server::dispatch::SERVED;
use esker_server::metrics::Metrics;

fn page(name: &str) -> PathBuf {
    // Cargo runs tests in the folder of their package; what was compiled elsewhere is not asked.
    PathBuf::from("../../docs").join(name)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test reads the project's pages"
)]
fn read(name: &str) -> String {
    std::fs::read_to_string(page(name)).unwrap_or_default()
}

fn config_page() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Generated from the key tables in `broker/server/src/config/`; a test keeps it in step\n\
         (`UPDATE_GOLDEN=1 cargo test -p esker-server --test documents` rewrites it).\n\n\
         `esker broker --config server.properties` reads Kafka's format and Kafka's names, `-o KEY=VALUE` sets a key on the\n\
         command line and wins. A key that Kafka 4.3.0 knows and that has no effect here is accepted with one warning; a key\n\
         that neither knows is an error that names the nearest.\n\n\
         ## Keys of Esker\n\n\
         | key | default | what it does |\n|---|---|---|\n",
    );
    let shown = |value: Option<&str>| match value {
        Some(value) if !value.is_empty() => format!("`{value}`"),
        _ => "none".to_owned(),
    };
    for key in OWN_KEYS {
        text += &format!(
            "| `{}` | {} | {} |\n",
            key.name,
            shown(key.default),
            key.text
        );
    }
    text.push_str(
        "\n## Keys of Kafka that take effect\n\n\
         | key | default | changes while a broker runs |\n|---|---|---|\n",
    );
    for key in EFFECTIVE_KEYS {
        let changes = if CHANGED_AT_ONCE.contains(key) {
            "yes"
        } else {
            "no"
        };
        text += &format!("| `{key}` | {} | {changes} |\n", shown(default_of(key)));
    }
    text.push_str(
        "\nBeside these, the brokers' defaults of the topic settings below, under the first of their broker names also while\n\
         brokers run, for one broker or for all. Other keys that Kafka lets change while a broker runs are checked, kept and\n\
         described.\n\n\
         ## Topic settings\n\n\
         Set when a topic is created, and changed while it lives. \"Stored\" means: validated, kept and described, without\n\
         effect so far.\n\n\
         | setting | default | broker keys | effect |\n|---|---|---|---|\n",
    );
    for key in TOPIC_KEYS {
        let broker: Vec<String> = key
            .synonyms
            .iter()
            .filter(|name| !name.is_empty())
            .map(|name| format!("`{name}`"))
            .collect();
        let broker = if broker.is_empty() {
            "none".to_owned()
        } else {
            broker.join(", ")
        };
        let effect = if STORED_TOPIC_KEYS.contains(&key.name) {
            "stored"
        } else {
            "yes"
        };
        text += &format!(
            "| `{}` | {} | {broker} | {effect} |\n",
            key.name,
            shown(key.default)
        );
    }
    text.push_str(
        "\nOther settings are refused with `INVALID_CONFIG`. Tiering is on wherever an object store is configured, unless\n\
         `remote.storage.enable=false` or the topic is compacted.\n",
    );
    text
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test reads its switch and writes a page"
)]
fn config_page_is_what_the_key_tables_say() {
    let expected = config_page();
    if std::env::var("UPDATE_GOLDEN").is_ok() {
        std::fs::write(page("config.md"), &expected).unwrap();
    }
    assert!(
        read("config.md") == expected,
        "docs/config.md is out of step with the key tables: UPDATE_GOLDEN=1 rewrites it"
    );
}

#[test]
fn every_metric_has_its_line_and_every_line_its_metric() {
    let registry = prometheus::Registry::new();
    Metrics::register(&registry).unwrap();
    let mut names: Vec<String> = registry
        .gather()
        .iter()
        .map(|family| family.name().to_owned())
        .collect();
    // A vector is not gathered before it has a label.
    names.push("esker_requests_total".to_owned());
    names.sort();
    assert!(names.len() > 10, "{names:?}");

    let page = read("metrics.md");
    let mut lines: Vec<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `esker_"))
        .filter_map(|rest| rest.split(['`', '{']).next())
        .map(|name| format!("esker_{name}"))
        .collect();
    lines.sort();
    assert_eq!(
        lines, names,
        "docs/metrics.md and metrics.rs name different metrics"
    );
}

#[test]
fn the_page_on_compatibility_has_the_served_apis_and_versions() {
    let page = read("compatibility.md");
    let served = page
        .split("## APIs served")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next());
    let lines: Vec<String> = served
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter(|line| !line.starts_with("API "))
        .map(|line| line.split(" | ").take(2).collect::<Vec<_>>().join(" "))
        .collect();
    let expected: Vec<String> = SERVED
        .iter()
        .map(|served| format!("{} {}-{}", served.api.name(), served.min, served.max))
        .collect();
    assert_eq!(lines, expected);
}
