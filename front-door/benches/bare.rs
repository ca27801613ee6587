//! What bounds a warm request. Under the Lambda Runtime API, this is a function that does nothing. Otherwise, it measures
//! what a bare client of the redis crate takes over TLS for 1 and for 100 commands, and prints the medians in milliseconds
//! as JSON. benches/over_http.py starts it with the variables of the front door.

use std::env;
use std::time::Instant;

use lambda_runtime::{LambdaEvent, service_fn};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, Value, cmd, pipe};
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

const TIMES: usize = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    match env::var_os("AWS_LAMBDA_RUNTIME_API") {
        Some(_) => do_nothing().await,
        None => measure().await,
    }
}

async fn do_nothing() {
    let answer = async |event: LambdaEvent<Json>| {
        let body = event.payload["body"].clone();
        Ok::<_, lambda_runtime::Error>(json!({"statusCode": 200, "body": body}))
    };
    lambda_runtime::run(service_fn(answer))
        .await
        .expect("events");
}

async fn measure() {
    let variable = |name| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let endpoint = variable("ENDPOINT");
    let stream = TcpStream::connect(format!("{endpoint}:{}", variable("PORT"))).await;
    let stream = stream.expect("the cache is there");
    stream.set_nodelay(true).expect("a socket");
    let name = ServerName::try_from(endpoint).expect("a name");
    let tls = probe::connector().expect("a trusted authority");
    let stream = tls.connect(name, stream).await;
    let info = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new();
    let stream = stream.expect("TLS");
    let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
    let (mut connection, driver) = made.expect("a connection");
    tokio::spawn(driver);
    let password = variable("CACHE_PASSWORD");
    cmd("AUTH")
        .arg(password)
        .exec_async(&mut connection)
        .await
        .expect("a login");

    let mut one = Vec::new();
    let mut hundred = Vec::new();
    for _ in 0..TIMES {
        let begin = Instant::now();
        let reply: Value = cmd("GET")
            .arg("key")
            .query_async(&mut connection)
            .await
            .expect("a reply");
        one.push(begin.elapsed());
        assert_ne!(reply, Value::Nil);
        let mut pipeline = pipe();
        (0..100).for_each(|_| _ = pipeline.cmd("GET").arg("key"));
        let begin = Instant::now();
        let replies: Vec<Value> = pipeline
            .query_async(&mut connection)
            .await
            .expect("replies");
        hundred.push(begin.elapsed());
        assert_eq!(replies.len(), 100);
    }
    let [one, hundred] = [one, hundred].map(|mut times| {
        times.sort();
        times[TIMES / 2].as_secs_f64() * 1000.0
    });
    println!("{{\"one\": {one:.4}, \"hundred\": {hundred:.4}}}");
}
