//! What else follows from the declarations: loading, differences, the sample file, the reference.

use std::fmt::Write as _;
use std::path::Path;

use super::declare::{Entry, Key, Need, Reload, Section, Table};
use super::error::ConfigErrors;
use super::keys::Config;
use super::read::{self, literal};
use super::rules;

/// What a reload finds changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Takes effect now.
    pub live: Vec<Change>,
    /// Takes effect at the next start; a [`Reload::Fixed`] key never does.
    pub restart: Vec<Change>,
}

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `listener[1].hostname`.
    pub path: String,
    pub key: &'static Key,
    /// As TOML; `None` where absent.
    pub old: Option<String>,
    pub new: Option<String>,
}

impl Config {
    /// Reads and checks the file at `path`. Blocks: not for a shard.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        match std::fs::read_to_string(path) {
            Ok(text) => Config::parse(&text, &path.display().to_string()),
            Err(error) => Err(ConfigErrors::Unreadable {
                path: path.to_owned(),
                error,
            }),
        }
    }

    /// Checks `text`; `name` stands for the file in errors.
    pub fn parse(text: &str, name: &str) -> Result<Config, ConfigErrors> {
        let (config, mut book) = read::read(text);
        // Without syntax there are no values to compare.
        if book.faults.iter().all(|fault| !fault.path.is_empty()) {
            rules::check(&config, &mut book);
        }
        if book.faults.is_empty() {
            return Ok(config);
        }
        book.faults.sort_by_key(|fault| fault.span.start);
        Err(ConfigErrors::Faults {
            name: name.to_owned(),
            text: text.to_owned(),
            faults: book.faults,
        })
    }

    /// What changed from `old` to `new`, and when it takes effect.
    #[must_use]
    pub fn diff(old: &Config, new: &Config) -> Changes {
        let (old, new) = (old.all_entries(), new.all_entries());
        let mut changes = Changes::default();
        let mut note = |entry: &Entry, old: Option<&Entry>, new: Option<&Entry>| {
            let value = |entry: Option<&Entry>| entry.and_then(|entry| entry.value.clone());
            let change = Change {
                path: entry.path.clone(),
                key: entry.key,
                old: value(old),
                new: value(new),
            };
            // A table that came or went is more than its keys: only a start opens a port.
            let whole = old.is_none() || new.is_none();
            let is_listener = entry.key.path.starts_with("listener.");
            if change.old == change.new {
            } else if entry.key.reload == Reload::Live && !(whole && is_listener) {
                changes.live.push(change);
            } else {
                changes.restart.push(change);
            }
        };
        for was in &old {
            note(was, Some(was), new.iter().find(|is| is.path == was.path));
        }
        for is in new
            .iter()
            .filter(|is| !old.iter().any(|was| was.path == is.path))
        {
            note(is, None, Some(is));
        }
        changes
    }

    /// A file with only what differs from the defaults; it loads as the same configuration.
    #[must_use]
    pub fn to_changed_table(&self) -> String {
        self.table(false)
    }

    /// A file with every key that has a value, of listeners and certificates only what differs
    /// from the defaults; it loads as the same configuration.
    #[must_use]
    pub fn to_table(&self) -> String {
        self.table(true)
    }

    fn table(&self, with_defaults: bool) -> String {
        // Not every default of a listener means something on its protocol.
        let in_list = |entry: &Entry| entry.path.contains('[');
        let shows = |entry: &Entry| {
            let wanted = !entry.is_default || (with_defaults && !in_list(entry));
            entry.value.is_some() && wanted
        };
        let mut text = String::new();
        let mut open = String::new();
        for entry in self.all_entries() {
            let table = entry.path.strip_suffix(entry.key.name).unwrap_or("");
            let table = table.trim_end_matches('.');
            if table != open && (shows(&entry) || table.ends_with(']')) {
                let (name, list) = match table.rfind('[') {
                    Some(bracket) => (&table[..bracket], true),
                    None => (table, false),
                };
                let header = if list {
                    format!("[[{name}]]")
                } else {
                    format!("[{name}]")
                };
                let _ = writeln!(text, "\n{header}");
                table.clone_into(&mut open);
            }
            if let (Some(value), true) = (&entry.value, shows(&entry)) {
                let _ = writeln!(text, "{} = {value}", entry.key.name);
            }
        }
        text
    }

    /// What `key` means, its range and default, and its values here; `None` if there is none.
    #[must_use]
    pub fn explain(&self, key: &str) -> Option<String> {
        let bare: String = key
            .split('[')
            .map(|part| part.split_once(']').map_or(part, |(_, rest)| rest))
            .collect();
        let sections = Config::all_sections();
        let key = sections
            .iter()
            .flat_map(|section| section.keys)
            .find(|key| key.path == bare)?;
        let mut text = format!("{}\n", key.path);
        for line in key.doc {
            let _ = writeln!(text, " {line}");
        }
        for (name, fact) in facts(key) {
            let _ = writeln!(text, "  {name:<9} {fact}");
        }
        for entry in self.all_entries().iter().filter(|entry| entry.key == key) {
            let value = entry.value.as_deref().unwrap_or("absent");
            let how = if entry.is_default { " (default)" } else { "" };
            let _ = writeln!(text, "  now       {} = {value}{how}", entry.path);
        }
        Some(text)
    }

    /// The names of all keys, for completion and `config explain` without a key.
    #[must_use]
    pub fn all_sections() -> Vec<Section> {
        let mut sections = Vec::new();
        Config::sections(&mut sections);
        sections
    }

    /// A commented file with every key at its default.
    #[must_use]
    pub fn sample() -> String {
        let mut text = String::from(
            "# Palomar's configuration. Only hostname and domains must be set; every other key\n\
             # stands here with its default. `palomar check` tells what is wrong with it.\n",
        );
        for section in Config::all_sections() {
            let _ = writeln!(text);
            for line in section.doc.iter().filter(|_| !section.header.is_empty()) {
                let _ = writeln!(text, "#{line}");
            }
            if section.header.starts_with("[[") {
                let _ = writeln!(text, "# {}", section.header);
            } else if !section.header.is_empty() {
                let _ = writeln!(text, "{}", section.header);
            }
            for key in section.keys {
                let _ = writeln!(text);
                for line in key.doc {
                    let _ = writeln!(text, "#{line}");
                }
                let (mark, value) = match key.need {
                    Need::Required(value) if section.header.is_empty() => ("", value),
                    Need::Default(value) if !section.header.starts_with("[[") => ("#", value),
                    Need::Required(value) | Need::Default(value) => ("# ", value),
                    Need::Absent(then, example) => {
                        let _ = writeln!(text, "# Absent: {then}.");
                        ("# ", example)
                    }
                };
                let _ = writeln!(text, "{mark}{} = {}", key.name, literal(value));
            }
        }
        text
    }

    /// `docs/CONFIG.md`.
    #[must_use]
    pub fn reference() -> String {
        let mut text = String::from(
            "# Configuration\n\n\
             One TOML file, by default `/etc/palomar/palomar.toml`. Only `hostname` and `domains`\n\
             must be set. An unknown key, a value out of its range and a combination that is\n\
             unsafe or does nothing are errors: `palomar check` shows the line and the remedy.\n\
             *Live* keys change at SIGHUP, *restart* keys at the next start, *fixed* keys only\n\
             with a new data directory.\n\n\
             This page is generated from `src/config/keys.rs`; a test keeps it so.\n",
        );
        for section in Config::all_sections() {
            let title = match section.header {
                "" => "Top of the file",
                header => header,
            };
            let _ = writeln!(text, "\n## {title}\n");
            let about = section.doc.iter().map(|line| line.trim());
            let _ = writeln!(text, "{}", about.collect::<Vec<_>>().join("\n"));
            for key in section.keys {
                let _ = writeln!(text, "\n### `{}`\n", key.path);
                let doc = key.doc.iter().map(|line| line.trim());
                let _ = writeln!(text, "{}\n", doc.collect::<Vec<_>>().join("\n"));
                for (name, fact) in facts(key) {
                    let _ = writeln!(text, "- {name}: {fact}");
                }
            }
        }
        text
    }

    fn all_entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.entries("", &mut entries);
        entries
    }
}

fn facts(key: &Key) -> Vec<(&'static str, String)> {
    let mut facts = vec![("write", key.kind.to_owned())];
    if let Some((low, high)) = key.within {
        facts.push(("range", format!("{low} to {high}")));
    }
    facts.push(match key.need {
        Need::Required(example) => ("required", format!("for example {}", literal(example))),
        Need::Default(value) => ("default", literal(value)),
        Need::Absent(then, example) => (
            "absent",
            format!("{then}; for example {}", literal(example)),
        ),
    });
    let reload = match key.reload {
        Reload::Live => "live",
        Reload::Restart => "restart",
        Reload::Fixed => "fixed when the data directory is made",
    };
    facts.push(("changes", reload.to_owned()));
    facts.push(("since", key.since.to_owned()));
    facts
}
