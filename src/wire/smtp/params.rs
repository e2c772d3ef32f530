//! MAIL and RCPT with their parameters (RFC 1870, 3461, 4865, 4954, 6152, 6531, 3030, 8689).

use super::error::SyntaxError;
use crate::base::UnixMs;
use crate::wire::address::{Path, parse_path};

/// BODY= (RFC 6152, RFC 3030).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    /// 7BIT, or not said.
    #[default]
    SevenBit,
    /// 8BITMIME.
    EightBit,
    /// BINARYMIME: only with BDAT.
    Binary,
}

/// RET= (RFC 3461 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DsnReturn {
    /// FULL.
    Full,
    /// HDRS.
    Headers,
}

/// NOTIFY= (RFC 3461 4.1). Nothing set means NEVER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// SUCCESS.
    pub success: bool,
    /// FAILURE.
    pub failure: bool,
    /// DELAY.
    pub delay: bool,
}

/// When a message is to be let go (RFC 4865 3); whether that is offered is the session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// HOLDFOR=, in seconds.
    For(u32),
    /// HOLDUNTIL=.
    Until(UnixMs),
}

/// ORCPT= (RFC 3461 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalRecipient {
    /// `rfc822` or `utf-8`, in lower case.
    pub kind: String,
    /// Decoded from xtext, and a `utf-8` one from its `\x{...}` (RFC 6533 3).
    pub address: String,
}

/// MAIL FROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailFrom {
    /// The reverse path.
    pub path: Path,
    /// SIZE=.
    pub size: Option<u64>,
    /// BODY=.
    pub body: BodyKind,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689); whether it is offered is the session's.
    pub require_tls: bool,
    /// RET=.
    pub ret: Option<DsnReturn>,
    /// ENVID=, decoded from xtext.
    pub envelope_id: Option<String>,
    /// AUTH=, decoded from xtext; `<>` is an empty string.
    pub auth: Option<String>,
    /// HOLDFOR= or HOLDUNTIL=. Of a submission alone: it is not stored, nor said to others.
    pub hold: Option<Hold>,
    /// XVERP, as Postfix has it: each recipient gets the message from a sender that names him. Of a
    /// submission alone, too.
    pub verp: bool,
}

/// RCPT TO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RcptTo {
    /// The forward path, never null.
    pub path: Path,
    /// NOTIFY=.
    pub notify: Option<Notify>,
    /// ORCPT=.
    pub original: Option<OriginalRecipient>,
}

/// RFC 3461 4.4 and 4.2.
const ENVELOPE_ID_BYTES_MAX: usize = 100;
const ORIGINAL_BYTES_MAX: usize = 500;

impl MailFrom {
    /// Without a parameter.
    #[must_use]
    pub fn new(path: Path) -> Self {
        MailFrom {
            path,
            size: None,
            body: BodyKind::default(),
            smtputf8: false,
            require_tls: false,
            ret: None,
            envelope_id: None,
            auth: None,
            hold: None,
            verp: false,
        }
    }

    pub(super) fn parse(argument: &str) -> Result<Self, SyntaxError> {
        let (path, rest) = path_after("FROM:", argument)?;
        let mut mail = MailFrom::new(path);
        once(rest)?;
        for (name, value) in params(rest) {
            mail.take(name, value)?;
        }
        if !mail.smtputf8 && !mail.path.is_ascii() {
            return Err(SyntaxError::NeedsSmtpUtf8);
        }
        Ok(mail)
    }

    fn take(&mut self, name: &str, value: Option<&str>) -> Result<(), SyntaxError> {
        let is = |want: &str| name.eq_ignore_ascii_case(want);
        if is("SIZE") {
            // RFC 1870 3: up to twenty digits; what overflows is too large for anybody.
            let digits = value.filter(|v| (1..=20).contains(&v.len()) && is_number(v));
            let digits = digits.ok_or(SyntaxError::BadParameter("SIZE"))?;
            self.size = Some(digits.parse().unwrap_or(u64::MAX));
        } else if is("BODY") {
            self.body = match value.map(str::to_ascii_uppercase).as_deref() {
                Some("7BIT") => BodyKind::SevenBit,
                Some("8BITMIME") => BodyKind::EightBit,
                Some("BINARYMIME") => BodyKind::Binary,
                _ => return Err(SyntaxError::BadParameter("BODY")),
            };
        } else if is("SMTPUTF8") {
            flag(value, "SMTPUTF8", &mut self.smtputf8)?;
        } else if is("REQUIRETLS") {
            flag(value, "REQUIRETLS", &mut self.require_tls)?;
        } else if is("RET") {
            self.ret = match value.map(str::to_ascii_uppercase).as_deref() {
                Some("FULL") => Some(DsnReturn::Full),
                Some("HDRS") => Some(DsnReturn::Headers),
                _ => return Err(SyntaxError::BadParameter("RET")),
            };
        } else if is("ENVID") {
            let id = value
                .filter(|v| v.len() <= ENVELOPE_ID_BYTES_MAX)
                .and_then(xtext_decode);
            self.envelope_id = Some(id.ok_or(SyntaxError::BadParameter("ENVID"))?);
        } else if is("AUTH") {
            let auth = match value {
                Some("<>") => Some(String::new()),
                other => other.and_then(xtext_decode),
            };
            self.auth = Some(auth.ok_or(SyntaxError::BadParameter("AUTH"))?);
        } else if is("XVERP") {
            // The two delimiters are those that are read back here.
            match value {
                None | Some("+=") => self.verp = true,
                Some(_) => return Err(SyntaxError::BadParameter("XVERP")),
            }
        } else if is("HOLDFOR") {
            let digits = value.filter(|v| v.len() <= 9 && is_number(v) && !v.starts_with('0'));
            let seconds = digits.and_then(|v| v.parse().ok()).map(Hold::For);
            self.hold(seconds.ok_or(SyntaxError::BadParameter("HOLDFOR"))?)?;
        } else if is("HOLDUNTIL") {
            // RFC 3339.
            let at = value.and_then(|v| v.parse::<jiff::Timestamp>().ok());
            let at = at.map(|at| Hold::Until(UnixMs(at.as_millisecond())));
            self.hold(at.ok_or(SyntaxError::BadParameter("HOLDUNTIL"))?)?;
        } else {
            return Err(SyntaxError::UnknownParameter);
        }
        Ok(())
    }

    /// One of the two (RFC 4865 4.1).
    fn hold(&mut self, hold: Hold) -> Result<(), SyntaxError> {
        match self.hold.replace(hold) {
            None => Ok(()),
            Some(_) => Err(SyntaxError::BadParameter("HOLDUNTIL")),
        }
    }
}

impl RcptTo {
    /// Without a parameter.
    #[must_use]
    pub fn new(path: Path) -> Self {
        RcptTo {
            path,
            notify: None,
            original: None,
        }
    }

    pub(super) fn parse(argument: &str) -> Result<Self, SyntaxError> {
        let (path, rest) = path_after("TO:", argument)?;
        if path == Path::Null {
            return Err(SyntaxError::NullRecipient);
        }
        let mut rcpt = RcptTo::new(path);
        once(rest)?;
        for (name, value) in params(rest) {
            if name.eq_ignore_ascii_case("NOTIFY") {
                let notify = value.and_then(Notify::parse);
                rcpt.notify = Some(notify.ok_or(SyntaxError::BadParameter("NOTIFY"))?);
            } else if name.eq_ignore_ascii_case("ORCPT") {
                let original = value.and_then(OriginalRecipient::parse);
                rcpt.original = Some(original.ok_or(SyntaxError::BadParameter("ORCPT"))?);
            } else {
                return Err(SyntaxError::UnknownParameter);
            }
        }
        Ok(rcpt)
    }
}

impl Notify {
    /// RFC 3461 4.1: NEVER alone, or a list of the others.
    fn parse(value: &str) -> Option<Self> {
        if value.eq_ignore_ascii_case("NEVER") {
            return Some(Notify::default());
        }
        let mut notify = Notify::default();
        for word in value.split(',') {
            match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => notify.success = true,
                "FAILURE" => notify.failure = true,
                "DELAY" => notify.delay = true,
                _ => return None,
            }
        }
        Some(notify)
    }
}

impl OriginalRecipient {
    fn parse(value: &str) -> Option<Self> {
        let (kind, address) = value.split_once(';')?;
        if value.len() > ORIGINAL_BYTES_MAX || kind.is_empty() {
            return None;
        }
        let kind = kind.to_ascii_lowercase();
        let mut address = xtext_decode(address)?;
        if kind == "utf-8" {
            address = utf8_address_decode(&address);
        }
        Some(OriginalRecipient { kind, address })
    }
}

/// RFC 6533 3: a utf-8 address comes in UTF-8 itself or with `\x{...}` in it. What is no such
/// character stays as it is.
fn utf8_address_decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x{") {
        let (before, embedded) = rest.split_at(at);
        out.push_str(before);
        let known = embedded[3..].split_once('}').and_then(|(digits, after)| {
            let fits = (2..=6).contains(&digits.len()) && !digits.contains('+');
            let code = fits.then(|| u32::from_str_radix(digits, 16).ok())??;
            let c = char::from_u32(code).filter(|c| !c.is_control())?;
            Some((c, after))
        });
        match known {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push_str(&embedded[..3]);
                rest = &embedded[3..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The path after `FROM:` or `TO:`; blanks after the colon are wrong and common.
fn path_after<'a>(keyword: &str, argument: &'a str) -> Result<(Path, &'a str), SyntaxError> {
    let head = argument.get(..keyword.len()).ok_or(SyntaxError::NoPath)?;
    if !head.eq_ignore_ascii_case(keyword) {
        return Err(SyntaxError::NoPath);
    }
    let rest = argument[keyword.len()..].trim_start_matches(' ');
    let (path, rest) = parse_path(rest.as_bytes()).map_err(SyntaxError::Path)?;
    let rest = str::from_utf8(rest).map_err(|_| SyntaxError::BadCharacter)?;
    match rest.as_bytes().first() {
        None | Some(b' ' | b'\t') => Ok((path, rest)),
        Some(_) => Err(SyntaxError::UnknownParameter),
    }
}

/// `name=value` and `name` words.
fn params(rest: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    rest.split_ascii_whitespace()
        .map(|word| match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        })
}

/// RFC 5321 4.1.1.11: no parameter twice. More than there are must be some twice or unknown.
fn once(rest: &str) -> Result<(), SyntaxError> {
    const PARAMS_MAX: usize = 16;
    let twice = |(at, (name, _)): (usize, (&str, _))| {
        at >= PARAMS_MAX
            || params(rest)
                .take(at)
                .any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    if params(rest).enumerate().any(twice) {
        return Err(SyntaxError::UnknownParameter);
    }
    Ok(())
}

fn flag(value: Option<&str>, name: &'static str, slot: &mut bool) -> Result<(), SyntaxError> {
    *slot = true;
    if value.is_some() {
        Err(SyntaxError::BadParameter(name))
    } else {
        Ok(())
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Decodes xtext (RFC 3461 4); UTF-8 is let through (RFC 6533). `None` where a `+` has no two
/// hexadecimal digits after it, or the result is no text.
#[must_use]
pub fn xtext_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => {
                let (digits, tail) = tail.split_at_checked(2)?;
                if !digits
                    .iter()
                    .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b))
                {
                    return None;
                }
                let digits = str::from_utf8(digits).ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                rest = tail;
            }
            b'=' | ..=32 | 127 => return None,
            _ => out.push(byte),
        }
    }
    let text = String::from_utf8(out).ok()?;
    // What was hidden in xtext must not end a line in a notice.
    (!text.chars().any(char::is_control)).then_some(text)
}
