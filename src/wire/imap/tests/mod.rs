//! Tests of the IMAP wire, by file: frame, commands, encode, names, corpus.

mod commands;
mod corpus;
mod encode;
mod frame;
mod names;
