//! Whole sessions: real sockets, a store on the simulated disk, all on one shard.

mod imap;
mod mail;
mod transcript;
mod world;

use transcript::play;

#[test]
fn transcripts_of_reading() {
    play(&["imap"]);
}

#[test]
fn transcripts_of_sending_and_fetching() {
    play(&["smtp", "lmtp", "pop3"]);
}
