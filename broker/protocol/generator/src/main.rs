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
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

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
        let formatted = format(&text).map_err(|error| format!("{name}: {error}"))?;
        files.insert(format!("{}.rs", model::snake_case(name)), formatted);
    }
    let mut requests: Vec<&Message> = messages
        .values()
        .map(|(message, _)| message)
        .filter(|message| message.kind == Kind::Request)
        .collect();
    requests.sort_by_key(|message| message.api_key);
    let source = format!("Apache Kafka {release}");
    files.insert(
        "api_key.rs".to_owned(),
        format(&api::keys(&requests, &source)?)?,
    );
    let names: Vec<&str> = messages.keys().map(String::as_str).collect();
    files.insert("mod.rs".to_owned(), api::modules(&names, &source));
    Ok(files)
}

/// Runs rustfmt, with the workspace's settings spelled out so that the current folder is no input.
fn format(text: &str) -> Result<String, String> {
    let mut child = Command::new("rustfmt")
        .args([
            "--edition",
            "2024",
            "--emit",
            "stdout",
            "--quiet",
            "--config",
        ])
        .arg("max_width=100,newline_style=Unix,use_small_heuristics=Default")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("rustfmt: {error}"))?;
    let mut input = child.stdin.take().ok_or("rustfmt takes no input")?;
    input
        .write_all(text.as_bytes())
        .map_err(|error| format!("rustfmt: {error}"))?;
    drop(input);
    let output = child
        .wait_with_output()
        .map_err(|error| format!("rustfmt: {error}"))?;
    if !output.status.success() {
        return Err(format!("rustfmt refuses\n{text}"));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
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
