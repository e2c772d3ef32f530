//! Message flags (RFC 9051 2.3.2) and mailbox uses (RFC 6154 2).

use crate::wire::mbox::Marks;

/// The five system flags as bits. `\Recent` is a session's affair, keywords stand beside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    pub const SEEN: Flags = Flags(1);
    pub const ANSWERED: Flags = Flags(2);
    pub const FLAGGED: Flags = Flags(4);
    pub const DELETED: Flags = Flags(8);
    pub const DRAFT: Flags = Flags(16);
    /// `$Forwarded`, which Maildir knows as `P`; in IMAP it is a keyword, so it is not set here.
    pub const NONE: Flags = Flags(0);
    pub const ALL: Flags = Flags(31);

    #[must_use]
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub fn union(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    #[must_use]
    pub fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

/// What the headers of a message in an mbox say of it.
impl From<&Marks> for Flags {
    fn from(marks: &Marks) -> Self {
        let each = [
            (marks.seen, Flags::SEEN),
            (marks.answered, Flags::ANSWERED),
            (marks.flagged, Flags::FLAGGED),
            (marks.deleted, Flags::DELETED),
            (marks.draft, Flags::DRAFT),
        ];
        let set = each.into_iter().filter(|(is, _)| *is);
        set.fold(Flags::NONE, |all, (_, flag)| all.union(flag))
    }
}

/// How a STORE combines with what is set (RFC 9051 6.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagMode {
    Replace,
    Add,
    Remove,
}

/// One STORE: system flags and keywords with one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagChange {
    pub mode: FlagMode,
    pub flags: Flags,
    /// Keywords as the client spelled them; they compare case-insensitively.
    pub keywords: Vec<String>,
}

/// What a mailbox is for (RFC 6154 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecialUse {
    Archive,
    Drafts,
    Junk,
    Sent,
    Trash,
}

impl SpecialUse {
    /// The attribute of LIST, with backslash.
    #[must_use]
    pub fn attribute(self) -> &'static str {
        match self {
            SpecialUse::Archive => "\\Archive",
            SpecialUse::Drafts => "\\Drafts",
            SpecialUse::Junk => "\\Junk",
            SpecialUse::Sent => "\\Sent",
            SpecialUse::Trash => "\\Trash",
        }
    }
}
