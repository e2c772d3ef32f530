//! Why a command line is refused, and what the client is told.

use super::reply::Reply;
use crate::wire::address::AddressError;

/// A command line that is refused. Each kind has one reply (RFC 5321 4.2.4, RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyntaxError {
    /// No verb that we know.
    UnknownCommand,
    /// The line holds a control character or is no UTF-8.
    BadCharacter,
    /// Something follows a command that takes nothing.
    UnexpectedArgument,
    /// EHLO, HELO or LHLO without a name.
    NoClientName,
    /// Neither `FROM:` nor `TO:` where one belongs.
    NoPath,
    /// The path itself.
    Path(AddressError),
    /// `RCPT TO:<>`.
    NullRecipient,
    /// A parameter we do not know, or twice.
    UnknownParameter,
    /// A parameter we know, with a value that it cannot have.
    BadParameter(&'static str),
    /// A non-ASCII address without SMTPUTF8 (RFC 6531 3.5).
    NeedsSmtpUtf8,
    /// BDAT without a size.
    BadChunkSize,
    /// AUTH without a mechanism, or with words too many.
    BadAuth,
    /// VRFY or EXPN without an argument.
    NoArgument,
}

impl SyntaxError {
    /// What the client is told.
    #[must_use]
    pub fn reply(self) -> Reply {
        match self {
            SyntaxError::UnknownCommand => Reply::new(500, "5.5.1", "Command not recognised"),
            SyntaxError::BadCharacter => {
                Reply::new(500, "5.5.2", "Control or non-UTF-8 character in command")
            }
            SyntaxError::UnexpectedArgument => {
                Reply::new(501, "5.5.4", "This command takes no argument")
            }
            SyntaxError::NoClientName => Reply::new(501, "5.5.4", "Your host name is missing"),
            SyntaxError::NoPath => {
                Reply::new(501, "5.5.4", "Use MAIL FROM:<address> or RCPT TO:<address>")
            }
            SyntaxError::Path(error) => path_reply(error),
            SyntaxError::NullRecipient => Reply::new(501, "5.1.3", "A recipient is needed"),
            SyntaxError::UnknownParameter => {
                Reply::new(555, "5.5.4", "Parameter not recognised or given twice")
            }
            SyntaxError::BadParameter(name) => {
                Reply::new(501, "5.5.4", &format!("Bad value for {name}"))
            }
            SyntaxError::NeedsSmtpUtf8 => {
                Reply::new(553, "5.6.7", "This address needs the SMTPUTF8 parameter")
            }
            SyntaxError::BadChunkSize => Reply::new(501, "5.5.4", "Use BDAT size [LAST]"),
            SyntaxError::BadAuth => {
                Reply::new(501, "5.5.4", "Use AUTH mechanism [initial-response]")
            }
            SyntaxError::NoArgument => Reply::new(501, "5.5.4", "An argument is missing"),
        }
    }
}

/// RFC 3463 3.2: X.1.3 a bad destination, X.1.7 a bad sender; the syntax of both is one, and the
/// reply does not know which it was, so it is X.5.2 where the shape is wrong.
fn path_reply(error: AddressError) -> Reply {
    let text = match error {
        AddressError::NotUtf8 => "The address is not UTF-8",
        AddressError::NoBrackets => "The address must stand in < and >",
        AddressError::LocalPart => "The part before the @ is not valid",
        AddressError::Quoting => "The quoted part before the @ is not valid",
        AddressError::NoDomain => "The address has no domain",
        AddressError::Domain => "The domain is not valid",
        AddressError::Literal => "The address literal is not valid",
        AddressError::TooLong => "The address is too long",
    };
    Reply::new(501, "5.5.2", text)
}
