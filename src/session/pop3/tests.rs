//! The machine alone: a client's lines in, replies and acts out, whatever the cuts.

use proptest::prelude::*;

use super::machine::{Act, Event, Machine, Terms};
use super::maildrop::Maildrop;
use crate::base::{Uid, UidValidity};

/// Stands in for the store: a mailbox of three messages, and the password `right`.
fn run(terms: Terms, input: &[u8], size: usize) -> String {
    let mut machine = Machine::new(terms, false);
    let (mut out, mut unread) = (String::new(), Vec::new());
    for piece in input.chunks(size.max(1)) {
        unread.extend_from_slice(piece);
        loop {
            let (used, event) = machine.read(&unread);
            unread.drain(..used);
            match event {
                Event::Wait => break,
                Event::Onward => {}
                Event::Say(reply) => out += &reply,
                Event::Bye(reply) => return out + &reply,
                Event::Do(Act::LogIn(credentials)) => {
                    if credentials.password.expose() == b"right" {
                        machine.opened(maildrop());
                        out += "+IN\r\n";
                    } else {
                        machine.log_in_failed();
                        out += "-ERR [AUTH]\r\n";
                    }
                }
                Event::Do(Act::Stls) => {
                    machine.secured();
                    unread.clear();
                    out += "+TLS\r\n";
                }
                Event::Do(Act::Update) => {
                    let deleted = machine.maildrop().map(Maildrop::deleted);
                    return out + &format!("{deleted:?}\r\n");
                }
                Event::Do(act) => out += &format!("{act:?}\r\n"),
            }
            if machine.has_erred_enough() {
                return out;
            }
        }
    }
    out
}

fn maildrop() -> Maildrop {
    let messages = [(Uid(3), 10), (Uid(7), 20), (Uid(9), 30)];
    let former = [(Uid(7), "0000000700000abc".into())];
    Maildrop::new(UidValidity(0xabc), messages.into_iter(), former.into())
}

const CLEAR: Terms = Terms {
    has_tls: true,
    clear_log_in: true,
};

/// Sends `input` whole and in pieces; wants the first words of these lines, `|` between them.
#[track_caller]
fn check_with(terms: Terms, input: &str, want: &str) {
    for size in [usize::MAX, 1, 2, 5] {
        let got = run(terms, input.as_bytes(), size.min(input.len()));
        let lines: Vec<&str> = got.lines().collect();
        let wanted: Vec<&str> = want.split('|').collect();
        let fits = lines.len() == wanted.len()
            && lines
                .iter()
                .zip(&wanted)
                .all(|(line, want)| line.starts_with(want));
        assert!(fits, "{input:?} by {size}: {got}");
    }
}

#[track_caller]
fn check(input: &str, want: &str) {
    check_with(CLEAR, input, want);
}

const IN: &str = "USER u\r\nPASS right\r\n";

#[test]
fn a_log_in_comes_first() {
    check("STAT\r\nLIST\r\nQUIT\r\n", "-ERR|-ERR|+OK bye");
    check(
        "PASS right\r\nuser u\r\npAsS right\r\nstat\r\n",
        "-ERR|+OK|+IN|+OK 3 60",
    );
    check(
        "USER u\r\nPASS wrong\r\nPASS right\r\n",
        "+OK|-ERR [AUTH]|-ERR USER",
    );
    check("AUTH PLAIN AHUAcmlnaHQ=\r\nNOOP\r\n", "+IN|+OK");
    check("AUTH PLAIN\r\nAHUAcmlnaHQ=\r\nNOOP\r\n", "+ |+IN|+OK");
    check("AUTH PLAIN\r\n*\r\nUSER u\r\n", "+ |-ERR cancelled|+OK");
    check(
        "AUTH X\r\nAUTH\r\nAUTH PLAIN !\r\n",
        "-ERR|+OK|PLAIN|.|-ERR",
    );
    check(&format!("{IN}USER u\r\nSTLS\r\n"), "+OK|+IN|-ERR|-ERR");
    let tries = "AUTH PLAIN AHUAeA==\r\n".repeat(9);
    check(&tries, "-ERR|-ERR|-ERR|-ERR|-ERR");
    let clear = Terms {
        clear_log_in: false,
        ..CLEAR
    };
    check_with(
        clear,
        "USER u\r\nAUTH PLAIN\r\nPASS x\r\n",
        "-ERR|-ERR|-ERR",
    );
}

#[test]
fn stls_forgets() {
    let got = run(CLEAR, b"USER u\r\nSTLS\r\nPASS right\r\n", usize::MAX);
    assert_eq!(got, "+OK and now the password\r\n+TLS\r\n");
    check_with(
        Terms {
            has_tls: false,
            ..CLEAR
        },
        "STLS\r\n",
        "-ERR",
    );
}

#[test]
fn capa_is_true_at_its_moment() {
    let capa = |terms, before: &str| {
        let lines = format!("{before}CAPA\r\n");
        // The replies to what came before end in a line of +.
        let text = run(terms, lines.as_bytes(), 1);
        text.split("+OK\r\n").last().expect("something").to_owned()
    };
    let all = "TOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nEXPIRE NEVER\r\n\
               USER\r\nSASL PLAIN\r\nSTLS\r\nIMPLEMENTATION Palomar\r\n.\r\n";
    assert_eq!(capa(CLEAR, ""), all);
    let clear = Terms {
        clear_log_in: false,
        ..CLEAR
    };
    assert!(!capa(clear, "").contains("USER") && capa(clear, "").contains("STLS\r\n"));
    assert!(capa(clear, "STLS\r\n").contains("SASL PLAIN\r\n"));
    assert!(!capa(clear, "STLS\r\n").contains("STLS"));
    assert!(!capa(CLEAR, IN).contains("SASL") && capa(CLEAR, IN).contains("UIDL"));
}

#[test]
fn numbers_stay_what_they_are() {
    let logged_in =
        |rest: &str, want: &str| check(&format!("{IN}{rest}"), &format!("+OK|+IN|{want}"));
    logged_in(
        "STAT\r\nLIST 2\r\nUIDL 2\r\n",
        "+OK 3 60|+OK 2 20|+OK 2 0000000700000abc",
    );
    logged_in(
        "LIST 0\r\nLIST 4\r\nLIST x\r\nRETR 4\r\nRETR x\r\n",
        "-ERR|-ERR|-ERR|-ERR|-ERR",
    );
    logged_in("LIST\r\nUIDL\r\n", "List|Uidl");
    logged_in(
        "RETR 1\r\nTOP 3 2\r\nTOP 3\r\n",
        "Retr(|Top(Entry { uid: Uid(9), size|-ERR",
    );
    logged_in(
        "DELE 1\r\nDELE 1\r\nRETR 1\r\nTOP 1 0\r\nLIST 1\r\nUIDL 1\r\nSTAT\r\nLIST 2\r\n",
        "+OK|-ERR|-ERR|-ERR|-ERR|-ERR|+OK 2 50|+OK 2 20",
    );
    logged_in(
        "DELE 2\r\nDELE 3\r\nQUIT\r\n",
        "+OK|+OK|Some([Uid(7), Uid(9)])",
    );
    logged_in(
        "DELE 2\r\nRSET\r\nSTAT\r\nQUIT\r\n",
        "+OK|+OK|+OK 3 60|Some([])",
    );
    logged_in("FOO\r\nNOOP\r\nUTF8\r\n", "-ERR|+OK|-ERR");
}

#[test]
fn bad_lines_cost_no_step() {
    let long = format!("NOOP {}\r\nCAPA x\r\nQUIT\r\n", "x".repeat(20_000));
    check(&long, "-ERR line too long|-ERR|+OK bye");
    check("US\0ER\r\nUSER u\nPASS right\nNOOP\n", "-ERR|+OK|+IN|+OK");
    check(&"X\r\n".repeat(30), &["-ERR"; 20].join("|"));
}

proptest! {
    #[test]
    fn any_bytes_leave_the_machine_in_step(
        parts in prop::collection::vec(prop_oneof![
            Just(IN.to_owned()),
            Just("AUTH PLAIN\r\n".to_owned()),
            Just("DELE 1\r\n".to_owned()),
            Just("RETR 2\r\n".to_owned()),
            "[\r\n\0A-C 1-4]{0,12}",
        ], 0..20),
        size in 1usize..20,
    ) {
        let input = format!("{}\r\n*\r\nQUIT\r\n", parts.concat());
        let whole = run(CLEAR, input.as_bytes(), usize::MAX);
        let cut = run(CLEAR, input.as_bytes(), size);
        prop_assert_eq!(&whole, &cut);
        let last = cut.lines().last().unwrap_or_default();
        let is_end = last == "+OK bye" || last.starts_with("Some(") || last.contains("many");
        prop_assert!(is_end, "{}", cut);
    }
}
