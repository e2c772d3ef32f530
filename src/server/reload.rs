//! SIGHUP: certificates and the keys that can be reloaded are read again. Live connections and
//! what needs a restart stay as they are; errors leave everything as it was.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{build, counters};
use crate::config::Config;
use crate::directory::Directory;
use crate::net::Tls;
use crate::observe::{self, event, log_event};
use crate::runtime;

pub fn reload(path: Option<&Path>, config: &ArcSwap<Config>, tls: &Tls, directory: &Directory) {
    let old = config.load_full();
    let new = match path.map(Config::load) {
        None => Config::clone(&old),
        Some(Ok(new)) => new,
        Some(Err(errors)) => {
            if errors.lines().next().is_none() {
                log_event!(
                    ERROR,
                    event::CONFIG_REFUSED,
                    why = errors.render(false).trim()
                );
            }
            for (line, fault) in errors.lines() {
                let (why, remedy) = (fault.what.as_str(), fault.remedy.as_str());
                log_event!(ERROR, event::CONFIG_REFUSED, line, why, remedy);
            }
            return;
        }
    };
    let certificates = match build::certificates(&new, runtime::unix_now()) {
        Ok(certificates) => certificates,
        Err(error) => {
            log_event!(ERROR, event::CONFIG_REFUSED, why = %error);
            return;
        }
    };
    let changes = Config::diff(&old, &new);
    for change in &changes.restart {
        let key = change.path.as_str();
        log_event!(
            WARN,
            event::CONFIG_RELOADED,
            key,
            takes_effect = "at the next start"
        );
    }
    for change in &changes.live {
        let key = change.path.as_str();
        log_event!(INFO, event::CONFIG_RELOADED, key, takes_effect = "now");
    }
    tls.reload(certificates);
    if let Ok(level) = new.log.level.name().parse() {
        observe::set_level(level);
    }
    if !directory.reconfigure(&build::site(&new)) {
        log_event!(
            ERROR,
            event::CONFIG_REFUSED,
            why = "the directory is busy; send SIGHUP again"
        );
        return;
    }
    config.store(Arc::new(new));
    counters::RELOADS.increment();
    log_event!(INFO, event::CONFIG_RELOADED, changed = changes.live.len());
}
