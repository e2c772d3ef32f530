//! IMAP, where a transcript would be too long or two things happen at a time.

use super::transcript::matches;
use super::world::{Client, World};
use crate::runtime;

/// A logged-in session of a new user.
async fn session(world: &World, name: &str) -> Client {
    world.user(name, None).await;
    Client::imap(world, name).await
}

/// A message of `bytes` octets, and a little more.
fn long_message(bytes: usize) -> String {
    let mut text = "Subject: long\r\n\r\n".to_owned();
    let mut n = 0;
    while text.len() < bytes {
        text.push_str(&format!(
            "line {n} of a long message that goes on and on\r\n"
        ));
        n += 1;
    }
    text
}

#[test]
fn long_messages_come_back_as_they_went() {
    runtime::block_on(async {
        let world = World::start().await;
        let mut client = session(&world, "ana").await;
        let text = long_message(900_000);
        let head = format!("a APPEND INBOX {{{}+}}\r\n", text.len());
        client.say(head.as_bytes()).await;
        client.say(text.as_bytes()).await;
        client.say(b"\r\n").await;
        let answer = client.until("a ").await;
        assert!(
            matches("a OK [APPENDUID <n> 1] APPEND done", &answer[0]),
            "{answer:?}"
        );
        client.command("SELECT INBOX").await;
        let lines = client.command("FETCH 1 BODY.PEEK[]").await;
        assert_eq!(lines[0], format!("* 1 FETCH (BODY[] {{{}}}", text.len()));
        let body = lines[1..lines.len() - 2]
            .iter()
            .map(|line| format!("{line}\r\n"));
        assert_eq!(body.collect::<String>(), text);
        let lines = client.command("FETCH 1 BODY.PEEK[]<500000.5>").await;
        let part = &text[500_000..500_005];
        assert_eq!(
            lines[..2].join("\r\n"),
            format!("* 1 FETCH (BODY[]<500000> {{5}}\r\n{part})")
        );
        let found = client.command("SEARCH BODY \"LINE 15000 OF\"").await;
        assert_eq!(found[0], "* SEARCH 1");
    })
    .expect("a shard");
}

#[test]
fn many_messages_are_listed_in_one_go() {
    runtime::block_on(async {
        let world = World::start().await;
        let mut client = session(&world, "ana").await;
        const COUNT: usize = 3_000;
        for round in 0..COUNT / 500 {
            let mut text = b"a APPEND INBOX".to_vec();
            for n in 0..500 {
                let message = format!("Subject: {}\r\n\r\nx\r\n", round * 500 + n);
                text.extend(format!(" {{{}+}}\r\n{message}", message.len()).into_bytes());
            }
            text.extend(b"\r\n");
            client.say(&text).await;
            let answer = client.until("a ").await;
            assert!(answer[0].starts_with("a OK [APPENDUID "), "{answer:?}");
        }
        client.command("SELECT INBOX").await;
        let lines = client.command("UID FETCH 1:* (FLAGS)").await;
        assert_eq!(lines.len(), COUNT + 1);
        assert_eq!(
            lines[COUNT - 1],
            format!("* {COUNT} FETCH (UID {COUNT} FLAGS (\\Recent))")
        );
        let lines = client.command("FETCH 1:* (ENVELOPE)").await;
        assert_eq!(lines.len(), COUNT + 1);
        assert!(
            lines[1].starts_with("* 2 FETCH (ENVELOPE (NIL \"1\" "),
            "{}",
            lines[1]
        );
        let lines = client.command("STORE 1:* +FLAGS.SILENT (\\Deleted)").await;
        assert_eq!(lines, ["t OK STORE done"]);
        let lines = client.command("EXPUNGE").await;
        assert_eq!(lines.len(), COUNT + 1);
    })
    .expect("a shard");
}

#[test]
fn a_kick_and_a_drain_end_sessions_with_words() {
    runtime::block_on(async {
        let world = World::start().await;
        let mut ana = session(&world, "ana").await;
        let mut ben = session(&world, "ben").await;
        ben.say(b"a IDLE\r\n").await;
        ben.until("+ ").await;
        assert_eq!(world.roster.kick("ana@example.org"), 1);
        let words = ana.line().await;
        assert_eq!(words, "* BYE an administrator ended this session");
        assert_eq!(ana.line().await, "(closed)");
        world.stop.raise();
        let words = ben.line().await;
        assert!(words.starts_with("* BYE [UNAVAILABLE] "), "{words}");
        assert_eq!(ben.line().await, "(closed)");
    })
    .expect("a shard");
}
