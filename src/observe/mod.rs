//! Observe: what the server tells about itself. Log lines, counters, process facts.
//!
//! `tracing` is the way in for events; the layer here formats a line where the event happens and
//! hands it to one writer thread over a bounded channel, so that neither a full disk nor a slow one
//! ever stalls a shard: a line that does not fit is dropped and counted. Lines hold envelope data
//! only, never a Subject or a body, and no byte of them can forge another line.
//!
//! Counters are rows of relaxed atomics, one row a shard, so that shards do not share cache lines.
//! Every room declares its own in its `counters.rs` with [`metrics!`]; [`render`] shows all rooms'.
//!
//! [`reader`] finds lines again, for the command line. It blocks: never on a shard.

mod counters;
pub mod event;
mod layer;
mod line;
pub(crate) mod metric;
mod process;
pub mod reader;
mod registry;
mod rotate;
mod writer;

#[cfg(test)]
mod tests;

pub use counters::METRICS;
pub use layer::{LogError, LogLayer, set_level};
pub use metric::{
    Block, Cells, Counter, CounterBy, Desc, Gauge, GaugeBy, Histogram, HistogramBy, Label, Scale,
};
#[doc(hidden)]
pub use metric::{NoLabel, offset, stride, write_label};
pub(crate) use metric::{label, metrics};
pub use registry::{CONTENT_TYPE, enter_shard, register, render};
pub use writer::{Guard, LogFile, LogTarget};

/// Logs an event: `log_event!(INFO, event::LOGIN_SUCCEEDED, session = %id, user = name)`.
macro_rules! log_event {
    ($level:ident, $event:expr $(, $($fields:tt)*)?) => {
        tracing::event!(tracing::Level::$level, event = $event $(, $($fields)*)?)
    };
}
pub(crate) use log_event;

/// Makes the log of this process: every event from here on goes to `target`.
///
/// Keep the guard until the end and call [`Guard::finish`]: it writes what is under way.
pub fn init(target: LogTarget, level: tracing::Level) -> Result<Guard, LogError> {
    use tracing_subscriber::layer::SubscriberExt as _;
    let (layer, guard) = LogLayer::start(target)?;
    set_level(level);
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    Ok(guard)
}
