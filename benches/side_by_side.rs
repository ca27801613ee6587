//! Measures what the function costs, beside a Python function that does the same single job the usual way. Both are
//! whole processes under the Lambda Runtime API, in turn, against the same stand-ins. It writes JSON to target/bench,
//! from which report.py makes the table. The bound of a reconcile is its longest chain of dependent calls, each as long
//! as a bare client on this machine took for it in the same run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query};
use hickory_resolver::proto::rr::{Name, RecordType};
use serde_json::{Value, json};
use stand_in::http;
use stand_in::lambda::Process;
use stand_in::world::{ARN, ENDPOINT, World, binary};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

const OLD: &str = "10.0.1.7";
const NEW: &str = "10.0.2.9";
/// The number of times that each program is measured under each setting.
const RUNS: usize = 15;
/// The number of invocations of each process after the first.
const WARM: usize = 10;
/// The time in which the 25 reads of an invocation are refilled.
const BETWEEN: Duration = Duration::from_secs(3);
/// The Region as Lambda sets it, for the SDK of Python.
const REGION: (&str, &str) = ("AWS_DEFAULT_REGION", "eu-west-1");
/// The number of bare calls that the bound is taken from.
const BARE: usize = 50;
/// The share of a core that a function with 128 MB has. Lambda grants a core for each 1,769 MB.
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>
const SHARE: f64 = 128.0 / 1769.0;
/// The quota in microseconds. It is the least that Linux grants in a period.
const QUOTA: f64 = 1000.0;

/// The conditions under which both are measured.
struct Setting {
    name: &'static str,
    /// The time that a call to AWS takes. DNS takes a quarter of it.
    latency: Duration,
    is_tls: bool,
    /// True if the process is limited to the share of a core that 128 MB have, from the first request for work on.
    is_throttled: bool,
}

const fn setting(name: &'static str, latency: u64, is_tls: bool, is_throttled: bool) -> Setting {
    Setting {
        name,
        latency: Duration::from_millis(latency),
        is_tls,
        is_throttled,
    }
}

const SETTINGS: [Setting; 4] = [
    setting("no latency", 0, false, false),
    setting("no latency, TLS", 0, true, false),
    setting("20 ms a call, 5 ms DNS", 20, false, false),
    setting("128 MB, TLS", 0, true, true),
];

/// The values that are measured of a process, in milliseconds, and in kB of memory.
const MEASURED: [&str; 5] = ["start", "first", "warm", "failover", "memory"];
type Sample = [f64; MEASURED.len()];

#[tokio::main]
async fn main() {
    let mut results = Vec::new();
    for setting in &SETTINGS {
        if setting.is_throttled
            && let Err(error) = Throttle::of(None)
        {
            results.push(json!({"setting": setting.name, "missing": error.to_string()}));
            continue;
        }
        println!("measuring: {}", setting.name);
        let bound = bound(setting).await;
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            own.push(sample(setting, Command::new(binary())).await);
            others.push(sample(setting, python()).await);
        }
        let (own, other) = (medians(&own), medians(&others));
        results.push(json!({
            "setting": setting.name,
            "hasLatency": !setting.latency.is_zero(),
            "function": named(&own),
            "python": named(&other),
            "bound": named(&bound),
        }));
    }
    let sizes = sizes().await;
    let file = target().join("side_by_side.json");
    println!("measuring: what is billed");
    let durations = durations().await;
    let report = json!({"runs": RUNS, "settings": results, "sizes": sizes, "durations": durations});
    fs::write(&file, format!("{report:#}\n")).expect("target/bench can be written");
}

/// Returns the folder for results.
fn target() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    fs::create_dir_all(&folder).expect("target can be written");
    folder
}

/// Returns a command that starts the Python function as Lambda's own image does.
fn python() -> Command {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(project.join(".venv-bench/bin/python"));
    command.args(["-m", "awslambdaric", "function.handler"]);
    command.current_dir(project.join("benches/python"));
    command
}

/// A world in which the endpoint and the target group are settled, and what keeps its servers alive.
struct Scene {
    world: World,
    _tls: Option<(http::Server, NamedTempFile)>,
}

async fn scene(setting: &Setting) -> Scene {
    let mut world = World::settled(OLD).await;
    world.set(REGION.0, REGION.1);
    world.zone.set_latency(setting.latency / 4);
    world.aws.set_latency(setting.latency);
    match setting.is_tls {
        true => over_tls(world).await,
        false => Scene { world, _tls: None },
    }
}

async fn over_tls(mut world: World) -> Scene {
    let (server, certificate) = world.aws.serve_tls().await;
    let trusted = NamedTempFile::new().expect("a temporary file");
    fs::write(trusted.path(), certificate).expect("a temporary file");
    let port = server.address.port();
    world.set("AWS_ENDPOINT_URL", format!("https://localhost:{port}"));
    for variable in ["SSL_CERT_FILE", "AWS_CA_BUNDLE"] {
        world.set(variable, trusted.path().display());
    }
    Scene {
        world,
        _tls: Some((server, trusted)),
    }
}

/// Measures one process, from its start to a failover.
async fn sample(setting: &Setting, command: Command) -> Sample {
    let Scene { world, _tls } = scene(setting).await;
    let mut sandbox = world.process_of(command).await;
    let start = sandbox.ready().await - sandbox.begun();
    let throttle = setting
        .is_throttled
        .then(|| Throttle::of(Some(sandbox.id())).expect("a share as it was had before"));
    let first = reconcile(&mut sandbox).await;
    let mut warm = Vec::new();
    for _ in 0..WARM {
        warm.push(reconcile(&mut sandbox).await);
    }
    world.point(NEW);
    let failover = reconcile(&mut sandbox).await;
    let group = world.group();
    assert!(
        group.iter().any(|target| target.starts_with(NEW)),
        "{group:?}"
    );
    let memory = peak(sandbox.id());
    drop((sandbox, throttle));
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let [start, first, failover] = [start, first, failover].map(milliseconds);
    let warm = median(warm.into_iter().map(milliseconds).collect());
    [start, first, warm, failover, memory]
}

async fn reconcile(sandbox: &mut Process) -> Duration {
    let answer = sandbox.schedule().await;
    answer.outcome.expect("an invocation that succeeded");
    answer.took
}

/// Returns the most memory that a process has occupied, in kB.
fn peak(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
    peak.unwrap_or(f64::NAN)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn medians(samples: &[Sample]) -> Sample {
    std::array::from_fn(|index| median(samples.iter().map(|sample| sample[index]).collect()))
}

fn named(sample: &Sample) -> Value {
    let pairs = MEASURED.iter().zip(sample);
    pairs
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Measures the longest chain of dependent calls of a first, a warm and a failing-over reconcile, in milliseconds. It
/// is the sum of what each call takes a client that only sends and receives.
async fn bound(setting: &Setting) -> Sample {
    let plain = Setting {
        is_tls: false,
        ..*setting
    };
    let Scene { world, .. } = scene(&plain).await;
    let (mut calls, mut questions) = (Vec::new(), Vec::new());
    let address = world.variables["AWS_ENDPOINT_URL"]
        .trim_start_matches("http://")
        .to_owned();
    let mut stream = TcpStream::connect(&address)
        .await
        .expect("the stand-in listens");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    socket
        .connect(&world.variables["DNS_SERVERS"])
        .await
        .expect("an address");
    for _ in 0..BARE {
        let begin = Instant::now();
        call(&mut stream).await;
        calls.push(begin.elapsed().as_secs_f64() * 1000.0);
        let begin = Instant::now();
        ask(&socket).await;
        questions.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    let (call, question) = (median(calls), median(questions));
    // It resolves, describes and publishes. At first it also reads what the group is, and in a failover it makes two
    // changes.
    [
        f64::NAN,
        question + 3.0 * call,
        question + 2.0 * call,
        question + 4.0 * call,
        f64::NAN,
    ]
}

/// Calls `DescribeTargetHealth` by hand.
async fn call(stream: &mut TcpStream) {
    let body = format!("Action=DescribeTargetHealth&TargetGroupArn={ARN}");
    let request = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the stand-in reads");
    let mut response = Vec::new();
    loop {
        let read = stream
            .read_buf(&mut response)
            .await
            .expect("the stand-in answers");
        assert!(read > 0, "the stand-in closed the connection");
        let text = String::from_utf8_lossy(&response);
        if text.contains("</DescribeTargetHealthResponse>") {
            return;
        }
    }
}

async fn ask(socket: &UdpSocket) {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii(format!("{ENDPOINT}.")).expect("a name");
    message.add_query(Query::query(name, RecordType::A));
    let bytes = message.to_vec().expect("a message");
    socket.send(&bytes).await.expect("the stand-in listens");
    socket
        .recv(&mut [0; 512])
        .await
        .expect("the stand-in answers");
}

/// Measures the binary and its zip in bytes, the memory with many groups in kB, and how many instructions a warm
/// reconcile takes.
async fn sizes() -> Value {
    let binary = binary();
    let archive = target().join("function.zip");
    let zipped = Command::new("python3")
        .args(["-m", "zipfile", "-c"])
        .args([&archive, &binary])
        .status()
        .await;
    assert!(
        zipped.is_ok_and(|status| status.success()),
        "python3 makes the zip"
    );
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    json!({
        "binaryBytes": size(&binary),
        "zipBytes": size(&archive),
        "memoryOf25Groups": memory_of_many(25).await,
        "instructionsOfAWarmReconcile": instructions().await,
    })
}

/// Measures what Lambda bills of a scheduled invocation in which nothing has moved, in milliseconds. It has the share
/// of a core that 128 MB have, TLS, 40 ms a call, 5 ms for DNS and Elastic Load Balancing's token buckets.
async fn durations() -> Value {
    if let Err(error) = Throttle::of(None) {
        return json!({"missing": error.to_string()});
    }
    json!({
        "function": duration(Command::new(binary()), 1).await,
        "functionWith25Groups": duration(Command::new(binary()), 25).await,
        "python": duration(python(), 1).await,
    })
}

async fn duration(command: Command, groups: usize) -> f64 {
    let mut world = World::empty().await;
    world.set(REGION.0, REGION.1);
    world.settle_many(groups, OLD);
    let Scene { world, _tls } = over_tls(world).await;
    let mut sandbox = world.process_of(command).await;
    sandbox.ready().await;
    let throttle = Throttle::of(Some(sandbox.id())).expect("a share as it was had before");
    reconcile(&mut sandbox).await;
    let mut durations = Vec::new();
    for _ in 0..WARM {
        // The buckets fill again, as they do in a minute.
        sleep(BETWEEN).await;
        durations.push(reconcile(&mut sandbox).await.as_secs_f64() * 1000.0);
    }
    drop((sandbox, throttle));
    median(durations)
}

async fn memory_of_many(groups: u64) -> f64 {
    let mut world = World::empty().await;
    world.point(OLD);
    world.feed(groups);
    let mut sandbox = world.process().await;
    for _ in 0..WARM {
        reconcile(&mut sandbox).await;
    }
    peak(sandbox.id())
}

/// Returns what valgrind counted, or the reason why it did not.
async fn instructions() -> Value {
    let (few, many) = (5, 25);
    match (instructions_of(few).await, instructions_of(many).await) {
        (Ok(before), Ok(after)) => json!((after - before) / (many - few)),
        (Err(error), _) | (_, Err(error)) => json!(format!("not measured: {error}")),
    }
}

async fn instructions_of(invocations: u64) -> Result<u64, String> {
    let world = World::settled(OLD).await;
    let mut command = Command::new("/usr/bin/valgrind");
    command.args([
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
    ]);
    command.arg(binary());
    if !Path::new("/usr/bin/valgrind").exists() {
        return Err("valgrind is not installed".to_owned());
    }
    let mut sandbox = world.process_of(command).await;
    for _ in 0..invocations {
        reconcile(&mut sandbox).await;
    }
    let log = sandbox.end().await;
    let counted = log.iter().find_map(|line| line.split_once("refs:"));
    let counted = counted.and_then(|(_, count)| count.trim().replace(',', "").parse().ok());
    counted.ok_or_else(|| format!("valgrind said {log:?}"))
}

/// A limit to the share of a core that a function with 128 MB has, by cgroup. It ends when it is dropped.
struct Throttle(PathBuf);

impl Throttle {
    /// Limits this process. Without a process, it only shows whether a limit is possible.
    fn of(process: Option<u32>) -> io::Result<Self> {
        let period = (QUOTA / SHARE).round();
        let name = format!("side-by-side-{}", std::process::id());
        let (folder, files) = match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            true => (
                Path::new("/sys/fs/cgroup").join(name),
                vec![("cpu.max", format!("{QUOTA} {period}"))],
            ),
            false => (
                Path::new("/sys/fs/cgroup/cpu").join(name),
                vec![
                    ("cpu.cfs_period_us", period.to_string()),
                    ("cpu.cfs_quota_us", QUOTA.to_string()),
                ],
            ),
        };
        fs::create_dir(&folder)?;
        let throttle = Throttle(folder);
        for (file, text) in files {
            fs::write(throttle.0.join(file), text)?;
        }
        if let Some(process) = process {
            fs::write(throttle.0.join("cgroup.procs"), process.to_string())?;
        }
        Ok(throttle)
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // The cgroup can be removed once the process is gone.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
