//! The wire protocols: awsQuery with XML for Elastic Load Balancing, Smithy RPC v2 CBOR for
//! CloudWatch.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, SystemTime};

use ciborium::Value;
use quick_xml::escape::escape;

use crate::cloudwatch::Datum;
use crate::elb::{LoadBalancer, Refusal, TargetDescription, TargetGroup, TargetHealth};

const NAMESPACE: &str = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/";
pub const REQUEST_ID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

/// The parameters of a form-encoded call.
pub struct Query(BTreeMap<String, String>);

impl Query {
    pub fn read(body: &[u8]) -> Self {
        Query(form_urlencoded::parse(body).into_owned().collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns the ARNs of the target groups or load balancers that a call names, with commas between them.
    pub fn arns(&self) -> String {
        let of = |kind: &str| {
            let one = self.get(&format!("{kind}Arn"));
            let member = move |index: usize| self.get(&format!("{kind}Arns.member.{index}"));
            let arns = one.into_iter().chain((1..).map_while(member));
            arns.collect::<Vec<_>>().join(",")
        };
        of("TargetGroup") + &of("LoadBalancer")
    }

    pub fn targets(&self) -> Vec<TargetDescription> {
        let member = |index: usize| {
            let field = |name| self.get(&format!("Targets.member.{index}.{name}"));
            Some(TargetDescription {
                id: field("Id")?.to_owned(),
                port: field("Port").and_then(|port| port.parse().ok()),
                zone: field("AvailabilityZone").map(str::to_owned),
            })
        };
        (1..).map_while(member).collect()
    }
}

/// An element of a response.
struct Element {
    name: String,
    content: Content,
}

enum Content {
    Text(String),
    /// An element without children closes itself.
    Elements(Vec<Element>),
}

impl Element {
    fn text(name: &str, text: impl ToString) -> Self {
        Element {
            name: name.to_owned(),
            content: Content::Text(text.to_string()),
        }
    }

    fn of(name: &str, elements: impl IntoIterator<Item = Element>) -> Self {
        Element {
            name: name.to_owned(),
            content: Content::Elements(elements.into_iter().collect()),
        }
    }

    fn list(name: &str, members: impl IntoIterator<Item = Vec<Element>>) -> Self {
        let members = members.into_iter();
        Element::of(name, members.map(|member| Element::of("member", member)))
    }

    /// Writes the element as recordings of the service have it, with a line for each element and two spaces for each
    /// level.
    fn write(&self, depth: usize, attributes: &str, text: &mut String) {
        let (indent, name) = ("  ".repeat(depth), &self.name);
        match &self.content {
            Content::Text(content) => {
                *text += &format!("{indent}<{name}>{}</{name}>\n", escape(content.as_str()));
            }
            Content::Elements(elements) if elements.is_empty() => {
                *text += &format!("{indent}<{name}{attributes}/>\n");
            }
            Content::Elements(elements) => {
                *text += &format!("{indent}<{name}{attributes}>\n");
                elements
                    .iter()
                    .for_each(|element| element.write(depth + 1, "", text));
                *text += &format!("{indent}</{name}>\n");
            }
        }
    }

    /// Returns the whole response. It has no XML declaration, and ends with a line feed.
    fn document(self) -> String {
        let mut text = String::new();
        self.write(0, &format!(" xmlns=\"{NAMESPACE}\""), &mut text);
        text
    }
}

/// Writes an error. The service's own errors have no message.
pub fn xml_error(status: u16, refusal: &Refusal) -> String {
    let fault = if status < 500 { "Sender" } else { "Receiver" };
    let mut error = vec![
        Element::text("Type", fault),
        Element::text("Code", refusal.code),
    ];
    if !refusal.message.is_empty() {
        error.push(Element::text("Message", &refusal.message));
    }
    let response = [
        Element::of("Error", error),
        Element::text("RequestId", REQUEST_ID),
    ];
    Element::of("ErrorResponse", response).document()
}

/// The result of a call that succeeded.
pub struct XmlResult(Vec<Element>);

impl XmlResult {
    pub fn empty() -> Self {
        XmlResult(Vec::new())
    }

    pub fn document(self, action: &str) -> String {
        let metadata = Element::of("ResponseMetadata", [Element::text("RequestId", REQUEST_ID)]);
        let result = Element::of(&format!("{action}Result"), self.0);
        Element::of(&format!("{action}Response"), [result, metadata]).document()
    }
}

pub fn target_groups(groups: &[&TargetGroup]) -> XmlResult {
    let member = |group: &&TargetGroup| {
        let load_balancers = group.load_balancer.iter();
        let family = if group.is_ipv6 { "ipv6" } else { "ipv4" };
        let interval = group.health_check_interval.as_secs();
        vec![
            Element::text("TargetGroupArn", &group.arn),
            Element::text("TargetType", group.target_type),
            Element::text("Protocol", group.protocol),
            Element::text("Port", group.port),
            Element::text("IpAddressType", family),
            Element::text("HealthCheckIntervalSeconds", interval),
            Element::of(
                "LoadBalancerArns",
                load_balancers.map(|one| Element::text("member", &one.arn)),
            ),
        ]
    };
    XmlResult(vec![Element::list(
        "TargetGroups",
        groups.iter().map(member),
    )])
}

pub fn target_group_attributes(group: &TargetGroup) -> XmlResult {
    let delay = group.deregistration_delay.as_secs().to_string();
    attributes(&[
        ("deregistration_delay.timeout_seconds", &delay),
        (
            "deregistration_delay.connection_termination.enabled",
            &group.is_connection_terminated.to_string(),
        ),
        ("load_balancing.cross_zone.enabled", group.cross_zone),
    ])
}

pub fn load_balancer_attributes(load_balancer: &LoadBalancer) -> XmlResult {
    let is_cross_zone = load_balancer.is_cross_zone.to_string();
    attributes(&[("load_balancing.cross_zone.enabled", &is_cross_zone)])
}

fn attributes(attributes: &[(&str, &str)]) -> XmlResult {
    let member = |(key, value): &(&str, &str)| {
        vec![Element::text("Key", key), Element::text("Value", value)]
    };
    XmlResult(vec![Element::list(
        "Attributes",
        attributes.iter().map(member),
    )])
}

pub fn load_balancer(load_balancer: &LoadBalancer) -> XmlResult {
    let zones = load_balancer.zones.iter();
    let member = vec![
        Element::text("LoadBalancerArn", &load_balancer.arn),
        Element::text("Type", "network"),
        Element::list(
            "AvailabilityZones",
            zones.map(|zone| vec![Element::text("ZoneName", zone)]),
        ),
    ];
    XmlResult(vec![Element::list("LoadBalancers", [member])])
}

/// Adds the texts that recordings have beside a state and its reason.
pub fn targets(targets: &[TargetHealth]) -> XmlResult {
    let member = |target: &TargetHealth| {
        let reason = target.reason.map(|reason| Element::text("Reason", reason));
        let description = target.reason.and_then(description);
        let description = description.map(|text| Element::text("Description", text));
        let state = Element::text("State", target.state);
        vec![
            Element::text("HealthCheckPort", target.port),
            Element::of(
                "Target",
                [
                    Element::text("Id", &target.id),
                    Element::text("Port", target.port),
                    Element::text("AvailabilityZone", &target.zone),
                ],
            ),
            Element::of(
                "TargetHealth",
                [state].into_iter().chain(reason).chain(description),
            ),
            Element::of(
                "AdministrativeOverride",
                [
                    Element::text("State", "no_override"),
                    Element::text("Reason", "AdministrativeOverride.NoOverride"),
                    Element::text("Description", "No override is currently active on target"),
                ],
            ),
        ]
    };
    let members = targets.iter().map(member);
    XmlResult(vec![Element::list("TargetHealthDescriptions", members)])
}

/// Returns the text that the service has for a reason.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html>
fn description(reason: &str) -> Option<&'static str> {
    match reason {
        "Elb.RegistrationInProgress" => Some("Target registration is in progress"),
        "Target.DeregistrationInProgress" => Some("Target deregistration is in progress"),
        "Target.NotInUse" => {
            Some("Target group is not configured to receive traffic from the load balancer")
        }
        _ => None,
    }
}

/// Returns the shape of an error, as recordings and the SDKs' own models name it, and the key of its message.
/// CloudWatch's own shapes end with `Exception`. Those of the framework in front of it have namespaces of their own.
fn shape(code: &str) -> (String, &'static str) {
    match code {
        "AccessDenied" => (
            "com.amazon.coral.service#AccessDeniedException".to_owned(),
            "Message",
        ),
        "Throttling" => (
            "com.amazon.coral.availability#ThrottlingException".to_owned(),
            "message",
        ),
        "ValidationError" => (
            "com.amazon.coral.validate#ValidationException".to_owned(),
            "message",
        ),
        own => (
            format!("com.amazonaws.cloudwatch.v2010_08_01#{own}Exception"),
            "message",
        ),
    }
}

/// Writes an error as a map of indefinite length, as recordings have it.
pub fn cbor_error(refusal: &Refusal) -> Vec<u8> {
    let (shape, key) = shape(refusal.code);
    let texts = ["__type", &shape, key, &refusal.message];
    let texts = texts.map(|text| cbor(&Value::Text(text.to_owned())));
    [&[0xbf], texts.concat().as_slice(), &[0xff]].concat()
}

fn cbor(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("writing into memory");
    bytes
}

/// Reads the namespace and the data of a `PutMetricData`. Returns `None` if the body is not one.
pub fn metric_data(body: &[u8], is_compressed: bool) -> Option<(String, Vec<Datum>)> {
    let mut plain = Vec::new();
    if is_compressed {
        flate2::read::GzDecoder::new(body)
            .read_to_end(&mut plain)
            .ok()?;
    } else {
        plain.extend(body);
    }
    let input: Value = ciborium::from_reader(plain.as_slice()).ok()?;
    let namespace = text(field(&input, "Namespace")?)?;
    let data = field(&input, "MetricData")?.as_array()?.iter();
    let data = data
        .map(|datum| metric_datum(&namespace, datum))
        .collect::<Option<_>>()?;
    Some((namespace, data))
}

fn metric_datum(namespace: &str, datum: &Value) -> Option<Datum> {
    let dimensions = field(datum, "Dimensions")?.as_array()?.iter();
    let dimension = |dimension| {
        Some((
            text(field(dimension, "Name")?)?,
            text(field(dimension, "Value")?)?,
        ))
    };
    Some(Datum {
        namespace: namespace.to_owned(),
        metric: text(field(datum, "MetricName")?)?,
        dimensions: dimensions.map(dimension).collect::<Option<_>>()?,
        timestamp: timestamp(field(datum, "Timestamp")?)?,
        unit: text(field(datum, "Unit")?)?,
        samples: samples(datum)?,
    })
}

/// Reads one value, or several values with their counts. CloudWatch accepts at most 150 of them.
fn samples(datum: &Value) -> Option<Vec<f64>> {
    let floats = |name| -> Option<Vec<f64>> {
        let values = field(datum, name)?.as_array()?.iter();
        values.map(Value::as_float).collect()
    };
    match (field(datum, "Value"), floats("Values"), floats("Counts")) {
        (Some(value), None, None) => Some(vec![value.as_float()?]),
        (None, Some(values), Some(counts))
            if values.len() == counts.len() && (1..=150).contains(&values.len()) =>
        {
            let repeated = values.iter().zip(counts);
            let repeated = repeated.flat_map(|(value, count)| vec![*value; count as usize]);
            Some(repeated.collect())
        }
        _ => None,
    }
}

fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let mut fields = map.as_map()?.iter();
    fields
        .find(|(key, _)| key.as_text() == Some(name))
        .map(|(_, value)| value)
}

fn text(value: &Value) -> Option<String> {
    value.as_text().map(str::to_owned)
}

/// Reads a timestamp, which is tag 1 with the seconds since the epoch.
fn timestamp(value: &Value) -> Option<SystemTime> {
    let Value::Tag(1, seconds) = value else {
        return None;
    };
    let seconds = match seconds.as_ref() {
        Value::Float(seconds) => *seconds,
        Value::Integer(seconds) => i128::from(*seconds) as f64,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .map(|since| SystemTime::UNIX_EPOCH + since)
}
