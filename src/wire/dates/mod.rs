//! Dates as mail writes them: RFC 5322 date-time, IMAP date-time and date.
//!
//! Calendar arithmetic is the proleptic Gregorian calendar, years 0 to 9999, without leap seconds.

mod calendar;
mod imap;
mod rfc5322;

#[cfg(test)]
mod tests;

pub use calendar::{DateTime, days_from_civil};
pub use imap::{format_imap_date_time, parse_imap_date, parse_imap_date_time};
pub use rfc5322::{format_date, parse_date};
