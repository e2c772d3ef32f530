//! Types of keys: how each is written, read and checked by itself.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use toml::de::DeValue;

use super::cidr::{Cidr, CidrError, Networks};
use super::route::{NextHop, RouteDomain};
use crate::base::{ByteSize, Span, UnitError};

/// A type that a key can have.
pub(super) trait Value: Sized + PartialEq {
    /// What to write, for people.
    const KIND: &'static str;
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong>;
    /// As TOML that reads back as the same; `None` where absent.
    fn write(&self) -> Option<String>;
    /// Stands next to a reported fault; of an optional key: absent.
    fn placeholder() -> Self;
    /// For ranges.
    fn measure(&self) -> Option<u64> {
        None
    }
}

/// Why a value is none: continues "`key` ...".
#[derive(Debug)]
pub(super) struct Wrong {
    pub what: String,
    pub remedy: String,
    /// Where, if not the whole value.
    pub at: Option<Range<usize>>,
}

impl Wrong {
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Wrong {
            what: what.into(),
            remedy: remedy.into(),
            at: None,
        }
    }

    fn kind(value: &DeValue<'_>, kind: &str) -> Self {
        let found = value.type_str();
        Wrong::new(
            format!("must not be of type {found}"),
            format!("write {kind}"),
        )
    }
}

/// A domain or host name in A-labels (RFC 5890 2.3.2.1), lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

/// `local@domain` as the operator wrote it; the domain part is a [`Domain`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailAddress(String);

/// A name of the IANA time zone database that this machine knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timezone(String);

/// Hours of a day, from a minute up to another, which may be of the next day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hours {
    /// Minutes since midnight, below 1,440.
    pub from: u16,
    /// The first one that is not among them; not the same as `from`.
    pub to: u16,
}

macro_rules! texts {
    ($($name:ident),*) => {$(
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
texts!(Domain, MailAddress, Timezone);

impl FromStr for Domain {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = idna::domain_to_ascii(text).map_err(|_| "is no domain name")?;
        let label = |label: &str| {
            let inner = label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-');
            inner
                && (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // RFC 3696 2: no top level domain is all digits; 192.0.2.1 is an address.
        let numeric = name
            .rsplit('.')
            .next()
            .is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit()));
        // RFC 1035 2.3.4: 255 octets on the wire are 253 characters.
        match name.len() <= 253 && !numeric && name.split('.').all(label) {
            true => Ok(Domain(name)),
            false => Err("is no domain name"),
        }
    }
}

impl FromStr for MailAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (local, domain) = text.rsplit_once('@').ok_or("is no address")?;
        let domain: Domain = domain.parse()?;
        let bad = |c: char| c.is_control() || c.is_whitespace() || "<>@\",;:\\()[]".contains(c);
        match local.is_empty() || local.contains(bad) {
            true => Err("is no address"),
            false => Ok(MailAddress(format!("{local}@{domain}"))),
        }
    }
}

fn quoted(text: &str) -> Option<String> {
    Some(toml::Value::String(text.to_owned()).to_string())
}

macro_rules! text_values {
    ($($name:ident: $kind:literal, $remedy:literal;)*) => {$(
        impl Value for $name {
            const KIND: &'static str = $kind;
            fn placeholder() -> Self {
                Self::default()
            }
            fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
                let text = value.as_str().ok_or_else(|| Wrong::kind(value, $kind))?;
                text.parse().map_err(|what| Wrong::new(what, $remedy))
            }
            fn write(&self) -> Option<String> {
                quoted(&self.to_string())
            }
        }
    )*};
}
text_values! {
    Domain: "a name such as \"example.org\"",
        "write letters, digits and hyphens between dots, such as \"example.org\"";
    MailAddress: "an address such as \"ana@example.org\"",
        "write name@domain, such as \"ana@example.org\"";
    Timezone: "a time zone such as \"Europe/Madrid\"",
        "write a name from /usr/share/zoneinfo, such as \"Europe/Madrid\" \
         (package tzdata has them)";
    Hours: "hours such as \"20:00-06:00\"",
        "write two different times with a hyphen between, such as \"20:00-06:00\"";
    RouteDomain: "a name such as \"example.org\", \".example.org\" for all below it, or \"*\"",
        "write a name such as \"example.org\", \".example.org\" for all below it, or \"*\"";
    NextHop: "a host with port such as \"mail.example.org:25\" or \"[2001:db8::1]:25\"",
        "write \"mail.example.org:25\" or, for an address, \"192.0.2.1:25\" or \"[2001:db8::1]:25\"";
}

impl FromStr for Timezone {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text == "UTC" || jiff::tz::TimeZone::get(text).is_ok() {
            true => Ok(Timezone(text.to_owned())),
            false => Err("is no time zone that this machine knows"),
        }
    }
}

impl FromStr for Hours {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "are no hours of a day";
        let two = |text: &str| {
            let is_number = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| text.parse::<u16>().ok()).flatten()
        };
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let (hour, minute) = (two(hour)?, two(minute)?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let (from, to) = text.split_once('-').ok_or(WRONG)?;
        let hours = Hours {
            from: minute(from).ok_or(WRONG)?,
            to: minute(to).ok_or(WRONG)?,
        };
        match hours.from == hours.to {
            true => Err(WRONG),
            false => Ok(hours),
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hours { from, to } = self;
        let (h, m, to_h, to_m) = (from / 60, from % 60, to / 60, to % 60);
        write!(f, "{h:02}:{m:02}-{to_h:02}:{to_m:02}")
    }
}

impl Hours {
    /// Whether this minute of the day is among them.
    #[must_use]
    pub fn contains(self, minute: u16) -> bool {
        match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }
}

impl Value for bool {
    const KIND: &'static str = "true or false";
    fn placeholder() -> Self {
        Self::default()
    }
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        value
            .as_bool()
            .ok_or_else(|| Wrong::kind(value, "true or false, without quotes"))
    }
    fn write(&self) -> Option<String> {
        Some(self.to_string())
    }
}

macro_rules! numbers {
    ($($name:ty),*) => {$(
        impl Value for $name {
            const KIND: &'static str = "a whole number";
            fn placeholder() -> Self {
                Self::default()
            }
            fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
                let kind = "a whole number, without quotes";
                let int = value.as_integer().ok_or_else(|| Wrong::kind(value, kind))?;
                <$name>::from_str_radix(int.as_str(), int.radix()).map_err(|_| {
                    let most = <$name>::MAX;
                    Wrong::new("is out of range", format!("write at most {most}, not negative"))
                })
            }
            fn write(&self) -> Option<String> {
                Some(self.to_string())
            }
            fn measure(&self) -> Option<u64> {
                Some(u64::from(*self))
            }
        }
    )*};
}
numbers!(u16, u32);

macro_rules! units {
    ($($name:ident $kind:literal $units:literal $value:ident => $measure:expr;)*) => {$(
        impl Value for $name {
            const KIND: &'static str = $kind;
            fn placeholder() -> Self {
                Self(Default::default())
            }
            fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
                let text = value.as_str().ok_or_else(|| {
                    Wrong::new(
                        format!("has no unit: type {}", value.type_str()),
                        concat!("write ", $kind, ", in quotes; units: ", $units),
                    )
                })?;
                text.parse().map_err(|error: UnitError| {
                    let what = format!("is not {}: {error}", concat!($kind));
                    Wrong::new(what, concat!("units: ", $units))
                })
            }
            fn write(&self) -> Option<String> {
                quoted(&self.to_string())
            }
            fn measure(&self) -> Option<u64> {
                let $value = self;
                Some($measure)
            }
        }
    )*};
}
units! {
    ByteSize "a size such as \"100MB\"" "B, KB, MB, GB, TB (1000), KiB, MiB, GiB, TiB (1024)"
        size => size.0;
    Span "a time such as \"90s\"" "ms, s, m, h, d"
        span => u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
}

impl Value for SocketAddr {
    const KIND: &'static str = "an IP address with port such as \"0.0.0.0:25\" or \"[::]:25\"";
    fn placeholder() -> Self {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    }
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = value
            .as_str()
            .ok_or_else(|| Wrong::kind(value, Self::KIND))?;
        text.parse().map_err(|_| {
            let what = "is no IP address with port";
            Wrong::new(
                what,
                "write \"0.0.0.0:25\", or \"[::]:25\" with brackets for IPv6",
            )
        })
    }
    fn write(&self) -> Option<String> {
        quoted(&self.to_string())
    }
}

impl Value for IpAddr {
    const KIND: &'static str = "an IP address such as \"192.0.2.1\"";
    fn placeholder() -> Self {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    }
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = value
            .as_str()
            .ok_or_else(|| Wrong::kind(value, Self::KIND))?;
        let wrong = |_| Wrong::new("is no IP address", "write \"192.0.2.1\" or \"2001:db8::1\"");
        text.parse().map_err(wrong)
    }
    fn write(&self) -> Option<String> {
        quoted(&self.to_string())
    }
}

impl Value for PathBuf {
    const KIND: &'static str = "an absolute path";
    fn placeholder() -> Self {
        Self::default()
    }
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = value
            .as_str()
            .ok_or_else(|| Wrong::kind(value, Self::KIND))?;
        match text.starts_with('/') && !text.contains('\0') {
            true => Ok(PathBuf::from(text)),
            false => Err(Wrong::new("is no absolute path", "begin the path with /")),
        }
    }
    fn write(&self) -> Option<String> {
        quoted(self.to_str()?)
    }
}

impl Value for String {
    const KIND: &'static str = "a text in quotes";
    fn placeholder() -> Self {
        Self::default()
    }
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = value
            .as_str()
            .ok_or_else(|| Wrong::kind(value, Self::KIND))?;
        match text.is_empty() || text.contains(char::is_control) {
            true => Err(Wrong::new(
                "is empty or holds control characters",
                "write a name",
            )),
            false => Ok(text.to_owned()),
        }
    }
    fn write(&self) -> Option<String> {
        quoted(self)
    }
}

impl Value for Networks {
    const KIND: &'static str = "a list of networks such as [\"10.0.0.0/8\", \"2001:db8::/32\"]";
    fn placeholder() -> Self {
        Self::default()
    }
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let array = value
            .as_array()
            .ok_or_else(|| Wrong::kind(value, Self::KIND))?;
        let too_wide = |cidr: &dyn fmt::Display| {
            let what = format!("would trust everybody ({cidr})");
            Wrong::new(what, "name only networks whose machines are yours")
        };
        let mut networks = Vec::with_capacity(array.len());
        for element in array {
            let wrong = |wrong: Wrong| Wrong {
                at: Some(element.span()),
                ..wrong
            };
            let text = element.get_ref().as_str();
            let text = text.ok_or_else(|| wrong(Wrong::kind(element.get_ref(), Self::KIND)))?;
            let cidr = text.parse::<Cidr>().map_err(|error| {
                wrong(match error {
                    CidrError::Syntax => {
                        Wrong::new("has no network there", "write address/bits: \"10.0.0.0/8\"")
                    }
                    CidrError::PrefixTooLong => Wrong::new(
                        "has too many bits there",
                        "at most /32 for IPv4, /128 for IPv6",
                    ),
                    CidrError::HostBits(network) => Wrong::new(
                        "has an address inside a network there, not the network",
                        format!("write \"{network}\""),
                    ),
                    CidrError::TooWide => too_wide(&text),
                })
            })?;
            networks.push(cidr);
            if let Err(cidr) = Networks::new(networks.clone()) {
                return Err(wrong(too_wide(&cidr)));
            }
        }
        Networks::new(networks).map_err(|cidr| too_wide(&cidr))
    }
    fn write(&self) -> Option<String> {
        let each: Vec<String> = self.iter().map(|cidr| format!("\"{cidr}\"")).collect();
        Some(format!("[{}]", each.join(", ")))
    }
}

impl<V: Value> Value for Option<V> {
    const KIND: &'static str = V::KIND;
    fn placeholder() -> Self {
        Self::default()
    }
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        V::read(value).map(Some)
    }
    fn write(&self) -> Option<String> {
        self.as_ref().and_then(V::write)
    }
    fn measure(&self) -> Option<u64> {
        self.as_ref().and_then(V::measure)
    }
}

macro_rules! lists {
    ($($name:ty: $kind:literal;)*) => {$(
        impl Value for Vec<$name> {
            const KIND: &'static str = $kind;
            fn placeholder() -> Self {
                Self::default()
            }
            fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
                let array = value.as_array().ok_or_else(|| Wrong::kind(value, $kind))?;
                let mut list = Vec::with_capacity(array.len());
                for element in array {
                    let item = <$name>::read(element.get_ref()).map_err(|wrong| Wrong {
                        at: Some(element.span()),
                        ..wrong
                    })?;
                    if list.contains(&item) {
                        return Err(Wrong {
                            at: Some(element.span()),
                            ..Wrong::new("names the same twice", "remove one")
                        });
                    }
                    list.push(item);
                }
                Ok(list)
            }
            fn write(&self) -> Option<String> {
                let each: Vec<String> = self.iter().filter_map(<$name>::write).collect();
                Some(format!("[{}]", each.join(", ")))
            }
        }
    )*};
}
lists! {
    String: "a list of names such as [\"ana\"]";
    Domain: "a list of names such as [\"example.org\"]";
    SocketAddr: "a list of addresses such as [\"127.0.0.1:53\"]";
    Hours: "a list of hours such as [\"20:00-06:00\"]";
    Span: "a list of times such as [\"5m\", \"1h\"]";
    IpAddr: "a list of IP addresses such as [\"192.0.2.1\", \"2001:db8::1\"]";
}

macro_rules! choices {
    ($(
        $(#[$about:meta])*
        $name:ident: $kind:literal { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }
    )*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { #[default] $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// As it stands in the file.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl Value for $name {
            const KIND: &'static str = $kind;
            fn placeholder() -> Self {
                Self::default()
            }
            fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
                let text = value.as_str().ok_or_else(|| Wrong::kind(value, $kind))?;
                let found = Self::ALL.iter().find(|choice| choice.name() == text);
                found.copied().ok_or_else(|| {
                    Wrong::new(format!("can not be \"{text}\""), concat!("write ", $kind))
                })
            }
            fn write(&self) -> Option<String> {
                quoted(self.name())
            }
        }
    )*};
}

choices! {
    /// What a listener speaks.
    Protocol: "one of smtp, submission, submissions, imap, imaps, pop3, pop3s, lmtp, metrics" {
        /// RFC 5321: mail from other servers.
        Smtp = "smtp",
        /// RFC 6409 with STARTTLS.
        Submission = "submission",
        /// RFC 8314 3.3: TLS from the first byte.
        Submissions = "submissions",
        /// RFC 9051 with STARTTLS.
        Imap = "imap",
        /// RFC 8314 3.2.
        Imaps = "imaps",
        /// RFC 1939 with STLS (RFC 2595 4).
        Pop3 = "pop3",
        /// RFC 8314 3.1.
        Pop3s = "pop3s",
        /// RFC 2033.
        Lmtp = "lmtp",
        /// `/metrics`, `/healthz`, `/readyz`.
        Metrics = "metrics",
    }
    /// Whether SMTP clients log in.
    AuthMode: "one of off, offered, required" {
        /// AUTH is not in the EHLO answer.
        Off = "off",
        /// A client may log in.
        Offered = "offered",
        /// No MAIL before a log-in.
        Required = "required",
    }
    /// A class of accounts.
    ClassName: "one of member, staff, student, guest" {
        Member = "member",
        Staff = "staff",
        Student = "student",
        Guest = "guest",
    }
    /// What a full mailbox answers at RCPT.
    QuotaRefusal: "one of defer, reject" {
        /// 452 4.2.2: the sender's server tries again.
        Defer = "defer",
        /// 552 5.2.2: the sender is told at once.
        Reject = "reject",
    }
    /// How message files are written.
    Compression: "one of none, zstd" {
        /// As they came: any Maildir tool reads them.
        None = "none",
        /// RFC 8878, as Dovecot's mail_compress reads it too.
        Zstd = "zstd",
    }
    /// Whether DNSSEC signatures are checked.
    DnssecMode: "one of off, auto, on" {
        /// Nothing is checked, and nothing is known to be secure.
        Off = "off",
        /// Checked where the server speaks DNSSEC.
        Auto = "auto",
        /// Checked always.
        On = "on",
    }
    /// What is spoken to a hop.
    HopProtocol: "one of smtp, lmtp" {
        /// RFC 5321.
        Smtp = "smtp",
        /// RFC 2033: a mailbox server of the site.
        Lmtp = "lmtp",
    }
    /// What a hop is asked of TLS.
    HopTls: "one of none, opportunistic, verified" {
        /// It is not tried.
        None = "none",
        /// Where it is offered, with whoever is there (RFC 7435).
        Opportunistic = "opportunistic",
        /// With a certificate for the host from an authority that this machine trusts, or with
        /// one that DNSSEC vouches for (RFC 7672).
        Verified = "verified",
    }
    /// The least important lines that are logged.
    LogLevel: "one of error, warn, info, debug, trace" {
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

impl Protocol {
    /// TLS before the first protocol byte.
    #[must_use]
    pub fn is_tls_from_start(self) -> bool {
        matches!(
            self,
            Protocol::Submissions | Protocol::Imaps | Protocol::Pop3s
        )
    }

    /// Speaks SMTP commands: takes mail in.
    #[must_use]
    pub fn takes_mail(self) -> bool {
        use Protocol::{Lmtp, Smtp, Submission, Submissions};
        matches!(self, Smtp | Submission | Submissions | Lmtp)
    }

    /// Mail submission by users (RFC 6409).
    #[must_use]
    pub fn is_submission(self) -> bool {
        matches!(self, Protocol::Submission | Protocol::Submissions)
    }

    /// Lets users read mail.
    #[must_use]
    pub fn reads_mail(self) -> bool {
        use Protocol::{Imap, Imaps, Pop3, Pop3s};
        matches!(self, Imap | Imaps | Pop3 | Pop3s)
    }
}
