//! How identifiers and numbers of the protocol are written in JSON.

use std::fmt;
use std::str::FromStr;

use esker_protocol::TopicId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The random id of a log directory (`directory.id` in `meta.properties`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub [u8; 16]);

/// The random id of one run of a broker's process: its process incarnation (P2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub [u8; 16]);

/// The text of both is Kafka's for 128-bit ids: 22 characters of base64url.
macro_rules! text_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                TopicId(self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = <TopicId as FromStr>::Err;
            fn from_str(text: &str) -> Result<$name, Self::Err> {
                text.parse().map(|id: TopicId| $name(id.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id!(DirectoryId);
text_id!(ProcessId);

/// A topic id as keys and object names have it: lower-case hexadecimal.
pub(super) mod topic_id {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(id: &TopicId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&id.to_hex())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<TopicId, D::Error> {
        let text = String::deserialize(deserializer)?;
        TopicId::from_hex(&text)
            .ok_or_else(|| serde::de::Error::custom("a topic id is not 32 hexadecimal digits"))
    }
}

/// Makes the serde modules of a newtype around a number: itself, optional, and in lists.
macro_rules! number {
    ($module:ident, $name:ident, $number:ty) => {
        #[allow(dead_code, reason = "not every newtype is needed in every shape")]
        pub(super) mod $module {
            use esker_protocol::$name;
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            pub(crate) fn serialize<S: Serializer>(
                value: &$name,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                value.0.serialize(serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$name, D::Error> {
                <$number>::deserialize(deserializer).map($name)
            }

            pub(crate) mod optional {
                use super::*;

                #[expect(clippy::ref_option, reason = "serde's signature")]
                pub(crate) fn serialize<S: Serializer>(
                    value: &Option<$name>,
                    serializer: S,
                ) -> Result<S::Ok, S::Error> {
                    value.map(|value| value.0).serialize(serializer)
                }

                pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                    deserializer: D,
                ) -> Result<Option<$name>, D::Error> {
                    Ok(Option::<$number>::deserialize(deserializer)?.map($name))
                }
            }

            pub(crate) mod list {
                use super::*;

                pub(crate) fn serialize<S: Serializer>(
                    values: &[$name],
                    serializer: S,
                ) -> Result<S::Ok, S::Error> {
                    serializer.collect_seq(values.iter().map(|value| value.0))
                }

                pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                    deserializer: D,
                ) -> Result<Vec<$name>, D::Error> {
                    let numbers = Vec::<$number>::deserialize(deserializer)?;
                    Ok(numbers.into_iter().map($name).collect())
                }
            }

            pub(crate) mod lists {
                use super::*;

                pub(crate) fn serialize<S: Serializer>(
                    values: &[Vec<$name>],
                    serializer: S,
                ) -> Result<S::Ok, S::Error> {
                    let numbers = values
                        .iter()
                        .map(|list| -> Vec<$number> { list.iter().map(|value| value.0).collect() });
                    serializer.collect_seq(numbers)
                }

                pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                    deserializer: D,
                ) -> Result<Vec<Vec<$name>>, D::Error> {
                    let lists = Vec::<Vec<$number>>::deserialize(deserializer)?;
                    Ok(lists
                        .into_iter()
                        .map(|list| list.into_iter().map($name).collect())
                        .collect())
                }
            }
        }
    };
}

number!(broker, BrokerId, i32);
number!(epoch, LeaderEpoch, i32);
number!(offset, Offset, i64);
number!(producer, ProducerId, i64);
