//! The stand-ins for everything that the function talks to, faithful and on loopback: a DNS server
//! whose answers change at run time, Elastic Load Balancing and CloudWatch on their real wire
//! protocols with real target-group semantics, and the Lambda Runtime API that the real binary runs
//! under.
//!
//! State is kept apart from transport. [`dns::Zone`] maps the bytes of a query to the bytes of an
//! answer, and [`aws::Aws`] maps the bytes of a request to the bytes of a reply. [`elb`] and
//! [`cloudwatch`] know nothing of bytes, sockets or clocks. Both are available over sockets and,
//! under virtual time, in [`memory`]. A [`world::World`] is all of this with the function in the
//! middle.

pub mod aws;
mod bucket;
pub mod cloudwatch;
pub mod dns;
pub mod elb;
pub mod fleet;
pub mod http;
pub mod lambda;
pub mod lost_zone;
pub mod memory;
pub mod tagging;
mod wire;
pub mod world;

/// Waits before an answer goes out. Tokio's clock counts whole milliseconds, so an answer that is
/// not late would wait if it slept for zero.
async fn delay(delay: std::time::Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// Returns the lines of standard input as they arrive. They are the commands for a program of the
/// tests.
pub fn commands() -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (sender, lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            // A receiver that is gone has read enough.
            let _ = sender.send(line.expect("standard input in UTF-8"));
        }
    });
    lines
}
