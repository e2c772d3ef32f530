//! What a declared key is, and the macro that makes a table of the file and its struct from one
//! declaration.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::read::Book;

/// One key as declared.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Full name: `limits.recipients_max`, `listener.address`.
    pub path: &'static str,
    /// Name within its table.
    pub name: &'static str,
    /// What to write, with its unit.
    pub kind: &'static str,
    pub need: Need,
    /// Smallest and largest value.
    pub within: Option<(&'static str, &'static str)>,
    pub reload: Reload,
    /// The version that first had the key.
    pub since: &'static str,
    /// Doc lines, each with its leading space.
    pub doc: &'static [&'static str],
}

/// What a file without the key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The key must stand there; the text is an example.
    Required(&'static str),
    /// No value: what happens then, and an example.
    Absent(&'static str, &'static str),
    /// This value.
    Default(&'static str),
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// At SIGHUP.
    Live,
    /// At the next start.
    Restart,
    /// Never: it is fixed when the data directory is made.
    Fixed,
}

/// One table of the file.
#[derive(Debug)]
pub struct Section {
    /// `[limits]`, `[[listener]]`, or nothing for the top of the file.
    pub header: &'static str,
    pub doc: &'static [&'static str],
    pub keys: &'static [Key],
}

/// A key with the value that one configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: &'static Key,
    /// `listener[1].address`.
    pub path: String,
    /// As TOML; `None` where absent.
    pub value: Option<String>,
    pub is_default: bool,
}

/// A struct that stands for a table, or a list of such.
pub(super) trait Table: Sized {
    fn sections(out: &mut Vec<Section>);
    fn read(spot: Option<&Spanned<DeValue<'_>>>, path: &str, book: &mut Book) -> Self;
    fn entries(&self, path: &str, out: &mut Vec<Entry>);
}

impl<T: Table> Table for Vec<T> {
    fn sections(out: &mut Vec<Section>) {
        T::sections(out);
    }

    fn read(spot: Option<&Spanned<DeValue<'_>>>, path: &str, book: &mut Book) -> Self {
        let Some(spot) = spot else {
            return Vec::new();
        };
        let Some(array) = spot.get_ref().as_array() else {
            let remedy = format!("write `[[{path}]]` with two brackets, once for each");
            book.fault(
                path,
                spot.span(),
                format!("`{path}` is a list of tables"),
                remedy,
            );
            return Vec::new();
        };
        let each = array.iter().enumerate();
        each.map(|(n, table)| T::read(Some(table), &format!("{path}[{n}]"), book))
            .collect()
    }

    fn entries(&self, path: &str, out: &mut Vec<Entry>) {
        for (n, table) in self.iter().enumerate() {
            table.entries(&format!("{path}[{n}]"), out);
        }
    }
}

/// `path.name`, without the dot at the top of the file.
pub(super) fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

/// Where a value stands, for faults found after reading.
pub(super) type Spot = Range<usize>;

macro_rules! need {
    (required $example:literal) => {
        $crate::config::Need::Required($example)
    };
    (absent $then:literal $example:literal) => {
        $crate::config::Need::Absent($then, $example)
    };
    ($default:literal) => {
        $crate::config::Need::Default($default)
    };
}

/// Declares one table of the file: its struct, its [`Key`]s, and how it is read and shown.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $table:ident $prefix:literal $header:literal since $since:literal {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $kind:ty = $($word:ident)? $($text:literal)+,
                $reload:ident $(, $low:literal to $high:literal)?;
            )*
        }
        $(tables {
            $($(#[doc = $inner_doc:literal])+ $inner:ident: $inner_kind:ty;)*
        })?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $table {
            $($(#[doc = $doc])+ pub $key: $kind,)*
            $($($(#[doc = $inner_doc])+ pub $inner: $inner_kind,)*)?
        }

        impl $table {
            const KEYS: &'static [$crate::config::Key] = &[$(
                $crate::config::Key {
                    path: concat!($prefix, stringify!($key)),
                    name: stringify!($key),
                    kind: <$kind as $crate::config::value::Value>::KIND,
                    need: $crate::config::declare::need!($($word)? $($text)+),
                    within: [$(($low, $high))?].as_slice().first().copied(),
                    reload: $crate::config::Reload::$reload,
                    since: $since,
                    doc: &[$($doc),+],
                },
            )*];
        }

        impl $crate::config::declare::Table for $table {
            fn sections(out: &mut Vec<$crate::config::Section>) {
                out.push($crate::config::Section {
                    header: $header,
                    doc: &[$($about),+],
                    keys: Self::KEYS,
                });
                $($(<$inner_kind>::sections(out);)*)?
            }

            fn read(
                spot: Option<&toml::Spanned<toml::de::DeValue<'_>>>,
                path: &str,
                book: &mut $crate::config::read::Book,
            ) -> Self {
                const TABLES: &[&str] = &[$($(stringify!($inner)),*)?];
                let table = book.open(spot, path, Self::KEYS, TABLES);
                let mut keys = Self::KEYS.iter();
                $(let $key = table.value(keys.next().expect("declared together"), book);)*
                $($(
                    let inner = $crate::config::declare::join(path, stringify!($inner));
                    let $inner = <$inner_kind>::read(table.get(stringify!($inner)), &inner, book);
                )*)?
                $table { $($key,)* $($($inner,)*)? }
            }

            fn entries(&self, path: &str, out: &mut Vec<$crate::config::declare::Entry>) {
                let mut keys = Self::KEYS.iter();
                $(out.push($crate::config::read::entry(
                    keys.next().expect("declared together"),
                    path,
                    &self.$key,
                ));)*
                $($(self.$inner.entries(
                    &$crate::config::declare::join(path, stringify!($inner)),
                    out,
                );)*)?
            }
        }
    };
}

pub(super) use {need, section};
