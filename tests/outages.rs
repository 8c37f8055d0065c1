//! What is around the collector fails while it runs under load: the servers of its sinks are killed, the network to them is cut, disks
//! are full, directories read-only. Afterwards nothing is missing, or what is missing lies inside gaps that say so; and those sinks
//! whose place is well go on all the time.
#![cfg(unix)]

mod support;

use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::time::Instant;

use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use rustix::process::Signal;
use serde_json::Value;
use support::{
    Events, FILES, Finished, Line, PATIENCE, Place, RATE, Running, Sim, Stdout, WRITTEN, block_on, eventually, goes_on, in_parquet, in_postgres, in_redis,
    loaded, market, missing_in_gaps, served, tailed, within,
};
use test_servers::{POSTGRES_PASSWORD, Proxy, Server};

/// The venues go, and the run ends; what waits for a sink then is the next run's. What was said until then, and what the venues served.
fn end(run: Running, sim: Sim, next: &mut Command) -> (Finished, Events) {
    let (_, truth) = sim.end();
    run.settle();
    let ended = run.stop().ok();
    if ended.stderr.contains("wait in the journal") {
        Running::start(next.args(["--for", "1s"]), Stdout::Collect).finish().ok();
    }
    (ended, truth)
}

/// Both have the same events; `exact` where none may be there twice.
#[track_caller]
fn assert_same_ids(sink: &str, found: &[String], wanted: &Events, exact: bool) {
    let ids: HashSet<&str> = found.iter().map(String::as_str).collect();
    assert!(!exact || ids.len() == found.len(), "{sink} holds {} of {} twice", found.len() - ids.len(), found.len());
    let lacking: Vec<_> = wanted.lines().filter(|line| !ids.contains(line.id())).collect();
    assert!(lacking.is_empty(), "{sink} lacks {} of {} events, such as {:?}", lacking.len(), wanted.len(), lacking.first());
    let wanted: HashSet<&str> = wanted.lines().map(Line::id).collect();
    assert_eq!(ids.difference(&wanted).count(), 0, "{sink} has what the files have not");
    eprintln!("{sink}: {} events, {} of them more than once", ids.len(), found.len() - ids.len());
}

/// A sink with a server, and a network to it.
struct Store {
    scheme: &'static str,
    /// Through the network.
    sink: String,
    network: Proxy,
    server: Server,
    outages: &'static [Outage],
}

#[derive(Debug, Clone, Copy)]
enum Outage {
    Killed,
    /// Connections are closed and new ones refused.
    Refused,
    /// Connections stay open, new ones are taken, and nothing passes; what was on its way arrives when the sink has long given it up.
    Silent,
}

use Outage::{Killed, Refused, Silent};

impl Store {
    fn new(scheme: &'static str, server: Option<Server>, sink: impl FnOnce(&Proxy) -> String, outages: &'static [Outage]) -> Option<Self> {
        let server = server?;
        let network = Proxy::to(server.address());
        Some(Self { scheme, sink: sink(&network), network, server, outages })
    }

    /// Goes through its outages, each of which lasts until the sink has noticed it and the files have gone on.
    fn suffer(&mut self, run: &Running) {
        let (up, errors) = ("collector_sink_up", "collector_sink_errors_total");
        for outage in self.outages {
            let failed = run.of_sink(errors, self.scheme);
            match outage {
                Killed => self.server.kill(),
                Refused => self.network.refuse(),
                Silent => self.network.stall(),
            }
            eventually("trouble", || (run.of_sink(up, self.scheme) == 0 || run.of_sink(errors, self.scheme) > failed).then_some(()));
            goes_on(run, 2000);
            match outage {
                Killed => self.server.restart(),
                Refused | Silent => self.network.heal(),
            }
            let (since, written) = (Instant::now(), run.of_sink(WRITTEN, self.scheme));
            // It may have paused for as long as the server took to start.
            let back = || (run.of_sink(up, self.scheme) == 1 && run.of_sink(WRITTEN, self.scheme) > written).then_some(());
            within(2 * PATIENCE, "more in the server", back);
            eprintln!("{} {outage:?}: written to again after {:.1?}", self.scheme, since.elapsed());
        }
    }
}

fn in_rabbitmq(server: &Server, queue: &str) -> Vec<String> {
    block_on(async {
        let address = format!("amqp://guest:guest@{}/%2f", server.address());
        let connection = Connection::connect(&address, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let there = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let count = channel.queue_declare(queue.into(), there, FieldTable::default()).await.unwrap().message_count();
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let messages = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap();
        messages.take(count as usize).map(|message| message.unwrap().properties.message_id().as_ref().unwrap().to_string()).collect().await
    })
}

#[test]
fn servers_are_killed_and_cut_off_under_load_and_have_everything_in_the_end() {
    let _alone = support::alone();
    let place = Place::new();
    let rabbitmq = std::thread::spawn(test_servers::rabbitmq);
    let postgres = |network: &Proxy| format!("postgres://postgres:{POSTGRES_PASSWORD}@{}/postgres?timeout=3s", network.address());
    let redis = |network: &Proxy| format!("redis://{}?maxlen=0&timeout=3s", network.address());
    let nats = |network: &Proxy| format!("nats://{}/ticks?duplicate_window=10m", network.address());
    let amqp = |network: &Proxy| format!("amqp://{}/?queue=ticks", network.address());
    let stores = [
        Store::new("postgres:", test_servers::postgres(), postgres, &[Killed, Refused, Killed, Silent, Killed]),
        Store::new("redis:", test_servers::redis(), redis, &[Killed, Refused, Killed, Silent, Killed]),
        Store::new("nats:", test_servers::nats(), nats, &[Killed, Refused, Killed, Silent, Killed]),
        Store::new("amqp:", rabbitmq.join().unwrap(), amqp, &[Killed, Refused, Silent, Killed]),
    ];
    let mut stores: Vec<Store> = stores.into_iter().flatten().collect();
    if stores.is_empty() {
        return;
    }
    let sim = Sim::start(market(3, RATE));
    let sinks: Vec<&str> = std::iter::once(FILES).chain(stores.iter().map(|store| store.sink.as_str())).collect();
    let mut command = loaded(&place, &sim, &sinks);
    let run = Running::start(&mut command, Stdout::Collect);
    goes_on(&run, 2000);
    std::thread::scope(|scope| {
        let run = &run;
        let suffering: Vec<_> = stores.iter_mut().map(|store| scope.spawn(move || store.suffer(run))).collect();
        let survived = suffering.into_iter().all(|store| store.join().is_ok());
        assert!(survived, "{}", run.stderr());
    });
    end(run, sim, &mut command);
    let seen = Events::of_sink(&place.path("out"));
    seen.assert_once();
    assert_eq!(seen.gaps("overflow"), Vec::<Value>::new());
    for store in &stores {
        let address = store.server.address();
        match store.scheme {
            "postgres:" => assert_same_ids("postgres", &in_postgres(&format!("postgres://postgres:{POSTGRES_PASSWORD}@{address}/postgres")), &seen, true),
            "redis:" => assert_same_ids("redis", &in_redis(address).ids(), &seen, true),
            "nats:" => assert_same_ids("nats", &tailed(&place, &format!("nats://{address}/ticks")).ids(), &seen, true),
            // Its protocol has no way to say each once.
            _ => assert_same_ids("amqp", &in_rabbitmq(&store.server, "ticks"), &seen, false),
        }
    }
    place.run("audit").ok();
}

#[test]
fn a_full_disk_under_the_journal_costs_the_oldest_and_says_so() {
    let _alone = support::alone();
    let Some(server) = test_servers::redis() else { return };
    let Some(disk) = test_servers::disk(10 << 20) else { return };
    let (place, network) = (Place::new(), Proxy::to(server.address()));
    let sim = Sim::start(market(3, 2.0 * RATE));
    let redis = format!("redis://{}?maxlen=0&latest=off", network.address());
    let mut command = loaded(&place, &sim, &[FILES, &redis]);
    // It has more room by its settings than there is.
    command.args(["--set", "spool.max_size=16MiB", "--state"]).arg(disk.path().join("state"));
    let run = Running::start(&mut command, Stdout::Collect);
    eventually("events in the server", || (run.of_sink(WRITTEN, "redis:") > 1000).then_some(()));

    // What waits for a server that is away takes all room there is: the oldest goes.
    network.refuse();
    let lost = |run: &Running| run.of_sink("collector_spool_lost_events_total", "redis:");
    eventually("a full disk", || (lost(&run) > 0).then_some(()));
    goes_on(&run, 2000);
    // Somebody else takes that, too: nothing can be kept.
    let dropped = |run: &Running| run.of_sink("collector_events_dropped_total", FILES);
    eventually("no room at all", || {
        disk.fill();
        (dropped(&run) > 2000).then_some(())
    });
    disk.free();
    let since = Instant::now();
    goes_on(&run, 2000);
    eprintln!("room again: 2000 events are in the files after {:.1?}", since.elapsed());
    network.heal();
    eventually("the end of the backlog", || (run.of_sink("collector_sink_backlog_batches", "redis:") == 0).then_some(()));
    let (counted, given_up) = (lost(&run), dropped(&run));
    let (ended, truth) = end(run, sim, &mut command);
    for word in ["no room in the journal: the oldest goes", "the journal takes nothing: events are given up", "the journal takes events again"] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }

    let (seen, stored) = (Events::of_sink(&place.path("out")), in_redis(server.address()));
    seen.assert_once();
    stored.assert_once();
    let in_files = missing_in_gaps(served(&truth, &seen), &seen).len();
    let in_server = missing_in_gaps(seen.lines(), &stored).len();
    eprintln!("the files lack {in_files} of {}, {given_up} given up; the server lacks {in_server} of theirs, {counted} counted", truth.len());
    assert!(in_files > 500, "{in_files} missing");
    assert_eq!(in_server as u64, counted, "each loss is counted");
    let audit = place.run(&format!("audit --json --state {}", disk.path().join("state").display())).ok();
    let audit: Value = serde_json::from_str(&audit.stdout).unwrap();
    let rows = audit["ledgers"][0]["rows"].as_array().unwrap();
    let sum = |sink: &str, what: &str| rows.iter().map(|row| row["sinks"][sink][what].as_u64().unwrap()).sum::<u64>();
    let redis = redis.split('?').next().unwrap();
    assert_eq!([sum(FILES, "waiting"), sum(FILES, "lost"), sum(FILES, "dropped")], [0, 0, given_up]);
    assert_eq!([sum(redis, "waiting"), sum(redis, "lost"), sum(redis, "dropped")], [0, counted, given_up]);
}

/// Whoever restarts a collector whose disk has filled up gets one that collects, and not an error.
#[test]
fn a_start_on_a_full_disk_costs_the_oldest_and_says_so() {
    let _alone = support::alone();
    let Some(server) = test_servers::redis() else { return };
    let Some(disk) = test_servers::disk(10 << 20) else { return };
    let (place, network) = (Place::new(), Proxy::to(server.address()));
    let sim = Sim::start(market(3, RATE));
    let redis = format!("redis://{}?maxlen=0&latest=off", network.address());
    let mut command = loaded(&place, &sim, &[FILES, &redis]);
    command.args(["--set", "spool.max_size=16MiB", "--state"]).arg(disk.path().join("state"));
    network.refuse();
    let run = Running::start(&mut command, Stdout::Collect);
    goes_on(&run, 5000);
    run.signal(Signal::KILL);
    drop(run);
    disk.fill();
    let run = Running::start(&mut command, Stdout::Collect);
    eventually("room made", || (run.of_sink("collector_spool_lost_events_total", "redis:") > 0).then_some(()));
    disk.free();
    goes_on(&run, 2000);
    network.heal();
    let (_, truth) = end(run, sim, &mut command);
    let (seen, stored) = (Events::of_killed(&place.path("out")), in_redis(server.address()));
    let in_files = missing_in_gaps(served(&truth, &seen), &seen).len();
    let in_server = missing_in_gaps(seen.lines(), &stored).len();
    eprintln!("the files lack {in_files} of {}; the server lacks {in_server} of theirs", truth.len());
    assert!(in_server > 2000, "{in_server} missing");
}

#[test]
fn a_full_disk_under_the_dataset_loses_nothing() {
    let _alone = support::alone();
    let Some(python) = test_servers::python(&["duckdb"]) else { return };
    let Some(disk) = test_servers::disk(48 << 20) else { return };
    let (place, sim) = (Place::new(), Sim::start(market(3, RATE)));
    let data = disk.path().join("data");
    let mut command = loaded(&place, &sim, &[FILES, &format!("parquet:{}", data.display())]);
    let run = Running::start(&mut command, Stdout::Collect);
    for _ in 0..2 {
        goes_on(&run, 1000);
        let failed = run.of_sink("collector_sink_retries_total", "parquet:");
        eventually("a full disk", || {
            disk.fill();
            (run.of_sink("collector_sink_retries_total", "parquet:") > failed).then_some(())
        });
        goes_on(&run, 4000);
        let (since, written) = (Instant::now(), run.of_sink(WRITTEN, "parquet:"));
        disk.free();
        eventually("more in the dataset", || (run.of_sink(WRITTEN, "parquet:") > written).then_some(()));
        eprintln!("the dataset is written again after {:.1?}", since.elapsed());
    }
    end(run, sim, &mut command);
    let seen = Events::of_sink(&place.path("out"));
    seen.assert_once();
    assert_same_ids("parquet", &in_parquet(&python, &data), &seen, true);
    place.run("audit").ok();
}

/// A log on a full disk: nothing that would be said is worth an event.
#[cfg(target_os = "linux")]
#[test]
fn a_log_that_takes_nothing_costs_nothing() {
    let _alone = support::alone();
    let Some(server) = test_servers::redis() else { return };
    let (place, network) = (Place::new(), Proxy::to(server.address()));
    let sim = Sim::start(market(3, RATE));
    let mut command = loaded(&place, &sim, &[FILES, &format!("redis://{}?maxlen=0&latest=off", network.address())]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    // Each attempt to reach it would be told.
    network.refuse();
    let mut run = command.args(["--for", "5s"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(full).spawn().unwrap();
    eventually("events in the files", || (Events::of_killed(&place.path("out")).len() > 3000).then_some(()));
    network.heal();
    let status = run.wait().unwrap();
    let seen = Events::of_sink(&place.path("out"));
    assert_same_ids("redis", &in_redis(server.address()).ids(), &seen, true);
    assert_eq!(status.code(), Some(0));
    drop(sim);
}

#[test]
fn a_directory_that_is_read_only_at_the_start_is_named() {
    let place = Place::new();
    for directory in ["data", "state/mine"] {
        std::fs::create_dir_all(place.path(directory)).unwrap();
        let Some(_locked) = test_servers::read_only(&place.path(directory)) else { return };
        let refused = place.run("run --simulate --exchanges bybit --once --listen off --name mine --sink parquet:data --state state/mine");
        assert_eq!(refused.status, Some(2), "{}", refused.stderr);
        eprintln!("{}", refused.stderr);
        let told = refused.stderr.lines().last().unwrap();
        let option = if directory == "data" { "--sink" } else { "--state" };
        assert!(told.contains(directory) && told.contains("Read-only file system") && told.contains(option), "{told}");
    }
}

#[test]
fn a_directory_that_becomes_read_only_under_load_and_writable_again() {
    let _alone = support::alone();
    let Some(python) = test_servers::python(&["duckdb"]) else { return };
    let (place, sim) = (Place::new(), Sim::start(market(3, 2.0 * RATE)));
    // Files of both kinds, which are begun again and again.
    let turning = "file:turning?size=256KiB";
    let mut command = loaded(&place, &sim, &[FILES, "parquet:data", turning]);
    let run = Running::start(command.args(["--set", "spool.max_size=16MiB"]), Stdout::Collect);
    goes_on(&run, 2000);
    for (directory, sink) in [("data", "parquet:"), ("turning", "file:turning")] {
        let Some(locked) = test_servers::read_only(&place.path(directory)) else { return };
        eventually("trouble", || (run.of_sink("collector_sink_up", sink) == 0).then_some(()));
        goes_on(&run, 4000);
        let (since, written) = (Instant::now(), run.of_sink(WRITTEN, sink));
        drop(locked);
        eventually("more in it", || (run.of_sink(WRITTEN, sink) > written).then_some(()));
        eprintln!("{directory} is written to again after {:.1?}", since.elapsed());
    }
    // The journal goes on in the file that is open, until the next shall begin.
    let locked = test_servers::read_only(&place.path("state")).unwrap();
    eventually("nothing kept", || (run.of_sink("collector_events_dropped_total", FILES) > 2000).then_some(()));
    drop(locked);
    let since = Instant::now();
    goes_on(&run, 2000);
    eprintln!("the journal takes events again: 2000 more after {:.1?}", since.elapsed());
    let (_, truth) = end(run, sim, &mut command);
    let seen = Events::of_sink(&place.path("out"));
    seen.assert_once();
    let missing = missing_in_gaps(served(&truth, &seen), &seen).len();
    eprintln!("{missing} of {} are missing, all of them inside gaps", truth.len());
    assert!(missing > 500, "{missing} missing");
    assert_same_ids("parquet", &in_parquet(&python, &place.path("data")), &seen, true);
    assert_same_ids("turning", &Events::of_sink(&place.path("turning")).ids(), &seen, true);
    place.run("audit").ok();
}
