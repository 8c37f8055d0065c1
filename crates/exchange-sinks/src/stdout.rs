//! `stdout:` writes event lines to standard output, for pipes.
//!
//! `Ok` of [`Sink::flush`] means that the reader's pipe has the lines. A reader that closed it (`| head`) is an
//! orderly end: [`SinkErrorKind::Closed`](crate::SinkErrorKind::Closed). There is nothing durable about a pipe.

use std::io::{self, Write};
use std::sync::Arc;

use exchange_core::Batch;

use crate::address::Address;
use crate::error::SinkError;
use crate::registry::Target;
use crate::sink::{Sink, SinkFuture};
use crate::worker::{Output, Threaded};

/// Reads `stdout:`.
pub(crate) fn target(address: Address) -> Result<Arc<dyn Target>, SinkError> {
    address.nothing_behind()?;
    address.end()?;
    Ok(Arc::new(Stdout))
}

#[derive(Debug)]
struct Stdout;

impl Target for Stdout {
    fn open(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(StdoutSink::open()?))
    }

    fn lasts(&self) -> bool {
        false
    }
}

/// Event lines on standard output.
#[derive(Debug)]
pub struct StdoutSink(Threaded);

impl StdoutSink {
    /// Starts to write to standard output. It should be the only one who does.
    pub fn open() -> Result<Self, SinkError> {
        #[cfg(unix)]
        let output = {
            use std::os::fd::AsFd as _;
            // The descriptor itself: Rust's own handle looks for line ends in all that goes through it.
            let descriptor = io::stdout().as_fd().try_clone_to_owned().map_err(|error| SinkError::io(WHAT, error))?;
            std::fs::File::from(descriptor)
        };
        #[cfg(not(unix))]
        let output = io::stdout();
        Self::over(output)
    }

    fn over(output: impl Write + Send + 'static) -> Result<Self, SinkError> {
        Threaded::start("stdout:", Lines(output)).map(Self)
    }
}

impl Sink for StdoutSink {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        self.0.write(batch)
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        self.0.flush()
    }

    fn close(&mut self) -> SinkFuture<'_> {
        self.0.close()
    }
}

const WHAT: &str = "cannot write to standard output";

struct Lines<W>(W);

impl<W: Write + Send + 'static> Output for Lines<W> {
    fn write(&mut self, lines: &mut &[u8]) -> Result<(), SinkError> {
        while !lines.is_empty() {
            match self.0.write(lines) {
                Ok(0) => return Err(SinkError::io(WHAT, io::ErrorKind::BrokenPipe.into())),
                Ok(count) => *lines = lines.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SinkError::io(WHAT, error)),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.0.flush().map_err(|error| SinkError::io(WHAT, error))
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::contract::{self, batch, block_on};
    use crate::error::SinkErrorKind;

    #[test]
    fn a_reader_that_went_away_is_an_orderly_end() {
        let (reader, writer) = io::pipe().unwrap();
        let mut sink = StdoutSink::over(writer).unwrap();
        drop(reader);
        block_on(async {
            sink.write(&batch(0..3)).await.unwrap();
            assert_eq!(sink.flush().await.unwrap_err().kind(), SinkErrorKind::Closed);
            assert_eq!(sink.write(&batch(3..4)).await.unwrap_err().kind(), SinkErrorKind::Closed);
        });
    }

    #[test]
    fn keeps_the_contract() {
        let (mut reader, writer) = io::pipe().unwrap();
        let collected = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        contract::suite(StdoutSink::over(writer).unwrap(), move |sink| {
            drop(sink);
            collected.join().unwrap()
        });
    }
}
