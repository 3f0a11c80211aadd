//! The committed messages are those that the descriptors give.

use std::path::Path;
use std::process::Command;

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "only the environment knows where the jars are"
)]
fn committed_messages_are_what_the_descriptors_give() {
    let Ok(jars) = std::env::var("ESKER_KAFKA_LIBS") else {
        println!("skipped: ESKER_KAFKA_LIBS does not name a folder with Kafka's jars");
        return;
    };
    let protocol = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut generator = Command::new(env!("CARGO_BIN_EXE_esker-protocol-generator"));
    generator.arg("--check").arg("--jars").arg(jars);
    generator.arg("--out").arg(protocol.join("src/messages"));
    let own = protocol.join("descriptors");
    if own.is_dir() {
        generator.arg("--own").arg(own);
    }
    let output = generator.output().expect("the generator runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
