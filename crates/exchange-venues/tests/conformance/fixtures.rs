//! The venues of the registry with their fixtures, and the one way in which this suite decodes.

use std::path::{Path, PathBuf};

use exchange_core::capture::Capture;
use exchange_core::wire::{Ignored, Raw, Read, Reader, Wire};
use exchange_core::{Event, Exchange, Offline, Profile, Sealer, Venue};

/// Ending of the blessed files.
const EVENTS: &str = ".events.ndjson";

/// A venue of the registry.
pub(crate) struct Tested {
    pub(crate) exchange: &'static dyn Exchange,
    pub(crate) profile: Profile,
}

/// A file of capture lines.
pub(crate) struct Fixture {
    /// `linear.ndjson`.
    pub(crate) name: String,
    /// Where its events are.
    pub(crate) events: PathBuf,
    pub(crate) lines: Vec<Line>,
}

/// A capture line.
pub(crate) struct Line {
    /// Counted from 1, as `collector decode` does.
    pub(crate) number: u64,
    pub(crate) capture: Capture,
}

/// An event of a fixture.
pub(crate) struct Decoded<'f> {
    /// The line that gave it.
    pub(crate) line: &'f Line,
    pub(crate) event: Event,
    /// The event as `collector decode` writes it.
    pub(crate) json: String,
}

/// All venues.
pub(crate) fn venues() -> Vec<Tested> {
    let tested = |exchange: &&'static dyn Exchange| {
        let profile = Profile::parse(exchange.policy()).unwrap_or_else(|error| panic!("a venue.toml cannot be read: {error}"));
        Tested { exchange: *exchange, profile }
    };
    exchange_venues::all().iter().map(tested).collect()
}

impl Tested {
    pub(crate) fn name(&self) -> &str {
        &self.profile.name
    }

    /// The venue's folder.
    pub(crate) fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(self.name())
    }

    /// A fresh decoder of this venue's captures.
    pub(crate) fn offline(&self) -> Offline {
        Offline::new([Venue::new(self.exchange, self.profile.clone())])
    }

    /// Its fixtures, in the order of their names.
    pub(crate) fn fixtures(&self) -> Vec<Fixture> {
        let captures: Vec<PathBuf> = self.files().into_iter().filter(|path| !is_events(path)).collect();
        captures.iter().map(|path| read_fixture(path)).collect()
    }

    /// Files of events without a file of captures beside them.
    pub(crate) fn orphans(&self) -> Vec<PathBuf> {
        self.files().into_iter().filter(|path| is_events(path) && !Path::new(&path.to_string_lossy().replace(EVENTS, ".ndjson")).exists()).collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = self.folder().join("fixtures");
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{} has no fixtures ({}): {error}", self.name(), folder.display()));
        let mut files: Vec<PathBuf> =
            entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ending| ending == "ndjson")).collect();
        files.sort();
        files
    }
}

fn is_events(path: &Path) -> bool {
    path.to_string_lossy().ends_with(EVENTS)
}

fn read_fixture(path: &Path) -> Fixture {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()).map(|(line, number)| {
        let mut capture = Capture::default();
        capture.read(line.as_bytes()).unwrap_or_else(|error| panic!("{}:{number}: {error}", path.display()));
        Line { number, capture }
    });
    Fixture {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        events: PathBuf::from(path.to_string_lossy().replace(".ndjson", EVENTS)),
        lines: lines.collect(),
    }
}

impl Fixture {
    /// Decodes all of its lines as one session.
    pub(crate) fn decode(&self, venue: &Tested) -> Vec<Decoded<'_>> {
        self.decode_as(venue, Capture::clone)
    }

    /// The same, each capture changed first.
    pub(crate) fn decode_as(&self, venue: &Tested, change: impl Fn(&Capture) -> Capture) -> Vec<Decoded<'_>> {
        let mut offline = venue.offline();
        let (mut events, mut lines) = (Vec::new(), Vec::new());
        for line in &self.lines {
            offline.capture(&change(&line.capture), &mut events);
            lines.resize(events.len(), line);
        }
        Sealer::default().seal(&mut events);
        events.into_iter().zip(lines).map(|(event, line)| Decoded { json: to_json(&event, Some(line.number)), event, line }).collect()
    }
}

/// The event as a line.
pub(crate) fn to_json(event: &Event, line: Option<u64>) -> String {
    let mut json = Vec::new();
    event.write_json(line, &mut json);
    String::from_utf8(json).unwrap_or_else(|error| panic!("an event line is not UTF-8: {error}"))
}

/// Whether a payload is a JSON object or array, whole.
pub(crate) fn is_whole_json(payload: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(payload) else { return false };
    text.trim_start().starts_with(['{', '[']) && Reader::new(text).whole::<Ignored>().is_ok()
}

/// The same JSON with the keys of each object in reverse and white space between tokens; numbers keep their digits.
pub(crate) fn reversed(payload: &[u8]) -> Option<String> {
    let mut reader = Reader::new(std::str::from_utf8(payload).ok()?);
    let text = reverse_value(&mut reader).ok()?;
    reader.finish().ok()?;
    Some(text)
}

fn reverse_value(reader: &mut Reader<'_>) -> Read<String> {
    let mut parts = Vec::new();
    match reader.peek() {
        b'{' => {
            let mut more = reader.open_object()?;
            while more {
                let start = reader.position();
                reader.key()?;
                let key = reader.slice(start, reader.position());
                parts.push(format!("{key} {}", reverse_value(reader)?));
                more = reader.more_in_object()?;
            }
            parts.reverse();
            Ok(format!("{{ {} }}", parts.join(" ,\n")))
        }
        b'[' => {
            let mut more = reader.open_array()?;
            while more {
                parts.push(reverse_value(reader)?);
                more = reader.more_in_array()?;
            }
            Ok(format!("[ {} ]", parts.join(" , ")))
        }
        _ => Raw::read(reader).map(|raw| raw.0.to_owned()),
    }
}

#[test]
fn reversing_keeps_the_content() {
    let text = r#"{"a":1.50,"b":[{"c":"x\"y","d":null},2]}"#;
    let other = reversed(text.as_bytes()).expect("it is JSON");
    assert!(other.find("\"b\"") < other.find("\"a\"") && other.find("\"d\"") < other.find("\"c\""), "{other}");
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("it is JSON");
    assert_eq!(parse(&other), parse(text));
    assert!(other.contains("1.50"), "{other}");
    assert_eq!(reversed(b"{\"a\":1"), None);
}
