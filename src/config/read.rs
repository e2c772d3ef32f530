//! From TOML with positions to declared values, collecting every fault on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::declare::{Entry, Key, Need, Spot, Table, join};
use super::error::Fault;
use super::keys::Config;
use super::value::{Value, Wrong};

/// What reading found: faults, and where each value that was written stands.
#[derive(Default)]
pub(super) struct Book {
    pub faults: Vec<Fault>,
    spots: BTreeMap<String, Spot>,
    faulty: BTreeSet<String>,
}

/// A table of the file, opened for reading its keys.
pub(super) struct Open<'t, 'i> {
    path: String,
    table: Option<&'t DeTable<'i>>,
    /// Where a missing key is reported.
    header: Spot,
}

impl Book {
    pub fn fault(&mut self, path: &str, span: Spot, what: String, remedy: impl Into<String>) {
        self.faulty.insert(path.to_owned());
        self.faults.push(Fault {
            path: path.to_owned(),
            span,
            what,
            remedy: remedy.into(),
        });
    }

    /// Reports what several good values do wrong together. Quiet where one of `involved` has a
    /// fault of its own: its value here is only a placeholder.
    pub fn clash(&mut self, path: &str, involved: &[&str], what: &str, remedy: impl Into<String>) {
        let faulty = |path: &&str| {
            let within = |fault: &String| {
                let rest = fault.strip_prefix(*path);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            self.faulty.iter().any(within)
        };
        if faulty(&path) || involved.iter().any(faulty) {
            return;
        }
        let span = self.spot(path);
        self.fault(path, span, what.to_owned(), remedy);
    }

    /// True if the file gives `path` a value.
    pub fn is_written(&self, path: &str) -> bool {
        self.spots.contains_key(path)
    }

    /// Where `path` stands, or the nearest table around it that does.
    fn spot(&self, path: &str) -> Spot {
        let mut path = path;
        loop {
            if let Some(spot) = self.spots.get(path) {
                return spot.clone();
            }
            match path.rfind('.') {
                Some(dot) => path = &path[..dot],
                None => return 0..0,
            }
        }
    }

    pub fn open<'t, 'i>(
        &mut self,
        spot: Option<&'t Spanned<DeValue<'i>>>,
        path: &str,
        keys: &[Key],
        tables: &[&str],
    ) -> Open<'t, 'i> {
        let table = spot.and_then(|spot| spot.get_ref().as_table());
        let header = spot.map_or(0..0, Spanned::span);
        if !path.is_empty() && spot.is_some() {
            self.spots.insert(path.to_owned(), header.clone());
        }
        if spot.is_some() && table.is_none() {
            let what = format!("`{path}` is a table, not a value");
            self.fault(
                path,
                header.clone(),
                what,
                format!("write its keys below `[{path}]`"),
            );
        }
        for (name, value) in table.into_iter().flatten() {
            let known =
                |name: &str| keys.iter().any(|key| key.name == name) || tables.contains(&name);
            let name_text = name.get_ref().as_ref();
            let full = join(path, name_text);
            if known(name_text) {
                if !value.get_ref().is_table() && !tables.contains(&name_text) {
                    self.spots.insert(full, value.span());
                }
                continue;
            }
            let what = format!("there is no key `{full}`");
            let names = keys
                .iter()
                .map(|key| key.name)
                .chain(tables.iter().copied());
            self.fault(&full, name.span(), what, unknown_remedy(name_text, names));
        }
        Open {
            path: path.to_owned(),
            table,
            header: if path.is_empty() { 0..0 } else { header },
        }
    }
}

impl<'t, 'i> Open<'t, 'i> {
    pub fn get(&self, name: &str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.table?.get(name)
    }

    /// The key's value, its default, or with a fault noted a placeholder.
    pub fn value<V: Value>(&self, key: &Key, book: &mut Book) -> V {
        let path = join(&self.path, key.name);
        let Some(spot) = self.get(key.name) else {
            return match key.need {
                Need::Default(text) => of_literal(text),
                Need::Absent(..) => V::placeholder(),
                // A missing table whose keys are required is no fault: the table is not.
                Need::Required(_) if self.table.is_none() => V::placeholder(),
                Need::Required(example) => {
                    let remedy = format!("add `{} = {}`", key.name, literal(example));
                    let what = format!("`{path}` is missing");
                    book.fault(&path, self.header.clone(), what, remedy);
                    V::placeholder()
                }
            };
        };
        let outside = |value: &V| -> Option<Wrong> {
            let (low, high) = key.within?;
            let (least, most) = (
                of_literal::<V>(low).measure(),
                of_literal::<V>(high).measure(),
            );
            let inside = value.measure() >= least && value.measure() <= most;
            (!inside).then(|| Wrong::new("is out of range", format!("write {low} to {high}")))
        };
        let read = V::read(spot.get_ref());
        match read.and_then(|value| outside(&value).map_or(Ok(value), Err)) {
            Ok(value) => value,
            Err(wrong) => {
                let span = wrong.at.unwrap_or_else(|| spot.span());
                let what = format!("`{path}` {}", wrong.what);
                book.fault(&path, span, what, wrong.remedy);
                V::placeholder()
            }
        }
    }
}

/// Reads a whole file. The value is meaningful only if the book has no faults.
pub(super) fn read(text: &str) -> (Config, Book) {
    let mut book = Book::default();
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let remedy = "see https://toml.io for how the file is written";
        book.fault("", span, error.message().replace('\n', ", "), remedy);
    }
    if !book.faults.is_empty() {
        return (defaults(), book);
    }
    let span: Range<usize> = root.span();
    let root = Spanned::new(span, DeValue::Table(root.into_inner()));
    let config = Config::read(Some(&root), "", &mut book);
    (config, book)
}

/// Every key at its default, required ones empty.
pub(super) fn defaults() -> Config {
    Config::read(None, "", &mut Book::default())
}

/// The key with the value it has in some configuration.
pub(super) fn entry<V: Value>(key: &'static Key, path: &str, value: &V) -> Entry {
    let is_default = match key.need {
        Need::Default(text) => *value == of_literal::<V>(text),
        Need::Absent(..) => *value == V::placeholder(),
        Need::Required(_) => false,
    };
    Entry {
        key,
        path: join(path, key.name),
        value: value.write(),
        is_default,
    }
}

/// A declared value as TOML: itself, or where that is no TOML value (`100MB`), a string.
pub(super) fn literal(text: &str) -> String {
    match DeValue::parse(text) {
        Ok(_) => text.to_owned(),
        Err(_) => toml::Value::String(text.to_owned()).to_string(),
    }
}

fn of_literal<V: Value>(text: &str) -> V {
    let text = literal(text);
    let value = DeValue::parse(&text).expect("a literal is TOML");
    match V::read(value.get_ref()) {
        Ok(value) => value,
        Err(wrong) => panic!("declared value {text} {}", wrong.what),
    }
}

/// "Did you mean": a name like it in this table, the same name in another one, or the list.
fn unknown_remedy<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    let near = names
        .iter()
        .map(|known| (distance(name, known), *known))
        .min();
    if let Some((edits, known)) = near
        && edits <= 1 + name.chars().count() / 4
    {
        return format!("did you mean `{known}`?");
    }
    let mut sections = Vec::new();
    Config::sections(&mut sections);
    let elsewhere = sections
        .iter()
        .find(|s| s.keys.iter().any(|key| key.name == name));
    match elsewhere {
        Some(section) if section.header.is_empty() => {
            format!("`{name}` belongs at the top of the file, above every [table]")
        }
        Some(section) => format!("`{name}` belongs below `{}`", section.header),
        None => format!("known here: {}", names.join(", ")),
    }
}

/// Levenshtein's edit distance, over at most 64 characters of either.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
