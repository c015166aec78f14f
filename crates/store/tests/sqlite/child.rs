//! A test that runs a second time in a process of its own, to be killed or bounded there.
//!
//! Refuses to know what the child does.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

const FOLDER: &str = "SEALMQ_TEST_FOLDER";
const ARGUMENT: &str = "SEALMQ_TEST_ARGUMENT";

/// In the child: its folder and argument.
pub fn role() -> Option<(std::path::PathBuf, u64)> {
    let folder = std::env::var_os(FOLDER)?;
    Some((folder.into(), std::env::var(ARGUMENT).unwrap().parse().unwrap()))
}

/// This binary again, for one test; `before` is shell that runs first in the same process.
pub fn command(test: &str, before: &str, folder: &OsStr, argument: u64) -> Command {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("{before} exec \"$0\" --exact \"$1\" --nocapture --test-threads=1"),
        ])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(FOLDER, folder)
        .env(ARGUMENT, argument.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}
