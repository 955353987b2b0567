//! gRPC's own question about health: `grpc.health.v1.Health/Check`, one call over HTTP/2.

use std::fmt::Display;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;

use super::connect::{self, Stream};
use super::tls;
use crate::catalog::record::Status;

/// The longest answer that is read.
const ANSWER_MAX: usize = 4096;
/// A message's frame: whether it is compressed, and its length.
const FRAME: usize = 5;
/// What a service says that is well.
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks `host:port`, or `host:port/service`.
pub(super) async fn ask(
    target: &str,
    is_tls: bool,
    skip_verify: bool,
) -> Result<(Status, String), String> {
    let failed = |words: &dyn Display| format!("gRPC check {target}: {words}");
    let (address, service) = target.split_once('/').unwrap_or((target, ""));
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let stream = connect::tcp(address).await?;
    let stream: Box<dyn Stream> = match is_tls {
        true => Box::new(tls::over(stream, host, &[b"h2"], skip_verify).await?),
        false => Box::new(stream),
    };
    let scheme = if is_tls { "https" } else { "http" };
    let request = Request::post(format!("{scheme}://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "Consul Health Check")
        .body(Full::new(frame(&HealthRequest { service: service.to_owned() })));
    let request = request.map_err(|error| failed(&error))?;
    let status = call(stream, request).await.map_err(|words| failed(&words))?;
    match status {
        SERVING => Ok((Status::Passing, format!("gRPC check {target}: success"))),
        status => Err(failed(&format!("the service is {}", word(status)))),
    }
}

/// What is answered to a call.
async fn call(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> Result<i32, String> {
    let text = |error: hyper::Error| error.to_string();
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(text)?;
    let answering = async {
        let (head, body) = sender.send_request(request).await.map_err(text)?.into_parts();
        if !head.status.is_success() {
            return Err(format!("HTTP status {}", head.status));
        }
        // An error may come without a message, in the headers themselves.
        refused(&head.headers)?;
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?;
        match body.trailers() {
            Some(trailers) => refused(trailers)?,
            None => return Err("the answer was cut off".to_owned()),
        }
        let bytes = body.to_bytes();
        let message = bytes.get(FRAME..).filter(|_| bytes[0] == 0);
        let message = message.ok_or_else(|| "the answer is no message".to_owned())?;
        let read = HealthResponse::decode(message).map_err(|error| error.to_string())?;
        Ok(read.status)
    };
    tokio::select! {
        answer = answering => answer,
        ended = connection => match ended {
            Ok(()) => Err("the connection ended".to_owned()),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// The error that trailers name, if they do.
fn refused(trailers: &HeaderMap) -> Result<(), String> {
    let text =
        |name: &str| trailers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    match text("grpc-status").as_deref() {
        None | Some("0") => Ok(()),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default();
            Err(format!("rpc error: code {code}: {message}"))
        }
    }
}

fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(FRAME + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.freeze()
}

fn word(status: i32) -> &'static str {
    match status {
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}
