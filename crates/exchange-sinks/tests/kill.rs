//! What the file sink wrote is readable after the process was killed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use exchange_core::event::{Ident, Trade};
use exchange_core::{Batch, Body, Decimal, Event, Instrument, Market, Time};
use exchange_sinks::SinkUri;

const CHILD: &str = "SINK_TEST_DIRECTORY";
const TEST: &str = "records_survive_a_kill";

/// In the child: writes until it is killed, and says on standard output how many records were flushed.
fn write_until_killed(directory: &str) {
    let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "BTCUSDT", None));
    let trade = |id: u64| Trade { trade_id: Some(Ident::Number(id)), price: Decimal::from(7), size: Decimal::from(1), size_base: None, side: None };
    let mut sink = SinkUri::parse(&format!("file:{directory}")).unwrap().open().unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        for round in 0_u64.. {
            let events = (0..997).map(|n| Event::new(instrument.clone(), Time::EPOCH, None, Body::Trade(trade(round * 997 + n)))).collect();
            sink.write(&Arc::new(Batch::new(events))).await.unwrap();
            if round % 5 == 4 {
                sink.flush().await.unwrap();
                println!("flushed {}", (round + 1) * 997);
            }
        }
    });
}

/// The ids of all whole records in the one file of a directory.
fn read(directory: &Path) -> Vec<u64> {
    let file = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let mut text = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::new(std::fs::File::open(file).unwrap()).unwrap();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = decoder.read(&mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let id = |line: &str| line.split("\"trade_id\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().parse().unwrap();
    std::str::from_utf8(&text[..whole]).unwrap().lines().inspect(|line| assert!(line.starts_with('{') && line.ends_with('}'), "{line}")).map(id).collect()
}

#[test]
fn records_survive_a_kill() {
    if let Ok(directory) = std::env::var(CHILD) {
        return write_until_killed(&directory);
    }
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(CHILD, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The test harness prefixes the first of them with its own words.
    let flushed = lines.map_while(Result::ok).filter_map(|line| line.split_once("flushed ")?.1.parse::<u64>().ok()).nth(2).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let ids = read(directory.path());
    assert!(ids.len() as u64 >= flushed, "{} records, {flushed} flushed", ids.len());
    assert!(ids.iter().copied().eq(0..ids.len() as u64), "every record once, in order");
}
