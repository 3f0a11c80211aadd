//! Writes the protocol crate's `messages` from Kafka's message descriptors.
//!
//! ```text
//! esker-protocol-generator --jars DIR --out DIR [--own DIR] [--check]
//! ```
//!
//! `--jars` is a folder with Kafka's jars, `--own` one with descriptors of ours in the same form.
//! The output is committed; `--check` writes nothing and fails when it is stale. What stands in
//! `--out` and is not generated any more is removed.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a development tool that reads and writes source files and talks to its user"
)]

mod api;
mod descriptor;
mod emit;
mod model;
mod source;
mod versions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use descriptor::Kind;
use model::Message;

const USAGE: &str = "usage: esker-protocol-generator --jars DIR --out DIR [--own DIR] [--check]";

struct Arguments {
    jars: PathBuf,
    out: PathBuf,
    own: Option<PathBuf>,
    check: bool,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments(mut given: impl Iterator<Item = String>) -> Option<Arguments> {
    let (mut jars, mut out, mut own, mut check) = (None, None, None, false);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--jars" => jars = Some(given.next()?.into()),
            "--out" => out = Some(given.next()?.into()),
            "--own" => own = Some(given.next()?.into()),
            "--check" => check = true,
            _ => return None,
        }
    }
    Some(Arguments {
        jars: jars?,
        out: out?,
        own,
        check,
    })
}

fn run(arguments: &Arguments) -> Result<String, String> {
    let files = generate(arguments)?;
    let stale = stale(&arguments.out, &files)?;
    if arguments.check {
        return match stale.as_slice() {
            [] => Ok(format!("{} files are up to date", files.len())),
            _ => Err(format!("stale, run the generator: {}", stale.join(", "))),
        };
    }
    std::fs::create_dir_all(&arguments.out).map_err(|error| error.to_string())?;
    for name in &stale {
        let path = arguments.out.join(name);
        let done = match files.get(name) {
            Some(text) => std::fs::write(&path, text),
            None => std::fs::remove_file(&path),
        };
        done.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(format!("{} of {} files changed", stale.len(), files.len()))
}

/// File names and their formatted texts.
fn generate(arguments: &Arguments) -> Result<BTreeMap<String, String>, String> {
    let (release, mut found) = source::from_jars(&arguments.jars)?;
    if let Some(own) = &arguments.own {
        found.extend(source::from_folder(own)?);
    }
    let mut messages: BTreeMap<String, (Message, String)> = BTreeMap::new();
    for found in &found {
        let name = &found.descriptor.name;
        let message =
            model::resolve(&found.descriptor).map_err(|error| format!("{name}: {error}"))?;
        if messages
            .insert(name.clone(), (message, found.origin.clone()))
            .is_some()
        {
            return Err(format!("{name} is defined twice"));
        }
    }
    let mut files = BTreeMap::new();
    for (name, (message, origin)) in &messages {
        let mut text = emit::message(message, origin);
        if message.kind == Kind::Request {
            let response = format!("{}Response", name.trim_end_matches("Request"));
            let (response, _) = messages
                .get(&response)
                .ok_or_else(|| format!("{name} has no response"))?;
            text = emit::with_response(&text, response);
        }
        files.insert(format!("{}.rs", model::snake_case(name)), text);
    }
    let mut requests: Vec<&Message> = messages
        .values()
        .map(|(message, _)| message)
        .filter(|message| message.kind == Kind::Request)
        .collect();
    requests.sort_by_key(|message| message.api_key);
    let source = format!("Apache Kafka {release}");
    files.insert("api_key.rs".to_owned(), api::keys(&requests, &source)?);
    format(&mut files)?;
    let names: Vec<&str> = messages.keys().map(String::as_str).collect();
    files.insert("mod.rs".to_owned(), api::modules(&names, &source));
    Ok(files)
}

/// Runs rustfmt once over all files, with the workspace's settings spelled out so that no file of
/// settings is an input.
fn format(files: &mut BTreeMap<String, String>) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("esker-generator-{}", std::process::id()));
    let formatted = format_in(&folder, files);
    // Whatever happened above matters more than a folder left behind.
    let _ = std::fs::remove_dir_all(&folder);
    formatted
}

fn format_in(folder: &Path, files: &mut BTreeMap<String, String>) -> Result<(), String> {
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(at)?;
    for (name, text) in files.iter() {
        std::fs::write(folder.join(name), text).map_err(at)?;
    }
    let status = Command::new("rustfmt")
        .args(["--edition", "2024", "--quiet", "--config"])
        .arg("max_width=100,newline_style=Unix,use_small_heuristics=Default")
        .args(files.keys().map(|name| folder.join(name)))
        .status()
        .map_err(|error| format!("rustfmt: {error}"))?;
    if !status.success() {
        return Err("rustfmt refuses what was generated".to_owned());
    }
    for (name, text) in files.iter_mut() {
        *text = std::fs::read_to_string(folder.join(name)).map_err(at)?;
    }
    Ok(())
}

/// The files that differ from what they should be, are missing, or should not be there.
fn stale(out: &Path, files: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let mut stale: Vec<String> = files
        .iter()
        .filter(|(name, text)| {
            !std::fs::read_to_string(out.join(name)).is_ok_and(|there| there == **text)
        })
        .map(|(name, _)| name.clone())
        .collect();
    if out.is_dir() {
        for entry in std::fs::read_dir(out).map_err(|error| error.to_string())? {
            let name = entry.map_err(|error| error.to_string())?.file_name();
            let name = name.to_string_lossy().into_owned();
            if !files.contains_key(&name) {
                stale.push(name);
            }
        }
    }
    Ok(stale)
}
