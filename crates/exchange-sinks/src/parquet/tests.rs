//! What was written is what is read: by the source, as the lines of JSON that the events have, and by DuckDB.

mod crash;
mod decimals;
mod duckdb;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use exchange_core::event::{
    Book, BookKind, Candle, DecodeFailure, Funding, FundingSettled, Gap, GapReason, Level, Liquidation, Mark, OpenInterest, Origin, Quote, Refill, Side,
    Ticker, Trade,
};
use exchange_core::instrument::{Details, Kind, Status};
use exchange_core::{Batch, Body, Channel, Decimal, Event, EventId, Instrument, Interval, Market, Position, Time};

use super::*;
use crate::SinkErrorKind;
use crate::contract::{self, batch, block_on};
use crate::source::{Reading, Since, SourceUri};

/// The paths of all files that a reader would find, in the order of their names.
pub(super) fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && !name.starts_with('.') {
            found.extend(files(&path));
        } else if name.ends_with(".parquet") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// All rows of a dataset as event lines.
pub(super) fn lines(root: &Path) -> String {
    if files(root).is_empty() { String::new() } else { all_lines(&format!("parquet:{}", root.display())) }
}

/// The same, by its address. (May be called by a task.)
pub(super) fn all_lines(address: &str) -> String {
    let source = SourceUri::parse(address).unwrap().open(Reading { from: Since::Start, follow: false }).unwrap();
    let (lines, errors) = std::thread::spawn(|| contract::read(source)).join().unwrap();
    assert_eq!(errors, [""; 0]);
    lines
}

/// A time within a day of the tests' year.
pub(super) fn noon(day: u32) -> Time {
    Time::from_date(2026, 3, day).unwrap() + Duration::from_hours(12)
}

/// Options that make for many files and row groups.
fn small() -> ParquetOptions {
    ParquetOptions { every: Duration::from_millis(100), file_bytes: 20_000, ..ParquetOptions::default() }
}

pub(super) fn number(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// One event of each type, with everything that it can have.
fn one_of_each() -> Vec<Event> {
    let d = number;
    let o = |text: &str| Some(number(text));
    let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "BTCUSDT", Some("BTC/USDT:USDT")));
    let level = |price: &str, size: &str| Level { price: d(price), size: d(size) };
    let mut details = Details::new(Kind::Future, "BTC", "USDT", Status::PreLaunch);
    details.settle = Some("USDT".into());
    details.contract_size = o("0.001");
    details.tick_size = o("0.1");
    details.lot_size = o("0.01");
    details.min_size = o("5");
    details.expiry = Some(Time::from_micros(5));
    details.funding_interval_hours = Some(8);
    let bodies = vec![
        Body::Ticker(Ticker {
            last: o("67000.5"),
            last_size: o("0.001"),
            bid: o("67000"),
            bid_size: o("1"),
            ask: o("67001"),
            ask_size: o("2"),
            open_24h: o("66000"),
            high_24h: o("68000"),
            low_24h: o("65000.00000001"),
            volume_24h: o("123456.789"),
            turnover_24h: o("99999999999999999999"),
            change_24h: o("-0.0151"),
        }),
        Body::Ticker(Ticker { last: o("1"), ..Ticker::default() }),
        Body::Quote(Quote { bid: o("1"), bid_size: o("2"), ask: None, ask_size: None, seq: Some("18446744073709551616".into()) }),
        Body::Mark(Mark { mark: o("1"), index: o("0.000000000000000001"), basis: o("-3") }),
        Body::Funding(Funding {
            rate: o("-0.0000000000000000000000000001"),
            next_time: Some(Time::from_micros(9)),
            interval_hours: Some(8),
            predicted_rate: o("0.0001"),
            cap: o("0.003"),
            floor: o("-0.003"),
        }),
        Body::FundingSettled(FundingSettled { rate: d("0.0001"), time: Time::from_micros(-1), mark: o("67000") }),
        Body::OpenInterest(OpenInterest { value: o("1"), value_base: o("2"), value_quote: o("3") }),
        Body::Trade(Trade {
            trade_id: Some("20f43950-d8dd-5b31-9112-a178eb6023af".into()),
            price: d("1"),
            size: d("2"),
            size_base: o("2"),
            side: Some(Side::Buy),
        }),
        Body::Liquidation(Liquidation { price: d("1"), size: d("2"), size_base: None, side: Some(Side::Sell), trade_id: Some("a\"b".into()) }),
        Body::Book(Book {
            kind: BookKind::Snapshot,
            bids: vec![level("2", "0"), level("1.5", "10")],
            asks: vec![],
            seq: Some(7.into()),
            prev_seq: Some(6.into()),
            checksum: Some("-5".into()),
        }),
        Body::Book(Book { kind: BookKind::Delta, bids: vec![], asks: vec![level("3", "1")], seq: None, prev_seq: None, checksum: None }),
        Body::Candle(Candle {
            interval: Interval::parse("1m").unwrap(),
            open_time: Time::from_micros(60_000_000),
            open: d("1"),
            high: d("2"),
            low: d("0.5"),
            close: d("1.5"),
            volume: d("100"),
            turnover: o("150"),
            trades: Some(12),
            closed: true,
        }),
        Body::Instrument(Box::new(details)),
        Body::Gap(Box::new(Gap {
            channel: Channel::Candle(Interval::parse("1h").unwrap()),
            reason: GapReason::Sequence,
            from: Some(1.into()),
            to: Some(5.into()),
        })),
        Body::Refill(Box::new(Refill { gap: EventId([0xcd; 16]), channel: Channel::Trade, from: None, to: Some(2.into()), count: 3, complete: false })),
        Body::DecodeError(Box::new(DecodeFailure { reason: "malformed: ß".into(), excerpt: "{\"a\":\n".into() })),
    ];
    let event = |(at, body): (usize, Body)| {
        let mut event = Event::new(instrument.clone(), noon(1) + Duration::from_micros(at as u64), Some(noon(1)), body);
        event.origin = [None, Some(Origin::Refill), Some(Origin::Backfill)][at % 3];
        event.id = EventId([u8::try_from(at).unwrap(); 16]);
        event
    };
    bodies.into_iter().enumerate().map(event).collect()
}

/// Writes batches, one after the other, with a flush behind each, and ends without a word.
fn write(root: &Path, options: ParquetOptions, batches: &[Arc<Batch>]) {
    block_on(async {
        let mut sink = ParquetSink::open(root, options).unwrap();
        for batch in batches {
            sink.write(batch).await.unwrap();
            sink.flush().await.unwrap();
        }
        sink.close().await.unwrap();
    });
}

/// A pass over a dataset that somebody writes to.
pub(super) fn merged_while_written(root: &Path, options: MergeOptions) -> Result<Merged, SinkError> {
    let now = SystemTime::now();
    Merger { root, options, now, today: compact::today(now), since: None, grace: Duration::ZERO, is_open: &|_| true, goes_on: &|| true }.run()
}

fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines
}

fn at(events: Vec<Event>, journal: u64, number: u64) -> Arc<Batch> {
    Arc::new(Batch::new(events).at(Position { journal, number }))
}

/// Trades of a day.
pub(super) fn trades(ids: std::ops::Range<u64>, day: u32) -> Vec<Event> {
    let mut events = batch(ids.clone()).events().to_vec();
    for (event, id) in events.iter_mut().zip(ids) {
        event.received = noon(day);
        event.id = EventId(u128::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834).to_be_bytes());
    }
    events
}

fn text(events: Vec<Event>) -> String {
    String::from_utf8(Batch::new(events).lines().to_vec()).unwrap()
}

#[test]
fn every_type_is_read_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let events = one_of_each();
    write(directory.path(), ParquetOptions::default(), &[Arc::new(Batch::new(events.clone()))]);
    assert_eq!(sorted(&lines(directory.path())), sorted(&text(events.clone())));
    let kinds: std::collections::BTreeSet<&str> = events.iter().map(|event| event.body.kind()).collect();
    assert_eq!(kinds.len(), table::TABLES.len(), "every table was written");
    assert!(directory.path().join("type=trade/venue=bybit/date=2026-03-01").is_dir());
}

#[test]
fn a_value_that_does_not_fit_is_null_and_exact_in_the_text_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut events = one_of_each();
    let long = "123456789012345678901234567890.123456789012345";
    for event in &mut events {
        match &mut event.body {
            Body::Trade(trade) => trade.size = number(long),
            Body::Funding(funding) => funding.rate = Some(number("0.00000000000000000000000000001")),
            Body::Book(book) => book.bids.push(Level { price: number("1"), size: number("0.0000000000000000001") }),
            _ => {}
        }
    }
    let fits = trades(0..1, 1);
    write(directory.path(), ParquetOptions::default(), &[Arc::new(Batch::new(events.clone())), Arc::new(Batch::new(fits.clone()))]);
    let found = lines(directory.path());
    assert!(found.contains(long));
    assert_eq!(sorted(&found), sorted(&(text(events) + &text(fits))));
}

#[test]
fn a_batch_that_comes_again_gives_no_row_twice() {
    let directory = tempfile::tempdir().unwrap();
    // Two partitions; of the second batch only one of them was written before the end.
    let first = at([trades(0..3, 1), trades(3..5, 2)].concat(), 7, 1);
    let second = at([trades(5..6, 1), trades(6..9, 2)].concat(), 7, 2);
    write(directory.path(), small(), &[first.clone(), second.clone()]);
    let ahead = directory.path().join("type=trade/venue=bybit/date=2026-03-02");
    let kept = tempfile::tempdir().unwrap();
    let before = files(&ahead).remove(0);
    fs::copy(&before, kept.path().join("file")).unwrap();
    fs::remove_dir_all(directory.path()).unwrap();
    write(directory.path(), small(), std::slice::from_ref(&first));
    fs::copy(kept.path().join("file"), &before).unwrap();
    let third = at(trades(9..10, 2), 7, 3);
    write(directory.path(), small(), &[first.clone(), second.clone(), third.clone()]);
    write(directory.path(), small(), &[second.clone(), third.clone()]);
    let all: String = [first, second, third].iter().map(|batch| String::from_utf8(batch.lines().to_vec()).unwrap()).collect();
    assert_eq!(sorted(&lines(directory.path())), sorted(&all));
    // The batches of another journal are others, though their numbers are the same.
    write(directory.path(), small(), &[at(trades(10..11, 1), 8, 1)]);
    assert_eq!(lines(directory.path()).lines().count(), 11);
}

#[test]
fn the_position_is_that_of_the_last_batch_that_is_safe() {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let mut sink = ParquetSink::open(directory.path(), small()).unwrap();
        assert_eq!(sink.position(7).await.unwrap(), None, "each partition's files know it for themselves");
        for number in 1..4 {
            sink.write(&at(trades(number..number + 1, 1), 7, number)).await.unwrap();
        }
        sink.flush().await.unwrap();
        assert_eq!(sink.position(7).await.unwrap(), Some(Position { journal: 7, number: 3 }));
        assert_eq!(sink.position(8).await.unwrap(), None, "another journal's");
        sink.close().await.unwrap();
    });
}

/// It came so soon after what it is about that nobody had looked what is due.
#[test]
fn a_flush_that_waits_for_nothing_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let batch = at(trades(0..10, 1), 7, 1);
    write(directory.path(), small(), std::slice::from_ref(&batch));
    block_on(async {
        let mut sink = ParquetSink::open(directory.path(), small()).unwrap();
        for _ in 0..10 {
            sink.write(&batch).await.unwrap();
            tokio::time::timeout(Duration::from_secs(20), sink.flush()).await.expect("it waits for the next sweep").unwrap();
        }
        sink.close().await.unwrap();
    });
    assert_eq!(lines(directory.path()).lines().count(), 10);
}

#[test]
fn files_grow_under_their_names_up_to_their_size() {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let mut sink = ParquetSink::open(directory.path(), small()).unwrap();
        for number in 1..40 {
            sink.write(&at(trades(number * 100..(number + 1) * 100, 1), 7, number)).await.unwrap();
            sink.flush().await.unwrap();
            assert_eq!(lines(directory.path()).lines().count() as u64, number * 100, "what was flushed can be read, and nothing twice");
        }
        sink.close().await.unwrap();
    });
    assert_eq!(lines(directory.path()), text(trades(100..4000, 1)), "in order");
    let count = files(directory.path()).len();
    assert!((2..20).contains(&count), "{count} files");
}

/// Readers such as DuckDB open a file by its name more than once, and may meet the next one the second time.
#[test]
fn what_a_file_holds_stays_in_its_places() {
    let directory = tempfile::tempdir().unwrap();
    let mut before: Vec<u8> = Vec::new();
    for number in 1..6 {
        // Each time by another process, or by the same.
        let batches: Vec<_> = (0..2).map(|more| at(trades(number * 20 + more * 10..number * 20 + more * 10 + 10, 1), 7, number * 2 + more)).collect();
        block_on(async {
            let mut sink = ParquetSink::open(directory.path(), ParquetOptions { every: Duration::from_millis(1), ..ParquetOptions::default() }).unwrap();
            for batch in &batches {
                sink.write(batch).await.unwrap();
                sink.flush().await.unwrap();
                let file = fs::read(&files(directory.path())[0]).unwrap();
                let footer = u32::from_le_bytes(file[file.len() - 8..file.len() - 4].try_into().unwrap()) as usize;
                let data = &file[..file.len() - 8 - footer];
                assert!(data.len() > before.len() && data.starts_with(&before));
                before = data.to_vec();
            }
            sink.close().await.unwrap();
        });
    }
    assert_eq!(files(directory.path()).len(), 1);
    assert_eq!(lines(directory.path()), text(trades(20..120, 1)));
}

#[test]
fn what_is_written_can_be_read_without_a_flush() {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let mut sink = ParquetSink::open(directory.path(), small()).unwrap();
        sink.write(&Arc::new(Batch::new(trades(0..5, 1)))).await.unwrap();
        while lines(directory.path()) != text(trades(0..5, 1)) {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_file_that_was_taken_away_is_not_missed() {
    let directory = tempfile::tempdir().unwrap();
    let options = ParquetOptions::default();
    write(directory.path(), options, &[at(trades(0..2, 1), 7, 1)]);
    block_on(async {
        let mut sink = ParquetSink::open(directory.path(), options).unwrap();
        sink.write(&at(trades(2..3, 1), 7, 2)).await.unwrap();
        sink.flush().await.unwrap();
        assert_eq!(lines(directory.path()), text(trades(0..3, 1)), "a file is continued after a restart");
        assert_eq!(files(directory.path()).len(), 1);
        fs::remove_dir_all(directory.path().join("type=trade")).unwrap();
        sink.write(&at(trades(3..4, 1), 7, 3)).await.unwrap();
        sink.close().await.unwrap();
    });
    assert!(lines(directory.path()).ends_with(&text(trades(3..4, 1))));
}

#[test]
fn a_file_of_other_columns_stands_beside() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), ParquetOptions::default(), &[at(trades(0..2, 1), 7, 1)]);
    // As an older collector could have written it: of one column, and of batches up to the fifth.
    let path = files(directory.path()).remove(0);
    let schema = "message trade { required int64 t (TIMESTAMP(MICROS,true)); }";
    let schema = Arc::new(::parquet::schema::parser::parse_message_type(schema).unwrap());
    let mut writer = ::parquet::file::writer::SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::default()).unwrap();
    encode::describe(&mut writer, 2, "bybit", &covers::Covers::one(7, 1, 5));
    writer.close().unwrap();
    write(directory.path(), ParquetOptions::default(), &[at(trades(4..5, 1), 7, 5), at(trades(5..6, 1), 7, 6)]);
    let paths = files(directory.path());
    assert_eq!(paths.len(), 2);
    fs::remove_file(&paths[0]).unwrap();
    assert_eq!(lines(directory.path()), text(trades(5..6, 1)), "the fifth was in the other file");
}

#[test]
fn a_broken_file_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), ParquetOptions::default(), &[at(trades(0..2, 1), 7, 1)]);
    let path = files(directory.path()).remove(0);
    fs::write(&path, "no parquet").unwrap();
    write(directory.path(), ParquetOptions::default(), &[at(trades(0..2, 1), 7, 1)]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "no parquet");
    assert_eq!(files(directory.path()).len(), 2);
}

#[test]
fn what_was_left_unfinished_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let unfinished = directory.path().join(".unfinished");
    fs::create_dir_all(&unfinished).unwrap();
    let (left, held) = (unfinished.join("1-x"), unfinished.join("2-x"));
    for path in [&left, &held] {
        let file = File::create(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_mins(1)).unwrap();
    }
    let writing = File::open(&held).unwrap();
    writing.lock().unwrap();
    ParquetSink::open(directory.path(), small()).unwrap();
    assert!(!left.exists());
    assert!(held.exists(), "somebody still writes it");
}

#[test]
fn a_directory_that_cannot_be_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = ParquetSink::open(&file.join("data"), small()).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot create the directory `{}/data`: Not a directory", file.display()));
    assert_eq!(error.kind(), SinkErrorKind::Permanent);
}

/// Root may write everywhere but where the kernel says no.
#[cfg(target_os = "linux")]
#[test]
fn a_directory_without_write_permission_is_named() {
    let error = ParquetSink::open(Path::new("/proc/self"), small()).unwrap_err();
    assert!(error.to_string().starts_with("cannot create the directory `/proc/self`"), "{error}");
}

#[test]
fn keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let sink = ParquetSink::open(directory.path(), ParquetOptions::default()).unwrap();
    contract::suite(sink, |_| lines(directory.path()));
}

#[test]
fn keeps_the_contract_with_many_files() {
    let directory = tempfile::tempdir().unwrap();
    let sink = ParquetSink::open(directory.path(), small()).unwrap();
    contract::suite(sink, |_| lines(directory.path()));
}
