//! `palomar kick`: ends every session of a user. The user may log in again.

use clap::Args;

use super::error::{CliError, Unanswered};
use super::print::{counted, out};
use super::{Site, admin};
use crate::web::AdminRequest;

#[derive(Debug, Args)]
pub struct Kick {
    /// The address, or a bare name in the first domain
    user: String,
}

impl Kick {
    pub fn run(self, site: &Site) -> Result<(), CliError> {
        let config = site.config()?;
        let user = super::user::full_address(&config, &self.user);
        let value = admin::ask_running(&config, &AdminRequest::Kick { user: user.clone() })?;
        let kicked = value.get("kicked").and_then(serde_json::Value::as_u64);
        let kicked = kicked
            .ok_or_else(|| CliError::unanswered(config.admin_socket(), Unanswered::NotAnAnswer))?;
        out(&match kicked {
            0 => format!("{user} has no session; palomar who lists those that there are\n"),
            _ => format!(
                "ended {} of {user}; to keep the user out: palomar user disable {user}\n",
                counted(kicked, "session")
            ),
        })
    }
}
