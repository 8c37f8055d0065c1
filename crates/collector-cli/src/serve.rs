//! `--listen`: metrics, health, digests and the last known states over HTTP.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use exchange_runtime::{Monitor, VenueStatus};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use tokio::net::TcpListener;

use crate::latest;

/// From half a millisecond to half a minute: requests and event lags alike.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Installs the recorder of the `metrics` facade; only a program may do that, once.
pub(crate) fn install_recorder() -> anyhow::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?;
    let handle = builder.install_recorder().context("cannot set up metrics")?;
    describe();
    Ok(handle)
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("collector_events_total", "Events that went out, by venue and channel.");
    describe_counter!("collector_unchanged_total", "States that repeated the last known value.");
    describe_counter!("collector_duplicates_total", "Events whose id had gone out before.");
    describe_counter!("collector_gaps_total", "Known losses of continuity.");
    describe_counter!("collector_decode_errors_total", "Messages or records that could not be decoded.");
    describe_counter!("collector_events_dropped_total", "Events given up because a sink did not keep up; each loss is a gap event, too.");
    describe_counter!("collector_ledger_errors_total", "Failed attempts to write the ledger; its rows are kept for the next.");
    describe_counter!("collector_http_requests_total", "Requests by venue, endpoint and outcome.");
    describe_counter!("collector_reconnects_total", "WebSocket connections that were lost.");
    describe_counter!("collector_connect_failures_total", "WebSocket connections that could not be opened, by reason: dns, refused, tls, timeout, status ...");
    describe_counter!("collector_resubscriptions_total", "Topics that were begun anew because nothing came of them.");
    describe_counter!("collector_task_restarts_total", "Tasks of venues that failed and were started again.");
    describe_gauge!("collector_stuck_tasks", "Tasks of venues that have not moved for a minute.");
    describe_histogram!("collector_event_loop_lag_seconds", Unit::Seconds, "How late the runtime wakes a task that slept.");
    describe_counter!("collector_refills_total", "Gaps that were closed afterwards, completely or not.");
    describe_counter!("collector_refilled_events_total", "Events that were missed and fetched afterwards.");
    describe_histogram!("collector_http_request_duration_seconds", Unit::Seconds, "From sending a request to the end of its answer.");
    describe_histogram!("collector_event_lag_seconds", Unit::Seconds, "From the venue's time of an event to its arrival, one sample a batch.");
    describe_gauge!("collector_queue_depth_events", "Events that wait for a sink.");
    describe_gauge!("collector_sink_up", "1 while a sink takes what comes, 0 while it is in trouble.");
    describe_gauge!("collector_sink_backlog_batches", "Batches that wait in the journal for a sink.");
    describe_gauge!("collector_sink_backlog_bytes", Unit::Bytes, "What they take there, about.");
    describe_counter!("collector_sink_retries_total", "Attempts to write to a sink that failed and are made again.");
    describe_gauge!("collector_circuit_state", "0 closed, 1 half open, 2 open, by endpoint.");
    describe_gauge!(
        "collector_limit_used",
        "How much of a venue's rate limit is used in the window that ends now, by all collectors that share the state directory, in the venue's units."
    );
    describe_gauge!("collector_banned_until_seconds", "Until when (Unix time) a host wants to hear nothing from this machine; 0 if it does not.");
}

#[derive(Clone)]
struct Served {
    metrics: PrometheusHandle,
    process: metrics_process::Collector,
    monitor: Monitor,
}

/// Drains the histograms now and then: the exporter keeps every sample until somebody does, whether it is served or not.
pub(crate) async fn keep_up(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        metrics.run_upkeep();
    }
}

/// Serves until the runtime ends.
pub(crate) fn start(listener: TcpListener, metrics: PrometheusHandle, monitor: Monitor) {
    let process = metrics_process::Collector::default();
    process.describe();
    let served = Served { metrics, process, monitor };
    let router = Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/api/digest", get(digest))
        .with_state(served.clone())
        .route("/api/latest", get(latest::latest))
        .route("/api/funding", get(latest::funding))
        .with_state(served.monitor);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the HTTP server ended");
        }
    });
}

async fn render(State(served): State<Served>) -> Response {
    served.process.collect();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], served.metrics.render()).into_response()
}

/// 200 as long as every venue's task moves; whether it delivers is another question.
async fn alive(State(served): State<Served>) -> Response {
    if served.monitor.is_alive() {
        return "alive\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "a task is stuck: see /readyz\n").into_response()
}

/// 200 where every venue delivers what was asked for and every sink that lasts takes it, else 503; a line each, and why not.
async fn ready(State(served): State<Served>) -> Response {
    let venues = served.monitor.status();
    let all = venues.iter().all(VenueStatus::is_ready);
    let mut text = String::new();
    for venue in &venues {
        // Writing to a string cannot fail.
        let _ = match (venue.is_ready(), venue.health.started) {
            (true, _) => writeln!(text, "{}: ready", venue.venue),
            (false, false) if venue.health.problems.is_empty() => writeln!(text, "{}: starting", venue.venue),
            _ => writeln!(text, "{}: not ready", venue.venue),
        };
        for (what, why) in &venue.health.problems {
            let _ = writeln!(text, "  {what}: {why}");
        }
    }
    let sinks = served.monitor.sinks();
    for sink in &sinks {
        let _ = match (&sink.problem, sink.ended) {
            (None, _) => writeln!(text, "{}: ready", sink.name),
            (Some(why), false) => writeln!(text, "{}: not ready\n  {why}: {} batches ({} bytes) wait for it", sink.name, sink.batches, sink.bytes),
            (Some(why), true) => writeln!(text, "{}: failed\n  {why}: {} batches ({} bytes) are kept for the next run", sink.name, sink.batches, sink.bytes),
        };
    }
    let all = all && sinks.iter().all(|sink| sink.problem.is_none());
    (if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}

async fn digest(State(served): State<Served>) -> Response {
    let digests: Vec<_> = served
        .monitor
        .digests()
        .into_iter()
        .map(|d| json!({"venue": d.venue, "market": d.market.as_str(), "channel": d.channel.as_str(), "digest": format!("{:032x}", d.digest)}))
        .collect();
    axum::Json(digests).into_response()
}
