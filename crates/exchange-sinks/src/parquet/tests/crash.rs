//! `kill -9` at any moment, again and again: what was confirmed is there, and nothing twice.

use std::process::{Child, Command, Stdio};

use super::*;

/// Where the child writes. Without it, the child's test has nothing to do.
const ROOT: &str = "COLLECTOR_TEST_PARQUET";
const JOURNAL: u64 = 7;

/// What a journal would deliver: the same batch of each number, however often it is asked for. Each goes to three partitions.
fn delivered(number: u64) -> Arc<Batch> {
    let mut events = trades(number * 10..number * 10 + 7, 1);
    events.extend(trades(number * 10 + 7..number * 10 + 9, 2));
    let mut mark = trades(number * 10 + 9..number * 10 + 10, 1);
    mark[0].body = Body::Mark(Mark { mark: Some(number.to_string().parse().unwrap()), ..Mark::default() });
    events.append(&mut mark);
    at(events, JOURNAL, number)
}

/// What is confirmed, as the collector would keep it.
fn cursor(root: &Path) -> u64 {
    fs::read_to_string(root.join("cursor")).map_or(0, |text| text.parse().unwrap())
}

/// The process that is killed: it delivers from behind what was confirmed, until it is told to stop.
#[test]
fn child() {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else { return };
    block_on(async {
        let options = ParquetOptions { every: Duration::from_millis(20), file_bytes: 30_000, ..ParquetOptions::default() };
        let mut sink = ParquetSink::open(&root.join("data"), options).unwrap();
        let mut number = cursor(&root);
        let data = root.join("data");
        // What it has written becomes larger files beside it. It is stopped by the end of the process.
        std::thread::spawn(move || {
            loop {
                let merged = merged_while_written(&data, MergeOptions { file_bytes: 400_000, ..MergeOptions::default() }).unwrap();
                if merged.files_after > 0 {
                    fs::write(data.with_file_name("merged"), "").unwrap();
                }
            }
        });
        while !root.join("stop").exists() {
            for _ in 0..20 {
                number += 1;
                sink.write(&delivered(number)).await.unwrap();
            }
            sink.flush().await.unwrap();
            fs::write(root.join("next"), number.to_string()).unwrap();
            fs::rename(root.join("next"), root.join("cursor")).unwrap();
        }
        sink.close().await.unwrap();
    });
}

fn start(root: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "parquet::tests::crash::child", "--nocapture"]).env(ROOT, root).stdout(Stdio::null()).spawn().unwrap()
}

fn wait_for_progress(root: &Path, child: &mut Child, least: u64) {
    while cursor(root) < least {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn killed_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for kill in 0..20_u64 {
        let mut child = start(root);
        // Some steps after the last confirmation, each time at another moment.
        wait_for_progress(root, &mut child, cursor(root) + 20 * (1 + kill % 4));
        std::thread::sleep(Duration::from_millis(kill * 7 % 40));
        child.kill().unwrap();
        child.wait().unwrap();
        let confirmed = cursor(root);
        let mut found = ids(&root.join("data"));
        let count = found.len();
        found.sort_unstable();
        found.dedup();
        assert_eq!(count, found.len(), "nothing twice after kill {kill}");
        for number in 1..=confirmed {
            assert!(delivered(number).events().iter().all(|event| found.binary_search(&event.id.to_string()).is_ok()), "batch {number} was confirmed");
        }
    }
    let mut child = start(root);
    wait_for_progress(root, &mut child, cursor(root) + 1);
    fs::write(root.join("stop"), "").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(root.join("merged").exists(), "this is about merging, too");
    let all: String = (1..=cursor(root)).map(|number| String::from_utf8(delivered(number).lines().to_vec()).unwrap()).collect();
    assert!(sorted(&lines(&root.join("data"))) == sorted(&all), "everything once");
}

fn ids(root: &Path) -> Vec<String> {
    let of = |line: &str| line.rsplit_once("\"id\":\"").unwrap().1.trim_end_matches("\"}").to_owned();
    lines(root).lines().map(of).collect()
}

#[test]
fn a_full_disk_loses_nothing() {
    let Some(disk) = test_servers::disk(400 << 10) else { return };
    let data = disk.path().join("data");
    let end = block_on(async {
        let mut sink = ParquetSink::open(&data, small()).unwrap();
        sink.write(&delivered(1)).await.unwrap();
        sink.flush().await.unwrap();
        disk.fill();
        // It may be taken, or refused with a word; in no case is it confirmed.
        let mut next = 2;
        let error = loop {
            match sink.write(&delivered(next)).await {
                Ok(()) => next += 1,
                Err(error) => break error,
            }
            if let Err(error) = sink.flush().await {
                break error;
            }
        };
        assert!(error.is_retryable(), "{error}");
        assert!(error.to_string().ends_with("No space left on device"), "{error}");
        let during = lines(&data);
        assert_eq!(sorted(&during), sorted(std::str::from_utf8(delivered(1).lines()).unwrap()), "what was there is whole");
        disk.free();
        while sink.flush().await.is_err() {
            tokio::task::yield_now().await;
        }
        sink.write(&delivered(next)).await.unwrap();
        sink.close().await.unwrap();
        next
    });
    let all: String = (1..=end).map(|number| String::from_utf8(delivered(number).lines().to_vec()).unwrap()).collect();
    assert_eq!(sorted(&lines(&data)), sorted(&all));
}
