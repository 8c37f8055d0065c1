//! Event lines, and what it means that two lots of them are the same.
//!
//! There are hundreds of thousands of them in a test that is not optimized, so most of them are only looked at as text.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::files;

/// Event lines.
pub(crate) struct Events(String);

/// One event line, as the binary and the simulator write them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a>(&'a str);

impl Events {
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// A file of lines, compressed or not.
    pub(crate) fn read(path: &Path) -> Self {
        Self(text(path))
    }

    /// All files of a sink.
    pub(crate) fn of_sink(directory: &Path) -> Self {
        Self(files(directory).iter().map(|path| text(path)).collect())
    }

    /// All files of a sink whose process may have been killed: a file ends with the last whole line that can be read.
    pub(crate) fn of_killed(directory: &Path) -> Self {
        let paths = if directory.is_dir() { files(directory) } else { Vec::new() };
        Self(paths.iter().map(|path| whole_lines(path)).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.lines().count()
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.0.lines().map(|line| {
            assert!(line.starts_with("{\"type\":\"") && line.ends_with('}'), "{line}");
            Line(line)
        })
    }

    /// The ids of all of them, as often as they are there.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.lines().map(|line| line.id().to_owned()).collect()
    }

    /// Those of these types.
    pub(crate) fn of<'a>(&'a self, types: &'a [&str]) -> impl Iterator<Item = Line<'a>> {
        self.lines().filter(|line| types.contains(&line.kind()))
    }

    /// Without the trades that are older than the first one of their instrument in `seen`. A venue tells who asks for
    /// what was missed also of what was before.
    pub(crate) fn since_first_of(&self, seen: &Self) -> Self {
        let mut first: HashMap<(String, String, String), i64> = HashMap::new();
        let (of, executed) =
            (|trade: &Value| ["venue", "market", "venue_symbol"].map(|key| trade[key].to_string()).into(), |trade: &Value| trade["et"].as_i64());
        for trade in seen.of(&["trade"]).map(Line::json) {
            let time = first.entry(of(&trade)).or_insert(i64::MAX);
            *time = executed(&trade).unwrap().min(*time);
        }
        let ids: HashSet<&str> = seen.lines().map(Line::id).collect();
        let since = |line: &Line<'_>| {
            // A few milliseconds are no order.
            line.kind() != "trade" || ids.contains(line.id()) || executed(&line.json()) > first.get(&of(&line.json())).map(|first| first + 10_000)
        };
        Self(self.lines().filter(since).flat_map(|line| [line.0, "\n"]).collect())
    }

    /// Gaps of this reason.
    pub(crate) fn gaps(&self, reason: &str) -> Vec<Value> {
        self.of(&["gap"]).map(Line::json).filter(|gap| gap["reason"] == reason).collect()
    }

    /// No id is there twice.
    #[track_caller]
    pub(crate) fn assert_once(&self) {
        let mut seen = HashSet::new();
        for line in self.lines() {
            assert!(seen.insert(line.id()), "twice: {line:?}");
        }
    }

    /// How many seconds of their arrival had so many of them.
    pub(crate) fn seconds_with(&self, count: usize) -> usize {
        let mut seconds: HashMap<i64, usize> = HashMap::new();
        for line in self.lines() {
            *seconds.entry(line.received() / 1_000_000).or_default() += 1;
        }
        seconds.values().filter(|events| **events >= count).count()
    }
}

impl<'a> Line<'a> {
    /// What is behind a key, up to `end`.
    fn after(self, key: &str, end: char) -> Option<&'a str> {
        let rest = self.0.get(self.0.find(key)? + key.len()..)?;
        rest.split([end, '}']).next()
    }

    /// Whether it is a venue's.
    pub(crate) fn is_of(self, venue: &str) -> bool {
        self.after(",\"venue\":\"", '"') == Some(venue)
    }

    pub(crate) fn kind(self) -> &'a str {
        self.after("{\"type\":\"", '"').unwrap()
    }

    pub(crate) fn id(self) -> &'a str {
        self.after(",\"id\":\"", '"').unwrap()
    }

    /// When it arrived, in microseconds.
    pub(crate) fn received(self) -> i64 {
        self.after(",\"t\":", ',').unwrap().parse().unwrap()
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(self.0).unwrap_or_else(|error| panic!("{error}: {}", self.0))
    }

    /// Its line.
    pub(crate) fn text(self) -> &'a str {
        self.0
    }

    /// Whether its id is the same wherever the fact is seen: it came with a time or a sequence number of its own, or happened.
    pub(crate) fn is_known_by_id(self) -> bool {
        !self.fact().1
    }

    /// What makes it the same fact in two places: its id, but for a state that came with neither a time nor a sequence
    /// number of its own. Such an id covers when it arrived, so it is known by its content, and by how often it came.
    pub(crate) fn fact(self) -> (String, bool) {
        let state = matches!(self.kind(), "ticker" | "quote" | "mark" | "funding" | "open_interest");
        if !state || self.0.contains(",\"et\":") || self.0.contains(",\"seq\":") {
            return (self.id().to_owned(), false);
        }
        let arrived = format!(",\"t\":{}", self.received());
        (self.0.replace(&arrived, "").replace(self.id(), ""), true)
    }
}

/// The text of a file, compressed or not, which has to be whole.
pub(crate) fn text(path: &Path) -> String {
    let mut file = std::fs::File::open(path).unwrap();
    let mut text = String::new();
    let compressed = path.extension().is_some_and(|ending| ending == "zst");
    let read = if compressed { zstd::Decoder::new(file).unwrap().read_to_string(&mut text) } else { file.read_to_string(&mut text) };
    read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text
}

/// The lines of a compressed file that may lack its end, up to the last whole one.
pub(crate) fn whole_lines(path: &Path) -> String {
    let mut bytes = Vec::new();
    let mut decoder = zstd::Decoder::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = decoder.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..count]);
    }
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    String::from_utf8(bytes).unwrap()
}

/// Both lots hold the same facts of these types: none is lost, none invented.
#[track_caller]
pub(crate) fn assert_same(truth: &Events, seen: &Events, types: &[&str]) {
    let facts = |events: &Events| {
        let mut facts: BTreeMap<String, usize> = BTreeMap::new();
        for line in events.of(types) {
            let (fact, counted) = line.fact();
            let times = facts.entry(fact).or_default();
            *times = if counted { *times + 1 } else { 1 };
        }
        facts
    };
    let (wanted, found) = (facts(truth), facts(seen));
    if wanted == found {
        return assert!(!wanted.is_empty(), "nothing to compare");
    }
    let lacking = |events: &Events, all: &BTreeMap<String, usize>, there: &BTreeMap<String, usize>| {
        let lacking = all.iter().filter(|(fact, times)| there.get(*fact) < Some(times)).map(|(fact, _)| fact.clone()).collect::<HashSet<_>>();
        format!("{}{}", lacking.len(), shown(events.of(types).filter(|line| lacking.contains(&line.fact().0))))
    };
    panic!("of {} facts were lost: {}\nwere invented: {}", wanted.len(), lacking(truth, &wanted, &found), lacking(seen, &found, &wanted));
}

/// What a run passed on is what its captures decode to, of these types: the same ids, but for the gaps that only a live
/// run knows of.
#[track_caller]
pub(crate) fn assert_decoded(seen: &Events, decoded: &Events, types: &[&str]) {
    let only_live = [seen.gaps("disconnect"), seen.gaps("overflow")].concat();
    let only_live: HashSet<&str> = only_live.iter().map(|gap| gap["id"].as_str().unwrap()).collect();
    let ids = |events: &'_ Events| events.of(types).map(|line| line.id().to_owned()).filter(|id| !only_live.contains(id.as_str())).collect::<HashSet<_>>();
    let (wanted, found) = (ids(seen), ids(decoded));
    let only = |events: &Events, ids: &HashSet<String>, others: &HashSet<String>| {
        shown(events.of(types).filter(|line| ids.contains(line.id()) && !others.contains(line.id())))
    };
    assert!(!wanted.is_empty() && wanted == found, "only live:{}\nonly decoded:{}", only(seen, &wanted, &found), only(decoded, &found, &wanted));
}

/// The first of them, for people.
fn shown<'a>(lines: impl Iterator<Item = Line<'a>>) -> String {
    lines.take(5).flat_map(|line| ["\n  ", line.0]).collect()
}
