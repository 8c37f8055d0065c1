//! How the venues' decoding compares, by what criterion left in `target/criterion`.
//!
//! JSON is compared by the byte, since venues put different amounts of it into one message; what is not JSON by the event.

use std::path::Path;

/// The venue that the others are compared with.
const YARDSTICK: &str = "bybit";

/// One benchmark's last result.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    /// `fixtures/bybit/ws`.
    id: String,
    /// Nanoseconds of one iteration, the median.
    time: f64,
    elements: Option<f64>,
    bytes: Option<f64>,
}

impl Measured {
    /// Of `benchmark.json` and `estimates.json`.
    fn read(benchmark: &str, estimates: &str) -> Option<Self> {
        let id = benchmark.split_once("\"full_id\":\"")?.1.split('"').next()?.to_owned();
        let time = number(estimates.split_once("\"median\":")?.1, "point_estimate")?;
        let counted = |names: [&str; 2]| names.into_iter().find_map(|name| number(benchmark, name));
        Some(Self { id, time, elements: counted(["elements", "Elements"]), bytes: counted(["bytes", "Bytes"]) })
    }

    /// Nanoseconds a byte.
    fn per_byte(&self) -> Option<f64> {
        Some(self.time / self.bytes?)
    }

    /// Nanoseconds an element: a message of a mix, an event of fixtures.
    fn per_element(&self) -> Option<f64> {
        Some(self.time / self.elements?)
    }

    /// What it is compared with: the same kind of benchmark of the yardstick.
    fn yardstick(&self) -> Option<String> {
        match self.id.split('/').collect::<Vec<_>>().as_slice() {
            ["ws", mix, what @ ("decode" | "decode_id")] if mix.ends_with("_mix") => Some(format!("ws/{YARDSTICK}_mix/{what}")),
            ["rest", _, "decode_id"] => Some(format!("rest/{YARDSTICK}_tickers/decode_id")),
            ["fixtures", _, "binary"] => Some(format!("fixtures/{YARDSTICK}/ws")),
            ["fixtures", _, kind] => Some(format!("fixtures/{YARDSTICK}/{kind}")),
            _ => None,
        }
    }

    /// How many times as long as the yardstick it takes.
    fn ratio(&self, all: &[Self]) -> Option<f64> {
        let id = self.yardstick()?;
        let other = all.iter().find(|other| other.id == id)?;
        if self.id.ends_with("/binary") { Some(self.per_element()? / other.per_element()?) } else { Some(self.per_byte()? / other.per_byte()?) }
    }
}

/// The number behind a key.
fn number(json: &str, key: &str) -> Option<f64> {
    let rest = json.split_once(&format!("\"{key}\":"))?.1.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit() && !".eE+-".contains(c)).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// Prints a line for each benchmark that has something to be compared with.
pub(crate) fn print(criterion: &Path) {
    let mut all = Vec::new();
    collect(criterion, &mut all);
    all.sort_by(|a, b| a.id.cmp(&b.id));
    println!("\n{:<34} {:>9} {:>11}   of {YARDSTICK}'s", "decoding", "ns/byte", "ns/element");
    for measured in &all {
        let Some(ratio) = measured.ratio(&all) else { continue };
        let shown = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        let by = if measured.id.ends_with("/binary") { "by the event" } else { "by the byte" };
        println!("{:<34} {:>9} {:>11}   {ratio:.2} {by}", measured.id, shown(measured.per_byte()), shown(measured.per_element()));
    }
}

/// Results lie in folders called `new`.
fn collect(folder: &Path, into: &mut Vec<Measured>) {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    if folder.ends_with("new")
        && let (Some(benchmark), Some(estimates)) = (read("benchmark.json"), read("estimates.json"))
    {
        into.extend(Measured::read(&benchmark, &estimates));
        return;
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        collect(&path, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(id: &str, throughput: &str, time: &str) -> Measured {
        let benchmark = format!(r#"{{"group_id":"g","function_id":"f","throughput":{throughput},"full_id":"{id}","directory_name":"d"}}"#);
        let estimates = format!(r#"{{"mean":{{"point_estimate":1.0}},"median":{{"confidence_interval":{{"lower_bound":2.0}},"point_estimate":{time}}}}}"#);
        Measured::read(&benchmark, &estimates).unwrap()
    }

    #[test]
    fn json_is_compared_by_the_byte_and_the_rest_by_the_event() {
        let all = [
            measured("fixtures/bybit/ws", r#"{"ElementsAndBytes":{"elements":10,"bytes":1000}}"#, "1.5e3"),
            measured("fixtures/other/ws", r#"{"ElementsAndBytes":{"elements":10,"bytes":500}}"#, "1500.0"),
            measured("fixtures/other/binary", r#"{"ElementsAndBytes":{"elements":20,"bytes":100}}"#, "1500.0"),
            measured("rest/other_list/decode_id", r#"{"Bytes":100}"#, "1.0"),
        ];
        let ratios: Vec<Option<f64>> = all.iter().map(|one| one.ratio(&all)).collect();
        assert_eq!(ratios, [Some(1.0), Some(2.0), Some(0.5), None]);
        assert_eq!((all[3].per_byte(), all[3].per_element()), (Some(0.01), None));
    }
}
