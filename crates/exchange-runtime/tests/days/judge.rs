//! What has to hold of a day, whatever its weather: what was served was delivered or is known to be missed, once; nothing
//! was invented; a venue was ready whenever nothing was wrong with it, and was never asked more than it allows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use exchange_core::event::{GapReason, Ident};
use exchange_core::profile::Method;
use exchange_core::{Body, Channel, Event, EventId, Market, Profile, Time, canonical};

use crate::net::Sent;
use crate::weather::{Episode, Weather};

/// A venue is back within so long of its last fault.
const BACK: u64 = 30;
/// A connection that lasted so long has carried something,
const LASTED: Duration = Duration::from_mins(2);
/// and one that lasted so long is relieved before the venue ends it.
const RELIEVED: Duration = Duration::from_hours(20);
/// A clock that is off makes a time that much uncertain.
const AROUND: u64 = 700;
/// What a stream tells is served this soon after it happened; what is served later is read of the past.
const LIVE: Duration = Duration::from_secs(5);
/// The slowest answer is there after so long.
const SLOWEST: Duration = Duration::from_mins(2);
/// A venue's budget is used up to so many percent.
const SHARE: u64 = 90;

/// Whose event it is, of which kind.
type Place = (String, Market, usize);

/// A fact that was served, first and last.
struct Served {
    first: Time,
    last: Time,
    place: Place,
    /// A candle out of a history: asked for in spans, of which only what was missed is passed on.
    past: bool,
    /// The answer to a question whether all is well, and nothing else: none of it is passed on.
    asked: bool,
    event: Event,
}

/// A stretch of time of which something was missed, by the collector's own word.
struct Missed {
    symbol: String,
    from: Time,
    to: Time,
}

/// What is known of a day.
pub(crate) struct Judge {
    began: Time,
    weather: Weather,
    /// What the venues list of what is collected.
    listed: BTreeSet<(String, Market, String)>,
    served: HashMap<EventId, Served>,
    delivered: HashSet<EventId>,
    trades: HashSet<(String, Market, String)>,
    missed: BTreeMap<(String, Market, usize), Vec<Missed>>,
    /// What was made good for, by the collector's own word.
    refilled: BTreeMap<(String, Market, usize), Vec<Missed>>,
    /// When something of each stream came first and last.
    heard: BTreeMap<Place, (Time, Time)>,
    /// Ids as the collector gave them.
    ids: HashSet<EventId>,
    pub(crate) events: u64,
    pub(crate) gaps: u64,
    pub(crate) errors: u64,
    pub(crate) faults: Vec<String>,
    /// When a venue was not ready without a reason: since when, until when, its own words.
    unready: Vec<(String, Duration, Duration, String)>,
    /// Facts that were delivered before anything said that they were served: an answer is told of when its last byte is
    /// on its way.
    unknown: HashMap<EventId, Event>,
}

/// The same for the same fact, whenever it arrived.
fn fact(event: &Event) -> EventId {
    if event.time.is_some() { event.id } else { canonical::id(&Event { received: Time::EPOCH, ..event.clone() }) }
}

fn place(event: &Event, channel: Channel) -> Place {
    (format!("{}/{}", event.instrument.venue, event.instrument.venue_symbol), event.instrument.market, channel.index())
}

fn time(ident: Option<&Ident>) -> Option<Time> {
    let micros = ident.and_then(Ident::as_number)?;
    i64::try_from(micros).ok().map(Time::from_micros)
}

/// A stretch of time of a channel of an event's instrument, and where it is kept.
fn span(event: &Event, channel: Channel, from: Time, to: Time) -> ((String, Market, usize), Missed) {
    let instrument = &event.instrument;
    let key = (instrument.venue.to_string(), instrument.market, channel.index());
    (key, Missed { symbol: instrument.venue_symbol.to_string(), from, to })
}

fn shown(event: &Event) -> String {
    let mut line = Vec::new();
    event.write_json(None, &mut line);
    line.truncate(300);
    String::from_utf8_lossy(&line).into_owned()
}

/// Whether a time lies in one of these stretches.
fn within(all: &BTreeMap<(String, Market, usize), Vec<Missed>>, (name, market, channel): &Place, at: Time) -> bool {
    let (venue, symbol) = name.split_once('/').unwrap();
    let own = all.get(&(venue.to_owned(), *market, *channel));
    own.is_some_and(|own| own.iter().any(|span| (span.symbol == symbol || span.symbol == "*") && span.from <= at && at <= span.to))
}

impl Judge {
    pub(crate) fn new(began: Time, weather: &Weather) -> Self {
        Self {
            began,
            weather: weather.clone(),
            listed: BTreeSet::new(),
            served: HashMap::new(),
            delivered: HashSet::new(),
            trades: HashSet::new(),
            missed: BTreeMap::new(),
            refilled: BTreeMap::new(),
            heard: BTreeMap::new(),
            ids: HashSet::new(),
            events: 0,
            gaps: 0,
            errors: 0,
            faults: Vec::new(),
            unready: Vec::new(),
            unknown: HashMap::new(),
        }
    }

    /// Something is wrong.
    pub(crate) fn blame(&mut self, what: String) {
        self.faults.push(what);
    }

    fn clock(&self, time: Time) -> String {
        let seconds = time.since(self.began).as_secs_f64();
        format!("{seconds:.1} s")
    }

    /// What the simulator says that it served, and what it was asked for until now.
    pub(crate) fn truth(&mut self, events: Vec<Event>, log: &[Sent]) {
        let Some(first) = events.iter().map(|event| event.received).min() else { return };
        let questions: Vec<&Sent> = log.iter().rev().take_while(|sent| sent.at + SLOWEST >= first).filter(|sent| sent.is_question()).collect();
        for event in events {
            let Some(channel) = event.body.channel() else { continue };
            let id = fact(&event);
            let at = event.received;
            let asked = questions.iter().any(|sent| sent.is_answered_by(&event));
            let past = matches!(event.body, Body::Candle(_)) && event.time.is_none();
            let place = place(&event, channel);
            let served = self.served.entry(id).or_insert_with(|| Served { first: at, last: at, place, past, asked, event });
            served.last = at;
            served.asked &= asked;
        }
    }

    /// What the collector passed on.
    pub(crate) fn delivered(&mut self, events: &[Event]) {
        for event in events {
            self.events += 1;
            if !self.ids.insert(event.id) {
                self.blame(format!("twice: {}", shown(event)));
            }
            match &event.body {
                Body::Gap(gap) => {
                    self.gaps += 1;
                    let second = event.received.since(self.began).as_secs();
                    // What a frame left out shows when the next one comes, however late that is.
                    let late = gap.reason == GapReason::Sequence;
                    let excused =
                        |episode: &Episode| episode.from <= second && (second <= episode.noticed.max(episode.to) + BACK || (late && episode.leaves_out()));
                    if !self.suffers(&event.instrument.venue, excused) {
                        self.blame(format!("a gap while nothing was wrong, at {second} s: {}", shown(event)));
                    }
                    if let (GapReason::Disconnect | GapReason::Overflow, Some(from)) = (gap.reason, time(gap.from.as_ref())) {
                        let (key, missed) = span(event, gap.channel, from, event.received);
                        self.missed.entry(key).or_default().push(missed);
                    }
                    continue;
                }
                Body::Refill(refill) => {
                    if let (true, Some(from), Some(to)) = (refill.complete, time(refill.from.as_ref()), time(refill.to.as_ref())) {
                        let (key, refilled) = span(event, refill.channel, from, to);
                        self.refilled.entry(key).or_default().push(refilled);
                    }
                    continue;
                }
                Body::DecodeError(_) => {
                    self.errors += 1;
                    continue;
                }
                // The simulator does not tell what it lists.
                Body::Instrument(_) => {
                    self.listed.insert((event.instrument.venue.to_string(), event.instrument.market, event.instrument.venue_symbol.to_string()));
                    continue;
                }
                Body::Trade(trade) => {
                    let id = trade.trade_id.as_ref().map(ToString::to_string).unwrap_or_default();
                    if !self.trades.insert((place(event, Channel::Trade).0, event.instrument.market, id)) {
                        self.blame(format!("a trade twice: {}", shown(event)));
                    }
                }
                _ => {}
            }
            let Some(channel) = event.body.channel() else { continue };
            let id = fact(event);
            self.delivered.insert(id);
            if !self.served.contains_key(&id) {
                self.unknown.insert(id, event.clone());
            }
            let heard = self.heard.entry(place(event, channel)).or_insert((event.received, event.received));
            heard.1 = event.received;
        }
    }

    /// A venue is not ready, for these reasons.
    pub(crate) fn unready(&mut self, venue: &str, second: u64, problems: &BTreeMap<String, String>) {
        let at = Duration::from_secs(second);
        let sockets = problems.keys().all(|key| key.contains("ws"));
        let excused = |episode: &Episode| episode.from <= second && (second <= episode.to + BACK || (sockets && second <= episode.noticed));
        if second < BACK || self.suffers(venue, excused) {
            return;
        }
        let why = format!("{problems:?}");
        match self.unready.iter_mut().rfind(|known| known.0 == venue) {
            Some((_, _, to, known)) if at <= *to + Duration::from_secs(BACK) && *known == why => *to = at,
            _ => self.unready.push((venue.to_owned(), at, at, why)),
        }
    }

    /// Whether something goes wrong with a venue.
    fn suffers(&self, venue: &str, what: impl Fn(&Episode) -> bool) -> bool {
        self.weather.episodes.iter().any(|episode| episode.venue == venue && what(episode))
    }

    /// What the venues list of what is collected.
    pub(crate) fn listed(&self) -> &BTreeSet<(String, Market, String)> {
        &self.listed
    }

    /// All trades of a day, served or not, in an instrument's own memory. Each that was missed has to lie in a gap, or in a
    /// time in which the venue itself left things out.
    pub(crate) fn history(&mut self, trades: Vec<Event>, until: Time) {
        for event in trades {
            let Some(time) = event.time.filter(|time| *time > self.began + Duration::from_secs(BACK) && *time < until) else { continue };
            let second = time.since(self.began).as_secs();
            if self.delivered.contains(&fact(&event)) || self.may_be_left_out(&event, time) {
                continue;
            }
            let place = place(&event, Channel::Trade);
            if within(&self.refilled, &place, time) {
                self.blame(format!("a trade at {second} s is not among what was refilled: {}", shown(&event)));
            } else if !within(&self.missed, &place, time) {
                self.blame(format!("a trade at {second} s was missed, without a gap: {}", shown(&event)));
            }
        }
    }

    /// Whether the venue itself may have left out of its stream what happened at that time, or its times are off.
    fn may_be_left_out(&self, event: &Event, time: Time) -> bool {
        let second = time.since(self.began).as_secs();
        let left_out = |episode: &Episode| episode.leaves_out() && second + AROUND >= episode.from && second <= episode.to + AROUND;
        self.suffers(&event.instrument.venue, left_out)
    }

    /// Whether the collector says that it missed this, which it did not deliver. What a stream or a poll served is known by
    /// when that was; a trade that only a later answer about the past holds, by when it happened.
    fn is_told(&self, served: &Served, end: Time, polled: bool) -> bool {
        let is_trade = matches!(served.event.body, Body::Trade(_)) && !polled;
        if let Some(time) = served.event.time.filter(|time| is_trade && served.first.since(*time) > LIVE) {
            return within(&self.missed, &served.place, time) || self.may_be_left_out(&served.event, time);
        }
        [served.first, served.last].into_iter().all(|at| at >= end || within(&self.missed, &served.place, at))
    }

    /// What was wrong with what was asked.
    pub(crate) fn asked(&mut self, log: &[Sent], profiles: &[Profile]) {
        for profile in profiles {
            let own: Vec<&Sent> = log.iter().filter(|sent| sent.venue() == profile.name).collect();
            self.bans(&own, profile);
            self.budgets(&own, profile);
            self.reconnects(&own, &profile.name);
        }
    }

    /// A connection that took the place of another has a gap between them, unless the other one was relieved in time, or did
    /// not last.
    fn reconnects(&mut self, own: &[&Sent], venue: &str) {
        let mut last: BTreeMap<&str, Time> = BTreeMap::new();
        let opened =
            own.iter().filter(|sent| sent.socket).filter_map(|sent| Some((sent.target.as_str(), sent.answer.filter(|answer| answer.status == 101)?.at)));
        let mut untold = Vec::new();
        for (target, at) in opened {
            let Some(before) = last.insert(target, at) else { continue };
            let of_venue = self.missed.iter().filter(|((name, ..), _)| name == venue).flat_map(|(_, missed)| missed);
            let told = of_venue.into_iter().any(|gap| gap.to > before && gap.to <= at);
            if !told && (LASTED..RELIEVED).contains(&at.since(before)) {
                untold.push(format!("{target} was opened at {} and again at {}, and no gap between them", self.clock(before), self.clock(at)));
            }
        }
        self.faults.extend(untold);
    }

    fn bans(&mut self, own: &[&Sent], profile: &Profile) {
        for banned in own {
            let Some(answer) = banned.answer.filter(|answer| !banned.socket && matches!(answer.status, 418 | 403)) else { continue };
            let Some(seconds) = answer.retry_after else { continue };
            let until = answer.at + Duration::from_secs(seconds);
            let early: Vec<String> = own
                .iter()
                .filter(|sent| !sent.socket && sent.at > answer.at && sent.at < until)
                .map(|sent| format!("{} at {}", sent.target, self.clock(sent.at)))
                .collect();
            if !early.is_empty() {
                let (from, to) = (self.clock(answer.at), self.clock(until));
                self.blame(format!("{} was asked though it banned us from {from} to {to}: {}", profile.name, early.join(", ")));
            }
        }
    }

    fn budgets(&mut self, own: &[&Sent], profile: &Profile) {
        let mut spent: BTreeMap<String, Vec<(Time, u64)>> = BTreeMap::new();
        let connects = (&profile.ws.connects, "connects");
        for sent in own {
            if sent.socket {
                spent.entry(connects.1.to_owned()).or_default().push((sent.at, 1));
                continue;
            }
            let url = format!("http{}{}", crate::net::HOST, sent.target);
            let endpoint = [Market::Spot, Market::Linear, Market::Inverse].iter().find_map(|market| profile.endpoint_at(*market, Method::Get, &url, None));
            match endpoint {
                Some(endpoint) => spent.entry(endpoint.limit.clone()).or_default().push((sent.at, u64::from(endpoint.cost))),
                None => self.blame(format!("no endpoint of {}: {}", profile.name, sent.target)),
            }
            let used = sent.answer.and_then(|answer| answer.used);
            if let Some((used, limit)) = used.zip(endpoint.and_then(|endpoint| profile.limit(&endpoint.limit)))
                && used * 100 > u64::from(limit.budget) * SHARE
            {
                self.blame(format!("{used} of {} used at {} by {}", limit.budget, self.clock(sent.at), profile.name));
            }
        }
        for (name, spent) in &spent {
            let limit = if name == connects.1 { Some(connects.0) } else { profile.limit(name) };
            let Some(limit) = limit else { continue };
            let most = u64::from(limit.budget) * SHARE / 100;
            let (mut first, mut sum) = (0, 0);
            for (at, cost) in spent {
                sum += cost;
                while at.since(spent[first].0) >= limit.window {
                    sum -= spent[first].1;
                    first += 1;
                }
                if sum > most {
                    return self.blame(format!("{sum} of {} {name} of {} within {:?} at {}", limit.budget, profile.name, limit.window, self.clock(*at)));
                }
            }
        }
    }

    /// The last word: what was lost, what was invented, what fell silent for good. Nothing is asked of what was served
    /// from `end` on; streams that spoke within `first` seconds have to speak in the last `last` seconds, too. Without
    /// `states`, those that repeat themselves were held back; where nothing is `polled`, answers about the past were only asked
    /// for to fill gaps.
    pub(crate) fn conclude(&mut self, end: Time, (first, last): (u64, u64), states: bool, polled: bool) {
        for (venue, from, to, why) in std::mem::take(&mut self.unready) {
            self.blame(format!("{venue} is not ready from {from:?} to {to:?}: {why}"));
        }
        let invented: BTreeSet<String> = self.unknown.iter().filter(|(id, _)| !self.served.contains_key(*id)).map(|(_, event)| shown(event)).collect();
        if !invented.is_empty() {
            self.blame(format!("{} invented: {:#?}", invented.len(), invented.iter().take(3).collect::<Vec<_>>()));
        }
        let state =
            |channel: usize| [Channel::Ticker, Channel::Quote, Channel::Mark, Channel::Funding, Channel::OpenInterest].iter().any(|c| c.index() == channel);
        let missing: BTreeMap<Time, String> = self
            .served
            .iter()
            .filter(|(id, served)| !self.delivered.contains(*id) && (states || !state(served.place.2)) && (polled || !served.past))
            .filter(|(_, served)| !served.asked)
            // The venue's history begins before the day does.
            .filter(|(_, served)| !matches!(served.event.body, Body::Trade(_)) || served.event.time >= Some(self.began))
            .filter(|(_, served)| !self.is_told(served, end, polled))
            .map(|(_, served)| (served.first, format!("{} {}", self.clock(served.first), shown(&served.event))))
            .collect();
        if !missing.is_empty() {
            self.blame(format!("{} lost, without a gap: {:#?}", missing.len(), missing.values().take(3).collect::<Vec<_>>()));
        }
        // A ticker that is polled now and then may be what it was each time.
        let streams: Vec<usize> =
            [Channel::Ticker, Channel::Quote, Channel::Trade, Channel::Book].iter().filter(|c| states || **c != Channel::Ticker).map(|c| c.index()).collect();
        let (early, late) = (self.began + Duration::from_secs(first), Time::from_micros(end.micros() - i64::try_from(last * 1_000_000).unwrap()));
        let silent: Vec<&Place> =
            self.heard.iter().filter(|(place, (first, last))| streams.contains(&place.2) && *first < early && *last < late).map(|(place, _)| place).collect();
        if !silent.is_empty() {
            self.faults.push(format!("silent at the end: {silent:?}"));
        }
    }
}
