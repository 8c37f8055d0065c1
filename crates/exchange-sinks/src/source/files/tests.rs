use std::io::Write as _;
use std::ops::Range;

use exchange_core::Time;

use super::*;
use crate::contract::{batch, block_on, read, read_lines};
use crate::file::{FileOptions, FileSink};
use crate::sink::Sink as _;
use crate::source::SourceUri;

fn open(path: &Path, from: Since, follow: bool) -> Box<dyn Source> {
    SourceUri::parse(&format!("file:{}", path.display())).unwrap().open(Reading { from, follow }).unwrap()
}

fn text(ids: Range<u64>) -> String {
    String::from_utf8(batch(ids).lines().to_vec()).unwrap()
}

#[test]
fn what_a_file_sink_wrote_is_read() {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        let mut sink = FileSink::open(directory.path(), FileOptions { rotate_bytes: 10_000, ..FileOptions::default() }).unwrap();
        for n in 0..50 {
            sink.write(&batch(n * 100..(n + 1) * 100)).await.unwrap();
            sink.flush().await.unwrap();
        }
        sink.close().await.unwrap();
    });
    std::fs::write(directory.path().join("notes.txt"), "not ours").unwrap();
    let names = list(directory.path()).unwrap();
    assert!(names.len() > 5);
    assert_eq!(read(open(directory.path(), Since::Start, false)), (text(0..5000), Vec::new()));
    assert_eq!(read(open(&names[0], Since::Start, false)).0.lines().count(), 100);
    assert_eq!(read(open(directory.path(), Since::Now, false)).0, "");
}

#[test]
fn only_what_was_received_since_then() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.ndjson");
    std::fs::write(&path, text(0..3).replacen("\"t\":1,", "\"t\":5000,", 1)).unwrap();
    let lines = read(open(&path, Since::Time(Time::from_micros(2)), false)).0;
    assert_eq!(lines, text(0..1).replace("\"t\":1,", "\"t\":5000,"));
    let tomorrow = Since::Time(Time::from_micros(i64::MAX));
    assert_eq!(read(open(&path, tomorrow, false)).0, "");
}

#[test]
fn a_bad_line_or_file_costs_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let bad = format!("{}\n\nnot an event\n{}{{}}\n{}", text(0..2).trim_end(), text(2..3), text(3..4).trim_end());
    std::fs::write(directory.path().join("1.ndjson"), bad).unwrap();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(text(0..20_000).as_bytes()).unwrap();
    let mut damaged = encoder.finish().unwrap();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 100].fill(0xff);
    std::fs::write(directory.path().join("2.ndjson.zst"), damaged).unwrap();
    let torn = zstd::encode_all(text(4..8).as_bytes(), 1).unwrap();
    std::fs::write(directory.path().join("3.ndjson.zst"), &torn[..torn.len() - 4]).unwrap();
    std::fs::write(directory.path().join("4.ndjson"), text(8..9)).unwrap();
    let (lines, errors) = read(open(directory.path(), Since::Start, false));
    let own = |lines: &str| lines.contains(&text(0..4)) && lines.ends_with(&text(8..9));
    assert!(own(&lines), "{} bytes", lines.len());
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("2.ndjson.zst` beyond line "), "{errors:?}");
}

#[test]
fn what_is_not_there_is_an_error_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let refused =
        |text: &str, follow| SourceUri::parse(text).and_then(|uri| uri.open(Reading { from: Since::Start, follow })).map(drop).unwrap_err().to_string();
    let path = directory.path().display();
    assert_eq!(refused(&format!("file:{path}/no"), true), format!("cannot read `{path}/no`: No such file or directory"));
    assert_eq!(refused(&format!("file:{path}"), false), format!("there are no files of event lines (`*.ndjson`, `*.ndjson.zst`) in `{path}`"));
    assert_eq!(refused("file:", false), "`file:`: it lacks a directory or a file (such as `file:./data`)");
    let unknown = refused("ftp://me:secret@h/x", false);
    assert!(unknown.starts_with("`ftp://***@h/x` is nothing that this build reads events from: there are `file:DIR`, `stdin:`"), "{unknown}");
    assert_eq!(refused("stdin:x", false), "`stdin:x`: nothing goes behind `stdin:`");
}

#[test]
fn what_is_being_written_is_followed_over_files_and_a_writers_death() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    block_on(async {
        std::fs::write(path.join("a.ndjson"), text(0..5)).unwrap();
        let mut past = open(path, Since::Start, true);
        assert_eq!(read_lines(&mut past, 5).await, text(0..5));
        let mut now = open(path, Since::Now, true);
        // A writer that dies within a line, and one that comes after it.
        let mut dying = zstd::Encoder::new(std::fs::File::create(path.join("b.ndjson.zst")).unwrap(), 1).unwrap();
        dying.write_all(&text(5..20_000).into_bytes()[..1_500_000]).unwrap();
        dying.flush().unwrap();
        let whole = text(5..20_000)[..1_500_000].lines().count() - 1;
        let wanted = text(5..5 + whole as u64);
        assert!(read_lines(&mut past, whole).await == wanted);
        std::mem::forget(dying);
        std::fs::write(path.join("c.ndjson"), text(30_000..30_001)).unwrap();
        assert_eq!(read_lines(&mut past, 1).await, text(30_000..30_001));
        // It may have begun a little later than the first of them was written.
        let mut seen = String::new();
        while !seen.ends_with(&text(30_000..30_001)) {
            seen += &read_lines(&mut now, 1).await;
        }
        assert!(!seen.contains(&text(0..5)));
        let mut growing = std::fs::OpenOptions::new().append(true).open(path.join("c.ndjson")).unwrap();
        growing.write_all(text(30_001..30_002).as_bytes()).unwrap();
        for source in [&mut past, &mut now] {
            assert_eq!(read_lines(source, 1).await, text(30_001..30_002));
        }
    });
}
