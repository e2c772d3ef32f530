//! The house rules that the compiler does not know, checked from the source text.
//!
//! Rooms use only rooms above them; glommio stays in `runtime`, rustls in `net`; pure rooms have
//! no IO, no clock and no async; no lock types on the data path; files stay short; every RFC that
//! the code cites stands in `docs/rfc/status.md`; docs name only files that exist; tests do not
//! sleep.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may use (docs/ARCHITECTURE.md, "Rooms").
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("observe", &["base"]),
    ("config", &["base"]),
    ("wire", &["base"]),
    ("policy", &["base", "wire"]),
    ("runtime", &["base", "observe", "config"]),
    ("net", &["base", "observe", "config", "wire", "runtime"]),
    (
        "dns",
        &["base", "observe", "config", "wire", "runtime", "net"],
    ),
    ("store", &["base", "observe", "config", "wire", "runtime"]),
    (
        "directory",
        &[
            "base", "observe", "config", "wire", "policy", "runtime", "net", "store",
        ],
    ),
    (
        "delivery",
        &[
            "base",
            "observe",
            "config",
            "wire",
            "runtime",
            "net",
            "dns",
            "store",
            "directory",
        ],
    ),
    (
        "session",
        &[
            "base",
            "observe",
            "config",
            "wire",
            "runtime",
            "net",
            "store",
            "directory",
            "delivery",
        ],
    ),
    (
        "web",
        &[
            "base",
            "observe",
            "config",
            "wire",
            "runtime",
            "net",
            "store",
            "directory",
            "delivery",
        ],
    ),
    (
        "server",
        &[
            "base",
            "observe",
            "config",
            "wire",
            "runtime",
            "net",
            "dns",
            "store",
            "directory",
            "delivery",
            "session",
            "web",
        ],
    ),
    (
        "cli",
        &[
            "base",
            "observe",
            "config",
            "wire",
            "policy",
            "runtime",
            "net",
            "dns",
            "store",
            "directory",
            "delivery",
            "session",
            "web",
            "server",
        ],
    ),
];

/// Rooms that are bytes in, values out.
const PURE: &[&str] = &["base", "wire", "policy"];

const FILE_LINES_MAX: usize = 800;

/// Places where a lock is right, each with its reason.
const LOCKS_ALLOWED: &[(&str, &str)] = &[
    ("src/runtime/pool.rs", "blocking threads may block"),
    (
        "src/observe/",
        "the log writer and the counter registry are off the data path",
    ),
];

struct Source {
    /// Relative to the repository, with forward slashes.
    path: String,
    room: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a readable tree").path();
        if path.is_dir() {
            walk(&path, ending, found);
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found.sort();
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root().join("src"), "rs", &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("source is UTF-8");
            let path = path.strip_prefix(root()).expect("below the root");
            let mut parts = path.iter().skip(1);
            let room = match (parts.next(), parts.next()) {
                (Some(room), Some(_)) => room.to_string_lossy().into_owned(),
                _ => String::new(),
            };
            Source {
                path: path.to_string_lossy().into_owned(),
                room,
                text,
            }
        })
        .collect()
}

/// The code of a file: comments, and test modules at its end, left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text
        .find("\n#[cfg(test)]\nmod ")
        .map_or(text.len(), |at| at + 1);
    text[..end].lines().enumerate().filter_map(|(n, line)| {
        let line = line.split("//").next().unwrap_or("");
        (!line.trim().is_empty()).then_some((n + 1, line))
    })
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn check(found: &str) {
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn a_room_uses_only_rooms_above_it() {
    let allowed: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let mut wrong = String::new();
    for source in sources().iter().filter(|s| !s.room.is_empty()) {
        let Some(may_use) = allowed.get(source.room.as_str()) else {
            writeln!(
                wrong,
                "{}: room `{}` is not in the table",
                source.path, source.room
            )
            .unwrap();
            continue;
        };
        if is_test_file(&source.path) {
            continue;
        }
        for (n, line) in code(&source.text) {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + 7..];
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                let used = &rest[..end.unwrap_or(rest.len())];
                if used != source.room && allowed.contains_key(used) && !may_use.contains(&used) {
                    writeln!(
                        wrong,
                        "{}:{n}: `{}` may not use `{used}`",
                        source.path, source.room
                    )
                    .unwrap();
                }
            }
        }
    }
    check(&wrong);
}

#[test]
fn lib_names_the_rooms_in_their_order() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let named: Vec<&str> = lib
        .lines()
        .filter_map(|l| l.strip_prefix("pub mod ").and_then(|l| l.strip_suffix(';')))
        .collect();
    let order: Vec<&str> = ROOMS
        .iter()
        .map(|(room, _)| *room)
        .filter(|room| named.contains(room))
        .collect();
    assert_eq!(
        named, order,
        "src/lib.rs lists the rooms in the order of docs/ARCHITECTURE.md"
    );
}

#[test]
fn every_room_has_a_door_sign() {
    let mut wrong = String::new();
    for source in sources() {
        if !source.text.starts_with("//!") {
            writeln!(wrong, "{}: starts without a `//!` sign", source.path).unwrap();
        }
    }
    check(&wrong);
}

#[test]
fn one_room_names_each_engine() {
    let mut wrong = String::new();
    for source in sources() {
        for (engine, home) in [("glommio", "runtime"), ("rustls", "net")] {
            let outside = source.room != home && !is_test_file(&source.path);
            for (n, line) in code(&source.text) {
                if outside && line.contains(&format!("{engine}::")) {
                    writeln!(wrong, "{}:{n}: only `{home}` names {engine}", source.path).unwrap();
                }
            }
        }
    }
    check(&wrong);
}

#[test]
fn pure_rooms_do_no_io_and_have_no_clock() {
    let banned = [
        "std::fs",
        "std::net::Tcp",
        "async ",
        ".await",
        "Instant::now",
        "SystemTime",
    ];
    let mut wrong = String::new();
    for source in sources() {
        if !PURE.contains(&source.room.as_str()) || is_test_file(&source.path) {
            continue;
        }
        for (n, line) in code(&source.text) {
            for word in banned {
                if line.contains(word) {
                    writeln!(wrong, "{}:{n}: `{word}` in a pure room", source.path).unwrap();
                }
            }
        }
    }
    check(&wrong);
}

#[test]
fn no_lock_on_the_data_path() {
    let mut wrong = String::new();
    for source in sources() {
        if is_test_file(&source.path)
            || LOCKS_ALLOWED
                .iter()
                .any(|(place, _)| source.path.starts_with(place))
        {
            continue;
        }
        for (n, line) in code(&source.text) {
            for word in ["Mutex<", "RwLock<", "Mutex::new", "RwLock::new", "Condvar"] {
                if line.contains(word) {
                    writeln!(wrong, "{}:{n}: {word}", source.path).unwrap();
                }
            }
        }
    }
    check(&wrong);
}

#[test]
fn nothing_is_left_undone() {
    let banned = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore"];
    let mut wrong = String::new();
    for source in sources() {
        for (n, line) in source.text.lines().enumerate() {
            for word in banned {
                if line.contains(word) {
                    writeln!(wrong, "{}:{}: {word}", source.path, n + 1).unwrap();
                }
            }
        }
    }
    check(&wrong);
}

#[test]
fn files_are_short() {
    let mut wrong = String::new();
    let mut paths = Vec::new();
    for dir in ["src", "loadtest/src", "tests", "benches"] {
        walk(&root().join(dir), "rs", &mut paths);
    }
    for path in paths {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > FILE_LINES_MAX {
            writeln!(wrong, "{}: {lines} lines", path.display()).unwrap();
        }
    }
    check(&wrong);
}

/// `RFC 5321 4.1` and `RFC 9051` in comments; the number must be in docs/rfc/status.md.
#[test]
fn cited_rfcs_are_in_the_status_table() {
    let status = fs::read_to_string(root().join("docs/rfc/status.md")).unwrap_or_default();
    let listed: BTreeSet<&str> = status
        .lines()
        .filter_map(|l| l.strip_prefix("| "))
        .filter_map(|l| l.split(' ').next())
        .collect();
    let mut wrong = String::new();
    let mut missing = BTreeMap::new();
    for source in sources() {
        for (at, _) in source.text.match_indices("RFC ") {
            let number: String = source.text[at + 4..]
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            if number.len() >= 3 && !listed.contains(number.as_str()) {
                missing.entry(number).or_insert_with(|| source.path.clone());
            }
        }
    }
    for (number, path) in missing {
        writeln!(
            wrong,
            "RFC {number}, cited in {path}, is not in docs/rfc/status.md"
        )
        .unwrap();
    }
    check(&wrong);
}

#[test]
fn documents_name_files_that_exist() {
    let mut documents = vec![root().join("README.md")];
    walk(&root().join("docs"), "md", &mut documents);
    let mut wrong = String::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap_or_default();
        for name in text.split('`').skip(1).step_by(2) {
            let starts = [
                "src/",
                "docs/",
                "tests/",
                "tuning/",
                "benches/",
                "loadtest/",
                "fuzz/",
            ];
            let plain = name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if plain && starts.iter().any(|s| name.starts_with(s)) && !root().join(name).exists() {
                writeln!(wrong, "{}: `{name}` does not exist", document.display()).unwrap();
            }
        }
        for (at, _) in text.match_indices("](") {
            let target: String = text[at + 2..]
                .chars()
                .take_while(|c| !")#".contains(*c))
                .collect();
            let local = !target.is_empty() && !target.contains("://");
            if local && !document.parent().unwrap().join(&target).exists() {
                writeln!(wrong, "{}: link to {target} is dead", document.display()).unwrap();
            }
        }
    }
    check(&wrong);
}

/// A test waits for the thing itself, with a deadline, and not for time to pass.
#[test]
fn no_play_sleeps() {
    fn files(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a readable tree") {
            let path = entry.expect("a readable tree").path();
            match path.is_dir() {
                true => files(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut plays = Vec::new();
    files(&root().join("tests"), &mut plays);
    let mut wrong = String::new();
    for path in plays.iter().filter(|path| !path.ends_with("tidy.rs")) {
        // Files of the journal are no text.
        let text = fs::read_to_string(path).unwrap_or_default();
        let sleeps = |line: &&str| {
            let line = line.trim_start();
            line.starts_with("sleep ") || line.contains("time.sleep(")
        };
        for line in text.lines().filter(sleeps) {
            writeln!(wrong, "{}: {line}", path.display()).unwrap();
        }
    }
    for source in sources().iter().filter(|source| is_test_file(&source.path)) {
        if source.text.contains("thread::sleep") {
            writeln!(wrong, "{}: thread::sleep", source.path).unwrap();
        }
    }
    check(&wrong);
}

/// Every subcommand and flag in a code block of README and docs/howto exists.
#[test]
fn documents_name_commands_that_exist() {
    let mut cli = Vec::new();
    walk(&root().join("src/cli"), "rs", &mut cli);
    let known: String = cli
        .iter()
        .map(|path| fs::read_to_string(path).expect("source is UTF-8"))
        .collect();
    let mut documents = vec![root().join("README.md")];
    walk(&root().join("docs"), "md", &mut documents);
    let mut wrong = String::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap_or_default();
        for line in text.lines() {
            let Some(call) = line
                .trim_start_matches("$ ")
                .trim()
                .strip_prefix("palomar ")
            else {
                continue;
            };
            for flag in call
                .split_whitespace()
                .filter(|w| w.starts_with("--") && w.len() > 2)
            {
                let name = flag[2..].split('=').next().unwrap_or("").replace('-', "_");
                let spelled = flag[2..].split('=').next().unwrap_or("");
                if !known.contains(&name) && !known.contains(spelled) {
                    writeln!(wrong, "{}: {flag} in `{line}`", document.display()).unwrap();
                }
            }
        }
    }
    check(&wrong);
}
