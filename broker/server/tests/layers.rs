//! Crates import only downwards: see the map in `ARCHITECTURE.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The crates, lines from the bottom up; crates of one line never import each other.
const LINES: &[&[&str]] = &[
    &["protocol"],
    &["client", "storage", "tier", "metadata", "coordinator"],
    &["server"],
    &["operator", "simulation", "load"],
    &["e2e"],
];

/// Where crates lie; those that do not exist yet are skipped.
const FOLDERS: &[&str] = &["broker", "bench", ""];

#[expect(
    clippy::disallowed_methods,
    reason = "a test reads the project's manifests"
)]
fn manifests() -> BTreeMap<&'static str, String> {
    // Cargo runs tests in the folder of their package; what was compiled elsewhere is not asked.
    let root = PathBuf::from("../..");
    let mut found = BTreeMap::new();
    for name in LINES.iter().flat_map(|line| line.iter().copied()) {
        for folder in FOLDERS {
            let path = root.join(folder).join(name).join("Cargo.toml");
            if let Ok(text) = std::fs::read_to_string(path) {
                found.insert(name, text);
            }
        }
    }
    found
}

/// The crates of ours that a manifest's normal dependencies name.
fn imports(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut imports = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]"
            && let Some(rest) = line.strip_prefix("esker-")
        {
            let name = rest.split(['.', ' ', '=']).next().unwrap_or_default();
            imports.push(name.to_owned());
        }
    }
    imports
}

fn line_of(name: &str) -> usize {
    LINES
        .iter()
        .position(|line| line.contains(&name))
        .unwrap_or_else(|| panic!("{name} has no line in this test and in ARCHITECTURE.md"))
}

#[test]
fn crates_import_only_from_lines_below_their_own() {
    let manifests = manifests();
    for name in [
        "protocol", "client", "storage", "tier", "metadata", "server",
    ] {
        assert!(manifests.contains_key(name), "{name} was not found");
    }
    for (name, manifest) in &manifests {
        for import in imports(manifest) {
            assert!(
                line_of(&import) < line_of(name),
                "{name} imports {import}, which is not below it"
            );
        }
    }
}

#[test]
fn what_knows_no_io_knows_no_runtime() {
    for name in ["protocol", "coordinator"] {
        if let Some(manifest) = manifests().get(name) {
            assert!(!manifest.contains("\ntokio"), "{name} names tokio");
        }
    }
}

#[test]
fn imports_are_read_in_every_form_of_a_manifest() {
    let manifest = "[package]\nname = \"esker-x\"\n[dependencies]\nesker-protocol.workspace = true\n\
                    esker-tier = { workspace = true }\ntokio = \"1\"\n[dev-dependencies]\nesker-server.workspace = true\n";
    assert_eq!(imports(manifest), ["protocol", "tier"]);
}
