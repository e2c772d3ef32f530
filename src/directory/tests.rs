//! The room from outside: commands, resolution, log-in, the view. The store is left out: what a
//! plan changes is applied to a snapshot, as the store's hook would.

mod login;
mod plans;
mod resolution;
mod views;

use std::time::Duration;

use super::command::{Answer, Command, NewUser};
use super::error::DirectoryError;
use super::plan::{self, Hashes};
use super::snapshot::{Quotas, Site, Snapshot};
use crate::base::UnixMs;

/// A directory whose store is memory.
struct World {
    state: Snapshot,
    purged: Vec<u64>,
}

fn site() -> Site {
    Site {
        domains: vec!["Example.org".into(), "b.example".into()],
        postmaster: None,
        failure_delay: Duration::from_secs(2),
        partitions: 256,
        quotas: Quotas::default(),
    }
}

impl World {
    fn new() -> World {
        World::of(&site())
    }

    fn of(site: &Site) -> World {
        let mut state = Snapshot::new(site);
        for change in plan::first_start(&state, 0, UnixMs(1)) {
            assert_eq!(state.apply(&change), Ok(true));
        }
        World {
            state,
            purged: Vec::new(),
        }
    }

    fn try_run(&mut self, command: Command, hashes: Hashes) -> Result<Answer, DirectoryError> {
        let planned = plan::plan(&self.state, 0, UnixMs(2), &command, hashes, Vec::new())?;
        for change in planned.changes {
            assert_eq!(self.state.apply(&change), Ok(true));
        }
        self.purged
            .extend(planned.purge.map(|account| account.id.0));
        Ok(planned.answer)
    }

    #[track_caller]
    fn run(&mut self, command: Command) -> Answer {
        match self.try_run(command.clone(), vec![Ok("$hash".into())]) {
            Ok(answer) => answer,
            Err(error) => panic!("{command:?}: {error}"),
        }
    }

    #[track_caller]
    fn refuse(&mut self, command: Command) -> DirectoryError {
        let refused = self.try_run(command.clone(), vec![Ok("$hash".into())]);
        let error = refused.expect_err(&format!("{command:?}"));
        assert!(error.to_string().len() > 20, "a text with a remedy");
        error
    }

    #[track_caller]
    fn user(&mut self, address: &str) {
        self.run(Command::UserAdd(NewUser {
            address: address.into(),
            ..NewUser::default()
        }));
    }

    #[track_caller]
    fn alias(&mut self, from: &str, to: &[&str]) -> Answer {
        self.run(alias_add(from, to))
    }
}

fn alias_add(from: &str, to: &[&str]) -> Command {
    Command::AliasAdd {
        from: from.into(),
        to: to.iter().map(|to| (*to).to_owned()).collect(),
    }
}
