//! Turns the function's log into lines of the sandbox that is running at the moment.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::history::{History, Life, Line, What};

thread_local! {
    static RUNNING: RefCell<Option<(Life, History)>> = const { RefCell::new(None) };
}

/// Runs `future`. What the function logs meanwhile belongs to this life.
pub async fn of<T>(life: Life, history: &History, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|context| {
        RUNNING.set(Some((life, history.clone())));
        let poll = future.as_mut().poll(context);
        RUNNING.set(None);
        poll
    })
    .await
}

/// Installs the subscriber for this process.
pub fn init() {
    let lines = Lines.with_filter(Targets::new().with_target("nlb_hostname_target", Level::INFO));
    let subscriber = tracing_subscriber::registry().with(lines);
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        RUNNING.with_borrow(|running| {
            let Some((life, history)) = running else {
                return;
            };
            let mut line = Line {
                is_error: *event.metadata().level() == Level::ERROR,
                is_warning: *event.metadata().level() == Level::WARN,
                ..Line::default()
            };
            event.record(&mut line);
            history.write(What::Logged { life: *life, line });
        });
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            "targetGroupArn" => self.target_group_arn = value.to_owned(),
            "errorMessage" => self.error = value.to_owned(),
            _ => (),
        }
    }
}
