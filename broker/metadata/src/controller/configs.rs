//! Settings that administrators change, other than those of topics.

use crate::image::Versioned;
use crate::keys::{ConfigKind, Keys};
use crate::store::Transaction;
use crate::values::{ConfigValue, Configs, Unknown, Value};

/// Replaces the settings of a broker, of all brokers, of a group or of a subscription.
///
/// The key stays when nothing is set any more: absence alone would not fence a late transaction
/// that created it (P1).
#[must_use]
pub fn set_configs(
    keys: &Keys,
    kind: ConfigKind,
    name: &str,
    current: Option<&Versioned<ConfigValue>>,
    configs: Configs,
) -> Transaction {
    let key = keys.config(kind, name);
    let (guarded, unknown) = match current {
        Some(current) => (
            Transaction::new().expect_revision(&key, current.revision),
            current.value.unknown.clone(),
        ),
        None => (Transaction::new().expect_absent(&key), Unknown::new()),
    };
    guarded.put(key, ConfigValue { configs, unknown }.encode())
}
