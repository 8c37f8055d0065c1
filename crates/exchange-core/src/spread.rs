//! Which of a venue's connections carries which topics, as topics come and go.
//!
//! What is new goes where there is room before another connection is opened, what is not wanted any more is taken off
//! the connection that carries it, and one that carries nothing ends. No topic ever moves: a connection's other topics
//! do not notice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::instrument::Market;
use crate::plan::Topic;

/// A connection.
pub type LineId = u64;

/// What is to be done about a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Shift {
    /// It is to be opened.
    Open {
        /// The path of its address.
        ws_path: String,
        /// What it carries.
        topics: Vec<Arc<Topic>>,
    },
    /// It carries these topics from now on, most of which it carried before.
    Carry(Vec<Arc<Topic>>),
    /// It carries nothing any more.
    End,
}

/// The connections of one venue.
#[derive(Debug, Default)]
pub struct Spread {
    lines: BTreeMap<LineId, Line>,
    last: LineId,
}

#[derive(Debug)]
struct Line {
    market: Market,
    ws_path: String,
    topics: Vec<Arc<Topic>>,
}

impl Spread {
    /// These are the topics that are wanted of a market, of which one connection carries `most`.
    pub fn want(&mut self, market: Market, topics: Vec<Topic>, most: usize) -> Vec<(LineId, Shift)> {
        let key = |topic: &Topic| (topic.ws_path.clone(), topic.name.clone());
        let order: Vec<(String, String)> = topics.iter().map(key).collect();
        let mut wanted: HashMap<(String, String), Topic> = order.iter().cloned().zip(topics).collect();
        let before = self.last;
        let mut changed = BTreeSet::new();
        for (id, line) in self.lines.iter_mut().filter(|(_, line)| line.market == market) {
            line.topics.retain_mut(|topic| {
                let Some(still) = wanted.remove(&key(topic)) else {
                    changed.insert(*id);
                    return false;
                };
                // The venue may have said something new of its instrument. What is as it was stays shared with the connection.
                if still != **topic {
                    changed.insert(*id);
                    *topic = Arc::new(still);
                }
                true
            });
        }
        for topic in order.iter().filter_map(|key| wanted.remove(key)) {
            let has_room = |line: &Line| line.market == market && line.ws_path == topic.ws_path && line.topics.len() < most;
            if let Some((id, line)) = self.lines.iter_mut().find(|(_, line)| has_room(line)) {
                line.topics.push(Arc::new(topic));
                changed.insert(*id);
            } else {
                self.last += 1;
                changed.insert(self.last);
                self.lines.insert(self.last, Line { market, ws_path: topic.ws_path.clone(), topics: vec![Arc::new(topic)] });
            }
        }
        let shift = |id: LineId| {
            let line = self.lines.get(&id)?;
            Some((
                id,
                match line.topics.clone() {
                    none if none.is_empty() => Shift::End,
                    topics if id > before => Shift::Open { ws_path: line.ws_path.clone(), topics },
                    topics => Shift::Carry(topics),
                },
            ))
        };
        let shifts = changed.into_iter().filter_map(shift).collect();
        self.lines.retain(|_, line| !line.topics.is_empty());
        shifts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Channel;

    fn topics(names: &[&str]) -> Vec<Topic> {
        let topic = |name: &&str| {
            let (ws_path, name) = name.split_once(' ').unwrap_or(("", name));
            Topic { name: name.into(), market: Market::Linear, ws_path: ws_path.into(), channels: vec![Channel::Trade], instrument: None, stream: 0 }
        };
        names.iter().map(topic).collect()
    }

    /// What is to be done, in short, where a connection carries three.
    fn want(spread: &mut Spread, market: Market, names: &[&str]) -> Vec<String> {
        let joined = |topics: &[Arc<Topic>]| topics.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>().join(" ");
        let short = |(id, shift): (LineId, Shift)| match shift {
            Shift::Open { ws_path, topics } => format!("open {id} at /{ws_path}: {}", joined(&topics)),
            Shift::Carry(topics) => format!("{id}: {}", joined(&topics)),
            Shift::End => format!("end {id}"),
        };
        spread.want(market, topics(names), 3).into_iter().map(short).collect()
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn what_is_new_goes_where_there_is_room() {
        let mut spread = Spread::default();
        let linear = |spread: &mut Spread, names: &[&str]| want(spread, Market::Linear, names);
        assert_eq!(linear(&mut spread, &["a", "b", "c", "d"]), ["open 1 at /: a b c", "open 2 at /: d"]);
        assert_eq!(linear(&mut spread, &["a", "b", "c", "d"]), NOTHING);
        assert_eq!(linear(&mut spread, &["a", "b", "c", "d", "e"]), ["2: d e"]);
        assert_eq!(linear(&mut spread, &["a", "c", "d", "e", "f", "g", "h"]), ["1: a c f", "2: d e g", "open 3 at /: h"]);
        assert_eq!(linear(&mut spread, &["a", "c", "f", "d", "e"]), ["2: d e", "end 3"]);
        assert_eq!(linear(&mut spread, &["x", "y", "z"]), ["1: x y z", "end 2"], "nobody ends who is needed again");
        assert_eq!(linear(&mut spread, &[]), ["end 1"]);
        assert_eq!(linear(&mut spread, &["a"]), ["open 4 at /: a"]);
    }

    #[test]
    fn markets_and_addresses_have_connections_of_their_own() {
        let mut spread = Spread::default();
        assert_eq!(want(&mut spread, Market::Linear, &["public a", "private a"]), ["open 1 at /public: a", "open 2 at /private: a"]);
        assert_eq!(want(&mut spread, Market::Inverse, &["public a"]), ["open 3 at /public: a"]);
        assert_eq!(want(&mut spread, Market::Linear, &["private a", "private b"]), ["end 1", "2: a b"]);
    }

    #[test]
    fn a_topic_whose_instrument_was_described_anew_stays_where_it_is() {
        let mut spread = Spread::default();
        spread.want(Market::Linear, topics(&["a", "b"]), 3);
        let mut changed = topics(&["a", "b"]);
        changed[1].channels.push(Channel::Book);
        assert_eq!(spread.want(Market::Linear, changed.clone(), 3), [(1, Shift::Carry(changed.into_iter().map(Arc::new).collect()))]);
    }
}
