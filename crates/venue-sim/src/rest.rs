//! What the venues' HTTP interfaces have in common: which candles and which settlements an answer holds.

use crate::market::{Candle, Inst, MINUTE};

/// A candle that ends so soon is left out: whether it is over would depend on how long the answer is on its way.
const TOO_SOON: i64 = 5_000;
/// Candles of the past go back so far.
const PAST: i64 = 1500;

/// Candles of so many minutes, oldest first: those that opened within `window`. `latest` is for venues that keep the
/// end of a window that holds too many. Candles of the running session are those that were traded; those before it are
/// drawn.
pub(crate) fn candles(inst: &Inst, minutes: i64, now: i64, window: (Option<i64>, Option<i64>), limit: usize, latest: bool) -> Vec<Candle> {
    if !inst.moves() {
        return Vec::new();
    }
    let length = minutes * MINUTE;
    let (from, to) = (window.0.unwrap_or(i64::MIN), window.1.unwrap_or(i64::MAX));
    let wanted = |start: i64| start >= from && start <= to;
    // Of other lengths than a minute, only what was over when the session began.
    let born = inst.born.div_euclid(length) * length;
    let past = (1..=PAST).rev().map(|back| born - back * length).filter(|start| wanted(*start)).map(|start| inst.past_candle(start, minutes));
    let traded = inst.candles.iter().chain(&inst.candle).filter(|candle| minutes == 1 && wanted(candle.start));
    let mut all: Vec<Candle> = past.chain(traded.copied()).collect();
    if all.last().is_some_and(|last| last.start + length > now && last.start + length < now + TOO_SOON) {
        all.pop();
    }
    let first = if window.0.is_some() && !latest { 0 } else { all.len().saturating_sub(limit) };
    all.drain(..first);
    all.truncate(limit);
    all
}

/// Times of settlements within `window`, newest first.
pub(crate) fn settlements(inst: &Inst, now: i64, window: (Option<i64>, Option<i64>), limit: usize) -> Vec<i64> {
    let (from, to) = (window.0.unwrap_or(i64::MIN), window.1.unwrap_or(i64::MAX));
    let within = inst.fundings(now).filter(|at| *at >= from && *at <= to);
    within.take(limit).collect()
}
