//! DuckDB opens the dataset as it lies, also while it is written.

use super::*;

/// How long what was merged stays aside, and listings come to their end.
const GRACE: Duration = Duration::from_millis(200);

/// Asks again and again until it is told to stop; then tells what it has seen at last.
const SCRIPT: &str = r#"
import duckdb, json, os, sys
root, stop = sys.argv[1:]
table = f"read_parquet('{root}/type=trade/**/*.parquet', hive_partitioning = true)"
asked, seen, failed = 0, 0, 0
while True:
    last = os.path.exists(stop)
    try:
        count, ids, price, size = duckdb.sql(f"select count(*), count(distinct id), sum(price), sum(size) from {table}").fetchone()
    except duckdb.IOException as error:
        # Listed before files were merged, opened after.
        assert "No such file" in str(error), error
        failed += 1
        continue
    assert count == ids, f"{count} rows, {ids} of them different"
    assert count >= seen, f"{count} rows after {seen}"
    # Each is a price of 7 and a size of 1.
    assert (price, size) == (7 * count, count), f"{price}, {size} of {count}"
    asked, seen = asked + 1, count
    if last:
        break
    if asked == 25:
        open(stop + ".asked", "w").close()
types = {name: kind for name, kind, *_ in duckdb.sql(f"describe select * from {table}").fetchall()}
print(json.dumps({"rows": seen, "failed": failed, "types": types}))
"#;

#[test]
fn duckdb_reads_it_while_it_is_written() {
    let Some(python) = test_servers::python(&["duckdb"]) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (root, stop) = (directory.path().join("data"), directory.path().join("stop"));
    let (mut written, mut merged) = (0, Merged::default());
    let output = block_on(async {
        let options = ParquetOptions { every: Duration::from_millis(1), file_bytes: 10_000, merge: false, ..ParquetOptions::default() };
        let mut sink = ParquetSink::open(&root, options).unwrap();
        sink.write(&at(trades(0..100, 1), 7, 1)).await.unwrap();
        sink.flush().await.unwrap();
        let child = python.command().args(["-c", SCRIPT]).arg(&root).arg(&stop).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let child = std::thread::spawn(move || child.wait_with_output().unwrap());
        let asked = directory.path().join("stop.asked");
        let merging = {
            let (root, stop) = (root.clone(), stop.clone());
            // All that can be, as fast as it goes.
            let options = MergeOptions { file_bytes: 2_000_000, ..MergeOptions::default() };
            std::thread::spawn(move || {
                let mut merged = Merged::default();
                while !(stop.exists() || asked.exists() && merged.files_before > 20) {
                    let now = SystemTime::now();
                    let pass =
                        Merger { root: &root, options, now, today: compact::today(now), since: None, grace: GRACE, is_open: &|_| true, goes_on: &|| true };
                    match pass.run() {
                        Ok(more) => merged += more,
                        // A process that is being started has the lock's file open for a moment.
                        Err(error) => assert!(error.to_string().starts_with("somebody else merges"), "{error}"),
                    }
                }
                merged
            })
        };
        while !merging.is_finished() && !child.is_finished() {
            written += 1;
            sink.write(&at(trades(written * 100..(written + 1) * 100, 1 + u32::try_from(written % 3).unwrap()), 7, written + 1)).await.unwrap();
            sink.flush().await.unwrap();
        }
        sink.close().await.unwrap();
        fs::write(&stop, "").unwrap();
        merged = merging.join().unwrap();
        child.join().unwrap()
    });
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(merged.files_before > 20, "small files became larger ones under the reader: {merged:?}");
    assert!(text.contains(&format!("\"rows\": {}", (written + 1) * 100)), "{text}");
    for expected in [
        r#""t": "TIMESTAMP WITH TIME ZONE""#,
        r#""price": "DECIMAL(38,18)""#,
        r#""price_text": "VARCHAR""#,
        r#""trade_id": "VARCHAR""#,
        r#""id": "VARCHAR""#,
        r#""date": "DATE""#,
        r#""venue": "VARCHAR""#,
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

/// Reads every column of every type, and tells their types and some of their values.
const FIELDS: &str = r"
import duckdb, glob, sys
for kind in sorted(glob.glob(sys.argv[1] + '/type=*')):
    duckdb.sql(f'''select count(columns(*)) from read_parquet('{kind}/**/*.parquet')''').fetchall()
    print(kind.rsplit('=')[-1], *[f'{name}:{kind}' for name, kind, *_ in duckdb.sql(f'''describe select * from read_parquet('{kind}/**/*.parquet')''').fetchall()])
print(duckdb.sql(f'''select rate, epoch_us(next_time), interval_hours from read_parquet('{sys.argv[1]}/type=funding/**/*.parquet')''').fetchall())
print(duckdb.sql(f'''select kind, bids, asks from read_parquet('{sys.argv[1]}/type=book/**/*.parquet') order by t''').fetchall())
print(duckdb.sql(f'''select turnover_24h, change_24h from read_parquet('{sys.argv[1]}/type=ticker/**/*.parquet') where last > 1''').fetchall())
";

#[test]
fn duckdb_knows_every_type() {
    let Some(python) = test_servers::python(&["duckdb"]) else { return };
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), ParquetOptions::default(), &[Arc::new(Batch::new(one_of_each()))]);
    let output = python.command().args(["-c", FIELDS]).arg(directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "funding t:TIMESTAMP WITH TIME ZONE et:TIMESTAMP WITH TIME ZONE market:VARCHAR venue_symbol:VARCHAR symbol:VARCHAR origin:VARCHAR id:VARCHAR \
         rate:DECIMAL(38,28) next_time:TIMESTAMP WITH TIME ZONE interval_hours:INTEGER predicted_rate:DECIMAL(38,28)",
        "bids:STRUCT(price DECIMAL(38,18), size DECIMAL(38,18))[]",
        "trades:BIGINT closed:BOOLEAN",
        "[(Decimal('-1E-28'), 9, 8)]",
        "'price': Decimal('1.500000000000000000'), 'size': Decimal('10.000000000000000000')}], []), ('delta', [], [{'price': Decimal('3.000000000000000000')",
        "[(Decimal('99999999999999999999.000000000000000000'), Decimal('-0.0151000000000000000000000000'))]",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert_eq!(text.lines().count(), table::TABLES.len() + 3);
}
