//! The log has one JSON object per line, with nested values as values. `tracing` has flat fields only, so a field
//! whose name begins with `json.` carries JSON text. The text is written as a value, and the name without the prefix.

use std::{fmt, io};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

const NESTED: &str = "json.";

/// Makes the JSON text for a field whose name begins with `json.`.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| Value::from(error.to_string()).to_string())
}

/// Reads the level that Lambda sets from the function's logging configuration. Its `FATAL` is above tracing's levels.
pub fn level(configured: Option<&str>) -> Level {
    match configured {
        Some("FATAL") => Level::ERROR,
        level => level
            .and_then(|level| level.parse().ok())
            .unwrap_or(Level::INFO),
    }
}

/// Writes the lines to standard output, where Lambda reads them. Panics are logged too.
pub fn init(level: Level) {
    subscriber(level, io::stdout).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}

/// Makes what writes the lines of this level and above.
pub fn subscriber<W>(level: Level, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // lambda_runtime has a span with the request's id, which is kept. It also logs each error that a handler
    // returns once more, as Rust's debug text, which is switched off.
    let targets = Targets::new()
        .with_default(Level::WARN.min(level))
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_target("lambda_runtime::layers::trace", LevelFilter::INFO)
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(JsonFields::new())
        .event_format(JsonLines)
        .with_writer(writer);
    tracing_subscriber::registry().with(lines).with(targets)
}

struct JsonLines;

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let level = event.metadata().level().as_str();
        let head = [
            ("timestamp", timestamp.into()),
            ("level", level.into()),
            ("message", Value::Null),
        ];
        let head = head.map(|(name, value)| (name.to_owned(), value));
        let mut line = Fields(Map::from_iter(head));
        event.record(&mut line);
        line.0.extend(of_spans(context));
        writeln!(writer, "{}", json(&line.0))
    }
}

/// The request's id comes from the span that lambda_runtime opens around an invocation. What caused the
/// invocation comes from our own span.
fn of_spans<S>(context: &FmtContext<'_, S, JsonFields>) -> Map<String, Value>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    let mut fields = Map::new();
    for span in context.event_scope().into_iter().flatten() {
        let extensions = span.extensions();
        let formatted = extensions.get::<FormattedFields<JsonFields>>();
        let of_span = formatted.map(|formatted| serde_json::from_str(&formatted.fields));
        fields.extend(of_span.and_then(Result::ok).unwrap_or(Map::new()));
    }
    fields.retain(|name, _| ["cause", "requestId"].contains(&name.as_str()));
    fields
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = || Value::from(value);
        let (name, value) = match field.name().strip_prefix(NESTED) {
            Some(name) => (name, serde_json::from_str(value).unwrap_or_else(|_| text())),
            None => (field.name(), text()),
        };
        self.0.insert(name.to_owned(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}
