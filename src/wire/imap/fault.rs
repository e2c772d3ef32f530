//! What can be wrong with a command, in words that fit behind `BAD`.

use std::fmt;

/// Why a command was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NoTag,
    NoCommand,
    UnknownCommand,
    MissingSpace,
    MissingArgument,
    ExtraText,
    MissingOpen,
    MissingClose,
    BadAtom,
    BadNumber,
    NumberTooLarge,
    ZeroNumber,
    BadSequenceSet,
    BadString,
    UnclosedQuote,
    BadEscape,
    BadLiteral,
    CutLiteral,
    NoMessageLiteral,
    NotUtf8,
    BadFlag,
    BadDate,
    BadDateTime,
    BadFetchItem,
    BadSection,
    BadPartial,
    BadSearchKey,
    BadSearchReturn,
    SearchTooDeep,
    /// Not `BAD` but `NO [BADCHARSET]` (RFC 9051 6.4.4).
    BadCharset,
    BadStatusItem,
    BadStoreItem,
    BadListOption,
    BadSelectOption,
    BadCreateOption,
    TooManyIdFields,
}

impl Fault {
    fn words(self) -> &'static str {
        match self {
            Fault::NoTag => "a command begins with a tag",
            Fault::NoCommand => "no command behind the tag",
            Fault::UnknownCommand => "unknown command",
            Fault::MissingSpace => "a space is missing",
            Fault::MissingArgument => "an argument is missing",
            Fault::ExtraText => "there is text behind the end of the command",
            Fault::MissingOpen => "an opening parenthesis or bracket is missing",
            Fault::MissingClose => "a closing parenthesis or bracket is missing",
            Fault::BadAtom => "a word holds a character that must be quoted",
            Fault::BadNumber => "a number is expected",
            Fault::NumberTooLarge => "a number is too large",
            Fault::ZeroNumber => "a number must not be zero",
            Fault::BadSequenceSet => "a set of message numbers is malformed",
            Fault::BadString => "a string is expected",
            Fault::UnclosedQuote => "a quoted string does not end, or holds CR, LF or NUL",
            Fault::BadEscape => "in a quoted string only \\ and \" stand behind a \\",
            Fault::BadLiteral => "a literal is malformed",
            Fault::CutLiteral => "a literal is cut short",
            Fault::NoMessageLiteral => "the message must come as a literal",
            Fault::NotUtf8 => "a text is not UTF-8",
            Fault::BadFlag => "a flag is malformed",
            Fault::BadDate => "a date must read like 1-Feb-2026",
            Fault::BadDateTime => "a time must read like \"01-Feb-2026 12:00:00 +0000\"",
            Fault::BadFetchItem => "unknown FETCH item",
            Fault::BadSection => "a body section is malformed",
            Fault::BadPartial => "a partial range must read like <0.1024>",
            Fault::BadSearchKey => "unknown SEARCH key",
            Fault::BadSearchReturn => "unknown SEARCH RETURN option",
            Fault::SearchTooDeep => "the SEARCH is nested too deeply",
            Fault::BadCharset => "this charset is not supported",
            Fault::BadStatusItem => "unknown STATUS item",
            Fault::BadStoreItem => "STORE changes FLAGS, +FLAGS or -FLAGS",
            Fault::BadListOption => "unknown LIST option",
            Fault::BadSelectOption => "unknown SELECT parameter",
            Fault::BadCreateOption => "unknown CREATE parameter",
            Fault::TooManyIdFields => "ID has more than 30 fields, or too long ones",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}
