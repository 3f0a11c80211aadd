//! The `esker` binary; see [`esker_server::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    esker_server::cli::main()
}
