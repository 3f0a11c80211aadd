//! Changes of settings, as AlterConfigs and IncrementalAlterConfigs ask for them.

use std::collections::BTreeMap;

use super::{Kind, dynamic, topic};

/// The longest value of a setting.
pub const VALUE_BYTES_MAX: usize = 32_767;

/// The bytes that all settings of one resource have at most: they are one value of the store.
pub const CONFIGS_BYTES_MAX: usize = 512 << 10;

/// What happens to one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// It gets this value.
    Set(String),
    /// It gets its default again.
    Delete,
    /// These words are added to its list.
    Append(String),
    /// These words are taken from its list.
    Subtract(String),
}

/// A change of a resource's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The resource has these settings and no others.
    Replace(BTreeMap<String, String>),
    /// Each of these settings changes.
    Each(Vec<(String, Operation)>),
}

impl Change {
    /// Whether the change speaks of the setting `name`.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        match self {
            Change::Replace(configs) => configs.contains_key(name),
            Change::Each(operations) => operations.iter().any(|(of, _)| of == name),
        }
    }
}

/// Whose settings change, as far as a change must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// A topic's.
    Topic,
    /// One broker's, or all brokers'.
    Broker,
    /// A group's or a subscription's: no lists that could be added to.
    Other,
}

impl Of {
    /// The default of a setting that is a list; `None` where it is none.
    fn list_default(self, name: &str) -> Option<&'static str> {
        match self {
            Of::Topic => topic::find(name)
                .filter(|key| key.kind == Kind::List)
                .map(|key| key.default.unwrap_or_default()),
            Of::Broker => (dynamic::kind_of(name) == Some(Kind::List))
                .then(|| super::keys::default_of(name).unwrap_or_default()),
            Of::Other => None,
        }
    }
}

/// The settings after the change.
///
/// # Errors
/// In words for the client, to go with `INVALID_CONFIG`.
pub fn apply(
    of: Of,
    current: &BTreeMap<String, String>,
    change: &Change,
) -> Result<BTreeMap<String, String>, String> {
    let next = match change {
        Change::Replace(configs) => configs.clone(),
        Change::Each(operations) => {
            let mut next = current.clone();
            for (name, operation) in operations {
                apply_one(of, &mut next, name, operation)?;
            }
            next
        }
    };
    let is_long = |(name, value): (&String, &String)| {
        current.get(name) != Some(value) && value.len() > VALUE_BYTES_MAX
    };
    if next.iter().any(is_long) {
        return Err(format!(
            "The configuration value cannot be added because it exceeds the maximum value size of {VALUE_BYTES_MAX} bytes."
        ));
    }
    let bytes: usize = next
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > CONFIGS_BYTES_MAX {
        return Err(format!(
            "The configuration cannot be stored because it exceeds the maximum size of {CONFIGS_BYTES_MAX} bytes."
        ));
    }
    Ok(next)
}

fn apply_one(
    of: Of,
    configs: &mut BTreeMap<String, String>,
    name: &str,
    operation: &Operation,
) -> Result<(), String> {
    let (words, verb) = match operation {
        Operation::Set(value) => {
            configs.insert(name.to_owned(), value.clone());
            return Ok(());
        }
        Operation::Delete => {
            configs.remove(name);
            return Ok(());
        }
        Operation::Append(words) => (words, "append"),
        Operation::Subtract(words) => (words, "subtract"),
    };
    let Some(default) = of.list_default(name) else {
        return Err(match of {
            Of::Broker if dynamic::kind_of(name).is_none() => {
                format!("Unknown config name: {name}")
            }
            Of::Broker => format!("Config value {verb} is not allowed for config key: {name}"),
            Of::Topic | Of::Other => format!(
                "Can't {} to key {name} because its type is not LIST.",
                verb.to_ascii_uppercase()
            ),
        });
    };
    let current = configs.get(name).map_or(default, String::as_str);
    let mut list: Vec<&str> = current.split(',').filter(|word| !word.is_empty()).collect();
    for word in words.split(',') {
        let found = list.iter().position(|had| *had == word);
        match (operation, found) {
            (Operation::Append(_), None) => list.push(word),
            (Operation::Subtract(_), Some(index)) => {
                list.remove(index);
            }
            _ => {}
        }
    }
    let joined = list.join(",");
    configs.insert(name.to_owned(), joined);
    Ok(())
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

    fn each(name: &str, operation: Operation) -> Change {
        Change::Each(vec![(name.to_owned(), operation)])
    }

    #[test]
    fn a_replacement_forgets_what_it_does_not_name() {
        let current = map(&[("retention.ms", "1"), ("segment.bytes", "2")]);
        let next = map(&[("segment.bytes", "3")]);
        let change = Change::Replace(next.clone());
        assert_eq!(apply(Of::Topic, &current, &change), Ok(next));
    }

    #[test]
    fn words_join_a_list_once_and_leave_it() {
        let none = map(&[]);
        let appended = each("cleanup.policy", Operation::Append("compact,delete".into()));
        let both = map(&[("cleanup.policy", "delete,compact")]);
        assert_eq!(apply(Of::Topic, &none, &appended), Ok(both.clone()));
        assert_eq!(apply(Of::Topic, &both, &appended), Ok(both.clone()));
        let subtracted = each("cleanup.policy", Operation::Subtract("delete,none".into()));
        assert_eq!(
            apply(Of::Topic, &both, &subtracted),
            Ok(map(&[("cleanup.policy", "compact")]))
        );
        let appended = each("log.cleanup.policy", Operation::Append("compact".into()));
        assert_eq!(
            apply(Of::Broker, &none, &appended),
            Ok(map(&[("log.cleanup.policy", "delete,compact")]))
        );
    }

    #[test]
    fn what_is_no_list_cannot_be_added_to() {
        let none = map(&[]);
        let append = |name| each(name, Operation::Append("1".into()));
        for (of, name, expected) in [
            (
                Of::Topic,
                "retention.ms",
                "Can't APPEND to key retention.ms because its type is not LIST.",
            ),
            (
                Of::Topic,
                "no.such",
                "Can't APPEND to key no.such because its type is not LIST.",
            ),
            (
                Of::Broker,
                "log.retention.ms",
                "Config value append is not allowed for config key: log.retention.ms",
            ),
            (Of::Broker, "no.such", "Unknown config name: no.such"),
            (
                Of::Other,
                "metrics",
                "Can't APPEND to key metrics because its type is not LIST.",
            ),
        ] {
            assert_eq!(
                apply(of, &none, &append(name)),
                Err(expected.to_owned()),
                "{name}"
            );
        }
    }

    #[test]
    fn settings_are_bounded() {
        let none = map(&[]);
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        let set = each("retention.ms", Operation::Set(long.clone()));
        assert!(apply(Of::Topic, &none, &set).is_err());
        let fits = &long[1..];
        let many = (0..20).map(|index| (format!("key-{index}"), fits.to_owned()));
        assert!(apply(Of::Broker, &none, &Change::Replace(many.collect())).is_err());
        // What is there already may stay.
        let old = map(&[("retention.ms", &long)]);
        assert!(apply(Of::Topic, &old, &each("x", Operation::Delete)).is_ok());
    }
}
