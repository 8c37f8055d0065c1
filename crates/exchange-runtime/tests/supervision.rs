//! A venue's task that fails is started again, and what was missed meanwhile is told.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exchange_core::plan::{Plan, Want};
use exchange_core::{Batch, Body, Channel, Decoder, Exchange, Market, Mode, Op, Profile, Time, Topic, Venue};
use exchange_runtime::Collector;
use exchange_sinks::{Sink, SinkFuture};

/// A venue whose plan fails once.
struct Clumsy {
    real: &'static dyn Exchange,
    plans: AtomicU32,
}

impl Exchange for Clumsy {
    fn policy(&self) -> &'static str {
        self.real.policy()
    }

    fn plan(&self, profile: &Profile, want: &Want<'_>) -> Plan {
        assert!(self.plans.fetch_add(1, Ordering::Relaxed) > 0, "clumsy on purpose");
        self.real.plan(profile, want)
    }

    fn subscribe(&self, op: Op, topics: &[&Topic], id: u64, time: Time) -> String {
        self.real.subscribe(op, topics, id, time)
    }

    fn decoder(&self, market: Market) -> Box<dyn Decoder> {
        self.real.decoder(market)
    }
}

/// What went out, by kind.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<&'static str>>>);

impl Sink for Seen {
    fn name(&self) -> &'static str {
        "seen"
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        self.0.lock().unwrap().extend(batch.events().iter().map(|event| if let Body::Gap(_) = event.body { "gap" } else { event.body.kind() }));
        Box::pin(async { Ok(()) })
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> SinkFuture<'_> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_is_started_again() {
    let sim = venue_sim::start(&venue_sim::Config { symbols: 3, rate: 100.0, ..venue_sim::Config::default() }).unwrap();
    let real = exchange_venues::all().iter().copied().find(|venue| venue.policy().contains("name = \"bybit\"")).unwrap();
    let clumsy: &'static Clumsy = Box::leak(Box::new(Clumsy { real, plans: AtomicU32::new(0) }));
    let mut profile = Profile::parse(real.policy()).unwrap();
    for surface in profile.markets.values_mut() {
        surface.rest = format!("http://{}/bybit", sim.address());
        surface.ws = format!("ws://{}/bybit", sim.address());
    }
    let seen = Seen::default();
    let builder = Collector::builder().venue(Venue::new(clumsy, profile)).channels([Channel::Ticker, Channel::Trade]).mode(Mode::Auto);
    let collector = builder.sink(Box::new(seen.clone())).start().unwrap();
    let both = || {
        let seen = seen.0.lock().unwrap();
        ["ticker", "trade", "gap"].iter().all(|kind| seen.contains(kind))
    };
    let since = std::time::Instant::now();
    while !both() {
        assert!(since.elapsed() < Duration::from_secs(20), "it was not started again: {:?}", seen.0.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(collector.monitor().is_alive());
    assert_eq!(seen.0.lock().unwrap().iter().filter(|kind| **kind == "gap").count(), 2, "one for each channel");
    collector.stop().await;
    sim.shutdown().await.unwrap();
}
