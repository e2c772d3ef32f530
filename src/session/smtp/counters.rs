//! What SMTP counts.

use crate::observe::{label, metrics};

label! {
    /// What a listener is for.
    pub enum Role: "role" {
        Smtp = "smtp",
        Submission = "submission",
        Lmtp = "lmtp",
    }
}

metrics! {
    "session.smtp";
    /// Sessions that were opened.
    counter OPENED by Role = "palomar_session_smtp_opened_total";
    /// Sessions that are open.
    gauge OPEN by Role = "palomar_session_smtp_open";
    /// TLS handshakes that failed; the log has what each client offered.
    counter TLS_FAILED by Role = "palomar_session_smtp_tls_failed_total";
    /// Sessions that were not offered STARTTLS after earlier failures of their address.
    counter TLS_WITHHELD = "palomar_session_smtp_tls_withheld_total";
    /// Commands that were wrong or out of order.
    counter FAULTS by Role = "palomar_session_smtp_faults_total";
    /// Sessions ended after too many of them.
    counter FAULTS_ENDED by Role = "palomar_session_smtp_faults_ended_total";
}
