//! `Settings` is what runs: everything checked, typed, and there.

mod symbols;
mod venues;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use exchange_core::plan::Mode;
use exchange_core::profile::duration;
use exchange_core::{Channel, Market, Profile};
use exchange_runtime::spool;
use exchange_sinks::SinkUri;

pub(crate) use self::symbols::SymbolFilter;
pub(crate) use self::venues::place_addresses;
use crate::config::tree::{Node, Origin, Value};
use crate::config::{Config, Problem, Problems, VenuePolicy};
use crate::suggest;

/// The markets that can be asked for: options are decoded, but not collected.
const MARKETS: [Market; 3] = [Market::Spot, Market::Linear, Market::Inverse];

/// What runs.
#[expect(clippy::struct_excessive_bools, reason = "switches of the command line, each with a name of its own")]
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The venues that were asked for, in that order, with all that the configuration changes about them.
    pub(crate) profiles: Vec<Profile>,
    /// The markets.
    pub(crate) markets: Vec<Market>,
    /// Whether nobody named any.
    pub(crate) markets_are_default: bool,
    /// The channels.
    pub(crate) channels: Vec<Channel>,
    /// Whether nobody named any.
    pub(crate) channels_are_default: bool,
    /// The instruments.
    pub(crate) symbols: SymbolFilter,
    /// How data is to be had; [`Mode::Poll`] with `once`.
    pub(crate) mode: Mode,
    /// Time between two poll cycles.
    pub(crate) interval: Duration,
    /// One cycle, then stop.
    pub(crate) once: bool,
    /// Stop after this long.
    pub(crate) stop_after: Option<Duration>,
    /// Where events go.
    pub(crate) sinks: Vec<SinkUri>,
    /// Unchanged states are passed on as well.
    pub(crate) all_events: bool,
    /// States are emitted whole.
    pub(crate) fold: bool,
    /// Where captures are written to, if they are.
    pub(crate) capture: Option<PathBuf>,
    /// Against simulated venues inside the process.
    pub(crate) simulate: bool,
    /// How venues are simulated.
    pub(crate) sim: Sim,
    /// Which share of the instruments.
    pub(crate) shard: Shard,
    /// The directory of what must survive a restart.
    pub(crate) state: PathBuf,
    /// Whether nobody asked for that directory: if it cannot be used, that is no reason to stop.
    pub(crate) state_is_default: bool,
    /// Whose spool and progress it is in there; `None` where all sinks are ones that need neither.
    pub(crate) name: Option<String>,
    /// How the journal before the sinks uses its disk.
    pub(crate) spool: spool::Options,
    /// The file that is written anew every few seconds, as long as all is well with the process.
    pub(crate) heartbeat: Option<PathBuf>,
    /// Where metrics and health are served.
    pub(crate) listen: Listen,
    /// How it logs.
    pub(crate) log: Log,
}

/// How venues are simulated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sim {
    /// Instruments in each market.
    pub(crate) symbols: u32,
    /// Events a second, of all venues together.
    pub(crate) rate: f64,
    /// What chance begins with.
    pub(crate) seed: u64,
    /// What each answer takes.
    pub(crate) latency: Duration,
    /// The file of faults.
    pub(crate) faults: Option<PathBuf>,
    /// The file into which goes what was served.
    pub(crate) truth: Option<PathBuf>,
    /// Address of the server.
    pub(crate) listen: SocketAddr,
    /// Captures that are played instead of the seeded market.
    pub(crate) play: Vec<PathBuf>,
    /// Between two captured frames of a connection.
    pub(crate) pace: Duration,
}

/// Every `count`-th share of the instruments, from `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 0.
    pub(crate) index: u32,
    /// At least 1.
    pub(crate) count: u32,
}

/// Where metrics and health are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen {
    /// The address; `None` for nowhere.
    pub(crate) address: Option<SocketAddr>,
    /// Whether nobody asked for it: if it is taken, that is no reason to stop.
    pub(crate) is_default: bool,
}

/// How the collector logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// A live line per venue on a terminal, else JSON.
    Auto,
    /// Lines for people.
    Text,
    /// Lines for machines.
    Json,
}

/// What a command cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// At least one venue.
    Exchanges,
    /// Nothing in particular.
    Nothing,
}

impl Settings {
    /// Checks a configuration.
    ///
    /// # Errors
    /// All that is wrong, with what was wrong already when it was read.
    pub(crate) fn resolve(config: &Config, venues: &[VenuePolicy<'_>], need: Need) -> Result<Self, Problems> {
        let tree = config.merged();
        let mut check = Check { tree: &tree, problems: config.problems.clone() };
        let names = check.exchanges(venues, need, config.problems.is_empty());
        let profiles = venues::profiles(config, venues, &names, &mut check.problems);
        let markets = check.words("markets", market);
        let once = check.switch("once");
        let name = check.text("name", name);
        let sinks = check.sinks();
        let shard = check.text("shard", shard).unwrap_or(Shard { index: 0, count: 1 });
        let settings = Self {
            symbols: check.symbols(&markets),
            channels: check.words("channels", channel),
            channels_are_default: check.is_default("channels"),
            markets_are_default: check.is_default("markets"),
            mode: check.mode(once),
            interval: check.text("interval", pause).unwrap_or_default(),
            once,
            stop_after: check.text("for", pause),
            all_events: check.switch("all_events"),
            fold: check.switch("fold"),
            capture: check.text("capture", path),
            simulate: check.switch("simulate"),
            sim: check.sim(),
            shard,
            spool: check.spool(),
            state_is_default: check.is_default("state"),
            state: check.text("state", path).unwrap_or_default(),
            name: name.or_else(|| derived_name(&names, &sinks, shard)),
            heartbeat: check.text("heartbeat", path),
            listen: check.listen(),
            log: check.text("log", log).unwrap_or(Log::Auto),
            profiles,
            markets,
            sinks,
        };
        if check.problems.is_empty() { Ok(settings) } else { Err(Problems(check.problems)) }
    }
}

/// Reads keys of the merged tree, and collects what is wrong with them.
struct Check<'a> {
    tree: &'a Node,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    fn node(&self, key: &str) -> Option<&'a Node> {
        self.tree.get(&key.split('.').collect::<Vec<_>>())
    }

    /// Whether nobody said anything about a key.
    fn is_default(&self, key: &str) -> bool {
        self.node(key).is_none_or(|node| node.origin == Origin::Default)
    }

    /// A scalar's text. Numbers may be written without quotes.
    fn scalar(&mut self, key: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) if text.trim().is_empty() => {
                self.problems.push(Problem::with(&node.origin, key, "expected a value, found an empty text"));
                None
            }
            Value::Text(text) => Some(text.trim().to_owned()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Bool(_) | Value::List(_) | Value::Table(_) => {
                self.problems.push(Problem::with(&node.origin, key, format_args!("expected one value, found {}", node.value.describe())));
                None
            }
        }
    }

    /// A key's value, if it has one and that is right.
    fn text<T>(&mut self, key: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let node = self.node(key)?;
        let text = self.scalar(key, node)?;
        read(&text).map_err(|what| self.problems.push(Problem::with(&node.origin, key, what))).ok()
    }

    fn switch(&mut self, key: &str) -> bool {
        match self.node(key).map(|node| &node.value) {
            Some(Value::Bool(value)) => *value,
            _ => self.text(key, |text| text.parse().map_err(|_| format!("expected `true` or `false`, found `{text}`"))).unwrap_or_default(),
        }
    }

    /// The words of a list: an array, or a text with commas.
    fn list(&mut self, key: &str) -> Vec<(String, &'a Origin)> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            Value::Table(_) => {
                self.problems.push(Problem::with(&node.origin, key, "expected a list, found a table"));
                return Vec::new();
            }
            _ => std::slice::from_ref(node),
        };
        let mut words = Vec::new();
        for item in items {
            let text = self.scalar(key, item).unwrap_or_default();
            words.extend(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(|word| (word.to_owned(), &item.origin)));
        }
        words
    }

    /// A list's values, each once; an empty list is a mistake.
    fn words<T: PartialEq>(&mut self, key: &str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let words = self.list(key);
        if let (true, Some(node)) = (words.is_empty(), self.node(key))
            && matches!(&node.value, Value::List(items) if items.is_empty())
        {
            self.problems.push(Problem::with(&node.origin, key, "the list is empty"));
        }
        let mut values = Vec::new();
        for (word, origin) in words {
            match read(&word) {
                Ok(value) if values.contains(&value) => {}
                Ok(value) => values.push(value),
                Err(what) => self.problems.push(Problem::with(origin, key, what)),
            }
        }
        values
    }

    /// `complain`: whether it is the user who forgot them, and not a file that could not be read.
    fn exchanges(&mut self, venues: &[VenuePolicy<'_>], need: Need, complain: bool) -> Vec<String> {
        let known: Vec<&str> = venues.iter().map(|(name, _)| *name).collect();
        if self.node("exchanges").is_none() {
            if need == Need::Exchanges && complain {
                let hint = suggest::hint("", known.iter().copied());
                self.problems.push(Problem::new(format!(
                    "no venue was named: give `--exchanges LIST` or write `exchanges` in the configuration ({hint}; `all` for all)"
                )));
            }
            return Vec::new();
        }
        let wanted = self.words("exchanges", |word| match word.to_ascii_lowercase() {
            word if word == "all" || known.contains(&word.as_str()) => Ok(word),
            _ => Err(format!("unknown venue `{word}`: {}", suggest::hint(word, known.iter().copied().chain(["all"])))),
        });
        if wanted.iter().any(|word| word == "all") { known.iter().map(ToString::to_string).collect() } else { wanted }
    }

    fn mode(&mut self, once: bool) -> Mode {
        let mode = self.text("mode", |text| match text {
            "poll" => Ok(Mode::Poll),
            "stream" => Ok(Mode::Stream),
            "auto" => Ok(Mode::Auto),
            _ => Err(format!("unknown mode `{text}`: {}", suggest::hint(text, ["poll", "stream", "auto"]))),
        });
        match (once, mode) {
            (true, Some(Mode::Stream)) => {
                let origin = self.node("mode").map_or(Origin::Default, |node| node.origin.clone());
                self.problems.push(Problem::with(&origin, "mode", "`once` is one poll cycle, which mode `stream` has not"));
                Mode::Poll
            }
            (true, _) => Mode::Poll,
            (false, mode) => mode.unwrap_or_default(),
        }
    }

    fn symbols(&mut self, markets: &[Market]) -> SymbolFilter {
        SymbolFilter::new(self.words("symbols", |text| symbols::check(text, markets)))
    }

    /// Addresses may contain commas: only one that a scheme follows separates two of them.
    fn sinks(&mut self) -> Vec<SinkUri> {
        let mut addresses: Vec<(String, &Origin)> = Vec::new();
        for (part, origin) in self.list("sinks") {
            let begins = part.split_once(':').is_some_and(|(scheme, _)| SinkUri::is_scheme(scheme));
            match addresses.last_mut() {
                Some((address, known)) if !begins && *known == origin && address.contains("://") => *address = format!("{address},{part}"),
                _ => addresses.push((part, origin)),
            }
        }
        let mut sinks: Vec<SinkUri> = Vec::new();
        for (address, origin) in addresses {
            match SinkUri::parse(&address) {
                Ok(sink) if sinks.contains(&sink) => self.problems.push(Problem::with(origin, "sinks", format_args!("`{sink}` is there twice"))),
                Ok(sink) => match sinks.iter().find_map(|other| Some((other, same_directory(other, &sink)?))) {
                    Some((other, directory)) => {
                        let directory = directory.display();
                        let why =
                            format_args!("`{other}` and `{sink}` are one directory (`{directory}`), which one sink alone can write to: leave one of them out");
                        self.problems.push(Problem::with(origin, "sinks", why));
                    }
                    None => sinks.push(sink),
                },
                Err(error) => self.problems.push(Problem::with(origin, "sinks", error)),
            }
        }
        if let (true, Some(node)) = (sinks.is_empty() && self.problems.is_empty(), self.node("sinks")) {
            self.problems.push(Problem::with(&node.origin, "sinks", "events must go somewhere: the list is empty (`null:` takes and forgets them)"));
        }
        sinks
    }

    fn listen(&mut self) -> Listen {
        let is_default = self.node("listen").is_none_or(|node| node.origin == Origin::Default);
        let address = self.text("listen", |text| if text == "off" { Ok(None) } else { address(text).map(Some) }).flatten();
        Listen { address, is_default }
    }

    fn spool(&mut self) -> spool::Options {
        let default = spool::Options::default();
        spool::Options {
            sync: self.text("spool.sync", sync).unwrap_or(default.sync),
            max_bytes: self.text("spool.max_size", size).unwrap_or(default.max_bytes),
            ..default
        }
    }

    fn sim(&mut self) -> Sim {
        Sim {
            symbols: self.text("sim.symbols", positive).unwrap_or_default(),
            rate: self.text("sim.rate", rate).unwrap_or_default(),
            seed: self.text("sim.seed", |text| text.parse().map_err(|_| format!("expected a whole number, found `{text}`"))).unwrap_or_default(),
            latency: self.text("sim.latency", duration::parse).unwrap_or_default(),
            faults: self.text("sim.faults", path),
            truth: self.text("sim.truth", path),
            listen: self.text("sim.listen", address).unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into()),
            play: self.list("sim.play").into_iter().map(|(path, _)| path.into()).collect(),
            pace: self.text("sim.pace", duration::parse).unwrap_or_default(),
        }
    }
}

fn market(text: &str) -> Result<Market, String> {
    match Market::parse(text) {
        Some(market) if MARKETS.contains(&market) => Ok(market),
        Some(market) => Err(format!("market `{market}` cannot be collected yet: {}", suggest::hint("", MARKETS.map(Market::as_str)))),
        None => Err(format!("unknown market `{text}`: {}", suggest::hint(text, MARKETS.map(Market::as_str)))),
    }
}

fn channel(text: &str) -> Result<Channel, String> {
    Channel::parse(text).ok_or_else(|| match text.split_once(':') {
        Some(("candle", interval)) => format!("`{interval}` is no interval of candles (such as `candle:1m`, `candle:4h`, `candle:1d`)"),
        _ if text == "candle" => "candles have an interval: `candle:1m`".to_owned(),
        _ => format!("unknown channel `{text}`: {}", suggest::hint(text, Channel::NAMES)),
    })
}

/// A duration that is one.
fn pause(text: &str) -> Result<Duration, String> {
    duration::parse(text).and_then(|pause| if pause.is_zero() { Err("it must be longer than nothing".to_owned()) } else { Ok(pause) })
}

#[expect(clippy::unnecessary_wraps, reason = "one shape for all that read a text")]
fn path(text: &str) -> Result<PathBuf, String> {
    Ok(text.into())
}

fn positive(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("expected a whole number from 1, found `{text}`"))
}

fn sync(text: &str) -> Result<spool::Sync, String> {
    match text {
        "always" => Ok(spool::Sync::Always),
        "never" => Ok(spool::Sync::Never),
        _ => pause(text).map(spool::Sync::Every).map_err(|_| format!("`{text}` is neither `always`, `never` nor a time (such as 1s, 100ms)")),
    }
}

fn size(text: &str) -> Result<u64, String> {
    // Less than a few segments would be no journal.
    let least = 16 << 20;
    exchange_sinks::parse_bytes(text).filter(|bytes| *bytes >= least).ok_or_else(|| format!("`{text}` is no size of 16MiB or more (such as 512MiB, 16GiB)"))
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0).ok_or_else(|| format!("expected events per second, found `{text}`"))
}

fn shard(text: &str) -> Result<Shard, String> {
    let shard = text.split_once('/').and_then(|(index, count)| Some(Shard { index: index.parse().ok()?, count: count.parse().ok()? }));
    shard.filter(|shard| shard.index < shard.count).ok_or_else(|| format!("`{text}` is no share: `I/N`, with I from 0 and less than N (`0/3`, `1/3`, `2/3`)"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    // The one name that needs no resolver.
    let numeric = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    numeric.parse().map_err(|_| format!("`{text}` is no address (such as 127.0.0.1:9464, [::]:9464)"))
}

fn log(text: &str) -> Result<Log, String> {
    match text {
        "auto" => Ok(Log::Auto),
        "text" => Ok(Log::Text),
        "json" => Ok(Log::Json),
        _ => Err(format!("unknown format `{text}`: {}", suggest::hint(text, ["text", "json", "auto"]))),
    }
}

/// A name becomes a directory's.
fn name(text: &str) -> Result<String, String> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if plain && !text.starts_with('.') && text.len() <= 100 {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no name: up to 100 letters, digits, `-`, `_` and `.`"))
    }
}

/// The directory of two sinks of a kind, if it is the same one.
fn same_directory(one: &SinkUri, other: &SinkUri) -> Option<PathBuf> {
    one.true_directory().filter(|directory| one.scheme() == other.scheme() && other.true_directory().as_ref() == Some(directory))
}

/// The name of a collector that was given none: the same venues into the same sinks are the same collector, but for its share.
fn derived_name(venues: &[String], sinks: &[SinkUri], shard: Shard) -> Option<String> {
    // Where a directory is matters, not how it was written.
    let absolute = |sink: &SinkUri| sink.true_directory().map_or_else(|| sink.to_string(), |directory| directory.display().to_string());
    let mut lasting: Vec<String> = sinks.iter().filter(|sink| sink.needs_name()).map(absolute).collect();
    if lasting.is_empty() || venues.is_empty() {
        return None;
    }
    let mut venues = venues.to_vec();
    venues.sort();
    lasting.sort();
    // FNV-1a: it must stay the same from one build to the next, which the standard library's hash does not promise.
    let hash = lasting.join("\n").bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let venues: String = venues.join("-").chars().take(80).collect();
    let of = if shard.count > 1 { format!("-{}-of-{}", shard.index, shard.count) } else { String::new() };
    Some(format!("{venues}-{hash:08x}{of}"))
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests;
