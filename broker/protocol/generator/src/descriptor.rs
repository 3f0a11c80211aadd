//! Kafka's message descriptors: JSON with `//` comments.

use serde::Deserialize;
use serde_json::Value;

/// One message, as its descriptor states it. Unknown keys are errors: they would carry meaning
/// that the generator does not know.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Descriptor {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) api_key: Option<i16>,
    #[serde(default)]
    pub(crate) listeners: Vec<String>,
    pub(crate) valid_versions: String,
    #[serde(default = "none")]
    pub(crate) flexible_versions: String,
    #[serde(default)]
    pub(crate) latest_version_unstable: bool,
    #[serde(default)]
    pub(crate) fields: Vec<Field>,
    #[serde(default)]
    pub(crate) common_structs: Vec<CommonStruct>,
}

fn none() -> String {
    "none".to_owned()
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Request,
    Response,
    Header,
    Data,
    CoordinatorKey,
    CoordinatorValue,
    Metadata,
}

/// A structure that several fields share.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CommonStruct {
    pub(crate) name: String,
    pub(crate) versions: String,
    pub(crate) fields: Vec<Field>,
}

/// One field.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Field {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) versions: Option<String>,
    pub(crate) nullable_versions: Option<String>,
    pub(crate) tagged_versions: Option<String>,
    pub(crate) flexible_versions: Option<String>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<Value>,
    #[serde(default)]
    pub(crate) ignorable: bool,
    #[serde(default)]
    pub(crate) fields: Vec<Field>,
    // What follows matters to Kafka's own code only.
    #[serde(default, rename = "about")]
    _about: Value,
    #[serde(default, rename = "entityType")]
    _entity_type: Value,
    #[serde(default, rename = "mapKey")]
    _map_key: Value,
    #[serde(default, rename = "zeroCopy")]
    _zero_copy: Value,
}

/// Reads one descriptor.
pub(crate) fn parse(text: &str) -> Result<Descriptor, String> {
    serde_json::from_str(&without_comments(text)).map_err(|error| error.to_string())
}

/// Blanks `//` comments outside strings, so that positions in error messages stay true.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let mut in_string = false;
        let mut previous = ' ';
        let mut end = line.len();
        for (position, character) in line.char_indices() {
            match character {
                '"' if previous != '\\' => in_string = !in_string,
                '/' if previous == '/' && !in_string => {
                    end = position - 1;
                    break;
                }
                _ => {}
            }
            previous = character;
        }
        kept.push_str(line.get(..end).unwrap_or(line));
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_strings_stay() {
        let text = "{ // one\n  \"a\": \"http://x\", // two \"quoted\"\n  \"b\": \"\\\"//\" }\n";
        let json: Value = serde_json::from_str(&without_comments(text)).expect("valid JSON");
        assert_eq!(json["a"], "http://x");
        assert_eq!(json["b"], "\"//");
    }

    #[test]
    fn unknown_keys_are_refused() {
        let text = r#"{"name": "A", "type": "data", "validVersions": "0", "surprise": 1}"#;
        assert!(
            parse(text)
                .expect_err("an unknown key")
                .contains("surprise")
        );
    }
}
