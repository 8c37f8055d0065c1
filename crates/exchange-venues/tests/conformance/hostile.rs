//! Bytes that no venue should send: cut, mutated. Never a panic, and nothing of a message that is not whole.
//!
//! Mutations are seeded: a run is repeated exactly. `COLLECTOR_MUTATIONS` is how many each venue gets.

use std::panic::{AssertUnwindSafe, catch_unwind};

use exchange_core::capture::Capture;
use exchange_core::{Body, Event, Offline, Sealer};
use fastrand::Rng;

use crate::contract;
use crate::fixtures::{Tested, is_whole_json, to_json, venues};

/// Mutations of each venue where the environment says nothing else.
const MUTATIONS: usize = 20_000;
/// Each share of them has a seed of its own.
const SHARES: usize = 16;
/// A decoder that met so many mutations is replaced: it may have learned as many instruments.
const PER_DECODER: usize = 1_000;
/// Every so manieth mutation that still gave events is held against the contract.
const PER_CHECK: usize = 16;

/// What is spliced into payloads: marks of JSON's grammar, and numbers at and beyond every limit.
const SPLICES: &[&str] = &[
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\",
    "\\u",
    "\\ud800",
    "\\udfff",
    "\0",
    "\u{feff}",
    "\u{5e01}",
    "null",
    "true",
    "\"\"",
    "\"NaN\"",
    "{}",
    "[]",
    "[[[[[[[[[[[[[[[[",
    "-",
    "-0",
    "0",
    "00",
    ".",
    "1e",
    "1e5",
    "1E-400",
    "9e999999999",
    "1e2147483647",
    "1e-2147483648",
    "18446744073709551616",
    "-9223372036854775809",
    "99999999999999999999999999999999999999999999999999",
    "0.0000000000000000000000000000000000000000000001",
];

#[test]
fn a_message_that_is_cut_gives_an_error_alone() {
    let mut wrong = Vec::new();
    for venue in venues() {
        for fixture in venue.fixtures() {
            let mut offline = venue.offline();
            let mut events = Vec::new();
            fixture.lines.iter().for_each(|line| offline.capture(&line.capture, &mut events));
            for line in &fixture.lines {
                let whole = is_whole_json(&line.capture.payload);
                let mut capture = line.capture.clone();
                capture.payload.truncate(line.capture.payload.trim_ascii_end().len());
                while capture.payload.pop().is_some() {
                    events.clear();
                    decode(&mut offline, &capture, &mut events);
                    if whole && !matches!(events.as_slice(), [Event { body: Body::DecodeError(_), .. }]) {
                        let given: Vec<String> = events.iter().map(|event| to_json(event, None)).collect();
                        wrong.push(format!("{}/{}:{}: cut after {} bytes it gives {given:?}", venue.name(), fixture.name, line.number, capture.payload.len()));
                        break;
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_mutation_makes_a_decoder_panic() {
    let mutations =
        std::env::var("COLLECTOR_MUTATIONS").map_or(MUTATIONS, |text| text.parse().unwrap_or_else(|_| panic!("COLLECTOR_MUTATIONS is a number, not `{text}`")));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    for venue in venues() {
        let corpus: Vec<Capture> = venue.fixtures().into_iter().flat_map(|fixture| fixture.lines).map(|line| line.capture).collect();
        std::thread::scope(|scope| {
            for worker in 0..workers {
                let (venue, corpus) = (&venue, &corpus);
                // What is tried does not depend on who tries it.
                scope.spawn(move || {
                    (worker..SHARES).step_by(workers).for_each(|share| mutate_and_decode(venue, corpus, share as u64, mutations.div_ceil(SHARES)));
                });
            }
        });
    }
}

fn mutate_and_decode(venue: &Tested, corpus: &[Capture], seed: u64, mutations: usize) {
    let mut rng = Rng::with_seed(seed);
    let mut sealer = Sealer::default();
    let mut events = Vec::new();
    let mut offline = venue.offline();
    for nth in 0..mutations {
        if nth % PER_DECODER == 0 {
            offline = venue.offline();
            for capture in corpus {
                offline.capture(capture, &mut events);
            }
        }
        let mut capture = corpus[rng.usize(..corpus.len())].clone();
        for _ in 0..rng.usize(1..4) {
            mutate(&mut capture.payload, corpus, &mut rng);
        }
        match rng.u8(..) {
            0..8 => {
                let mut source = std::mem::take(&mut capture.source).into_bytes();
                mutate(&mut source, corpus, &mut rng);
                capture.source = String::from_utf8_lossy(&source).into_owned();
            }
            8..12 => capture.status = Some(rng.u16(0..700)),
            _ => {}
        }
        events.clear();
        decode(&mut offline, &capture, &mut events);
        if nth % PER_CHECK == 0 {
            sealer.seal(&mut events);
            for event in &events {
                hold_against_contract(&capture, event);
            }
        }
    }
}

/// Decodes, and says by which capture line a panic can be seen again.
fn decode(offline: &mut Offline, capture: &Capture, events: &mut Vec<Event>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| offline.capture(capture, events))) {
        eprintln!("a decoder panicked at: {}", line_of(capture));
        std::panic::resume_unwind(panic);
    }
}

/// A mutated number is a number, whatever it means; what a mutation can do to times and names is no fault of ours.
fn hold_against_contract(capture: &Capture, event: &Event) {
    let json = to_json(event, None);
    let read = Event::parse(json.as_bytes()).unwrap_or_else(|error| panic!("{error}\n  {json}\n  {}", line_of(capture)));
    assert_eq!(to_json(&read, None), json, "{}", line_of(capture));
    if let Err(fault) = contract::check(&json) {
        let of_mutation = ["`et`", "`time`", "`next_time`", "`open_time`", "`expiry`", "is no symbol", "`interval_hours`", "`funding_interval_hours`"];
        assert!(of_mutation.iter().any(|what| fault.contains(what)), "{fault}\n  {json}\n  {}", line_of(capture));
    }
}

fn line_of(capture: &Capture) -> String {
    let mut line = Vec::new();
    capture.write(&mut line);
    String::from_utf8_lossy(&line).into_owned()
}

/// One change, anywhere.
fn mutate(bytes: &mut Vec<u8>, corpus: &[Capture], rng: &mut Rng) {
    let at = rng.usize(..=bytes.len());
    let to = (at + rng.usize(1..24)).min(bytes.len());
    match rng.u8(..8) {
        0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.u8(..8)),
        1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = rng.u8(..)),
        2 => drop(bytes.drain(at..to)),
        3 => {
            let part = bytes[at..to].to_vec();
            bytes.splice(to..to, part);
        }
        4 | 5 => drop(bytes.splice(at..if rng.bool() { to } else { at }, rng.choice(SPLICES).copied().unwrap_or_default().bytes())),
        6 => {
            // The value of a key becomes another.
            let Some(colon) = bytes[at..].iter().position(|byte| *byte == b':').map(|offset| at + offset + 1) else { return };
            let end = bytes[colon..].iter().position(|byte| b",}]".contains(byte)).map_or(bytes.len(), |offset| colon + offset);
            bytes.splice(colon..end, rng.choice(SPLICES).copied().unwrap_or_default().bytes());
        }
        _ => {
            let other = &corpus[rng.usize(..corpus.len())].payload;
            let from = rng.usize(..=other.len());
            let until = (from + rng.usize(1..200)).min(other.len());
            bytes.splice(at..to, other[from..until].iter().copied());
        }
    }
}
