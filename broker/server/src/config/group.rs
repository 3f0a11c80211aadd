//! Settings of groups: the table of those that exist, and their checks.
//!
//! A group's setting has a broker key as its default, and two more as its bounds.

use std::collections::BTreeMap;

use super::Kind;
use super::keys::default_of;

/// A group's setting.
#[derive(Debug, Clone, Copy)]
pub struct GroupKey {
    /// The setting's name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// Kafka's default, where no broker key has it.
    pub default: &'static str,
    /// The least number.
    pub least: i64,
    /// The broker key that sets its default.
    pub synonym: Option<&'static str>,
    /// The broker keys that bound it from below and above.
    pub bounds: (Option<&'static str>, Option<&'static str>),
    /// Whether the bounds count only where the group itself has the setting.
    pub bounded_only_if_set: bool,
    /// What it does.
    pub text: &'static str,
}

const fn number(
    name: &'static str,
    default: &'static str,
    least: i64,
    synonym: &'static str,
    bounds: (Option<&'static str>, Option<&'static str>),
    text: &'static str,
) -> GroupKey {
    GroupKey {
        name,
        kind: Kind::Int,
        default,
        least,
        synonym: Some(synonym),
        bounds,
        bounded_only_if_set: false,
        text,
    }
}

const fn interval(
    name: &'static str,
    synonym: &'static str,
    bounds: (Option<&'static str>, Option<&'static str>),
) -> GroupKey {
    GroupKey {
        bounded_only_if_set: true,
        ..number(
            name,
            "1000",
            0,
            synonym,
            bounds,
            "The least time between two assignments of the group.",
        )
    }
}

const fn other(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    text: &'static str,
) -> GroupKey {
    GroupKey {
        name,
        kind,
        default,
        least: 0,
        synonym: None,
        bounds: (None, None),
        bounded_only_if_set: false,
        text,
    }
}

/// Every setting of groups of Kafka 4.3.0, sorted by name.
#[rustfmt::skip]
pub const GROUP_KEYS: &[GroupKey] = &[
    interval("consumer.assignment.interval.ms", "group.consumer.assignment.interval.ms", (Some("group.consumer.min.assignment.interval.ms"), Some("group.consumer.max.assignment.interval.ms"))),
    number("consumer.heartbeat.interval.ms", "5000", 1, "group.consumer.heartbeat.interval.ms", (Some("group.consumer.min.heartbeat.interval.ms"), Some("group.consumer.max.heartbeat.interval.ms")), "How often members of a consumer group send a heartbeat."),
    number("consumer.session.timeout.ms", "45000", 1, "group.consumer.session.timeout.ms", (Some("group.consumer.min.session.timeout.ms"), Some("group.consumer.max.session.timeout.ms")), "After so long without a heartbeat a consumer group gives up a member."),
    interval("share.assignment.interval.ms", "group.share.assignment.interval.ms", (Some("group.share.min.assignment.interval.ms"), Some("group.share.max.assignment.interval.ms"))),
    other("share.auto.offset.reset", Kind::String, "latest", "Where a share group begins a partition: earliest, latest, or by_duration:<ISO 8601 duration>."),
    number("share.delivery.count.limit", "5", 2, "group.share.delivery.count.limit", (Some("group.share.min.delivery.count.limit"), Some("group.share.max.delivery.count.limit")), "How often a share group delivers a record at most."),
    number("share.heartbeat.interval.ms", "5000", 1, "group.share.heartbeat.interval.ms", (Some("group.share.min.heartbeat.interval.ms"), Some("group.share.max.heartbeat.interval.ms")), "How often members of a share group send a heartbeat."),
    other("share.isolation.level", Kind::String, "read_uncommitted", "Whether a share group delivers records of open and aborted transactions."),
    number("share.partition.max.record.locks", "2000", 100, "group.share.partition.max.record.locks", (Some("group.share.min.partition.max.record.locks"), Some("group.share.max.partition.max.record.locks")), "How many records of a partition a share group may have in flight."),
    number("share.record.lock.duration.ms", "30000", 1000, "group.share.record.lock.duration.ms", (Some("group.share.min.record.lock.duration.ms"), Some("group.share.max.record.lock.duration.ms")), "How long a member of a share group holds a record."),
    other("share.renew.acknowledge.enable", Kind::Boolean, "true", "Whether members of a share group may hold a record for longer."),
    number("share.session.timeout.ms", "45000", 1, "group.share.session.timeout.ms", (Some("group.share.min.session.timeout.ms"), Some("group.share.max.session.timeout.ms")), "After so long without a heartbeat a share group gives up a member."),
    interval("streams.assignment.interval.ms", "group.streams.assignment.interval.ms", (Some("group.streams.min.assignment.interval.ms"), Some("group.streams.max.assignment.interval.ms"))),
    number("streams.heartbeat.interval.ms", "5000", 1, "group.streams.heartbeat.interval.ms", (Some("group.streams.min.heartbeat.interval.ms"), Some("group.streams.max.heartbeat.interval.ms")), "How often members of a streams group send a heartbeat."),
    number("streams.initial.rebalance.delay.ms", "3000", 0, "group.streams.initial.rebalance.delay.ms", (None, None), "How long the first assignment of a streams group waits for more members."),
    number("streams.num.standby.replicas", "0", 0, "group.streams.num.standby.replicas", (None, Some("group.streams.max.standby.replicas")), "How many standby copies each task of a streams group has."),
    number("streams.session.timeout.ms", "45000", 1, "group.streams.session.timeout.ms", (Some("group.streams.min.session.timeout.ms"), Some("group.streams.max.session.timeout.ms")), "After so long without a heartbeat a streams group gives up a member."),
];

/// Settings of which the first must be greater than the second.
const SESSIONS: [(&str, &str); 3] = [
    (
        "consumer.session.timeout.ms",
        "consumer.heartbeat.interval.ms",
    ),
    ("share.session.timeout.ms", "share.heartbeat.interval.ms"),
    (
        "streams.session.timeout.ms",
        "streams.heartbeat.interval.ms",
    ),
];

/// The setting of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static GroupKey> {
    GROUP_KEYS.iter().find(|key| key.name == name)
}

/// The value of a group's setting: its own, or the broker's, or Kafka's.
#[must_use]
pub fn effective(
    key: &GroupKey,
    overrides: &BTreeMap<String, String>,
    broker: &BTreeMap<String, String>,
) -> String {
    let own = overrides.get(key.name).map(String::as_str);
    let of_broker = || {
        let synonym = key.synonym?;
        let given = broker.get(synonym).map(String::as_str);
        given.or_else(|| default_of(synonym))
    };
    own.or_else(of_broker).unwrap_or(key.default).to_owned()
}

/// Checks the settings of one group together.
///
/// # Errors
/// In words for the client, to go with `INVALID_CONFIG`.
pub fn check(
    overrides: &BTreeMap<String, String>,
    broker: &BTreeMap<String, String>,
) -> Result<(), String> {
    for (name, value) in overrides {
        let key = find(name).ok_or_else(|| format!("Unknown group config name: {name}"))?;
        check_value(key, value)?;
    }
    let number = |name: &str| {
        let key = find(name)?;
        let value = effective(key, overrides, broker);
        value.trim().parse::<i64>().ok()
    };
    let bound = |name: &str| {
        let given = broker.get(name).map(String::as_str);
        let text = given.or_else(|| default_of(name))?;
        text.trim().parse::<i64>().ok()
    };
    for key in GROUP_KEYS {
        if key.bounded_only_if_set && !overrides.contains_key(key.name) {
            continue;
        }
        let (below, above) = key.bounds;
        let Some(value) = number(key.name) else {
            continue;
        };
        if let Some(least) = below
            && bound(least).is_some_and(|bound| value < bound)
        {
            return Err(format!(
                "{} must be greater than or equal to {least}",
                key.name
            ));
        }
        if let Some(most) = above
            && bound(most).is_some_and(|bound| value > bound)
        {
            return Err(format!("{} must be less than or equal to {most}", key.name));
        }
    }
    for (session, heartbeat) in SESSIONS {
        if number(session) <= number(heartbeat) {
            return Err(format!("{session} must be greater than {heartbeat}"));
        }
    }
    Ok(())
}

fn check_value(key: &GroupKey, value: &str) -> Result<(), String> {
    let name = key.name;
    let invalid =
        |problem: &str| format!("Invalid value {value} for configuration {name}: {problem}");
    key.kind.check(value).map_err(invalid)?;
    match key.kind {
        Kind::Int if value.trim().parse().unwrap_or(i64::MIN) < key.least => {
            Err(invalid(&format!("Value must be at least {}", key.least)))
        }
        Kind::String if name == "share.isolation.level" => match value {
            "read_committed" | "read_uncommitted" => Ok(()),
            _ => Err(invalid(
                "String must be one of: read_committed, read_uncommitted",
            )),
        },
        Kind::String if !is_offset_reset(value) => Err(invalid(
            "Invalid value for auto.offset.reset. The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS.>'.",
        )),
        _ => Ok(()),
    }
}

/// Whether the text says where a share group begins.
fn is_offset_reset(value: &str) -> bool {
    let duration = value.strip_prefix("by_duration:");
    ["earliest", "latest"].contains(&value) || duration.is_some_and(is_duration)
}

/// Whether the text is a duration of ISO 8601 that is not negative, as Java reads it.
fn is_duration(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    let Some(rest) = upper.strip_prefix('P') else {
        return false;
    };
    let (days, time) = match rest.split_once('T') {
        Some((days, time)) => (days, Some(time)),
        None => (rest, None),
    };
    let whole = |number: &str| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let days_fit = days.is_empty() || days.strip_suffix('D').is_some_and(whole);
    let Some(time) = time else {
        return days_fit && !days.is_empty();
    };
    let mut rest = time;
    for unit in ['H', 'M'] {
        if let Some((number, after)) = rest.split_once(unit) {
            if !whole(number) {
                return false;
            }
            rest = after;
        }
    }
    let seconds_fit = rest.is_empty()
        || rest.strip_suffix('S').is_some_and(|seconds| {
            let (number, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
            whole(number) && whole(fraction)
        });
    days_fit && seconds_fit && !time.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn the_table_is_sorted_and_names_keys_of_brokers() {
        assert!(
            GROUP_KEYS
                .windows(2)
                .all(|pair| pair[0].name < pair[1].name)
        );
        for key in GROUP_KEYS {
            let (below, above) = key.bounds;
            for broker in [key.synonym, below, above].into_iter().flatten() {
                assert!(default_of(broker).is_some(), "{broker}");
            }
            assert_eq!(check_value(key, key.default), Ok(()), "{}", key.name);
            assert_eq!(
                effective(key, &BTreeMap::new(), &BTreeMap::new()),
                key.default,
                "{}",
                key.name
            );
        }
        assert_eq!(check(&map(&[]), &map(&[])), Ok(()));
    }

    #[test]
    fn a_groups_settings_stay_within_the_brokers_bounds() {
        let none = map(&[]);
        for (pairs, expected) in [
            (
                &[("no.such", "1")][..],
                "Unknown group config name: no.such",
            ),
            (
                &[("consumer.session.timeout.ms", "1000")],
                "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
            ),
            (
                &[("consumer.session.timeout.ms", "70000")],
                "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms",
            ),
            (
                &[("consumer.session.timeout.ms", "x")],
                "Invalid value x for configuration consumer.session.timeout.ms: Not a number of type INT",
            ),
            (
                &[("share.delivery.count.limit", "1")],
                "Invalid value 1 for configuration share.delivery.count.limit: Value must be at least 2",
            ),
            (
                &[("streams.num.standby.replicas", "3")],
                "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas",
            ),
        ] {
            assert_eq!(check(&map(pairs), &none), Err(expected.to_owned()));
        }
        let wide = map(&[("group.consumer.min.session.timeout.ms", "1000")]);
        let short = map(&[
            ("consumer.session.timeout.ms", "5000"),
            ("consumer.heartbeat.interval.ms", "5000"),
        ]);
        assert_eq!(
            check(&short, &wide),
            Err(
                "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms"
                    .to_owned()
            )
        );
        let fine = map(&[
            ("consumer.session.timeout.ms", "50000"),
            ("share.auto.offset.reset", "by_duration:PT1H"),
        ]);
        assert_eq!(check(&fine, &none), Ok(()));
    }

    #[test]
    fn durations_are_java_durations() {
        for good in ["PT1H", "P1D", "P1DT2H3M4.5S", "PT0S", "pt5m"] {
            assert!(is_duration(good), "{good}");
        }
        for bad in ["", "P", "PT", "1H", "PT-1H", "-PT1H", "PT1X", "PTH", "P1DT"] {
            assert!(!is_duration(bad), "{bad}");
        }
    }
}
