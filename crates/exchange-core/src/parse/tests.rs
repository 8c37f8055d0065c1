//! What is written is read, and what is read is what was written.

use fastrand::Rng;

use super::*;
use crate::seal::Sealer;

const EXTREMES: [&str; 12] = [
    "0",
    "1",
    "-1",
    "0.00000001",
    "-0.000000000000000001",
    "18446744073709551615",
    "79228162514264337593543950335",
    "-7.9228162514264337593543950335",
    // What no mantissa holds is text.
    "79228162514264337593543950336",
    "0.00000000000000000000000000000000000000000012345",
    "-123456789012345678901234567890123456789012345.678901",
    "1e99",
];
const TEXTS: [&str; 8] = ["", "x", "\"\\\u{1}\n\t\r", "1000PEPE", "ü€𝄞", "\u{7f}\u{2028}", "*", "BTC-27MAR26-100000-C"];

fn decimal(rng: &mut Rng) -> Decimal {
    let text = match rng.u8(..4) {
        0 => EXTREMES[rng.usize(..EXTREMES.len())].to_owned(),
        1 => format!("{}.{}", rng.u64(..), rng.u64(..)),
        2 => format!("-{}e-{}", rng.u64(..), rng.u8(..60)),
        _ => format!("{}.{:0>4}", rng.u32(..100_000), rng.u16(..10_000)),
    };
    text.parse().expect(&text)
}

fn maybe<T>(rng: &mut Rng, make: fn(&mut Rng) -> T) -> Option<T> {
    rng.bool().then(|| make(rng))
}

fn time(rng: &mut Rng) -> Time {
    Time::from_micros(match rng.u8(..4) {
        0 => i64::MIN,
        1 => i64::MAX,
        2 => rng.i64(-1000..1000),
        _ => rng.i64(1_700_000_000_000_000..1_900_000_000_000_000),
    })
}

fn text(rng: &mut Rng) -> String {
    TEXTS[rng.usize(..TEXTS.len())].to_owned()
}

fn ident(rng: &mut Rng) -> Ident {
    match rng.u8(..4) {
        0 => Ident::Number(rng.u64(..)),
        1 => Ident::Uuid(rng.u128(..).to_le_bytes()),
        2 => Ident::parse(&text(rng)),
        _ => Ident::parse(&format!("0{}", rng.u64(..))),
    }
}

fn channel(rng: &mut Rng) -> Channel {
    let name = Channel::NAMES[rng.usize(..Channel::NAMES.len())];
    if name == "candle:1m" { Channel::Candle(interval(rng)) } else { Channel::parse(name).expect(name) }
}

fn interval(rng: &mut Rng) -> Interval {
    Interval::new(rng.u16(1..), ['s', 'm', 'h', 'd', 'w', 'M'][rng.usize(..6)]).expect("a count above zero")
}

fn levels(rng: &mut Rng) -> Vec<Level> {
    (0..rng.usize(..5)).map(|_| Level { price: decimal(rng), size: decimal(rng) }).collect()
}

fn side(rng: &mut Rng) -> Side {
    if rng.bool() { Side::Buy } else { Side::Sell }
}

fn body(rng: &mut Rng) -> Body {
    match rng.u8(..14) {
        0 => Body::Ticker(Ticker {
            last: maybe(rng, decimal),
            last_size: maybe(rng, decimal),
            bid: maybe(rng, decimal),
            bid_size: maybe(rng, decimal),
            ask: maybe(rng, decimal),
            ask_size: maybe(rng, decimal),
            open_24h: maybe(rng, decimal),
            high_24h: maybe(rng, decimal),
            low_24h: maybe(rng, decimal),
            volume_24h: maybe(rng, decimal),
            turnover_24h: maybe(rng, decimal),
            change_24h: maybe(rng, decimal),
        }),
        1 => Body::Quote(Quote {
            bid: maybe(rng, decimal),
            bid_size: maybe(rng, decimal),
            ask: maybe(rng, decimal),
            ask_size: maybe(rng, decimal),
            seq: maybe(rng, ident),
        }),
        2 => Body::Mark(Mark { mark: maybe(rng, decimal), index: maybe(rng, decimal), basis: maybe(rng, decimal) }),
        3 => Body::Funding(Funding {
            rate: maybe(rng, decimal),
            next_time: maybe(rng, time),
            interval_hours: maybe(rng, |rng| rng.u32(..)),
            predicted_rate: maybe(rng, decimal),
            cap: maybe(rng, decimal),
            floor: maybe(rng, decimal),
        }),
        4 => Body::FundingSettled(FundingSettled { rate: decimal(rng), time: time(rng), mark: maybe(rng, decimal) }),
        5 => Body::OpenInterest(OpenInterest { value: maybe(rng, decimal), value_base: maybe(rng, decimal), value_quote: maybe(rng, decimal) }),
        6 => {
            Body::Trade(Trade { trade_id: maybe(rng, ident), price: decimal(rng), size: decimal(rng), size_base: maybe(rng, decimal), side: maybe(rng, side) })
        }
        7 => Body::Liquidation(Liquidation {
            price: decimal(rng),
            size: decimal(rng),
            size_base: maybe(rng, decimal),
            side: maybe(rng, side),
            trade_id: maybe(rng, ident),
        }),
        8 => Body::Book(Book {
            kind: if rng.bool() { BookKind::Snapshot } else { BookKind::Delta },
            bids: levels(rng),
            asks: levels(rng),
            seq: maybe(rng, ident),
            prev_seq: maybe(rng, ident),
            checksum: maybe(rng, ident),
        }),
        9 => Body::Candle(Candle {
            interval: interval(rng),
            open_time: time(rng),
            open: decimal(rng),
            high: decimal(rng),
            low: decimal(rng),
            close: decimal(rng),
            volume: decimal(rng),
            turnover: maybe(rng, decimal),
            trades: maybe(rng, |rng| rng.u64(..)),
            closed: rng.bool(),
        }),
        10 => Body::Instrument(Box::new(Details {
            settle: maybe(rng, text).map(Into::into),
            contract_size: maybe(rng, decimal),
            tick_size: maybe(rng, decimal),
            lot_size: maybe(rng, decimal),
            min_size: maybe(rng, decimal),
            expiry: maybe(rng, time),
            funding_interval_hours: maybe(rng, |rng| rng.u32(..)),
            ..Details::new(Kind::ALL[rng.usize(..4)], &text(rng), &text(rng), Status::ALL[rng.usize(..4)])
        })),
        11 => Body::Gap(Box::new(Gap {
            channel: channel(rng),
            reason: GapReason::ALL[rng.usize(..GapReason::ALL.len())],
            from: maybe(rng, ident),
            to: maybe(rng, ident),
        })),
        12 => Body::Refill(Box::new(Refill {
            gap: EventId(rng.u128(..).to_le_bytes()),
            channel: channel(rng),
            from: maybe(rng, ident),
            to: maybe(rng, ident),
            count: rng.u64(..),
            complete: rng.bool(),
        })),
        _ => Body::DecodeError(Box::new(DecodeFailure { reason: text(rng), excerpt: text(rng) })),
    }
}

fn event(rng: &mut Rng) -> Event {
    let symbol = maybe(rng, text);
    let instrument = Instrument::named(&text(rng).into(), Market::ALL[rng.usize(..4)], &text(rng), symbol.as_deref());
    Event {
        origin: maybe(rng, |rng| if rng.bool() { Origin::Refill } else { Origin::Backfill }),
        ..Event::new(instrument.into(), time(rng), maybe(rng, time), body(rng))
    }
}

/// Events of every type with what is odd about them, sealed; sizes in base currency stay as they were made.
fn events(seed: u64, count: usize) -> Vec<Event> {
    let mut rng = Rng::with_seed(seed);
    let mut events: Vec<Event> = (0..count).map(|_| event(&mut rng)).collect();
    for event in &mut events {
        event.id = canonical::id(event);
    }
    events
}

#[test]
fn every_event_is_read_as_it_was_written() {
    let events = events(1, 20_000);
    let mut interner = Interner::default();
    for event in &events {
        let line = event.to_json();
        let read = Event::parse_with(line.as_bytes(), &mut interner).expect(&line);
        assert_eq!((&read, read.to_json()), (event, line.clone()), "{line}");
        assert!(read.verify(), "{line}");
    }
}

#[test]
fn a_batch_keeps_its_lines_and_shares_its_instruments() {
    let batch = Batch::new(events(2, 2_000));
    let mut interner = Interner::default();
    let read = Batch::parse_with(batch.lines().to_vec(), &mut interner).unwrap();
    assert_eq!((read.events(), read.lines()), (batch.events(), batch.lines()));
    assert!(read.records().all(|(event, line)| event.to_json().as_bytes() == line));
    let again = Batch::parse_with(batch.lines().trim_ascii_end().to_vec(), &mut interner).unwrap();
    assert_eq!(again.lines(), batch.lines(), "the last line's end is put back");
    assert!(read.events().iter().zip(again.events()).all(|(one, other)| Arc::ptr_eq(&one.instrument, &other.instrument)));
    assert!(Batch::parse(Vec::new()).unwrap().events().is_empty());
    let mut number = 0;
    let third = again.filtered(|_| {
        number += 1;
        number % 3 == 0
    });
    assert!(third.events().len() > 600 && third.events().iter().eq(batch.events().iter().skip(2).step_by(3)));
    assert!(third.records().all(|(event, line)| event.to_json().as_bytes() == line));
}

#[test]
fn what_is_new_in_a_line_is_passed_over() {
    let line = r#"{ "new": {"a":[1]}, "type":"mark","venue":"x","market":"linear","venue_symbol":"A","t":7,"mark":"1.50","fair":"2", "id":"abababababababababababababababab","line":12}"#;
    let event = Event::parse(line.as_bytes()).unwrap();
    assert_eq!(
        event.to_json(),
        r#"{"type":"mark","venue":"x","market":"linear","venue_symbol":"A","t":7,"mark":"1.5","id":"abababababababababababababababab"}"#
    );
    assert!(!event.verify(), "an id that is not the content's");
}

#[test]
fn equal_records_of_one_message_have_ids_of_their_own() {
    let mut pair = vec![events(3, 1).remove(0); 2];
    pair[0].body = Body::Trade(Trade { trade_id: None, price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None });
    pair[1] = Event { ordinal: 1, ..pair[0].clone() };
    Sealer::default().seal(&mut pair);
    let read: Vec<Event> = pair.iter().map(|event| Event::parse(event.to_json().as_bytes()).unwrap()).collect();
    assert_ne!(read[0].id, read[1].id);
    assert!(read.iter().all(Event::verify));
}

#[test]
fn says_what_is_wrong() {
    let good = r#"{"type":"trade","venue":"x","market":"linear","venue_symbol":"A","t":7,"price":"1","size":"2","side":"buy","id":"abababababababababababababababab"}"#;
    for (from, to, what) in [
        (good, "", "object"),
        ("{", "[", "object"),
        ("\"type\":\"trade\"", "\"typ\":\"trade\"", "`type` is missing"),
        ("trade", "greeks", "`greeks` is not known"),
        ("linear", "perp", "`market`: is no market"),
        ("\"price\":\"1\",", "", "`price`: is missing"),
        ("\"1\"", "\"one\"", "`price`: is not a decimal"),
        ("buy", "long", "`side`: is neither"),
        (":7", ":\"7\"", "`t`: is not a number"),
        (":7", ":7.5", "`t`: is not a time"),
        ("ababab", "ABABAB", "`id`: is not an id"),
        (",\"id\":\"abababababababababababababababab\"", "", "`id`: is missing"),
        ("}", "}}", "something follows"),
    ] {
        let line = good.replacen(from, to, 1);
        let error = Event::parse(line.as_bytes()).expect_err(&line).to_string();
        assert!(error.contains(what) && error.starts_with("not an event line: "), "{line}: {error}");
    }
    assert!(Event::parse(b"\xff").unwrap_err().to_string().contains("UTF-8"));
    let error = Batch::parse(format!("{good}\n\n{good}\n").into_bytes()).unwrap_err();
    assert_eq!(error.line(), Some(2));
    assert!(error.to_string().starts_with("line 2 is no event line: "), "{error}");
}

#[test]
fn no_truncation_is_read_as_an_event() {
    for event in events(4, 50) {
        let line = event.to_json();
        for end in 0..line.len() {
            assert!(Event::parse(&line.as_bytes()[..end]).is_err(), "{}", &line[..end.min(line.len())]);
        }
    }
}

#[test]
fn made_up_names_do_not_fill_the_memory() {
    let mut interner = Interner::default();
    for n in 0..2 * MOST_INSTRUMENTS + 10 {
        let name = n.to_string();
        let first = interner.get(&name, Market::Spot, "A", None);
        assert!(Arc::ptr_eq(&first, &interner.get(&name, Market::Spot, "A", None)));
        assert!(interner.known.len() <= MOST_INSTRUMENTS && interner.venues.len() <= MOST_VENUES);
    }
}
