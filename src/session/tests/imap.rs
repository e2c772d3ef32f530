//! IMAP, where a transcript would be too long or two things happen at a time.

use std::path::PathBuf;
use std::time::Duration;

use super::transcript::matches;
use super::world::{Client, World};
use crate::runtime::{self, Disk, Step};

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

/// The only message file below a directory of the disk; `None` until it is there.
async fn message_file(disk: &Disk, dir: PathBuf) -> Option<PathBuf> {
    let mut dirs = vec![dir];
    while let Some(dir) = dirs.pop() {
        for entry in disk.list(&dir).await.unwrap_or_default() {
            let path = dir.join(&entry.name);
            match entry.is_dir {
                true => dirs.push(path),
                false if dir.ends_with("cur") => return Some(path),
                false => {}
            }
        }
    }
    None
}

/// A damaged message was `BODY[] NIL`: mbsync gave the whole folder up for it.
#[test]
fn a_damaged_message_has_no_response_and_is_named() {
    runtime::block_on(async {
        let world = World::start().await;
        let mut client = session(&world, "ana").await;
        client
            .say(b"a APPEND INBOX {14+}\r\nSubject: x\r\n\r\n\r\n")
            .await;
        client.until("a ").await;
        let file = loop {
            if let Some(file) = message_file(&world.disk, "/data/mail".into()).await {
                break file;
            }
            runtime::sleep(Duration::from_millis(1)).await;
        };
        let cut = Step::Truncate { path: file, len: 5 };
        for done in world.disk.batch(vec![cut]).await {
            done.expect("cut");
        }
        client
            .say(b"b APPEND INBOX {14+}\r\nSubject: y\r\n\r\n\r\n")
            .await;
        client.until("b ").await;
        client.command("SELECT INBOX").await;
        let why = "t NO [CORRUPTION] UID 1 can not be read: damaged; tell the postmaster";
        let other = ["* 2 FETCH (UID 2 BODY[] {14}", "Subject: y", "", ")"];
        // Until it is read from the file it is whole.
        let lines = loop {
            let lines = client.command("UID FETCH 1:2 BODY.PEEK[]").await;
            if lines.last().is_some_and(|last| last.starts_with("t NO ")) {
                break lines;
            }
        };
        assert_eq!(lines, [&other[..], &[why]].concat());
        // That it is seen now is told all the same.
        let lines = client.command("UID FETCH 1 (INTERNALDATE BODY[])").await;
        assert_eq!(lines, [r"* 1 FETCH (UID 1 FLAGS (\Seen \Recent))", why]);
        let lines = client.command("FETCH 1 (UID FLAGS)").await;
        assert_eq!(lines.len(), 2, "{lines:?}");
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
