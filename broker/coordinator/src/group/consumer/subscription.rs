//! What groups subscribe to: topics by regular expressions, and the hash by which a group notices
//! that its topics have changed.
//!
//! Kafka compiles subscriptions with RE2J. The expressions here have the same core: no
//! backreferences, no look-around, linear time. What differs:
//! - `[` inside a bracket begins a nested class, `&&`, `--` and `~~` there are set operations, and the
//!   flag `x` exists; RE2J takes the former literally and refuses the latter;
//! - `\C` and a repetition of what cannot be repeated (`**`, a lone `{`) are refused;
//! - the size of what is compiled is bounded, not the count of a repetition (RE2J: 1000).

use std::collections::BTreeMap;

use esker_protocol::TopicId;
use regex_automata::meta;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, Look};
use twox_hash::XxHash3_64;

use crate::view::Topics;

/// The memory that one compiled expression may take.
const REGEX_BYTES_MAX: usize = 256 << 10;
/// The depth of nesting of one expression.
const REGEX_DEPTH_MAX: u32 = 64;

/// The topics whose hashes a group keeps.
const TOPIC_HASHES_MAX: usize = 1000;

/// A compiled regular expression that a whole topic name must match.
#[derive(Debug, Clone)]
pub(crate) struct TopicRegex(meta::Regex);

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegexError {
    /// It is none.
    #[error("{0}")]
    Syntax(String),
    /// It would take too much memory.
    #[error("expression too large")]
    TooLarge,
}

impl TopicRegex {
    /// Compiles an expression.
    pub(crate) fn parse(pattern: &str) -> Result<TopicRegex, RegexError> {
        let mut parser = regex_syntax::ParserBuilder::new()
            .nest_limit(REGEX_DEPTH_MAX)
            .octal(true)
            .build();
        let parsed = parser
            .parse(&unquoted(pattern))
            .map_err(|error| RegexError::Syntax(reason(&error)))?;
        let whole = Hir::concat(vec![Hir::look(Look::Start), parsed, Hir::look(Look::End)]);
        let config = meta::Config::new()
            .nfa_size_limit(Some(REGEX_BYTES_MAX))
            .hybrid_cache_capacity(REGEX_BYTES_MAX);
        meta::Builder::new()
            .configure(config)
            .build_from_hir(&whole)
            .map(TopicRegex)
            .map_err(|_| RegexError::TooLarge)
    }

    /// Whether all of the name matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.is_match(Input::new(name).anchored(Anchored::Yes))
    }
}

fn reason(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "unknown construct".to_owned(),
    }
}

// RE2J reads what stands between \Q and \E literally, as Java's Pattern.quote writes it.
fn unquoted(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        plain.push_str(before);
        if let Some(quoted) = escape.strip_prefix("\\Q") {
            let (literal, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            plain.push_str(&regex_syntax::escape(literal));
            rest = after;
        } else {
            let length = escape.chars().take(2).map(char::len_utf8).sum();
            let (escape, after) = escape.split_at(length);
            plain.push_str(escape);
            rest = after;
        }
    }
    plain.push_str(rest);
    plain
}

/// The hash over a group's topics, in the order of their names, that a group's epoch record
/// carries: that of Kafka 4.1 and later. Topics that do not exist do not count; of no topics it is 0.
pub(crate) fn metadata_hash<'a>(
    names: impl IntoIterator<Item = &'a str>,
    topics: &dyn Topics,
    known: &mut TopicHashes,
) -> i64 {
    known.begin(topics.revision());
    let mut hashes = Vec::new();
    for name in names {
        if let Some(hash) = known.of(name, topics) {
            hashes.extend(hash.to_le_bytes());
        }
    }
    if hashes.is_empty() {
        return 0;
    }
    XxHash3_64::oneshot(&hashes).cast_signed()
}

/// The hashes of a group's topics at one revision of the metadata: every member that comes or goes
/// asks for them, and each walks over all partitions of its topic.
#[derive(Debug, Default)]
pub(crate) struct TopicHashes {
    revision: Option<i64>,
    /// At most [`TOPIC_HASHES_MAX`]; none for a topic that does not exist.
    by_name: BTreeMap<String, Option<u64>>,
}

impl TopicHashes {
    fn begin(&mut self, revision: i64) {
        if self.revision != Some(revision) {
            self.revision = Some(revision);
            self.by_name.clear();
        }
    }

    fn of(&mut self, name: &str, topics: &dyn Topics) -> Option<u64> {
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        let found = topics.by_name(name);
        let hash = found.map(|(id, partitions)| topic_hash(id, name, partitions, topics));
        if self.by_name.len() < TOPIC_HASHES_MAX {
            self.by_name.insert(name.to_owned(), hash);
        }
        hash
    }
}

const TOPIC_HASH_VERSION: u8 = 0;

// XXH3 over the id's two halves, the name, and each partition with its racks; numbers little-endian.
fn topic_hash(id: TopicId, name: &str, partitions: i32, topics: &dyn Topics) -> u64 {
    let mut bytes = vec![TOPIC_HASH_VERSION];
    let (high, low) = id.0.split_at(8);
    bytes.extend(high.iter().rev());
    bytes.extend(low.iter().rev());
    put_text(&mut bytes, name);
    bytes.extend(partitions.to_le_bytes());
    for partition in 0..partitions {
        bytes.extend(partition.to_le_bytes());
        for rack in topics.racks(id, partition) {
            bytes.extend(utf16_length(rack).to_le_bytes());
            put_text(&mut bytes, rack);
        }
    }
    XxHash3_64::oneshot(&bytes)
}

// UTF-16 code units, then how many.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    bytes.extend(utf16_length(text).to_le_bytes());
}

fn utf16_length(text: &str) -> i32 {
    i32::try_from(text.encode_utf16().count()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
