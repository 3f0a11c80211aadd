//! `esker tier verify`.

use clap::Args;
use esker_tier::inspect::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Filter, Store, failed, folder};
use crate::cli::{Failure, Outcome, Output, say, table};

/// Options of `esker tier verify`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    filter: Filter,
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// What was found in all partitions together.
#[derive(Debug, Default)]
struct Found {
    partitions: u64,
    objects: u64,
    object_bytes: u64,
    segment_bytes: u64,
    unnamed: u64,
    problems: Vec<String>,
}

pub(super) async fn run(options: &Verify) -> Outcome {
    let bucket = options.store.open()?;
    let listing = options.filter.list(&bucket).await?;
    let total = listing
        .partitions
        .values()
        .map(|contents| contents.object_bytes())
        .sum();
    let bar = bar(total);
    let mut found = Found::default();
    for (place, contents) in &listing.partitions {
        let done = found.object_bytes;
        bar.set_message(folder(place));
        let verified = bucket.verify(place, contents, |progress: Progress| {
            bar.set_position(done + progress.bytes);
        });
        let report = verified.await.map_err(failed)?;
        found.partitions += 1;
        found.objects += report.progress.objects;
        found.object_bytes += report.progress.bytes;
        found.segment_bytes += report.segment_bytes;
        found.unnamed += report.unnamed.len() as u64;
        found.problems.extend(report.problems);
    }
    bar.finish_and_clear();
    found.show(options.output);
    found.outcome()
}

/// A bar on stderr, which shows nothing where nobody watches.
fn bar(bytes: u64) -> ProgressBar {
    let template = "{bar:30} {bytes:>10} of {total_bytes}  {bytes_per_sec}  {eta} left  {msg}";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style)
}

impl Found {
    fn show(&self, output: Output) {
        match output {
            Output::Table => {
                self.problems.iter().for_each(say);
                say(format!(
                    "{} partitions, {} objects, {} read, {} of log decompressed and checked, {} wrong",
                    self.partitions,
                    self.objects,
                    table::size(self.object_bytes),
                    table::size(self.segment_bytes),
                    self.problems.len()
                ));
                if self.unnamed > 0 {
                    say(format!(
                        "{} objects that no manifest names: of an upload that was never committed, or under way",
                        self.unnamed
                    ));
                }
            }
            Output::Json => say(json!({
                "partitions": self.partitions,
                "objects": self.objects,
                "object_bytes": self.object_bytes,
                "segment_bytes": self.segment_bytes,
                "unnamed": self.unnamed,
                "problems": self.problems,
            })),
        }
    }

    fn outcome(&self) -> Outcome {
        match self.problems.len() {
            0 => Ok(()),
            1 => Err(Failure::Failed("1 problem found".to_owned())),
            count => Err(Failure::Failed(format!("{count} problems found"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_makes_the_command_fail() {
        let clean = Found {
            partitions: 1,
            ..Found::default()
        };
        assert!(clean.outcome().is_ok());
        let bad = Found {
            problems: vec!["a: it is damaged".to_owned()],
            ..Found::default()
        };
        assert!(matches!(bad.outcome(), Err(Failure::Failed(_))));
    }
}
