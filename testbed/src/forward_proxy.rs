//! A forward HTTP proxy, as companies run them: absolute URLs for plain HTTP, CONNECT for
//! everything else, optionally a Basic login.
//!
//! Names under `.test` lead to this machine. No resolver knows them, so a request to one has come
//! through this proxy.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::traffic::Host;

/// Longer than any request head in a test.
const LONGEST_HEAD: usize = 64 * 1024;
const BAD_REQUEST: &str =
    "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BAD_GATEWAY: &str =
    "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const LOGIN_FIRST: &str = "HTTP/1.1 407 Proxy Authentication Required\r\n\
                           Proxy-Authenticate: Basic realm=\"testbed\"\r\n\
                           Content-Length: 0\r\nConnection: close\r\n\r\n";

/// A running forward proxy; dropping it stops it and cuts its connections.
#[derive(Debug)]
pub struct ForwardProxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    // Dropped last: the proxy runs on this thread.
    _host: Host,
}

/// A request to the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `CONNECT`, or the method of a request with an absolute URL.
    pub method: String,
    /// `HOST:PORT`.
    pub target: String,
    /// Whether the login was correct; without it, the request is refused.
    pub allowed: bool,
    /// The head of the request as it was received: all that the proxy can read of a tunnel.
    pub head: String,
}

impl ForwardProxy {
    /// Starts a proxy. With `login`, clients need this name and password.
    ///
    /// # Errors
    /// When no thread can be started or no port of 127.0.0.1 be bound.
    pub fn start(login: Option<(&str, &str)>) -> io::Result<Self> {
        Self::start_with(login, &[])
    }

    /// Starts a proxy that also sends requests for some names, as `HOST:PORT`, to other addresses.
    ///
    /// # Errors
    /// When no thread can be started or no port of 127.0.0.1 be bound.
    pub fn start_with(login: Option<(&str, &str)>, names: &[(&str, &str)]) -> io::Result<Self> {
        let names: HashMap<_, _> =
            names.iter().map(|&(name, place)| (name.to_owned(), place.to_owned())).collect();
        let names = Arc::new(names);
        let login = login.map(|(name, password)| {
            format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
        });
        let host = Host::start("forward-proxy")?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&seen);
        host.handle().spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((client, _)) = listener.accept().await {
                let (login, note, names) = (login.clone(), Arc::clone(&note), Arc::clone(&names));
                // The client reports a broken connection.
                tokio::spawn(async move { serve(client, login.as_deref(), &note, &names).await });
            }
        });
        Ok(Self { address, seen, _host: host })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns all requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

async fn serve(
    mut client: TcpStream,
    login: Option<&str>,
    note: &Mutex<Vec<Seen>>,
    names: &HashMap<String, String>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (head, rest) = read_head(&mut client).await?;
    let Some(request) = Parsed::new(&head) else {
        return client.write_all(BAD_REQUEST.as_bytes()).await;
    };
    let allowed = login.is_none() || request.login == login;
    let seen = Seen {
        method: request.method.to_owned(),
        target: request.target.clone(),
        allowed,
        head: head.clone(),
    };
    note.lock().push(seen);
    if !allowed {
        return client.write_all(LOGIN_FIRST.as_bytes()).await;
    }
    let place = names.get(&request.target).unwrap_or(&request.target);
    let Ok(mut server) = dial(place).await else {
        return client.write_all(BAD_GATEWAY.as_bytes()).await;
    };
    server.set_nodelay(true)?;
    match &request.onward {
        None => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
        Some(head) => server.write_all(head.as_bytes()).await?,
    }
    server.write_all(&rest).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

async fn dial(target: &str) -> io::Result<TcpStream> {
    match target.rsplit_once(':') {
        Some((host, port)) if host.ends_with(".test") => {
            TcpStream::connect(format!("127.0.0.1:{port}")).await
        }
        _ => TcpStream::connect(target).await,
    }
}

/// The head of a request, and the bytes after it.
async fn read_head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            let head = String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
            return Ok((head, rest));
        }
        if bytes.len() > LONGEST_HEAD || client.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

struct Parsed<'a> {
    method: &'a str,
    target: String,
    /// `Proxy-Authorization`.
    login: Option<&'a str>,
    /// The head for the server; none for a tunnel.
    onward: Option<String>,
}

impl<'a> Parsed<'a> {
    fn new(head: &'a str) -> Option<Self> {
        let mut lines = head.trim_end().split("\r\n");
        let (method, rest) = lines.next()?.split_once(' ')?;
        let (address, version) = rest.rsplit_once(' ')?;
        let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
        let is = |name: &str, wanted: &str| name.eq_ignore_ascii_case(wanted);
        let login = headers
            .iter()
            .find(|(name, _)| is(name, "proxy-authorization"))
            .map(|(_, value)| value.trim());
        if method == "CONNECT" {
            return Some(Self { method, target: address.to_owned(), login, onward: None });
        }
        let (target, path) = address.strip_prefix("http://")?.split_once('/')?;
        // One request per connection, so that the end of a body need not be found.
        let mut onward = format!("{method} /{path} {version}\r\nConnection: close\r\n");
        for (name, value) in &headers {
            if !["proxy-authorization", "proxy-connection", "connection"]
                .iter()
                .any(|hop| is(name, hop))
            {
                onward.push_str(&format!("{name}:{value}\r\n"));
            }
        }
        onward.push_str("\r\n");
        let target = if target.contains(':') { target.to_owned() } else { format!("{target}:80") };
        Some(Self { method, target, login, onward: Some(onward) })
    }
}
