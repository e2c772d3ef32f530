//! Where a password comes in: one line of standard input, without echo on a terminal. Never an
//! argument: those are in every process list and in the shell's history.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::error::CliError;
use crate::directory::Secret;

/// The next line of standard input; asked for twice on a terminal.
pub fn read() -> Result<Secret, CliError> {
    if !io::stdin().is_terminal() {
        return line();
    }
    let first = prompted("Password: ")?;
    let second = prompted("Again: ")?;
    match first == second {
        true => Ok(first),
        false => Err(CliError::PasswordsDiffer),
    }
}

/// As [`read`], for a password that is not new: a terminal asks once.
pub fn read_known() -> Result<Secret, CliError> {
    match io::stdin().is_terminal() {
        true => prompted("Password: "),
        false => line(),
    }
}

fn line() -> Result<Secret, CliError> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .read_line(&mut text)
        .map_err(|error| CliError::File {
            path: "standard input".into(),
            error,
        })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text {
        "" => Err(CliError::PasswordMissing),
        text => Ok(Secret(text.to_owned())),
    }
}

fn prompted(prompt: &str) -> Result<Secret, CliError> {
    let _ = write!(io::stderr(), "{prompt}");
    let quiet = Quiet::begin();
    let read = line();
    drop(quiet);
    let _ = writeln!(io::stderr());
    read
}

/// The terminal without echo, until dropped.
struct Quiet(Option<Termios>);

impl Quiet {
    fn begin() -> Self {
        let before = tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &quiet);
        }
        Quiet(before)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}
