use super::*;
use crate::config::testing::{Place, VENUES, environment};
use crate::config::{Environment, Given};

fn set(values: &[&str]) -> Given {
    Given { set: values.iter().map(ToString::to_string).collect(), ..Given::default() }
}

fn resolve(given: &Given, environment: &Environment) -> Result<Settings, Vec<String>> {
    let config = Config::load(&VENUES, given, environment);
    Settings::resolve(&config, &VENUES, Need::Exchanges).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

/// Settings of bybit with these values.
fn with(values: &[&str]) -> Result<Settings, Vec<String>> {
    resolve(&set(&[&["exchanges=bybit"], values].concat()), &environment(&[]))
}

fn refused(value: &str) -> String {
    let found = with(&[value]).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn what_nobody_says_has_a_default() {
    let settings = with(&[]).unwrap();
    assert_eq!(settings.profiles.iter().map(|profile| profile.name.as_str()).collect::<Vec<_>>(), ["bybit"]);
    assert_eq!(settings.markets, [Market::Linear]);
    assert_eq!(settings.channels, [Channel::Ticker, Channel::Mark, Channel::Funding, Channel::OpenInterest]);
    assert!(settings.symbols.is_all());
    assert_eq!((settings.mode, settings.interval, settings.stop_after), (Mode::Auto, Duration::from_secs(5), None));
    let sink = if cfg!(feature = "parquet") { "parquet:./data" } else { "file:./data" };
    assert_eq!(settings.sinks, [SinkUri::parse(sink).unwrap()]);
    assert_eq!(settings.listen, Listen { address: Some(([127, 0, 0, 1], 9464).into()), is_default: true });
    assert_eq!((settings.shard, settings.log), (Shard { index: 0, count: 1 }, Log::Auto));
    assert_eq!(
        settings.sim,
        Sim {
            symbols: 50,
            rate: 1000.0,
            seed: 1,
            latency: Duration::ZERO,
            faults: None,
            truth: None,
            listen: ([127, 0, 0, 1], 0).into(),
            play: Vec::new(),
            pace: Duration::ZERO
        }
    );
    assert_eq!((settings.spool.sync, settings.spool.max_bytes), (spool::Sync::Every(Duration::from_secs(1)), 16 << 30));
    assert!(!settings.once && !settings.all_events && !settings.fold && !settings.simulate);
    assert!(settings.name.unwrap().starts_with("bybit-"));
}

#[test]
fn what_was_said_is_typed() {
    let settings = resolve(
        &set(&[
            "exchanges=all",
            "markets=spot,linear",
            "channels=trade,candle:60m,trade",
            "symbols=BTC/*, ETH/USDT:USDT",
            "interval=500ms",
            "once=true",
            "for=90",
            "sink=stdout:,file:x",
            "capture=caps",
            "shard=1/3",
            "name=a-1",
            "listen=off",
            "log=json",
            "spool.sync=always",
            "spool.max_size=512MiB",
            "sim.latency=100ms",
            "sim.seed=18446744073709551615",
            "sim.play=a,b",
        ]),
        &environment(&[]),
    )
    .unwrap();
    assert_eq!(settings.profiles.len(), 2);
    assert_eq!(settings.channels.iter().map(ToString::to_string).collect::<Vec<_>>(), ["trade", "candle:1h"]);
    assert!(settings.symbols.matches("BTC/USDT:USDT") && !settings.symbols.matches("SOL/USDT:USDT"));
    assert_eq!((settings.mode, settings.interval, settings.stop_after), (Mode::Poll, Duration::from_millis(500), Some(Duration::from_secs(90))));
    assert_eq!(settings.sinks.len(), 2);
    assert_eq!((settings.capture, settings.name.as_deref(), settings.log), (Some("caps".into()), Some("a-1"), Log::Json));
    assert_eq!(settings.shard, Shard { index: 1, count: 3 });
    assert_eq!((settings.spool.sync, settings.spool.max_bytes), (spool::Sync::Always, 512 << 20));
    assert_eq!(settings.listen, Listen { address: None, is_default: false });
    assert_eq!((settings.sim.latency, settings.sim.seed, settings.sim.play.len()), (Duration::from_millis(100), u64::MAX, 2));
}

#[test]
fn lists_are_arrays_or_texts_and_numbers_need_no_quotes() {
    let place = Place::with("collector.toml", "exchanges = [\"bybit\", \"binance\"]\nchannels = \"trade, book\"\ninterval = 2\nsinks = [\"null:\"]\n");
    let settings = resolve(&Given::default(), &place.environment(&[])).unwrap();
    assert_eq!(settings.profiles.iter().map(|profile| profile.name.as_str()).collect::<Vec<_>>(), ["bybit", "binance"]);
    assert_eq!((settings.channels.len(), settings.interval), (2, Duration::from_secs(2)));
    assert_eq!(settings.name, None, "nothing of it outlasts the run");
}

#[test]
fn wrong_values_are_told_what_is_right() {
    for (value, wanted) in [
        ("exchanges=bybti", "unknown venue `bybti`: did you mean `bybit`?"),
        ("exchanges=kraken", "unknown venue `kraken`: there is `binance`, `bybit` and `all`"),
        ("channels=tikcer", "unknown channel `tikcer`: did you mean `ticker`?"),
        ("channels=candle", "candles have an interval: `candle:1m`"),
        ("channels=candle:5x", "`5x` is no interval of candles (such as `candle:1m`, `candle:4h`, `candle:1d`)"),
        ("markets=linaer", "unknown market `linaer`: did you mean `linear`?"),
        ("markets=option", "market `option` cannot be collected yet: there is `spot`, `linear` and `inverse`"),
        ("mode=pull", "unknown mode `pull`: did you mean `poll`?"),
        ("interval=5x", "`5x` is no duration (such as 500ms, 5s, 10m, 24h)"),
        ("interval=0s", "it must be longer than nothing"),
        ("once=maybe", "expected `true` or `false`, found `maybe`"),
        ("sink=fiel:x", &format!("`fiel:x` is no sink: did you mean `file:`? (there are {})", exchange_sinks::SinkUri::known())),
        ("sink=null:,null:", "`null:` is there twice"),
        ("sink=[]", "events must go somewhere: the list is empty (`null:` takes and forgets them)"),
        ("markets=[]", "the list is empty"),
        ("symbols=BTCUSDT", "`BTCUSDT` is no unified symbol: they are written `BTC/USDT` (spot), `BTC/USDT:USDT` (linear), `BTC/USD:BTC` (inverse), `BTC/*`"),
        ("shard=3/3", "`3/3` is no share: `I/N`, with I from 0 and less than N (`0/3`, `1/3`, `2/3`)"),
        ("listen=9464", "`9464` is no address (such as 127.0.0.1:9464, [::]:9464)"),
        ("log=jsn", "unknown format `jsn`: did you mean `json`?"),
        ("name=../x", "`../x` is no name: up to 100 letters, digits, `-`, `_` and `.`"),
        ("state=", "expected a value, found an empty text"),
        ("spool.sync=often", "`often` is neither `always`, `never` nor a time (such as 1s, 100ms)"),
        ("spool.max_size=1MiB", "`1MiB` is no size of 16MiB or more (such as 512MiB, 16GiB)"),
        ("sim.symbols=0", "expected a whole number from 1, found `0`"),
        ("sim.rate=fast", "expected events per second, found `fast`"),
    ] {
        let key = value.split('=').next().unwrap().replace("sink", "sinks");
        assert_eq!(refused(value), format!("--set {key}: {wanted}"));
    }
}

#[test]
fn wrong_types_are_refused() {
    let place = Place::with("collector.toml", "exchanges = 5\nmode = true\ninterval = [1]\nonce = \"perhaps\"\nchannels = { a = 1 }\n");
    assert_eq!(
        resolve(&Given::default(), &place.environment(&[])).unwrap_err(),
        [
            "collector.toml:1: exchanges: unknown venue `5`: there is `binance`, `bybit` and `all`",
            "collector.toml:4: once: expected `true` or `false`, found `perhaps`",
            "collector.toml:5: channels: expected a list, found a table",
            "collector.toml:2: mode: expected one value, found `true`",
            "collector.toml:3: interval: expected one value, found a list",
        ]
    );
}

#[test]
fn all_problems_are_said_at_once() {
    let place = Place::with("collector.toml", "exchanges = \"bybit\"\nintervl = \"5s\"\nmode = \"x\"\n");
    let environment = place.environment(&[("COLLECTOR_CHANNELS", "ticker,trades,marc")]);
    let given =
        set(&["venues.bybit.ws.silense=5s", "venues.bybit.limits.ip.budget=many", "venues.bybit.rest_url=127.0.0.1", "venues.binance.limits.weight.window=x"]);
    let mut found = resolve(&given, &environment).unwrap_err();
    found.sort();
    assert_eq!(
        found,
        [
            "--set venues.binance.limits.weight.window: `x` is no duration (such as 500ms, 5s, 10m, 24h)",
            "--set venues.bybit.limits.ip.budget: expected a number, found string \"many\"",
            "--set venues.bybit.rest_url: `127.0.0.1` is no address that begins with `http://` or `https://` and a host",
            "--set venues.bybit.ws.silense: unknown key `silense`: did you mean `silence`?",
            "COLLECTOR_CHANNELS: unknown channel `marc`: did you mean `mark`?",
            "COLLECTOR_CHANNELS: unknown channel `trades`: did you mean `trade`?",
            "collector.toml:2: unknown key `intervl`: did you mean `interval`?",
            "collector.toml:3: mode: unknown mode `x`: there is `poll`, `stream` and `auto`",
        ]
    );
}

#[test]
fn a_run_without_venues_is_told_how_to_name_them() {
    let found = resolve(&Given::default(), &environment(&[])).unwrap_err();
    assert_eq!(
        found,
        ["no venue was named: give `--exchanges LIST` or write `exchanges` in the configuration (there is `binance` and `bybit`; `all` for all)"]
    );
}

/// The addresses of binance's markets: REST of spot, REST and WebSocket of linear.
fn hosts(given: &[&str], environment: &Environment) -> Result<[String; 3], Vec<String>> {
    let settings = resolve(&set(&[&["exchanges=binance"], given].concat()), environment)?;
    let markets = &settings.profiles[0].markets;
    Ok([markets[&Market::Spot].rest.clone(), markets[&Market::Linear].rest.clone(), markets[&Market::Linear].ws.clone()])
}

#[test]
fn addresses_stand_for_all_markets_or_for_one() {
    let none = environment(&[]);
    let (spot, linear, stream) = ("https://api.binance.test", "https://fapi.binance.test", "wss://fstream.binance.test");
    assert_eq!(
        hosts(&["venues.binance.rest_url=http://127.0.0.1:1/binance/"], &none).unwrap(),
        ["http://127.0.0.1:1/binance", "http://127.0.0.1:1/binance", stream]
    );
    assert_eq!(hosts(&["venues.binance.linear.rest_url=http://one"], &none).unwrap(), [spot, "http://one", stream]);
    assert_eq!(hosts(&["venues.binance.markets.linear.ws=ws://one"], &none).unwrap(), [spot, linear, "ws://one"]);
    let both = ["venues.binance.linear.rest_url=http://one", "venues.binance.rest_url=http://all", "venues.binance.ws_url=ws://all"];
    assert_eq!(hosts(&both, &none).unwrap(), ["http://all", "http://one", "ws://all"]);
    // Of two layers, the higher one holds, however general it is: a simulator must not be evaded by a file.
    let below = environment(&[("COLLECTOR_VENUES__BINANCE__LINEAR__REST_URL", "http://one"), ("COLLECTOR_VENUES__BINANCE__MARKETS__LINEAR__WS", "ws://one")]);
    assert_eq!(hosts(&both[1..], &below).unwrap(), ["http://all", "http://all", "ws://all"]);
}

#[test]
fn wrong_addresses_are_refused() {
    for (value, wanted) in [
        ("linear.rest_ulr=http://x", "--set venues.binance.linear.rest_ulr: unknown key `rest_ulr`: did you mean `rest_url`?"),
        ("inverse.rest_url=http://x", "--set venues.binance.inverse.rest_url: binance has no market `inverse`: there is `linear` and `spot`"),
        ("ws_url=http://x", "--set venues.binance.ws_url: `http://x` is no address that begins with `ws://` or `wss://` and a host"),
        ("rest_url=http://x?a=b", "--set venues.binance.rest_url: `http://x?a=b` has a query: the venue's paths are appended to it"),
        ("markets.spot.rest=x", "--set venues.binance.markets.spot.rest: `x` is no address that begins with `http://` or `https://` and a host"),
        ("rest_ur=http://x", "--set venues.binance.rest_ur: unknown key `rest_ur`: did you mean `rest_url`?"),
        ("linear=5", "--set venues.binance.linear: expected a table of `rest_url` and `ws_url`, found `5`"),
    ] {
        assert_eq!(hosts(&[&format!("venues.binance.{value}")], &environment(&[])).unwrap_err(), [wanted]);
    }
}

#[test]
fn any_key_of_a_venue_can_be_changed() {
    let settings =
        with(&["venues.bybit.limits.ip.budget=100", "venues.bybit.ws.ping={ every = \"20s\", text = \"ping\" }", "venues.bybit.errors.\"http:403\"=banned"])
            .unwrap();
    let profile = &settings.profiles[0];
    assert_eq!((profile.limits["ip"].budget, profile.limits["ip"].window), (100, Duration::from_secs(5)));
    assert_eq!(profile.ws.ping.as_ref().unwrap().every, Duration::from_secs(20));
    assert_eq!(profile.errors["http:403"], exchange_core::ErrorKind::Banned);
    for (value, wanted) in [
        ("limits.ip.budget=0", "--set venues.bybit.limits.ip.budget: with no budget at all, nothing could ever be asked"),
        ("ws.topics_per_frame=0", "--set venues.bybit.ws.topics_per_frame: with none at all, nothing could ever be subscribed to"),
        ("ws=5", "--set venues.bybit.ws: expected a table, found string \"5\""),
        ("name=other", "--set venues.bybit.name: a venue keeps its name, `bybit`"),
        ("errors.\"http:403\"=bnned", "--set venues.bybit.errors.http:403: `bnned` is no kind of error"),
    ] {
        assert_eq!(refused(&format!("venues.bybit.{value}")), wanted);
    }
}

#[test]
fn contradictions_are_refused() {
    assert_eq!(with(&["once=true", "mode=stream"]).unwrap_err(), ["--set mode: `once` is one poll cycle, which mode `stream` has not"]);
    assert!(refused("symbols=BTC/USDT").contains("is a spot symbol, and the markets are linear"));
}

#[cfg(unix)]
#[test]
fn a_directory_has_one_sink_however_it_is_spelled() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("data")).unwrap();
    std::os::unix::fs::symlink(root.join("data"), root.join("link")).unwrap();
    let (shown, first) = (root.display(), format!("file:{}/data", root.display()));
    for other in ["data/", "./data", "link", "link/../data?level=3"].map(|other| format!("file:{shown}/{other}")) {
        let shown = format!("`{first}` and `{other}` are one directory (`{shown}/data`), which one sink alone can write to: leave one of them out");
        assert_eq!(refused(&format!("sink={first},{other}")), format!("--set sinks: {shown}"));
        let name = |sink: &str| with(&["exchanges=bybit", &format!("sink={sink}")]).unwrap().name;
        assert_eq!(name(&first), name(&other.replace("?level=3", "")), "the same collector");
    }
    assert_eq!(with(&[&format!("sink={first},file:{shown}/data/deeper")]).unwrap().sinks.len(), 2);
}

#[test]
fn a_derived_name_depends_on_venues_and_sinks_alone() {
    let name = |values: &[&str]| with(values).unwrap().name;
    assert_eq!(name(&["sink=file:./data"]), name(&["sink=file:data", "mode=poll"]));
    assert_ne!(name(&["sink=file:a"]), name(&["sink=file:b"]));
    assert_eq!(name(&["sink=stdout:"]), None);
    assert_eq!(name(&["sink=stdout:", "name=mine"]).as_deref(), Some("mine"));
}

#[test]
fn the_venues_own_descriptions_come_through_unchanged() {
    let described: Vec<(String, &str)> =
        exchange_venues::all().iter().map(|exchange| (Profile::parse(exchange.policy()).unwrap().name, exchange.policy())).collect();
    let venues: Vec<VenuePolicy<'_>> = described.iter().map(|(name, policy)| (name.as_str(), *policy)).collect();
    let config = Config::load(&venues, &set(&["exchanges=all"]), &environment(&[]));
    let settings = Settings::resolve(&config, &venues, Need::Exchanges).unwrap();
    assert_eq!(settings.profiles, venues.iter().map(|(_, policy)| Profile::parse(policy).unwrap()).collect::<Vec<_>>());
}
