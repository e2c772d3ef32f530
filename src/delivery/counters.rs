//! What delivery counts.

use crate::observe::{label, metrics};

label! {
    /// How a message came.
    pub enum Door: "way" {
        Smtp = "smtp",
        Lmtp = "lmtp",
        Submission = "submission",
    }
}

label! {
    /// Why a recipient was refused.
    pub enum RecipientCause: "cause" {
        NotOurs = "not_ours",
        Unknown = "unknown",
        Alias = "alias",
        TooMany = "too_many",
        Quota = "quota",
        Store = "store",
    }
}

label! {
    /// Why a message was refused.
    pub enum MessageCause: "cause" {
        Size = "size",
        Content = "content",
        Loop = "loop",
        Quota = "quota",
        Store = "store",
    }
}

metrics! {
    "delivery";
    /// Messages that are durable and were acknowledged.
    counter ACCEPTED by Door = "palomar_delivery_messages_accepted_total";
    /// Their octets, trace header included.
    counter ACCEPTED_BYTES by Door = "palomar_delivery_bytes_accepted_total";
    /// Messages refused at MAIL or after their content.
    counter REFUSED by MessageCause = "palomar_delivery_messages_refused_total";
    /// Recipients accepted.
    counter RECIPIENTS by Door = "palomar_delivery_recipients_accepted_total";
    /// Recipients refused.
    counter RECIPIENTS_REFUSED by RecipientCause = "palomar_delivery_recipients_refused_total";
    /// From the end of the content until it is durable.
    histogram PLACE(Seconds) = "palomar_delivery_place_seconds";
}
