//! Mbox: many messages in one file, each behind a line that begins with `From ` (RFC 4155).
//!
//! Programs never agreed on what to do where a line of a message begins so, too. [`judge`] looks at
//! the head of a file and says which habit it follows; [`Splitter`] then finds the messages, from
//! windows of the file that the caller fills; [`Unquote`] takes the quoting out again. What a
//! message's own header says of its flags and its arrival is in [`Marks`].
//!
//! Invariants: no input panics; memory is bounded by the window, never by a message; each octet of
//! the file is looked at a bounded number of times.
//!
//! Deliberately absent: reading files, unpacking compressed ones.

mod dialect;
mod from_line;
mod marks;
mod quote;
mod split;
#[cfg(test)]
mod tests;

pub use dialect::{Dialect, JUDGED_BYTES, judge};
pub use from_line::{FromLine, from_line};
pub use marks::{Marks, is_internal, marks};
pub use quote::{Unquote, quote};
pub use split::{LOOK_BYTES, Splitter, Step, WINDOW_BYTES_MIN, ends_here};
