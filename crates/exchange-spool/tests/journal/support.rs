//! Batches that can be told apart, and what came out of a journal.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use exchange_core::event::{Ident, Quote, Trade};
use exchange_core::{Batch, Body, Decimal, Event, EventId, Instrument, Market, Time};
use exchange_spool::{Lost, Opened, Options, Read, Spool, Sync};

/// When the first batch's events arrived.
pub(crate) const START: i64 = 1_000_000;

/// Never syncs: these tests do not cut the power.
pub(crate) fn options() -> Options {
    Options { sync: Sync::Never, ..Options::default() }
}

pub(crate) fn open(directory: &Path) -> Opened {
    Spool::open(directory, options()).unwrap()
}

/// The `n`th batch: two trades and a quote of one of two venues, a second after the one before.
pub(crate) fn batch(n: u64) -> Batch {
    let venue = if n.is_multiple_of(2) { "binance" } else { "bybit" };
    let instrument = Arc::new(Instrument::named(&venue.into(), Market::Linear, "BTCUSDT", Some("BTC/USDT:USDT")));
    let at = |micros: i64| Time::from_micros(START + n.cast_signed() * 1_000_000 + micros);
    let trade =
        |record: u64| Trade { trade_id: Some(Ident::Number(n * 10 + record)), price: Decimal::from(7), size: Decimal::from(1), size_base: None, side: None };
    let quote = Quote { seq: Some(Ident::Number(n)), ..Quote::default() };
    let bodies = [(0, Body::Trade(trade(0))), (1, Body::Trade(trade(1))), (5, Body::Quote(quote))];
    let mut events: Vec<Event> = bodies.into_iter().map(|(micros, body)| Event::new(instrument.clone(), at(micros), None, body)).collect();
    for (record, event) in events.iter_mut().enumerate() {
        event.id = EventId((u128::from(n) * 10 + record as u128).to_be_bytes());
    }
    Batch::new(events)
}

pub(crate) fn append(spool: &Spool, numbers: Range<u64>) {
    for n in numbers {
        spool.append(batch(n)).unwrap();
    }
}

/// Which of the batches this is; it must be whole.
pub(crate) fn which(found: &Batch) -> u64 {
    let Some(Body::Quote(Quote { seq: Some(Ident::Number(n)), .. })) = found.events().last().map(|event| &event.body) else {
        panic!("no batch of these: {found:?}")
    };
    assert_eq!(String::from_utf8_lossy(found.lines()), String::from_utf8_lossy(batch(*n).lines()));
    assert_eq!(found.events(), batch(*n).events());
    *n
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) batches: Vec<u64>,
    pub(crate) lost: Vec<Lost>,
}

impl Found {
    pub(crate) fn lost_batches(&self) -> u64 {
        self.lost.iter().map(|lost| lost.batches).sum()
    }

    pub(crate) fn lost_events(&self) -> u64 {
        self.lost.iter().map(|lost| lost.events).sum()
    }

    /// Whether gaps cover all events of a batch.
    pub(crate) fn tells(&self, n: u64) -> bool {
        batch(n).events().iter().all(|event| self.lost.iter().flat_map(|lost| lost.batch.events()).any(|gap| covers(gap, event)))
    }
}

fn covers(gap: &Event, event: &Event) -> bool {
    let Body::Gap(body) = &gap.body else { panic!("{gap:?}") };
    assert_eq!((&*gap.instrument.venue_symbol, gap.instrument.market, body.reason.as_str()), ("*", Market::Linear, "overflow"));
    assert!(gap.verify(), "sealed");
    let number = |ident: &Option<Ident>| ident.as_ref().and_then(Ident::as_number).map(|number| Time::from_micros(number.cast_signed()));
    let (from, to) = (number(&body.from), number(&body.to).unwrap());
    assert!(from.is_none_or(|from| from <= to), "{body:?}");
    gap.instrument.venue == event.instrument.venue
        && Some(body.channel) == event.body.channel()
        && from.is_none_or(|from| from <= event.received)
        && event.received <= to
}

impl FromIterator<Read> for Found {
    fn from_iter<I: IntoIterator<Item = Read>>(reads: I) -> Self {
        let mut found = Self::default();
        let mut last = None;
        for read in reads {
            let position = read.clone().into_batch().position().unwrap();
            assert!(last < Some(position), "positions grow");
            last = Some(position);
            match read {
                Read::Batch(batch) => found.batches.push(which(&batch)),
                Read::Lost(told) => found.lost.push(told),
            }
        }
        found
    }
}

/// All that a reader has now.
pub(crate) fn drain(reader: &mut exchange_spool::Reader) -> Found {
    std::iter::from_fn(|| reader.next()).collect()
}

/// A copy of a journal's directory.
pub(crate) fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    std::fs::create_dir(to.path().join("cursors")).unwrap();
    for folder in ["", "cursors"] {
        for entry in std::fs::read_dir(from.join(folder)).unwrap().map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file()) {
            std::fs::copy(entry.path(), to.path().join(folder).join(entry.file_name())).unwrap();
        }
    }
    to
}

/// The segments of a journal, in order.
pub(crate) fn segments(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "journal"));
    paths.sort();
    paths
}
