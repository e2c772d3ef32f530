//! Several questions of one command: to the running server, each over the admin socket, or to a
//! thread that has the store of a stopped one open meanwhile.

use std::io;
use std::thread::{self, JoinHandle};

use serde_json::Value;
use serde_json::value::from_value;

use super::admin;
use super::error::{CliError, Unanswered};
use crate::config::Config;
use crate::directory::{Answer, Command};
use crate::server::{self, OfflineJob, ServerError};
use crate::web::AdminRequest;

pub struct Conversation {
    config: Config,
    offline: Option<Offline>,
}

struct Offline {
    jobs: flume::Sender<OfflineJob>,
    thread: JoinHandle<Result<(), ServerError>>,
}

impl Conversation {
    pub fn open(config: &Config) -> Result<Self, CliError> {
        let offline = match admin::is_running(config) {
            true => None,
            false => {
                let (jobs, work) = flume::bounded(1);
                let at = config.clone();
                let thread = thread::Builder::new()
                    .name("store".to_owned())
                    .spawn(move || server::offline_jobs(&at, work));
                let thread = thread.map_err(|error| CliError::File {
                    path: config.data_dir.clone(),
                    error,
                })?;
                Some(Offline { jobs, thread })
            }
        };
        Ok(Conversation {
            config: config.clone(),
            offline,
        })
    }

    /// With a thread of a test.
    #[cfg(test)]
    pub fn with(
        config: Config,
        jobs: flume::Sender<OfflineJob>,
        thread: JoinHandle<Result<(), ServerError>>,
    ) -> Self {
        let offline = Some(Offline { jobs, thread });
        Conversation { config, offline }
    }

    /// Where the store's thread takes its work; `None` where a server runs.
    pub fn jobs(&self) -> Option<&flume::Sender<OfflineJob>> {
        self.offline.as_ref().map(|offline| &offline.jobs)
    }

    pub fn ask(&self, request: AdminRequest) -> Result<Value, CliError> {
        let Some(jobs) = self.jobs() else {
            return admin::ask_running(&self.config, &request);
        };
        let (to, answer) = flume::bounded(1);
        // Where the thread has ended, closing says why.
        let sent = jobs.send(OfflineJob::Ask(request, to));
        sent.map_err(|_| self.silent())?;
        admin::value_of(answer.recv().map_err(|_| self.silent())?)
    }

    /// One command to the directory.
    pub fn directory(&self, command: Command) -> Result<Answer, CliError> {
        let value = self.ask(AdminRequest::Directory(command))?;
        from_value(value).map_err(|_| self.silent())
    }

    /// Ends it; a stopped server's store is closed.
    pub fn close(self) -> Result<(), CliError> {
        let Conversation { config, offline } = self;
        let Some(Offline { jobs, thread }) = offline else {
            return Ok(());
        };
        drop(jobs);
        match thread.join() {
            Ok(closed) => closed.map_err(|error| admin::offline_error(&config, error)),
            Err(_) => {
                let broken = io::Error::other("the store's thread broke off");
                let socket = config.admin_socket();
                Err(CliError::unanswered(socket, Unanswered::Broken(broken)))
            }
        }
    }

    /// Closes after `outcome`. What the store's thread failed with explains what it did not answer.
    pub fn conclude<T>(self, outcome: Result<T, CliError>) -> Result<T, CliError> {
        match (outcome, self.close()) {
            (Err(CliError::Unanswered { .. }) | Ok(_), Err(error)) => Err(error),
            (outcome, _) => outcome,
        }
    }

    fn silent(&self) -> CliError {
        CliError::unanswered(self.config.admin_socket(), Unanswered::NotAnAnswer)
    }
}
