//! Settings of subscriptions to clients' metrics. They are kept and described; nobody collects.

use std::collections::BTreeMap;

use esker_protocol::ErrorCode;

use super::Kind;

/// Name, type, default and meaning of each setting, sorted.
pub const CLIENT_METRICS_KEYS: [(&str, Kind, &str, &str); 3] = [
    (
        "interval.ms",
        Kind::Int,
        "300000",
        "How often clients push their metrics.",
    ),
    (
        "match",
        Kind::List,
        "",
        "Which clients push: name=pattern, by id, software or address.",
    ),
    (
        "metrics",
        Kind::List,
        "",
        "Prefixes of the metrics that clients push; * for all.",
    ),
];

const MATCHED: [&str; 6] = [
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Checks the settings of one subscription.
///
/// # Errors
/// Kafka's code, and words for the client.
pub fn check(configs: &BTreeMap<String, String>) -> Result<(), (ErrorCode, String)> {
    for (name, value) in configs {
        let Some((_, kind, ..)) = CLIENT_METRICS_KEYS.iter().find(|(of, ..)| of == name) else {
            let message = format!("Unknown client metrics configuration: {name}");
            return Err((ErrorCode::InvalidRequest, message));
        };
        kind.check(value).map_err(|problem| {
            let message = format!("Invalid value {value} for configuration {name}: {problem}");
            (ErrorCode::InvalidConfig, message)
        })?;
    }
    if let Some(interval) = configs.get("interval.ms") {
        let is_near = interval
            .trim()
            .parse::<i64>()
            .is_ok_and(|ms| (100..=3_600_000).contains(&ms));
        if !is_near {
            let message = format!(
                "Invalid value {interval} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
            );
            return Err((ErrorCode::InvalidRequest, message));
        }
    }
    let patterns = configs.get("match").map(String::as_str).unwrap_or_default();
    for pattern in patterns.split(',').map(str::trim) {
        let is_pattern = pattern.is_empty()
            || pattern.split_once('=').is_some_and(|(name, value)| {
                MATCHED.contains(&name.trim()) && !value.is_empty() && !value.contains('=')
            });
        if !is_pattern {
            let message = format!("Illegal client matching pattern: {pattern}");
            return Err((ErrorCode::InvalidConfig, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_checked_as_kafka_checks_them() {
        for (name, value, code) in [
            ("metrics", "org.apache.kafka.producer.", None),
            ("interval.ms", "100", None),
            ("interval.ms", "99", Some(ErrorCode::InvalidRequest)),
            ("interval.ms", "x", Some(ErrorCode::InvalidConfig)),
            ("match", "client_id=app.*,client_source_port=1", None),
            ("match", "client=app", Some(ErrorCode::InvalidConfig)),
            ("match", "client_id", Some(ErrorCode::InvalidConfig)),
            ("no.such", "1", Some(ErrorCode::InvalidRequest)),
        ] {
            let configs = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let found = check(&configs).err().map(|(code, _)| code);
            assert_eq!(found, code, "{name}={value}");
        }
    }
}
