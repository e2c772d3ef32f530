//! TLS reports (RFC 8460): what TLS came to, counted by day and policy, and the report that is made
//! of it for the domain. Pure; who asks for reports and sends them is elsewhere.
//!
//! What is counted lives in memory: a restart loses the day's statistics so far, and no mail.

mod compose;
mod destination;
mod session;
mod tally;

pub use compose::{Report, ReportMail};
pub use destination::{Rua, report_destinations};
pub use session::{SessionEnd, left_out, policy_fault, session};
pub use tally::{
    Counts, Day, Failure, FailureKind, PolicyKey, PolicyKind, PolicyTally, Session, Tally,
};
