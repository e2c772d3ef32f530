//! Import files: CSV `address,password,quota`, and Dovecot's passwd-file. Pure.
//!
//! A bad line is reported and does not stop the others.

use std::fmt;

use super::command::ImportRow;
use super::name::Name;
use super::password::Secret;
use crate::base::{ByteSize, UnitError};

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imports {
    pub rows: Vec<ImportRow>,
    pub errors: Vec<ImportError>,
}

/// One line that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    pub line: u64,
    pub problem: ImportProblem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportProblem {
    /// The line is not UTF-8.
    Unreadable,
    NotAnAddress(String),
    NoPassword,
    Quota(String),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.problem {
            ImportProblem::Unreadable => {
                f.write_str("the line is not UTF-8; save the file as UTF-8")
            }
            ImportProblem::NotAnAddress(text) => {
                write!(f, "`{text}` is no mail address; write it as name@domain")
            }
            ImportProblem::NoPassword => f.write_str("the password is missing"),
            ImportProblem::Quota(text) => write!(
                f,
                "`{text}` is no quota; write it as 1GB, or leave it empty for no limit"
            ),
        }
    }
}

/// Reads a file of either kind; names without a domain are of `domain`.
#[must_use]
pub fn parse_import(bytes: &[u8], domain: &str) -> Imports {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let is_passwd = content_lines(bytes).next().is_some_and(|(_, line)| {
        // A CSV line has a comma before any colon; a passwd line has no comma before its first.
        line.iter().find(|b| matches!(b, b',' | b':')) == Some(&b':')
    });
    if is_passwd {
        parse_passwd(bytes, domain)
    } else {
        parse_csv(bytes, domain)
    }
}

/// Numbered lines that are neither empty nor comments.
fn content_lines(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    (1..)
        .zip(bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"))
}

/// Where the columns are; without a header in this order.
#[derive(Clone, Copy)]
struct Columns {
    address: usize,
    password: usize,
    quota: usize,
}

impl Columns {
    const PLAIN: Columns = Columns {
        address: 0,
        password: 1,
        quota: 2,
    };

    /// `None` where the record is no header.
    fn of_header(record: &csv::StringRecord) -> Option<Columns> {
        let find = |names: &[&str]| {
            record
                .iter()
                .position(|field| names.iter().any(|n| field.trim().eq_ignore_ascii_case(n)))
        };
        Some(Columns {
            address: find(&["address", "email", "user", "login"])?,
            password: find(&["password", "hash"])?,
            quota: find(&["quota"]).unwrap_or(usize::MAX),
        })
    }
}

/// Line by line, so that a quote left open spoils its own line only.
fn parse_csv(bytes: &[u8], domain: &str) -> Imports {
    let mut imports = Imports::default();
    let mut columns = Columns::PLAIN;
    let mut first = true;
    for (n, line) in content_lines(bytes) {
        let record = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(line.len())
            .from_reader(line)
            .into_records()
            .next();
        let Some(Ok(record)) = record else {
            imports.fail(n, ImportProblem::Unreadable);
            continue;
        };
        if std::mem::take(&mut first)
            && let Some(header) = Columns::of_header(&record)
        {
            columns = header;
            continue;
        }
        let field = |at: usize| record.get(at).unwrap_or("");
        let quota = field(columns.quota).trim();
        let quota = csv_quota(quota).map_err(|_| ImportProblem::Quota(quota.into()));
        let (address, password) = (field(columns.address), field(columns.password));
        imports.take(n, address, password, quota, domain);
    }
    imports
}

fn csv_quota(text: &str) -> Result<Option<ByteSize>, UnitError> {
    match text.to_ascii_lowercase().as_str() {
        "" | "0" | "none" | "unlimited" => Ok(None),
        _ => text.parse().map(Some),
    }
}

/// `user:password:uid:gid:gecos:home:shell:extra`, where the last may have colons of its own.
fn parse_passwd(bytes: &[u8], domain: &str) -> Imports {
    let mut imports = Imports::default();
    for (n, line) in content_lines(bytes) {
        let Ok(line) = std::str::from_utf8(line) else {
            imports.fail(n, ImportProblem::Unreadable);
            continue;
        };
        let mut fields = line.splitn(8, ':');
        let user = fields.next().unwrap_or("");
        let password = fields.next().unwrap_or("");
        let extra = fields.nth(5).unwrap_or("");
        // `!` and `*` are locked accounts.
        let password = if password.starts_with(['!', '*']) {
            ""
        } else {
            password
        };
        imports.take(n, user, password, dovecot_quota(extra), domain);
    }
    imports
}

/// From `userdb_quota_rule=*:storage=1G` (2.3) or `userdb_quota_storage_size=1G` (2.4).
fn dovecot_quota(extra: &str) -> Result<Option<ByteSize>, ImportProblem> {
    for word in extra.split_ascii_whitespace() {
        let word = word.strip_prefix("userdb_").unwrap_or(word);
        let (text, default) = if let Some(size) = word.strip_prefix("quota_storage_size=") {
            (size, 1)
        } else if let Some(rule) = word.strip_prefix("quota_rule=*:") {
            let limits = || rule.split(':');
            let storage = limits().find_map(|l| l.strip_prefix("storage="));
            let bytes = limits().find_map(|l| l.strip_prefix("bytes="));
            match (storage, bytes) {
                // Plain numbers are kilobytes here.
                (Some(storage), _) => (storage, 1024),
                (None, Some(bytes)) => (bytes, 1),
                (None, None) => continue,
            }
        } else {
            continue;
        };
        return match dovecot_size(text, default) {
            Some(0) => Ok(None),
            Some(bytes) => Ok(Some(ByteSize(bytes))),
            None => Err(ImportProblem::Quota(text.into())),
        };
    }
    Ok(None)
}

/// Dovecot's letters are powers of 1024.
fn dovecot_size(text: &str, default: u64) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => default,
        "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        "T" | "TB" | "TIB" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

impl Imports {
    fn fail(&mut self, line: u64, problem: ImportProblem) {
        self.errors.push(ImportError { line, problem });
    }

    fn take(
        &mut self,
        line: u64,
        user: &str,
        password: &str,
        quota: Result<Option<ByteSize>, ImportProblem>,
        domain: &str,
    ) {
        let user = user.trim();
        let address = match user.contains('@') {
            true => Name::parse(user),
            false => Name::new(user, domain),
        };
        let Ok(address) = address else {
            return self.fail(line, ImportProblem::NotAnAddress(user.into()));
        };
        if password.is_empty() {
            return self.fail(line, ImportProblem::NoPassword);
        }
        match quota {
            Err(problem) => self.fail(line, problem),
            Ok(quota) => self.rows.push(ImportRow {
                line,
                address: address.to_string(),
                password: Secret(password.into()),
                quota,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Line<'a> = (u64, &'a str, &'a str, Option<u64>);

    #[track_caller]
    fn check(file: &str, rows: &[Line<'_>], errors: &[(u64, ImportProblem)]) {
        let imports = parse_import(file.as_bytes(), "example.org");
        let got: Vec<Line<'_>> = imports
            .rows
            .iter()
            .map(|r| {
                let quota = r.quota.map(|q| q.0);
                (r.line, r.address.as_str(), r.password.0.as_str(), quota)
            })
            .collect();
        assert_eq!(got, rows);
        let got: Vec<_> = imports
            .errors
            .into_iter()
            .map(|e| (e.line, e.problem))
            .collect();
        assert_eq!(got, errors);
    }

    #[test]
    fn csv_with_and_without_a_header() {
        check(
            "\u{feff}address,password,quota\r\nana@example.org,\"a,b\",1GB\r\nbo@b.example,x,\r\n",
            &[
                (2, "ana@example.org", "a,b", Some(1_000_000_000)),
                (3, "bo@b.example", "x", None),
            ],
            &[],
        );
        check(
            "ana@example.org,{SHA512-CRYPT}$6$a$b,500MB\nbo,y\n",
            &[
                (
                    1,
                    "ana@example.org",
                    "{SHA512-CRYPT}$6$a$b",
                    Some(500_000_000),
                ),
                (2, "bo@example.org", "y", None),
            ],
            &[],
        );
        check(
            "ana,Password,E-Mail\n",
            &[],
            &[(1, ImportProblem::Quota("E-Mail".into()))],
        );
        check(
            "password,email\nx,ana@example.org\n",
            &[(2, "ana@example.org", "x", None)],
            &[],
        );
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_are_taken() {
        check(
            "a@example.org,x,much\nb c@example.org,x\n# a comment\nd@example.org,\n\
             e@example.org,y\n",
            &[(5, "e@example.org", "y", None)],
            &[
                (1, ImportProblem::Quota("much".into())),
                (2, ImportProblem::NotAnAddress("b c@example.org".into())),
                (4, ImportProblem::NoPassword),
            ],
        );
    }

    #[test]
    fn dovecot_passwd_files() {
        check(
            "# users\n\
             ana@example.org:{BLF-CRYPT}$2y$05$x:1000:1000::::userdb_quota_rule=*:storage=1G\n\
             bo:$6$salt$hash:1001:1001:Bo:/home/bo:/bin/sh\n\
             eva::::::\n\
             old:!$6$x:1:1\n\
             di:{PLAIN}p::::::userdb_mail=x userdb_quota_storage_size=5M\n\
             fi:{PLAIN}p::::::userdb_quota_rule=*:storage=lots\n",
            &[
                (2, "ana@example.org", "{BLF-CRYPT}$2y$05$x", Some(1 << 30)),
                (3, "bo@example.org", "$6$salt$hash", None),
                (6, "di@example.org", "{PLAIN}p", Some(5 << 20)),
            ],
            &[
                (4, ImportProblem::NoPassword),
                (5, ImportProblem::NoPassword),
                (7, ImportProblem::Quota("lots".into())),
            ],
        );
    }

    #[test]
    fn nothing_and_noise_do_not_panic() {
        check("", &[], &[]);
        let _ = parse_import(b"\xff\xfe:\x00:::\n\"unclosed", "example.org");
        let _ = parse_import(b"a,\"b\n\xff", "example.org");
    }
}
