//! Names that are not the cluster's: the question goes unchanged to the machine's own name servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query};
use hickory_proto::rr::{Name, Record, RecordType};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one server may take before the next is asked.
const PATIENCE: Duration = Duration::from_millis(1500);
/// As many servers as other resolvers read from the file.
const MOST_SERVERS: usize = 3;
/// Larger than any answer that servers send by UDP.
const BUFFER_BYTES: usize = 4096;

/// Why no upstream server answered.
#[derive(Debug, Error)]
pub enum ForwardError {
    /// The machine's configuration names no server that is not this one.
    #[error("no upstream name server is configured on this machine")]
    NoServer,
    /// The last server failed.
    #[error("asking name server {server}: {source}")]
    Io { server: SocketAddr, source: io::Error },
    /// The last server did not answer in time.
    #[error("asking name server {server}: no answer in {} ms", PATIENCE.as_millis())]
    Timeout { server: SocketAddr },
    /// The question could not be encoded.
    #[error("the question cannot be encoded: {0}")]
    Encode(String),
}

/// The servers that answer for everything outside the cluster, at most three.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    servers: Vec<SocketAddr>,
}

impl Upstream {
    /// Reads the text of a `resolv.conf`; addresses in `own` are left out, so that a question never comes back.
    pub fn from_resolv_conf(text: &str, own: &[IpAddr]) -> Self {
        let mut servers: Vec<SocketAddr> = Vec::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("nameserver") {
                continue;
            }
            let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
                continue;
            };
            let server = SocketAddr::new(address, 53);
            if !own.contains(&address) && !servers.contains(&server) {
                servers.push(server);
            }
        }
        servers.truncate(MOST_SERVERS);
        Self { servers }
    }

    /// Exactly these servers, of which the first three are used.
    pub fn new(mut servers: Vec<SocketAddr>) -> Self {
        servers.truncate(MOST_SERVERS);
        Self { servers }
    }

    /// Asks one server after the other; the answer carries the question's id. A truncated answer is asked for
    /// again by TCP if `whole`.
    pub(super) async fn forward(
        &self,
        question: &[u8],
        whole: bool,
    ) -> Result<Vec<u8>, ForwardError> {
        let mut last = ForwardError::NoServer;
        for &server in &self.servers {
            let asked = timeout(PATIENCE, ask(server, question, whole)).await;
            match asked {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(source)) => last = ForwardError::Io { server, source },
                Err(_) => last = ForwardError::Timeout { server },
            }
        }
        Err(last)
    }

    /// The records of one type that a name has upstream, aliases on the way included.
    pub(super) async fn records(
        &self,
        name: &Name,
        kind: RecordType,
    ) -> Result<Vec<Record>, ForwardError> {
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name.clone(), kind));
        let bytes = question.to_vec().map_err(|e| ForwardError::Encode(e.to_string()))?;
        let answer = self.forward(&bytes, true).await?;
        Ok(Message::from_vec(&answer).map(|answer| answer.answers).unwrap_or_default())
    }
}

async fn ask(server: SocketAddr, question: &[u8], whole: bool) -> io::Result<Vec<u8>> {
    // The id that the client chose is not used upstream: its own could be guessed by who made it ask.
    let id: u16 = Message::query().metadata.id;
    let Some((own_id, rest)) = question.split_first_chunk::<2>() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut sent = id.to_be_bytes().to_vec();
    sent.extend_from_slice(rest);
    let mut answer = by_udp(server, &sent).await?;
    if whole && is_truncated(&answer) {
        answer = by_tcp(server, &sent).await?;
    }
    answer[..2].copy_from_slice(own_id);
    Ok(answer)
}

async fn by_udp(server: SocketAddr, sent: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A socket for each question: its port is as good as the id against forged answers.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(sent).await?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(sent, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_tcp(server: SocketAddr, sent: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(sent.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), sent].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if answers(sent, &answer) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether `answer` is the reply to `sent`: the same id and, if it has one, the same question.
fn answers(sent: &[u8], answer: &[u8]) -> bool {
    if answer.len() < 12 || answer[..2] != sent[..2] {
        return false;
    }
    let (Ok(sent), Ok(answer)) = (Message::from_vec(sent), Message::from_vec(answer)) else {
        return false;
    };
    answer.metadata.message_type == MessageType::Response
        && (answer.queries.is_empty() || answer.queries == sent.queries)
}

fn is_truncated(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & 0b10 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_address_and_doubles_are_left_out() {
        let text = "# comment\nsearch example.org\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n\
                    nameserver 10.0.0.2\nnameserver nonsense\nnameserver\n nameserver ::1\n\
                    nameserver 10.0.0.3\nnameserver 10.0.0.4";
        let upstream = Upstream::from_resolv_conf(text, &["10.0.0.1".parse().unwrap()]);
        let expected =
            ["10.0.0.2:53", "[::1]:53", "10.0.0.3:53"].map(|server| server.parse().unwrap());
        assert_eq!(upstream, Upstream::new(expected.to_vec()));
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let mut sent = Message::query();
        sent.add_query(Query::query(name("example.org."), RecordType::A));
        let mut reply = sent.clone().into_response();
        let sent = sent.to_vec().unwrap();
        assert!(answers(&sent, &reply.to_vec().unwrap()));
        assert!(!answers(&sent, &sent), "a question is no answer");
        reply.queries = vec![Query::query(name("example.net."), RecordType::A)];
        assert!(!answers(&sent, &reply.to_vec().unwrap()));
        assert!(!answers(&sent, &[]));
    }
}
