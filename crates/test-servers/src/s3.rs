//! A server that speaks S3: `moto`, which keeps everything in memory.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::python::python;
use crate::server::{Kind, Server};

/// Starts a server of object storage that has this bucket. It asks for no password, and what it holds ends with it.
///
/// # Panics
/// If the bucket cannot be made.
pub fn s3(bucket: &str) -> Option<Server> {
    let program = python(&["moto.server"])?.program("moto_server");
    let server = Server::start(Moto { program });
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    let host = server.address();
    write!(stream, "PUT /{bucket} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "no bucket was made: {answer}");
    Some(server)
}

struct Moto {
    program: PathBuf,
}

impl Kind for Moto {
    fn name(&self) -> &'static str {
        "s3"
    }

    fn command(&self, _: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        command
    }

    fn question(&self) -> (&[u8], &[u8]) {
        (b"GET /moto-api/ HTTP/1.0\r\n\r\n", b"HTTP/1.1 200")
    }
}
