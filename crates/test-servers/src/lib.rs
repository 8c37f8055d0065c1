//! Real servers for tests: each on a free port of the loopback, with a data directory of its own, gone when the test is,
//! even if the test is killed. And a [`Proxy`], a network between client and server that can be cut, and a [`Disk`] that can be full.
//!
//! ```no_run
//! #[test]
//! fn writes_to_a_real_server() {
//!     let Some(mut server) = test_servers::redis() else { return };
//!     let _address = format!("redis://{}", server.address());
//!     server.kill();
//!     server.restart();
//! }
//! ```
//!
//! Where a server is not installed, the test says so and is skipped; in CI (the variable `CI` is set) it fails.
//! `cargo xtask test` installs what is missing. This crate is for tests alone: it panics wherever something is wrong.

mod child;
mod disk;
#[cfg(feature = "kafka")]
mod kafka;
mod nats;
mod postgres;
mod proxy;
mod python;
mod rabbitmq;
mod redis;
mod s3;
mod server;

pub use disk::{Disk, ReadOnly, disk, read_only};
#[cfg(feature = "kafka")]
pub use kafka::{Kafka, kafka, kafka_header};
pub use nats::{nats, nats_with};
pub use postgres::{POSTGRES_PASSWORD, postgres};
pub use proxy::Proxy;
pub use python::{Python, python};
pub use rabbitmq::{rabbitmq, rabbitmq_with};
pub use redis::{redis, redis_with};
pub use s3::s3;
pub use server::Server;

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

/// A port of the loopback that nobody listens on.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its number").port()
}

/// Finds a program in the search path, or in one of these folders.
fn program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps some servers where only root's search path leads.
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.iter().cloned().chain(places).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Says that a test is skipped since something is not installed.
///
/// # Panics
/// In CI, where everything is installed and no test may be skipped.
fn skipped(what: &str) {
    missing(&format!("{what} is not installed (cargo xtask test installs it)"));
}

/// Says that a test is skipped, and why.
///
/// # Panics
/// In CI.
fn missing(words: &str) {
    assert!(std::env::var_os("CI").is_none(), "{words}");
    eprintln!("skipped: {words}");
}
