//! What is counted about questions. Servers are told apart by their place in the configuration.

use crate::observe::{label, metrics};

label! {
    /// Which of the configured servers.
    pub enum Place: "server" {
        First = "1",
        Second = "2",
        Third = "3",
        Further = "further",
    }
}

label! {
    /// What became of one question to one server.
    pub enum Fate: "fate" {
        Answered = "answered",
        Timeout = "timeout",
        Unreachable = "unreachable",
        ServFail = "servfail",
        Refused = "refused",
        Malformed = "malformed",
    }
}

label! {
    /// Where an answer was found.
    pub enum Found: "where" {
        Cache = "cache",
        Shared = "shared",
        Joined = "joined",
        Servers = "servers",
    }
}

label! {
    /// What DNSSEC said.
    pub enum Judged: "security" {
        Secure = "secure",
        Insecure = "insecure",
        Indeterminate = "indeterminate",
        Bogus = "bogus",
    }
}

impl Place {
    pub fn of(index: usize) -> Place {
        match index {
            0 => Place::First,
            1 => Place::Second,
            2 => Place::Third,
            _ => Place::Further,
        }
    }
}

impl Fate {
    /// For the log.
    pub fn word(self) -> &'static str {
        match self {
            Fate::Answered => "answered",
            Fate::Timeout => "timeout",
            Fate::Unreachable => "unreachable",
            Fate::ServFail => "servfail",
            Fate::Refused => "refused",
            Fate::Malformed => "malformed",
        }
    }
}

metrics! {
    "dns";
    /// Questions to each server, by what became of them. A server that mostly times out is dead.
    counter QUESTIONS by (Place, Fate) = "palomar_dns_questions_total";
    /// Questions that were asked over TCP: the answer was cut, or the server loses the case.
    counter STREAMS by Place = "palomar_dns_tcp_questions_total";
    /// Datagrams that answered something else than was asked. Many: somebody forges answers.
    counter STRANGERS by Place = "palomar_dns_strange_datagrams_total";
    /// Time until a server answered.
    histogram ANSWER_SECONDS(Seconds) by Place = "palomar_dns_answer_seconds";
    /// Look-ups by where they found their answer: this shard's cache, the cache that shards share,
    /// an equal question under way, or the servers.
    counter LOOKUPS by Found = "palomar_dns_lookups_total";
    /// Answers by what DNSSEC said of them.
    counter JUDGED by Judged = "palomar_dns_judged_total";
    /// Octets in the caches of all shards.
    gauge CACHE_BYTES = "palomar_dns_cache_bytes";
}
