//! TLS reports (RFC 8460): what TLS came to, counted by day and policy, and the report that is made
//! of it for the domain. Pure, but for [`post`], which gives a report to a web server; who keeps the
//! counts, and sends reports, is `queue::reports`.

mod compose;
mod destination;
mod post;
mod session;
mod tally;

pub use compose::{Report, ReportMail};
pub use destination::{Rua, report_destinations};
pub use post::{PostFault, post};
pub use session::{SessionEnd, left_out, policy_fault, session};
pub use tally::{
    Counts, Day, Days, Failure, FailureKind, PolicyKey, PolicyKind, PolicyTally, Session, Tally,
};
