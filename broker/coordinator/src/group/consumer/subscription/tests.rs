use std::cell::Cell;
use std::collections::BTreeMap;

use esker_protocol::TopicId;

use super::{RegexError, TopicHashes, TopicRegex, metadata_hash};
use crate::view::Topics;

/// Name, id, and the racks of each partition.
struct Fixed(BTreeMap<&'static str, (TopicId, Vec<Vec<&'static str>>)>);

impl Topics for Fixed {
    fn by_name(&self, name: &str) -> Option<(TopicId, i32)> {
        let (id, racks) = self.0.get(name)?;
        Some((*id, i32::try_from(racks.len()).expect("few partitions")))
    }

    fn by_id(&self, id: TopicId) -> Option<(&str, i32)> {
        let (name, _) = self.0.iter().find(|(_, topic)| topic.0 == id)?;
        Some((name, self.by_name(name)?.1))
    }

    fn racks(&self, id: TopicId, partition: i32) -> Vec<&str> {
        (self.0.values())
            .find(|topic| topic.0 == id)
            .and_then(|topic| topic.1.get(usize::try_from(partition).ok()?).cloned())
            .unwrap_or_default()
    }

    fn for_each_name(&self, each: &mut dyn FnMut(&str)) {
        self.0.keys().for_each(|name| each(name));
    }

    fn revision(&self) -> i64 {
        1
    }
}

// The hashes are what Kafka 4.3.0's hash library (hash4j 0.22.0) gives for the same topics.
#[test]
fn the_metadata_hash_is_kafkas() {
    let foo = TopicId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    let bar = TopicId([
        0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
        0x20,
    ]);
    let topics = Fixed(BTreeMap::from([
        ("foo", (foo, vec![vec!["rack", "ü"], vec![]])),
        ("bar", (bar, vec![vec![]])),
    ]));
    let hash = super::topic_hash(bar, "bar", 1, &topics).cast_signed();
    assert_eq!(hash, 1_266_056_261_650_007_763);
    let many = "topic-with-many-partitions";
    let large = Fixed(BTreeMap::from([(many, (foo, vec![vec!["a", "b"]; 200]))]));
    let hash = super::topic_hash(foo, many, 200, &large).cast_signed();
    assert_eq!(hash, 1_068_030_118_316_221_308);
    assert_eq!(
        metadata_hash(
            ["bar", "foo", "no such topic"],
            &topics,
            &mut TopicHashes::default()
        ),
        -98_040_700_989_490_133
    );
    let hash = metadata_hash(["no such topic"], &topics, &mut TopicHashes::default());
    assert_eq!(hash, 0);
}

/// One topic that is looked at closely, at a revision of the metadata.
struct Watched {
    partitions: i32,
    revision: i64,
    looks: Cell<usize>,
}

impl Topics for Watched {
    fn by_name(&self, _name: &str) -> Option<(TopicId, i32)> {
        Some((TopicId([1; 16]), self.partitions))
    }

    fn by_id(&self, _id: TopicId) -> Option<(&str, i32)> {
        Some(("foo", self.partitions))
    }

    fn racks(&self, _id: TopicId, _partition: i32) -> Vec<&str> {
        self.looks.set(self.looks.get() + 1);
        Vec::new()
    }

    fn for_each_name(&self, each: &mut dyn FnMut(&str)) {
        each("foo");
    }

    fn revision(&self) -> i64 {
        self.revision
    }
}

#[test]
fn partitions_are_walked_over_once_for_each_revision_of_the_metadata() {
    let mut known = TopicHashes::default();
    let mut topics = Watched {
        partitions: 3,
        revision: 7,
        looks: Cell::new(0),
    };
    let first = metadata_hash(["foo"], &topics, &mut known);
    assert_eq!(metadata_hash(["foo"], &topics, &mut known), first);
    assert_eq!(topics.looks.get(), 3);

    topics.partitions = 4;
    topics.revision = 8;
    let grown = metadata_hash(["foo"], &topics, &mut known);
    assert_ne!(grown, first);
    assert_eq!(topics.looks.get(), 7);
    let anew = metadata_hash(["foo"], &topics, &mut TopicHashes::default());
    assert_eq!(grown, anew);
}

#[test]
fn an_expression_matches_whole_names_only() {
    let matches =
        |pattern: &str, name: &str| TopicRegex::parse(pattern).expect("valid").matches(name);
    assert!(matches("foo.*", "foobar"));
    assert!(!matches("foo", "foobar"));
    assert!(!matches("bar", "foobar"));
    assert!(matches("foo|foobar", "foobar"));
    assert!(matches("(?i)FOO", "foo"));
    assert!(matches("a{2,3}", "aaa"));
    assert!(matches(r"\w+\.\d", "a_b.7"));
    assert!(matches(r"a\_b\-c", "a_b-c"));
    assert!(matches("", ""));
    assert!(!matches("", "a"));
}

#[test]
fn quoted_text_is_literal() {
    let matches =
        |pattern: &str, name: &str| TopicRegex::parse(pattern).expect("valid").matches(name);
    assert!(matches(r"\Qa.b\E.*", "a.b-c"));
    assert!(!matches(r"\Qa.b\E.*", "axb"));
    assert!(matches(r"\Qa.b", "a.b"));
    assert!(matches(r"a\\Q", r"a\Q"));
    assert!(matches(r"\Q\E", ""));
    assert!(matches(r"\Qa[\E[b]", "a[b"));
}

#[test]
fn what_is_no_expression_is_refused() {
    for pattern in ["[", "(", "a)(b", "(?=a)", r"(a)\8", "*", "(?P<n>"] {
        assert!(
            matches!(TopicRegex::parse(pattern), Err(RegexError::Syntax(_))),
            "{pattern}"
        );
    }
}

#[test]
fn an_expression_has_bounds() {
    let large = "(((a{100}){100}){100}){100}";
    assert_eq!(TopicRegex::parse(large).unwrap_err(), RegexError::TooLarge);
    let deep = format!("{}a{}", "(".repeat(1_000), ")".repeat(1_000));
    assert!(matches!(
        TopicRegex::parse(&deep),
        Err(RegexError::Syntax(_))
    ));
}
