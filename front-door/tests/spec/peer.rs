//! A cache on loopback that answers each command as a test says.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn;

pub type Command = Vec<Vec<u8>>;

/// What the cache does about a command.
#[derive(Debug, Clone)]
pub enum Act {
    /// It answers these bytes.
    Say(Vec<u8>),
    /// It never answers.
    Hang,
    /// It answers these bytes, which may be half a reply, and closes the connection.
    Close(Vec<u8>),
}

/// Answers with a line of RESP.
pub fn say(line: &str) -> Act {
    Act::Say(format!("{line}\r\n").into_bytes())
}

/// Says what to do about a command. It knows the number of the connection and the command.
pub type Script = dyn Fn(usize, &[&str]) -> Act + Send + Sync;

/// The commands that came, each with the number of its connection.
pub type Heard = Arc<Mutex<Vec<(usize, String)>>>;

/// Starts a cache. Returns its address, and what it hears.
pub async fn start(
    script: impl Fn(usize, &[&str]) -> Act + Send + Sync + 'static,
) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (script, heard): (Arc<Script>, Heard) = (Arc::new(script), Heard::default());
    let log = heard.clone();
    spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            spawn(serve(stream, number, script.clone(), log.clone()));
            number += 1;
        }
    });
    (address, heard)
}

async fn serve(stream: TcpStream, number: usize, script: Arc<Script>, heard: Heard) {
    let mut stream = BufStream::new(stream);
    while let Ok(command) = read(&mut stream).await {
        let parts: Vec<_> = command
            .iter()
            .map(|part| String::from_utf8_lossy(part))
            .collect();
        let parts: Vec<_> = parts.iter().map(|part| &**part).collect();
        heard.lock().unwrap().push((number, parts.join(" ")));
        match script(number, &parts) {
            Act::Hang => (),
            Act::Say(bytes) => {
                let _ = stream.write_all(&bytes).await;
            }
            Act::Close(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.flush().await;
                return;
            }
        }
        let _ = stream.flush().await;
    }
}

/// Reads an array of strings.
async fn read(stream: &mut BufStream<TcpStream>) -> io::Result<Command> {
    let mut command = Vec::new();
    for _ in 0..number(stream, '*').await? {
        let length = number(stream, '$').await?;
        let mut part = vec![0; length + 2];
        stream.read_exact(&mut part).await?;
        part.truncate(length);
        command.push(part);
    }
    Ok(command)
}

async fn number(stream: &mut BufStream<TcpStream>, sign: char) -> io::Result<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let number = line
        .trim_end()
        .strip_prefix(sign)
        .and_then(|text| text.parse().ok());
    number.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
