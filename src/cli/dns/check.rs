//! `palomar dns check`: each record that receivers look for, as a row: ok, missing or wrong, with
//! the line that belongs into the zone.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::net::IpAddr;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::spf::{Evaluation, Verdict};
use crate::cli::Site;
use crate::cli::check::{own_addresses, reverse_name};
use crate::cli::conversation::Conversation;
use crate::cli::dkim::{Seen, keys_of, seen};
use crate::cli::error::{CliError, Left, Unanswered};
use crate::cli::print::{out, out_json, shown, table};
use crate::config::Config;
use crate::directory::{Answer, Command, DkimKey, KeyState};
use crate::dns::{DnsError, Kind, Rdata, Resolver, Settings};
use crate::policy::spf::{self, Qualifier};
use crate::policy::{dmarc, mta_sts, tls_rpt};
use crate::runtime;
use crate::wire::address::domain_key;

#[derive(Debug, Args)]
pub struct Check {
    /// One of our domains [default: all]
    domain: Option<String>,
    /// Where mail leaves from, once for each address [default: the public addresses of this
    /// machine, else those of the host name]
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<IpAddr>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One record, and what is the matter with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub what: &'static str,
    pub name: String,
    pub status: Status,
    /// Well without it.
    pub optional: bool,
    /// What was found, or what is wrong with it.
    pub note: String,
    /// The line for the zone; empty where nothing is to be done.
    pub zone: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Missing,
    Wrong,
    /// The DNS did not say.
    Unknown,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Ok => "ok",
            Status::Missing => "missing",
            Status::Wrong => "wrong",
            Status::Unknown => "unknown",
        })
    }
}

impl Row {
    fn new(what: &'static str, name: impl Into<String>, line: impl fmt::Display) -> Row {
        let name = name.into();
        Row {
            what,
            zone: format!("{name}. IN {line}"),
            name,
            status: Status::Missing,
            optional: false,
            note: String::new(),
        }
    }

    fn ok(self, note: impl Into<String>) -> Row {
        Row {
            status: Status::Ok,
            note: note.into(),
            zone: String::new(),
            ..self
        }
    }

    fn wrong(self, note: impl Into<String>) -> Row {
        Row {
            status: Status::Wrong,
            note: note.into(),
            ..self
        }
    }

    fn unknown(self, error: &DnsError) -> Row {
        Row {
            status: Status::Unknown,
            note: error.to_string(),
            zone: String::new(),
            ..self
        }
    }

    fn optional(self) -> Row {
        Row {
            optional: true,
            ..self
        }
    }

    /// True where somebody has to do something.
    fn is_open(&self) -> bool {
        match self.status {
            Status::Ok | Status::Unknown => false,
            Status::Missing => !self.optional,
            Status::Wrong => true,
        }
    }
}

impl Check {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let settings = Settings::load(&config).map_err(CliError::Resolver)?;
        let domains = self.domains(&config)?;
        let look = Look {
            host: config.hostname.to_string(),
            given: self.addresses.clone(),
            own: own_addresses()
                .into_iter()
                .filter(|ip| is_public(*ip))
                .collect(),
            resolver: None,
            silent: None,
        };
        let rows = runtime::block_on(async move { look.all(&settings, domains).await });
        let rows = rows.map_err(CliError::Runtime)?;
        match self.json {
            true => out_json(&rows)?,
            false => print(&rows)?,
        }
        conclude(rows)
    }

    /// The domains to look at, each with its keys.
    fn domains(&self, config: &Config) -> Result<Vec<(String, Vec<DkimKey>)>, CliError> {
        let configured = config.domains.iter().map(ToString::to_string);
        // A look makes no data directory where there is none yet.
        if !config.data_dir.exists() {
            let names = self.wanted(configured.collect())?;
            return Ok(names.into_iter().map(|name| (name, Vec::new())).collect());
        }
        let line = Conversation::open(config)?;
        let asked = self.ask(config, &line);
        line.conclude(asked)
    }

    fn ask(
        &self,
        config: &Config,
        line: &Conversation,
    ) -> Result<Vec<(String, Vec<DkimKey>)>, CliError> {
        let Answer::Domains { domains } = line.directory(Command::DomainList)? else {
            let socket = config.admin_socket();
            return Err(CliError::unanswered(socket, Unanswered::NotAnAnswer));
        };
        let names = domains.into_iter().map(|domain| domain.name).collect();
        let with_keys = |name: String| {
            let keys = keys_of(config, line, &name)?;
            Ok((name, keys))
        };
        self.wanted(names)?.into_iter().map(with_keys).collect()
    }

    /// Of our domains the one that was named, or all.
    fn wanted(&self, mut names: Vec<String>) -> Result<Vec<String>, CliError> {
        let Some(wanted) = &self.domain else {
            return Ok(names);
        };
        let key = domain_key(wanted);
        names.retain(|name| Some(name) == key.as_ref());
        match names.is_empty() {
            false => Ok(names),
            true => Err(CliError::Absent(format!(
                "{wanted} is not one of our domains; see palomar domain list"
            ))),
        }
    }
}

/// Well where nothing is to be done; what could not be found out is told where all else is well.
fn conclude(rows: Vec<Row>) -> Result<(), CliError> {
    match rows.iter().filter(|row| row.is_open()).count() {
        0 => {}
        open => return Err(CliError::Left(Left::Records, open)),
    }
    match rows.into_iter().find(|row| row.status == Status::Unknown) {
        Some(row) => Err(CliError::Unsure(format!("{}: {}", row.name, row.note))),
        None => Ok(()),
    }
}

fn print(rows: &[Row]) -> Result<(), CliError> {
    let cells = |row: &Row| {
        let status = match (row.status, row.optional) {
            (Status::Missing, true) => "missing, may be".to_owned(),
            (status, _) => status.to_string(),
        };
        vec![
            row.what.to_owned(),
            row.name.clone(),
            status,
            row.note.clone(),
        ]
    };
    let cells = rows.iter().map(cells).collect();
    let header = ["RECORD", "NAME", "STATUS", "NOTE"];
    out(&table(&header, cells, io::stdout().is_terminal()))?;
    let lines: Vec<&Row> = rows.iter().filter(|row| !row.zone.is_empty()).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let mut text = String::from("\n; what belongs into the zone\n");
    for row in lines {
        for line in row.zone.lines() {
            text += &format!("{}\n", shown(line));
        }
    }
    out(&text)
}

/// RFC 6890: what the world cannot reach says nothing about where mail leaves from.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let carrier = a == 100 && (64..128).contains(&b);
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || carrier)
        }
        IpAddr::V6(ip) => {
            let head = ip.segments()[0];
            !ip.is_loopback() && head & 0xfe00 != 0xfc00 && head & 0xffc0 != 0xfe80
        }
    }
}

/// One look at everything.
struct Look {
    host: String,
    given: Vec<IpAddr>,
    own: Vec<IpAddr>,
    resolver: Option<Resolver>,
    /// Who is silent once would be waited for at every row.
    silent: Option<DnsError>,
}

impl Look {
    async fn all(mut self, settings: &Settings, domains: Vec<(String, Vec<DkimKey>)>) -> Vec<Row> {
        self.resolver = Some(Resolver::new(settings, Arc::default()));
        let mut rows = Vec::new();
        let addresses = self.host(&mut rows).await;
        for (domain, keys) in domains {
            rows.push(self.mx(&domain).await);
            rows.push(self.spf(&domain, &addresses).await);
            rows.extend(self.dkim(&domain, &keys).await);
            rows.push(self.dmarc(&domain).await);
            rows.push(self.mta_sts(&domain).await);
            rows.push(self.tls_rpt(&domain).await);
        }
        rows
    }

    fn resolver(&self) -> Result<&Resolver, DnsError> {
        match &self.silent {
            Some(error) => Err(error.clone()),
            // There is one from the beginning.
            None => self.resolver.as_ref().ok_or(DnsError::Busy),
        }
    }

    async fn ask(&mut self, name: &str, kind: Kind) -> Result<Vec<Rdata>, DnsError> {
        let answer = self.resolver()?.lookup(name, kind).await;
        self.heard(&answer);
        answer.map(|answer| answer.records)
    }

    fn heard<T>(&mut self, answer: &Result<T, DnsError>) {
        if let Err(error @ (DnsError::Timeout | DnsError::Unreachable(_))) = answer {
            self.silent = Some(error.clone());
        }
    }

    /// The texts at a name that mean to be such records.
    async fn texts(
        &mut self,
        name: &str,
        is_record: fn(&str) -> bool,
    ) -> Result<Vec<String>, DnsError> {
        let records = self.ask(name, Kind::Txt).await?;
        let texts = records.into_iter().filter_map(|data| match data {
            Rdata::Text(text) if is_record(&text) => Some(text),
            _ => None,
        });
        Ok(texts.collect())
    }

    /// Addresses and names of this host; where mail leaves from.
    async fn host(&mut self, rows: &mut Vec<Row>) -> Vec<IpAddr> {
        let host = self.host.clone();
        let mut published = Vec::new();
        for kind in [Kind::A, Kind::Aaaa] {
            match self.ask(&host, kind).await {
                Ok(records) => published.extend(records.iter().filter_map(|data| match data {
                    Rdata::Address(ip) => Some(*ip),
                    _ => None,
                })),
                Err(error) => {
                    let row = Row::new(kind.name(), &host, "");
                    rows.push(row.unknown(&error));
                    return Vec::new();
                }
            }
        }
        let known = [&self.given, &self.own, &published];
        let addresses = known.into_iter().find(|some| !some.is_empty()).cloned();
        let Some(addresses) = addresses else {
            let row = Row::new("A", &host, "A ADDRESS-OF-THIS-SERVER");
            rows.push(row);
            return Vec::new();
        };
        for ip in &addresses {
            let kind = if ip.is_ipv4() { "A" } else { "AAAA" };
            let row = Row::new(kind, &host, format_args!("{kind} {ip}"));
            let same = published
                .iter()
                .filter(|other| other.is_ipv4() == ip.is_ipv4());
            let found: Vec<String> = same.map(IpAddr::to_string).collect();
            rows.push(match (published.contains(ip), found.is_empty()) {
                (true, _) => row.ok(ip.to_string()),
                (false, true) => row,
                (false, false) => row.wrong(format!(
                    "found {}, and mail leaves from {ip}",
                    found.join(", ")
                )),
            });
        }
        for ip in &addresses {
            rows.push(self.ptr(*ip).await);
        }
        addresses
    }

    async fn ptr(&mut self, ip: IpAddr) -> Row {
        let host = self.host.clone();
        let row = Row::new("PTR", reverse_name(ip), format_args!("PTR {host}."));
        let answer = match self.resolver() {
            Ok(resolver) => resolver.reverse(ip).await,
            Err(error) => return row.unknown(&error),
        };
        self.heard(&answer);
        match answer {
            Err(error) => row.unknown(&error),
            Ok(answer) if answer.records.contains(&Rdata::Name(host)) => row.ok(ip.to_string()),
            Ok(answer) if answer.records.is_empty() => Row {
                note: "whoever gave you the address sets it".to_owned(),
                ..row
            },
            Ok(answer) => row.wrong(format!("found {}", joined(&answer.records))),
        }
    }

    async fn mx(&mut self, domain: &str) -> Row {
        let row = Row::new("MX", domain, format_args!("MX 10 {}.", self.host));
        let records = match self.ask(domain, Kind::Mx).await {
            Ok(records) => records,
            Err(error) => return row.unknown(&error),
        };
        let ours = |data: &Rdata| matches!(data, Rdata::Mx { host, .. } if *host == self.host);
        match records.iter().any(ours) {
            true => row.ok(joined(&records)),
            false if records.is_empty() => row,
            false => row.wrong(format!(
                "found {}: right only if that relays to here",
                joined(&records)
            )),
        }
    }

    async fn spf(&mut self, domain: &str, addresses: &[IpAddr]) -> Row {
        let row = Row::new("SPF", domain, "TXT \"v=spf1 mx -all\"");
        let texts = match self.texts(domain, spf::is_record).await {
            Ok(texts) => texts,
            Err(error) => return row.unknown(&error),
        };
        let text = match texts.as_slice() {
            [] => return row,
            [one] => one,
            // RFC 7208 4.5: permerror.
            _ => return row.wrong("several records: keep one"),
        };
        let record = match spf::parse(text) {
            Ok(record) => record,
            Err(fault) => return row.wrong(format!("`{}` is no term of SPF", fault.0)),
        };
        for ip in addresses {
            let verdict = match self.resolver() {
                Ok(resolver) => Evaluation::new(resolver).run(domain, &record, *ip).await,
                Err(error) => return row.unknown(&error),
            };
            self.heard(&verdict);
            let result = match verdict {
                Ok(Verdict::Is(Qualifier::Pass)) => continue,
                Ok(Verdict::Broken(why)) => return row.wrong(why),
                Err(error) => return row.unknown(&error),
                Ok(Verdict::Is(Qualifier::Fail)) => "fail",
                Ok(Verdict::Is(Qualifier::SoftFail)) => "softfail",
                Ok(Verdict::Is(Qualifier::Neutral)) => "neutral",
            };
            let row = Row {
                zone: format!("{domain}. IN TXT \"{}\"", admitting(text, *ip)),
                ..row
            };
            return row.wrong(format!("{ip} is not let send ({result}): {text}"));
        }
        row.ok(text.clone())
    }

    async fn dkim(&mut self, domain: &str, keys: &[DkimKey]) -> Vec<Row> {
        let mut rows = Vec::new();
        for key in keys {
            let name = key.record().map(|record| record.name).unwrap_or_default();
            let zone = key.record().map(|record| record.zone_line());
            let row = Row {
                zone: zone.unwrap_or_default(),
                ..Row::new("DKIM", name, "")
            };
            let seen = match self.resolver() {
                Ok(resolver) => seen(resolver, key).await,
                Err(error) => Seen::Unknown(error),
            };
            if let Seen::Unknown(error) = &seen {
                self.heard::<()>(&Err(error.clone()));
            }
            rows.push(judge_key(row, key, &seen));
        }
        if !keys.iter().any(|key| key.state == KeyState::Active) {
            let note = match keys.iter().any(|key| key.state == KeyState::New) {
                true => format!("nothing signs: palomar dkim activate {domain}"),
                false => format!("nothing signs: palomar dkim make {domain}"),
            };
            rows.push(Row {
                note,
                zone: String::new(),
                ..Row::new("DKIM", domain, "")
            });
        }
        rows
    }

    async fn dmarc(&mut self, domain: &str) -> Row {
        let name = dmarc::record_name(domain);
        let line = format!("TXT \"v=DMARC1; p=none; rua=mailto:postmaster@{domain}\"");
        let row = Row::new("DMARC", name, line);
        // RFC 7489 6.6.3: where a domain has none, that of the domain above it counts.
        let mut at = domain;
        while at.contains('.') {
            let texts = match self.texts(&dmarc::record_name(at), dmarc::is_record).await {
                Ok(texts) => texts,
                Err(error) => return row.unknown(&error),
            };
            match texts.as_slice() {
                [] => at = at.split_once('.').map_or("", |(_, above)| above),
                [one] => {
                    return match dmarc::parse(one) {
                        Ok(_) if at != domain => row.ok(format!("that of {at}: {one}")),
                        Ok(_) => row.ok(one.clone()),
                        Err(fault) => row.wrong(format!("{fault}: {one}")),
                    };
                }
                _ => return row.wrong("several records: keep one"),
            }
        }
        row
    }

    async fn mta_sts(&mut self, domain: &str) -> Row {
        let name = mta_sts::record_name(domain);
        let row = Row::new("MTA-STS", &name, "TXT \"v=STSv1; id=1\"").optional();
        match self.texts(&name, mta_sts::is_record).await {
            Err(error) => row.unknown(&error),
            Ok(texts) => match texts.as_slice() {
                [] => Row {
                    note: format!(
                        "wants a policy at https://mta-sts.{domain}/.well-known/mta-sts.txt"
                    ),
                    zone: String::new(),
                    ..row
                },
                [one] if mta_sts::parse(one).is_ok() => row.ok(one.clone()),
                [one] => row.wrong(format!("id= is missing or no letters and digits: {one}")),
                _ => row.wrong("several records: keep one"),
            },
        }
    }

    async fn tls_rpt(&mut self, domain: &str) -> Row {
        let name = tls_rpt::record_name(domain);
        let line = format!("TXT \"v=TLSRPTv1; rua=mailto:postmaster@{domain}\"");
        let row = Row::new("TLS-RPT", &name, line).optional();
        match self.texts(&name, tls_rpt::is_record).await {
            Err(error) => row.unknown(&error),
            Ok(texts) => match texts.as_slice() {
                [] => row,
                [one] if tls_rpt::parse(one).is_ok() => row.ok(one.clone()),
                [one] => row.wrong(format!("rua= must be mailto: or https: {one}")),
                _ => row.wrong("several records: keep one"),
            },
        }
    }
}

fn judge_key(row: Row, key: &DkimKey, seen: &Seen) -> Row {
    let state = key.state;
    let needed = state != KeyState::Retired || key.days_needed(runtime::unix_now()) > 0;
    let row = match state {
        KeyState::Active => row,
        KeyState::New | KeyState::Retired => row.optional(),
    };
    match seen {
        Seen::Unknown(error) => row.unknown(error),
        Seen::Shown if needed => row.ok(state.to_string()),
        Seen::Shown => row.ok("retired: may be taken out of the zone, then palomar dkim remove"),
        Seen::Absent if needed => Row {
            note: state.to_string(),
            ..row
        },
        Seen::Absent => row.ok("retired, and taken out: palomar dkim remove"),
        Seen::Several | Seen::Wrong(_) => row.wrong(format!("{state}: {seen}")),
    }
}

/// The record with one more term, before the `all` at its end.
fn admitting(text: &str, ip: IpAddr) -> String {
    let term = match ip {
        IpAddr::V4(ip) => format!("ip4:{ip}"),
        IpAddr::V6(ip) => format!("ip6:{ip}"),
    };
    let mut terms: Vec<&str> = text.split_whitespace().collect();
    let last = |one: &&str| {
        let plain = one.trim_start_matches(['+', '-', '~', '?']);
        plain.eq_ignore_ascii_case("all") || plain.starts_with("redirect=")
    };
    let at = terms.iter().position(last).unwrap_or(terms.len());
    terms.insert(at, &term);
    terms.join(" ")
}

fn joined(records: &[Rdata]) -> String {
    let texts: Vec<String> = records.iter().map(Rdata::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_comes_before_the_end() {
        #[track_caller]
        fn check(text: &str, ip: &str, want: &str) {
            assert_eq!(admitting(text, ip.parse().unwrap()), want);
        }
        check(
            "v=spf1 mx -all",
            "192.0.2.1",
            "v=spf1 mx ip4:192.0.2.1 -all",
        );
        check("v=spf1 ?ALL", "2001:db8::1", "v=spf1 ip6:2001:db8::1 ?ALL");
        check(
            "v=spf1 redirect=a.example",
            "192.0.2.1",
            "v=spf1 ip4:192.0.2.1 redirect=a.example",
        );
        check("v=spf1", "192.0.2.1", "v=spf1 ip4:192.0.2.1");
    }

    #[test]
    fn what_is_optional_may_be_missing_and_not_wrong() {
        let row = || Row::new("TLS-RPT", "a.example", "TXT x");
        assert!(row().is_open() && !row().optional().is_open());
        assert!(row().optional().wrong("x").is_open() && !row().ok("").is_open());
        assert!(conclude(vec![row().ok("")]).is_ok());
        let unsure = conclude(vec![row().unknown(&DnsError::Timeout)]);
        assert_eq!(unsure.unwrap_err().exit_code(), 75);
        let both = conclude(vec![row().unknown(&DnsError::Timeout), row()]);
        assert_eq!(both.unwrap_err().exit_code(), 1);
    }

    #[test]
    fn public_addresses_are_told_from_others() {
        for (ip, want) in [
            ("192.0.2.1", true),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("169.254.1.1", false),
            ("2001:db8::1", true),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(is_public(ip.parse().unwrap()), want, "{ip}");
        }
    }
}
