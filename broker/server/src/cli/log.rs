//! `esker log`: looks into the files of a log, without a broker.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use esker_protocol::records::{Batch, BatchHeader, Caps};
use esker_storage::{Disk, DiskFile, OpenMode, RealDisk};
use serde_json::{Value, json};

use super::{Failure, Outcome, Output, say, table};

/// Commands on log files.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the batches of .log files, or the entries of .index, .timeindex and text checkpoints.
    Dump(Dump),
}

/// Options of `esker log dump`.
#[derive(Debug, Args)]
pub(super) struct Dump {
    /// The files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print each record as well.
    #[arg(long)]
    records: bool,
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// The largest batch that is read: what a 32-bit length can say would be 2 GiB.
const BATCH_BYTES_MAX: usize = 256 << 20;

pub(super) fn run(command: Command) -> Outcome {
    let Command::Dump(dump) = command;
    let disk = RealDisk;
    let mut bad = Vec::new();
    for path in &dump.files {
        let at = |error: std::io::Error| Failure::Failed(format!("{}: {error}", path.display()));
        if disk.len(path).map_err(at)?.is_none() {
            return Err(Failure::Failed(format!("{}: no such file", path.display())));
        }
        let file = disk.open(path, OpenMode::Read).map_err(at)?;
        if dump.output == Output::Table {
            say(format!("{}:", path.display()));
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("index") => entries(file.as_ref(), &dump, &["RELATIVE OFFSET", "POSITION"], 4)?,
            Some("timeindex") => {
                entries(file.as_ref(), &dump, &["TIMESTAMP", "RELATIVE OFFSET"], 8)?;
            }
            Some("log") => {
                if let Some(problem) = batches(file.as_ref(), path, &dump)? {
                    bad.push(problem);
                }
            }
            _ => text(file.as_ref(), path)?,
        }
    }
    match bad.first() {
        Some(problem) => Err(Failure::Failed(problem.clone())),
        None => Ok(()),
    }
}

fn read(file: &dyn DiskFile, position: u64, bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut buffer = Vec::new();
    file.read_at(position, bytes, &mut buffer)
        .map_err(Failure::failed)?;
    Ok(buffer)
}

/// Prints the batches; returns what is wrong with the file, if anything is.
fn batches(file: &dyn DiskFile, path: &Path, dump: &Dump) -> Result<Option<String>, Failure> {
    let length = file.len().map_err(Failure::failed)?;
    let mut position = 0;
    let mut rows = Vec::new();
    let mut problem = None;
    let (mut count, mut records) = (0u64, 0i64);
    while position < length {
        let here = |what: &str| format!("{}: {what} at position {position}", path.display());
        let head = read(file, position, BatchHeader::BYTES)?;
        let header = match BatchHeader::parse(&head) {
            Ok(header) if header.size_in_bytes() <= BATCH_BYTES_MAX => header,
            Ok(_) => {
                problem = Some(here("a batch claims more than 256 MiB"));
                break;
            }
            Err(error) => {
                problem = Some(here(&error.to_string()));
                break;
            }
        };
        let bytes = read(file, position, header.size_in_bytes())?;
        let batch = match Batch::parse(&bytes) {
            Ok((batch, _)) => batch,
            Err(error) => {
                problem = Some(here(&error.to_string()));
                break;
            }
        };
        let is_valid = batch.crc_is_valid();
        if !is_valid && problem.is_none() {
            problem = Some(here("a batch's CRC does not match"));
        }
        match dump.output {
            Output::Table => rows.push(batch_row(&header, position, is_valid)),
            Output::Json => say(batch_json(&header, position, is_valid)),
        }
        if dump.records && is_valid {
            if dump.output == Output::Table {
                say(table::render(&BATCH_COLUMNS, &std::mem::take(&mut rows)));
            }
            if let Err(error) = print_records(&batch, dump.output) {
                problem.get_or_insert(here(&error));
            }
        }
        count += 1;
        records += i64::from(header.records_count);
        position += header.size_in_bytes() as u64;
    }
    if dump.output == Output::Table {
        if !rows.is_empty() {
            say(table::render(&BATCH_COLUMNS, &rows));
        }
        let invalid = length.saturating_sub(position);
        say(format!(
            "{count} batches, {records} records, {length} bytes, {invalid} invalid bytes"
        ));
    }
    Ok(problem)
}

const BATCH_COLUMNS: [&str; 10] = [
    "BASE",
    "LAST",
    "EPOCH",
    "RECORDS",
    "POSITION",
    "BYTES",
    "CODEC",
    "MAX TIMESTAMP",
    "PRODUCER",
    "FLAGS",
];

fn codec(header: &BatchHeader) -> String {
    match header.attributes.compression() {
        Ok(compression) => format!("{compression:?}").to_lowercase(),
        Err(unknown) => format!("unknown ({})", unknown.0),
    }
}

fn flags(header: &BatchHeader, is_valid: bool) -> String {
    let mut flags = Vec::new();
    if header.attributes.is_transactional() {
        flags.push("transactional");
    }
    if header.attributes.is_control() {
        flags.push("control");
    }
    if !is_valid {
        flags.push("BAD CRC");
    }
    flags.join(",")
}

fn batch_row(header: &BatchHeader, position: u64, is_valid: bool) -> Vec<String> {
    let producer = if header.has_producer() {
        format!(
            "{}/{} seq {}",
            header.producer_id, header.producer_epoch, header.base_sequence
        )
    } else {
        "-".to_owned()
    };
    vec![
        header.base_offset.to_string(),
        header.last_offset().to_string(),
        header.partition_leader_epoch.to_string(),
        header.records_count.to_string(),
        position.to_string(),
        header.size_in_bytes().to_string(),
        codec(header),
        header.max_timestamp.to_string(),
        producer,
        flags(header, is_valid),
    ]
}

fn batch_json(header: &BatchHeader, position: u64, is_valid: bool) -> Value {
    json!({
        "base_offset": header.base_offset.0,
        "last_offset": header.last_offset().0,
        "leader_epoch": header.partition_leader_epoch.0,
        "records": header.records_count,
        "position": position,
        "bytes": header.size_in_bytes(),
        "codec": codec(header),
        "base_timestamp": header.base_timestamp.0,
        "max_timestamp": header.max_timestamp.0,
        "producer_id": header.producer_id.0,
        "producer_epoch": header.producer_epoch.0,
        "base_sequence": header.base_sequence,
        "transactional": header.attributes.is_transactional(),
        "control": header.attributes.is_control(),
        "crc_valid": is_valid,
    })
}

pub(super) fn print_records(batch: &Batch<'_>, output: Output) -> Result<(), String> {
    let records = batch
        .records(&Caps::default())
        .map_err(|error| error.to_string())?;
    for record in records.iter() {
        let record = record.map_err(|error| error.to_string())?;
        let show = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => "null".to_owned(),
        };
        match output {
            Output::Table => say(format!(
                "  {} {} key={} value={}",
                record.offset,
                record.timestamp,
                printable(&show(record.key)),
                printable(&show(record.value))
            )),
            Output::Json => say(json!({
                "offset": record.offset.0,
                "timestamp": record.timestamp.0,
                "key": record.key.map(String::from_utf8_lossy),
                "value": record.value.map(String::from_utf8_lossy),
                "headers": record
                    .headers
                    .iter()
                    .map(|header| json!([header.key, header.value.map(String::from_utf8_lossy)]))
                    .collect::<Vec<_>>(),
            })),
        }
    }
    Ok(())
}

/// Text without what would upset a terminal or break the line.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escaped = character.is_control().then(|| character.escape_default());
            let plain = escaped.is_none().then_some(character);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// Prints the entries of an index: a first number of `first_bytes` bytes, and a 32-bit one.
fn entries(file: &dyn DiskFile, dump: &Dump, columns: &[&str; 2], first_bytes: usize) -> Outcome {
    let length = usize::try_from(file.len().map_err(Failure::failed)?).unwrap_or(usize::MAX);
    let bytes = read(file, 0, length)?;
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0i64, |n, byte| (n << 8) | i64::from(*byte))
    };
    let rows: Vec<Vec<String>> = bytes
        .chunks_exact(first_bytes + 4)
        .map(|entry| {
            let (first, second) = entry.split_at(first_bytes);
            vec![number(first).to_string(), number(second).to_string()]
        })
        .collect();
    match dump.output {
        Output::Table => say(table::render(columns, &rows)),
        Output::Json => {
            for row in &rows {
                let object: serde_json::Map<String, Value> = columns
                    .iter()
                    .zip(row)
                    .map(|(column, cell)| {
                        (
                            column.to_lowercase().replace(' ', "_"),
                            json!(cell.parse::<i64>().ok()),
                        )
                    })
                    .collect();
                say(Value::Object(object));
            }
        }
    }
    Ok(())
}

/// Prints a text checkpoint as it is.
fn text(file: &dyn DiskFile, path: &Path) -> Outcome {
    const TEXT_BYTES_MAX: usize = 16 << 20;
    let bytes = read(file, 0, TEXT_BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::Failed(format!(
            "{}: not a .log, .index or .timeindex file, and not text",
            path.display()
        ))
    })?;
    say(text.trim_end());
    Ok(())
}
