//! SASL: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), for SMTP, IMAP, POP3 and
//! ManageSieve alike; the server's side here, the client's in `client`.
//!
//! An exchange is a value that each answer consumes. Everything here is in base64 as it stands on
//! the line; `+ `, `334 ` and the like are the protocol's. Whether the password is right is for
//! `directory` to say.

mod client;
mod secret;
#[cfg(test)]
mod tests;

pub use client::{Login, Response};
pub use secret::Secret;

/// A mechanism that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    Login,
}

/// What the client has to say next.
#[derive(Debug, PartialEq, Eq)]
pub enum Exchange {
    /// PLAIN: the one message.
    Plain,
    LoginName,
    LoginPassword {
        login: String,
    },
}

/// What becomes of an exchange.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send `text` (base64, may be empty) and hand the next line to [`Exchange::answer`].
    Challenge {
        text: &'static str,
        next: Exchange,
    },
    Done(Credentials),
    Fail(Failure),
}

/// Who wants to be let in, not yet checked.
#[derive(Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Whom to act as, if that is not `login` itself (RFC 4616 2).
    pub authzid: Option<String>,
    pub login: String,
    pub password: Secret,
}

/// Why an exchange ended without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No mechanism of that name is offered.
    UnknownMechanism,
    /// The client sent `*` (RFC 4954 4, RFC 9051 6.2.2, RFC 5034 4).
    Cancelled,
    BadBase64,
    /// Decoded, but not what the mechanism says, empty, or not UTF-8.
    Malformed,
}

/// `Username:` and `Password:`, which some clients compare to the letter.
const LOGIN_NAME: &str = "VXNlcm5hbWU6";
const LOGIN_PASSWORD: &str = "UGFzc3dvcmQ6";

impl Mechanism {
    /// All of them, for CAPABILITY, EHLO and CAPA.
    pub const ALL: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }

    /// Begins an exchange. `initial` is the initial response as it stood in the command, where
    /// `=` stands for an empty one (RFC 4954 4, RFC 4959 3, RFC 5034 4).
    #[must_use]
    pub fn start(name: &str, initial: Option<&[u8]>) -> Step {
        let mut known = Self::ALL.into_iter();
        let Some(mechanism) = known.find(|known| known.name().eq_ignore_ascii_case(name)) else {
            return Step::Fail(Failure::UnknownMechanism);
        };
        let first = match mechanism {
            Mechanism::Plain => Exchange::Plain,
            Mechanism::Login => Exchange::LoginName,
        };
        match (initial, mechanism) {
            (Some(b"="), Mechanism::Plain) => Step::Fail(Failure::Malformed),
            // LOGIN has no initial response; Outlook sends the name in one all the same.
            (Some(initial), _) if initial != b"=" => first.answer(initial),
            (_, Mechanism::Plain) => first.challenge(""),
            (_, Mechanism::Login) => first.challenge(LOGIN_NAME),
        }
    }
}

impl Exchange {
    /// Takes the client's line, without its line end.
    #[must_use]
    pub fn answer(self, line: &[u8]) -> Step {
        if line == b"*" {
            return Step::Fail(Failure::Cancelled);
        }
        // Strict: canonical alphabet, padding and trailing bits (RFC 4648 3.5, RFC 4954 4).
        let decoded = match data_encoding::BASE64.decode(line) {
            Ok(decoded) => Secret::new(decoded),
            Err(_) => return Step::Fail(Failure::BadBase64),
        };
        let step = match self {
            Exchange::Plain => plain(decoded.expose()).map(Step::Done),
            Exchange::LoginName => text(decoded.expose())
                .map(|login| Exchange::LoginPassword { login }.challenge(LOGIN_PASSWORD)),
            Exchange::LoginPassword { login } => login_done(login, decoded).map(Step::Done),
        };
        step.unwrap_or(Step::Fail(Failure::Malformed))
    }

    fn challenge(self, text: &'static str) -> Step {
        Step::Challenge { text, next: self }
    }
}

/// `[authzid] NUL authcid NUL passwd` (RFC 4616 2).
fn plain(message: &[u8]) -> Option<Credentials> {
    let mut parts = message.split(|b| *b == 0);
    let (authzid, login, password) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || password.is_empty() {
        return None;
    }
    std::str::from_utf8(password).ok()?;
    let authzid = match authzid {
        b"" => None,
        authzid => Some(text(authzid)?),
    };
    Some(Credentials {
        authzid,
        login: text(login)?,
        password: Secret::new(password.to_vec()),
    })
}

fn login_done(login: String, password: Secret) -> Option<Credentials> {
    let bytes = password.expose();
    if bytes.is_empty() || bytes.contains(&0) || std::str::from_utf8(bytes).is_err() {
        return None;
    }
    Some(Credentials {
        authzid: None,
        login,
        password,
    })
}

/// A name: UTF-8, not empty, without NUL.
fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned())
}
