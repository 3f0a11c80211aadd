//! Reads scripts of groups and answers with their assignments; see [`script`].

use std::error::Error;
use std::io::{self, BufRead, BufWriter, Write};

mod script;

fn main() -> Result<(), Box<dyn Error>> {
    let mut group = script::Group::default();
    let mut output = BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        output.write_all(group.apply(&line?)?.as_bytes())?;
    }
    output.flush()?;
    Ok(())
}
