//! The servers start, die, come back with their data, and go with the test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use test_servers::{Proxy, Server};

const CHILD: &str = "TEST_SERVERS_CHILD";
const CHILD_TEST: &str = "servers_go_with_a_test_that_is_killed";

/// Sends a line to Redis and reads the first line of the answer.
fn ask(address: SocketAddr, line: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(stream, "{line}\r\n")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

fn lives_and_dies(mut server: Server) {
    let listens = |server: &Server| TcpStream::connect(server.address()).is_ok();
    server.kill();
    assert!(!listens(&server), "{server:?} was killed");
    server.restart();
    server.restart();
    server.stop();
    assert!(!listens(&server), "{server:?} was stopped");
    server.restart();
    let (address, folder) = (server.address(), server.folder().to_owned());
    assert!(folder.exists());
    drop(server);
    assert!(TcpStream::connect(address).is_err() && !folder.exists(), "nothing is left");
}

#[test]
fn nats_lives_and_dies() {
    let Some(server) = test_servers::nats() else { return };
    lives_and_dies(server);
}

#[test]
fn rabbitmq_lives_and_dies() {
    let Some(server) = test_servers::rabbitmq() else { return };
    lives_and_dies(server);
}

#[test]
fn postgres_lives_and_dies() {
    let Some(server) = test_servers::postgres() else { return };
    lives_and_dies(server);
}

#[test]
fn redis_lives_and_dies_with_its_data() {
    let Some(mut server) = test_servers::redis() else { return };
    assert_eq!(ask(server.address(), "SET a 1").unwrap(), "+OK");
    server.kill();
    server.restart();
    assert_eq!(ask(server.address(), "STRLEN a").unwrap(), ":1");
    server.pause();
    ask(server.address(), "PING").unwrap_err();
    server.resume();
    assert_eq!(ask(server.address(), "PING").unwrap(), "+PONG");
    lives_and_dies(server);
}

#[test]
fn a_network_is_cut_and_stalled_and_healed() {
    let Some(server) = test_servers::redis() else { return };
    let proxy = Proxy::to(server.address());
    assert_eq!(ask(proxy.address(), "PING").unwrap(), "+PONG");
    let mut open = TcpStream::connect(proxy.address()).unwrap();
    open.write_all(b"PING\r\n").unwrap();
    open.read_exact(&mut [0; 7]).unwrap();
    proxy.cut();
    assert!(matches!(open.read(&mut [0]), Ok(0) | Err(_)), "the connection is gone");
    assert_eq!(ask(proxy.address(), "PING").unwrap(), "+PONG");
    proxy.stall();
    ask(proxy.address(), "PING").unwrap_err();
    proxy.refuse();
    assert_eq!(TcpStream::connect(proxy.address()).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.heal();
    assert_eq!(ask(proxy.address(), "PING").unwrap(), "+PONG");
    assert_eq!(proxy.sent(), 4 * 6);
}

#[test]
fn a_network_is_cut_in_the_middle() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    proxy.cut_after(5);
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"0123456789").unwrap();
    let mut received = Vec::new();
    let _reset = server.read_to_end(&mut received);
    assert_eq!(received, b"01234");
}

#[test]
fn servers_go_with_a_test_that_is_killed() {
    if std::env::var_os(CHILD).is_some() {
        let server = test_servers::redis().expect("a server");
        println!("\nlistens on {}", server.address());
        loop {
            std::thread::park();
        }
    }
    if test_servers::redis().is_none() {
        return;
    }
    let mut child =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", CHILD_TEST, "--nocapture"]).env(CHILD, "1").stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address: SocketAddr = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("listens on ")?.parse().ok()).unwrap();
    assert_eq!(ask(address, "PING").unwrap(), "+PONG");
    child.kill().unwrap();
    child.wait().unwrap();
    // The guard is told by the kernel, and then has to get a turn: the test ends when it had.
    while TcpStream::connect(address).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
}
