//! HTTP to a node.

use std::{
    fmt,
    io::{BufRead, BufReader, Read},
    time::Duration,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value as Json, value::RawValue};
use ureq::{Agent, Body, http::Response};

use super::{arguments::NodeUrl, failure::Failure};

/// To loopback this is long; a machine under load still gets there.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Above the node's own 30 s for a request, so that its answer is the one that counts.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(35);
/// No single answer but a stream of events comes near.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// One node, over connections that are used again.
#[derive(Debug, Clone)]
pub(super) struct Client {
    agent: Agent,
    node: NodeUrl,
}

/// An answer in the node's own words, members in its order.
#[derive(Debug)]
pub(super) struct Answer(Box<RawValue>);

/// Why there is no answer to use.
#[derive(Debug)]
pub(super) enum ClientError {
    /// The node was not reached, or the connection broke: the request may or may not have run.
    Lost(String),
    /// 503: the node, or the part of it that was asked for, is not up. Try again later.
    Unavailable(String),
    /// The node said no.
    Refused(Refusal),
    /// This is no node, or one of another time.
    Foreign(String),
}

/// The node's own word on why not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) message: String,
    /// Which event of a batch it was about.
    #[serde(default)]
    pub(super) index: Option<usize>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: Refusal,
    #[serde(default)]
    index: Option<usize>,
}

impl Client {
    pub(super) fn new(node: &NodeUrl) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A node is on this machine; a proxy from the environment is not meant for it.
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .timeout_recv_response(Some(ANSWER_TIME_MAX))
            .max_redirects(0)
            .build();
        Self {
            agent: config.new_agent(),
            node: node.clone(),
        }
    }

    pub(super) fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        self.read_json(self.fetch(path, query, "application/json")?)
    }

    pub(super) fn get_text(&self, path: &str, accept: &str) -> Result<String, ClientError> {
        let bytes = self.read(self.fetch(path, &[], accept)?)?;
        String::from_utf8(bytes).map_err(|error| self.foreign(&error))
    }

    /// The lines of a streamed answer, as they come.
    pub(super) fn get_lines(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<impl Iterator<Item = Result<String, ClientError>> + use<>, ClientError> {
        let answer = self.fetch(path, query, "application/x-ndjson")?;
        let client = self.clone();
        Ok(BufReader::new(answer.into_body().into_reader())
            .lines()
            .map(move |line| {
                line.map_err(|error| {
                    ClientError::Lost(format!(
                        "the answer of {} broke off: {error}",
                        client.node.as_str()
                    ))
                })
            }))
    }

    /// The lines of server-sent events, as they come.
    pub(super) fn follow(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<impl Iterator<Item = std::io::Result<String>> + use<>, ClientError> {
        let answer = self.fetch(path, query, "text/event-stream")?;
        Ok(BufReader::new(answer.into_body().into_reader()).lines())
    }

    pub(super) fn get_json(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Answer, ClientError> {
        self.get(path, query).map(Answer)
    }

    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &[u8],
    ) -> Result<T, ClientError> {
        let sent = self
            .agent
            .post(self.url(path))
            .content_type("application/json")
            .send(body);
        self.read_json(self.accept(sent)?)
    }

    fn fetch(
        &self,
        path: &str,
        query: &[(&str, &str)],
        accept: &str,
    ) -> Result<Response<Body>, ClientError> {
        let request = self.agent.get(self.url(path)).header("accept", accept);
        let request = query
            .iter()
            .fold(request, |request, (name, value)| request.query(name, value));
        self.accept(request.call())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.node.as_str())
    }

    /// Sorts answers: the good one through, every other one into an error.
    fn accept(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, ClientError> {
        let answer = answer.map_err(|error| self.lost(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = self.read(answer)?;
        let refusal = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(ErrorBody { error, index }) => Refusal {
                index: error.index.or(index),
                ..error
            },
            Err(_) if status.as_u16() == 503 => Refusal {
                code: "unavailable".into(),
                message: excerpt(&body),
                index: None,
            },
            Err(_) => return Err(self.foreign(&format!("{status}: {}", excerpt(&body)))),
        };
        Err(match status.as_u16() {
            503 => ClientError::Unavailable(refusal.message),
            _ => ClientError::Refused(refusal),
        })
    }

    fn read_json<T: DeserializeOwned>(&self, answer: Response<Body>) -> Result<T, ClientError> {
        let bytes = self.read(answer)?;
        serde_json::from_slice(&bytes).map_err(|error| self.foreign(&error))
    }

    fn read(&self, answer: Response<Body>) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        answer
            .into_body()
            .into_reader()
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| {
                ClientError::Lost(format!(
                    "the answer of {} broke off: {error}",
                    self.node.as_str()
                ))
            })?;
        Ok(bytes)
    }

    fn lost(&self, error: &ureq::Error) -> ClientError {
        let why = match error {
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        ClientError::Lost(format!(
            "cannot reach a node at {}: {why}; start one with `underpin run`, or name another with --node URL",
            self.node.as_str()
        ))
    }

    fn foreign(&self, what: &dyn fmt::Display) -> ClientError {
        ClientError::Foreign(format!(
            "{} does not answer as a node of this version does ({what}); check --node",
            self.node.as_str()
        ))
    }
}

impl Answer {
    pub(super) fn read(&self) -> Result<Json, ClientError> {
        serde_json::from_str(self.0.get()).map_err(|error| {
            ClientError::Foreign(format!(
                "the node's answer cannot be read ({error}); try --json"
            ))
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get().trim())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Lost(message) => Self::Unreachable { message },
            ClientError::Unavailable(why) => Self::Unreachable {
                message: format!("the node cannot answer now: {why}"),
            },
            ClientError::Refused(Refusal { code, message, .. }) => Self::Refused { code, message },
            ClientError::Foreign(message) => Self::refused("foreign_answer", message),
        }
    }
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(200) {
        Some((cut, _)) => format!("{}..", &line[..cut]),
        None => line.to_owned(),
    }
}
