//! SMTP and LMTP, where a transcript would be too long or two things happen at a time.

use super::world::{Client, World};
use crate::base::ByteSize;
use crate::runtime;

/// A drain lets a message end and be acknowledged, and then says why the session does.
#[test]
fn a_drain_ends_no_message() {
    runtime::block_on(async {
        let world = World::start().await;
        world.user("ana", None).await;
        let mut client = Client::connect(&world, "smtp").await;
        let mut idle = Client::connect(&world, "smtp").await;
        assert!(idle.line().await.starts_with("220 "));
        let envelope = "EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<ana@example.org>\r\nDATA\r\n";
        client.say(envelope.as_bytes()).await;
        while !client.line().await.starts_with("354 ") {}
        client.say(b"Subject: half\r\n\r\n").await;
        world.stop.raise();
        assert!(idle.line().await.starts_with("421 4.3.2 "));
        assert_eq!(idle.line().await, "(closed)");
        client.say(b"whole\r\n.\r\n").await;
        assert!(client.line().await.starts_with("250 2.0.0 queued as "));
        assert!(client.line().await.starts_with("421 4.3.2 "));
        assert_eq!(client.line().await, "(closed)");
    })
    .expect("a shard");
}

/// By LMTP a full mailbox refuses for itself alone, also where one record takes all copies.
#[test]
fn a_full_mailbox_stops_nobody_else() {
    runtime::block_on(async {
        let world = World::start().await;
        world.user("full", Some(ByteSize(2_000))).await;
        let snapshot = world.directory.snapshot();
        let full = snapshot.login("full").expect("made").partition;
        let mut neighbour = String::new();
        for n in 0..40 {
            neighbour = format!("n{n}");
            world.user(&neighbour, None).await;
            let snapshot = world.directory.snapshot();
            if snapshot.login(&neighbour).expect("made").partition == full {
                break;
            }
        }
        let mut client = Client::connect(&world, "lmtp").await;
        let letter = format!(
            "LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<full@example.org>\r\n\
             RCPT TO:<{neighbour}@example.org>\r\nDATA\r\nSubject: long\r\n\r\n{}\r\n.\r\n",
            "x".repeat(1_500)
        );
        // The first one fits, and the second one no more.
        for full in ["250 2.0.0 ", "452 4.2.2 "] {
            client.say(letter.as_bytes()).await;
            while !client.line().await.starts_with("354 ") {}
            assert!(client.line().await.starts_with(full), "{full}");
            assert!(client.line().await.starts_with("250 2.0.0 queued as "));
        }
        let letter = letter.replace(&"x".repeat(1_500), &"x".repeat(2_500));
        client.say(letter.as_bytes()).await;
        while !client.line().await.starts_with("354 ") {}
        assert!(client.line().await.starts_with("552 5.2.3 "));
        assert!(client.line().await.starts_with("250 2.0.0 queued as "));
        // By SMTP one answer is for all: the neighbour gets it when it comes for him alone.
        let mut client = Client::connect(&world, "smtp").await;
        client.say(letter.replace("LHLO", "EHLO").as_bytes()).await;
        while !client.line().await.starts_with("354 ") {}
        assert!(client.line().await.starts_with("452 4.2.2 "));
    })
    .expect("a shard");
}

/// A sender was told for days to try again with what never fits.
#[test]
fn a_message_larger_than_the_quota_is_refused_for_good() {
    runtime::block_on(async {
        let world = World::start().await;
        world.user("small", Some(ByteSize(2_000))).await;
        let mut client = Client::connect(&world, "smtp").await;
        let body = format!(
            "DATA\r\nSubject: long\r\n\r\n{}\r\n.\r\n",
            "x".repeat(2_500)
        );
        let small = "RCPT TO:<small@example.org>\r\n";
        client.say(b"EHLO c\r\n").await;
        while !client.line().await.starts_with("250 ") {}
        let announced = format!("MAIL FROM:<> SIZE=2001\r\n{small}RSET\r\n");
        client.say(announced.as_bytes()).await;
        for reply in ["250 2.1.0 ", "552 5.2.3 ", "250 2.0.0 "] {
            assert!(client.line().await.starts_with(reply), "{reply}");
        }
        let unannounced = format!("MAIL FROM:<>\r\n{small}{body}");
        client.say(unannounced.as_bytes()).await;
        while !client.line().await.starts_with("354 ") {}
        assert!(client.line().await.starts_with("552 5.2.3 "));
    })
    .expect("a shard");
}

/// A message that has been everywhere is in a loop (RFC 5321 6.3).
#[test]
fn a_hundred_hops_are_too_many() {
    runtime::block_on(async {
        let world = World::start().await;
        world.user("ana", None).await;
        let mut client = Client::connect(&world, "smtp").await;
        client.say(b"HELO c\r\n").await;
        for (hops, reply) in [(99, "250 2.0.0 "), (100, "554 5.4.6 ")] {
            let trace = "Received: by x.test; Mon, 21 Sep 2026 14:13:20 +0000\r\n".repeat(hops);
            let letter =
                format!("MAIL FROM:<>\r\nRCPT TO:<ana@example.org>\r\nDATA\r\n{trace}\r\n.\r\n");
            client.say(letter.as_bytes()).await;
            while !client.line().await.starts_with("354 ") {}
            let got = client.line().await;
            assert!(got.starts_with(reply), "{hops}: {got}");
        }
    })
    .expect("a shard");
}
