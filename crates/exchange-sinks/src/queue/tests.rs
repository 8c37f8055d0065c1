//! The queue over a server that does as it is told.

use std::sync::Mutex;

use exchange_core::{Body, Event, Instrument, Market, Time};

use super::*;
use crate::SinkErrorKind;
use crate::contract::{batch, block_on};

/// What the server does with the next messages, and what it stored.
#[derive(Default)]
struct Inside {
    script: VecDeque<Turn>,
    answers: VecDeque<(u64, Answer)>,
    stored: Vec<u8>,
    connected: bool,
}

enum Turn {
    /// Takes a message and says so.
    Take,
    /// Takes a message, and the connection breaks before it says so.
    TakeAndBreak,
    Later,
    Refuse,
}

struct Moody(Arc<Mutex<Inside>>);

fn trouble() -> SinkError {
    SinkError::new(SinkErrorKind::Retryable, "trouble")
}

impl Server for Moody {
    async fn connect(&mut self) -> Result<bool, SinkError> {
        Ok(!std::mem::replace(&mut self.0.lock().unwrap().connected, true))
    }

    async fn send(&mut self, message: Message) -> Result<(), SinkError> {
        let mut inside = self.0.lock().unwrap();
        let turn = inside.script.pop_front().unwrap_or(Turn::Take);
        if matches!(turn, Turn::Take | Turn::TakeAndBreak) {
            inside.stored.extend_from_slice(message.line());
            inside.stored.push(b'\n');
        }
        let answer = match turn {
            Turn::Take => Answer::Safe,
            Turn::TakeAndBreak => {
                inside.connected = false;
                return Err(trouble());
            }
            Turn::Later => Answer::Later(trouble()),
            Turn::Refuse => Answer::Refused("too large".into()),
        };
        inside.answers.push_back((message.number, answer));
        Ok(())
    }

    async fn answer(&mut self) -> Result<(u64, Answer), SinkError> {
        let answer = self.0.lock().unwrap().answers.pop_front();
        match answer {
            Some(answer) => Ok(answer),
            None => std::future::pending().await,
        }
    }

    fn silent(&mut self) -> SinkError {
        SinkError::new(SinkErrorKind::Retryable, "silent")
    }

    async fn close(&mut self) {}
}

fn moody(script: impl IntoIterator<Item = Turn>) -> (Queue<Moody>, Arc<Mutex<Inside>>) {
    let inside = Arc::new(Mutex::new(Inside { script: script.into_iter().collect(), ..Inside::default() }));
    (Queue::new("moody:", Moody(inside.clone())).with_patience(Duration::from_millis(1)), inside)
}

#[test]
fn a_message_without_an_answer_is_sent_again_over_the_next_connection() {
    let (mut queue, inside) = moody([Turn::Take, Turn::TakeAndBreak]);
    block_on(async {
        queue.write(&batch(0..3)).await.unwrap();
        queue.flush().await.unwrap();
    });
    // The first was answered, or not yet asked: the second comes twice, which its id tells.
    let text = String::from_utf8(inside.lock().unwrap().stored.clone()).unwrap();
    let wanted = [batch(0..2), batch(0..3)].iter().map(|batch| String::from_utf8(batch.lines().to_vec()).unwrap()).collect::<String>();
    assert_eq!(text, wanted);
}

#[test]
fn what_the_server_puts_off_is_tried_at_the_next_call() {
    let (mut queue, inside) = moody([Turn::Take, Turn::Later, Turn::Take]);
    block_on(async {
        queue.write(&batch(0..3)).await.unwrap();
        assert_eq!(queue.flush().await.unwrap_err().to_string(), "trouble");
        queue.flush().await.unwrap();
    });
    let wanted = [batch(0..1), batch(2..3), batch(1..2)].iter().flat_map(|batch| batch.lines().to_vec()).collect::<Vec<u8>>();
    assert_eq!(inside.lock().unwrap().stored, wanted);
}

#[test]
fn trouble_with_many_messages_is_one_error() {
    let (mut queue, inside) = moody(std::iter::repeat_with(|| Turn::Later).take(1_000));
    block_on(async {
        queue.write(&batch(0..1_000)).await.unwrap();
        queue.flush().await.unwrap_err();
        queue.flush().await.unwrap();
    });
    assert_eq!(inside.lock().unwrap().stored, batch(0..1_000).lines());
}

#[test]
fn no_more_bytes_are_accepted_than_may_be() {
    let (mut queue, inside) = moody([]);
    let instrument = Arc::new(Instrument::named(&"okx".into(), Market::Linear, "X", None));
    let large = |_| {
        let body = exchange_core::event::DecodeFailure { reason: String::new(), excerpt: "x".repeat(1 << 20) };
        Event::new(instrument.clone(), Time::from_micros(1), None, Body::DecodeError(Box::new(body)))
    };
    let more_than_fits = Arc::new(Batch::new((0..20).map(large).collect()));
    assert!(more_than_fits.lines().len() > IN_FLIGHT_BYTES);
    block_on(async {
        queue.write(&more_than_fits).await.expect("alone, it is taken all the same");
        let held = std::mem::take(&mut inside.lock().unwrap().answers);
        assert_eq!(queue.write(&batch(0..1)).await.unwrap_err().to_string(), "silent");
        inside.lock().unwrap().answers = held;
        queue.write(&batch(0..1)).await.unwrap();
    });
}

#[test]
fn what_the_server_refuses_holds_nothing_up() {
    let (mut queue, inside) = moody([Turn::Take, Turn::Refuse]);
    block_on(async {
        queue.write(&batch(0..3)).await.unwrap();
        queue.close().await.unwrap();
        assert_eq!(queue.flush().await.unwrap_err().kind(), SinkErrorKind::Permanent);
    });
    assert_eq!(inside.lock().unwrap().stored, [batch(0..1), batch(2..3)].iter().flat_map(|batch| batch.lines().to_vec()).collect::<Vec<u8>>());
}

#[test]
fn silence_is_told_and_what_was_accepted_kept() {
    let (mut queue, inside) = moody([]);
    block_on(async {
        queue.write(&batch(0..3)).await.unwrap();
        let held = std::mem::take(&mut inside.lock().unwrap().answers);
        assert_eq!(queue.flush().await.unwrap_err().to_string(), "silent");
        inside.lock().unwrap().answers = held;
        queue.flush().await.unwrap();
    });
}

#[test]
fn subjects_are_safe() {
    let named = |name: &str| {
        let instrument = Arc::new(Instrument::named(&"okx".into(), Market::Linear, name, None));
        let body = Body::Mark(exchange_core::event::Mark::default());
        subject("events", &Event::new(instrument, Time::from_micros(1), None, body))
    };
    assert_eq!(named("BTC-USDT-SWAP"), "events.mark.okx.linear.BTC-USDT-SWAP");
    assert_eq!(named("A.B *>#\u{7}C"), "events.mark.okx.linear.A_B_____C");
    assert_eq!((named("*").as_str(), named("").as_str()), ("events.mark.okx.linear._all", "events.mark.okx.linear._none"));
}
