//! A network between a client and a server that can be cut, stalled, and healed again.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketType};

/// How often the listener looks whether it shall still listen.
const LOOK: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, PartialEq)]
enum Weather {
    /// Bytes pass.
    Fair,
    /// Connections stay open, new ones are taken, and nothing passes.
    Stalled,
    /// Nobody listens.
    Refusing,
    /// The proxy is gone.
    Over,
}

struct State {
    weather: Weather,
    /// Both ends of every connection.
    open: Vec<TcpStream>,
    /// Bytes that went to the server.
    sent: u64,
    /// Cuts everything after so many more bytes to the server.
    cut_after: Option<u64>,
    /// Whether the listener follows the weather.
    listening: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, weather: Weather) {
        self.state().weather = weather;
        self.changed.notify_all();
    }
}

/// A proxy on a port of its own in front of a server.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Passes everything on to a server, which need not be there yet.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = State { weather: Weather::Fair, open: Vec::new(), sent: 0, cut_after: None, listening: true };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let its = shared.clone();
        thread::spawn(move || listen(listener, address, server, &its));
        Self { address, shared }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Bytes that went to the server so far.
    pub fn sent(&self) -> u64 {
        self.shared.state().sent
    }

    /// Closes all connections that something has passed through; new ones are taken.
    pub fn cut(&self) {
        cut(&mut self.shared.state());
    }

    /// Closes all connections when so many more bytes have gone to the server: in the middle of whatever is sent then.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.state().cut_after = Some(bytes);
    }

    /// Closes all connections and refuses new ones, until it is [healed](Self::heal).
    pub fn refuse(&self) {
        self.shared.set(Weather::Refusing);
        let mut state = self.shared.state();
        while state.listening {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        cut(&mut state);
    }

    /// Lets nothing pass any more, in either direction: connections stay open, and nobody is told.
    pub fn stall(&self) {
        self.shared.set(Weather::Stalled);
    }

    /// Everything passes again, what was stalled included.
    pub fn heal(&self) {
        self.shared.set(Weather::Fair);
        let mut state = self.shared.state();
        while !state.listening {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.set(Weather::Over);
        cut(&mut self.shared.state());
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Proxy").field(&self.address).finish()
    }
}

fn cut(state: &mut State) {
    for stream in state.open.drain(..) {
        // It may be closed already.
        let _closed = stream.shutdown(Shutdown::Both);
    }
}

/// The port, which nobody else gets while connections are refused.
enum Door {
    Open(TcpListener),
    Shut(OwnedFd),
}

/// Holds a port without listening: whoever connects is refused.
fn hold(address: SocketAddr) -> std::io::Result<OwnedFd> {
    let held = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // No process that is started meanwhile shall hold it, too.
    rustix::io::fcntl_setfd(&held, FdFlags::CLOEXEC)?;
    set_socket_reuseaddr(&held, true)?;
    rustix::net::bind(&held, &address)?;
    Ok(held)
}

fn listen(first: TcpListener, address: SocketAddr, server: SocketAddr, shared: &Arc<Shared>) {
    let mut door = Door::Open(first);
    loop {
        let weather = shared.state().weather;
        match weather {
            Weather::Over => return,
            Weather::Refusing => {
                if let Door::Open(open) = door {
                    drop(open);
                    door = Door::Shut(hold(address).expect("the port that was ours"));
                }
                told(shared, false);
            }
            Weather::Fair | Weather::Stalled => {
                let open = match door {
                    Door::Open(open) => open,
                    Door::Shut(held) => {
                        rustix::net::listen(&held, 128).expect("the port that is ours");
                        held.into()
                    }
                };
                told(shared, true);
                open.set_nonblocking(true).expect("a listener that does not wait");
                match open.accept() {
                    Ok((client, _)) => connect(client, server, shared),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => eprintln!("the proxy cannot accept: {error}"),
                }
                door = Door::Open(open);
            }
        }
        thread::sleep(LOOK);
    }
}

fn told(shared: &Shared, listening: bool) {
    shared.state().listening = listening;
    shared.changed.notify_all();
}

fn connect(client: TcpStream, server: SocketAddr, shared: &Arc<Shared>) {
    // A server that is not there: the client's connection is dropped.
    let Ok(server) = TcpStream::connect_timeout(&server, Duration::from_secs(5)) else { return };
    let ends = || -> std::io::Result<_> {
        client.set_nonblocking(false)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok([client.try_clone()?, server.try_clone()?, client.try_clone()?, server.try_clone()?])
    };
    let Ok([client_end, server_end, client_too, server_too]) = ends() else { return };
    shared.state().open.extend([client_end, server_end]);
    for (from, to, up) in [(client, server, true), (server_too, client_too, false)] {
        let shared = shared.clone();
        thread::spawn(move || pass(from, to, up, &shared));
    }
}

/// Passes bytes on in one direction until either end closes.
fn pass(mut from: TcpStream, mut to: TcpStream, up: bool, shared: &Shared) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut state = shared.state();
        while state.weather == Weather::Stalled {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if matches!(state.weather, Weather::Refusing | Weather::Over) {
            break;
        }
        let mut pass = count;
        let mut last = false;
        if up {
            if let Some(left) = &mut state.cut_after {
                let some = usize::try_from(*left).unwrap_or(usize::MAX).min(count);
                *left -= some as u64;
                last = *left == 0;
                pass = some;
            }
            state.sent += pass as u64;
        }
        drop(state);
        if to.write_all(buffer.get(..pass).unwrap_or_default()).is_err() {
            break;
        }
        if last {
            let mut state = shared.state();
            state.cut_after = None;
            cut(&mut state);
            return;
        }
    }
    let _closed = from.shutdown(Shutdown::Both);
    let _closed = to.shutdown(Shutdown::Both);
}
