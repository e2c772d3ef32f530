//! IMAP on the wire, the server's side: IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051).
//!
//! `frame` finds where commands end, `command` reads them as borrowed values, `encode` writes what
//! the server says. The two readers share one rule for literals, so that no command, however
//! wrong, moves the start of the next one. States, untagged responses and their order are the
//! session's affair and not here.

mod command;
mod cursor;
mod date;
mod encode;
mod fault;
mod flag;
mod frame;
mod mailbox_name;
mod sequence_set;
#[cfg(test)]
mod tests;

pub use command::{
    Append, AppendPart, AppendRest, Authenticate, Bad, Body, Capabilities, Command, Create, Fetch,
    FetchItem, FetchItems, HeaderNames, IdFields, List, ListReturn, ListSelection, LiteralPurpose,
    Login, MailboxArg, PartPath, Partial, Patterns, QuotaRoot, SEARCH_DEPTH_MAX, Search, SearchKey,
    SearchKeys, SearchReturn, Section, SectionText, Select, SpecialUse, StatusItem, StatusItems,
    Store, StoreMode, append_rest, is_done, literal_purpose, parse, tag_and_name,
};
pub use date::{DateTime, Day, write_date_time};
pub use encode::{
    astring, flag_list, list_response, literal, literal_head, literal8_head, mailbox, nstring,
    number, sequence_set, string,
};
pub use fault::Fault;
pub use flag::{Flag, Flags, KEYWORD_BYTES_MAX, is_keyword};
pub use frame::{FrameLimits, Framer, Literal, Next};
pub use mailbox_name::{Coding, NameError, Wildcard, canonical, decode_utf7, encode_utf7};
pub use sequence_set::{SeqNumber, SequenceSet};
