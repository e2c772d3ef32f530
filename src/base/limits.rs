//! Limits that several rooms must agree on. What an operator may change is a config key instead.

/// Longest command line a protocol reader takes, without literals (RFC 9051 leaves it open;
/// RFC 7162 4 asks for 8192 at least).
pub const COMMAND_BYTES_MAX: usize = 64 << 10;

/// Longest SMTP command line with CRLF: RFC 5321 4.5.3.1.4 has 512, RFC 4954 4 adds 12288 for AUTH.
pub const SMTP_COMMAND_BYTES_MAX: usize = 12_288;

/// Longest text line of a message without CRLF that we promise to take. RFC 5321 4.5.3.1.6 has
/// 1000 with CRLF; longer lines are stored as they came.
pub const TEXT_LINE_BYTES_MAX: usize = 998;

/// Bodies above this go to a spool file instead of into the journal record.
pub const INLINE_BODY_BYTES_MAX: usize = 256 << 10;

/// A journal batch, header and padding included.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// Headers of one MIME entity beyond this are treated as body.
pub const HEADER_BYTES_MAX: usize = 1 << 20;

/// Deepest MIME nesting that is described; deeper parts are leaves.
pub const MIME_DEPTH_MAX: usize = 100;

/// Longest mailbox name in bytes of UTF-8.
pub const MAILBOX_NAME_BYTES_MAX: usize = 1_000;

const _: () = assert!(2 * INLINE_BODY_BYTES_MAX < BATCH_BYTES_MAX);
const _: () = assert!(SMTP_COMMAND_BYTES_MAX <= COMMAND_BYTES_MAX);
