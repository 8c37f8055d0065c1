//! That what the sink wrote comes back equal is shown by the sink's own tests, which read this way.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::parquet::data_type::{ByteArrayType, Int64Type};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use exchange_core::{Batch, Time};

use super::super::compact::Merger;
use super::super::tests::{files, noon, trades};
use super::super::{MergeOptions, ParquetOptions, ParquetSink};
use super::*;
use crate::contract::{block_on, read, read_on};
use crate::sink::Sink as _;
use crate::source::SourceUri;

fn source(root: &Path, from: Since) -> Box<dyn Source> {
    SourceUri::parse(&format!("parquet:{}", root.display())).unwrap().open(Reading { from, follow: false }).unwrap()
}

/// Each batch into a file of its own.
fn write(root: &Path, batches: impl IntoIterator<Item = Batch>) {
    block_on(async {
        let mut sink = ParquetSink::open(root, ParquetOptions { file_bytes: 1, merge: false, ..ParquetOptions::default() }).unwrap();
        for batch in batches {
            sink.write(&Arc::new(batch)).await.unwrap();
            sink.flush().await.unwrap();
        }
        sink.close().await.unwrap();
    });
}

fn text(ids: std::ops::Range<u64>, day: u32) -> String {
    String::from_utf8(Batch::new(trades(ids, day)).lines().to_vec()).unwrap()
}

#[test]
fn days_come_in_order_from_when_it_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, [(0..10, 3), (10..20, 1), (20..30, 2)].map(|(ids, day)| Batch::new(trades(ids, day))));
    let of = |from| read(source(root, from));
    assert_eq!(of(Since::Start), (text(10..20, 1) + &text(20..30, 2) + &text(0..10, 3), Vec::new()));
    assert_eq!(of(Since::Time(noon(2))), (text(20..30, 2) + &text(0..10, 3), Vec::new()));
    assert_eq!(of(Since::Time(noon(2) + Duration::from_micros(1))), (text(0..10, 3), Vec::new()), "its own day is read, and of it what came later");
    assert_eq!(of(Since::Now), (String::new(), Vec::new()));
}

#[test]
fn a_file_that_is_damaged_costs_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, [Batch::new(trades(0..10, 1)), Batch::new(trades(10..5000, 1)), Batch::new(trades(5000..5010, 1))]);
    let paths = files(root);
    let mut bytes = fs::read(&paths[1]).unwrap();
    // Where the first column begins.
    bytes[4..1000].fill(0xff);
    fs::write(&paths[1], bytes).unwrap();
    fs::write(paths[0].with_file_name("zzz.parquet"), "no parquet").unwrap();
    let (lines, errors) = read(source(root, Since::Start));
    assert!(lines.starts_with(&text(0..10, 1)) && lines.ends_with(&text(5000..5010, 1)), "{} bytes", lines.len());
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with(&format!("cannot read `{}` beyond row ", paths[1].display())), "{errors:?}");
    assert!(errors[1].contains("zzz.parquet`: "), "{errors:?}");
}

/// A file of funding rates of another version's making: it has no rate but as text, and a column that is not known here.
fn other(root: &Path, schema: &str, kind: &str, rate: &str) {
    let columns = "required int64 t (timestamp_micros); required binary market (utf8); required binary venue_symbol (utf8); optional binary rate_text (utf8); optional binary mood (utf8); required binary id (utf8);";
    let message = Arc::new(parse_message_type(&format!("message funding {{ optional int64 rate; {columns} }}")).unwrap());
    let folder = root.join(format!("type={kind}/venue=bybit/date=2026-03-01"));
    fs::create_dir_all(&folder).unwrap();
    let mut writer = SerializedFileWriter::new(File::create(folder.join("part-other.parquet")).unwrap(), message, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut next = group.next_column().unwrap().unwrap();
    next.typed::<Int64Type>().write_batch(&[], Some(&[0]), None).unwrap();
    next.close().unwrap();
    let mut next = group.next_column().unwrap().unwrap();
    next.typed::<Int64Type>().write_batch(&[5], None, None).unwrap();
    next.close().unwrap();
    for (text, optional) in [("linear", false), ("BTCUSDT", false), (rate, true), ("calm", true), (&"ab".repeat(16), false)] {
        let mut next = group.next_column().unwrap().unwrap();
        next.typed::<ByteArrayType>().write_batch(&[text.into()], optional.then_some(&[1]), None).unwrap();
        next.close().unwrap();
    }
    group.close().unwrap();
    for (key, value) in [("collector.schema", schema), ("collector.type", kind), ("collector.venue", "bybit")] {
        writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value.to_owned()));
    }
    writer.close().unwrap();
}

#[test]
fn files_of_other_versions_are_read_as_far_as_they_can_be_and_named_beyond() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let rate = "0.00000000000000000000000000001";
    for (schema, kind) in [("1", "funding"), ("1", "mood"), ("2", "mark"), ("1", "book")] {
        other(root, schema, kind, rate);
    }
    let (lines, errors) = read(source(root, Since::Start));
    let id = "ab".repeat(16);
    let wanted = r#"{"type":"funding","venue":"bybit","market":"linear","venue_symbol":"BTCUSDT","t":5,"rate":""#;
    assert_eq!(lines, format!("{wanted}{rate}\",\"id\":\"{id}\"}}\n"));
    let told: Vec<&str> = errors.iter().map(|error| error.split_once(".parquet`: ").unwrap().1).collect();
    let unknown = "events of the type `mood` are not known here";
    assert_eq!(told, ["it lacks the column `kind`", "its events are of schema 2, and this collector knows 1", unknown]);
}

#[test]
fn a_row_that_is_no_event_is_told() {
    let directory = tempfile::tempdir().unwrap();
    other(directory.path(), "1", "funding", "much");
    let (lines, errors) = read(source(directory.path(), Since::Start));
    assert!(lines.is_empty() && errors.len() == 1 && errors[0].ends_with("1 of its rows are no events (each is named in the log)"), "{errors:?}");
}

#[test]
fn what_is_being_read_is_not_merged_away() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    // More than waits to be asked for.
    write(root, (0..4).map(|n| Batch::new(trades(n * 5000..(n + 1) * 5000, 1))));
    let mut source = source(root, Since::Start);
    let merge = {
        let root = root.to_owned();
        move || {
            let options = MergeOptions { quiet: Duration::ZERO, ..MergeOptions::default() };
            let today = Time::from_date(2026, 3, 5).unwrap();
            Merger { root: &root, options, today, now: SystemTime::now(), since: None, grace: Duration::ZERO, is_open: &|_| false, goes_on: &|| true }
                .run()
                .unwrap()
        }
    };
    block_on(async {
        let mut lines = String::from_utf8(source.next().await.unwrap().unwrap().lines().to_vec()).unwrap();
        let merging = std::thread::spawn(merge);
        // Long enough for it to be done, if it were not to wait.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!merging.is_finished());
        let (rest, errors) = read_on(source).await;
        lines += &rest;
        assert!(errors.is_empty() && lines == text(0..20_000, 1), "{errors:?}");
        assert_eq!(merging.join().unwrap().files_after, 1);
    });
    assert!(read(self::source(root, Since::Start)).0 == text(0..20_000, 1));
}

#[test]
fn what_cannot_be_read_so_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let refused = |follow| {
        let uri = SourceUri::parse(&format!("parquet:{}", root.display())).unwrap();
        uri.open(Reading { from: Since::Start, follow }).map(drop).unwrap_err().to_string()
    };
    assert_eq!(refused(false), format!("there is no dataset (`type=…/venue=…/date=…`) in `{}`", root.display()));
    write(root, [Batch::new(trades(0..10, 1))]);
    assert_eq!(refused(true), format!("`parquet:{}`: a dataset is read as it is, and not followed (`--no-follow`)", root.display()));
    assert!(SourceUri::of_path(&root.display().to_string()).unwrap().to_string().starts_with("parquet:"));
    fs::write(root.join("x.ndjson"), "").unwrap();
    let both = SourceUri::of_path(&root.display().to_string()).unwrap_err().to_string();
    assert!(both.contains("holds event lines and a dataset: say which of them, `file:"), "{both}");
}
