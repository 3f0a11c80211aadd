//! What the generator makes of the descriptors. Kafka's jars are needed: the folder that holds them
//! is named by `ESKER_KAFKA_LIBS`, and without it the tests only say that they were skipped.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests of a tool that reads and writes files, which say when they are skipped"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn jars() -> Option<PathBuf> {
    let jars = std::env::var_os("ESKER_KAFKA_LIBS").map(PathBuf::from);
    if jars.is_none() {
        println!("skipped: ESKER_KAFKA_LIBS does not name a folder with Kafka's jars");
    }
    jars
}

fn generator(jars: &Path, out: &Path, own: Option<&Path>, check: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esker-protocol-generator"));
    command.arg("--jars").arg(jars).arg("--out").arg(out);
    if let Some(own) = own {
        command.arg("--own").arg(own);
    }
    if check {
        command.arg("--check");
    }
    command.output().expect("the generator runs")
}

/// A new empty folder.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a new folder");
    folder
}

#[test]
fn committed_messages_are_what_the_descriptors_give() {
    let Some(jars) = jars() else { return };
    // Cargo runs tests in the folder of their package; what was compiled elsewhere is not asked.
    let protocol = PathBuf::from("..");
    let own = Some(protocol.join("descriptors")).filter(|own| own.is_dir());
    let output = generator(&jars, &protocol.join("src/messages"), own.as_deref(), true);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn descriptors_of_ours_are_messages_too_and_leftovers_are_stale() {
    let Some(jars) = jars() else { return };
    let (own, out) = (folder("own"), folder("out"));
    let descriptor = r#"// A comment.
        { "type": "data", "name": "Shelf", "validVersions": "0-1", "flexibleVersions": "0+",
          "fields": [ { "name": "Books", "type": "[]string", "versions": "1+" } ] }"#;
    std::fs::write(own.join("Shelf.json"), descriptor).expect("written");
    assert!(generator(&jars, &out, Some(&own), false).status.success());
    let shelf = std::fs::read_to_string(out.join("shelf.rs")).expect("generated");
    assert!(shelf.contains("pub books: Vec<Cow<'a, str>>"), "{shelf}");
    assert!(generator(&jars, &out, Some(&own), true).status.success());

    let stale = generator(&jars, &out, None, true);
    assert_eq!(stale.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&stale.stderr).contains("shelf.rs"),
        "{stale:?}"
    );
}

#[test]
fn bad_usage_is_told_apart_from_failure() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_esker-protocol-generator"));
        command
            .args(arguments)
            .output()
            .expect("the generator runs")
            .status
            .code()
    };
    assert_eq!(run(&["--jars", "somewhere"]), Some(2));
    assert_eq!(run(&["--jars", "/nowhere", "--out", "/nowhere"]), Some(1));
}
