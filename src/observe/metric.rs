//! Metrics: counters, gauges and histograms as rows of relaxed atomics.
//!
//! A room's metrics form a [`Block`]: a row of cells for each shard, rows on cache lines of their
//! own. A metric is an offset into the row. Adding is one relaxed add on a line nobody else writes.
//! Row 0 is that of threads that are no shard; more shards than rows share rows, which is still
//! correct.

use std::fmt::Write as _;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::registry;

/// Rows of every block: one for other threads, then the shards'.
pub const ROWS: usize = 129;

/// Cells of a row end on a line of their own: two, as processors fetch lines in pairs.
const CELLS_ALIGN: usize = 16;

/// Upper bounds of a histogram: `unit << 0` to `unit << (BUCKETS - 1)`, then +Inf.
pub const BUCKETS: usize = 24;

/// A histogram's cells: its buckets, +Inf and the sum.
const HISTOGRAM_CELLS: usize = BUCKETS + 2;
pub(super) const SUM_CELL: usize = BUCKETS + 1;

/// The cells of a block, in zeroed memory that costs nothing until touched.
#[repr(align(128))]
pub struct Cells<const N: usize>([AtomicU64; N]);

impl<const N: usize> Cells<N> {
    /// All zero.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "const, for statics")]
    pub const fn new() -> Self {
        Cells([const { AtomicU64::new(0) }; N])
    }

    /// The cells without their number.
    #[must_use]
    pub const fn as_slice(&self) -> &[AtomicU64] {
        &self.0
    }
}

/// All metrics of a room.
pub struct Block {
    pub room: &'static str,
    pub descs: &'static [Desc],
    pub cells: &'static [AtomicU64],
    pub stride: usize,
    pub registered: AtomicBool,
}

/// One metric as declared.
pub struct Desc {
    pub name: &'static str,
    pub doc: &'static [&'static str],
    pub kind: Kind,
    /// Values of its label; 1 without.
    pub labels: usize,
    /// Writes `key="value"` of label value `n`; nothing without a label.
    pub label: fn(usize, &mut String),
}

/// What a metric measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    /// A gauge that is shown for each shard.
    ShardGauge,
    Histogram(Scale),
}

/// What a histogram's buckets count, and where the first ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 10 us, doubling, to 84 s.
    Seconds,
    /// From 1 KiB, doubling, to 8 GiB.
    Bytes,
    /// From 1, doubling, to 8 million.
    Count,
}

impl Scale {
    /// The first bound in the unit that is kept (nanoseconds, bytes, things).
    const fn unit(self) -> u64 {
        match self {
            Scale::Seconds => 10_000,
            Scale::Bytes => 1 << 10,
            Scale::Count => 1,
        }
    }

    /// The bucket that counts `value`; `BUCKETS` is +Inf.
    fn bucket(self, value: u64) -> usize {
        let units = value.div_ceil(self.unit());
        let doublings = units
            .checked_next_power_of_two()
            .map_or(64, u64::trailing_zeros);
        (doublings as usize).min(BUCKETS)
    }

    /// The upper bound of `bucket` as it is shown.
    pub(super) fn bound(self, bucket: usize) -> f64 {
        self.shown(self.unit() << bucket)
    }

    /// A kept value as it is shown.
    pub(super) fn shown(self, value: u64) -> f64 {
        match self {
            Scale::Seconds => value as f64 / 1e9,
            Scale::Bytes | Scale::Count => value as f64,
        }
    }
}

impl Desc {
    /// Cells of one label value.
    pub const fn cells(&self) -> usize {
        match self.kind {
            Kind::Histogram(_) => HISTOGRAM_CELLS,
            Kind::Counter | Kind::Gauge | Kind::ShardGauge => 1,
        }
    }
}

/// Where metric `index` of `descs` begins in the row.
#[must_use]
pub const fn offset(descs: &[Desc], index: usize) -> usize {
    let (mut at, mut n) = (0, 0);
    while n < index {
        at += descs[n].cells() * descs[n].labels;
        n += 1;
    }
    at
}

/// Cells from one row to the next.
#[must_use]
pub const fn stride(descs: &[Desc]) -> usize {
    offset(descs, descs.len()).next_multiple_of(CELLS_ALIGN)
}

impl Block {
    fn add(&'static self, at: usize, n: u64) {
        if !self.registered.load(Relaxed) {
            registry::register(self);
        }
        self.cells[registry::row() * self.stride + at].fetch_add(n, Relaxed);
    }

    /// Only for cells that nothing is added to.
    fn set(&'static self, at: usize, value: u64) {
        if !self.registered.load(Relaxed) {
            registry::register(self);
        }
        self.cells[registry::row() * self.stride + at].store(value, Relaxed);
    }

    pub(super) fn sum(&self, at: usize) -> u64 {
        let rows = (0..ROWS).map(|row| self.cells[row * self.stride + at].load(Relaxed));
        rows.fold(0, u64::wrapping_add)
    }

    pub(super) fn row(&self, row: usize, at: usize) -> u64 {
        self.cells[row * self.stride + at].load(Relaxed)
    }
}

/// A closed set of label values; `label!` makes one. Keep the product of a tuple small.
pub trait Label: Copy {
    /// How many values there are.
    const COUNT: usize;
    /// This value's number, below `COUNT`.
    fn index(self) -> usize;
    /// Writes `key="value"` of value number `index`.
    fn write(index: usize, out: &mut String);
}

/// No label.
#[derive(Clone, Copy, Debug)]
pub struct NoLabel;

impl Label for NoLabel {
    const COUNT: usize = 1;
    fn index(self) -> usize {
        0
    }
    fn write(_: usize, _: &mut String) {}
}

impl<A: Label, B: Label> Label for (A, B) {
    const COUNT: usize = A::COUNT * B::COUNT;
    fn index(self) -> usize {
        self.0.index() * B::COUNT + self.1.index()
    }
    fn write(index: usize, out: &mut String) {
        A::write(index / B::COUNT, out);
        out.push(',');
        B::write(index % B::COUNT, out);
    }
}

/// Writes `key="value"`. Values of a closed set need no escapes; a test looks at them.
pub fn write_label(key: &str, value: &str, out: &mut String) {
    let _ = write!(out, "{key}=\"{value}\"");
}

/// Something that only rises.
pub struct Counter(CounterBy<NoLabel>);

/// A counter for each value of a label.
pub struct CounterBy<L: Label> {
    block: &'static Block,
    at: usize,
    label: PhantomData<fn(L)>,
}

/// Something that rises and falls. What one shard adds another may subtract: shown is the sum.
pub struct Gauge(GaugeBy<NoLabel>);

/// A gauge for each value of a label.
pub struct GaugeBy<L: Label> {
    block: &'static Block,
    at: usize,
    label: PhantomData<fn(L)>,
}

/// How values are spread.
pub struct Histogram(HistogramBy<NoLabel>);

/// A histogram for each value of a label.
pub struct HistogramBy<L: Label> {
    block: &'static Block,
    at: usize,
    scale: Scale,
    label: PhantomData<fn(L)>,
}

impl<L: Label> CounterBy<L> {
    /// For `metrics!`.
    #[must_use]
    pub const fn new(block: &'static Block, at: usize) -> Self {
        CounterBy {
            block,
            at,
            label: PhantomData,
        }
    }

    /// Counts one.
    pub fn increment(&self, label: L) {
        self.add(label, 1);
    }

    /// Counts `n`.
    pub fn add(&self, label: L, n: u64) {
        self.block.add(self.at + label.index(), n);
    }

    /// The count over all shards.
    #[must_use]
    pub fn get(&self, label: L) -> u64 {
        self.block.sum(self.at + label.index())
    }
}

impl Counter {
    /// For `metrics!`.
    #[must_use]
    pub const fn new(block: &'static Block, at: usize) -> Self {
        Counter(CounterBy::new(block, at))
    }

    /// Counts one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.add(NoLabel, n);
    }

    /// The count over all shards.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get(NoLabel)
    }
}

impl<L: Label> GaugeBy<L> {
    /// For `metrics!`.
    #[must_use]
    pub const fn new(block: &'static Block, at: usize) -> Self {
        GaugeBy {
            block,
            at,
            label: PhantomData,
        }
    }

    /// Up by `n`.
    pub fn add(&self, label: L, n: u64) {
        self.block.add(self.at + label.index(), n);
    }

    /// Down by `n`.
    pub fn subtract(&self, label: L, n: u64) {
        self.add(label, n.wrapping_neg());
    }

    /// Sets this shard's part.
    pub fn set(&self, label: L, value: u64) {
        self.block.set(self.at + label.index(), value);
    }

    /// The sum over all shards.
    #[must_use]
    pub fn get(&self, label: L) -> i64 {
        self.block.sum(self.at + label.index()).cast_signed()
    }
}

impl Gauge {
    /// For `metrics!`.
    #[must_use]
    pub const fn new(block: &'static Block, at: usize) -> Self {
        Gauge(GaugeBy::new(block, at))
    }

    /// Up by `n`.
    pub fn add(&self, n: u64) {
        self.0.add(NoLabel, n);
    }

    /// Down by `n`.
    pub fn subtract(&self, n: u64) {
        self.0.subtract(NoLabel, n);
    }

    /// Sets this shard's part.
    pub fn set(&self, value: u64) {
        self.0.set(NoLabel, value);
    }

    /// The sum over all shards.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.get(NoLabel)
    }
}

impl<L: Label> HistogramBy<L> {
    /// For `metrics!`.
    #[must_use]
    pub const fn new(block: &'static Block, at: usize, scale: Scale) -> Self {
        HistogramBy {
            block,
            at,
            scale,
            label: PhantomData,
        }
    }

    /// Counts a time; for [`Scale::Seconds`].
    pub fn observe(&self, label: L, span: Duration) {
        self.record(label, u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts a number of bytes or things (or nanoseconds).
    pub fn record(&self, label: L, value: u64) {
        let at = self.at + label.index() * HISTOGRAM_CELLS;
        self.block.add(at + self.scale.bucket(value), 1);
        self.block.add(at + SUM_CELL, value);
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self, label: L) -> u64 {
        let at = self.at + label.index() * HISTOGRAM_CELLS;
        (0..=BUCKETS)
            .map(|bucket| self.block.sum(at + bucket))
            .sum()
    }
}

impl Histogram {
    /// For `metrics!`.
    #[must_use]
    pub const fn new(block: &'static Block, at: usize, scale: Scale) -> Self {
        Histogram(HistogramBy::new(block, at, scale))
    }

    /// Counts a time; for [`Scale::Seconds`].
    pub fn observe(&self, span: Duration) {
        self.0.observe(NoLabel, span);
    }

    /// Counts a number of bytes or things (or nanoseconds).
    pub fn record(&self, value: u64) {
        self.0.record(NoLabel, value);
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.count(NoLabel)
    }
}

/// Declares a room's metrics, and `METRICS`, its [`Block`]:
///
/// ```text
/// metrics! {
///     "session";
///     /// Sessions that were opened.
///     counter OPENED by Proto = "palomar_session_opened_total";
///     /// Sessions that are open.
///     gauge OPEN = "palomar_session_open";            // or: shard_gauge
///     /// From command to answer.
///     histogram COMMAND(Seconds) = "palomar_session_command_seconds";
/// }
/// ```
macro_rules! metrics {
    (
        $room:literal;
        $(
            $(#[doc = $doc:literal])+
            $kind:ident $name:ident $(($scale:ident))? $(by $label:ty)? = $text:literal;
        )+
    ) => {
        /// Every metric of this room.
        pub static METRICS: $crate::observe::Block = $crate::observe::Block {
            room: $room,
            descs: DESCS,
            cells: CELLS.as_slice(),
            stride: STRIDE,
            registered: std::sync::atomic::AtomicBool::new(false),
        };
        const DESCS: &[$crate::observe::Desc] = &[$($crate::observe::Desc {
            name: $text,
            doc: &[$($doc),+],
            kind: $crate::observe::metric::kind!($kind $(($scale))?),
            labels: <$crate::observe::metric::label_of!($($label)?)
                as $crate::observe::Label>::COUNT,
            label: <$crate::observe::metric::label_of!($($label)?)
                as $crate::observe::Label>::write,
        }),+];
        const STRIDE: usize = $crate::observe::stride(DESCS);
        static CELLS: $crate::observe::Cells<{ STRIDE * $crate::observe::metric::ROWS }> =
            $crate::observe::Cells::new();

        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "named as statics")]
        enum Index { $($name),+ }

        $(
            $(#[doc = $doc])+
            pub static $name: $crate::observe::metric::type_of!($kind $($label)?) =
                <$crate::observe::metric::type_of!($kind $($label)?)>::new(
                    &METRICS,
                    $crate::observe::offset(DESCS, Index::$name as usize),
                    $($crate::observe::Scale::$scale,)?
                );
        )+
    };
}

macro_rules! kind {
    (counter) => {
        $crate::observe::metric::Kind::Counter
    };
    (gauge) => {
        $crate::observe::metric::Kind::Gauge
    };
    (shard_gauge) => {
        $crate::observe::metric::Kind::ShardGauge
    };
    (histogram($scale:ident)) => {
        $crate::observe::metric::Kind::Histogram($crate::observe::Scale::$scale)
    };
}

macro_rules! label_of {
    () => {
        $crate::observe::NoLabel
    };
    ($label:ty) => {
        $label
    };
}

macro_rules! type_of {
    (counter) => { $crate::observe::Counter };
    (counter $label:ty) => { $crate::observe::CounterBy<$label> };
    (gauge) => { $crate::observe::Gauge };
    (gauge $label:ty) => { $crate::observe::GaugeBy<$label> };
    (shard_gauge) => { $crate::observe::Gauge };
    (histogram) => { $crate::observe::Histogram };
    (histogram $label:ty) => { $crate::observe::HistogramBy<$label> };
}

/// Declares a label: `label! { /// Doc. pub enum Outcome: "outcome" { Good = "good" } }`.
macro_rules! label {
    (
        $(#[$about:meta])*
        $vis:vis enum $name:ident: $key:literal {
            $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name { $($(#[$doc])* $variant),+ }

        impl $crate::observe::Label for $name {
            const COUNT: usize = [$($text),+].len();
            fn index(self) -> usize {
                self as usize
            }
            fn write(index: usize, out: &mut String) {
                $crate::observe::write_label($key, [$($text),+][index], out);
            }
        }
    };
}

pub(crate) use {kind, label, label_of, metrics, type_of};
