//! The minimum cost of a copy of large layers: a program that only reads, hashes and writes over the
//! same sockets.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::process::{Command, ExitCode};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use testbed::generated::Generated;

use crate::compare::{self, Row, Sample};
use crate::corpus::Corpus;
use crate::rig::{ACCOUNT, REGION, Rig};
use crate::tools::Tool;
use crate::{Error, child};

/// The first argument of the copy of this binary that is the pipe.
pub const PIPE: &str = "pipe";

const LAYERS: usize = 8;
const SIZE: u64 = 32 << 20;

/// Size of one read. Larger reads were not faster.
const PIECE: usize = 256 << 10;

/// Measures the pipe and `tool`, one after the other, `runs` times.
pub async fn compare(tool: &Tool, runs: usize) -> Result<Vec<Row>, Error> {
    let repository = "large/layers";
    let source = Generated::start(&[(repository, LAYERS, SIZE)]).await?;
    let corpus = Corpus::of_one("pipe", repository, source.digest(repository).ok_or("an image")?);
    let mut pipe = Row::new("pipe", "", corpus.name, Duration::ZERO, "cold");
    let mut copy = Row::new(tool.kind.name(), &tool.version, corpus.name, Duration::ZERO, "cold");
    for _ in 0..runs {
        let rig = Rig::direct(source.host(), source.traffic().clone()).await?;
        rig.ecr.create_repository(ACCOUNT, REGION, "pipe", Default::default());
        let place = rig.place();
        let cost = child::run(command(&rig, &source, &corpus)?, rig.path("pipe.log")).await?;
        let received =
            rig.ecr.repository(ACCOUNT, REGION, "pipe").map_or(0, |view| view.blobs.len());
        if received < LAYERS {
            eprintln!(
                "the pipe moved {received} layers of {LAYERS}: {}",
                child::tail(&rig.path("pipe.log"))
            );
        }
        pipe.samples.push(Sample {
            cost,
            seen: rig.since(&place),
            ok: cost.succeeded && received == LAYERS,
        });

        let rig = Rig::direct(source.host(), source.traffic().clone()).await?;
        copy.samples.push(compare::run(&rig, &corpus, tool, "copy", "copy.log", false).await?);
    }
    Ok(vec![pipe, copy])
}

fn command(rig: &Rig, source: &Generated, corpus: &Corpus) -> Result<Command, Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([PIPE, &rig.source, &rig.target, &rig.token(), corpus.repository, "pipe"]);
    for (digest, size) in source.layers(corpus.repository) {
        command.arg(digest).arg(size.to_string());
    }
    Ok(command)
}

/// The pipe: `SOURCE TARGET TOKEN FROM TO [DIGEST SIZE]...`, a thread per blob.
pub fn pipe(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<_> =
        arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    let [source, target, token, from, to, blobs @ ..] = &arguments[..] else {
        return ExitCode::FAILURE;
    };
    let moved = std::thread::scope(|scope| {
        let move_one = |blob: &[String]| match (&blob[0], blob[1].parse()) {
            (digest, Ok(size)) => transfer([source, from], [target, to], token, digest, size),
            (_, Err(error)) => Err(error.into()),
        };
        let threads: Vec<_> =
            blobs.chunks_exact(2).map(|blob| scope.spawn(move || move_one(blob))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into())))
            .collect()
    });
    let moved: Result<Vec<()>, Error> = moved;
    match moved {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn transfer(
    [source, from]: [&str; 2],
    [target, to]: [&str; 2],
    token: &str,
    digest: &str,
    size: u64,
) -> Result<(), Error> {
    let login = format!("Host: {target}\r\nAuthorization: Basic {token}\r\n");
    let mut answers = BufReader::new(connect(target)?);
    write!(
        answers.get_mut(),
        "POST /v2/{to}/blobs/uploads/ HTTP/1.1\r\n{login}Content-Length: 0\r\n\r\n"
    )?;
    let head = head(&mut answers, "202")?;
    let session =
        head.iter().find_map(|line| line.strip_prefix("location: ")).ok_or("no session")?;
    let session = session.strip_prefix(&format!("http://{target}")).unwrap_or(session);
    let and = if session.contains('?') { '&' } else { '?' };

    let mut blob = BufReader::with_capacity(PIECE, connect(source)?);
    write!(blob.get_mut(), "GET /v2/{from}/blobs/{digest} HTTP/1.1\r\nHost: {source}\r\n\r\n")?;
    self::head(&mut blob, "200")?;
    let out = answers.get_mut();
    write!(
        out,
        "PUT {session}{and}digest={digest} HTTP/1.1\r\n{login}Content-Length: {size}\r\n\r\n"
    )?;
    let (mut hasher, mut left, mut piece) = (Sha256::new(), size, vec![0; PIECE]);
    while left > 0 {
        let most = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = blob.read(&mut piece[..most])?;
        if read == 0 {
            return Err(format!("{digest} ended {left} bytes early").into());
        }
        hasher.update(&piece[..read]);
        out.write_all(&piece[..read])?;
        left -= read as u64;
    }
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if format!("sha256:{hex}") != digest {
        return Err(format!("{digest} is not the digest of the content").into());
    }
    self::head(&mut answers, "201").map(drop)
}

fn connect(host: &str) -> Result<TcpStream, Error> {
    let stream = TcpStream::connect(host)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The header lines of an answer with this status.
fn head(answers: &mut BufReader<TcpStream>, status: &str) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    match lines.first() {
        Some(first) if first.split(' ').nth(1) == Some(status) => Ok(lines),
        first => Err(format!("{status} was expected, not {first:?}").into()),
    }
}
