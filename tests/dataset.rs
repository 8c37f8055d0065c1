//! The default sink, as a newcomer meets it: a dataset that DuckDB and Polars open while the collector writes it, with the sums of the
//! lines that went out beside it.
#![cfg(unix)]

mod support;

use serde_json::Value;
use support::{Events, Place, Running, Stdout};

/// Asks the dataset until the collector has ended, then compares it with the lines, type by type and trade by trade.
const SCRIPT: &str = r#"
import duckdb, glob, json, os, polars, sys
data, out, ended = sys.argv[1:]
asked = 0
while not os.path.exists(ended):
    if glob.glob(data + "/type=trade/*/*/*.parquet"):
        count, ids = duckdb.sql(f"select count(*), count(distinct id) from '{data}/type=trade/**/*.parquet'").fetchone()
        assert count == ids, f"{count} trades, {ids} of them different"
        count, ids = polars.scan_parquet(f"{data}/type=trade/**/*.parquet").select(polars.len(), polars.col("id").n_unique()).collect().row(0)
        assert count == ids, f"{count} trades, {ids} of them different, says Polars"
        asked += 1
lines = f"read_ndjson_objects('{out}/*.zst', compression = 'zstd')"
number = lambda name: f"sum(cast(json->>'{name}' as decimal(38,18)))"
of_lines = dict(duckdb.sql(f"select json->>'type', count(*) from {lines} group by 1").fetchall())
rows = {kind: duckdb.sql(f"select count(*) from '{data}/type={kind}/**/*.parquet'").fetchone()[0] for kind in of_lines}
trades = duckdb.sql(f"select venue, sum(price), sum(size), min(epoch_us(t)) from '{data}/type=trade/**/*.parquet' group by 1 order by 1").fetchall()
lines = duckdb.sql(f"select json->>'venue', {number('price')}, {number('size')}, min(cast(json->>'t' as bigint)) from {lines} where json->>'type' = 'trade' group by 1 order by 1").fetchall()
trade = polars.scan_parquet(f"{data}/type=trade/**/*.parquet", hive_partitioning=True)
sums = trade.group_by("venue").agg(polars.sum("price"), polars.sum("size"), polars.min("t").dt.epoch("us")).sort("venue").collect().rows()
types = {name: str(kind) for name, kind in trade.collect_schema().items()}
print(json.dumps({"asked": asked, "rows": rows, "lines": of_lines, "sums": trades == lines, "polars": sums == lines, "types": types}))
"#;

#[test]
fn what_is_in_the_dataset_is_what_went_out() {
    let _alone = support::alone();
    let Some(python) = test_servers::python(&["duckdb", "polars"]) else { return };
    let place = Place::new();
    let ended = place.path("ended");
    let asking = python
        .command()
        .args(["-c", SCRIPT])
        .args([place.path("data"), place.path("out"), ended.clone()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut command = place.collector(
        "run --simulate --exchanges bybit,binance --channels ticker,mark,funding,open_interest,trade,book,quote --sink parquet:data --sink file:out --listen off --for 4s",
    );
    Running::start(&mut command, Stdout::Collect).finish().ok();
    std::fs::write(&ended, "").unwrap();
    let output = asking.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(told["asked"].as_u64().unwrap() > 0, "it could be asked while it was written: {told}");
    assert_eq!(told["rows"], told["lines"]);
    assert_eq!((&told["sums"], &told["polars"]), (&true.into(), &true.into()), "{told}");
    let types = &told["types"];
    assert_eq!((&types["price"], &types["t"]), (&"Decimal(precision=38, scale=18)".into(), &"Datetime(time_unit='us', time_zone='UTC')".into()), "{types}");
    let seen = Events::of_sink(&place.path("out"));
    assert_eq!(told["rows"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum::<u64>(), seen.len() as u64);
}

#[test]
fn without_a_sink_there_is_a_dataset_in_data() {
    let _alone = support::alone();
    let place = Place::new();
    place.run("run --simulate --exchanges bybit --once --listen off").ok();
    assert!(place.path("data/type=ticker/venue=bybit").is_dir());
}
