//! Command lines (RFC 5321 4.1, RFC 2033, 3030, 3207, 4954).

use super::error::SyntaxError;
use super::params::{MailFrom, RcptTo};

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// EHLO with the client's name, which is checked by nobody here.
    Ehlo(&'a str),
    /// HELO.
    Helo(&'a str),
    /// LHLO (RFC 2033).
    Lhlo(&'a str),
    /// MAIL FROM.
    Mail(MailFrom),
    /// RCPT TO.
    Rcpt(RcptTo),
    /// DATA.
    Data,
    /// BDAT (RFC 3030).
    Bdat {
        /// Bytes that follow the line.
        bytes: u64,
        /// True for the message's last chunk.
        last: bool,
    },
    /// RSET.
    Rset,
    /// NOOP; its argument is ignored.
    Noop,
    /// QUIT.
    Quit,
    /// VRFY.
    Vrfy(&'a str),
    /// EXPN.
    Expn(&'a str),
    /// HELP; its argument is ignored.
    Help,
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954).
    Auth {
        /// As sent.
        mechanism: &'a str,
        /// Still in base64; `=` is an empty one.
        initial: Option<&'a str>,
    },
}

impl<'a> Command<'a> {
    /// Reads a line without its CRLF.
    pub fn parse(line: &'a [u8]) -> Result<Self, SyntaxError> {
        let text = str::from_utf8(line).map_err(|_| SyntaxError::BadCharacter)?;
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(SyntaxError::BadCharacter);
        }
        // RFC 5321 4.1.1: blanks before the CRLF are tolerated.
        let text = text.trim_end_matches([' ', '\t']);
        let (verb, argument) = text.split_once(' ').unwrap_or((text, ""));
        let argument = argument.trim_start_matches([' ', '\t']);
        let bare = |command| match argument {
            "" => Ok(command),
            _ => Err(SyntaxError::UnexpectedArgument),
        };
        let is = |name: &str| verb.eq_ignore_ascii_case(name);
        match verb.len() {
            4 if is("EHLO") => client_name(argument).map(Command::Ehlo),
            4 if is("HELO") => client_name(argument).map(Command::Helo),
            4 if is("LHLO") => client_name(argument).map(Command::Lhlo),
            4 if is("MAIL") => MailFrom::parse(argument).map(Command::Mail),
            4 if is("RCPT") => RcptTo::parse(argument).map(Command::Rcpt),
            4 if is("DATA") => bare(Command::Data),
            4 if is("BDAT") => parse_bdat(argument),
            4 if is("RSET") => bare(Command::Rset),
            4 if is("NOOP") => Ok(Command::Noop),
            4 if is("QUIT") => bare(Command::Quit),
            4 if is("VRFY") => some_argument(argument).map(Command::Vrfy),
            4 if is("EXPN") => some_argument(argument).map(Command::Expn),
            4 if is("HELP") => Ok(Command::Help),
            8 if is("STARTTLS") => bare(Command::StartTls),
            4 if is("AUTH") => parse_auth(argument),
            _ => Err(SyntaxError::UnknownCommand),
        }
    }
}

/// RFC 5321 4.1.1.1 wants a domain or address literal; what real clients send is taken, up to the
/// first blank.
fn client_name(argument: &str) -> Result<&str, SyntaxError> {
    let name = argument.split([' ', '\t']).next().unwrap_or_default();
    (!name.is_empty())
        .then_some(name)
        .ok_or(SyntaxError::NoClientName)
}

fn some_argument(argument: &str) -> Result<&str, SyntaxError> {
    (!argument.is_empty())
        .then_some(argument)
        .ok_or(SyntaxError::NoArgument)
}

/// RFC 3030 2: `BDAT size [LAST]`.
fn parse_bdat(argument: &str) -> Result<Command<'_>, SyntaxError> {
    let mut words = argument.split_ascii_whitespace();
    let digits = words.next().ok_or(SyntaxError::BadChunkSize)?;
    if digits.len() > 18 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(SyntaxError::BadChunkSize);
    }
    let bytes = digits.parse().map_err(|_| SyntaxError::BadChunkSize)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(SyntaxError::BadChunkSize),
    };
    match words.next() {
        None => Ok(Command::Bdat { bytes, last }),
        Some(_) => Err(SyntaxError::BadChunkSize),
    }
}

/// RFC 4954 4: `AUTH mechanism [initial-response]`.
fn parse_auth(argument: &str) -> Result<Command<'_>, SyntaxError> {
    let mut words = argument.split_ascii_whitespace();
    let mechanism = words.next().ok_or(SyntaxError::BadAuth)?;
    let initial = words.next();
    match words.next() {
        None => Ok(Command::Auth { mechanism, initial }),
        Some(_) => Err(SyntaxError::BadAuth),
    }
}
