//! Any number that an event can carry is exact in its column, or null there, exact in the text beside it, and counted.

use std::fmt::Write as _;

use super::*;
use crate::parquet::partition::{Added, Key, Partition, day};
use crate::parquet::table::table_of;

/// What a column of 38 digits, so many of them behind the point, holds of a number: by its text alone, and not as it is done elsewhere.
fn fits(text: &str, places: usize) -> bool {
    let text = text.trim_start_matches('-');
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    part.trim_end_matches('0').len() <= places && whole.trim_start_matches('0').len() <= 38 - places
}

/// A number as venues may write it, near every border: of up to 45 digits on either side of the point, with zeros at both ends,
/// negative, with an exponent.
fn random_text(random: &mut fastrand::Rng) -> String {
    let digits = |random: &mut fastrand::Rng, most: usize| -> String {
        let count = random.usize(0..=most);
        let kind = random.u8(0..4);
        (0..count)
            .map(|_| match kind {
                0 => '0',
                1 => '9',
                _ => random.digit(10),
            })
            .collect()
    };
    let most = random.choice([2, 10, 18, 20, 28, 30, 45]).unwrap_or(2);
    let mut text = String::from(if random.u8(0..3) == 0 { "-" } else { "" });
    text += &digits(random, most);
    text.push(random.digit(10));
    if random.bool() {
        let places = random.choice([1, 17, 18, 19, 27, 28, 29, 45]).unwrap_or(1);
        let _ = write!(text, ".{}{}", digits(random, places), random.digit(10));
    }
    if random.u8(0..8) == 0 {
        let _ = write!(text, "e{}", random.i8(-30..20));
    }
    text
}

#[test]
fn every_number_is_exact_somewhere_and_counted_where_it_does_not_fit() {
    let mut random = fastrand::Rng::with_seed(5);
    let directory = tempfile::tempdir().unwrap();
    let store = Directory::open(directory.path(), false).unwrap();
    let owner = Owner { journal: 7, level: 1, file_bytes: 1 << 30 };
    let now = std::time::Instant::now();
    let mut events = Vec::new();
    for (at, mut event) in trades(0..4000, 1).into_iter().enumerate() {
        let mut any = || number(&random_text(&mut random));
        event.received = event.received + Duration::from_micros(at as u64);
        event.body = match at % 3 {
            0 => Body::Trade(Trade { trade_id: None, price: any(), size: any(), size_base: Some(any()), side: None }),
            1 => Body::Funding(Funding { rate: Some(any()), cap: Some(any()), floor: Some(any()), ..Funding::default() }),
            _ => {
                let levels = |any: &mut dyn FnMut() -> Decimal| vec![Level { price: any(), size: any() }, Level { price: number("1"), size: any() }];
                Body::Book(Book { kind: BookKind::Delta, bids: levels(&mut any), asks: levels(&mut any), seq: None, prev_seq: None, checksum: None })
            }
        };
        events.push(event);
    }
    let (mut fit, mut unfit) = (0, 0);
    for table in 0..3 {
        let own: Vec<&Event> = events.iter().skip(table).step_by(3).collect();
        let key = Key { table: table_of(&own[0].body).unwrap(), venue: own[0].instrument.venue.clone(), day: day(own[0].received) };
        let mut partition = Partition::open(key, owner, &store, now).unwrap().unwrap();
        for event in own {
            let fields: Vec<(&str, usize, Vec<String>)> = match &event.body {
                Body::Trade(t) => vec![
                    ("price", 18, vec![t.price.to_string()]),
                    ("size", 18, vec![t.size.to_string()]),
                    ("size_base", 18, vec![t.size_base.clone().unwrap().to_string()]),
                ],
                Body::Funding(f) => {
                    [("rate", &f.rate), ("cap", &f.cap), ("floor", &f.floor)].map(|(name, value)| (name, 28, vec![value.clone().unwrap().to_string()])).into()
                }
                Body::Book(b) => [("bids", &b.bids), ("asks", &b.asks)]
                    .map(|(name, side)| (name, 18, side.iter().flat_map(|level| [level.price.to_string(), level.size.to_string()]).collect()))
                    .into(),
                _ => unreachable!("none of these"),
            };
            let wrong: Vec<&str> = fields.iter().filter(|(_, places, texts)| !texts.iter().all(|text| fits(text, *places))).map(|(name, ..)| *name).collect();
            unfit += wrong.len();
            fit += fields.len() - wrong.len();
            let Added::Row(mut told) = partition.add(event, 1, now) else { panic!("it is no repeat") };
            told.sort_by_key(|name| fields.iter().position(|(known, ..)| known == name));
            assert_eq!(told, wrong, "{event:?}");
        }
        partition.write(owner, 1, &store, now).unwrap();
    }
    assert!(fit > 1000 && unfit > 1000, "{fit} fit, {unfit} do not");
    // `line` takes the text only where the column is null, and the line has every digit.
    assert!(sorted(&lines(directory.path())) == sorted(&text(events)), "what is read is what was written");
}
