//! Feeds the configuration the values of the variables, one on each line.

use std::collections::BTreeMap;

use nlb_hostname_target::config::Config;
use nlb_hostname_target::error::Error;

/// Checks section 3: what is accepted is complete, and is read the same when it is written again. What is refused names
/// the variable and its value.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let variables: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    match Config::from_lookup(|name| variables.get(name).map(|value| (*value).to_owned())) {
        Ok(config) => {
            assert_complete(&config, &variables);
            let written = write(&config);
            let again = Config::from_lookup(|name| written.get(name).cloned());
            assert_eq!(again.as_ref(), Ok(&config), "{written:?}");
        }
        Err(Error::InvalidConfig(message)) => assert_names_a_variable(&message, &variables),
        Err(other) => panic!("{other:?}"),
    }
}

fn assert_complete(config: &Config, variables: &BTreeMap<&str, &str>) {
    let pairs: usize = config
        .target_groups
        .iter()
        .map(|group| group.endpoints.len())
        .sum();
    for list in ["ENDPOINTS", "TARGET_GROUP_ARNS"] {
        let given = variables.get(list).filter(|given| !given.is_empty());
        let count = given.map_or(0, |given| given.split(',').count());
        assert_eq!(count, pairs, "{list}");
    }
    assert!(pairs > 0 || config.fleet.is_some(), "nothing to follow");
    for group in &config.target_groups {
        assert!(
            !group.endpoints.is_empty(),
            "{} without endpoint",
            group.arn
        );
        assert_eq!(group.settings, config.settings);
    }
    assert_ne!(config.settings.port, Some(0));
    assert!((1..=32).contains(&config.settings.lookups));
    assert!(config.settings.misses <= 1000);
    assert!(config.dns_servers.iter().all(|server| server.port() > 0));
    assert!((1..=60).contains(&config.poll_interval.as_secs()));
    assert!(config.schedule_poll.as_secs() <= 55);
    assert!(config.event_poll.as_secs() <= 55);
    assert!(!config.allowed_cidrs.is_empty());
    assert!(!config.metric_namespace.starts_with("AWS/"));
}

/// Writes the configuration as the variables of another deployment.
fn write(config: &Config) -> BTreeMap<&'static str, String> {
    let pairs = config.target_groups.iter().flat_map(|group| {
        group
            .endpoints
            .iter()
            .map(|endpoint| (endpoint, &group.arn))
    });
    let (endpoints, arns): (Vec<_>, Vec<_>) = pairs.unzip();
    let settings = config.settings;
    let port = settings.port.map(|port| port.to_string());
    BTreeMap::from([
        ("FLEET", config.fleet.clone().unwrap_or_default()),
        ("ENDPOINTS", join(&endpoints)),
        ("TARGET_GROUP_ARNS", join(&arns)),
        ("TARGET_PORT", port.unwrap_or_default()),
        ("DNS_SERVERS", join(&config.dns_servers)),
        ("LOOKUPS_PER_RECONCILE", settings.lookups.to_string()),
        ("MISSES_BEFORE_DEREGISTRATION", settings.misses.to_string()),
        (
            "POLL_INTERVAL_SECONDS",
            config.poll_interval.as_secs().to_string(),
        ),
        (
            "SCHEDULE_POLL_SECONDS",
            config.schedule_poll.as_secs().to_string(),
        ),
        (
            "EVENT_POLL_SECONDS",
            config.event_poll.as_secs().to_string(),
        ),
        ("ALLOWED_CIDRS", join(&config.allowed_cidrs)),
        ("KEEP_CIDRS", join(&config.keep_cidrs)),
        ("METRIC_NAMESPACE", config.metric_namespace.clone()),
        ("DRY_RUN", config.is_dry_run.to_string()),
    ])
}

fn join(things: &[impl ToString]) -> String {
    let things: Vec<_> = things.iter().map(ToString::to_string).collect();
    things.join(",")
}

fn assert_names_a_variable(message: &str, variables: &BTreeMap<&str, &str>) {
    let name = message.split(' ').next().unwrap_or_default();
    let value = variables.get(name).filter(|value| !value.is_empty());
    let begin = match value {
        Some(value) => format!("{name} is {value:?}"),
        None => format!("{name} is not set"),
    };
    let is_known = name
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    assert!(is_known && message.starts_with(&begin), "{message}");
    assert!(message.contains(": expected "), "{message}");
}
