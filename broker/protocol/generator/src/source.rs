//! Where descriptors come from: Kafka's jars, and a folder of our own.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::descriptor::{self, Descriptor, Kind};

/// A descriptor and the words that name its origin.
pub(crate) struct Found {
    pub(crate) descriptor: Descriptor,
    pub(crate) origin: String,
}

/// The jars, and the folder within each.
const JARS: [(&str, &str); 5] = [
    ("kafka-clients", "common/message/"),
    ("kafka-group-coordinator", "common/message/"),
    ("kafka-transaction-coordinator", "common/message/"),
    ("kafka-share-coordinator", "common/message/"),
    ("kafka-storage", "message/"),
];

/// Messages that are neither requests, responses, headers nor coordinator records, and wanted.
const DATA: [&str; 3] = [
    "ConsumerProtocolAssignment",
    "ConsumerProtocolSubscription",
    "ProducerSnapshot",
];

/// The Kafka release whose jars these are, and what is wanted of them.
pub(crate) fn from_jars(folder: &Path) -> Result<(String, Vec<Found>), String> {
    let mut release = None;
    let mut found = Vec::new();
    for (name, inner) in JARS {
        let (file, version) = jar(folder, name)?;
        match &release {
            Some(known) if *known != version => {
                return Err(format!("{name} is of {version}, others are of {known}"));
            }
            _ => release = Some(version.clone()),
        }
        read_jar(&folder.join(&file), inner, &file, &mut found)?;
    }
    let serves = |found: &Found| {
        found
            .descriptor
            .listeners
            .iter()
            .any(|listener| listener == "broker")
            && found.descriptor.valid_versions != "none"
    };
    let keys: Vec<i16> = found
        .iter()
        .filter(|found| serves(found))
        .filter_map(|found| found.descriptor.api_key)
        .collect();
    found.retain(|found| match found.descriptor.kind {
        Kind::Request | Kind::Response => found
            .descriptor
            .api_key
            .is_some_and(|key| keys.contains(&key)),
        Kind::Header | Kind::CoordinatorKey | Kind::CoordinatorValue => true,
        Kind::Data => DATA.contains(&found.descriptor.name.as_str()),
        Kind::Metadata => false,
    });
    Ok((release.unwrap_or_default(), found))
}

/// The file name of a jar and its version.
fn jar(folder: &Path, name: &str) -> Result<(String, String), String> {
    let entries = std::fs::read_dir(folder).map_err(|error| at(folder, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| at(folder, &error))?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let version = file
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|rest| rest.strip_suffix(".jar"));
        // `kafka-storage-api-...` begins with `kafka-storage-` too.
        if let Some(version) = version.filter(|text| text.starts_with(|c: char| c.is_ascii_digit()))
        {
            return Ok((file.clone(), version.to_owned()));
        }
    }
    Err(format!("no {name}-VERSION.jar in {}", folder.display()))
}

fn read_jar(path: &Path, inner: &str, jar: &str, found: &mut Vec<Found>) -> Result<(), String> {
    let file = File::open(path).map_err(|error| at(path, &error))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| at(path, &error))?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| at(path, &error))?;
        let name = entry.name().map_err(|error| at(path, &error))?.into_owned();
        let Some(name) = name
            .strip_prefix(inner)
            .filter(|name| name.ends_with(".json"))
        else {
            continue;
        };
        let name = name.to_owned();
        let mut text = String::new();
        entry
            .read_to_string(&mut text)
            .map_err(|error| at(path, &error))?;
        let descriptor = descriptor::parse(&text).map_err(|error| format!("{name}: {error}"))?;
        found.push(Found {
            descriptor,
            origin: format!("{name} of {jar}"),
        });
    }
    Ok(())
}

/// The descriptors in a folder of our own.
pub(crate) fn from_folder(folder: &Path) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| at(folder, &error))? {
        let path = entry.map_err(|error| at(folder, &error))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| at(&path, &error))?;
        let descriptor = descriptor::parse(&text).map_err(|error| at(&path, &error))?;
        if descriptor.kind != Kind::Data {
            return Err(at(&path, &"our own messages are of type data"));
        }
        let origin = format!("{}.json of Esker's own", descriptor.name);
        found.push(Found { descriptor, origin });
    }
    Ok(found)
}

fn at(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}
