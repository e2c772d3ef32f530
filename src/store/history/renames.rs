//! What folders were called: a value of the account for each RENAME, for as many days as removed
//! mail is kept. It names the folder that was renamed; those below it went along.

use crate::base::{AccountId, UnixMs};
use crate::store::Op;
use crate::store::bytes::{Malformed, Reader, Writer};
use crate::store::partition::Partition;

const NAMESPACE: &str = "renamed";
/// Renames that are remembered of an account, the newest.
const RENAMES_MAX: usize = 256;
const DAY_MS: i64 = 86_400_000;

struct Rename {
    at: UnixMs,
    from: String,
    to: String,
}

/// Newest first.
#[derive(Default)]
pub(super) struct Renames(Vec<Rename>);

impl Renames {
    pub fn load(partition: &Partition, account: AccountId) -> Renames {
        let state = partition.state.borrow();
        let values = state.accounts.get(&account).map(|a| &a.values);
        let values = values.into_iter().flatten();
        let mut all: Vec<Rename> = values
            .filter(|((namespace, _), _)| namespace == NAMESPACE)
            .filter_map(|((_, key), value)| decode(key, value).ok())
            .collect();
        all.sort_by_key(|rename| std::cmp::Reverse(rename.at));
        Renames(all)
    }

    /// What a folder that had this name at `until` was called before; with `at` the one name that
    /// it had then, where it was another.
    pub fn before(&self, name: &str, until: UnixMs, at: Option<UnixMs>) -> Vec<String> {
        let mut names = Vec::new();
        let mut name = name.to_owned();
        let within = |r: &&Rename| r.at <= until && at.is_none_or(|at| r.at > at);
        for rename in self.0.iter().filter(within) {
            if let Some(rest) = below(&name, &rename.to) {
                name = format!("{}{rest}", rename.from);
                names.push(name.clone());
            }
        }
        match at {
            Some(_) => names.pop().into_iter().collect(),
            None => names,
        }
    }
}

/// What follows `of` in the name of it, or of a folder below it.
pub(super) fn below<'n>(name: &'n str, of: &str) -> Option<&'n str> {
    let rest = name.strip_prefix(of)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// For the record of a rename: what notes it, and forgets those that are too old.
pub(in crate::store) fn note(
    partition: &Partition,
    account: AccountId,
    (from, to): (&str, &str),
    at: UnixMs,
    keep_days: u32,
) -> Vec<Op> {
    if keep_days == 0 {
        return Vec::new();
    }
    let known = Renames::load(partition, account).0;
    let set = |at: UnixMs, value: Option<Vec<u8>>| Op::ValueSet {
        account: Some(account),
        namespace: NAMESPACE.to_owned(),
        key: at.0.to_be_bytes().to_vec(),
        value,
    };
    let oldest =
        at.0.saturating_sub((i64::from(keep_days) + 1).saturating_mul(DAY_MS));
    let is_old = |(n, rename): &(usize, &Rename)| rename.at.0 < oldest || *n + 1 >= RENAMES_MAX;
    let old = known.iter().enumerate().filter(is_old);
    let mut ops: Vec<Op> = old.map(|(_, rename)| set(rename.at, None)).collect();
    // Two in a millisecond, or on a clock that went back, keep their order.
    let last = known.first().map_or(i64::MIN, |rename| rename.at.0);
    let at = UnixMs(at.0.max(last.saturating_add(1)));
    let mut w = Writer::default();
    w.str(from);
    w.str(to);
    ops.push(set(at, Some(w.out)));
    ops
}

fn decode(key: &[u8], value: &[u8]) -> Result<Rename, Malformed> {
    let at = i64::from_be_bytes(key.try_into().map_err(|_| Malformed)?);
    let mut r = Reader::new(value);
    Ok(Rename {
        at: UnixMs(at),
        from: r.str()?.to_owned(),
        to: r.str()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A was renamed to B at 10, B to C/D at 20, and A/x to E at 5.
    #[track_caller]
    fn check(name: &str, until: i64, at: Option<i64>, want: &[&str]) {
        let rename = |(at, from, to): (i64, &str, &str)| Rename {
            at: UnixMs(at),
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let all = [(20, "B", "C/D"), (10, "A", "B"), (5, "A/x", "E")];
        let renames = Renames(all.into_iter().map(rename).collect());
        let got = renames.before(name, UnixMs(until), at.map(UnixMs));
        assert_eq!(got, want, "{name} at {until}");
    }

    #[test]
    fn names_go_back_rename_by_rename() {
        check("C/D", 30, None, &["B", "A"]);
        check("C/D/y", 30, None, &["B/y", "A/y"]);
        check("C/D", 30, Some(15), &["B"]);
        check("C/D", 30, Some(9), &["A"]);
        check("C/D", 30, Some(20), &[]);
        // It was removed under this name.
        check("B/y", 15, None, &["A/y"]);
        check("E", 30, None, &["A/x"]);
        check("C/Dx", 30, None, &[]);
    }
}
