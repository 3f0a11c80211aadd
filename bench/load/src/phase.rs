//! What a scenario prints.

use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::sleep;

/// After a phase nothing happens for so long: its costs are told from those of the next.
const PAUSE: Duration = Duration::from_millis(200);

/// Prints the figures of a phase that has ended, and waits.
pub(crate) async fn ended(name: &str, figures: Value) {
    print(name, figures);
    sleep(PAUSE).await;
}

/// Prints what is known of a phase by now.
pub(crate) fn goes_on(name: &str, figures: Value) {
    print(name, figures);
}

fn print(name: &str, figures: Value) {
    let mut line = Map::new();
    line.insert("phase".to_owned(), name.into());
    if let Value::Object(figures) = figures {
        line.extend(figures);
    }
    // Whoever closed the pipe has seen enough: that is no failure.
    let _ = writeln!(std::io::stdout(), "{}", Value::Object(line));
}
