//! What sinks hold that others than the test keep.

use std::net::SocketAddr;
use std::path::Path;

use exchange_core::Body;
use redis::streams::StreamRangeReply;
use test_servers::Python;

use super::{Events, Place, block_on};

/// The ids of all rows of a dataset.
pub(crate) fn in_parquet(python: &Python, data: &Path) -> Vec<String> {
    const SCRIPT: &str = "import duckdb, glob, sys
for kind in glob.glob(sys.argv[1] + '/type=*'):
    for row in duckdb.sql(f\"select id from '{kind}/**/*.parquet'\").fetchall():
        print(row[0])";
    let output = python.command().args(["-c", SCRIPT]).arg(data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The ids of all rows in a database; none was rejected.
pub(crate) fn in_postgres(address: &str) -> Vec<String> {
    let ids = async {
        let (client, connection) = tokio_postgres::connect(address, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let rejected: i64 = client.query_one("SELECT count(*) FROM collector.rejected", &[]).await.unwrap().get(0);
        assert_eq!(rejected, 0);
        let mut ids = Vec::new();
        for kind in Body::KINDS {
            let rows = client.query(&format!("SELECT replace(id::text, '-', '') FROM collector.{kind}"), &[]).await.unwrap();
            ids.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        }
        ids
    };
    block_on(ids)
}

/// The events in a stream of a server, each of which is there once.
pub(crate) fn tailed(place: &Place, address: &str) -> Events {
    let tail = place.run(&format!("tail {address} --no-follow")).ok();
    // Nothing was left out: it is the stream itself that has each once.
    assert!(tail.stderr.contains(", 0 repetitions left out"), "{}", tail.stderr);
    Events::parse(&tail.stdout)
}

/// The events in all streams of a Redis.
pub(crate) fn in_redis(address: SocketAddr) -> Events {
    let lines = async {
        let mut connection = redis::Client::open(format!("redis://{address}")).unwrap().get_multiplexed_async_connection().await.unwrap();
        let mut lines = String::new();
        for kind in Body::KINDS {
            let stream: StreamRangeReply = redis::cmd("XRANGE").arg(format!("collector:{kind}")).arg(&["-", "+"]).query_async(&mut connection).await.unwrap();
            for entry in stream.ids {
                lines.push_str(entry.get::<String>("line").unwrap().trim_end());
                lines.push('\n');
            }
        }
        lines
    };
    Events::parse(&block_on(lines))
}
