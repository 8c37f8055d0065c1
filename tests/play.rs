//! Every venue there is, played from its own fixtures: what a run makes of sockets and requests is what `decode` makes of
//! the bytes, nothing else, and no way that was captured and is planned stays unused.
#![cfg(unix)]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use exchange_core::capture::{Capture, CaptureSource};
use exchange_core::{Channel, Interval, Market, Mode, Offline, Plan, Venue, Want};
use support::{Events, Place, Running, Stdout, assert_decoded};

/// The markets that `run` offers.
const MARKETS: [Market; 3] = [Market::Spot, Market::Linear, Market::Inverse];
/// What a player says to requests that nobody captured.
const NOTHING: &str = "nothing was captured for this request";
/// Longer than the venues' pace of subscribing takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came over one connection.
type Frames<'a> = Vec<&'a [u8]>;

/// A venue's fixtures, without what a venue says when it refuses: a run would leave it alone then.
struct Fixtures {
    venue: Venue,
    captures: Vec<Capture>,
    /// All channels, candles in each interval that was captured.
    channels: Vec<Channel>,
}

impl Fixtures {
    fn read(venue: &Venue) -> Self {
        let captures = support::captures(venue);
        // Decoded once more for the instruments that all files together describe.
        let mut events = Vec::new();
        let mut offline = Offline::new([venue.clone()]);
        for capture in &captures {
            offline.capture(capture, &mut events);
        }
        let minute = Interval::parse("1m").map(Channel::Candle);
        let mut channels: Vec<Channel> = Channel::NAMES.into_iter().filter_map(Channel::parse).chain(minute).collect();
        channels.extend(events.iter().filter_map(|event| event.body.channel()).filter(|channel| matches!(channel, Channel::Candle(_))));
        Self { venue: venue.clone(), captures, channels }
    }

    fn name(&self) -> &str {
        &self.venue.profile.name
    }

    fn plan(&self, market: Market, mode: Mode) -> Plan {
        if !self.venue.profile.markets.contains_key(&market) {
            return Plan::default();
        }
        let channels: Vec<Channel> = self.channels.iter().copied().filter(|channel| *channel != Channel::Instrument).collect();
        let instruments = self.venue.catalog.list(market);
        let want = Want { market, channels: &channels, mode, fallback: false, instruments: &instruments };
        self.venue.exchange.plan(&self.venue.profile, &want)
    }

    /// What was captured at each planned path of a market's sockets: the frames of each connection.
    fn sockets(&self) -> BTreeMap<(Market, String), Vec<Frames<'_>>> {
        let mut all = BTreeMap::new();
        for market in MARKETS {
            let paths: BTreeSet<String> = self.plan(market, Mode::Stream).topics.into_iter().map(|topic| topic.ws_path).collect();
            let mut connections: BTreeMap<(String, &str, Option<u64>), Frames<'_>> = BTreeMap::new();
            for capture in self.captures.iter().filter(|capture| capture.market == Some(market)) {
                let Some(CaptureSource::Ws(url)) = capture.source() else { continue };
                let path = target(url).split('?').next().unwrap_or_default().to_owned();
                if paths.contains(&path) {
                    connections.entry((path, url, capture.conn)).or_default().push(&capture.payload);
                }
            }
            for ((path, ..), frames) in connections {
                all.entry((market, path)).or_insert_with(Vec::new).push(frames);
            }
        }
        all
    }
}

/// Path and query of an address.
fn target(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("/", |at| &rest[at..])
}

/// What a request asks for, in whatever order, and whether under a simulator's prefix or not.
fn question(venue: &str, target: &str, body: Option<&str>) -> String {
    let prefix = format!("/{venue}");
    let target = target.strip_prefix(&prefix).filter(|rest| rest.starts_with('/')).unwrap_or(target);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    let body = body.map(|body| serde_json::from_str(body).unwrap_or(serde_json::Value::Null).to_string());
    format!("{path}?{} {}", pairs.join("&"), body.unwrap_or_default())
}

/// All venues played on one port, in a process of their own.
struct Stage {
    place: Place,
    all: Vec<Fixtures>,
    simulator: Running,
    options: Vec<String>,
}

impl Stage {
    fn new() -> Self {
        let place = Place::new();
        let mut all = Vec::new();
        let mut played = vec!["--play".to_owned()];
        for venue in support::venues() {
            let fixtures = Fixtures::read(&venue);
            let file = format!("{}.ndjson", fixtures.name());
            std::fs::write(place.path(&file), support::lines(&fixtures.captures)).unwrap();
            played.push(file);
            all.push(fixtures);
        }
        let (simulator, mut options) = place.simulator(&played.join(" "));
        // Fixtures are not what venues' limits are for.
        for Fixtures { venue, .. } in &all {
            let name = &venue.profile.name;
            options.extend(venue.profile.limits.keys().flat_map(|limit| ["--set".to_owned(), format!("venues.{name}.limits.{limit}.budget=1000000")]));
        }
        Self { place, all, simulator, options }
    }

    /// A run of everything; channels that a venue does not serve in this mode are left out.
    fn run(&self, arguments: &str) -> Running {
        let channels: BTreeSet<String> = self.all.iter().flat_map(|fixtures| &fixtures.channels).map(ToString::to_string).collect();
        let channels: Vec<String> = channels.into_iter().collect();
        let run = format!("run --exchanges all --markets spot,linear,inverse --all-events --sink file:out --capture captures --listen 127.0.0.1:0 {arguments}");
        Running::start(self.place.collector(&run).args(["--channels", &channels.join(",")]).args(&self.options), Stdout::Collect)
    }

    /// What was captured so far: the file may still be written.
    fn captured(&self) -> Vec<Capture> {
        let all: Vec<PathBuf> =
            std::fs::read_dir(self.place.path("captures")).map(|found| found.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default();
        let mut captures = Vec::new();
        for path in all {
            let mut text = Vec::new();
            let Ok(mut file) = zstd::Decoder::new(std::fs::File::open(path).unwrap()) else { continue };
            // Its end may not be there yet.
            let _ends = file.read_to_end(&mut text);
            for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
                let mut capture = Capture::default();
                capture.read(line.trim_ascii_end()).unwrap();
                captures.push(capture);
            }
        }
        captures
    }

    /// What went out is what the captures decode to, and the captures hold nothing but what was played.
    fn check(&self, captured: &[Capture]) {
        for fixtures in &self.all {
            let known: HashSet<&[u8]> = fixtures.captures.iter().map(|capture| capture.payload.as_slice()).collect();
            for capture in captured.iter().filter(|capture| capture.venue == fixtures.name()) {
                let nothing = capture.status == Some(404) && String::from_utf8_lossy(&capture.payload).contains(NOTHING);
                assert!(nothing || known.contains(capture.payload.as_slice()), "nobody played this: {capture:?}");
            }
        }
        let decoded = self.place.decode("captures");
        assert!(matches!(decoded.status, Some(0 | 3)), "{}", decoded.stderr);
        let types: Vec<&str> = Channel::NAMES.iter().map(|name| name.split(':').next().unwrap_or(name)).chain(["gap", "decode_error"]).collect();
        // A socket may carry options besides, which a run does not offer.
        let decoded: String = decoded.stdout.split_inclusive('\n').filter(|line| !line.contains(r#""market":"option""#)).collect();
        assert_decoded(&Events::of_sink(&self.place.path("out")), &Events::parse(&decoded), &types);
        let again = self.place.run("reparse captures --events out --all-events --examples 3");
        assert_eq!(again.status, Some(0), "{}{}", again.stdout, again.stderr);
    }
}

#[test]
fn what_is_polled_of_any_venue_is_what_its_captures_say() {
    let _alone = support::alone();
    let stage = Stage::new();
    let finished = stage.run("--once").finish();
    // Much of what is asked for was never captured.
    assert!(matches!(finished.status, Some(0 | 1)), "{}", finished.stderr);
    let captured = stage.captured();
    stage.check(&captured);

    let mut missing = Vec::new();
    for fixtures in &stage.all {
        let (name, profile) = (fixtures.name(), &fixtures.venue.profile);
        let asked = |capture: &Capture| match capture.source() {
            Some(CaptureSource::Http(_, url)) => Some(question(name, target(url), capture.request.as_deref())),
            _ => None,
        };
        let endpoint = |capture: &Capture| match capture.source() {
            Some(CaptureSource::Http(method, url)) => profile.endpoint_at(capture.market?, method, url, capture.request.as_deref()).map(|e| e.name.clone()),
            _ => None,
        };
        let answered: Vec<&Capture> = captured.iter().filter(|capture| capture.venue == name && capture.status == Some(200)).collect();
        let seen: HashSet<String> = answered.iter().copied().filter_map(asked).collect();
        let used: HashSet<String> = answered.iter().copied().filter_map(endpoint).collect();
        let known: HashSet<String> = fixtures.captures.iter().filter_map(asked).collect();
        let served: HashSet<String> = fixtures.captures.iter().filter_map(endpoint).collect();
        let mut plain = 0;
        for market in MARKETS {
            for poll in fixtures.plan(market, Mode::Poll).polls {
                let question = question(name, &poll.request.target, poll.request.body.as_deref());
                let endpoint = &poll.request.endpoint;
                plain += usize::from(!poll.sweep && known.contains(&question));
                if known.contains(&question) && !seen.contains(&question) {
                    missing.push(format!("{name} {market}: {question}"));
                }
                if !poll.sweep && served.contains(endpoint) && !used.contains(endpoint) {
                    missing.push(format!("{name} {market}: {endpoint}"));
                }
            }
        }
        assert!(plain > 0, "{name}: of no planned request is there a fixture");
    }
    assert!(missing.is_empty(), "captured and planned, but not seen:\n{}", missing.join("\n"));
    stage.simulator.stop().ok();
}

#[test]
fn what_is_streamed_of_any_venue_is_what_its_captures_say() {
    let _alone = support::alone();
    let stage = Stage::new();
    let wanted: Vec<_> = stage.all.iter().map(|fixtures| (fixtures.name(), fixtures.sockets())).collect();
    let run = stage.run("--mode stream");
    let since = Instant::now();
    let missing = loop {
        let captured = stage.captured();
        let seen: HashSet<(&str, Option<Market>, &[u8])> = captured
            .iter()
            .filter(|capture| capture.status.is_none())
            .map(|capture| (capture.venue.as_str(), capture.market, capture.payload.as_slice()))
            .collect();
        let missing: Vec<String> = wanted
            .iter()
            .flat_map(|(name, sockets)| sockets.iter().map(move |((market, path), connections)| (*name, *market, path, connections)))
            .filter(|(name, market, _, connections)| {
                !connections.iter().any(|frames| frames.iter().all(|frame| seen.contains(&(*name, Some(*market), *frame))))
            })
            .map(|(name, market, path, _)| format!("{name} {market} {path}"))
            .collect();
        if missing.is_empty() || since.elapsed() > PATIENCE {
            break missing;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let finished = run.stop().ok();
    assert!(missing.is_empty(), "sockets whose captured frames did not all arrive:\n{}\n{}", missing.join("\n"), finished.stderr);
    for (name, sockets) in &wanted {
        assert!(!sockets.is_empty(), "{name}: of no planned socket is there a fixture");
    }
    stage.check(&stage.captured());
    stage.simulator.stop().ok();
}
