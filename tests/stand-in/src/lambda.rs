//! The Lambda Runtime API on loopback, a sandbox in which the real binary runs under it, and a sandbox in this process
//! in which the real handler runs without it.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::ffi::OsString;
use std::fs::File;
use std::process::Stdio;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lambda_runtime::Diagnostic;
use nlb_hostname_target::log;
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Level};

use crate::http::{Request, Response, Server};
use crate::world::Function;

/// The template's `Timeout`.
pub const TIMEOUT: Duration = Duration::from_secs(75);
pub const FUNCTION_NAME: &str = "nlb-hostname-target";
/// The event of the EventBridge rule. Below are the events of a diagnosis, and of a cluster's notification through the
/// queue and straight from the topic.
pub const SCHEDULE: &str = include_str!("../../../events/schedule.json");
pub const DIAGNOSE: &str = include_str!("../../../events/diagnose.json");
pub const QUEUE: &str = include_str!("../../../events/queue.json");
pub const NOTIFICATION: &str = include_str!("../../../events/notification.json");

const FUNCTION_ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:nlb-hostname-target";
const TRACE: &str = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1";
const NEXT: &str = "/2018-06-01/runtime/invocation/next";
/// The time that an invocation gets beyond its timeout, before the sandbox counts as dead.
const GRACE: Duration = Duration::from_secs(5);

/// The answer to an invocation.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The result, or Lambda's error object.
    pub outcome: Result<Value, Value>,
    pub took: Duration,
}

struct Invocation {
    event: String,
    deadline: SystemTime,
}

/// One sandbox of the function.
pub enum Sandbox {
    /// The real binary.
    Process(Box<Process>),
    /// The real handler in this process, in virtual time.
    Memory(Memory),
}

impl Sandbox {
    /// Invokes the function once, as the schedule does.
    pub async fn schedule(&mut self) -> Answer {
        self.invoke(SCHEDULE, TIMEOUT).await
    }

    /// Invokes the function as Lambda does, with the time that it has, and waits for the answer.
    ///
    /// # Panics
    /// Panics if no answer comes, because the function hangs beyond its timeout or has died.
    pub async fn invoke(&mut self, event: &str, timeout: Duration) -> Answer {
        match self {
            Sandbox::Process(process) => process.invoke(event, timeout).await,
            Sandbox::Memory(memory) => memory.invoke(event, timeout).await,
        }
    }

    /// Returns all lines that it has written so far.
    pub fn log(&self) -> Vec<String> {
        match self {
            Sandbox::Process(process) => process.log(),
            Sandbox::Memory(memory) => lines(&memory.log),
        }
    }
}

/// The real handler, with a log of its own.
pub struct Memory {
    function: Function,
    log: NamedTempFile,
    subscriber: Dispatch,
}

impl Memory {
    pub fn new(function: Function, level: Level) -> Memory {
        // With a single subscriber, tracing lets the first thread that logs a line switch that line off for all
        // threads.
        static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
        LazyLock::force(&ANOTHER);
        let log = NamedTempFile::new().expect("a temporary file");
        let subscriber = log::subscriber(level, Arc::new(append(&log)));
        Memory {
            function,
            log,
            subscriber: Dispatch::new(subscriber),
        }
    }

    async fn invoke(&self, event: &str, timeout: Duration) -> Answer {
        let begin = Instant::now();
        let output = self.function.output(event, timeout);
        let outcome = match output.with_subscriber(self.subscriber.clone()).await {
            Ok(output) => Ok(serde_json::to_value(output)),
            Err(errors) => Err(serde_json::to_value(Diagnostic::from(errors))),
        };
        let in_json = |value: serde_json::Result<Value>| value.expect("an answer in JSON");
        Answer {
            outcome: outcome.map(in_json).map_err(in_json),
            took: begin.elapsed(),
        }
    }
}

/// One process of the real binary, or of another command that is measured beside it.
pub struct Process {
    child: Child,
    begun: Instant,
    /// The time at which it first asked for work.
    ready: watch::Receiver<Option<Instant>>,
    _api: Server,
    invocations: mpsc::UnboundedSender<Invocation>,
    answers: mpsc::UnboundedReceiver<Result<Value, Value>>,
    /// The log is a file, so that what was written before the answer can be read after it.
    log: NamedTempFile,
}

impl Process {
    /// Starts the command with these variables and Lambda's own, and no others.
    pub async fn start(mut command: Command, variables: &[(String, OsString)]) -> Process {
        let (invocations, next) = mpsc::unbounded_channel::<Invocation>();
        let (answered, answers) = mpsc::unbounded_channel();
        let next = Arc::new(Mutex::new(next));
        let (asked, ready) = watch::channel(None);
        let api = Server::start(move |request| {
            if request.uri().path() == NEXT {
                asked.send_if_modified(|first| {
                    let is_first = first.is_none();
                    first.get_or_insert_with(Instant::now);
                    is_first
                });
            }
            answer(request, next.clone(), answered.clone())
        })
        .await;
        let log = NamedTempFile::new().expect("a temporary file");
        let begun = Instant::now();
        let child = command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", api.address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", FUNCTION_NAME)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .envs(variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(append(&log))
            .stderr(append(&log))
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        Process {
            child,
            begun,
            ready,
            _api: api,
            invocations,
            answers,
            log,
        }
    }

    /// Returns when the process was started.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Waits until the process first asks for work, and returns when that was.
    ///
    /// # Panics
    /// Panics if the process ends before that.
    pub async fn ready(&mut self) -> Instant {
        let ended = tokio::select! {
            asked = self.ready.wait_for(Option::is_some) => {
                return asked.expect("the Runtime API is up").expect("it has asked");
            }
            ended = self.child.wait() => ended,
        };
        panic!("{ended:?}; the log is {:#?}", self.log());
    }

    /// Invokes the function once, as the schedule does.
    pub async fn schedule(&mut self) -> Answer {
        self.invoke(SCHEDULE, TIMEOUT).await
    }

    /// Invokes the function as Lambda does, with the time that it has, and waits for the answer.
    ///
    /// # Panics
    /// Panics if no answer comes, because the binary hangs beyond its timeout or has died.
    pub async fn invoke(&mut self, event: &str, timeout: Duration) -> Answer {
        let deadline = SystemTime::now() + timeout;
        self.invoke_by(event, deadline, timeout).await
    }

    /// Does the same with a deadline of its own, as a local runtime may send it.
    ///
    /// # Panics
    /// Panics if no answer comes within the timeout and 5 s more.
    pub async fn invoke_by(
        &mut self,
        event: &str,
        deadline: SystemTime,
        timeout: Duration,
    ) -> Answer {
        let begin = Instant::now();
        let invocation = Invocation {
            event: event.to_owned(),
            deadline,
        };
        self.invocations
            .send(invocation)
            .expect("the Runtime API is up");
        let outcome = tokio::time::timeout(timeout + GRACE, self.answers.recv()).await;
        let Ok(Some(outcome)) = outcome else {
            panic!("no answer; the log is {:#?}", self.log());
        };
        Answer {
            outcome,
            took: begin.elapsed(),
        }
    }

    /// Returns all lines that the binary has written so far.
    pub fn log(&self) -> Vec<String> {
        lines(&self.log)
    }

    /// Tells the process to end, and returns all lines that it has written.
    pub async fn end(mut self) -> Vec<String> {
        let process = self.id().to_string();
        let told = Command::new("kill").arg(process).status().await;
        told.expect("kill is there");
        self.child.wait().await.expect("a process that ends");
        self.log()
    }

    /// Returns the id of the process.
    ///
    /// # Panics
    /// Panics if the process has ended.
    pub fn id(&self) -> u32 {
        self.child.id().expect("a process that lives")
    }

    /// Returns true if the process still lives.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

fn lines(log: &NamedTempFile) -> Vec<String> {
    let text = std::fs::read_to_string(log.path()).expect("a log in UTF-8");
    text.lines().map(str::to_owned).collect()
}

fn append(log: &NamedTempFile) -> File {
    let file = File::options().append(true).open(log.path());
    file.expect("the temporary file opens again")
}

async fn answer(
    request: Request,
    next: Arc<Mutex<mpsc::UnboundedReceiver<Invocation>>>,
    answered: mpsc::UnboundedSender<Result<Value, Value>>,
) -> Option<Response> {
    let path = request.uri().path();
    if path == NEXT {
        let invocation = next.lock().await.recv().await?;
        let deadline = invocation
            .deadline
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let response = hyper::Response::builder()
            .header(
                "lambda-runtime-aws-request-id",
                "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
            )
            .header(
                "lambda-runtime-deadline-ms",
                deadline.as_millis().to_string(),
            )
            .header("lambda-runtime-invoked-function-arn", FUNCTION_ARN)
            .header("lambda-runtime-trace-id", TRACE)
            .header("content-type", "application/json")
            .body(Bytes::from(invocation.event));
        return Some(response.expect("a valid response"));
    }
    let body = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
    let outcome = if path.ends_with("/response") {
        Ok(body)
    } else {
        Err(body)
    };
    // A caller that no longer waits has panicked already.
    let _ = answered.send(outcome);
    Some(
        hyper::Response::builder()
            .status(202)
            .body(Bytes::new())
            .expect("a valid response"),
    )
}
