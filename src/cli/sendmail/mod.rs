//! `palomar sendmail`: what programs of this host send mail with, in the manner of other mail
//! servers' /usr/sbin/sendmail, mailq and newaliases.
//!
//! [`arguments`] and [`letter`] are pure: what the words mean, and what a message says; [`talk`] is
//! the dialogue with the server, by SMTP over its local socket. It knows who we are from the kernel.
//!
//! Exit codes are those of sysexits.h. A message is with the server, or the code is not 0.

mod arguments;
mod letter;
mod talk;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::error::{CliError, Unanswered};
use super::{DEFAULT_CONFIG, Site, queue};
use crate::config::Config;
use crate::net;
use arguments::{Arguments, Mode};
use letter::Letter;
use talk::Talk;

/// Where the socket is looked for by who may not read the configuration.
const USUAL_SOCKET: &str = "/run/palomar/sendmail.sock";
/// No server takes more; beyond, nobody's memory is to be filled.
const MESSAGE_BYTES_MAX: u64 = 1 << 30;

/// Names that mean this command where the program is called by them.
const NAMES: [&str; 4] = ["sendmail", "send-mail", "mailq", "newaliases"];

#[derive(Debug, Args)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Sendmail {
    /// As other mail servers' sendmail takes them: -t -i -f ADDRESS -F NAME -bp -bs, and recipients
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENTS"
    )]
    words: Vec<OsString>,
}

/// Why a message is not sent, or not to all: what sysexits.h calls it, and in words.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The arguments mean nothing here.
    Usage(String),
    /// The message itself, or what it says of recipients.
    Data(String),
    /// These recipients were refused; the others have it.
    Recipients(Vec<String>),
    /// The server wants no such mail, or there is none here.
    Unavailable(String),
    /// Nobody has it; later somebody may.
    Later(String),
    Forbidden(String),
    Config(String),
}

impl Unsent {
    fn code(&self) -> u8 {
        match self {
            Unsent::Usage(_) => 64,
            Unsent::Data(_) => 65,
            Unsent::Recipients(_) => 67,
            Unsent::Unavailable(_) => 69,
            Unsent::Later(_) => 75,
            Unsent::Forbidden(_) => 77,
            Unsent::Config(_) => 78,
        }
    }
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsent::Usage(text)
            | Unsent::Data(text)
            | Unsent::Unavailable(text)
            | Unsent::Later(text)
            | Unsent::Forbidden(text)
            | Unsent::Config(text) => f.write_str(text),
            Unsent::Recipients(refused) => write!(
                f,
                "not sent to {}; recipients that are not named here have it",
                refused.join(", ")
            ),
        }
    }
}

/// The command, where the program is called by one of its names.
pub fn called() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    let name = words.next()?;
    let name = Path::new(&name).file_name()?.to_str()?.to_owned();
    let is_ours = NAMES.contains(&name.as_str());
    is_ours.then(|| end(&name, perform(&name, words, None)))
}

impl Sendmail {
    pub fn run(self, site: &Site) -> ExitCode {
        let words = self.words.into_iter();
        end("sendmail", perform("sendmail", words, site.given.clone()))
    }
}

fn end(name: &str, outcome: Result<(), Unsent>) -> ExitCode {
    let Err(why) = outcome else {
        return ExitCode::SUCCESS;
    };
    // Where standard error is closed too there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{name}: {why}");
    ExitCode::from(why.code())
}

fn perform(
    name: &str,
    words: impl Iterator<Item = OsString>,
    config: Option<PathBuf>,
) -> Result<(), Unsent> {
    let mut arguments = arguments::parse(words).map_err(Unsent::Usage)?;
    match name {
        "mailq" => arguments.mode = Mode::List,
        "newaliases" => arguments.mode = Mode::Nothing,
        _ => {}
    }
    let given = arguments.config.take().or(config);
    match arguments.mode {
        // What `palomar alias` does counts at once.
        Mode::Nothing => Ok(()),
        Mode::List => list(given),
        Mode::Smtp => Talk::relay(&socket(given)?),
        Mode::Deliver => deliver(&arguments, given),
    }
}

fn deliver(arguments: &Arguments, config: Option<PathBuf>) -> Result<(), Unsent> {
    if arguments.recipients.is_empty() && !arguments.is_from_header {
        return Err(Unsent::Usage(
            "no recipients: name them, or give -t to take them from the message".to_owned(),
        ));
    }
    let socket = socket(config)?;
    let letter = Letter::read(&input()?, arguments.is_dot_end);
    let uid = rustix::process::getuid().as_raw();
    let (login, name) =
        net::user_names(uid).unwrap_or_else(|| (format!("uid{uid}"), String::new()));
    let mut talk = Talk::open(&socket)?;
    let domain = talk.domain();
    let sender = arguments.sender.as_deref().unwrap_or(&login);
    let sender = letter::path(sender, &domain).map_err(Unsent::Usage)?;
    let mut recipients = Vec::new();
    for text in &arguments.recipients {
        recipients.extend(letter::addresses(text.as_bytes(), &domain).map_err(Unsent::Usage)?);
    }
    if arguments.is_from_header {
        recipients.extend(letter.recipients(&domain).map_err(Unsent::Data)?);
    }
    if recipients.is_empty() {
        return Err(Unsent::Data("the message names no recipients".to_owned()));
    }
    let own = || letter::path(&login, &domain).ok();
    let name = arguments.full_name.as_deref().unwrap_or(&name);
    let content = letter.content(name, &sender, own().as_ref());
    talk.send(arguments, sender, &recipients, &content)
}

/// The whole message: nothing is begun with the server before it is there.
fn input() -> Result<Vec<u8>, Unsent> {
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(MESSAGE_BYTES_MAX + 1)
        .read_to_end(&mut bytes);
    read.map_err(|error| Unsent::Data(format!("the message cannot be read: {error}")))?;
    match bytes.len() as u64 > MESSAGE_BYTES_MAX {
        true => Err(Unsent::Data("the message is too long".to_owned())),
        false => Ok(bytes),
    }
}

/// The server's socket for us: by the configuration, or, where we may not read that, as usual.
fn socket(config: Option<PathBuf>) -> Result<PathBuf, Unsent> {
    let path = config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let is_readable = File::open(path).is_ok();
    if config.is_none() && !is_readable {
        return Ok(USUAL_SOCKET.into());
    }
    let config = Config::load(path).map_err(|errors| {
        Unsent::Config(format!(
            "the mail server's configuration is not to be used:\n{}",
            errors.render(false)
        ))
    })?;
    config.sendmail_socket().ok_or_else(|| {
        Unsent::Unavailable(
            "programs of this host cannot send mail: `sendmail.enabled` is false".to_owned(),
        )
    })
}

/// What waits, for whoever may see that.
fn list(config: Option<PathBuf>) -> Result<(), Unsent> {
    match queue::Queue::everything().run(&Site { given: config }) {
        Ok(()) | Err(CliError::PipeClosed) => Ok(()),
        Err(error) => {
            let text = error.render(false);
            let text = text.trim_start_matches("error: ").to_owned();
            Err(match (&error, error.exit_code()) {
                (
                    CliError::Unanswered {
                        why: Unanswered::Forbidden,
                        ..
                    },
                    _,
                ) => Unsent::Forbidden(text),
                (CliError::Config(_), _) => Unsent::Config(text),
                (_, 75) => Unsent::Later(text),
                _ => Unsent::Unavailable(text),
            })
        }
    }
}
