//! Who there is: accounts, domains, aliases, and what an account may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::{AccountId, ByteSize, PartitionId, UnixMs};

/// One account. Its id never changes and is never given out again; addresses point to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub id: AccountId,
    /// Chosen when the account was made, then data: never computed again.
    pub partition: PartitionId,
    /// The primary address, as people should see it.
    pub address: String,
    #[serde(default)]
    pub kind: Kind,
    #[serde(default)]
    pub class: Class,
    /// `None`: the defaults of the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entitlements: Option<Entitlements>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// No log-in; mail still arrives.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Bytes; `None`: the limit of the class or of the site, 0: none at all.
    #[serde(default, with = "bytes", skip_serializing_if = "Option::is_none")]
    pub quota: Option<ByteSize>,
    /// The same in messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_messages: Option<u64>,
    pub created: UnixMs,
    /// The account was removed but its mail is still there: no address points here any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<UnixMs>,
}

impl Account {
    /// What the account may do: its own list, or the default of its class.
    #[must_use]
    pub fn allowed(&self) -> Entitlements {
        self.entitlements
            .unwrap_or_else(|| self.class.entitlements())
    }

    /// True where mail can be kept: a forward-only account has no mailbox.
    #[must_use]
    pub fn keeps_mail(&self) -> bool {
        self.kind != Kind::ForwardOnly
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every word, for help texts.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$variant => $word,)+ })
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err(UnknownWord { word: text.into(), known: Self::WORDS }),
                }
            }
        }
    };
}

words! {
    /// What stands behind an account.
    Kind {
        /// Somebody who logs in.
        #[default]
        Person = "person",
        /// Members act as it; it has no password of its own.
        Shared = "shared",
        /// An office, such as postmaster.
        Role = "role",
        /// No mailbox: its aliases say where mail goes.
        ForwardOnly = "forward-only",
    }
}

words! {
    /// Decides the entitlements of an account that has no list of its own.
    Class {
        #[default]
        Member = "member",
        Staff = "staff",
        Student = "student",
        /// May read mail and send from inside.
        Guest = "guest",
    }
}

impl Class {
    /// The defaults of this class.
    #[must_use]
    pub fn entitlements(self) -> Entitlements {
        match self {
            Class::Member | Class::Staff | Class::Student => Entitlements::ALL,
            Class::Guest => Entitlements::ALL
                .without(Entitlement::SmtpOutside)
                .without(Entitlement::ForwardOut),
        }
    }
}

words! {
    /// One thing an account may do; checked at log-in, `sieve` and `forward-out` when used too.
    Entitlement {
        /// Submission from outside the trusted networks.
        #[default]
        SmtpOutside = "smtp-outside",
        Pop = "pop",
        Imap = "imap",
        Webmail = "webmail",
        Sieve = "sieve",
        ForwardOut = "forward-out",
    }
}

impl Entitlement {
    const EACH: [Entitlement; 6] = [
        Entitlement::SmtpOutside,
        Entitlement::Pop,
        Entitlement::Imap,
        Entitlement::Webmail,
        Entitlement::Sieve,
        Entitlement::ForwardOut,
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of [`Entitlement`]s; in JSON a list of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Entitlement>", into = "Vec<Entitlement>")]
pub struct Entitlements(u8);

impl Entitlements {
    pub const NONE: Entitlements = Entitlements(0);
    pub const ALL: Entitlements = Entitlements((1 << Entitlement::EACH.len()) - 1);

    #[must_use]
    pub fn has(self, one: Entitlement) -> bool {
        self.0 & one.bit() != 0
    }

    #[must_use]
    pub fn with(self, one: Entitlement) -> Self {
        Entitlements(self.0 | one.bit())
    }

    #[must_use]
    pub fn without(self, one: Entitlement) -> Self {
        Entitlements(self.0 & !one.bit())
    }

    /// The members, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Entitlement> {
        Entitlement::EACH
            .into_iter()
            .filter(move |one| self.has(*one))
    }
}

impl From<Vec<Entitlement>> for Entitlements {
    fn from(list: Vec<Entitlement>) -> Self {
        list.into_iter().fold(Self::NONE, Self::with)
    }
}

impl From<Entitlements> for Vec<Entitlement> {
    fn from(set: Entitlements) -> Self {
        set.iter().collect()
    }
}

/// A word that is none of a closed list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    pub word: String,
    pub known: &'static [&'static str],
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnknownWord { word, known } = self;
        write!(f, "`{word}` is not known; use one of {}", known.join(", "))
    }
}

impl std::error::Error for UnknownWord {}

/// A domain that was added by command; those of the config file need no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// A-label, lower case.
    pub name: String,
    /// Every address of this domain is the same address of that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<String>,
}

/// Mail for `from` goes to every one of `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// An address, or `@domain` for all addresses of a domain that nothing else names.
    pub from: String,
    pub to: Vec<String>,
}

/// Sizes as plain numbers of bytes in JSON.
pub(super) mod bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::base::ByteSize;

    pub fn serialize<S: Serializer>(size: &Option<ByteSize>, s: S) -> Result<S::Ok, S::Error> {
        size.map(|size| size.0).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<ByteSize>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(ByteSize))
    }
}
