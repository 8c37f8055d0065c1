//! `Config` is what was written, layer by layer: the venues' descriptions, a file, a profile of that file, the
//! environment, flags, `--set`. What it means is for [`crate::settings`] to say; here, keys that nobody knows are found.
//!
//! Nothing stops at the first problem: all of them are collected, so that one attempt shows everything.

pub(crate) mod de;
pub(crate) mod read;
pub(crate) mod tree;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::tree::{Node, Origin, Value};
use crate::suggest;

/// The keys of a configuration. They are the flags of `collector run`, with `_` for `-`.
pub(crate) const KEYS: [&str; 22] = [
    "exchanges",
    "markets",
    "channels",
    "symbols",
    "mode",
    "interval",
    "once",
    "for",
    "sinks",
    "all_events",
    "fold",
    "capture",
    "simulate",
    "sim",
    "shard",
    "spool",
    "state",
    "name",
    "heartbeat",
    "listen",
    "log",
    "venues",
];

/// The keys of `sim`: the flags of `collector sim`.
pub(crate) const SIM_KEYS: [&str; 9] = ["symbols", "rate", "seed", "latency", "faults", "truth", "listen", "play", "pace"];

/// The keys of `spool`.
pub(crate) const SPOOL_KEYS: [&str; 2] = ["sync", "max_size"];

/// Where events go where nobody says otherwise: a dataset to query, or lines where a build has none.
const DEFAULT_SINK: &str = if cfg!(feature = "parquet") { "parquet:./data" } else { "file:./data" };
/// What else holds where nobody says otherwise. Whatever depends on the machine or on other keys is not here.
const DEFAULTS: &str = r#"
markets = "linear"
channels = "ticker,mark,funding,open_interest"
symbols = "*"
mode = "auto"
interval = "5s"
once = false
all_events = false
fold = false
simulate = false
shard = "0/1"
listen = "127.0.0.1:9464"
log = "auto"
spool = { sync = "1s", max_size = "16GiB" }
sim = { symbols = 50, rate = 1000, seed = 1, latency = "0s", pace = "0s", listen = "127.0.0.1:0" }
"#;

/// The file that is read if there is one and none was named.
const DEFAULT_FILE: &str = "collector.toml";
/// What a variable's name begins with.
const PREFIX: &str = "COLLECTOR_";

/// A venue's name and its description, which is the lowest layer.
pub(crate) type VenuePolicy<'a> = (&'a str, &'a str);

/// Something wrong with the configuration: where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(String);

impl Problem {
    /// A problem with a value.
    pub(crate) fn with(origin: &Origin, key: &str, what: impl fmt::Display) -> Self {
        Self(format!("{}: {what}", origin.at(key)))
    }

    /// A problem that belongs to no value.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All that is wrong, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, problem)| write!(f, "{}{problem}", if at == 0 { "" } else { "\n" }))
    }
}

impl std::error::Error for Problems {}

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    /// `--config`.
    pub(crate) config: Option<PathBuf>,
    /// `--profile`.
    pub(crate) profile: Option<String>,
    /// `--set`, in order.
    pub(crate) set: Vec<String>,
    /// Flags: the key of each and its value.
    pub(crate) values: Vec<(&'static [&'static str], Node)>,
}

impl Given {
    /// A flag's value, if the flag was given.
    #[must_use]
    pub(crate) fn text(mut self, flag: &'static str, path: &'static [&'static str], value: Option<&str>) -> Self {
        self.values.extend(value.map(|value| (path, Node::text(value, Origin::Flag(flag)))));
        self
    }

    /// A repeatable flag's values, if it was given.
    #[must_use]
    pub(crate) fn list(mut self, flag: &'static str, path: &'static [&'static str], values: &[String]) -> Self {
        if !values.is_empty() {
            let items = values.iter().map(|value| Node::text(value, Origin::Flag(flag))).collect();
            self.values.push((path, Node { value: Value::List(items), origin: Origin::Flag(flag) }));
        }
        self
    }

    /// A flag without a value, if it was given.
    #[must_use]
    pub(crate) fn switch(mut self, flag: &'static str, path: &'static [&'static str], given: bool) -> Self {
        if given {
            self.values.push((path, Node { value: Value::Bool(true), origin: Origin::Flag(flag) }));
        }
        self
    }
}

/// The process' surroundings, as far as they configure it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// Variables.
    pub(crate) variables: Vec<(OsString, OsString)>,
    /// The working directory.
    pub(crate) directory: PathBuf,
}

impl Environment {
    /// This process'.
    pub(crate) fn of_process() -> Self {
        Self { variables: std::env::vars_os().collect(), directory: PathBuf::new() }
    }

    /// The value of a variable that is set, not empty, and text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.variables.iter().find(|(key, _)| key == name)?;
        value.to_str().filter(|value| !value.is_empty())
    }
}

/// What was written, layer by layer.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The layers, lowest first.
    pub(crate) layers: Vec<Node>,
    /// The file that was read, if there was one.
    pub(crate) file: Option<PathBuf>,
    /// The profile that was chosen, if one was.
    pub(crate) profile: Option<String>,
    /// What is wrong so far.
    pub(crate) problems: Vec<Problem>,
}

impl Config {
    /// Reads all layers. What is wrong with them is kept, for [`crate::settings::Settings::resolve`] to add to.
    pub(crate) fn load(venues: &[VenuePolicy<'_>], given: &Given, environment: &Environment) -> Self {
        let mut config = Self { layers: Vec::new(), file: None, profile: None, problems: Vec::new() };
        config.builtin(venues, environment);
        config.read_file(given, environment);
        // Of a file that could not be read, nobody knows which profiles it has.
        if config.problems.is_empty() {
            config.choose_profile(given, environment);
        }
        config.read_environment(environment);
        config.read_flags(given);
        let known: Vec<&str> = venues.iter().map(|(name, _)| *name).collect();
        for at in 0..config.layers.len() {
            config.normalize(at, &known);
        }
        config
    }

    /// All layers, each over those below it.
    pub(crate) fn merged(&self) -> Node {
        merge(&self.layers)
    }

    fn builtin(&mut self, venues: &[VenuePolicy<'_>], environment: &Environment) {
        let defaults = read::toml(DEFAULTS, &|_| Origin::Default).unwrap_or_else(|_| Node::table(Origin::Default));
        self.layers.push(defaults);
        let mut sinks = Node::table(Origin::Default);
        sinks.insert(&["sinks"], Node::text(DEFAULT_SINK.to_owned(), Origin::Default));
        self.layers.push(sinks);
        let mut state = Node::table(Origin::Default);
        state.insert(&["state"], Node::text(default_state(environment).display().to_string(), Origin::Default));
        self.layers.push(state);
        for (name, policy) in venues {
            let origin = Origin::Venue((*name).into());
            let mut layer = Node::table(origin.clone());
            match read::toml(policy, &|_| origin.clone()) {
                Ok(tree) => _ = layer.insert(&["venues", name], tree),
                Err(problem) => self.problems.push(Problem::with(&origin, "", problem)),
            }
            self.layers.push(layer);
        }
    }

    fn read_file(&mut self, given: &Given, environment: &Environment) {
        let named = given.config.clone().or_else(|| environment.get("COLLECTOR_CONFIG").map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let text = match std::fs::read_to_string(environment.directory.join(&path)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => return,
            Err(error) => return self.problems.push(Problem::new(format!("{}: cannot read it: {error}", path.display()))),
        };
        match read::file(&path, &text) {
            Ok(tree) => self.layers.push(tree),
            Err(problem) => self.problems.push(Problem::new(problem)),
        }
        self.file = Some(path);
    }

    /// Lays the chosen profile's section over the file, and takes all of them out of it.
    fn choose_profile(&mut self, given: &Given, environment: &Environment) {
        let flag = given.profile.as_deref().map(|name| ("--profile", name));
        let chosen = flag.or_else(|| environment.get("COLLECTOR_PROFILE").map(|name| ("COLLECTOR_PROFILE", name)));
        let sections = self.file.as_ref().and_then(|_| self.layers.last_mut()?.remove(&["profiles"]));
        let mut names = Vec::new();
        let mut found = None;
        if let Some(sections) = sections {
            let Value::Table(entries) = sections.value else {
                return self.problems.push(Problem::with(&sections.origin, "profiles", "expected a table of profiles (`[profiles.prod]`)"));
            };
            for (name, mut section) in entries {
                let shared: Arc<str> = name.as_str().into();
                section.set_profile(&shared);
                if section.entries().is_none() {
                    self.problems.push(Problem::with(&section.origin, &format!("profiles.{name}"), "expected a table of keys and values"));
                } else if chosen.is_some_and(|(_, chosen)| chosen == name) {
                    found = Some(section);
                } else {
                    // What is not used today is checked all the same.
                    self.unknown_keys(&section, &[]);
                }
                names.push(name);
            }
        }
        let Some((place, name)) = chosen else { return };
        match found {
            Some(section) => {
                self.layers.push(section);
                self.profile = Some(name.to_owned());
            }
            None if names.iter().any(|known| known == name) => {}
            None if self.file.is_none() => self.problems.push(Problem::new(format!("{place}: there is no configuration file, hence no profile `{name}`"))),
            None => {
                let hint = suggest::hint(name, names.iter().map(String::as_str));
                self.problems.push(Problem::new(format!("{place}: unknown profile `{name}`: {hint}")));
            }
        }
    }

    fn read_environment(&mut self, environment: &Environment) {
        let mut variables: Vec<_> = environment.variables.iter().filter_map(|(name, value)| Some((name.to_str()?, value))).collect();
        variables.sort();
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(PREFIX).filter(|key| !matches!(*key, "CONFIG" | "PROFILE")) else { continue };
            let origin = Origin::Env(name.into());
            let Some(value) = value.to_str() else {
                self.problems.push(Problem::with(&origin, "", "this is no UTF-8 text"));
                continue;
            };
            // How a compose file says "not set".
            if value.is_empty() {
                continue;
            }
            let key = key.to_ascii_lowercase();
            let path: Vec<&str> = key.split("__").collect();
            self.put(&path, read::text(value, &origin));
        }
    }

    fn read_flags(&mut self, given: &Given) {
        for (path, node) in &given.values {
            self.put(path, node.clone());
        }
        for text in &given.set {
            let Some((key, value)) = text.split_once('=') else {
                self.problems.push(Problem::new(format!("--set {text}: expected KEY=VALUE")));
                continue;
            };
            match key_path(key) {
                Some(path) => self.put(&path.iter().map(String::as_str).collect::<Vec<_>>(), read::text(value, &Origin::Set)),
                None => self.problems.push(Problem::new(format!("--set {text}: `{key}` is no key (such as `interval` or `venues.bybit.rest_url`)"))),
            }
        }
    }

    /// Puts a value into the layer of its origin.
    fn put(&mut self, path: &[&str], node: Node) {
        let same = |layer: &Node| layer.origin.layer() == node.origin.layer();
        if !self.layers.last().is_some_and(same) {
            self.layers.push(Node::table(node.origin.clone()));
        }
        let origin = node.origin.clone();
        if !self.layers.last_mut().is_some_and(|layer| layer.insert(path, node)) {
            self.problems.push(Problem::with(&origin, &path.join("."), "something above this key has a value of its own"));
        }
    }

    /// Checks a layer's keys, and writes them one way.
    fn normalize(&mut self, at: usize, venues: &[&str]) {
        let Some(layer) = self.layers.get_mut(at) else { return };
        if let Some(one) = layer.remove(&["sink"]) {
            if layer.get(&["sinks"]).is_some() {
                self.problems.push(Problem::with(&one.origin, "sink", "`sink` and `sinks` are one key: write one of them"));
            } else {
                layer.insert(&["sinks"], one);
            }
        }
        let layer = layer.clone();
        if layer.origin.layer() > 1 {
            self.unknown_keys(&layer, venues);
        }
    }

    /// Finds keys that nobody knows. What is below `venues.NAME` is the venue's to know; without names, any venue is.
    fn unknown_keys(&mut self, layer: &Node, venues: &[&str]) {
        for (key, node) in layer.entries().into_iter().flatten() {
            match key.as_str() {
                "sim" => self.unknown_in("sim", node, &SIM_KEYS, "key"),
                "spool" => self.unknown_in("spool", node, &SPOOL_KEYS, "key"),
                "venues" if venues.is_empty() => {}
                "venues" => self.unknown_in("venues", node, venues, "venue"),
                "profile" | "config" => {
                    let upper = key.to_ascii_uppercase();
                    self.problems.push(Problem::with(&node.origin, key, format_args!("this is chosen by `--{key}` or `{PREFIX}{upper}`")));
                }
                "profiles" => self.problems.push(Problem::with(&node.origin, key, "profiles stand at the top of the configuration file, and nowhere else")),
                "sink" => {}
                _ if KEYS.contains(&key.as_str()) => {}
                _ => {
                    let hint = suggest::hint(key, KEYS.into_iter().chain(["sink", "profiles"]));
                    self.problems.push(Problem(format!("{}: unknown key `{key}`: {hint}", place(&node.origin, key))));
                }
            }
        }
    }

    fn unknown_in(&mut self, table: &str, node: &Node, known: &[&str], kind: &str) {
        let Some(entries) = node.entries() else {
            return self.problems.push(Problem::with(&node.origin, table, format_args!("expected a table, found {}", node.value.describe())));
        };
        for (key, node) in entries.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let hint = suggest::hint(key, known.iter().copied());
            let path = format!("{table}.{key}");
            self.problems.push(Problem(format!("{}: unknown {kind} `{path}`: {hint}", place(&node.origin, &path))));
        }
    }
}

/// Where an unknown key stands; the key itself is named behind it.
fn place(origin: &Origin, key: &str) -> String {
    match origin {
        Origin::Set => origin.at(key),
        _ => origin.to_string(),
    }
}

/// Joins layers, lowest first.
pub(crate) fn merge(layers: &[Node]) -> Node {
    let mut tree = Node::table(Origin::Default);
    for layer in layers {
        tree.overlay(layer);
    }
    tree
}

/// Reads a dotted key, whose parts may be quoted as in TOML.
fn key_path(key: &str) -> Option<Vec<String>> {
    let mut node = read::toml(&format!("{key} = 0"), &|_| Origin::Set).ok()?;
    let mut path = Vec::new();
    while let Value::Table(entries) = node.value {
        let (key, next) = entries.into_iter().next()?;
        path.push(key);
        node = next;
    }
    Some(path)
}

/// By the XDG base directory specification, <https://specifications.freedesktop.org/basedir-spec/latest/>.
fn default_state(environment: &Environment) -> PathBuf {
    let path = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = path("XDG_STATE_HOME").or_else(|| path("HOME").map(|home| home.join(".local/state"))).or_else(|| path("LOCALAPPDATA"));
    base.map_or_else(|| Path::new(".collector").to_owned(), |base| base.join("collector"))
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
