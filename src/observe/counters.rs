//! What observe counts about itself.

use super::{label, metrics};

label! {
    /// How important a line is.
    pub enum LineLevel: "level" {
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

metrics! {
    "observe";
    /// Log lines dropped because the writer was behind. A lasting rise: the log's disk is slow.
    counter LOG_DROPPED = "palomar_observe_log_dropped_total";
    /// Log lines handed to the writer.
    counter LOG_LINES by LineLevel = "palomar_observe_log_lines_total";
    /// Writes to the log that failed. The writer tries again until it succeeds.
    counter LOG_WRITE_ERRORS = "palomar_observe_log_write_errors_total";
    /// Old log files that could not be compressed or deleted. Tried again at the next rotation.
    counter LOG_SWEEP_ERRORS = "palomar_observe_log_sweep_errors_total";
}
