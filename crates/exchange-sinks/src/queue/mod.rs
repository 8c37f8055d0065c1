//! What the sinks have in common whose servers acknowledge each message by itself: what was accepted is kept until it
//! is acknowledged, and sent again when a connection was lost in between.
//!
//! Nothing runs in the background here. Each call of the sink's first takes the answers that have come and sends what
//! waits; the clients' own tasks move the bytes. A call that is dropped midway has lost nothing: what was accepted is
//! in the [`Window`], and stays there.

mod window;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use exchange_core::Batch;
use futures_util::FutureExt as _;
use tokio::time::timeout;

use crate::error::SinkError;
use crate::sink::{Sink, SinkFuture};
use crate::worker::Meter;
pub(crate) use window::Message;
use window::Window;

/// Events that may be accepted and not acknowledged: some 5 MB of them, and at 200,000 a second 80 ms of a server's time.
pub(crate) const IN_FLIGHT: usize = 16_384;
/// Bytes of lines that may be accepted and not acknowledged: books are much larger than trades.
const IN_FLIGHT_BYTES: usize = 16 << 20;
/// After how many sent messages the answers are looked at.
const SEND_RUN: usize = 256;
/// How long no answer at all is no trouble.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The server has it.
    Safe,
    /// The server could not take it now, and why. It is sent again at the next call.
    Later(SinkError),
    /// The server will never take it, and why. It is counted and told, and the others go on.
    #[cfg_attr(not(any(feature = "kafka", feature = "nats")), allow(dead_code, reason = "RabbitMQ takes whatever there may be"))]
    Refused(String),
}

/// A connection to a server, as a [`Queue`] uses it. Futures may be dropped.
pub(crate) trait Server: Send + 'static {
    /// Connects if need be. `true` if the connection is not the one that the last call found: what was not answered is
    /// to be sent again.
    fn connect(&mut self) -> impl Future<Output = Result<bool, SinkError>> + Send;

    /// Hands a message over to be sent; a message whose future was dropped was not.
    fn send(&mut self, message: Message) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Waits for what became of a message, by its number.
    fn answer(&mut self) -> impl Future<Output = Result<(u64, Answer), SinkError>> + Send;

    /// Nothing was answered for long: what is said of it. Whoever finds the connection doubtful drops it.
    fn silent(&mut self) -> SinkError;

    /// Ends the connection.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// A sink whose server acknowledges each message.
#[derive(Debug)]
pub(crate) struct Queue<S> {
    server: S,
    window: Window,
    /// Numbers of messages that are to be sent again, and why.
    again: VecDeque<u64>,
    put_off: Option<SinkError>,
    meter: Meter,
    refused: metrics::Counter,
    closed: bool,
    patience: Duration,
}

impl<S: Server> Queue<S> {
    /// A sink that has not connected yet.
    pub(crate) fn new(name: &str, server: S) -> Self {
        metrics::describe_counter!("collector_sink_refused_total", "Events that a sink's server will not take, such as one too large for it");
        Self {
            server,
            window: Window::default(),
            again: VecDeque::new(),
            put_off: None,
            meter: Meter::new(name),
            refused: metrics::counter!("collector_sink_refused_total", "sink" => name.to_owned()),
            closed: false,
            patience: PATIENCE,
        }
    }

    /// The same, which takes silence for trouble after another time.
    #[cfg(test)]
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sends what waits and takes answers until there is room for so many events and bytes, or nothing is without an answer.
    async fn drive(&mut self, events: usize, bytes: usize) -> Result<(), SinkError> {
        let result = self.drive_on(events, bytes).await;
        if result.is_err() {
            self.meter.failed();
        }
        result
    }

    async fn drive_on(&mut self, events: usize, bytes: usize) -> Result<(), SinkError> {
        loop {
            if self.server.connect().await? {
                self.window.rewind();
                self.again.clear();
            }
            self.send().await?;
            let open = self.window.open();
            if open == 0 || (open.saturating_add(events) <= IN_FLIGHT && self.window.bytes().saturating_add(bytes) <= IN_FLIGHT_BYTES) {
                return Ok(());
            }
            match timeout(self.patience, self.server.answer()).await {
                Ok(answer) => self.take(answer?),
                Err(_) => return Err(self.server.silent()),
            }
            self.take_answers()?;
            // Once for all that were put off: each would cost the caller's pause otherwise.
            if let Some(error) = self.put_off.take() {
                return Err(error);
            }
        }
    }

    /// Sends what waits, as far as it may be in flight.
    async fn send(&mut self) -> Result<(), SinkError> {
        while let Some(number) = self.again.front() {
            if let Some(message) = self.window.get(*number) {
                self.hand_over(message).await?;
            }
            self.again.pop_front();
        }
        let mut run = 0;
        while let Some(message) = self.window.next() {
            self.hand_over(message).await?;
            self.window.sent();
            run += 1;
            if run % SEND_RUN == 0 {
                self.take_answers()?;
            }
        }
        Ok(())
    }

    /// Hands a message over to the client, which may wait for room: while nothing moves, that is silence, too.
    async fn hand_over(&mut self, message: Message) -> Result<(), SinkError> {
        match timeout(self.patience, self.server.send(message)).await {
            Ok(sent) => sent,
            Err(_) => Err(self.server.silent()),
        }
    }

    /// Takes the answers that are there.
    fn take_answers(&mut self) -> Result<(), SinkError> {
        while let Some(answer) = self.server.answer().now_or_never() {
            self.take(answer?);
        }
        Ok(())
    }

    fn take(&mut self, (number, answer): (u64, Answer)) {
        match answer {
            Answer::Safe => {
                if let Some(bytes) = self.window.done(number) {
                    self.meter.written(1, bytes);
                }
            }
            Answer::Later(error) => {
                if self.window.get(number).is_some() {
                    self.again.push_back(number);
                    self.put_off = Some(error);
                }
            }
            Answer::Refused(reason) => {
                if let Some(message) = self.window.get(number) {
                    let event = message.event();
                    tracing::error!(sink = self.meter.sink(), id = %event.id, r#type = event.body.kind(), symbol = %event.instrument.venue_symbol, reason, "refused an event");
                    self.refused.increment(1);
                    self.window.done(number);
                }
            }
        }
    }

    async fn accept(&mut self, batch: &Arc<Batch>) -> Result<(), SinkError> {
        self.still_open()?;
        // A batch larger than all the room must fit as well: then it goes alone.
        self.drive(batch.events().len(), batch.lines().len()).await?;
        self.window.push(batch);
        // It is taken from here on, whatever becomes of the connection: the next call meets its errors.
        let _ = self.send().now_or_never();
        Ok(())
    }

    fn still_open(&self) -> Result<(), SinkError> {
        if self.closed { Err(SinkError::ended(self.meter.sink())) } else { Ok(()) }
    }
}

impl<S: Server> Sink for Queue<S> {
    fn name(&self) -> &str {
        self.meter.sink()
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        Box::pin(self.accept(batch))
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        Box::pin(async {
            self.still_open()?;
            if self.window.open() == 0 {
                return Ok(());
            }
            self.drive(usize::MAX, usize::MAX).await
        })
    }

    fn close(&mut self) -> SinkFuture<'_> {
        Box::pin(async {
            self.flush().await?;
            self.closed = true;
            self.server.close().await;
            Ok(())
        })
    }
}

/// The subject of an event, by which receivers choose: `prefix.type.venue.market.symbol`, such as
/// `events.trade.bybit.linear.BTCUSDT`. The symbol is the venue's, in which whatever has a meaning in subjects (dots,
/// wildcards, space) is an underscore; `_all` where a gap concerns all instruments, `_none` where none is known.
#[cfg(any(feature = "nats", feature = "amqp", test))]
pub(crate) fn subject(prefix: &str, event: &exchange_core::Event) -> String {
    let instrument = &event.instrument;
    let (kind, market) = (event.body.kind(), instrument.market.as_str());
    let mut subject = String::with_capacity(prefix.len() + kind.len() + instrument.venue.len() + market.len() + instrument.venue_symbol.len() + 8);
    for part in [prefix, kind, &instrument.venue, market] {
        subject.push_str(part);
        subject.push('.');
    }
    match &*instrument.venue_symbol {
        "*" => subject.push_str("_all"),
        "" => subject.push_str("_none"),
        name => subject.extend(name.chars().map(|c| if matches!(c, '.' | '*' | '>' | '#') || c.is_whitespace() || c.is_control() { '_' } else { c })),
    }
    subject
}

#[cfg(test)]
mod tests;
