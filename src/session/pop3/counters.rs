//! What POP3 counts.

use crate::observe::metrics;

metrics! {
    "session.pop3";
    /// Sessions that were opened.
    counter OPENED = "palomar_session_pop3_opened_total";
    /// Sessions that are open.
    gauge OPEN = "palomar_session_pop3_open";
    /// Messages that were sent, whole or in part.
    counter SENT = "palomar_session_pop3_messages_sent_total";
    /// Messages that were removed.
    counter REMOVED = "palomar_session_pop3_messages_removed_total";
    /// TLS handshakes that failed; the log has what each client offered.
    counter TLS_FAILED = "palomar_session_pop3_tls_failed_total";
}
