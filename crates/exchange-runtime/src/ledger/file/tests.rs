use exchange_core::Market;
use exchange_core::ledger::Kind;

use super::*;

const RUN: i64 = 1_767_621_600_000_000; // 2026-01-05T14:00Z

fn at(minutes: i64) -> Time {
    Time::from_micros(RUN + minutes * 60_000_000)
}

fn key(name: &str, hour: Hour) -> Key {
    Key { hour, venue: "x".into(), kind: Kind::parse("trade").unwrap(), market: Market::Linear, name: name.into() }
}

/// Events of an instrument that were passed on, and written by the one sink.
fn rows(name: &str, now: Time, passed: u64, written: u64) -> Account {
    let key = key(name, Hour::of(now));
    let mut rows = Account::default();
    rows.add_entries([(key.clone(), Entry { received: passed, decoded: passed, passed, ..Entry::default() })]);
    rows.add_shares("null:", [(key, Share { written, ..Share::default() })]);
    rows
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(place.directory()).unwrap();
        place
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join(PART).join("one")
    }

    fn open(&self, now: Time) -> Writer {
        Writer::open(self.directory(), now, vec!["null:".into()]).unwrap()
    }

    fn read(&self) -> Ledger {
        read(self.0.path(), "one", &|_| true, &|_| true).unwrap()
    }

    fn files(&self) -> Vec<String> {
        stored(&self.directory()).unwrap().iter().map(|(_, path)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    /// Changes the text of a file.
    fn tamper(&self, file: &str, change: impl Fn(String) -> String) {
        let path = self.directory().join(file);
        let text = change(std::fs::read_to_string(&path).unwrap());
        std::fs::write(path, text).unwrap();
    }
}

fn append(writer: &mut Writer, now: Time, rows: Account, last: bool) {
    writer.rows().add(rows);
    writer.append(now, last).unwrap();
}

/// All rows of a run, settled or not.
fn whole(run: &Run) -> Account {
    let mut all = run.rows.clone();
    all.add(run.settled.clone());
    all
}

#[test]
fn what_was_written_is_read() {
    let place = Place::new();
    assert_eq!(names(place.0.path()).unwrap(), ["one"]);
    let mut writer = place.open(at(0));
    append(&mut writer, at(1), rows("A", at(1), 5, 3), false);
    append(&mut writer, at(2), rows("A", at(2), 2, 4), false);
    append(&mut writer, at(3), Account::default(), true);
    let ledger = place.read();
    assert_eq!((ledger.problems, ledger.notes, ledger.runs.len()), (Vec::<String>::new(), Vec::<String>::new(), 1));
    let run = &ledger.runs[&RUN];
    assert_eq!((&run.rows, run.ended, run.known_until), (&rows("A", at(1), 7, 7), true, at(3)));
    assert_eq!(place.files(), ["2026-01-05T14.ndjson"]);
}

#[test]
fn an_hour_that_is_over_is_added_up_and_compressed() {
    let place = Place::new();
    let mut writer = place.open(at(0));
    let mut expected = Account::default();
    for minute in 1..150 {
        for name in ["A", "B/C:C", "ö"] {
            expected.add(rows(name, at(minute), 3, 3));
            writer.rows().add(rows(name, at(minute), 3, 3));
        }
        writer.append(at(minute), false).unwrap();
    }
    assert_eq!(place.files(), ["2026-01-05T14.ndjson.zst", "2026-01-05T15.ndjson.zst", "2026-01-05T16.ndjson"]);
    let ledger = place.read();
    assert_eq!((whole(&ledger.runs[&RUN]), ledger.problems), (expected.clone(), Vec::<String>::new()));
    // A later run closes the rest, and goes on.
    drop(writer);
    let mut second = place.open(at(200));
    append(&mut second, at(201), rows("A", at(201), 1, 1), true);
    assert_eq!(place.files().len(), 4);
    let ledger = place.read();
    assert_eq!((whole(&ledger.runs[&RUN]), ledger.runs[&RUN].ended, ledger.problems), (expected, false, Vec::<String>::new()));
    assert!(ledger.runs[&at(200).micros()].ended);
    // Only the hours that were asked for.
    let hour = Hour::of(at(61));
    let part = read(place.0.path(), "one", &|at| at == hour, &|_| false).unwrap();
    let keys: Vec<Key> = part.runs.values().flat_map(|run| whole(run).keys().into_iter().cloned().collect::<Vec<_>>()).collect();
    assert_eq!((keys, part.problems), (vec![key("*", hour)], Vec::<String>::new()));
}

#[test]
fn files_are_kept_for_90_days() {
    let place = Place::new();
    append(&mut place.open(at(0)), at(1), rows("A", at(1), 1, 1), true);
    drop(place.open(at(90 * 24 * 60)));
    assert_eq!(place.files().first().unwrap(), "2026-01-05T14.ndjson.zst");
    drop(place.open(at(90 * 24 * 60 + 60)));
    assert_eq!(place.files().first().unwrap(), "2026-04-05T14.ndjson.zst");
}

#[test]
fn half_a_take_is_left_out_and_does_not_spoil_what_follows() {
    let place = Place::new();
    let mut writer = place.open(at(0));
    append(&mut writer, at(1), rows("A", at(1), 5, 5), false);
    let whole_length = writer.length;
    append(&mut writer, at(2), rows("A", at(2), 7, 7), false);
    drop(writer);
    let name = "2026-01-05T14.ndjson";
    let text = std::fs::read_to_string(place.directory().join(name)).unwrap();
    for length in usize::try_from(whole_length).unwrap() + 1..text.len() {
        place.tamper(name, |_| text[..length].to_owned());
        let ledger = place.read();
        assert_eq!((ledger.problems.len(), ledger.notes.len()), (0, 1), "{length}: {:?}", ledger.problems);
        assert_eq!(ledger.runs[&RUN].rows, rows("A", at(1), 5, 5));
    }
    let mut next = place.open(at(3));
    append(&mut next, at(4), rows("A", at(4), 1, 1), true);
    let ledger = place.read();
    assert_eq!((ledger.problems, ledger.notes), (Vec::<String>::new(), Vec::<String>::new()));
    assert_eq!((&ledger.runs[&RUN].rows, ledger.runs[&RUN].ended), (&rows("A", at(1), 5, 5), false));
    assert_eq!(ledger.runs[&at(3).micros()].rows, rows("A", at(4), 1, 1));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let name = "2026-01-05T14.ndjson";
    let problems = |change: &dyn Fn(String) -> String| {
        let place = Place::new();
        let mut writer = place.open(at(0));
        for minute in 1..4 {
            append(&mut writer, at(minute), rows("A", at(minute), 5, 5), minute == 3);
        }
        place.tamper(name, change);
        place.read().problems
    };
    let without = |from: usize, count: usize| {
        move |text: String| {
            text.split_inclusive('\n').enumerate().filter(|(at, _)| !(from..from + count).contains(at)).map(|(_, line)| line).collect::<String>()
        }
    };
    assert_eq!(problems(&|text| text), Vec::<String>::new());
    assert_eq!(problems(&without(4, 1)), [format!("{name}:6: 1 rows were read where 2 were written")]);
    assert_eq!(problems(&without(4, 3)), [format!("{name}:7: takes 2 to 2 of rows are missing")]);
    assert_eq!(problems(&without(0, 1)).len(), 3);
    let broken = problems(&|text| text.replacen("\"passed\":5", "\"passed\":\"x\"", 1));
    assert!(broken.len() == 2 && broken[0].starts_with(&format!("{name}:2: not a row of a ledger: invalid type")), "{broken:?}");
    let later = problems(&|text| text.replacen("\"ledger\":1", "\"ledger\":2", 1));
    assert_eq!(later, [format!("{name}:1: written in version 2 of the format, and this program knows version 1")]);
    assert_eq!(problems(&|text| text.replacen("linear", "liner", 1)).len(), 1);
}

#[test]
fn what_is_broken_is_not_closed() {
    let place = Place::new();
    append(&mut place.open(at(0)), at(1), rows("A", at(1), 1, 1), true);
    place.tamper("2026-01-05T14.ndjson", |text| text.replacen("trade", "tread", 1));
    drop(place.open(at(90)));
    assert_eq!(place.files(), ["2026-01-05T14.ndjson", "2026-01-05T15.ndjson"]);
    assert_eq!(place.read().problems.len(), 1);
}

#[test]
fn a_clock_that_is_set_back_leads_into_no_closed_hour() {
    let place = Place::new();
    append(&mut place.open(at(0)), at(1), rows("A", at(1), 1, 1), true);
    let mut writer = place.open(at(61));
    append(&mut writer, at(30), rows("A", at(30), 1, 1), true);
    std::fs::remove_file(place.directory().join("2026-01-05T15.ndjson")).unwrap();
    append(&mut place.open(at(31)), at(32), rows("A", at(32), 1, 1), true);
    assert_eq!(place.files(), ["2026-01-05T14.ndjson.zst", "2026-01-05T15.ndjson"]);
    assert_eq!(place.read().problems, Vec::<String>::new());
}

#[test]
fn a_closed_file_counts_once_even_beside_what_it_was_made_of() {
    let place = Place::new();
    append(&mut place.open(at(0)), at(1), rows("A", at(1), 1, 1), true);
    let open = std::fs::read(place.directory().join("2026-01-05T14.ndjson")).unwrap();
    drop(place.open(at(60)));
    std::fs::write(place.directory().join("2026-01-05T14.ndjson"), open).unwrap();
    assert_eq!(whole(&place.read().runs[&RUN]), rows("A", at(1), 1, 1));
}
