//! Plans for a whole market: well-formed, batched where the venue serves many instruments at once, within budgets, and
//! subscribed to in frames that the venue takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use exchange_core::session::Happened;
use exchange_core::{Channel, Instrument, Interval, Market, Mode, Op, Plan, Session, Time, Topic, Venue, Want};
use serde_json::Value;

use crate::fixtures::{Tested, venues};
use crate::profiles::every_channel;

/// As many instruments as a large market has.
const INSTRUMENTS: usize = 600;
/// The default time between two cycles.
const CYCLE: Duration = Duration::from_secs(5);
/// The largest share of a budget that a cycle's requests may draw.
const SHARE: f64 = 0.9;
/// When requests are sent.
const SENT: Time = Time::from_millis(1_760_000_000_000);
/// A session repeats what was not acknowledged for so long: a connection must be subscribed to before.
const SUBSCRIBED: Duration = Duration::from_secs(15);

/// Names as venues have them, the odd ones included.
fn instruments(venue: &Tested, market: Market) -> Vec<Arc<Instrument>> {
    let name = |n: usize| match n {
        0 => "BTC-26DEC25".to_owned(),
        1 => "币安人生USDT".to_owned(),
        2 => "BTC/USD:BTC".to_owned(),
        3 => "1000000MOG_USDT".to_owned(),
        _ => format!("COIN{n}USDT"),
    };
    (0..INSTRUMENTS).map(|n| Arc::new(Instrument::named(&venue.name().into(), market, &name(n), None))).collect()
}

/// Each channel, candles of each interval included.
fn channels(venue: &Tested) -> Vec<Channel> {
    let mut all = every_channel(None);
    all.extend(venue.profile.intervals.keys().filter_map(|name| Interval::parse(name)).map(Channel::Candle));
    all
}

/// Calls `check` with the plan for each market, mode and channel alone, and then for all channels together.
fn each_plan(check: impl Fn(&Tested, &Want<'_>, &Plan) -> Result<(), String>) {
    let mut wrong = Vec::new();
    for venue in venues() {
        for market in venue.profile.markets.keys().copied() {
            let (instruments, channels) = (instruments(&venue, market), channels(&venue));
            for mode in [Mode::Poll, Mode::Stream, Mode::Auto] {
                for channels in channels.chunks(1).chain([channels.as_slice()]) {
                    let want = Want { market, channels, mode, fallback: mode == Mode::Auto, instruments: &instruments };
                    if let Err(what) = check(&venue, &want, &venue.exchange.plan(&venue.profile, &want)) {
                        let channels = if let [one] = channels { format!("{one:?}") } else { "all channels".into() };
                        wrong.push(format!("{} {market}, {mode:?}, {channels}: {what}", venue.name()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn plans_are_well_formed() {
    each_plan(|venue, want, plan| {
        for channel in want.channels {
            let served = plan.polls.iter().any(|poll| poll.channels.contains(channel)) || plan.topics.iter().any(|topic| topic.channels.contains(channel));
            if served == plan.unserved.contains(channel) {
                return Err(format!("{channel:?} is both served and not, or neither"));
            }
        }
        for poll in &plan.polls {
            let request = poll.request.at(SENT);
            if !request.target.starts_with('/') || !request.target.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}\"<>\\^`|".contains(&byte)) {
                return Err(format!("`{}` is no target of a request", request.target));
            }
            if poll.sweep != request.instrument.is_some() || request.market != want.market || poll.channels.is_empty() {
                return Err(format!("`{}` is of no market, channel or instrument that was wanted", request.target));
            }
            if venue.profile.limit(&request.limit).is_none() {
                return Err(format!("`{}` draws on `{}`, which is no limit", request.target, request.limit));
            }
        }
        let mut names = BTreeSet::new();
        for topic in &plan.topics {
            if topic.name.is_empty()
                || topic.name.split(' ').any(|word| word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control() || c == '{' || c == '}'))
            {
                return Err(format!("`{}` is no topic", topic.name));
            }
            if !(topic.ws_path.is_empty() || topic.ws_path.starts_with('/')) || topic.channels.is_empty() || topic.market != want.market {
                return Err(format!("the topic {} has no path, no channel, or another market", topic.name));
            }
            if !names.insert((&topic.ws_path, &topic.name)) {
                return Err(format!("the topic {} is asked for twice", topic.name));
            }
        }
        if want.mode == Mode::Poll && plan.topics.iter().any(|topic| topic.channels != [Channel::Instrument]) {
            return Err("polling subscribes to something".into());
        }
        Ok(())
    });
}

#[test]
fn what_one_request_serves_is_not_asked_for_one_by_one() {
    each_plan(|venue, want, plan| {
        for channel in want.channels {
            let bulk = venue.profile.endpoint.iter().find(|e| !e.history && !e.also && !e.per_instrument() && e.serves(want.market, *channel));
            let swept = plan.polls.iter().filter(|poll| poll.sweep && poll.channels.contains(channel)).count();
            if let (Some(endpoint), true) = (bulk, swept > 0) {
                return Err(format!("{swept} requests for {channel:?}, which {} serves with one", endpoint.name));
            }
        }
        Ok(())
    });
}

#[test]
fn a_cycle_stays_within_its_budgets() {
    each_plan(|venue, _, plan| {
        let mut drawn: BTreeMap<&str, f64> = BTreeMap::new();
        // Sweeps take what the budget leaves them.
        for poll in plan.polls.iter().filter(|poll| !poll.sweep) {
            let Some(limit) = venue.profile.limit(&poll.request.limit) else { continue };
            let per_window = limit.window.as_secs_f64() / poll.every.unwrap_or(CYCLE).max(CYCLE).as_secs_f64();
            *drawn.entry(&poll.request.limit).or_default() += f64::from(poll.request.cost) * per_window;
        }
        for (name, drawn) in drawn {
            let budget = venue.profile.limit(name).map_or(0.0, |limit| f64::from(limit.budget));
            if drawn > budget * SHARE {
                return Err(format!("polling every {CYCLE:?} draws {drawn} of the {budget} of {name}"));
            }
        }
        Ok(())
    });
}

#[test]
fn connections_subscribe_as_the_venue_allows() {
    each_plan(|venue, want, plan| {
        let mut by_path: BTreeMap<&str, Vec<Arc<Topic>>> = BTreeMap::new();
        for topic in &plan.topics {
            by_path.entry(&topic.ws_path).or_default().push(Arc::new(topic.clone()));
        }
        for (path, topics) in by_path {
            // Full connections are alike: the first and the last are enough.
            let connections: Vec<&[Arc<Topic>]> = topics.chunks(venue.profile.ws_of(want.market).topics_per_connection).collect();
            for topics in [connections.first(), connections.last()].into_iter().flatten() {
                subscribe(venue, want.market, path, topics)?;
            }
        }
        Ok(())
    });
}

/// Lives the beginning of a connection and looks at what it sends.
fn subscribe(venue: &Tested, market: Market, path: &str, topics: &[Arc<Topic>]) -> Result<(), String> {
    let ws = &venue.profile.ws_of(market);
    let mut profile = venue.profile.clone();
    // Nothing ever comes here, which is no reason to begin anew.
    profile.stream.iter_mut().for_each(|stream| stream.cadence = None);
    let mut session =
        Session::new(Venue::new(venue.exchange, profile), market, &format!("wss://localhost{path}"), topics.to_vec(), (1, std::time::Instant::now()));
    let opened = SENT;
    let (mut now, mut turn, mut sent) = (opened, exchange_core::Turn::default(), Vec::new());
    session.handle(now, Happened::Opened { received: opened }, &mut turn);
    while now < opened + SUBSCRIBED {
        // A session's own ping is no subscription; a protocol ping is an empty frame.
        let own: Vec<String> =
            ws.hello.iter().chain(ws.ping.iter().filter_map(|ping| ping.text.as_ref())).map(|text| venue.profile.worded(market, text, now)).collect();
        let is_ping = |frame: &String| frame.is_empty() || own.contains(frame);
        sent.extend(turn.send.drain(..).filter(|frame| !is_ping(frame)).map(|frame| (now, frame)));
        now = session.wake_at().max(now + Duration::from_millis(1));
        session.handle(now, Happened::Woken, &mut turn);
    }
    let mut asked = BTreeSet::new();
    for (_, frame) in &sent {
        let value: Value = serde_json::from_str(frame).map_err(|error| format!("{error}: {frame}"))?;
        let named: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).filter(|name| names(&value, name)).collect();
        let most = topics.iter().filter(|topic| named.contains(&topic.name.as_str())).map(|topic| venue.profile.topics_per_frame(market, topic.stream)).max();
        if named.is_empty() || most.is_none_or(|most| named.len() > most) {
            return Err(format!("a frame of {} topics, {most:?} allowed: {frame}", named.len()));
        }
        asked.extend(named);
    }
    if asked.len() != topics.len() {
        return Err(format!("only {} of {} topics are subscribed to within {SUBSCRIBED:?}", asked.len(), topics.len()));
    }
    let in_window = |start: Time| sent.iter().filter(|(time, _)| *time >= start && *time < start + ws.frames.window).count();
    if let Some((_, frame)) = sent.iter().find(|(time, _)| in_window(*time) > ws.frames.budget as usize) {
        return Err(format!("more than {} frames in {:?}, beginning with {frame}", ws.frames.budget, ws.frames.window));
    }
    let some: Vec<&Topic> = topics.iter().take(1).map(Arc::as_ref).collect();
    if venue.exchange.subscribe(Op::Subscribe, &some, 1, opened) == venue.exchange.subscribe(Op::Unsubscribe, &some, 1, opened) {
        return Err("unsubscribing is worded as subscribing".into());
    }
    Ok(())
}

/// Whether a frame names a topic: each word of its name as a string of its own, wherever in the frame.
fn names(frame: &Value, topic: &str) -> bool {
    topic.split(' ').all(|word| holds(frame, word))
}

fn holds(frame: &Value, word: &str) -> bool {
    match frame {
        Value::String(text) => text == word,
        Value::Array(all) => all.iter().any(|value| holds(value, word)),
        Value::Object(all) => all.values().any(|value| holds(value, word)),
        _ => false,
    }
}
