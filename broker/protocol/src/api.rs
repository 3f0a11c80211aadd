//! The APIs that exist: their numbers, versions and header versions.
//!
//! The table is what the descriptors of Apache Kafka 4.3.0 say. What a broker serves, and to whom,
//! is the server's affair; Produce, say, is advertised from version 0 on although none below 3 can
//! be read.

#[cfg(test)]
mod tests;

pub use crate::messages::api_key::ApiKey;
pub use crate::primitive::VersionRange;

/// What is known of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Api {
    name: &'static str,
    versions: VersionRange,
    first_flexible: Option<i16>,
    latest_unstable: bool,
}

impl Api {
    pub(crate) const fn new(
        name: &'static str,
        min: i16,
        max: i16,
        first_flexible: Option<i16>,
        latest_unstable: bool,
    ) -> Api {
        Api {
            name,
            versions: VersionRange::new(min, max),
            first_flexible,
            latest_unstable,
        }
    }
}

impl ApiKey {
    /// The API of a number, if a broker's listener serves it.
    #[must_use]
    pub fn from_number(number: i16) -> Option<ApiKey> {
        let index = ApiKey::ALL
            .binary_search_by_key(&number, |key| key.number())
            .ok()?;
        ApiKey::ALL.get(index).copied()
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// Kafka's name, such as `Produce`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The versions that can be read and written, an unstable one included.
    #[must_use]
    pub const fn versions(self) -> VersionRange {
        self.facts().versions
    }

    /// Whether the newest version is still in flux: Kafka neither advertises nor accepts it.
    #[must_use]
    pub const fn latest_version_unstable(self) -> bool {
        self.facts().latest_unstable
    }

    /// The versions without an unstable one.
    #[must_use]
    pub const fn stable_versions(self) -> VersionRange {
        let VersionRange { min, max } = self.versions();
        VersionRange::new(
            min,
            if self.latest_version_unstable() {
                max - 1
            } else {
                max
            },
        )
    }

    /// The first version with compact lengths and tagged fields, if there is one.
    #[must_use]
    pub const fn first_flexible_version(self) -> Option<i16> {
        self.facts().first_flexible
    }

    const fn is_flexible(self, version: i16) -> bool {
        matches!(self.first_flexible_version(), Some(first) if version >= first)
    }

    /// The version of the header before a request: 2 from the first flexible version on.
    #[must_use]
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header before a response: 1 from the first flexible version on, but
    /// always 0 for ApiVersions, whose answer a client reads before it knows any version (KIP-511).
    #[must_use]
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ApiVersions => 0,
            _ if self.is_flexible(version) => 1,
            _ => 0,
        }
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
