//! Where gdb connects, and its connection.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use gdbstub::conn::Connection;

/// How long gdb may take to read what it asked for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where gdb is to connect: a port on an address, or the path of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// HOST:PORT.
    Tcp(String),
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        port.parse::<u16>()
            .map_err(|_| "write a PORT from 0 to 65535, HOST:PORT, or a path with a /")?;
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Ok(Self::Tcp(format!("{host}:{port}")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("gdb cannot be waited for at {address} (--gdb): name another port or path")]
pub(crate) struct Error {
    address: Address,
    source: io::Error,
}

/// A place where gdb can connect. A socket in the file system goes with it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Socket,
    /// With the port that was found for port 0.
    address: Address,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Takes the address, so that gdb can connect from now on.
    pub(crate) fn bind(address: &Address) -> Result<Self, Error> {
        Self::take(address).map_err(|source| Error {
            address: address.clone(),
            source,
        })
    }

    fn take(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(name) => {
                let addresses: Vec<_> = name.to_socket_addrs()?.collect();
                let listener = TcpListener::bind(&*addresses)?;
                listener.set_nonblocking(true)?;
                Ok(Self {
                    address: Address::Tcp(listener.local_addr()?.to_string()),
                    socket: Socket::Tcp(listener),
                })
            }
            Address::Unix(path) => {
                let listener = bind_unix(path)?;
                listener.set_nonblocking(true)?;
                Ok(Self {
                    address: address.clone(),
                    socket: Socket::Unix(listener),
                })
            }
        }
    }

    /// What gdb takes after `target remote`.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The connection that is there; an error of the kind `WouldBlock` if none is.
    pub(super) fn accept(&self) -> io::Result<Link> {
        let peer = match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Peer::Tcp(stream)
            }
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Peer::Unix(stream)
            }
        };
        Ok(Link {
            peer,
            unsent: Vec::new(),
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix(listener) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            let _ = fs::remove_file(path);
        }
    }
}

/// Binds a socket, also in the place of one that nobody listens at any more.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_left_behind = || {
        let socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
        socket
            && UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_behind() => {
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        result => result,
    }
}

/// The connection to one gdb.
#[derive(Debug)]
pub(super) struct Link {
    peer: Peer,
    /// One answer at most.
    unsent: Vec<u8>,
}

#[derive(Debug)]
enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Link {
    /// Reads what is there; 0 bytes are the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.peer {
            Peer::Tcp(stream) => stream.read(buffer),
            Peer::Unix(stream) => stream.read(buffer),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.peer {
            Peer::Tcp(stream) => stream.as_fd(),
            Peer::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Connection for Link {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.unsent.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        match &mut self.peer {
            Peer::Tcp(stream) => Write::write_all(stream, &unsent),
            Peer::Unix(stream) => Write::write_all(stream, &unsent),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_port_a_host_and_a_port_or_a_path() {
        let tcp = |text: &str| Ok(Address::Tcp(text.to_owned()));
        assert_eq!("1234".parse(), tcp("127.0.0.1:1234"));
        assert_eq!(":1234".parse(), tcp("127.0.0.1:1234"));
        assert_eq!("[::1]:1".parse(), tcp("[::1]:1"));
        assert_eq!("./s".parse(), Ok(Address::Unix("./s".into())));
        for wrong in ["", "x", "1:x", "65536", "-1"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_socket_that_is_left_behind_is_replaced_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gdb");
        let address = Address::Unix(path.clone());
        drop(UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&address).unwrap();
        let error = Listener::bind(&address).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
        fs::write(&path, "mine").unwrap();
        assert!(Listener::bind(&address).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn port_0_is_one_that_is_free_and_a_port_is_had_once() {
        let listener = Listener::bind(&"0".parse().unwrap()).unwrap();
        let address = listener.address().clone();
        assert_ne!(address, Address::Tcp("127.0.0.1:0".to_owned()));
        let error = Listener::bind(&address).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
}
