//! What a scenario prints, and the phases that scenarios of members share.

use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use crate::call::Failure;
use crate::crew::Crew;

/// After a phase nothing happens for so long: its costs are told from those of the next.
const PAUSE: Duration = Duration::from_millis(200);

/// Prints the figures of a phase that has ended, and waits.
pub(crate) async fn ended(name: &str, figures: Value) {
    print(name, figures);
    sleep(PAUSE).await;
}

/// Members stay for a while.
pub(crate) async fn hold(crew: &mut Crew, time: Duration) -> Result<(), Failure> {
    let (began, before) = (Instant::now(), crew.shared().counts.heartbeats());
    crew.hold(time).await?;
    let heartbeats = crew.shared().counts.heartbeats() - before;
    let figures = json!({ "seconds": began.elapsed().as_secs_f64(), "heartbeats": heartbeats });
    ended("hold", figures).await;
    Ok(())
}

/// All members leave.
pub(crate) async fn leave(crew: Crew) -> Result<(), Failure> {
    let began = Instant::now();
    crew.disband().await?;
    ended("leave", json!({ "seconds": began.elapsed().as_secs_f64() })).await;
    Ok(())
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
