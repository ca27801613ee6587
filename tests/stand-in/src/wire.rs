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

/// The parameters of a form-encoded call.
pub struct Query(BTreeMap<String, String>);

impl Query {
    pub fn read(body: &[u8]) -> Self {
        Query(form_urlencoded::parse(body).into_owned().collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The ARNs of the target groups or load balancers that a call names, with commas between them.
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

pub fn xml_error(refusal: &Refusal) -> String {
    let (code, message) = (escape(refusal.code), escape(refusal.message.as_str()));
    format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>stand-in</RequestId></ErrorResponse>"
    )
}

pub fn xml_result(action: &str, result: &str) -> String {
    format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>stand-in</RequestId></ResponseMetadata></{action}Response>"
    )
}

pub fn xml_target_groups(groups: &[&TargetGroup]) -> String {
    let members: String = groups.iter().map(|group| xml_target_group(group)).collect();
    format!("<TargetGroups>{members}</TargetGroups>")
}

fn xml_target_group(group: &TargetGroup) -> String {
    let (arn, target_type, protocol, port) = (
        escape(&group.arn),
        group.target_type,
        group.protocol,
        group.port,
    );
    let family = if group.is_ipv6 { "ipv6" } else { "ipv4" };
    let interval = group.health_check_interval.as_secs();
    let load_balancer = group
        .load_balancer
        .as_ref()
        .map_or_else(String::new, |one| {
            format!("<member>{}</member>", escape(&one.arn))
        });
    format!(
        "<member><TargetGroupArn>{arn}</TargetGroupArn><TargetType>{target_type}</TargetType>\
         <Protocol>{protocol}</Protocol><Port>{port}</Port><IpAddressType>{family}</IpAddressType>\
         <HealthCheckIntervalSeconds>{interval}</HealthCheckIntervalSeconds>\
         <LoadBalancerArns>{load_balancer}</LoadBalancerArns></member>"
    )
}

pub fn xml_target_group_attributes(group: &TargetGroup) -> String {
    let delay = group.deregistration_delay.as_secs().to_string();
    xml_attributes(&[
        ("deregistration_delay.timeout_seconds", &delay),
        (
            "deregistration_delay.connection_termination.enabled",
            &group.is_connection_terminated.to_string(),
        ),
        ("load_balancing.cross_zone.enabled", group.cross_zone),
    ])
}

pub fn xml_load_balancer_attributes(load_balancer: &LoadBalancer) -> String {
    let is_cross_zone = load_balancer.is_cross_zone.to_string();
    xml_attributes(&[("load_balancing.cross_zone.enabled", &is_cross_zone)])
}

fn xml_attributes(attributes: &[(&str, &str)]) -> String {
    let member = |(key, value)| format!("<member><Key>{key}</Key><Value>{value}</Value></member>");
    let members: String = attributes.iter().copied().map(member).collect();
    format!("<Attributes>{members}</Attributes>")
}

pub fn xml_load_balancer(load_balancer: &LoadBalancer) -> String {
    let zone = |zone: &&str| format!("<member><ZoneName>{zone}</ZoneName></member>");
    let zones: String = load_balancer.zones.iter().map(zone).collect();
    format!(
        "<LoadBalancers><member><LoadBalancerArn>{}</LoadBalancerArn><Type>network</Type>\
         <AvailabilityZones>{zones}</AvailabilityZones></member></LoadBalancers>",
        escape(&load_balancer.arn)
    )
}

pub fn xml_targets(targets: &[TargetHealth]) -> String {
    let member = |target: &TargetHealth| {
        let TargetHealth {
            id,
            port,
            zone,
            state,
            reason,
            ..
        } = target;
        let reason = reason
            .map(|reason| format!("<Reason>{reason}</Reason>"))
            .unwrap_or_default();
        format!(
            "<member><HealthCheckPort>{port}</HealthCheckPort><Target><Id>{id}</Id><Port>{port}</Port>\
             <AvailabilityZone>{zone}</AvailabilityZone></Target>\
             <TargetHealth><State>{state}</State>{reason}</TargetHealth></member>"
        )
    };
    let members: String = targets.iter().map(member).collect();
    format!("<TargetHealthDescriptions>{members}</TargetHealthDescriptions>")
}

pub fn cbor_error(refusal: &Refusal) -> Vec<u8> {
    let text = |text: &str| Value::Text(text.to_owned());
    cbor(&Value::Map(vec![
        (
            text("__type"),
            text(&format!("com.amazonaws.cloudwatch#{}", refusal.code)),
        ),
        (text("message"), text(&refusal.message)),
    ]))
}

/// An empty map.
pub fn cbor_empty() -> Vec<u8> {
    cbor(&Value::Map(Vec::new()))
}

fn cbor(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("writing into memory");
    bytes
}

/// The namespace and the data of a `PutMetricData`; `None` for what is none.
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

/// A value, or values with their counts; CloudWatch takes at most 150 of them.
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

/// Tag 1: seconds since the epoch.
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
