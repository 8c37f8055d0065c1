//! One request of the schedule, for all that want its answer.

use std::time::Duration;

use exchange_core::budget::Class;
use exchange_core::circuit::BackOff;
use exchange_core::memo::Memo;
use exchange_core::plan::Poll;
use exchange_core::{Channel, Market, Time};

pub(super) struct Scheduled {
    pub(super) poll: Poll,
    /// The markets that its answer serves.
    pub(super) markets: Vec<Market>,
    pub(super) memo: Option<Memo>,
    pub(super) due: Time,
    /// Requests of this poll that are under way, and further pages that are to be.
    pub(super) running: u32,
    pub(super) attempts: u32,
    pub(super) pauses: BackOff,
    /// Asked at least once, or given up: what `--once` waits for.
    pub(super) done: bool,
    /// Refused for good.
    pub(super) dropped: bool,
}

impl Scheduled {
    /// The same request is wanted for something else as well. What is now asked more often is due earlier, too.
    pub(super) fn join(&mut self, poll: Poll, now: Time, interval: Duration) {
        if !self.markets.contains(&poll.request.market) {
            self.markets.push(poll.request.market);
        }
        let more: Vec<Channel> = poll.channels.into_iter().filter(|channel| !self.poll.channels.contains(channel)).collect();
        self.poll.channels.extend(more);
        self.poll.every = self.poll.every.zip(poll.every).map(|(known, other)| known.min(other));
        if self.attempts == 0 {
            self.due = self.due.min(now + self.poll.every.unwrap_or_default().max(interval));
        }
        if !poll.memo {
            self.memo = None;
        }
    }

    /// Many small requests are no more urgent than anything else, whatever they are for.
    pub(super) fn class(&self) -> Class {
        if self.poll.sweep { Class::Rest } else { Class::of(&self.poll.channels) }
    }

    /// Whether it will not be asked again.
    pub(super) fn is_over(&self, once: bool) -> bool {
        self.dropped || (once && self.done)
    }
}

#[cfg(test)]
mod tests {
    use exchange_core::Request;

    use super::super::RETRY;
    use super::*;

    #[test]
    fn what_is_wanted_more_often_is_due_earlier() {
        let request = Request {
            endpoint: "all".into(),
            market: Market::Linear,
            method: exchange_core::profile::Method::Get,
            target: "/all".into(),
            body: None,
            limit: "ip".into(),
            cost: 1,
            instrument: None,
        };
        let poll = |channel, every| Poll { request: request.clone(), channels: vec![channel], every, sweep: false, memo: false };
        let minute = Duration::from_mins(1);
        let mut scheduled = Scheduled {
            poll: poll(Channel::Instrument, Some(minute)),
            markets: vec![Market::Linear],
            memo: None,
            due: Time::EPOCH + minute,
            running: 0,
            attempts: 0,
            pauses: BackOff::new(RETRY.0, RETRY.1, 1, tokio::time::Instant::now().into_std()),
            done: true,
            dropped: false,
        };
        let (now, interval) = (Time::EPOCH + Duration::from_secs(1), Duration::from_secs(5));
        scheduled.join(poll(Channel::Ticker, None), now, interval);
        assert_eq!((scheduled.due, scheduled.poll.every), (now + interval, None));
        scheduled.due = now;
        scheduled.join(poll(Channel::Mark, Some(minute)), now, interval);
        assert_eq!((scheduled.due, scheduled.poll.every, scheduled.poll.channels.len()), (now, None, 3), "never later");
        (scheduled.due, scheduled.attempts) = (Time::EPOCH + minute, 1);
        scheduled.join(poll(Channel::Mark, None), now, interval);
        assert_eq!(scheduled.due, Time::EPOCH + minute, "what was refused waits as long as it has to");
    }
}
