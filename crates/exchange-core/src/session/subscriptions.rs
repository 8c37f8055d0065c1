//! Which topics a connection carries: what is wanted, what waits to be asked for, and what the venue has said to it.
//!
//! Topics are known by their place, which they keep as long as the connection lives.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::budget::Budget;
use crate::event::Channel;
use crate::exchange::{Control, Op};
use crate::instrument::{Instrument, Market};
use crate::plan::Topic;
use crate::profile::Profile;
use crate::time::Time;

/// A subscribe frame that was not acknowledged after so long is sent again.
pub(super) const ACK_TIMEOUT: Duration = Duration::from_secs(15);
/// How often it is sent at most.
const ATTEMPTS: u32 = 3;

#[derive(Debug)]
struct Entry {
    topic: Arc<Topic>,
    /// It is subscribed to or shall be; the venue's refusals take some out.
    is_wanted: bool,
    /// Nobody asks for it any more.
    is_retired: bool,
    /// The venue was asked for it last, whether it has answered or not.
    is_begun: bool,
}

#[derive(Debug)]
struct Frame {
    op: Op,
    topics: Vec<usize>,
    attempts: u32,
}

/// What changes when other topics are wanted than before, by their places.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Those that were not known.
    pub(super) new: Vec<usize>,
    /// Those that are not wanted any more.
    pub(super) end: Vec<usize>,
}

/// The topics of one connection.
#[derive(Debug)]
pub(super) struct Subscriptions {
    profile: Arc<Profile>,
    market: Market,
    entries: Vec<Entry>,
    /// Frames to be sent when the venue's pace allows.
    outbox: VecDeque<Frame>,
    /// When it allows the next one, as far as was asked.
    next: Option<Time>,
    /// Frames that were sent and not answered, by id.
    sent: BTreeMap<u64, (Frame, Time)>,
    last_id: u64,
    refused: u64,
}

impl Subscriptions {
    /// All of these are wanted, and nothing was asked for yet.
    pub(super) fn new(profile: Arc<Profile>, market: Market, topics: Vec<Arc<Topic>>) -> Self {
        let entries = topics.into_iter().map(|topic| Entry { topic, is_wanted: true, is_retired: false, is_begun: false }).collect();
        Self { profile, market, entries, outbox: VecDeque::new(), next: None, sent: BTreeMap::new(), last_id: 0, refused: 0 }
    }

    /// The topic at a place.
    pub(super) fn topic(&self, at: usize) -> Option<&Arc<Topic>> {
        self.entries.get(at).map(|entry| &entry.topic)
    }

    /// The topics that are served, or shall be.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.entries.iter().filter(|entry| entry.is_wanted).map(|entry| &entry.topic)
    }

    /// How many topics the venue refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether every topic is served or refused.
    pub(super) fn is_served(&self) -> bool {
        self.outbox.is_empty() && self.sent.is_empty()
    }

    /// The place of the topic that carries the book of an instrument.
    pub(super) fn book_of(&self, instrument: &Instrument) -> Option<usize> {
        let is_its = |topic: &Topic| topic.instrument.as_ref().is_none_or(|own| own.venue_symbol == instrument.venue_symbol);
        self.entries.iter().position(|entry| entry.is_wanted && entry.topic.channels.contains(&Channel::Book) && is_its(&entry.topic))
    }

    /// The connection is open: everything that is wanted is asked for.
    pub(super) fn begin(&mut self) {
        let all: Vec<usize> = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_wanted).map(|(at, _)| at).collect();
        self.enqueue(Op::Subscribe, &all);
    }

    /// These are wanted from now on: the difference is asked for.
    pub(super) fn want(&mut self, topics: Vec<Arc<Topic>>) -> Change {
        let known: Vec<Arc<Topic>> = self.entries.iter().map(|entry| entry.topic.clone()).collect();
        let mut places: HashMap<&str, usize> = known.iter().enumerate().map(|(at, topic)| (topic.name.as_str(), at)).collect();
        let (mut change, mut begin) = (Change::default(), Vec::new());
        for topic in topics {
            let place = places.remove(topic.name.as_str());
            if let Some((at, entry)) = place.and_then(|at| Some((at, self.entries.get_mut(at)?))) {
                entry.topic = topic;
                // One that was refused stays refused, unless it was gone meanwhile.
                if std::mem::take(&mut entry.is_retired) {
                    entry.is_wanted = true;
                    begin.push(at);
                }
            } else {
                change.new.push(self.entries.len());
                begin.push(self.entries.len());
                self.entries.push(Entry { topic, is_wanted: true, is_retired: false, is_begun: false });
            }
        }
        for at in places.into_values() {
            if let Some(entry) = self.entries.get_mut(at).filter(|entry| !entry.is_retired) {
                (entry.is_wanted, entry.is_retired) = (false, true);
                change.end.push(at);
            }
        }
        change.end.sort_unstable();
        self.enqueue(Op::Unsubscribe, &change.end);
        self.enqueue(Op::Subscribe, &begin);
        change
    }

    /// Subscribes to a topic anew, ahead of what else waits.
    pub(super) fn begin_anew_at_once(&mut self, topic: usize) {
        for op in [Op::Subscribe, Op::Unsubscribe] {
            self.outbox.push_front(Frame { op, topics: vec![topic], attempts: 0 });
        }
    }

    /// Subscribes to a topic anew, behind the topics that were not asked for yet.
    pub(super) fn begin_anew_in_turn(&mut self, topic: usize) {
        for op in [Op::Unsubscribe, Op::Subscribe] {
            self.outbox.push_back(Frame { op, topics: vec![topic], attempts: 0 });
        }
    }

    fn enqueue(&mut self, op: Op, topics: &[usize]) {
        let stream = |at: &usize| self.entries.get(*at).map_or(usize::MAX, |entry| entry.topic.stream);
        for of_one_stream in topics.chunk_by(|a, b| stream(a) == stream(b)) {
            let most = of_one_stream.first().map_or(1, |at| self.profile.topics_per_frame(self.market, stream(at)));
            for chunk in of_one_stream.chunks(most) {
                self.outbox.push_back(Frame { op, topics: chunk.to_vec(), attempts: 0 });
            }
        }
    }

    /// Takes note of what the venue says to a frame. The topics that it refused by that.
    pub(super) fn control(&mut self, control: Control) -> Vec<usize> {
        match control {
            Control::Ack { id: Some(id) } => drop(self.sent.remove(&id)),
            // Frames are answered in the order in which they were sent.
            Control::Ack { id: None } => drop(self.sent.pop_first()),
            Control::AckTopic { id, topic } => self.acknowledged(id, &topic),
            Control::AckOnly { id, topics } => return self.acknowledged_only(id, &topics),
            Control::Rejected { id, topic, .. } => return self.rejected(id, topic.as_deref()).into_iter().collect(),
            Control::Alive | Control::Closing => {}
        }
        Vec::new()
    }

    /// The frame of that id, or else the first that names the topic.
    fn frame_of(&self, id: Option<u64>, topic: Option<&str>) -> Option<u64> {
        let names = |frame: &Frame, topic: &str| frame.topics.iter().any(|at| self.topic(*at).is_some_and(|known| known.name == topic));
        id.or_else(|| self.sent.iter().find(|(_, (frame, _))| topic.is_none_or(|topic| names(frame, topic))).map(|(id, _)| *id))
    }

    /// One topic was accepted; its frame waits for the others.
    fn acknowledged(&mut self, id: Option<u64>, topic: &str) {
        let Some(id) = self.frame_of(id, Some(topic)) else { return };
        let Some((frame, _)) = self.sent.get_mut(&id) else { return };
        frame.topics.retain(|at| self.entries.get(*at).is_none_or(|entry| entry.topic.name != topic));
        if frame.topics.is_empty() {
            self.sent.remove(&id);
        }
    }

    /// Exactly these topics were accepted: what else the frame asked for was refused without a word.
    fn acknowledged_only(&mut self, id: Option<u64>, topics: &[String]) -> Vec<usize> {
        let id = self.frame_of(id, topics.first().map(String::as_str));
        let Some((frame, _)) = id.and_then(|id| self.sent.remove(&id)).filter(|(frame, _)| frame.op == Op::Subscribe) else { return Vec::new() };
        let is_refused = |at: &usize| self.topic(*at).is_some_and(|known| !topics.contains(&known.name));
        let refused: Vec<usize> = frame.topics.into_iter().filter(is_refused).collect();
        for at in &refused {
            self.refuse(*at);
        }
        refused
    }

    /// A frame was refused: the topic that was the reason is dropped, the others are asked for again. Where the venue
    /// names none, the halves of the frame are tried until the guilty topic stands alone.
    fn rejected(&mut self, id: Option<u64>, topic: Option<&str>) -> Option<usize> {
        let (frame, _) = self.frame_of(id, topic).and_then(|id| self.sent.remove(&id))?;
        if frame.op == Op::Unsubscribe {
            return None;
        }
        let guilty = frame.topics.iter().position(|at| self.topic(*at).is_some_and(|known| topic == Some(known.name.as_str())));
        let mut rest = frame.topics;
        let refused = match (guilty, rest.as_slice()) {
            (Some(at), _) => {
                let guilty = rest.remove(at);
                self.enqueue(Op::Subscribe, &rest);
                // A frame that was sent again is refused because the first one had arrived: its topics are served.
                (frame.attempts == 0).then_some(guilty)?
            }
            (None, [one]) => *one,
            (None, topics) => {
                let (left, right) = topics.split_at(topics.len() / 2);
                self.enqueue(Op::Subscribe, left);
                self.enqueue(Op::Subscribe, right);
                return None;
            }
        };
        self.refuse(refused);
        Some(refused)
    }

    fn refuse(&mut self, topic: usize) {
        self.refused += 1;
        if let Some(entry) = self.entries.get_mut(topic) {
            (entry.is_wanted, entry.is_begun) = (false, false);
        }
    }

    /// When something is to be done: a frame that waits may go out, or one has waited for its answer for too long. `opened` is
    /// when the connection was.
    pub(super) fn wake_at(&self, opened: Time) -> Option<Time> {
        let frame = (!self.outbox.is_empty()).then(|| self.next.unwrap_or(opened));
        let late = self.sent.values().map(|(_, time)| *time).min().map(|sent| sent + ACK_TIMEOUT);
        frame.into_iter().chain(late).min()
    }

    /// Frames that were not answered wait to be sent again, or are given up.
    pub(super) fn repeat_late(&mut self, now: Time) {
        let late: Vec<u64> = self.sent.iter().filter(|(_, (_, time))| now >= *time + ACK_TIMEOUT).map(|(id, _)| *id).collect();
        for id in late {
            if let Some((mut frame, _)) = self.sent.remove(&id) {
                frame.attempts += 1;
                // To unsubscribe again would end the subscription that has begun since.
                if frame.op == Op::Subscribe && frame.attempts < ATTEMPTS {
                    self.outbox.push_back(frame);
                }
            }
        }
    }

    /// The frame that goes out next, if one waits and the pace allows it: its id, what it does, and to which topics. It counts
    /// as sent.
    pub(super) fn next_frame(&mut self, now: Time, pace: &mut Budget) -> Option<(u64, Op, Vec<usize>)> {
        loop {
            let frame = self.outbox.front_mut()?;
            let op = frame.op;
            // What was retired while its frame waited is not begun, and what was never begun needs no end.
            let is_due = |entry: &Entry| if op == Op::Subscribe { entry.is_wanted } else { entry.is_begun };
            frame.topics.retain(|at| self.entries.get(*at).is_some_and(is_due));
            if frame.topics.is_empty() {
                self.outbox.pop_front();
                continue;
            }
            if let Err(at) = pace.spend(now, 1) {
                self.next = Some(at);
                return None;
            }
            let frame = self.outbox.pop_front()?;
            let topics = frame.topics.clone();
            for at in &topics {
                if let Some(entry) = self.entries.get_mut(*at) {
                    entry.is_begun = op == Op::Subscribe;
                }
            }
            self.last_id += 1;
            self.sent.insert(self.last_id, (frame, now));
            return Some((self.last_id, op, topics));
        }
    }
}
