//! What happens to connections, seen from the other side: a stand-in that answers by a script and
//! counts who comes.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::sign::UNSIGNED_PAYLOAD;
use super::wire::Limits;
use super::{BoxError, Outgoing, Received, SendError, Upstream, empty, sized};
use crate::config::{Endpoint, Quirks, Secret, StaticKeys};

/// Far more than anything here takes on a slow machine; reached only when something hangs.
const PATIENCE: Duration = Duration::from_mins(1);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What the stand-in does once it has the head of a request.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Reads the body, answers, and waits for the next request.
    Answer(&'static str),
    /// Answers without reading the body, then reads nothing more.
    Early(&'static str),
    /// Answers and closes at once.
    Last(&'static str),
    /// Answers the head, if it is whole, and then byte by byte, each after such a time; says no more.
    Drip(&'static str, Duration),
    /// Closes without a word.
    Hangup,
}

/// What it has seen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Seen {
    /// Number of the connection and method, for each request.
    requests: Vec<(usize, String)>,
    /// Connections that have ended, whoever ended them.
    ended: usize,
}

struct StandIn {
    upstream: Upstream,
    seen: watch::Receiver<Seen>,
}

impl StandIn {
    async fn start(script: impl IntoIterator<Item = Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, seen) = watch::channel(Seen::default());
        let steps = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (told, steps) = (told.clone(), steps.clone());
                tokio::spawn(async move {
                    serve(number, stream, &told, &steps).await;
                    told.send_modify(|seen| seen.ended += 1);
                });
            }
        });
        let upstream = Upstream::new(&endpoint(&address.to_string())).await.unwrap();
        Self { upstream, seen }
    }

    async fn get(&self) -> Response<Received> {
        self.upstream.send(request(Method::GET, empty())).await.unwrap()
    }

    async fn put(&self, body: &'static [u8]) -> Result<Response<Received>, SendError> {
        let length = u64::try_from(body.len()).unwrap();
        let body = sized(http_body_util::Full::new(Bytes::from_static(body)), length);
        self.upstream.send(request(Method::PUT, body)).await
    }

    /// Connection and method of each request so far.
    fn requests(&self) -> Vec<(usize, String)> {
        self.seen.borrow().requests.clone()
    }

    async fn until(&self, what: &str, done: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.clone();
        let waited = tokio::time::timeout(PATIENCE, seen.wait_for(done)).await;
        assert!(waited.is_ok(), "{what} did not happen: {:?}", self.seen.borrow());
        // Going idle once makes the runtime look at its sockets: what has arrived is known now.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn serve(
    number: usize,
    mut stream: TcpStream,
    told: &watch::Sender<Seen>,
    steps: &Mutex<VecDeque<Step>>,
) {
    let mut received = Vec::new();
    loop {
        let Some(head) = take_head(&mut stream, &mut received).await else { return };
        let method = head.split(' ').next().unwrap_or_default().to_owned();
        told.send_modify(|seen| seen.requests.push((number, method)));
        let step = steps.lock().unwrap().pop_front();
        let length = content_length(&head);
        match step {
            Some(Step::Answer(answer)) => {
                while received.len() < length {
                    if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                received.drain(..length);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Some(Step::Early(answer)) => {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                while stream.read_buf(&mut received).await.unwrap_or(0) > 0 {
                    received.clear();
                }
                return;
            }
            Some(Step::Last(answer)) => {
                stream.write_all(answer.as_bytes()).await.unwrap();
                return;
            }
            Some(Step::Drip(answer, pause)) => {
                let head = answer.find("\r\n\r\n").map_or(0, |end| end + 4);
                let (head, rest) = answer.split_at(head);
                if stream.write_all(head.as_bytes()).await.is_err() {
                    return;
                }
                for piece in rest.as_bytes().chunks(1) {
                    tokio::time::sleep(pause).await;
                    if stream.write_all(piece).await.is_err() {
                        return;
                    }
                }
            }
            Some(Step::Hangup) | None => return,
        }
    }
}

async fn take_head(stream: &mut TcpStream, received: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = received.drain(..end + 4).collect();
            return String::from_utf8(head).ok();
        }
        match stream.read_buf(received).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

fn content_length(head: &str) -> usize {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().map_or(0, |(_, value)| value.trim().parse().unwrap())
}

fn endpoint(authority: &str) -> Endpoint {
    Endpoint {
        scheme: http::uri::Scheme::HTTP,
        authority: authority.parse().unwrap(),
        region: "us-east-1".into(),
        keys: Some(StaticKeys {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: Secret::new("of no use to anybody"),
        }),
        quirks: Quirks::default(),
        key_files: None,
        role: None,
        ca_file: None,
    }
}

fn request(method: Method, body: super::Body) -> Outgoing {
    Outgoing {
        method,
        path: "/bucket/key".into(),
        query: String::new(),
        headers: HeaderMap::new(),
        payload: UNSIGNED_PAYLOAD,
        body,
        keys: None,
    }
}

async fn text(response: Response<Received>) -> BytesMut {
    let mut body = response.into_body();
    let mut text = BytesMut::new();
    while let Some(frame) = body.frame().await {
        text.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    text
}

fn get(connection: usize) -> (usize, String) {
    (connection, "GET".to_owned())
}

fn put(connection: usize) -> (usize, String) {
    (connection, "PUT".to_owned())
}

#[tokio::test]
async fn requests_in_turn_share_one_connection() {
    let stand_in = StandIn::start([Step::Answer(OK); 3]).await;
    assert_eq!(text(stand_in.get().await).await, "ok");
    assert_eq!(text(stand_in.put(b"body").await.unwrap()).await, "ok");
    assert_eq!(text(stand_in.get().await).await, "ok");
    assert_eq!(stand_in.requests(), [get(0), put(0), get(0)]);
}

#[tokio::test]
async fn requests_at_the_same_time_have_a_connection_each() {
    let stand_in = StandIn::start([Step::Answer(OK); 3]).await;
    let first = stand_in.get().await;
    let second = stand_in.get().await;
    assert_eq!(text(first).await, "ok");
    assert_eq!(text(second).await, "ok");
    assert_eq!(stand_in.requests(), [get(0), get(1)]);
}

/// HEAD, 204, 304 and empty answers: nobody reads a body that is not there.
#[tokio::test]
async fn an_answer_without_body_leaves_its_connection_usable_unread() {
    let stand_in = StandIn::start([
        Step::Answer("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: \"e\"\r\n\r\n"),
        Step::Answer("HTTP/1.1 204 No Content\r\n\r\n"),
        Step::Answer("HTTP/1.1 304 Not Modified\r\nETag: \"e\"\r\n\r\n"),
        Step::Answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        Step::Answer(OK),
    ])
    .await;
    let head = stand_in.upstream.send(request(Method::HEAD, empty())).await.unwrap();
    assert_eq!(head.headers()["content-length"], "1234");
    drop(head);
    for expected in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED, StatusCode::OK] {
        assert_eq!(stand_in.get().await.status(), expected);
    }
    assert_eq!(text(stand_in.get().await).await, "ok");
    assert!(stand_in.requests().iter().all(|(connection, _)| *connection == 0));
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_noticed_and_not_used() {
    let stand_in = StandIn::start([Step::Last(OK), Step::Answer(OK)]).await;
    assert_eq!(text(stand_in.get().await).await, "ok");
    stand_in.until("the close", |seen| seen.ended == 1).await;
    // A body is never replayed, so that this one may not meet the old connection at all.
    assert_eq!(text(stand_in.put(b"body").await.unwrap()).await, "ok");
    assert_eq!(stand_in.requests(), [get(0), put(1)]);
}

#[tokio::test]
async fn a_read_that_met_a_connection_being_closed_is_sent_once_more() {
    let stand_in = StandIn::start([Step::Answer(OK), Step::Hangup, Step::Answer(OK)]).await;
    assert_eq!(text(stand_in.get().await).await, "ok");
    assert_eq!(text(stand_in.get().await).await, "ok");
    assert_eq!(stand_in.requests(), [get(0), get(0), get(1)]);
}

#[tokio::test]
async fn a_read_on_a_new_connection_is_not_sent_again() {
    let stand_in = StandIn::start([Step::Hangup, Step::Answer(OK)]).await;
    let failed = stand_in.upstream.send(request(Method::GET, empty())).await.unwrap_err();
    assert!(matches!(failed, SendError::Connection(_)), "{failed}");
    assert_eq!(stand_in.requests(), [get(0)]);
}

#[tokio::test]
async fn a_write_that_met_a_connection_being_closed_is_not_replayed() {
    for body in [&b""[..], b"body"] {
        let stand_in = StandIn::start([Step::Answer(OK), Step::Hangup, Step::Answer(OK)]).await;
        assert_eq!(text(stand_in.get().await).await, "ok");
        let failed = stand_in.put(body).await.unwrap_err();
        assert!(matches!(failed, SendError::Connection(_)), "{failed}");
        assert_eq!(stand_in.requests(), [get(0), put(0)]);
    }
}

#[tokio::test]
async fn a_body_that_is_dropped_half_way_takes_its_connection_along() {
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nthe beginning";
    let stand_in = StandIn::start([Step::Answer(long), Step::Answer(OK)]).await;
    let mut response = stand_in.get().await;
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "the beginning");
    drop(response);
    stand_in.until("the close", |seen| seen.ended == 1).await;
    assert_eq!(text(stand_in.get().await).await, "ok");
    assert_eq!(stand_in.requests(), [get(0), get(1)]);
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_takes_its_connection_along() {
    let stand_in = StandIn::start([Step::Answer(""), Step::Answer(OK)]).await;
    let given_up = tokio::select! {
        _ = stand_in.get() => false,
        () = stand_in.until("the request", |seen| seen.requests.len() == 1) => true,
    };
    assert!(given_up);
    stand_in.until("the close", |seen| seen.ended == 1).await;
    assert_eq!(text(stand_in.get().await).await, "ok");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_an_error_and_no_end() {
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfour",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n",
    ] {
        let stand_in = StandIn::start([Step::Last(cut), Step::Answer(OK)]).await;
        let mut body = stand_in.get().await.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "four");
        assert!(body.frame().await.unwrap().is_err(), "{cut}");
        drop(body);
        assert_eq!(text(stand_in.get().await).await, "ok");
        assert_eq!(stand_in.requests(), [get(0), get(1)]);
    }
}

#[tokio::test]
async fn a_connection_that_the_answer_closes_is_not_used_again() {
    let close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let stand_in = StandIn::start([Step::Answer(close), Step::Answer(OK)]).await;
    assert_eq!(text(stand_in.get().await).await, "ok");
    assert_eq!(text(stand_in.get().await).await, "ok");
    assert_eq!(stand_in.requests(), [get(0), get(1)]);
}

#[tokio::test]
async fn what_was_sent_without_being_asked_for_is_taken_for_no_answer() {
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake";
    let stand_in = StandIn::start([Step::Answer(twice), Step::Answer(OK)]).await;
    assert_eq!(text(stand_in.get().await).await, "ok");
    assert_eq!(text(stand_in.get().await).await, "ok");
    assert_eq!(stand_in.requests(), [get(0), get(1)]);
}

/// The rest of the body can never be sent, so the connection is of no more use.
#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_delivered_and_its_connection_given_up() {
    let early = "HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\n\r\nslow";
    let stand_in = StandIn::start([Step::Early(early), Step::Answer(OK)]).await;
    let endless = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<Frame<Bytes>, BoxError>,
    >());
    let response = stand_in.upstream.send(request(Method::PUT, sized(endless, 10))).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(response).await, "slow");
    stand_in.until("the close", |seen| seen.ended == 1).await;
    assert_eq!(text(stand_in.get().await).await, "ok");
    assert_eq!(stand_in.requests(), [put(0), get(1)]);
}

/// The end of a stream must not be taken for the end of the body it was told of.
#[tokio::test]
async fn a_body_shorter_than_announced_never_looks_complete() {
    let stand_in = StandIn::start([Step::Answer(OK)]).await;
    let short = sized(http_body_util::Full::new(Bytes::from_static(b"four")), 10);
    let failed = stand_in.upstream.send(request(Method::PUT, short)).await;
    assert!(failed.is_err());
    stand_in.until("the close", |seen| seen.ended == 1).await;
}

#[tokio::test]
async fn idle_connections_are_closed_though_no_request_comes() {
    let stand_in = StandIn::start([Step::Answer(OK); 2]).await;
    let (first, second) = (stand_in.get().await, stand_in.get().await);
    text(first).await;
    text(second).await;
    stand_in.until("the close of both", |seen| seen.ended == 2).await;
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
                   HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let stand_in = StandIn::start([Step::Answer(interim), Step::Answer(OK)]).await;
    let response = stand_in.put(b"body").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, "ok");
    assert_eq!(text(stand_in.get().await).await, "ok");
    assert_eq!(stand_in.requests(), [put(0), get(0)]);
}

#[tokio::test]
async fn more_than_a_hundred_headers_pass_both_ways() {
    let mut answer = String::from("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
    for number in 0..150 {
        write!(answer, "x-amz-meta-{number}: v\r\n").unwrap();
    }
    answer.push_str("\r\n");
    let stand_in = StandIn::start([Step::Answer(answer.leak())]).await;
    let mut outgoing = request(Method::GET, empty());
    for number in 0..150 {
        let name = http::HeaderName::try_from(format!("x-amz-meta-{number}")).unwrap();
        outgoing.headers.insert(name, HeaderValue::from_static("v"));
    }
    let response = stand_in.upstream.send(outgoing).await.unwrap();
    assert_eq!(response.headers().len(), 151);
}

/// Sends a request and reads its answer until it is given up, and waits until the connection is closed.
async fn given_up(stand_in: &StandIn, method: Method) -> String {
    let error = match stand_in.upstream.send(request(method, empty())).await {
        Err(error) => error.to_string(),
        Ok(response) => {
            let mut body = response.into_body();
            loop {
                if let Err(error) = body.frame().await.expect("it does not end by itself") {
                    break error.to_string();
                }
            }
        }
    };
    stand_in.until("the close", |seen| seen.ended == 1).await;
    error
}

const NEVER: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_millis(700);

#[tokio::test]
async fn a_service_that_never_answers_is_given_up_and_not_asked_again() {
    for method in [Method::GET, Method::PUT] {
        let mut stand_in = StandIn::start([Step::Answer("")]).await;
        stand_in.upstream.pool.limits = Limits { sign: SOON, head: NEVER, body: NEVER };
        let said = given_up(&stand_in, method).await;
        assert!(said.contains("nothing came"), "{said}");
    }
    // The same on a connection that was used before: a read may be sent again, but not for this.
    let mut stand_in = StandIn::start([Step::Answer(OK), Step::Answer(""), Step::Answer(OK)]).await;
    stand_in.upstream.pool.limits = Limits { sign: SOON, head: NEVER, body: NEVER };
    assert_eq!(text(stand_in.get().await).await, "ok");
    given_up(&stand_in, Method::GET).await;
    assert_eq!(stand_in.requests(), [get(0), get(0)]);
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let endless = "HTTP/1.1 200 OK\r\nX-Endless: and on and on and on and on and on and on and on";
    let mut stand_in = StandIn::start([Step::Drip(endless, SOON / 10)]).await;
    stand_in.upstream.pool.limits = Limits { sign: NEVER, head: SOON, body: NEVER };
    let said = given_up(&stand_in, Method::PUT).await;
    assert!(said.contains("head of the answer"), "{said}");
}

#[tokio::test]
async fn a_body_that_drips_is_given_up() {
    let dripping =
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nand on and on and on and on and on";
    let mut stand_in = StandIn::start([Step::Drip(dripping, SOON / 10)]).await;
    stand_in.upstream.pool.limits = Limits { sign: NEVER, head: NEVER, body: SOON };
    let said = given_up(&stand_in, Method::GET).await;
    assert!(said.contains("less than 16384 bytes"), "{said}");
}

/// As completing an upload does: many times the time that a body of known length would have.
#[tokio::test]
async fn a_document_kept_alive_by_white_space_is_waited_for() {
    let mut answer = String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..5 {
        answer.push_str("1\r\n \r\n");
    }
    answer.push_str("2\r\nok\r\n0\r\n\r\n");
    let drip = Step::Drip(answer.leak(), Duration::from_millis(5));
    let mut stand_in = StandIn::start([drip, Step::Answer(OK)]).await;
    let limits = Limits { sign: NEVER, head: NEVER, body: Duration::from_millis(1) };
    stand_in.upstream.pool.limits = limits;
    assert_eq!(text(stand_in.get().await).await.trim_ascii(), b"ok");
}

/// What the client takes to send its body is not the service's fault.
#[tokio::test]
async fn a_body_that_the_client_sends_slowly_is_waited_for() {
    let mut stand_in = StandIn::start([Step::Answer(OK)]).await;
    stand_in.upstream.pool.limits = Limits { sign: SOON, head: NEVER, body: NEVER };
    let body = futures_util::stream::once(Box::pin(async {
        tokio::time::sleep(2 * SOON).await;
        Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x")))
    }));
    let body = sized(http_body_util::StreamBody::new(body), 1);
    let response = stand_in.upstream.send(request(Method::PUT, body)).await.unwrap();
    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn nobody_at_the_other_end_is_told_apart_from_a_connection_that_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let upstream = Upstream::new(&endpoint(&address.to_string())).await.unwrap();
    let failed = upstream.send(request(Method::GET, empty())).await.unwrap_err();
    assert!(matches!(failed, SendError::Connect(_)), "{failed}");
}
