//! Addresses: the strict ones of SMTP envelopes and the lenient ones of header fields.
//!
//! [`Path`] and [`Mailbox`] are RFC 5321 syntax with RFC 6531 UTF-8; [`Mailbox::key`] is the form
//! under which two spellings are one address. [`parse_address_list`] reads what stands in From,
//! To and Cc, however broken, because it only has to be shown.

mod list;
mod mailbox;

#[cfg(test)]
mod tests;

pub use list::{ListEntry, parse_address_list};
pub use mailbox::{
    AddressError, Domain, Mailbox, MailboxKey, Path, domain_key, local_key, parse_path,
    split_detail,
};
