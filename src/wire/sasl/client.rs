//! The client's side of PLAIN and LOGIN, for logging in to a smarthost.
//!
//! As on the server's side everything is in base64 as it stands on the line. SCRAM is not here: it
//! keeps the password from a server that we verified anyway.

use data_encoding::BASE64;

use super::Mechanism;
use super::secret::Secret;

/// Who we are at another server.
#[derive(Debug)]
pub struct Login {
    pub name: String,
    pub password: Secret,
}

/// What we have to say next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    Plain,
    LoginName,
    LoginPassword,
    /// Nothing more: another question ends the exchange.
    Nothing,
}

impl Response {
    /// The mechanism to use of those that the server offers (in upper case), PLAIN rather than
    /// LOGIN; `None` where there is neither.
    #[must_use]
    pub fn choose(offered: &[String]) -> Option<(Mechanism, Response)> {
        let offers = |mechanism: Mechanism| offered.iter().any(|name| name == mechanism.name());
        if offers(Mechanism::Plain) {
            Some((Mechanism::Plain, Response::Plain))
        } else if offers(Mechanism::Login) {
            Some((Mechanism::Login, Response::LoginName))
        } else {
            None
        }
    }

    /// The line to send, and what comes after it; `None` where the exchange is to be cancelled.
    /// The server's question is not read: LOGIN's is worded as servers like, PLAIN's is empty.
    #[must_use]
    pub fn line(self, login: &Login) -> Option<(String, Response)> {
        let password = login.password.expose();
        match self {
            Response::Plain => {
                let name = login.name.as_bytes();
                // RFC 4616 2: no authorization identity, the name, the password.
                let message = Secret::new([b"\0", name, b"\0", password].concat());
                Some((BASE64.encode(message.expose()), Response::Nothing))
            }
            Response::LoginName => {
                let line = BASE64.encode(login.name.as_bytes());
                Some((line, Response::LoginPassword))
            }
            Response::LoginPassword => Some((BASE64.encode(password), Response::Nothing)),
            Response::Nothing => None,
        }
    }
}
