//! What the queue counts.

use crate::observe::{label, metrics};

label! {
    /// What became of a recipient in an attempt.
    pub enum Fate: "fate" {
        Delivered = "delivered",
        Deferred = "deferred",
        Failed = "failed",
        Expired = "expired",
    }
}

label! {
    /// What a notice tells.
    pub enum Told: "about" {
        Failed = "failure",
        Delayed = "delay",
        Relayed = "success",
        Dropped = "dropped",
    }
}

metrics! {
    "queue";
    /// Recipients of attempts, by what became of them.
    counter RECIPIENTS by Fate = "palomar_queue_recipients_total";
    /// Notices to senders; dropped are those about notices.
    counter NOTICES by Told = "palomar_queue_notices_total";
    /// Messages that were sent whole without an answer: they may arrive twice.
    counter UNSURE = "palomar_queue_unsure_total";
    /// Rows: a message for one destination, due or not.
    shard_gauge ROWS = "palomar_queue_rows";
    /// Of them, what is offered to a destination or under way.
    shard_gauge OUT = "palomar_queue_rows_out";
    /// One hop: from the first packet to its last answer.
    histogram ATTEMPT(Seconds) = "palomar_queue_attempt_seconds";
}
