//! Variables become a complete configuration or one precise error.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use nlb_hostname_target::config::{Alarms, Config, Settings, TargetGroupConfig};
use nlb_hostname_target::endpoint::Endpoint;
use nlb_hostname_target::error::Error;
use nlb_hostname_target::target_group::TargetGroupArn;
use stand_in::elb::RANGES;
use stand_in::world::{ARN, ENDPOINT, OTHER_ARN};

type Variables = BTreeMap<&'static str, String>;

fn minimal() -> Variables {
    BTreeMap::from([
        ("ENDPOINTS", ENDPOINT.to_owned()),
        ("TARGET_GROUP_ARNS", ARN.to_owned()),
    ])
}

fn with(name: &'static str, value: impl Into<String>) -> Variables {
    let mut variables = minimal();
    if name == "FLEET" {
        variables.insert("ALLOWED_CIDRS", "10.0.0.0/8".to_owned());
    }
    variables.insert(name, value.into());
    variables
}

fn parse(variables: &Variables) -> Result<Config, Error> {
    Config::from_lookup(|name| variables.get(name).cloned())
}

fn message(variables: &Variables) -> String {
    let error = parse(variables).expect_err("an invalid configuration");
    assert_eq!(error.error_type(), "InvalidConfig");
    error.to_string()
}

/// Returns all variables of the deployment that can make the configuration invalid, in the order in which the function
/// reads them. The Region is not among them, because Lambda itself sets it.
pub fn variables_read() -> Vec<String> {
    let read = RefCell::new(Vec::new());
    let variables = minimal();
    let config = Config::from_lookup(|name| {
        read.borrow_mut().push(name.to_owned());
        variables.get(name).cloned()
    });
    config.unwrap();
    let mut read = read.into_inner();
    // Whether there is a fleet is asked before the others, and which one in its turn.
    let first = read.remove(0);
    assert_eq!(first, "FLEET");
    read.retain(|name| {
        !["ALARM_MINUTES", "AWS_REGION", "SCHEDULE_EXPRESSION"].contains(&name.as_str())
    });
    read
}

fn endpoint(name: &str) -> Endpoint {
    Endpoint::parse(name).unwrap()
}

fn arn(text: &str) -> TargetGroupArn {
    TargetGroupArn::parse(text).unwrap()
}

#[test]
fn the_defaults() {
    let settings = Settings {
        port: None,
        lookups: 1,
        misses: 0,
    };
    let expected = Config {
        target_groups: vec![TargetGroupConfig {
            arn: arn(ARN),
            endpoints: vec![endpoint(ENDPOINT)],
            settings,
            is_listed: false,
        }],
        fleet: None,
        settings,
        dns_servers: vec![],
        poll_interval: Duration::from_secs(5),
        schedule_poll: Duration::ZERO,
        event_poll: Duration::from_secs(50),
        allowed_cidrs: RANGES.map(|cidr| cidr.parse().unwrap()).to_vec(),
        keep_cidrs: vec![],
        metric_namespace: "NlbHostnameTarget".to_owned(),
        is_dry_run: false,
        alarms: Alarms::default(),
    };
    assert_eq!(parse(&minimal()).unwrap(), expected);

    let minimal = minimal();
    let empty = |name: &str| Some(minimal.get(name).cloned().unwrap_or_default());
    let parsed = Config::from_lookup(empty);
    assert_eq!(parsed.unwrap(), expected, "an empty value counts as unset");
}

#[test]
fn everything_set() {
    let endpoints = " Master.Example.COM. , replica.example.com,third.example.com";
    let arns = format!("{OTHER_ARN}, {ARN},{OTHER_ARN}");
    let servers = "10.0.0.2, 10.0.0.3:5353,fd00::2,[fd00::3]:5353";
    let variables = [
        ("FLEET", "a.B_c-1"),
        ("ENDPOINTS", endpoints),
        ("TARGET_GROUP_ARNS", &arns),
        ("TARGET_PORT", "6380"),
        ("DNS_SERVERS", servers),
        ("LOOKUPS_PER_RECONCILE", "8"),
        ("MISSES_BEFORE_DEREGISTRATION", "1000"),
        ("POLL_INTERVAL_SECONDS", "60"),
        ("SCHEDULE_POLL_SECONDS", "55"),
        ("EVENT_POLL_SECONDS", "0"),
        ("ALLOWED_CIDRS", "10.0.0.0/16, fd00::/8"),
        ("KEEP_CIDRS", "10.0.7.0/24, 10.0.8.8/32"),
        ("METRIC_NAMESPACE", "My/Redis Failover"),
        ("DRY_RUN", "true"),
        ("SCHEDULE_EXPRESSION", "rate(5 minutes)"),
        ("ALARM_MINUTES", "17"),
    ];
    let variables = variables.map(|(name, value)| (name, value.to_owned()));
    let settings = Settings {
        port: Some(6380),
        lookups: 8,
        misses: 1000,
    };
    let expected = Config {
        target_groups: vec![
            TargetGroupConfig {
                arn: arn(OTHER_ARN),
                endpoints: vec![
                    endpoint("master.example.com"),
                    endpoint("third.example.com"),
                ],
                settings,
                is_listed: false,
            },
            TargetGroupConfig {
                arn: arn(ARN),
                endpoints: vec![endpoint("replica.example.com")],
                settings,
                is_listed: false,
            },
        ],
        fleet: Some("a.B_c-1".to_owned()),
        settings,
        dns_servers: [
            "10.0.0.2:53",
            "10.0.0.3:5353",
            "[fd00::2]:53",
            "[fd00::3]:5353",
        ]
        .map(|server| server.parse().unwrap())
        .to_vec(),
        poll_interval: Duration::from_secs(60),
        schedule_poll: Duration::from_secs(55),
        event_poll: Duration::ZERO,
        allowed_cidrs: ["10.0.0.0/16", "fd00::/8"]
            .map(|cidr| cidr.parse().unwrap())
            .to_vec(),
        keep_cidrs: ["10.0.7.0/24", "10.0.8.8/32"]
            .map(|cidr| cidr.parse().unwrap())
            .to_vec(),
        metric_namespace: "My/Redis Failover".to_owned(),
        is_dry_run: true,
        alarms: Alarms {
            interval: Some(Duration::from_secs(300)),
            span: Some(Duration::from_secs(17 * 60)),
        },
    };
    assert_eq!(parse(&variables.into()).unwrap(), expected);
}

#[test]
fn a_missing_variable_is_named_with_what_was_expected() {
    for (name, expected, ..) in &samples()[..2] {
        let mut variables = minimal();
        variables.remove(name);
        let unset = message(&variables);
        assert_eq!(unset, format!("{name} is not set: expected {expected}"));
        assert_eq!(message(&with(name, "")), unset, "the same as if unset");
    }
}

/// A variable, what its error says is expected, the values that it accepts, and the values that it rejects.
pub type Samples = (&'static str, &'static str, Vec<String>, Vec<String>);

pub fn samples() -> Vec<Samples> {
    const CIDRS: &str =
        "comma-separated CIDRs such as 10.0.0.0/8 or fd00::/8, with no bits set behind the prefix";
    const CIDR_LISTS: &str =
        "10.0.0.0/8|10.0.1.7/32|fd00::/8|::/0|0.0.0.0/0|10.0.0.0/16,10.1.0.0/16";
    const NO_LISTS: &str = "10.0.0.0|10.0.0.0/33|fd00::|fd00::/129|10.0.0.0/|/8|all";
    const WINDOW: &str = "seconds from 0 to 55";
    let names = format!(
        "{ENDPOINT}|MASTER.example.com.|_srv.a-b.example.com|1.example.com|a.1-2|redis|{}",
        "a".repeat(63)
    );
    let no_names = format!(
        "10.0.0.1|::1|a..b|.a|-a.example.com|a-.example.com|a b|redis.example.com:6379|https://redis.example.com|\
         a/b|é.example.com|{}|a.example.com,,b.example.com|,| |..|-redis|redis-|a.-b|a.7",
        "a".repeat(64)
    );
    let elb = "elasticloadbalancing";
    let arns = format!(
        "{ARN}|arn:aws-cn:{elb}:cn-north-1:123456789012:targetgroup/a/0123456789abcdef|\
         arn:aws-us-gov:{elb}:us-gov-west-1:123456789012:targetgroup/a-b/0123456789abcdef"
    );
    let no_arns = format!(
        "redis| |,|arn:aws:{elb}:eu-west-1:12345678901:targetgroup/a/0123456789abcdef|\
         arn:aws:{elb}:eu-west-1:123456789012:loadbalancer/net/a/0123456789abcdef|\
         arn:aws:{elb}:eu-west-1:123456789012:targetgroup/a/0123456789abcde|\
         arn:aws:{elb}::123456789012:targetgroup/a/0123456789abcdef|\
         arn:gcp:{elb}:eu-west-1:123456789012:targetgroup/a/0123456789abcdef"
    );
    let namespaces = format!(
        "NlbHostnameTarget|a/b|A.b-c_d/e#f:g h|AWS|{}",
        "a".repeat(255)
    );
    let no_namespaces = format!("AWS/Redis|:a| |a\tb|é|a\"b|a,b|{}", "a".repeat(256));
    let fleets = format!("redis|a.B_c-1|{}", "a".repeat(64));
    let no_fleets = format!("a b|a/b|é|a,b|*|{}", "a".repeat(65));
    let samples = [
        (
            "ENDPOINTS",
            "comma-separated host names",
            &*names,
            &*no_names,
        ),
        (
            "TARGET_GROUP_ARNS",
            "comma-separated ARNs of target groups, one for each of ENDPOINTS",
            &arns,
            &no_arns,
        ),
        (
            "FLEET",
            "1 to 64 characters of A-Z a-z 0-9 . _ -",
            &*fleets,
            &*no_fleets,
        ),
        (
            "TARGET_PORT",
            "a port from 1 to 65535",
            "1|80|6379|65535",
            "0|65536|70000|-1|+80|0x50|6379 | 6379|6379,6380|http|1e3",
        ),
        (
            "DNS_SERVERS",
            "comma-separated addresses such as 10.0.0.2, 10.0.0.2:53, fd00::2 or [fd00::2]:53",
            "10.0.0.2|10.0.0.2:5353|fd00::2|[fd00::2]:53|10.0.0.2,10.0.0.3",
            "10.0.0|10.0.0.2:|dns.example.com|[fd00::2]|10.0.0.2:123456",
        ),
        (
            "LOOKUPS_PER_RECONCILE",
            "a number from 1 to 32",
            "1|9|10|29|30|32",
            "0|33|40|100|-1|+1|1.5|1e1| 1|one",
        ),
        (
            "MISSES_BEFORE_DEREGISTRATION",
            "a number from 0 to 1000",
            "0|1|10|999|1000",
            "1001|1010|2000|10000|-1|+1|0.5|5 |0x5",
        ),
        (
            "POLL_INTERVAL_SECONDS",
            "seconds from 1 to 60",
            "1|5|9|10|59|60",
            "0|61|70|100|-1|+5|1.5|5s|PT5S",
        ),
        (
            "SCHEDULE_POLL_SECONDS",
            WINDOW,
            "0|9|10|49|50|55",
            "56|60|100|-1|+5|0.5|1m",
        ),
        (
            "EVENT_POLL_SECONDS",
            WINDOW,
            "0|9|10|49|50|55",
            "56|60|100|-1|+5|0.5|1m",
        ),
        ("ALLOWED_CIDRS", CIDRS, CIDR_LISTS, NO_LISTS),
        ("KEEP_CIDRS", CIDRS, CIDR_LISTS, NO_LISTS),
        (
            "METRIC_NAMESPACE",
            "1 to 255 characters of A-Z a-z 0-9 . - _ / # : and space; not only spaces, and not beginning with AWS/ or a colon",
            &namespaces,
            &no_namespaces,
        ),
        (
            "DRY_RUN",
            "true or false",
            "true|false",
            "True|1|yes| true|0",
        ),
    ];
    let values = |values: &str| values.split('|').map(str::to_owned).collect();
    let samples = samples.into_iter();
    samples
        .map(|(name, expected, good, bad)| (name, expected, values(good), values(bad)))
        .collect()
}

#[test]
fn each_variable_takes_what_it_should_and_names_anything_else_with_what_was_expected() {
    for (name, expected, valid, invalid) in samples() {
        for value in valid {
            let parsed = parse(&with(name, value.clone()));
            assert!(parsed.is_ok(), "{name}={value}: {parsed:?}");
        }
        for value in invalid {
            let told = format!("{name} is {value:?}: expected {expected}");
            assert_eq!(message(&with(name, value)), told);
        }
    }
}

/// The SAM CLI sets `URL_SUFFIX` to `localhost`.
#[test]
fn a_bad_url_suffix_leaves_the_configuration_valid() {
    for (value, expected) in [
        ("", Some("amazonaws.com")),
        ("amazonaws.com", Some("amazonaws.com")),
        ("Amazonaws.com.CN.", Some("amazonaws.com.cn")),
        ("Amazonaws.eu.", Some("amazonaws.eu")),
        ("cloud.adc-e.uk", Some("cloud.adc-e.uk")),
        ("localhost", None),
        ("com", None),
        (" ", None),
        (".", None),
        ("com.", None),
        (".amazonaws.com", None),
        ("amazonaws..com", None),
        ("a_b.com", None),
        ("amazonaws.com/", None),
        ("a.com,b.com", None),
    ] {
        let variables = with("URL_SUFFIX", value);
        assert_eq!(parse(&variables), parse(&minimal()), "{value}");
        let suffix = Config::url_suffix(|name| variables.get(name).cloned());
        match expected {
            Some(expected) => assert_eq!(suffix.unwrap(), expected),
            None => assert_eq!(
                suffix.unwrap_err().to_string(),
                format!("URL_SUFFIX is {value:?}: expected a domain such as amazonaws.com")
            ),
        }
    }
}

#[test]
fn what_only_the_function_can_tell_is_refused_too() {
    for (name, value) in [
        ("DNS_SERVERS", "10.0.0.2:0"),
        ("DNS_SERVERS", "10.0.0.2:70000"),
        ("DNS_SERVERS", "10.0.0.256"),
        ("DNS_SERVERS", "10.0.0.2,,10.0.0.3"),
        ("DNS_SERVERS", " "),
        ("ALLOWED_CIDRS", "10.0.0.0/8,"),
        ("ALLOWED_CIDRS", ","),
        ("ALLOWED_CIDRS", "10.0.0.1/8"),
        ("ALLOWED_CIDRS", "10.0.0.256/32"),
        ("ENDPOINTS", &vec!["a".repeat(60); 5].join(".")),
    ] {
        assert!(
            message(&with(name, value)).starts_with(name),
            "{name}={value}"
        );
    }
}

#[test]
fn lists_that_do_not_pair_name_both_variables() {
    let mut uneven = minimal();
    uneven.insert("ENDPOINTS", "a.example.com,b.example.com".to_owned());
    assert_eq!(
        message(&uneven),
        format!(
            "ENDPOINTS is \"a.example.com,b.example.com\" and TARGET_GROUP_ARNS is {ARN:?}: expected lists of the same length"
        )
    );

    let mut repeated = uneven;
    repeated.insert("ENDPOINTS", "a.example.com,A.example.com.".to_owned());
    repeated.insert("TARGET_GROUP_ARNS", format!("{ARN},{ARN}"));
    assert_eq!(
        message(&repeated),
        format!(
            "ENDPOINTS is \"a.example.com,A.example.com.\" and TARGET_GROUP_ARNS is \"{ARN},{ARN}\": \
             expected each pair of endpoint and target group only once"
        )
    );
}

#[test]
fn a_target_group_of_another_region_than_the_functions_is_refused() {
    let elsewhere = OTHER_ARN.replace("eu-west-1", "eu-west-2");
    let mut variables = BTreeMap::from([
        ("ENDPOINTS", "a.example.com,b.example.com".to_owned()),
        ("TARGET_GROUP_ARNS", format!("{ARN},{elsewhere}")),
    ]);
    for (region, is_valid) in [(None, true), (Some(""), true), (Some("eu-west-1"), false)] {
        if let Some(region) = region {
            variables.insert("AWS_REGION", region.to_owned());
        }
        assert_eq!(parse(&variables).is_ok(), is_valid, "{region:?}");
    }
    assert_eq!(
        message(&variables),
        format!(
            "TARGET_GROUP_ARNS is \"{ARN},{elsewhere}\": expected target groups of the function's Region \
             eu-west-1, not of eu-west-2"
        )
    );
    variables.insert("TARGET_GROUP_ARNS", format!("{ARN},{OTHER_ARN}"));
    assert!(parse(&variables).is_ok());
}

#[test]
fn the_first_bad_variable_in_documented_order_is_reported() {
    let names = variables_read();
    let (mut good, mut bad) = (Variables::new(), Variables::new());
    for (name, _, valid, invalid) in samples() {
        good.insert(name, valid[0].clone());
        bad.insert(name, invalid[0].clone());
    }
    for (index, name) in names.iter().enumerate() {
        let choose = |name: &str| {
            let is_good = names[..index].iter().any(|earlier| earlier == name);
            if is_good {
                good.get(name).cloned()
            } else {
                bad.get(name).cloned()
            }
        };
        let error = Config::from_lookup(choose).unwrap_err().to_string();
        assert!(error.starts_with(name.as_str()), "{name}: {error}");
    }
}
