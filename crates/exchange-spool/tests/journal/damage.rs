//! Whatever becomes of its bytes, a journal gives what is whole, tells what is not, and goes on.

use std::path::Path;

use exchange_spool::{Options, Spool};

use crate::support::{Found, append, batch, copy, drain, open, options, segments};

/// Reads everything, appends three more, and reads again after another restart: the same, and those three.
fn read_and_go_on(directory: &Path) -> Found {
    let spool = open(directory).spool;
    let found: Found = spool.replay(None).collect();
    append(&spool, 100..103);
    drop(spool);
    let again: Found = open(directory).spool.replay(None).collect();
    assert_eq!(again.batches, [found.batches.as_slice(), &[100, 101, 102]].concat());
    assert_eq!(again.lost.len(), found.lost.len());
    for (again, first) in again.lost.iter().zip(&found.lost) {
        assert_eq!(again.batch.position(), first.batch.position());
        assert_eq!((again.batches, again.events), (first.batches, first.events));
    }
    found
}

#[test]
fn a_flipped_bit_costs_at_most_its_record_and_is_told() {
    let place = tempfile::tempdir().unwrap();
    append(&open(place.path()).spool, 0..4);
    let path = segments(place.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let mut told = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let flipped = tempfile::tempdir().unwrap();
        std::fs::write(flipped.path().join(path.file_name().unwrap()), bytes).unwrap();
        let found = read_and_go_on(flipped.path());
        let missing: Vec<u64> = (0..4).filter(|n| !found.batches.contains(n)).collect();
        assert!(missing.len() <= 1, "byte {at}: {found:?}");
        assert_eq!(found.lost_batches(), missing.len() as u64, "byte {at}: {found:?}");
        for n in missing {
            assert!(found.tells(n), "byte {at}: {found:?}");
            told += 1;
        }
    }
    // All but the 32 bytes of the segment's head and the names of places, which are only needed for telling.
    let places: usize = (0..4).map(|n| format!("{} linear/trade linear/quote", batch(n).events()[0].instrument.venue).len()).sum();
    assert_eq!(told, whole.len() - 32 - places);
}

#[test]
fn a_damaged_record_with_a_whole_header_is_told_exactly() {
    let place = tempfile::tempdir().unwrap();
    append(&open(place.path()).spool, 0..4);
    let path = segments(place.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    // In the lines of the third.
    let at = bytes.windows(14).position(|bytes| bytes == b"\"trade_id\":\"20").unwrap();
    bytes[at] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let spool = open(place.path()).spool;
    let mut reader = spool.reader("a").unwrap();
    let found = drain(&mut reader);
    assert_eq!((found.batches.as_slice(), found.lost_batches(), found.lost_events()), ([0, 1, 3].as_slice(), 1, 3));
    let gaps = String::from_utf8(found.lost[0].batch.lines().to_vec()).unwrap();
    let gaps: Vec<&str> = gaps.lines().map(|line| line.split_once(",\"id\"").unwrap().0).collect();
    let gap = |channel: &str| {
        format!(
            r#"{{"type":"gap","venue":"binance","market":"linear","venue_symbol":"*","t":3000005,"channel":"{channel}","reason":"overflow","from":"3000000","to":"3000005""#
        )
    };
    assert_eq!(gaps, [gap("quote"), gap("trade")]);
}

#[test]
fn a_torn_end_costs_what_was_not_written() {
    let place = tempfile::tempdir().unwrap();
    let spool = open(place.path()).spool;
    let path = |directory: &Path| segments(directory).remove(0);
    let mut ends = vec![0];
    for n in 0..4 {
        append(&spool, n..n + 1);
        ends.push(std::fs::metadata(path(place.path())).unwrap().len());
    }
    drop(spool);
    let whole = std::fs::read(path(place.path())).unwrap();
    for length in 0..=whole.len() {
        let torn = tempfile::tempdir().unwrap();
        std::fs::write(torn.path().join(path(place.path()).file_name().unwrap()), &whole[..length]).unwrap();
        let left = ends.iter().filter(|end| **end <= length as u64).count() as u64 - 1;
        let repaired = Spool::open(torn.path(), options()).unwrap().repaired;
        let boundary = ends.contains(&(length as u64)) || length == 32;
        assert_eq!(repaired.is_some(), !boundary && length > 32, "length {length}: {repaired:?}");
        let found = read_and_go_on(torn.path());
        assert_eq!((found.batches, found.lost.len()), ((0..left).collect(), 0), "length {length}");
    }
}

#[test]
fn a_power_cut_that_takes_the_end_is_told_to_those_who_had_not_read_it() {
    let place = tempfile::tempdir().unwrap();
    let spool = open(place.path()).spool;
    let (mut a, mut b) = (spool.reader("a").unwrap(), spool.reader("b").unwrap());
    append(&spool, 0..10);
    drain(&mut a);
    a.acknowledge(spool.last()).unwrap();
    b.next().unwrap();
    b.acknowledge(b.position()).unwrap();
    drop((a, b, spool));
    let path = segments(place.path()).remove(0);
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(length / 2 + 5).unwrap();

    let spool = open(place.path()).spool;
    let (mut a, mut b) = (spool.reader("a").unwrap(), spool.reader("b").unwrap());
    assert!(a.next().is_none());
    let found = drain(&mut b);
    let left = found.batches.len() as u64;
    assert!(left > 2 && found.lost.is_empty() && found.batches.iter().copied().eq(1..=left));
    // Until when is known when something comes behind it.
    append(&spool, 10..12);
    assert_eq!(drain(&mut a).batches, [10, 11]);
    let found = drain(&mut b);
    assert_eq!((found.batches.as_slice(), found.lost.len(), found.lost_batches()), ([10, 11].as_slice(), 1, 9 - left));
    assert!((left + 1..10).all(|n| found.tells(n)), "{found:?}");
}

/// Seeded damage of all sorts: flipped bits, zeros, noise, bytes cut out, over a journal of several segments.
#[test]
fn any_damage_is_passed_and_told() {
    const BATCHES: u64 = 60;
    let place = tempfile::tempdir().unwrap();
    let spool = Spool::open(place.path(), Options { segment_bytes: 6000, ..options() }).unwrap().spool;
    drop(spool.reader("a").unwrap());
    append(&spool, 0..BATCHES);
    drop(spool);
    let count = segments(place.path()).len();
    assert!(count > 5);
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let damaged = copy(place.path());
        for _ in 0..random.usize(1..4) {
            let path = &segments(damaged.path())[random.usize(0..count)];
            let mut bytes = std::fs::read(path).unwrap();
            if bytes.is_empty() {
                continue;
            }
            let from = random.usize(0..bytes.len());
            let to = (from + random.usize(1..600)).min(bytes.len());
            match random.u8(0..5) {
                0 => bytes[from] ^= 1 << random.u8(0..8),
                1 => bytes[from..to].fill(0),
                2 => random.fill(&mut bytes[from..to]),
                3 => drop(bytes.drain(from..to)),
                _ => bytes.splice(from..from, vec![7; to - from]).for_each(drop),
            }
            std::fs::write(path, bytes).unwrap();
        }
        let spool = open(damaged.path()).spool;
        let mut reader = spool.reader("a").unwrap();
        let mut found = drain(&mut reader);
        append(&spool, 100..101);
        let more = drain(&mut reader);
        found.batches.extend(more.batches);
        found.lost.extend(more.lost);
        assert_eq!(found.batches.pop(), Some(100), "seed {seed}");
        assert!(found.batches.is_sorted_by(|a, b| a < b), "seed {seed}: {found:?}");
        let missing: Vec<u64> = (0..BATCHES).filter(|n| !found.batches.contains(n)).collect();
        // The end of the last segment may look as if it had never been written.
        let told: Vec<u64> = missing.iter().copied().filter(|n| found.tells(*n)).collect();
        assert!(
            missing.iter().filter(|n| !told.contains(n)).all(|n| found.batches.iter().all(|found| found < n)),
            "seed {seed}: {missing:?} missing, {told:?} told: {found:?}"
        );
    }
}

/// A disk that has lost every second of its sectors: each record is looked for, and told, without reading everything anew each time.
#[test]
fn a_segment_in_tatters_is_passed() {
    let place = tempfile::tempdir().unwrap();
    append(&open(place.path()).spool, 0..400);
    let path = segments(place.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    for at in (0..bytes.len() - 4000).step_by(4000) {
        bytes[at..at + 300].fill(0xF7);
    }
    std::fs::write(&path, bytes).unwrap();
    let found: Found = open(place.path()).spool.replay(None).collect();
    let missing: Vec<u64> = (0..400).filter(|n| !found.batches.contains(n)).collect();
    assert!(missing.len() > 50 && found.batches.len() > 250);
    assert_eq!(found.lost_batches(), missing.len() as u64);
    assert!(missing.iter().all(|n| found.tells(*n)));
}
