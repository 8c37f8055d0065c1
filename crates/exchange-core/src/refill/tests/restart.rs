//! A process that ended, however it did, and the next one that goes on where it stood.

use hashbrown::HashSet;

use super::*;

impl Rig {
    /// A new process in the place of this one: it has the checkpoint that was made when so many events were out, and those
    /// that went out since.
    fn restarted(self, checkpoint: Option<&(Vec<u8>, usize)>, ms: i64, endpoints: &[&str]) -> Self {
        let mut rig = Self { now: at(ms), past: self.past, forward: self.forward, out: self.out, ..Rig::new(endpoints) };
        if let Some((bytes, _)) = checkpoint {
            rig.pipeline.restore(bytes).unwrap();
        }
        rig.pipeline.observe(&rig.out[checkpoint.map_or(0, |(_, out)| *out)..]);
        rig.pipeline.restarted();
        rig
    }

    fn checkpoint(&self) -> (Vec<u8>, usize) {
        (self.pipeline.checkpoint(), self.out.len())
    }

    /// The connection is about to subscribe; the gaps that this gives.
    fn resume(&mut self, instrument: Option<Arc<Instrument>>) -> Vec<(EventId, String, Option<i64>)> {
        let topic = Topic { name: "t".into(), market: Market::Linear, ws_path: String::new(), channels: vec![Channel::Trade], instrument, stream: 0 };
        let gaps = self.pipeline.resume(&[Arc::new(topic)], self.now);
        self.out.extend(gaps.iter().cloned());
        let from = |gap: &Gap| gap.from.as_ref().and_then(Ident::as_number).map(|micros| micros.cast_signed() / 1000 - START);
        gaps.iter()
            .filter_map(|event| if let Body::Gap(gap) = &event.body { Some((event.id, event.instrument.venue_symbol.to_string(), from(gap))) } else { None })
            .collect()
    }

    fn once(&self) {
        let ids: HashSet<EventId, foldhash::fast::FixedState> = self.out.iter().map(|event| event.id).collect();
        assert_eq!(ids.len(), self.out.len(), "each went out once");
    }
}

#[test]
fn what_happened_while_nobody_listened_is_a_gap_and_is_refilled() {
    // With a checkpoint of any moment, or with none and everything that went out.
    for checkpointed in [None, Some(0), Some(2), Some(3)] {
        let mut rig = Rig::new(&[NEWEST]);
        let mut checkpoint = None;
        for trades in 0..=3 {
            if checkpointed == Some(trades) {
                checkpoint = Some(rig.checkpoint());
            }
            rig.trades((trades + 1..=3).take(1));
        }
        rig.missed([4, 5]);
        let mut rig = rig.restarted(checkpoint.as_ref(), 60, &[NEWEST]);
        let gaps = rig.resume(Some(instrument("A")));
        let [(gap, name, from)] = &gaps[..] else { panic!("{gaps:?}") };
        assert_eq!((name.as_str(), *from), ("A", Some(30)));
        assert_eq!(rig.resume(Some(instrument("A"))), [], "once");
        rig.served(Channel::Trade);
        assert!(rig.pipeline.take_woken());
        rig.trades([6]);
        rig.refill();
        // What is told again went out already.
        (1..=6).for_each(|id| rig.stream(nth(id)));
        assert_eq!(rig.ids(), (vec![1, 2, 3, 4, 5, 6], vec![4, 5]), "{checkpointed:?}");
        assert_eq!(rig.refills(), [(*gap, Some(30), Some(60), 2, true)]);
        rig.once();
    }
}

#[test]
fn a_hole_that_was_open_is_closed_by_the_next_process() {
    // The process ends before the answer came, and once more before the next did.
    for checkpoint in [true, false] {
        let mut rig = Rig::new(&[NEWEST, SPANS]);
        let first = interrupted(&mut rig, 6);
        let saved = checkpoint.then(|| rig.checkpoint());
        rig.missed([7, 8]);
        let mut rig = rig.restarted(saved.as_ref(), 90, &[NEWEST, SPANS]);
        let [(second, _, Some(60))] = rig.resume(Some(instrument("A")))[..] else { panic!("one gap") };
        rig.trades([9]);
        let saved = checkpoint.then(|| rig.checkpoint());
        rig.missed([10]);
        let mut rig = rig.restarted(saved.as_ref(), 120, &[NEWEST, SPANS]);
        let [(third, _, Some(90))] = rig.resume(Some(instrument("A")))[..] else { panic!("one gap") };
        rig.trades([11]);
        rig.refill();
        assert_eq!(rig.ids(), ((1..=11).collect(), rig.ids().1));
        let refills = rig.refills();
        assert_eq!(refills.iter().map(|told| (told.0, told.3, told.4)).collect::<Vec<_>>(), [(first, 2, true), (second, 2, true), (third, 1, true)]);
        rig.once();
        // It is over, for the next one too.
        let mut rig = rig.restarted(None, 130, &[NEWEST, SPANS]);
        assert!(rig.pipeline.next_refill(rig.now, rig.now).is_none());
    }
}

#[test]
fn one_stream_of_all_has_one_gap_from_what_came_last() {
    let mut rig = Rig::new(&[NEWEST]);
    rig.trades(1..=3);
    rig.stream(Event { instrument: instrument("B"), ..trade(9, 55) });
    let mut rig = rig.restarted(None, 60, &[NEWEST]);
    let gaps = rig.resume(None);
    assert!(matches!(&gaps[..], [(_, name, Some(55))] if name == "*"), "{gaps:?}");
    assert_eq!(rig.resume(Some(instrument("A"))), []);
}

#[test]
fn what_was_quiet_has_a_gap_as_well() {
    let mut rig = Rig::new(&[NEWEST]);
    rig.now = at(20);
    let topic = |instrument| Topic { name: "t".into(), market: Market::Linear, ws_path: String::new(), channels: vec![Channel::Trade], instrument, stream: 0 };
    assert!(rig.pipeline.served(&[Arc::new(topic(Some(instrument("A"))))], at(20)), "a checkpoint does not know it yet");
    assert!(!rig.pipeline.served(&[Arc::new(topic(Some(instrument("A"))))], at(30)));
    assert!(rig.pipeline.served(&[Arc::new(topic(None))], at(40)));
    let checkpoint = rig.checkpoint();
    let mut rig = rig.restarted(Some(&checkpoint), 60, &[NEWEST]);
    assert!(matches!(&rig.resume(Some(instrument("A")))[..], [(_, name, Some(20))] if name == "A"));
    assert!(matches!(&rig.resume(None)[..], [(_, name, Some(40))] if name == "*"));
}

#[test]
fn candles_of_each_interval_have_their_gap() {
    let mut rig = Rig::new(&[CANDLES]);
    rig.stream(candle(1, false));
    let mut rig = rig.restarted(None, 5 * MINUTE, &[CANDLES]);
    let mut gaps = |minutes| {
        let channels = vec![Channel::Candle(Interval::new(minutes, 'm').unwrap())];
        let topic = Topic { name: "t".into(), market: Market::Linear, ws_path: String::new(), channels, instrument: Some(instrument("A")), stream: 0 };
        rig.pipeline.resume(&[Arc::new(topic)], at(5 * MINUTE)).len()
    };
    assert_eq!((gaps(1), gaps(5), gaps(1), gaps(5)), (1, 1, 0, 0));
}

#[test]
fn who_begins_anew_has_no_gap() {
    let mut rig = Rig::new(&[NEWEST]);
    rig.trades(1..=3);
    rig.out.clear();
    let mut rig = rig.restarted(None, 60, &[NEWEST]);
    assert_eq!((rig.resume(Some(instrument("A"))), rig.resume(None)), (vec![], vec![]));
}

#[test]
fn what_did_not_go_out_counts_as_missed() {
    let mut rig = Rig::new(&[NEWEST]);
    rig.trades(1..=3);
    rig.past.push(nth(4));
    let lost = vec![nth(4)];
    let mut events = lost.clone();
    rig.pipeline.process(&mut events);
    assert_eq!(events.len(), 1);
    rig.pipeline.forget(&events);
    rig.gap(Channel::Trade, "A", 41);
    rig.trades([5]);
    rig.refill();
    assert_eq!(rig.ids(), (vec![1, 2, 3, 4, 5], vec![4]));
}
