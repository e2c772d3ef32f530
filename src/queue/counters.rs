//! What the queue counts.

use crate::observe::{label, metrics};
use crate::store::MailClass;

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
        /// Success, in a mailbox here.
        Arrived = "arrival",
        Dropped = "dropped",
    }
}

label! {
    /// What kind of mail it is (docs/QUEUE.md, "Words").
    pub enum Class: "class" {
        Notice = "notice",
        Normal = "normal",
        Bulk = "bulk",
    }
}

label! {
    /// What a message waits for.
    pub enum State: "state" {
        Waiting = "waiting",
        Held = "held",
    }
}

label! {
    /// Why a recipient is put off.
    pub enum Reason: "reason" {
        /// No way: the site's own host is not to be found, or none could be asked.
        Route = "route",
        Dns = "dns",
        Connect = "connect",
        /// TLS, or a proof of who is there, that somebody asks for.
        Tls = "tls",
        Timeout = "timeout",
        Dropped = "dropped",
        /// Before MAIL: greeting, EHLO, log-in.
        Greeting = "greeting",
        Mail = "mail",
        Rcpt = "rcpt",
        Data = "data",
        /// The host cannot take what the message needs.
        Unfit = "unfit",
        /// No SMTP.
        Protocol = "protocol",
        /// The message could not be read here.
        Ours = "ours",
    }
}

label! {
    /// What became of a TLS report.
    pub enum ReportFate: "fate" {
        /// It is in the queue.
        Mailed = "mailed",
        Posted = "posted",
        /// Nobody could sign it, or a web server did not take it for a day.
        Unsent = "unsent",
    }
}

impl From<MailClass> for Class {
    fn from(class: MailClass) -> Self {
        match class {
            MailClass::Notice => Class::Notice,
            MailClass::Normal => Class::Normal,
            MailClass::Bulk => Class::Bulk,
        }
    }
}

metrics! {
    "queue";
    /// Recipients of attempts, by what became of them and the class of their mail.
    counter RECIPIENTS by (Fate, Class) = "palomar_queue_recipients_total";
    /// Recipients that were put off, by why.
    counter DEFERRED by Reason = "palomar_queue_deferred_total";
    /// Messages that wait, and those that are held altogether, by class. Counted every few seconds.
    gauge MESSAGES by (State, Class) = "palomar_queue_messages";
    /// For how long the oldest message of this shard has been waiting; 0 where none waits.
    shard_gauge OLDEST = "palomar_queue_oldest_seconds";
    /// Notices to senders; dropped are those about notices.
    counter NOTICES by Told = "palomar_queue_notices_total";
    /// Notices, and other mail from nobody, that could not be delivered.
    counter DOUBLES = "palomar_queue_double_bounces_total";
    /// Reports about TLS to those who want them.
    counter REPORTS by ReportFate = "palomar_queue_tls_reports_total";
    /// Messages that were sent whole without an answer: they may arrive twice.
    counter UNSURE = "palomar_queue_unsure_total";
    /// Rows: a message for one destination, due or not.
    shard_gauge ROWS = "palomar_queue_rows";
    /// Of them, what is offered to a destination or under way.
    shard_gauge OUT = "palomar_queue_rows_out";
    /// One hop: from the first packet to its last answer.
    histogram ATTEMPT(Seconds) = "palomar_queue_attempt_seconds";
}
