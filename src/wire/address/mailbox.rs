//! RFC 5321 paths and mailboxes, with the UTF-8 of RFC 6531.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use unicode_normalization::UnicodeNormalization;

/// Longest local part (RFC 5321 4.5.3.1.1) and domain (4.5.3.1.2) and path (4.5.3.1.3), in bytes.
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 255;
/// RFC 5321 4.5.3.1 asks for no refusal of what is longer but valid; some senders (VERP) go up
/// to this.
const LONG_LOCAL_BYTES_MAX: usize = 4 * LOCAL_BYTES_MAX;

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// Not UTF-8.
    NotUtf8,
    /// No `<`, or no `>` that ends it.
    NoBrackets,
    /// The local part is empty or has a character that needs quoting.
    LocalPart,
    /// A quoted local part does not end, or holds a control character.
    Quoting,
    /// No `@`.
    NoDomain,
    /// The domain is no domain name.
    Domain,
    /// `[...]` is no address literal.
    Literal,
    /// A part is longer than any mail system takes.
    TooLong,
}

/// Where a mailbox lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// A domain name as written.
    Name(String),
    /// `[192.0.2.1]` or `[IPv6:2001:db8::1]`.
    Address(IpAddr),
    /// Another tagged literal (RFC 5321 4.1.3), brackets left out.
    Tagged(String),
}

/// A mailbox: local part without quoting, and domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox {
    /// Without quoting, as written.
    pub local: String,
    /// After the `@`.
    pub domain: Domain,
}

/// What stands in angle brackets after MAIL FROM: or RCPT TO:.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// `<>`.
    Null,
    /// `<Postmaster>` without a domain (RFC 5321 4.5.1).
    Postmaster,
    /// An address; a source route before it is dropped (RFC 5321 C).
    Mailbox(Mailbox),
}

/// The form under which two spellings are one address: domain as lower-case A-labels, local part
/// in NFC, caseless.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MailboxKey {
    /// See [`domain_key`].
    pub domain: String,
    /// See [`local_key`].
    pub local: String,
}

/// Reads a path at the start of `bytes`; returns it and what follows it.
pub fn parse_path(bytes: &[u8]) -> Result<(Path, &[u8]), AddressError> {
    let inner = bytes.strip_prefix(b"<").ok_or(AddressError::NoBrackets)?;
    let end = closing_bracket(inner).ok_or(AddressError::NoBrackets)?;
    let rest = &inner[end + 1..];
    let text = str::from_utf8(&inner[..end]).map_err(|_| AddressError::NotUtf8)?;
    if text.is_empty() {
        return Ok((Path::Null, rest));
    }
    if text.eq_ignore_ascii_case("postmaster") {
        return Ok((Path::Postmaster, rest));
    }
    Mailbox::parse(skip_route(text)?).map(|mailbox| (Path::Mailbox(mailbox), rest))
}

/// The `>` outside quotes.
fn closing_bracket(inner: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    inner.iter().position(|&byte| {
        let was_escaped = std::mem::take(&mut escaped);
        match byte {
            _ if was_escaped => false,
            b'\\' if quoted => {
                escaped = true;
                false
            }
            b'"' => {
                quoted = !quoted;
                false
            }
            byte => byte == b'>' && !quoted,
        }
    })
}

/// RFC 5321 4.1.1.3: a source route is accepted and ignored.
fn skip_route(text: &str) -> Result<&str, AddressError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let (route, mailbox) = text.split_once(':').ok_or(AddressError::NoDomain)?;
    for hop in route.split(',') {
        let domain = hop.strip_prefix('@').ok_or(AddressError::Domain)?;
        Domain::parse(domain)?;
    }
    Ok(mailbox)
}

impl Mailbox {
    /// Reads `local@domain`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = if let Some(quoted) = text.strip_prefix('"') {
            unquote(quoted)?
        } else {
            let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoDomain)?;
            if !is_dot_string(local) {
                return Err(AddressError::LocalPart);
            }
            (local.to_owned(), domain)
        };
        if local.is_empty() {
            return Err(AddressError::LocalPart);
        }
        if local.len() > LONG_LOCAL_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        Ok(Mailbox {
            local,
            domain: Domain::parse(domain)?,
        })
    }

    /// The form to compare and look up by; `None` for a literal that is no domain name and for a
    /// name that IDNA forbids.
    #[must_use]
    pub fn key(&self) -> Option<MailboxKey> {
        let Domain::Name(domain) = &self.domain else {
            return None;
        };
        Some(MailboxKey {
            domain: domain_key(domain)?,
            local: local_key(&self.local),
        })
    }

    /// True when it can be sent without SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii() && !matches!(&self.domain, Domain::Name(name) if !name.is_ascii())
    }
}

impl Path {
    /// True when it can be sent without SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        !matches!(self, Path::Mailbox(mailbox) if !mailbox.is_ascii())
    }
}

/// A domain as lower-case A-labels (RFC 5890), by UTS 46; `None` where it is none.
#[must_use]
pub fn domain_key(domain: &str) -> Option<String> {
    let key = idna::domain_to_ascii(domain).ok()?;
    (!key.is_empty() && key.len() <= DOMAIN_BYTES_MAX && is_host_name(&key)).then_some(key)
}

/// A local part in NFC and lower case, so that it compares caselessly.
#[must_use]
pub fn local_key(local: &str) -> String {
    if local.is_ascii() {
        return local.to_ascii_lowercase();
    }
    // Folding may undo the normal form, so it is made again.
    local.nfc().flat_map(char::to_lowercase).nfc().collect()
}

/// Splits `user+detail` at the first `separator` that is not the first character (RFC 5233).
#[must_use]
pub fn split_detail(local: &str, separator: char) -> (&str, Option<&str>) {
    match local.split_once(separator) {
        Some((user, detail)) if !user.is_empty() => (user, Some(detail)),
        _ => (local, None),
    }
}

impl Domain {
    /// Reads what follows the `@`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(literal) = text.strip_prefix('[') {
            let literal = literal.strip_suffix(']').ok_or(AddressError::Literal)?;
            return parse_literal(literal);
        }
        if text.len() > DOMAIN_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        is_host_name(text)
            .then(|| Domain::Name(text.to_owned()))
            .ok_or(AddressError::Domain)
    }
}

/// RFC 5321 4.1.3.
fn parse_literal(literal: &str) -> Result<Domain, AddressError> {
    if let Ok(address) = literal.parse::<Ipv4Addr>() {
        return Ok(Domain::Address(address.into()));
    }
    let (tag, content) = literal.split_once(':').ok_or(AddressError::Literal)?;
    if tag.eq_ignore_ascii_case("IPv6") {
        let address = content
            .parse::<Ipv6Addr>()
            .map_err(|_| AddressError::Literal)?;
        return Ok(Domain::Address(address.into()));
    }
    let content_fits = content.bytes().all(|b| matches!(b, 33..=90 | 94..=126));
    let tag_fits = is_label(tag) && tag.is_ascii();
    (tag_fits && content_fits && !content.is_empty() && literal.len() <= DOMAIN_BYTES_MAX)
        .then(|| Domain::Tagged(literal.to_owned()))
        .ok_or(AddressError::Literal)
}

/// RFC 5321 4.1.2, Domain; labels with `_` and U-labels are let through.
fn is_host_name(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || !c.is_ascii();
    !label.is_empty()
        && label.len() <= 63 * 4
        && (!label.is_ascii() || label.len() <= 63)
        && label
            .chars()
            .all(|c| fits(c) && !c.is_control() && !c.is_whitespace())
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// RFC 5321 4.1.2, Dot-string; RFC 6531 3.3 adds UTF-8.
fn is_dot_string(local: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let atom = |atom: &str| {
        !atom.is_empty()
            && atom
                .chars()
                .all(|c| fits(c) || (!c.is_ascii() && !c.is_control()))
    };
    local.split('.').all(atom)
}

/// After the opening quote: the content, and the domain behind `"@`.
fn unquote(quoted: &str) -> Result<(String, &str), AddressError> {
    let mut local = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let domain = quoted[at + 1..]
                    .strip_prefix('@')
                    .ok_or(AddressError::NoDomain)?;
                return Ok((local, domain));
            }
            '\\' => match chars.next() {
                Some((_, c @ ' '..='~')) => local.push(c),
                _ => return Err(AddressError::Quoting),
            },
            c if c.is_control() => return Err(AddressError::Quoting),
            c => local.push(c),
        }
    }
    Err(AddressError::Quoting)
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domain::Name(name) => f.write_str(name),
            Domain::Address(IpAddr::V4(address)) => write!(f, "[{address}]"),
            Domain::Address(IpAddr::V6(address)) => write!(f, "[IPv6:{address}]"),
            Domain::Tagged(literal) => write!(f, "[{literal}]"),
        }
    }
}

impl fmt::Display for Mailbox {
    /// With quotes where RFC 5321 4.1.2 needs them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.domain);
        }
        f.write_str("\"")?;
        for c in self.local.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain)
    }
}

impl fmt::Display for Path {
    /// With its angle brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Null => f.write_str("<>"),
            Path::Postmaster => f.write_str("<Postmaster>"),
            Path::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

impl fmt::Display for MailboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = Domain::Name(self.domain.clone());
        write!(
            f,
            "{}",
            Mailbox {
                local: self.local.clone(),
                domain
            }
        )
    }
}
