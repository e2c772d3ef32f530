//! LIST and LSUB (RFC 9051 6.3.9, RFC 3501 6.3.9), with LIST-EXTENDED, LIST-STATUS, SPECIAL-USE.

use std::collections::BTreeMap;

use super::super::answer::Answer;
use super::super::serve::Known;
use super::Done;
use super::status::{freed, write_status};
use crate::base::MailboxId;
use crate::store::{Account, MailboxInfo, SpecialUse};
use crate::wire::imap::{
    Coding, List, ListReturn, ListSelection, MailboxArg, Wildcard, list_response,
};

const SEPARATOR: u8 = b'/';
/// Patterns of one LIST.
const PATTERNS_MAX: usize = 100;

/// A name in the hierarchy: a mailbox, a subscription without one, or only a level of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    mailbox: Option<MailboxId>,
    special_use: Option<SpecialUse>,
    subscribed: bool,
    /// Below it: mailboxes, subscribed names, names with a special use.
    children: bool,
    subscribed_below: bool,
    special_below: bool,
}

/// All names, INBOX and what is below it first.
#[derive(Debug, Default)]
struct Tree(BTreeMap<(bool, String), Node>);

impl Tree {
    fn of(account: &Account) -> Self {
        Self::new(account.mailboxes(), account.subscriptions())
    }

    fn new(mailboxes: Vec<MailboxInfo>, subscriptions: Vec<String>) -> Self {
        let mut tree = Tree::default();
        for info in mailboxes {
            tree.above(&info.name, |node| {
                node.children = true;
                node.special_below |= info.special_use.is_some();
            });
            let node = tree.node(&info.name);
            node.mailbox = Some(info.id);
            node.special_use = info.special_use;
        }
        for name in subscriptions {
            tree.above(&name, |node| node.subscribed_below = true);
            tree.node(&name).subscribed = true;
        }
        tree
    }

    fn node(&mut self, name: &str) -> &mut Node {
        let inbox = name == "INBOX" || name.starts_with("INBOX/");
        self.0.entry((!inbox, name.to_owned())).or_default()
    }

    fn above(&mut self, name: &str, mut each: impl FnMut(&mut Node)) {
        let cuts = name.bytes().enumerate().filter(|(_, b)| *b == SEPARATOR);
        for (cut, _) in cuts {
            if cut > 0 {
                each(self.node(&name[..cut]));
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|((_, name), node)| (name.as_str(), node))
    }
}

/// How a LIST shows what it selects.
#[derive(Clone, Copy, Debug)]
struct Show {
    selection: ListSelection,
    returns: ListReturn,
    /// Extended LIST or rev2: `\NonExistent` is known (RFC 5258 3).
    extended: bool,
}

impl Show {
    /// Whether the node itself is selected, and whether something below it is.
    fn selects(self, node: &Node) -> (bool, bool) {
        let ListSelection {
            subscribed,
            special_use,
            ..
        } = self.selection;
        let there = node.mailbox.is_some() || node.children;
        if !subscribed && !special_use {
            return (there, false);
        }
        let here = (!subscribed || node.subscribed) && (!special_use || node.special_use.is_some());
        let below = self.selection.recursive_match
            && (!subscribed || node.subscribed_below)
            && (!special_use || node.special_below);
        (here, below)
    }

    fn attributes(self, node: &Node) -> Vec<&'static str> {
        let mut attributes = Vec::with_capacity(4);
        if node.mailbox.is_none() {
            attributes.push(if self.extended {
                "\\NonExistent"
            } else {
                "\\Noselect"
            });
        }
        if node.subscribed && (self.selection.subscribed || self.returns.subscribed) {
            attributes.push("\\Subscribed");
        }
        attributes.push(if node.children {
            "\\HasChildren"
        } else {
            "\\HasNoChildren"
        });
        attributes.extend(node.special_use.map(SpecialUse::attribute));
        attributes
    }

    fn write(self, out: &mut Vec<u8>, name: &str, node: &Node, coding: Coding) -> bool {
        let (here, below) = self.selects(node);
        if !here && !below {
            return false;
        }
        list_response(
            out,
            "LIST",
            &self.attributes(node),
            Some(SEPARATOR),
            name,
            coding,
        );
        if below {
            // RFC 5258 4: which selection matched below.
            let which = match (self.selection.subscribed, self.selection.special_use) {
                (true, true) => " (\"CHILDINFO\" (\"SUBSCRIBED\" \"SPECIAL-USE\"))",
                (true, false) => " (\"CHILDINFO\" (\"SUBSCRIBED\"))",
                _ => " (\"CHILDINFO\" (\"SPECIAL-USE\"))",
            };
            out.extend_from_slice(which.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        true
    }
}

pub async fn list(known: &mut Known, list: &List<'_>) -> Done {
    let coding = known.coding();
    let reference = list.reference.pattern(coding)?.into_owned();
    let mut patterns = Vec::new();
    for pattern in list.patterns.iter() {
        let pattern = pattern.pattern(coding)?;
        if pattern.is_empty() && list.selection.is_none() {
            // RFC 9051 6.3.9: only the delimiter is asked for, and the root of the reference.
            let out = &mut known.client.out;
            list_response(out, "LIST", &["\\Noselect"], Some(SEPARATOR), "", coding);
            out.extend_from_slice(b"\r\n");
            return Ok(Answer::ok("LIST done"));
        }
        if patterns.len() >= PATTERNS_MAX {
            return Err(Answer::no("LIMIT", "too many patterns").into());
        }
        patterns.push(Wildcard::new(&format!("{reference}{pattern}"), SEPARATOR));
    }
    let show = Show {
        selection: list.selection.unwrap_or_default(),
        returns: list.returns,
        extended: list.selection.is_some() || known.enabled.imap4rev2,
    };
    let tree = Tree::of(&known.account);
    let enabled = known.enabled;
    for (name, node) in tree.iter() {
        if !patterns.iter_mut().any(|pattern| pattern.matches(name)) {
            continue;
        }
        let written = show.write(&mut known.client.out, name, node, coding);
        if written && let Some((items, id)) = list.returns.status.zip(node.mailbox)
            // Deleted this moment: then it has no STATUS (RFC 5819 2).
            && let Ok(status) = known.account.status(id)
            && let Ok(freed) = freed(known, &status, items).await
        {
            let out = &mut known.client.out;
            write_status(out, name, &status, freed, items, coding, enabled);
        }
        known.client.flush_batch().await?;
    }
    Ok(Answer::ok("LIST done"))
}

pub fn lsub(known: &mut Known, reference: &MailboxArg<'_>, pattern: &MailboxArg<'_>) -> Done {
    let coding = known.coding();
    let pattern = format!("{}{}", reference.pattern(coding)?, pattern.pattern(coding)?);
    write_lsub(
        &mut known.client.out,
        &Tree::of(&known.account),
        &pattern,
        coding,
    );
    Ok(Answer::ok("LSUB done"))
}

fn write_lsub(out: &mut Vec<u8>, tree: &Tree, pattern: &str, coding: Coding) {
    let mut wildcard = Wildcard::new(pattern, SEPARATOR);
    // RFC 3501 6.3.9: a level that is not subscribed stands for what is below it, where `%` does
    // not reach that.
    let levels = pattern.contains('%');
    for (name, node) in tree.iter() {
        let level = levels && node.subscribed_below;
        if !(node.subscribed || level) || !wildcard.matches(name) {
            continue;
        }
        let attributes: &[&str] = if node.subscribed {
            &[]
        } else {
            &["\\Noselect"]
        };
        list_response(out, "LSUB", attributes, Some(SEPARATOR), name, coding);
        out.extend_from_slice(b"\r\n");
    }
}

/// The LIST response that SELECT has in rev2 (RFC 9051 6.3.2).
pub fn write_selected(known: &mut Known, name: &str) {
    let coding = known.coding();
    let tree = Tree::of(&known.account);
    let show = Show {
        selection: ListSelection::default(),
        returns: ListReturn::default(),
        extended: true,
    };
    if let Some((name, node)) = tree.iter().find(|(known, _)| *known == name) {
        show.write(&mut known.client.out, name, node, coding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::imap::{Body, parse};

    fn tree() -> Tree {
        let mailbox = |(id, name, special_use): (u64, &str, Option<SpecialUse>)| MailboxInfo {
            id: MailboxId(id),
            name: name.to_owned(),
            special_use,
            subscribed: false,
        };
        let all = [
            (1, "INBOX", None),
            (2, "Sent", Some(SpecialUse::Sent)),
            (3, "a/b/c", None),
            (4, "a/x", None),
            (5, "M\u{fc}ll", None),
        ];
        let subscribed = ["INBOX", "a/b/c", "gone"].map(str::to_owned).to_vec();
        Tree::new(all.map(mailbox).to_vec(), subscribed)
    }

    #[track_caller]
    fn check(arguments: &str, extended: bool, want: &[&str]) {
        let text = format!("a LIST {arguments}\r\n");
        let Ok(Body::List(list)) = parse(text.as_bytes()).map(|c| c.body) else {
            panic!("{arguments}");
        };
        let coding = if extended {
            Coding::Utf8
        } else {
            Coding::Ascii
        };
        let show = Show {
            selection: list.selection.unwrap_or_default(),
            returns: list.returns,
            extended,
        };
        let mut out = Vec::new();
        for (name, node) in tree().iter() {
            let matches = |p: MailboxArg<'_>| {
                let pattern = p.pattern(coding).expect("a pattern");
                Wildcard::new(&pattern, SEPARATOR).matches(name)
            };
            if list.patterns.iter().any(matches) {
                show.write(&mut out, name, node, coding);
            }
        }
        let out = String::from_utf8(out).expect("UTF-8");
        let got: Vec<&str> = out.lines().map(|line| &line["* LIST ".len()..]).collect();
        assert_eq!(got, want, "{arguments}");
    }

    #[test]
    fn lists() {
        check(
            "\"\" *",
            false,
            &[
                "(\\HasNoChildren) \"/\" INBOX",
                "(\\HasNoChildren) \"/\" M&APw-ll",
                "(\\HasNoChildren \\Sent) \"/\" Sent",
                "(\\Noselect \\HasChildren) \"/\" a",
                "(\\Noselect \\HasChildren) \"/\" a/b",
                "(\\HasNoChildren) \"/\" a/b/c",
                "(\\HasNoChildren) \"/\" a/x",
            ],
        );
        check("\"\" inbox", false, &["(\\HasNoChildren) \"/\" INBOX"]);
        check(
            "\"\" a/%",
            true,
            &[
                "(\\NonExistent \\HasChildren) \"/\" a/b",
                "(\\HasNoChildren) \"/\" a/x",
            ],
        );
        check("\"\" M*", true, &["(\\HasNoChildren) \"/\" \"M\u{fc}ll\""]);
    }

    #[test]
    fn extended_lists() {
        check(
            "(SUBSCRIBED) \"\" *",
            true,
            &[
                "(\\Subscribed \\HasNoChildren) \"/\" INBOX",
                "(\\Subscribed \\HasNoChildren) \"/\" a/b/c",
                "(\\NonExistent \\Subscribed \\HasNoChildren) \"/\" gone",
            ],
        );
        check(
            "(SUBSCRIBED RECURSIVEMATCH) \"\" %",
            true,
            &[
                "(\\Subscribed \\HasNoChildren) \"/\" INBOX",
                "(\\NonExistent \\HasChildren) \"/\" a (\"CHILDINFO\" (\"SUBSCRIBED\"))",
                "(\\NonExistent \\Subscribed \\HasNoChildren) \"/\" gone",
            ],
        );
        check(
            "(SPECIAL-USE) \"\" *",
            true,
            &["(\\HasNoChildren \\Sent) \"/\" Sent"],
        );
        check(
            "\"\" (INBOX S*) RETURN (SUBSCRIBED)",
            true,
            &[
                "(\\Subscribed \\HasNoChildren) \"/\" INBOX",
                "(\\HasNoChildren \\Sent) \"/\" Sent",
            ],
        );
    }

    #[test]
    fn lsub_shows_levels_for_percent() {
        let lsub = |pattern: &str| {
            let mut out = Vec::new();
            write_lsub(&mut out, &tree(), pattern, Coding::Ascii);
            String::from_utf8(out).expect("ASCII")
        };
        let inbox = "* LSUB () \"/\" INBOX\r\n";
        let gone = "* LSUB () \"/\" gone\r\n";
        assert_eq!(lsub("*"), format!("{inbox}* LSUB () \"/\" a/b/c\r\n{gone}"));
        assert_eq!(
            lsub("%"),
            format!("{inbox}* LSUB (\\Noselect) \"/\" a\r\n{gone}")
        );
    }
}
