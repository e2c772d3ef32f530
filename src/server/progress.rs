//! How far the start is, on a terminal.

use std::io::IsTerminal;
use std::sync::Arc;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::store::{Progress, Stage};

/// A bar where a person looks, else lines in the log. It goes when the start is over.
pub fn of_start() -> Progress {
    if !std::io::stderr().is_terminal() {
        return Progress::default();
    }
    let bar = ProgressBar::no_length();
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {msg} {elapsed}");
    bar.set_style(style.expect("the template is sound"));
    Progress::shown_to(Arc::new(move |stage, done, all| {
        bar.set_length(all.max(1));
        bar.set_position(done);
        bar.set_message(match stage {
            Stage::Reading => format!("reading the journal, {}", HumanBytes(all)),
            Stage::Settling => format!("writing {all} messages to mailboxes"),
            Stage::Syncing => "waiting for the disk".to_owned(),
            Stage::Done => {
                bar.finish_and_clear();
                return;
            }
        });
    }))
}
