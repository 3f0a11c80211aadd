//! A descriptor resolved: every structure with the versions in which it occurs, every field with a
//! type that Rust knows.

use std::collections::BTreeMap;

use crate::descriptor::{self, Descriptor, Kind};
use crate::versions::Versions;

/// A message ready to be written as Rust.
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) api_key: Option<i16>,
    pub(crate) versions: Versions,
    pub(crate) flexible: Versions,
    pub(crate) latest_version_unstable: bool,
    /// The message's own structure first, then the others in the order in which they are used.
    pub(crate) structs: Vec<Struct>,
}

/// One structure.
pub(crate) struct Struct {
    pub(crate) name: String,
    /// The versions of the message in which it occurs.
    pub(crate) versions: Versions,
    pub(crate) fields: Vec<Field>,
    /// Whether it holds strings or bytes, and so a lifetime.
    pub(crate) borrows: bool,
    /// The fewest bytes of a value in any version.
    pub(crate) bytes_min: usize,
}

/// One field that exists in some version of its structure.
pub(crate) struct Field {
    /// Kafka's name.
    pub(crate) wire_name: String,
    /// Rust's name.
    pub(crate) name: String,
    pub(crate) kind: Type,
    pub(crate) versions: Versions,
    pub(crate) nullable: Versions,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Default,
    pub(crate) ignorable: bool,
    /// Strings of the request header never take the compact form.
    pub(crate) never_flexible: bool,
}

impl Field {
    /// Whether Rust needs an `Option`.
    pub(crate) fn is_option(&self) -> bool {
        !self.nullable.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Fixed(Fixed),
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Element),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Element {
    Fixed(Fixed),
    String,
    Struct(String),
}

/// A type of a fixed size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fixed {
    /// The descriptor's word, which is also the codec's method.
    pub(crate) wire: &'static str,
    pub(crate) rust: &'static str,
    pub(crate) bytes: usize,
}

const FIXED: [Fixed; 9] = [
    Fixed {
        wire: "bool",
        rust: "bool",
        bytes: 1,
    },
    Fixed {
        wire: "int8",
        rust: "i8",
        bytes: 1,
    },
    Fixed {
        wire: "int16",
        rust: "i16",
        bytes: 2,
    },
    Fixed {
        wire: "int32",
        rust: "i32",
        bytes: 4,
    },
    Fixed {
        wire: "int64",
        rust: "i64",
        bytes: 8,
    },
    Fixed {
        wire: "uint16",
        rust: "u16",
        bytes: 2,
    },
    Fixed {
        wire: "uint32",
        rust: "u32",
        bytes: 4,
    },
    Fixed {
        wire: "float64",
        rust: "f64",
        bytes: 8,
    },
    Fixed {
        wire: "uuid",
        rust: "TopicId",
        bytes: 16,
    },
];

/// The value of a field that is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Default {
    Null,
    Bool(bool),
    Integer(i64),
    Float,
    /// The zero id, the empty string, bytes or array, the structure of defaults.
    Empty,
}

/// Names that the generated code uses for something else.
const RESERVED: [&str; 12] = [
    "Blob", "Cow", "Decode", "Encode", "Message", "Option", "Reader", "Request", "Response",
    "Result", "Vec", "Writer",
];

pub(crate) fn resolve(descriptor: &Descriptor) -> Result<Message, String> {
    let versions = Versions::parse(&descriptor.valid_versions)?;
    let flexible = Versions::parse(&descriptor.flexible_versions)?.and(versions);
    let mut resolver = Resolver {
        found: BTreeMap::new(),
        order: Vec::new(),
        flexible,
    };
    let common: BTreeMap<&str, &descriptor::CommonStruct> = descriptor
        .common_structs
        .iter()
        .map(|shared| (shared.name.as_str(), shared))
        .collect();
    let mut fields_of = BTreeMap::new();
    collect_fields(&descriptor.name, &descriptor.fields, &mut fields_of)?;
    for shared in common.values() {
        Versions::parse(&shared.versions)?;
        collect_fields(&shared.name, &shared.fields, &mut fields_of)?;
    }
    resolver.visit(&descriptor.name, versions, &fields_of, 0)?;
    Ok(Message {
        name: descriptor.name.clone(),
        kind: descriptor.kind,
        api_key: descriptor.api_key,
        versions,
        flexible,
        latest_version_unstable: descriptor.latest_version_unstable,
        structs: resolver.structs(&fields_of)?,
    })
}

type FieldsOf<'d> = BTreeMap<&'d str, &'d [descriptor::Field]>;

fn collect_fields<'d>(
    name: &'d str,
    fields: &'d [descriptor::Field],
    into: &mut FieldsOf<'d>,
) -> Result<(), String> {
    if RESERVED.contains(&name) {
        return Err(format!("{name} is a reserved name"));
    }
    if into.insert(name, fields).is_some() {
        return Err(format!("{name} is defined twice"));
    }
    for field in fields.iter().filter(|field| !field.fields.is_empty()) {
        collect_fields(field.kind.trim_start_matches("[]"), &field.fields, into)?;
    }
    Ok(())
}

struct Resolver {
    /// The versions in which each structure occurs.
    found: BTreeMap<String, Versions>,
    order: Vec<String>,
    flexible: Versions,
}

const DEPTH_MAX: usize = 16;

impl Resolver {
    fn visit(
        &mut self,
        name: &str,
        versions: Versions,
        fields_of: &FieldsOf<'_>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("{name} contains itself"));
        }
        let known = self.found.get(name).copied();
        if known.is_none() {
            self.order.push(name.to_owned());
        }
        self.found.insert(
            name.to_owned(),
            known.unwrap_or(Versions::NONE).hull(versions),
        );
        let fields = fields_of
            .get(name)
            .ok_or_else(|| format!("{name} is not defined"))?;
        for field in fields.iter() {
            let inner = field_versions(field)?.and(versions);
            let Some(used) = struct_name(&parse_type(&field.kind)?).map(str::to_owned) else {
                continue;
            };
            if !inner.is_empty() {
                self.visit(&used, inner, fields_of, depth + 1)?;
            }
        }
        Ok(())
    }

    fn structs(&self, fields_of: &FieldsOf<'_>) -> Result<Vec<Struct>, String> {
        let mut structs = Vec::new();
        for name in &self.order {
            let versions = self.found[name];
            let mut fields = Vec::new();
            for field in fields_of[name.as_str()] {
                let context = |error| format!("{name}.{}: {error}", field.name);
                fields.extend(resolve_field(field, versions, self.flexible).map_err(context)?);
            }
            structs.push(Struct {
                name: name.clone(),
                versions,
                fields,
                borrows: false,
                bytes_min: 0,
            });
        }
        for index in 0..structs.len() {
            let borrows = borrows(&structs[index], &structs);
            let bytes_min = (structs[index].versions.min..=structs[index].versions.max)
                .map(|version| bytes_min(&structs[index], version, self.flexible, &structs))
                .min();
            structs[index].borrows = borrows;
            structs[index].bytes_min = bytes_min.unwrap_or(1).max(1);
        }
        Ok(structs)
    }
}

fn field_versions(field: &descriptor::Field) -> Result<Versions, String> {
    let tagged = field.tagged_versions.as_deref();
    Versions::parse(field.versions.as_deref().or(tagged).unwrap_or("none"))
}

fn resolve_field(
    field: &descriptor::Field,
    outer: Versions,
    flexible: Versions,
) -> Result<Option<Field>, String> {
    let versions = field_versions(field)?.and(outer);
    if versions.is_empty() {
        return Ok(None);
    }
    let nullable = field.nullable_versions.as_deref().unwrap_or("none");
    let nullable = Versions::parse(nullable)?.and(versions);
    let kind = parse_type(&field.kind)?;
    let tagged = field.tagged_versions.as_deref().unwrap_or("none");
    let tagged = Versions::parse(tagged)?.and(outer);
    if field.tag.is_some() && (tagged != versions || versions.and(flexible) != versions) {
        return Err("it is not tagged in all its versions, or not only in flexible ones".into());
    }
    if matches!(kind, Type::Struct(_)) && !nullable.is_empty() && nullable != versions {
        return Err("a structure that is nullable in some versions only".into());
    }
    if matches!(kind, Type::Fixed(_)) && !nullable.is_empty() {
        return Err("a nullable number".into());
    }
    let never_flexible = match field.flexible_versions.as_deref() {
        None => false,
        Some("none") => true,
        Some(other) => return Err(format!("flexible versions {other} of a field")),
    };
    Ok(Some(Field {
        wire_name: field.name.clone(),
        name: snake_case(&field.name),
        default: parse_default(field.default.as_ref(), &kind, !nullable.is_empty())?,
        kind,
        versions,
        nullable,
        tag: field.tag,
        ignorable: field.ignorable,
        never_flexible,
    }))
}

fn parse_type(text: &str) -> Result<Type, String> {
    let fixed = |text: &str| FIXED.into_iter().find(|fixed| fixed.wire == text);
    let is_struct = |text: &str| text.starts_with(|c: char| c.is_ascii_uppercase());
    if let Some(element) = text.strip_prefix("[]") {
        return match element {
            "string" => Ok(Type::Array(Element::String)),
            _ if is_struct(element) => Ok(Type::Array(Element::Struct(element.to_owned()))),
            _ => match fixed(element) {
                Some(fixed) if matches!(fixed.wire, "bool" | "uint16" | "uint32" | "float64") => {
                    Err(format!("the codec has no arrays of {element}"))
                }
                Some(fixed) => Ok(Type::Array(Element::Fixed(fixed))),
                None => Err(format!("unknown type {text}")),
            },
        };
    }
    match text {
        "string" => Ok(Type::String),
        "bytes" => Ok(Type::Bytes),
        "records" => Ok(Type::Records),
        _ if is_struct(text) => Ok(Type::Struct(text.to_owned())),
        _ => fixed(text)
            .map(Type::Fixed)
            .ok_or_else(|| format!("unknown type {text}")),
    }
}

/// The structure that a type names.
pub(crate) fn struct_name(kind: &Type) -> Option<&str> {
    match kind {
        Type::Struct(name) | Type::Array(Element::Struct(name)) => Some(name),
        _ => None,
    }
}

fn parse_default(
    value: Option<&serde_json::Value>,
    kind: &Type,
    nullable: bool,
) -> Result<Default, String> {
    let text = match value {
        // A bare null is to Kafka's generator what no default is; only the string "null" counts.
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if text == "null" {
        return nullable
            .then_some(Default::Null)
            .ok_or_else(|| "null by default".to_owned());
    }
    let bad = || format!("{text:?} is no default of {kind:?}");
    match kind {
        Type::Fixed(Fixed { rust: "bool", .. }) => match text.as_str() {
            "" | "false" => Ok(Default::Bool(false)),
            "true" => Ok(Default::Bool(true)),
            _ => Err(bad()),
        },
        Type::Fixed(Fixed { rust: "f64", .. }) => match text.as_str() {
            "" | "0" | "0.0" => Ok(Default::Float),
            _ => Err(bad()),
        },
        Type::Fixed(Fixed {
            rust: "TopicId", ..
        }) => {
            if text.is_empty() {
                Ok(Default::Empty)
            } else {
                Err(bad())
            }
        }
        Type::Fixed(_) => match text.strip_prefix("0x") {
            _ if text.is_empty() => Ok(Default::Integer(0)),
            Some(hex) => i64::from_str_radix(hex, 16)
                .map(Default::Integer)
                .map_err(|_| bad()),
            None => text.parse().map(Default::Integer).map_err(|_| bad()),
        },
        // Kafka's records are null unless they are set.
        Type::Records if nullable => Ok(Default::Null),
        _ if text.is_empty() => Ok(Default::Empty),
        _ => Err(bad()),
    }
}

fn borrows(of: &Struct, structs: &[Struct]) -> bool {
    of.fields.iter().any(|field| match &field.kind {
        Type::String | Type::Bytes | Type::Records | Type::Array(Element::String) => true,
        kind => struct_name(kind)
            .and_then(|name| structs.iter().find(|one| one.name == name))
            .is_some_and(|one| borrows(one, structs)),
    })
}

fn bytes_min(of: &Struct, version: i16, flexible: Versions, structs: &[Struct]) -> usize {
    let is_flexible = flexible.contains(version);
    let present = |field: &&Field| field.tag.is_none() && field.versions.contains(version);
    let fields = of
        .fields
        .iter()
        .filter(present)
        .map(|field| match &field.kind {
            Type::Fixed(fixed) => fixed.bytes,
            Type::Struct(_) if field.is_option() => 1,
            Type::Struct(name) => structs
                .iter()
                .find(|one| one.name == *name)
                .map_or(1, |one| bytes_min(one, version, flexible, structs)),
            _ if is_flexible && !field.never_flexible => 1,
            Type::String => 2,
            Type::Bytes | Type::Records | Type::Array(_) => 4,
        });
    fields.sum::<usize>() + usize::from(is_flexible)
}

/// `TimeoutMs` to `timeout_ms`, `clusterId` to `cluster_id`; keywords get their `r#`.
pub(crate) fn snake_case(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (index, character) in characters.iter().enumerate() {
        let previous = index.checked_sub(1).and_then(|index| characters.get(index));
        let next = characters.get(index + 1);
        let starts_word = character.is_ascii_uppercase()
            && previous.is_some_and(|previous| {
                !previous.is_ascii_uppercase() || next.is_some_and(char::is_ascii_lowercase)
            });
        if starts_word {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    if matches!(
        snake.as_str(),
        "match" | "type" | "ref" | "move" | "where" | "use" | "in"
    ) {
        snake.insert_str(0, "r#");
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_snake_case() {
        for (kafka, rust) in [
            ("TimeoutMs", "timeout_ms"),
            ("clusterId", "cluster_id"),
            ("KRaftVersionFeature", "k_raft_version_feature"),
            ("Match", "r#match"),
        ] {
            assert_eq!(snake_case(kafka), rust);
        }
    }

    #[test]
    fn structures_occur_where_their_fields_do() {
        let text = r#"{"name": "A", "type": "data", "validVersions": "0-5", "flexibleVersions": "3+",
            "fields": [
                {"name": "X", "type": "[]B", "versions": "2+", "fields": [
                    {"name": "Y", "type": "int32", "versions": "0-1"},
                    {"name": "Z", "type": "string", "versions": "4+"}]}]}"#;
        let message = resolve(&descriptor::parse(text).expect("valid")).expect("resolves");
        let inner = &message.structs[1];
        assert_eq!((inner.versions.min, inner.versions.max), (2, 5));
        assert_eq!(inner.fields.len(), 1, "what no version has is left out");
        assert!(inner.borrows && message.structs[0].borrows);
        assert_eq!(inner.bytes_min, 1);
    }
}
