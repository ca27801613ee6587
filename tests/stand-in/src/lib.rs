//! What the function talks to, truthfully and on loopback: a DNS server whose answers change at run
//! time, Elastic Load Balancing and CloudWatch on their real wire protocols with real target-group
//! semantics, and the Lambda Runtime API under which the real binary runs.
//!
//! State is kept apart from transport: [`dns::Zone`] maps a query's bytes to an answer's,
//! [`aws::Aws`] a request's bytes to a reply's, and [`elb`] and [`cloudwatch`] know of neither
//! bytes nor sockets nor a clock. Both can be had over sockets, and in [`memory`] under virtual time.
//! A [`world::World`] is all of it, with the function in the middle.

pub mod aws;
mod bucket;
pub mod cloudwatch;
pub mod dns;
pub mod elb;
pub mod http;
pub mod lambda;
pub mod lost_zone;
pub mod memory;
mod wire;
pub mod world;

/// Until an answer goes out. Tokio's clock goes by the millisecond, for which one that is not late
/// would have to wait.
async fn delay(delay: std::time::Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// The lines of standard input, by which a program of the tests is led, as they come.
pub fn commands() -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (sender, lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            // Whoever ends has read enough.
            let _ = sender.send(line.expect("standard input in UTF-8"));
        }
    });
    lines
}
