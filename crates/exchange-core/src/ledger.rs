//! What became of everything that arrived: counts by hour, instrument and type of event, and the sums that they must
//! give.
//!
//! Each number is counted where the thing happens: what arrived where it enters the [`crate::Pipeline`], its fate where
//! that is decided, what was written by the sink's own task. They are only compared afterwards, so that whatever gets
//! lost between two places shows as a difference. In each row, by [`Key`]:
//!
//! 1. `received` = `decoded` + `passed_over` + `undecodable`
//! 2. `decoded` + `made` = `not_asked` + `unchanged` + `duplicate` + `passed`
//! 3. for each sink: `passed` + `told` = `written` + `dropped`; for one behind a journal, `kept` + `dropped`
//!
//! `passed_over` are records that were the bytes of the last answer ([`crate::memo`]): nobody looked whose they are, so
//! they stand under the name `*` of their channel. `made` are events that no venue sent: a gap, a refill, and the
//! `decode_error` that tells of something `undecodable`. `told` are gaps that one sink alone is told, because it did not
//! keep up. What is `kept` lies in the journal, and is written by this run or a later one, which counts it as `resumed`
//! besides: `written` less `resumed` is never more than `kept`, and what is kept in all runs and written in none waits still
//! ([`waiting`](Share::waiting)), but for what the journal `lost` (of which channel that was is told by its gaps, of which
//! instrument is not known). An event belongs to the hour in which it arrived, whenever it was written. `gaps` and `refilled` are counts
//! besides: the gaps that name a channel, and the events that closed one.
//!
//! Rows are differences to the row before: they are added, in any order. What has arrived at no sink and was not given
//! up either is a difference in the third sum: it waits, or the process was killed with it.

mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::tally::EventCounts;
pub(crate) use self::tally::{Fate, Mark, Tallies};
use crate::event::{Body, CHANNELS, Channel};
use crate::instrument::{Instrument, Market};
use crate::time::Time;

const HOUR_MICROS: i64 = 3_600_000_000;

/// An hour (UTC), by its number since the Unix epoch. Written `2026-01-05T13`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hour(i64);

impl Hour {
    /// The hour of a time.
    pub fn of(time: Time) -> Self {
        Self(time.micros().div_euclid(HOUR_MICROS))
    }

    /// When it began.
    pub fn start(self) -> Time {
        Time::from_micros(self.0.saturating_mul(HOUR_MICROS))
    }

    /// So many hours later, or, below zero, earlier.
    #[must_use]
    pub fn plus(self, hours: i64) -> Self {
        Self(self.0.saturating_add(hours))
    }

    #[inline]
    fn contains(self, time: Time) -> bool {
        (0..HOUR_MICROS).contains(&time.micros().wrapping_sub(self.0.wrapping_mul(HOUR_MICROS)))
    }

    /// Reads `2026-01-05T13`.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, hour) = text.split_once('T')?;
        let hour: i64 = hour.parse().ok().filter(|hour| (0..24).contains(hour))?;
        Some(Self::of(date_of(date)?).plus(hour))
    }
}

/// Midnight of `2026-01-05`.
fn date_of(text: &str) -> Option<Time> {
    let mut parts = text.split('-');
    let date = Time::from_date(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)?;
    parts.next().is_none().then_some(date)
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.start().date();
        f.pad(&format!("{year:04}-{month:02}-{day:02}T{:02}", self.0.rem_euclid(24)))
    }
}

/// An event's type: a channel (candles of all intervals are one), or what the collector itself says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u8);

/// Room for the kinds of one instrument, in a table.
const ROOM: u32 = 16;
#[expect(clippy::cast_possible_truncation, reason = "a handful")]
const GAP: u8 = CHANNELS as u8;
const REFILL: u8 = GAP + 1;
const DECODE_ERROR: u8 = GAP + 2;
const KINDS: u8 = GAP + 3;
const _: () = assert!(KINDS as u32 <= ROOM);

impl Kind {
    /// The kind of a channel's events.
    #[inline]
    pub fn channel(channel: Channel) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "below CHANNELS")]
        Self(channel.index() as u8)
    }

    /// An event's kind.
    #[inline]
    pub fn of(body: &Body) -> Self {
        match body.channel() {
            Some(channel) => Self::channel(channel),
            None => Self(match body {
                Body::Refill(_) => REFILL,
                Body::DecodeError(_) => DECODE_ERROR,
                _ => GAP,
            }),
        }
    }

    /// The word for it: the channel's, `gap`, `refill` or `decode_error`.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            GAP => "gap",
            REFILL => "refill",
            DECODE_ERROR => "decode_error",
            index => {
                let channel = Channel::NAMES.into_iter().filter_map(Channel::parse).find(|channel| channel.index() == usize::from(index));
                channel.map_or("", Channel::as_str)
            }
        }
    }

    /// Reads that word.
    pub fn parse(text: &str) -> Option<Self> {
        (0..KINDS).map(Self).find(|kind| kind.as_str() == text)
    }
}

/// What a row is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The hour in which the events arrived.
    pub hour: Hour,
    /// The venue.
    pub venue: Arc<str>,
    /// The type of the events.
    pub kind: Kind,
    /// The instrument's market.
    pub market: Market,
    /// The unified symbol, or where that is not known the venue's; `*` where it is about no single instrument, `-`
    /// where the message did not say.
    pub name: Arc<str>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {} {}", self.hour, self.venue, self.market, self.kind.as_str(), self.name)
    }
}

/// What an instrument is called in the ledger.
fn name_of(instrument: &Instrument) -> &str {
    match instrument.symbol.as_deref().unwrap_or(&instrument.venue_symbol) {
        "" => "-",
        name => name,
    }
}

/// Counts that add up, and are written down where they are not zero.
macro_rules! counts {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$doc])* #[serde(skip_serializing_if = "is_zero")] pub $field: u64),+
        }

        impl std::ops::AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                // Saturating: a file may say what it likes.
                $(self.$field = self.$field.saturating_add(other.$field);)+
            }
        }
    };
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

counts! {
    /// The venue's side of a row: what arrived, and what became of it.
    Entry {
        /// Records that arrived.
        received,
        /// Records that became events.
        decoded,
        /// Records that were the bytes of the last answer.
        passed_over,
        /// Messages or records that could not be decoded.
        undecodable,
        /// Events that no venue sent.
        made,
        /// Of no instrument or channel that was asked for.
        not_asked,
        /// States that repeated the last known value.
        unchanged,
        /// Ids that had gone out before.
        duplicate,
        /// Handed on to every sink.
        passed,
        /// Gaps that name this channel.
        gaps,
        /// Of `passed`, those that closed a gap.
        refilled,
    }
}

counts! {
    /// A sink's side of a row.
    Share {
        /// Gaps that this sink alone is told.
        told,
        /// Accepted by the sink and confirmed: where another process can read it.
        written,
        /// Given up, because the sink did not keep up or failed.
        dropped,
        /// Gaps that name this channel and that this sink alone is told.
        gaps,
        /// Put into the journal for this sink.
        kept,
        /// Of `written`, what an earlier run had kept.
        resumed,
        /// Lost while it was kept, for want of room or by damage.
        lost,
    }
}

impl Share {
    /// What lies in the journal, if these are the sums of all runs.
    pub fn waiting(&self) -> u64 {
        self.kept.saturating_sub(sum([self.written, self.lost]))
    }
}

/// The sum of the rows of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// The venues' side.
    pub entries: BTreeMap<Key, Entry>,
    /// Each sink's side, by its name.
    pub sinks: BTreeMap<String, BTreeMap<Key, Share>>,
}

/// A sum that a row does not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The row.
    pub key: Key,
    /// Which sum.
    pub sum: Sum,
    /// What the left side is.
    pub left: u64,
    /// What the right side is.
    pub right: u64,
}

/// A sum of the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sum {
    /// `received` = `decoded` + `passed_over` + `undecodable`
    Received,
    /// `decoded` + `made` = `not_asked` + `unchanged` + `duplicate` + `passed`
    Decoded,
    /// `passed` + `told` = `written` (or `kept`) + `dropped` of this sink
    Sink(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, sum, left, right } = self;
        match sum {
            Sum::Received => write!(f, "{key}: {left} received, but {right} decoded, passed over or undecodable"),
            Sum::Decoded => write!(f, "{key}: {left} decoded or made, but {right} not asked for, unchanged, duplicate or passed on"),
            Sum::Sink(sink) => write!(f, "{key}: {left} passed on to `{sink}`, but {right} written, kept or dropped"),
        }
    }
}

impl Account {
    /// Adds to the venues' side.
    pub fn add_entries(&mut self, rows: impl IntoIterator<Item = (Key, Entry)>) {
        for (key, entry) in rows {
            *self.entries.entry(key).or_default() += entry;
        }
    }

    /// Adds to a sink's side. A sink without rows counts as well: everything that was passed on is missing from it.
    pub fn add_shares(&mut self, sink: &str, rows: impl IntoIterator<Item = (Key, Share)>) {
        if !self.sinks.contains_key(sink) {
            self.sinks.insert(sink.to_owned(), BTreeMap::new());
        }
        let Some(shares) = self.sinks.get_mut(sink) else { return };
        for (key, share) in rows {
            *shares.entry(key).or_default() += share;
        }
    }

    /// Adds another account.
    pub fn add(&mut self, other: Self) {
        self.add_entries(other.entries);
        for (sink, shares) in other.sinks {
            self.add_shares(&sink, shares);
        }
    }

    /// Moves the rows of hours before this one that balance `into` another account, there under the name `*` unless they
    /// are to be `seen` one by one: what is in order need not be kept by its names.
    pub fn settle(&mut self, before: Hour, into: &mut Self, seen: &dyn Fn(&Key) -> bool) {
        let due: Vec<Key> = self.keys().into_iter().take_while(|key| key.hour < before).cloned().collect();
        for key in due {
            if self.differences_of(&key, false).next().is_some() {
                continue;
            }
            let kept = if seen(&key) { key.clone() } else { Key { name: "*".into(), ..key.clone() } };
            into.add_entries(self.entries.remove(&key).map(|entry| (kept.clone(), entry)));
            for (sink, shares) in &mut self.sinks {
                into.add_shares(sink, shares.remove(&key).map(|share| (kept.clone(), share)));
            }
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.sinks.values().all(BTreeMap::is_empty)
    }

    /// Every key, in order.
    pub fn keys(&self) -> BTreeSet<&Key> {
        self.entries.keys().chain(self.sinks.values().flat_map(BTreeMap::keys)).collect()
    }

    /// The sums that do not balance. While the run goes on, what is on its way to a sink is none.
    pub fn differences(&self, running: bool) -> Vec<Difference> {
        self.keys().into_iter().flat_map(|key| self.differences_of(key, running)).collect()
    }

    fn differences_of<'a>(&'a self, key: &'a Key, running: bool) -> impl Iterator<Item = Difference> + 'a {
        let e = self.entries.get(key).copied().unwrap_or_default();
        let venue = [
            (Sum::Received, e.received, sum([e.decoded, e.passed_over, e.undecodable])),
            (Sum::Decoded, sum([e.decoded, e.made]), sum([e.not_asked, e.unchanged, e.duplicate, e.passed])),
        ];
        let sinks = self.sinks.iter().map(move |(name, shares)| {
            let share = shares.get(key).copied().unwrap_or_default();
            let out = share.kept.max(share.written.saturating_sub(share.resumed));
            (Sum::Sink(name.clone()), sum([e.passed, share.told]), sum([out, share.dropped]))
        });
        let waits = move |sum: &Sum, left: u64, right: u64| running && matches!(sum, Sum::Sink(_)) && left > right;
        let differs = venue.into_iter().chain(sinks).filter(move |(sum, left, right)| left != right && !waits(sum, *left, *right));
        differs.map(|(sum, left, right)| Difference { key: key.clone(), sum, left, right })
    }
}

fn sum<const N: usize>(counts: [u64; N]) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, kind: &str, hour: i64) -> Key {
        Key { hour: Hour(hour), venue: "x".into(), kind: Kind::parse(kind).unwrap(), market: Market::Linear, name: name.into() }
    }

    /// A run in which everything went as it should.
    fn balanced() -> Account {
        let mut account = Account::default();
        let entry = Entry { received: 10, decoded: 7, passed_over: 3, not_asked: 1, unchanged: 2, duplicate: 1, passed: 3, ..Entry::default() };
        account.add_entries([(key("A", "ticker", 1), entry)]);
        account.add_shares("file:a", [(key("A", "ticker", 1), Share { written: 2, dropped: 1, ..Share::default() })]);
        account.add_shares("file:a", [(key("A", "gap", 1), Share { told: 1, written: 1, ..Share::default() })]);
        account
    }

    #[test]
    fn a_run_in_order_balances() {
        assert_eq!(balanced().differences(false), []);
    }

    #[test]
    fn each_sum_tells_what_is_missing_from_it() {
        let check = |change: fn(&mut Account), text: &str| {
            let mut account = balanced();
            change(&mut account);
            let found: Vec<String> = account.differences(false).iter().map(ToString::to_string).collect();
            assert_eq!(found, [text]);
        };
        let at = "1970-01-01T01 x linear ticker A";
        check(|a| a.entries.values_mut().for_each(|entry| entry.passed_over -= 1), &format!("{at}: 10 received, but 9 decoded, passed over or undecodable"));
        check(
            |a| a.entries.values_mut().for_each(|entry| entry.duplicate += 1),
            &format!("{at}: 7 decoded or made, but 8 not asked for, unchanged, duplicate or passed on"),
        );
        check(
            |a| a.sinks.get_mut("file:a").unwrap().retain(|key, _| key.kind.as_str() == "gap"),
            &format!("{at}: 3 passed on to `file:a`, but 0 written, kept or dropped"),
        );
        check(|a| a.add_shares("null:", [(key("A", "gap", 1), Share::default())]), &format!("{at}: 3 passed on to `null:`, but 0 written, kept or dropped"));
        check(
            |a| a.add_shares("file:a", [(key("B", "ticker", 1), Share { written: 1, ..Share::default() })]),
            "1970-01-01T01 x linear ticker B: 0 passed on to `file:a`, but 1 written, kept or dropped",
        );
    }

    #[test]
    fn what_waits_is_no_difference_while_the_run_goes_on() {
        let mut account = balanced();
        account.add_entries([(key("A", "ticker", 1), Entry { received: 1, decoded: 1, passed: 1, ..Entry::default() })]);
        assert_eq!(account.differences(true), []);
        assert_eq!(account.differences(false).len(), 1);
        account.add_shares("file:a", [(key("A", "ticker", 1), Share { written: 2, ..Share::default() })]);
        assert_eq!(account.differences(true).len(), 1, "more than was passed on never waits");
    }

    #[test]
    fn what_is_kept_is_written_by_this_run_or_the_next() {
        let mut first = balanced();
        first.sinks.clear();
        let share = |kept, written, resumed| Share { written, kept, resumed, ..Share::default() };
        first.add_shares("pg:", [(key("A", "ticker", 1), share(3, 1, 0))]);
        assert_eq!(first.differences(false), []);
        let mut more = first.clone();
        more.add_shares("pg:", [(key("A", "ticker", 1), share(0, 3, 0))]);
        assert_eq!(more.differences(false).len(), 1, "more than was kept");
        let mut second = Account::default();
        second.add_shares("pg:", [(key("A", "ticker", 1), share(0, 2, 2))]);
        assert_eq!(second.differences(false), []);
        assert_eq!(first.sinks["pg:"][&key("A", "ticker", 1)].waiting(), 2);
        first.add(second);
        assert_eq!((first.differences(false), first.sinks["pg:"][&key("A", "ticker", 1)].waiting()), (Vec::new(), 0));
    }

    #[test]
    fn what_balances_is_settled_without_its_name() {
        let mut account = balanced();
        account.add_shares("file:a", [(key("B", "ticker", 1), Share { written: 1, ..Share::default() })]);
        account.add_shares("file:a", [(key("A", "ticker", 2), Share::default())]);
        let (mut settled, mut named) = (Account::default(), Account::default());
        account.clone().settle(Hour(2), &mut named, &|_| true);
        account.settle(Hour(2), &mut settled, &|_| false);
        assert_eq!(named, balanced());
        assert_eq!(settled.keys().into_iter().cloned().collect::<Vec<_>>(), [key("*", "ticker", 1), key("*", "gap", 1)]);
        assert_eq!(settled.entries[&key("*", "ticker", 1)], balanced().entries[&key("A", "ticker", 1)]);
        let left: Vec<Key> = account.keys().into_iter().cloned().collect();
        assert_eq!(left, [key("B", "ticker", 1), key("A", "ticker", 2)], "what differs, and what is not over");
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for kind in (0..KINDS).map(Kind) {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        for hour in [0, 1, 23, 24, 490_000] {
            assert_eq!(Hour::parse(&Hour(hour).to_string()), Some(Hour(hour)));
        }
        assert_eq!(Hour::of(Time::from_micros(1_767_621_600_000_000)).to_string(), "2026-01-05T14");
        for wrong in ["2026-01-05", "2026-01-05T24", "2026-13-05T00", "2026-01-05-1T00", "x"] {
            assert_eq!(Hour::parse(wrong), None, "{wrong}");
        }
    }
}
