//! POP3 commands (RFC 1939 5 to 7): one line each.

use std::fmt;

use crate::wire::sasl::Secret;

/// A command. Message numbers count from 1 (RFC 1939 4).
#[derive(PartialEq, Eq)]
pub enum Command<'a> {
    User(&'a str),
    Pass(Secret),
    /// The initial response is in base64, `=` for empty (RFC 5034 4). Some clients leave
    /// the mechanism out to ask for the list of them.
    Auth {
        mechanism: Option<&'a str>,
        initial: Option<&'a [u8]>,
    },
    Capa,
    Stls,
    /// RFC 6856 2.1.
    Utf8,
    Stat,
    List(Option<u32>),
    Uidl(Option<u32>),
    Retr(u32),
    Top {
        message: u32,
        lines: u32,
    },
    Dele(u32),
    Noop,
    Rset,
    Quit,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    UnknownCommand,
    MissingArgument,
    ExtraArgument,
    BadNumber,
    NotUtf8,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::UnknownCommand => "unknown command",
            Fault::MissingArgument => "an argument is missing",
            Fault::ExtraArgument => "too many arguments",
            Fault::BadNumber => "a message number is expected",
            Fault::NotUtf8 => "the name is not UTF-8",
        })
    }
}

impl fmt::Debug for Command<'_> {
    /// The name of the command and no argument: lines hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Command::User(_) => "USER",
            Command::Pass(_) => "PASS",
            Command::Auth { .. } => "AUTH",
            Command::Capa => "CAPA",
            Command::Stls => "STLS",
            Command::Utf8 => "UTF8",
            Command::Stat => "STAT",
            Command::List(_) => "LIST",
            Command::Uidl(_) => "UIDL",
            Command::Retr(_) => "RETR",
            Command::Top { .. } => "TOP",
            Command::Dele(_) => "DELE",
            Command::Noop => "NOOP",
            Command::Rset => "RSET",
            Command::Quit => "QUIT",
        })
    }
}

/// Reads a line, given without its line end.
pub fn parse(line: &[u8]) -> Result<Command<'_>, Fault> {
    let (name, argument) = match memchr::memchr(b' ', line) {
        Some(space) => (&line[..space], &line[space + 1..]),
        None => (line, &b""[..]),
    };
    let mut upper = [0u8; 4];
    let name = upper.get_mut(..name.len()).map(|upper| {
        upper.copy_from_slice(name);
        upper.make_ascii_uppercase();
        &*upper
    });
    match name.ok_or(Fault::UnknownCommand)? {
        b"USER" => match argument {
            b"" => Err(Fault::MissingArgument),
            name => std::str::from_utf8(name)
                .map(Command::User)
                .map_err(|_| Fault::NotUtf8),
        },
        // "a server may treat spaces in the argument as part of the password" (RFC 1939 7).
        b"PASS" => match argument {
            b"" => Err(Fault::MissingArgument),
            password => Ok(Command::Pass(Secret::new(password.to_vec()))),
        },
        b"AUTH" => auth(argument),
        b"CAPA" => bare(argument, Command::Capa),
        b"STLS" => bare(argument, Command::Stls),
        b"UTF8" => bare(argument, Command::Utf8),
        b"STAT" => bare(argument, Command::Stat),
        b"LIST" => numbers::<1>(argument).map(|[n]| Command::List(n)),
        b"UIDL" => numbers::<1>(argument).map(|[n]| Command::Uidl(n)),
        b"RETR" => message(argument).map(Command::Retr),
        b"DELE" => message(argument).map(Command::Dele),
        b"TOP" => match numbers::<2>(argument)? {
            [Some(0), _] => Err(Fault::BadNumber),
            [Some(message), Some(lines)] => Ok(Command::Top { message, lines }),
            _ => Err(Fault::MissingArgument),
        },
        b"NOOP" => bare(argument, Command::Noop),
        b"RSET" => bare(argument, Command::Rset),
        b"QUIT" => bare(argument, Command::Quit),
        _ => Err(Fault::UnknownCommand),
    }
}

/// Words behind the name, as many as there are. Spaces at the end do no harm.
fn words(argument: &[u8]) -> impl Iterator<Item = &[u8]> {
    argument
        .split(|b| *b == b' ')
        .filter(|word| !word.is_empty())
}

fn bare<'a>(argument: &[u8], command: Command<'a>) -> Result<Command<'a>, Fault> {
    match words(argument).next() {
        None => Ok(command),
        Some(_) => Err(Fault::ExtraArgument),
    }
}

fn auth(argument: &[u8]) -> Result<Command<'_>, Fault> {
    let mut words = words(argument);
    let mechanism = words.next().map(std::str::from_utf8).transpose();
    let mechanism = mechanism.map_err(|_| Fault::NotUtf8)?;
    let initial = words.next();
    match words.next() {
        None => Ok(Command::Auth { mechanism, initial }),
        Some(_) => Err(Fault::ExtraArgument),
    }
}

fn message(argument: &[u8]) -> Result<u32, Fault> {
    let [n] = numbers::<1>(argument)?;
    match n.ok_or(Fault::MissingArgument)? {
        0 => Err(Fault::BadNumber),
        n => Ok(n),
    }
}

fn numbers<const N: usize>(argument: &[u8]) -> Result<[Option<u32>; N], Fault> {
    let mut found = [None; N];
    for (n, word) in words(argument).enumerate() {
        *found.get_mut(n).ok_or(Fault::ExtraArgument)? = Some(number(word)?);
    }
    Ok(found)
}

fn number(word: &[u8]) -> Result<u32, Fault> {
    word.iter()
        .try_fold(0u32, |n, b| {
            let digit = b.is_ascii_digit().then(|| u32::from(b - b'0'))?;
            n.checked_mul(10)?.checked_add(digit)
        })
        .ok_or(Fault::BadNumber)
}
